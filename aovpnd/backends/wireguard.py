# SPDX-License-Identifier: GPL-3.0-or-later
"""WireGuard: the kernel's where there is one, wireguard-go otherwise; both are configured through wg(8).

A link is ours by its name, its kind, and, for the core, its key. Use it from the thread that uses its `Netlink`.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from aovpnd import names, rtnl
from aovpnd.adapters import process, sysctl
from aovpnd.adapters.netlink import Netlink
from aovpnd.adapters.pathmtu import known_to_kernel
from aovpnd.backends.linkshape import ensure_sysctls, find, find_ours
from aovpnd.backends.userspace import WIREGUARD_GO, UserspaceProcess, has_socket
from aovpnd.backends.wgtool import Device, configuration, parse_dump
from aovpnd.errors import NetlinkError, ToolError
from aovpnd.links import Link, is_tunnel_shaped
from aovpnd.model import LinkWish, PeerState, TunnelState, TunnelWish
from aovpnd.resting import Shake
from aovpnd.routes import LinkAddress
from aovpnd.tunnel import Interface, Peer, WireGuard

KERNEL, USERSPACE = "wireguard", "wireguard-go"
"""`TunnelState.backend`."""
_KEEPALIVE_S: Final = 25
_INITIATION_GAP_S: Final = 0.03
"""Between two handshakes of one peer. The other side takes a second one within 20 ms for a replay (time stamps are that
coarse: INITIATIONS_PER_SECOND) and drops it, and the next try is 5 s away."""
_SETTLED_S: Final = 100.0
"""Less than REKEY_AFTER_TIME (120 s), when a new handshake is due by itself."""
_ANSWER_S: Final = 3.0
"""How long wireguard-go may take to tell its state; one that takes longer hangs, or the machine is in deep trouble."""
_PATIENCE_S: Final = 15.0
"""How long what the kernel said last counts while wg(8) fails."""


class WireGuardBackend:
    """All our WireGuard links in this network namespace."""

    def __init__(self, runtime_dir: Path, netlink: Netlink, proc_sys: Path = sysctl.PROC_SYS) -> None:
        self._netlink = netlink
        self._proc_sys = proc_sys
        self._userspace = UserspaceProcess(WIREGUARD_GO, runtime_dir)
        self._hanging: frozenset[int] = frozenset()
        self._answered: dict[int, tuple[float, Device]] = {}
        """What links said last, and when (CLOCK_MONOTONIC)."""

    # -- what is ------------------------------------------------------------------------------------------------------
    def observe(self, links: Iterable[Link], addresses: Iterable[LinkAddress]) -> tuple[TunnelState, ...]:
        """Our links. One whose process does not answer, that has no key yet, that went while we asked, or of which
        wg(8) tells nothing, has no digest: nobody knows what it carries. Why, `ensure` will say. It was ours all the
        same, and its name is.

        A link that merely has our name (another kind, or a tun without WireGuard behind it) is somebody else's and left
        out.
        """
        self._userspace.reap()
        addresses = tuple(addresses)
        states = []
        hanging = set()
        for link in filter(_is_ours, links):
            try:
                device = _ask(link)
            except ToolError:
                device = self._lately(link)
            else:
                if device is None and _is_there(link):
                    hanging.add(link.index)
                elif device is not None:
                    self._answered[link.index] = time.monotonic(), device
            states.append(_state(link, device, tuple(a.interface for a in addresses if a.link == link.index)))
        self._hanging = frozenset(hanging)
        return tuple(states)

    def _lately(self, link: Link) -> Device | None:
        """What the kernel said a moment ago: a slow machine must not cost a good tunnel."""
        at, device = self._answered.get(link.index, (0.0, None))
        return device if link.kind == "wireguard" and time.monotonic() - at < _PATIENCE_S else None

    def owns(self, link: Link) -> bool:
        """Whether a link is one of ours: its name, its kind, and a WireGuard behind it."""
        return _is_ours(link)

    # -- what should be -----------------------------------------------------------------------------------------------
    def ensure(self, wish: TunnelWish) -> None:
        """Make the link as wished; without ``wish.path`` a session that is as wished goes on undisturbed.

        A link that had to be made stays down, whatever the wish: the ruleset does not know its index yet.
        `NetlinkError` or `ToolError` when it cannot be made; what was made so far stays, for the next attempt.
        """
        spec = wish.spec
        if not isinstance(spec, WireGuard):
            raise TypeError(type(spec))
        link = find_ours(wish.link_name, self.owns)
        device = _ask(link) if link is not None and link.index not in self._hanging else None
        state = wish.state
        if link is None or device is None:
            if link is not None:  # it hangs: nothing else helps
                self.remove(link)
            link, state = self._create(wish.link_name), LinkWish.DOWN
            device = _look(link.name)
        if state is LinkWish.DOWN:
            self._netlink.set_link(link, up=False)
            link = replace(link, up=False)
        self._netlink.set_link(
            link, mtu=wish.mtu
        )  # first: below 1280 there is no IPv6 to be set, from there on there is
        ensure_sysctls(link, wish, self._proc_sys)
        provokes = state is LinkWish.UP and wish.path is not None
        if not (provokes and link.up):
            _configure(link, spec, device)
        self._netlink.ensure_addresses(link, spec.addresses)
        if state is LinkWish.UP:
            self._netlink.set_link(link, up=True)
        if provokes and wish.shake is Shake.WANTED:
            _set(link.name, spec, {})  # peers that are set anew have no session, and nothing to say by themselves
        elif provokes:
            _provoke(link.name, spec, device if link.up else _look(link.name))

    def remove(self, link: Link) -> None:
        """Delete the link, and see to it that wireguard-go ends with it; may be called twice."""
        self._netlink.delete_link(link)
        if link.kind != "wireguard":
            self._userspace.stop(link.name)

    def _create(self, name: str) -> Link:
        if not self._netlink.create_link(name, "wireguard"):
            self._userspace.start(name)
        link = find(name)
        if link is None or not _is_ours(link):
            raise NetlinkError(f"the link {name} went away as soon as it was made")
        return link


def _is_ours(link: Link) -> bool:
    return is_tunnel_shaped(link) and (link.kind == "wireguard" or has_socket(link.name))


def _is_there(link: Link) -> bool:
    now = find(link.name)
    return now is not None and now.index == link.index


def _state(link: Link, device: Device | None, addresses: tuple[Interface, ...]) -> TunnelState:
    backend = KERNEL if link.kind == "wireguard" else USERSPACE
    if device is None:
        return TunnelState(link, backend, None, None, 0, addresses)
    peers = tuple(replace(peer, path_mtu=_path_mtu(peer)) for peer in device.peers)
    moved = rtnl.transferred(link.index)
    return TunnelState(
        link,
        backend,
        device.public_key,
        device.digest,
        device.fwmark,
        addresses,
        peers,
        put_bytes=moved.put_bytes,
        got_bytes=moved.got_bytes,
        tries=moved.tries,
    )


def _path_mtu(peer: PeerState) -> int | None:
    return known_to_kernel(peer.endpoint.addr) if peer.endpoint is not None else None


def _ask(link: Link) -> Device | None:
    """The device's state, or None when its process hangs, or it went away."""
    try:
        return _look(link.name)
    except ToolError:
        process.find("wg")  # a machine without wg(8) is not a device that hangs
        if link.kind == "wireguard" and _is_there(link):
            raise  # the kernel does not hang: a slow machine must not cost a good tunnel
        return None


def _look(name: str) -> Device:
    return parse_dump(process.run("wg", "show", name, "dump", deadline_s=_ANSWER_S))


def _configure(link: Link, spec: WireGuard, device: Device | None) -> None:
    """Give the device its keys and peers if it has others; what can be mended without a new session is.

    While the link is down no peer gets its keepalive: it would shake hands the moment that the link comes up, and the
    handshake over the path, right behind it, would count as a replay.
    """
    if (
        device is None
        or device.digest != spec.digest()
        or device.fwmark != names.FWMARK
        or spec.listen_port not in (None, device.listen_port)
    ):
        _set(link.name, spec, {} if link.up else {peer.public_key: 0 for peer in spec.peers})
        return
    now = {peer.public_key: peer for peer in device.peers}
    changes = [word for peer in spec.peers for word in _mend(peer, now[peer.public_key], running=link.up)]
    if changes:
        process.run("wg", "set", link.name, *changes)


def _mend(peer: Peer, now: PeerState, *, running: bool) -> list[str]:
    """The words for ``wg set`` that give a peer its endpoint and keepalive back, none of them secret."""
    words = []
    if peer.endpoint is not None and peer.endpoint != now.endpoint:
        words += ["endpoint", str(peer.endpoint)]
    if running and peer.keepalive_s != now.keepalive_s:
        words += ["persistent-keepalive", str(peer.keepalive_s)]
    return ["peer", peer.public_key, *words] if words else []


def _provoke(name: str, spec: WireGuard, device: Device) -> None:
    """Forget all sessions and shake hands at once; the link is up.

    Both kernel (set_peer in drivers/net/wireguard/netlink.c) and wireguard-go (device/uapi.go) send a keepalive as soon
    as a peer's interval turns from none to some while the device runs, and without a session that starts a handshake.
    Peers that are set anew begin without an interval. Those that shall have none lose it again; what is on its way
    stays.
    """
    # A gateway for which one of the two keys is new has heard nothing of this pair from this device. Then the device is
    # never without its peers, and no program's packet is refused.
    known = {peer.public_key for peer in spec.peers} if device.public_key == spec.public_key else set()
    if any(peer.tx_bytes and not _settled(peer) for peer in device.peers if peer.public_key in known):
        _write(name, replace(spec, peers=()), {})  # silent from here on
    if any(peer.tx_bytes for peer in device.peers):  # or a device beside this one may have shaken hands for the pair
        time.sleep(_INITIATION_GAP_S)
    called = [peer for peer in spec.peers if peer.endpoint is not None]
    _set(name, spec, {peer.public_key: peer.keepalive_s or _KEEPALIVE_S for peer in called})
    quiet = [peer.public_key for peer in called if not peer.keepalive_s]
    if quiet:
        process.run("wg", "set", name, *(w for key in quiet for w in ("peer", key, "persistent-keepalive", "0")))


def _settled(peer: PeerState) -> bool:
    """Whether a session is so young that WireGuard has no reason to shake hands, and has done so a while ago: nothing
    that was sent a moment ago can count as a replay. A clock that jumped says no, which costs nothing but a moment.
    """
    return peer.handshake_wall is not None and 1 < time.time() - peer.handshake_wall < _SETTLED_S


def _set(name: str, spec: WireGuard, keepalive_s: Mapping[str, int]) -> None:
    _write(name, spec, keepalive_s)
    device = _look(name)
    if device.digest != spec.digest() or device.fwmark != names.FWMARK:
        raise ToolError(f"{name} did not take the configuration of {spec.source}")


def _write(name: str, spec: WireGuard, keepalive_s: Mapping[str, int]) -> None:
    process.run("wg", "setconf", name, "/dev/stdin", stdin=configuration(spec, keepalive_s))

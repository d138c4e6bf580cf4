# SPDX-License-Identifier: GPL-3.0-or-later
"""strongSwan: a charon of its own for each link, told what to do over VICI.

The kernel's ESP behind an XFRM interface where the kernel has them, charon's kernel-libipsec behind a TUN device where
not. A link is ours by its name, its kind, and the socket behind it. "Handshake" means here: an exchange with the
gateway that only the holder of the keys can have answered, which has made a CHILD SA.
"""

import contextlib
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any, Final

from aovpnd import names, rtnl
from aovpnd.adapters import sysctl
from aovpnd.adapters.netlink import Netlink
from aovpnd.adapters.pathmtu import known_to_kernel
from aovpnd.backends import charonlog, ikeabilities, ikegiven, ikesas, iketokens, plug
from aovpnd.backends.charon import Place, children_of, look_mark, modules_of, name_of, requests, settings
from aovpnd.backends.ikememory import Memory
from aovpnd.backends.ikepeople import People
from aovpnd.backends.linkshape import ensure_sysctls, find, find_ours
from aovpnd.backends.userspace import Program, UserspaceProcess, wait
from aovpnd.backends.vici import Charon, Child, Sa
from aovpnd.errors import NetlinkError, SystemFault, ToolError
from aovpnd.ipsec import IKE_BACKEND, Given, IPsec
from aovpnd.links import ARPHRD_NONE, Link, is_tunnel_shaped
from aovpnd.model import LinkWish, PeerState, TunnelState, TunnelWish
from aovpnd.resting import Queue, Shake
from aovpnd.routes import LinkAddress
from aovpnd.ruleset import Address
from aovpnd.signin import Desk
from aovpnd.tunnel import Endpoint, Interface

_FIRST_INTERFACE: Final = 0x616F0001
"""The if_id of aovpn0's XFRM interface; the next link has the next one."""
_TUN: Final = re.compile(r"ipsec[0-9]{1,3}")
"""How kernel-libipsec calls its device."""
_TUN_S: Final = 3.0
_CONNECTION: Final = re.compile(r"([0-9a-f]{32})(?:@([0-9a-fA-F.:]{2,45})@([0-9]{1,5}))?")
"""As `name_of` writes it; without an address while none is known of the gateway's name."""
_ESTABLISH_S: Final = 8.0
"""How long an attempt may take that is under way: several round trips, and a gateway that asks somebody else."""
_MOVE_S: Final = 3.0
"""How long an SA is given to show itself alive on a new path (MOBIKE, RFC 4555) before a new one is made."""
_NOTICE_S: Final = 1.0
"""How long charon is given to see that the SA's address went. What it asks before goes nowhere, and holds up what it
asks then: one question at a time (RFC 7296 section 2.3)."""
_END_S: Final = 1.0
"""How long an SA may take to end, while its gateway is told."""
_REFUSALS: Final = 3
_GIVEN_S: Final = 2
"""How long a new SA waits for its name servers to be written down."""


class StrongSwanBackend:
    """All our IKE links in this network namespace. Use it from the thread that uses its `Netlink`."""

    def __init__(
        self, runtime_dir: Path, netlink: Netlink, proc_sys: Path = sysctl.PROC_SYS, desk: Desk | None = None
    ) -> None:
        self._runtime_dir = runtime_dir
        self._people = People(desk if desk is not None else Desk())
        self._netlink = netlink
        self._proc_sys = proc_sys
        self._process = UserspaceProcess(_program(runtime_dir), runtime_dir)
        self._memory: dict[str, Memory] = {}

    def owns(self, link: Link) -> bool:
        """Whether a link is one of ours."""
        if not is_tunnel_shaped(link):
            return False
        return link.kind == names.XFRM or (link.kind == "tun" and self._place(link.name).socket.is_socket())

    def _place(self, link: str) -> Place:
        return Place(self._runtime_dir, link)

    def _remembered(self, link: str) -> Memory:
        if link not in self._memory:
            self._memory[link] = Memory(given=ikegiven.kept(self._place(link).kept))
        return self._memory[link]

    # -- what is ------------------------------------------------------------------------------------------------------
    def observe(self, links: Iterable[Link], addresses: Iterable[LinkAddress]) -> tuple[TunnelState, ...]:
        """Our links. One whose charon does not answer, or has not exactly one connection, has no digest: nobody knows
        what it carries. Why, `ensure` will say.
        """
        self._process.reap()
        addresses = tuple(addresses)
        return tuple(
            self._state(link, tuple(a.interface for a in addresses if a.link == link.index))
            for link in links
            if self.owns(link)
        )

    def _state(self, link: Link, addresses: tuple[Interface, ...]) -> TunnelState:
        charon = Charon(self._place(link.name).socket)
        try:
            (name,) = charon.connections()
            sas = [sa for sa in charon.sas() if sa.name == name]
        except (ToolError, ValueError):
            return TunnelState(link, IKE_BACKEND, None, None, 0, addresses)
        found = _CONNECTION.fullmatch(name)
        if found is None:
            return TunnelState(link, IKE_BACKEND, None, None, 0, addresses)
        digest = found[1]
        endpoint = Endpoint(ip_address(found[2]), int(found[3])) if found[2] is not None else None
        memory = self._remembered(link.name)
        rx_bytes, tx_bytes = memory.bytes_of(sas)
        interface = _interface(link.name) if link.kind == names.XFRM else None
        sa, child = ikesas.carrying(charon, name, sas, interface)
        if sa is not None and memory.more:
            more, memory.more = memory.more, ()
            with contextlib.suppress(ToolError):  # it is said what there is, whatever is lacking
                charon.initiate(name, more)
        given = self._given(link.name, sa, child)
        shaken = None
        if child is not None and given is not None and child.number > memory.floor and _has(addresses, given):
            shaken = memory.shaken_at(child)
        path_mtu = known_to_kernel(endpoint.addr) if endpoint is not None else None
        peer = PeerState("", endpoint, shaken, rx_bytes, tx_bytes, path_mtu=path_mtu)
        if shaken is not None:
            self._people.succeeded(charon, memory)
        said = self._people.said(memory, charonlog.read(self._log(link.name))) if shaken is None else None
        moved, waits = rtnl.transferred(link.index), plug.waiting(link.index)
        return TunnelState(
            link,
            IKE_BACKEND,
            None,
            digest,
            names.FWMARK,
            addresses,
            (peer,),
            put_bytes=moved.put_bytes,
            got_bytes=moved.got_bytes,
            tries=moved.tries + (waits or 0),
            queue=Queue.OPEN if waits is None else Queue.HELD,
            given=memory.last(digest, given),
            said=said,
        )

    def _given(self, link: str, sa: Sa | None, child: Child | None) -> Given | None:
        """What the gateway gave us; None while it is not known."""
        if sa is None:
            return None
        servers = self._servers(link, sa.number)
        if child is not None and servers is None and child.age_s < _GIVEN_S:
            return None
        return Given(tuple(map(ip_interface, sa.addresses)), servers or ())

    def _servers(self, link: str, number: int) -> tuple[Address, ...] | None:
        """Those of an IKE SA; one that came by new keys (RFC 7296 section 2.18) has those of the one before."""
        written = sorted(self._place(link).all_given().items(), reverse=True)
        found = (ikegiven.servers_in(path) for sa, path in written if sa <= number)
        return next((servers for servers in found if servers is not None), None)

    def _log(self, link: str) -> str:
        """What charon has written since the last attempt began, or the end of it."""
        return charonlog.tail(self._place(link).log, self._remembered(link).logged)

    # -- what should be -----------------------------------------------------------------------------------------------
    def ensure(self, wish: TunnelWish) -> None:
        """Make the link as wished; without ``wish.path`` an SA that is as wished goes on undisturbed.

        A link that had to be made stays down, whatever the wish: the ruleset does not know its index yet.
        `NetlinkError` or `ToolError` when it cannot be made; what was made so far stays, for the next attempt.
        """
        spec = wish.spec
        if not isinstance(spec, IPsec):
            raise TypeError(type(spec))
        link, state = find_ours(wish.link_name, self.owns), wish.state
        charon = Charon(self._place(wish.link_name).socket)
        modules = modules_of(spec)
        if link is None or not self._answers(link.name, charon) or not self._place(link.name).reads(modules):
            if link is not None:
                self.remove(link)
            link, state = self._create(wish.link_name, modules), LinkWish.DOWN
        self._netlink.lead(look_mark(link.name), spec.endpoint.addr if spec.endpoint is not None else None)
        self._load(link, spec, charon)
        if state is LinkWish.DOWN:
            self._netlink.set_link(link, up=False)
            link = replace(link, up=False)
        self._netlink.set_link(link, mtu=wish.mtu)
        ensure_sysctls(link, wish, self._proc_sys)
        if spec.addresses:
            self._netlink.ensure_addresses(link, spec.addresses)
        if state is LinkWish.UP:
            self._netlink.set_link(link, up=True)
            with self._replaced_if_it_refuses(link):
                if wish.path is not None and wish.shake is Shake.WANTED:
                    plug.hold(link.index)
                    self._rest(link.name, spec, charon, wish.path.fingerprint())
                elif wish.path is not None:
                    self._provoke(link.name, spec, charon, wish.path.fingerprint())
                elif link.kind != names.XFRM and spec.addresses:
                    ikesas.complete(charon, spec)
                if (
                    wish.path is None
                    and plug.waiting(link.index) is not None
                    and ikesas.alive(charon.sas())[1] is not None
                ):
                    plug.release(link.index)

    @contextlib.contextmanager
    def _replaced_if_it_refuses(self, link: Link) -> Iterator[None]:
        """A charon that refuses `_REFUSALS` times to begin, whoever the gateway is, has a wrong picture of the machine;
        nothing mends it but to begin anew.
        """
        memory = self._remembered(link.name)
        try:
            yield
        except ToolError:
            memory.refusals += 1
            if memory.refusals >= _REFUSALS:
                self.remove(link)
            raise
        memory.refusals = 0

    def remove(self, link: Link) -> None:
        """End the link's charon and its SAs, and delete the link; may be called twice."""
        self._process.stop(link.name)
        self._netlink.delete_link(link)
        self._remove_stand_in(link.name)
        self._memory.pop(link.name, None)
        self._netlink.lead(look_mark(link.name), None)

    def _answers(self, link: str, charon: Charon) -> bool:
        if not self._process.runs(link):
            return False
        try:
            charon.connections()
        except ToolError:
            return False
        return True

    def _create(self, name: str, modules: tuple[str, ...]) -> Link:
        place = self._place(name)
        try:
            place.make()
            for old in (*place.all_given().values(), place.kept, place.log):
                old.unlink(missing_ok=True)
            kernel = self._netlink.create_link(name, names.XFRM, interface=_interface(name))
            place.write_settings(settings(name, place, modules, kernel=kernel))
        except OSError as error:
            raise SystemFault(f"the files of charon for {name} cannot be written: {error.strerror}") from error
        self._memory[name] = Memory()
        self._remove_stand_in(name)  # of one that ended by itself
        before = {link.index for link in rtnl.dump_links()}
        self._process.start(name)
        if not kernel:
            self._adopt_tun(name, before)
        link = find(name)
        if link is None or not self.owns(link):
            raise NetlinkError(f"the link {name} went away as soon as it was made")
        return link

    def _adopt_tun(self, name: str, before: set[int]) -> None:
        """Give charon's TUN device our name: it is the one that was not there before."""
        found: list[Link] = []

        def is_there() -> bool:
            found[:] = [link for link in rtnl.dump_links() if link.index not in before and _is_charons(link)]
            return bool(found)

        if not wait(is_there, _TUN_S):
            self._process.stop(name)
            raise ToolError(f"charon for {name} makes no device", hint="is /dev/net/tun there? modprobe tun")
        self._netlink.set_link(found[0], up=False)
        self._netlink.rename_link(found[0], name)
        self._stand_in(name, found[0].name)

    def _stand_in(self, link: str, name: str) -> None:
        """A device without anybody behind it, under the name that kernel-libipsec still calls its own by: it makes no
        SA without routes by that, in a table that nobody asks (`names.CHARON_TABLE`).
        """
        self._place(link).stand_in.write_text(name, encoding="ascii")
        self._netlink.create_link(name, "tuntap")
        made = find(name)
        if made is not None:
            self._netlink.set_link(made, up=True)

    def _remove_stand_in(self, link: str) -> None:
        path = self._place(link).stand_in
        try:
            name = path.read_text(encoding="ascii", errors="replace")
        except OSError:
            return
        made = find(name)
        if made is not None and _is_charons(made):
            self._netlink.delete_link(made)
        path.unlink(missing_ok=True)

    def _load(self, link: Link, spec: IPsec, charon: Charon) -> None:
        """Tell charon what the tunnel is, if it has heard otherwise."""
        loaded = charon.connections()
        if loaded == (name_of(spec),):
            return
        memory = self._remembered(link.name)
        if not all(name.startswith(spec.digest()) for name in loaded):
            plug.drop(link.index)
            memory.said, memory.logged = None, charonlog.cut(self._place(link.name).log)
            memory.asking = memory.refused = None
        for sa in charon.sas():
            charon.terminate(sa)
        self._tell(link.name, spec, charon)

    def _tell(self, link: str, spec: IPsec, charon: Charon) -> None:
        able = ikeabilities.missing(spec, charon.plugins(), charon.key_exchanges) is None
        told = partial(self._requests, link, spec, able=able)
        iketokens.load(spec, charon, self._remembered(link), told, lambda: self._log(link))

    def _provoke(self, link: str, spec: IPsec, charon: Charon, path: str) -> None:
        """Have the SA show itself alive on the present path, by new keys for its CHILD SA; where there is none, or it
        does not in time, make a new one: what it gives us may be other addresses, with which programs' connections end.
        """
        memory, now, name = self._remembered(link), time.monotonic(), name_of(spec)
        sas = [sa for sa in charon.sas() if sa.name == name]
        sa, child = ikesas.alive(sas)
        floor = max((child.number for sa in sas for child in sa.children), default=memory.floor)
        if path != memory.path:  # whatever stands proves nothing of it, a move that has just been made included
            memory.path, memory.floor, memory.moves = path, max(floor, memory.floor), False
        if (
            child is not None
            and not memory.moves
            and spec.mobike
            and wait(lambda: ikesas.has_moved(charon, name), _NOTICE_S)
        ):
            memory.floor, memory.asked_at, memory.moves = floor, now, True
            charon.rekey(child)
            return
        if memory.moves and sa is not None and now - memory.asked_at < _MOVE_S:
            return
        if sas and sa is None and now - memory.asked_at < _ESTABLISH_S:
            return  # under way
        for old in sas:
            charon.terminate(old)
        memory.floor, memory.asked_at, memory.moves = max(floor, memory.floor), now, False
        memory.attempts += 1
        if memory.attempts > 1 and (found := find(link)) is not None:
            plug.drop(found.index)  # whoever sent it has long sent it again
        if iketokens.lacking(spec, memory) is iketokens.MISSING:
            self._tell(link, spec, charon)
        lacking = ikeabilities.missing(spec, charon.plugins(), charon.key_exchanges) or iketokens.lacking(spec, memory)
        # What the gateway has refused since anybody looked is not shown to it again.
        told = self._people.said(memory, charonlog.read(self._log(link)))
        memory.said = lacking or told
        memory.logged = charonlog.cut(self._place(link).log)
        if lacking is None and self._people.answer(memory, spec, charon, partial(self._requests, link)):
            # The first alone: each would begin an IKE SA of its own, had the gateway just refused the one before it.
            first, *more = children_of(spec)
            memory.more = tuple(more)
            charon.initiate(name, (first,))

    def _rest(self, link: str, spec: IPsec, charon: Charon, path: str) -> None:
        """End the SA, of which the gateway is told, and keep what it gave, also for the daemon that comes next."""
        memory, name = self._remembered(link), name_of(spec)
        sas = [sa for sa in charon.sas() if sa.name == name]
        memory.floor = max((child.number for sa in sas for child in sa.children), default=memory.floor)
        memory.path, memory.moves, memory.said, memory.attempts = path, False, None, 0
        if memory.given is not None:
            ikegiven.keep(self._place(link).kept, *memory.given)
        for sa in sas:
            charon.terminate(sa)
        wait(lambda: not any(sa.name == name for sa in charon.sas()), _END_S)
        memory.logged = charonlog.cut(self._place(link).log)

    def _requests(self, link: str, spec: IPsec, *, able: bool = True) -> Iterable[tuple[str, Mapping[str, Any]]]:
        found = find(link)
        kernel = _interface(link) if found is not None and found.kind == names.XFRM else None
        told = requests(spec, self._place(link), kernel)
        return told if able else (ikeabilities.without_proposals(*each) for each in told)


def _program(runtime_dir: Path) -> Program:
    return Program(
        name="charon-systemd",
        unit=names.CHARON_UNIT,
        socket=lambda link: Place(runtime_dir, link).socket,
        arguments=lambda _link: (),
        ready=lambda _link: True,
        environment=lambda link: {"STRONGSWAN_CONF": str(Place(runtime_dir, link).settings)},
        hint="see its log, and journalctl -u 'aovpnd-charon@*'",
    )


def _interface(link: str) -> int:
    return _FIRST_INTERFACE + int(link.removeprefix(names.LINK_PREFIX))


def _is_charons(link: Link) -> bool:
    return _TUN.fullmatch(link.name) is not None and link.kind == "tun" and link.arphrd == ARPHRD_NONE


def _has(addresses: tuple[Interface, ...], given: Given) -> bool:
    return {address.ip for address in given.addresses} <= {address.ip for address in addresses}

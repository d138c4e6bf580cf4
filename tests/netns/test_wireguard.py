# SPDX-License-Identifier: GPL-3.0-or-later
"""WireGuard links against a real peer. This kernel may have no WireGuard of its own: then it is wireguard-go's."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

from aovpnd import names, rtnl
from aovpnd.adapters import process, sysctl
from aovpnd.adapters.netlink import Netlink
from aovpnd.backends import wireguard
from aovpnd.backends.userspace import SOCKETS
from aovpnd.backends.wireguard import WireGuardBackend
from aovpnd.errors import NetlinkError, ToolError
from aovpnd.gateways import Path as TunnelPath
from aovpnd.links import Link
from aovpnd.model import LinkWish, TunnelState, TunnelWish
from aovpnd.tunnel import Endpoint, Peer, Secret, WireGuard
from tests.lab.process import run, stop, wait_for
from tests.netns.space import Space

pytestmark = pytest.mark.root

LINK = "aovpn0"
PATH = TunnelPath("home", "digest", (), 2, ("net",))


def new_key() -> tuple[str, str]:
    """A private key and its public one."""
    private = run(("wg", "genkey")).stdout.strip()
    return private, run(("wg", "pubkey"), stdin=private).stdout.strip()


@dataclass(frozen=True)
class Far:
    """The other side: a gateway with a link of its own, and what a client has to be told."""

    space: Space
    spec: WireGuard

    def handshakes(self) -> int:
        """How many clients it has a session with."""
        shown = self.space.run("wg", "show", "gw0", "latest-handshakes").stdout
        return sum(line.split("\t")[1] != "0" for line in shown.splitlines())


@pytest.fixture
def here() -> Iterator[Space]:
    """The laptop's side; this thread is inside."""
    with Space.make() as space, space.entered():
        yield space


@pytest.fixture
def far(here: Space, tmp_path: Path) -> Iterator[Far]:
    """A gateway behind the link ``wlan0``."""
    ours, our_public = new_key()
    theirs, their_public = new_key()
    preshared = run(("wg", "genpsk")).stdout.strip()
    with Space.make() as space:
        here.ip(f"link add wlan0 type veth peer name eth0 netns {space.name}")
        here.ip("addr add 192.0.2.2/24 dev wlan0")
        here.ip("-6 addr add 2001:db8::2/64 dev wlan0 nodad")
        here.ip("link set wlan0 up")
        space.ip("addr add 192.0.2.1/24 dev eth0")
        space.ip("-6 addr add 2001:db8::1/64 dev eth0 nodad")
        space.ip("link set eth0 up")
        here.ip("route add default via 192.0.2.1")
        with (tmp_path / "gw0.log").open("wb") as log:
            gateway = subprocess.Popen(space.command("wireguard-go", "-f", "gw0"), stdout=log, stderr=log)
        try:
            wait_for("the gateway", (SOCKETS / "gw0.sock").exists)
            text = f"""[Interface]
PrivateKey = {theirs}
ListenPort = 51820
[Peer]
PublicKey = {our_public}
PresharedKey = {preshared}
AllowedIPs = 10.9.0.2/32, fd00:9::2/128
"""
            space.run("wg", "setconf", "gw0", "/dev/stdin", stdin=text)
            space.ip("addr add 10.9.0.1/24 dev gw0")
            space.ip("link set gw0 up")
            wait_for("the gateway to listen", lambda: space.run("ss", "-Hlun", "sport = 51820").stdout)  # not at once
            spec = WireGuard(
                name="home",
                source="/etc/aovpnd/tunnels/home.conf",
                private_key=Secret(ours),
                public_key=our_public,
                addresses=(ip_interface("10.9.0.2/24"), ip_interface("fd00:9::2/64")),
                peers=(
                    Peer(
                        their_public,
                        (ip_network("0.0.0.0/0"), ip_network("::/0")),
                        Endpoint(IPv4Address("192.0.2.1"), 51820),
                        Secret(preshared),
                    ),
                ),
            )
            yield Far(space, spec)
        finally:
            stop(gateway)


@pytest.fixture
def netlink(here: Space) -> Iterator[Netlink]:
    """The adapter on the laptop's side."""
    del here
    with closing(Netlink()) as adapter:
        yield adapter


@pytest.fixture
def backend(netlink: Netlink, tmp_path: Path) -> Iterator[WireGuardBackend]:
    """The backend; what it left behind is removed."""
    backend = WireGuardBackend(tmp_path, netlink)
    yield backend
    for link in rtnl.dump_links():
        if link.name.startswith(names.LINK_PREFIX) and link.kind in names.TUNNEL_KINDS:
            backend.remove(link)
    wait_for("their processes to end", lambda: not backend._userspace.reap())  # noqa: SLF001 - nobody else's business


def states(backend: WireGuardBackend, netlink: Netlink) -> tuple[TunnelState, ...]:
    """What a pass would see."""
    seen = netlink.observe()
    return backend.observe(seen.links, seen.addresses)


def only(backend: WireGuardBackend, netlink: Netlink) -> TunnelState:
    """The one tunnel there is."""
    (state,) = states(backend, netlink)
    return state


def wish(spec: WireGuard, state: LinkWish = LinkWish.UP, path: TunnelPath | None = None) -> TunnelWish:
    """A wish for the first link."""
    return TunnelWish(spec, LINK, state, path)


def connect(backend: WireGuardBackend, netlink: Netlink, far: Far) -> TunnelState:
    """Up, with a session, as the core does it: first down, then up, then the path."""
    if not any(state.digest == far.spec.digest() for state in states(backend, netlink)):
        backend.ensure(wish(far.spec, LinkWish.DOWN))
    backend.ensure(wish(far.spec))
    backend.ensure(wish(far.spec, path=PATH))
    wait_for("a handshake", lambda: only(backend, netlink).handshake_wall, deadline_s=4)
    return only(backend, netlink)


def pid_of(link: str) -> int | None:
    """The process behind a link; None where it is the kernel that is."""
    if not (SOCKETS / f"{link}.sock").exists():
        return None
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(SOCKETS / f"{link}.sock"))
        return int.from_bytes(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little")


# -- from nothing to a session ----------------------------------------------------------------------------------------
def test_created_down_and_complete(backend: WireGuardBackend, netlink: Netlink, far: Far) -> None:
    """The first ensure makes the link with keys, mark and addresses, down; main stays as it was."""
    main = netlink.observe().main

    backend.ensure(wish(far.spec, LinkWish.DOWN))

    state = only(backend, netlink)
    assert (state.link.name, state.link.up, state.link.mtu) == (LINK, False, 1420)
    assert state.link.kind in names.TUNNEL_KINDS
    assert state.public_key == far.spec.public_key
    assert state.digest == far.spec.digest()
    assert state.fwmark == names.FWMARK
    assert set(state.addresses) == set(far.spec.addresses)
    assert state.peers[0].endpoint == far.spec.peers[0].endpoint
    assert state.handshake_wall is None
    assert netlink.observe().main == main


def test_a_new_link_stays_down(backend: WireGuardBackend, netlink: Netlink, far: Far) -> None:
    """Even if it shall be up: the ruleset must name its index first."""
    backend.ensure(wish(far.spec, path=PATH))

    assert not only(backend, netlink).link.up


def test_up_and_shaking_hands(backend: WireGuardBackend, netlink: Netlink, far: Far) -> None:
    """With a path the handshake is made at once, though no program sends anything; no keepalive is left behind."""
    main = netlink.observe().main
    backend.ensure(wish(far.spec, LinkWish.DOWN))

    state = connect(backend, netlink, far)

    assert state.link.up
    assert set(state.addresses) == set(far.spec.addresses)
    assert state.peers[0].keepalive_s == 0
    assert netlink.observe().main == main
    assert far.handshakes() == 1


def test_ensure_twice_changes_nothing(backend: WireGuardBackend, netlink: Netlink, far: Far) -> None:
    """A session that is as wished goes on: same process, same counters, same handshake."""
    connect(backend, netlink, far)
    before = wait_for("a quiet session", lambda: (state := only(backend, netlink)) == only(backend, netlink) and state)
    pid = pid_of(LINK)

    for _ in range(3):
        backend.ensure(wish(far.spec))

    assert only(backend, netlink) == before
    assert pid_of(LINK) == pid


def test_new_path_is_a_new_session(backend: WireGuardBackend, netlink: Netlink, far: Far) -> None:
    """Asked to prove itself over a new path, it forgets the old session and makes a new one."""
    connect(backend, netlink, far)
    far.space.ip("link set eth0 down")

    backend.ensure(wish(far.spec, path=PATH))
    assert only(backend, netlink).handshake_wall is None

    far.space.ip("link set eth0 up")
    backend.ensure(wish(far.spec, path=PATH))
    wait_for("a handshake", lambda: only(backend, netlink).handshake_wall)


def test_configured_keepalive_stays(backend: WireGuardBackend, netlink: Netlink, far: Far) -> None:
    """The file's own interval is what the device has in the end."""
    far = replace(far, spec=replace(far.spec, peers=(replace(far.spec.peers[0], keepalive_s=17),)))

    assert connect(backend, netlink, far).peers[0].keepalive_s == 17


def test_endpoint_over_ipv6(backend: WireGuardBackend, netlink: Netlink, far: Far) -> None:
    """The outer packets may be IPv6's."""
    endpoint = Endpoint(IPv6Address("2001:db8::1"), 51820)
    far = replace(far, spec=replace(far.spec, peers=(replace(far.spec.peers[0], endpoint=endpoint),)))

    assert connect(backend, netlink, far).peers[0].endpoint == endpoint


def test_several_peers(backend: WireGuardBackend, netlink: Netlink, far: Far) -> None:
    """A second peer, without endpoint and preshared key, is part of the digest and does not disturb the first."""
    other = Peer(new_key()[1], (ip_network("10.77.0.0/16"), ip_network("fd77::/48")))
    spec = replace(far.spec, peers=(*far.spec.peers, other), listen_port=40123)

    state = connect(backend, netlink, replace(far, spec=spec))

    assert state.digest == spec.digest() != far.spec.digest()
    assert len(state.peers) == 2


def test_handshakes_in_a_row(backend: WireGuardBackend, netlink: Netlink, far: Far) -> None:
    """Each new path is proved at once: none is taken for a replay of the one before, which would cost 5 s."""
    for _ in range(10):
        connect(backend, netlink, far)


# -- mending -----------------------------------------------------------------------------------------------------------
def test_new_configuration_replaces_the_old(backend: WireGuardBackend, netlink: Netlink, far: Far) -> None:
    """Another key, other addresses, another MTU: nothing of the old is left."""
    connect(backend, netlink, far)
    private, public = new_key()
    spec = replace(far.spec, private_key=Secret(private), public_key=public, addresses=(ip_interface("10.5.0.1/32"),))

    backend.ensure(replace(wish(spec), mtu=1300))

    state = only(backend, netlink)
    assert (state.public_key, state.digest, state.addresses) == (public, spec.digest(), spec.addresses)
    assert (state.link.mtu, state.link.up) == (1300, True)


def test_moved_endpoint_is_put_back(backend: WireGuardBackend, netlink: Netlink, far: Far, here: Space) -> None:
    """Whoever answered from elsewhere, the endpoint is the file's again, and the session goes on."""
    before = connect(backend, netlink, far)
    here.run("wg", "set", LINK, "peer", far.spec.peers[0].public_key, "endpoint", "192.0.2.66:9")

    backend.ensure(wish(far.spec))

    state = only(backend, netlink)
    assert state.peers[0].endpoint == far.spec.peers[0].endpoint
    assert state.handshake_wall == before.handshake_wall


def test_down_again(backend: WireGuardBackend, netlink: Netlink, far: Far) -> None:
    """A link that is up is set down when the ruleset must be loaded first."""
    connect(backend, netlink, far)

    backend.ensure(wish(far.spec, LinkWish.DOWN))

    assert not only(backend, netlink).link.up


@pytest.mark.parametrize("mtu", [1420, 1320, 1280])
def test_link_has_the_mtu_of_the_wish(backend: WireGuardBackend, netlink: Netlink, far: Far, mtu: int) -> None:
    """What fits the path is decided in the core; the link is told, also one that is up, and its session goes on."""
    before = connect(backend, netlink, far)

    backend.ensure(replace(wish(far.spec), mtu=mtu))

    state = only(backend, netlink)
    assert (state.link.mtu, state.handshake_wall) == (mtu, before.handshake_wall)


def test_ipv6_off_by_default(backend: WireGuardBackend, netlink: Netlink, far: Far, here: Space) -> None:
    """A machine that switches IPv6 off for new links still gets the tunnel's IPv6 address."""
    here.run("sh", "-c", "for i in all default; do echo 1 >/proc/sys/net/ipv6/conf/$i/disable_ipv6; done")

    backend.ensure(wish(far.spec))

    assert set(only(backend, netlink).addresses) == set(far.spec.addresses)


def test_kernel_without_ipv6(here: Space, far: Far, tmp_path: Path) -> None:
    """The IPv6 address is left out, and everything else works."""
    del here
    for key, _value in names.SYSCTLS:
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
    with closing(Netlink(proc_sys=tmp_path)) as netlink:
        backend = WireGuardBackend(tmp_path, netlink, proc_sys=tmp_path)
        state = connect(backend, netlink, far)
        backend.remove(state.link)

    assert state.addresses == (ip_interface("10.9.0.2/24"),)


def test_link_takes_nothing_from_the_far_end(backend: WireGuardBackend, netlink: Netlink, far: Far) -> None:
    """No router advertisement counts on the tunnel, and the kernel gives it no address of its own."""
    connect(backend, netlink, far)

    where = f"net/ipv6/conf/{LINK}"
    assert [sysctl.read(f"{where}/{key}") for key in ("accept_ra", "autoconf", "addr_gen_mode")] == [0, 0, 1]
    assert {address for address in only(backend, netlink).addresses if address.ip.is_link_local} == set()


# -- what others do ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "words", ["link add aovpn0 type bridge", "tuntap add aovpn0 mode tun", "link add aovpn0 type ifb"]
)
def test_foreign_link_is_left_alone(
    backend: WireGuardBackend, netlink: Netlink, far: Far, here: Space, words: str
) -> None:
    """A link that merely has our name is not seen as a tunnel, and not touched."""
    here.ip(words)
    before = here.ip("link show aovpn0")

    assert states(backend, netlink) == ()
    with pytest.raises(NetlinkError, match="aovpn0 is not ours"):
        backend.ensure(wish(far.spec))
    backend.ensure(TunnelWish(far.spec, "aovpn1", LinkWish.DOWN))

    assert here.ip("link show aovpn0") == before
    assert [state.link.name for state in states(backend, netlink)] == ["aovpn1"]


def test_adopted_after_a_restart(backend: WireGuardBackend, netlink: Netlink, far: Far, tmp_path: Path) -> None:
    """A new daemon finds the tunnel as the old one left it, and does not disturb it."""
    before = connect(backend, netlink, far)
    pid = pid_of(LINK)

    successor = WireGuardBackend(tmp_path, netlink)
    successor.ensure(wish(far.spec))

    state = only(successor, netlink)
    assert (state.digest, state.handshake_wall) == (before.digest, before.handshake_wall)
    assert pid_of(LINK) == pid
    successor.remove(state.link)
    assert_gone(pid)


def assert_gone(pid: int | None) -> None:
    """Neither link nor process nor socket is left."""
    assert LINK not in {link.name for link in rtnl.dump_links()}
    assert not (SOCKETS / f"{LINK}.sock").exists()
    wait_for("the process to end", lambda: not _runs(pid))


def process_of(link: str) -> int:
    """The process behind a link; the test is not for a kernel that needs none."""
    pid = pid_of(link)
    if pid is None:
        pytest.skip("of wireguard-go: this tunnel is the kernel's")
    return pid


def _runs(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_remove_leaves_nothing(backend: WireGuardBackend, netlink: Netlink, far: Far) -> None:
    """Link, process and socket go; twice is fine."""
    state = connect(backend, netlink, far)
    pid = pid_of(LINK)

    backend.remove(state.link)
    backend.remove(state.link)

    assert_gone(pid)
    assert states(backend, netlink) == ()


def test_killed_process_is_replaced(backend: WireGuardBackend, netlink: Netlink, far: Far) -> None:
    """wireguard-go killed: the link is gone with it, its stale socket disturbs nobody, and the next ensure connects."""
    connect(backend, netlink, far)
    os.kill(process_of(LINK), signal.SIGKILL)
    wait_for("the link to go", lambda: not states(backend, netlink))

    assert connect(backend, netlink, far).link.up


def test_hanging_process_is_replaced(
    backend: WireGuardBackend, netlink: Netlink, far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    """wireguard-go stopped: the tunnel has no digest, so it is not taken for ours, and the next ensure replaces it."""
    monkeypatch.setattr(wireguard, "_ANSWER_S", 0.5)
    connect(backend, netlink, far)
    pid = process_of(LINK)
    os.kill(pid, signal.SIGSTOP)

    assert only(backend, netlink).digest is None
    assert connect(backend, netlink, far).link.up
    assert not _runs(pid)


def test_deleted_link_is_made_anew(backend: WireGuardBackend, netlink: Netlink, far: Far, here: Space) -> None:
    """Somebody deletes the link under us: the next ensure brings it back."""
    connect(backend, netlink, far)
    here.ip(f"link del {LINK}")

    assert connect(backend, netlink, far).link.up


# -- secrets and failures ----------------------------------------------------------------------------------------------
def test_keys_are_in_no_argument_and_no_environment(
    backend: WireGuardBackend, netlink: Netlink, far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What any user can read in /proc holds no key: they go through a pipe."""
    seen: list[str] = []
    real = subprocess.Popen

    def spy(arguments: Any, **options: Any) -> Any:
        seen.extend(arguments)
        seen.extend(f"{key}={value}" for key, value in options["env"].items())
        return real(arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", spy)
    connect(backend, netlink, far)

    everything = "\n".join(seen)
    assert "setconf" in everything
    assert far.spec.private_key.value not in everything
    assert far.spec.peers[0].preshared_key is not None
    assert far.spec.peers[0].preshared_key.value not in everything


def test_refused_key_is_not_quoted(backend: WireGuardBackend, far: Far) -> None:
    """wg(8) quotes a key that it does not like; our error does not."""
    bad = far.spec.private_key.value[:-4]

    with pytest.raises(ToolError, match=r"wg setconf failed.*\(hidden\)") as caught:
        backend.ensure(wish(replace(far.spec, private_key=Secret(bad))))

    assert bad not in str(caught.value)


def test_no_tun_device(backend: WireGuardBackend, far: Far, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """wireguard-go that cannot start is an error that quotes it, at once, and leaves nothing."""
    fails = tmp_path / "wireguard-go"
    fails.write_text("#!/bin/sh\necho 'Failed to create TUN device' >&2\nexit 1\n", encoding="utf-8")
    fails.chmod(0o755)
    monkeypatch.setattr(process, "find", lambda name: str(fails) if name == "wireguard-go" else f"/usr/bin/{name}")
    monkeypatch.setattr(Netlink, "create_link", lambda _self, _name, _kind: False)

    with pytest.raises(ToolError, match="ended at once: Failed to create TUN device"):
        backend.ensure(wish(far.spec))


def test_missing_program(backend: WireGuardBackend, far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which package to install."""
    process.find.cache_clear()
    monkeypatch.setitem(process.ENVIRONMENT, "PATH", "/nonexistent")
    monkeypatch.setattr(Netlink, "create_link", lambda _self, _name, _kind: False)
    try:
        with pytest.raises(ToolError, match=r"wireguard-go is not installed \(apt install wireguard-go\)"):
            backend.ensure(wish(far.spec))
    finally:
        process.find.cache_clear()


def test_link_is_checked_before_it_is_deleted(backend: WireGuardBackend, here: Space) -> None:
    """An index that belongs to another link by now is left alone."""
    here.ip("link add other type bridge")
    other = next(link for link in rtnl.dump_links() if link.name == "other")

    backend.remove(Link(other.index, LINK, kind="tun"))

    assert "other" in {link.name for link in rtnl.dump_links()}

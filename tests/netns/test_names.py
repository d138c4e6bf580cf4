# SPDX-License-Identifier: GPL-3.0-or-later
"""Gateways by name: the real daemon, real resolvers that tell the truth, lie, or say nothing, and a recorder that sees
every question.

A question for the gateway's name, or the network's NAT64 prefix, to the resolver of the network is a class of its own
(`frames.Kind.LOOK_UP`); any other packet to a port of DNS is in clear, as before.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from aovpnd import names
from tests.lab import plan
from tests.lab.frames import ENDPOINTS, Frame, Kind
from tests.lab.process import wait_for
from tests.lab.record import Recording
from tests.lab.senders import Senders
from tests.lab.world import by_name
from tests.netns.protected import JUDGED, Protected, Watch, only

pytestmark = pytest.mark.root

HOME_RESOLVER = str(plan.HOME.router4)
TARGET4, TARGET6 = plan.WEB4, plan.WEB6
"""Where a liar sends us: a server that anybody may want to read along with (TunnelCrack, ServerIP)."""
LIED = ((TARGET4, plan.GATEWAY_PORT), (TARGET6, plan.GATEWAY_PORT))
MOVED = ((plan.MOVED4, plan.GATEWAY_PORT),)
ADDRESSES = "/var/lib/aovpnd/addresses.json"


@pytest.fixture(scope="module")
def laptop() -> Iterator[Protected]:
    """One world for this file; its tunnel names its gateway."""
    with Protected.build(nat64=True, tunnel=False) as built:
        built.lab.install_tunnel(text=by_name(built.lab.tunnel_conf))
        yield built


@pytest.fixture(autouse=True)
def fresh(laptop: Protected) -> Iterator[None]:
    """Each test begins off every network, with a daemon that knows no address, and honest resolvers."""
    laptop.lab.stop_daemon()
    laptop.world.unplug("wlan0")
    for link in laptop.lab.host.links():
        if link.startswith(names.LINK_PREFIX):
            laptop.lab.host.ip(f"link del {link}")
    laptop.lab.host.path(ADDRESSES).unlink(missing_ok=True)
    laptop.lab.host.path("/run/aovpnd/path").unlink(missing_ok=True)
    laptop.lab.host.path("/etc/resolv.conf").write_text("", encoding="utf-8")
    for router in laptop.world.routers:
        router.resolver("honest")
    laptop.lab.start_daemon()
    yield
    laptop.lab.install_tunnel(text=by_name(laptop.lab.tunnel_conf))


@contextmanager
def watched(laptop: Protected, *more: tuple[object, int], kinds: bool = True) -> Iterator[Watch]:
    """Senders of every kind on the laptop and a recorder that knows these endpoints besides the gateway's."""
    judged = JUDGED if kinds else JUDGED[:1]
    endpoints = (*ENDPOINTS, *more)
    with laptop.world.record(endpoints=endpoints) as recorder, Senders.start(laptop.lab, judged) as senders:  # type: ignore[arg-type]
        watch = Watch(recorder, senders, judged, laptop.lab)
        yield watch
        watch.everybody_tries()
        watch.end()
    watch.assert_silence()


def of(recording: Recording, *kinds: Kind) -> list[Frame]:
    """The frames of some classes, in their order."""
    return [frame for frame in recording.frames if frame.kind in kinds]


def endpoint(laptop: Protected) -> str:
    """Where the tunnel goes, as status says."""
    return str(only(laptop.lab.status(), "tunnels")["endpoint"])


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4 alone", "both families"])
def test_connects_by_name(laptop: Protected, *, ipv6: bool) -> None:
    """The gateway's name is asked for, A and AAAA, of the lease's resolver; then nothing goes to port 53 any more, and
    nobody else's question ever does.
    """
    with watched(laptop) as watch:
        laptop.world.roam("home", ipv6=ipv6)
        watch.until("the tunnel to work", laptop.works)
        where = endpoint(laptop)

    asked = of(watch.recording, Kind.LOOK_UP)
    assert {frame.what for frame in asked} == {f"ip:udp:dns to {HOME_RESOLVER} port 53"}
    assert 2 <= len(asked) <= 4
    shaken = of(watch.recording, Kind.HANDSHAKE, Kind.TUNNEL)
    assert asked[-1].time < shaken[0].time + 1
    assert where in {f"{plan.GATEWAY4}:{plan.GATEWAY_PORT}", f"[{plan.GATEWAY6}]:{plan.GATEWAY_PORT}"}
    kept = json.loads(laptop.lab.host.path(ADDRESSES).read_text(encoding="utf-8"))
    assert list(kept["good"]) == [plan.GATEWAY_NAME]


def test_lying_resolver_and_an_honest_one_later(laptop: Protected) -> None:
    """TunnelCrack ServerIP (A4): the liar gets our handshakes to send to his target, and nothing else of anybody: no
    program's TCP or UDP to that server, which is asked for all the while. When he tells the truth, the tunnel comes up.
    """
    laptop.world.home.resolver("lie", TARGET4, TARGET6)
    with watched(laptop, *LIED) as watch:
        laptop.world.roam("home")
        watch.until("the handshake to the target", lambda: endpoint(laptop) == f"{TARGET4}:{plan.GATEWAY_PORT}")
        refused = laptop.lab.curl(f"http://{TARGET4}:{plan.GATEWAY_PORT}/", timeout_s=1)
        laptop.lab.curl(f"http://{TARGET4}/", timeout_s=1)
        wait_for("the problem", lambda: "no-handshake" in laptop.problems(), deadline_s=20)
        laptop.world.home.resolver("honest")
        watch.until("the tunnel to work", laptop.works, deadline_s=60)

    assert refused.returncode != 0
    to_target = [frame for frame in watch.recording.frames if f" to {TARGET4} " in f"{frame.what} "]
    assert to_target
    assert {frame.kind for frame in to_target} == {Kind.HANDSHAKE}
    assert {frame.what for frame in to_target} == {f"ip:udp:wg to {TARGET4} port {plan.GATEWAY_PORT}"}


@pytest.mark.parametrize("how", ["silent", "servfail"])
def test_resolver_that_does_not_answer(laptop: Protected, how: str) -> None:
    """While the door stands open for the whole time of a look-up, nothing but our own questions leaves by it; status
    says who did not answer; the first answer ends it.
    """
    laptop.world.home.resolver(how)
    with watched(laptop) as watch:
        laptop.world.roam("home")
        text = watch.until("the problem", lambda: laptop.problems().get("name-unresolved", ""), deadline_s=30)
        laptop.world.home.resolver("honest")
        watch.until("the tunnel to work", laptop.works, deadline_s=60)

    assert text.startswith(f"{plan.GATEWAY_NAME} cannot be looked up: {HOME_RESOLVER} ")
    assert text.endswith({"silent": "does not answer", "servfail": "answers SERVFAIL"}[how])
    assert of(watch.recording, Kind.LOOK_UP)


ASK = """
import socket, sys
to, mark, tcp = sys.argv[1], int(sys.argv[2], 0), sys.argv[3] == "tcp"
kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
with socket.socket(socket.AF_INET, kind) as s:
    s.settimeout(0.3)
    try:
        if mark:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"wlan0")
        s.connect((to, 53))
        s.send(b"secret")
    except OSError as error:
        print(type(error).__name__)
"""


def test_who_may_ask_while_we_do(laptop: Protected) -> None:
    """While a look-up runs: an ordinary program reaches the lease's resolver neither by UDP nor by TCP; one that may
    set the mark does, as docs/security.md says, and reaches no other resolver.
    """
    laptop.world.home.resolver("silent")
    python = "/usr/bin/python3"
    with laptop.world.record() as recorder:
        laptop.world.roam("home")
        wait_for(
            "the open door",
            lambda: (
                "elements"
                in laptop.lab.host.run("nft", "list", "set", "inet", names.TABLE, names.LOOK_UP_SET, check=False).stdout
            ),
            poll_s=0.02,
        )
        for protocol in ("udp", "tcp"):
            ordinary = laptop.lab.host.run(python, "-c", ASK, HOME_RESOLVER, "0", protocol, uid=plan.USER)
            assert ordinary.stdout.strip() in {"PermissionError", "OSError"}, ordinary
        marked = (python, "-c", ASK)
        mark = hex(names.FWMARK)
        assert laptop.lab.host.run(*marked, str(plan.DNS4), mark, "udp").stdout.strip() == "PermissionError"
        assert laptop.lab.host.run(*marked, HOME_RESOLVER, mark, "udp").stdout.strip() == ""
    recording = recorder.recording(b"")

    assert [frame.what for frame in recording.clear()] == [f"ip:udp:dns to {HOME_RESOLVER} port 53"]


def test_resolver_by_tcp_alone(laptop: Protected) -> None:
    """An answer that does not fit is fetched by TCP, with our mark, over the uplink."""
    laptop.world.home.resolver("tcp", plan.GATEWAY4)
    with laptop.world.record() as recorder:
        laptop.world.roam("home")
        wait_for("the tunnel to work", laptop.works, deadline_s=30)
    recording = recorder.recording(b"")

    assert of(recording, Kind.LOOK_UP)
    assert {frame.what for frame in recording.clear()} <= {
        f"ip:tcp to {HOME_RESOLVER} port 53",
        f"ip:tcp:dns to {HOME_RESOLVER} port 53",
    }
    assert recording.clear()


def test_strict_reverse_path(laptop: Protected) -> None:
    """With strict rp_filter the resolver's answer comes in all the same."""
    laptop.lab.host.sysctl(ipv4__conf__all__rp_filter=1, ipv4__conf__wlan0__rp_filter=1)
    try:
        laptop.world.roam("home")
        wait_for("the tunnel to work", laptop.works, deadline_s=20)
    finally:
        laptop.lab.host.sysctl(ipv4__conf__all__rp_filter=0, ipv4__conf__wlan0__rp_filter=0)


def test_restart_without_dns(laptop: Protected) -> None:
    """The address that worked is tried first after a restart, and nobody is asked; the resolver is dead anyway."""
    laptop.world.roam("home")
    wait_for("the tunnel to work", laptop.works, deadline_s=20)
    laptop.lab.stop_daemon()
    for link in laptop.lab.host.links():
        if link.startswith(names.LINK_PREFIX):
            laptop.lab.host.ip(f"link del {link}")
    laptop.world.home.resolver("silent")
    with watched(laptop) as watch:
        laptop.lab.start_daemon()
        watch.until("the tunnel to work", laptop.works)

    assert of(watch.recording, Kind.LOOK_UP) == []


def test_gateway_moves(laptop: Protected) -> None:
    """A gateway that is found at another address from now on is looked up anew when it does not answer any more."""
    laptop.world.roam("home")
    wait_for("the tunnel to work", laptop.works, deadline_s=20)
    laptop.world.gateway.move()
    laptop.world.home.resolver("lie", plan.MOVED4)
    try:
        with watched(laptop, *MOVED) as watch:
            laptop.world.flap("wlan0")  # a new network, as after a night in a bag: nothing to wait 35 s for
            watch.until(
                "the new address",
                lambda: (
                    endpoint(laptop) == f"{plan.MOVED4}:{plan.GATEWAY_PORT}"
                    and laptop.lab.status()["phase"] == "connected"
                ),
                deadline_s=40,
            )
    finally:
        laptop.world.gateway.come_back()

    assert of(watch.recording, Kind.LOOK_UP)


@pytest.mark.parametrize("by", ["name", "address"])
def test_ipv6_alone(laptop: Protected, by: str) -> None:
    """On a network of IPv6 alone, an IPv4 gateway is reached through NAT64; the network is asked for its prefix, and
    nothing else leaves.
    """
    assert laptop.world.six is not None
    if by == "address":
        laptop.lab.install_tunnel(text=laptop.lab.tunnel_conf)
    laptop.world.six.resolver("honest")
    behind = plan.SIX.behind_nat64(plan.GATEWAY4)
    laptop.lab.ctl("connect")
    with watched(laptop, (behind, plan.GATEWAY_PORT)) as watch:
        laptop.world.roam("six")
        watch.until("the tunnel to work", lambda: laptop.lab.status()["phase"] == "connected", deadline_s=40)
        reached = wait_for("the internet", lambda: laptop.address_outside(4), deadline_s=10)

    assert reached == str(plan.GATEWAY4)
    if by == "address":
        assert endpoint(laptop) == f"[{behind}]:{plan.GATEWAY_PORT}"
    assert of(watch.recording, Kind.LOOK_UP)

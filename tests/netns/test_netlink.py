# SPDX-License-Identifier: GPL-3.0-or-later
"""Links, addresses, routes and rules against a real kernel."""

import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from aovpnd import names, rtnl
from aovpnd.adapters.netlink import Netlink
from aovpnd.errors import NetlinkError
from aovpnd.links import ARPHRD_NONE, Link
from aovpnd.routes import LinkAddress, Route, Routing
from aovpnd.rtnl import Change, Watch
from tests.lab.process import wait_for
from tests.netns.space import Space, laptop

pytestmark = pytest.mark.root

DEFAULT4, DEFAULT6 = ip_network("0.0.0.0/0"), ip_network("::/0")
CLOSED4 = Route(DEFAULT4, None, metric=names.CLOSED_METRIC)
CLOSED6 = Route(DEFAULT6, None, metric=names.CLOSED_METRIC)
SO_BINDTODEVICE = socket.SO_BINDTODEVICE
ETH_P_ALL = 0x0003


@pytest.fixture
def space() -> Iterator[Space]:
    """A machine with one uplink, ``wlan0``, and a link ``tun7`` that stands for a tunnel; this thread is inside."""
    with laptop() as space:
        yield space


@pytest.fixture
def netlink(space: Space) -> Iterator[Netlink]:
    """The adapter, in that machine."""
    del space
    adapter = Netlink()
    yield adapter
    adapter.close()


def index(name: str) -> int:
    """The index of a link."""
    return socket.if_nametoindex(name)


def closed() -> Routing:
    """No tunnel: all shut."""
    return Routing((4, 6), (CLOSED4, CLOSED6), names.SYSCTLS, shut=(6,))


def tunnelled() -> Routing:
    """A tunnel in front of that."""
    link = index("tun7")
    routes = (Route(DEFAULT4, link, metric=50), CLOSED4, Route(DEFAULT6, link, metric=50), CLOSED6)
    return Routing((4, 6), routes, names.SYSCTLS, shut=(6,))


def granted() -> Routing:
    """Look-ups fall through to main, but for one host-only network."""
    return Routing((4, 6), (Route(ip_network("10.9.8.0/24"), index("tun7"), metric=57),), names.SYSCTLS)


# -- observe ---------------------------------------------------------------------------------------------------------
def test_links_are_what_ip_link_says(space: Space) -> None:
    """Name, kind, device type, master, flags and MTU of each link; by index."""
    space.ip("link add br0 type bridge")
    space.ip("link set radio master br0")
    space.ip("link set wlan0 mtu 1400")

    links = {link.name: link for link in rtnl.dump_links()}

    assert list(links) == sorted(links, key=lambda name: links[name].index)
    assert links["lo"] == Link(1, "lo", arphrd=772, carrier_ups=0, mtu=65536)
    assert links["wlan0"] == Link(index("wlan0"), "wlan0", kind="veth", mtu=1400)
    assert links["radio"] == Link(index("radio"), "radio", kind="veth", master=index("br0"))
    assert links["br0"].kind == "bridge"
    assert not links["br0"].up
    assert (links["tun7"].kind, links["tun7"].arphrd) == ("tun", ARPHRD_NONE)


def test_carrier_is_counted(space: Space) -> None:
    """Losing and regaining the carrier changes the count, which tells one network from the next."""
    before = next(link for link in rtnl.dump_links() if link.name == "wlan0")
    space.ip("link set radio down")
    without = next(link for link in rtnl.dump_links() if link.name == "wlan0")
    space.ip("link set radio up")
    after = next(link for link in rtnl.dump_links() if link.name == "wlan0")

    assert (before.carrier, without.carrier, after.carrier) == (True, False, True)
    assert after.carrier_ups == before.carrier_ups + 1


def test_observe_reads_addresses_and_main(netlink: Netlink) -> None:
    """Addresses with their prefixes; default and connected routes with gateways, link-local ones included."""
    seen = netlink.observe()
    wlan0 = index("wlan0")

    assert LinkAddress(wlan0, ip_interface("192.0.2.2/24")) in seen.addresses
    assert LinkAddress(wlan0, ip_interface("2001:db8::2/64")) in seen.addresses
    assert Route(DEFAULT4, wlan0, IPv4Address("192.0.2.1"), 600) in seen.main
    assert Route(DEFAULT6, wlan0, IPv6Address("fe80::1"), 600) in seen.main
    assert Route(ip_network("192.0.2.0/24"), wlan0) in seen.main
    assert seen.ipv6
    assert (seen.routing.rules, seen.routing.routes, seen.routing.shut) == ((), (), ())


def test_observe_takes_a_multipath_route_apart(space: Space, netlink: Netlink) -> None:
    """Each next hop of a default route counts, also an IPv6 router of an IPv4 route."""
    space.ip("-6 route add default metric 7 nexthop via fe80::5 dev wlan0 nexthop via fe80::6 dev wlan0")
    space.ip("route add default metric 7 nexthop via 192.0.2.5 dev wlan0 nexthop via inet6 fe80::7 dev wlan0")

    hops = {route.gateway for route in netlink.observe().main if route.metric == 7}

    assert hops == set(map(ip_address_of, ("fe80::5", "fe80::6", "192.0.2.5", "fe80::7")))


def ip_address_of(text: str) -> IPv4Address | IPv6Address:
    """An address."""
    return IPv6Address(text) if ":" in text else IPv4Address(text)


def test_ten_thousand_routes_cost_little(space: Space, netlink: Netlink) -> None:
    """A whole observe with 5,000 routes per family in main stays under half a second, and sees the few that matter."""
    numbers = range(5000)
    space.batch("".join(f"route add 10.{n // 250}.{n % 250}.0/24 via 192.0.2.1\n" for n in numbers))
    space.batch("".join(f"route add 2001:db8:{n:x}::/48 via fe80::1 dev wlan0\n" for n in numbers), "-6")

    times = []
    seen = netlink.observe()
    for _ in range(5):
        start = time.perf_counter()
        seen = netlink.observe()
        times.append(time.perf_counter() - start)

    assert min(times) < 0.5
    assert len(seen.main) < 12


# -- ensure ----------------------------------------------------------------------------------------------------------
def test_ensure_makes_it_exactly_so(netlink: Netlink) -> None:
    """Every change from one whole value to another is read back as that value, also the way to nothing."""
    main = netlink.observe().main
    for routing in (closed(), tunnelled(), granted(), closed(), tunnelled(), tunnelled(), granted(), tunnelled()):
        netlink.ensure(routing)
        assert netlink.observe().routing == routing

    netlink.ensure(None)

    left = netlink.observe()
    assert (left.routing.rules, left.routing.routes, left.routing.shut) == ((), (), ())
    assert left.routing.sysctls == names.SYSCTLS
    assert left.main == main


def test_rule_is_written_as_documented(space: Space, netlink: Netlink) -> None:
    """``ip rule`` shows what the manual says, in both families."""
    netlink.ensure(closed())

    rules = {
        family: [line.split(":", 1)[1].strip() for line in space.ip(f"{family} rule").splitlines()[1:-1]]
        for family in ("-4", "-6")
    }
    assert rules == {
        "-4": ["not from all fwmark 0x2a000000/0x3f000000 lookup 24943", "from all lookup main"],
        "-6": [
            "not from all fwmark 0x2a000000/0x3f000000 lookup 24943",
            "not from all fwmark 0x2a000000/0x3f000000 unreachable",
        ],
    }


def test_ensure_repairs_what_others_did(space: Space, netlink: Netlink) -> None:
    """Foreign, doubled, altered and missing rules and routes: one ensure and all is as it should be."""
    netlink.ensure(tunnelled())
    for words in (
        "route add 10.1.0.0/16 dev wlan0 table 24943",
        "route add throw 10.2.0.0/16 table 24943",
        "route add 10.3.0.0/16 table 24943 nexthop dev wlan0 nexthop dev tun7",
        "route add 10.4.0.0/16 via 192.0.2.9 table 24943 tos 4",
        "route del unreachable default table 24943 metric 4294967294",
        "route add throw default table 24943 metric 1",
        "-6 route add throw 2001:db8:7::/64 table 24943",
        "-6 route add prohibit 2001:db8:8::/64 table 24943",
        "-6 route add 2001:db8:9::/64 via fe80::9 dev wlan0 table 24943",
        "-6 route replace default dev wlan0 table 24943 metric 50",
        "-6 rule add lookup 24943 pref 5",
        "rule add fwmark 4 lookup 24943 pref 10",
        "rule add not fwmark 0x2a000000/0x3f000000 lookup 24943 pref 10 protocol 99",
        "-6 rule del pref 11",
    ):
        space.ip(words)
    assert netlink.observe().routing != tunnelled()

    netlink.ensure(tunnelled())

    assert netlink.observe().routing == tunnelled()


def test_ways_beside_the_tunnel(space: Space, netlink: Netlink) -> None:
    """Routes by a router of the link stand, with it and without, by a global address or one of the link, although our
    rules lead to no router; and others by the same router are found.
    """
    wlan0 = index("wlan0")
    beside = tuple(
        Route(ip_network(dst), wlan0, ip_address(router) if router else None, names.TUNNEL_METRIC + wlan0)
        for dst, router in (
            ("198.51.100.0/24", "192.0.2.254"),
            ("198.51.101.0/24", None),
            ("198.51.102.0/24", "fe80::254"),
            ("2001:db8:70::/48", "2001:db8::254"),
            ("2001:db8:80::/48", "fe80::254"),
        )
    )
    for plain in (closed(), tunnelled()):
        wished = replace(plain, routes=tuple(sorted((*plain.routes, *beside), key=lambda route: route.order)))
        netlink.ensure(wished)
        assert netlink.observe().routing == wished
        assert "via 192.0.2.254 dev wlan0" in space.ip("route get 198.51.100.9")
        assert "via fe80::254 dev wlan0" in space.ip("-6 route get 2001:db8:80::9")

        space.ip("route replace 198.51.100.0/24 via 192.0.2.9 dev wlan0 table 24943 metric 77")
        assert netlink.observe().routing != wished
        netlink.ensure(plain)
        assert netlink.observe().routing == plain


@pytest.mark.parametrize(
    "words",
    [
        "rule add not fwmark 0x2a000000/0x3f000000 iif lo lookup 24943 pref 10",
        "rule add not fwmark 0x2a000000/0x3f000000 lookup 24943 suppress_prefixlength 0 pref 10",
        "rule add not fwmark 0x2a000000/0x3f000000 from 10.0.0.0/8 lookup 24943 pref 10",
        "rule add not fwmark 0x2a000000/0x3f000000 lookup 24943 pref 10 uidrange 0-0",
        "rule add fwmark 0x2a000000/0x3f000000 lookup 24943 pref 10",
        "rule add not fwmark 0x2a000000/0xff000000 lookup 24943 pref 10",
    ],
)
def test_a_rule_that_does_less_is_not_ours(space: Space, netlink: Netlink, words: str) -> None:
    """A rule that looks like ours and matches less does not count, and is replaced."""
    space.ip(words)
    assert netlink.observe().routing.rules == ()

    netlink.ensure(closed())

    assert netlink.observe().routing == closed()
    assert space.ip("rule").count("24943") == 1


def test_foreign_rules_and_tables_stay(space: Space, netlink: Netlink) -> None:
    """What is not ours is not touched."""
    space.ip("rule add from 10.0.0.0/8 lookup 77 pref 11")
    space.ip("rule add fwmark 9 unreachable pref 12")
    space.ip("route add 10.1.0.0/16 dev wlan0 table 77")
    before = space.ip("rule"), space.ip("route show table 77")

    netlink.ensure(tunnelled())
    netlink.ensure(None)

    assert (space.ip("rule"), space.ip("route show table 77")) == before


def test_shut_table_outlives_its_tunnel(space: Space, netlink: Netlink) -> None:
    """When the tunnel's link goes, the unreachable default is what is left."""
    netlink.ensure(tunnelled())

    space.ip("link del tun7")

    assert netlink.observe().routing == closed()


def test_main_goes_on_working_while_all_is_shut(space: Space, netlink: Netlink) -> None:
    """A DHCP client or network manager can still put its routes into main, and a router that is named without its link
    is found on the uplink, not behind the tunnel.
    """
    wlan0 = index("wlan0")
    for metric, routing in ((100, closed()), (200, tunnelled())):
        netlink.ensure(routing)

        for number, link in ((metric, ""), (metric + 1, "dev wlan0")):
            space.ip(f"route add default via 192.0.2.254 metric {number} {link}")
            space.ip(f"-6 route add default via 2001:db8::254 metric {number} {link}")

        found = {
            (route.link, str(route.gateway)) for route in netlink.observe().main if route.metric // 2 == metric // 2
        }
        assert found == {(wlan0, "192.0.2.254"), (wlan0, "2001:db8::254")}


def test_nothing_opens_in_between(space: Space, netlink: Netlink) -> None:
    """While routing flaps between closed and tunnelled, nothing goes to the uplink, in either family.

    Packets are what counts: a look-up of IPv6 that loses its route between finding it and choosing a source takes any
    link's address, and its packet goes to the tunnel or nowhere all the same (facts T23).
    """
    for router in ("192.0.2.1", "fe80::1"):
        space.ip(f"neigh replace {router} lladdr 02:00:00:00:00:01 dev wlan0 nud permanent")
    stop = threading.Event()
    sent = 0

    def send() -> None:
        nonlocal sent
        with space.entered():
            while not stop.is_set():
                sent += _send_both()

    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as far_end:
        far_end.bind(("radio", 0))
        far_end.setblocking(False)
        assert _send_both() == 2
        control: list[bytes] = []

        def heard_both() -> bool:
            control.extend(_payloads(far_end))
            return len(control) == 2

        wait_for("the far end to see both", heard_both)
        netlink.ensure(closed())
        sender = threading.Thread(target=send)
        sender.start()
        try:
            for _ in range(100):
                netlink.ensure(tunnelled())
                netlink.ensure(closed())
        finally:
            stop.set()
            sender.join()
        assert sent > 100
        assert _payloads(far_end) == []


_TOKEN = b"nothing-opens-in-between"


def _send_both() -> int:
    """Send a packet of each family to the internet; returns how many the kernel took."""
    taken = 0
    for family, far in ((socket.AF_INET, "198.51.100.1"), (socket.AF_INET6, "2001:db8:f::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as probe, suppress(OSError):
            taken += probe.sendto(_TOKEN, (far, 9)) == len(_TOKEN)
    return taken


def _payloads(far_end: socket.socket) -> list[bytes]:
    """The frames with our token that arrived."""
    found = []
    with suppress(BlockingIOError):
        while True:
            frame = far_end.recv(2048)
            if _TOKEN in frame:
                found.append(frame)
    return found


def test_control_of_the_above(space: Space) -> None:
    """Without our rules the same look-ups lead to the uplink: the test above can see a leak."""
    del space
    assert source(socket.AF_INET, "198.51.100.1") == "192.0.2.2"
    assert source(socket.AF_INET6, "2001:db8:f::1") == "2001:db8::2"


def source(family: int, far: str, *, device: str | None = None, mark: int = 0) -> str | None:
    """The address that a socket would send from, or None when there is no route."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        if device is not None:
            probe.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, device.encode())
        if mark:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        try:
            probe.connect((far, 9))
        except OSError:
            return None
        return str(probe.getsockname()[0])


@pytest.mark.parametrize("with_tunnel", [False, True])
def test_routes_shut_alone(netlink: Netlink, with_tunnel: bool) -> None:
    """Without any ruleset: ordinary sockets do not reach the uplink, nor do IPv6 sockets bound to it; the tunnel's own
    packets do, and multicast on the link (DHCPv6, mDNS) still has a route.
    """
    netlink.ensure(tunnelled() if with_tunnel else closed())

    assert source(socket.AF_INET, "198.51.100.1") == ("10.9.0.2" if with_tunnel else None)
    assert source(socket.AF_INET6, "2001:db8:f::1") == ("fd00::2" if with_tunnel else None)
    assert source(socket.AF_INET6, "2001:db8:f::1", device="wlan0") is None
    assert source(socket.AF_INET6, "2001:db8::9", device="wlan0") is None
    assert source(socket.AF_INET6, "ff02::1:2", device="wlan0") is not None
    assert source(socket.AF_INET, "198.51.100.1", mark=names.FWMARK) == "192.0.2.2"
    assert source(socket.AF_INET6, "2001:db8:f::1", mark=names.FWMARK) == "2001:db8::2"


def test_bound_ipv4_socket_does_not_reach_the_router(space: Space, netlink: Netlink) -> None:
    """IPv4 with SO_BINDTODEVICE: the kernel takes an unreachable destination for a neighbour. So it asks by ARP for the
    far address itself, and sends nothing to the router: what routing alone cannot close.
    """
    netlink.ensure(closed())
    space.ip("neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev wlan0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, b"wlan0")
        probe.sendto(b"x", ("198.51.100.1", 9))

    assert "198.51.100.1" in wait_for("a neighbour entry", lambda: space.ip("neigh show dev wlan0 198.51.100.1"))


def test_ensure_says_what_the_kernel_refused(netlink: Netlink) -> None:
    """A route over a link that is not there is an error of ours that names it, and the shut routes stand."""
    routing = Routing((4,), (Route(ip_network("10.0.0.0/8"), 4711, metric=50), CLOSED4))

    with pytest.raises(NetlinkError, match=r"route to 10\.0\.0\.0/8: No such device"):
        netlink.ensure(routing)

    assert CLOSED4 in netlink.observe().routing.routes


def test_a_value_that_the_kernel_changes_is_noticed(netlink: Netlink) -> None:
    """IPv6 turns metric 0 into 1024: what is read back differs, so ensure does not pretend."""
    routing = Routing((6,), (Route(ip_network("2001:db8:1::/48"), index("tun7"), metric=0), CLOSED6))

    with pytest.raises(NetlinkError, match="do not stay as they should be"):
        netlink.ensure(routing)


# -- without IPv6, without /proc/sys -----------------------------------------------------------------------------------
def test_kernel_without_ipv6(space: Space, tmp_path: Path) -> None:
    """No /proc/sys/net/ipv6: IPv6 is neither looked at nor written."""
    del space
    make_sysctls(tmp_path)
    routing = Routing((4,), (CLOSED4,), names.SYSCTLS)
    with closing(Netlink(proc_sys=tmp_path)) as netlink:
        netlink.ensure(routing)
        seen = netlink.observe()

    assert not seen.ipv6
    assert seen.routing == routing
    assert {address.interface.version for address in seen.addresses} == {4}


def make_sysctls(root: Path) -> None:
    """A /proc/sys with nothing but our keys, at the kernel's defaults."""
    for key, _value in names.SYSCTLS:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_text("0\n", encoding="ascii")


def test_ipv6_switched_off(space: Space, netlink: Netlink) -> None:
    """disable_ipv6=1 on all links: rules and routes stand all the same, for it may be switched on again at any time."""
    space.run("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6")

    netlink.ensure(closed())

    assert netlink.observe().routing == closed()


def test_sysctl_that_cannot_be_written(space: Space, tmp_path: Path) -> None:
    """It is an error with a hint, and keeps no route from being shut."""
    del space
    make_sysctls(tmp_path)
    (tmp_path / names.SYSCTLS[0][0]).unlink()
    (tmp_path / names.SYSCTLS[0][0]).mkdir()
    with closing(Netlink(proc_sys=tmp_path)) as netlink:
        with pytest.raises(NetlinkError, match=r"net\.ipv4\.conf\.all\.arp_ignore.*sandbox"):
            netlink.ensure(Routing((4,), (CLOSED4,), names.SYSCTLS))

        assert netlink.observe().routing == Routing(
            (4,), (CLOSED4,), tuple((key, 0) for key, _value in names.SYSCTLS[1:])
        )


# -- watch -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "change"),
    [
        ("link set radio down", Change.LINK),
        ("addr add 192.0.2.3/24 dev wlan0", Change.ADDRESS),
        ("-6 addr add 2001:db8::3/64 dev wlan0 nodad", Change.ADDRESS),
        ("route add 10.0.0.0/8 via 192.0.2.1", Change.ROUTE),
        ("-6 route add 2001:db8:5::/48 via 2001:db8::1", Change.ROUTE),
        ("rule add lookup 7", Change.RULE),
        ("-6 rule add lookup 7", Change.RULE),
    ],
)
def test_watch_tells_what_sort_of_thing_changed(space: Space, words: str, change: Change) -> None:
    """Every kind of change wakes, in both families."""
    with Watch() as watch:
        watch.drain()
        space.ip(words)

        assert change in wait_for("the event", watch.drain)


def test_watch_is_quiet_when_nothing_happens(space: Space) -> None:
    """No event, and never a wait."""
    del space
    with Watch() as watch:
        watch.drain()

        assert watch.drain() == frozenset()


def test_watch_says_when_it_lost_something(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """More events than the buffer holds are an overrun, and it goes on working after it."""
    monkeypatch.setattr(rtnl, "_WATCH_BUFFER_BYTES", 4096)
    with Watch() as watch:
        space.batch("".join(f"route add 10.{n // 250}.{n % 250}.0/24 via 192.0.2.1\n" for n in range(5000)))

        assert Change.OVERRUN in watch.drain()
        wait_for("the rest to be read", lambda: not watch.drain())
        space.ip("link set radio down")
        assert Change.LINK in wait_for("the event", watch.drain)


def test_a_forged_message_is_not_believed(space: Space) -> None:
    """Another process may send us netlink messages: only the kernel's count."""
    del space
    with Watch() as watch, socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as liar:
        watch.drain()
        with socket.socket(fileno=os.dup(watch.fileno())) as same:
            port = same.getsockname()[0]
        liar.sendto(struct.pack("=IHHII", 16, rtnl.RTM_NEWLINK, 0, 0, 0), (port, 0))

        assert select.select([watch], [], [], 1)[0] == [watch]
        assert watch.drain() == frozenset()


# -- tunnel links ----------------------------------------------------------------------------------------------------
def test_addresses_are_exactly_those_wished(netlink: Netlink) -> None:
    """Others go, also with another prefix length; main gets no route from them."""
    link = next(link for link in rtnl.dump_links() if link.name == "tun7")
    main = {route for route in netlink.observe().main if route.link != link.index}
    for wished in (
        ("10.9.0.5/24", "fd00::5/64"),
        ("10.9.0.5/32", "fd00::5/128", "fd00::6/128"),
        ("fe80::5/64",),
        (),
    ):
        addresses = set(map(ip_interface, wished))
        netlink.ensure_addresses(link, addresses)

        assert set(netlink.addresses_of(link)) == addresses
        assert set(netlink.observe().main) == main


def test_an_address_that_comes_late_goes(space: Space, netlink: Netlink, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel gives a link with a carrier an address of its own when it gets round to it, in the middle of ours."""
    link = next(link for link in rtnl.dump_links() if link.name == "tun7")
    change, late = netlink._change_addresses, iter(("fe80::7/64",))  # noqa: SLF001 - between its two halves

    def changed(*arguments: object, **more: object) -> None:
        change(*arguments, **more)  # type: ignore[arg-type]
        for address in late:
            space.ip(f"addr add {address} dev tun7 nodad")

    monkeypatch.setattr(netlink, "_change_addresses", changed)
    netlink.ensure_addresses(link, [ip_interface("10.9.0.5/32")])

    assert set(netlink.addresses_of(link)) == {ip_interface("10.9.0.5/32")}


def test_a_link_is_not_deleted_for_another(space: Space, netlink: Netlink) -> None:
    """An index may have been given to somebody else: name and kind must still agree."""
    link = next(link for link in rtnl.dump_links() if link.name == "tun7")
    space.ip("link set tun7 down")
    space.ip("link set tun7 name other")

    netlink.delete_link(link)

    assert index("other") == link.index


def test_kind_that_the_kernel_does_not_have(netlink: Netlink) -> None:
    """It is an answer, not an error; a name that is taken is an error."""
    assert netlink.create_link("x0", "aovpnd-no-such-kind") is False
    with pytest.raises(NetlinkError, match="cannot create the link tun7: File exists"):
        netlink.create_link("tun7", "bridge")


@pytest.mark.parametrize(("target", "family"), [("192.0.2.77", "-4"), ("2001:db8::77", "-6")])
def test_what_waits_for_a_neighbour_is_dropped_when_all_is_shut(
    space: Space, netlink: Netlink, target: str, family: str
) -> None:
    """A packet that was let pass in a window must not leave when its neighbour answers after the window."""
    netlink.ensure(granted())
    with socket.socket(socket.AF_INET if family == "-4" else socket.AF_INET6, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"waiting", (target, 9))
    before = space.ip(f"{family} neigh show {target}")

    netlink.ensure(closed())

    assert "INCOMPLETE" in before
    assert "INCOMPLETE" not in space.ip(f"{family} neigh show {target}")

# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel does to every packet what `verdict` says: the same tables, really loaded; the same packets, really sent.

So the exhaustive check of tests/unit/test_no_leak.py, which asks `verdict` alone, is a check of what the kernel will
do. Packets go out by raw sockets that are bound to a link and carry a mark, come in by packet sockets at the far end,
and are known again by a number that nft writes into a set, behind all our chains or on the far side.
"""

import errno
import fcntl
import itertools
import os
import re
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Self

import pytest

from aovpnd.core.decide import decide
from aovpnd.guard import rules
from aovpnd.links import Link
from aovpnd.model import Lan, Snapshot
from aovpnd.nftlib import Nft
from aovpnd.render import render
from aovpnd.ruleset import L4, Conntrack, Device, Flow, Hook, Ruleset, Verdict
from aovpnd.trace import Packet, verdict
from tests.lab.process import wait_for
from tests.netns.space import Space
from tests.netns.wire import DSCP, encode, fragments, number_of
from tests.unit.packets import ARRIVING, LEAVING, THROUGH, packet
from tests.unit.small_companions import ADDRESS_M4
from tests.unit.small_world import NOW, TUNNEL_ADDRESS4, Situation
from tests.unit.spec import World
from tests.unit.spec_setup import BROADCAST
from tests.unit.test_no_leak import comes_in, is_forwarded, leaves

pytestmark = pytest.mark.root

WLAN, ETH, DOCKER, TUNNEL = (
    Device(2, "wlan0"),
    Device(3, "eth0"),
    Device(5, "docker0", "bridge"),
    Device(9, "aovpn0", "tun"),
)
UNKNOWN, IMPOSTOR = Device(99, "usb0", "veth"), Device(12, "aovpn9", "veth")
FAR: Final = {WLAN: "far2", ETH: "far3", DOCKER: "far7", UNKNOWN: "far99", IMPOSTOR: "far12"}
"""The link at the other end of each; Docker's is the guest's."""

_LINKS: Final = """
link add wlan0 index 2 type veth peer name far2 netns {far}
link add eth0 index 3 type veth peer name far3 netns {far}
link add free4 index 4 type veth peer name far4 netns {far}
link add docker0 index 5 type bridge mcast_snooping 0 forward_delay 0
link add virbr0 index 6 type bridge
link add veth5 index 7 type veth peer name far7 netns {far}
link add free8 index 8 type veth peer name far8 netns {far}
link add aovpn9 index 12 type veth peer name far12 netns {far}
link add usb0 index 99 type veth peer name far99 netns {far}
link set veth5 master docker0 up
tuntap add aovpn0 mode tun
link set aovpn0 txqueuelen 5000
addr add 192.168.1.23/24 dev wlan0
addr add 172.17.0.1/16 dev docker0
addr add 10.64.0.2/32 dev aovpn0
addr add 10.99.0.2/32 dev aovpn9
"""
_UP: Final = """
link set {link} arp off up
addr add fe80::23/64 dev {link} nodad
route add ::/0 dev {link} metric {metric}
"""
_SEEN: Final = """
table {family} seen {{
  set seen4 {{ typeof ip id; size 65535; flags dynamic; }}
  set seen6 {{ typeof ip6 flowlabel; size 65535; flags dynamic; }}
  {chains}
}}
"""
_NOTES: Final = (
    f"ip dscp {DSCP} add @seen4 {{ ip id }}",
    f"ip6 dscp {DSCP} add @seen6 {{ ip6 flowlabel }}",
)
_TRACK: Final = "type filter hook prerouting priority 900; ct state new accept;"
"""Connections are followed from the start, also while no table of ours is there that asks for them."""
_TUNSETIFF, _IFF_TUN_NO_PI = 0x400454CA, 0x1001
_SO_BINDTODEVICE, _ETH_P_ALL = 25, 3


@dataclass(slots=True)
class Bench:
    """A laptop of bare links, their far ends, and nft in both."""

    here: Space
    far: Space
    nft: Nft
    far_nft: Nft
    tun: int
    sockets: dict[tuple[Device, socket.AddressFamily], socket.socket]
    frames: dict[Device, socket.socket]
    macs: dict[Device, bytes]

    @classmethod
    def make(cls, stack: ExitStack) -> Self:
        """Two namespaces, wired; this thread is in neither of them."""
        here, far = stack.enter_context(Space.make()), stack.enter_context(Space.make())
        for space in (here, far):
            # Without flow labels of the kernel's own: a random one may be one of our numbers.
            off = "ipv*/conf/*/rp_filter", "ipv6/conf/*/accept_dad", "ipv6/auto_flowlabels"
            space.run("sh", "-ec", f"echo 0 | tee {' '.join(f'/proc/sys/net/{name}' for name in off)}")
        here.batch(_LINKS.format(far=far.name))
        with here.entered():
            tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", b"aovpn0", _IFF_TUN_NO_PI))
            nft = Nft()
        for metric, link in enumerate(("aovpn0", "wlan0", "eth0", "docker0", "usb0", "aovpn9"), 2000):
            here.batch(_UP.format(link=link, metric=metric))
        links = {"2001:db8:1::23/64": "wlan0", "fd00::23/64": "wlan0", "fd64::2/128": "aovpn0", "fd99::2/128": "aovpn9"}
        for address, link in links.items():
            here.ip(f"-6 addr add {address} dev {link} nodad")
        for link in FAR.values():
            far.ip(f"link set {link} up")
        with far.entered():
            far_nft = Nft()
            frames = {device: _packet_socket(link) for device, link in FAR.items()}
        with here.entered():
            pairs = [(device, family) for device in (*FAR, TUNNEL) for family in (socket.AF_INET, socket.AF_INET6)]
            sockets = {(device, family): _raw_socket(device, family) for device, family in pairs}
            macs = {device: _mac(str(device.name)) for device in FAR}
        assert here.ip("-o link show aovpn0").startswith("9:")
        bench = cls(here, far, nft, far_nft, tun, sockets, frames, macs)
        stack.callback(bench.close)
        return bench

    def close(self) -> None:
        """Give the sockets back."""
        os.close(self.tun)
        for each in (*self.sockets.values(), *self.frames.values()):
            each.close()

    # -- sending ------------------------------------------------------------------------------------------------------
    def send(self, packet: Packet, number: int) -> None:
        """By a raw socket, bound to the packet's link and with its mark; refusals are what is asked about."""
        self.send_data(packet, encode(packet, number))

    def send_data(self, packet: Packet, data: bytes) -> None:
        """The same, with these bytes."""
        assert packet.oif is not None
        family = socket.AF_INET6 if isinstance(packet.daddr, IPv6Address) else socket.AF_INET
        sender = self.sockets[packet.oif, family]
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", packet.mark))
        scope = (0, 0, packet.oif.index) if family == socket.AF_INET6 else (0,)
        try:
            sender.sendto(data, (str(packet.daddr), *scope))
        except OSError as error:
            if error.errno not in _REFUSED:
                raise

    def inject(self, packet: Packet, number: int) -> None:
        """From the far end of the link by which it comes in."""
        assert packet.iif is not None
        data = encode(packet, number)
        if packet.iif == TUNNEL:
            os.write(self.tun, data)
            return
        ethertype = b"\x86\xdd" if isinstance(packet.daddr, IPv6Address) else b"\x08\0"
        self.frames[packet.iif].send(self.macs[packet.iif] + b"\2\0\0\0\0\7" + ethertype + data)

    # -- looking ------------------------------------------------------------------------------------------------------
    def watch(self, hook: Hook | None) -> None:
        """Note what passes behind all chains at a hook of the laptop's, or (None) what arrives at the far ends."""
        self.nft.run("add table inet seen; delete table inet seen")
        self.far_nft.run("add table netdev seen; delete table netdev seen")
        where = "" if hook is not None else 'oifname "docker0" '  # a bridge does not forward what is sent to itself
        at = hook or Hook.POSTROUTING
        notes = "; ".join(where + note for note in _NOTES)
        chains = f"chain c {{ type filter hook {at} priority 900; {notes}; }}\nchain k {{ {_TRACK} }}"
        self.nft.run(_SEEN.format(family="inet", chains=chains))
        chains = "\n".join(
            f'chain c{link} {{ type filter hook ingress device "{link}" priority 0; {"; ".join(_NOTES)}; }}'
            for link in FAR.values()
        )
        self.far_nft.run(_SEEN.format(family="netdev", chains=chains))

    def seen(self) -> set[int]:
        """The numbers that were noted since the last `watch`, and what came out of the tunnel's other end."""
        listings = [self.nft.run(f"list set inet seen {name}") for name in ("seen4", "seen6")]
        if self.far_nft.list_table("netdev", "seen") is not None:
            listings += [self.far_nft.run(f"list set netdev seen {name}") for name in ("seen4", "seen6")]
        elements = re.findall(r"elements = \{([^}]*)\}", "".join(listings))
        found = {int(number, 0) for text in elements for number in re.findall(r"\b(?:0x[0-9a-f]+|\d+)\b", text)}
        return found | self.out_of_tunnel()

    def out_of_tunnel(self) -> set[int]:
        """The numbers of what the tunnel's other end can read now."""
        found: set[int] = set()
        while True:
            try:
                number = number_of(os.read(self.tun, 2048))
            except BlockingIOError:
                return found
            if number is not None:
                found.add(number)


_REFUSED: Final = (errno.EPERM, errno.EACCES, errno.ENETUNREACH, errno.EHOSTUNREACH)
"""What a socket hears of a drop or a reject."""


def _raw_socket(device: Device, family: socket.AddressFamily) -> socket.socket:
    raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
    raw.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, str(device.name).encode())
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    return raw


def _packet_socket(link: str) -> socket.socket:
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    raw.bind((link, 0))
    return raw


def _mac(link: str) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, 0x8927, struct.pack("16s24x", link.encode()))  # SIOCGIFHWADDR
    return answer[18:24]


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A new one for each test: the kernel remembers connections."""
    with ExitStack() as stack:
        yield Bench.make(stack)


# -- the tables --------------------------------------------------------------------------------------------------------
def _situation(wish: str, lan: Lan, grant: str, uplinks: str, tunnel: str, look_up: str = "none") -> Situation:
    return Situation(wish, lan, grant, uplinks, tunnel, "docker0", "given", look_up)


_QUIET: Final = (Lan.BLOCK, "none", "private", "user space")
SITUATIONS: Final = {
    "blocked": _situation("no tunnel", Lan.BLOCK, "none", "private", "absent"),
    "offline": _situation("one tunnel", Lan.BLOCK, "none", "none", "absent"),
    "connecting": _situation("one tunnel", Lan.BLOCK, "none", "public prefix, global IPv6 gateway", "absent"),
    "connecting by port 53": _situation("one tunnel on port 53", Lan.BLOCK, "none", "private", "absent"),
    "connected": _situation("one tunnel", Lan.BLOCK, "none", "private", "user space"),
    "temporary access": _situation("one tunnel", Lan.BLOCK, "alive", "private", "user space"),
    "filtered": _situation("one tunnel, filtered", *_QUIET),
    "lan": _situation("one tunnel", Lan.ALLOW, "none", "two", "user space"),
    "look-up": _situation("one tunnel", Lan.BLOCK, "none", "private", "absent", "runs"),
    "look-up over TLS": _situation("one tunnel", Lan.BLOCK, "none", "private", "absent", "runs over TLS"),
    "everything": _situation("one tunnel", Lan.ALLOW, "alive", "two", "user space", "runs"),
}


def _table(world: World, wall: float) -> Ruleset:
    """The table for a world in which it is ``wall``: the kernel has only one clock of that kind, today's."""
    snapshot = replace(world.snapshot, now=replace(world.snapshot.now, wall=wall))
    table = decide(world.config, world.intent, snapshot).ruleset
    assert table is not None
    return table


@pytest.fixture(params=SITUATIONS)
def loaded(bench: Bench, request: pytest.FixtureRequest) -> Iterator[tuple[Bench, Ruleset, Snapshot]]:
    """A situation's table in the kernel, and taken out again."""
    world = SITUATIONS[request.param].world()
    table = _table(world, time.time())
    bench.nft.run(render(table, NOW))
    yield bench, table, world.snapshot
    bench.nft.run("flush ruleset")


def _numbered(packets: Iterable[Packet]) -> dict[int, Packet]:
    """Packets by number; a connection's state is not on the wire, so without those that differ by it alone."""
    fresh = dict.fromkeys(packet for packet in packets if packet.ct is None)
    return dict(enumerate(fresh, 1))


def _compare(expected: set[int], seen: set[int], numbered: dict[int, Packet]) -> None:
    """Both sets are the same; if not, say which packets the kernel lets pass wrongly, and which it stops wrongly."""
    wrong = [
        f"{'passes' if number in seen else 'is stopped'}: {numbered[number]}" for number in sorted(expected ^ seen)
    ]
    assert not wrong, f"{len(wrong)} of {len(numbered)}:\n" + "\n".join(wrong[:20])


# -- the tests ---------------------------------------------------------------------------------------------------------
UNSPECIFIED: Final = ip_address("0.0.0.0")
OUT_BY: Final = (WLAN, ETH, DOCKER, TUNNEL, UNKNOWN, IMPOSTOR)


def _by(packet: Packet, device: Device) -> Packet:
    """The packet as it leaves by a link: an address that is left out is filled in (raw(7)), as no DHCP client's is."""
    if device == TUNNEL and packet.saddr == UNSPECIFIED:
        return replace(packet, oif=device, saddr=TUNNEL_ADDRESS4)
    return replace(packet, oif=device)


def _out(bench: Bench, numbered: dict[int, Packet]) -> set[int]:
    """Send all; what arrived at the far ends."""
    bench.watch(None)
    for number, sent in numbered.items():
        bench.send(sent, number)
    return _noted(bench, numbered)


def _noted(bench: Bench, numbered: dict[int, Packet]) -> set[int]:
    """What was noted, when it no longer changes: links between namespaces deliver within microseconds."""
    looks: list[set[int]] = [set()]

    def quiet() -> bool:
        looks.append(looks[-1] | bench.seen())
        return len(looks) > 4 and looks[-1] == looks[-4]

    wait_for("the far ends to be quiet", quiet)
    return looks[-1] & set(numbered)


def test_out(loaded: tuple[Bench, Ruleset, Snapshot]) -> None:
    """What leaves, by every link, with every mark, without the guard."""
    bench, table, _ = loaded
    numbered = _numbered(_by(packet, device) for packet in LEAVING for device in OUT_BY)
    expected = {number for number, sent in numbered.items() if leaves(table, sent, sent, NOW).passes}

    _compare(expected, _out(bench, numbered), numbered)
    assert 0 < len(expected) < len(numbered)


def test_out_with_the_guard(loaded: tuple[Bench, Ruleset, Snapshot]) -> None:
    """The guard's tables behind it let out all of it, and without the dynamic table nothing by an outside link."""
    bench, table, snapshot = loaded
    numbered = _numbered(_by(packet, device) for packet in LEAVING for device in OUT_BY)
    expected = {number for number, sent in numbered.items() if leaves(table, sent, sent, NOW).passes}
    bench.nft.run(rules.whole((*snapshot.links, Link(99, "usb0", "veth"))))

    _compare(expected, _out(bench, numbered), numbered)

    bench.nft.run("delete table inet aovpnd")
    bench.out_of_tunnel()
    alone = rules.inet_table(rules.inside(snapshot.links))
    expected = {
        number for number, sent in numbered.items() if verdict(alone, Hook.POSTROUTING, sent, NOW)[0] is Verdict.ACCEPT
    }
    _compare(expected, _out(bench, numbered), numbered)
    assert not any(numbered[number].oif in {WLAN, ETH, UNKNOWN} for number in expected)


IN_BY: Final = (WLAN, ETH, DOCKER, TUNNEL, UNKNOWN, IMPOSTOR)


def _in(bench: Bench, numbered: dict[int, Packet], hook: Hook) -> set[int]:
    bench.watch(hook)
    for number, sent in numbered.items():
        bench.inject(sent, number)
    return _noted(bench, numbered)


def test_in(loaded: tuple[Bench, Ruleset, Snapshot]) -> None:
    """What comes in for the laptop, by every link."""
    bench, table, _ = loaded
    local = [packet for packet in ARRIVING if packet.daddr != ip_address("224.0.0.251")]  # a group that nobody joined
    numbered = _numbered(replace(packet, iif=device) for packet in local for device in IN_BY)
    expected = {number for number, sent in numbered.items() if comes_in(table, sent, NOW).passes}

    _compare(expected, _in(bench, numbered, Hook.INPUT), numbered)
    assert 0 < len(expected) < len(numbered)


def test_answers(bench: Bench) -> None:
    """Answers come in whatever the phase, but for the tunnel's own address by another link."""
    answers = dict.fromkeys(
        replace(packet, flow=Flow.REPLY)
        for packet in ARRIVING
        if packet.ct is Conntrack.ESTABLISHED and packet.l4 is L4.UDP
    )
    numbered = dict(enumerate((replace(packet, iif=device) for packet in answers for device in (WLAN, TUNNEL)), 1))
    for name, situation in SITUATIONS.items():
        world = situation.world()
        table = _table(world, time.time())
        bench.watch(Hook.INPUT)
        for answer in numbered.values():  # the questions, while nothing is in the way
            question = replace(answer, saddr=answer.daddr, daddr=answer.saddr, sport=answer.dport, dport=answer.sport)
            bench.send(replace(question, iif=None, oif=answer.iif, ct=None), 65000)
        bench.nft.run(render(table, NOW))
        expected = {number for number, answer in numbered.items() if comes_in(table, answer, NOW).passes}

        _compare(expected, _in(bench, numbered, Hook.INPUT), numbered)
        assert expected, name
        bench.nft.run("flush ruleset")


def test_answers_to_what_filters_let_in(bench: Bench) -> None:
    """They go out by the tunnel, and what looks like one without a question does not."""
    table = _table(_situation("one tunnel, filtered by what comes in", *_QUIET).world(), time.time())
    bench.nft.run(render(table, NOW))
    questions = [
        packet(to, L4.UDP, port, saddr=ip_address(source), iif=TUNNEL)
        for to, sources in ((str(TUNNEL_ADDRESS4), ("203.0.113.80", "9.9.9.9")), ("fd64::2", ("2001:db8:80::80",)))
        for source, port in itertools.product(sources, (53, 4000))
    ]
    bench.watch(Hook.INPUT)
    for number, question in enumerate(questions[::2], 1):
        bench.inject(question, number)
    came_in = {number for number, question in enumerate(questions[::2], 1) if comes_in(table, question, NOW).passes}
    assert _noted(bench, dict(enumerate(questions[::2], 1))) == came_in == {1, 2}

    ways = [
        replace(q, iif=None, oif=TUNNEL, saddr=q.daddr, daddr=q.saddr, sport=q.dport, dport=q.sport) for q in questions
    ]
    asked = {question for number, question in enumerate(questions[::2], 1) if number in came_in}
    states = [
        replace(sent, ct=Conntrack.ESTABLISHED, flow=Flow.REPLY) if question in asked else sent
        for question, sent in zip(questions, ways, strict=True)
    ]
    numbered = dict(enumerate(states, 1))
    expected = {number for number, sent in numbered.items() if leaves(table, sent, sent, NOW).passes}

    assert expected == {1, 3}
    _compare(expected, _out(bench, numbered), numbered)
    bench.nft.run("flush ruleset")


THROUGH_BY: Final = (DOCKER, WLAN, ETH, TUNNEL)


def test_forwarded(loaded: tuple[Bench, Ruleset, Snapshot]) -> None:
    """What goes through the laptop, from every link to every link."""
    bench, table, _ = loaded
    bench.here.run("sh", "-ec", "echo 1 | tee /proc/sys/net/ipv4/ip_forward")
    routable = [p for p in THROUGH if isinstance(p.daddr, IPv4Address) and p.daddr != BROADCAST and not p.mark]
    # For us, or (RFC 1812 section 5.3.7) from us and yet from outside: nothing of that is ever forwarded.
    routable = [p for p in routable if not {TUNNEL_ADDRESS4, ADDRESS_M4} & {p.saddr, p.daddr}]
    for oif in THROUGH_BY:
        bench.here.ip(f"route replace default dev {oif.name} table 77")
        bench.here.ip("rule add pref 5 lookup 77")
        by = [replace(p, iif=iif, oif=oif) for p in routable for iif in THROUGH_BY]
        numbered = _numbered(by)
        expected = {number for number, sent in numbered.items() if is_forwarded(table, sent, NOW).passes}

        _compare(expected, _in(bench, numbered, Hook.POSTROUTING), numbered)
        bench.here.ip("rule del pref 5")


@pytest.mark.parametrize("ago_s", [300, 0], ids=["over on the wall", "open"])
def test_a_table_that_comes_late(bench: Bench, ago_s: int) -> None:
    """A window whose set the kernel got minutes late is over when the clock on the wall says so."""
    now = time.time()
    table = _table(SITUATIONS["everything"].world(), now - ago_s)
    numbered = _numbered(replace(sent, oif=WLAN, wall=now) for sent in LEAVING)
    expected = {number for number, sent in numbered.items() if leaves(table, sent, sent, NOW).passes}
    bench.nft.run(render(table, NOW))

    _compare(expected, _out(bench, numbered), numbered)
    bench.nft.run("flush ruleset")


def test_fragments_are_judged_whole(bench: Bench) -> None:
    """A name is not asked in pieces: fragments without ports are put together before a rule looks at them."""
    world = SITUATIONS["temporary access"].world()
    table = _table(world, time.time())
    probes = [packet(to, L4.UDP, port, oif=WLAN) for to in ("9.9.9.9", "2620:fe::fe") for port in (53, 443)]
    numbered = dict(enumerate(probes, 1))
    expected = {number for number, probe in numbered.items() if probe.dport == 443}
    bench.nft.run(render(table, NOW))
    bench.watch(None)
    for number, probe in numbered.items():
        for fragment in fragments(probe, number):
            bench.send_data(probe, fragment)

    _compare(expected, _noted(bench, numbered), numbered)
    bench.nft.run("flush ruleset")

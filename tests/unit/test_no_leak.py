# SPDX-License-Identifier: GPL-3.0-or-later
"""No leak and no dead end: in every situation of a small world, every packet of a catalogue, both readings agree.

One reading is the product: `decide`, its compiled table, and behind it the guard's. The other is docs/security.md, read
a second time (`spec`). Agreement is asked in both directions, so a ruleset that blocks too much fails as well.

There are tens of thousands of situations, twenty links and hundreds of packets, but far fewer that anybody tells apart:
everything is computed once per distinct table and reading, per links that neither of them tells apart, and per packets
that no rule of the table tells apart (the page is asked about every packet).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import ip_address
from itertools import chain, product
from typing import Final

import pytest

from aovpnd import names
from aovpnd.core import decide as deciding
from aovpnd.core import firewall
from aovpnd.guard import rules
from aovpnd.links import Link, is_tunnel_shaped
from aovpnd.model import GuardState, Phase
from aovpnd.ruleset import L4, Chain, Device, Framing, Hook, Match, Origin, Owner, Protocol, Rule, Ruleset, Verdict
from aovpnd.trace import Packet, verdict
from tests.unit import spec
from tests.unit.packets import ARRIVING, DEVICES, EVERYBODY4, LEAVING, THROUGH, by_link, packet
from tests.unit.small_companions import Accompanied, accompanied, few_accompanied
from tests.unit.small_users import divided, few_divided
from tests.unit.small_world import (
    ENDPOINT4,
    GATEWAY4,
    GATEWAY6,
    GATEWAY_2,
    NOW,
    TUNNEL_ADDRESS4,
    Situation,
    few_situations,
    sampled,
    situations,
)
from tests.unit.spec import Reading, Way
from tests.unit.spec_setup import raw_allowed

MOMENTS: Final = (NOW, NOW + 179.9, NOW + 180.0, NOW + 9999.0)
"""When packets are sent, after a table that was compiled ``NOW``: a grant of 180 s ends in between."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What our tables do to a packet: whether it passes, and the mark that it has then."""

    passes: bool
    mark: int = 0


BLOCKED: Final = Fate(passes=False)


def leaves(table: Ruleset | None, sent: Packet, left: Packet, at: float) -> Fate:
    """The fate of a packet that was ``sent``; ``left`` is the same behind other programs' hooks."""
    if table is None:
        return Fate(passes=True)
    said, _ = verdict(table, Hook.OUTPUT, sent, at)
    return _last_look(table, left, at) if said is Verdict.ACCEPT else BLOCKED


def _last_look(table: Ruleset, packet: Packet, at: float) -> Fate:
    said, mark = verdict(table, Hook.POSTROUTING, packet, at)
    return Fate(passes=True, mark=mark) if said is Verdict.ACCEPT else BLOCKED


def comes_in(table: Ruleset | None, packet: Packet, at: float) -> Fate:
    """The fate of a packet for this machine, and the mark that prerouting gave it."""
    if table is None:
        return Fate(passes=True)
    said, mark = verdict(table, Hook.PREROUTING, packet, at)
    if said is not Verdict.ACCEPT:
        return replace(BLOCKED, mark=mark)
    said, _ = verdict(table, Hook.INPUT, replace(packet, mark=mark), at)
    return Fate(said is Verdict.ACCEPT, mark)


def is_forwarded(table: Ruleset | None, packet: Packet, at: float) -> Fate:
    """The fate of a packet that comes in by one link and leaves by another."""
    if table is None:
        return Fate(passes=True)
    said, mark = verdict(table, Hook.PREROUTING, packet, at)
    if said is not Verdict.ACCEPT:
        return BLOCKED
    packet = replace(packet, mark=mark)
    said, _ = verdict(table, Hook.FORWARD, packet, at)
    return _last_look(table, packet, at) if said is Verdict.ACCEPT else BLOCKED


# -- every situation --------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Answers:
    """All different pairs of the two readings, and all different links with what is inside, each with where it was."""

    tables: dict[tuple[Ruleset | None, Reading], Situation | Accompanied]
    links: dict[tuple[tuple[Link, ...], frozenset[Device]], tuple[spec.World, Situation | Accompanied]]


def _answers(found: Iterable[Situation | Accompanied]) -> Answers:
    answers = Answers({}, {})
    for situation in found:
        world = situation.world()
        desired = deciding.decide(world.config, world.intent, world.snapshot)
        reading = spec.read(world)
        is_tunnel = reading.phase is spec.Phase.TUNNEL
        phases = {Phase.CONNECTING, Phase.CONNECTED, Phase.RESTING} if is_tunnel else {Phase(reading.phase.value)}
        assert desired.phase in phases, situation
        assert (desired.guard is GuardState.HELD) is (desired.ruleset is not None), situation
        if reading.phase is not spec.Phase.UNBLOCKED:  # the other phases differ by their permits alone
            reading = replace(reading, phase=spec.Phase.TUNNEL)
        answers.tables.setdefault((desired.ruleset, reading), situation)
        answers.links.setdefault((world.snapshot.links, reading.tunnels), (world, situation))
    return answers


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(lambda: chain(few_situations(), few_accompanied(), few_divided()), id="few"),
        pytest.param(
            lambda: chain(sampled(situations(), 251), sampled(accompanied(), 127), sampled(divided(), 127)),
            id="many",
            marks=pytest.mark.slow,
        ),
    ],
)
def answers(request: pytest.FixtureRequest) -> Iterator[Answers]:
    """Computed once for all tests here; so is the table of equal permits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(firewall, "compile", cache(firewall.compile))
        yield _answers(request.param())


def test_what_leaves(answers: Answers) -> None:
    """A packet leaves when the page says so and only then, with the stamp when it leaves by an outside link."""
    for (table, reading), situation in answers.tables.items():
        moments = MOMENTS if reading.grant is not None or reading.look_up is not None else MOMENTS[:1]
        for device, same, at in product(_classes(table, reading), _same(table, LEAVING), moments):
            packets = by_link(LEAVING, None, device)
            first = packets[same[0]]
            fate = leaves(table, first, first, at)
            stamp = fate.mark & names.STAMP
            assert table is None or not fate.passes or fate.mark == first.mark & ~names.STAMP | stamp
            for sent in (packets[number] for number in same):
                assert fate.passes is spec.allowed(reading, sent, Way.OUT, at), (situation, sent, at)
                if fate.passes and table is not None:
                    assert bool(stamp) is spec.stamped(reading, sent, at), (situation, sent, at)


def test_what_comes_in(answers: Answers) -> None:
    """A packet comes in when the page says so and only then; what an endpoint or an asked resolver sent carries our
    mark, and only that.
    """
    for (table, reading), situation in answers.tables.items():
        for device, same in product(_classes(table, reading), _same(table, ARRIVING)):
            packets = by_link(ARRIVING, device, None)
            for at in MOMENTS[: 3 if reading.look_up is not None else 1]:
                fate = comes_in(table, packets[same[0]], at)
                for sent in (packets[number] for number in same):
                    assert fate.passes is spec.allowed(reading, sent, Way.IN, at), (situation, sent)
                    ours = spec.from_endpoint(reading, sent) or spec.from_resolver(reading, sent, at)
                    assert fate.mark == (names.FWMARK if ours else 0), (situation, sent)


def test_what_is_forwarded(answers: Answers) -> None:
    """Guests are as tight as we are: into the tunnel, between each other, and nowhere else."""
    for (table, reading), situation in answers.tables.items():
        devices = _classes(table, reading)
        for iif, oif, same in product(devices, devices, _same(table, THROUGH)):
            packets = by_link(THROUGH, iif, oif)
            fate = is_forwarded(table, packets[same[0]], NOW)
            for sent in (packets[number] for number in same):
                assert fate.passes is spec.allowed(reading, sent, Way.FORWARD, NOW), (situation, sent)


def test_what_becomes_esp(answers: Answers) -> None:
    """An inner packet that the kernel is about to transform for a gateway of ours goes on, stamped, by whatever link;
    for anybody else's gateway it is what it seems to be, and at output nothing changes.
    """
    sources = (TUNNEL_ADDRESS4, ip_address("10.9.9.9"))
    plain = tuple(packet(EVERYBODY4, L4.TCP, 443, saddr=source) for source in sources)
    gateways = (GATEWAY4.addr, GATEWAY6.addr, GATEWAY_2.addr, ENDPOINT4.addr, ip_address("198.51.100.99"))
    for (table, reading), situation in answers.tables.items():
        for device, clear, gateway in product(_classes(table, reading), plain, gateways):
            bare = replace(clear, oif=device)
            shown = replace(bare, sa=gateway)
            assert leaves(table, shown, shown, NOW).passes is spec.allowed(reading, bare, Way.OUT, NOW)
            if table is None:
                continue
            fate = _last_look(table, shown, NOW)
            assert fate.passes is (spec.is_transformed(reading, shown) or _last_look(table, bare, NOW).passes), (
                situation,
                shown,
            )
            if fate.passes and spec.is_transformed(reading, shown):
                assert fate.mark & names.STAMP, (situation, shown)


def _classes(table: Ruleset | None, reading: Reading) -> list[Device]:
    """One link of each kind that table and reading tell apart at all."""
    found: dict[tuple[object, ...], Device] = {}
    for device in DEVICES:
        by_table = tuple(name.matches(device) for name in _named(table))
        by_reading = (
            (device.index, device.name) == (1, "lo"),
            device in reading.tunnels,
            device in reading.bridges,
            device == reading.grant,
            device == reading.look_up,
            tuple(device == each.device for each in reading.companions),
            tuple(device == each.device for each in reading.whose),
            tuple(device == uplink for uplink, _ in (*reading.lan, *reading.excluded)),
        )
        found.setdefault((by_table, by_reading), device)
    return list(found.values())


@cache
def _named(table: Ruleset | None) -> frozenset[Device]:
    """Every way in which a table names links."""
    if table is None:
        return frozenset()
    matches = [rule.match for chain in table.chains for rule in chain.rules]
    elements = [element.device for links in table.sets for element in links.elements]
    return frozenset(device for device in (*elements, *(d for m in matches for d in (m.iif, m.oif))) if device)


@cache
def _same(table: Ruleset | None, packets: tuple[Packet, ...]) -> list[list[int]]:
    """Numbers of packets, in groups of those that carry the same mark and that no rule tells apart, links aside; nor by
    the mark, which rules before it may have changed.
    """
    columns = []
    if table is not None:
        matches = (rule.match for chain in table.chains for rule in chain.rules)
        headers = {replace(match, iif=None, oif=None, iif_in=None, oif_in=None, mark=None) for match in matches}
        columns = [_column(header, packets) for header in headers]
    groups: dict[tuple[object, ...], list[int]] = {}
    for number, one in enumerate(packets):
        groups.setdefault((one.mark, *(column[number] for column in columns)), []).append(number)
    return list(groups.values())


@cache
def _column(header: Match, packets: tuple[Packet, ...]) -> list[bool]:
    """Which packets a rule with this match, and nothing else, would accept."""
    accept, drop = Rule(header, Verdict.ACCEPT, "asked"), Rule(Match(), Verdict.DROP, "end")
    table = Ruleset("inet", "asked", (Chain("asked", (accept, drop), Hook.OUTPUT),))
    return [verdict(table, Hook.OUTPUT, packet)[0] is Verdict.ACCEPT for packet in packets]


# -- behind our first look ---------------------------------------------------------------------------------------------
REROUTED: Final = (
    packet(EVERYBODY4, L4.TCP, 443),
    packet("9.9.9.9", L4.UDP, 53),
    packet("192.168.1.7", L4.TCP, 445),
    packet(str(ENDPOINT4.addr), L4.UDP, ENDPOINT4.port),
    packet("255.255.255.255", L4.UDP, 67, sport=68),
)


def test_what_other_programs_change(answers: Answers) -> None:
    """A packet that another program marks anew or sends by another link, behind our first look, is judged once more."""
    for (table, reading), situation in answers.tables.items():
        devices = _classes(table, reading) if reading.tunnels else []
        for sent_by, left_by, mark, plain in product(devices, devices, (names.FWMARK, names.STAMP), REROUTED):
            sent, left = replace(plain, oif=sent_by), replace(plain, oif=left_by, mark=mark)
            expected = spec.allowed(reading, sent, Way.OUT, NOW) and spec.allowed(reading, left, Way.AGAIN, NOW)

            assert leaves(table, sent, left, NOW).passes is expected, (situation, sent, left)


# -- the guard ---------------------------------------------------------------------------------------------------------
FRAMES: Final = (
    *LEAVING,
    Packet(protocol=Protocol.ARP),
    Packet(protocol=Protocol.EAPOL),
    Packet(protocol=Protocol.ARP, mark=names.STAMP),
    *(
        Packet(protocol=claim, frame=frame, tagged=tagged, mark=mark, framing=framing, origin=origin)
        for claim, frame, tagged, mark, framing, origin in product(
            (Protocol.IP, Protocol.IP6, Protocol.ARP, Protocol.EAPOL, Protocol.VLAN),
            (Protocol.IP, Protocol.IP6, Protocol.ARP, Protocol.EAPOL, Protocol.VLAN),
            (None, Protocol.IP, Protocol.ARP),
            (0, names.STAMP, names.FWMARK),
            (Framing.ETHERNET,),
            Origin,
        )
    ),
    *(replace(sent, mark=names.STAMP, origin=Origin.FRAMED) for sent in LEAVING),
    *(
        replace(sent, frame=frame, tagged=tagged)
        for sent in LEAVING
        if sent.dport in {67, 547} or sent.icmp_type in {133, 135, 136}
        for frame in (Protocol.IP, Protocol.IP6, Protocol.ARP, Protocol.VLAN)
        for tagged in (None, Protocol.IP, Protocol.IP6)
    ),
    *(Packet(protocol=Protocol.IP, mark=mark, framing=Framing.OTHER) for mark in (0, names.STAMP)),
)
_PPPOE: Final = (Protocol.PPPOE_DISCOVERY, Protocol.PPPOE_SESSION)
OVER_ETHERNET: Final = tuple(
    Packet(protocol=claim, frame=frame, tagged=tagged, mark=mark, owner=owner, ppp=ppp)
    for claim, frame, tagged, mark, owner, ppp in product(
        _PPPOE,
        (None, *_PPPOE, Protocol.VLAN, Protocol.IP),
        (None, *_PPPOE, Protocol.IP),
        (0, names.STAMP),
        (None, *Owner),
        (0x0021, 0x0057, 0x0031, 0x8021, 0x80FD, 0xC021),
    )
)


def test_guard_lets_out_what_the_table_lets_out(answers: Answers) -> None:
    """What is stamped passes the guard on every link; so does what needs no stamp, on the links that need none."""
    for (links, tunnels), (world, situation) in answers.links.items():
        last_look, egress = _guard(links)
        for link in links:
            device = spec.device_of(link)
            inside = device in tunnels or not spec.is_outside(world, link)
            for sent in (packet(EVERYBODY4, L4.TCP, 443), packet("fe80::7", L4.UDP, 547)):
                for mark in (0, names.STAMP):
                    left = replace(sent, oif=device, mark=mark)
                    said = [verdict(last_look, Hook.POSTROUTING, left)[0], verdict(egress, Hook.EGRESS, left)[0]]
                    if inside or mark or not is_tunnel_shaped(link):  # the guard knows no keys
                        assert (set(said) == {Verdict.ACCEPT}) is bool(inside or mark), (situation, left)


def test_guard_alone_lets_nothing_out(answers: Answers) -> None:
    """Without the dynamic table, after a foreign flush, nothing that a socket of ours sends leaves: not even DHCP, and
    not if it sets the stamp itself.
    """
    outside = [Device(2, "wlan0"), Device(12, "aovpn9", "dummy"), Device(9, "aovpn0", "dummy"), Device(99, "usb0")]
    assert names.PRIORITY_UNSTAMP < names.PRIORITY_LAST_LOOK < names.PRIORITY_GUARD
    for table in {rules.inet_table(rules.inside(links)) for links, _ in answers.links}:
        for device, sent in product(outside, LEAVING):
            assert verdict(table, Hook.POSTROUTING, replace(sent, oif=device))[0] is Verdict.DROP


def test_guard_stops_what_passes_no_other_hook(answers: Answers) -> None:
    """Packet sockets, macvlan and bridged guests get out of an outside link what the page names, and no more."""
    asked = set[tuple[Device, bool, tuple[Chain, ...]]]()
    for links, (world, situation) in {links: where for (links, _), where in answers.links.items()}.items():
        egress = _guard(links)[1]
        for link in links:
            outside = spec.is_outside(world, link) and not is_tunnel_shaped(link)
            chains = tuple(chain for chain in egress.chains if chain.device in {None, link.name})
            if (key := (spec.device_of(link), outside, chains)) in asked:
                continue  # what other links there are makes no difference to this one
            asked.add(key)
            for frame in (replace(frame, oif=spec.device_of(link)) for frame in FRAMES):
                passes = verdict(egress, Hook.EGRESS, frame)[0] is Verdict.ACCEPT
                assert passes is raw_allowed(frame, outside=outside), (situation, frame)


@pytest.mark.parametrize("above", [(), ("vlan",), ("ppp",), ("vlan", "ppp")], ids=" and ".join)
def test_what_links_hand_to_others(above: tuple[str, ...]) -> None:
    """Where there is a VLAN or a PPP link, and nowhere else, an Ethernet link lets out what these have put around what
    was judged, and what PPP itself has to say; all are asked anew when one comes.
    """
    links = (Link(1, "lo", arphrd=772), Link(2, "eth0"))
    layered = (*links, *(Link(20 + number, f"up{number}", kind, arphrd=512) for number, kind in enumerate(above)))
    egress = rules.egress_table(layered)
    for frame in (replace(frame, oif=Device(2, "eth0")) for frame in (*FRAMES, *OVER_ETHERNET)):
        passes = verdict(egress, Hook.EGRESS, frame)[0] is Verdict.ACCEPT
        assert passes is raw_allowed(frame, outside=True, above=above), frame
    assert (rules.attached(links)[0][0] == rules.attached(layered)[0][0]) is (not above)


def test_early_boot_believes_no_stamp() -> None:
    """Until the daemon has started nothing needs it: the page's exceptions leave, and nobody else, stamped or not."""
    card = Link(2, "wlan0")
    early = Ruleset("netdev", names.EARLY_TABLE, (rules.OUTSIDE, rules.link_chain(card, names.OUTSIDE_CHAIN)))
    for frame in (replace(frame, oif=spec.device_of(card)) for frame in (*FRAMES, *OVER_ETHERNET)):
        passes = verdict(early, Hook.EGRESS, frame)[0] is Verdict.ACCEPT
        assert passes is raw_allowed(replace(frame, mark=0), outside=True), frame


@pytest.mark.parametrize("kind", ["bond", "team", "bridge", "vrf", ""])
def test_ports_of_a_bond_ask_for_no_route(kind: str) -> None:
    """What a bond sends has lost its route before it comes to a port (IFF_XMIT_DST_RELEASE), so there the stamp alone
    counts; everywhere else the route does, too, on the bond itself as well.
    """
    links = (Link(2, "eth0", master=4), Link(3, "eth1"), Link(4, "bond0", kind))
    egress = rules.egress_table(links)
    for link in links:
        stamped = packet(EVERYBODY4, L4.TCP, 443, mark=names.STAMP, oif=spec.device_of(link))
        port = link.index == 2 and kind in {"bond", "team"}
        for origin, passes in ((Origin.ROUTED, True), (Origin.FRAMED, port)):
            said, _ = verdict(egress, Hook.EGRESS, replace(stamped, origin=origin))
            assert (said is Verdict.ACCEPT) is passes, (link, origin)
        assert verdict(egress, Hook.EGRESS, replace(stamped, mark=0))[0] is Verdict.DROP
    enslaved = rules.attached(links) != rules.attached((*links[1:], replace(links[0], master=0)))
    assert enslaved or kind not in {"bond", "team"}


@cache
def _guard(links: tuple[Link, ...]) -> tuple[Ruleset, Ruleset]:
    return rules.last_look(rules.inside(links)), rules.egress_table(links)


# -- the test itself ---------------------------------------------------------------------------------------------------
def test_every_packet_passes_somewhere(answers: Answers) -> None:
    """The small world is not empty: each way, each permit and each phase is there, and both answers occur."""
    readings = [reading for table, reading in answers.tables if table is not None]

    assert len(readings) > 30
    assert any(table is None for table, _ in answers.tables)
    for word in (
        "tunnels",
        "endpoints",
        "bridges",
        "near",
        "grant",
        "resolvers",
        "look_up",
        "look_up_by_tls",
        "lan",
        "excluded",
        "excluded_from_it",
        "unfit",
        "tunnel_addresses",
        "filters",
        "companions",
        "whose",
        "here",
    ):
        assert {bool(getattr(reading, word)) for reading in readings} == {True, False}, word
    assert {len(reading.lan) for reading in readings} >= {0, 2}

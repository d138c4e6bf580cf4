# SPDX-License-Identifier: GPL-3.0-or-later
"""What was seen, whole: any snapshot at all, handed to the core with any memory. It decides, and it never opens.

The judge is the second reading of docs/security.md (`tests.unit.spec`): what our tables let through, it must allow.
"""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from random import Random
from typing import Any, Final

from aovpnd import names, status
from aovpnd.clock import Clock
from aovpnd.core import answers
from aovpnd.core.decide import decide
from aovpnd.core.intent import settle
from aovpnd.core.picture import Picture
from aovpnd.core.plan import diff
from aovpnd.dns import Dns, DnsState
from aovpnd.links import Link, is_tunnel_shaped
from aovpnd.model import Block, Copies, GuardState, Lan, PeerState, Snapshot, TunnelState, Wish
from aovpnd.orders import Explain
from aovpnd.render import render
from aovpnd.repairs import Failure
from aovpnd.routes import LinkAddress, Route
from tests.fuzz import judge
from tests.fuzz.netlink import judge_nft
from tests.fuzz.target import Target
from tests.unit import spec
from tests.unit.packets import ARRIVING, DEVICES, LEAVING, THROUGH
from tests.unit.small_companions import Accompanied, few_accompanied
from tests.unit.small_users import few_divided
from tests.unit.small_world import HOME, WORK, Situation, few_situations, state_of
from tests.unit.spec import Way, World
from tests.unit.test_no_leak import comes_in, is_forwarded, leaves

_LINK_NAMES: Final = (
    *(
        "lo",
        "lo0",
        "wlan0",
        "wlan7",
        "eth0",
        "docker0",
        "aovpn0",
        "aovpn1",
        "aovpn9",
        "aovpn00",
        "aovpn",
        "usb0",
        "ppp0",
    ),
    *('a"b;{}', "\x1b[2J", "é", "\u202ex", "a" * 15, "flush", "$x", "x\\", "-1", "*", "..", "@if3", "br8", "veth5"),
)
_KINDS: Final = ("", "veth", "bridge", "tun", "wireguard", "dummy", "bond", "macvlan", "vlan", "ppp", "é")
_WORD: Final = re.compile(r"[a-z]*")
_INDEXES: Final = (1, 2, 3, 5, 6, 7, 9, 10, 12, 77, 2**31 - 1)
_U32: Final = (0, 1, 68, 576, 1279, 1280, 1420, 1500, 9000, 65535, 65536, 2**31, 2**32 - 1)
_PLACES: Final = (
    *(
        "0.0.0.0",
        "127.0.0.1",
        "10.0.0.1",
        "10.64.0.2",
        "192.168.1.1",
        "192.168.1.23",
        "192.0.2.1",
        "192.0.2.53",
        "224.0.0.1",
    ),
    *(
        "255.255.255.255",
        "203.0.113.80",
        "169.254.3.4",
        "100.64.0.1",
        "::",
        "::1",
        "fe80::1",
        "fd64::2",
        "2001:db8:1::1",
    ),
    *("2001:db8:e::1", "ff02::1", "::ffff:192.0.2.1", "64:ff9b::c000:201", "fd00::7", "2001:db8:80::80"),
)
_LENGTHS: Final = (0, 1, 7, 8, 12, 16, 24, 30, 31, 32, 48, 64, 96, 104, 127, 128)
_COUNTS: Final = (0, 1, 92, 148, 10**6, 2**63, 2**64 - 1)
_WALLS: Final = (None, 1, 1_699_999_990, 1_700_000_000, 1_700_000_500, 2**33, 2**63)


def _index(rng: Random, snapshot: Snapshot) -> int:
    known = [link.index for link in snapshot.links]
    return rng.choice(known) if known and rng.random() < 0.7 else rng.choice(_INDEXES)


def _link(rng: Random, snapshot: Snapshot) -> Link:
    base = rng.choice(snapshot.links) if snapshot.links and rng.random() < 0.8 else Link(rng.choice(_INDEXES), "usb0")
    changes: dict[str, Callable[[], Any]] = {
        "index": lambda: rng.choice(_INDEXES),
        "name": lambda: rng.choice(_LINK_NAMES),
        "kind": lambda: rng.choice(_KINDS),
        "arphrd": lambda: rng.choice((0, 1, 512, 772, 65534)),
        "master": lambda: rng.choice((0, base.index, _index(rng, snapshot))),
        "up": lambda: rng.random() < 0.5,
        "carrier": lambda: rng.random() < 0.5,
        "carrier_ups": lambda: rng.choice(_U32),
        "mtu": lambda: rng.choice(_U32),
    }
    return replace(base, **{name: make() for name, make in changes.items() if rng.random() < 0.25})


def _address(rng: Random, snapshot: Snapshot) -> LinkAddress:
    addr = ip_address(rng.choice(_PLACES))
    length = min(rng.choice(_LENGTHS), addr.max_prefixlen)
    return LinkAddress(_index(rng, snapshot), ip_interface(f"{addr}/{length}"))


def _route(rng: Random, snapshot: Snapshot) -> Route:
    addr = ip_address(rng.choice(_PLACES))
    length = rng.choice((0, 0, 0, *_LENGTHS))
    dst = ip_network(f"{addr}/{min(length, addr.max_prefixlen)}", strict=False)
    link = None if rng.random() < 0.1 else _index(rng, snapshot)
    gateway = ip_address(rng.choice(_PLACES)) if rng.random() < 0.7 else None
    return Route(dst, link, gateway, rng.choice(_U32), rng.choice((None, *_U32)))


def _tunnel(rng: Random, snapshot: Snapshot) -> TunnelState:
    base = rng.choice((state_of(WORK), state_of(HOME), *snapshot.tunnels))
    if rng.random() < 0.3 and snapshot.links:
        base = replace(base, link=rng.choice(snapshot.links))
    peers = tuple(
        PeerState(
            peer.public_key,
            peer.endpoint if rng.random() < 0.7 else None,
            rng.choice(_WALLS),
            rng.choice(_COUNTS),
            rng.choice(_COUNTS),
            rng.choice((0, 25, 65535)),
            rng.choice((None, *_U32)),
        )
        for peer in base.peers
    )
    changes: dict[str, Callable[[], Any]] = {
        "digest": lambda: rng.choice((None, "", WORK.digest(), HOME.digest())),
        "public_key": lambda: rng.choice((None, "x")),
        "fwmark": lambda: rng.choice((0, names.FWMARK, names.FWMARK | 1, 2**32 - 1)),
        "addresses": lambda: tuple(_address(rng, snapshot).interface for _ in range(rng.randrange(3))),
        "peers": lambda: peers[: rng.randrange(len(peers) + 1)],
        "link": lambda: _link(rng, snapshot),
    }
    base = replace(base, peers=peers)
    return replace(base, **{name: make() for name, make in changes.items() if rng.random() < 0.12})


def _changed(rng: Random, items: tuple[Any, ...], make: Callable[[], Any]) -> tuple[Any, ...]:
    """Some added, some gone, some others."""
    kept = list(items)
    for _ in range(rng.choice((1, 1, 2, 4))):
        match rng.randrange(4):
            case 0 if kept:
                kept.pop(rng.randrange(len(kept)))
            case 1 if kept:
                kept[rng.randrange(len(kept))] = make()
            case 2 if kept:
                rng.shuffle(kept)
            case _:
                kept.append(make())
    return tuple(kept)


def _snapshot(rng: Random, snapshot: Snapshot, other: Snapshot) -> Snapshot:
    changes: dict[str, Callable[[], Any]] = {
        "links": lambda: _unique(_changed(rng, snapshot.links, lambda: _link(rng, snapshot))),
        "addresses": lambda: _changed(rng, snapshot.addresses, lambda: _address(rng, snapshot)),
        "main": lambda: _changed(rng, snapshot.main, lambda: _route(rng, snapshot)),
        "tunnels": lambda: _changed(rng, snapshot.tunnels, lambda: _tunnel(rng, snapshot)),
        "resolvers": lambda: _changed(rng, snapshot.resolvers, lambda: ip_address(rng.choice(_PLACES))),
        "routing": lambda: replace(
            snapshot.routing,
            rules=rng.choice(((), (4,), (4, 6), (4, 4))),
            shut=rng.choice(((), (6,), (4, 6))),
            routes=_changed(rng, snapshot.routing.routes, lambda: _route(rng, snapshot)),
        ),
        "now": lambda: Clock(
            snapshot.now.boot + rng.choice((-900, -1, 0.5, 7, 179, 181, 4000, 1e6)),
            rng.choice((0.0, 1e9, 1.7e9, 1_699_999_995.0, 4e9)),
            rng.choice((0.0, 0.1, 30, 1e5)),
        ),
        "dns": lambda: DnsState((), Dns(_index(rng, snapshot), "aovpn0", ()), rng.choice(("", "was overwritten"))),
        "culprit": lambda: rng.choice((None, "nft[7]", "somebody")),
        "guard": lambda: rng.choice(tuple(GuardState)),
        "copies": lambda: rng.choice(tuple(Copies)),
        "table_present": lambda: rng.random() < 0.5,
        "unblocked": lambda: rng.random() < 0.5,
        "ipv6": lambda: rng.random() < 0.5,
    }
    chosen = rng.sample(sorted(changes), rng.choice((1, 1, 2, 3)))
    if rng.random() < 0.15:
        return replace(snapshot, **{name: getattr(other, name) for name in chosen})
    return replace(snapshot, **{name: changes[name]() for name in chosen})


def _unique(links: tuple[Link, ...]) -> tuple[Link, ...]:
    """As the kernel has them: no index twice, no name twice."""
    by_index = {link.index: link for link in links}
    return tuple({link.name: link for link in by_index.values()}.values())


def _coherent(snapshot: Snapshot) -> Snapshot:
    """Tunnels as the adapter has them: links of the list, with a tunnel's name and kind, each once."""
    links = {link.index: link for link in snapshot.links if is_tunnel_shaped(link)}
    states = {state.link.index: state for state in snapshot.tunnels}
    tunnels = tuple(replace(state, link=links[index]) for index, state in states.items() if index in links)
    return replace(snapshot, tunnels=tunnels)


def mutate(rng: Random, case: World, others: list[World]) -> World:
    """Another snapshot; now and then another memory or configuration."""
    other = rng.choice(others)
    world = replace(case, snapshot=_coherent(_snapshot(rng, case.snapshot, other.snapshot)))
    intent, config = world.intent, world.config
    match rng.randrange(12):
        case 0:
            return replace(world, intent=other.intent, granted_in=other.granted_in, asked_in=other.asked_in)
        case 1:
            return replace(world, config=other.config)
        case 2:
            return replace(world, config=replace(config, lan=rng.choice(tuple(Lan))))
        case 3:
            failure = Failure(rng.choice(("LoadRuleset", "EnsureTunnel", "EnsureRouting")), 3, 1e9, "x")
            return replace(world, intent=replace(intent, failures=(failure,)))
        case 4:
            wish, block = rng.choice(tuple(Wish)), rng.choice((Block.ON, Block.ON, Block.OFF))
            return replace(world, intent=replace(intent, wish=wish, block=block))
        case _:
            return world


def _decided(world: World) -> str:
    """It decides, the same way twice; what is written is fit for nft, status and journal; and nothing passes that the
    specification does not let pass.
    """
    config, snapshot = world.config, world.snapshot
    intent = settle(config, world.intent, snapshot)
    begun = intent.look_up is not world.intent.look_up
    world = replace(world, intent=intent, asked_in=snapshot if begun else world.asked_in)
    desired = decide(config, intent, snapshot)
    actions = diff(desired, snapshot)
    for problem in desired.problems:
        judge.told(f"{problem.text} ({problem.hint})", longest=2000)
    for action in actions:
        judge.told(action.describe(), longest=2000)
    picture = Picture(config, intent, snapshot, desired, actions)
    json.dumps(status.document(config, intent, snapshot, desired))
    json.dumps(answers.answer(Explain(), picture).data)
    if desired.ruleset is not None:
        judge_nft(render(desired.ruleset, snapshot.now.boot))
    _never_open(world, desired.ruleset)
    return f"{desired.phase} {len(actions)} {len(desired.problems)} {bool(desired.inquiries)}"


def _in_words(world: World) -> World:
    """The same, with a plain word for kinds of links that no packet can be told to have come by."""
    links = tuple(link if _WORD.fullmatch(link.kind) else replace(link, kind="odd") for link in world.snapshot.links)
    return replace(world, snapshot=replace(world.snapshot, links=links))


def _never_open(world: World, table: Any) -> None:
    world = _in_words(world)
    reading = spec.read(world)
    at = world.snapshot.now.boot
    rng = Random(repr(world.snapshot.links))  # the same packets for the same case
    there = [spec.device_of(link) for link in world.snapshot.links if link.nameable]
    known = {(device.index, device.name) for device in there}  # a link is of one kind at a time
    others = [device for device in rng.sample(DEVICES, 5) if (device.index, device.name) not in known]
    devices = [*there, *others]
    for device in rng.sample(devices, min(len(devices), 6)):
        for packet in rng.sample(LEAVING, 12):
            sent = replace(packet, oif=device)
            if leaves(table, sent, sent, at).passes:
                assert spec.allowed(reading, sent, Way.OUT, at), f"leaves: {sent}"
        for packet in rng.sample(ARRIVING, 6):
            sent = replace(packet, iif=device)
            if comes_in(table, sent, at).passes:
                assert spec.allowed(reading, sent, Way.IN, at), f"comes in: {sent}"
        for packet in rng.sample(THROUGH, 2):
            sent = replace(packet, iif=rng.choice(devices), oif=device)
            if is_forwarded(table, sent, at).passes:
                assert spec.allowed(reading, sent, Way.FORWARD, at), f"is forwarded: {sent}"


_SITUATIONS: Final[tuple[Situation | Accompanied, ...]] = (
    *dict.fromkeys(few_situations()),
    *few_accompanied(),
    *few_divided(),
)
_SEEDS: Final = tuple(situation.world() for situation in _SITUATIONS)
TARGETS: Final = (
    Target(
        "snapshot",
        "any snapshot, handed to the core",
        _SEEDS[::3],
        _decided,
        mutate,
        slice=250,
    ),
)

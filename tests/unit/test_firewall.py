# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of each phase as nft text that a person can read: tests/unit/golden/NAME.nft.

A changed golden file is a change of what may leave, so it is read and committed by hand. To write them anew:
``python -m tests.unit.test_firewall``.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest

from aovpnd import names
from aovpnd.core.decide import decide
from aovpnd.core.firewall import NO_STAMP
from aovpnd.core.firewall import compile as compile_permits
from aovpnd.core.permits import (
    Asks,
    Excluded,
    Facts,
    Handshake,
    HostOnly,
    Lan,
    LinkSetup,
    LookUp,
    Loopback,
    TemporaryAccess,
    Tunnel,
    TunnelAddresses,
    Window,
    permits,
)
from aovpnd.guard import rules
from aovpnd.links import Link, is_tunnel_shaped
from aovpnd.model import Config, Intent, Phase, Snapshot
from aovpnd.model import Lan as LanPolicy
from aovpnd.render import render
from aovpnd.ruleset import L4, Conntrack, Device, Element, Flow, Hook, Ruleset, Verdict
from aovpnd.static_files import static_files
from aovpnd.trace import Packet, verdict
from tests.unit.packets import packet
from tests.unit.small_companions import base_of
from tests.unit.small_users import Divided
from tests.unit.small_world import (
    DOCKER,
    ENDPOINT4,
    HOME,
    NOW,
    RESOLVER4,
    TUNNEL_ADDRESS4,
    VETH,
    WORK,
    Situation,
    excluding_situations,
    filtered,
    filtered_situations,
    main_situations,
)
from tests.unit.test_decide import DOCKERED, HOME_NET, NO_NET, ONE, OPEN, SHAKEN, SHOOK

GOLDEN: Final = Path(__file__).parent / "golden"


def _table(config: Config, intent: Intent, snapshot: Snapshot) -> str:
    desired = decide(config, intent, snapshot)
    assert desired.ruleset is not None
    return render(desired.ruleset, NOW)


def _divided() -> str:
    world = Divided(base_of(LanPolicy.BLOCK, "none", "private"), "bob never, alice alone", "both").world()
    return _table(world.config, world.intent, world.snapshot)


def _everything() -> str:
    """Every permit at once, on a world that has everything."""
    wish = Situation("one tunnel", LanPolicy.ALLOW, "alive", "two", "up", "two bridges, one enslaved", "given", "runs")
    world = wish.world()
    return _table(world.config, world.intent, world.snapshot)


@dataclass(frozen=True, slots=True)
class Golden:
    """A file: what it shows, in words, and how it is made."""

    shows: str
    text: Callable[[], str]

    def whole(self) -> str:
        """The file."""
        return f"# SPDX-License-Identifier: GPL-3.0-or-later\n# {self.shows}\n{self.text()}"


FILES: Final = {
    "blocked": Golden("Nothing configured, on some network.", lambda: _table(Config(), Intent(), HOME_NET)),
    "offline": Golden("A tunnel is chosen, no network is there.", lambda: _table(ONE, Intent(), NO_NET)),
    "connecting": Golden("A network is there, no link yet.", lambda: _table(ONE, Intent(), HOME_NET)),
    "connected": Golden("The tunnel is up.", lambda: _table(ONE, SHOOK, SHAKEN)),
    "connecting_by_port_53": Golden(
        "The gateway listens on the port of DNS, which only handshakes reach.",
        lambda: _table(Config((HOME,)), Intent(), HOME_NET),
    ),
    "temporary_access": Golden(
        "Temporary access, 160 of 180 s left, no tunnel configured.", lambda: _table(Config(), OPEN, HOME_NET)
    ),
    "lan": Golden(
        "The configuration allows the local network.", lambda: _table(Config(lan=LanPolicy.ALLOW), Intent(), HOME_NET)
    ),
    "host_only": Golden("Docker's bridge is there.", lambda: _table(Config(), Intent(), DOCKERED)),
    "filtered": Golden(
        "The tunnel is up, and has filters; Docker's bridge is there.",
        lambda: _table(filtered(ONE, WORK.name), SHOOK, replace(SHAKEN, links=(*SHAKEN.links, DOCKER, VETH))),
    ),
    "users": Golden("A tunnel for everybody but bob, and one for alice alone; Docker's bridge is there.", _divided),
    "everything": Golden("Every permit at once, two uplinks, two bridges.", _everything),
    "guard": Golden("The guard's tables, with Docker's bridge and two cards.", lambda: rules.whole(DOCKERED.links)),
    "guard_layered": Golden(
        "The guard's tables, with a VLAN and PPP over Ethernet.",
        lambda: rules.whole((*HOME_NET.links, Link(20, "office", "vlan"), Link(21, "ppp0", "ppp", arphrd=512))),
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_golden(name: str) -> None:
    """The compiled table is, to the letter, the one that was read and committed."""
    assert FILES[name].whole() == (GOLDEN / f"{name}.nft").read_text(encoding="utf-8")


def test_golden_files_are_all_ours() -> None:
    """No file is left over from a situation that is no longer compiled."""
    assert {path.stem for path in GOLDEN.glob("*.nft")} == set(FILES)


def test_early_boot_is_the_phase_blocked() -> None:
    """Early boot loads what the daemon will load when nothing is configured, to the letter."""
    lockdown = static_files()["lockdown.nft"]

    assert lockdown.endswith(FILES["blocked"].text())


# -- permits -----------------------------------------------------------------------------------------------------------
FULL: Final = Facts(
    endpoints=(ENDPOINT4,),
    addresses=(TUNNEL_ADDRESS4,),
    tunnel=Tunnel(Device(9, "aovpn0", "wireguard")),
    look_up=LookUp(Device(2, "wlan0"), (RESOLVER4,), Asks.PLAIN, Window(NOW, NOW + 8, 1_700_000_008)),
    access=TemporaryAccess(Device(2, "wlan0"), (RESOLVER4,), Window(NOW, NOW + 60, 1_700_000_060)),
    host_only=(HostOnly(Device(5, "docker0")),),
    beside=(Lan(Device(2, "wlan0"), ()), Excluded(Device(2, "wlan0"), ())),
)
TABLE: Final = {
    Phase.BLOCKED: {Loopback, LinkSetup, HostOnly, Lan, Excluded, LookUp},  # for a companion alone: nobody else asks
    Phase.OFFLINE: {Loopback, LinkSetup, HostOnly, Lan, Excluded, Handshake, Tunnel, TunnelAddresses},
    Phase.CONNECTING: {Loopback, LinkSetup, HostOnly, Lan, Excluded, Handshake, LookUp, Tunnel, TunnelAddresses},
    Phase.CONNECTED: {Loopback, LinkSetup, HostOnly, Lan, Excluded, Handshake, LookUp, Tunnel, TunnelAddresses},
    Phase.RESTING: {Loopback, LinkSetup, HostOnly, Lan, Excluded, Handshake, LookUp, Tunnel, TunnelAddresses},
    Phase.TEMPORARY_ACCESS: {
        *{Loopback, LinkSetup, HostOnly, Lan, Excluded},
        *{Handshake, LookUp, Tunnel, TunnelAddresses, TemporaryAccess},
    },
}
"""Phase × permit, as in docs/security.md."""


@pytest.mark.parametrize("phase", Phase)
def test_permits_of_a_phase(phase: Phase) -> None:
    """Each phase has just the permits of the page, however much there is to permit; unblocked has no table to ask."""
    if phase is Phase.UNBLOCKED:
        with pytest.raises(ValueError, match="no table"):
            permits(phase, FULL)
        return

    assert {type(permit) for permit in permits(phase, FULL)} == TABLE[phase]
    assert permits(phase, Facts()) == (Loopback(), LinkSetup())


def test_order_of_permits_does_not_matter() -> None:
    """The tiers have one order that nobody writes by hand."""
    given = permits(Phase.TEMPORARY_ACCESS, FULL)

    assert compile_permits(tuple(reversed(given))).chains == compile_permits(given).chains


# -- the shape of every table ------------------------------------------------------------------------------------------
def tables() -> set[Ruleset]:
    """Every table of the small world."""
    situations = itertools.chain(main_situations(), filtered_situations(), excluding_situations())
    worlds = (situation.world() for situation in situations if situation.tunnel in {"absent", "up"})
    found = {decide(world.config, world.intent, world.snapshot).ruleset for world in worlds}
    return {table for table in found if table is not None}


@pytest.mark.slow
def test_shape_of_every_table() -> None:
    """What makes a leak unlikely whatever the rules say: an explicit end, and no conntrack for what leaves."""
    for table in tables():
        assert [chain.hook for chain in table.chains] == [
            Hook.PREROUTING,
            Hook.INPUT,
            Hook.FORWARD,
            Hook.OUTPUT,
            Hook.POSTROUTING,
        ]
        for chain in table.chains[1:]:
            end = chain.rules[-1]
            assert end.verdict in {Verdict.DROP, Verdict.REJECT}
            assert end.match == type(end.match)()
            assert all(rule.match != end.match or rule.verdict is Verdict.CONTINUE for rule in chain.rules[:-1])
        for rule in (rule for chain in table.chains[3:] for rule in chain.rules if rule.match.ct):
            assert rule.match.oif is not None, "answers to what a filter lets in, by the tunnel's link alone"
            assert is_tunnel_shaped(Link(rule.match.oif.index or 0, rule.match.oif.name or "", "wireguard"))
            assert (rule.match.ct, rule.match.flow) == ((Conntrack.ESTABLISHED,), Flow.REPLY)
        assert not any(rule.verdict is Verdict.REJECT for rule in table.chain("postrouting").rules)
        # But where it notes whose a packet is that goes into a tunnel; the last look clears that before it judges.
        marking = [rule for rule in table.chain("output").rules if rule.set_mark]
        assert all(rule.verdict is Verdict.CONTINUE and rule.match.oif is not None for rule in marking)
        assert not marking or any(rule.match.owner is not None for rule in marking)
        assert table.chain("postrouting").rules[0].set_mark == NO_STAMP
        for rule in table.chain("forward").rules[:-1]:
            assert rule.match.iif is not None
            assert rule.match.oif is not None
            assert rule.match.ct in {(), (Conntrack.ESTABLISHED, Conntrack.RELATED)}


@pytest.mark.parametrize("hook", [Hook.OUTPUT, Hook.POSTROUTING])
@pytest.mark.parametrize(
    ("sent", "ends"),
    [
        pytest.param(packet("198.51.100.7", L4.TCP, 443, oif=Device(2, "wlan0")), 1_700_000_060, id="window"),
        pytest.param(packet(str(RESOLVER4), L4.UDP, 53, oif=Device(2, "wlan0")), 1_700_000_060, id="window, names"),
        pytest.param(
            packet(str(RESOLVER4), L4.UDP, 53, oif=Device(2, "wlan0"), mark=names.FWMARK), 1_700_000_008, id="look-up"
        ),
    ],
)
def test_a_table_that_comes_late(hook: Hook, sent: Packet, ends: int) -> None:
    """What the kernel's timers have not taken out of the sets yet is over when the clock on the wall says so."""
    facts = FULL if sent.mark == 0 else replace(FULL, access=None)
    table = compile_permits(permits(Phase.TEMPORARY_ACCESS, facts))
    sets = tuple(replace(s, elements=tuple(Element(element.device) for element in s.elements)) for s in table.sets)
    late = replace(table, sets=sets)

    said = [
        verdict(late, hook, replace(sent, oif=Device(2, "wlan0"), wall=wall), NOW + 3600)[0]
        for wall in (ends - 0.1, float(ends))
    ]

    assert said[0] is Verdict.ACCEPT
    assert said[1] in {Verdict.DROP, Verdict.REJECT}


if __name__ == "__main__":
    for each, golden in FILES.items():
        (GOLDEN / f"{each}.nft").write_text(golden.whole(), encoding="utf-8")

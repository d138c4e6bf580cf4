# SPDX-License-Identifier: GPL-3.0-or-later
"""Weakenings of what keeps tunnels that stand side by side apart."""

from typing import Final

from tests.mutants.mutant import COMPANIONS, NO_LEAK, Mutant

_FIREWALL: Final = "aovpnd/core/firewall.py"
_VIEW: Final = "aovpnd/core/view.py"
_ROUTING: Final = "aovpnd/core/routing.py"

ACCOMPANYING: Final = (
    Mutant(
        "companion-shows-anothers-address",
        _FIREWALL,
        "yield Rule(replace(by_tunnel, saddr=family), Verdict.DROP",
        "yield Rule(replace(by_tunnel, saddr=family), Verdict.CONTINUE",
        "a program that binds to one tunnel's address shows it to the other one's gateway",
        (NO_LEAK,),
    ),
    Mutant(
        "companion-asks-for-anothers-address",
        _FIREWALL,
        "yield Rule(replace(by_tunnel, daddr=family), Verdict.DROP",
        "yield Rule(replace(by_tunnel, daddr=family), Verdict.CONTINUE",
        "one gateway finds out which address another one has given us (CVE-2019-14899)",
        (NO_LEAK,),
    ),
    Mutant(
        "companion-open-behind",
        _ROUTING,
        "            yield Route(prefix, None, metric=names.CLOSED_METRIC)\n            if spec",
        "            if spec",
        "while a companion's link is gone, its packets take the other tunnel",
        (COMPANIONS,),
    ),
    Mutant(
        "companion-for-everything",
        _VIEW,
        "    if carries_everything(spec) and not private:\n        return",
        "    if False:\n        return",
        "two default routes: nobody knows which tunnel a packet takes",
        (COMPANIONS, NO_LEAK),
    ),
    Mutant(
        "companion-with-anothers-address",
        _VIEW,
        "fits = why_alone(bare, others, private=spec.name in alone) is None",
        "fits = spec.name in alone or not carries_everything(bare)",
        "each of two tunnels refuses what the other one sends",
        (COMPANIONS, NO_LEAK),
    ),
    Mutant(
        "companion-takes-anothers-address",
        _VIEW,
        "standing.append(replace(spec, addresses=free))",
        "standing.append(spec)",
        "a gateway that gives the other tunnel's address gets what is on its way there",
        (NO_LEAK, COMPANIONS),
    ),
    Mutant(
        "companion-gives-up-its-link",
        _VIEW,
        "rest = replace(snapshot, tunnels=tuple(state for state in snapshot.tunnels if state not in links))",
        "rest = snapshot",
        "the next tunnel takes the link of the one that is to stay, with what is on its way there",
        (COMPANIONS, NO_LEAK),
    ),
    Mutant(
        "companion-forgotten-by-the-lan",
        "aovpnd/core/beside.py",
        "for spec in now.specs if (found := inside(prefix, spec)) is not None), None)",
        "for spec in now.specs[:1] if (found := inside(prefix, spec)) is not None), None)",
        "a network that calls the companion's numbers local is told what is meant for it (TunnelCrack)",
        (NO_LEAK,),
    ),
    Mutant(
        "companion-while-unblocked",
        _VIEW,
        "if intent.block is Block.ON and spec.name",
        "if spec.name",
        "status shows a tunnel beside another that are both not there",
        (COMPANIONS,),
    ),
    Mutant(
        "companion-without-filters",
        "aovpnd/core/facts.py",
        "yield Tunnel(_device(each.state), narrow, each.filters, others, who, own)",
        "yield Tunnel(_device(each.state), narrow, (), others, who, own)",
        "what is for the management's host alone goes to everybody behind it",
        (NO_LEAK,),
    ),
)

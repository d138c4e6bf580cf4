# SPDX-License-Identifier: GPL-3.0-or-later
"""Weakenings of a rest: one that nobody can wake, one that is none, one that comes too early."""

from typing import Final

from tests.mutants.mutant import FIREWALL, NO_LEAK, REST, RTNL, Mutant

_REST: Final = "aovpnd/core/rest.py"

RESTING: Final = (
    Mutant(
        "rests-though-data-flows",
        _REST,
        "if before is None or replace(moved, at=before.at) != before:",
        "if before is None:",
        "a download ends with a session that is given up under it",
        (REST,),
    ),
    Mutant(
        "never-wakes",
        _REST,
        "rest.link == state.link.index and rest.tries == state.tries and not shaken",
        "rest.link == state.link.index and not shaken",
        "who sends waits for ever, and nobody knows for what",
        (REST,),
    ),
    Mutant(
        "restless-handshakes",
        "aovpnd/core/decide.py",
        "path=path, shake=Shake.WANTED)",
        "path=path)",
        "a tunnel at rest shakes hands on every network, and tells where the laptop is",
        (REST,),
    ),
    Mutant(
        "looks-names-up-at-rest",
        "aovpnd/core/companions.py",
        "needless = intent.rest is not None or ",
        "needless = ",
        "the next network hears the gateway's name although nobody sends",
        (REST,),
    ),
    Mutant(
        "left-at-rest",
        "aovpnd/core/failover.py",
        "if intent.rest is not None:",
        "if intent.rest is not None and False:",
        "a network without the gateway's family has the next tunnel called although nobody sends",
        (REST,),
    ),
    Mutant(
        "rests-in-a-pause",
        _REST,
        "        and seen.phase is Phase.CONNECTED\n",
        "",
        "a session is given up and asked for again without end, while its user has paused the tunnel",
        (REST,),
    ),
    Mutant(
        "what-is-refused-wakes-nobody",
        "aovpnd/rtnl.py",
        "packets + errors + dropped",
        "packets",
        "the kernel's ESP refuses what is sent without an SA, so nothing would ever wake it",
        (RTNL,),
    ),
    Mutant(
        "waits-for-ever",
        "aovpnd/core/plan.py",
        "if state.queue is Queue.HELD and state.handshake_wall is not None:",
        "if state.queue is not Queue.HELD and state.queue is not Queue.OPEN:",
        "what waits for the SA never goes, and nor does anything behind it",
        (REST,),
    ),
    Mutant(
        "let-go-too-early",
        "aovpnd/core/plan.py",
        "if state.queue is Queue.HELD and state.handshake_wall is not None:",
        "if state.queue is Queue.HELD:",
        "the kernel refuses what is let go before there is an SA, as if it had never waited",
        (REST,),
    ),
    Mutant(
        "open-at-rest",
        "aovpnd/core/permits.py",
        "case Phase.CONNECTING | Phase.CONNECTED | Phase.RESTING:",
        "case Phase.CONNECTING | Phase.CONNECTED:",
        "a rest has no rules of its own: the ruleset cannot be made",
        (FIREWALL, REST, NO_LEAK),
    ),
)

# SPDX-License-Identifier: GPL-3.0-or-later
"""A fight with another program that keeps undoing what we do: put back at once at first, and then ever at a slow pace.

systemd-networkd removes what it calls foreign rules and routes; others rewrite resolv.conf. Each repair wakes the other
one, and the two would take a core. The ruleset is never made to wait: it is what keeps the machine shut meanwhile, and
while it has to be loaded nothing else waits either.
"""

from collections.abc import Iterable
from typing import Final

from aovpnd.model import Intent, LinkWish, Problem, Severity
from aovpnd.orders import Action, EnsureDns, EnsureRouting, EnsureTunnel, LoadRuleset
from aovpnd.repairs import Repairs

BURST: Final = 12
"""Times in a row that one and the same is put back at once; whoever wants something else begins anew."""
BURST_S: Final = 10.0
PACE_S: Final = 1.0
"""Between two repairs when there were `BURST` of them within `BURST_S`."""
TOLD_S: Final = 2 * BURST_S
"""How long status speaks of it."""
_WHAT: Final = {
    EnsureRouting.__name__: (
        "removing our routing rules or routes",
        "see ip monitor rule route; for systemd-networkd: ManageForeignRoutingPolicyRules=no, ManageForeignRoutes=no",
    ),
    EnsureTunnel.__name__: (
        "changing the tunnel's link",
        "links called aovpn0, aovpn1 … belong to aovpnd: let no network manager manage them",
    ),
    EnsureDns.__name__: (
        "changing who is asked for names",
        "one program alone may write resolv.conf or the link's servers: see its documentation",
    ),
}


def repaired(intent: Intent, action: Action, now: float) -> tuple[Repairs, ...]:
    """The record after ``action`` was performed at ``now``."""
    if not _may_wait(action):
        return intent.repairs
    name, wish = type(action).__name__, hash(action)
    others = tuple(repairs for repairs in intent.repairs if repairs.action != name)
    before = next((repairs.at for repairs in intent.repairs if repairs.action == name and repairs.wish == wish), ())
    return (*others, Repairs(name, (*before, now)[-BURST:], wish))


def rested(wanted: tuple[Action, ...], intent: Intent, now: float) -> tuple[Action, ...]:
    """Those of the actions that need not wait for the pace."""
    if any(isinstance(action, LoadRuleset) for action in wanted):
        return wanted
    resting = {(repairs.action, repairs.wish) for repairs in intent.repairs if now < _rests_until(repairs)}
    return tuple(a for a in wanted if not (_may_wait(a) and (type(a).__name__, hash(a)) in resting))


def moments(intent: Intent) -> list[float]:
    """When those that wait may go on, and when there is no more to tell (CLOCK_BOOTTIME)."""
    return [moment for repairs in intent.repairs for moment in (_rests_until(repairs), _told_until(repairs))]


def problems(intent: Intent, now: float) -> Iterable[Problem]:
    """Who is at it cannot be seen, but what it does."""
    for repairs in intent.repairs:
        if now < _told_until(repairs):
            what, hint = _WHAT[repairs.action]
            text = f"another program keeps {what}; the block holds, and they are put back once a second"
            yield Problem("fight", Severity.WARNING, text, hint)


def _rests_until(repairs: Repairs) -> float:
    fights = len(repairs.at) == BURST and repairs.at[-1] - repairs.at[0] < BURST_S
    return repairs.at[-1] + PACE_S if fights else 0.0


def _told_until(repairs: Repairs) -> float:
    return repairs.at[0] + TOLD_S if len(repairs.at) == BURST else 0.0


def _may_wait(action: Action) -> bool:
    """Whether an action is one that others may undo for ever; a handshake and what closes never wait."""
    match action:
        case EnsureTunnel(wish):
            return wish.path is None and wish.state is LinkWish.UP
        case EnsureRouting(routing):
            return routing is not None
        case EnsureDns():
            return True
        case _:
            return False

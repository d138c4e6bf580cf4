# SPDX-License-Identifier: GPL-3.0-or-later
"""When this machine's first block undoes itself, and when it stands for good. Beside an administrator's command the one
way in which the block comes off, so every doubt ends with a block that stays.
"""

from dataclasses import replace
from typing import Final, assert_never

from aovpnd import names
from aovpnd.confirmation import GIVEN, NEEDLESS, NEVER, Logins, Standing, awaited
from aovpnd.model import Block, Config, Intent, Problem, Severity, Snapshot
from aovpnd.orders import Answer

_KEEP: Final = "aovpnctl confirm"


def settle(config: Config, intent: Intent, snapshot: Snapshot) -> Intent:
    """The memory once it is known who is logged in and what time it is: the block may turn out to be the first one, to
    need nobody's word, or to have had its time.
    """
    now, standing = snapshot.now.boot, intent.confirmation.standing
    if intent.block is Block.OFF:
        return replace(intent, confirmation=NEVER) if standing is Standing.AWAITED else intent
    if standing is Standing.NEVER:
        cuts_off = snapshot.logins is Logins.REMOTE and not _is_mandatory(config) and not _stood_before(snapshot)
        return replace(intent, confirmation=awaited(now) if cuts_off else NEEDLESS)
    if standing is not Standing.AWAITED:
        return intent
    if _is_mandatory(config):
        return replace(intent, confirmation=NEEDLESS)
    if now < intent.confirmation.until:
        return intent
    return replace(intent, block=Block.OFF, grant=None, confirmation=NEVER, undone_at=now)


def _is_mandatory(config: Config) -> bool:
    """Whether the block is not the machine's own to take off: a policy rules it, or may, where files are unreadable."""
    return bool(config.locked) or any(problem.code == names.CONFIG_CLOSED for problem in config.problems)


def _stood_before(snapshot: Snapshot) -> bool:
    """Whether early boot's block, or that of a daemon before us, stands already: then it is not the first. The guard
    does not tell, for it starts before the daemon.
    """
    routing = snapshot.routing
    return snapshot.table_present or bool(routing.rules or routing.routes or routing.shut)


def confirm(intent: Intent) -> tuple[Intent, Answer]:
    """An administrator wants the block to stay, on or yet to come."""
    match intent.confirmation.standing:
        case Standing.AWAITED:
            text = "confirmed: the block stays"
        case Standing.NEVER:
            text = "confirmed: the first block will stay, whoever is logged in over the network"
        case Standing.GIVEN | Standing.NEEDLESS:
            text = "there was nothing to confirm: the block does not undo itself"
        case _:
            assert_never(intent.confirmation.standing)
    return replace(intent, confirmation=GIVEN), Answer(text)


def blocked(intent: Intent) -> Answer:
    """What is said when the block has been put on."""
    if intent.confirmation.standing is not Standing.AWAITED:
        return Answer("the block is on")
    text = f"somebody is logged in over the network: unless you keep it ({_KEEP}), the first block is on"
    return Answer(text, intent.confirmation.until)


def problems(intent: Intent) -> list[Problem]:
    """That the block is about to undo itself, or has done so."""
    if intent.confirmation.standing is Standing.AWAITED:
        text = "somebody is logged in over the network, so this first block undoes itself"
        hint = f"to keep it: {_KEEP}"
        return [Problem("block-unconfirmed", Severity.WARNING, text, hint, until=intent.confirmation.until)]
    if intent.block is Block.ON or intent.undone_at is None:
        return []
    text = "nobody confirmed the first block in time, so it undid itself: nothing is protected"
    hint = f"to block although connections like yours are cut: {_KEEP}, then aovpnctl block"
    return [Problem("block-undone", Severity.WARNING, text, hint, intent.undone_at)]


def moments(intent: Intent) -> list[float]:
    """When to look again."""
    return [intent.confirmation.until] if intent.confirmation.standing is Standing.AWAITED else []

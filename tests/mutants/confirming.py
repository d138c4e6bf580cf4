# SPDX-License-Identifier: GPL-3.0-or-later
"""Weakenings of the first block: when it undoes itself, and when it must not."""

from typing import Final

from tests.mutants.mutant import BUS, CONFIRMING, OVER_TIME, PLAN, SOCKETS, Mutant

_CONFIRMING: Final = "aovpnd/core/confirming.py"
_VALUES: Final = "aovpnd/confirmation.py"
_PLAN: Final = "aovpnd/core/plan.py"

FIRST_BLOCK: Final = (
    Mutant(
        "undone-without-anybody-there",
        _CONFIRMING,
        "cuts_off = snapshot.logins is Logins.REMOTE and not",
        "cuts_off = not",
        "every first block goes off again, and nobody at the keyboard knows",
        (CONFIRMING, OVER_TIME),
    ),
    Mutant(
        "undone-again-and-again",
        _CONFIRMING,
        "    if standing is Standing.NEVER:\n",
        "    if standing in {Standing.NEVER, Standing.NEEDLESS} and not snapshot.table_present:\n",
        "whoever logs in later, and flushes, has the block off for good",
        (CONFIRMING, OVER_TIME),
    ),
    Mutant(
        "undone-after-confirmation",
        _CONFIRMING,
        "    if standing is not Standing.AWAITED:\n        return intent\n",
        "    if standing is Standing.NEEDLESS:\n        return intent\n",
        "the word that was given counts for nothing",
        (CONFIRMING, OVER_TIME),
    ),
    Mutant(
        "undone-in-spite-of-a-policy",
        _CONFIRMING,
        "    return bool(config.locked) or any(",
        "    return any(",
        "a machine that an organisation keeps shut opens itself",
        (CONFIRMING, OVER_TIME),
    ),
    Mutant(
        "undone-where-nothing-can-be-read",
        _CONFIRMING,
        "    return bool(config.locked) or any(problem.code == names.CONFIG_CLOSED for problem in config.problems)",
        "    return bool(config.locked)",
        "a policy that cannot be read rules nothing",
        (CONFIRMING,),
    ),
    Mutant(
        "undone-at-boot",
        _CONFIRMING,
        "    return snapshot.table_present or bool(routing.rules or routing.routes or routing.shut)",
        "    return False",
        "an upgrade by ssh through the tunnel takes off a block that has stood for years",
        (CONFIRMING,),
    ),
    Mutant(
        "never-undone",
        _CONFIRMING,
        "    if now < intent.confirmation.until:\n",
        "    if now >= 0:\n",
        "who administers a machine from afar has lost it",
        (CONFIRMING, OVER_TIME),
    ),
    Mutant(
        "undone-too-early",
        _CONFIRMING,
        "    if now < intent.confirmation.until:\n",
        "    if now < intent.confirmation.until - 30:\n",
        "the minute in which somebody may confirm is none",
        (CONFIRMING, OVER_TIME),
    ),
    Mutant(
        "nobody-wakes-to-undo-it",
        _CONFIRMING,
        "    return [intent.confirmation.until] if intent.confirmation.standing is Standing.AWAITED else []",
        "    return []",
        "it goes off when somebody happens to look",
        (CONFIRMING,),
    ),
    Mutant(
        "garbage-undoes",
        _VALUES,
        "        return GIVEN if text == spell(GIVEN, boot_id) else NEEDLESS\n",
        "        return GIVEN if text == spell(GIVEN, boot_id) else NEVER\n",
        "a damaged file on the disk makes any block the first one",
        (CONFIRMING,),
    ),
    Mutant(
        "minute-without-end",
        _VALUES,
        " if until <= now + CONFIRM_WITHIN_S + _ROUNDING_S else NEEDLESS",
        "",
        "a damaged file takes the block off in a month",
        (CONFIRMING,),
    ),
    Mutant(
        "minute-that-survives-the-boot",
        _VALUES,
        "    if found[2] != boot_id:\n        return Confirmation(Standing.AWAITED)\n",
        "",
        "who has the machine switched off and on finds it shut for ever, or open an hour later",
        (CONFIRMING,),
    ),
    Mutant(
        "minute-written-down-behind-the-lock",
        _PLAN,
        "desired.confirmation.standing is Standing.AWAITED:\n        # Before",
        "False:\n        # Before",
        "a crash within the minute shuts somebody out for ever",
        (CONFIRMING, PLAN),
    ),
    Mutant(
        "undoing-forgotten-too-early",
        _PLAN,
        "            return confirmation.standing is not Standing.NEVER\n",
        "            return True\n",
        "what could not be undone yet is not tried again after a crash",
        (CONFIRMING, PLAN),
    ),
    Mutant(
        "connections-closed-within-the-minute",
        "aovpnd/core/sockets.py",
        "    if intent.confirmation.standing is Standing.AWAITED:\n        return None\n",
        "",
        "the block undoes itself, and the connection for which it does is gone",
        (CONFIRMING, SOCKETS),
    ),
    Mutant(
        "confirmed-by-anybody",
        "aovpnd/bus/access.py",
        '    "Confirm": (Action.UNBLOCK,),\n',
        '    "Confirm": (),\n',
        "whoever has a session on the machine shuts its administrator out",
        (BUS,),
    ),
)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole table: every method, by every caller, with every polkit; docs/security.md against the real process."""

from collections.abc import Iterator
from typing import Final
from xml.etree import ElementTree as ET

import pytest

from aovpnd.bus.access import ACTIONS
from aovpnd.orders import Answer
from tests.bus import services
from tests.bus.stage import AS_ROOT, USER, Caller, Stage, others, stage
from tests.bus.table import ALLOW_TEMP, FREE, METHODS, POLKITS_WORD, PORTAL, TABLE, Outcome, Polkit, Who, expected, page

ARGUMENTS: Final[dict[str, tuple[str, list[object]]]] = {
    "AllowTemporaryAccess": ("(us)", [60, "hotel portal"]),
    "OpenPortal": ("(u)", [60]),
    "Connect": ("(s)", ["home"]),
    "Explain": ("(s)", [""]),
    "SignIn": ("(sh)", ["home", 0]),
}
SESSIONS: Final = {Who.ACTIVE: "active", Who.INACTIVE: "inactive", Who.REMOTE: "remote"}
AGENTS: Final = {Polkit.DEFAULTS: "none", Polkit.WRONG: "wrong", Polkit.CLOSED: "dismiss"}
"""What somebody at the agent does; where it is not named, he types the right password."""
MODES: Final = {
    Polkit.YES: "yes",
    Polkit.NO: "no",
    Polkit.CHALLENGE: "challenge",
    Polkit.ERROR: "error",
    Polkit.NONSENSE: "nonsense",
    Polkit.SILENCE: "hang",
}
CALLERS: Final = tuple(who for who in Who if AS_ROOT or who is not Who.ROOT)


def orders(polkit: Polkit) -> list[dict[str, object]]:
    """Each method once, with arguments that are good."""
    good = ((method, *ARGUMENTS.get(method, ("()", []))) for method in METHODS)
    # Who is silent, is silent for longer to those who would let a person be asked.
    interactive = polkit not in {Polkit.UNASKED, Polkit.SILENCE}
    return [
        {"method": method, "signature": signature, "arguments": arguments, "interactive": interactive}
        for method, signature, arguments in good
    ]


@pytest.fixture(scope="module")
def scene() -> Iterator[Stage]:
    """One stage for this file."""
    with stage() as built:
        built.forget()
        built.daemon.desk_answer = Answer("done", data={"tried": True})
        yield built


def somebody(scene: Stage, who: Who) -> Caller:
    """A caller of each kind, each a user of his own where we may be other users."""
    if who is Who.ROOT:
        return scene.caller(0)
    if who is Who.ACTIVE:
        return scene.caller(USER)
    return scene.caller(others()[tuple(Who).index(who) % len(others())])


def test_page_file_and_program_say_the_same() -> None:
    """docs/security.md, the table of the tests, polkit's file and the program's own list of actions."""
    file = {
        action.get("id"): tuple(action.findtext(f"defaults/allow_{where}") for where in ("active", "inactive", "any"))
        for action in ET.parse(services.POLICY).iter("action")
    }

    assert page() == TABLE
    assert file == {
        action: (POLKITS_WORD[row.at_the_screen], *[POLKITS_WORD[row.elsewhere]] * 2) for action, row in TABLE.items()
    }
    assert ACTIONS.keys() == set(METHODS)
    for method, actions in ACTIONS.items():
        assert set(actions) == {action for action, row in TABLE.items() if method in row.methods}
    assert ACTIONS["OpenPortal"] == (PORTAL, ALLOW_TEMP)


def test_whole_table(scene: Stage) -> None:
    """Every method, by every caller, with every polkit: what each is told, and that the daemon hears of what is done
    and of nothing else. All of it: thirteen methods, six callers, twelve polkits.
    """
    minds = scene.authority.minds
    told: dict[tuple[str, Who, Polkit], str] = {}

    def note(who: Who, polkit: Polkit, words: list[str]) -> None:
        told.update({(method, who, polkit): word for method, word in zip(METHODS, words, strict=True)})

    silent = {who: somebody(scene, who) for who in CALLERS}
    minds.mode = MODES[Polkit.SILENCE]  # to whom nothing else is said below
    for caller in silent.values():  # these wait for long: meanwhile everything else
        caller.crowd(*orders(Polkit.SILENCE))
    if Who.ROOT in silent:
        note(Who.ROOT, Polkit.SILENCE, silent.pop(Who.ROOT).crowd_answers())
    callers = {who: somebody(scene, who) for who in CALLERS}
    minds.sessions = {caller.name: SESSIONS.get(who, "none") for who, caller in callers.items()}
    for polkit in Polkit:
        if polkit in {Polkit.SILENCE, Polkit.ABSENT}:
            continue
        minds.agent = AGENTS.get(polkit, "right")
        for who, caller in callers.items():
            minds.modes[caller.name] = MODES.get(polkit, "normal")
            scene.daemon.asked.clear()
            note(who, polkit, [caller.order(**order) for order in orders(polkit)])
            done = [method for method in METHODS if told[method, who, polkit] == Outcome.DONE]
            assert len(scene.daemon.asked) == len(set(done) - set(FREE)), (who, polkit)
    scene.daemon.asked.clear()
    for who, caller in silent.items():
        note(who, Polkit.SILENCE, caller.crowd_answers())
    scene.authority.close()
    scene.polkit = None
    for who, caller in callers.items():
        note(who, Polkit.ABSENT, [caller.order(**order) for order in orders(Polkit.ABSENT)])
    assert len(scene.daemon.asked) == (len(METHODS) - len(FREE)) * (Who.ROOT in callers)

    wanted = {
        (method, who, polkit): expected(method, who, polkit)
        for method in METHODS
        for who in CALLERS
        for polkit in Polkit
    }
    wrong = {cell: (outcome, told.get(cell)) for cell, outcome in wanted.items() if told.get(cell) != outcome}
    assert not wrong
    assert told.keys() == wanted.keys()

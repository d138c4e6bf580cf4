# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may command, as docs/security.md says it, as one value: the second reading that the program is compared with.

`expected` knows nothing of the program: what a method takes, who sits where, and what polkit said give the outcome.
"""

import re
from enum import StrEnum
from typing import Final, NamedTuple

from tests.unit.imports import ROOT


class Word(StrEnum):
    """What the page's table says of an action, for somebody somewhere."""

    YES = "yes"
    NO = "no"
    ONES_OWN = "with one's own password"
    ADMINISTRATOR = "an administrator's password"


class Who(StrEnum):
    """Who calls."""

    ROOT = "root"
    ACTIVE = "the active user at the screen"
    INACTIVE = "a user whose session is in the background"
    REMOTE = "a user over ssh"
    SESSIONLESS = "a user without a session"
    SERVICE = "another service's user"


class Polkit(StrEnum):
    """What polkit does when it is asked."""

    DEFAULTS = "as our file of actions says, with nobody to ask for a password"
    RIGHT = "as that file says, and somebody types the right password"
    WRONG = "as that file says, and somebody types a wrong password"
    CLOSED = "as that file says, and somebody closes the dialogue"
    UNASKED = "as that file says; somebody is there, but the caller does not permit a question"
    YES = "an administrator's rule says yes"
    NO = "an administrator's rule says no"
    CHALLENGE = "a challenge, for everything"
    ERROR = "an error"
    NONSENSE = "an answer that is none"
    SILENCE = "no answer"
    ABSENT = "there is no polkit"


class Outcome(StrEnum):
    """What the caller is told: done, or the last word of the error's name."""

    DONE = "done"
    NO = "NotAuthorised"
    ASK = "AuthenticationRequired"
    CLOSED = "Dismissed"
    UNREACHABLE = "PolkitUnreachable"


class Row(NamedTuple):
    """One action: its methods, and the word for who is at the screen and for everybody else."""

    methods: tuple[str, ...]
    at_the_screen: Word
    elsewhere: Word


CONNECT: Final = "org.aovpnd1.connect"
PORTAL: Final = "org.aovpnd1.portal"
ALLOW_TEMP: Final = "org.aovpnd1.allow-temp"
TABLE: Final = {
    CONNECT: Row(("Connect", "CancelTemporaryAccess", "Explain"), Word.YES, Word.NO),
    PORTAL: Row(("OpenPortal",), Word.YES, Word.NO),
    ALLOW_TEMP: Row(("AllowTemporaryAccess", "OpenPortal"), Word.ONES_OWN, Word.NO),
    "org.aovpnd1.disconnect": Row(("Disconnect",), Word.ADMINISTRATOR, Word.ADMINISTRATOR),
    "org.aovpnd1.unblock": Row(("Unblock", "Block", "Confirm"), Word.ADMINISTRATOR, Word.ADMINISTRATOR),
    "org.aovpnd1.import": Row(("Reload",), Word.ADMINISTRATOR, Word.ADMINISTRATOR),
    "org.aovpnd1.sign-in": Row(("Questions", "SignIn"), Word.YES, Word.NO),
}
FREE: Final = ("Status",)
"""What everybody may."""
METHODS: Final = (*FREE, *dict.fromkeys(method for row in TABLE.values() for method in row.methods))
POLKITS_WORD: Final = {
    Word.YES: "yes",
    Word.NO: "no",
    Word.ONES_OWN: "auth_self",
    Word.ADMINISTRATOR: "auth_admin",
}
"""The implicit authorisations of polkit(8); none of them is one that is kept."""


def expected(method: str, who: Who, polkit: Polkit) -> Outcome:
    """What comes of a call."""
    if method in FREE or who is Who.ROOT:
        return Outcome.DONE
    match polkit:
        case Polkit.YES:
            return Outcome.DONE
        case Polkit.NO:
            return Outcome.NO
        case Polkit.CHALLENGE:
            return Outcome.ASK
        case Polkit.ERROR | Polkit.NONSENSE | Polkit.SILENCE | Polkit.ABSENT:
            return Outcome.UNREACHABLE
        case _:
            pass
    words = [row[1 if who is Who.ACTIVE else 2] for row in TABLE.values() if method in row.methods]
    if Word.NO in words:
        return Outcome.NO
    if set(words) == {Word.YES}:
        return Outcome.DONE
    match polkit:
        case Polkit.RIGHT:
            return Outcome.DONE
        case Polkit.WRONG:
            return Outcome.NO
        case Polkit.CLOSED:
            return Outcome.CLOSED
        case _:
            return Outcome.ASK


def page() -> dict[str, Row]:
    """The table of docs/security.md."""
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8").partition("## Who may command")[2]
    found = {}
    for line in text.partition("\n## ")[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0].startswith("`org."):
            action, methods, _, *words = cells
            found[action.strip("`")] = Row(tuple(re.findall(r"`(\w+)`", methods)), *map(Word, words))
    return found

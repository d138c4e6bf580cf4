# SPDX-License-Identifier: GPL-3.0-or-later
"""What the journal gets beside the text of a line: an id for each kind of event, and fields with stable names.

``journalctl MESSAGE_ID=…`` finds every event of a kind, across releases; etc/catalog/aovpnd.catalog has a help text for
each (``journalctl -x``), and aovpnd(8) the list. On stderr only the text is seen.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

PREFIX: Final = "AOVPND_"
"""Of all fields but MESSAGE_ID, which is systemd's (systemd.journal-fields(7))."""


class Message(StrEnum):
    """A kind of event, by its id (sd_id128_t). An id is never changed, and never given to another kind."""

    STARTED = "a2f31766eb3f41ba95790a4f4ee37b70"
    STOPPED = "0ca2408fbff74edfabcd91f78e7b29ab"
    PHASE_CHANGED = "628857f049ca4aeda41ddf1b66f99bb1"
    SYSTEM_CHANGED = "db6260acecca4a11ab83c7465218e51e"
    RULESET_LOADED = "641d2ebcd100426ab369b0c3080bc973"
    RULESET_RESTORED = "949feed1c7494f5c82d076222550f036"
    WINDOW_OPENED = "b81d0c3c00ea402d962773daefe131b4"
    WINDOW_CLOSED = "415c572652fe49cdbb505df68341ec96"
    BLOCK_UNDONE = "d3416ad25c5148b4a09fcb5338688643"
    TUNNEL_UP = "2ab4f999998e4dbb83afd0cd74877530"
    TUNNEL_LOST = "336cf8c9abc744eea781e28c20cde2e5"
    TUNNEL_SWITCHED = "6549e2f6adbf44c8b12251e3347f330c"
    ACTION_FAILED = "a553f42bacd14e1fbbc1b8a4ea31c42a"
    CONFIGURATION_READ = "7aa97544beb14e4baf44824477c38619"
    CONFIGURATION_BROKEN = "ad049b3fb0e44e858fc63634ec66e1cb"
    PROBLEM_FOUND = "2ba37b00a8f44a7298ab988f742833e1"
    PROBLEM_GONE = "816c2b01bb5e4f778e3e3583a7cae700"
    SYSTEM_UNREADABLE = "5d5009c5682f45dcb11208d668de4b8e"
    STATUS_UNWRITTEN = "c2d6f1b84e0a4f7d9a35e1706b9c48d2"
    NOT_SETTLING = "4593a479a5f94c5fb656bf8502c6522c"

    @property
    def level(self) -> int:
        """How loud, in the numbers of `logging`."""
        return _LEVELS.get(self, INFO)


INFO, WARNING, ERROR = 20, 30, 40
_LEVELS: Final = {
    Message.RULESET_RESTORED: WARNING,
    Message.BLOCK_UNDONE: WARNING,
    Message.TUNNEL_LOST: WARNING,
    Message.CONFIGURATION_BROKEN: WARNING,
    Message.NOT_SETTLING: WARNING,
    Message.PROBLEM_FOUND: WARNING,
    Message.ACTION_FAILED: ERROR,
    Message.SYSTEM_UNREADABLE: ERROR,
    Message.STATUS_UNWRITTEN: ERROR,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log: its kind, its text, its fields without their prefix, and how loud it is where that is not
    its kind's to say.
    """

    message: Message
    text: str
    fields: tuple[tuple[str, str], ...] = ()
    loud: int | None = None

    @property
    def level(self) -> int:
        """How loud, in the numbers of `logging`."""
        return self.message.level if self.loud is None else self.loud

    @property
    def extra(self) -> dict[str, str]:
        """As ``logging`` takes them (``extra=``), and systemd's JournalHandler after it; what is empty is left out."""
        named = {f"{PREFIX}{name}": printable(value) for name, value in self.fields if value}
        return {"MESSAGE_ID": self.message.value, **named}


def printable(text: object) -> str:
    """A text as a log may hold it: one line, and nothing in it that a terminal obeys or that cannot be seen."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(text))


HIDDEN: Final = "(hidden)"
"""What stands for a key, or for what may be one."""
_KEY_LIKE: Final = re.compile(
    r"[A-Za-z0-9+/]{32,}=*"
    r"|(?=[A-Za-z0-9+/]{0,15}[0-9])(?=[A-Za-z0-9+/]{0,15}[A-Z])(?=[A-Za-z0-9+/]{0,15}[a-z])[A-Za-z0-9+/]{15}[A-Za-z0-9+/=]+"
)
"""A key of WireGuard's in base64, a third of one, or a longer run of such letters: of paths and words few have digits
and letters of both cases. Public keys go with them: nobody reads one.
"""


def without_keys(text: str) -> str:
    """The same without anything that looks like (part of) a key."""
    return _KEY_LIKE.sub(HIDDEN, text)

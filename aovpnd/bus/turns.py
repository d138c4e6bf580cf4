# SPDX-License-Identifier: GPL-3.0-or-later
"""Fairness: what one caller, one user and all together may have in hand here, so that a flood harms who sends it. Pure.

`Turns` judges every message on the thread that reads the socket, before it costs more than its bytes: what waits in
GLib's queue stands before everybody's next call, and in our memory. `Places` and `Pace` judge commands, once it is
known whose they are.
"""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

LARGEST: Final = 8192
"""Bytes of a call's arguments; the longest honest one, a reason of 1000 four-byte characters, has half of it."""
DESCRIPTORS: Final = 1
"""As many as any method takes: all that wait lie open here, and a process has a thousand."""
IN_HAND_EACH: Final = 8
"""Unanswered calls of one connection."""
IN_HAND: Final = 2048
"""Unanswered calls of all: 16 MB of arguments."""
ROOT: Final = 0
PLACES_EACH: Final = 16
"""Commands of one user that may wait for polkit, a person or the daemon at once."""
PLACES: Final = 80
"""Commands of all; a user who has none waiting always has a place. Each is a call of ours that waits for its answer,
and the bus lets us have 128 of these (max_replies_per_connection): beyond it nobody could be asked about anything."""
PER_S: Final = 20.0
"""Commands of one user in a second, in the long run: each may cost polkit's time, and the daemon a pass."""
BURST: Final = 100.0
"""And at once, after a pause."""
REFUSED: Final = 20.0
"""What an answer counts that the daemon refuses: a wrong password of a key takes it a good part of a second."""


class Turn(StrEnum):
    """What becomes of a message."""

    TAKE = "take"
    IGNORE = "ignore"
    """Nobody waits for an answer."""
    TOO_LONG = "too-long"
    BUSY = "busy"


@dataclass(slots=True)
class Turns:
    """The calls in hand of one connection to the bus, from their arrival until their answer is sent."""

    _in_hand: dict[str, set[int]] = field(default_factory=dict)
    _count: int = 0

    def arrives(self, sender: str, serial: int, size: int, descriptors: int = 0, *, wants_answer: bool) -> Turn:
        """Judge a call of ``size`` bytes with so many descriptors; what is taken is in hand from now on.

        One that wants no answer is none of ours: all that a method here does is to be answered, and of such calls the
        bus itself lets anybody send any number.
        """
        if not wants_answer:
            return Turn.IGNORE
        if size > LARGEST or descriptors > DESCRIPTORS:
            return Turn.TOO_LONG
        mine = self._in_hand.get(sender, set())
        if serial in mine:  # a refusal would be taken for the answer to the first one
            return Turn.IGNORE
        if len(mine) >= IN_HAND_EACH or self._count >= IN_HAND:
            return Turn.BUSY
        self._in_hand.setdefault(sender, set()).add(serial)
        self._count += 1
        return Turn.TAKE

    def leaves(self, sender: str, serial: int) -> None:
        """The answer to a call is being sent; nothing happens when it was not in hand."""
        mine = self._in_hand.get(sender)
        if mine is None or serial not in mine:
            return
        mine.remove(serial)
        self._count -= 1
        if not mine:
            del self._in_hand[sender]

    def __len__(self) -> int:
        """How many are in hand."""
        return self._count


@dataclass(slots=True)
class Places:
    """Commands that wait, by their user's uid."""

    _waiting: Counter[int] = field(default_factory=Counter)

    def take(self, uid: int) -> bool:
        """Whether there is a place; it is taken then."""
        mine = self._waiting[uid]
        if mine >= PLACES_EACH or (mine and self._waiting.total() >= PLACES):
            return False
        self._waiting[uid] += 1
        return True

    def leave(self, uid: int) -> None:
        """Give a place back."""
        self._waiting[uid] -= 1
        self._waiting += Counter()  # drops whoever waits no more


@dataclass(slots=True)
class Pace:
    """How fast a user's commands follow each other: a bucket of tokens for each uid but root's, which may owe some."""

    _left: dict[int, tuple[float, float]] = field(default_factory=dict)
    """Tokens, and when there were so many."""

    def wait_s(self, uid: int, now: float, cost: float = 1.0) -> float:
        """How long a command that arrives ``now`` (seconds of any steady clock) must wait."""
        if uid == ROOT:
            return 0.0
        for other in [other for other, (left, at) in self._left.items() if left + (now - at) * PER_S >= BURST]:
            del self._left[other]
        left, at = self._left.get(uid, (BURST, now))
        left += (now - at) * PER_S - cost
        self._left[uid] = (left, now)
        return max(0.0, -left / PER_S)

    def __len__(self) -> int:
        """How many users are remembered."""
        return len(self._left)

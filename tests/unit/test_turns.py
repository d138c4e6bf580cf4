# SPDX-License-Identifier: GPL-3.0-or-later
"""Fairness on the bus: what one caller, one user and all together may have in hand."""

import pytest

from aovpnd.bus.turns import (
    BURST,
    DESCRIPTORS,
    IN_HAND,
    IN_HAND_EACH,
    LARGEST,
    PER_S,
    PLACES,
    PLACES_EACH,
    Pace,
    Places,
    Turn,
    Turns,
)


def test_calls_in_hand_are_bounded() -> None:
    """Of one caller eight, of all two thousand; an answer makes room for the next one, and leaves nothing behind."""
    turns = Turns()

    def arrive(sender: str, serial: int) -> Turn:
        return turns.arrives(sender, serial, 10, wants_answer=True)

    assert [arrive(":1.1", serial) for serial in range(1, 10)] == [Turn.TAKE] * IN_HAND_EACH + [Turn.BUSY]
    assert arrive(":1.2", 1) is Turn.TAKE
    turns.leaves(":1.1", 9)  # the refusal of the ninth
    assert arrive(":1.1", 10) is Turn.BUSY
    turns.leaves(":1.1", 3)
    turns.leaves(":1.1", 3)
    assert [arrive(":1.1", 11), arrive(":1.1", 12)] == [Turn.TAKE, Turn.BUSY]
    for number in range(IN_HAND):
        arrive(f":2.{number}", 1)
    assert len(turns) == IN_HAND
    assert arrive(":3.1", 1) is Turn.BUSY
    for number in range(IN_HAND):
        turns.leaves(f":2.{number}", 1)
    for serial in range(1, 13):
        turns.leaves(":1.1", serial)
    turns.leaves(":1.2", 1)
    assert len(turns) == 0
    assert turns == Turns()


def test_odd_calls_are_not_taken() -> None:
    """What wants no answer, what is too long or has too many descriptors, and what has the number of another one."""
    turns = Turns()

    assert turns.arrives(":1.1", 1, 10, wants_answer=False) is Turn.IGNORE
    assert turns.arrives(":1.1", 1, LARGEST + 1, wants_answer=True) is Turn.TOO_LONG
    assert turns.arrives(":1.1", 1, 10, DESCRIPTORS + 1, wants_answer=True) is Turn.TOO_LONG
    assert turns.arrives(":1.1", 1, LARGEST, DESCRIPTORS, wants_answer=True) is Turn.TAKE
    assert turns.arrives(":1.1", 1, 10, wants_answer=True) is Turn.IGNORE
    assert len(turns) == 1


def test_everybody_has_a_place() -> None:
    """When others have taken all places, a user with none still gets one, and one only."""
    places = Places()
    for uid in range(2000, 2000 + PLACES // PLACES_EACH):
        assert [places.take(uid) for _ in range(PLACES_EACH + 1)] == [True] * PLACES_EACH + [False]

    assert [places.take(1000), places.take(1000)] == [True, False]
    places.leave(1000)
    assert [places.take(1000), places.take(1000)] == [True, False]
    for _ in range(PLACES_EACH):
        places.leave(2000)
    assert places.take(1000)


def test_commands_of_one_user_are_paced() -> None:
    """A hundred at once, then twenty a second; others and root are not slower for it, and a pause is credit."""
    pace = Pace()

    assert [pace.wait_s(1000, 5.0) for _ in range(int(BURST))] == [0.0] * int(BURST)
    assert [pace.wait_s(1000, 5.0) for _ in range(3)] == [pytest.approx(number / PER_S) for number in (1, 2, 3)]
    assert [pace.wait_s(1001, 5.0), pace.wait_s(0, 5.0)] == [0.0, 0.0]
    assert pace.wait_s(1000, 5.0 + 4 / PER_S) == 0.0
    assert [pace.wait_s(0, 5.0) for _ in range(1000)] == [0.0] * 1000
    later = 5.0 + 2 * BURST / PER_S
    assert [pace.wait_s(1000, later) for _ in range(int(BURST) + 1)] == [0.0] * int(BURST) + [pytest.approx(1 / PER_S)]
    pace.wait_s(1002, later * 2)
    assert len(pace) == 1  # who has paused long enough is forgotten

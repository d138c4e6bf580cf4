# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of the replayed week, the arithmetic of being offline, and the page (tests/week)."""

from collections import Counter
from pathlib import Path

import pytest

from tests.week.online import Account, Tick, account, read_ticks
from tests.week.page import page, passed
from tests.week.plan import AT_HOME, CHANGES, IN_THE_CAFE, PORTALS_A_DAY, Event, Kind, Sizes, week
from tests.week.run import DayRecord, Outcome, Record

QUIET = Outcome("suspend", "Wi-Fi home", 4.0, 1.5, 0)


def events(seed: int, sizes: Sizes) -> list[Event]:
    """All of a week."""
    return [event for day in week(seed, sizes) for event in day.events]


def test_a_week_has_what_was_asked_for() -> None:
    """So many of each, one upgrade, a day after each reboot, and no portals more than one may open access for."""
    days = week(1, Sizes())
    counts = Counter(event.kind for day in days for event in day.events)

    assert sum(counts[kind] for kind in CHANGES) == 200
    assert min(counts[kind] for kind in CHANGES) > 10
    assert counts[Kind.SUSPEND] + counts[Kind.ELSEWHERE] == 20
    assert min(counts[Kind.SUSPEND], counts[Kind.ELSEWHERE]) > 3
    assert (counts[Kind.PORTAL], counts[Kind.UPGRADE], len(days)) == (10, 1, 5)
    for day in days:
        assert sum(event.kind is Kind.PORTAL for event in day.events) <= PORTALS_A_DAY
        assert 46 <= len(day.events) <= 47


def test_a_week_can_be_had_again() -> None:
    """The seed decides, and nothing else."""
    assert week(7, Sizes()) == week(7, Sizes())
    assert week(7, Sizes()) != week(8, Sizes())


@pytest.mark.parametrize("seed", range(20))
def test_every_event_is_what_it_says(seed: int) -> None:
    """One goes on where one was, never without any network, and the kind says what has changed."""
    here = AT_HOME
    for day in week(seed, Sizes()):
        assert day.start == here
        for event in day.events:
            gone = sum(bool(old) and not new for old, new in zip(here.sites, event.after.sites, strict=True))
            come = sum(not old and bool(new) for old, new in zip(here.sites, event.after.sites, strict=True))
            other = sum(
                bool(old) and bool(new) and old != new for old, new in zip(here.sites, event.after.sites, strict=True)
            )
            assert any(event.after.sites)
            match event.kind:
                case Kind.ROAM:
                    assert (gone, come, other) == (0, 0, 1)
                case Kind.PLUGGED:
                    assert (gone, come, other) == (0, 1, 0)
                case Kind.UNPLUGGED:
                    assert (gone, come, other) == (1, 0, 0)
                case Kind.MOVED:
                    assert (gone, come, other) == (1, 1, 0)
                case Kind.FLAP | Kind.SUSPEND | Kind.UPGRADE:
                    assert event.after == here
                case Kind.ELSEWHERE:
                    assert event.after != here
                case Kind.PORTAL:
                    assert event.after == IN_THE_CAFE
                case _:
                    pytest.fail(event.kind)
            here = event.after


def test_too_many_portals_are_refused() -> None:
    """Rather than a run that must fail."""
    with pytest.raises(ValueError, match="1 days have 3 portals at most"):
        week(1, Sizes(portals=4, reboots=1))


def ticks(pattern: str) -> list[Tick]:
    """A tick each quarter of a second: ``.`` both families answered, ``4`` and ``6`` one of them, ``x`` none; ``-``
    none, and there is no uplink.
    """
    return [Tick(number / 4, mark != "-", int(mark in ".4"), int(mark in ".6")) for number, mark in enumerate(pattern)]


@pytest.mark.parametrize(
    ("pattern", "online", "without", "offline", "longest"),
    [
        (".....", 1.0, 0.0, 0.0, 0.0),
        (".xxx.", 1.0, 0.0, 0.0, 0.0),  # a second is no silence yet
        (".xxxx.", 0.0, 0.0, 1.25, 1.25),  # then all of it counts
        (".4444.", 0.0, 0.0, 1.25, 1.25),  # one family is not enough
        (".44xx66.", 0.0, 0.0, 1.75, 1.75),  # each of them was silent for a part
        (".----x.", 0.0, 1.25, 0.25, 0.25),  # the uplink's fault, and then ours
        (".x----xx.", 0.0, 1.25, 0.75, 0.5),  # before, too; the longer of both
        ("--xxxx", 0.0, 0.5, 0.75, 0.75),  # from the beginning, to the end
        (".-.-.", 1.0, 0.0, 0.0, 0.0),  # who is answered is online
        (".", 0.0, 0.0, 0.0, 0.0),
        ("", 0.0, 0.0, 0.0, 0.0),
    ],
)
def test_whose_fault_it_is(pattern: str, online: float, without: float, offline: float, longest: float) -> None:
    """Silences count whole, and are the uplink's where at either end of a span there was none."""
    assert account(ticks(pattern)) == Account(online, without, offline, longest)


@pytest.mark.parametrize(("missed", "offline"), [(2, 0.0), (3, 5.0)])
def test_a_meter_that_was_kept_waiting(missed: int, offline: float) -> None:
    """Who has hardly asked does not know that nobody answered."""
    asked = [Tick(1.0 + number / 4, uplink=True, four=0, six=0) for number in range(missed)]

    waited = [Tick(0.0, uplink=True, four=1, six=1), *asked, Tick(5.0, uplink=True, four=1, six=1)]

    assert account(waited).offline_s == offline


def test_a_silence_that_began_before() -> None:
    """What is asked for begins in the middle of it: the rest counts, however short."""
    assert account(ticks(".xxxx."), start=4) == Account(0.0, 0.0, 0.25, 0.25)


def test_a_report_is_read_to_its_last_whole_line() -> None:
    """Half a line is nobody's."""
    assert read_ticks("1.00 0 0 0\n1.20 1 2 1\n1.4") == [Tick(1.0, False, 0, 0), Tick(1.2, True, 2, 1)]


def day(**other: object) -> DayRecord:
    """A day on which nothing happened that matters."""
    values = {
        "number": 1,
        "outcomes": (QUIET,),
        "online_s": 90.0,
        "without_uplink_s": 20.0,
        "offline_s": 10.0,
        "longest_s": 4.0,
        "leaked": 0,
        "what_leaked": "",
        "in_windows": 5,
        "windows": 1,
        "frames": {"arp": 3, "ndp": 4},
        "refused": (),
    }
    return DayRecord(**{**values, **other})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("days", "good"),
    [
        ([day(), day()], True),
        ([day()], False),  # a day is missing
        ([day(), day(lost="no tunnel")], False),
        ([day(), day(leaked=1)], False),
        ([day(), day(outcomes=(QUIET, Outcome("suspend", "", 1.0, 0.0, 1)))], False),
        ([day(offline_s=150.0), day(offline_s=150.0)], True),
        ([day(offline_s=150.0), day(offline_s=151.0)], False),
    ],
)
def test_when_a_week_has_passed(days: list[DayRecord], good: bool, tmp_path: Path) -> None:
    """Whole, nothing seen, nothing broken, and offline for five minutes at most, all days together."""
    assert passed(Record(tmp_path, days), 1) is good


def test_the_page_adds_up(tmp_path: Path) -> None:
    """Days are summed; the longest is the longest of all."""
    text = page(Record(tmp_path, [day(), day(longest_s=6.0, control=1234)]), 1, "Commit `abc`.")

    assert "Commit `abc`. 1 of 1 days, 4 minutes awake." in text
    assert "* Frames in clear: **0**, of 14 that left the laptop." in text
    assert "(1,234 frames)" in text
    assert "**20 s**, 6.0 s at a\n  stretch at most" in text
    assert "| suspend | 2 | 0 | 4.0 s | 4.0 s | 3.0 s | 1.5 s |" in text


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    """Days and the disk are kept."""
    disk = tmp_path / "today"
    disk.write_text("as the day left it")
    Record.open(tmp_path / "week").add(day(refused=("a",)), disk)
    again = Record.open(tmp_path / "week")

    assert again.days == [day(refused=("a",))]
    assert again.disk.read_text() == "as the day left it"

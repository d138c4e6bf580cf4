# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens in a week, drawn from a seed: pure, so that the same week can be had again."""

from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final

SITES: Final = ("home", "cafe")
"""Where Wi-Fi and the cable lead; the telephone is a network of its own."""
NOWHERE: Final = ""


@dataclass(frozen=True, slots=True)
class Places:
    """Which network each of the laptop's three cards is in; `NOWHERE` for none."""

    wifi: str = NOWHERE
    cable: str = NOWHERE
    tether: str = NOWHERE

    @property
    def sites(self) -> tuple[str, str, str]:
        """Card by card."""
        return self.wifi, self.cable, self.tether

    def __str__(self) -> str:
        """In words, for people."""
        cards = zip(("Wi-Fi", "cable", "telephone"), self.sites, strict=True)
        return ", ".join(f"{card} {site}" for card, site in cards if site)


AT_HOME: Final = Places("home")
IN_THE_CAFE: Final = Places("cafe")
PORTALS_A_DAY: Final = 3
"""So often within an hour may temporary access be opened, and a replayed day is shorter than one."""
EVERYWHERE: Final = Places("home", "cafe", "tether")


class Kind(StrEnum):
    """What happens; also the rows of the table."""

    BOOT = "power-on"
    ROAM = "a card to another network"
    PLUGGED = "a network more"
    UNPLUGGED = "a network less"
    MOVED = "one network for another"
    FLAP = "carrier lost for a moment"
    SUSPEND = "suspend"
    ELSEWHERE = "suspend, and woken elsewhere"
    PORTAL = "captive portal"
    UPGRADE = "upgrade of the package"


CHANGES: Final = (Kind.ROAM, Kind.PLUGGED, Kind.UNPLUGGED, Kind.MOVED, Kind.FLAP)
"""The kinds of network changes."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happens, and where the laptop is afterwards."""

    kind: Kind
    after: Places


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many of each there are in the week."""

    changes: int = 200
    suspends: int = 20
    portals: int = 10
    reboots: int = 5


@dataclass(frozen=True, slots=True)
class Day:
    """From a power-on to the next: where the laptop is at its begin, and what happens then."""

    start: Places
    events: tuple[Event, ...]


def week(seed: int, sizes: Sizes) -> tuple[Day, ...]:
    """The days of a week: each begins with a reboot, the first with the one after the installation. They are of nearly
    the same length, and the upgrade is in one of them.

    ValueError where there is no day, or one would have more portals than temporary access is permitted.
    """
    random, number = Random(seed), sizes.reboots
    if number < 1:
        raise ValueError("without a reboot there is no day")
    if sizes.portals > number * PORTALS_A_DAY:
        raise ValueError(f"{number} days have {number * PORTALS_A_DAY} portals at most, {PORTALS_A_DAY} each")
    tasks: list[list[str]] = [[] for _ in range(number)]
    order = random.sample(range(number), number)
    for turn, task in enumerate(_tasks(sizes)):
        tasks[order[turn % number]].append(task)
    days, here = [], AT_HOME
    for of_the_day in tasks:
        random.shuffle(of_the_day)
        start, events = here, []
        for task in of_the_day:
            event = _event(task, here, random)
            events.append(event)
            here = event.after
        days.append(Day(start, tuple(events)))
    return tuple(days)


def _tasks(sizes: Sizes) -> list[str]:
    """What is dealt out to the days."""
    counts = {"portal": sizes.portals, "upgrade": 1, "suspend": sizes.suspends, "change": sizes.changes}
    return [task for task, count in counts.items() for _ in range(count)]


def _event(task: str, here: Places, random: Random) -> Event:
    match task:
        case "portal":
            return Event(Kind.PORTAL, IN_THE_CAFE)
        case "upgrade":
            return Event(Kind.UPGRADE, here)
        case "suspend":
            if random.random() < 0.5:
                return Event(Kind.SUSPEND, here)
            return Event(Kind.ELSEWHERE, random.choice([places for places in _all_places() if places != here]))
        case _:
            return random.choice(_changes(here, random))


def _changes(here: Places, random: Random) -> list[Event]:
    """One change of each kind that is possible where the laptop is."""
    by_kind: dict[Kind, list[Places]] = {}
    for places in _all_places():
        if (kind := _kind(here, places)) is not None:
            by_kind.setdefault(kind, []).append(places)
    return [Event(kind, random.choice(choice)) for kind, choice in by_kind.items()]


def _kind(before: Places, after: Places) -> Kind | None:
    """What the way from one to the other is; None for what is more than one change."""
    if before == after:
        return Kind.FLAP
    changed = [(old, new) for old, new in zip(before.sites, after.sites, strict=True) if old != new]
    match changed:
        case [("", _)]:
            return Kind.PLUGGED
        case [(_, "")]:
            return Kind.UNPLUGGED
        case [_]:
            return Kind.ROAM
        case [("", _), (_, "")] | [(_, ""), ("", _)]:
            return Kind.MOVED
        case _:
            return None


def _all_places() -> list[Places]:
    """Every way of being in at least one network."""
    return [
        Places(wifi, cable, tether)
        for wifi in (NOWHERE, *SITES)
        for cable in (NOWHERE, *SITES)
        for tether in (NOWHERE, "tether")
        if wifi or cable or tether
    ]

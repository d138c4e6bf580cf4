# SPDX-License-Identifier: GPL-3.0-or-later
"""Live through a week day by day; what came of each day is kept, and so is the disk as the day left it."""

import json
import math
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from tests.lab.frames import Frame
from tests.lab.process import LabError
from tests.lab.tree import Entry, copied
from tests.lab.world import World
from tests.vm.guest.chatty import SENDERS
from tests.vm.images import LIFE, image
from tests.vm.machine import MachineError, layer
from tests.week.laptop import NEW, OLD, Laptop, missing
from tests.week.online import Account, account
from tests.week.plan import EVERYWHERE, Day, Event, Kind
from tools.deb import build

Say = Callable[[str], None]
LEASE_S: Final = 1800
"""Of DHCP: some are renewed within a day, and most are not."""
INSTALLATION: Final = Day(EVERYWHERE, ())
"""Before the first day, at a network with each card, which the control needs."""
_CLOCK: Final = "%Y-%m-%dT%H:%M:%S"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One event, and seconds until all was back, seconds offline in spite of an uplink, frames in clear."""

    kind: str
    after: str
    back_s: float
    offline_s: float
    leaked: int


@dataclass(frozen=True, slots=True)
class DayRecord:
    """What came of one day, or of the installation, which is number 0. Times in seconds; ``frames``: how many of each
    class were recorded.
    """

    number: int
    outcomes: tuple[Outcome, ...]
    online_s: float
    without_uplink_s: float
    offline_s: float
    longest_s: float
    leaked: int
    what_leaked: str
    in_windows: int
    windows: int
    frames: dict[str, int]
    refused: tuple[str, ...]
    control: int = 0
    """Frames of the chatty programs that were seen before the package was installed."""
    lost: str = ""
    """Why the day could not go on: it takes a repair."""


@dataclass(slots=True)
class Record:
    """The days so far; a directory keeps them, the disk, and the gateway's keys."""

    place: Path
    days: list[DayRecord] = field(default_factory=list)

    @classmethod
    def open(cls, place: Path) -> Self:
        """What an earlier run has left."""
        record = cls(place)
        place.mkdir(parents=True, exist_ok=True)
        if record._file.exists():
            for line in record._file.read_text(encoding="utf-8").splitlines():
                entry = json.loads(line)
                outcomes = tuple(Outcome(**outcome) for outcome in entry.pop("outcomes"))
                refused = tuple(entry.pop("refused"))
                record.days.append(DayRecord(**entry, outcomes=outcomes, refused=refused))
        return record

    def add(self, day: DayRecord, disk: Path) -> None:
        """Keep a day, and the disk as it left it."""
        new = self.disk.with_suffix(".new")
        shutil.copyfile(disk, new)
        new.rename(self.disk)
        self.days.append(day)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(day)) + "\n")

    @property
    def _file(self) -> Path:
        return self.place / "days.jsonl"

    @property
    def disk(self) -> Path:
        """The layer, as the last whole day left it."""
        return self.place / "disk.qcow2"

    @property
    def is_broken(self) -> bool:
        """Whether a day could not go on."""
        return any(day.lost for day in self.days)

    def remember(self, world: World) -> None:
        """Have this world's gateway be the one that the disk knows; the first time, remember it."""
        gateway, file = world.gateway, self.place / "gateway.json"
        if not file.exists() or not self.days:
            kept = (gateway.private_key, gateway.peer_public_key, gateway.preshared_key)
            file.write_text(json.dumps(kept), encoding="ascii")
            return
        private, peer, gateway.preshared_key = json.loads(file.read_text(encoding="ascii"))
        gateway.host.run("wg", "set", "wg0", "peer", gateway.peer_public_key, "remove")
        gateway.admit(peer, private)


def live(days: tuple[Day, ...], suite: str, record: Record, say: Say) -> None:
    """Install, and live through the days that are not done yet; ends early when one of them cannot go on."""
    disk = record.place / "today.qcow2"
    planned = (INSTALLATION, *days)
    with World.build(lease_s=LEASE_S, links=(), tether=True) as world:
        record.remember(world)
        while len(record.days) < len(planned) and not record.is_broken:
            number = len(record.days)
            if number:
                shutil.copyfile(record.disk, disk)
            else:
                disk.unlink(missing_ok=True)
                layer(image(suite, LIFE), disk)
            done = _Today(number, planned[number], len(days), suite, disk, record.place, world, say).live()
            record.add(done, disk)
            say(_of_the_day(done))
    disk.unlink(missing_ok=True)


@dataclass(slots=True)
class _Today:
    """A day that is being lived; the installation is number 0."""

    number: int
    day: Day
    of: int
    suite: str
    disk: Path
    place: Path
    world: World
    say: Say
    outcomes: list[Outcome] = field(default_factory=list)
    since: float = 0.0
    """Unix time from which on nothing may be seen; before the first import everything may."""
    first_tick: int = 0

    def live(self) -> DayRecord:
        """From power-on to power-off."""
        clock = (datetime.now(UTC) + timedelta(days=self.number)).strftime(_CLOCK)
        more, lost = {}, ""
        if self.number == 0:
            more, self.since = packages(), math.inf
        with Laptop.power_on(
            image(self.suite, LIFE), self.disk, self.world, self.day.start, clock=clock, more=more
        ) as laptop:
            try:
                if self.number:
                    self._one(laptop, Event(Kind.BOOT, self.day.start), laptop.wait_booted)
                else:
                    self._arrive(laptop)
                for event in self.day.events:
                    self._one(laptop, event, lambda event=event: _perform(laptop, event))  # type: ignore[misc]
            except (LabError, MachineError) as error:
                lost = str(error)
                self._lost(laptop, lost)
            ticks = laptop.ticks()
            refused = tuple(laptop.refused())
            if not lost:
                laptop.power_off("reboot" if self.number < self.of else "poweroff")
            return self._record(laptop, account(ticks, self.first_tick), refused, lost)

    def _arrive(self, laptop: Laptop) -> None:
        """It begins without the product: what the laptop then sends is the control."""
        laptop.wait_booted()
        laptop.everybody_tries()
        self.say("booted; all programs have tried to send, and nothing is protected yet")
        began = time.monotonic()
        laptop.install()
        self.since = time.time()
        laptop.forgive()
        laptop.wait_back()
        self.first_tick = len(laptop.ticks())
        self.say(f"installed and connected after {time.monotonic() - began:.0f} s")

    def _one(self, laptop: Laptop, event: Event, perform: Callable[[], None]) -> None:
        before = max(0, len(laptop.ticks()) - 1)
        began = time.monotonic()
        perform()
        laptop.wait_back()
        back_s = time.monotonic() - began
        offline = account(laptop.ticks(), before)
        outcome = Outcome(event.kind, str(event.after), round(back_s, 2), round(offline.offline_s, 2), laptop.leaked())
        self.outcomes.append(outcome)
        leaked = f"; LEAKED {outcome.leaked}" if outcome.leaked else ""
        of_the_day = f"day {self.number}, {len(self.outcomes)}/{1 + len(self.day.events)}"
        came = f"back after {back_s:.1f} s, offline {outcome.offline_s:.1f} s{leaked}"
        self.say(f"{of_the_day}: {outcome.kind} ({outcome.after}); {came}")

    def _lost(self, laptop: Laptop, why: str) -> None:
        self.say(f"day {self.number} CANNOT GO ON: {why}")
        path = self.place / f"lost-{self.number}.txt"
        try:
            path.write_text(f"{why}\n{laptop.state()}\n{laptop.machine.console()}", encoding="utf-8")
        except MachineError as error:
            path.write_text(f"{why}\n{error}", encoding="utf-8")
        self.say(f"all that is known: {path}")

    def _record(self, laptop: Laptop, spent: Account, refused: tuple[str, ...], lost: str) -> DayRecord:
        """Judge all frames of the day, captured and dissected."""
        laptop.machine.pause()
        recording = laptop.recorder.recording(laptop.token)
        control = [frame for frame in recording.frames if frame.time < self.since and frame.sender is not None]
        if self.number == 0 and not lost:
            seen: dict[str, set[int]] = {}
            for frame in control:
                if frame.sender is not None:
                    seen.setdefault(frame.link, set()).add(frame.sender)
            if unseen := missing(seen):
                raise LabError(f"unprotected, yet never seen outside: {unseen}")
        clear = recording.clear(self.since)
        in_windows = {
            frame.number for frame in clear if any(begin <= frame.time <= end for begin, end in laptop.windows)
        }
        leaked = tuple(frame for frame in clear if frame.number not in in_windows)
        if leaked:
            self.say(f"kept: {laptop.recorder.keep(f'week-day-{self.number}')}")
        return DayRecord(
            self.number,
            tuple(self.outcomes),
            round(spent.online_s, 2),
            round(spent.without_uplink_s, 2),
            round(spent.offline_s, 2),
            round(spent.longest_s, 2),
            len(leaked),
            _described(leaked),
            len(in_windows),
            len(laptop.windows),
            {
                str(kind): count
                for kind, count in Counter(frame.kind for frame in recording.between(self.since)).items()
            },
            refused,
            len(control),
            lost,
        )


def _perform(laptop: Laptop, event: Event) -> None:
    match event.kind:
        case Kind.SUSPEND | Kind.ELSEWHERE:
            laptop.sleep(event.after)
        case Kind.PORTAL:
            laptop.pass_a_portal()
        case Kind.UPGRADE:
            laptop.upgrade()
        case _:
            laptop.go(event.after)


def packages() -> dict[str, Entry]:
    """Both versions of the package, where the administrator has put them."""
    with tempfile.TemporaryDirectory(prefix="aovpnd-week-") as place:
        return {f"/root/{version}.deb": copied(build(Path(place), version)) for version in (OLD, NEW)}


def _described(frames: tuple[Frame, ...]) -> str:
    """What was seen, by which card, and which of the chatty programs sent it; the frequent first."""
    counted = Counter(
        f"{frame.what} ({frame.link}), sent by {SENDERS[frame.sender][0] if frame.sender in SENDERS else 'others'}"
        for frame in frames
    )
    return "; ".join(f"{number} × {what}" for what, number in counted.most_common(12))


def _of_the_day(day: DayRecord) -> str:
    words = f"day {day.number}: {len(day.outcomes)} events, offline {day.offline_s:.1f} s in spite of an uplink"
    words += f" ({day.longest_s:.1f} s at a stretch), {day.leaked} frames in clear, {day.in_windows} in windows"
    words += f"; AppArmor refused: {'; '.join(day.refused)}" if day.refused else ""
    return words + (f"; LEAKED {day.what_leaked}" if day.what_leaked else "")

# SPDX-License-Identifier: GPL-3.0-or-later
"""Days of a laptop, on one disk: its power fails, it boots, works, and is switched off; on the next one again."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Final, Self

from aovpnd import names
from tests.lab.process import LabError, wait_for
from tests.lab.record import now
from tests.lab.tree import Tree, text
from tests.vm.guest.chatty import SENDERS
from tests.vm.images import SUITES
from tests.vm.laptop import BootedLaptop
from tests.vm.lives.record import PARTS, Course, Life, Part
from tests.vm.lives.stage import (
    DEADLINE_S,
    OUTLIVING,
    TOGETHER,
    UNBLOCKED,
    Stage,
    groups,
    leaked,
    senders,
    wait_works,
)
from tests.vm.machine import MachineError

ENDS: Final = (
    ("systemctl", "poweroff"),
    ("systemctl", "reboot"),
    ("systemctl", "poweroff", "--force"),
    ("systemctl", "reboot", "--force", "--force"),
    ("shutdown", "-h", "now"),
)
"""Ways of switching a laptop off; each laptop has one, on both Debians."""
_BOOT_S: Final = 30.0
"""Within which a power cut comes that hits the boot; a machine that is translated takes about as long."""
_MOMENT_S: Final = 4.0
"""Within which a power cut comes that hits an action."""
_AT_BOOT: Final = "at boot"
_WINDOW: Final = "in a window"
_IMPORT: Final = "while a tunnel is imported"
_ACTIONS: Final[dict[str, tuple[str, ...]]] = {
    "while the daemon restarts": ("systemctl", "--no-block", "restart", "aovpnd.service"),
    "while it reconnects": ("aovpnctl", "connect", "home"),
    _IMPORT: ("aovpnctl", "import", "/root/work.conf"),
    "while somebody flushes": ("nft", "flush", "ruleset"),
    "while settings are read": ("systemctl", "--no-block", "reload", "aovpnd.service"),
    _WINDOW: ("aovpnctl", "allow-temp", "5min"),
}
"""What a power cut interrupts."""


@dataclass(slots=True)
class _Day:
    """The lives of one day, as far as it has come."""

    cut: Life
    boot: Life
    end: Life

    @classmethod
    def of(cls, suite: str, number: int, way: Sequence[str], random: Random) -> Self:
        """What is to happen in it."""
        what = _AT_BOOT if random.random() < 1 / 3 else random.choice(tuple(_ACTIONS))
        return cls(
            Life(Part.POWER_CUT, number, suite, what, senders=len(SENDERS)),
            Life(Part.COLD, number, suite, "cold boot", senders=len(SENDERS)),
            Life(Part.END, number, suite, " ".join(way), senders=len(OUTLIVING)),
        )

    @property
    def lives(self) -> tuple[Life, ...]:
        """In the order in which they happened."""
        return self.cut, self.boot, self.end


def days(stage: Stage, numbers: Sequence[int], seed: int) -> Iterator[Life]:
    """The days of each laptop, until one goes wrong: another laptop does the rest when the run goes on. First the same
    laptop boots without the block, and is switched off in the same way.
    """
    for suite, group in groups(numbers):
        way = ENDS[group[0] // TOGETHER // len(SUITES) % len(ENDS)]
        files: Tree = {**stage.configured, "/root/work.conf": text(stage.world.laptop.tunnel_conf, 0o600)}
        seen, wrong = _control(stage, suite, files, way)
        with stage.disk(suite) as disk:
            for number in group:
                random = Random(f"{seed} day {number}")
                day = _Day.of(suite, number, way, random)
                wrong = wrong or _live(stage, disk, files, day, way, random)
                yield from (replace(life, lost=wrong, control=seen[life.part]) for life in day.lives)
                if wrong:
                    break
                files = {}


def _live(stage: Stage, disk: Path, files: Tree, day: _Day, way: Sequence[str], random: Random) -> str:
    """A day; what went wrong in it."""
    try:
        with stage.laptop(day.cut.suite, files, disk=disk) as laptop:
            until = _cut(laptop, day.cut.what, random)
            recording = laptop.recording()
            day.cut = replace(day.cut, frames=len(recording.frames), leaked=leaked(recording, end=until))
        with stage.laptop(day.boot.suite, {}, disk=disk) as laptop:
            back_s = _back(laptop, day.cut.what)
            laptop.wait_tried(laptop.built_in(), OUTLIVING, DEADLINE_S)
            since = now()
            switch_off(laptop, way)
            recording = laptop.recording()
    except (LabError, MachineError) as error:
        return str(error)
    boot, end = (0.0, since), (since, float("inf"))
    day.cut = replace(day.cut, back_s=back_s)
    day.boot = replace(day.boot, back_s=back_s, frames=len(recording.between(*boot)), leaked=leaked(recording, *boot))
    day.end = replace(day.end, frames=len(recording.between(*end)), leaked=leaked(recording, *end))
    return ""


def _cut(laptop: BootedLaptop, what: str, random: Random) -> float:
    """Wait for the instant at which the power fails; until when what left is judged."""
    until = float("inf")
    if what in _ACTIONS:
        wait_works(laptop)
        laptop.machine.check("sync")
        until = now() if what == _WINDOW else until
        laptop.machine.check("systemd-run", "--quiet", "--no-block", *_ACTIONS[what])
    _pause(random.uniform(0, _MOMENT_S if what in _ACTIONS else _BOOT_S))
    return until


def _back(laptop: BootedLaptop, what: str) -> float:
    """Wait until the tunnel works; where a second one was imported, nobody could know which is meant: it goes again."""
    if what == _IMPORT:
        laptop.machine.wait("the daemon", "systemctl", "is-active", "-q", names.UNIT, seconds=DEADLINE_S)
        laptop.machine.check("sh", "-c", f"rm -f /etc/aovpnd/tunnels/work.conf && systemctl reload {names.UNIT}")
    return wait_works(laptop)


def _pause(seconds: float) -> None:
    """The instant is random on purpose; nothing is waited for."""
    over = time.monotonic() + seconds
    wait_for("the instant", lambda: time.monotonic() >= over, deadline_s=seconds + 5, poll_s=0.01)


def _control(stage: Stage, suite: str, files: Tree, way: Sequence[str]) -> tuple[dict[str, int], str]:
    """The same laptop without the block: by part, how many of its senders were seen outside, of an end those that need
    no route, which are the only ones that have a way then; and what went wrong.
    """
    unblocked = {**files, UNBLOCKED: text("")}
    try:
        with stage.laptop(suite, unblocked, control=True) as laptop:
            link = laptop.built_in()
            laptop.wait_online(link, DEADLINE_S)
            laptop.wait_tried(link, SENDERS, DEADLINE_S)
            since = now()
            switch_off(laptop, way)
            recording = laptop.recording()
    except (LabError, MachineError) as error:
        return dict.fromkeys(PARTS[Course.DAY], 0), f"its control: {error}"
    tried, outlived = len(senders(recording, end=since)), len(senders(recording, since) & OUTLIVING)
    return {Part.POWER_CUT: tried, Part.COLD: tried, Part.END: outlived}, ""


def switch_off(laptop: BootedLaptop, command: Sequence[str]) -> None:
    """Switch a laptop off, and wait until it is."""
    words = " ".join(command)
    laptop.machine.run("systemd-run", "--quiet", "--no-block", "/bin/sh", "-c", f"exec {words}")
    laptop.machine.wait_state("shutdown", DEADLINE_S)

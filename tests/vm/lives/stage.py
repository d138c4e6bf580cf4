# SPDX-License-Identifier: GPL-3.0-or-later
"""Where lives take place: a world, the images, and what is asked of a laptop that runs in it."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from aovpnd import names
from tests.lab import plan
from tests.lab.frames import Kind
from tests.lab.process import LabError, wait_for
from tests.lab.product import installed
from tests.lab.record import Recording
from tests.lab.tree import Tree, text
from tests.lab.world import World
from tests.vm.guest.chatty import SENDERS
from tests.vm.images import SUITES, Image, image
from tests.vm.laptop import CARDS, CONTROL_CARDS, BootedLaptop
from tests.vm.lives.broken import ENABLED, TUNNEL
from tests.vm.machine import MachineError, layer

UNBLOCKED: Final = "/etc/aovpnd/unblocked"
TOGETHER: Final = 5
"""Trials of one laptop; the next one has the other Debian."""
OUTLIVING: Final = frozenset({3, 10, 12})
"""Senders that need neither a route nor a name: what outlives a system goes on with them to the last instruction."""
DEADLINE_S: Final = 600.0
"""For whatever a machine is waited for; QEMU may have to translate, and the machine below may be busy."""
_SWAP_MIB: Final = 1024
MEMORY_MIB: Final = 768
"""Of a laptop with NetworkManager, D-Bus and polkit."""


@dataclass(slots=True)
class Stage:
    """A world without a laptop, and what lies ready for one."""

    world: World
    _images: dict[tuple[str, tuple[str, ...]], Image] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def build(cls) -> Iterator[Self]:
        """A world until the end of the ``with``."""
        with World.build(links=(), tether=True) as world:
            yield cls(world)

    def image(self, suite: str, more: tuple[str, ...] = ()) -> Image:
        """The image of a suite, with ``more`` packages (`LIFE`)."""
        if (suite, more) not in self._images:
            self._images[suite, more] = image(suite, more)
        return self._images[suite, more]

    @property
    def configured(self) -> Tree:
        """The product with one tunnel, blocked from the first moment of a boot on."""
        return {**installed(ENABLED), TUNNEL: text(self.world.laptop.tunnel_conf, 0o600)}

    @contextmanager
    def laptop(
        self,
        suite: str,
        files: Tree,
        *,
        control: bool = False,
        disk: Path | None = None,
        more: tuple[str, ...] = (),
        **words: Any,
    ) -> Iterator[BootedLaptop]:
        """A laptop from power-on until its power is cut; all that it kept outside of ``disk`` is gone with it.

        ``control``: not the one that is judged, but the one that shows that the recorders would have seen it. The other
        words are `BootedLaptop.power_on`'s.
        """
        cards = CONTROL_CARDS if control else CARDS
        memory = MEMORY_MIB if more else 512
        if disk is None:
            self._newcomer()
        with BootedLaptop.power_on(
            self.image(suite, more), self.world, files, cards, disk=disk, memory=memory, **words
        ) as booted:
            directory = booted.machine.directory
            yield booted
        shutil.rmtree(directory)

    @contextmanager
    def disk(self, suite: str, more: tuple[str, ...] = ()) -> Iterator[Path]:
        """A disk that outlives a machine, until the end of the ``with``."""
        self._newcomer()
        with tempfile.TemporaryDirectory(dir=self.world.air.dir) as directory:
            yield layer(self.image(suite, more), Path(directory) / "disk.qcow2")

    @contextmanager
    def swap(self) -> Iterator[Path]:
        """A disk to hibernate on, until the end of the ``with``."""
        with tempfile.TemporaryDirectory(dir=self.world.air.dir) as directory:
            path = Path(directory) / "swap"
            with path.open("wb") as file:
                file.truncate(_SWAP_MIB << 20)
            subprocess.run(["mkswap", "-q", str(path)], check=True)
            yield path

    def _newcomer(self) -> None:
        """Have the gateway forget when the laptop before this one shook hands. It takes no older handshake, and a
        translated machine's clock runs minutes ahead in a few boots, which the next one's does not know.
        """
        self.world.gateway.revoke()
        self.world.gateway.admit()

    def control(self, suite: str, files: Tree, *, disk: Path | None = None, more: tuple[str, ...] = ()) -> int:
        """Boot the same laptop with the block off; how many of its senders were seen outside."""
        with self.laptop(suite, {**files, UNBLOCKED: text("")}, control=True, disk=disk, more=more) as laptop:
            link = laptop.built_in()
            laptop.wait_online(link, DEADLINE_S)
            laptop.wait_tried(link, SENDERS, DEADLINE_S)
            return len(senders(laptop.recording()))


def groups(numbers: Sequence[int]) -> Iterator[tuple[str, list[int]]]:
    """Suite and numbers of each laptop."""
    for group in sorted({number // TOGETHER for number in numbers}):
        yield SUITES[group % len(SUITES)], [number for number in numbers if number // TOGETHER == group]


def senders(recording: Recording, start: float = 0.0, end: float = float("inf")) -> set[int]:
    """The senders that were seen outside between two moments."""
    seen = {frame.sender for frame in recording.between(start, end) if frame.kind is Kind.CLEAR}
    return {number for number in seen if number in SENDERS}


def leaked(recording: Recording, start: float = 0.0, end: float = float("inf")) -> str:
    """What left in clear; empty when nothing did."""
    frames = recording.clear(start, end)
    return f"{len(frames)} frames: {recording.describe(frames, most=3)}" if frames else ""


def status(laptop: BootedLaptop) -> dict[str, Any]:
    """``aovpnctl status --json``; empty while there is none."""
    said = laptop.machine.run("aovpnctl", "status", "--json").out
    try:
        answer: dict[str, Any] = json.loads(said)
    except ValueError:
        return {}
    return answer


def works(laptop: BootedLaptop) -> bool:
    """Whether it is connected and protected, and its programs reach the internet by both families.

    First the file is read: in a translated machine aovpnctl takes a second, which the daemon has not while it starts.
    """
    published = laptop.machine.run("cat", f"{names.RUNTIME_DIR}/{names.STATUS_FILE}").out
    if not published or json.loads(published)["phase"] != "connected":
        return False
    said = status(laptop)
    if said.get("phase") != "connected" or not said.get("protected"):
        return False
    ping = ("ping", "-c", "1", "-W", "3")
    return all(laptop.machine.run(*ping, str(address)).code == 0 for address in (plan.WEB4, plan.WEB6))


def wait_works(laptop: BootedLaptop) -> float:
    """Wait until it `works`; return the machine's own time of that, in seconds since power-on."""
    try:
        wait_for("the tunnel to work", lambda: works(laptop), deadline_s=DEADLINE_S, poll_s=0.2)
    except LabError as error:
        journal = laptop.machine.run("journalctl", "-b", "--no-pager", "-n", "30", "-u", "aovpnd*").out
        raise MachineError(f"{error}: {status(laptop)}\n{journal}") from None
    return uptime(laptop)


def uptime(laptop: BootedLaptop) -> float:
    """Seconds since power-on, by the machine's own clock."""
    return float(laptop.machine.check("cat", "/proc/uptime").split()[0])

# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests of real container programs: a network namespace that one of them has made, and its senders."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.container.booted import Booted
from tests.container.phases import blocked, window
from tests.lab import plan
from tests.lab.beacon import RECORD
from tests.lab.frames import Kind
from tests.lab.host import Host
from tests.lab.process import LabError, stop, wait_for
from tests.lab.sender_kinds import BY_NAME
from tests.netns.protected import UNROUTED, Watch, names_of

SENDERS: Final = ("udp4", "tcp4", "dns4", "raw4", "packet4")
"""How a guest sends; in a window the laptop itself sends in all other ways, so that they can be told apart."""
OTHERS: Final = tuple(kind for kind in UNROUTED if kind.name not in SENDERS)
QUICK_S: Final = 1.0
"""Within this a guest's program knows that it gets nowhere."""


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest, by the number of one of its processes in this world, and its link."""

    host: Host
    pid: int
    link: str = "eth0"

    def prefix(self) -> tuple[str, ...]:
        """What to put before a command so that it runs in the guest's network."""
        return ("nsenter", f"--net=/proc/{self.pid}/ns/net", "--")

    def curl(self, *words: str, timeout_s: float = 3.0) -> str:
        """What curl(1) gets there, "" where it gets nothing."""
        curl = ("curl", "-sS", "--max-time", str(timeout_s), *words)
        return self.host.run(*self.prefix(), *curl, check=False).stdout.strip()

    def address_outside(self) -> str:
        """The address that the web server sees it come from; "" when it sees nothing of it."""
        return self.curl(f"http://{plan.WEB4}/ip")

    def refused_in_s(self) -> float:
        """How long a connection takes to fail."""
        began = time.monotonic()
        assert self.address_outside() == ""
        return time.monotonic() - began

    @contextmanager
    def sending(self, token: bytes) -> Iterator[None]:
        """Its programs send all the while, and have all tried several times when the block is left."""
        report = self.host.dir / f"guest-{self.pid}-{time.monotonic_ns()}"
        report.touch()
        words = (token.hex(), "25", self.link, str(report), *SENDERS)
        sender = self.host.spawn(*self.prefix(), sys.executable, "-m", "tests.lab.beacon", *words, log="beacon")
        try:
            yield
            before = report.stat().st_size
            enough = before + 5 * len(SENDERS) * RECORD.size
            wait_for("the guest to send", lambda: report.stat().st_size >= enough, deadline_s=20)
        finally:
            stop(sender)


def outer_pid(laptop: Booted, inner: int) -> int:
    """A process of the container by this world's numbers."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":\t", 1) for line in status.read_text("utf-8").splitlines() if ":\t" in line)
        except OSError:
            continue
        numbers = lines["NSpid"].split()
        depth = len(Path(f"/proc/{laptop.system.leader}/status").read_text("utf-8").split("NSpid:")[1].splitlines()[0].split())
        if len(numbers) >= depth and numbers[depth - 1] == str(inner) and _below(int(numbers[0]), laptop.system.leader):
            return int(numbers[0])
    raise LabError(f"no process {inner} in the container")


def _below(pid: int, ancestor: int) -> bool:
    """Whether a process descends from another."""
    while pid > 1 and pid != ancestor:
        pid = int(Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[1])
    return pid == ancestor


# -- in every phase ----------------------------------------------------------------------------------------------------
def judge(laptop: Booted, guest: Guest) -> None:
    """Without the block the guest is seen outside; blocked it is not, and fails at once; connected it comes out at the
    gateway, and nowhere else; it does not share a window.
    """
    unblocked(laptop, guest)
    with blocked(laptop) as watch, guest.sending(watch.senders.token):
        watch.everybody_tries()
        assert guest.refused_in_s() < QUICK_S
    connected(laptop, guest)
    with window(laptop, OTHERS) as span, guest.sending(span.watch.senders.token):
        assert guest.address_outside() == ""
    assert not span.seen() & set(SENDERS), "it shares the window"


def connected(laptop: Booted, guest: Guest) -> None:
    """It comes out at the gateway."""
    with laptop.net.nothing_leaves() as watch, guest.sending(watch.senders.token):
        wait_for("the guest at the gateway", lambda: guest.address_outside() == str(plan.GATEWAY4), deadline_s=20)


def unblocked(laptop: Booted, guest: Guest) -> None:
    """The positive control: the same guest, seen without the block."""
    laptop.system.check("aovpnctl", "unblock")
    try:
        with laptop.net.watch((BY_NAME["udp4"],)) as watch, guest.sending(watch.senders.token):
            wait_for("the guest outside", lambda: guest.address_outside() == plan.HOME.wan4, deadline_s=20)
        assert watch.recording.counts()[Kind.CLEAR] > 0
        unseen = {"udp4", "tcp4", "raw4"} - watch.seen()
        assert not unseen, unseen
    finally:
        laptop.system.check("aovpnctl", "block")
        laptop.wait_works()



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
from tests.netns.protected import UNROUTED

SENDERS: Final = ("udp4", "tcp4", "dns4", "raw4", "packet4")
"""How a guest sends; in a window the laptop itself sends in all other ways, so that they can be told apart."""
OTHERS: Final = tuple(kind for kind in UNROUTED if kind.name not in SENDERS)
SLEEP: Final = ("/usr/bin/sleep", "infinity")
"""What a guest does otherwise."""
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
        """What a web client gets there, "" where it gets nothing."""
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


def guests_pid(laptop: Booted) -> int:
    """The only guest's process, which does `SLEEP` in a network of its own, by this world's numbers."""

    def found() -> int | None:
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                command = (entry / "cmdline").read_bytes()
                inode = (entry / "ns/net").stat().st_ino
            except OSError:
                continue
            if command == b"\0".join(word.encode() for word in SLEEP) + b"\0" and inode != laptop.system.host.netns:
                return int(entry.name)
        return None

    pid = wait_for("the guest", found)
    if pid is None:
        raise LabError("unreachable: wait_for returns what is true")
    return pid


# -- in every phase ----------------------------------------------------------------------------------------------------
def judge(laptop: Booted, guest: Guest) -> None:
    """Without the block the guest is seen outside; blocked it is not, and fails at once; connected it comes out at the
    gateway, and nowhere else; it does not share a window.
    """
    unblocked(laptop, guest)
    with blocked(laptop) as watch:
        # The kernel tells a guest of an error once a second only, after the first few (docs/known-issues.md).
        assert guest.refused_in_s() < QUICK_S
        with guest.sending(watch.senders.token):
            assert guest.address_outside() == ""
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

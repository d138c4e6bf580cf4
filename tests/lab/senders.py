# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of the laptop's user that send all the time: polite ones of every kind, and a flood.

Both put the run's random token into every payload, so that the recorder finds their frames whatever they look like.
"""

import json
import secrets
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab import plan
from tests.lab.beacon import NOT_OPEN, RECORD
from tests.lab.frames import TOKEN_BYTES
from tests.lab.laptop import Laptop
from tests.lab.process import SLOW, LabError, stop
from tests.lab.sender_kinds import BY_NUMBER, KINDS, SenderKind


def new_token() -> bytes:
    """Return a token that occurs in no frame by chance."""
    return secrets.token_bytes(TOKEN_BYTES)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to send."""

    time: float
    kind: SenderKind
    status: int
    """0: the kernel took it; 255: no socket could be opened; else the errno."""


@dataclass(slots=True)
class Senders:
    """Polite senders of many kinds, as an ordinary user and as one with CAP_NET_RAW."""

    token: bytes
    _processes: list[subprocess.Popen[bytes]]
    _reports: list[Path]

    @classmethod
    def start(
        cls,
        laptop: Laptop,
        kinds: tuple[SenderKind, ...] = KINDS,
        *,
        link: str = "wlan0",
        rate: float = 10.0,
        token: bytes | None = None,
    ) -> Self:
        """Start them: ``rate`` payloads a second of each kind; returns when all run."""
        token = token or new_token()
        processes, reports = [], []
        for net_raw, uid in ((False, plan.USER), (True, plan.RAW_USER)):
            names = [kind.name for kind in kinds if kind.needs_net_raw is net_raw]
            if not names:
                continue
            report = laptop.host.dir / f"beacon-{secrets.token_hex(4)}"
            report.touch()
            report.chmod(0o666)
            command = (
                sys.executable,
                "-m",
                "tests.lab.beacon",
                token.hex(),
                str(rate / SLOW),
                link,
                str(report),
                *names,
            )
            process = laptop.host.spawn(*command, uid=uid, net_raw=net_raw, log="beacon", stdout=subprocess.PIPE)
            processes.append(process)
            reports.append(report)
        for process in processes:
            if process.stdout is None or process.stdout.readline() != b"ready\n":
                raise LabError(f"a sender did not start: {(laptop.host.dir / 'beacon.log').read_text()[-400:]}")
        return cls(token, processes, reports)

    def attempts(self, start: float = 0.0, end: float = float("inf")) -> tuple[Attempt, ...]:
        """What was tried in a span of Unix time, the end excluded."""
        found = []
        for report in self._reports:
            data = report.read_bytes()
            for time, number, status in RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size]):
                if start <= time < end:
                    found.append(Attempt(time, BY_NUMBER[number], status))
        return tuple(sorted(found, key=lambda attempt: attempt.time))

    def sent(self, start: float = 0.0, end: float = float("inf")) -> Counter[int]:
        """How many payloads the kernel took, by the kind's number."""
        return Counter(attempt.kind.number for attempt in self.attempts(start, end) if attempt.status == 0)

    def tried(self, start: float = 0.0, end: float = float("inf")) -> int:
        """How many payloads the programs tried to send by a socket that they had."""
        return sum(attempt.status != NOT_OPEN for attempt in self.attempts(start, end))

    def stop(self) -> None:
        """End them; may be called twice."""
        for process in self._processes:
            stop(process)
            if process.stdout:
                process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@dataclass(slots=True)
class Flood:
    """Senders without pause."""

    token: bytes
    _processes: list[subprocess.Popen[bytes]]

    @classmethod
    def start(
        cls,
        laptop: Laptop,
        kinds: tuple[str, ...] = ("udp4", "udp6", "packet4"),
        *,
        link: str = "wlan0",
        token: bytes | None = None,
    ) -> Self:
        """Start one process per kind (`flood.KINDS`)."""
        token = token or new_token()
        processes = []
        for kind in kinds:
            net_raw = kind.startswith("packet")
            command = (sys.executable, "-m", "tests.lab.flood", token.hex(), kind, link)
            uid = plan.RAW_USER if net_raw else plan.USER
            processes.append(laptop.host.spawn(*command, uid=uid, net_raw=net_raw, log="flood", stdout=subprocess.PIPE))
        for process in processes:
            if process.stdout is None or process.stdout.readline() != b"ready\n":
                raise LabError(f"a flood did not start: {(laptop.host.dir / 'flood.log').read_text()[-400:]}")
        return cls(token, processes)

    def stop(self) -> dict[str, dict[str, float]]:
        """End it; returns per kind ``attempts``, ``sent`` (the kernel took them) and ``seconds``."""
        result: dict[str, dict[str, float]] = {}
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            output = process.communicate(timeout=20)[0]
            result.update(json.loads(output) if output else {})
        self._processes = []
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the internet's echo server fifty times a second, to see when the way there works: for times of recovery.

As a program: ``python -m tests.lab.probe TOKEN REPORT`` until SIGTERM; REPORT gets one record per answer (`RECORD`):
Unix time of the question and of the answer. `Probe` starts it in a laptop and reads the report.
"""

import secrets
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.lab import plan
from tests.lab.laptop import Laptop
from tests.lab.process import LabError, stop

RECORD: Final = struct.Struct("<dd")
NUMBER: Final = 31
"""What stands behind the token in its payloads, as a sender's number does."""
INTERVAL_S: Final = 0.02
_WAITING: Final = 50
"""Questions that an answer is awaited for, the last second's."""


@dataclass(slots=True)
class Probe:
    """A running probe of a laptop."""

    _process: subprocess.Popen[bytes]
    _report: Path

    @classmethod
    def start(cls, laptop: Laptop, token: bytes) -> Self:
        """Start it as an ordinary user's program."""
        report = laptop.host.dir / f"probe-{secrets.token_hex(4)}"
        report.touch()
        report.chmod(0o666)
        command = (sys.executable, "-m", "tests.lab.probe", token.hex(), str(report))
        process = laptop.host.spawn(*command, uid=plan.USER, log="probe", stdout=subprocess.PIPE)
        if process.stdout is None or process.stdout.readline() != b"ready\n":
            raise LabError(f"the probe did not start: {(laptop.host.dir / 'probe.log').read_text()[-400:]}")
        return cls(process, report)

    def answered_after(self, event: float) -> float | None:
        """When the first question that was asked after ``event`` (Unix time) was answered; None so far."""
        data = self._report.read_bytes()
        for asked, answered in RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size]):
            if asked >= event:
                return float(answered)
        return None

    def stop(self) -> None:
        """End it; may be called twice."""
        stop(self._process)
        if self._process.stdout:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _new_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    return sock


def main(arguments: list[str]) -> int:
    """Ask until SIGTERM. A new socket each time, so that no cached route or source address hides a way that is back."""
    token, report = bytes.fromhex(arguments[0]), Path(arguments[1])
    running = True

    def end(_signal: int, _frame: object) -> None:
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, end)
    print("ready", flush=True)
    waiting: list[socket.socket] = []
    with report.open("wb", buffering=0) as file:
        due = time.monotonic()
        while running:
            while len(waiting) >= _WAITING:
                waiting.pop(0).close()
            sock = _new_socket()
            waiting.append(sock)
            try:
                sock.sendto(token + struct.pack("<Bd", NUMBER, time.time()), (str(plan.ECHO4), plan.ECHO_PORT))
            except OSError:
                waiting.pop().close()
            due = max(due + INTERVAL_S, time.monotonic())
            while (left := due - time.monotonic()) > 0:
                for ready in select.select(waiting, [], [], left)[0]:
                    try:
                        answer = ready.recv(2048)
                    except OSError:
                        answer = b""
                    if len(answer) == len(token) + 9:
                        file.write(RECORD.pack(struct.unpack_from("<d", answer, len(token) + 1)[0], time.time()))
                    waiting.remove(ready)
                    ready.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

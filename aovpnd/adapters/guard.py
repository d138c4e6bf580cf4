# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard's process: start it, stop it, hear of its death. What its tables say is the guard's own business."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from aovpnd import names
from aovpnd.adapters.systemd import under_systemd
from aovpnd.errors import SystemFault, ToolError
from aovpnd.lock import holder
from aovpnd.model import GuardState

START_S: Final = 5.0
"""How long a guard may take from its start to its tables, before it counts as missing."""
SOON, AGAIN_S = 3, 30.0
"""After so many starts in vain it is started only now and then. One that lives tries by itself."""
_SYSTEMCTL: Final = "/usr/bin/systemctl"


class GuardProcess:
    """One guard beside the daemon: a unit of its own under systemd, a detached process otherwise. It outlives the
    daemon.
    """

    def __init__(self, runtime_dir: Path) -> None:
        self._runtime_dir = runtime_dir
        self._lock = runtime_dir / names.GUARD_LOCK_FILE
        self._child: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._starts = 0
        """Since it last held its tables."""

    def observe(self, tables: GuardState) -> GuardState:
        """The state, given what the tables say: a guard that was just started has none yet, and one that was started in
        vain is not started anew all the time.
        """
        if self._child is not None and self._child.poll() is not None:
            self._child = None
        if tables is GuardState.HELD:
            self._starts = 0
            return tables
        age = time.monotonic() - self._started_at
        if self._starts > 1 and age < (START_S if self._starts <= SOON else AGAIN_S):
            return GuardState.FAILING
        starting = age < START_S and (self._child is not None or under_systemd())
        return GuardState.STARTING if starting else GuardState.MISSING

    def ensure(self, state: GuardState) -> None:
        """Start it (without waiting for its tables), or stop it. `SystemFault` when that fails."""
        self._starts = self._starts + 1 if state is GuardState.HELD else 0
        if under_systemd():
            self._by_systemd("start" if state is GuardState.HELD else "stop")
        elif state is GuardState.HELD:
            self._start()
        else:
            self._stop()

    def pid(self) -> int | None:
        """The guard's pid, whoever started it."""
        return holder(self._lock)

    def _start(self) -> None:
        self._stop()  # one that lives without its tables is of no use
        command = [sys.executable, "-I", "-m", "aovpnd.guard", "--runtime-dir", str(self._runtime_dir)]
        try:
            with (self._runtime_dir / "guard.log").open("ab") as output:
                self._child = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/"
                )
        except OSError as error:
            raise ToolError(f"the guard cannot be started: {error.strerror}") from error
        self._started_at = time.monotonic()

    def _stop(self) -> None:
        pid = self.pid()
        if pid is not None:
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
            except OSError as error:
                raise SystemFault(f"the guard (pid {pid}) cannot be stopped: {error.strerror}") from error
        if self._child is not None:
            try:
                self._child.wait(START_S)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
            self._child = None

    def _by_systemd(self, verb: str) -> None:
        try:
            subprocess.run(
                [_SYSTEMCTL, "--no-block", verb, names.GUARD_UNIT], check=True, timeout=START_S, capture_output=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise ToolError(
                f"systemctl {verb} {names.GUARD_UNIT} failed", hint="systemctl status aovpnd-guard"
            ) from error
        self._started_at = time.monotonic() if verb == "start" else 0.0

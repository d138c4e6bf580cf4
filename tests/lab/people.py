# SPDX-License-Identifier: GPL-3.0-or-later
"""Who asks, as a container's logind and polkit see it: at the seat, from afar, or from no session at all.

Sessions are logind's own: each command runs in a transient unit that opens one through PAM's service ``login``, like a
getty. `Terminal` is a pseudo-terminal, with somebody who reads and types.
"""

import contextlib
import os
import re
import secrets
import select
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Final, Self

from tests.lab.container import Account, Container
from tests.lab.process import LabError, wait_for

_READ_BYTES: Final = 4096


class Place(StrEnum):
    """Where somebody's program runs."""

    SEAT = "seat"
    """In a session at the machine's own seat; the last one that was opened there is the active one."""
    AFAR = "afar"
    """In a session without a seat, as over ssh."""
    NOWHERE = "nowhere"
    """In no session, as a service or a cron job of that user."""


def asks(account: Account, place: Place) -> list[str]:
    """What to put before a command, for `Container.run`, so that it runs as somebody from somewhere."""
    words = ["systemd-run", "--quiet", "--wait", "--collect", f"--uid={account.name}", f"--gid={account.name}"]
    if place is not Place.NOWHERE:
        words += ["--property=PAMName=login", "--setenv=XDG_SESSION_CLASS=user", "--setenv=XDG_SESSION_TYPE=tty"]
    if place is Place.SEAT:
        words += ["--setenv=XDG_SEAT=seat0"]
    return words


def run_as(
    container: Container, account: Account, place: Place, *command: str, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end as somebody from somewhere, without a terminal."""
    return container.run(*asks(account, place), "--pipe", "--", *command, stdin=stdin)


@contextlib.contextmanager
def at_the_seat(container: Container, account: Account) -> Iterator[None]:
    """Somebody sits down at the machine's seat and stays there: every session that was there before is inactive."""
    unit = f"lab-seat-{account.name}.service"
    words = asks(account, Place.SEAT)
    words.remove("--wait")
    container.check(*words, f"--unit={unit}", "--", "sleep", "infinity")
    try:
        wait_for(f"{account.name} at the seat", lambda: active_at_seat(container) == account.name)
        yield
    finally:
        container.run("systemctl", "stop", unit)


_FROM_AFAR: Final = """
import signal, subprocess
from gi.repository import Gio, GLib
bus = Gio.bus_get_sync(Gio.BusType.SYSTEM, None)
leader = subprocess.Popen(["sleep", "infinity"])
asked = (UID, leader.pid, "sshd", "tty", "user", "", "", 0, "", "", True, "", "192.0.2.7", [])
to = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager", "CreateSession")
words = GLib.Variant("(uusssssussbssa(sv))", asked)
answer, session = bus.call_with_unix_fd_list_sync(*to, words, None, 0, -1, None, None)
signal.pause()
"""
"""What PAM does for sshd. The session lasts for as long as its descriptor."""


@contextlib.contextmanager
def from_afar(container: Container, account: Account) -> Iterator[None]:
    """Somebody is logged in over the network, as logind has it; what `Place.AFAR` lacks is an address to come from."""
    unit = "lab-from-afar.service"
    script = _FROM_AFAR.replace("UID", str(account.uid))
    container.check("systemd-run", "--quiet", "--collect", f"--unit={unit}", "--", "python3", "-I", "-c", script)
    try:
        try:
            wait_for(f"{account.name} from afar", lambda: "yes" in remote_sessions(container))
        except LabError as error:
            said = container.run("journalctl", "--no-pager", "-n", "60", "-u", unit, "-u", "systemd-logind").stdout
            raise LabError(f"{error}\n{said}\n{container.run('loginctl', 'list-sessions').stdout}") from None
        yield
    finally:
        container.run("systemctl", "stop", unit)
        wait_for(f"{account.name} to have left", lambda: "yes" not in remote_sessions(container))


def remote_sessions(container: Container) -> list[str]:
    """Of each session, whether it is remote and not yet left."""
    sessions = container.check("loginctl", "list-sessions", "--no-legend").splitlines()
    words = ("loginctl", "show-session", "--value", "--property=Remote", "--property=State")
    shown = [container.run(*words, line.split()[0]).stdout.split() for line in sessions]
    return ["no" if "closing" in words else words[0] for words in shown if words]


def active_at_seat(container: Container) -> str:
    """The name of the user whose session is active at the seat, "" when there is none."""
    seat = container.run("loginctl", "show-seat", "--property=ActiveSession", "--value", "seat0").stdout.strip()
    if not seat:
        return ""
    return container.run("loginctl", "show-session", "--property=Name", "--value", seat).stdout.strip()


@dataclass(slots=True)
class Terminal:
    """A program on a terminal of its own; a context manager that hangs up."""

    _container: Container
    _unit: str
    _process: subprocess.Popen[bytes]
    _descriptor: int
    _text: str = ""

    @classmethod
    def open(cls, container: Container, account: Account, place: Place, *command: str) -> Self:
        """Start a program as somebody from somewhere, on a new terminal."""
        ours, theirs = os.openpty()
        unit = f"lab-terminal-{secrets.token_hex(4)}.service"
        try:
            words = [*container.prefix(), *asks(account, place), "--pty", f"--unit={unit}", "--", *command]
            process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        finally:
            os.close(theirs)
        return cls(container, unit, process, ours)

    def read_until(self, pattern: str, *, deadline_s: float = 20.0) -> str:
        """Wait until the terminal shows what a regular expression matches; return everything up to there."""
        end = time.monotonic() + deadline_s
        while not (match := re.search(pattern, self._text)):
            if not self._read(end - time.monotonic()):
                raise LabError(f"the terminal never showed {pattern!r}, but: {self._text!r}")
        seen, self._text = self._text[: match.end()], self._text[match.end() :]
        return seen

    def enter(self, line: str) -> None:
        """Type a line."""
        os.write(self._descriptor, f"{line}\n".encode())

    def enter_secret(self, line: str) -> None:
        """Type a line that the terminal must not show, as soon as it would not: an agent that turns the echo off
        throws away what was typed before, or the half of it.
        """
        wait_for("the echo to be off", self._hides)
        self.enter(line)
        assert line not in self.read_until("\n")

    def finish(self, *, deadline_s: float = 20.0) -> tuple[int, str]:
        """Wait for the program's end; return its exit status and what the terminal showed since the last look."""
        end = time.monotonic() + deadline_s
        while self._read(end - time.monotonic()):
            pass
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(max(0.1, end - time.monotonic())), self._text
        raise LabError(f"the program on the terminal does not end; it shows: {self._text!r}")

    def _hides(self) -> bool:
        """Whether what is typed is not shown, by the unit's own terminal (ours has systemd-run between)."""
        path = self._container.check("systemctl", "show", "--value", "--property=TTYPath", self._unit).strip()
        return "-echo" in self._container.check("stty", "-a", "-F", path).split()

    def _read(self, wait_s: float) -> bool:
        """Read what is shown next; False at the end of the program or of the time."""
        if wait_s <= 0 or not select.select([self._descriptor], [], [], wait_s)[0]:
            return False
        try:
            data = os.read(self._descriptor, _READ_BYTES)
        except OSError:  # EIO: nobody has the other side open any more
            return False
        self._text += data.decode(errors="replace")
        return bool(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
        self._process.kill()
        self._process.wait()

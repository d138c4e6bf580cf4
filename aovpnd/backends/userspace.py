# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that carry a tunnel in user space, wireguard-go and charon: one process per link, which outlives the daemon
and is adopted by it through its control socket.

The socket is the proof that a link is what its name says: only root, and its unit's user, can make it. Under systemd
the process is a unit of its own; without, a detached one.
"""

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aovpnd import names, rtnl
from aovpnd.adapters import process
from aovpnd.adapters.systemd import under_systemd
from aovpnd.errors import SystemFault, ToolError

SOCKETS: Final = Path("/run/wireguard")
"""wireguard-go's own choice."""
START_S: Final = 15.0
"""How long one may take to come up, which on a machine that boots or swaps is seconds."""
_STOP_S: Final = 1.0
_POLL_S: Final = 0.002
_PEERCRED: Final = struct.Struct("=iII")  # ucred: pid, uid, gid


def has_socket(link: str) -> bool:
    """Whether a user-space WireGuard stands behind a link."""
    return (SOCKETS / f"{link}.sock").is_socket()


@dataclass(frozen=True, slots=True)
class Program:
    """One of these programs. ``socket`` and ``arguments`` are of a link; ``ready`` says whether it has come up.

    ``turn_s``: how long that is waited for at a time. Whoever waits sees and mends nothing else meanwhile.
    """

    name: str
    unit: str
    socket: Callable[[str], Path]
    arguments: Callable[[str], tuple[str, ...]]
    ready: Callable[[str], bool]
    environment: Callable[[str], Mapping[str, str]]
    hint: str
    turn_s: float = START_S


class UserspaceProcess:
    """The processes of one program in this network namespace."""

    def __init__(self, program: Program, runtime_dir: Path) -> None:
        self._program = program
        self._runtime_dir = runtime_dir
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._begun: dict[str, float] = {}
        """When those were started that have not come up yet (CLOCK_MONOTONIC)."""

    def reap(self) -> bool:
        """Take note of those that ended; says whether any that we started still runs."""
        self._children = {link: child for link, child in self._children.items() if child.poll() is None}
        return bool(self._children)

    def runs(self, link: str) -> bool:
        """Whether there is one for a link, whoever started it."""
        return self._pid(link) is not None

    def start(self, link: str) -> None:
        """Start one and wait until its link is there and its socket answers.

        `ToolError` when it does not come up. One that is slow goes on, and the next call waits for it.
        """
        name = self._program.name
        log = self._runtime_dir / f"{name}-{link}.log"
        if link not in self._begun:
            self._begin(link, log)
        if not wait(lambda: self._failed(link) or self._is_up(link), self._program.turn_s):
            if time.monotonic() - self._begun[link] < START_S:
                raise ToolError(f"{name} for {link} has not come up yet", hint="it is waited for")
            self.stop(link)
            raise ToolError(f"{name} for {link} did not come up within {START_S:g} s")
        del self._begun[link]
        if self._failed(link):
            self.reap()
            complaint = process.without_keys(_tail(log))
            raise ToolError(f"{name} for {link} ended at once: {complaint}", hint=self._program.hint)

    def _begin(self, link: str, log: Path) -> None:
        name = self._program.name
        process.find(name)  # says what to install
        self.stop(link)  # a process without its link, or a socket without its process
        if under_systemd():
            process.run("systemctl", "restart", self._program.unit.format(link=link), deadline_s=START_S)
        else:
            arguments = [process.find(name), *self._program.arguments(link)]
            self._children[link] = process.start(arguments, log, self._program.environment(link))
        self._begun[link] = time.monotonic()

    def _is_up(self, link: str) -> bool:
        return self._program.ready(link) and self.runs(link)

    def _failed(self, link: str) -> bool:
        child = self._children.get(link)
        return child is not None and child.poll() is not None

    def stop(self, link: str) -> None:
        """End the one of a link, if there is any, and remove its socket. `SystemFault` when it does not go.

        It ends by itself when its link was deleted. One that hangs is killed: it holds nothing that could be lost.
        """
        self._begun.pop(link, None)
        pid = self._pid(link)
        if pid is not None:
            self._end(link, pid, 0.0 if exists(link) else _STOP_S)
        child = self._children.get(link)
        if child is not None and not wait(lambda: child.poll() is not None, _STOP_S):
            child.kill()  # it never got as far as a socket
            child.wait()
        self.reap()
        # Read-only in the unit's sandbox. Then it stays: without a link it means nothing, and the program replaces it.
        with contextlib.suppress(OSError):
            self._program.socket(link).unlink()

    def _pid(self, link: str) -> int | None:
        return _listener(self._program.socket(link))

    def _end(self, link: str, pid: int, patience_s: float) -> None:
        """Wait for the end of a process, then bring it about. By a pidfd, because the number may soon be somebody
        else's.

        Its socket is not asked whether it is still there: at one that hangs, connections would pile up until it looks
        dead.
        """
        name = self._program.name
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        except OSError as error:
            raise SystemFault(f"{name} (pid {pid}) cannot be watched: {error.strerror}") from error
        try:
            if _ended(handle, patience_s):
                return
            if under_systemd():
                # Its unit has a user of its own, whose processes are not ours to signal.
                with contextlib.suppress(ToolError):
                    process.run("systemctl", "stop", self._program.unit.format(link=link), deadline_s=START_S)
                if _ended(handle, 0.0):
                    return
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            if not _ended(handle, _STOP_S):
                raise SystemFault(f"{name} (pid {pid}) does not end")
        except ProcessLookupError:
            return
        except OSError as error:
            raise SystemFault(f"{name} (pid {pid}) cannot be killed: {error.strerror}") from error
        finally:
            os.close(handle)


def _tail(log: Path) -> bytes:
    try:
        return log.read_bytes()[-4096:]
    except OSError:
        return b""


def exists(link: str) -> bool:
    """Whether there is a link of that name."""
    return any(other.name == link for other in rtnl.dump_links())


def _listener(path: Path) -> int | None:
    """Who listens on a socket, as the kernel says; None when nobody does."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as client:
            client.connect(str(path))
            pid, _uid, _gid = _PEERCRED.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))
    except OSError:
        return None
    return pid if pid > 0 else None  # 0: it lives in a pid namespace that we cannot see


def _ended(handle: int, patience_s: float) -> bool:
    return bool(select.select([handle], [], [], patience_s)[0])


def wait(condition: Callable[[], bool], deadline_s: float) -> bool:
    """Wait until something is so; False when it is not within ``deadline_s`` seconds."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(_POLL_S)
    return True


WIREGUARD_GO: Final = Program(
    name="wireguard-go",
    unit=names.WIREGUARD_GO_UNIT,
    socket=lambda link: SOCKETS / f"{link}.sock",
    arguments=lambda link: ("-f", link),
    ready=exists,
    environment=lambda _link: {},
    hint="is /dev/net/tun there? modprobe tun",
    turn_s=3.0,
)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a program whose system calls fail when a test says so: ``python -m tests.lab.refuse FILE COMMAND...``.

A seccomp filter, which children inherit, hands some calls over to a process of ours (SECCOMP_RET_USER_NOTIF of
seccomp(2)). It lets them go on, unless a rule in FILE fits: then the call fails with the rule's errno, or takes as long
as the rule says. The program itself is not changed, and whatever it does about the failure is its own. FILE may change
at any time; each call that was hindered is one line in FILE.hits.

`Refusals` writes the file, and reads the hits.
"""

import ctypes
import errno
import fcntl
import json
import os
import platform
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.lab.process import wait_for

NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_NETFILTER = 0, 4, 12
_NUMBERS: Final = {
    "x86_64": {
        "openat": 257,
        "rename": 82,
        "renameat": 264,
        "renameat2": 316,
        "unlink": 87,
        "unlinkat": 263,
        "fsync": 74,
        "sendto": 44,
        "sendmsg": 46,
        "socket": 41,
        "execve": 59,
        "inotify_add_watch": 254,
        "pidfd_open": 434,
    },
    "aarch64": {
        "openat": 56,
        "renameat": 38,
        "renameat2": 276,
        "unlinkat": 35,
        "fsync": 82,
        "sendto": 206,
        "sendmsg": 211,
        "socket": 198,
        "execve": 221,
        "inotify_add_watch": 27,
        "pidfd_open": 434,
    },
}
_SECCOMP: Final = {"x86_64": 317, "aarch64": 277}
_PIDFD_GETFD: Final = 438
_PATHS: Final = {
    "openat": (1,),
    "rename": (0, 1),
    "renameat": (1, 3),
    "renameat2": (1, 3),
    "unlink": (0,),
    "unlinkat": (1,),
    "execve": (0,),
    "inotify_add_watch": (1,),
}
"""Which arguments are paths."""

_PR_SET_NO_NEW_PRIVS: Final = 38
_SET_MODE_FILTER, _NEW_LISTENER, _WAIT_KILLABLE = 1, 0x8, 0x20
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND
_NOTICE: Final = struct.Struct("=QIIiIQ6Q")  # seccomp_notif: id, pid, flags, number, architecture, address, arguments
_ANSWER: Final = struct.Struct("=QqiI")  # seccomp_notif_resp: id, value, error, flags
_CONTINUE: Final = 1
_IOVEC: Final = struct.Struct("=QQ")
_MSGHDR: Final = struct.Struct("=QI4xQQ")  # msghdr: name, its length, vector, its length, …
_LONGEST: Final = 4096


@dataclass(frozen=True, slots=True)
class Rule:
    """Which calls are hindered, and how. What is empty fits everything."""

    call: str
    """The name of the system call; "rename" and "unlink" stand for their relatives, too."""
    path: str = ""
    """A regular expression in one of its paths."""
    writes: bool = False
    """Of openat, only those that want to write."""
    netlink: int | None = None
    """Of sendto, sendmsg and socket, only those of this netlink protocol."""
    kinds: tuple[int, ...] = ()
    """Of netlink, only those whose first message is of such a kind (nlmsg_type)."""
    program: str = ""
    """A regular expression in the command line of who calls."""
    error: int = 0
    """errno; 0: the call goes on, after `delay_s`."""
    delay_s: float = 0.0


class Refusals:
    """The rules of one program."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._hits = file.with_name(f"{file.name}.hits")
        self._write(())

    @property
    def command(self) -> tuple[str, ...]:
        """What to put before a program's command."""
        return (sys.executable, "-m", "tests.lab.refuse", str(self.file))

    def _write(self, rules: tuple[Rule, ...]) -> None:
        new = self.file.with_name(f"{self.file.name}.new")
        new.write_text(json.dumps([asdict(rule) for rule in rules]), encoding="utf-8")
        new.replace(self.file)

    def hits(self) -> int:
        """How many calls were hindered so far."""
        return len(self._hits.read_bytes().splitlines()) if self._hits.exists() else 0

    @contextmanager
    def these(self, *rules: Rule) -> Iterator[None]:
        """Hinder calls until the block is left."""
        self._write(rules)
        try:
            yield
        finally:
            self._write(())

    def wait_hit(self, before: int) -> None:
        """Wait until a call was hindered."""
        wait_for("a call that fails", lambda: self.hits() > before, deadline_s=20)


# -- the program that is hindered --------------------------------------------------------------------------------------
class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _listen() -> int:
    """Hand this process' calls over from now on; returns the descriptor that hears of them."""
    numbers = sorted(_NUMBERS[platform.machine()].values())
    code = [struct.pack("<HBBI", _LOAD, 0, 0, 0)]
    code += [struct.pack("<HBBI", _EQUAL, len(numbers) - place, 0, number) for place, number in enumerate(numbers)]
    code += [struct.pack("<HBBI", _RETURN, 0, 0, _ALLOW), struct.pack("<HBBI", _RETURN, 0, 0, _NOTIFY)]
    text = b"".join(code)
    program = _Program(len(code), text)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    descriptor = libc.syscall(
        _SECCOMP[platform.machine()], _SET_MODE_FILTER, _NEW_LISTENER | _WAIT_KILLABLE, ctypes.byref(program)
    )
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(descriptor)


def main(arguments: list[str]) -> None:
    """Start the judge, in a session of its own, and become the program."""
    file, command = Path(arguments[0]), arguments[1:]
    told, tell = os.pipe()
    ready, say_ready = os.pipe()
    own = os.getpid()
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            os.close(tell)
            listener = _borrow(os.pidfd_open(own), int(os.read(told, 16)))
            os.write(say_ready, b"!")
            _Judge(file, listener).run()
        os._exit(0)
    os.wait()
    os.write(tell, str(_listen()).encode())
    os.read(ready, 1)
    os.execv(command[0], command)  # noqa: S606 - the command that was given


def _borrow(pidfd: int, descriptor: int) -> int:
    """A copy of another process' descriptor (pidfd_getfd(2))."""
    copy = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, pidfd, descriptor, 0)
    if copy < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(copy)


# -- the judge ---------------------------------------------------------------------------------------------------------
class _Judge:
    """Lives until nobody is left whose calls it hears."""

    def __init__(self, file: Path, listener: int) -> None:
        self._file = file
        self._hits = file.with_name(f"{file.name}.hits")
        self._listener = listener
        self._names = {number: name for name, number in _NUMBERS[platform.machine()].items()}
        self._rules: tuple[Rule, ...] = ()
        self._stamp = 0
        self._pidfds: dict[int, int] = {}

    def run(self) -> None:
        """Answer call after call."""
        notice = bytearray(_NOTICE.size)
        while True:
            notice[:] = bytes(_NOTICE.size)
            try:
                fcntl.ioctl(self._listener, _RECEIVE, notice)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT) and self._anybody():
                    continue
                return
            identity, pid, _flags, number, _arch, _address, *arguments = _NOTICE.unpack(notice)
            rule = self._fitting(self._names[number], pid, arguments)
            if rule is None:
                self._answer(identity, 0)
                continue
            with self._hits.open("a", encoding="utf-8") as hits:
                hits.write(f"{time.time()} {pid} {rule}\n")
            if rule.delay_s:
                threading.Timer(rule.delay_s, self._answer, (identity, rule.error)).start()
            else:
                self._answer(identity, rule.error)

    def _anybody(self) -> bool:
        """Whether the filter is still used; POLLHUP says that it is not."""
        import select

        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        return not any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))

    def _answer(self, identity: int, error: int) -> None:
        answer = _ANSWER.pack(identity, 0, -error, 0 if error else _CONTINUE)
        try:
            fcntl.ioctl(self._listener, _SEND, answer)
        except OSError:
            return  # who called has been killed

    def _fitting(self, call: str, pid: int, arguments: list[int]) -> Rule | None:
        stamp = self._file.stat().st_mtime_ns
        if stamp != self._stamp:
            self._stamp = stamp
            found = json.loads(self._file.read_text(encoding="utf-8"))
            self._rules = tuple(Rule(**{**rule, "kinds": tuple(rule["kinds"])}) for rule in found)
        rules = [rule for rule in self._rules if call.startswith(rule.call)]
        if not rules:
            return None
        try:
            return next((rule for rule in rules if self._fits(rule, call, pid, arguments)), None)
        except OSError:
            return None  # it has gone meanwhile

    def _fits(self, rule: Rule, call: str, pid: int, arguments: list[int]) -> bool:
        if rule.program and not re.search(rule.program, _command_line(pid)):
            return False
        if rule.path and not any(re.search(rule.path, _string(pid, arguments[n])) for n in _PATHS[call]):
            return False
        if rule.writes and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return False
        if rule.netlink is None:
            return True
        if call == "socket":
            return (arguments[0], arguments[2]) == (socket.AF_NETLINK, rule.netlink)
        if self._protocol(pid, arguments[0]) != rule.netlink:
            return False
        return not rule.kinds or _kind(pid, call, arguments) in rule.kinds

    def _protocol(self, pid: int, descriptor: int) -> int | None:
        """The netlink protocol of somebody's socket, None when it is none."""
        if pid not in self._pidfds:
            text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
            leader = next(line.split()[1] for line in text.splitlines() if line.startswith("Tgid:"))
            self._pidfds[pid] = os.pidfd_open(int(leader))
        with socket.socket(fileno=_borrow(self._pidfds[pid], descriptor)) as theirs:
            if theirs.family != socket.AF_NETLINK:
                return None
            return theirs.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL)


def _command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")


def _memory(pid: int, address: int, length: int) -> bytes:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:  # noqa: PTH123 - it is called often
        return os.pread(memory.fileno(), length, address)


def _string(pid: int, address: int) -> str:
    page = 4096
    first = page - address % page  # what follows may not be there
    text = _memory(pid, address, first)
    if b"\0" not in text:
        text += _memory(pid, address + first, _LONGEST)
    return text.partition(b"\0")[0].decode("utf-8", "replace")


def _kind(pid: int, call: str, arguments: list[int]) -> int:
    """The kind of the first message of a datagram."""
    address = arguments[1]
    if call == "sendmsg":
        _name, _length, vector, _count = _MSGHDR.unpack(_memory(pid, address, _MSGHDR.size))
        address, _size = _IOVEC.unpack(_memory(pid, vector, _IOVEC.size))
    return int(struct.unpack_from("=H", _memory(pid, address, 8), 4)[0])


if __name__ == "__main__":
    main(sys.argv[1:])

# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine: /proc and sysctls, the list of users, what wg(8) prints, what comes back from a measurement, and the
environment that a service manager gives.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from aovpnd import __main__ as daemon
from aovpnd import lock, names, nftlib
from aovpnd.adapters import pathmtu, process, sysctl, systemd
from aovpnd.backends.wgtool import parse_dump
from aovpnd.errors import NftError, SystemFault, ToolError
from aovpnd.guard import __main__ as guard
from tests.fuzz import judge
from tests.fuzz.mutate import Mutator
from tests.fuzz.places import place, put
from tests.fuzz.target import Target, words
from tests.unit.test_config_tunnels import PRIVATE
from tests.unit.test_wgtool import DUMP, key


# -- /proc ------------------------------------------------------------------------------------------------------------
def _sysctl(content: bytes) -> str:
    value = sysctl.read("x", put(place("sys") / "x", content).parent)
    return "none" if value is None else "a number"


LOCKS: Final = (
    b"1: FLOCK  ADVISORY  WRITE 1234 00:19:4711 0 EOF\n2: POSIX  ADVISORY  READ 77 08:01:12 0 EOF\n"
    b"2: -> FLOCK ADVISORY WRITE 9 00:19:4711 0 EOF\n"
)
NETLINK: Final = (
    b"sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n"
    b"0000000000000000 12  77         00000040 0        0        0     2        0        4711\n"
)
STATUS: Final = b"Name:\tpython3\nUid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\n"
USERS: Final = b"root:x:0:0:root:/root:/bin/bash\naovpnd-bus:x:998:997::/:/usr/sbin/nologin\nx:y\n"


def _proc(case: tuple[bytes, bytes, bytes, bytes]) -> str:
    """Files of /proc and passwd(5), by whoever reads them: a value, nothing, or a declared error."""
    base = place("proc")
    held, locks, status, users = case
    put(base / "lock", held)
    outcomes = [_holder(base / "lock", put(base / "locks", locks))]
    real = Path.read_text
    files = {"/proc/self/status": status, names.USERS_FILE: users, "/proc/self/net/netlink": locks}

    def read_text(self: Path, *arguments: Any, **options: Any) -> str:
        if str(self) in files:
            return real(put(base / "file", files[str(self)]), *arguments, **options)
        return real(self, *arguments, **options)

    with patch.object(Path, "read_text", read_text):
        for read in (daemon._require_power, lambda: daemon._uid_of("aovpnd-bus"), nftlib.own_ports):
            try:
                found = read()
            except (SystemFault, NftError) as error:
                outcomes.append(judge.error(error))
            else:
                outcomes.append(type(found).__name__)
                assert not isinstance(found, int) or 0 < found < 2**32 - 1
    return " ".join(outcomes)


def _holder(path: Path, locks: Path) -> str:
    content = locks.read_bytes().replace(b"4711", str(path.stat().st_ino).encode())
    real = open

    def opened(name: Any, *arguments: Any, **options: Any) -> Any:
        return real(put(locks, content) if name == "/proc/locks" else name, *arguments, **options)

    with patch("builtins.open", opened):
        pid = lock.holder(path)
    assert pid is None or 0 < pid < 2**22
    return "held" if pid is not None else "free"


# -- programs ---------------------------------------------------------------------------------------------------------
def _wg_dump(text: str) -> str:
    try:
        device = parse_dump(text)
    except ToolError as error:
        judge.hides(str(error), key(1)[:-1], key(5)[:-1])
        return judge.error(error)
    shown = repr(device)
    for hidden in (key(1), key(5)):  # unless it stands where a public one does
        assert hidden not in shown or hidden in [device.public_key, *(peer.public_key for peer in device.peers)]
    assert 0 <= device.fwmark < 2**32
    assert 0 <= device.listen_port < 2**16
    return f"{device.digest is not None} {min(len(device.peers), 3)}"


def _complaint(output: bytes) -> str:
    """What a program complained of, in one line, without a key."""
    shown = process.without_keys(output)
    judge.told(shown)
    judge.hides(shown, PRIVATE[:-1])
    return "ok" if shown == output.decode("utf-8", "replace") else "changed"


# -- the path ---------------------------------------------------------------------------------------------------------
_SIZES: Final = (1420, 1380, 1280, 1200)


class Arrived:
    """A socket that these datagrams have come by."""

    def __init__(self, *datagrams: bytes) -> None:
        self._left = list(datagrams)

    def recv(self, _: int) -> bytes:
        """The next one."""
        if not self._left:
            raise BlockingIOError
        return self._left.pop(0)


def _measured(case: tuple[bytes, bytes, bool]) -> str:
    """What comes back of a measurement: one of the sizes that were sent, or nothing."""
    one, two, is_echo = case
    sock: Any = Arrived(one, two)
    probe = pathmtu._Probe(sock, 4, is_echo, b"12345678")
    pathmtu._receive(probe, _SIZES)
    assert probe.passed <= set(_SIZES)
    if is_echo:
        assert not probe.passed or b"12345678" in one + two
    return f"{sorted(probe.passed)}"


_ECHO: Final = struct.pack("!BBHHH", 0, 0, 0, 7, 1) + b"12345678" + bytes(40)
_ASKED: Final = pathmtu.query(b"12345678", 1, 1200)
_REPLY: Final = _ASKED[:2] + b"\x81" + _ASKED[3:]


# -- the environment --------------------------------------------------------------------------------------------------
@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    with patch.dict(os.environ, {}, clear=False):
        for name, value in values.items():
            os.environ[name] = value
        yield


def _service_manager(case: tuple[str, str]) -> str:
    """NOTIFY_SOCKET and WATCHDOG_USEC: a sensible span of time or none; and who is not there is told nothing."""
    notify, watchdog = case
    if any("\0" in text for text in case):
        return "no environment has a NUL"
    with _environment({"NOTIFY_SOCKET": notify, "WATCHDOG_USEC": watchdog}):
        systemd.notify("WATCHDOG=1")
        guard._ready()
        span = systemd.watchdog_s()
    assert span is None or 0.01 <= span <= 1e9, span
    return "none" if span is None else "a span"


_WG_WORDS: Final = (
    *words(DUMP),
    "\t",
    "\n",
    "(none)",
    "off",
    "0x",
    "[::1]:1",
    "[fe80::1%x]:1",
    "1.2.3.4:99999",
    "0.0.0.0/33",
)

TARGETS: Final = (
    Target("sysctl", "/proc/sys", (b"1\n", b"-1\n", b"1 2\n"), _sysctl, slice=1500),
    Target(
        "proc",
        "/proc/locks, /proc/self/status, /proc/net/netlink, passwd(5)",
        ((b"1234\n", LOCKS, STATUS, USERS), (b"9", NETLINK, b"", b"")),
        _proc,
        Mutator(
            (b"FLOCK", b"->", b"4711", b"\n", b" ", b":", "²".encode(), b"CapEff:\t", b"aovpnd-bus:x:0", b"4294967295")
        ),
        slice=800,
    ),
    Target("wg-dump", "what `wg show dump` prints", (DUMP, "(none)\t(none)\t0\toff\n"), _wg_dump, Mutator(_WG_WORDS)),
    Target(
        "complaint",
        "what a failing program says",
        (b"wg: Key is not the correct length: `" + PRIVATE.encode() + b"'\n", b"Error: x\n  y\n"),
        _complaint,
        Mutator((PRIVATE.encode(), b"\x1b[31m")),
    ),
    Target(
        "path-mtu",
        "what comes back of a measurement of the path",
        ((_ECHO, b"", True), (_REPLY, _REPLY, False), (b"", b"", True)),
        _measured,
        Mutator((b"12345678", b"\x00\x00", b"\x81\x80")),
    ),
    Target(
        "environment",
        "NOTIFY_SOCKET, WATCHDOG_USEC",
        (("/nowhere/notify", "30000000"), ("@nowhere", "1"), ("", "")),
        _service_manager,
        Mutator(("@", "/", "vsock:2:1", "1e6", "0", "9" * 320), surrogates=False),
        slice=1000,
    ),
)

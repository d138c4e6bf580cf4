# SPDX-License-Identifier: GPL-3.0-or-later
"""Storms: so much of something that a daemon without bounds would drown in it."""

import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import pairwise
from pathlib import Path
from typing import Final

from tests.faults.stage import Stage
from tests.lab.process import LabError, wait_for

_TABLE: Final = 7777
"""A route table that nobody looks at."""
_WATCHDOG_S: Final = 30.0
"""As in the unit."""
_AFTER_S: Final = 10.0
"""A second on a laptop; a busy machine that runs everybody's tests takes longer. The figure is printed."""
_MEMORY_KIB, _DESCRIPTORS = 16 * 1024, 3
"""What a storm may leave: arenas of the allocator, and descriptors that are open for a moment."""
_LOG_BYTES: Final = 100_000


@dataclass(frozen=True, slots=True)
class Storm:
    """``blow`` raises it and lets it end: it yields while it blows, and says at its end how strong it was."""

    name: str
    size: int
    """In ``make faults``."""
    little: int
    """In ``make test``."""
    unit: str
    blow: Callable[[Stage, int], "Blowing"]


Blowing = Callable[[], str]
"""End the storm; what it was, in figures."""


def _python(stage: Stage, code: str, *words: str) -> Blowing:
    """A program in the machine that works until it is told to end, and then says how much it did."""
    host = stage.laptop.lab.host
    process = host.spawn(sys.executable, "-c", code, *words, log="storm", stdout=subprocess.PIPE)
    if process.stdout is None or process.stdout.readline() != b"ready\n":
        raise LabError(f"no storm: {(host.dir / 'storm.log').read_text()[-600:]}")
    began = time.monotonic()

    def end() -> str:
        process.terminate()
        output = process.communicate(timeout=60)[0].decode().strip()
        count = int(output.splitlines()[-1])
        seconds = time.monotonic() - began
        return f"{count / seconds:,.0f} a second for {seconds:.1f} s"

    return end


_PRELUDE: Final = """
import signal, sys
go = True
def stop(*_):
    global go
    go = False
signal.signal(signal.SIGTERM, stop)
done = 0
print("ready", flush=True)
"""
_EVENTS: Final = """
import socket
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
s.bind((0, 0))
batch = bytes.fromhex(sys.argv[1])
many = int(sys.argv[2])
while go:
    s.send(batch)
    done += many
print(done, flush=True)
"""


def route_message(kind: int, number: int, link: int, table: int, *, local: bool) -> bytes:
    """A message that adds (24) or removes (25) a /32 route; ``number`` counts them from 10.128.0.0 on."""
    dst = (IPv4Address("10.128.0.0") + number).packed
    attributes = struct.pack("=HH4s", 8, 1, dst) + struct.pack("=HHI", 8, 4, link) + struct.pack("=HHI", 8, 15, table)
    flags = 0x1 | (0x400 | 0x100 if kind == 24 else 0)
    body = struct.pack("=BBBBBBBBI", socket.AF_INET, 32, 0, 0, table & 0xFF, 4, 253 if local else 0, 1, 0) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body


def _events(stage: Stage, _size: int) -> Blowing:
    """Routes of a table that nobody looks at come and go: two events each."""
    link = int(stage.laptop.lab.host.path("/sys/class/net/wlan0/ifindex").read_text(encoding="ascii"))
    batch = b"".join(
        route_message(kind, number, link, _TABLE, local=True) for kind in (24, 25) for number in range(100)
    )
    return _python(stage, _PRELUDE + _EVENTS, batch.hex(), "200")


def _routes(stage: Stage, size: int) -> Blowing:
    """Routes in the main table."""
    host = stage.laptop.lab.host
    networks = [IPv4Address("10.128.0.0") + number for number in range(size)]
    lines = "".join(f"route add {network}/32 dev wlan0\n" for network in networks)
    host.run("ip", "-batch", "-", stdin=lines, timeout_s=120)

    def end() -> str:
        host.run("ip", "-batch", "-", stdin=lines.replace("add", "del"), timeout_s=120)
        return f"{size:,} routes"

    return end


def _links(stage: Stage, size: int) -> Blowing:
    """Cards with names that nobody would choose."""
    host = stage.laptop.lab.host
    names = [f"{mark}card{number}" for number, mark in zip(range(size), "$;*?!~&é" * size, strict=False)]
    host.run("ip", "-batch", "-", stdin="".join(f"link add {name} type bridge\n" for name in names), timeout_s=300)

    def end() -> str:
        lines = "".join(f"link del {name}\n" for name in names)
        host.run("ip", "-batch", "-", stdin=lines, timeout_s=300)
        return f"{size:,} links"

    return end


_TABLES: Final = """
import nftables
nft = nftables.Nftables()
while go:
    nft.cmd("add table ip storm; delete table ip storm")
    done += 1
print(done, flush=True)
"""


def _tables(stage: Stage, _size: int) -> Blowing:
    """Another program's transactions, one after the other."""
    return _python(stage, _PRELUDE + _TABLES)


_CLIENTS: Final = """
import json, socket, threading
def client(number):
    global done
    line = (json.dumps({"v": 1, "command": "explain"}) + "\\n").encode() if number % 2 else b"x" * 5000 + b"\\n"
    while go:
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(2)
                s.connect("/run/aovpnd/control.sock")
                s.sendall(line)
                s.recv(100)
                done += 1
        except OSError:
            done += 1
threads = [threading.Thread(target=client, args=(n,), daemon=True) for n in range(int(sys.argv[1]))]
for t in threads: t.start()
for t in threads: t.join()
print(done, flush=True)
"""


def _clients(stage: Stage, size: int) -> Blowing:
    """Root's programs ask, and talk nonsense, on many connections at once."""
    return _python(stage, _PRELUDE + _CLIENTS, str(size))


_READERS: Final = """
import fcntl, threading
def reader():
    global done
    while go:
        try:
            with open("/run/aovpnd/status.json") as f, open("/run/aovpnd/lock") as l:
                f.read()
                fcntl.fcntl(l, fcntl.F_OFD_GETLK, bytes(32))
                try:
                    fcntl.flock(l, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except OSError:
                    pass
        except OSError:
            pass
        done += 1
threads = [threading.Thread(target=reader, daemon=True) for n in range(int(sys.argv[1]))]
for t in threads: t.start()
for t in threads: t.join()
print(done, flush=True)
"""


def _readers(stage: Stage, size: int) -> Blowing:
    """Everybody reads the status, asks about the lock and tries it."""
    return _python(stage, _PRELUDE + _READERS, str(size))


STORMS: Final = (
    Storm("netlink events", 100_000, 100_000, "events a second", _events),
    Storm("routes", 10_000, 2_000, "routes", _routes),
    Storm("links", 500, 60, "links", _links),
    Storm("nftables transactions", 1_000, 1_000, "transactions a second", _tables),
    Storm("control socket", 200, 40, "connections at once", _clients),
    Storm("status readers", 50, 10, "readers", _readers),
)


# -- what comes of one -------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Weathered:
    """What came of a storm. Times in seconds, memory in KiB."""

    storm: str
    strength: str
    clear: str
    fed: int
    """How often the watchdog was fed while it blew."""
    silence_s: float
    """The longest time without."""
    calm_s: float
    """A question that is answered after a pass, before it."""
    after_s: float
    """The same, right after it, with something to mend."""
    resident: tuple[int, int]
    descriptors: tuple[int, int]
    log_bytes: int
    """What was logged meanwhile."""

    @property
    def passed(self) -> bool:
        """Nothing in clear, the watchdog alive, everything as it was before, and the log quiet."""
        return (
            not self.clear
            and self.silence_s < _WATCHDOG_S
            and self.after_s < _AFTER_S
            and self.resident[1] < self.resident[0] + _MEMORY_KIB
            and self.descriptors[1] <= self.descriptors[0] + _DESCRIPTORS
            and self.log_bytes < _LOG_BYTES
        )

    def line(self) -> str:
        """For people."""
        return (
            f"{self.storm}: {self.strength}; watchdog fed {self.fed} times, at most {self.silence_s:.1f} s apart;"
            f" calm {self.calm_s * 1000:.0f} ms, after it {self.after_s * 1000:.0f} ms"
            f" ({self.after_s / self.calm_s:.1f} times); memory {self.resident[0]:,} to {self.resident[1]:,} KiB,"
            f" descriptors {self.descriptors[0]} to {self.descriptors[1]}, {self.log_bytes:,} bytes of log"
            f"{'; IN CLEAR: ' + self.clear if self.clear else ''}"
        )


def weather(stage: Stage, storm: Storm, size: int, seconds: float) -> Weathered:
    """Let a storm blow over the laptop, connected, and see that it stands."""
    stage.enter_connected()
    calm = sorted(_mend(stage) for _ in range(5))[2]
    before = stage.weight()
    mark = len(stage.laptop.lab.daemon_log())
    with _watched(stage) as watched:
        end = storm.blow(stage, size)
        until = time.time() + seconds
        wait_for("the storm", lambda: time.time() >= until, deadline_s=seconds + 5, poll_s=0.02)
        strength = end()
    after = _mend(stage)
    wait_for("the tunnel to work", stage.laptop.works, deadline_s=60, poll_s=0.05)
    with suppress(LabError):
        wait_for("memory to be given back", lambda: stage.weight()[0] <= before[0] + 1024, deadline_s=5, poll_s=0.2)
    weight = stage.weight()
    log_bytes = len(stage.laptop.lab.daemon_log()) - mark
    return Weathered(
        storm.name,
        strength,
        watched.clear,
        watched.fed,
        watched.silence_s,
        calm,
        after,
        (before[0], weight[0]),
        (before[1], weight[1]),
        log_bytes,
    )


@dataclass(slots=True)
class _Watched:
    clear: str = ""
    fed: int = 0
    silence_s: float = 0.0


@contextmanager
def _watched(stage: Stage) -> Iterator[_Watched]:
    """Frames in clear, and the watchdog's meals."""
    found = _Watched()
    stage.tell_leaks()
    began = time.time()
    yield found
    now = time.time()
    meals = [began, *(moment for moment in stage.manager.fed() if began <= moment <= now), now]
    found.clear = stage.leaked()
    found.fed = len(meals) - 2
    found.silence_s = max(later - earlier for earlier, later in pairwise(meals))


def _mend(stage: Stage) -> float:
    """How long it takes until a rule that somebody has deleted is back, and a question is answered (s)."""
    host = stage.laptop.lab.host
    host.run("ip", "rule", "del", "priority", "10")
    since = time.monotonic()
    path = Path(f"/proc/{host.holder.pid}/root/run/aovpnd/control.sock")

    def back() -> bool:
        return "10:" in host.out("ip", "rule", "show", "priority", "10") and _answers(path)

    wait_for("the rule", back, deadline_s=60, poll_s=0.002)
    return time.monotonic() - since


def _answers(path: Path) -> bool:
    """Whether the daemon answers a question, which it does at the end of a pass that left nothing to do."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        try:
            client.connect(str(path))
            client.sendall(b'{"v": 1, "command": "explain"}\n')
            return client.recv(1 << 16).startswith(b'{"v": 1, "ok": true')
        except OSError:
            return False

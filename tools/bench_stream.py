# SPDX-License-Identifier: GPL-3.0-or-later
"""A TCP connection from the laptop through a tunnel to its gateway, for the benchmarks: how fast, and at which cost."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lab.host import Host
from tests.lab.process import LabError, stop, wait_for
from tests.lab.world import World
from tools.bench_inside import PORT

INSIDE: Final = (sys.executable, "-m", "tools.bench_inside")
STREAM_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Stream:
    """What one TCP stream through the tunnel reached, and what it cost."""

    mbit_s: float
    cpu_s_per_gb: float
    """The processor's seconds for a gigabyte: both ends of the stream and both of the tunnel. A busy machine makes a
    stream slow, and this only a little dearer.
    """


def inside(host: Host, part: str, *words: str, timeout_s: float = 120.0) -> object:
    """Run a part of `bench_inside` in a machine and return what it measured."""
    done = host.run(*INSIDE, part, *words, timeout_s=timeout_s)
    return json.loads(done.stdout)


@dataclass(slots=True)
class Pump:
    """A connection that stands, and sends when it is told to: so turns can be short and follow each other closely."""

    source: subprocess.Popen[bytes]
    sink: subprocess.Popen[bytes]
    tunnel: list[int]
    """The processes that carry it."""
    sent: int = 0

    def turn(self, seconds: float) -> Stream:
        """Send for so long, and until the other end has all of it."""
        processes = [*self.tunnel, self.source.pid, self.sink.pid]
        before = sum(map(_cpu_s, processes))
        if self.source.stdin is None or self.source.stdout is None:
            raise LabError("unreachable: both are pipes")
        self.source.stdin.write(f"{seconds}\n".encode())
        self.source.stdin.flush()
        said = self.source.stdout.readline()
        if not said:
            raise LabError("the stream broke off")
        sent, took = json.loads(said)
        spent = sum(map(_cpu_s, processes)) - before
        self.sent += sent
        return Stream(sent * 8 / 1e6 / took, spent / (sent / 1e9))


@contextmanager
def pump(world: World, address: str, program: str) -> Iterator[Pump]:
    """To an address of the gateway inside the tunnel, which ``program`` carries at both ends."""
    gateway, laptop = world.gateway.host, world.laptop.host
    laptop.run("sysctl", "-qw", "net.ipv4.tcp_slow_start_after_idle=0")  # a turn begins as the last one has ended
    tunnel = [*gateway.pids_of(program), *laptop.pids_of(program)]
    sink = gateway.spawn(*INSIDE, "sink", address, log="sink", stdout=subprocess.PIPE)
    wait_for("the sink", lambda: f":{PORT}" in gateway.out("ss", "-Hltn"))
    source = laptop.spawn(*INSIDE, "source", address, log="source", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    made = Pump(source, sink, tunnel)
    try:
        yield made
        source.communicate(timeout=10)
        received = json.loads(sink.communicate(timeout=10)[0])
        if received != made.sent:
            raise LabError(f"the stream was cut: {made.sent} sent, {received} received")
    finally:
        stop(source)
        stop(sink)


def stream(world: World, address: str, program: str, *, seconds: float = STREAM_S) -> Stream:
    """One turn of a connection of its own."""
    with pump(world, address, program) as made:
        return made.turn(seconds)


def _cpu_s(pid: int) -> float:
    """Seconds that the threads of a process were on a processor (proc_pid_schedstat, nanoseconds)."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text(encoding="ascii").split()[0]) for task in tasks) / 1e9

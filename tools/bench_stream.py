# SPDX-License-Identifier: GPL-3.0-or-later
"""One TCP stream from the laptop through a tunnel to its gateway, for the benchmarks: how fast, and at which cost."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lab.host import Host
from tests.lab.process import LabError, wait_for
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


def stream(world: World, address: str, program: str, *, seconds: float = STREAM_S) -> Stream:
    """To an address of the gateway inside the tunnel, which ``program`` carries at both ends."""
    gateway, laptop = world.gateway.host, world.laptop.host
    tunnel = [*gateway.pids_of(program), *laptop.pids_of(program)]
    server = gateway.spawn(*INSIDE, "sink", address, log="sink", stdout=subprocess.PIPE)
    wait_for("the sink", lambda: f":{PORT}" in gateway.out("ss", "-Hltn"))
    before = sum(map(_cpu_s, tunnel))
    sent = inside(laptop, "source", address, str(seconds))
    spent = sum(map(_cpu_s, tunnel)) - before
    received = json.loads(server.communicate(timeout=10)[0])
    if not (isinstance(sent, list) and isinstance(received, list) and sent[0] == received[0]):
        raise LabError(f"the stream was cut: {sent!r} sent, {received!r} received")
    gigabytes = sent[0] / 1e9
    return Stream(sent[0] * 8 / 1e6 / sent[1], (spent + sent[2] + received[1]) / gigabytes)


def _cpu_s(pid: int) -> float:
    """Seconds that the threads of a process were on a processor (proc_pid_schedstat, nanoseconds)."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text(encoding="ascii").split()[0]) for task in tasks) / 1e9

# SPDX-License-Identifier: GPL-3.0-or-later
"""``make bench``: how fast and how small, measured on the lab's laptop; prints a table and writes docs/bench.md.

Times depend on the machine, so what can be is measured beside something known in the same run: `aovpnctl` beside a bare
Python, a tunnel with our ruleset beside the same tunnel without.
"""

import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from aovpnd import __version__
from tests.bus.desktop import Desktop, desktop
from tests.lab import plan
from tests.lab.host import Host
from tests.lab.laptop import BIN
from tests.lab.process import LabError, wait_for
from tests.lab.world import World
from tools.bench_failover import fail_over
from tools.bench_figure import Figure, percentile, spread
from tools.bench_handshake import handshakes
from tools.bench_roaming import roams
from tools.bench_stream import inside, stream

ROOT: Final = Path(__file__).parents[1]
REPORT: Final = ROOT / "docs" / "bench.md"
PROCESSES: Final = ("aovpnd", "aovpnd-guard", "aovpnd-bus", "wireguard-go")
OURS: Final = ("aovpnd", "aovpnd-guard", "aovpnd-bus")
IDLE_S: Final = 15.0
QUIET_S: Final = 20.0
"""A new path is looked at less and less often (core.mtu), and a bus process is still settling."""
LOOK_SWITCHES: Final = 30
"""What one look at an idle tunnel costs at most; there is one in `core.health.IDLE_LOOK_S`, twice `IDLE_S`."""
LEASE_S: Final = 7200
WINDOWS: Final = 3
"""Of temporary access: as many as there are in an hour."""

# What we aim at.
STATUS_TIMES_PYTHON: Final = 3.0
PASS_MS: Final = 15.0
THROUGHPUT_RATIO: Final = 0.98
SILENCE_S: Final = 1.0


# ── the measurements ─────────────────────────────────────────────────────────────────────────────────────────────────


def commands(world: World) -> Iterator[Figure]:
    """``aovpnctl status`` as a whole process, beside the least that Python can be."""
    bare = f"{sys.executable} -I -c pass"
    status = f"{BIN / 'aovpnctl'} status"
    measured = inside(world.laptop.host, "programs", "60", bare, status, f"{status} --json")
    if not isinstance(measured, list):
        raise LabError(f"no times: {measured!r}")
    least = statistics.median(measured[0])
    for name, times in (("aovpnctl status", measured[1]), ("aovpnctl status --json", measured[2])):
        ratio = statistics.median(times) / least
        beside = f"python3 -I -c pass: {spread(measured[0])}"
        aim = f"below {STATUS_TIMES_PYTHON:g} × Python"
        yield Figure(name, f"{spread(times)}, ratio {ratio:.2f}", beside, aim, ratio < STATUS_TIMES_PYTHON)


def ruleset_load(world: World) -> Iterator[Figure]:
    """Replacing the whole table and reading it back, in a machine that nobody else uses."""
    with Host.boot("bench", world.dir) as host:
        times = inside(host, "ruleset", "200")
    if not isinstance(times, list):
        raise LabError(f"no times: {times!r}")
    yield Figure("ruleset replaced and read back", spread(times), "libnftables in one long-lived context")


def one_pass(world: World) -> Iterator[Figure]:
    """One pass of the loop on the connected laptop: look at everything, decide, compare; and what a command takes."""
    times = inside(world.laptop.host, "passes", "200")
    if not isinstance(times, list):
        raise LabError(f"no times: {times!r}")
    met = statistics.median(times) * 1e3 < PASS_MS
    yield Figure("one pass: observe, decide, diff", spread(times), "", f"below {PASS_MS:g} ms", met)
    commands = [_timed(lambda: world.laptop.ctl("connect", "tunnel")) for _ in range(20)]
    yield Figure("`aovpnctl connect` that changes nothing", spread(commands), "a whole process, and a pass or two")


def ordinary_user(seat: Desktop) -> Iterator[Figure]:
    """The same by an ordinary user: D-Bus, aovpnd-bus, polkit, control socket, pass, and back."""
    beside = "a whole process with GLib; polkit's stand-in answers at once"
    commands = [_timed(lambda: _done(seat, "connect", "tunnel")) for _ in range(20)]
    yield Figure("`aovpnctl connect` by an ordinary user", spread(commands), beside)
    windows = []
    seat.polkit.minds.agent = "right"  # somebody types the password in no time
    for _ in range(WINDOWS):
        windows.append(_timed(lambda: _done(seat, "allow-temp", "60s")))
        _done(seat, "allow-temp", "--cancel")
        seat.laptop.wait_phase("connected")
    yield Figure("`aovpnctl allow-temp` by an ordinary user", spread(windows), beside + "; until the window is open")


def _done(seat: Desktop, *words: str) -> None:
    answer = seat.ctl(*words)
    if answer.returncode:
        raise LabError(f"aovpnctl {' '.join(words)}: {answer.stderr.strip()}")


def idle(world: World) -> Iterator[Figure]:
    """Memory and wake-ups of each process while the tunnel is up and nobody uses it."""
    host = world.laptop.host
    pids = {name: host.pids_of(name) for name in PROCESSES}
    # Behind a dead switch port: the lab's router advertises every few seconds, and that is an event each time.
    world.home.power("off")
    _until_quiet([pid for name in OURS for pid in pids[name]])
    before = {name: sum(map(_switches, found)) for name, found in pids.items()}
    events = _events(host, IDLE_S)
    after = {name: sum(map(_switches, found)) for name, found in pids.items()}
    world.home.power("on")
    world.laptop.wait_phase("connected")
    for name, found in pids.items():
        wakes = after[name] - before[name]
        # The proportional set size: pages that several processes share are divided among them.
        memory = sum(map(_pss_kb, found)) / 1024
        judged = name in OURS and found and not events
        yield Figure(
            f"idle: {name}",
            f"{wakes} wake-ups in {IDLE_S:.0f} s, {memory:.1f} MB" if found else "not running",
            f"{events} events of the kernel meanwhile",
            {"aovpnd": "no more than one look", **dict.fromkeys(OURS[1:], "none without an event")}.get(name, ""),
            wakes <= (LOOK_SWITCHES if name == "aovpnd" else 0) if judged else None,
        )


def _events(host: Host, seconds: float) -> int:
    """How many events of links, addresses and routes the kernel tells of in a span of time."""
    log = host.dir / "events.log"
    log.unlink(missing_ok=True)
    monitor = host.spawn("ip", "monitor", "link", "address", "route", log="events")
    time.sleep(seconds)
    monitor.kill()
    monitor.wait()
    return len(log.read_text(encoding="utf-8").splitlines())


def _until_quiet(pids: list[int]) -> None:
    """Wait until the processes have slept for some seconds: addresses and leases settle after a network was joined."""
    since, last = time.monotonic(), -1

    def quiet() -> bool:
        nonlocal since, last
        count = sum(map(_switches, pids))
        if count != last:
            since, last = time.monotonic(), count
        return time.monotonic() - since > QUIET_S

    wait_for("the laptop to settle", quiet, deadline_s=240, poll_s=0.25)


def _switches(pid: int) -> int:
    tasks = Path(f"/proc/{pid}/task").glob("*/status")
    return sum(int(count) for task in tasks for count in re.findall(r"ctxt_switches:\s+(\d+)", task.read_text()))


def _pss_kb(pid: int) -> int:
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def throughput(world: World, *, rounds: int = 10) -> Iterator[Figure]:
    """TCP through one and the same tunnel, with our rulesets and without any, in turns."""
    with_rules, without = [], []
    for number in range(rounds):
        # First with, then without, then the other way round: a drift of the machine's speed hits both alike.
        if number % 2:
            with_rules.append(stream(world, str(plan.GATEWAY_INSIDE4), "wireguard-go"))
        with _without_rules(world):
            without.append(stream(world, str(plan.GATEWAY_INSIDE4), "wireguard-go"))
        if not number % 2:
            with_rules.append(stream(world, str(plan.GATEWAY_INSIDE4), "wireguard-go"))
    pairs = list(zip(with_rules, without, strict=True))
    ratio = statistics.median(ours.mbit_s / plain.mbit_s for ours, plain in pairs)
    yield Figure(
        "throughput through the tunnel, with ÷ without our rulesets",
        f"{ratio:.3f}: {spread((one.mbit_s for one in with_rules), unit='Mbit/s', scale=1)}",
        f"without: {spread((one.mbit_s for one in without), unit='Mbit/s', scale=1)}",
        f"at least {THROUGHPUT_RATIO:g}",
        ratio >= THROUGHPUT_RATIO,
    )
    ratio = statistics.median(ours.cpu_s_per_gb / plain.cpu_s_per_gb for ours, plain in pairs)
    yield Figure(
        "its cost, with ÷ without",
        f"{ratio:.3f}: {spread((one.cpu_s_per_gb for one in with_rules), unit='CPU s/GB', scale=1)}",
        f"without: {spread((one.cpu_s_per_gb for one in without), unit='CPU s/GB', scale=1)}",
    )


@contextmanager
def _without_rules(world: World) -> Iterator[None]:
    """Take every table of ours away: stop the daemon, kill the guard, flush. The next daemon adopts the tunnel."""
    laptop = world.laptop
    laptop.stop_daemon()
    laptop.kill_guard()
    laptop.host.run("nft", "flush", "ruleset")
    wait_for("our tables to be gone", lambda: not laptop.host.out("nft", "list", "tables"))
    try:
        yield
    finally:
        laptop.start_daemon()
        laptop.wait_phase("connected")


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def roaming(world: World) -> Iterator[Figure]:
    """From Wi-Fi to a dock and back, in a call and in a request that follows, beside plain wg-quick."""
    for what, ours, beside in roams(world):
        met = percentile(ours, 99) <= SILENCE_S
        texts = [f"{spread(times)}, 99th percentile {percentile(times, 99) * 1e3:.1f} ms" for times in (ours, beside)]
        yield Figure(what, texts[0], f"wg-quick: {texts[1]}", f"at most {SILENCE_S:g} s at the 99th percentile", met)


# ── the report ───────────────────────────────────────────────────────────────────────────────────────────────────────

MEASUREMENTS: Final = (
    idle,  # before anything is sent: connections that end without their peers are sent for, for minutes
    commands,
    ruleset_load,
    one_pass,
    handshakes,
    roaming,
    throughput,
    fail_over,
)


def measure(console: Console) -> list[Figure]:
    """Everything, on one laptop that is connected at home."""
    figures: list[Figure] = []
    # Leases that outlast it all: to renew one is a program that sends, and behind a dead port nobody answers.
    with World.build(lease_s=LEASE_S) as world:
        world.laptop.install_tunnel()
        world.laptop.write_config('[temporary_access]\nwhile_connected = "pause"\n')
        with desktop(world.laptop) as seat:
            world.roam("home")
            world.laptop.wait_phase("connected")
            figures += ordinary_user(seat)  # before fail-over writes settings of its own
            for measurement in MEASUREMENTS:
                console.print(f"… {(measurement.__doc__ or '').splitlines()[0]}", style="dim")
                figures += measurement(world)
    return figures


def machine() -> str:
    """What the figures are measured on, and how busy it was with other things: a busy machine makes poor figures."""
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    load = f"load {os.getloadavg()[0]:.1f} before"
    parts = (f"Linux {platform.release()}", f"Python {platform.python_version()}", f"{os.cpu_count()} CPUs", load)
    return ", ".join((*parts, cpu[1] if cpu else platform.machine()))


def commit() -> str:
    """The commit that was measured, with a note if the tree differs from it; "unknown" outside of a checkout."""
    # The tree belongs to whoever cloned it, and we are root.
    git = ["git", "-c", "safe.directory=*", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + (" with changes" if dirty else "")


def verdict(figure: Figure) -> str:
    """The last column."""
    return {True: "met", False: "missed", None: ""}[figure.met]


def show(figures: list[Figure], where: str, console: Console) -> None:
    """Print the table."""
    table = Table(title=f"aovpnd {__version__} at {commit()}", caption=where, show_lines=True)
    for column in ("what", "measured", "beside", "aim", ""):
        table.add_column(column)
    for figure in figures:
        table.add_row(figure.what, figure.measured, figure.beside, figure.aim, verdict(figure))
    console.print(table)


def write(figures: list[Figure], where: str) -> None:
    """Write docs/bench.md."""
    rows = [
        f"| {figure.what} | {figure.measured} | {figure.beside} | {figure.aim} | {verdict(figure)} |"
        for figure in figures
    ]
    REPORT.write_text(
        "\n".join(
            [
                "<!-- SPDX-License-Identifier: GPL-3.0-or-later -->",
                "",
                "# Benchmark",
                "",
                f"aovpnd {__version__} at commit {commit()}, {datetime.now(UTC):%Y-%m-%d}, in the lab's namespaces.",
                f"{where}.",
                "Written by `make bench`; use the figures as ratios. NetworkManager's WireGuard is the kernel's, which",
                "the lab's namespaces need not have: on booted machines it stands beside us ([there](bench-vm.md)).",
                "IKE tunnels stand beside plain strongSwan on [a page of their own](bench-ike.md).",
                "",
                "| what | measured | beside | aim | |",
                "|---|---|---|---|---|",
                *rows,
                "",
            ]
        ),
        encoding="utf-8",
    )


def main() -> int:
    """Measure, print, write; returns 1 when an aim was missed."""
    console = Console()
    where = machine()
    figures = measure(console)
    show(figures, where, console)
    write(figures, where)
    console.print(f"written to {REPORT.relative_to(ROOT)}")
    return 1 if any(figure.met is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())

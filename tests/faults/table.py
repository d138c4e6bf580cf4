# SPDX-License-Identifier: GPL-3.0-or-later
"""The page docs/faults.md: which cells there are, where each is tried, and what came of it."""

import platform
from collections.abc import Iterable
from typing import Final

from tests.audits.attack import Phase
from tests.faults.catalogue import CELLS
from tests.faults.cell import Cell
from tests.faults.stage import Outcome
from tests.faults.storms import Weathered

_HEAD: Final = """<!-- SPDX-License-Identifier: GPL-3.0-or-later -->
# Faults: every call that fails, and what comes of it

`make faults` writes this page: a laptop in the lab, at home, everybody on it sending what may not leave, while one call
of the daemon or the guard to the outside fails. The cause is real where one can be made (a full or read-only file
system, a named pipe, a file of garbage, a program that is broken or hangs, a process that is stopped, no descriptors
left); elsewhere the system call itself is refused, or held up, by a seccomp filter that asks us
(`tests/lab/refuse.py`). The daemon is the real one, and unchanged.

A cell passes when no frame outside the allow-list was counted on the far side of the link, while the call failed and
after it (for a window of temporary access: after its end); when status, the refused command or the journal says what is
wrong and what to do; and when all is as it was soon after the cause has gone.

"""
_ELSEWHERE: Final = """
## Tried elsewhere

| call | ways | tier | where |
|---|---|---|---|
| nftables as a whole | missing | lab | `tests/netns/test_bad_input.py` (a kernel without it) |
| every action of a plan | fails, for any reason, in every situation | simulated world, exhaustively | \
`tests/unit/test_over_time.py`, `test_convergence.py`, `test_no_leak.py` |
| every answer of a helper program | exit status, signal, silence, gone, back | border | `tests/unit/test_faults.py` |
| state files | every step of writing, seven errors | border | `tests/unit/test_faults.py` |
| `/etc/resolv.conf` | every step of writing, killed and failed | border | `tests/unit/test_resolvconf.py` |
| the process `wireguard-go` | killed, stopped, no tun device | lab | `tests/netns/test_wireguard.py` |
| bus, polkit, logind | dead, slow, wrong, restarted | private bus, containers | `tests/bus/`, `tests/container/` |
| service manager (`NOTIFY_SOCKET`) | dead socket | border | `tests/unit/test_faults.py` |
| systemd-resolved | dead, stopped | container | `tests/container/test_resolved.py` |
| lockdown and udev's files | altered, missing | unit | `tests/unit/test_static_files.py` |
"""
_STORMS: Final = """
## Storms

So much of something that a daemon without bounds would drown in it, while everybody sends. *Silence* is the longest
time between two meals of the watchdog (which starves after 30 s); *mended* is how long a deleted routing rule takes to
be back and a question to be answered, in calm weather and at the end of the storm; *memory* that Python's allocator has
once taken it keeps, and needs no more of for the same storm again; *log* is what the daemon said of it all, in bytes.

| storm | strength | in clear | silence | mended, calm | after | times | memory | descriptors | log |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|
"""


def page(outcomes: Iterable[Outcome], storms: Iterable[Weathered], head: str) -> str:
    """The page, in Markdown."""
    found = {(outcome.cell, outcome.phase): outcome for outcome in outcomes}
    tried = [found[cell.id, phase] for cell in CELLS for phase in cell.phases if (cell.id, phase) in found]
    healed = sorted(outcome.healed_s for outcome in tried) or [0.0]
    text = _HEAD
    text += f"Commit `{head}`, Linux {platform.release()}. {len(CELLS)} calls and ways, "
    text += (
        f"{sum(len(cell.phases) for cell in CELLS)} cells with their phases; {len(tried)} were tried in the last run: "
    )
    text += f"{sum(bool(outcome.clear) for outcome in tried)} leaked, {sum(bool(o.missing) for o in tried)} were not "
    text += (
        f"told or not healed. Healed after {healed[len(healed) // 2]:.2f} s (median), {healed[-1]:.2f} s (slowest).\n"
    )
    text += "A dot: not tried in that run; a dash: the call is not made in that phase.\n"
    text += (
        "\n| call | fails by | " + " | ".join(Phase) + " | what is said |\n|---|---|" + "---|" * len(Phase) + "---|\n"
    )
    return text + "".join(_row(cell, found) for cell in CELLS) + _ELSEWHERE + _blown(storms)


def _blown(storms: Iterable[Weathered]) -> str:
    text = _STORMS
    for each in storms:
        (before, after), descriptors = each.resident, each.descriptors
        text += f"| {each.storm} | {each.strength} | {each.clear or 0} | {each.silence_s:.1f} s | "
        text += f"{each.calm_s * 1000:.0f} ms | {each.after_s * 1000:.0f} ms | {each.after_s / each.calm_s:.1f} | "
        text += f"{before:,} → {after:,} KiB | {descriptors[0]} → {descriptors[1]} | {each.log_bytes:,} |\n"
    return text


def _row(cell: Cell, found: dict[tuple[str, Phase], Outcome]) -> str:
    marks = [_mark(found.get((cell.id, phase))) if phase in cell.phases else "—" for phase in Phase]
    said = next((found[cell.id, phase].said for phase in cell.phases if (cell.id, phase) in found), "")
    shown = said.replace("|", "\\|")[:140] if said.isprintable() else "(what it printed)"
    return f"| {cell.call} | {cell.way} | {' | '.join(marks)} | {shown} |\n"


def _mark(outcome: Outcome | None) -> str:
    if outcome is None:
        return "·"
    return "LEAKED" if outcome.clear else "FAILED" if outcome.missing else "closed"

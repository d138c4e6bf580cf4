# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's table, and its verdict."""

from dataclasses import dataclass
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table

from tests.lab.demo.play import TOLERANCE_S, Played, Reel, Tally
from tests.lab.frames import Kind

_WIDTH: Final = 144
"""Columns that the table needs; a narrower terminal wraps its lines."""


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the table: one event on both stages."""

    number: int
    played: Played
    protected: Tally
    control: Tally


def lines(rows: tuple[Played, ...], protected: Reel, control: Reel) -> tuple[Line, ...]:
    """Count every row on both stages."""
    return tuple(
        Line(number, played, protected.tally(played), control.tally(played)) for number, played in enumerate(rows, 1)
    )


def faults(table: tuple[Line, ...]) -> tuple[str, ...]:
    """What speaks against the demo: a protected row with a frame in clear, or in which names were answered by somebody
    else than they should be, or a control row without a frame in clear.
    """
    found = []
    for line in table:
        event = f"{line.number} {line.played.row.event}"
        if line.played.names is not line.played.row.names:
            found.append(
                f"{event}: names were answered by {line.played.names.value}, not {line.played.row.names.value}"
            )
        if line.protected.clear:
            found.append(f"{event}: {line.protected.clear} in clear: {line.protected.what}")
        if not line.control.clear:
            found.append(f"{event}: the unprotected laptop leaked nothing, so this row proves nothing")
    return tuple(found)


def show(console: Console, table: tuple[Line, ...], protected: Reel, control: Reel) -> None:
    """Print the table, and what else the recorders saw."""
    view = Table(
        title="What left the laptop, seen from the far side of its link",
        box=box.SIMPLE_HEAD,
        title_style="bold",
        padding=(0, 1),
    )
    view.add_column("", justify="right", no_wrap=True, min_width=2)
    view.add_column("event", no_wrap=True)
    for head in (
        "sent by\nprograms",
        "in clear,\naovpnd",
        "known\nissues",
        "in the\nwindow",
        "in clear,\nwg-quick",
        "back\nafter",
        "names\nfrom",
    ):
        view.add_column(head, justify="right", no_wrap=True)
    view.add_column("with wg-quick", style="dim", no_wrap=True)
    for line in table:
        ours, recovery = line.protected, line.played.recovery_s
        view.add_row(
            str(line.number),
            line.played.row.event,
            str(ours.tried),
            f"[{'bold red' if ours.clear else 'green'}]{ours.clear}[/]",
            str(ours.known or ""),
            str(ours.in_window or ""),
            f"[{'red' if line.control.clear else 'bold red'}]{line.control.clear}[/]",
            "" if recovery is None else f"{recovery:.2f} s",
            line.played.names.value,
            line.played.row.control_note,
        )
    view.add_section()
    view.add_row("", "all", *_sums(table), "", "", "", style="bold")
    Console(width=max(console.width, _WIDTH), highlight=False).print(view)
    for name, reel in (("aovpnd", protected), ("wg-quick", control)):
        counts = reel.recording.counts()
        seen = ", ".join(f"{counts[kind]} {kind}" for kind in Kind if counts[kind])
        text = f"{name}: {len(reel.recording.frames)} frames recorded, none lost, both counts agree: {seen}"
        console.print(text, soft_wrap=True)
    for late in protected.lateness_s(tuple(line.played for line in table)):
        text = f"a window's last frame came {late * 1000:+.0f} ms from its end"
        text += f"; those on their way have {TOLERANCE_S * 1000:.0f} ms"
        console.print(text, soft_wrap=True)
    text = (
        "known issues: docs/known-issues.md says who gets out and when; programs that forge aovpnd's stamp are not here"
    )
    console.print(text, soft_wrap=True)


def _sums(table: tuple[Line, ...]) -> tuple[str, ...]:
    ours = [line.protected for line in table]
    columns = (
        sum(tally.tried for tally in ours),
        sum(tally.clear for tally in ours),
        sum(tally.known for tally in ours),
        sum(tally.in_window for tally in ours),
        sum(line.control.clear for line in table),
    )
    return tuple(map(str, columns))

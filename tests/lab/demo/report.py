# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's table, and its verdict."""

from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from tests.lab.demo.play import Played, Reel, Tally
from tests.lab.frames import Kind


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
    """What speaks against the demo: a protected row with a frame in clear, or a control row without one."""
    found = []
    for line in table:
        event = f"{line.number} {line.played.row.event}"
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
        caption_justify="left",
        title_style="bold",
    )
    view.add_column("")
    view.add_column("event", min_width=27)
    view.add_column("sent by\nprograms", justify="right")
    view.add_column("in clear,\naovpnd", justify="right")
    view.add_column("in clear,\nwg-quick", justify="right")
    view.add_column("back\nafter", justify="right")
    view.add_column("without aovpnd", style="dim")
    for line in table:
        good = "green" if line.protected.clear == 0 else "bold red"
        recovery = line.played.recovery_s
        window = f"\n({line.protected.in_window} in the window)" if line.protected.in_window else ""
        view.add_row(
            str(line.number),
            line.played.row.event,
            str(line.protected.tried),
            f"[{good}]{line.protected.clear}[/]{window}",
            f"[{'red' if line.control.clear else 'bold red'}]{line.control.clear}[/]",
            "" if recovery is None else f"{recovery:.2f} s",
            line.played.row.control_note,
        )
    view.add_section()
    totals = [sum(getattr(tally, name) for tally in _tallies(table, side)) for side, name in _TOTALS]
    view.add_row("", "[bold]all", f"[bold]{totals[0]}", f"[bold]{totals[1]}", f"[bold]{totals[2]}", "", "")
    console.print(view)
    for name, reel in (("aovpnd", protected), ("wg-quick", control)):
        counts = reel.recording.counts()
        seen = ", ".join(f"{counts[kind]} {kind}" for kind in Kind if counts[kind])
        console.print(f"{name}: {len(reel.recording.frames)} frames recorded, none lost; {seen}", soft_wrap=True)


_TOTALS = (("protected", "tried"), ("protected", "clear"), ("control", "clear"))


def _tallies(table: tuple[Line, ...], side: str) -> tuple[Tally, ...]:
    return tuple(line.protected if side == "protected" else line.control for line in table)

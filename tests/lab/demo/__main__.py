# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m tests.lab.demo``: play, count, show; exit status 1 when the demo does not show what it claims."""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from rich.console import Console

from tests.lab.demo import picture, report, shell
from tests.lab.demo.play import TOLERANCE_S, Played, Reel, play
from tests.lab.demo.stage import Stage
from tests.lab.enter import NotInPrivateWorldError, require_private_world
from tests.lab.process import LabError

PICTURE: Final = Path("out/demo.png")


def main() -> int:
    """Play the story, or give a person a shell in it."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--shell", action="store_true", help="no story: a shell on the protected laptop")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="where the picture goes (.png or .svg)")
    arguments = parser.parse_args()
    console = Console(highlight=False)
    try:
        require_private_world()
        return shell.run() if arguments.shell else demo(console, arguments.picture)
    except (LabError, NotInPrivateWorldError) as error:
        console.print(f"[bold red]error:[/] {error}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; nothing is left of the two worlds")
        return 130


def demo(console: Console, path: Path) -> int:
    """Play it, show the table and draw the picture."""
    started = time.monotonic()
    console.print("[bold]A laptop's day[/], in two worlds at once: with aovpnd, and with wg-quick.")
    with ThreadPoolExecutor(2) as pool, console.status("building two worlds"):
        stages = [job.result() for job in (pool.submit(Stage.build), pool.submit(Stage.build))]
    protected, control = stages
    try:
        rows = _play(console, protected, control)
        with console.status("dissecting what was recorded"):
            for stage in stages:
                stage.senders.stop()
                stage.probe.stop()
            reels = [Reel(stage, stage.recorder.recording(stage.senders.token), stage is protected) for stage in stages]
            table = report.lines(rows, *reels)
            picture.draw(path, rows, *reels)
        report.show(console, table, *reels)
    finally:
        for stage in stages:
            stage.close()
    console.print(f"picture: {path} · {time.monotonic() - started:.0f} s")
    problems = report.faults(table)
    for problem in problems:
        console.print(f"[bold red]not shown:[/] {problem}", soft_wrap=True)
    return 1 if problems else 0


def _play(console: Console, protected: Stage, control: Stage) -> tuple[Played, ...]:
    """Play with a line per row as it ends."""
    rows: list[Played] = []
    with console.status("…") as status:
        for played, clear, control_clear in play(protected, control, status.update):
            rows.append(played)
            seen = "in window" if _in_window(played, protected) else "in clear"
            seen = "known" if played.row.known and clear else seen
            back = "" if played.recovery_s is None else f" · back after {played.recovery_s:.2f} s"
            console.print(
                f"{len(rows):2} {played.row.event:<30} {seen:<9} [{'yellow' if clear else 'green'}]{clear:5}[/] aovpnd"
                f"  [red]{control_clear:5}[/] wg-quick{back}",
                soft_wrap=True,
            )
            for note in protected.notes:
                console.print(f"   [dim]{note}[/]", soft_wrap=True)
    return tuple(rows)


def _in_window(played: Played, protected: Stage) -> bool:
    """Whether a window was open in a part of the row; which frames were its own, the table at the end says."""
    return any(window.start < played.end and window.end + TOLERANCE_S > played.start for window in protected.windows)


if __name__ == "__main__":
    sys.exit(main())

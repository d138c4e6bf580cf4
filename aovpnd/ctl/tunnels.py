# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl tunnels``: which there are, which one is chosen, and how it is."""

from __future__ import annotations

import sys

from aovpnd.ctl.reading import RUNNING, read
from aovpnd.ctl.terminal import BOLD, GREEN, YELLOW, Style, plain, style
from aovpnd.errors import DaemonUnreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from aovpnd.ctl.arguments import Arguments

DONE = 0
COLOURS = {"connected": GREEN, "resting": GREEN, "connecting": YELLOW}
_STATE = 3
"""The column that is coloured."""


def run(arguments: Arguments) -> int:
    """List the tunnels. `DaemonUnreachable` when nobody has published any."""
    reading = read(arguments.runtime_dir)
    if reading.daemon != RUNNING:
        problem = reading.document["problems"][0]
        raise DaemonUnreachable(problem["text"], hint=problem["hint"])
    tunnels = reading.public()["tunnels"]
    if arguments.json:
        import json

        print(json.dumps(tunnels, indent=2))
    elif tunnels:
        print("\n".join(table(tunnels, style(sys.stdout))))
    else:
        print("no tunnel is configured (put a wg-quick file into the tunnels directory, then: aovpnctl connect)")
    return DONE


def table(tunnels: list[dict[str, Any]], to: Style) -> list[str]:
    """One row per tunnel; the chosen one has a star, and its role in words as the others. Where some are somebody's
    alone, whose.
    """
    owned = any(tunnel["users"] for tunnel in tunnels)
    rows: list[tuple[str, ...]] = [("", "NAME", "ROLE", "STATE", "ENDPOINT", "LINK", *(("FOR",) if owned else ()))]
    for tunnel in tunnels:
        star = "*" if tunnel["role"] == "chosen" else ""
        alone = tunnel["role"] != "chosen" and tunnel["users"]
        whose = (plain(", ".join(tunnel["users"])) if alone else "-",) if owned else ()
        told = (plain(tunnel[key] or "-") for key in ("name", "role", "state", "endpoint", "link"))
        rows.append((star, *told, *whose))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    shown = []
    for number, row in enumerate(rows):
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]
        if number == 0:
            cells = [to.paint(cell, BOLD) for cell in cells]
        elif row[_STATE] in COLOURS:
            cells[_STATE] = to.paint(cells[_STATE], COLOURS[row[_STATE]])
        shown.append(" ".join(cells).rstrip())
    return shown

# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl policy``: every setting in force, where it comes from, and what is locked; works without a daemon."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from aovpnd import names
from aovpnd.config import load
from aovpnd.ctl.arguments import Arguments
from aovpnd.ctl.readable import require_readable
from aovpnd.ctl.terminal import BOLD, DIM, Style, complain, plain, style
from aovpnd.model import Config, Origin, Severity

DONE, FAILED = 0, 1


def run(arguments: Arguments) -> int:
    """Show them. Exit status 1 when a file cannot be used, so that other values are in force than it says."""
    require_readable(arguments)
    config = load(Path(arguments.config_dir), Path(arguments.state_dir), Path(names.VENDOR_DIR))
    broken = [problem for problem in config.problems if problem.severity is Severity.ERROR]
    if arguments.json:
        settings = [document(origin, config) for origin in config.origins]
        problems = [{"code": problem.code, "text": problem.text, "hint": problem.hint} for problem in broken]
        print(json.dumps({"ok": not broken, "settings": settings, "problems": problems}, indent=2))
    else:
        print("\n".join(table(config, style(sys.stdout))))
        for problem in broken:
            complain(f"{problem.text} ({problem.hint})")
    return FAILED if broken else DONE


def document(origin: Origin, config: Config) -> dict[str, object]:
    """One setting for programs."""
    return {
        "key": origin.key,
        "value": origin.value,
        "file": origin.file,
        "line": origin.line,
        "locked": origin.key in config.locked,
    }


def table(config: Config, to: Style) -> list[str]:
    """One row per setting."""
    rows = [("SETTING", "VALUE", "FROM", "")]
    for origin in config.origins:
        where = origin.file if origin.line is None else f"{origin.file}:{origin.line}"
        locked = "locked: a policy says so" if origin.key in config.locked else ""
        rows.append((origin.key, plain(origin.value or "-"), plain(where), locked))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    shown = []
    for number, (key, value, where, locked) in enumerate(rows):
        line = f"{key:<{widths[0]}}  {value:<{widths[1]}}  {where:<{widths[2]}}  {locked}".rstrip()
        shown.append(to.paint(line, BOLD) if number == 0 else to.paint(line, DIM) if where == "built-in" else line)
    return shown

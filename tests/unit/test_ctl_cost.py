# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``aovpnctl status`` costs: a status bar runs it every second."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.unit import scenes
from tests.unit.fake_daemon import fake_daemon
from tests.unit.imports import ROOT

OURS: Final = {
    "aovpnd",
    "aovpnd.absence",
    "aovpnd.ctl",
    "aovpnd.ctl.__main__",
    "aovpnd.ctl.arguments",
    "aovpnd.ctl.reading",
    "aovpnd.ctl.status",
    "aovpnd.ctl.terminal",
    "aovpnd.ctl.view",
    "aovpnd.errors",
    "aovpnd.names",
    "aovpnd.shape",
    "aovpnd.vouch",
}
STANDARD: Final = {"__future__", "_json", "fcntl"}
"""Built in or written in C, but for the first, which is a few lines."""


def _imported(*words: str) -> set[str]:
    """The modules that a command loads into an interpreter that has only just started; site has loaded os."""
    code = (
        f"import os, sys; sys.path.insert(0, {str(ROOT)!r}); before = set(sys.modules)\n"
        "from aovpnd.ctl.__main__ import main\n"
        "status = main(sys.argv[1:])\n"
        "print('\\n'.join(set(sys.modules) - before), file=sys.stderr)\n"
        "sys.exit(status)\n"
    )
    command = [sys.executable, "-I", "-S", "-c", code, *words]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return set(result.stderr.split())


@pytest.mark.parametrize("scene", scenes.SCENES)
def test_status_imports_next_to_nothing(tmp_path: Path, scene: str) -> None:
    """Neither re nor json, typing, enum, dataclasses, pathlib, argparse: each takes longer than all of ours."""
    with fake_daemon(tmp_path) as daemon:
        daemon.publish(scenes.SCENES[scene])
        imported = _imported("status", "--runtime-dir", str(tmp_path))

    assert imported == OURS | STANDARD


def test_tunnels_is_as_quick(tmp_path: Path) -> None:
    """The completion of a shell asks for names."""
    with fake_daemon(tmp_path) as daemon:
        daemon.publish(scenes.CONNECTED)
        imported = _imported("tunnels", "--runtime-dir", str(tmp_path))

    assert imported == (OURS | STANDARD | {"aovpnd.ctl.tunnels"}) - {"aovpnd.ctl.status", "aovpnd.ctl.view"}

# SPDX-License-Identifier: GPL-3.0-or-later
"""The linters are tests like any other: what they find is fixed or argued in pyproject.toml, never ignored."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.imports import ROOT

TOOLS = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["ruff", "check", "--quiet", "--output-format", "concise", "."], id="ruff-check"),
        pytest.param(["ruff", "format", "--check", "--output-format", "concise", "."], id="ruff-format"),
        pytest.param(["mypy", "--no-error-summary"], id="mypy"),
    ],
)
def test_linter_has_nothing_to_say(command: list[str]) -> None:
    """The whole tree passes: every rule of ruff but the argued exceptions, one format, every type checked."""
    result = subprocess.run([TOOLS / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout + result.stderr


def test_shell_scripts_parse() -> None:
    """Every shell script of ours stops at the first error and is understood by the smallest shell."""
    scripts = [path for path in (*ROOT.glob("tools/*"), *ROOT.glob(".ci/*")) if _is_shell_program(path)]

    assert scripts
    for script in scripts:
        assert "set -eu" in script.read_text(encoding="utf-8"), f"{script}: set -eu is missing"
        parsed = subprocess.run(["/bin/sh", "-n", script], capture_output=True, text=True, check=False)
        assert parsed.returncode == 0, parsed.stderr


def _is_shell_program(path: Path) -> bool:
    return path.is_file() and path.read_bytes().startswith(b"#!/bin/sh")

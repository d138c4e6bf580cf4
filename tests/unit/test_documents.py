# SPDX-License-Identifier: GPL-3.0-or-later
"""What the documents tell people to type works: commands, targets, options and settings are tried against the code."""

import re
import shlex
from pathlib import Path
from typing import Final

import pytest

from aovpnd import passwd
from aovpnd.config import check
from aovpnd.ctl.arguments import HelpWanted, UsageError, parse
from tests.unit.imports import ROOT

DOCUMENTS: Final = sorted(
    path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
)


def _blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"(?ms)^ *```{language}\n(.*?)^ *```", text)


def _targets() -> set[str]:
    return set(re.findall(r"(?m)^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8")))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_are_understood(document: str) -> None:
    """Every ``aovpnctl`` line in a block of shell, and every one in bold or backquotes, parses."""
    text = (ROOT / document).read_text(encoding="utf-8")
    lines = [line for block in _blocks(document, "sh") for line in block.splitlines() if "aovpnctl" in line]
    lines += re.findall(r"(?:`|\*\*)(aovpnctl [^`*]+)(?:`|\*\*)", text)
    wrong = []
    for line in lines:
        words = shlex.split(line, comments=True)
        words = words[next(index for index, word in enumerate(words) if word.endswith("aovpnctl")) + 1 :]
        try:
            parse([word.strip("[]") for word in words])
        except HelpWanted:
            continue
        except UsageError as error:
            wrong.append(f"{line.strip()}: {error}")

    assert wrong == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_targets_exist(document: str) -> None:
    """Every ``make`` that a document speaks of is a target with a line of help."""
    text = (ROOT / document).read_text(encoding="utf-8")
    named = set(re.findall(r"(?m)(?:`|^ *)make ([a-z][a-z-]*)", text))

    assert named <= _targets()


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if _blocks(name, "toml")])
def test_settings_are_valid(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration that a document shows is accepted without a word."""
    monkeypatch.setattr(passwd, "users", lambda: {"alice": 1000})
    for number, block in enumerate(_blocks(document, "toml")):
        file = tmp_path / f"{number}.toml"
        file.write_text(block, encoding="utf-8")
        file.chmod(0o644)

        assert [str(finding) for finding in check([file], tmp_path, tmp_path, tmp_path)] == []


def test_readme_shows_every_setting() -> None:
    """Who reads nothing but the README sees every key there is."""
    from aovpnd.config.settings import KEYS

    block = "\n".join(_blocks("README.md", "toml"))
    shown = {key for key in KEYS if re.search(rf"(?m)^{key.rpartition('.')[2]} *=", block)}

    assert shown == set(KEYS)

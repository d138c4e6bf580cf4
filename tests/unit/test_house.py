# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of the house that no linter knows."""

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.unit.imports import ROOT

LONGEST_MODULE: Final = 400
"""Lines that one can read in one sitting."""
LONGEST_TEST: Final = 600
"""Lines of a file below tests/: a table of cases is not read from the top to the end."""
LONGEST_DECISION: Final = 200
"""Lines of the three modules that everybody reads first."""
DECISIONS: Final = ("aovpnd/core/decide.py", "aovpnd/core/permits.py", "aovpnd/core/plan.py")

SPDX: Final = "SPDX-License-Identifier: GPL-3.0-or-later"
NO_LICENCE_LINE: Final = {
    "LICENSE": "is the licence",
    "aovpnd/py.typed": "a marker that must exist, not be read",
}
"""Whole paths or suffixes that carry no licence line, and why."""
BINARY: Final = frozenset({".png", ".pcap", ".pcapng", ".gz"})
FORBIDDEN: Final = {
    r"shell\s*=\s*True": "a command is a list of arguments",
    r"\bos\.(system|popen)\b": "a command is a list of arguments",
    r"\b(TODO|FIXME|XXX|HACK)\b": "finish it, or say it in docs/known-issues.md",
    r"(?<!\w)/work/|/home/(?!alice\b)\w+": "a path of one machine",
    r"\bpypi\.org\b|\bpythonhosted\b": "the host of a registry is the machine's business",
    r"\bdesign\.md\b|\bdesign section\b|\bof the design\b": "documents that are not in this tree; docs/ is",
    "[ \t]+$": "blanks at the end of a line",
    "\r": "one kind of line end",
}
"""What no text of ours contains, and why."""
QUOTES_THE_FORBIDDEN: Final = frozenset({"tests/unit/test_house.py", "tests/unit/test_no_shell.py"})


def _files() -> list[str]:
    """Every file that git has or would take, so that a new one is judged before it is committed."""
    # The tree belongs to whoever cloned it, and the tests of the lab run as root.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        found = [name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository: a released tarball
        skipped = {
            ".git",
            ".venv",
            ".coverage",
            "__pycache__",
            ".mypy_cache",
            ".ruff_cache",
            ".pytest_cache",
            ".hypothesis",
            "out",
        }
        paths = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
        found = [str(path) for path in paths if not skipped & set(path.parts)]
    return sorted(found)


FILES: Final = _files()
TEXTS: Final = {name: (ROOT / name).read_text(encoding="utf-8") for name in FILES if Path(name).suffix not in BINARY}
PYTHON: Final = sorted(name for name in TEXTS if name.endswith(".py"))
MARKDOWN: Final = sorted(name for name in TEXTS if name.endswith(".md"))


def test_every_file_says_its_licence() -> None:
    """The licence stands in the first lines, in the comment style of the file."""
    bare = [
        name
        for name, text in TEXTS.items()
        if text and name not in NO_LICENCE_LINE and not any(SPDX in line for line in text.splitlines()[:3])
    ]

    assert bare == []


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_no_text_contains(pattern: str) -> None:
    """None of the patterns that have no place in the tree."""
    wanted = re.compile(pattern)
    found = [
        f"{name}:{number}: {line.strip()[:100]!r}"
        for name, text in TEXTS.items()
        if name not in QUOTES_THE_FORBIDDEN and name not in NO_LICENCE_LINE
        for number, line in enumerate(text.split("\n"), 1)
        if wanted.search(line)
    ]

    assert not found, f"{FORBIDDEN[pattern]}:\n" + "\n".join(found)


def test_modules_can_be_read_in_one_sitting() -> None:
    """No module above 400 lines, and the three that decide what may leave under 200 each."""
    limits = {name: LONGEST_TEST if name.startswith("tests/") else LONGEST_MODULE for name in PYTHON}
    limits |= dict.fromkeys(DECISIONS, LONGEST_DECISION)
    lengths = {name: TEXTS[name].count("\n") for name in PYTHON}

    assert {name: lines for name, lines in lengths.items() if lines > limits[name]} == {}


def test_interpreter_lines_are_isolated() -> None:
    """A Python program of ours takes nothing from PYTHONPATH, the working directory or the user's site-packages."""
    first_lines = {name: text.split("\n", 1)[0] for name, text in TEXTS.items() if text.startswith("#!")}
    python = {name: line for name, line in first_lines.items() if "python" in line}

    assert {name: line for name, line in python.items() if not re.fullmatch(r"#!/usr/bin/python3 -\w*I\w*", line)} == {}


def test_programs_and_only_they_are_executable() -> None:
    """Who has an interpreter line can be run, who has none cannot."""
    wrong = [name for name in TEXTS if TEXTS[name].startswith("#!") != bool((ROOT / name).stat().st_mode & 0o111)]

    assert wrong == []


@pytest.mark.parametrize("name", MARKDOWN)
def test_links_lead_somewhere(name: str) -> None:
    """Every relative link of a document names a file of the tree, and every anchor a heading of it."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", _without_code(TEXTS[name])):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        if not file.exists() or (anchor and anchor not in _anchors(file.read_text(encoding="utf-8"))):
            broken.append(target)

    assert broken == []


@pytest.mark.parametrize("name", MARKDOWN)
def test_paths_in_documents_exist(name: str) -> None:
    """A path of ours that a document names in backquotes is there."""
    named = re.findall(r"`((?:aovpnd|tests|tools|docs|systemd|etc)/[\w./-]+\.\w+)`", TEXTS[name])

    assert [path for path in named if not (ROOT / path).exists()] == []


def test_facts_that_are_named_exist() -> None:
    """Where the code names a trap of the kernel ("facts T6"), docs/facts.md tells it."""
    told = set(re.findall(r"(?m)^\| (T\d+) \|", TEXTS["docs/facts.md"]))
    named = {
        f"{name}: {number}"
        for name, text in TEXTS.items()
        for numbers in re.findall(
            r"\bfacts\)?\s((?:T\d+(?:, | and )?)+)", text.replace("](facts.md", "").replace("](../facts.md", "")
        )
        for number in re.findall(r"T\d+", numbers)
        if number not in told
    }

    assert told
    assert named == set()


def test_changelog_has_security() -> None:
    """The changelog keeps a place for what concerns safety, and knows the version that we are."""
    from aovpnd import __version__

    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = changelog.split("\n## ")[1]

    assert "\n### Security\n" in newest
    assert re.search(rf"^## \[({re.escape(__version__)}|Unreleased)\]", changelog, re.MULTILINE)


def test_link_checker_notices() -> None:
    """The check of anchors tells a heading from a word, and reads no code."""
    assert _anchors("# One thing: `x`\n\n## Two\n") == {"one-thing-x", "two"}
    assert _without_code("a `[x](y)`\n```\n[x](y)\n```\n[v](w)") == "a \n\n[v](w)"


def _without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"(?ms)^```.*?^```", "", text))


def _anchors(text: str) -> set[str]:
    """The anchors that a forge makes of headings: lower case, no punctuation, hyphens for blanks."""
    headings = re.findall(r"(?m)^#+ +(.*)$", text)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

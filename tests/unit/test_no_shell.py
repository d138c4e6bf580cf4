# SPDX-License-Identifier: GPL-3.0-or-later
"""No shell anywhere in the product, and no Python that takes code from its surroundings: it runs lists of arguments."""

import ast
import re
from pathlib import Path
from typing import Final

import pytest

from tests.lab.product import CHECKOUT, installed
from tests.lab.tree import File

SHELLS: Final = frozenset(
    {"ash", "bash", "busybox", "csh", "dash", "env", "ksh", "sh", "su", "sudo", "tcsh", "xargs", "zsh"}
)
"""Programs that make commands of text, or look for them in the environment."""
BY_TEXT: Final = frozenset({"create_subprocess_shell", "getoutput", "getstatusoutput", "popen", "system"})
"""Functions that hand a text to a shell."""
BY_LIST: Final = frozenset({"Popen", "call", "check_call", "check_output", "create_subprocess_exec", "run", "start"})
"""Functions that take a list of arguments; as text it would be the name of one program."""
SOURCES: Final = sorted((CHECKOUT / "aovpnd").rglob("*.py"))
UNITS: Final = sorted((CHECKOUT / "systemd").glob("*.service"))
_EXEC: Final = re.compile(r"^Exec\w+\s*=\s*[-@:+!]*(?P<program>\S+)(?P<rest>.*)")
_UDEV: Final = re.compile(
    r'\b(?:PROGRAM|RUN(?:\{program\})?|IMPORT\{program\})[!=+:]*="(?P<program>[^\s"]+)(?P<rest>[^"]*)'
)


def shells_in(source: str) -> list[str]:
    """What of a Python source runs a shell, or could: lines with the reason."""
    return [f"{node.lineno}: {why}" for node in ast.walk(ast.parse(source)) if (why := _judge(node))]  # type: ignore[attr-defined]


def _judge(node: ast.AST) -> str:
    match node:
        case ast.Constant(value=str(text)) if Path(text).name in SHELLS and (text in SHELLS or text.startswith("/")):
            return f"names {text}"
        case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)) if name in BY_TEXT:
            return f"{name}() hands text to a shell"
        case ast.Call(keywords=words) if any(word.arg == "shell" for word in words):
            return "shell="
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="subprocess"), attr=name), args=[ast.Constant() | ast.JoinedStr(), *_]
        ) if name in BY_LIST:
            return "a command as text"
        case ast.List(elts=[ast.Attribute(value=ast.Name(id="sys"), attr="executable"), *rest]) if not (
            rest and isinstance(rest[0], ast.Constant) and rest[0].value == "-I"
        ):
            return "Python without -I"
    return ""


def commands(text: str, pattern: re.Pattern[str]) -> list[tuple[str, str]]:
    """The programs that a unit, or a udev rule, starts, with their arguments."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if not line.lstrip().startswith("#")]
    return [(found["program"], found["rest"]) for line in lines for found in pattern.finditer(line)]


def unsound(program: str, rest: str) -> bool:
    """Whether a command could be another one than it seems: found by a search, or made of text by a shell."""
    return (
        not program.startswith("/")
        or Path(program).name in SHELLS
        or ("python" in Path(program).name and not rest.startswith(" -I"))
    )


def test_sources() -> None:
    """No module of the product runs a shell, or Python with what the environment names."""
    found = {path.name: shells_in(path.read_text(encoding="utf-8")) for path in SOURCES}

    assert len(found) > 50
    assert {name: said for name, said in found.items() if said} == {}


def test_units_and_rules() -> None:
    """What units and the udev rule start is a program by its whole path, and no shell."""
    started = [command for unit in UNITS for command in commands(unit.read_text(encoding="utf-8"), _EXEC)]
    rules = (CHECKOUT / "systemd/82-aovpnd-egress.rules").read_text(encoding="utf-8")
    asked = commands(rules, _UDEV)

    assert len(started) >= len(UNITS)
    assert len(asked) == rules.count("PROGRAM=") + rules.count("PROGRAM!=") > 0
    assert [command for command in started + asked if unsound(*command)] == []


def test_installed_programs_are_isolated() -> None:
    """Each program that is installed is Python with -I: no code from PYTHONPATH, the working directory, or a home.
    Two are not: aovpnd-rescue, which is for when Python is broken, and which no other program of ours starts; and
    aovpnd-rollback, which judges a version that may be broken in any way, and which a unit of its own starts.
    """
    programs = {
        path: entry.data.split(b"\n", 1)[0]
        for path, entry in installed().items()
        if isinstance(entry, File) and entry.mode & 0o111
    }

    assert programs.pop("/usr/sbin/aovpnd-rescue") == b"#!/bin/sh"
    assert programs.pop("/usr/lib/aovpnd/aovpnd-rollback") == b"#!/bin/sh"
    starts = [path.name for path in (*SOURCES, *UNITS) if "aovpnd-rollback watch" in path.read_text(encoding="utf-8")]
    assert starts == ["aovpnd-rollback.service"]
    assert not [path.name for path in SOURCES if "aovpnd-rescue" in path.read_text(encoding="utf-8")]
    started = {program for unit in UNITS for program, _ in commands(unit.read_text(encoding="utf-8"), _EXEC)}
    assert "/usr/sbin/aovpnd" in started
    assert not {program for program in started if "aovpnd-rescue" in program}, "one unit tells of it, and starts it not"
    assert {Path(path).name for path in programs} == {
        "aovpnctl",
        "aovpnd",
        "aovpnd-bus",
        "aovpnd-clock",
        "aovpnd-guard",
    }
    assert set(programs.values()) == {b"#!/usr/bin/python3 -I"}


@pytest.mark.parametrize(
    "source",
    [
        'subprocess.run(["sh", "-c", x])',
        'subprocess.run(["/bin/bash", x])',
        'subprocess.run("ls")',
        'subprocess.run(f"ls {x}")',
        "subprocess.run(x, shell=True)",
        "os.system(x)",
        "os.popen(x)",
        "asyncio.create_subprocess_shell(x)",
        "subprocess.getoutput(x)",
        'x = [sys.executable, "-m", "aovpnd"]',
    ],
)
def test_shells_are_found(source: str) -> None:
    """The control: each way of running a shell is noticed."""
    assert shells_in(source) != []


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("ExecStart=/bin/sh -c 'nft -f x'", _EXEC),
        ("ExecStartPre=-/usr/bin/env python3 -I x", _EXEC),
        ("ExecStart=nft -f x", _EXEC),
        ("ExecStop=/usr/bin/python3 -m aovpnd", _EXEC),
        ('ACTION=="add", PROGRAM=="/bin/sh -c \'x $name\'"', _UDEV),
        ('RUN+="nft -f x"', _UDEV),
    ],
)
def test_unsound_commands_are_found(text: str, pattern: re.Pattern[str]) -> None:
    """The control, for units and rules."""
    assert [unsound(*command) for command in commands(text, pattern)] == [True]

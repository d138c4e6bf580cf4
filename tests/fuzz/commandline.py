# SPDX-License-Identifier: GPL-3.0-or-later
"""What people type: the command lines of the four programs, spans of time, destinations."""

import contextlib
import io
import sys
from collections.abc import Callable
from typing import Final
from unittest.mock import patch

from aovpnd import __main__ as daemon
from aovpnd import destinations, durations
from aovpnd.bus import __main__ as bus
from aovpnd.core.way import way
from aovpnd.ctl import arguments
from aovpnd.ctl.terminal import plain
from aovpnd.guard import __main__ as guard
from tests.fuzz import judge
from tests.fuzz.mutate import Mutator
from tests.fuzz.target import Target, words
from tests.unit.small_world import BASES

_SNAPSHOT: Final = BASES[0].world().snapshot
_OPTIONS: Final = tuple(
    {name for _, _, own in arguments.COMMANDS.values() for name in own}
    | set(arguments.COMMON)
    | set(arguments.COMMANDS)
)


def _ctl(line: str) -> str:
    try:
        found = arguments.parse(_words(line))
    except arguments.UsageError as error:
        judge.told(plain(error), longest=30_000)  # whoever typed so much reads it again
        return judge.outcome("usage", str(error))
    except arguments.HelpWanted:
        return "help"
    return f"{found.command} {found.argument is not None} {found.json} {bool(found.runtime_dir)}"


def _words(line: str) -> list[str]:
    """One to a line; execve(2) lets no NUL through."""
    return line.replace("\0", "").split("\n") if line else []


def _options(line: str) -> str:
    """What argparse reads: options, or exit status 2 with a message that no terminal obeys."""
    program = len(line) % len(_PROGRAMS)
    return f"{program} {_one(_PROGRAMS[program], _words(line))}"


_PROGRAMS: Final[tuple[Callable[[], object], ...]] = (daemon._options, bus._options, guard._runtime_dir)


def _one(read: Callable[[], object], given: list[str]) -> str:
    said = io.StringIO()
    with (
        patch.object(sys, "argv", ["aovpnd", *given]),
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(said),
    ):
        try:
            read()
        except SystemExit as ended:
            status = ended.code
        else:
            return "ok"
    assert status in {0, 2}
    for text in said.getvalue().splitlines():
        judge.told(text, longest=30_000)
    return f"exit {status}"


def _duration(text: str) -> str:
    try:
        seconds = durations.parse(text)
    except ValueError as error:
        judge.told(str(error))
        return judge.outcome("refused", str(error))
    assert seconds >= 1
    assert len(str(seconds)) < 100
    rendered = durations.render(seconds)
    assert len(rendered) > durations.LONGEST_TEXT or durations.parse(rendered) == seconds
    return "ok"


def _destination(text: str) -> str:
    try:
        to = destinations.parse(text)
    except destinations.DestinationError as error:
        judge.told(f"{error} ({error.hint})")
        return judge.outcome("refused", str(error).rpartition(": ")[2])
    judge.told(str(to))
    assert destinations.parse(str(to)) == to
    found = way(_SNAPSHOT, to)
    return f"{to.protocol} {found.by.name} {found.turn.name}"


_SPANS: Final = ("3min", "1h 30s", "1.5 h", "90", "2 weeks", "100ms 900ms", "1µs")
_PLACES: Final = (
    *(
        "203.0.113.80",
        "203.0.113.80:53/udp",
        "[2001:db8::80]:22",
        "203.0.113.80/icmp",
        "fe80::1%wlan0",
        "ff02::1%wlan0",
    ),
    *("[::ffff:1.2.3.4]:1/tcp", "192.168.1.255", "255.255.255.255:67/udp", "2001:db8::80/gre", "vpn.example.org:443"),
)

TARGETS: Final = (
    Target(
        "aovpnctl",
        "the command line of aovpnctl",
        (
            "status\n--json",
            "allow-temp\n3min\n--reason\nx",
            "--runtime-dir=/x\nexplain\n--\n-1",
            "import\n/x\n--name=y",
        ),
        _ctl,
        Mutator((*_OPTIONS, "--", "-", "-h", "--version", "--json=1", "=", "\n"), surrogates=True),
    ),
    Target(
        "options",
        "the command lines of aovpnd, aovpnd-guard and aovpnd-bus",
        ("--runtime-dir\n/run/x\n--debug", "--state-dir=/x\n--bus-user\n7", "--version"),
        _options,
        Mutator(
            ("--config-dir", "--state-dir", "--runtime-dir", "--bus-user", "--debug", "--help", "-x", "--", "\n"),
            surrogates=True,
        ),
        slice=400,
    ),
    Target(
        "duration", "a span of time", _SPANS, _duration, Mutator((*durations._UNITS, *" .,0123456789"), surrogates=True)
    ),
    Target(
        "destination",
        "a destination for `aovpnctl explain`",
        _PLACES,
        _destination,
        Mutator((*words(" ".join(_PLACES)), "%", "/", "[", "]", ":", "/tcp", "/icmpv6", "0x7f.1"), surrogates=True),
    ),
)

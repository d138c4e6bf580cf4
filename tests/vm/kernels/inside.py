# SPDX-License-Identifier: GPL-3.0-or-later
"""A pytest plugin for the machine: a run in which a laptop's tunnel was not the kernel's own fails.

None of its looks asks the program under test. The machine's wireguard-go is a script that notes what it was called for
before it becomes the real one: gateways call it for links of other names, nobody may for one of ours. charon in the
machine has no kernel-libipsec to fall back to (`files`). And after each test, before its world goes, and while a
fixture is made, the links named ``aovpn*`` are looked for in every network namespace: there must be some of the
kernel's kind.
"""

import json
import os
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from aovpnd import names
from tests.lab.enter import WORLD_DIR
from tests.lab.tree import Entry, copied, text

REPORT: Final = "AOVPND_KERNEL_REPORT"
"""The variable with the name of a file that gets what was counted so far, as JSON."""
WANTED: Final = "AOVPND_KERNEL_LINKS"
"""The variable with the kind of link that must have been seen, one of `KINDS`."""
KINDS: Final = {"wireguard": "wireguard", "ipsec": "xfrm"}
"""Kinds of tunnel, and of the links that the kernel makes for them."""
_CALLED: Final = Path("/var/log/wireguard-go.called")
_REAL: Final = "/usr/lib/aovpnd-lab/wireguard-go"
WIREGUARD_GO: Final = f"""#!/bin/sh
echo "$*" >>{_CALLED}
exec {_REAL} "$@"
"""
_LOGS: Final = ("w*/laptop/aovpnd.log", "w*/laptop/aovpnd-bus.log", "w*/laptop/run/aovpnd/*.log")
_LINES: Final = 30
_LOOKS_S: Final = 5.0
"""Between two looks while a fixture is made."""
_NAMESPACES: Final = Path("/run/netns")
_seen: Final[Counter[str]] = Counter()


def files(root: Path) -> Mapping[str, Entry]:
    """What is laid over a machine's system, which was made of ``root``."""
    (libipsec,) = root.glob("usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so")
    return {
        "/usr/bin/wireguard-go": text(WIREGUARD_GO, 0o755),
        _REAL: copied(root / "usr/bin/wireguard-go", 0o755),
        f"/{libipsec.relative_to(root)}": text(""),
    }


def tunnels() -> tuple[str, ...]:
    """The kinds of the kernel's tunnels in this world that bear our names. (Links of other kinds are tests'.)"""
    found: list[str] = []
    for namespace in sorted(_NAMESPACES.glob("*")):
        words = ("ip", "-n", namespace.name, "-json", "-details", "link", "show")
        # The environment by name: a test may have put a spy in Popen's place who looks at it.
        shown = subprocess.run(words, capture_output=True, text=True, check=False, env=dict(os.environ)).stdout
        links = [link for link in json.loads(shown or "[]") if link.get("ifname", "").startswith(names.LINK_PREFIX)]
        found += [link.get("linkinfo", {}).get("info_kind", "none") for link in links]
    return tuple(kind for kind in found if kind in KINDS.values())


def fallen_back() -> str:
    """What is wrong with what wireguard-go was called for; "" when nothing is."""
    calls = _CALLED.read_text(encoding="utf-8").splitlines() if _CALLED.exists() else []
    ours = [call for call in calls if names.LINK_PREFIX in call]
    return f"wireguard-go was started for a link of ours: {ours[0]}" if ours else ""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Look, while the test's world is still there."""
    del item
    try:
        yield
    finally:
        _seen.update(set(tunnels()))
        complaint = fallen_back()
        if complaint:
            pytest.fail(complaint)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: object) -> Iterator[None]:
    """Look meanwhile: a fixture may bring tunnels up and take them down, before the first test is called."""
    del fixturedef
    found: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(_LOOKS_S):
            found.update(tunnels())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        return (yield)
    finally:
        over.set()
        looking.join()
        _seen.update(found)


def _said() -> str:
    """The end of what the daemon, aovpnd-bus, and the charon that the daemon runs said last."""
    logs = [path for name in _LOGS for path in WORLD_DIR.glob(name)]
    latest = sorted(logs, key=lambda path: path.stat().st_mtime)[-3:]
    ends = (path.read_text(encoding="utf-8", errors="replace").splitlines()[-_LINES:] for path in latest)
    return "\n".join(line for path, end in zip(latest, ends, strict=True) for line in (f"-- {path}", *end))


class _AtOnce:
    """Says at once what failed, and counts in a file: the run may take an hour more, and its time may end before it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._passed = self._skipped = 0
        self._failures: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Print it where the summary is printed: everything else is captured."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal is not None:
            terminal.write_line(f"\n{report.longreprtext}\n{_said()}")
        self._passed += report.when == "call" and report.passed
        self._skipped += report.skipped
        self._failures += [report.location[2]] if report.failed else []
        counted = {"passed": self._passed, "skipped": self._skipped, "failures": self._failures, "seen": _seen}
        Path(os.environ[REPORT]).write_text(json.dumps(counted), encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    """Begin."""
    config.pluginmanager.register(_AtOnce(config))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A run that has seen no tunnel of the kind that it is for shows nothing."""
    if not _seen[os.environ[WANTED]] and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it."""
    seen = ", ".join(f"{kind} links after {number} tests" for kind, number in sorted(_seen.items()))
    terminalreporter.write_line(f"the kernel's own: {seen or 'none'}; {os.environ[WANTED]} links are what counts")

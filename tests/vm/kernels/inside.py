# SPDX-License-Identifier: GPL-3.0-or-later
"""A pytest plugin for the machine: a run in which a laptop's tunnel was not the kernel's own fails.

Two looks, neither of which asks the program under test. After each test, before its world goes: the links named
``aovpn*`` in every network namespace must be of a kernel's kind, and at least one must have been seen at all. And the
machine's wireguard-go is a script that notes with what it was called before it becomes the real one (`WIREGUARD_GO`):
gateways call it for ``wg0``, nobody may for a link of ours. charon in the machine has no kernel-libipsec to fall back
to (`FILES`).
"""

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from aovpnd import names
from tests.lab.tree import Entry, copied, text

REPORT: Final = "AOVPND_KERNEL_REPORT"
"""The variable with the name of a file that gets what was seen: kind of link to number of tests, as JSON."""
KINDS: Final = {"wireguard": "wireguard", "ipsec": "xfrm"}
"""Kinds of tunnel, and of the links that the kernel makes for them."""
_CALLED: Final = Path("/var/log/wireguard-go.called")
_REAL: Final = "/usr/lib/aovpnd-lab/wireguard-go"
WIREGUARD_GO: Final = f"""#!/bin/sh
echo "$*" >>{_CALLED}
exec {_REAL} "$@"
"""
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
    """The kinds of the links in this world that bear our names, by all namespaces; "tun" is a program's."""
    found: list[str] = []
    for namespace in sorted(_NAMESPACES.iterdir()):
        words = ("ip", "-n", namespace.name, "-json", "-details", "link", "show")
        shown = subprocess.run(words, capture_output=True, text=True, check=False).stdout
        links = [link for link in json.loads(shown or "[]") if link.get("ifname", "").startswith(names.LINK_PREFIX)]
        found += [link.get("linkinfo", {}).get("info_kind", "none") for link in links]
    return tuple(found)


def fallen_back(kinds: tuple[str, ...]) -> str:
    """What is wrong with these links, and with what wireguard-go was called for; "" when nothing is."""
    calls = _CALLED.read_text(encoding="utf-8").splitlines() if _CALLED.exists() else []
    ours = [call for call in calls if names.LINK_PREFIX in call]
    if ours:
        return f"wireguard-go was started for a link of ours: {ours[0]}"
    if set(kinds) - set(KINDS.values()):
        return f"a tunnel was not the kernel's: {', '.join(kinds)}"
    return ""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Look, while the test's world is still there."""
    del item
    try:
        yield
    finally:
        kinds = tunnels()
        _seen.update(set(kinds))
        complaint = fallen_back(kinds)
        if complaint:
            pytest.fail(complaint)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A run that has seen no tunnel of the kernel's shows nothing."""
    Path(os.environ[REPORT]).write_text(json.dumps(_seen), encoding="utf-8")
    if not _seen and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it."""
    seen = ", ".join(f"{kind} links after {number} tests" for kind, number in sorted(_seen.items()))
    terminalreporter.write_line(f"the kernel's own: {seen or 'NO TUNNEL WAS SEEN, which fails the run'}")

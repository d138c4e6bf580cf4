# SPDX-License-Identifier: GPL-3.0-or-later
"""From network to network: what goes on, what is closed, and that nothing leaves meanwhile.

Times are printed and not judged here, but for the deadlines of what is waited for: the figures are the benchmark's.
"""

import errno
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import plan
from tests.lab.process import stop, wait_for
from tests.lab.senders import new_token
from tests.netns import many_sockets
from tests.netns.protected import Protected

pytestmark = pytest.mark.root

TOLD = frozenset({errno.ECONNABORTED, errno.EPIPE, errno.EDESTADDRREQ})
"""What a program reads from a connection that was closed under it: once ECONNABORTED, and then that there is none."""
CLOSED = frozenset({"tcp4", "tcp6", "connected4"})
"""The kinds of `many_sockets` that have a connection."""


@pytest.fixture(scope="module")
def laptop() -> Iterator[Protected]:
    """One world for this file; connected at home when a test begins."""
    with Protected.build(links=("wlan0", "eth0", "usb0")) as built:
        yield built


def direct_sockets(laptop: Protected, address: str) -> int:
    """How many connections hang on an address of a direct path."""
    words = ("-Htun", "state", "connected", "exclude", "time-wait", "src", address)
    return len(laptop.lab.host.out("ss", *words).splitlines())


def said(what: str, seconds: float) -> None:
    """A figure for whoever reads the log."""
    print(f"{what}: {seconds * 1000:.0f} ms")


# -- old sockets -------------------------------------------------------------------------------------------------------
def test_old_sockets_go_with_the_window(laptop: Protected) -> None:
    """Two hundred sockets that were opened in a window: those with a connection are told at once when it closes."""
    laptop.world.roam("home", ipv6=True)
    laptop.lab.ctl("disconnect")
    laptop.lab.ctl("allow-temp", "60s")
    token = new_token()
    report = laptop.lab.host.dir / f"many-{secrets.token_hex(4)}"
    report.touch()
    report.chmod(0o666)
    here = laptop.lab.address("wlan0")
    with laptop.world.record() as recorder:
        command = (sys.executable, "-m", "tests.netns.many_sockets", token.hex(), str(report))
        many = laptop.lab.host.spawn(*command, uid=plan.USER, log="many", stdout=subprocess.PIPE)
        assert many.stdout is not None
        assert many.stdout.readline() == b"ready\n", (laptop.lab.host.dir / "many.log").read_text()
        assert direct_sockets(laptop, here) >= 2 * many_sockets.EACH
        began = time.time()
        laptop.lab.ctl("allow-temp", "--cancel")
        end = time.time()
        wait_for("the old connections to be gone", lambda: not direct_sockets(laptop, here))
        said("old connections gone", time.time() - began)
        wait_for("everybody to notice", lambda: _told(report) >= _with_a_connection(), deadline_s=10)
        stop(many)
        many.stdout.close()
    recording = recorder.recording(token)

    assert recording.by_sender(end=began), "the control: they were seen while the window was open"
    late = recording.clear(start=end)
    assert not late, recording.describe(late)
    laptop.lab.ctl("connect")
    laptop.lab.wait_phase("connected")


def _told(report: Path) -> set[int]:
    data = report.read_bytes()
    size = many_sockets.RECORD.size
    tries = many_sockets.RECORD.iter_unpack(data[: len(data) // size * size])
    return {index for _at, index, status in tries if status in TOLD}


def _with_a_connection() -> set[int]:
    kinds = [name for name, _ in many_sockets.KINDS for _ in range(many_sockets.EACH)]
    return {index for index, name in enumerate(kinds) if name in CLOSED}

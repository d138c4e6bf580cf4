# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine's first block while somebody is logged in over the network: it undoes itself, and he goes on."""

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aovpnd.confirmation import CONFIRM_WITHIN_S
from tests.lab import plan
from tests.lab.process import wait_for
from tests.netns.protected import ORDINARY, Protected, names_of

pytestmark = pytest.mark.root

LEFT_S = 3.0
"""What is left of the minute when the daemon has been killed and comes back."""
RECORD = "/var/lib/aovpnd/confirmation"
SESSION = """UID=1000
USER=alice
ACTIVE=1
STATE=active
REMOTE=1
TYPE=tty
CLASS=user
SERVICE=sshd
REMOTE_HOST=192.0.2.7
"""
"""What systemd-logind keeps of somebody who has come by ssh, for sd-login(3)."""


@pytest.fixture
def laptop() -> Iterator[Protected]:
    """At home, open, with a tunnel's file; nobody was ever blocked here, and somebody is logged in over the network."""
    with Protected.build(start=False, control=False) as built:
        built.world.roam("home", ipv6=True)
        sessions = built.lab.host.path("/run/systemd/sessions")
        sessions.mkdir(parents=True)
        (sessions / "c1").write_text(SESSION, encoding="utf-8")
        yield built


def connection(laptop: Protected) -> tuple["subprocess.Popen[bytes]", Path]:
    """One that goes past the tunnel, as sshd's does, and what has come by it."""
    received = laptop.lab.host.dir / "received"
    received.touch()
    received.chmod(0o666)
    url = f"http://{plan.WEB4}/paced?bytes=100000000&rate=50000"
    client = laptop.lab.host.spawn("curl", "-sS", "-o", str(received), url, uid=plan.USER, log="connection")
    flows(received)
    return client, received


def flows(received: Path) -> None:
    """Wait until more has come."""
    before = received.stat().st_size
    wait_for("more of the connection", lambda: received.stat().st_size > before, deadline_s=30)


def killed_with_little_left(laptop: Protected) -> float:
    """The daemon dies, and its record says that its minute is almost over; the end of it, Unix time."""
    record = laptop.lab.host.path(RECORD)
    with laptop.no_restarts():
        laptop.lab.kill_daemon()
        boot, now = time.clock_gettime(time.CLOCK_BOOTTIME), time.time()
        text, count = re.subn(r"until \S+", f"until {boot + LEFT_S:.3f}", record.read_text(encoding="ascii"))
        assert count == 1
        record.write_text(text, encoding="ascii")
    return now + LEFT_S


def test_undone_and_confirmed(laptop: Protected) -> None:
    """Blocked for the first time, nobody gets out but by the tunnel, and status counts the seconds. A daemon that is
    killed goes on with them; then everybody is out again, and the old connection goes on. Confirmed, it stays.
    """
    lab = laptop.lab
    client, received = connection(laptop)
    with laptop.watch(kinds=ORDINARY) as watch:
        watch.everybody_tries()
        lab.start_daemon()
        blocked = time.time()
        block = lab.status()["block"]
        assert block["confirmed"] is False
        assert CONFIRM_WITHIN_S - 15 < block["undone_in_s"] <= CONFIRM_WITHIN_S
        assert "undoes itself" in laptop.problems()["block-unconfirmed"]
        assert "(to keep it: aovpnctl confirm)" in " ".join(lab.ctl("status").stdout.split())
        watch.until("the tunnel to work", laptop.works)
        cut = received.stat().st_size
        ends = killed_with_little_left(laptop)
        watch.everybody_tries()
        assert received.stat().st_size == cut, "what is cut off is cut off"
        lab.wait_phase("unblocked")
        undone = time.time()
        watch.everybody_tries()
        assert undone >= ends
        flows(received)
        assert client.poll() is None, "the connection is the same one"
        assert "undid itself" in laptop.problems()["block-undone"]
    watch.assert_silence(blocked, ends)
    assert watch.seen(end=blocked) >= names_of(ORDINARY)
    assert watch.seen(start=undone) >= names_of(ORDINARY)

    lab.ctl("confirm")
    with laptop.watch(kinds=ORDINARY) as watch:
        assert "the block is on\n" in lab.ctl("block").stdout
        again = time.time()
        watch.until("the tunnel to work", laptop.works)
        status = lab.status()
    watch.assert_silence(again)
    assert (status["block"]["confirmed"], status["block"]["undone_in_s"]) == (True, None)
    assert lab.host.path(RECORD).read_text(encoding="ascii") == "given\n"
    assert client.wait(20) != 0, "now that the block stands, old connections are closed"

# SPDX-License-Identifier: GPL-3.0-or-later
"""aovpnd-online.target under the real systemd: jobs wait for the tunnel, and not for ever."""

from typing import Final

import pytest

from tests.container.booted import Booted
from tests.lab.process import wait_for

pytestmark = [pytest.mark.container, pytest.mark.root, pytest.mark.slow]

TARGET: Final = "aovpnd-online.target"
WAITER: Final = "aovpnd-wait-online.service"
JOB: Final = "online-job.service"
RAN: Final = "/run/online-job"
_JOB: Final = f"""[Unit]
Wants={TARGET}
After={TARGET}
[Service]
Type=oneshot
ExecStart=/usr/bin/touch {RAN}
"""
_SOON: Final = """[Service]
ExecStart=
ExecStart=/usr/bin/aovpnctl wait --connected --timeout 1s
"""


@pytest.fixture
def job(laptop: Booted) -> Booted:
    """A laptop that is disconnected, with a job that needs the tunnel; nobody has asked for the target yet."""
    system = laptop.system
    system.write(f"/run/systemd/system/{JOB}", _JOB)
    system.shell(f"systemctl daemon-reload; systemctl stop {TARGET} {WAITER}; rm -f {RAN}; aovpnctl disconnect")
    return laptop


def ran(laptop: Booted) -> bool:
    """Whether the job has."""
    return laptop.system.run("test", "-e", RAN).returncode == 0


def test_a_job_waits_for_the_tunnel(job: Booted) -> None:
    """It starts when the tunnel carries, not before."""
    system = job.system
    system.check("systemctl", "start", "--no-block", JOB)
    wait_for("the waiting to begin", lambda: system.show(WAITER, "ActiveState")["ActiveState"] == "activating")
    assert not ran(job)
    system.check("aovpnctl", "connect")
    wait_for("the job", lambda: ran(job), deadline_s=30)

    assert system.active(TARGET)
    assert system.active(WAITER)
    job.wait_works()


def test_it_waits_so_long_and_no_longer(job: Booted) -> None:
    """In vain: the target is reached, the job decides for itself, and it is known who has failed and why."""
    system = job.system
    drop_in = f"/run/systemd/system/{WAITER}.d/soon.conf"
    system.write(drop_in, _SOON)
    system.shell("systemctl daemon-reload")
    try:
        system.check("systemctl", "start", JOB)

        assert ran(job)
        assert system.show(WAITER, "Result") == {"Result": "exit-code"}
        assert "still not connected: blocked" in system.journal(WAITER)
    finally:
        system.shell(f"rm {drop_in}; systemctl daemon-reload; systemctl reset-failed {WAITER}; aovpnctl connect")
        job.wait_works()


def test_nothing_to_wait_for(laptop: Booted) -> None:
    """With the block off a job starts at once."""
    system = laptop.system
    system.write(f"/run/systemd/system/{JOB}", _JOB)
    system.shell(f"systemctl daemon-reload; systemctl stop {TARGET} {WAITER}; rm -f {RAN}; aovpnctl unblock")
    try:
        system.check("systemctl", "start", JOB)

        assert ran(laptop)
        assert system.active(TARGET)
    finally:
        system.shell("aovpnctl block")
        laptop.wait_works()

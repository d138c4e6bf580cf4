# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that carry a tunnel are waited for in turns, and none is left behind."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from aovpnd.backends import userspace
from aovpnd.backends.userspace import Program, UserspaceProcess, wait
from aovpnd.errors import ToolError

LINK = "aovpn0"


class Started:
    """Processes that were started; a listening socket stands for the one that has come up."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "socket"
        self.children: list[subprocess.Popen[bytes]] = []

    def start(self, *_: object) -> subprocess.Popen[bytes]:
        """In the place of `process.start`."""
        self.children.append(subprocess.Popen(["/usr/bin/sleep", "60"]))
        return self.children[-1]


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Started]:
    """No systemd, and a program that is slow."""
    started = Started(tmp_path)
    monkeypatch.setattr(userspace, "under_systemd", lambda: False)
    monkeypatch.setattr("aovpnd.adapters.process.start", started.start)
    yield started
    for child in started.children:
        child.kill()
        child.wait()


def processes(started: Started, tmp_path: Path) -> UserspaceProcess:
    """One kind of program, of which nobody waits long."""
    program = Program(
        "sleep", "", lambda _: started.socket, lambda _: (), lambda _: True, lambda _: {}, hint="?", turn_s=0.05
    )
    return UserspaceProcess(program, tmp_path)


def test_a_slow_one_is_waited_for_in_turns(started: Started, tmp_path: Path) -> None:
    """Whoever waits is told and can look after everything else; the process goes on, and is not started twice."""
    ours = processes(started, tmp_path)
    for _ in range(2):
        with pytest.raises(ToolError, match="has not come up yet"):
            ours.start(LINK)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(started.socket))
        listener.listen()
        ours.start(LINK)

    assert len(started.children) == 1
    assert started.children[0].poll() is None


def test_one_that_does_not_come_up_is_ended(started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of its time, although it has no socket by which it could be found; the next one begins anew."""
    monkeypatch.setattr(userspace, "START_S", 0.1)
    monkeypatch.setattr(userspace, "_STOP_S", 0.1)
    ours = processes(started, tmp_path)

    def has_given_up() -> bool:
        with pytest.raises(ToolError) as caught:
            ours.start(LINK)
        return "did not come up" in str(caught.value)

    assert wait(has_given_up, 10)
    assert started.children[0].poll() is not None
    with pytest.raises(ToolError, match="has not come up yet"):
        ours.start(LINK)
    assert len(started.children) == 2

# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong around aovpnd-bus, and what pydbus does wrong: the bus dies, the daemon dies, memory leaks."""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aovpnd.orders import Connect
from tests.bus.stage import DEADLINE_S, Caller, Stage, stage
from tests.bus.storm import is_bounded, storm
from tests.lab.process import wait_for

MEBIBYTE = 1024


@pytest.fixture
def scene() -> Iterator[Stage]:
    """One stage for each test: they break it."""
    with stage() as built:
        yield built


def knows_the_daemon(caller: Caller) -> bool:
    """Whether aovpnd-bus has found the daemon."""
    return caller.code("Status") == "done"


def test_bus_dies_and_comes_back(scene: Stage) -> None:
    """dbus-daemon is killed at odd moments, and started again: the same process serves again, and loses nothing."""
    assert scene.process is not None
    chance = random.Random(5)
    for _ in range(3):
        scene.caller().tell(method="Connect", signature="(s)", arguments=["home"])
        busy_for(chance.random() * 0.01)  # anywhere in the course of a call
        scene.bus.kill()
        scene.close_services()
        assert scene.process.poll() is None
        scene.bus.start()
        scene.wait_served()
        scene.start_services()
        caller = scene.caller()
        wait_for("the daemon to be known", lambda who=caller: knows_the_daemon(who), deadline_s=DEADLINE_S)  # type: ignore[misc]
        scene.daemon.asked.clear()
        assert caller.code("Connect", "(s)", "home") == "done"
        assert scene.daemon.asked == [Connect("home")]
    assert scene.process.poll() is None
    assert "internal error" not in scene.log()


def test_no_bus_for_a_while(scene: Stage) -> None:
    """Without a bus the process waits, says so once, and does not burn the processor."""
    assert scene.process is not None
    scene.bus.kill()
    wait_for("the loss to be noticed", lambda: "no bus" in scene.log(), deadline_s=DEADLINE_S)
    before, attempts = processor_s(scene), scene.log().count("trying again")
    wait_for("two more attempts", lambda: scene.log().count("trying again") >= attempts + 2, deadline_s=DEADLINE_S)
    assert processor_s(scene) - before < 0.2
    assert scene.log().count("no bus") == 1
    scene.bus.start()
    scene.wait_served()


def busy_for(seconds: float) -> None:
    """Look at the clock for so long: much shorter than anything that could be waited for."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def processor_s(scene: Stage) -> float:
    """Processor time of aovpnd-bus so far."""
    assert scene.process is not None
    fields = Path(f"/proc/{scene.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_killed_and_started_again(scene: Stage) -> None:
    """SIGKILL, and a new process takes its place, with the daemon's state."""
    caller = scene.caller()
    scene.kill()
    assert caller.code("Status") in {"ServiceUnknown", "NameHasNoOwner"}
    scene.start()
    wait_for("the daemon to be known", lambda: knows_the_daemon(caller), deadline_s=DEADLINE_S)
    assert caller.code("Connect", "(s)", "home") == "done"


def test_second_instance_waits(scene: Stage) -> None:
    """Two processes of the same user do not fight for the name: the second one waits until the first is gone."""
    caller = scene.caller()
    second = scene.spawn()
    wait_for("the second one to complain", lambda: "name already exists" in scene.log(), deadline_s=DEADLINE_S)
    assert caller.code("Connect", "(s)", "home") == "done"
    scene.kill()
    scene.process = second
    scene.wait_served()
    wait_for("the daemon to be known", lambda: knows_the_daemon(caller), deadline_s=DEADLINE_S)
    assert caller.code("Connect", "(s)", "home") == "done"


def test_ends_when_told(scene: Stage) -> None:
    """SIGTERM ends it with status 0, and the name is free."""
    assert scene.process is not None
    scene.process.terminate()
    assert scene.process.wait(10) == 0
    assert "Traceback" not in scene.log()


def test_runtime_directory_goes(scene: Stage) -> None:
    """When what it watches is removed it ends with status 1 and a reason: its unit starts it anew."""
    scene.kill()
    scene.runtime = scene.directory / "without-a-daemon"
    scene.runtime.mkdir()
    scene.start()
    assert scene.process is not None
    scene.runtime.rmdir()
    scene.runtime.mkdir()  # another one in its place is not the one that is watched
    assert scene.process.wait(10) == 1
    assert "runtime directory went away" in scene.log()
    assert "Traceback" not in scene.log()


def test_daemon_that_is_not_there() -> None:
    """Without a daemon the properties are empty, and whoever asks is told what remains, also for commands."""
    with stage() as scene:
        caller = scene.caller()
        wait_for("the daemon to be known", lambda: "on the bus" in scene.log(), deadline_s=DEADLINE_S)
        (scene.runtime / "control.sock").unlink()
        answer = caller.call("Connect", "(s)", "home")
        assert answer == {
            "error": "org.aovpnd1.Error.DaemonUnreachable",
            "text": "daemon not running; the block remains as loaded (to start it: systemctl start aovpnd)",
        }


@pytest.mark.slow
def test_many_calls(scene: Stage) -> None:
    """Six thousand calls, refused ones and long ones among them, leave nothing behind, and the latest of a hundred is
    bounded by what the bus itself takes; ``make storm`` makes a hundred thousand. (With GLib before 2.84 each leaves
    2 kB and its arguments, if the reference that is too many is not dropped: 12 MB.)
    """
    cost = storm(scene, 6_000)

    assert is_bounded(cost), cost
    assert scene.resident_kib() < 48 * MEBIBYTE


@pytest.mark.slow
def test_longest_message(scene: Stage) -> None:
    """The longest messages that the bus carries, one after the other, fit into the memory that the unit has."""
    for _ in range(3):
        assert scene.caller().code("Connect", "(s)", "x", times=31 * MEBIBYTE * MEBIBYTE) == "BadRequest"
    assert scene.peak_kib() < 120 * MEBIBYTE
    assert scene.caller().code("Status") == "done"

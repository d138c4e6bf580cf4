# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong around aovpnd-bus, and what pydbus does wrong: the bus dies, the daemon dies, memory leaks."""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aovpnd.orders import Answer, Connect
from tests.bus.stage import AS_ROOT, DEADLINE_S, USER, Caller, Stage, stage
from tests.lab.process import wait_for
from tests.unit import scenes

MEBIBYTE = 1024


@pytest.fixture
def scene() -> Iterator[Stage]:
    """One stage for each test: they break it."""
    with stage() as built:
        built.daemon.publish(scenes.CONNECTED)
        yield built


def resident_kib(scene: Stage) -> int:
    """Memory of aovpnd-bus."""
    assert scene.process is not None
    status = Path(f"/proc/{scene.process.pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


def knows_the_daemon(caller: Caller) -> bool:
    """Whether aovpnd-bus has found the daemon."""
    return caller.code("Status") == "done"


def test_bus_dies_and_comes_back(scene: Stage) -> None:
    """dbus-daemon is killed at odd moments, and started again: the same process serves again, and loses nothing."""
    assert scene.process is not None
    chance = random.Random(5)
    for _ in range(3):
        scene.caller().tell(method="Connect", signature="(s)", arguments=["home"])
        time.sleep(chance.random() * 0.01)  # anywhere in the course of a call
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
    before = processor_s(scene)
    time.sleep(1.0)  # what is measured is a span of time
    assert processor_s(scene) - before < 0.2
    assert scene.log().count("no bus") == 1
    scene.bus.start()
    scene.wait_served()


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
def test_memory_is_bounded(scene: Stage) -> None:
    """Twenty thousand calls, refused ones and those with long arguments among them, leave nothing behind. (With GLib
    before 2.84 each leaves 2 kB and its arguments, if the reference that is too many is not dropped: 40 MB.)
    """
    caller = scene.caller(0 if AS_ROOT else USER)
    caller.call("Status", count=500)
    caller.call("Connect", "(s)", "home", count=500)
    before = resident_kib(scene)
    caller.call("Status", count=18_000)
    caller.call("Connect", "(s)", "home", count=1_500)
    for _ in range(500):
        caller.code("Connect", "(s)", "x", times=40_000)
    scene.daemon.asked.clear()
    assert resident_kib(scene) - before < 6 * MEBIBYTE
    assert resident_kib(scene) < 48 * MEBIBYTE
    assert isinstance(scene.daemon.answer, Answer)

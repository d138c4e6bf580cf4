# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl`` in the hands of an ordinary user: over the bus, with polkit's agent where a password is wanted."""

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from aovpnd.doors import Door
from aovpnd.errors import CommandRefused
from aovpnd.orders import AllowTemporary, Answer, CancelTemporary, Connect, Explain
from tests.bus.stage import AS_ROOT, DEADLINE_S, USER, Stage, command_as, stage
from tests.lab.process import wait_for

pytestmark = pytest.mark.skipif(not AS_ROOT, reason="needs a user who is not the owner of the control socket")

AGENT: Final = """#!/bin/sh
# In the place of pkttyagent(1): there while the file is, ready when it has closed its descriptor.
[ "$1" = --notify-fd ] || exit 9
trap 'kill $!; rm -f "{file}"; exit 0' TERM
touch "{file}"
echo "Password: " >&2
eval "exec $2>&-"
sleep 60 >/dev/null 2>&1 &
wait
"""


@pytest.fixture(scope="module")
def scene() -> Iterator[Stage]:
    """One stage for this file."""
    with stage() as built:
        yield built


@pytest.fixture(autouse=True)
def fresh(scene: Stage) -> None:
    """Each test begins with a polkit that is well, and a daemon that was asked nothing."""
    scene.forget()
    scene.daemon.answer = Answer("done")


def ctl(
    scene: Stage, *words: str, uid: int = USER, address: str = "", path: str = "", stdin: int = subprocess.DEVNULL
) -> subprocess.CompletedProcess[str]:
    """Run aovpnctl as somebody."""
    program = str(Path(sys.executable).with_name("aovpnctl"))
    environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": address or scene.bus.address}
    command = command_as(
        uid, "env", f"PATH={path or environment['PATH']}", program, *words, "--runtime-dir", str(scene.runtime)
    )
    return subprocess.run(
        command, check=False, stdin=stdin, capture_output=True, env=environment, text=True, timeout=60
    )


def said(done: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    """Exit status, and what was written."""
    return done.returncode, done.stdout, done.stderr


def test_order_goes_over_the_bus(scene: Stage) -> None:
    """What polkit permits is carried out, and its answer is the daemon's."""
    scene.daemon.answer = Answer("connecting by home")

    assert said(ctl(scene, "connect", "home")) == (0, "connecting by home\n", "")
    assert scene.daemon.asked == [Connect("home")]
    assert said(ctl(scene, "allow-temp", "--cancel"))[0] == 0
    assert scene.daemon.asked[-1] == CancelTemporary()


def test_window_with_a_password(scene: Stage) -> None:
    """A desktop's agent asks, and the end of the window is told as root is told."""
    scene.authority.minds.agent = "right"
    scene.daemon.answer = Answer("temporary access is open", time.clock_gettime(time.CLOCK_BOOTTIME) + 60)
    status, out, err = said(ctl(scene, "allow-temp", "1min", "--reason", "portal", "--json"))

    assert (status, err) == (0, "")
    answer = json.loads(out)
    assert (answer["ok"], answer["text"]) == (True, "temporary access is open")
    assert 55 <= answer["remaining_s"] <= 60
    assert scene.daemon.asked == [AllowTemporary(60, "portal", "games", Door.BUS)]


def test_explanation_crosses_whole(scene: Stage) -> None:
    """The object that only ``explain`` returns arrives as the daemon gave it."""
    found = {"passes": True, "hint": "", "permit": None, "specification": "", "source": None, "origins": []}
    found["stages"] = [{"where": "output", "rule": "", "why": "", "verdict": "accept"}]
    scene.daemon.answer = Answer("it leaves", None, found)
    status, out, _ = said(ctl(scene, "explain", "192.0.2.1", "--json"))

    assert (status, json.loads(out)) == (
        0,
        {"ok": True, "text": "it leaves", **found},
    )
    assert [type(question) for question in scene.daemon.asked] == [Explain]


@pytest.mark.parametrize(
    ("words", "agent", "session", "text"),
    [
        (
            "allow-temp",
            "none",
            "active",
            (
                "opening the whole machine takes a password, and there was nobody to ask for it "
                "(run it in a terminal or in a desktop session, or try sudo)"
            ),
        ),
        (
            "allow-temp",
            "dismiss",
            "active",
            "opening the whole machine takes a password, and the question was cancelled",
        ),
        (
            "allow-temp",
            "right",
            "remote",
            "polkit says no: this is for whoever sits at this machine, with a password (try sudo)",
        ),
        ("connect", "none", "inactive", "polkit says no: this is for whoever sits at this machine (try sudo)"),
        ("disconnect", "wrong", "active", "polkit says no: this is for administrators (try sudo)"),
        (
            "unblock",
            "none",
            "active",
            (
                "changing the block takes a password, and there was nobody to ask for it "
                "(run it in a terminal or in a desktop session, or try sudo)"
            ),
        ),
    ],
)
def test_refusals_read_well(scene: Stage, words: str, agent: str, session: str, text: str) -> None:
    """What polkit says no to is one line that says why, and what to do; exit status 1."""
    scene.authority.minds.agent = agent
    scene.authority.minds.others = session

    assert said(ctl(scene, *words.split())) == (1, "", f"aovpnctl: {text}\n")
    assert scene.daemon.asked == []


def test_refusal_of_the_daemon(scene: Stage) -> None:
    """Code, words and hint are those that root gets."""
    scene.daemon.answer = CommandRefused("there is no tunnel called x", hint="there are: home", code="tunnel-unknown")

    assert said(ctl(scene, "connect", "x")) == (1, "", "aovpnctl: there is no tunnel called x (there are: home)\n")
    assert json.loads(ctl(scene, "connect", "x", "--json").stdout) == {
        "ok": False,
        "code": "tunnel-unknown",
        "text": "there is no tunnel called x",
        "hint": "there are: home",
    }


def test_agent_asks_in_the_terminal(scene: Stage, tmp_path: Path) -> None:
    """With a terminal and nobody else to ask, polkit's own agent runs for as long as the question takes."""
    file = scene.directory / "agent" / "is-there"
    file.parent.mkdir()
    file.parent.chmod(0o777)
    agent = file.with_name("pkttyagent")
    agent.write_text(AGENT.format(file=file), encoding="ascii")
    agent.chmod(0o755)
    scene.authority.minds.agent = "right"
    scene.authority.minds.agent_is_there = file
    ours, theirs = pty.openpty()
    path = f"{agent.parent}:{os.environ['PATH']}"
    try:
        done = ctl(scene, "allow-temp", "1min", path=path, stdin=theirs)
        assert said(done) == (0, "done\n", "Password: \n")
        assert scene.daemon.asked == [AllowTemporary(60, "", "games", Door.BUS)]
        wait_for("the agent to be gone", lambda: not file.exists(), deadline_s=DEADLINE_S)
        # Without a question there is no agent; and a missing one is named.
        assert said(ctl(scene, "connect", path=path, stdin=theirs)) == (0, "done\n", "")
        assert said(ctl(scene, "allow-temp", path=str(tmp_path), stdin=theirs)) == (
            1,
            "",
            (
                "aovpnctl: this takes a password, and polkit's agent for terminals, which asks for it, is missing "
                "(apt install polkitd, or try sudo)\n"
            ),
        )
    finally:
        os.close(ours)
        os.close(theirs)


def test_without_polkit(scene: Stage) -> None:
    """Polkit's death is named, and root's way."""
    scene.authority.minds.mode = "error"

    assert said(ctl(scene, "connect")) == (
        1,
        "",
        (
            "aovpnctl: polkit cannot be asked whether you may do this: polkit is unwell "
            "(systemctl status polkit; root needs no polkit: try sudo)\n"
        ),
    )


def test_without_a_bus(scene: Stage) -> None:
    """No bus, and nobody on it, are two different things; both exit with 3, and status works all the same."""
    nowhere = f"unix:path={scene.directory}/nowhere"

    assert said(ctl(scene, "connect", address=nowhere)) == (
        3,
        "",
        "aovpnctl: there is no system bus, and without one only root can give commands (try sudo)\n",
    )
    assert ctl(scene, "status", address=nowhere).returncode == 0
    assert said(ctl(scene, "connect", uid=0, address=nowhere)) == (0, "done\n", "")
    scene.kill()
    assert said(ctl(scene, "connect")) == (
        3,
        "",
        (
            "aovpnctl: aovpnd-bus is not running, and without it only root can give commands "
            "(systemctl status aovpnd-bus; or try sudo)\n"
        ),
    )
    scene.start()


def test_without_a_daemon(scene: Stage) -> None:
    """Nobody needs a bus to learn that there is no daemon."""
    socket = scene.runtime / "control.sock"
    away = socket.with_name("away")
    socket.rename(away)
    try:
        assert said(ctl(scene, "connect", address="unix:path=/nowhere")) == (
            3,
            "",
            "aovpnctl: daemon not running; the block remains as loaded (to start it: systemctl start aovpnd)\n",
        )
    finally:
        away.rename(socket)

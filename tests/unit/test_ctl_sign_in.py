# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl sign-in``: whom it asks and how, what it hands on, what it says of it, and that it shows no answer."""

import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from aovpnd.ctl import signing
from aovpnd.ctl.__main__ import main
from aovpnd.model import Problem, Severity
from aovpnd.orders import Answer, SignedIn
from aovpnd.tunnel import Secret
from tests.lab.process import wait_for
from tests.unit import scenes
from tests.unit.fake_daemon import FakeDaemon, fake_daemon
from tests.unit.test_signin import EACH, ONCE, PASSWORD

HOME: Final = replace(ONCE, name="home")
TRIED: Final = Answer("signing in to home", data={"tried": True})
REFUSED: Final = Problem("sign-in-refused", Severity.ERROR, "home: the gateway refuses it", "aovpnctl sign-in home")


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    """A daemon with a tunnel that waits for a password; what comes of it is published at once."""
    monkeypatch.setenv("AOVPND_RUNTIME_DIR", str(tmp_path))
    with fake_daemon(tmp_path) as running:
        running.desk.expect((HOME, replace(EACH, name="work")))
        running.desk.fetch(HOME)
        running.answer = TRIED
        running.publish(scenes.CONNECTED)
        yield running


def give(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    """Standard input."""
    read, write = os.pipe()
    os.write(write, text)
    os.close(write)
    monkeypatch.setattr(signing, "STANDARD_INPUT", read)


def test_by_standard_input(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line for each secret of the tunnels that wait, and only for these; the daemon is told, and has it."""
    give(monkeypatch, f"{PASSWORD}\nanother\n".encode())

    assert main(["sign-in", "--stdin"]) == 0
    out, err = capfd.readouterr()
    assert (out, err) == ("signed in: the tunnel home is up\n", "")
    assert daemon.asked == [SignedIn("home")]
    assert daemon.desk.fetch(HOME) == {1: Secret(PASSWORD)}
    assert [each["tunnel"] for each in daemon.desk.questions()] == ["work"]


def test_as_json(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """An order's keys."""
    give(monkeypatch, f"{PASSWORD}\r\n".encode())
    assert main(["sign-in", "home", "--stdin", "--json"]) == 0
    said = {"ok": True, "text": "signed in: the tunnel home is up", "expires_at": None, "remaining_s": None}
    assert json.loads(capfd.readouterr().out) == said
    assert daemon.desk.fetch(HOME) == {1: Secret(PASSWORD)}


@pytest.mark.parametrize("given", [b"", b"\n", b"\xff\xfe\n", b"a\x1b[2Jb\n", b"x" * 600 + b"\n", b"x" * 9000])
def test_what_is_no_answer_is_not_handed_on(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], given: bytes
) -> None:
    """Nothing, several lines, or no text: refused here, and nothing was tried."""
    give(monkeypatch, given)
    assert main(["sign-in", "--stdin"]) == 1
    assert "not one line of text" in capfd.readouterr().err
    assert daemon.asked == []


def test_the_gateways_refusal_is_told(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With what to do, exit status 1, and without the answer."""
    scene = scenes.CONNECTING
    daemon.publish(replace(scene, desired=replace(scene.desired, problems=(REFUSED,))))
    give(monkeypatch, f"{PASSWORD}\n".encode())
    assert main(["sign-in", "--stdin"]) == 1
    out, err = capfd.readouterr()
    assert "home: the gateway refuses it" in err
    assert "aovpnctl sign-in home" in err
    assert PASSWORD not in out + err


def test_a_silent_gateway(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is not waited for for ever."""
    daemon.publish(scenes.CONNECTING)
    give(monkeypatch, f"{PASSWORD}\n".encode())
    assert main(["sign-in", "--stdin", "--timeout", "1"]) == 1
    assert "home does not come up within 1 s" in capfd.readouterr().err


def test_one_that_is_not_tried_now(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its answer is kept, and nothing is waited for."""
    daemon.publish(scenes.CONNECTING)
    daemon.answer = Answer("kept for work", data={"tried": False})
    give(monkeypatch, f"{PASSWORD}\n".encode())
    assert main(["sign-in", "work", "--stdin"]) == 0
    assert capfd.readouterr().out == "kept for work\n"


@pytest.mark.parametrize("words", [["nobody"], []])
def test_nothing_is_asked_for(daemon: FakeDaemon, capfd: pytest.CaptureFixture[str], words: list[str]) -> None:
    """Neither by a tunnel that there is not, nor by any, when all are answered."""
    daemon.desk.take("home", {1: Secret(PASSWORD)})
    assert main(["sign-in", *words]) == 1
    assert ("nothing is asked for" if words else "no tunnel waits") in capfd.readouterr().err


def test_both_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    """Standard input or agents: wrong usage."""
    assert main(["sign-in", "--stdin", "--agent"]) == 2
    assert "either" in capfd.readouterr().err


def test_others_than_root_have_no_agents(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """They would ask for ever, and nobody would see it."""
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert main(["sign-in", "--agent"]) == 1
    assert "only root may have systemd ask" in capfd.readouterr().err
    assert daemon.asked == []


# -- the terminal ------------------------------------------------------------------------------------------------------
def test_on_the_terminal_without_echo(daemon: FakeDaemon, tmp_path: Path) -> None:
    """It names what is asked, shows nothing of what is typed, and leaves the terminal as it was."""
    pid, terminal = pty.fork()
    if not pid:
        os.environ["AOVPND_RUNTIME_DIR"] = str(tmp_path)
        os.execv(sys.executable, [sys.executable, "-m", "aovpnd.ctl", "sign-in"])  # noqa: S606 - the program itself
    shown = bytearray()

    def read() -> None:
        try:
            while some := os.read(terminal, 4096):
                shown.extend(some)
        except OSError:  # EIO: it has ended
            return

    reader = threading.Thread(target=read)
    reader.start()
    wait_for("the question", lambda: b"): " in shown, deadline_s=20)
    os.write(terminal, f"{PASSWORD}\n".encode())
    _, status = os.waitpid(pid, 0)
    reader.join(10)
    os.close(terminal)

    text = shown.decode()
    assert os.waitstatus_to_exitcode(status) == 0, text
    assert text.startswith("password of alice, for home (")
    assert text.endswith("signed in: the tunnel home is up\r\n")
    assert PASSWORD not in text
    assert daemon.desk.fetch(HOME) == {1: Secret(PASSWORD)}


def test_without_a_terminal(daemon: FakeDaemon, tmp_path: Path) -> None:
    """A clear word, and nothing read from anywhere else."""
    done = subprocess.run(
        [sys.executable, "-m", "aovpnd.ctl", "sign-in"],
        input=f"{PASSWORD}\n",
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
        env={**os.environ, "AOVPND_RUNTIME_DIR": str(tmp_path)},
    )
    assert done.returncode == 1
    assert "there is no terminal to ask on (run it in a terminal, or give it by --stdin)" in done.stderr
    assert daemon.asked == []


# -- systemd's agents --------------------------------------------------------------------------------------------------
def test_by_an_agent(daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as a tunnel waits; the answer comes by a pipe, the question has no secret."""
    asker = tmp_path / "systemd-ask-password"
    asker.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\necho {PASSWORD}\n', encoding="ascii")
    asker.chmod(0o755)
    monkeypatch.setattr(signing, "ASK_PASSWORD", str(asker))
    scene = scenes.CONNECTED
    waits = Problem("sign-in-wanted", Severity.ERROR, "work: the password is asked for", "")
    daemon.publish(replace(scene, desired=replace(scene.desired, problems=(waits,))))
    looks = iter(range(2))

    def sleep(_seconds: float) -> None:
        if next(looks, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr("aovpnd.ctl.signing.time.sleep", sleep)
    assert main(["sign-in", "--agent"]) == 130

    assert (tmp_path / "asked").read_text(encoding="ascii") == (
        "--no-tty --icon=network-vpn --id=aovpnd --timeout=0"
        f" password of alice, for home ({', '.join(map(str, HOME.gateways))})\n"
    )
    assert daemon.desk.fetch(HOME) == {1: Secret(PASSWORD)}


def test_without_such_a_program(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It ends, and says what to do."""
    monkeypatch.setattr(signing, "ASK_PASSWORD", "/nonexistent")
    waits = Problem("sign-in-wanted", Severity.ERROR, "home: the password is asked for", "")
    daemon.publish(replace(scenes.CONNECTED, desired=replace(scenes.CONNECTED.desired, problems=(waits,))))
    assert main(["sign-in", "--agent"]) == 1
    assert "systemd-ask-password cannot be run" in capfd.readouterr().err

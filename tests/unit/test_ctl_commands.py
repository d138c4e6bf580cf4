# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl``'s command line, its orders to the daemon, and the exit status of every outcome."""

import contextlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from aovpnd.ctl import orders
from aovpnd.ctl.__main__ import main
from aovpnd.ctl.arguments import COMMANDS, COMMON, Arguments, HelpWanted, UsageError, parse
from aovpnd.ctl.terminal import plain, style
from aovpnd.ctl.tunnels import table
from aovpnd.errors import AovpndError, CommandRefused, StateError
from aovpnd.model import Block
from aovpnd.orders import AllowTemporary, Answer, CancelTemporary, Command, Confirm, Connect, Disconnect, SetBlock
from tests.unit import scenes
from tests.unit.fake_daemon import FakeDaemon, fake_daemon
from tests.unit.imports import ROOT

ABSENT: Final = "daemon not running; the block remains as loaded (to start it: systemctl start aovpnd"


@pytest.fixture(autouse=True)
def _nobody_behind_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.delenv("AOVPND_RUNTIME_DIR", raising=False)


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    """A daemon where aovpnctl looks for it."""
    monkeypatch.setenv("AOVPND_RUNTIME_DIR", str(tmp_path))
    with fake_daemon(tmp_path) as running:
        yield running


# ── the command line ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_options_stand_anywhere() -> None:
    """Before and after the command, with a blank or an equals sign; after ``--`` nothing is an option."""
    for line in (
        "--json allow-temp 3min --reason=-x --runtime-dir /r",
        "allow-temp --runtime-dir=/r --reason -x --json 3min",
        "--runtime-dir /r allow-temp --reason -x --json -- 3min",
    ):
        arguments = parse(line.split())
        assert (arguments.command, arguments.argument, arguments.json) == ("allow-temp", "3min", True)
        assert (arguments.value("--reason"), arguments.runtime_dir) == ("-x", "/r")
    assert parse(["connect", "--", "--home"]).argument == "--home"


def test_runtime_dir_by_option_environment_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this order."""
    assert parse(["status"]).runtime_dir == "/run/aovpnd"
    monkeypatch.setenv("AOVPND_RUNTIME_DIR", "/e")
    assert parse(["status"]).runtime_dir == "/e"
    assert parse(["status", "--runtime-dir", "/o"]).runtime_dir == "/o"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (
            "",
            "which command? (status, allow-temp, connect, disconnect, tunnels, check, policy, import,",
        ),
        ("stats", "there is no command 'stats' (there are: status, allow-temp, connect, disconnect, tunnels, check,"),
        ("status --wach", "there is no option '--wach' (see aovpnctl status --help)"),
        ("status --cancel", "there is no option '--cancel' here (it belongs to: allow-temp)"),
        ("-x", "there is no option '-x' (see aovpnctl --help)"),
        ("status --json=yes", "--json takes no value"),
        ("allow-temp --reason", "--reason needs a value (--reason=TEXT)"),
        ("allow-temp --reason --json", "--reason needs a value (--reason=TEXT)"),
        ("allow-temp --reason=", "--reason needs a value (--reason=TEXT)"),
        ("allow-temp 3 min", "allow-temp takes one [DURATION], not 'min'"),
        ("allow-temp 3min --cancel", "--cancel ends the temporary access; it goes with no DURATION and no --reason"),
        ("status home", "status takes no argument, not 'home'"),
        ("wait", "wait for what? (aovpnctl wait --protected, or aovpnctl wait --connected)"),
        ("wait --protected --connected", "wait for what? (aovpnctl wait --protected, or aovpnctl wait --connected)"),
        ("wait --protected --timeout soon", "--timeout: 'soon' is no span of time; write it like 90, 3min or 1h 30s"),
        ("allow-temp soon", "'soon' is no span of time; write it like 90, 3min or 1h 30s"),
        ("allow-temp 0", "'0' is no time at all"),
        ("allow-temp -5", "there is no option '-5' (see aovpnctl allow-temp --help)"),
    ],
)
def test_wrong_usage_is_said(line: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, what is wrong and what to do, on one line of stderr."""
    assert main(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"aovpnctl: {text}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(command: str) -> None:
    """Every command has help that names all its options, on lines that fit."""
    with pytest.raises(HelpWanted) as wanted:
        parse([*command.split(), "--help"])
    text = str(wanted.value)

    assert text.startswith(f"usage: aovpnctl {command or 'COMMAND'}")
    assert all(option in text for option in (*COMMON, *(COMMANDS[command][2] if command else ())))
    assert all(len(line) <= 80 for line in text.splitlines())


def test_usage_shows_what_is_mandatory() -> None:
    """``wait`` alone waits for nothing."""
    with pytest.raises(HelpWanted, match=r"^usage: aovpnctl wait --protected\|--connected \[OPTION\.\.\.\]\n"):
        parse(["wait", "--help"])


def test_version_and_help_are_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 0, on stdout."""
    assert [main(["--version"]), main(["-h"]), main(["status", "-h"])] == [0, 0, 0]
    assert re.match(r"aovpnctl \d+\.\d+\.\d+\nusage: ", capsys.readouterr().out)


def test_manual_page_has_every_command_and_option() -> None:
    """The manual page and the table say the same."""
    page = (ROOT / "docs" / "man" / "aovpnctl.8.md").read_text(encoding="utf-8")
    options = {option for _, _, own in COMMANDS.values() for option in own} | set(COMMON) | {"--version"}

    assert {word for word in (*COMMANDS, *options) if f"**{word}**" not in page} == set()
    assert set(re.findall(r"\*\*(--[a-z-]+)\*\*", page)) == options


# ── orders ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("allow-temp", AllowTemporary()),
        ("allow-temp 1min --reason portal", AllowTemporary(60, "portal")),
        ("allow-temp 90", AllowTemporary(90)),
        ("allow-temp 2h", AllowTemporary(7200)),
        ("allow-temp --cancel", CancelTemporary()),
        ("connect", Connect()),
        ("connect home", Connect("home")),
        ("disconnect", Disconnect()),
        ("unblock", SetBlock(Block.OFF)),
        ("block", SetBlock(Block.ON)),
        ("confirm", Confirm()),
    ],
)
def test_order_reaches_the_daemon(
    daemon: FakeDaemon, line: str, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was typed is what the daemon is asked, and its answer is what is printed; nothing is clamped on the way."""
    assert main(line.split()) == 0
    assert daemon.asked == [command]
    assert capsys.readouterr().out == "done\n"


def test_end_of_a_window_is_told(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clock on the wall and as a span; for programs in UTC and seconds."""
    monkeypatch.setattr(time, "clock_gettime", lambda _: 5000.0)
    monkeypatch.setattr(time, "time", lambda: 1_790_000_000.0)
    monkeypatch.setattr(time, "localtime", time.gmtime)
    daemon.answer = Answer("temporary access is open", 5060.0)

    assert main(["allow-temp", "1m"]) == 0
    assert capsys.readouterr().out == "temporary access is open until 14:14:20 (00:01:00)\n"
    assert main(["allow-temp", "1m", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "ok": True,
        "text": "temporary access is open",
        "expires_at": "2026-09-21T14:14:20Z",
        "remaining_s": 60,
    }


@pytest.mark.parametrize(
    ("name", "user"),
    [("alice", "alice"), ("CORP\\bob", "CORP\\bob"), ("", "root"), ("a\nb", "root"), ("x" * 65, "root")],
)
def test_who_asked_is_recorded(daemon: FakeDaemon, name: str, user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind sudo stands a person; a name that nobody can have is root's."""
    monkeypatch.setenv("SUDO_USER", name)

    assert main(["allow-temp"]) == 0
    assert daemon.asked == [AllowTemporary(user=user)]


# ── every outcome has its exit status ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (CommandRefused("too often", hint="again in 9 min", code="budget"), "too often (again in 9 min)"),
        (StateError("disk full"), "disk full"),
    ],
)
def test_refusal(daemon: FakeDaemon, error: AovpndError, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1 with the daemon's words; as JSON on stdout, so that a program reads one stream."""
    daemon.answer = error

    assert main(["allow-temp"]) == 1
    assert capsys.readouterr() == ("", f"aovpnctl: {text}\n")
    assert main(["allow-temp", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "ok": False,
        "code": error.code,
        "text": error.text,
        "hint": error.hint,
    }


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("allow-temp", f"{ABSENT})"),
        ("connect home", f"{ABSENT})"),
        ("disconnect", f"{ABSENT})"),
        ("block", f"{ABSENT})"),
        ("unblock", f"{ABSENT}; without the daemon: aovpnctl unblock --offline)"),
        ("tunnels", f"{ABSENT})"),
        ("wait --protected --timeout 1", f"{ABSENT})"),
    ],
)
def test_no_daemon(line: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 3 wherever the daemon is needed."""
    assert main([*line.split(), "--runtime-dir", str(tmp_path)]) == 3
    assert capsys.readouterr().err == f"aovpnctl: {text}\n"


def test_socket_of_a_dead_daemon(tmp_path: Path) -> None:
    """A socket file that nobody listens on is no daemon."""
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "control.sock"))

    assert main(["block", "--runtime-dir", str(tmp_path)]) == 3


def test_others_are_told_to_try_sudo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The daemon refuses, whatever the mode of the socket."""
    with fake_daemon(tmp_path, uid=os.getuid() + 1) as daemon:
        assert main(["unblock", "--runtime-dir", str(tmp_path)]) == 1
    assert daemon.asked == []
    assert (
        capsys.readouterr().err
        == "aovpnctl: this is root's way in; everybody else asks over D-Bus (aovpnctl does, or try sudo)\n"
    )


def test_socket_that_may_not_be_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mode of the socket refuses first."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "control.sock").touch()
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert main(["block", "--runtime-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"aovpnctl: {tmp_path}/control.sock does not let you in (try sudo)\n"


@contextlib.contextmanager
def _impostor(path: Path, answer: bytes) -> Iterator[None]:
    """Somebody who answers one request with these bytes, and hangs up."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(65536)
                client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join(10)


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (b"", 3, "the daemon hung up before it answered (aovpnctl status)"),
        (b'{"ok": tr', 3, "the daemon hung up before it answered (aovpnctl status)"),
        (b"[]\n", 1, "the daemon's answer cannot be understood (aovpnctl and aovpnd must be of the same release)"),
        (b"{}\n", 1, "the daemon's answer cannot be understood (aovpnctl and aovpnd must be of the same release)"),
        (b'{"ok": false, "code": "x", "text": "\\u001b[2J", "hint": ""}\n', 1, r"\x1b[2J"),
    ],
)
def test_odd_answers(tmp_path: Path, answer: bytes, status: int, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever answers, the outcome is one line and an exit status."""
    with _impostor(tmp_path / "control.sock", answer):
        assert main(["block", "--runtime-dir", str(tmp_path)]) == status
    assert capsys.readouterr().err == f"aovpnctl: {text}\n"


def test_interrupt_and_closed_pipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """130 as shells have it; a reader that has read enough is no failure."""

    def interrupted(_: Arguments) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(orders, "run", interrupted)
    assert main(["block"]) == 130

    def closed(_: Arguments) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(orders, "run", closed)
    with (tmp_path / "out").open("w") as out, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        assert main(["block"]) == 0


# ── tunnels, wait ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_tunnels(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    """A table with a star at the chosen one; all the same keys for programs."""
    daemon.publish(scenes.CONNECTED)

    assert main(["tunnels"]) == 0
    assert capsys.readouterr().out == (
        "  NAME ROLE      STATE     ENDPOINT          LINK\n"
        "* home chosen    connected 203.0.113.1:51820 aovpn0\n"
        "  work available down      203.0.113.1:51820 -\n"
    )
    assert main(["tunnels", "--json"]) == 0
    assert [tunnel["name"] for tunnel in json.loads(capsys.readouterr().out)] == ["home", "work"]


def test_tunnels_of_users() -> None:
    """Where one is somebody's alone, it says whose; not of the one that carries for everybody."""
    home = {"name": "home", "role": "chosen", "state": "connected", "endpoint": None, "link": "aovpn0"}
    work = {**home, "name": "work", "role": "companion", "link": "aovpn1"}
    told = [{**home, "users": ["bob"]}, {**work, "users": ["alice", "x\x1b[1m"]}]

    head, *rows = table(told, style(io.StringIO()))
    assert head.endswith(" LINK   FOR")
    assert [row.split()[-1] for row in rows] == ["-", plain("x\x1b[1m")]
    assert "alice, " in rows[1]


def test_no_tunnels(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to list is no failure, and says what to do."""
    daemon.publish(scenes.BLOCKED)

    assert main(["tunnels"]) == 0
    assert capsys.readouterr().out.startswith("no tunnel is configured (put a wg-quick file into")


def test_wait_ends_when_protected(daemon: FakeDaemon) -> None:
    """At once when it is so, and as soon as it becomes so."""
    daemon.publish(scenes.UNBLOCKED)
    timer = threading.Timer(0.3, daemon.publish, (scenes.CONNECTED,))
    timer.start()

    assert main(["wait", "--protected", "--timeout", "20"]) == 0
    timer.join()
    assert main(["wait", "--protected"]) == 0


def test_wait_ends_when_connected(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    """A block without a tunnel is not enough then."""
    daemon.publish(scenes.BLOCKED)
    timer = threading.Timer(0.3, daemon.publish, (scenes.CONNECTED,))
    timer.start()

    assert main(["wait", "--connected", "--timeout", "20", "--json"]) == 0
    timer.join()
    assert json.loads(capsys.readouterr().out) == {"ok": True, "connected": True}
    daemon.publish(scenes.RESTING)  # it would connect for what anybody sends, and waiting sends nothing
    assert main(["wait", "--connected", "--timeout", "1"]) == 0
    daemon.publish(scenes.BLOCKED)
    assert main(["wait", "--connected", "--timeout", "1"]) == 1
    assert capsys.readouterr().err == "aovpnctl: still not connected: blocked (aovpnctl status)\n"


def test_wait_gives_up(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1 when the time is over and anything may still leave."""
    daemon.publish(scenes.TEMPORARY_ACCESS)

    assert main(["wait", "--protected", "--timeout=1s"]) == 1
    assert capsys.readouterr().err == "aovpnctl: still not protected: temporary-access (aovpnctl status)\n"


@pytest.mark.parametrize("words", ["status", "--help", "check", "policy"])
def test_answer_that_cannot_be_written(words: str, tmp_path: Path) -> None:
    """A full disk, and standard output that is closed, are said in a line, and the exit status tells it."""
    (tmp_path / "aovpnd.toml").write_text("", encoding="utf-8")
    places = ["--runtime-dir", str(tmp_path)] if words == "status" else []
    places = ["--config-dir", str(tmp_path), "--state-dir", str(tmp_path)] if words in {"check", "policy"} else places
    command = [sys.executable, "-m", "aovpnd.ctl", words, *places]
    for where, why in ((">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")):
        whole = ["sh", "-c", f'exec "$@" {where}', "sh", *command]
        done = subprocess.run(whole, stderr=subprocess.PIPE, text=True, check=False, timeout=60)

        assert (done.returncode, done.stderr) == (1, f"aovpnctl: standard output: {why}\n")


def test_reader_that_has_read_enough(tmp_path: Path) -> None:
    """``aovpnctl status | head -1``: no complaint about a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "aovpnd.ctl", "status", "--runtime-dir", str(tmp_path)]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    os.close(writer)

    assert (done.returncode, done.stderr) == (0, "")


def test_usage_error_is_an_exception_of_its_own() -> None:
    """What parse refuses is wrong usage, never a failure of a command."""
    with pytest.raises(UsageError):
        parse(["wait", "--timeout", "3"])

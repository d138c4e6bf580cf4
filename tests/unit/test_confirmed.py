# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is logged in, what is kept of the first block, what is told of it, and ``aovpnctl confirm`` without a daemon."""

import json
import os
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import pytest

from aovpnd import logins, names
from aovpnd.adapters.clocks import clock
from aovpnd.adapters.state import State
from aovpnd.clock import Clock
from aovpnd.confirmation import GIVEN, NEEDLESS, NEVER, Confirmation, Logins, Standing, awaited
from aovpnd.core.decide import decide
from aovpnd.ctl import remote, starting
from aovpnd.ctl.__main__ import main
from aovpnd.ctl.reading import read
from aovpnd.ctl.terminal import PLAIN
from aovpnd.ctl.view import lines
from aovpnd.errors import CommandRefused, StateError
from aovpnd.messages import Message
from aovpnd.model import Block, Intent, Phase
from aovpnd.orders import Confirm, KeepConfirmation, SetBlock
from tests.unit import scenes
from tests.unit.fake_daemon import FakeDaemon, fake_daemon
from tests.unit.test_confirming import remote as remote_laptop
from tests.unit.test_daemon import AT_HOME, Stage, World, play
from tests.unit.test_journal import Told, kinds

WITHIN: Final = awaited(scenes.NOW.boot)


# -- on the disk -------------------------------------------------------------------------------------------------------
@pytest.fixture
def state(tmp_path: Path) -> State:
    """Directories that are not there yet."""
    return State(tmp_path / "etc", tmp_path / "state")


@pytest.mark.parametrize("confirmation", [GIVEN, NEEDLESS, awaited(clock().boot)])
def test_kept_and_recalled(state: State, confirmation: Confirmation) -> None:
    """For root alone; what was never kept was never confirmed, and is so again when it is taken back."""
    assert state.recall(clock()).confirmation == NEVER
    state.keep_confirmation(confirmation)
    assert state.recall(clock()).confirmation == confirmation
    assert stat.S_IMODE((state.state_dir / names.CONFIRMATION_FILE).stat().st_mode) == 0o600

    state.keep_confirmation(NEVER)
    state.keep_confirmation(NEVER)
    assert state.confirmation(clock()) == NEVER


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _bytes(path: Path) -> None:
    path.write_bytes(b"awaited until \xff")


def _directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("made", [_pipe, _bytes, _directory])
def test_what_cannot_be_read_undoes_nothing(state: State, made: Callable[[Path], None]) -> None:
    """Whatever stands there: the block stays, and nobody waits."""
    state.state_dir.mkdir()
    made(state.state_dir / names.CONFIRMATION_FILE)

    assert state.confirmation(clock()) == NEEDLESS


def test_command_is_remembered(state: State) -> None:
    """What an administrator confirmed is on the disk before he is told so, or he is told why not."""
    state.remember(Intent(confirmation=NEEDLESS), clock())
    assert state.confirmation(clock()) == NEVER, "what nobody has asked for is an action's to write"
    state.remember(Intent(confirmation=GIVEN), clock())
    assert state.confirmation(clock()) == GIVEN

    full = State(state.config_dir, Path("/proc/nowhere"))
    with pytest.raises(StateError, match="file system full or read-only"):
        full.remember(Intent(confirmation=GIVEN), clock())


# -- the loop ---------------------------------------------------------------------------------------------------------
def test_confirmed_is_on_disk_before_it_is_said() -> None:
    """What cannot be kept is refused, and the block goes off in its time; a block itself needs no disk."""
    world = World(snapshot=replace(AT_HOME, confirmation=NEVER, logins=Logins.REMOTE))

    async def scene(stage: Stage) -> None:
        world.remember_fault = StateError("disk full")
        with pytest.raises(CommandRefused, match="disk full"):
            await stage.daemon.submit(Confirm())
        await stage.daemon.submit(SetBlock(Block.ON))
        world.pass_time(60)
        assert (await stage.settled()).phase is Phase.UNBLOCKED
        await stage.daemon.submit(SetBlock(Block.ON))
        world.remember_fault = None
        await stage.daemon.submit(Confirm())
        assert world.remembered[-1].confirmation == GIVEN
        world.pass_time(600)
        assert (await stage.settled()).phase is Phase.BLOCKED

    play(scene, world)


def test_file_that_is_not_written_keeps_nothing_open() -> None:
    """Where the disk takes nothing the block goes up all the same, and its command is answered."""
    world = World(snapshot=replace(AT_HOME, confirmation=NEVER), fails={KeepConfirmation: StateError("disk full")})

    async def scene(stage: Stage) -> None:
        await stage.daemon.submit(SetBlock(Block.ON))
        assert world.snapshot.table_present
        desired = await stage.settled()
        assert [problem.text for problem in desired.problems if problem.code == "action-failed"] == ["disk full"]

    play(scene, world)


# -- who is logged in --------------------------------------------------------------------------------------------------
def test_machine_without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can say that somebody is there: the block stays."""
    monkeypatch.setattr(logins, "_LIBRARY", "libnothing.so.0")

    assert logins.logins() == (Logins.LOCAL, frozenset())


@pytest.mark.skipif(not Path("/run/systemd/sessions").is_dir(), reason="no logind here")
def test_environment_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever calls may say of himself what he likes."""
    before = logins.logins()
    for variable in ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY", "REMOTEHOST"):
        monkeypatch.setenv(variable, "192.0.2.1 50000 192.0.2.2 22")

    assert logins.logins() == before


# -- what is told ------------------------------------------------------------------------------------------------------
def _scene(intent: Intent) -> scenes.Scene:
    """A blocked laptop that remembers this, with the problems of it."""
    scene = replace(scenes.BLOCKED, intent=intent)
    problems = decide(scene.config, intent, scene.snapshot).problems
    return replace(scene, desired=replace(scene.desired, problems=problems))


def test_status(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The seconds that are left are counted by the reader, and what to do stands beside them."""
    with fake_daemon(tmp_path) as daemon:
        monkeypatch.setattr(time, "clock_gettime", lambda _: scenes.NOW.boot + 18.0)
        scene = _scene(Intent(confirmation=WITHIN))
        daemon.runtime.publish(scene.document())
        shown = "\n".join(lines(read(str(tmp_path)), PLAIN))
        assert main(["status", "--json", "--runtime-dir", str(tmp_path)]) == 0
        document = json.loads(capsys.readouterr().out)

    assert "so this first block undoes itself, in 00:00:42 (to keep it: aovpnctl confirm)" in shown
    assert (document["block"]["confirmed"], document["block"]["undone_in_s"]) == (False, 42)
    assert "_until_boot" not in document["problems"][0]


@pytest.mark.parametrize(
    ("intent", "confirmed", "left"),
    [
        (Intent(), True, None),
        (Intent(confirmation=GIVEN), True, None),
        (Intent(confirmation=NEVER, block=Block.OFF), False, None),
        (Intent(confirmation=WITHIN), False, 60),
        (Intent(confirmation=Confirmation(Standing.AWAITED)), False, 0),
    ],
)
def test_published(intent: Intent, left: int | None, *, confirmed: bool) -> None:
    """Whether the block stands for good, and how long it does otherwise."""
    block = _scene(intent).document()["block"]

    assert (block["confirmed"], block["undone_in_s"]) == (confirmed, left)


def test_what_an_older_daemon_publishes(tmp_path: Path) -> None:
    """It is understood: during an upgrade the programs are newer than the daemon."""
    with fake_daemon(tmp_path) as daemon:
        document = _scene(Intent()).document()
        document["block"] = {"guarded": True, "managed_by": None, "user_may_unblock": False}
        daemon.runtime.publish(document)

        assert read(str(tmp_path)).document["block"]["undone_in_s"] is None


def test_journal() -> None:
    """A line of its own, with an id of its own, when the block undoes itself; none when an administrator does it."""
    told = Told(remote_laptop())
    first = told.settle()
    assert Message.PROBLEM_FOUND in kinds(first)
    told.laptop.tick(60.0)
    undone = told.settle()
    assert kinds(undone)[0] is Message.BLOCK_UNDONE
    assert "nobody confirmed the first block in time" in undone[0].text
    assert Message.BLOCK_UNDONE not in kinds(told.settle(SetBlock(Block.ON)))
    assert Message.BLOCK_UNDONE not in kinds(told.settle(SetBlock(Block.OFF)))
    told.settle(SetBlock(Block.ON))
    assert any("remember that the block stands for good" in line.text for line in told.settle(Confirm()))


# -- aovpnctl ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def from_afar(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Somebody is logged in over the network; how long was waited for the words to arrive."""
    waited: list[float] = []
    monkeypatch.setattr(remote, "logins", lambda: (Logins.REMOTE, frozenset()))
    monkeypatch.setattr(remote, "time", SimpleNamespace(sleep=waited.append))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    return waited


def _published(daemon: FakeDaemon, intent: Intent, phase: Phase = Phase.BLOCKED) -> None:
    scene = _scene(intent)
    scene = replace(scene, desired=replace(scene.desired, phase=phase))
    daemon.runtime.publish(replace(scene, snapshot=replace(scene.snapshot, now=Clock(clock().boot, 0.0))).document())


@pytest.mark.parametrize("first", [True, False])
def test_block_warns_before_it_cuts_off(
    tmp_path: Path, from_afar: list[float], capsys: pytest.CaptureFixture[str], *, first: bool
) -> None:
    """While what is said still arrives; not where the block stands for good."""
    with fake_daemon(tmp_path) as daemon:
        _published(daemon, Intent(block=Block.OFF, confirmation=NEVER if first else GIVEN), Phase.UNBLOCKED)
        assert main(["block", "--runtime-dir", str(tmp_path)]) == 0
        assert daemon.asked == [SetBlock(Block.ON)]

    assert ("undoes itself after 60 s" in capsys.readouterr().err) is first
    assert bool(from_afar) is first


def test_nobody_is_warned_at_the_keyboard(
    tmp_path: Path, from_afar: list[float], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to cut off."""
    monkeypatch.setattr(remote, "logins", lambda: (Logins.LOCAL, frozenset()))
    with fake_daemon(tmp_path) as daemon:
        _published(daemon, Intent(block=Block.OFF, confirmation=NEVER), Phase.UNBLOCKED)
        assert main(["block", "--runtime-dir", str(tmp_path)]) == 0

    assert (capsys.readouterr().err, from_afar) == ("", [])


def test_connect_reminds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who works within the minute is told how to keep the block, as JSON's readers are, on stderr."""
    with fake_daemon(tmp_path) as daemon:
        _published(daemon, Intent(confirmation=awaited(clock().boot)))
        for options in ([], ["--json"]):
            assert main(["connect", *options, "--runtime-dir", str(tmp_path)]) == 0
            assert "undoes itself, in 00:0" in capsys.readouterr().err
        _published(daemon, Intent())
        assert main(["connect", "--runtime-dir", str(tmp_path)]) == 0
        assert capsys.readouterr().err == ""


def test_status_that_cannot_be_read_is_no_obstacle(tmp_path: Path, from_afar: list[float]) -> None:
    """A command is carried out, whatever can be said of it."""
    with fake_daemon(tmp_path) as daemon:
        (tmp_path / names.STATUS_FILE).write_text("{", encoding="utf-8")
        assert main(["block", "--runtime-dir", str(tmp_path)]) == 0
        assert main(["connect", "--runtime-dir", str(tmp_path)]) == 0
        assert len(daemon.asked) == 2

    assert from_afar == []


def test_import_warns_before_the_first_start(
    tmp_path: Path, from_afar: list[float], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon that it starts blocks the machine; not a second time where it was confirmed."""
    systemctl = tmp_path / "systemctl"
    systemctl.write_text("#!/bin/sh\nexit 0\n", encoding="utf-8")
    systemctl.chmod(0o755)
    monkeypatch.setattr(starting, "SYSTEMCTL", str(systemctl))
    monkeypatch.setattr(starting, "SYSTEMD", str(tmp_path))
    monkeypatch.setattr(names, "STATE_DIR", str(tmp_path))
    assert starting.start(names.CONFIG_DIR, names.RUNTIME_DIR)
    assert "undoes itself after 60 s" in capsys.readouterr().err
    assert from_afar == [remote.TOLD_S]
    State(tmp_path, tmp_path).keep_confirmation(GIVEN)

    assert starting.start(names.CONFIG_DIR, names.RUNTIME_DIR)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("[ $1 = start ] && sleep 20; exit 0", "has not blocked within 0 s, and may still come to it"),
        ("[ $1 = start ] && echo 'Job failed.' >&2 && exit 1; exit 0", "does not start: Job failed."),
        ("", "systemctl cannot be run: No such file or directory"),
    ],
)
def test_first_start_that_fails(script: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes long is not called one that failed."""
    systemctl = tmp_path / "systemctl"
    if script:
        systemctl.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        systemctl.chmod(0o755)
    for name, value in (("SYSTEMCTL", str(systemctl)), ("SYSTEMD", str(tmp_path)), ("PATIENCE_S", 0.4)):
        monkeypatch.setattr(starting, name, value)
    monkeypatch.setattr(starting, "forewarn_start", lambda: None)

    with pytest.raises(CommandRefused, match=said):
        starting.start(names.CONFIG_DIR, names.RUNTIME_DIR)


def test_confirm_without_a_daemon(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root writes down what the daemon will read; who is not root is refused, and a full disk is said."""
    state = State(tmp_path, tmp_path / "state")
    words = ["confirm", "--runtime-dir", str(tmp_path / "absent"), "--state-dir", str(state.state_dir)]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(words) == 1
    assert "only root may confirm" in capsys.readouterr().err
    assert state.confirmation(clock()) == NEVER

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    state.keep_confirmation(awaited(clock().boot))
    assert main(words) == 0
    assert "its block stays" in capsys.readouterr().out
    assert state.confirmation(clock()) == GIVEN
    assert [path.name for path in state.state_dir.iterdir()] == [names.CONFIRMATION_FILE]
    assert main([*words[:-1], "/proc/nowhere"]) == 1
    assert "file system full or read-only" in capsys.readouterr().err

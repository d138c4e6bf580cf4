# SPDX-License-Identifier: GPL-3.0-or-later
"""The runtime directory: one daemon at a time, a status file that is always whole, and readers who can do no harm."""

import fcntl
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from aovpnd import vouch
from aovpnd.adapters.publish import Runtime
from aovpnd.ctl.reading import is_running
from aovpnd.errors import AlreadyRunning, StateError


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A runtime directory that is not there yet, under the widest umask."""
    old = os.umask(0)
    yield tmp_path / "run" / "aovpnd"
    os.umask(old)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_files_are_as_wide_as_they_must_be(place: Path) -> None:
    """Everybody may read the status and the lock; nobody else can write anything, whatever the umask."""
    runtime = Runtime(place)
    runtime.publish({"phase": "blocked"})

    assert {path.name: oct(_mode(path)) for path in (place, *place.iterdir())} == {
        "aovpnd": "0o755",
        "daemon.lock": "0o600",
        "lock": "0o644",
        "status.json": "0o644",
    }
    runtime.close()


def test_path_outlives_the_daemon(place: Path) -> None:
    """What the tunnel proved itself over is there for the next daemon, and for root alone."""
    first = Runtime(place)
    before = first.proved()
    first.prove("abc")
    first.close()
    second = Runtime(place)

    assert (before, second.proved(), oct(_mode(place / "path"))) == ("", "abc", "0o600")
    second.close()


def test_second_daemon_is_refused(place: Path) -> None:
    """Two daemons at once would undo each other's work; the first one's files stay as they are."""
    first = Runtime(place)
    first.publish({"phase": "blocked"})

    with pytest.raises(AlreadyRunning, match="another aovpnd already runs on"):
        Runtime(place)

    assert is_running(str(place))
    assert json.loads((place / "status.json").read_text())["phase"] == "blocked"
    first.close()
    Runtime(place).close()


def test_death_lets_go(place: Path) -> None:
    """A daemon that was killed leaves neither a lock nor, once the next one starts, a status."""
    code = (
        "import os, pathlib, signal\n"
        "from aovpnd.adapters.publish import Runtime\n"
        f"Runtime(pathlib.Path({str(place)!r})).publish({{'phase': 'connected'}})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert (place / "status.json").exists()
    assert not is_running(str(place))

    runtime = Runtime(place)
    assert is_running(str(place))
    assert not (place / "status.json").exists()
    runtime.close()


@pytest.mark.parametrize("lock", [fcntl.flock, fcntl.lockf])
def test_reader_locks_and_nobody_minds(place: Path, lock: Callable[[BinaryIO, int], None]) -> None:
    """Whoever may only read the readers' lock, and holds on to it in every way that he can, neither keeps the next
    daemon from starting nor is taken for one.
    """
    Runtime(place).close()
    with (place / "lock").open("rb") as held:
        lock(held, fcntl.LOCK_EX if lock is fcntl.flock else fcntl.LOCK_SH)
        assert not is_running(str(place))
        runtime = Runtime(place)
        assert is_running(str(place))
        runtime.close()
        assert not is_running(str(place))


def test_only_who_may_write_can_hold_it(place: Path) -> None:
    """A write lock takes a descriptor that is open for writing (fcntl_locking(2), EBADF)."""
    Runtime(place).close()
    with (place / "lock").open("rb") as held, pytest.raises(OSError, match="Bad file descriptor"):
        vouch.take(held.fileno())
    assert _mode(place / "lock") == 0o644


def test_closing_twice_is_closing(place: Path) -> None:
    """And what was published stays, for those who ask why."""
    runtime = Runtime(place)
    runtime.publish({"phase": "blocked"})
    runtime.close()
    runtime.close()

    assert (place / "status.json").exists()
    assert not is_running(str(place))


def test_status_is_replaced_whole(place: Path) -> None:
    """A reader that has the old file open reads the old status to its end; no half of a file is ever seen."""
    runtime = Runtime(place)
    runtime.publish({"phase": "blocked"})
    with (place / "status.json").open() as old:
        runtime.publish({"phase": "connected"})
        assert json.loads(old.read())["phase"] == "blocked"

    assert json.loads((place / "status.json").read_text())["phase"] == "connected"
    assert sorted(path.name for path in place.iterdir()) == ["daemon.lock", "lock", "status.json"]
    runtime.close()


def test_no_news_is_not_written(place: Path) -> None:
    """Who watches the file is not woken by a pass that changed nothing."""
    runtime = Runtime(place)
    runtime.publish({"phase": "blocked"})
    before = (place / "status.json").stat().st_ino
    runtime.publish({"phase": "blocked"})

    assert (place / "status.json").stat().st_ino == before
    runtime.close()


def test_document_says_of_which_boot_it_is(place: Path) -> None:
    """A file that outlived its boot says nothing of this one."""
    runtime = Runtime(place)
    runtime.publish({"phase": "blocked"})

    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert json.loads((place / "status.json").read_text()) == {"phase": "blocked", "_boot_id": boot_id}
    runtime.close()


def test_planted_files_are_not_followed(place: Path, tmp_path: Path) -> None:
    """A symbolic link in our place is refused or replaced, never written through."""
    place.mkdir(parents=True, mode=0o755)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in ("status.json", "status.json.new", "lock", "lock.new"):
        (place / name).symlink_to(victim)
    runtime = Runtime(place)
    runtime.publish({"phase": "blocked"})
    runtime.close()
    (place / "daemon.lock").unlink()
    (place / "daemon.lock").symlink_to(victim)

    with pytest.raises(StateError, match=r"daemon\.lock: Too many levels of symbolic links"):
        Runtime(place)
    assert victim.read_text() == "precious"


def test_directory_of_others_is_refused(place: Path) -> None:
    """Where others can put files, they could tell our readers anything."""
    place.mkdir(parents=True, mode=0o777)

    with pytest.raises(StateError, match="can be written by others"):
        Runtime(place)


def test_unusable_directory_is_a_state_error(tmp_path: Path) -> None:
    """In our words, with the path."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StateError, match=r"/file/run: Not a directory"):
        Runtime(tmp_path / "file" / "run")


def test_failed_write_leaves_no_old_status(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """News that cannot be written take the old ones with them, which are no longer true; the next attempt writes."""
    runtime = Runtime(place)
    runtime.publish({"phase": "blocked"})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        with pytest.raises(StateError, match="No space left on device"):
            runtime.publish({"phase": "connected"})
    assert not (place / "status.json").exists()

    runtime.publish({"phase": "connected"})
    assert json.loads((place / "status.json").read_text())["phase"] == "connected"
    runtime.close()

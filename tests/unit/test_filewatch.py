# SPDX-License-Identifier: GPL-3.0-or-later
"""inotify(7): woken by our files, however they are written, and by no other's."""

import select
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from aovpnd.adapters.filewatch import FileWatch


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[FileWatch]:
    """Watches a file, one that is not there, and a directory that is not there."""
    (tmp_path / "resolv.conf").write_text("before", encoding="utf-8")
    paths = (tmp_path / "resolv.conf", tmp_path / "late.conf", tmp_path / "records/*")
    with closing(FileWatch(paths)) as watch:
        yield watch


def told(watch: FileWatch) -> bool:
    """Whether it has woken somebody; the kernel queues before the write returns."""
    return bool(select.select([watch], [], [], 0)[0]) and watch.drain()


def test_ways_of_writing(watch: FileWatch, tmp_path: Path) -> None:
    """In place, moved over, removed, made anew; each is told once, and then it is quiet."""
    conf = tmp_path / "resolv.conf"
    for change in (
        lambda: conf.write_text("in place", encoding="utf-8"),
        lambda: _moved(conf),
        conf.unlink,
        lambda: conf.symlink_to("late.conf"),
        (tmp_path / "late.conf").touch,
    ):
        change()
        assert told(watch)
        assert not told(watch)
        watch.follow()


def test_who_may_read(watch: FileWatch, tmp_path: Path) -> None:
    """A key that everybody may read from now on, and a directory that everybody may change, are told."""
    key = tmp_path / "records/tunnel.conf"
    key.parent.mkdir()
    key.touch(mode=0o600)
    watch.follow()
    told(watch)

    for path in (key, key.parent):
        path.chmod(0o777)
        assert told(watch)
        assert not told(watch)


def _moved(conf: Path) -> None:
    conf.with_name("other").write_text("moved", encoding="utf-8")
    conf.with_name("other").replace(conf)


def test_others_are_no_business_of_ours(watch: FileWatch, tmp_path: Path) -> None:
    """A file of another name in the same directory wakes nobody."""
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n", encoding="utf-8")

    assert not told(watch)


def test_what_appears_later(watch: FileWatch, tmp_path: Path) -> None:
    """A directory that is made after us is followed when we look again; any file in it counts."""
    (tmp_path / "records").mkdir()
    watch.follow()
    (tmp_path / "records/wlan0.dhclient").write_text("nameserver 192.0.2.1\n", encoding="utf-8")

    assert told(watch)


def test_through_another_name(watch: FileWatch, tmp_path: Path) -> None:
    """A file that has a second name, as behind a bind mount, is watched itself."""
    (tmp_path / "elsewhere").mkdir()
    other = tmp_path / "elsewhere/resolv.conf"
    other.hardlink_to(tmp_path / "resolv.conf")
    other.write_text("by its other name", encoding="utf-8")

    assert told(watch)


def test_closed_twice(tmp_path: Path) -> None:
    """It may be."""
    watch = FileWatch((tmp_path / "resolv.conf",))
    watch.close()
    watch.close()
    assert watch.fileno() == -1

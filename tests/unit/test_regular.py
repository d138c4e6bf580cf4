# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are read without waiting, and without following whoever put something in their place."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from aovpnd import regular


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - what is open now, not paths


def test_read(tmp_path: Path) -> None:
    """So much of it and no more; through a link as well."""
    (tmp_path / "file").write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to("file")

    assert regular.read(tmp_path / "file", 4) == b"0123"
    assert regular.read(tmp_path / "link", 100) == b"0123456789"


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize(
    ("make", "number"),
    [
        (os.mkfifo, {errno.EINVAL}),
        (Path.mkdir, {errno.EINVAL, errno.EISDIR}),
        (lambda path: path.symlink_to("/etc/passwd"), {errno.ELOOP}),
        (lambda path: path.symlink_to("nowhere"), {errno.ELOOP}),
        (lambda _: None, {errno.ENOENT}),
    ],
    ids=["pipe", "directory", "link", "dangling link", "nothing"],
)
def test_taken(tmp_path: Path, make: Callable[[Path], object], number: set[int], *, write: bool) -> None:
    """A pipe, a directory, a link in its place: refused at once, and nothing stays open."""
    path = tmp_path / "file"
    make(path)
    before = _open_files()

    with pytest.raises(OSError, match=r".") as caught:
        regular.opened(path, follow=False, write=write)
    assert caught.value.errno in number
    assert _open_files() == before


def test_written(tmp_path: Path) -> None:
    """What is opened to be changed is not emptied by that."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")

    with regular.opened(path, follow=False, write=True) as file:
        assert file.read() == b"0123456789"
        file.truncate(3)
    assert path.read_bytes() == b"012"

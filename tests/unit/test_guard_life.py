# SPDX-License-Identifier: GPL-3.0-or-later
"""A guard that cannot hold its tables: it tries again by itself, ever more seldom."""

import errno
import os
import select
from pathlib import Path
from typing import cast

import pytest

from aovpnd.errors import NftError
from aovpnd.guard import holder
from aovpnd.guard.queues import Queues, Taken
from aovpnd.lock import Lock
from aovpnd.nftlib import Nft


class Kernel:
    """Takes everything."""

    def run(self, _text: str) -> str:
        """Loaded."""
        return ""


def no_queue(_index: int, _queue: int) -> Taken:
    """A kernel without AF_XDP: the machine's own queues are none of a test's."""
    raise OSError(errno.EAFNOSUPPORT, "no AF_XDP")


def test_pauses_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """From an instant to some seconds, and back when the tables stand, which is announced once."""
    fails = iter([True] * 12 + [False] * 2)
    pauses: list[float | None] = []
    announced: list[None] = []
    stop, write = os.pipe()

    def open_nft() -> Nft:
        if next(fails):
            raise NftError("the kernel has none")
        return cast("Nft", Kernel())

    def wait(
        descriptors: list[int], _write: list[int], _except: list[int], pause: float | None
    ) -> tuple[list[int], list[int], list[int]]:
        pauses.append(pause)
        return ([stop], [], []) if len(pauses) > 13 else (descriptors[:1], [], [])

    monkeypatch.setattr(select, "select", wait)
    try:
        holder.hold(open_nft, Queues(no_queue), lambda: announced.append(None), stop)
    finally:
        os.close(stop)
        os.close(write)

    assert pauses[:3] == [0.05, 0.1, 0.2]
    assert pauses[11] == holder.LAST_RETRY_S
    assert pauses[12:] == [None, None]
    assert len(announced) == 1


def test_no_user_can_open_its_lock(tmp_path: Path) -> None:
    """Who can open it can lock it, and would keep a dead guard from coming back: whatever the umask, others cannot."""
    before = os.umask(0)
    try:
        with Lock(tmp_path / "lock"):
            assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)

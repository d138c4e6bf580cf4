# SPDX-License-Identifier: GPL-3.0-or-later
"""Files as values: what a test lays over the system of a virtual machine or a container."""

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never


@dataclass(frozen=True, slots=True)
class File:
    """A regular file; ``mode`` holds permission bits alone."""

    data: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link; the target is not looked at."""

    target: str


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory. Parents of other entries are made by themselves, as 0755."""

    mode: int = 0o755


Entry = File | Symlink | Directory
Tree = Mapping[str, Entry]
"""Absolute path in the target → what is there."""


def text(content: str, mode: int = 0o644) -> File:
    """Return a file that holds ``content`` as UTF-8."""
    return File(content.encode(), mode)


def copied(path: Path, mode: int | None = None) -> File:
    """Return a copy of a file on this machine; its permission bits too unless ``mode`` is given."""
    return File(path.read_bytes(), stat.S_IMODE(path.stat().st_mode) if mode is None else mode)


def unpack(tree: Tree, directory: Path) -> None:
    """Write ``tree`` below ``directory``, which stands for the target's root; whoever runs this owns the files."""
    for name, entry in sorted(tree.items()):
        path = directory / name.lstrip("/")
        match entry:
            case Directory(mode):
                path.mkdir(parents=True, exist_ok=True)
                path.chmod(mode)
            case File(data, mode):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                path.chmod(mode)
            case Symlink(target):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(target)
            case other:
                assert_never(other)

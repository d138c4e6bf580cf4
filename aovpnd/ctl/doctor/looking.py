# SPDX-License-Identifier: GPL-3.0-or-later
"""How the doctor looks: files up to a length, programs up to a length and a deadline, and never by a shell.

Nothing is written, no link or table is touched. Programs are taken from the system's own directories, whatever PATH
says, for root runs this as well.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from aovpnd import regular

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORIES = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
LARGEST = 1 << 20
"""Bytes of a file or of a program's output that are read."""
MOST_ENTRIES = 1 << 16
"""Of one directory."""
DEADLINE_S = 3.0
"""For one program: those that are asked answer within milliseconds, or hang."""
TOGETHER_S = 15.0
"""For all of them: after that nothing more is asked."""
_ENVIRONMENT = {"LC_ALL": "C", "PATH": ":".join(DIRECTORIES), "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}


@dataclass(slots=True)
class Looking:
    """One look around below ``base``; remembers what could not be seen."""

    base: Path = Path("/")
    unseen: dict[str, None] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)

    def place(self, path: str) -> Path:
        """Where a file of the machine is."""
        return self.base / path.lstrip("/")

    # -- files --------------------------------------------------------------------------------------------------------
    def text(self, path: str, most: int = LARGEST) -> str | None:
        """What stands in a file; "" when there is none, None (and noted) when it may not be read."""
        content = self._bytes(path, most)
        return None if content is None else content.decode("utf-8", "replace")

    def gunzipped(self, path: str, most: int = LARGEST) -> str:
        """The same of a file that is packed by gzip(1), "" also where it cannot be unpacked."""
        try:
            return zlib.decompressobj(31).decompress(self._bytes(path, most) or b"", most).decode("utf-8", "replace")
        except zlib.error:
            return ""

    def _bytes(self, path: str, most: int) -> bytes | None:
        try:
            return regular.read(self.place(path), most)
        except PermissionError:
            self.unseen[f"{path}: only root may read it"] = None
            return None
        except OSError:  # absent, no regular file, or a process that has just ended: nothing to be read
            return b""

    def listed(self, directory: str) -> Iterator[str]:
        """The names in a directory; none when there is no such directory."""
        try:
            with os.scandir(self.place(directory)) as entries:
                names = sorted(entry.name for _, entry in zip(range(MOST_ENTRIES), entries, strict=False))
        except PermissionError:
            self.unseen[f"{directory}: only root may read it"] = None
            return
        except OSError:
            return
        yield from names

    def texts(self, directory: str, suffix: str) -> Iterator[tuple[str, str]]:
        """Every file of a directory with this suffix: path and text, as far as they can be read."""
        for name in self.listed(directory):
            if name.endswith(suffix) and (text := self.text(f"{directory}/{name}", 1 << 16)):
                yield f"{directory}/{name}", text

    def exists(self, path: str) -> bool:
        """Whether there is something, and it is not masked by /dev/null."""
        try:
            place = self.place(path)
            return place.exists() and not (place.is_symlink() and str(place.readlink()) == os.devnull)
        except OSError:
            return False

    def lies(self, path: str) -> bool:
        """Whether something has this name, a link that leads nowhere included."""
        return os.path.lexists(self.place(path))

    def link(self, path: str) -> str:
        """Where a symbolic link leads; "" when it is none."""
        try:
            return str(self.place(path).readlink())
        except OSError:
            return ""

    def changed(self, path: str) -> float:
        """When a file was written, Unix time in s; 0 when there is none."""
        try:
            return self.place(path).stat().st_mtime
        except OSError:
            return 0.0

    # -- programs -----------------------------------------------------------------------------------------------------
    def program(self, name: str) -> str | None:
        """Where a program is, in the directories of the system; None when it is nowhere."""
        found = (str(self.place(f"{directory}/{name}")) for directory in DIRECTORIES)
        return next((path for path in found if os.access(path, os.X_OK)), None)

    def output(self, name: str, *arguments: str) -> str | None:
        """What a program prints; None (and noted) when it is not there, fails, or takes too long."""
        path, asked = self.program(name), " ".join((name, *arguments[:3]))
        if path is None:
            self.unseen[f"{asked}: the program is not there"] = None
            return None
        left = TOGETHER_S - (time.monotonic() - self._began)
        found = call((path, *arguments), min(DEADLINE_S, left)) if left > 0 else None
        if found is None:
            self.unseen[f"{asked}: it failed, or took too long"] = None
        return found


def call(command: tuple[str, ...], deadline_s: float, most: int = LARGEST) -> str | None:
    """The output of a program that ends well within the deadline, up to a length; it does not outlive the call."""
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_ENVIRONMENT
        )
    except OSError:
        return None
    with process:
        try:
            content = _read(process, time.monotonic() + deadline_s, most)
            return content.decode("utf-8", "replace") if content is not None and process.returncode == 0 else None
        finally:
            process.kill()


def _read(process: subprocess.Popen[bytes], until: float, most: int) -> bytes | None:
    """All of it, and the process has ended; None when that takes too long or is too much."""
    pipe = process.stdout
    if pipe is None:
        return None
    content = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while len(content) <= most and selector.select(max(0.0, until - time.monotonic())):
            piece = os.read(pipe.fileno(), 1 << 16)
            content += piece
            if not piece:
                try:
                    process.wait(max(0.1, until - time.monotonic()))
                except subprocess.TimeoutExpired:
                    return None
                return bytes(content)
    return None

# SPDX-License-Identifier: GPL-3.0-or-later
"""A bare network namespace for tests of one adapter: made in a moment, entered by the test's own thread."""

import itertools
import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.enter import require_private_world
from tests.lab.process import run
from tests.lab.thread import entered

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Space:
    """One network namespace; gone, with all that is in it, at the end of its ``with``."""

    name: str

    @classmethod
    def make(cls) -> Self:
        """A new one, its loopback up."""
        require_private_world()
        space = cls(f"space-{os.getpid()}-{next(_numbers)}")
        run(("ip", "netns", "add", space.name))
        space.ip("link set lo up")
        return space

    def command(self, *words: str) -> list[str]:
        """A command that runs in here."""
        return ["ip", "netns", "exec", self.name, *words]

    def run(self, *words: str, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program in here to its end."""
        return run(self.command(*words), check=check, stdin=stdin)

    def ip(self, words: str) -> str:
        """``ip WORDS``."""
        return run(("ip", "-n", self.name, *shlex.split(words))).stdout

    def batch(self, lines: str, *options: str) -> None:
        """Many ``ip`` commands at once."""
        run(("ip", "-n", self.name, *options, "-batch", "-"), stdin=lines)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Bring this thread into the namespace, and back."""
        with entered(Path(f"/run/netns/{self.name}")):
            yield

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run(("ip", "netns", "delete", self.name))

# SPDX-License-Identifier: GPL-3.0-or-later
"""A bare network namespace for tests of one adapter: made in a moment, entered by the test's own thread."""

import fcntl
import itertools
import os
import shlex
import struct
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

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x1, 0x1000
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


@contextmanager
def laptop() -> Iterator[Space]:
    """A machine with one uplink, ``wlan0``, and a link ``tun7`` that stands for a tunnel; this thread is inside."""
    with Space.make() as space:
        space.ip("link add wlan0 type veth peer name radio")
        for words in (
            "addr add 192.0.2.2/24 dev wlan0",
            "addr add 2001:db8::2/64 dev wlan0 nodad",
            "link set wlan0 up",
            "link set radio up",
            "route add default via 192.0.2.1 metric 600",
            "-6 route add default via fe80::1 dev wlan0 metric 600",
            "tuntap add tun7 mode tun",
            "link set tun7 addrgenmode none",
            "addr add 10.9.0.2/32 dev tun7",
            "addr add fd00::2/128 dev tun7 nodad",
            "link set tun7 up",
        ):
            space.ip(words)
        with space.entered(), _somebody_behind("tun7"):
            yield space


@contextmanager
def _somebody_behind(tun: str) -> Iterator[None]:
    """Hold a tun link as a tunnel's process does; without, it has no carrier, and no route by it counts."""
    with open("/dev/net/tun", "r+b", buffering=0) as end:  # noqa: PTH123 - a device
        fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", tun.encode(), IFF_TUN | IFF_NO_PI))
        yield

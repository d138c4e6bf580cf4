# SPDX-License-Identifier: GPL-3.0-or-later
"""The QEMU that translates for hours: Debian 13's, from a root directory, whatever the host has.

Of 7.2 (Debian 12) and 10.0 side by side, the newer one takes a quarter of the processor for a process that is forked
and half for a program like ip or nft; for Python that computes they are alike. A suite that runs such programs all the
time gains by it.
"""

from pathlib import Path
from typing import Final

from tests.lab.container import program
from tests.lab.rootdir import rootdir

_SUITE: Final = "trixie"
_PACKAGES: Final = ("qemu-system-x86",)


def root() -> Path:
    """The root directory; made when it is not cached, for which it takes a network."""
    return rootdir(_SUITE, _PACKAGES)


def translator() -> tuple[str, ...]:
    """The words that run it on this host, by its own loader, libraries and firmware."""
    share = root() / "usr/share"
    firmware = (word for part in ("qemu", "seabios") for word in ("-L", str(share / part)))
    return (*program(root(), "qemu-system-x86_64"), *firmware)

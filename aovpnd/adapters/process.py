# SPDX-License-Identifier: GPL-3.0-or-later
"""Helper programs: found once, run with a deadline, a bare environment and no shell. Keys go in by stdin alone."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

from aovpnd.errors import ToolError
from aovpnd.messages import printable
from aovpnd.messages import without_keys as without_keys_in

ENVIRONMENT: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
_QUOTED: Final = 300
_HINT: Final = "see the journal of the kernel: journalctl -k"
_PACKAGES: Final = {
    "wg": "wireguard-tools",
    "wireguard-go": "wireguard-go",
    "charon-systemd": "charon-systemd libstrongswan-standard-plugins libcharon-extra-plugins",
    "systemctl": "systemd",
    "resolvectl": "systemd-resolved",
}


@cache
def find(name: str) -> str:
    """The absolute path of a program. `ToolError` with the package to install when there is none."""
    path = shutil.which(name, path=ENVIRONMENT["PATH"])
    if path is None:
        raise ToolError(f"{name} is not installed", hint=f"apt install {_PACKAGES.get(name, name)}")
    return path


def run(name: str, *arguments: str, stdin: str = "", deadline_s: float = 5.0) -> str:
    """Run a program to its end and return what it printed.

    `ToolError` when it cannot be started, fails, or is not done in time (it is killed then); its complaint is quoted
    without anything that looks like a key.
    """
    what = " ".join((name, *arguments[:1]))
    try:
        done = subprocess.run(
            [find(name), *arguments],
            input=stdin.encode(),
            capture_output=True,
            check=False,
            timeout=deadline_s,
            env=ENVIRONMENT,
            cwd="/",
        )
    except subprocess.TimeoutExpired:
        # "from None": the exception holds the output so far.
        raise ToolError(f"{what} was not done after {deadline_s:g} s") from None
    except OSError as error:
        find.cache_clear()
        find(name)  # where it has gone, this says what to install
        raise ToolError(f"{what} cannot be started: {error.strerror}", hint=_HINT) from error
    if done.returncode != 0:
        raise ToolError(f"{what} failed ({done.returncode}): {without_keys(done.stderr)}")
    return done.stdout.decode("utf-8", "replace")


def without_keys(output: bytes) -> str:
    """A program's complaint as one line for a person."""
    words = printable(" ".join(output.decode("utf-8", "replace").split()))
    return without_keys_in(words)[:_QUOTED] or "it does not say why"


def start(
    arguments: Sequence[str], log: Path, environment: Mapping[str, str] = MappingProxyType({})
) -> "subprocess.Popen[bytes]":
    """Start a program that outlives us: in a session of its own, its output in the file ``log``, which begins anew."""
    try:
        with log.open("wb") as output:
            return subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**ENVIRONMENT, **environment},
                cwd="/",
                start_new_session=True,
            )
    except OSError as error:
        raise ToolError(f"{Path(arguments[0]).name} cannot be started: {error.strerror}") from error

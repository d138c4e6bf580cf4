# SPDX-License-Identifier: GPL-3.0-or-later
"""The one door into the private world, where everything runs that touches networking.

``python -m tests.lab.enter -- COMMAND...`` runs a command in fresh network, mount and process namespaces, with an empty
``/run``. Whatever it makes there (links, rulesets, daemons, mounts) is gone when it ends, also after Ctrl-C, SIGTERM or
a crash, because the kernel kills all of it with the world's first process. Inside the world the command is run as it
is, so the door may be used twice. The lab refuses to build anything elsewhere: `require_private_world`.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from tests.lab.rootdir import RootdirError, lab_root

OUTER_NETNS_VARIABLE: Final = "AOVPND_LAB_OUTER_NETNS"
"""Inode of the network namespace that the door was opened in: the machine's own, which nothing of ours may touch."""
WORLD_DIR: Final = Path("/run/aovpnd-lab")
"""Where the lab keeps its files inside the world: a tmpfs of its own."""
_INSIDE: Final = "--inside"
_PR_SET_PDEATHSIG: Final = 1
_INTERRUPT_GRACE_S: Final = 15
_TOOLS: Final = (
    "unshare",
    "nsenter",
    "setpriv",
    "mount",
    "ip",
    "nft",
    "wg",
    "wireguard-go",
    "tcpdump",
    "tshark",
    "openssl",
)


class NotInPrivateWorldError(Exception):
    """The lab was about to change the machine's own network."""


def netns_inode() -> int:
    """Return what identifies the network namespace that this process is in."""
    return Path("/proc/self/ns/net").stat().st_ino


def in_private_world() -> bool:
    """Say whether this process came through the door, and is not in the machine's own network namespace."""
    outer = os.environ.get(OUTER_NETNS_VARIABLE, "")
    return outer.isdecimal() and int(outer) != netns_inode() and WORLD_DIR.is_dir()


def require_private_world() -> None:
    """Raise NotInPrivateWorldError unless `in_private_world`."""
    if not in_private_world():
        raise NotInPrivateWorldError(
            "the lab works inside its private world only (run: python -m tests.lab.enter -- COMMAND...)"
        )


def _die(text: str) -> NoReturn:
    print(f"error: {text}", file=sys.stderr)
    sys.exit(1)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _exit_like(status: int) -> int:
    """Turn Popen's return code into a shell's."""
    return status if status >= 0 else 128 - status


def _enter(command: list[str]) -> int:
    """Build the namespaces and run ``command`` in them; returns its exit status."""
    if os.geteuid() != 0:
        _die("the lab needs root (make asks for it with sudo)")
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        _die(f"missing programs: {', '.join(missing)} (make setup installs them)")
    try:
        lab_root()  # it needs the machine's network, which the world does not have
    except RootdirError as error:
        _die(str(error))
    unshare = [
        *(
            "unshare",
            "--net",
            "--mount",
            "--pid",
            "--uts",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--propagation",
            "private",
        ),
        *("--", sys.executable, "-m", "tests.lab.enter", _INSIDE, "--", *command),
    ]
    environment = {**os.environ, OUTER_NETNS_VARIABLE: str(netns_inode())}
    world = subprocess.Popen(unshare, env=environment, preexec_fn=_die_with_parent)  # noqa: PLW1509  no thread runs yet

    def kill_world(_signal: int, _frame: FrameType | None) -> None:
        # unshare(1) blocks SIGTERM while it waits; SIGKILL takes the world down with it (--kill-child).
        world.kill()

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        # The terminal sends it to the command as well, which then ends the world in order; not for ever, and not twice.
        signal.signal(signal.SIGINT, kill_world)
        signal.alarm(_INTERRUPT_GRACE_S)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, kill_world)
    signal.signal(signal.SIGINT, interrupt)
    return _exit_like(world.wait())


def _init(command: list[str]) -> int:
    """Be the first process of the world: mount what is private, run the command, reap orphans."""
    if (
        not os.environ.get(OUTER_NETNS_VARIABLE, "").isdecimal()
        or int(os.environ[OUTER_NETNS_VARIABLE]) == netns_inode()
    ):
        _die(f"{_INSIDE} is for the door itself")
    for arguments in (
        ("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"),
        ("mount", "-t", "sysfs", "sysfs", "/sys"),  # the old mount shows the machine's links
        ("mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"),
        ("ip", "link", "set", "lo", "up"),
    ):
        subprocess.run(arguments, check=True)
    for directory in (Path("/run/netns"), Path("/run/lock"), WORLD_DIR):
        directory.mkdir()
    child = subprocess.Popen(command)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: child.send_signal(received))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        pid, status = os.wait()
        if pid == child.pid:
            return _exit_like(os.waitstatus_to_exitcode(status))


def main(arguments: list[str]) -> int:
    """Run a command in the private world."""
    inside = arguments[:1] == [_INSIDE]
    command = arguments[1:] if inside else arguments
    if command[:1] != ["--"] or len(command) == 1:
        _die("usage: python -m tests.lab.enter -- COMMAND...")
    if inside:
        return _init(command[1:])
    if in_private_world():
        os.execvp(command[1], command[1:])  # noqa: S606  the same command, already inside
    return _enter(command[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl unblock --offline``: everything of ours goes, nothing of anybody else, and each piece is accounted for."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Final

import pytest

from aovpnd import names
from aovpnd.adapters.netlink import Netlink
from aovpnd.adapters.publish import Runtime
from aovpnd.backends.charon import look_mark
from aovpnd.lock import Lock, holder
from aovpnd.routes import Route, Routing
from tests.lab.process import wait_for
from tests.netns.space import Space

pytestmark = pytest.mark.root

FOREIGN: Final = "table inet other { chain input { type filter hook input priority 0; policy accept; }; }\n"
OURS: Final = """
table inet aovpnd { chain output { type filter hook output priority 0; policy drop; }; }
table netdev aovpnd_early { chain link_2 { type filter hook egress device wlan0 priority 0; policy drop; }; }
"""
LINGERER: Final = """
import fcntl, os, sys
shared, exclusive = (os.open(sys.argv[1], os.O_RDONLY) for _ in range(2))
print("open", flush=True)
fcntl.flock(exclusive, fcntl.LOCK_EX)
fcntl.lockf(shared, fcntl.LOCK_SH)
print("held", flush=True)
sys.stdin.read()
"""
"""Waits for every lock that a reader can have, has them when the daemon is dead, and keeps them."""
NOBODY: Final = 65534
CLOSED: Final = Routing(
    (4, 6),
    (
        Route(IPv4Network("0.0.0.0/0"), None, metric=names.CLOSED_METRIC),
        Route(IPv6Network("::/0"), None, metric=names.CLOSED_METRIC),
    ),
    (),
    (4, 6),
)


@pytest.fixture
def space() -> Iterator[Space]:
    """A machine with one link and somebody else's rules."""
    with Space.make() as space:
        space.ip("link add wlan0 type veth peer name radio")
        space.ip("link set wlan0 up")
        space.ip("rule add pref 10 from 198.51.100.0/24 lookup 77")
        space.run("nft", "-f", "-", stdin=FOREIGN)
        yield space


@contextmanager
def _guard(space: Space, runtime_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A guard that holds its tables."""
    command = space.command(sys.executable, "-I", "-m", "aovpnd.guard", "--runtime-dir", str(runtime_dir))
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as guard:
        try:
            wait_for("the guard's tables", lambda: names.GUARD_TABLE in _tables(space))
            yield guard
        finally:
            guard.kill()


def _tables(space: Space) -> str:
    return space.run("nft", "list", "tables").stdout


def _unblock(space: Space, place: Path, *options: str) -> subprocess.CompletedProcess[str]:
    where = [
        f"--{name}-dir={place / where}" for name, where in (("runtime", "run"), ("config", "etc"), ("state", "lib"))
    ]
    return space.run(sys.executable, "-I", "-m", "aovpnd.ctl", "unblock", "--offline", *where, *options, check=False)


def _load(space: Space, place: Path) -> None:
    (place / "run").mkdir(mode=0o755)
    space.run("nft", "-f", "-", stdin=OURS)
    with space.entered(), closing(Netlink()) as netlink:
        netlink.ensure(CLOSED)


def test_everything_of_ours_goes(space: Space, tmp_path: Path) -> None:
    """Tables, the guard with its own, rules and routes of both families; what others made stays, and so does a link,
    which is said.
    """
    _load(space, tmp_path)
    space.ip("tuntap add aovpn0 mode tun")
    with space.entered(), closing(Netlink()) as netlink:
        netlink.lead(look_mark("aovpn0"), ip_address("198.51.100.1"))
    with _guard(space, tmp_path / "run") as guard:
        done = _unblock(space, tmp_path)
        assert guard.wait(10) == 0
        pid = guard.pid

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"{tmp_path}/etc/unblocked: written\n"
        f"guard: stopped (pid {pid})\n"
        "table inet aovpnd: removed\n"
        "table netdev aovpnd_early: removed\n"
        "table inet aovpnd_guard: was not there\n"
        "table netdev aovpnd_guard: was not there\n"
        "IPv4 rule 10: removed\n"
        "IPv4 rule 11: removed\n"
        "IPv4 rules of charon's look-ups: removed\n"
        "IPv4 routes of table 24943: removed\n"
        "IPv6 rule 10: removed\n"
        "IPv6 rule 11: removed\n"
        "IPv6 rules of charon's look-ups: removed\n"
        "IPv6 routes of table 24943: removed\n"
        "link aovpn0: stays, with no route to it (to take it away: ip link delete dev aovpn0)\n"
        "/etc/resolv.conf: was not ours\n"
        "The block is off for good. To put it on: systemctl start aovpnd, then aovpnctl block\n"
    )
    assert _tables(space) == "table inet other\n"
    assert space.ip("-4 rule show").splitlines() == [
        "0:\tfrom all lookup local",
        "10:\tfrom 198.51.100.0/24 lookup 77",
        "32766:\tfrom all lookup main",
        "32767:\tfrom all lookup default",
    ]
    assert space.ip("-6 rule show").splitlines() == ["0:\tfrom all lookup local", "32766:\tfrom all lookup main"]


def test_nothing_to_remove_is_no_failure(space: Space, tmp_path: Path) -> None:
    """It may be called again, and on a machine that was never blocked."""
    for marker in ("written", "is there already"):
        done = _unblock(space, tmp_path, "--json")
        steps = json.loads(done.stdout)["steps"]
        assert done.returncode == 0
        assert [step["result"] for step in steps] == [marker, "did not run", *["was not there"] * 12, "was not ours"]


def test_doubled_rules_all_go(space: Space, tmp_path: Path) -> None:
    """Somebody restored our rules from a file: every copy goes."""
    for protocol in ("boot", "static", "kernel"):
        space.ip(f"rule add pref 10 not fwmark 0x2a000000/0x3f000000 lookup 24943 protocol {protocol}")

    assert "IPv4 rule 10: removed\n" in _unblock(space, tmp_path).stdout
    assert "24943" not in space.ip("rule show")


def test_one_failure_keeps_nothing_else(space: Space, tmp_path: Path) -> None:
    """A table that cannot be removed, a marker that cannot be written: said, exit status 1, and all else is gone."""
    _load(space, tmp_path)
    (tmp_path / "etc").write_text("a file where a directory should be")
    holder = subprocess.Popen(
        space.command("nft", "-i"),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert holder.stdin is not None
    holder.stdin.write("add table inet aovpnd_guard { flags owner; }\n")
    holder.stdin.flush()
    wait_for("a table that belongs to another process", lambda: names.GUARD_TABLE in _tables(space))

    done = _unblock(space, tmp_path)
    holder.kill()
    holder.communicate()

    assert done.returncode == 1
    assert "/etc/unblocked: FAILED: File exists\n" in done.stdout
    assert "table inet aovpnd_guard: FAILED: nft: Error: Could not process rule: Operation not permitted" in done.stdout
    assert "table inet aovpnd: removed\n" in done.stdout
    assert done.stdout.endswith("The block may still be in place: see what failed above.\n")
    assert "24943" not in space.ip("rule show")


def test_refused_while_the_daemon_runs(space: Space, tmp_path: Path) -> None:
    """It would put everything back at once."""
    _load(space, tmp_path)
    runtime = Runtime(tmp_path / "run")
    done = _unblock(space, tmp_path)
    runtime.close()

    assert done.returncode == 1
    assert done.stderr == (
        "aovpnctl: the daemon is running, and would put the block back at once "
        "(ask it: aovpnctl unblock; if it does not answer: systemctl stop aovpnd, then this again)\n"
    )
    assert "table inet aovpnd\n" in _tables(space)
    assert not (tmp_path / "etc").exists()


def test_no_user_is_taken_for_the_daemon(space: Space) -> None:
    """A user who has waited for the lock gets it when the daemon dies, in every way that he can, and nobody believes
    him: no daemon runs, nothing is vouched for, root's way out is open, and the next daemon starts.
    """
    with tempfile.TemporaryDirectory(dir="/run") as name:
        place = Path(name)
        place.chmod(0o755)  # as /run/aovpnd: everybody may read what is published
        where = [f"--{kind}-dir={place / to}" for kind, to in (("runtime", "run"), ("config", "etc"), ("state", "lib"))]
        (place / "etc").mkdir(mode=0o755)
        with _daemon(space, place, where) as daemon, _lingerer(place / "run" / "lock") as user:
            assert user.stdout is not None
            assert user.stdout.readline() == "open\n"
            assert _ctl(space, "wait", "--protected", "--timeout=20", where[0]).returncode == 0
            daemon.kill()
            daemon.wait(10)
            assert user.stdout.readline() == "held\n", "else the silence of the lock proves nothing"

            status = _ctl(space, "status", "--json", where[0])
            assert status.returncode == 3
            assert json.loads(status.stdout)["phase"] is None
            assert _ctl(space, "wait", "--protected", "--timeout=1", where[0]).returncode == 3
            freed = _ctl(space, "unblock", "--offline", *where)
            assert (freed.returncode, freed.stderr) == (0, "")
            assert _tables(space) == "table inet other\n"
            with _daemon(space, place, where):
                assert user.poll() is None, "he still holds what he has"


@contextmanager
def _daemon(space: Space, place: Path, where: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that has published; its guard ends with it."""
    with subprocess.Popen(
        space.command(sys.executable, "-I", "-m", "aovpnd", *where), stderr=subprocess.DEVNULL
    ) as daemon:
        try:
            wait_for("a daemon that vouches", lambda: _ctl(space, "status", where[0]).returncode == 0)
            yield daemon
        finally:
            daemon.kill()
            daemon.wait()
            guard = holder(place / "run" / names.GUARD_LOCK_FILE)
            if guard is not None:
                os.kill(guard, signal.SIGTERM)


@contextmanager
def _lingerer(lock: Path) -> Iterator[subprocess.Popen[str]]:
    """A user's program that holds on to the readers' lock."""
    with subprocess.Popen(
        ("/usr/bin/python3", "-I", "-c", LINGERER, str(lock)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd="/",
    ) as user:
        try:
            yield user
        finally:
            user.kill()


def _ctl(space: Space, *words: str) -> subprocess.CompletedProcess[str]:
    return space.run(sys.executable, "-I", "-m", "aovpnd.ctl", *words, check=False)


def test_only_the_holder_of_the_lock_is_ended(tmp_path: Path) -> None:
    """A pid in a file is no proof: the kernel must say that this process holds this lock."""
    lock = tmp_path / "guard.lock"
    assert holder(str(lock)) is None
    lock.write_text("1\n")
    assert holder(str(lock)) is None
    with Lock(lock):
        assert holder(str(lock)) is not None
        lock.write_text("1\n")
        assert holder(str(lock)) is None

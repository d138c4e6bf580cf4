# SPDX-License-Identifier: GPL-3.0-or-later
"""What adapters do when the calls they make fail: they say so in our words, or take it for nothing, and never wait."""

import errno
import os
import socket
import subprocess
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace

import pytest

from aovpnd import regular
from aovpnd.adapters import process
from aovpnd.adapters.clocks import clock
from aovpnd.adapters.dns import NameService
from aovpnd.adapters.guard import GuardProcess
from aovpnd.adapters.netlink import Netlink
from aovpnd.adapters.publish import Runtime
from aovpnd.adapters.resolvers import resolvers
from aovpnd.adapters.state import BUDGET_FILE, State
from aovpnd.adapters.systemd import notify
from aovpnd.backends.wgtool import Device
from aovpnd.backends.wireguard import WireGuardBackend
from aovpnd.core.view import free_link_name
from aovpnd.errors import StateError, ToolError
from aovpnd.links import ARPHRD_NONE, Link
from aovpnd.model import Block, GuardState, Intent, Snapshot
from aovpnd.nftlib import own_ports

ERRNOS = (errno.EPERM, errno.EACCES, errno.EBUSY, errno.ENOSPC, errno.EIO, errno.EROFS, errno.EMFILE)


def _refuse(number: int) -> Callable[..., object]:
    def refuse(*_arguments: object, **_more: object) -> object:
        raise OSError(number, os.strerror(number))

    return refuse


# -- files ------------------------------------------------------------------------------------------------------------
def test_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    """Whoever puts a named pipe where a file is read does not stop the daemon."""
    state = State(tmp_path, tmp_path)
    for name in (BUDGET_FILE, "addresses.json", "resolv.conf", "unblocked"):
        os.mkfifo(tmp_path / name)
    names = NameService(tmp_path, tmp_path / "resolv.conf", tmp_path / "run")

    with pytest.raises(OSError, match="is no regular file"):
        regular.read(tmp_path / BUDGET_FILE, 10)
    recalled = state.recall(clock())
    assert len(recalled.used) == 3, "a budget that cannot be read is used up"
    assert (recalled.hosts, recalled.block) == ((), Block.ON)
    assert names.observe(()).astray
    assert names.resolvers() == ()


def test_pipe_in_the_place_of_what_network_managers_write(tmp_path: Path) -> None:
    """Nor where others tell which resolvers they heard of."""
    links = tmp_path / "systemd/netif/links"
    links.mkdir(parents=True)
    os.mkfifo(links / "2")

    assert resolvers("nameserver 127.0.0.53", (), tmp_path) == ()
    assert resolvers("nameserver 192.0.2.1", (), tmp_path) == (ip_address("192.0.2.1"),)


@pytest.mark.parametrize("number", ERRNOS)
def test_marker_that_nobody_can_see_opens_nothing(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the block is off is not known: then it is on."""
    state = State(tmp_path, tmp_path)
    state.mark(Block.OFF)
    assert state.unblocked()

    monkeypatch.setattr(Path, "stat", _refuse(number))
    assert not state.unblocked()


@pytest.mark.parametrize("number", ERRNOS)
@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_budget_that_cannot_be_kept(call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step of it may fail; what was kept before stays, and the error says where and what to look at."""
    state = State(tmp_path, tmp_path)
    state.remember(Intent(used=(1.0,)), clock())
    before = (tmp_path / BUDGET_FILE).read_text(encoding="utf-8")
    monkeypatch.setattr(Path if call == "replace" else os, call, _refuse(number))

    with pytest.raises(StateError, match=BUDGET_FILE) as caught:
        state.remember(Intent(used=(1.0, 2.0)), clock())
    monkeypatch.undo()
    assert caught.value.hint
    assert (tmp_path / BUDGET_FILE).read_text(encoding="utf-8") == before


def test_status_takes_the_room_of_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system that is full, the old status makes the room for the new one."""
    runtime = Runtime(tmp_path)
    runtime.publish({"phase": "blocked"})
    write = Path.rename

    def full(new: Path, place: Path) -> Path:
        if place.exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(new, place)

    monkeypatch.setattr(Path, "rename", full)
    runtime.publish({"phase": "connected"})
    runtime.close()

    assert '"connected"' in (tmp_path / "status.json").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["daemon.lock", "lock", "status.json"]


# -- programs ---------------------------------------------------------------------------------------------------------
def _program(place: Path, text: str) -> None:
    path = place / "tool"
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of programs, the only one."""
    monkeypatch.setattr(process, "ENVIRONMENT", {"PATH": f"{tmp_path}:/bin:/usr/bin"})
    process.find.cache_clear()
    return tmp_path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exit 3", r"tool x failed \(3\): it does not say why"),
        ("echo no >&2; exit 1", r"tool x failed \(1\): no"),
        ("kill -9 $$", r"tool x failed \(-9\)"),
        ("exec sleep 60", r"tool x was not done after 0.2 s"),
    ],
)
def test_program_that_fails(text: str, said: str, tools: Path) -> None:
    """Its exit status, a signal, its silence: each is an error in words."""
    _program(tools, text)
    with pytest.raises(ToolError, match=said):
        process.run("tool", "x", deadline_s=0.2)


def test_program_that_goes_and_comes(tools: Path) -> None:
    """One that was there and has gone is called missing, with the package that has it; back elsewhere, it is found."""
    _program(tools, "echo one")
    assert process.run("tool") == "one\n"
    (tools / "tool").unlink()
    with pytest.raises(ToolError, match="tool is not installed") as caught:
        process.run("tool")
    assert caught.value.hint == "apt install tool"

    _program(tools, "echo two")
    assert process.run("tool") == "two\n"


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EMFILE, errno.EAGAIN, errno.EACCES])
def test_program_that_cannot_be_started(number: int, tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory, no descriptor, no process: an error with a hint."""
    _program(tools, "")
    monkeypatch.setattr(subprocess, "run", _refuse(number))
    with pytest.raises(ToolError, match=f"cannot be started: {os.strerror(number)}") as caught:
        process.run("tool")
    assert caught.value.hint


# -- descriptors ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES])
def test_own_ports_that_nobody_can_tell(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose a transaction was cannot be told; that there was one can."""
    monkeypatch.setattr(Path, "iterdir", _refuse(number))
    assert own_ports() == frozenset()


# -- wg(8) ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "after_s", "known"), [("wireguard", 5, True), ("wireguard", 20, False), ("tun", 5, False)]
)
def test_wg_that_fails(kind: str, after_s: int, known: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """While wg(8) fails, the rest of the system is seen all the same. What the kernel's WireGuard said counts for a
    moment more, since a slow machine must not cost a good tunnel; then nobody knows what the link carries.
    """
    link, device = Link(7, "aovpn0", kind, ARPHRD_NONE), Device("key=", "digest", 1, 51820, ())
    now = [100.0]
    fails: list[ToolError] = []

    def ask(_link: Link) -> Device:
        if fails:
            raise fails[0]
        return device

    monkeypatch.setattr("aovpnd.backends.wireguard._ask", ask)
    monkeypatch.setattr("aovpnd.backends.wireguard.has_socket", lambda _name: True)
    monkeypatch.setattr("aovpnd.backends.wireguard.time", SimpleNamespace(monotonic=lambda: now[0]))
    backend = WireGuardBackend(tmp_path, Netlink())
    (before,) = backend.observe((link,), ())
    fails.append(ToolError("wg is not installed"))
    now[0] += after_s
    (state,) = backend.observe((link,), ())

    assert before.digest == "digest"
    assert state.digest == ("digest" if known else None)


def test_link_that_goes_while_it_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its wireguard-go was killed: it is ours still, with nothing in it, so that the next one gets its name."""
    link = Link(7, "aovpn0", "tun", ARPHRD_NONE)
    monkeypatch.setattr("aovpnd.backends.wireguard._ask", lambda _link: None)
    monkeypatch.setattr("aovpnd.backends.wireguard.find", lambda _name: None)
    monkeypatch.setattr("aovpnd.backends.wireguard.has_socket", lambda _name: True)
    (state,) = WireGuardBackend(tmp_path, Netlink()).observe((link,), ())

    assert (state.link, state.digest) == (link, None)
    assert free_link_name(Snapshot(clock(), links=(link,), tunnels=(state,))) == "aovpn0"


# -- the guard --------------------------------------------------------------------------------------------------------
def test_guard_that_does_not_come_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is started again at once, then less and less often, and all the while it is called failing; when it holds its
    tables, all is forgotten.
    """
    now = [1000.0]
    monkeypatch.setattr("aovpnd.adapters.guard.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr("aovpnd.adapters.guard.under_systemd", lambda: True)
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_more: None)
    guard = GuardProcess(tmp_path)
    seen = []
    for _ in range(90):
        state = guard.observe(GuardState.MISSING)
        seen.append(state)
        if state is GuardState.MISSING:
            guard.ensure(GuardState.HELD)
        now[0] += 1.0

    assert [second for second, state in enumerate(seen) if state is GuardState.MISSING] == [0, 5, 10, 15, 45, 75]
    assert set(seen[1:5]) == {GuardState.STARTING}
    assert set(seen[6:10]) == {GuardState.FAILING}
    assert guard.observe(GuardState.HELD) is GuardState.HELD
    assert guard.observe(GuardState.MISSING) is GuardState.MISSING, "started at once"


# -- the service manager ----------------------------------------------------------------------------------------------
def test_service_manager_that_does_not_hear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that nobody listens on, or that is not there, ends nothing."""
    place = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(place))
    notify("WATCHDOG=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as gone:
        gone.bind(str(place))
    notify("WATCHDOG=1")

# SPDX-License-Identifier: GPL-3.0-or-later
"""/etc/resolv.conf: nobody's file is ever lost, wherever we are killed, and whoever writes it meanwhile."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aovpnd import names
from aovpnd.adapters.dns_file import FIGHT_TIMES, ResolvConfFile, render
from aovpnd.dns import Dns, Scope
from aovpnd.errors import StateError
from aovpnd.resolvconf import Found, Kind, ResolvConf
from tests.unit.small_world import SERVER4, SERVER6

OURS: Final = "nameserver 10.64.0.1\n"
DNS: Final = Dns(9, "aovpn0", (SERVER4, SERVER6), ("corp.example",), ("x.example",), Scope.DOMAINS)
USERS: Final = {
    "a file": Found(Kind.FILE, "# mine\nnameserver 192.0.2.1\noptions rotate\n", 0o640),
    "an empty file": Found(Kind.FILE, "", 0o644),
    "no bytes that anybody understands": Found(Kind.FILE, "\udcff\udc80\n", 0o644),
    "a link": Found(Kind.LINK, "../run/manager.conf"),
    "a link to nowhere": Found(Kind.LINK, "/nowhere/at/all"),
    "nothing": Found(Kind.ABSENT),
}


@pytest.fixture(autouse=True, scope="module")
def quick_disk() -> Iterator[None]:
    """Nobody pulls the plug of this machine, so nothing has to wait for its disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _descriptor: None)
        yield


class KilledError(BaseException):
    """SIGKILL: nothing after it happens."""


def place(directory: Path, users: Found) -> ResolvConf:
    """A machine with this file."""
    (directory / "etc").mkdir(parents=True)
    (directory / "run").mkdir()
    (directory / "run/manager.conf").write_text("nameserver 192.0.2.2\n", encoding="utf-8")
    path = directory / "etc/resolv.conf"
    match users.kind:
        case Kind.FILE:
            path.write_bytes(users.text.encode("utf-8", "surrogateescape"))
            path.chmod(users.mode)
        case Kind.LINK:
            path.symlink_to(users.text)
        case Kind.ABSENT:
            pass
    return ResolvConf(path, directory / "lib/resolv.conf.saved")


@pytest.mark.parametrize("broken", [None, "", "{broken", "{}"])
def test_what_was_kept_is_lost(broken: str | None, tmp_path: Path) -> None:
    """Ours stands there, and the record of what was before it is gone or unreadable: it converges at once, and what is
    given back is what whoever calls thinks best.
    """
    conf = place(tmp_path, USERS["a file"])
    conf.put(OURS)
    conf.save.unlink() if broken is None else conf.save.write_text(broken)
    assert not conf.says(OURS)

    file = ResolvConfFile(conf.path, conf.save)
    file.ensure(DNS, "nameserver 192.0.2.9\n")
    assert file.observe() == (DNS, "")
    assert file.is_lost()
    file.ensure(DNS, "nameserver 192.0.2.77\n")
    assert "192.0.2.9" in conf.users()
    file.ensure(None)
    assert conf.path.read_text().endswith("nameserver 192.0.2.9\n")
    assert file.observe() == (None, "")
    assert not file.is_lost()


@pytest.mark.parametrize("name", USERS)
def test_there_and_back(name: str, tmp_path: Path) -> None:
    """Ours takes its place, and what was there comes back as it was: text, mode, link or nothing."""
    conf = place(tmp_path, USERS[name])
    before, users = conf.read(), conf.users()

    conf.put(OURS)
    assert conf.path.read_text() == names.RESOLV_CONF_MARK + OURS
    assert conf.path.stat().st_mode & 0o777 == 0o644
    assert (conf.is_ours(), conf.says(OURS), conf.users()) == (True, True, users)
    conf.put(OURS + OURS)
    assert conf.kept() == USERS[name]
    assert conf.give_back()

    assert conf.found() == USERS[name]
    assert (conf.read(), conf.is_ours(), conf.kept()) == (before, False, None)
    assert not conf.give_back()
    assert list(conf.save.parent.iterdir()) == []
    assert [path.name for path in conf.path.parent.iterdir()] in ([], ["resolv.conf"])


def test_a_newer_file_is_kept_instead(tmp_path: Path) -> None:
    """What a DHCP client writes over ours is the user's from then on."""
    conf = place(tmp_path, USERS["a link"])
    conf.put(OURS)
    newer = conf.path.with_name("newer")
    newer.write_text("nameserver 192.0.2.77\n", encoding="utf-8")
    newer.replace(conf.path)

    assert not conf.is_ours()
    assert conf.users() == "nameserver 192.0.2.77\n"
    conf.put(OURS)
    assert conf.says(OURS)
    conf.give_back()
    assert conf.read() == "nameserver 192.0.2.77\n"


def test_a_newer_file_stays(tmp_path: Path) -> None:
    """Nothing is given back over what somebody else has written since."""
    conf = place(tmp_path, USERS["a file"])
    conf.put(OURS)
    conf.path.unlink()
    conf.path.write_text("nameserver 192.0.2.77\n", encoding="utf-8")

    assert not conf.give_back()
    assert conf.read() == "nameserver 192.0.2.77\n"
    assert conf.kept() is None


DAMAGES: Final = (
    "",
    "{",
    "[]",
    '{"kind": "pipe", "text": "", "mode": 0}',
    '{"kind": "file"}',
    '{"kind": "file", "text": "\\ud800", "mode": 420}',
    '{"kind": "link", "text": "a\\u0000b", "mode": 420}',
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_kept_is_damaged(damage: str, tmp_path: Path) -> None:
    """Then something is better than a file that asks a tunnel which is gone."""
    conf = place(tmp_path, USERS["a file"])
    conf.put(OURS)
    conf.save.write_text(damage, encoding="utf-8")

    assert conf.users() == ""
    assert conf.give_back("nameserver 192.0.2.5\n")
    assert conf.read() == "nameserver 192.0.2.5\n"


@pytest.mark.parametrize("odd", ["directory", "fifo", "huge"])
def test_what_is_no_file_is_left_alone(odd: str, tmp_path: Path) -> None:
    """Nothing is put in the place of what could not be given back."""
    conf = place(tmp_path, USERS["nothing"])
    match odd:
        case "directory":
            conf.path.mkdir()
        case "fifo":
            os.mkfifo(conf.path)
        case _:
            conf.path.write_bytes(b"#" * 70_000)
    with pytest.raises(OSError, match="no file that aovpnd could keep"):
        conf.put(OURS)
    assert conf.kept() is None


# -- killed ------------------------------------------------------------------------------------------------------------
CALLS: Final = (
    (os, "fsync"),
    (os, "ftruncate"),
    (os, "write"),
    (os, "open"),
    (Path, "replace"),
    (Path, "unlink"),
    (Path, "symlink_to"),
)
"""Every step that changes anything on disk, or ends one."""


@contextmanager
def killed_before(step: int, *, mount: Path | None) -> Iterator[list[int]]:
    """SIGKILL before the step of this number. ``mount`` is a mount point: nothing can be moved over it."""
    count = [0]

    def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            count[0] += 1
            if count[0] > step:
                raise KilledError
            if mount is not None and mount in arguments and call in {_REPLACE, _UNLINK}:
                raise OSError(errno.EBUSY, "Device or resource busy")
            return call(*arguments, **options)

        return run

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in CALLS:
            patch.setattr(owner, name, guarded(getattr(owner, name)))
        yield count


_REPLACE, _UNLINK = Path.replace, Path.unlink


@pytest.mark.parametrize("mounted", [False, True], ids=["renamed", "in place"])
@pytest.mark.parametrize("name", USERS)
def test_killed_at_every_step(name: str, mounted: bool, tmp_path: Path) -> None:
    """Taking its place and giving it back may end anywhere: the next start finds what is the user's."""
    users = USERS[name]
    if mounted and users.kind is not Kind.FILE:
        return  # a mount point is a file
    for step in range(60):
        conf = place(tmp_path / str(step), users)
        mount = conf.path if mounted else None
        with killed_before(step, mount=mount) as count:
            try:
                conf.put(OURS)
                conf.give_back()
                done = True
            except KilledError:
                done = False
        assert conf.users() == place(tmp_path / f"{step} as it was", users).users()
        again = ResolvConf(conf.path, conf.save)
        with killed_before(1000, mount=mount):
            if step % 2:
                again.put(OURS)
            again.give_back()
        assert (again.found().kind, again.found().text) == (users.kind, users.text), count
        if done:
            return
    raise AssertionError("the steps do not end")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EPERM, errno.ENOSPC])
def test_a_file_that_cannot_be_written(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read-only, immutable, full: it says so, the file stays, and nothing is taken for ours."""
    conf = place(tmp_path, USERS["a file"])
    file = ResolvConfFile(conf.path, conf.save)
    real = os.open

    def refuse(path: Any, flags: int, *mode: int, **options: Any) -> int:
        if flags & os.O_WRONLY:
            raise OSError(number, os.strerror(number))
        return real(path, flags, *mode, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StateError, match=f"resolv.conf cannot be written: {os.strerror(number)}") as fault:
        file.ensure(DNS)

    assert fault.value.hint
    assert file.observe() == (None, "")
    assert conf.found() == USERS["a file"]


# -- the adapter -------------------------------------------------------------------------------------------------------
def test_observe_tells_what_is_astray(tmp_path: Path) -> None:
    """After a start nobody knows whether ours is right; then it is as it should be until somebody changes it."""
    conf = place(tmp_path, USERS["a file"])
    file = ResolvConfFile(conf.path, conf.save)
    assert file.observe() == (None, "")
    file.ensure(DNS)
    assert file.observe() == (DNS, "")
    assert ResolvConfFile(conf.path, conf.save).observe() == (None, f"{conf.path} is not as we left it")

    conf.path.write_text(names.RESOLV_CONF_MARK + "nameserver 192.0.2.66\n", encoding="utf-8")
    assert file.observe() == (None, f"{conf.path} is not as we left it")
    conf.path.write_text("nameserver 192.0.2.77\n", encoding="utf-8")
    assert file.observe() == (None, f"{conf.path} was overwritten")
    file.ensure(DNS)
    conf.save.unlink()
    assert file.observe() == (None, f"{conf.path} is not as we left it")
    file.ensure(None)
    assert file.observe() == (None, "")
    conf.path.unlink(missing_ok=True)
    conf.path.mkdir()
    assert "no file that aovpnd could keep" in file.observe()[1]


def test_text() -> None:
    """As resolv.conf(5) has it: what is appended is named, what is only routed cannot be."""
    assert render(DNS) == "nameserver 10.64.0.1\nnameserver fd64::1\nsearch corp.example\n"


def test_another_master_is_left_in_peace(tmp_path: Path) -> None:
    """A program that overwrites the file again and again is named, and the loop does not spin."""
    conf = place(tmp_path, USERS["a file"])
    file = ResolvConfFile(conf.path, conf.save)
    for _ in range(FIGHT_TIMES + 1):
        file.ensure(DNS)
        conf.path.write_text("nameserver 192.0.2.77\n", encoding="utf-8")
    with pytest.raises(StateError, match="another program keeps overwriting"):
        file.ensure(DNS)
    file.ensure(None)
    assert conf.read() == "nameserver 192.0.2.77\n"


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_no_bytes_do_harm(tmp_path_factory: pytest.TempPathFactory, text: bytes, kept: bytes) -> None:
    """Whatever stands there, and whatever is left of what was kept: no failure, and bytes come back as they were."""
    directory = tmp_path_factory.mktemp("any")
    conf = place(directory, USERS["nothing"])
    conf.path.write_bytes(text)
    conf.put(OURS)
    conf.give_back()
    assert conf.path.read_bytes() == text
    conf.save.write_bytes(kept)
    conf.users()
    ResolvConfFile(conf.path, conf.save).observe()
    conf.give_back()

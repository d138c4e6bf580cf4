# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files are read at all, which are refused, and what holds meanwhile."""

import os
from pathlib import Path

import pytest

from aovpnd import config, names
from aovpnd.config import tunnels
from aovpnd.errors import ConfigError
from aovpnd.model import Config
from tests.unit.ike_files import PSK
from tests.unit.test_config_settings import Files
from tests.unit.test_config_tunnels import GATEWAY, PRIVATE, SMALLEST


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """An empty configuration."""
    return Files(tmp_path)


def _tunnel(files: Files, name: str, text: str = SMALLEST, mode: int = 0o600) -> Path:
    path = files.write(f"etc/tunnels/{name}", text)
    path.chmod(mode)
    return path


def _names(found: Config) -> list[str]:
    return [spec.name for spec in found.tunnels]


def test_tunnels_are_found(files: Files) -> None:
    """Every NAME.conf is a tunnel; what editors and packages leave beside it is not."""
    for name in ("b.conf", "a-1_X.conf"):
        _tunnel(files, name)
    for name in (".a.conf", "b.conf~", "b.conf.dpkg-new", "README", "#b.conf#"):
        _tunnel(files, name, "not a tunnel", 0o644)
    (files.etc / "tunnels" / "old").mkdir()
    found = files.load()

    assert (_names(found), found.problems) == (["a-1_X", "b"], ())
    assert found.tunnels[1].source == str(files.etc / "tunnels" / "b.conf")


def test_name_that_a_terminal_would_obey(files: Files) -> None:
    """It is spelt out, and in the same way wherever it is shown: what is wrong with the file, and which are broken."""
    _tunnel(files, "esc\x1b[31m.conf")
    found = files.load()

    assert found.broken == {r"esc\x1b[31m"}
    assert [problem.text for problem in found.problems] == [
        rf"{files.etc}/tunnels/esc\x1b[31m.conf: the file's name is no tunnel name"
    ]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602, 0o644, 0o610])
def test_key_that_others_can_read_is_refused(files: Files, mode: int) -> None:
    """A private key that others can read, or replace, is not private."""
    _tunnel(files, "home.conf", mode=mode)
    told = files.check()

    assert told in (
        ["etc/tunnels/home.conf: holds a private key and others can read it (chmod 600 etc/tunnels/home.conf)"],
        ["etc/tunnels/home.conf: others can change it (chmod go-w etc/tunnels/home.conf)"],
    )
    assert _names(files.load()) == []


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_private_key_is_accepted(files: Files, mode: int) -> None:
    """Root alone, with or without the right to write."""
    _tunnel(files, "home.conf", mode=mode)

    assert _names(files.load()) == ["home"]


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_settings_that_others_can_change_are_refused(files: Files, mode: int) -> None:
    """Who can write the file could allow himself anything."""
    files.write("etc/aovpnd.toml", "").chmod(mode)

    assert files.check() == ["etc/aovpnd.toml: others can change it (chmod go-w etc/aovpnd.toml)"]


@pytest.mark.parametrize("name", ["policy.d", "conf.d", "tunnels"])
def test_directory_that_others_can_change_is_refused(files: Files, name: str) -> None:
    """Who can remove a policy's file has removed the policy."""
    (files.etc / name).mkdir(parents=True)
    (files.etc / name).chmod(0o775)

    assert files.check() == [f"etc/{name}: others can change it (chmod go-w etc/{name})"]


@pytest.mark.parametrize("name", ["etc/tunnels/home.conf", "etc/aovpnd.toml"])
def test_file_of_another_user_is_refused(files: Files, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Its owner could change it at any time."""
    _tunnel(files, "home.conf")
    files.write("etc/aovpnd.toml", "")
    if os.geteuid() == 0:
        os.chown(files.home / name, 12345, -1)
        expected = [f"{name}: belongs to another user (chown root: {name})"]
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        expected = [f"{name}: belongs to another user (chown root: {name})"]

    assert files.check(name) == expected


def test_links(files: Files) -> None:
    """A tunnel file may be a link to its neighbour; one that leads out of the directory, nowhere or in a circle is
    refused. Settings may be links: they hold no keys, and their target is judged like a file.
    """
    _tunnel(files, "home.conf")
    files.write("elsewhere.conf", SMALLEST).chmod(0o600)
    files.write("elsewhere.toml", "[lan]\nallow = true\n")
    place = files.etc / "tunnels"
    (place / "alias.conf").symlink_to("home.conf")
    (place / "out.conf").symlink_to(files.home / "elsewhere.conf")
    (place / "nowhere.conf").symlink_to("gone.conf")
    (place / "circle.conf").symlink_to("circle.conf")
    (files.etc / "aovpnd.toml").symlink_to(files.home / "elsewhere.toml")
    found = files.load()

    assert _names(found) == ["alias", "home"]
    assert files.check()[1:] == [
        "etc/tunnels/nowhere.conf: is a link that leads nowhere (remove or mend it)",
        "etc/tunnels/out.conf: is a link out of its directory (copy the file itself here)",
    ]
    assert files.check()[0].startswith("etc/tunnels/circle.conf: cannot be read: ")
    assert found.lan == "allow"


def test_credentials(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tunnel file may be a link to a credential of the daemon's unit, which is judged like any file, and is there as
    long as the daemon runs. Those of other units may not be used.
    """
    decrypted = files.home / "run/credentials/aovpnd.service"
    monkeypatch.setattr("aovpnd.names.CREDENTIALS_DIR", str(decrypted))
    place = files.etc / "tunnels"
    files.write("run/credentials/aovpnd.service/home.conf", SMALLEST).chmod(0o400)
    files.write("run/credentials/aovpnd.service/open.conf", SMALLEST).chmod(0o444)
    files.write("run/credentials/other.service/other.conf", SMALLEST).chmod(0o400)
    place.mkdir(parents=True)
    for name in ("home", "open", "gone"):
        (place / f"{name}.conf").symlink_to(decrypted / f"{name}.conf")
    (place / "other.conf").symlink_to(decrypted.parent / "other.service/other.conf")

    assert _names(files.load()) == ["home"]
    again = "aovpnctl import --replace --encrypt FILE"
    decrypts = f"it is decrypted while the daemon runs; where it cannot be any more: {again}"
    assert files.check() == [
        f"etc/tunnels/gone.conf: is a link that leads nowhere ({decrypts})",
        "etc/tunnels/open.conf: holds a private key and others can read it (chmod 600 etc/tunnels/open.conf)",
        "etc/tunnels/other.conf: is a link out of its directory (copy the file itself here)",
    ]


def test_credentials_that_nobody_may_look_for(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit that was started without any may not enter the directory in which they would be: that is said in the same
    words, of a tunnel and of what a tunnel names.
    """
    place = files.etc / "tunnels"
    files.write("etc/tunnels/office.toml", PSK)
    for link in (place / "home.conf", files.etc / "keys/psk"):
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(Path(names.CREDENTIALS_DIR) / link.name)
    resolve = Path.resolve

    def closed(self: Path, strict: bool = False) -> Path:
        if self.name in {"home.conf", "psk"}:
            raise PermissionError(13, "Permission denied")
        return resolve(self, strict)

    monkeypatch.setattr(Path, "resolve", closed)
    assert _names(files.load()) == []
    first, second = files.check()
    assert first.startswith(
        "etc/tunnels/home.conf: is a link that leads nowhere (it is decrypted while the daemon runs"
    )
    assert "ike.auth.secret_file: " in second
    assert "keys/psk: is a link that leads nowhere (it is decrypted while the daemon runs" in second


def test_what_is_no_file_is_refused(files: Files) -> None:
    """A directory, or a pipe that nobody writes to, is not waited for."""
    place = files.etc / "tunnels"
    place.mkdir(parents=True)
    (place / "dir.conf").mkdir(mode=0o700)
    os.mkfifo(place / "pipe.conf", 0o600)
    (files.etc / "aovpnd.toml").symlink_to("/dev/null")

    assert files.check() == [
        "etc/aovpnd.toml: is not a regular file (remove it)",
        "etc/tunnels/dir.conf: is not a regular file (remove it)",
        "etc/tunnels/pipe.conf: is not a regular file (remove it)",
    ]


def test_content_that_is_no_text(files: Files) -> None:
    """Too large, not UTF-8 (with the line), UTF-16 from a Windows editor: each says so."""
    files.write("etc/aovpnd.toml", "#\n" * (32 * 1024) + "#")
    _tunnel(files, "large.conf", "#" * (256 * 1024 + 1))
    (_tunnel(files, "latin.conf")).write_bytes(SMALLEST.encode() + b"# caf\xe9\n")
    (_tunnel(files, "utf16.conf")).write_bytes(SMALLEST.encode("utf-16"))

    assert files.check() == [
        "etc/aovpnd.toml: is too large: at most 64 KiB (is it the right file?)",
        "etc/tunnels/large.conf: is too large: at most 256 KiB (is it the right file?)",
        "etc/tunnels/latin.conf:9: is not UTF-8 text (save it as UTF-8)",
        "etc/tunnels/utf16.conf:1: is not UTF-8 text (save it as UTF-8)",
    ]


def test_directory_that_cannot_be_read(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """A problem, and the tunnels stay as they were."""
    _tunnel(files, "home.conf")
    before = files.load()

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    during = files.load(before)

    assert during.tunnels == before.tunnels
    assert files.check() == ["etc/tunnels: cannot be read: Permission denied (run it as root)"]


def test_file_that_cannot_be_read(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the right to read, `check` says what to do instead of failing."""
    _tunnel(files, "home.conf")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)

    assert files.check("etc/tunnels/home.conf") == [
        "etc/tunnels/home.conf: cannot be read: Permission denied (run it as root)"
    ]


def test_reading_that_fails_midway(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk error is a finding like any other."""
    _tunnel(files, "home.conf")

    def fail(_: int) -> os.stat_result:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fail)
        told = files.check("etc/tunnels/home.conf")

    assert told == ["etc/tunnels/home.conf: cannot be read: Input/output error"]


@pytest.mark.parametrize("breakage", ["text", "mode", "link", "wg"])
def test_broken_tunnel_keeps_its_last_good_version(
    files: Files, monkeypatch: pytest.MonkeyPatch, breakage: str
) -> None:
    """However a file breaks, its tunnel stays as it was, its neighbours are read anew, and status says so."""
    path = _tunnel(files, "home.conf")
    _tunnel(files, "other.conf")
    before = files.load()
    match breakage:
        case "text":
            path.write_text("[Interface]\nPrivateKey = gone\n")
        case "mode":
            path.chmod(0o644)
        case "link":
            path.unlink()
            path.symlink_to("/etc/shadow")
        case _:
            monkeypatch.setattr(tunnels, "WG", "/nonexistent/wg")
    during = files.load(before)

    assert during.tunnels == before.tunnels
    assert f"tunnel home: the last good version of {path} is in force" in [problem.text for problem in during.problems]
    assert _names(files.load()) == ([] if breakage == "wg" else ["other"])


def test_removed_tunnel_is_gone(files: Files) -> None:
    """Removing a file is a wish, not an accident."""
    path = _tunnel(files, "home.conf")
    before = files.load()
    path.unlink()

    assert files.load(before).tunnels == ()


def test_tunnel_that_vanishes_is_an_error(files: Files) -> None:
    """Between the listing and the reading a file may go; the next reading finds it gone for good."""
    with pytest.raises(ConfigError, match="there is no such file"):
        tunnels.read(files.etc / "tunnels" / "home.conf", files.etc)


def test_changed_tunnel_is_taken(files: Files) -> None:
    """A good file replaces what was."""
    _tunnel(files, "home.conf")
    before = files.load()
    _tunnel(files, "home.conf", SMALLEST.replace("10.0.0.2", "10.0.0.3"))
    after = files.load(before)

    assert [str(address) for address in after.tunnels[0].addresses] == ["10.0.0.3/32"]
    assert after.problems == ()


def test_check_of_single_files(files: Files) -> None:
    """Any file, by what it is called: a tunnel, settings, or neither."""
    _tunnel(files, "home.conf")
    files.write("somewhere/x.toml", "lan.allow = 3\n")
    files.write("notes.txt", "")
    files.write("choice.toml", "lan.allow = true\n")

    assert files.check("etc/tunnels/home.conf") == []
    assert files.check("somewhere/x.toml", "notes.txt", "gone.conf", "choice.toml") == [
        "somewhere/x.toml:1: lan.allow: must be true or false, not a number (write true or false, without quotes)",
        "notes.txt: is neither a tunnel (NAME.conf, NAME.toml) nor settings (NAME.toml) (rename it)",
        "gone.conf: there is no such file",
        "choice.toml:1: lan.allow: users cannot choose this (remove the line; administrators set it in aovpnd.toml)",
    ]


def test_check_knows_the_preferred_tunnel(files: Files) -> None:
    """A preference for a tunnel that is not there is found before the daemon is started."""
    files.write("etc/aovpnd.toml", "[tunnel]\nprefer = 'home'\n")
    bare = files.check()
    _tunnel(files, "other.conf")
    one = files.check()
    _tunnel(files, "home.conf")

    assert bare == ["etc/aovpnd.toml:2: tunnel.prefer: there is no tunnel called 'home' (there are: none)"]
    assert one == ["etc/aovpnd.toml:2: tunnel.prefer: there is no tunnel called 'home' (there are: other)"]
    assert files.check() == []
    files.write("etc/aovpnd.toml", "[tunnel]\nmobile = ['home', 'slim']\n")
    missing = "there is no tunnel called 'slim' (there are: home, other)"
    assert files.check() == [f"etc/aovpnd.toml:2: tunnel.mobile: {missing}"]


def test_no_representation_shows_a_key(files: Files) -> None:
    """A Config may be logged."""
    _tunnel(files, "home.conf", SMALLEST + f"PresharedKey = {PRIVATE}\n")
    shown = repr(config.load(files.etc, files.state, files.vendor))

    assert GATEWAY in shown
    assert PRIVATE not in shown

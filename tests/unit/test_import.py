# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl import``, ``export`` and ``policy``: what becomes of somebody's file, and what never does."""

import io
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aovpnd import names
from aovpnd.config import tunnels
from aovpnd.ctl import starting
from aovpnd.ctl.__main__ import main
from aovpnd.errors import SystemFault
from aovpnd.importers import wgquick
from aovpnd.importers.wgquick import Fate
from aovpnd.orders import Reload
from aovpnd.tunnel import WireGuard
from tests.unit.fake_daemon import fake_daemon
from tests.unit.test_config_tunnels import FULLEST, GATEWAY, PRESHARED, PRIVATE, SECOND, SECRETS, SMALLEST

PROVIDER: Final = f"""\
\ufeff# Provider "NL-FREE#1", Amsterdam
[INTERFACE]
privatekey = {PRIVATE}
Address = 10.2.0.2/24, fd00::2/128   # yours
DNS = 10.2.0.1, corp.example
MTU=1380
ListenPort = 51820
Table = off
FwMark = 0x1234
SaveConfig = true
PreUp = touch /tmp/ran
PostUp = iptables -I OUTPUT ! -o %i -j REJECT # not ours
#! PostDown = touch /tmp/ran
PreDown = echo {PRESHARED}

[peer]
PublicKey = {GATEWAY}
PresharedKey = {PRESHARED}
AllowedIPs = 0.0.0.0/1, 128.0.0.0/1
Endpoint = 203.0.113.2:51820
PersistentKeepalive = 25""".replace("\n", "\r\n")
"""As a provider's web page gives it: Windows' line ends, a byte order mark, no end of the last line, any case."""


def spec_of(text: str) -> WireGuard:
    """The tunnel that a text describes."""
    spec, findings = tunnels.parse(text.removeprefix("\ufeff"), "office", "office.conf")
    assert spec is not None, findings
    return spec


def test_a_name_server_that_is_never_asked() -> None:
    """One that the tunnel does not carry could only be asked outside of it."""
    text = SMALLEST.replace("[Peer]", "DNS = 10.66.0.1, 8.8.8.8, corp.example\n[Peer]").replace(
        "0.0.0.0/0", "10.66.0.0/24"
    )
    (line,) = (line for line in wgquick.convert(text, spec_of(text)).lines if line.key == "DNS")

    assert (line.fate, line.why) == (Fate.NARROWED, "8.8.8.8 is in no AllowedIPs, and never asked")


def test_who_may_not_read_all_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of the configuration is not shown as if it were the whole."""
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    for command in ("policy", "check"):
        assert main([command, "--config-dir", str(tmp_path), "--state-dir", str(tmp_path)]) != 0
        text = f"only root may read the whole configuration, and {tmp_path} is part of it (try sudo)"
        assert text in capsys.readouterr().err


def test_each_line_is_judged() -> None:
    """Kept, narrowed or refused, by its number in the file that somebody was given; no key, also not in a command."""
    imported = wgquick.convert(PROVIDER, spec_of(PROVIDER))

    assert [f"{line.number} {line.fate} {line.key} = {line.value}" for line in imported.lines] == [
        "3 kept PrivateKey = (hidden)",
        "4 kept Address = 10.2.0.2/24, fd00::2/128",
        "5 kept DNS = 10.2.0.1, corp.example",
        "6 kept MTU = 1380",
        "7 narrowed ListenPort = 51820",
        "8 refused Table = off",
        "9 refused FwMark = 0x1234",
        "10 refused SaveConfig = true",
        "11 refused PreUp = touch /tmp/ran",
        "12 refused PostUp = iptables -I OUTPUT ! -o %i -j REJECT # not ours",
        "13 refused #! PostDown = touch /tmp/ran",
        "14 refused PreDown = echo (hidden)",
        "17 kept PublicKey = (hidden)",
        "18 kept PresharedKey = (hidden)",
        "19 kept AllowedIPs = 0.0.0.0/1, 128.0.0.0/1",
        "20 kept Endpoint = 203.0.113.2:51820",
        "21 kept PersistentKeepalive = 25",
    ]
    assert all(line.why for line in imported.lines if line.fate is not Fate.KEPT)
    assert not any(secret in repr(imported.lines) for secret in SECRETS)
    assert imported.notes == (
        "the tunnel carries no IPv6; the rest stays blocked (AllowedIPs = ::/0 sends all of it through)",
    )


def test_what_is_written_keeps_lines_and_comments() -> None:
    """One kind of line end, no mark, an end to the last line; what is refused is a comment at its place."""
    written = wgquick.convert(PROVIDER, spec_of(PROVIDER)).text.split("\n")

    assert written[:2] == ['# Provider "NL-FREE#1", Amsterdam', "[INTERFACE]"]
    assert written[3] == "Address = 10.2.0.2/24, fd00::2/128   # yours"
    assert written[11] == "# refused by aovpnctl import: PostUp = iptables -I OUTPUT ! -o %i -j REJECT # not ours"
    assert written[12] == "# refused by aovpnctl import: #! PostDown = touch /tmp/ran"
    assert written[-2:] == ["PersistentKeepalive = 25", ""]


@pytest.mark.parametrize("text", [PROVIDER, SMALLEST, FULLEST])
def test_what_is_written_means_the_same(text: str) -> None:
    """And nothing is left to complain about; importing it again changes nothing."""
    spec = spec_of(text)
    imported = wgquick.convert(text, spec)

    assert tunnels.parse(imported.text, "office", "office.conf") == (spec, [])
    assert wgquick.convert(imported.text, spec).text == imported.text


_BLANK: Final = st.sampled_from(["", " ", "\t", " # a comment", "  # PostUp = no"])
_END: Final = st.sampled_from(["\n", "\r\n"])
_EXTRA: Final = st.sampled_from(
    [
        "",
        "# comment",
        "#! PostUp = x",
        "PostUp = a, b # c",
        "posTdown=",
        "PreUp == ]",
        "TABLE = auto",
        "SaveConfig = true",
    ]
)
_SPELLING: Final = st.tuples(st.sampled_from([str.upper, str.lower, str.title]), _BLANK, _END)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(_SPELLING, min_size=8, max_size=8),
    st.lists(_EXTRA, unique=True),
    st.sampled_from(["", "\ufeff"]),
    st.booleans(),
)
def test_any_spelling_means_the_same(
    spellings: list[tuple[Callable[[str], str], str, str]], extra: list[str], mark: str, ended: bool
) -> None:
    """Comments, commands, blanks, line ends and case change nothing of what the tunnel is."""
    text = mark
    for line, (spell, blank, end) in zip(SMALLEST.rstrip("\n").split("\n"), spellings, strict=True):
        key, equals, value = line.partition("=")
        text += f"{spell(key)}{equals}{value}{blank}{end}"
        if key == "Address ":
            text += "".join(f"{more}{end}" for more in extra)
    text = text if ended else text.rstrip("\r\n")

    assert spec_of(text) == spec_of(SMALLEST)
    imported = wgquick.convert(text, spec_of(text))
    assert tunnels.parse(imported.text, "office", "office.conf") == (spec_of(SMALLEST), [])


def test_address_is_narrowed_where_nothing_carries_its_prefix() -> None:
    """wg-quick would route the prefix into the tunnel; here AllowedIPs alone says what goes there."""
    text = SMALLEST.replace("10.0.0.2", "10.0.0.2/24, fd00::2/64").replace("0.0.0.0/0", "192.168.7.0/24, 10.0.0.0/25")
    (line,) = (line for line in wgquick.convert(text, spec_of(text)).lines if line.key == "Address")

    assert line.fate is Fate.NARROWED
    assert line.why == "10.0.0.0/24, fd00::/64 is in no AllowedIPs: nothing but the address itself is used"


def test_several_peers_and_a_narrow_tunnel_are_said() -> None:
    """What the tunnel does not carry stays blocked: somebody should know before."""
    text = SMALLEST.replace("0.0.0.0/0", "10.0.0.0/8") + f"[Peer]\nPublicKey = {SECOND}\nAllowedIPs = fd00::/8, ::/0\n"

    assert wgquick.convert(text, spec_of(text)).notes == (
        (
            "the tunnel carries of IPv4 nothing but 10.0.0.0/8; the rest stays blocked "
            "(AllowedIPs = 0.0.0.0/0 sends all of it through)"
        ),
        "it has 2 peers; each carries what its AllowedIPs say",
    )


def test_gateway_that_is_found_by_name_is_said() -> None:
    """It works, and costs a look-up that others can see."""
    text = SMALLEST.replace("192.0.2.1:", "vpn.example.net:").replace("0.0.0.0/0", "0.0.0.0/0, ::/0")

    assert wgquick.convert(text, spec_of(text)).notes == (
        "the network sees that vpn.example.net is looked up, by aovpnd alone; an address needs no look-up",
    )


def test_line_says_what_became_of_it() -> None:
    """In one line."""
    line = wgquick.convert(PROVIDER, spec_of(PROVIDER)).lines[4]

    assert str(line) == (
        "7: narrowed: ListenPort = 51820 (packets leave from it, but nobody can begin a conversation from outside)"
    )


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("wg0", "wg0"),
        ("NL-FREE#1 (Amsterdam)", "NL-FREE-1-Amsterdam"),
        ("_büro_", "b-ro"),
        ("a" * 40, "a" * 32),
        ("../..", ""),
        ("日本", ""),
    ],
)
def test_name_is_made_valid(stem: str, name: str) -> None:
    """What cannot be in a name becomes a hyphen."""
    assert wgquick.name_of(stem) == name


# -- the command -------------------------------------------------------------------------------------------------------
@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty configuration, and no daemon."""
    monkeypatch.setenv("AOVPND_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / "nl free.conf").write_text(PROVIDER, encoding="utf-8", newline="")
    before = os.umask(0)
    yield tmp_path
    os.umask(before)


def importing(where: Path, *words: str, source: str = "nl free.conf") -> int:
    """Run the command."""
    file = source if source == "-" or source.startswith("/") else str(where / source)
    return main(["import", file, "--config-dir", str(where / "etc"), *words])


def written(where: Path) -> list[str]:
    """The files in the directory of tunnels."""
    directory = where / "etc" / "tunnels"
    return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []


def test_file_is_roots_alone(where: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Mode 0600 in a directory that nobody else may enter, whatever the umask; the report on stdout shows no key."""
    assert importing(where) == 0
    file = where / "etc" / "tunnels" / "nl-free.conf"
    out, err = capsys.readouterr()

    assert written(where) == ["nl-free.conf"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    spec, findings = tunnels.read(file, where)
    assert spec is not None
    assert findings == []
    assert (out.splitlines()[0], err) == (f"nl-free: {file}", "")
    assert "  line  3  kept      PrivateKey = (hidden)" in out
    assert "  line 11  refused   PreUp = touch /tmp/ran" in out
    assert out.splitlines()[-1].startswith("The daemon is not running; it reads the tunnel when it starts")
    assert not any(secret in out for secret in SECRETS)
    assert not Path("/tmp/ran").exists()  # noqa: S108 - what the commands of the file would have made


def test_daemon_is_asked_to_read_it(where: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After it was written; what comes next is said."""
    (where / "run").mkdir(mode=0o755)
    with fake_daemon(where / "run") as daemon:
        assert importing(where, "--name", "office", "--json") == 0
        document = json.loads(capsys.readouterr().out)
        assert daemon.asked == [Reload()]
        assert document["text"] == "The daemon has read it. To connect by it: aovpnctl connect office"
        assert (document["ok"], document["written"], document["reloaded"]) == (True, True, True)
        assert document["lines"][0] == {"line": 3, "key": "PrivateKey", "value": "(hidden)", "fate": "kept", "why": ""}
        daemon.answer = SystemFault("no", hint="why")
        assert importing(where, "--name", "other") == 1
        assert "The tunnel is written, but the daemon did not read it: no (why)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("enabled", "starts", "told", "status"),
    [
        (0, 0, "The daemon has started, and reads it: nothing leaves outside the tunnel any more.", 0),
        (0, 1, "The tunnel is written, but the daemon does not start: no (journalctl -u aovpnd)", 1),
        (1, 0, "The daemon is not running; it reads the tunnel when it starts: systemctl start aovpnd", 0),
    ],
)
def test_the_installed_daemon_is_started(
    where: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    enabled: int,
    starts: int,
    told: str,
    status: int,
) -> None:
    """By the first tunnel, where it boots with the machine; not where an administrator has disabled it."""
    systemctl = where / "systemctl"
    lines = f"#!/bin/sh\n[ $1 = start ] || exit {enabled}\necho no >&2\nexit {starts}\n"
    systemctl.write_text(lines, encoding="utf-8")
    systemctl.chmod(0o755)
    monkeypatch.setattr(starting, "SYSTEMCTL", str(systemctl))
    monkeypatch.setattr(starting, "SYSTEMD", str(where))
    monkeypatch.setattr(names, "CONFIG_DIR", str(where / "etc"))
    monkeypatch.setattr(names, "RUNTIME_DIR", str(where / "run"))

    assert importing(where) == status
    assert capsys.readouterr().out.splitlines()[-1] == told


def test_nothing_is_replaced_unasked(where: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a file nor a link that leads anywhere; with --replace the link itself is replaced, never what it leads
    to.
    """
    assert importing(where) == 0
    first = (where / "etc" / "tunnels" / "nl-free.conf").stat().st_ino
    capsys.readouterr()
    assert importing(where) == 1
    assert "there is a tunnel nl-free already" in capsys.readouterr().err
    assert (where / "etc" / "tunnels" / "nl-free.conf").stat().st_ino == first
    assert importing(where, "--replace") == 0

    victim = where / "victim"
    victim.write_text("mine")
    for target in (victim, where / "nowhere"):
        link = where / "etc" / "tunnels" / f"{target.name}.conf"
        link.symlink_to(target)
        assert importing(where, "--name", target.name) == 1
        assert importing(where, "--name", target.name, "--replace") == 0
        assert not link.is_symlink()
    assert victim.read_text() == "mine"
    assert written(where) == ["nl-free.conf", "nowhere.conf", "victim.conf"]


def test_partial_file_is_never_seen(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails midway leaves nothing, not even a hidden piece, and what was there stays."""
    assert importing(where) == 0
    before = (where / "etc" / "tunnels" / "nl-free.conf").read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert importing(where, "--replace") == 1
    assert importing(where, "--name", "new") == 1
    assert written(where) == ["nl-free.conf"]
    assert (where / "etc" / "tunnels" / "nl-free.conf").read_bytes() == before


def test_directory_that_others_can_change_is_refused(where: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever can change it could exchange the tunnel; a link in its place is not followed."""
    directory = where / "etc" / "tunnels"
    directory.mkdir(parents=True)
    directory.chmod(0o777)
    assert importing(where) == 1
    assert "can be changed by others" in capsys.readouterr().err
    directory.rmdir()
    directory.symlink_to(where)
    assert importing(where) == 1
    assert sorted(path.name for path in where.iterdir()) == ["etc", "nl free.conf"]


def test_dry_run_writes_nothing(where: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same report, and nothing else."""
    assert importing(where, "--dry-run") == 0
    assert capsys.readouterr().out.endswith("nothing was written\n")
    assert importing(where, "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["written"] is False
    assert not (where / "etc").exists()


def test_no_tunnel_is_refused_as_a_whole(where: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every fault with its line, in words and for programs; nothing is written."""
    (where / "bad.conf").write_text("[Interface]\nPrivateKey = secret\nAdress = 10.0.0.2\n")

    assert importing(where, source="bad.conf") == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"aovpnctl: {where / 'bad.conf'}:3: 'Adress' is no key of [Interface]")
    assert lines[-1] == "aovpnctl: nothing was written"
    assert importing(where, "--json", source="bad.conf") == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], document["code"]) == (False, "config-invalid")
    assert document["findings"][0]["line"] == 3
    assert written(where) == []


def test_what_is_no_plain_file_is_refused(where: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a pipe that would be waited for, nor a device, a directory, or something huge."""
    os.mkfifo(where / "pipe.conf")
    (where / "huge.conf").write_bytes(b"#" * 300_000)
    (where / "utf16.conf").write_text(SMALLEST, encoding="utf-16")
    said = {}
    for source in ("pipe.conf", "/dev/zero", "gone.conf", "huge.conf", "utf16.conf", "etc"):
        (where / "etc").mkdir(exist_ok=True)
        assert importing(where, "--name", "x", source=source) == 1
        said[source] = capsys.readouterr().err.splitlines()[0]

    assert "is not a regular file" in said["pipe.conf"]
    assert "is not a regular file" in said["/dev/zero"]
    assert "is not a regular file" in said["etc"]
    assert "cannot be read: No such file or directory" in said["gone.conf"]
    assert "is too large" in said["huge.conf"]
    assert "is not UTF-8 text" in said["utf16.conf"]
    assert written(where) == []


def test_standard_input(where: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It has no name, so one must be given."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SMALLEST.encode())))
    assert importing(where, source="-") == 2
    assert "what shall the tunnel be called? (--name NAME)" in capsys.readouterr().err
    assert importing(where, "--name", "piped", source="-") == 0
    assert written(where) == ["piped.conf"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["import"], "import which file?"),
        (["import", "x.conf", "--name", "../x"], "--name: '../x' cannot be the name of a tunnel"),
        (["import", "日本.conf"], "what shall the tunnel be called?"),
        (["export"], "export which tunnel?"),
        (["export", "../x"], "export which tunnel?"),
    ],
)
def test_wrong_usage(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2."""
    assert main(words) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("step", ["mkdir", "open"])
def test_who_may_not_write_is_told(
    where: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], step: str
) -> None:
    """With what to do."""
    real = os.open

    def refused(path: object, flags: int, mode: int = 0o777, **more: int) -> int:
        if isinstance(path, str) and path.startswith("."):
            raise PermissionError(13, "Permission denied")
        return real(str(path), flags, mode, **more)

    def no_directory(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    if step == "mkdir":
        monkeypatch.setattr(Path, "mkdir", no_directory)
    else:
        monkeypatch.setattr(os, "open", refused)
    assert importing(where) == 1
    assert "only root may import tunnels (try sudo)" in capsys.readouterr().err


# -- out again ---------------------------------------------------------------------------------------------------------
def test_export_gives_the_file_back(
    where: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Keys and all; on a terminal with a warning, which goes elsewhere."""
    assert importing(where) == 0
    file = where / "etc" / "tunnels" / "nl-free.conf"
    capsys.readouterr()
    words = ["export", "nl-free", "--config-dir", str(where / "etc")]

    assert main(words) == 0
    assert capsys.readouterr() == (file.read_text(), "")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(words) == 0
    assert "what follows holds the keys of nl-free" in capsys.readouterr().err
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == file.read_text()
    assert main(["export", "gone", "--config-dir", str(where / "etc")]) == 1
    assert "there is no tunnel called gone" in capsys.readouterr().err


def test_export_of_an_ike_tunnel(
    where: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its file as it is, broken or not; it holds no key, so there is nothing to warn of."""
    file = where / "etc" / "tunnels" / "office.toml"
    file.parent.mkdir(parents=True)
    file.write_text("[ike]\n")
    file.chmod(0o644)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    assert main(["export", "office", "--config-dir", str(where / "etc")]) == 0
    assert capsys.readouterr() == ("[ike]\n", "")


# -- settings ----------------------------------------------------------------------------------------------------------
def test_policy_shows_values_and_where_they_come_from(where: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Built-in, from a file, and locked by a policy."""
    etc = where / "etc"
    (etc / "policy.d").mkdir(parents=True, mode=0o755)
    for file, text in (
        ("aovpnd.toml", "[lan]\nallow = true\n"),
        ("policy.d/corp.toml", "[temporary_access]\nmax = 60\n"),
    ):
        (etc / file).write_text(text)
        (etc / file).chmod(0o644)
    words = ["policy", "--config-dir", str(etc), "--state-dir", str(where / "state")]

    assert main(words) == 0
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == "SETTING VALUE FROM"
    assert f"temporary_access.max 60 {etc}/policy.d/corp.toml:2 locked: a policy says so" in rows
    assert f"lan.allow true {etc}/aovpnd.toml:2" in rows
    assert "temporary_access.per_hour 3 built-in" in rows
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is True
    assert {"key": "lan.allow", "value": "true", "file": f"{etc}/aovpnd.toml", "line": 2, "locked": False} in (
        document["settings"]
    )

    (etc / "aovpnd.toml").write_text("[lan]\nalow = true\n")
    assert main(words) == 1
    assert "'lan.alow' is no setting" in capsys.readouterr().err

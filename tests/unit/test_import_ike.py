# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl import`` of a tunnel of IKE: which files come with it, where they go, and which are not believed."""

import base64
import json
import os
import stat
from pathlib import Path
from typing import Final

import pytest

from aovpnd import config, names
from tests.unit import test_import
from tests.unit.ike_files import CERT, EAP, PASSWORD, PSK, SECRET, contents, lay
from tests.unit.test_encrypting import Machine, machine
from tests.unit.test_import import where

__all__ = ["machine", "where"]
NAMED: Final = ("ca.crt", "laptop.crt", "laptop.key")


def importing(where: Path, text: str, *words: str) -> int:
    """Hand over a tunnel with all that it could name beside it, and import it."""
    home = where / "from"
    if not home.exists():
        lay(home)
    (home / "office.toml").write_text(text, encoding="utf-8")
    return test_import.importing(where, *words, source="from/office.toml")


def keys(where: Path) -> dict[str, bytes]:
    """What there is in our directory of keys."""
    return {path.name: path.read_bytes() for path in (where / "etc/keys").glob("*")}


def test_all_that_it_names_comes_with_it(where: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing else; its own file is what it was. Root's alone, in directories of root's; no secret is shown."""
    assert importing(where, CERT) == 0
    shown = capsys.readouterr().out

    assert keys(where) == {name: contents()[name] for name in NAMED}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (where / "etc/keys").iterdir()} == {0o600}
    assert (where / "etc/tunnels/office.toml").read_text() == CERT
    assert shown.splitlines()[:4] == [
        f"office: {where / 'etc/tunnels/office.toml'}",
        "  keys/ca.crt      certificates",
        "  keys/laptop.crt  certificates",
        "  keys/laptop.key  secret",
    ]
    assert "PRIVATE KEY" not in shown
    found = config.load(where / "etc", where / "state", where / "vendor")
    assert [spec.name for spec in found.tunnels] == ["office"]
    assert found.problems == ()


def test_nothing_of_anybodys_is_replaced(where: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files that are there as they should be stay, of another tunnel's say; others only give way where that was asked
    for, and without it nothing at all is written.
    """
    assert importing(where, CERT) == 0
    before = (where / "etc/keys/ca.crt").stat().st_ino
    assert importing(where, EAP, "--name", "other") == 0
    assert (where / "etc/keys/ca.crt").stat().st_ino == before

    (where / "etc/keys/pw").write_text("another\n")
    (where / "etc/keys/laptop.crt").unlink()
    both = EAP.replace("[ike.server]", '[[ike.auth]]\nmethod = "psk"\nsecret_file = "keys/psk"\n[ike.server]')
    capsys.readouterr()
    assert importing(where, both, "--name", "third") == 1
    assert "there is another file pw already" in capsys.readouterr().err
    assert not (where / "etc/keys/psk").exists()
    assert not (where / "etc/tunnels/third.toml").exists()
    assert importing(where, EAP, "--name", "third", "--replace") == 0
    assert keys(where)["pw"] == f"{PASSWORD}\n".encode()

    assert importing(where, CERT) == 1
    assert "there is a tunnel office already" in capsys.readouterr().err
    assert not (where / "etc/keys/laptop.crt").exists()
    assert test_import.importing(where, "--name", "office") == 1
    assert "there is a tunnel office of another kind" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("keys/none", "there is no such file"),
        ("keys/away", "there is no such file"),
        ("keys/../psk", "is no file that comes with the tunnel"),
        ("keys/.hidden", "is no file that comes with the tunnel"),
        ("psk", "is no file that comes with the tunnel"),
        ("policy.d/psk", "is no file that comes with the tunnel"),
        ("keys/pipe", "is not a regular file"),
        ("keys/wide", "is too large"),
        ("keys/twice", "is a file that has another name elsewhere"),
        ("/etc/aovpnd/keys/psk", "is no file that comes with the tunnel"),
    ],
)
def test_what_is_not_believed(where: Path, capsys: pytest.CaptureFixture[str], path: str, told: str) -> None:
    """A file that is elsewhere, a link to a secret of this machine's, or what never ends: nothing is written, and the
    path, which may be the secret itself, is not shown.
    """
    home = lay(where / "from")
    (where / "secret").write_text(SECRET)
    (home / "keys/away").symlink_to(where / "secret")
    (home / "keys/wide").write_text("x" * 70000)
    os.mkfifo(home / "keys/pipe")
    (home / "keys/twice").hardlink_to(where / "secret")
    for name in ("psk", "keys/.hidden"):
        (home / name).write_text(SECRET)

    assert importing(where, PSK.replace("keys/psk", path)) == 1
    said = capsys.readouterr().err
    assert f"5: ike.auth.secret_file: {told}" in said
    assert f"'{path}'" not in said
    assert not (where / "etc").exists()


def test_a_directory_that_is_a_link(where: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not followed either."""
    home = where / "from"
    home.mkdir()
    (home / "keys").symlink_to(lay(where / "elsewhere") / "keys")

    assert importing(where, PSK) == 1
    assert "there is no such file" in capsys.readouterr().err


def test_dry_run(where: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Says the same, and writes nothing; what is weak is said as well."""
    weak = PSK.replace("[[ike", 'proposals = ["3des-sha1-modp1024"]\n[[ike')
    assert importing(where, weak, "--dry-run", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["files"] == [{"file": "keys/psk", "secret": True}]
    assert (document["written"], document["encrypted"], document["lines"]) == (False, False, [])
    assert any("weak" in note for note in document["notes"])
    assert not (where / "etc").exists()


def test_secrets_that_systemd_keeps(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """Each secret is a link to what is decrypted for the daemon alone; what is public stays a file, and so does the
    tunnel. What stood there in clear gives way to it unasked, since it is the same.
    """
    root = machine.root
    assert importing(root, CERT) == 0
    machine.told()
    assert importing(root, CERT, "--encrypt", "--name", "other") == 0

    link = root / "etc/keys/laptop.key"
    assert link.readlink() == Path(names.CREDENTIALS_DIR) / "keys@laptop.key"
    assert not (root / "etc/keys/ca.crt").is_symlink()
    assert not (root / "etc/tunnels/other.toml").is_symlink()
    unit = root / "units/aovpnd.service.d/credential-keys@laptop.key.conf"
    kept = root / "store/aovpnd.keys@laptop.key"
    assert unit.read_text().splitlines()[1:] == ["[Service]", f"LoadCredentialEncrypted=keys@laptop.key:{kept}"]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert machine.told() == [
        "systemd-creds encrypt --name=keys@laptop.key - -",
        "daemon-reload",
        f"is-enabled --quiet {names.UNIT}",
        f"restart {names.UNIT}",
    ]
    note = f"still stand beside {root / 'from/office.toml'}: when the tunnel works, shred -u keys/laptop.key"
    assert note in capsys.readouterr().out
    assert b"PRIVATE" not in kept.read_bytes()

    assert importing(root, CERT, "--encrypt", "--replace") == 0
    machine.told()
    assert importing(root, CERT, "--replace") == 0
    assert machine.told()[0] == "daemon-reload"
    assert link.read_bytes() == contents()["laptop.key"]
    assert not kept.exists()
    assert not unit.exists()


def test_what_is_there_already(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """The same secret in clear is made what it shall be, whoever could read it and whatever was left of another time.
    A link of an administrator's own is no credential, and a pipe is not waited for.
    """
    root, key = machine.root, machine.root / "etc/keys/laptop.key"
    left = root / "units/aovpnd.service.d/credential-keys@laptop.key.conf"
    assert importing(root, CERT) == 0
    key.chmod(0o644)
    left.parent.mkdir(parents=True)
    left.touch()
    assert importing(root, CERT, "--name", "other") == 0
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert not left.exists()

    key.rename(key.with_name("2026.key"))
    key.symlink_to("2026.key")
    assert importing(root, CERT, "--encrypt", "--name", "third") == 1
    assert "there is another file laptop.key already" in capsys.readouterr().err
    assert importing(root, CERT, "--encrypt", "--name", "third", "--replace") == 0
    assert key.readlink() == Path(names.CREDENTIALS_DIR) / "keys@laptop.key"
    key.unlink()
    os.mkfifo(key)
    assert importing(root, CERT, "--name", "fourth", "--dry-run") == 1
    assert "there is another file laptop.key already" in capsys.readouterr().err


def test_as_long_as_it_is_decrypted(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that is encrypted already serves a second tunnel as it is; asked for, it is encrypted anew."""
    root = machine.root
    monkeypatch.setattr(names, "CREDENTIALS_DIR", str(root / "decrypted"))
    assert importing(root, PSK, "--encrypt") == 0
    (root / "decrypted").mkdir()
    (root / "decrypted/keys@psk").write_bytes(contents()["psk"])
    kept = root / "store/aovpnd.keys@psk"
    machine.told()

    assert importing(root, PSK, "--name", "other") == 0
    assert (root / "etc/keys/psk").is_symlink()
    assert kept.exists()
    assert not any("creds" in told for told in machine.told())
    assert importing(root, PSK, "--name", "third", "--encrypt") == 0
    assert any("creds" in told for told in machine.told())


def test_nothing_is_written_before_all_is_encrypted(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever lacks the key of a machine finds it as it was; what fails later says what it leaves."""
    root = machine.root
    (root / "no-key").touch()
    assert importing(root, CERT, "--encrypt") == 1
    assert "systemd-creds cannot encrypt it" in capsys.readouterr().err
    assert (keys(root), list((root / "etc/tunnels").iterdir())) == ({}, [])

    (root / "no-key").unlink()
    (root / "store").touch()
    assert importing(root, CERT, "--encrypt") == 1
    assert "the tunnel's own is not: import it again with --replace" in capsys.readouterr().err


def test_another_daemons_secrets_are_not_forgotten(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor encrypted: those directories are not what systemd's daemon reads."""
    root = machine.root
    assert importing(root, PSK, "--encrypt") == 0
    assert test_import.importing(root, "--encrypt") == 0
    before = sorted(path.name for path in (root / "store").iterdir())
    scratch = ("--config-dir", str(root / "scratch"))
    assert importing(root, PSK, *scratch) == 0
    assert test_import.importing(root, *scratch) == 0
    assert sorted(path.name for path in (root / "store").iterdir()) == before
    capsys.readouterr()
    assert importing(root, EAP, "--replace", *scratch) == 0
    assert str(root / "store") not in capsys.readouterr().out
    assert importing(root, PSK, "--replace", "--encrypt", *scratch) == 1


def test_what_no_tunnel_names_any_more(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """Is said when its tunnel is replaced, with all that there is of it; not of what another tunnel names."""
    root = machine.root
    assert importing(root, EAP, "--name", "other") == 0
    assert importing(root, CERT, "--encrypt") == 0
    capsys.readouterr()
    assert importing(root, PSK, "--replace", "--json") == 0
    left = [root / "etc/keys/laptop.crt", root / "etc/keys/laptop.key", root / "store/aovpnd.keys@laptop.key"]
    left.append(root / "units/aovpnd.service.d/credential-keys@laptop.key.conf")
    (note,) = json.loads(capsys.readouterr().out)["notes"]
    assert sorted(note.split(": rm ")[1].split()) == sorted(map(str, left))


def test_a_key_among_certificates(machine: Machine) -> None:
    """Is a secret, wherever it stands."""
    root = machine.root
    home = lay(root / "from")
    both = home / "keys/laptop.crt"
    both.write_bytes(contents()["laptop.crt"] + contents()["laptop.key"])
    assert importing(root, CERT, "--encrypt") == 0
    assert (root / "etc/keys/laptop.crt").is_symlink()


def test_an_ike_file_by_another_name(where: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Is told to be one."""
    (where / "office.conf").write_text(PSK)
    assert test_import.importing(where, source="office.conf") == 1
    assert "this is the file of a tunnel of IKE (import it as a file NAME.toml" in capsys.readouterr().err


def test_a_container_of_bytes(machine: Machine) -> None:
    """What is no text is encrypted as it is."""
    text = CERT.replace(
        'certificate = "keys/laptop.crt"\nkey = "keys/laptop.key"',
        'pkcs12 = "keys/laptop.p12"\npassword_file = "keys/pw"',
    )
    creds = machine.root / "systemd-creds"
    creds.write_text("#!/bin/sh\nexec base64 -w0\n")
    assert importing(machine.root, text, "--encrypt") == 0
    kept = (machine.root / "store/aovpnd.keys@laptop.p12").read_text()
    assert base64.b64decode(kept) == contents()["laptop.p12"]

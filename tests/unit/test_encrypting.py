# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl import --encrypt``: what is written where, in which order, and what is taken away again. That systemd does
decrypt it is shown by containers and by a virtual machine with a TPM.
"""

import json
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest

from aovpnd import names
from aovpnd.ctl import encrypting, starting
from tests.unit.test_config_tunnels import SECRETS
from tests.unit.test_import import importing, where, written

__all__ = ["where"]
_CREDS = """#!/bin/sh
echo "systemd-creds $*" >>"${0%/*}/told"
[ ! -e "${0%/*}/no-key" ] || { echo "no key" >&2; exit 1; }
rev
"""
_SYSTEMCTL = """#!/bin/sh
echo "$*" >>"${0%/*}/told"
[ ! -e "${0%/*}/no-$1" ] || { echo "it will not" >&2; exit 1; }
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """A systemd that encrypts by writing lines backwards, and its directories below ``root``."""

    root: Path

    @property
    def link(self) -> Path:
        """The tunnel."""
        return self.root / "etc/tunnels/nl-free.conf"

    @property
    def kept(self) -> Path:
        """The encrypted file."""
        return self.root / "store/aovpnd.nl-free.conf"

    @property
    def drop_in(self) -> Path:
        """What names it."""
        return self.root / "units/aovpnd.service.d/credential-nl-free.conf"

    def told(self) -> list[str]:
        """What programs were told since the last question."""
        file = self.root / "told"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines


@pytest.fixture
def machine(where: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Nothing is imported yet."""
    creds, systemctl = where / "systemd-creds", where / "systemctl"
    for program, text in ((creds, _CREDS), (systemctl, _SYSTEMCTL)):
        program.write_text(text)
        program.chmod(0o755)
    for module, name, value in (
        (starting, "SYSTEMCTL", systemctl),
        (starting, "SYSTEMD", where),
        (encrypting, "SYSTEMD_CREDS", creds),
        (encrypting, "SYSTEMD", where),
        (encrypting, "STORE", where / "store"),
        (encrypting, "DROP_INS", where / "units/aovpnd.service.d"),
        (names, "CONFIG_DIR", where / "etc"),
        (names, "RUNTIME_DIR", where / "run"),
    ):
        monkeypatch.setattr(module, name, str(value))
    monkeypatch.setattr(starting, "forewarn_start", lambda: None)
    return Machine(where)


def test_what_is_written(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """A link in the place of the tunnel, the encrypted file, and a drop-in that names it; then systemd reads its units,
    and the daemon is started anew. No key is in clear, nor in an argument.
    """
    assert importing(machine.root, "--encrypt") == 0

    assert machine.link.readlink() == Path(names.CREDENTIALS_DIR) / "nl-free.conf"
    assert stat.S_IMODE(machine.kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(machine.drop_in.stat().st_mode) == 0o644
    assert machine.drop_in.read_text().splitlines()[1:] == [
        "[Service]",
        f"LoadCredentialEncrypted=nl-free.conf:{machine.kept}",
    ]
    assert "".join(reversed(machine.kept.read_text().splitlines()[1])) == "[INTERFACE]"
    told = machine.told()
    assert told == [
        "systemd-creds encrypt --name=nl-free.conf - -",
        "daemon-reload",
        f"is-enabled --quiet {names.UNIT}",
        f"restart {names.UNIT}",
    ]
    shown = capsys.readouterr().out
    assert shown.splitlines()[-2:] == [
        f"Note: in clear it still stands in {machine.root / 'nl free.conf'}: when the tunnel works, shred -u that",
        "The daemon has started, and reads it: nothing leaves outside the tunnel any more.",
    ]
    files = [path.read_text() for path in machine.root.rglob("*") if path.is_file() and path.name != "nl free.conf"]
    assert not any(secret in text for secret in SECRETS for text in (shown, *told, *files))


def test_the_machines_key_has_gone(machine: Machine) -> None:
    """Encrypted anew by one command, and in clear by another, after which nothing of it is left."""
    assert importing(machine.root, "--encrypt", "--dry-run") == 0
    assert machine.told() == []
    assert importing(machine.root, "--encrypt") == 0
    machine.kept.write_text("what no key fits any more\n")
    assert importing(machine.root, "--encrypt", "--replace") == 0
    assert "what no key fits" not in machine.kept.read_text()
    machine.told()

    assert importing(machine.root, "--replace") == 0
    assert machine.told() == ["daemon-reload", f"is-enabled --quiet {names.UNIT}", f"start {names.UNIT}"]
    assert not machine.link.is_symlink()
    assert "[INTERFACE]" in machine.link.read_text()
    assert not machine.kept.exists()
    assert not machine.drop_in.exists()

    assert importing(machine.root, "--replace") == 0
    assert "daemon-reload" not in machine.told()


def test_nothing_is_overwritten_unasked(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a tunnel nor what is encrypted of it."""
    for first in ((), ("--encrypt",)):
        assert importing(machine.root, "--replace", *first) == 0
        before = {path: path.read_bytes() for path in (machine.kept, machine.drop_in) if path.exists()}
        machine.told()
        assert importing(machine.root, "--encrypt") == 1
        assert "there is a tunnel nl-free already" in capsys.readouterr().err
        assert machine.told() == []
        assert {path: path.read_bytes() for path in (machine.kept, machine.drop_in) if path.exists()} == before


def test_who_cannot_encrypt(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A systemd that has no key, that is older than this, or that is not there: nothing is written."""
    (machine.root / "no-key").touch()
    assert importing(machine.root, "--encrypt") == 1
    assert "systemd-creds cannot encrypt it: no key (systemd-creds setup" in capsys.readouterr().err
    (machine.root / "systemd-creds").chmod(0o644)
    assert importing(machine.root, "--encrypt", "--json") == 1
    assert json.loads(capsys.readouterr().out)["code"] == "not-encrypted"
    for name in ("SYSTEMD_CREDS", "SYSTEMD"):
        monkeypatch.setattr(encrypting, name, str(machine.root / "gone"))
        assert importing(machine.root, "--encrypt", "--json") == 1
        assert json.loads(capsys.readouterr().out)["code"] == "not-here"
    assert written(machine.root) == []
    assert not machine.drop_in.exists()


@pytest.mark.parametrize(
    ("fails", "told"),
    [
        ("daemon-reload", "systemd does not read its unit again: it will not (systemctl daemon-reload)"),
        ("restart", "The tunnel is written, but the daemon does not start: it will not (journalctl -u aovpnd)"),
        ("is-enabled", "The daemon reads the tunnel when it starts: systemctl restart aovpnd"),
    ],
)
def test_systemd_will_not(machine: Machine, capsys: pytest.CaptureFixture[str], fails: str, told: str) -> None:
    """What is left to do is said; the tunnel is there, and blocks at boot."""
    (machine.root / f"no-{fails}").touch()
    assert importing(machine.root, "--encrypt") == (0 if fails == "is-enabled" else 1)
    assert told in "".join(capsys.readouterr())
    assert machine.link.is_symlink()


def test_who_is_not_root(machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """He is told so, before anything is encrypted; for programs too."""

    def denied(*_words: object, **_more: object) -> None:
        raise PermissionError(13, "Permission denied")

    assert importing(machine.root, "--json") == 0
    assert json.loads(capsys.readouterr().out)["encrypted"] is False
    machine.told()
    monkeypatch.setattr(Path, "mkdir", denied)
    assert importing(machine.root, "--encrypt", "--replace") == 1
    assert "only root may import tunnels (try sudo)" in capsys.readouterr().err
    assert machine.told() == []


def test_disk_is_full(machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The daemon's unit never names what is not there whole."""

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert importing(machine.root, "--encrypt") == 1
    assert f"{machine.kept}: No space left on device" in capsys.readouterr().err
    assert not machine.drop_in.exists()
    assert written(machine.root) == []

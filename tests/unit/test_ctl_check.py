# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl check``: what configuration management gets to see."""

import json
from pathlib import Path

import pytest

from aovpnd.ctl.__main__ import main


@pytest.fixture
def where(tmp_path: Path) -> list[str]:
    """Options that lead to an empty configuration."""
    (tmp_path / "etc").mkdir()
    return ["--config-dir", str(tmp_path / "etc"), "--state-dir", str(tmp_path / "state")]


def test_good_configuration(where: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 0, and it says so; an empty one is good."""
    assert main(["check", *where]) == 0
    assert capsys.readouterr().out == "the configuration is in order\n"
    assert main(["check", "--json", *where]) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "findings": []}


def test_error_names_file_line_key(where: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1 and one line that says where, what, and what to do; the same in pieces for programs."""
    file = tmp_path / "etc" / "aovpnd.toml"
    file.write_text("[temporary_access]\nper_hour = 'often'\n")
    file.chmod(0o644)

    for words in (["check", *where], ["check", str(file)]):
        assert main(words) == 1
        out, err = capsys.readouterr()
        assert out.startswith(f"{file}:2: temporary_access.per_hour: ")
        assert (out.count("\n"), err) == (1, "")
        assert main([*words, "--json"]) == 1
        (finding,) = json.loads(capsys.readouterr().out)["findings"]
        assert (finding["file"], finding["line"], finding["key"]) == (str(file), 2, "temporary_access.per_hour")
        assert set(finding) == {"file", "line", "key", "severity", "code", "text", "hint"}


def test_warning_is_no_error(where: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is understood and not honoured is said on stderr; the daemon can use the file."""
    tunnels = tmp_path / "etc" / "tunnels"
    tunnels.mkdir()
    file = tunnels / "home.conf"
    key = "aK8FWhiV1CtKFbKUPssL13P+Tv+c5owmYcU5PCP6yFw="
    file.touch(mode=0o600)
    file.write_text(
        f"[Interface]\nPrivateKey = {key}\nAddress = 10.0.0.2/32\nPostUp = reboot\n"
        f"[Peer]\nPublicKey = {key}\nEndpoint = 203.0.113.1:51820\nAllowedIPs = 0.0.0.0/0\n"
    )

    assert main(["check", *where]) == 0
    out, err = capsys.readouterr()
    assert out == "the configuration is in order\n"
    assert err.startswith(f"warning: {file}:4: PostUp ")
    assert err.count("\n") == 1
    assert key not in out + err

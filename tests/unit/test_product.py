# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests install is what there is to install."""

from pathlib import Path

from aovpnd import names
from tests.lab.product import CHECKOUT, debian_packages, installed, shipped
from tests.lab.tree import Directory, Symlink, text, unpack


def test_every_file_has_a_place() -> None:
    """Nothing lies in systemd/ or etc/ that a package, and so a booted machine, would not have."""
    files = {
        str(path.relative_to(CHECKOUT))
        for directory in ("systemd", "etc")
        for path in (CHECKOUT / directory).rglob("*")
        if path.is_file()
    }

    assert files - shipped() == set()


def test_programs_are_where_the_units_look() -> None:
    """ExecStart= of every unit of ours that starts a program of ours names one that is installed."""
    tree = installed()
    started = {
        line.partition("=")[2].split()[0]
        for path in (CHECKOUT / "systemd").glob("*.service")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("ExecStart=") and "aovpn" in line.split()[0]
    }

    assert started - set(tree) == set()
    assert "/usr/bin/aovpnctl" in tree


def test_enabled_unit() -> None:
    """An enabled unit is linked where its [Install] section says."""
    link = f"/etc/systemd/system/multi-user.target.wants/{names.UNIT}"

    assert installed([names.UNIT])[link] == Symlink(f"/usr/lib/systemd/system/{names.UNIT}")
    assert link not in installed()


def test_packages_of_the_product() -> None:
    """The first part of tools/packages.txt, and nothing of the later ones."""
    packages = debian_packages()

    assert {"python3", "python3-nftables", "wireguard-tools"} <= set(packages)
    assert not {"mmdebstrap", "tshark", "python3-venv"} & set(packages)


def test_unpack(tmp_path: Path) -> None:
    """Files, links and directories appear with their modes."""
    unpack({"/etc/a/b": text("x\n", 0o600), "/etc/c": Directory(0o700), "/etc/l": Symlink("a/b")}, tmp_path)

    assert (tmp_path / "etc/l").read_text(encoding="utf-8") == "x\n"
    assert (tmp_path / "etc/a/b").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "etc/c").stat().st_mode & 0o777 == 0o700

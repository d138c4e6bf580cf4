# SPDX-License-Identifier: GPL-3.0-or-later
"""The Debian package as a file; tests/container/test_package.py installs it."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from aovpnd import names
from tests.lab.product import CARRIED, CHECKOUT, debian_packages, installed
from tests.lab.tree import File
from tools.deb import SCRIPTS, build, contents, control, dependencies

VERSION: Final = "1.2.3-4"
TEXTS: Final = {name: (CHECKOUT / "tools/debian" / name).read_text(encoding="utf-8") for name in SCRIPTS}


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no Debian")
def test_the_same_tree_gives_the_same_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte by byte; everything in it is root's, and the tunnels' directory is nobody else's."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    path = build(tmp_path, VERSION)
    first = path.read_bytes()
    assert build(tmp_path, VERSION).read_bytes() == first
    listing = subprocess.run(["dpkg-deb", "--contents", path], check=True, capture_output=True, text=True).stdout
    entries = {line.split()[5]: line.split()[:2] for line in listing.splitlines()}

    assert path.name == "aovpnd_1.2.3-4_all.deb"
    assert {owner for _, owner in entries.values()} == {"root/root"}
    assert entries["./etc/aovpnd/tunnels/"][0] == "drwx------"
    assert {mode for mode, _ in entries.values()} == {"drwx------", "drwxr-xr-x", "-rw-r--r--", "-rwxr-xr-x"}
    assert {"." + name for name, entry in installed().items() if isinstance(entry, File)} <= set(entries)


def test_control() -> None:
    """Every dependency of the product is there, wireguard-go as a recommendation; nothing of /etc is the package's."""
    files = contents(VERSION)
    made = control(files, VERSION)
    entry = made["/DEBIAN/control"]
    assert isinstance(entry, File)
    fields = dict(re.findall(r"(?m)^([\w-]+): (.*)$", entry.data.decode()))

    assert (fields["Package"], fields["Version"], fields["Architecture"]) == ("aovpnd", VERSION, "all")
    assert fields["Recommends"] == "wireguard-go, udev"
    assert fields["Suggests"].split(", ")[0] == "charon-systemd"
    assert {f"/usr/share/doc/aovpnd/{name}.LICENSE" for name in CARRIED} <= set(files)
    assert set(debian_packages()) - {word.split()[0] for word in dependencies()} == {"wireguard-go"}
    assert "python3 (>= 3.11), python3 (<< 3.14)" in fields["Depends"]
    assert [name for name, entry in files.items() if name.startswith("/etc") and isinstance(entry, File)] == []
    assert "/DEBIAN/conffiles" not in made


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_posix(name: str) -> None:
    """They end at the first failure, and a POSIX shell can read them."""
    assert "\nset -e\n" in TEXTS[name]
    subprocess.run(["sh", "-n", CHECKOUT / "tools/debian" / name], check=True)


def test_scripts_know_our_names() -> None:
    """What a purge removes by name and number is what the product has made."""
    mark = f"not fwmark {names.FWMARK:#x}/{names.FWMARK_MASK:#x}"
    wanted = (
        f"'inet {names.TABLE}' 'netdev {names.EARLY_TABLE}'",
        f"'{mark}'",
        f"pref {names.RULE_PRIORITY} $mark lookup {names.ROUTE_TABLE}",
        f"pref {names.SHUT_PRIORITY} $mark type unreachable",
        f"in {names.LOOK_PRIORITY} {names.NO_LOOK_PRIORITY} {names.CHARON_PRIORITY - 1};",
        f"fwmark \\({names.FWMARK >> 24:#x}[",
        f"route flush table {names.ROUTE_TABLE}",
        f"rm -rf {names.CONFIG_DIR} {names.STATE_DIR} /var/lib/aovpnd-bus {names.RUNTIME_DIR}",
        names.GUARD_UNIT,
    )

    assert [text for text in wanted if text not in TEXTS["postrm"]] == []
    assert f"/sys/class/net/{names.LINK_PREFIX}[0-9]*" in TEXTS["prerm"]


def test_the_way_out_knows_our_names() -> None:
    """aovpnd-rescue has no module to read them from."""
    text = (CHECKOUT / "systemd/aovpnd-rescue").read_text(encoding="utf-8")
    wanted = (
        f"'inet {names.TABLE}'",
        f"'netdev {names.EARLY_TABLE}'",
        f"'inet {names.GUARD_TABLE}' 'netdev {names.GUARD_TABLE}' 'inet {names.COPY_TABLE}'",
        f"'netdev {names.COPY_TABLE}'",
        f"mark='not fwmark {names.FWMARK:#x}/{names.FWMARK_MASK:#x}'",
        f"pref {names.RULE_PRIORITY} $mark lookup {names.ROUTE_TABLE}",
        f"pref {names.SHUT_PRIORITY} $mark type unreachable",
        f"in {names.LOOK_PRIORITY} {names.NO_LOOK_PRIORITY} {names.CHARON_PRIORITY - 1};",
        f"fwmark \\({names.FWMARK >> 24:#x}[",
        f"route flush table {names.ROUTE_TABLE}",
        f">{names.CONFIG_DIR}/{names.UNBLOCKED_MARKER}",
        f"{names.RUNTIME_DIR}/{names.DAEMON_LOCK_FILE}",
        f"{names.RUNTIME_DIR}/{names.GUARD_LOCK_FILE}",
        f"kept={names.STATE_DIR}/{names.RESOLV_CONF_SAVED}",
    )

    assert [words for words in wanted if words not in text] == []
    subprocess.run(["sh", "-n", CHECKOUT / "systemd/aovpnd-rescue"], check=True)


def test_every_upgrade_is_tried() -> None:
    """The version that runs keeps itself before the next one's files come; a removal ends a trial; a purge leaves
    nothing of it; and no postinst waits for ever, which would keep dpkg locked.
    """
    program = "/usr/lib/aovpnd/aovpnd-rollback"
    text = (CHECKOUT / "systemd/aovpnd-rollback").read_text(encoding="utf-8")
    places = [re.search(rf"(?m)^{name}=(\S+)", text) for name in ("kept", "pin")]

    assert program in installed()
    assert TEXTS["prerm"].index(f"{program} keep") < TEXTS["prerm"].index("py3clean")
    assert f"{program} end" in TEXTS["prerm"]
    assert f"rm -rf {' '.join(found[1] for found in places if found)}\n" in TEXTS["postrm"]
    assert (
        TEXTS["postinst"].count("deb-systemd-invoke") == TEXTS["postinst"].count("timeout 60 deb-systemd-invoke") == 2
    )


def test_only_a_purge_opens() -> None:
    """No other script deletes a table, takes a route away, or makes the marker; postrm does nothing before it knows."""
    opens = re.compile(r"delete table|flush|rule delete|stop aovpnd-guard|unblocked")
    before, purge, _ = TEXTS["postrm"].partition('[ "$1" = purge ] || exit 0')

    assert purge
    assert opens.findall(before) == []
    assert opens.findall(TEXTS["postinst"]) == []

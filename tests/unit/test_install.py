# SPDX-License-Identifier: GPL-3.0-or-later
"""``make install`` puts there what the package does, where it belongs; `tests/container/test_install.py` runs it."""

import os
import re
import stat
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

import pytest

from aovpnd import __version__, names
from tests.lab.product import CARRIED, CHECKOUT
from tests.lab.tree import Directory, Entry, File
from tools import install as installing
from tools.deb import contents as of_the_package
from tools.install import LIST, UNITS, InstallError, Place, contents, install, main, modules_of

DEBIANS_OWN: Final = {
    "/usr/share/lintian/overrides/aovpnd",
    *(f"/usr/share/doc/aovpnd/{name}" for name in ("copyright", "changelog.gz", "changelog.Debian.gz")),
}
USR: Final = Place("", "/usr", "/usr/lib/python3/dist-packages")
PROFILES: Final = f"{names.VENDOR_DIR}/apparmor/aovpnd"
LOCAL: Final = Place("", "/usr/local", "/usr/local/lib/python3.13/site-packages")


def test_same_files_as_the_package() -> None:
    """With PREFIX=/usr the same files with the same contents, but for what is Debian's alone, and the licence."""
    package, ours = of_the_package("1.2.3-4"), contents(USR)

    assert set(package) - set(ours) == DEBIANS_OWN
    assert set(ours) - set(package) == {"/usr/share/doc/aovpnd/LICENSE"}
    assert {path for path in set(package) & set(ours) if package[path] != ours[path]} == set()


def test_prefix_moves_what_the_system_does_not_read_itself() -> None:
    """Programs, modules, manual and documents; units and AppArmor's profiles name the programs where they are, and
    nothing else differs.
    """
    at_usr, local = contents(USR), contents(LOCAL)
    moved = set(local) - set(at_usr)

    assert {path.rpartition("/")[0] for path in moved if "/lib/" not in path} == {
        *(f"/usr/local/{place}" for place in ("bin", "sbin", "share/doc/aovpnd")),
        *(f"/usr/local/share/man/man{section}" for section in (5, 8)),
    }
    assert all(path.startswith(f"{LOCAL.modules}/") for path in moved if "/lib/" in path)
    assert len(local) == len(at_usr)
    changed = {path for path in set(local) & set(at_usr) if local[path] != at_usr[path]}
    assert changed == {
        PROFILES,
        *(
            f"/usr/lib/systemd/system/{unit}.service"
            for unit in ("aovpnd", "aovpnd-bus", "aovpnd-clock", "aovpnd-guard", "aovpnd-wait-online")
        ),
    }
    variables = [line for line in _data(local[PROFILES]).decode().splitlines() if line.startswith("@{")]
    assert variables == ["@{aovpnd_sbin}=/usr/local/sbin", f"@{{aovpnd_modules}}={LOCAL.modules}"]
    programs = {path for path in local if path.startswith(("/usr/local/bin/", "/usr/local/sbin/"))}
    started = {word for path in changed for word in _data(local[path]).decode().split() if "/aovpn" in word}
    assert {word.partition("=")[2] for word in started if word.startswith("ExecStart=")} <= programs
    assert not any(b"/usr/sbin/aovpn" in _data(entry) for path, entry in local.items() if path in changed)


def _data(entry: Entry) -> bytes:
    assert isinstance(entry, File)
    return entry.data


@pytest.mark.parametrize(
    ("prefix", "looked_for", "modules"),
    [
        ("/usr", ["/usr/local/lib/python3.11/dist-packages", "/usr/lib/python3/dist-packages"], USR.modules),
        ("/usr/local/", ["/usr/local/lib64/python3.13/x", f"{LOCAL.modules}", "/usr/lib/python3.13/x"], LOCAL.modules),
    ],
)
def test_where_modules_go(prefix: str, looked_for: list[str], modules: str) -> None:
    """Where the system's Python looks below the prefix, in the directory that is of no architecture."""
    assert modules_of(prefix, looked_for) == modules


def test_python_that_does_not_look_there() -> None:
    """It is said, with what to do: modules that nobody finds are worse than none."""
    with pytest.raises(InstallError, match=r"looks for no modules below /usr/local \(PREFIX=/usr"):
        modules_of("/usr/local", ["/usr/lib/python3.12/site-packages"])


def test_destdir(tmp_path: Path) -> None:
    """Files are put below it with the modes of the package, whatever the umask, and nothing is done besides; so also
    once more, over what is there.
    """
    place = Place(str(tmp_path), "/usr", USR.modules)
    before = os.umask(0o077)
    try:
        install(place)
        install(place)
    finally:
        os.umask(before)
    wanted = contents(place)
    found = {f"/{path.relative_to(tmp_path)}" for path in tmp_path.rglob("*") if path.is_file()}

    assert found == {path for path, entry in wanted.items() if isinstance(entry, File)}
    for path, entry in wanted.items():
        assert isinstance(entry, File | Directory)
        assert stat.S_IMODE(place.at(path).stat().st_mode) == entry.mode, path
    assert stat.S_IMODE((tmp_path / "usr/lib/systemd").stat().st_mode) == 0o755
    assert not place.at(LIST).exists(), "a list is for uninstall, of this machine alone"


def test_by_make(tmp_path: Path) -> None:
    """The target passes on what it is given."""
    words = (f"DESTDIR={tmp_path}", "PREFIX=/opt/x", "PYTHONDIR=/opt/x/modules")
    subprocess.run(["make", "--silent", "install", *words], check=True, cwd=CHECKOUT)

    assert (tmp_path / "opt/x/sbin/aovpnd").is_file()
    assert (tmp_path / "opt/x/modules/aovpnd/names.py").is_file()
    assert (tmp_path / "usr/lib/systemd/system/aovpnd.service").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["uninstall", "--destdir", "/x"], "uninstall is for this machine"),
        (["uninstall"], "nothing was installed here by make install"),
        (["install", "--destdir", "x"], "x is no absolute path"),
        (["install", "--prefix", "/usr", "--modules", "/usr/lib/x"], "only root installs on this machine"),
    ],
)
def test_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a line, with exit status 1."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert main(words) == 1
    assert said in capsys.readouterr().err


def test_starts_what_the_package_starts() -> None:
    """The same units are enabled, and the same steps taken, as after an installation of the package."""
    postinst = (CHECKOUT / "tools/debian/postinst").read_text(encoding="utf-8")
    ours = Path(installing.__file__).read_text(encoding="utf-8")
    steps = (
        "systemd-sysusers",
        "systemd-tmpfiles",
        "daemon-reload",
        "--update-catalog",
        "systemd-modules-load",
        "systemd-sysctl",
        "ReloadConfig",
        "nothing is blocked yet. The block begins with the first tunnel: sudo aovpnctl import FILE",
    )

    assert f"for unit in {' '.join(UNITS)}; do" in postinst
    assert [step for step in steps if step not in postinst or step not in ours] == []
    assert names.GUARD_UNIT in postinst


# -- the RPM -----------------------------------------------------------------------------------------------------------
SPEC: Final = (CHECKOUT / "tools/rpm/aovpnd.spec").read_text(encoding="utf-8")
MACROS: Final = {
    "%{_prefix}": "/usr",
    "%{_bindir}": "/usr/bin",
    "%{_datadir}": "/usr/share",
    "%{_mandir}": "/usr/share/man",
    "%{_docdir}": "/usr/share/doc",
    "%{python3_sitelib}": USR.modules,
}


def test_rpm_has_every_file() -> None:
    """What its list of files says matches each of ours, and each of its lines something."""
    listed = SPEC.partition("\n%files\n")[2].partition("\n\n")[0]
    for macro, place in MACROS.items():
        listed = listed.replace(macro, place)
    patterns = [line.split()[-1] for line in listed.splitlines()]
    patterns = [f"{pattern}*" if pattern.endswith("/") else pattern for pattern in patterns]
    ours = [*contents(USR), "/etc/aovpnd"]

    assert "%" not in "".join(patterns)
    assert [path for path in ours if not any(fnmatch(path, pattern) for pattern in patterns)] == []
    assert [pattern for pattern in patterns if not any(fnmatch(path, pattern) for path in ours)] == []
    assert "%dir %attr(0700, root, root) /etc/aovpnd/tunnels\n" in SPEC


def test_rpm_is_of_this_tree() -> None:
    """Its version, its units, and the versions of the libraries that it carries."""
    locked = (CHECKOUT / "requirements/dev.txt").read_text(encoding="utf-8")

    assert f"\nVersion:        {__version__}\n" in SPEC
    assert f"%global units {' '.join(UNITS)}\n" in SPEC
    for name in CARRIED:
        (version,) = re.findall(rf"bundled\(python3dist\({name}\)\) = (\S+)", SPEC)
        assert f"\n{name}=={version} " in locked
        assert f"{name}-{version}-py3-none-any.whl" in SPEC


def test_rpm_removal_knows_when_the_machine_is_blocked() -> None:
    """By the same words as the Debian package's script."""
    prerm = (CHECKOUT / "tools/debian/prerm").read_text(encoding="utf-8")
    for words in (
        "-e /etc/aovpnd/unblocked ]",
        "$(ls -A /etc/aovpnd/tunnels 2>/dev/null)",
        "nft list table inet aovpnd",
    ):
        assert words in prerm
        assert words in SPEC

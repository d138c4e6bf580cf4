# SPDX-License-Identifier: GPL-3.0-or-later
"""``make install`` and ``make uninstall``: the files of the package, for systems that have no package of it.

PREFIX (default /usr/local) is where programs, Python modules, manual and documents go. What the system itself reads
(units, udev's rule, D-Bus, polkit, sysctl.d and their like, and what early boot loads) has one place each, below /usr.
With DESTDIR files are only put below it, for whoever makes a package; without, the units are enabled as Debian's
package has them: nothing is blocked before the first tunnel. /etc holds nothing of ours but the tunnels' directory.
"""

import argparse
import compileall
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never

from aovpnd import names
from tests.lab.product import CARRIED, CHECKOUT
from tests.lab.tree import Directory, Entry, File, Symlink, copied, text
from tools.files import DOC, NAME, everything

UNITS: Final = ("aovpnd-lockdown.service", names.UNIT, names.BUS_UNIT)
"""What starts with the machine; the guard comes with the daemon."""
LIST: Final = f"{names.VENDOR_DIR}/installed"
"""The files that ``make install`` has put on this machine, one path to a line."""
PYTHON: Final = "/usr/bin/python3"
"""Who runs the programs: their first line names it."""
_MOVED: Final = ("/usr/bin/", "/usr/sbin/", "/usr/share/man/", "/usr/share/doc/")
"""What PREFIX moves."""
_MODULES: Final = "/usr/lib/python3/dist-packages/"
_UNIT_FILES: Final = "/usr/lib/systemd/system/"
_PROFILES: Final = f"{names.VENDOR_DIR}/apparmor/aovpnd"
_PROGRAMS: Final = ("/usr/sbin/aovpnd", "/usr/bin/aovpnctl")
"""How units begin the commands of ours."""
_SYSTEMD: Final = Path("/run/systemd/system")
_KEPT: Final = "/etc/aovpnd/removed"
"""What a package that was removed from a blocked machine has left behind, so that it stays blocked."""


class InstallError(Exception):
    """Nothing was done; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where it goes. ``destdir`` "" is this machine."""

    destdir: str
    prefix: str
    modules: str
    """The directory of Python modules, as PYTHON looks there."""

    def at(self, path: str) -> Path:
        """Where a file of the target is on this machine."""
        return Path(self.destdir + path)


def main(arguments: list[str]) -> int:
    """Install or uninstall; exit status 1, and why, when that cannot be."""
    parser = argparse.ArgumentParser(prog="make install", description="install aovpnd without a package")
    parser.add_argument("verb", choices=("install", "uninstall"))
    parser.add_argument("--destdir", default="", metavar="DIR", help="only put the files below DIR")
    parser.add_argument("--prefix", default="/usr/local", metavar="DIR", help="of programs, modules and documents")
    parser.add_argument("--modules", default="", metavar="DIR", help=f"of Python modules (default: as {PYTHON} looks)")
    options = parser.parse_args(arguments)
    try:
        if options.verb == "uninstall":
            uninstall(options.destdir)
        else:
            modules = options.modules or modules_of(options.prefix, _looks_for_modules())
            install(Place(options.destdir.rstrip("/"), options.prefix.rstrip("/"), modules.rstrip("/")))
    except (InstallError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def install(place: Place) -> None:
    """Put all files there, whole each; what an earlier installation had besides goes."""
    for directory in (place.destdir or "/", place.prefix, place.modules):
        if not directory.startswith("/"):
            raise InstallError(f"{directory} is no absolute path")
    if not place.destdir:
        _require_root()
        _require_no_package()
    tree = contents(place)
    new = [unit for unit in UNITS if not place.at(_UNIT_FILES + unit).exists()]
    before = _listed(place)
    _unpack(tree, place)
    if place.destdir:
        return
    for path in sorted(before - set(tree)):
        _remove(place.at(path))
    _replace(place.at(LIST), text("".join(f"{path}\n" for path in sorted(tree))))
    _activate(place, new)


def contents(place: Place) -> dict[str, Entry]:
    """Every file by its path in the target; what mentions another one's place says where that is here."""
    tree = {**everything(), f"{DOC}/LICENSE": copied(CHECKOUT / "LICENSE", 0o644)}
    return {_moved(path, place): _rewritten(path, entry, place) for path, entry in tree.items()}


def _moved(path: str, place: Place) -> str:
    if path.startswith(_MODULES):
        return f"{place.modules}/{path.removeprefix(_MODULES)}"
    return place.prefix + path.removeprefix("/usr") if path.startswith(_MOVED) else path


def _rewritten(path: str, entry: Entry, place: Place) -> Entry:
    if not isinstance(entry, File):
        return entry
    data = entry.data
    if path == _PROFILES:
        data = data.replace(b"=/usr/sbin\n", f"={place.prefix}/sbin\n".encode())
        data = data.replace(f"={_MODULES.rstrip('/')}\n".encode(), f"={place.modules}\n".encode())
    if not path.startswith(_UNIT_FILES):
        return File(data, entry.mode)
    for program in _PROGRAMS:
        data = data.replace(b"=" + program.encode(), b"=" + (place.prefix + program.removeprefix("/usr")).encode())
    return File(data, entry.mode)


def modules_of(prefix: str, looked_for: Iterable[str]) -> str:
    """The first directory of Python modules below a prefix that is of no architecture."""
    found = (path for path in looked_for if path.startswith(f"{prefix.rstrip('/')}/lib/"))
    modules = next(found, None)
    if modules is None:
        raise InstallError(f"{PYTHON} looks for no modules below {prefix} (PREFIX=/usr, or PYTHONDIR=DIR says where)")
    return modules


def _looks_for_modules() -> list[str]:
    script = "import site; print(*site.getsitepackages(), sep='\\n')"
    found = subprocess.run([PYTHON, "-I", "-c", script], capture_output=True, text=True, check=True)
    return found.stdout.splitlines()


# -- files ------------------------------------------------------------------------------------------------------------
def _unpack(tree: Mapping[str, Entry], place: Place) -> None:
    before = os.umask(0o022)
    try:
        for path, entry in sorted(tree.items()):
            there = place.at(path)
            match entry:
                case Directory(mode):
                    there.mkdir(parents=True, exist_ok=True)
                    there.chmod(mode)
                case File() as file:
                    _replace(there, file)
                case Symlink():
                    raise InstallError(f"{path}: there are no links among our files")
                case _:
                    assert_never(entry)
    finally:
        os.umask(before)


def _replace(path: Path, file: File) -> None:
    """Write a file beside its place, and move it there: who runs the old one goes on with it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(file.data)
    new.chmod(file.mode)
    new.replace(path)


def _remove(path: Path) -> None:
    """A file, and the directories that it leaves empty, where they are ours alone."""
    path.unlink(missing_ok=True)
    for directory in path.parents:
        if not {NAME, *CARRIED} & set(directory.parts) and directory.suffix != ".d":
            return
        shutil.rmtree(directory / "__pycache__", ignore_errors=True)
        try:
            directory.rmdir()
        except OSError:  # somebody else's files are in it, or more of ours
            return


def _listed(place: Place) -> set[str]:
    """What an earlier ``make install`` has put there."""
    try:
        return set(place.at(LIST).read_text(encoding="utf-8").splitlines())
    except FileNotFoundError:
        return set()


# -- this machine -----------------------------------------------------------------------------------------------------
def _require_root() -> None:
    if os.geteuid() != 0:
        raise InstallError("only root installs on this machine (sudo make install, or DESTDIR=DIR)")


def _require_no_package() -> None:
    """Two owners of one file would each undo what the other does."""
    for question, remedy in (
        (("dpkg-query", "-W", "-f", "${db:Status-Status}", NAME), "apt"),
        (("rpm", "-q", NAME), "dnf"),
    ):
        if shutil.which(question[0]) is None:
            continue
        found = subprocess.run(question, capture_output=True, text=True, check=False)
        if found.returncode == 0 and found.stdout not in {"config-files", "not-installed"}:
            raise InstallError(f"the package {NAME} is installed (its upgrades are {remedy}'s)")


def _activate(place: Place, new: Iterable[str]) -> None:
    """As the package's postinst. Nothing here opens the network, so that any of it may fail."""
    _forget_removal()
    for package in (NAME, *CARRIED):
        compileall.compile_dir(place.modules + f"/{package}", quiet=2)
    _try("systemd-sysusers", "/usr/lib/sysusers.d/aovpnd.conf")
    _try("systemd-tmpfiles", "--create", "/usr/lib/tmpfiles.d/aovpnd.conf")
    for unit in new:  # afterwards as the administrator has it
        _try("systemctl", "enable", "--quiet", unit)
    if _SYSTEMD.is_dir():
        _try("systemctl", "daemon-reload")
        _try("journalctl", "--update-catalog")
        _try("/usr/lib/systemd/systemd-modules-load", "aovpnd.conf")
        _try("/usr/lib/systemd/systemd-sysctl", "50-aovpnd.conf")
        _try("udevadm", "control", "--reload")
        # The bus knows users by name, and has read the policy before there was the user.
        _try("busctl", "--quiet", "call", *("org.freedesktop.DBus", "/", "org.freedesktop.DBus", "ReloadConfig"))
        _try("systemctl", "try-reload-or-restart", "aovpnd-apparmor.service")
        # One after the other: the daemon holds a copy of the guard's tables while that is being replaced.
        _try("systemctl", "restart", names.GUARD_UNIT)
        _try("systemctl", "restart", names.UNIT, names.BUS_UNIT)
    if not any(Path(names.CONFIG_DIR, names.TUNNELS).iterdir()):
        print("aovpnd: nothing is blocked yet. The block begins with the first tunnel: sudo aovpnctl import FILE")


def _forget_removal() -> None:
    """What a package's removal left to keep the machine blocked: this is the whole thing again."""
    listed = Path(_KEPT, "files")
    for kept in listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else ():
        _remove(Path(kept))
    shutil.rmtree(_KEPT, ignore_errors=True)


def _try(*command: str) -> None:
    """Run one of the system's programs; where it is missing or fails, say so and go on."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return
    if done.returncode != 0:
        print(f"{' '.join(command)}: {done.stderr.strip() or f'exit status {done.returncode}'}", file=sys.stderr)


# -- the way back -----------------------------------------------------------------------------------------------------
def uninstall(destdir: str) -> None:
    """Take away what ``make install`` has put on this machine; the tunnels and their keys stay. Opens nothing: a
    machine that is blocked is refused.
    """
    if destdir:
        raise InstallError("uninstall is for this machine; what lies below DESTDIR is whoever's put it there")
    place = Place("", "", "")
    listed = _listed(place)
    if not listed:
        raise InstallError(f"nothing was installed here by make install (there is no {LIST})")
    _require_root()
    if _is_blocked():
        raise InstallError("this machine is blocked, and would stay so without the way back (sudo aovpnctl unblock)")
    _try("systemctl", "disable", "--quiet", "--now", *UNITS)
    _try("systemctl", "stop", names.GUARD_UNIT, "aovpnd-wireguard-go@*.service", "aovpnd-charon@*.service")
    for path in sorted(listed, reverse=True):
        if path.startswith("/usr/"):
            _remove(Path(path))
    _remove(Path(LIST))
    _try("systemctl", "daemon-reload")
    _try("udevadm", "control", "--reload")
    print(f"aovpnd: removed. The tunnels, keys and all, are still in {names.CONFIG_DIR}/{names.TUNNELS}")


def _is_blocked() -> bool:
    """Whether the block is on, or would be at the next boot."""
    config = Path(names.CONFIG_DIR)
    tunnels = config / names.TUNNELS
    if (config / names.UNBLOCKED_MARKER).exists():
        return False
    if tunnels.is_dir() and any(tunnels.iterdir()):
        return True
    nft = shutil.which("nft", path="/usr/sbin:/usr/bin:/sbin:/bin")
    listing = ("list", "table", "inet", names.TABLE)
    return nft is not None and subprocess.run([nft, *listing], capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

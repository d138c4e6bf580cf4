# SPDX-License-Identifier: GPL-3.0-or-later
"""The product as a package would install it: the checkout's own files, by their places in a machine."""

import configparser
import importlib.util
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from tests.lab.tree import Directory, Entry, Symlink, copied, text

CHECKOUT: Final = Path(__file__).resolve().parents[2]
CARRIED: Final = ("vici", "wgconfig")
"""The libraries that Debian has no package for. They are pure Python."""
_DIST_PACKAGES: Final = "/usr/lib/python3/dist-packages"
_PLACES: Final = (
    ("systemd/*.service", "/usr/lib/systemd/system"),
    ("systemd/*.target", "/usr/lib/systemd/system"),
    ("systemd/*.rules", "/usr/lib/udev/rules.d"),
    ("systemd/*.nft", "/usr/lib/aovpnd"),
    ("etc/apparmor/aovpnd", "/usr/lib/aovpnd/apparmor"),
    ("etc/aovpnd/*.toml", "/usr/lib/aovpnd"),
    ("etc/catalog/*.catalog", "/usr/lib/systemd/catalog"),
    ("etc/dbus-1/system.d/*.conf", "/usr/share/dbus-1/system.d"),
    ("etc/modules-load.d/*.conf", "/usr/lib/modules-load.d"),
    ("etc/polkit-1/actions/*.policy", "/usr/share/polkit-1/actions"),
    ("etc/polkit-1/rules.d/*.rules", "/usr/share/polkit-1/rules.d"),
    ("etc/sysctl.d/*.conf", "/usr/lib/sysctl.d"),
    ("etc/sysusers.d/*.conf", "/usr/lib/sysusers.d"),
    ("etc/tmpfiles.d/*.conf", "/usr/lib/tmpfiles.d"),
)
"""Where a package puts what lies in systemd/ and etc/: what is the vendor's below /usr, so that /etc is the user's."""
NETWORK_MANAGERS: Final = (
    *("NetworkManager", "systemd-networkd", "networking", "ifup@", "dhcpcd", "dhcpcd@", "connman", "iwd"),
    *("wpa_supplicant", "wpa_supplicant@", "wpa_supplicant-nl80211@", "wpa_supplicant-wired@"),
)
"""The services that bring networks up. None starts where the block could not be loaded."""
_DROP_IN: Final = CHECKOUT / "systemd" / "network-manager.conf"
_WITHOUT_PYTHON: Final = {
    CHECKOUT / "systemd" / "aovpnd-rescue": "/usr/sbin",
    CHECKOUT / "systemd" / "aovpnd-rollback": "/usr/lib/aovpnd",
}
"""The programs that are not Python: they are for when there is none, or none that works."""
_USERS_PROGRAMS: Final = frozenset({"aovpnctl"})
"""Programs for everybody: /usr/bin. The others are services: /usr/sbin."""


def installed(enabled: Iterable[str] = ()) -> dict[str, Entry]:
    """Every file of the product; ``enabled`` units start at boot, as their [Install] section says."""
    tree: dict[str, Entry] = {"/etc/aovpnd/tunnels": Directory(0o700)}
    for pattern, place in _PLACES:
        tree |= {f"{place}/{path.name}": copied(path, 0o644) for path in CHECKOUT.glob(pattern)}
    for program, entry_point in _project()["scripts"].items():
        directory = "/usr/bin" if program in _USERS_PROGRAMS else "/usr/sbin"
        tree[f"{directory}/{program}"] = text(_launcher(entry_point.partition(":")[0]), 0o755)
    tree |= {
        f"/usr/lib/systemd/system/{manager}.service.d/aovpnd.conf": copied(_DROP_IN, 0o644)
        for manager in NETWORK_MANAGERS
    }
    tree |= {f"{place}/{path.name}": copied(path, 0o755) for path, place in _WITHOUT_PYTHON.items()}
    for package in (CHECKOUT / "aovpnd", *map(library, CARRIED)):
        tree |= dict(_package(package))
    for unit in enabled:
        tree |= _enabled(unit)
    return tree


def debian_packages(part: str = "the product") -> tuple[str, ...]:
    """The Debian packages of a part of tools/packages.txt, in its order: by default those that the product needs."""
    found: list[str] = []
    lines = iter((CHECKOUT / "tools" / "packages.txt").read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith(f"# {part}"):
            break
    for line in lines:
        if not line:
            break
        found.append(line.split()[0])
    return tuple(found)


def shipped() -> frozenset[str]:
    """The files of systemd/ and etc/ that `installed` has a place for."""
    files = (path for pattern, _ in _PLACES for path in CHECKOUT.glob(pattern))
    return frozenset(str(path.relative_to(CHECKOUT)) for path in (*files, _DROP_IN, *_WITHOUT_PYTHON))


def _project() -> dict[str, Any]:
    """The table [project] of pyproject.toml."""
    with (CHECKOUT / "pyproject.toml").open("rb") as file:
        project: dict[str, Any] = tomllib.load(file)["project"]
    return project


def _launcher(module: str) -> str:
    return f"#!/usr/bin/python3 -I\nimport sys\nfrom {module} import main\nsys.exit(main())\n"


def _package(directory: Path) -> Iterator[tuple[str, Entry]]:
    for path in directory.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield f"{_DIST_PACKAGES}/{directory.name}/{path.relative_to(directory)}", copied(path, 0o644)


def library(name: str) -> Path:
    """Where one of the libraries is that are `CARRIED`."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise FileNotFoundError(f"{name} is not installed (make setup)")
    return Path(found.origin).parent


def _enabled(unit: str) -> dict[str, Entry]:
    """The links that ``systemctl enable`` would make."""
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # unit files know upper case
    parser.read_string((CHECKOUT / "systemd" / unit).read_text(encoding="utf-8"))
    wanted_by = parser["Install"]["WantedBy"].split()
    return {
        f"/etc/systemd/system/{target}.wants/{unit}": Symlink(f"/usr/lib/systemd/system/{unit}") for target in wanted_by
    }

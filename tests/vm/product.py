# SPDX-License-Identifier: GPL-3.0-or-later
"""The product as a package would install it: the checkout's own files, by their places in a machine."""

import configparser
import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from tests.vm.archive import Directory, Entry, Symlink, copied, text

CHECKOUT: Final = Path(__file__).resolve().parents[2]
_DIST_PACKAGES: Final = "/usr/lib/python3/dist-packages"
_PLACES: Final = (
    ("systemd/*.service", "/usr/lib/systemd/system"),
    ("systemd/*.rules", "/usr/lib/udev/rules.d"),
    ("systemd/*.nft", "/usr/lib/aovpnd"),
    ("etc/sysctl.d/*.conf", "/usr/lib/sysctl.d"),
    ("etc/modules-load.d/*.conf", "/usr/lib/modules-load.d"),
    ("etc/aovpnd/*.toml", "/usr/lib/aovpnd"),
)
_PROGRAMS: Final = {
    "/usr/sbin/aovpnd": "aovpnd.__main__",
    "/usr/sbin/aovpnd-guard": "aovpnd.guard.__main__",
    "/usr/bin/aovpnctl": "aovpnd.ctl.__main__",
}


def installed(enabled: Iterable[str] = ()) -> dict[str, Entry]:
    """Every file of the product; ``enabled`` units start at boot, as their [Install] section says."""
    tree: dict[str, Entry] = {"/etc/aovpnd/tunnels": Directory(0o700)}
    for pattern, place in _PLACES:
        tree |= {f"{place}/{path.name}": copied(path, 0o644) for path in CHECKOUT.glob(pattern)}
    tree |= {path: text(_launcher(module), 0o755) for path, module in _PROGRAMS.items()}
    for package in (CHECKOUT / "aovpnd", _wgconfig()):
        tree |= dict(_package(package))
    for unit in enabled:
        tree |= _enabled(unit)
    return tree


def _launcher(module: str) -> str:
    return f"#!/usr/bin/python3 -I\nimport sys\nfrom {module} import main\nsys.exit(main())\n"


def _package(directory: Path) -> Iterator[tuple[str, Entry]]:
    for path in directory.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield f"{_DIST_PACKAGES}/{directory.name}/{path.relative_to(directory)}", copied(path, 0o644)


def _wgconfig() -> Path:
    """Where the one library is that Debian has no package for. It is pure Python."""
    found = importlib.util.find_spec("wgconfig")
    if found is None or found.origin is None:
        raise FileNotFoundError("wgconfig is not installed (make setup)")
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

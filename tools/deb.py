# SPDX-License-Identifier: GPL-3.0-or-later
"""``make deb``: one Debian package for Debian 12 and 13, of whatever architecture, written beside the Makefile.

What goes where, and what it depends on, is said once, in tools/files.py and tools/packages.txt. What happens at
installation and removal is in tools/debian/. The same tree gives the same package, byte by byte, with SOURCE_DATE_EPOCH
set.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

from aovpnd import __version__
from tests.lab.product import CHECKOUT, debian_packages
from tests.lab.tree import Entry, File, Tree, copied, text, unpack
from tools.files import DOC, NAME, everything, packed

REVISION: Final = "1"
MAINTAINER: Final = "The aovpnd authors <aovpnd@users.noreply.invalid>"
SCRIPTS: Final = ("postinst", "prerm", "postrm")
RECOMMENDED: Final = ("wireguard-go",)
"""Of what the product needs, that without which most machines do: Debian's kernels have WireGuard."""
SUGGESTED: Final = (
    *("charon-systemd", "libstrongswan-standard-plugins"),
    *("libcharon-extra-plugins", "libcharon-extauth-plugins"),  # EAP, XAuth, and ESP where the kernel has no XFRM
    "libstrongswan-extra-plugins",  # PKCS#11 and TPM 2.0
)
"""What IKE tunnels need besides; machines with WireGuard alone need none of it."""
BESIDE: Final = ("dbus", "polkitd", "procps", "systemd")
"""What it needs besides, which every checkout's machine has: bus and polkit, the units' programs, the scripts'."""
VERSIONS: Final = {"python3": ("python3 (>= 3.11)", "python3 (<< 3.14)")}
"""As pyproject.toml has it (requires-python)."""
_CONTROL: Final = """Package: {name}
Version: {version}
Architecture: all
Maintainer: {maintainer}
Installed-Size: {kib}
Depends: {depends}
Recommends: {recommends}
Suggests: {suggests}
Section: net
Priority: optional
Description: always-on VPN: nothing leaves the machine outside the tunnel
 The network is shut from the first moment of the boot, and the tunnel, WireGuard
 or IKE, is the one thing that may pass: not at boot, not in a cafe, not when something
 crashes does a packet leave outside it. Captive portals get a window of some
 minutes, which the kernel closes.
 .
 Nothing is blocked before the first tunnel is imported: aovpnctl import FILE.
"""
_CHANGELOG: Final = """{name} ({version}) unstable; urgency=medium

  * What changed is in changelog.gz.

 -- {maintainer}  {date}
"""


def main(arguments: list[str]) -> int:
    """Build it, and print where it is."""
    parser = argparse.ArgumentParser(prog="make deb", description="build the Debian package")
    parser.add_argument("--version", default=f"{__version__}-{REVISION}", help="the package's version")
    parser.add_argument("--output", type=Path, default=CHECKOUT, metavar="DIR", help="where it is written")
    options = parser.parse_args(arguments)
    print(build(options.output, options.version))
    return 0


def build(directory: Path, version: str = f"{__version__}-{REVISION}", instead: Tree = MappingProxyType({})) -> Path:
    """Write the package of a version into a directory, and return its path; an older one there is replaced.

    ``instead``: files that are other ones in this package than in this tree.
    """
    path = directory / f"{NAME}_{version}_all.deb"
    files = {**contents(version), **instead}
    with tempfile.TemporaryDirectory(prefix="aovpnd-deb-") as place:
        root = Path(place) / "root"
        before = os.umask(0o022)  # directories are made on the way
        try:
            unpack({**files, **control(files, version)}, root)
        finally:
            os.umask(before)
        root.chmod(0o755)
        command = ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(root), str(path)]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(_moment())}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return path


def contents(version: str) -> dict[str, Entry]:
    """Every file of the package: the product's, and what Debian wants beside it."""
    date = format_datetime(datetime.fromtimestamp(_moment(), UTC))
    changelog = _CHANGELOG.format(name=NAME, version=version, maintainer=MAINTAINER, date=date)
    return {
        **everything(),
        f"/usr/share/lintian/overrides/{NAME}": copied(CHECKOUT / "tools/debian/overrides", 0o644),
        f"{DOC}/copyright": copied(CHECKOUT / "tools/debian/copyright", 0o644),
        f"{DOC}/changelog.gz": packed((CHECKOUT / "CHANGELOG.md").read_bytes()),
        f"{DOC}/changelog.Debian.gz": packed(changelog.encode()),
    }


def control(files: Mapping[str, Entry], version: str) -> dict[str, Entry]:
    """What dpkg reads: deb-control(5), the checksums, the scripts. No conffiles: nothing of ours lies in /etc."""
    plain = {path: entry for path, entry in files.items() if isinstance(entry, File)}
    sums = "".join(
        f"{hashlib.md5(entry.data, usedforsecurity=False).hexdigest()}  {path.lstrip('/')}\n"
        for path, entry in sorted(plain.items())
    )
    written = _CONTROL.format(
        name=NAME,
        version=version,
        maintainer=MAINTAINER,
        kib=sum(-(-len(entry.data) // 1024) for entry in plain.values()),
        depends=", ".join(dependencies()),
        recommends=", ".join((*RECOMMENDED, "udev")),
        suggests=", ".join(SUGGESTED),
    )
    return {
        "/DEBIAN/control": text(written),
        "/DEBIAN/md5sums": text(sums),
        **{f"/DEBIAN/{name}": copied(CHECKOUT / "tools/debian" / name, 0o755) for name in SCRIPTS},
    }


def dependencies() -> Iterator[str]:
    """What the package depends on, as Depends: has it."""
    for package in debian_packages():
        if package not in RECOMMENDED:
            yield from VERSIONS.get(package, (package,))
    yield from BESIDE


def _moment() -> int:
    """The time that is written into the package, in Unix seconds."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    return int(given) if given else int((CHECKOUT / "CHANGELOG.md").stat().st_mtime)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

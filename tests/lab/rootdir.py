# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian root directories for programs that must not be installed on the host, made once and cached.

Packages like dnsmasq or isc-dhcp-client start services when they are installed, so the lab keeps them in a directory of
their own, made by ``mmdebstrap`` from the host's own apt sources (a local mirror or a proxy is used as it is)::

    from tests.lab.rootdir import rootdir
    path = rootdir("bookworm", ("dnsmasq-base", "isc-dhcp-client"))        # 30 s the first time, then at once

The directory is shared: treat it as read-only, and mount over what you need to change. From a shell, ``python -m
tests.lab.rootdir`` makes the lab's own, ``python -m tests.lab.rootdir SUITE PACKAGE...`` another one; both print its
path.
"""

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

RECIPE: Final = "1"
"""Part of every cache key: raise it when the way a directory is made changes."""
CACHE: Final = Path(os.environ.get("AOVPND_LAB_CACHE", "/var/cache/aovpnd-lab"))
APT_DIR: Final = Path("/etc/apt")
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
LAB_SUITE: Final = "bookworm"
LAB_PACKAGES: Final = (
    *("dnsmasq-base", "iproute2", "isc-dhcp-client", "tayga"),
    *("fail2ban", "firewalld", "iptables", "netavark", "nftables", "ufw"),  # other programs' firewalls
    *("charon-systemd", "libcharon-extauth-plugins", "libcharon-extra-plugins", "libstrongswan-extra-plugins"),  # IKE
    *("libstrongswan-standard-plugins", "strongswan-swanctl", "softhsm2"),
    *("arping", "hping3", "ipv6toolkit", "netsniff-ng", "nmap", "radvd", "tcpreplay", "thc-ipv6"),  # attackers
)
"""What the simulated hosts run from the root directory; everything else they take from the host."""

_APT_OPTIONS: Final = re.compile(r"^(Acquire::(?:http|https|ftp)::.*|Acquire::(?:Check-.*|Retries|ForceIPv[46])) ")
_ONE_LINE: Final = re.compile(
    r"^deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)$"
)


class RootdirError(Exception):
    """The root directory could not be made; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Source:
    """One apt source: where the packages of one suite come from."""

    uri: str
    suite: str
    signed_by: str

    def line(self) -> str:
        """The source in sources.list(5)'s one-line form, main only."""
        keyring = self.signed_by if self.signed_by.startswith("/") else str(KEYRING)
        return f"deb [signed-by={keyring}] {self.uri} {self.suite} main"


def rootdir(suite: str, packages: Iterable[str], *, variant: str = "minbase") -> Path:
    """Return the root directory that holds ``packages`` and what they need; make it when it is not cached.

    ``variant`` is mmdebstrap's: which packages are there besides (minbase: essential and apt; important: a small
    system). Several processes may ask at once: one builds, the others wait. Needs root. Raises RootdirError.
    """
    wanted = tuple(sorted(set(packages)))
    key = hashlib.sha256("\n".join((RECIPE, platform.machine(), variant, suite, *wanted)).encode()).hexdigest()[:12]
    place = CACHE / "roots" / f"{suite}-{key}"
    if place.is_dir():
        return place
    if os.geteuid() != 0:
        raise RootdirError(f"{place} has to be made first (run as root)")
    if shutil.which("mmdebstrap") is None:
        raise RootdirError("mmdebstrap is missing (apt install mmdebstrap, or make setup)")
    place.parent.mkdir(parents=True, exist_ok=True)
    with _locked(place.with_name(f".{place.name}.lock")):
        if not place.is_dir():
            _build(suite, wanted, variant, place)
    return place


def lab_root() -> Path:
    """Return the root directory that the simulated hosts take their services from."""
    return rootdir(LAB_SUITE, LAB_PACKAGES)


def debian_sources(suite: str, apt_dir: Path = APT_DIR) -> tuple[Source, ...]:
    """Return where this host would take the Debian suite ``suite`` from, security and updates included.

    Read from the host's own sources in both formats. A source counts as Debian's when it serves the host's own suites
    (or ``suite``) with a component ``main`` and is signed by Debian's archive keyring or names no keyring. One that
    names the host's release is used for another release of the same mirror. Raises RootdirError when there is none.
    """
    own = _host_codename()
    found: dict[tuple[str, str], Source] = {}
    for source in _all_sources(apt_dir):
        if source.signed_by and "debian-archive" not in source.signed_by:
            continue
        base, dash, pocket = source.suite.partition("-")
        if base in {own, suite} and (not dash or pocket in {"updates", "security"}):
            moved = Source(source.uri, suite + dash + pocket, source.signed_by)
            found.setdefault((moved.uri, moved.suite), moved)
    if not any(source.suite == suite for source in found.values()):
        raise RootdirError(
            f"no apt source for Debian's {suite} (looked into {apt_dir} for {own} and {suite}, component main)"
        )
    return tuple(found.values())


def _host_codename() -> str:
    """VERSION_CODENAME of os-release(5); "stable" where there is none."""
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "stable")


def _all_sources(apt_dir: Path) -> Iterator[Source]:
    """Every enabled binary source with a component main, in sources.list(5)'s two formats."""
    for path in (apt_dir / "sources.list", *sorted((apt_dir / "sources.list.d").glob("*.list"))):
        if not path.is_file():
            continue
        for line in path.read_text(encoding="utf-8").splitlines():
            match = _ONE_LINE.match(line.partition("#")[0].strip())
            if match and "main" in match["components"].split():
                options = dict(word.partition("=")[::2] for word in (match["options"] or "").split())
                yield Source(match["uri"], match["suite"], options.get("signed-by", ""))
    for path in sorted((apt_dir / "sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")):
            yield from _stanza_sources(stanza)


def _stanza_sources(stanza: str) -> Iterator[Source]:
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1] in {" ", "\t"} and name:
            fields[name] += " " + line.strip()
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
    enabled = fields.get("enabled", "yes").lower() not in {"no", "false", "0", "off"}
    if (
        not enabled
        or "deb" not in fields.get("types", "").split()
        or "main" not in fields.get("components", "").split()
    ):
        return
    for uri in fields.get("uris", "").split():
        for suite in fields.get("suites", "").split():
            yield Source(uri, suite, fields.get("signed-by", ""))


def _apt_options() -> list[str]:
    """The host's proxies and download checks, which a mirror behind them needs in the root directory as well."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    return [f"--aptopt={line}" for line in dump.splitlines() if _APT_OPTIONS.match(line)]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(suite: str, packages: tuple[str, ...], variant: str, place: Path) -> None:
    """Make the directory aside and rename it into its place; what an earlier, killed run left is removed."""
    for stale in place.parent.glob(f".{place.name}.new*"):
        shutil.rmtree(stale)
    aside = place.with_name(f".{place.name}.new{os.getpid()}")
    command = [
        "mmdebstrap",
        "--mode=root",
        "--format=directory",
        f"--variant={variant}",
        f"--include={','.join(packages)}",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        '--aptopt=APT::Sandbox::User "root"',
        *_apt_options(),
        suite,
        str(aside),
        "-",
    ]
    lines = "".join(f"{source.line()}\n" for source in debian_sources(suite))
    started = time.monotonic()
    print(
        f"making a Debian {suite} root directory with {', '.join(packages)} (once; under a minute) ...",
        file=sys.stderr,
        flush=True,
    )
    log = place.with_name(f".{place.name}.log")
    with log.open("w", encoding="utf-8") as output:
        done = subprocess.run(command, input=lines, text=True, stdout=output, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:])
        shutil.rmtree(aside, ignore_errors=True)
        raise RootdirError(f"mmdebstrap failed with exit code {done.returncode}; the end of {log}:\n{tail}")
    aside.rename(place)
    print(f"... {place} ({time.monotonic() - started:.0f} s)", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """Make the named root directory, or the lab's, and print its path."""
    try:
        print(rootdir(arguments[0], arguments[1:]) if arguments else lab_root())
    except RootdirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

# SPDX-License-Identifier: GPL-3.0-or-later
"""The packages of the next Debian, for a container of the one before that shall become it. There is no network inside.

Made once per set of packages and cached: apt's lists, and the archives that ``apt full-upgrade`` of the container's
root directory would download. ``python -m tests.lab.release`` makes it and prints where it is.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tests.lab.container import SUITES, Container, image
from tests.lab.rootdir import CACHE, RootdirError, debian_sources
from tests.lab.tree import Tree, text

OLD, NEW = SUITES
RECIPE: Final = "1"
"""Part of the cache key: raise it when the way it is made changes."""
_APT: Final = ("--yes", "--no-install-recommends")


def packages() -> Path:
    """Return the directory with ``lists`` and ``archives``; make it when it is not cached. Raises RootdirError."""
    root = image(OLD)
    key = hashlib.sha256(f"{RECIPE}\n{root.name}\n{_sources()}".encode()).hexdigest()[:12]
    place = CACHE / "releases" / f"{OLD}-{NEW}-{key}"
    if not place.is_dir():
        _download(root, place)
    return place


def _sources() -> str:
    return "".join(f"{source.line()}\n" for source in debian_sources(NEW))


def _download(root: Path, place: Path) -> None:
    aside = place.with_name(f".{place.name}.new{os.getpid()}")
    for directory in ("etc/apt.conf.d", "etc/preferences.d", "lists/partial", "archives/partial"):
        (aside / directory).mkdir(parents=True)
    (aside / "etc/sources.list").write_text(_sources(), encoding="utf-8")
    options = {
        "Dir::Etc": aside / "etc",
        "Dir::State::lists": aside / "lists",
        "Dir::State::status": root / "var/lib/dpkg/status",
        "Dir::State::extended_states": root / "var/lib/apt/extended_states",
        "Dir::Cache::archives": aside / "archives",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    print(f"downloading Debian {NEW}'s packages for the upgrade (once; a minute) ...", file=sys.stderr, flush=True)
    started = time.monotonic()
    for words in (("update",), (*_APT, "--download-only", "full-upgrade")):
        done = subprocess.run([*apt, *words], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            shutil.rmtree(aside)
            raise RootdirError(f"apt-get {' '.join(words)} failed: {done.stderr[-600:]}")
    aside.rename(place)
    print(f"... {place} ({time.monotonic() - started:.0f} s)", file=sys.stderr, flush=True)


def files() -> Tree:
    """What says to a container where its packages come from now."""
    return {"/etc/apt/sources.list": text(_sources()), "/etc/apt/sources.list.d/0000debian.list": text("")}


def provide(system: Container) -> None:
    """Put the packages where a container's apt looks for what it has already."""
    for name, there in (("lists", "/var/lib/apt/lists"), ("archives", "/var/cache/apt/archives")):
        shutil.copytree(packages() / name, system.path(there), dirs_exist_ok=True)


def main() -> int:
    """Make it, and print where it is."""
    try:
        print(packages())
    except RootdirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: GPL-3.0-or-later
"""Two disks for a machine that runs the lab: what the lab needs, made once and cached; and the checkout, for each run.

Both are file systems that ``mke2fs -d`` makes of directories, to be mounted read-only. Python files are compiled by the
machine's own Python, which runs here by its own loader. ``python -m tests.vm.kernels.disks [SUITE...]`` makes images,
the first disk of each suite, and what runs them: it needs a network, which the lab has not.
"""

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.lab.container import program
from tests.lab.product import CARRIED, CHECKOUT, library
from tests.lab.rootdir import CACHE, RootdirError, lab_root, rootdir
from tests.vm import translator
from tests.vm.images import LAB, PACKAGES, SUITES, ImageError, image

RECIPE: Final = "1"
"""Part of the first disk's key: raise it when the way it is made changes."""
LAB_LABEL: Final = "lab"
CHECKOUT_LABEL: Final = "checkout"
ROOTS: Final = "/var/cache/aovpnd-lab/roots"
"""Where the first disk is in the machine: there the lab looks for its root directory."""
TREE: Final = "/srv/aovpnd"
"""Where the second one is, with the virtual environment that a checkout has."""
_MODULES: Final = "modules"
_WANTED: Final = (
    *("execnet", "hypothesis", "iniconfig", "packaging", "pluggy", "pygments", "pytest", "pytest-xdist"),
    *("scapy", "sortedcontainers"),
)
"""Of requirements/dev.txt, what the suites in tests/netns import; beside them those that the product carries."""
_PARTS: Final = ("aovpnd", "etc", "systemd", "tests", "tools")
"""Of the checkout, what those suites read, beside pyproject.toml."""
_PROGRAMS: Final = {
    "aovpnd": "aovpnd.__main__",
    "aovpnctl": "aovpnd.ctl.__main__",
    "aovpnd-guard": "aovpnd.guard.__main__",
    "aovpnd-bus": "aovpnd.bus.__main__",
}
_LOCKED: Final = re.compile(r"^([a-z0-9-]+)==\S+ \\\n(?:    --hash=\S+(?: \\)?\n)+", re.MULTILINE)
_BLOCKS: Final = 4096


def lab_disk(suite: str) -> Path:
    """The cached disk with the lab's root directory and the Python packages of the tests; made when it is not there."""
    locked = _requirements()
    python = _python(machine_root(suite))
    said = f"{RECIPE}\n{lab_root().name}\n{python.name}\n{locked}"
    key = hashlib.sha256(said.encode()).hexdigest()[:12]
    place = CACHE / "machines" / f"lab-{suite}-{key}.raw"
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f".{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            print(f"making the lab's disk for {suite} (once; half a minute) ...", file=sys.stderr, flush=True)
            with _staging(place) as tree:
                # Hard links: 300 MB more of a directory that is only read.
                shutil.copytree(lab_root(), tree / lab_root().name, symlinks=True, copy_function=os.link)
                modules = tree / _MODULES
                _download(modules, python, locked)
                for name in CARRIED:
                    shutil.copytree(library(name), modules / name, ignore=shutil.ignore_patterns("__pycache__"))
                _compile(suite, modules, f"{ROOTS}/{_MODULES}")
                _file_system(tree, place, LAB_LABEL)
    return place


def checkout_disk(suite: str, place: Path) -> Path:
    """Make a disk of this checkout at ``place``, its virtual environment that of a ``suite``'s Python; returns it."""
    with _staging(place) as tree:
        for part in _PARTS:
            shutil.copytree(CHECKOUT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(CHECKOUT / "pyproject.toml", tree)
        python = _python(machine_root(suite))
        programs, packages = tree / ".venv/bin", tree / ".venv/lib" / python.name / "site-packages"
        for directory in (programs, packages):
            directory.mkdir(parents=True)
        (programs / "python3").symlink_to(f"/usr/bin/{python.name}")
        home = "home = /usr/bin\ninclude-system-site-packages = true\n"
        (tree / ".venv/pyvenv.cfg").write_text(f"{home}version = {python.name.removeprefix('python')}\n", "ascii")
        (packages / "lab.pth").write_text(f"{ROOTS}/{_MODULES}\n{TREE}\n", "ascii")
        for name, module in _PROGRAMS.items():
            text = f"#!{TREE}/.venv/bin/python3 -I\nimport sys\nfrom {module} import main\nsys.exit(main())\n"
            (programs / name).write_text(text, "ascii")
            (programs / name).chmod(0o755)
        _compile(suite, tree, TREE)
        _file_system(tree, place, CHECKOUT_LABEL)
    return place


def machine_root(suite: str) -> Path:
    """The root directory that the machine's image was made from."""
    return rootdir(suite, (*PACKAGES, *LAB))


def _python(root: Path) -> Path:
    """The interpreter of a root directory, as python3.11."""
    return (root / "usr/bin" / "python3").resolve()


def _requirements() -> str:
    """The locked versions of `_WANTED`, with their hashes."""
    text = (CHECKOUT / "requirements/dev.txt").read_text(encoding="utf-8")
    return "".join(match[0] for match in _LOCKED.finditer(text) if match[1] in _WANTED)


def _download(to: Path, python: Path, locked: str) -> None:
    """Fetch the packages for the machine's Python."""
    machine = platform.machine()
    platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in (17, 28)]
    words = ["--quiet", "--disable-pip-version-check", "--no-input", "--require-hashes", "--no-deps", "--no-compile"]
    words += ["--only-binary=:all:", f"--python-version={python.name.removeprefix('python')}", *platforms]
    wanted = to.with_name("requirements.txt")
    wanted.write_text(locked, encoding="utf-8")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *words, f"--target={to}", "-r", str(wanted)],
        check=True,
        env={**os.environ, "PIP_ROOT_USER_ACTION": "ignore"},
    )


def _compile(suite: str, directory: Path, there: str) -> None:
    """Compile by the machine's Python what will be in the place ``there``, whatever the times of the files will be."""
    root = machine_root(suite)
    words = ["-m", "compileall", "-qq", "-s", str(directory), "-p", there, "--invalidation-mode", "unchecked-hash"]
    environment = {"PATH": os.environ["PATH"], "PYTHONHOME": str(root / "usr")}
    subprocess.run([*program(root, _python(root).name), *words, str(directory)], env=environment, check=False)


def _file_system(directory: Path, place: Path, label: str) -> None:
    """Make a file system of a directory, with little room besides."""
    files = [path for path in directory.rglob("*") if not path.is_symlink()]
    needed = sum(path.stat().st_size // _BLOCKS + 2 for path in files) * _BLOCKS
    aside = place.with_name(f".{place.name}.new")
    with aside.open("wb") as file:
        file.truncate((needed * 5 // 4 + (16 << 20)) // _BLOCKS * _BLOCKS)
    features = ["-O", "^has_journal", "-m", "0", "-b", str(_BLOCKS), "-N", str(len(files) * 5 // 4 + 4096)]
    words = ["mke2fs", "-q", "-F", "-t", "ext4", "-L", label, *features, "-d", str(directory), str(aside)]
    subprocess.run(words, check=True)
    aside.rename(place)


@contextmanager
def _staging(place: Path) -> Iterator[Path]:
    """An empty directory beside a disk, removed at the end; what a killed run left goes first."""
    directory = place.with_name(f".{place.name}.tree")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def main(arguments: list[str]) -> int:
    """Make what needs a network, and print where it is."""
    try:
        for suite in arguments or SUITES:
            print(image(suite, LAB).disk, lab_disk(suite))
        print(translator.root())
    except (ImageError, RootdirError, OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

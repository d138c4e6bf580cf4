# SPDX-License-Identifier: GPL-3.0-or-later
"""Compiled modules beside those that are laid over a machine, as a package's installation makes them.

A machine that is translated compiles for ten seconds what an installed one finds compiled; neither the daemon nor the
guard may write beside its modules, so each would do so at every start.
"""

import subprocess
import tempfile
from pathlib import Path
from typing import Final

from tests.lab.container import program
from tests.lab.tree import Entry, File, Tree, copied, unpack

_MODULES: Final = "/usr/lib/python3/dist-packages/"
_compiled: Final[dict[tuple[Path, int], dict[str, Entry]]] = {}
"""What this process has compiled, by interpreter and sources."""


def compiled(root: Path, tree: Tree) -> dict[str, Entry]:
    """Every module of a tree as the interpreter of a root directory compiles it, by its path in the machine."""
    sources = {
        path: entry
        for path, entry in sorted(tree.items())
        if path.startswith(_MODULES) and path.endswith(".py") and isinstance(entry, File)
    }
    key = root, hash(tuple((path, entry.data) for path, entry in sources.items()))
    if sources and key not in _compiled:
        python = (root / "usr/bin/python3").readlink().name
        with tempfile.TemporaryDirectory() as directory:
            unpack(sources, Path(directory))
            words = ("-I", "-m", "compileall", "-q", "--invalidation-mode=unchecked-hash", "-s", directory, "-p", "/")
            subprocess.run([*program(root, python), *words, directory], check=True)
            _compiled[key] = {
                f"/{path.relative_to(directory)}": copied(path, 0o644) for path in Path(directory).rglob("*.pyc")
            }
    return _compiled.get(key, {})

# SPDX-License-Identifier: GPL-3.0-or-later
"""Every file of an installation, whoever makes it: the Debian package (`tools.deb`) or ``make install``.

What goes where of the product itself is said in tests/lab/product.py: the tests boot what is installed.
"""

import gzip
from pathlib import Path
from typing import Final

from aovpnd import __version__
from tests.lab.product import CARRIED, CHECKOUT, installed, library
from tests.lab.tree import Entry, File, copied
from tools.man import page

NAME: Final = "aovpnd"
DOC: Final = f"/usr/share/doc/{NAME}"
_PAGES: Final = CHECKOUT / "docs" / "man"
_DOCUMENTS: Final = ("README.md", *(f"docs/{name}.md" for name in ("known-issues", "neighbours", "security")))


def everything() -> dict[str, Entry]:
    """The product, its manual and documents, and the licences of what it carries."""
    return {
        **installed(),
        **{f"{DOC}/{Path(name).name}": copied(CHECKOUT / name, 0o644) for name in _DOCUMENTS},
        **manual(),
        **_licences(),
    }


def manual() -> dict[str, Entry]:
    """The manual pages; the daemon's is that of the programs beside it."""
    place = "/usr/share/man/man{}/{}.gz"
    pages = {path.stem: page(path.read_text(encoding="utf-8"), __version__) for path in _PAGES.glob("*.md")}
    also = (f"aovpnd-{program}.8" for program in ("guard", "bus", "clock", "rescue"))
    pages |= dict.fromkeys(also, ".so man8/aovpnd.8\n")
    return {place.format(name[-1], name): packed(text.encode()) for name, text in pages.items()}


def _licences() -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for name in CARRIED:
        (licence,) = library(name).parent.glob(f"{name}-*.dist-info/**/LICENSE")
        found[f"{DOC}/{name}.LICENSE"] = copied(licence, 0o644)
    return found


def packed(data: bytes) -> File:
    """The same bytes give the same file."""
    return File(gzip.compress(data, 9, mtime=0))

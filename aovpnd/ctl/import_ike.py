# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl import`` of a tunnel of IKE: our own file, as it is, and the files that it names from keys/ beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aovpnd.config import ike
from aovpnd.config.findings import WEAK, Finding, finding_of
from aovpnd.ctl import encrypting, placing
from aovpnd.ctl.placing import Place
from aovpnd.ctl.starting import reread_units
from aovpnd.errors import ConfigError, ToolError
from aovpnd.importers.bundle import KEYS, Brought, Bundle

if TYPE_CHECKING:
    from aovpnd.ctl.terminal import Style


def convert(text: str, name: str, shown: str, home: Path, config_dir: Path) -> tuple[Ike | None, list[Finding]]:
    """The tunnel and what it brings, or what is wrong with it. ``home`` is where its file lies."""
    store = Bundle(home, config_dir)
    try:
        spec, findings = ike.parse(text, name, shown, store)
    except ConfigError as error:
        return None, [finding_of(error)]
    except ToolError as error:
        return None, [Finding(shown, error.text, error.hint, code=error.code)]
    if spec is None:
        return None, findings
    return Ike(text, store.brought, tuple(each for each in findings if each.code == WEAK)), findings


@dataclass(frozen=True, slots=True)
class Ike:
    """A tunnel that is to be written (`import_.Profile`)."""

    text: str
    brought: tuple[Brought, ...]
    weak: tuple[Finding, ...] = ()

    def keep(self, place: Place, config_dir: str, *, encrypt: bool) -> bool:
        """Put it there, its file last: whoever reads that finds all that it names. What is there already, as it is to
        be, stays; of anything else nothing is replaced unasked, and then nothing is written.
        """
        ways = [(each, self._place(each, place, config_dir)) for each in self.brought]
        ways = [(each, at) for each, at in ways if not _is_there(each, at.path, encrypted=encrypt and each.secret)]
        for at in (place, *(at for _, at in ways)):
            placing.judge(at)
        sealed, forgotten = False, False
        for each, at in ways:
            if encrypt and each.secret:
                encrypting.seal(_credential(each), each.content, config_dir)
                placing.link(at, encrypting.target(_credential(each)))
                sealed = True
            else:
                placing.put(at, each.content)
                forgotten |= encrypting.forget(_credential(each))
        placing.put(place, self.text.encode())
        if sealed or forgotten:
            reread_units()
        return sealed

    @staticmethod
    def _place(each: Brought, tunnel: Place, config_dir: str) -> Place:
        directory = Path(config_dir) / KEYS
        # The same secret may stand there in clear, and is to be encrypted: that replaces nothing of anybody's.
        same = _is_there(each, directory / each.name, encrypted=False)
        return Place(directory, each.name, f"a file {each.name}", tunnel.replaces or same)

    def lines(self, _to: Style) -> list[str]:
        """What came with it."""
        width = max((len(each.name) for each in self.brought), default=0)
        return [f"  {KEYS}/{each.name:<{width}}  {_words(each)}" for each in self.brought]

    def notes(self, source: str | None) -> list[str]:
        """What is weak in it; ``source``: its file, beside which secrets stand in clear, though now encrypted."""
        secret = " ".join(f"{KEYS}/{each.name}" for each in self.brought if each.secret)
        clear = f"in clear its secrets still stand beside {source}: when the tunnel works, shred -u {secret}"
        return [*map(str, self.weak), *([clear] if source else [])]

    def document(self) -> dict[str, object]:
        """What came with it; no line of a file of ours is changed."""
        return {"lines": [], "files": [{"file": f"{KEYS}/{each.name}", "secret": each.secret} for each in self.brought]}


def _words(each: Brought) -> str:
    return "secret" if each.secret else "certificates"


def _credential(each: Brought) -> str:
    """What systemd calls it."""
    return f"{KEYS}.{each.name}"


def _is_there(each: Brought, path: Path, *, encrypted: bool) -> bool:
    """Whether the file is there already, in clear or encrypted as it is to be."""
    try:
        return path.is_symlink() is encrypted and path.read_bytes() == each.content
    except OSError:
        return False

# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl import`` of a tunnel of IKE: our own file, as it is, and the files that it names from keys/ beside it."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aovpnd import names, regular
from aovpnd.config import files, ike
from aovpnd.config.findings import WEAK, Finding, finding_of
from aovpnd.config.tunnels import IKE_SUFFIX
from aovpnd.ctl import encrypting, placing
from aovpnd.ctl.placing import Kept, Place
from aovpnd.errors import AovpndError, ConfigError, StateError, ToolError
from aovpnd.importers.bundle import KEYS, Brought, Bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aovpnd.ctl.terminal import Style

_CREDENTIAL = f"{KEYS}@"
"""How the names of their credentials begin: no tunnel's name has such a letter in it."""
_NAMED = re.compile(rf"\b{KEYS}/([^\s/\"']+)")
_ANOTHER = "give this one another name, in keys/ and in the tunnel's file; --replace takes its place, whoever names it"
_AGAIN = "some of its files are in place by now, the tunnel's own is not: import it again with --replace"


def convert(text: str, name: str, shown: str, store: Bundle) -> tuple[Ike | None, list[Finding]]:
    """The tunnel and what it brings, or what is wrong with it."""
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

    def judge(self, place: Place, config_dir: str) -> None:
        """Nothing of anybody's is replaced unasked."""
        for at in (place, *(self._place(each, place, config_dir) for each in self.brought)):
            placing.judge(at)

    def keep(self, place: Place, config_dir: str, *, encrypt: bool) -> Kept:
        """Put it there, its file last: whoever reads that finds all that it names. What can fail is tried before
        anything is written.
        """
        for directory in (place.directory, *([Path(config_dir) / KEYS] if self.brought else [])):
            placing.make(directory)
        sealed = {}
        for each in self.brought:
            if encrypt and each.secret:
                sealed[each.name] = encrypting.encrypted(_credential(each), each.content, config_dir)
        before, forgotten = _text(place.path), False
        try:
            for each in self.brought:
                at = self._place(each, place, config_dir)
                if each.name in sealed:
                    encrypting.seal(_credential(each), sealed[each.name])
                    placing.link(at, encrypting.target(_credential(each)))
                elif not (_is_ready(each, at.path) or (_is_sealed(each, at.path) and not place.replaces)):
                    placing.put(at, each.content)
                if not at.path.is_symlink():
                    forgotten |= encrypting.forget(_credential(each), config_dir)
            placing.put(place, self.text.encode())
        except AovpndError as error:
            raise StateError(error.text, hint=_AGAIN) from None
        left = tuple(_left(before, place.directory, config_dir))
        return Kept(sealed=bool(sealed), units=bool(sealed) or forgotten, left=left)

    @staticmethod
    def _place(each: Brought, tunnel: Place, config_dir: str) -> Place:
        directory = Path(config_dir) / KEYS
        # What stands there as it is, in clear or encrypted, gives way to itself: nothing of anybody's is replaced.
        same = _is_same(each, directory / each.name) or _is_sealed(each, directory / each.name)
        return Place(directory, each.name, f"another file {each.name}", tunnel.replaces or same, _ANOTHER)

    def lines(self, _to: Style) -> list[str]:
        """What came with it."""
        width = max((len(each.name) for each in self.brought), default=0)
        return [f"  {KEYS}/{each.name:<{width}}  {_words(each)}" for each in self.brought]

    def notes(self, source: str, *, sealed: bool) -> list[str]:
        """What is weak in it, and where its secrets stand in clear, though now encrypted: beside ``source``."""
        secret = " ".join(f"{KEYS}/{each.name}" for each in self.brought if each.secret)
        clear = f"in clear its secrets still stand beside {source}: when the tunnel works, shred -u {secret}"
        return [*map(str, self.weak), *([clear] if sealed else [])]

    def document(self) -> dict[str, object]:
        """What came with it; no line of a file of ours is changed."""
        return {"lines": [], "files": [{"file": f"{KEYS}/{each.name}", "secret": each.secret} for each in self.brought]}


def _text(path: Path) -> str:
    try:
        return regular.read(path, files.LARGEST[files.Holds.SETTINGS]).decode("utf-8", "replace")
    except OSError:
        return ""


def _left(before: str, tunnels: Path, config_dir: str) -> Iterator[Path]:
    """What the tunnel named ``before``, and none does now."""
    keys = Path(config_dir) / KEYS
    now = "".join(_text(path) for path in tunnels.glob(f"*{IKE_SUFFIX}"))
    for name in sorted(set(_NAMED.findall(before)) - set(_NAMED.findall(now))):
        if os.path.lexists(keys / name):
            yield keys / name
        yield from encrypting.written(f"{_CREDENTIAL}{name}", config_dir)


def _words(each: Brought) -> str:
    return "secret" if each.secret else "certificates"


def _credential(each: Brought) -> str:
    """What systemd calls it."""
    return f"{_CREDENTIAL}{each.name}"


def _is_same(each: Brought, path: Path) -> bool:
    """Whether a file of that content is there, in clear."""
    return not path.is_symlink() and _holds(each, path)


def _is_ready(each: Brought, path: Path) -> bool:
    """Whether it is there as the daemon wants it: root's, and a secret root's alone."""
    if not _is_same(each, path):
        return False
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    return status.st_uid in {0, os.geteuid()} and not mode & (0o077 if each.secret else 0o022)


def _is_sealed(each: Brought, path: Path) -> bool:
    """Whether it is there encrypted; while the daemon does not run, nobody can tell."""
    target = Path(names.CREDENTIALS_DIR) / _credential(each)
    return path.is_symlink() and path.readlink() == target and _holds(each, path)


def _holds(each: Brought, path: Path) -> bool:
    try:
        return regular.read(path, len(each.content) + 1) == each.content
    except OSError:
        return False

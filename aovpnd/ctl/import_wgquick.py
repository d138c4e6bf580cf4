# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl import`` of a wg-quick(8) file: each line is kept, narrowed or refused, and the report says which."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aovpnd.config import tunnels
from aovpnd.config.findings import Finding
from aovpnd.ctl import encrypting, placing
from aovpnd.ctl.placing import Kept
from aovpnd.ctl.terminal import RED, YELLOW, Style, plain
from aovpnd.importers import wgquick
from aovpnd.importers.wgquick import Fate, Imported

if TYPE_CHECKING:
    from aovpnd.ctl.placing import Place

_IKE = re.compile(r"^\[+ike\b", re.MULTILINE)
COLOURS = {Fate.NARROWED: YELLOW, Fate.REFUSED: RED}


def convert(text: str, name: str, shown: str) -> tuple[WgQuick | None, list[Finding]]:
    """Our file of theirs, or what is wrong with it. What is written means the same as what was read."""
    spec, findings = tunnels.parse(text, name, shown)
    if spec is None:
        if _IKE.search(text):
            hint = "import it as a file NAME.toml, with a directory keys beside it"
            findings = [Finding(shown, "this is the file of a tunnel of IKE", hint)]
        return None, findings
    imported = wgquick.convert(text, spec)
    again, complaints = tunnels.parse(imported.text, name, shown)
    if again != spec:
        reason = "what would be written does not mean the same as what was read"
        return None, [*complaints, Finding(shown, reason, "write one plain KEY = VALUE per line; report this")]
    return WgQuick(imported), findings


@dataclass(frozen=True, slots=True)
class WgQuick:
    """A file that is to be written (`import_.Profile`)."""

    imported: Imported

    def judge(self, place: Place, _config_dir: str) -> None:
        """Nothing of anybody's is replaced unasked."""
        placing.judge(place)

    def keep(self, place: Place, config_dir: str, *, encrypt: bool) -> Kept:
        """Put the tunnel there, in clear or encrypted."""
        content = self.imported.text.encode()
        if not encrypt:
            placing.put(place, content)
            return Kept(units=encrypting.forget(place.file, config_dir))
        placing.make(place.directory)
        encrypting.seal(place.file, encrypting.encrypted(place.file, content, config_dir))
        placing.link(place, encrypting.target(place.file))
        return Kept(sealed=True, units=True)

    def lines(self, to: Style) -> list[str]:
        """What became of each line."""
        shown = []
        width = len(str(self.imported.lines[-1].number)) if self.imported.lines else 1
        for line in self.imported.lines:
            fate = f"{line.fate:<8}"
            fate = to.paint(fate, COLOURS[line.fate]) if line.fate in COLOURS else fate
            shown.append(f"  line {line.number:>{width}}  {fate}  {line.key} = {plain(line.value)}")
            if line.why:
                shown += to.fold(f"({plain(line.why)})", " " * (width + 19), " " * (width + 19))
        return shown

    def notes(self, source: str, *, sealed: bool) -> list[str]:
        """What else there is to know, and where it stands in clear, though now encrypted: in ``source``."""
        clear = [f"in clear it still stands in {source}: when the tunnel works, shred -u that"]
        return [*self.imported.notes, *(clear if sealed and source else [])]

    def document(self) -> dict[str, object]:
        """The lines."""
        return {
            "lines": [
                {"line": line.number, "key": line.key, "value": line.value, "fate": line.fate.value, "why": line.why}
                for line in self.imported.lines
            ]
        }

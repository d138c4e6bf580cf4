# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl import`` of a wg-quick(8) file: each line is kept, narrowed or refused, and the report says which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aovpnd.config import tunnels
from aovpnd.config.findings import Finding
from aovpnd.ctl import encrypting, placing
from aovpnd.ctl.starting import reread_units
from aovpnd.ctl.terminal import RED, YELLOW, Style, plain
from aovpnd.importers import wgquick
from aovpnd.importers.wgquick import Fate, Imported

if TYPE_CHECKING:
    from aovpnd.ctl.placing import Place

COLOURS = {Fate.NARROWED: YELLOW, Fate.REFUSED: RED}


def convert(text: str, name: str, shown: str) -> tuple[WgQuick | None, list[Finding]]:
    """Our file of theirs, or what is wrong with it. What is written means the same as what was read."""
    spec, findings = tunnels.parse(text, name, shown)
    if spec is None:
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

    def keep(self, place: Place, config_dir: str, *, encrypt: bool) -> bool:
        """Put the tunnel there, in clear or encrypted."""
        content = self.imported.text.encode()
        if not encrypt:
            placing.put(place, content)
            if encrypting.forget(place.file):
                reread_units()
            return False
        placing.judge(place)
        encrypting.seal(place.file, content, config_dir)
        placing.link(place, encrypting.target(place.file))
        reread_units()
        return True

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

    def notes(self, source: str | None) -> list[str]:
        """What else there is to know; ``source``: where it stands in clear, though now encrypted."""
        clear = [f"in clear it still stands in {source}: when the tunnel works, shred -u that"] if source else []
        return [*self.imported.notes, *clear]

    def document(self) -> dict[str, object]:
        """The lines."""
        return {
            "lines": [
                {"line": line.number, "key": line.key, "value": line.value, "fate": line.fate.value, "why": line.why}
                for line in self.imported.lines
            ]
        }

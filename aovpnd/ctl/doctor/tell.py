# SPDX-License-Identifier: GPL-3.0-or-later
"""The findings for a person, and for programs. Nothing that somebody else wrote reaches a terminal as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aovpnd.ctl.doctor.facts import Area, Facts, Finding, Verdict
from aovpnd.ctl.terminal import BOLD, GREEN, RED, YELLOW, Style, plain

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEMA = 1
TITLES = {
    Area.BLOCK: "Block",
    Area.PROGRAMS: "Programs",
    Area.BOOT: "Boot",
    Area.KERNEL: "Kernel",
    Area.CONFIGURATION: "Configuration",
    Area.NAMES: "Names",
    Area.CLOCK: "Clock",
    Area.NEIGHBOURS: "Neighbours",
}
COLOURS = {Verdict.OK: GREEN, Verdict.WARNING: YELLOW, Verdict.ERROR: RED}
WORDS = {Verdict.INFO: "note"}
LONGEST = 1000
"""Characters of one finding that are shown: whoever reads it has to read it to its end."""
TO_DO = frozenset({Verdict.WARNING, Verdict.ERROR})


def is_well(findings: Iterable[Finding]) -> bool:
    """Whether there is nothing to do."""
    return not any(finding.verdict in TO_DO for finding in findings)


def lines(facts: Facts, findings: tuple[Finding, ...], to: Style) -> list[str]:
    """Area by area, what was not seen, and the sum."""
    shown: list[str] = []
    for area, title in TITLES.items():
        if here := [finding for finding in findings if finding.area is area]:
            shown += [to.paint(f"{title}:", BOLD)]
            for finding in here:
                shown += _finding(finding, to)
    if facts.unseen:
        shown += [to.paint("Not seen:", BOLD), *(f"  {_cut(text)}" for text in facts.unseen)]
    todo = sum(finding.verdict in TO_DO for finding in findings)
    some = " that could be seen" if facts.unseen else ""
    well = f"Everything{some} is well." if not todo else f"{todo} thing{'s' * (todo > 1)} to do."
    return [*shown, "", to.paint(well, BOLD)]


def _finding(finding: Finding, to: Style) -> list[str]:
    word = WORDS.get(finding.verdict, finding.verdict.value)
    hint = f" ({_cut(finding.hint)})" if finding.hint else ""
    first, *rest = to.fold(f"{word}: {_cut(finding.text)}{hint}", "  ", "    ")
    if finding.verdict in COLOURS:
        first = first.replace(word, to.paint(word, BOLD, COLOURS[finding.verdict]), 1)
    return [first, *rest]


def _cut(text: str) -> str:
    """One line of bounded length."""
    shown = plain(text[:LONGEST])
    return shown if len(text) <= LONGEST else f"{shown}…"


def document(facts: Facts, findings: tuple[Finding, ...]) -> dict[str, object]:
    """Everything for programs; see aovpnctl(8)."""
    return {
        "schema": SCHEMA,
        "ok": is_well(findings),
        "version": facts.version,
        "findings": [
            {
                "code": finding.code,
                "area": finding.area.value,
                "severity": finding.verdict.value,
                "text": _cut(finding.text),
                "hint": _cut(finding.hint),
            }
            for finding in findings
        ],
        "unseen": [_cut(text) for text in facts.unseen],
    }

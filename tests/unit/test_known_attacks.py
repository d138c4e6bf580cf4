# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of known attacks in docs/security.md names tests that exist, and every class."""

import re
from typing import Final

import pytest

from tests.audits.catalogue import ATTACKS
from tests.unit.imports import ROOT

CLASSES: Final = {"A": 9, "B": 8, "C": 10, "D": 11, "E": 9, "F": 7, "G": 9, "H": 7, "J": 7}
"""How many classes each chapter has."""
TIERS: Final = {"unit": ("unit",), "lab": ("netns", "audits", "bus"), "container": ("container",), "machine": ("vm",)}
_DEFINED: Final = re.compile(r"^def (test_\w+)", re.MULTILINE)


def _rows() -> dict[str, list[str]]:
    """Class to its cells: what we do, shown by, tier, not covered."""
    text = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| ([A-J]\d+) \|(.*)\|$", text, re.MULTILINE)
    assert len({ident for ident, _ in lines}) == len(lines)
    return {ident: [cell.strip() for cell in rest.split("|")] for ident, rest in lines}


def _functions(tier: str) -> set[str]:
    """The test functions of a tier."""
    files = (path for place in TIERS[tier] for path in (ROOT / "tests" / place).glob("test_*.py"))
    return {
        name
        for path in files
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }


ROWS: Final = _rows()
NAMES: Final = {attack.id for attack in ATTACKS}


def test_every_class_has_its_row() -> None:
    """None is left out, whether something can be done about it or not."""
    assert list(ROWS) == [f"{chapter}{number}" for chapter, last in CLASSES.items() for number in range(1, last + 1)]
    assert {attack.ident for attack in ATTACKS} <= set(ROWS)


@pytest.mark.parametrize("ident", ROWS)
def test_what_shows_it_exists(ident: str) -> None:
    """Each test that is named is one of a tier that is named, and each of these tiers has one; a row without any says
    why.
    """
    does, shown, tiers, missing = ROWS[ident]
    named = [tier for tier in tiers.split(", ") if tier]
    tests = {name for name in re.findall(r"`([^`]+)`", shown) if name.startswith("test_")}
    attacks = set(re.findall(r"`([^`]+)`", shown)) - tests

    assert does
    assert tests | attacks or missing
    assert attacks <= NAMES
    found = {tier: tests & _functions(tier) for tier in named}
    assert tests == set().union(*found.values())
    assert [tier for tier in named if not found[tier] and not (tier == "lab" and attacks)] == []

# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of weakenings keeps up with the code that it weakens; `make mutants` then shows that tests notice."""

import pytest

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant
from tests.unit.imports import ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_weakening_has_its_place(mutant: Mutant) -> None:
    """Its text stands in its file exactly once, it changes something, and the tests that it asks are there."""
    assert (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old) == 1
    assert mutant.old != mutant.new
    assert all((ROOT / test).is_file() for test in mutant.asked)


def test_weakenings_have_names_of_their_own() -> None:
    """A name is how one is asked for."""
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)

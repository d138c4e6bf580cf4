# SPDX-License-Identifier: GPL-3.0-or-later
"""Each attack of the catalogue, a few times, in two phases: nothing in clear, and the tunnel serves on.

All phases, and more tries, are ``make audit``'s.
"""

from collections.abc import Iterator

import pytest

from tests.audits.attack import Attack, Phase
from tests.audits.catalogue import ATTACKS
from tests.audits.scene import Stage

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """One laptop for all; an attack that leaves it broken costs the next one a new laptop."""
    with Stage() as stage:
        yield stage


@pytest.mark.parametrize(
    ("attack", "phase"),
    [pytest.param(attack, phase, id=f"{attack.id}-{phase}") for attack in ATTACKS for phase in attack.sliced],
)
def test_attack(stage: Stage, attack: Attack, phase: Phase) -> None:
    """Everybody on the laptop sends while it is attacked."""
    outcome = stage.perform(attack, phase, attack.tries)

    assert outcome.complaint(attack) == ""


def test_names_are_unique() -> None:
    """A record's key names one attack."""
    names = [attack.id for attack in ATTACKS]
    assert len(set(names)) == len(names)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Each attack of the catalogue, a few times, in two phases: nothing in clear, and the tunnel serves on.

All phases, and more tries, are ``make audit``'s.
"""

from collections.abc import Iterator

import pytest

from tests.audits.attack import Attack, Phase
from tests.audits.catalogue import ATTACKS
from tests.audits.scene import Stage
from tests.audits.uplinks import KINDS, Uplink, second_uplink
from tests.netns.protected import WAY

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
    if attack.of_wireguard and WAY is not None:
        pytest.skip("of WireGuard: it writes such a tunnel's file")
    outcome = stage.perform(attack, phase, attack.tries)

    assert outcome.complaint(attack) == ""


@pytest.mark.parametrize("uplink", [pytest.param(uplink, id=uplink.name) for uplink in KINDS])
def test_uplink_of_a_kind_appears(stage: Stage, uplink: Uplink) -> None:
    """Without protection everybody is seen by it; with it nobody is, though it gets its lease.

    The tunnel serves on. The card alone is the catalogue's, and other phases are ``make audit``'s.
    """
    missing = uplink.missing(stage.laptop().lab.host)
    if missing:
        pytest.skip(f"this kernel has no such links: {missing}")
    attack = second_uplink(uplink.name, uplink.name, uplink)
    outcome = stage.perform(attack, Phase.CONNECTED, 1)

    assert outcome.complaint(attack) == ""
    assert outcome.service is not None
    assert outcome.service > 0.9


def test_names_are_unique() -> None:
    """A record's key names one attack."""
    names = [attack.id for attack in ATTACKS]
    assert len(set(names)) == len(names)

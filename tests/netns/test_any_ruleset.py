# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is seen, the table that follows from it is one that nft and the kernel take."""

from itertools import islice
from typing import Final

import pytest

from aovpnd.adapters.nft import Nftables
from aovpnd.core.decide import decide
from aovpnd.core.intent import settle
from aovpnd.nftlib import Nft
from tests.fuzz.catalogue import TARGETS
from tests.fuzz.run import cases
from tests.netns.space import Space

pytestmark = pytest.mark.root

SNAPSHOTS: Final = 900
"""Of them a hundred or two lead to tables of their own; each is loaded in a few milliseconds."""


def test_kernel_takes_the_table_of_any_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loaded in one transaction, and read back as it was written: links, addresses, routes and tunnels of any kind."""
    rulesets = {}
    for world in islice(cases(TARGETS["snapshot"], 0, 1, [True]), SNAPSHOTS):
        intent = settle(world.config, world.intent, world.snapshot)
        rulesets[decide(world.config, intent, world.snapshot).ruleset] = world

    with Space.make() as space, space.entered():
        table = Nftables(Nft())
        for ruleset, world in rulesets.items():
            # The snapshot's clock: by the machine's own a window might end in days, which nft does not take.
            monkeypatch.setattr("aovpnd.adapters.nft.time.clock_gettime", lambda _, now=world.snapshot.now: now.boot)
            table.ensure(ruleset)
            assert table.observe().ruleset == ruleset
    assert len(rulesets) > 100

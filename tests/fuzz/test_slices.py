# SPDX-License-Identifier: GPL-3.0-or-later
"""A slice of `make fuzz`: every border holds against some thousand damaged inputs, the same in every run."""

import pytest

from tests.fuzz.catalogue import TARGETS
from tests.fuzz.run import try_batch


@pytest.mark.parametrize("name", TARGETS)
def test_border_holds(name: str) -> None:
    """Only declared errors, readable messages, bounded time and memory, nothing opened; and not all cases end alike."""
    target = TARGETS[name]
    result = try_batch(target, 0, 0, target.slice)

    assert not result.failures, result.failures[0].text
    assert result.cases == target.slice
    assert len(result.outcomes) > 1

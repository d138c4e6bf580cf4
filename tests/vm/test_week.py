# SPDX-License-Identifier: GPL-3.0-or-later
"""A slice of ``make week``: a short week of a booted laptop, whose package comes by dpkg and is upgraded by it."""

from pathlib import Path

import pytest

from tests.vm import FULL
from tests.week.page import passed
from tests.week.plan import Sizes, week
from tests.week.run import Record, live

pytestmark = [
    *(pytest.mark.vm, pytest.mark.root, pytest.mark.slow),
    pytest.mark.skipif(not FULL, reason="takes minutes: make test-vm"),
]

SIZES = Sizes(changes=6, suspends=2, portals=1, reboots=1)


def test_slice_of_a_week(tmp_path: Path) -> None:
    """Networks, sleep, a portal, a reboot and the upgrade: nothing in clear, all back without help, hardly offline."""
    days, record = week(7, SIZES), Record.open(tmp_path)
    live(days, "trixie", record, print)

    assert passed(record, len(days)), record.days
    assert sum(day.control for day in record.days) > 0

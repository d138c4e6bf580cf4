# SPDX-License-Identifier: GPL-3.0-or-later
"""Laptops with neighbours; every test leaves its laptop as it found it, at home and connected."""

import pytest

from tests.lab.container import cannot_run
from tests.neighbours import FULL


@pytest.fixture(scope="session", autouse=True)
def nspawn() -> None:
    """Skip where this is not wanted, or where this machine cannot run containers, and say why."""
    if not FULL:
        pytest.skip("takes half an hour, and root directories of its own: make test-neighbours")
    reason = cannot_run()
    if reason is not None:
        pytest.skip(f"systemd-nspawn does not work here: {reason}")

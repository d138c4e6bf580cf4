# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of tests/netns are the suite's core for each kind of tunnel: those whose promises are about packets."""

from collections.abc import Mapping
from typing import Final

CORE: Final[Mapping[str, tuple[str, ...]]] = {
    "wireguard": (
        *("wireguard", "life", "tampering", "roaming", "access", "induced", "excluded", "filters", "network", "dns"),
        *("bus", "failover", "mtu", "on_demand", "names", "first_block", "bad_input"),
    ),
    "ipsec": (
        *("ike", "ike_life", "life", "tampering", "roaming", "access", "induced", "dns", "network", "bus"),
        *("on_demand", "soak_ike"),
    ),
}
"""By kind of tunnel (``inside.KINDS``): the names between ``test_`` and ``.py``, in the order in which they run. With
ESP these are the suite of ``make test-ike``.
"""

SOAK: Final = "AOVPND_SOAK_IKE"
"""The variable that says how long ``soak_ike`` is."""


def path_of(file: str) -> str:
    """Where a file of the suite is, in the checkout."""
    return f"tests/netns/test_{file}.py"

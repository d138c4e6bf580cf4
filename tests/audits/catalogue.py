# SPDX-License-Identifier: GPL-3.0-or-later
"""Every attack, in the order of the classes."""

from typing import Final

from tests.audits import advertisements, dhcp, endpoint, inference, lies, redirects
from tests.audits.attack import Attack

ATTACKS: Final[tuple[Attack, ...]] = (
    *dhcp.ATTACKS,
    *advertisements.ATTACKS,
    *lies.ATTACKS,
    *endpoint.ATTACKS,
    *redirects.ATTACKS,
    *inference.ATTACKS,
)

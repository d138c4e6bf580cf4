# SPDX-License-Identifier: GPL-3.0-or-later
"""Every attack, in the order of the classes."""

from typing import Final

from tests.audits import dhcp, endpoint
from tests.audits.attack import Attack

ATTACKS: Final[tuple[Attack, ...]] = (*dhcp.ATTACKS, *endpoint.ATTACKS)

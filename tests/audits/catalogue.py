# SPDX-License-Identifier: GPL-3.0-or-later
"""Every attack, in the order of the classes."""

from typing import Final

from tests.audits import (
    advertisements,
    dhcp,
    endpoint,
    guests,
    hooks,
    inference,
    lies,
    programs,
    redirects,
    remains,
    replayed,
    routing,
    tables,
    tampered,
    tools,
    tools6,
    uplinks,
)
from tests.audits.attack import Attack

ATTACKS: Final[tuple[Attack, ...]] = (
    *dhcp.ATTACKS,
    *advertisements.ATTACKS,
    *lies.ATTACKS,
    *endpoint.ATTACKS,
    *redirects.ATTACKS,
    *inference.ATTACKS,
    *tables.ATTACKS,
    *guests.ATTACKS,
    *routing.ATTACKS,
    *hooks.ATTACKS,
    *programs.ATTACKS,
    *tampered.ATTACKS,
    *uplinks.ATTACKS,
    *remains.ATTACKS,
    *tools.ATTACKS,
    *tools6.ATTACKS,
    *replayed.ATTACKS,
)

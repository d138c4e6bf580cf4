# SPDX-License-Identifier: GPL-3.0-or-later
"""The name servers that a gateway gave, in what charon's program writes down (docs/decisions/0039)."""

import contextlib
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from aovpnd import regular
from aovpnd.ruleset import Address

_MOST_BYTES: Final = 1 << 16


def servers_in(path: Path) -> tuple[Address, ...] | None:
    """The name servers in what charon's program wrote down: its environment, each variable ended by NUL."""
    try:
        with regular.opened(path, follow=False) as given:
            variables = given.read(_MOST_BYTES).decode("ascii", "replace").split("\0")
    except OSError:
        return None
    found = dict(variable.partition("=")[::2] for variable in variables)
    if not found.get("PLUTO_VERB", "").startswith("up"):
        return None
    servers = []
    for family in (4, 6):
        for number in range(1, 9):
            with contextlib.suppress(ValueError):
                servers.append(ip_address(found.get(f"PLUTO_DNS{family}_{number}", "")))
    return tuple(servers)

# SPDX-License-Identifier: GPL-3.0-or-later
"""What a gateway gave: name servers, in what charon's program writes down (docs/decisions/0039); and all of it while
the tunnel rests, for the daemon that comes after one that was killed.
"""

import contextlib
import json
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Final

from aovpnd import regular
from aovpnd.errors import ToolError
from aovpnd.ipsec import Given, Lease
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


def keep(path: Path, digest: str, given: Given) -> None:
    """Write down what the tunnel with that digest was given. `ToolError` when that fails: it goes on as it is."""
    document = {"digest": digest, "addresses": list(map(str, given.addresses)), "dns": list(map(str, given.dns))}
    try:
        regular.put(path, json.dumps(document) + "\n")
    except OSError as error:
        raise ToolError(f"{path}: {error.strerror}", hint="is the file system of /run full?") from error


def kept(path: Path) -> tuple[str, Given] | None:
    """What was written down; None where there is nothing, or something else than that."""
    try:
        document = json.loads(regular.read(path, _MOST_BYTES))
        addresses = tuple(map(ip_interface, document["addresses"]))
        return str(document["digest"]), Given(addresses, tuple(map(ip_address, document["dns"])), Lease.OVER)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None

# SPDX-License-Identifier: GPL-3.0-or-later
"""The resolvers that the network gave us, and never the tunnel's: from resolv.conf(5) as it is without ours, and where
a resolver of this host stands in between, from what the network managers have written down.
"""

import re
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Final

from aovpnd import regular
from aovpnd.ruleset import Address

RUN: Final = Path("/run")
NETWORKD: Final = "systemd/netif/links"
"""What systemd-networkd has of each link; systemd-resolved reads the same."""
NETWORK_MANAGER: Final = "NetworkManager/no-stub-resolv.conf"
"""NetworkManager.conf(5): what it would write if no other resolver were in between."""
UPSTREAM: Final = "systemd/resolve/resolv.conf"
"""systemd-resolved.service(8): every server that it knows, ours included."""
_LONGEST: Final = 1 << 16
_MOST: Final = 16
"""More servers than any resolver asks (MAXNS is 3); a longer list is somebody's mischief."""
_MOST_LINKS: Final = 64
_EXTRAS: Final = re.compile(r"[%#].*")
"""A zone (fe80::1%wlan0) says over which link, and the rule is bound to the link of the grant anyway; a name for TLS
(9.9.9.9#dns.example) is of no use to us."""


def resolvers(users: str, own: tuple[Address, ...] = (), run: Path = RUN) -> tuple[Address, ...]:
    """The resolvers on the network, in their order; empty when none is known. It never fails.

    ``users`` is the resolv.conf(5) that would be there without ours, ``own`` are the tunnel's servers. A local stub
    (127.0.0.53, or any other on this host) is none on the network: then those count that networkd or NetworkManager
    heard of, and where neither did, those of resolved that are not ours.
    """
    listed = parse(users)
    if any(address.is_loopback for address in listed):
        heard = (*_networkd(run / NETWORKD), *parse(_read(run / NETWORK_MANAGER)))
        listed += heard or tuple(address for address in parse(_read(run / UPSTREAM)) if address not in own)
    return tuple(dict.fromkeys(address for address in listed if _is_outside(address)))[:_MOST]


def parse(text: str) -> tuple[Address, ...]:
    """The addresses of the ``nameserver`` lines; what cannot be read is left out, as the C library does."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":  # noqa: PLR2004 - keyword and value
            found += list(_addresses(words[1:2]))
    return tuple(found)


def _networkd(place: Path) -> Iterator[Address]:
    """The ``DNS=`` lines of its links, by index."""
    try:
        paths = sorted((path for path in place.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))
    except OSError:
        return
    for path in paths[:_MOST_LINKS]:
        for line in _read(path).splitlines():
            if line.startswith("DNS="):
                yield from _addresses(line.removeprefix("DNS=").split())


def _addresses(words: list[str]) -> Iterator[Address]:
    for word in words:
        try:
            address = ip_address(_EXTRAS.sub("", word))
        except ValueError:
            continue
        yield IPv6Address(int(address)) if isinstance(address, IPv6Address) else address


def _is_outside(address: Address) -> bool:
    return not (address.is_loopback or address.is_unspecified or address.is_multicast)


def _read(path: Path) -> str:
    try:
        return regular.read(path, _LONGEST).decode("utf-8", "replace")
    except OSError:
        return ""

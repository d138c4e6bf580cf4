# SPDX-License-Identifier: GPL-3.0-or-later
"""The resolvers that the network gave us, read from resolv.conf(5); where systemd-resolved stands in between, from its
list of the real ones.
"""

from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Final

from aovpnd.ruleset import Address

RESOLV_CONF: Final = Path("/etc/resolv.conf")
UPSTREAM: Final = Path("/run/systemd/resolve/resolv.conf")
"""What systemd-resolved.service(8) writes for programs that want the servers themselves."""
_LONGEST: Final = 1 << 16
_MOST: Final = 16
"""More servers than any resolver asks (MAXNS is 3); a longer list is somebody's mischief."""


def resolvers(resolv_conf: Path = RESOLV_CONF, upstream: Path = UPSTREAM) -> tuple[Address, ...]:
    """The resolvers on the network, in their order; empty when none is known. It never fails.

    A local stub (127.0.0.53, or any other on this host) is none of them: behind resolved's the real ones are listed,
    behind another's they are not known.
    """
    listed = parse(_read(resolv_conf))
    if any(address.is_loopback for address in listed):
        listed += parse(_read(upstream))
    return tuple(dict.fromkeys(address for address in listed if _is_outside(address)))[:_MOST]


def parse(text: str) -> tuple[Address, ...]:
    """The addresses of the ``nameserver`` lines; what cannot be read is left out, as the C library does."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":  # noqa: PLR2004 - keyword and value
            try:
                address = ip_address(words[1])
            except ValueError:
                continue
            # A zone (fe80::1%wlan0) says over which link; the rule is bound to the link of the grant anyway.
            found.append(IPv6Address(int(address)) if isinstance(address, IPv6Address) else address)
    return tuple(found)


def _is_outside(address: Address) -> bool:
    return not (address.is_loopback or address.is_unspecified or address.is_multicast)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST).decode("utf-8", "replace")
    except OSError:
        return ""

# SPDX-License-Identifier: GPL-3.0-or-later
"""What every tunnel link of ours has in common, whatever is behind it; what links have."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aovpnd import names, rtnl
from aovpnd.adapters import rtdump, sysctl
from aovpnd.errors import NetlinkError
from aovpnd.links import Link
from aovpnd.model import TunnelWish
from aovpnd.ruleset import Address

_IPV6_LEAST_MTU: Final = 1280
"""The kernel takes IPv6 off a link with less, its sysctls included (RFC 8200 section 5)."""
_LINK_SYSCTLS: Final = (
    ("addr_gen_mode", 1),  # none: the addresses are those of the file or the gateway, no link-local one of the kernel's
    ("accept_ra", 0),  # the far end must not give us routes or addresses
    ("autoconf", 0),
)


def find(name: str) -> Link | None:
    """The link of that name, as it is now."""
    return next((link for link in rtnl.dump_links() if link.name == name), None)


def find_ours(name: str, owns: Callable[[Link], bool]) -> Link | None:
    """The link of that name, as it is now. `NetlinkError` when it is none that its backend ``owns``."""
    link = find(name)
    if link is not None and not owns(link):
        raise NetlinkError(
            f"the link {link.name} is not ours: it is of kind {link.kind or 'hardware'}",
            hint=f"names from {names.LINK_PREFIX}0 on belong to aovpnd; rename it",
        )
    return link


def ensure_sysctls(link: Link, wish: TunnelWish, proc_sys: Path) -> None:
    """IPv6 on, and nothing of it by itself, where the kernel and the MTU have it."""
    if not sysctl.has_ipv6(proc_sys) or wish.mtu < _IPV6_LEAST_MTU:
        return
    where = f"net/ipv6/conf/{link.name}"
    if any(item.version == rtdump.IPV6 for item in (*wish.spec.addresses, *wish.spec.prefixes)):
        # Switched off by default for new links on some machines: for what leaks, which a tunnel does not.
        sysctl.ensure(f"{where}/disable_ipv6", 0, proc_sys)
    for key, value in _LINK_SYSCTLS:
        sysctl.ensure(f"{where}/{key}", value, proc_sys)


def is_local(address: Address) -> bool:
    """Whether some link has the address now: a socket can be bound to no other (ip(7))."""
    family = socket.AF_INET if address.version == rtdump.IPV4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as tried:
        try:
            tried.bind((str(address), 0))
        except OSError:
            return False
    return True

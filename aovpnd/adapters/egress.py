# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's own copies of the guard's tables, for the moments in which there is no guard.

One is owned by our socket: it stands through a flush. The other is early boot's plain table: it stands through our
death. Both are static but for the list of links, like the guard's own, and for the tunnel's addresses, which the guard
does not know (decision 47). Used from the thread of its `Nft`.
"""

import re
from ipaddress import IPv4Address
from typing import Final

from aovpnd import names
from aovpnd.guard import rules
from aovpnd.links import Link
from aovpnd.model import Copies
from aovpnd.nftlib import Nft

_CHAIN: Final = re.compile(
    rf'chain {names.LINK_CHAIN_PREFIX}([0-9]{{1,10}}) {{\s+type filter hook egress device "([^"]+)".*\s+jump (\w+)'
)
_EARLY: Final = ("netdev", names.EARLY_TABLE)


class EgressCopies:
    """Both copies: for these links, or none."""

    def __init__(self, nft: Nft) -> None:
        self._nft = nft
        self._held: rules.Attached | None = None
        self.unannounced: tuple[IPv4Address, ...] = ()

    def observe(self, links: tuple[Link, ...]) -> Copies:
        """Whether the copies are as they should be for ``links``. `NftError` when nftables does not answer."""
        early = self._early()
        if self._held is None and early is None:
            return Copies.ABSENT
        current = self._held == rules.attached(links) and early is not None and _differences(early, links) == ([], [])
        return Copies.CURRENT if current else Copies.STALE

    def ensure(self, links: tuple[Link, ...] | None, unannounced: tuple[IPv4Address, ...] = ()) -> None:
        """Make both so, and keep ``unannounced`` out of ARP; None removes them. `NftError` when the kernel refuses, as
        when a link has just gone.
        """
        if links is None:
            self._held = None
            self.unannounced = ()
            for table in (f"inet {names.COPY_TABLE}", f"netdev {names.COPY_TABLE}"):
                self._nft.remove_table(table, "{ flags owner; }")
            self._nft.remove_table(" ".join(_EARLY))
            return
        wanted = rules.attached(links)
        if self._held != wanted or self.unannounced != unannounced:
            self._nft.run(rules.whole(links, table=names.COPY_TABLE, unannounced=unannounced))
            self._held = wanted
        missing, stale = _differences(self._early() or {}, links)
        self._nft.run(rules.early_links(missing, stale, links, unannounced))
        self.unannounced = unannounced

    def _early(self) -> dict[int, tuple[str, str]] | None:
        """By index of the link: its chain's device, and the chain that judges there."""
        listing = self._nft.list_table(*_EARLY)
        return (
            None if listing is None else {int(index): (name, judge) for index, name, judge in _CHAIN.findall(listing)}
        )


def _differences(early: dict[int, tuple[str, str]], links: tuple[Link, ...]) -> tuple[list[Link], list[int]]:
    """Links to attach, and indexes to let go of, before.

    A chain of a link that we do not know stays: the udev rule may have been quicker than our look. But from Linux 6.16
    on a chain outlives its link and falls upon the next one of that name, and that may be our tunnel.
    """
    judges = rules.judges(links)
    wanted = {link.index: (link.name, judge) for link, judge in judges.items()}
    known = {link.index for link in links}
    inside = {link.name for link in links if link.index not in wanted}
    stale = [
        index
        for index, there in early.items()
        if (wanted.get(index) != there if index in known else there[0] in inside)
    ]
    missing = [link for link in judges if early.get(link.index) != wanted[link.index]]
    return missing, stale

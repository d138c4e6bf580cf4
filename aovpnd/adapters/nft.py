# SPDX-License-Identifier: GPL-3.0-or-later
"""The dynamic table: load it, read it back, see who changed it. Used from one thread (see `aovpnd.nftlib`)."""

import time
from dataclasses import dataclass
from typing import Final

from aovpnd import names
from aovpnd.errors import NftError
from aovpnd.model import GuardState
from aovpnd.nftlib import Change, Nft, Watch, fingerprint, own_ports
from aovpnd.render import render
from aovpnd.ruleset import Ruleset

_GUARD = (("inet", names.GUARD_TABLE), ("netdev", names.GUARD_TABLE))
DYNAMIC: Final = frozenset((f"inet {names.TABLE}",))
"""The table that the daemon alone changes."""
OURS: Final = DYNAMIC | {
    f"{family} {table}"
    for family in ("inet", "netdev")
    for table in (names.GUARD_TABLE, names.COPY_TABLE, names.EARLY_TABLE)
}
"""Every table of the project, some of which its guard and its udev rule change."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What `Nftables.observe` saw: the ruleset that we loaded if it is unaltered, whether a table is there, and the
    guard.
    """

    ruleset: Ruleset | None
    present: bool
    guard: GuardState


class Nftables:
    """Our end of libnftables. Whole tables only: load this one, or remove it."""

    def __init__(self, nft: Nft) -> None:
        self._nft = nft
        self._loaded: Ruleset | None = None
        self._fingerprint = ""

    def observe(self) -> Seen:
        """Look at our table and the guard's. `NftError` when nftables does not answer."""
        listing = self._nft.list_table("inet", names.TABLE)
        unaltered = listing is not None and self._loaded is not None and fingerprint(listing) == self._fingerprint
        held = all(self._nft.list_table(*table) is not None for table in _GUARD)
        return Seen(
            ruleset=self._loaded if unaltered else None,
            present=listing is not None,
            guard=GuardState.HELD if held else GuardState.MISSING,
        )

    def ensure(self, ruleset: Ruleset | None) -> None:
        """Make ``ruleset`` the table, in one transaction, and read it back; None removes it.

        `NftError` when the kernel refuses, in which case the old table stands, or does not hold what was loaded. When
        the table is gone at the second look, somebody has removed it in between: that is no failure, the next pass
        finds it missing, as it would have a moment later.
        """
        self._loaded = None
        if ruleset is None:
            self._nft.remove_table(f"inet {names.TABLE}")
            return
        self._nft.run(render(ruleset, time.clock_gettime(time.CLOCK_BOOTTIME)))
        listing = self._nft.list_table("inet", names.TABLE)
        expected = sum(len(chain.rules) for chain in ruleset.chains)
        if listing is None:
            return
        if listing.count(" comment ") < expected:
            raise NftError(
                "the kernel does not hold the ruleset that was loaded", hint="is another program removing it?"
            )
        self._loaded, self._fingerprint = ruleset, fingerprint(listing)


class ForeignChanges:
    """Hears of nftables transactions, and tells ours from others', and our tables from theirs.

    Others may change theirs a hundred times a second; that is no reason to look at ours.
    """

    def __init__(self) -> None:
        self._watch = Watch()
        self._ports: frozenset[int] = frozenset()

    def fileno(self) -> int:
        """For the event loop."""
        return self._watch.fileno()

    def drain(self) -> tuple[Change, ...]:
        """What others have changed of our tables since the last call, or may have."""
        changes = [change for change in self._watch.drain() if change.touches(OURS)]
        if any(change.port not in self._ports for change in changes):
            self._ports = own_ports()
        return tuple(change for change in changes if change.port not in self._ports)

# SPDX-License-Identifier: GPL-3.0-or-later
"""What charon forgets and a tunnel must not: when it came up, what it carried, and what its gateway gave it last."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from aovpnd.backends.vici import Child, Sa
from aovpnd.ipsec import Given, IPsec, Lease, Said

_MOST_COUNTS: Final = 32
"""More CHILD SAs than are ever alive at once; what older ones counted stays in the sum."""


@dataclass(slots=True)
class Memory:
    """What is remembered of one link's charon. ``path``: the fingerprint of the last attempt's; ``floor``: CHILD SAs up
    to that number prove nothing of it; ``logged``: how long its log was when the last attempt began (``asked_at``,
    CLOCK_MONOTONIC); ``said``: why the attempt before it failed, which is true until another reason is known;
    ``given``: what a gateway gave last, and to which tunnel (its digest); ``asking``: the tunnel whose last attempt
    used what a person had answered, ``refused`` why that one failed; ``refusals``: how often charon itself has refused
    to begin since it last did; ``attempts`` since the last rest;
    ``more``: CHILD SAs to ask for once there is an IKE SA; ``keyless``: the tunnel (its digest) whose key in a token
    charon has not, and why.
    """

    path: str = ""
    floor: int = 0
    asked_at: float = 0.0
    moves: bool = False
    logged: int = 0
    said: Said | None = None
    counts: dict[int, tuple[int, int]] = field(default_factory=dict)
    shaken: tuple[int, int] = (0, 0)
    given: tuple[str, Given] | None = None
    asking: IPsec | None = None
    refused: Said | None = None
    refusals: int = 0
    attempts: int = 0
    more: tuple[str, ...] = ()
    keyless: tuple[str, Said] | None = None

    def last(self, digest: str, given: Given | None) -> Given | None:
        """What this tunnel is given now, or was last: between two SAs its servers stay, though none answers."""
        if given is not None:
            self.given = digest, given
        elif self.given is not None and self.given[0] == digest:
            return replace(self.given[1], lease=Lease.OVER)
        return given

    def shaken_at(self, child: Child) -> int:
        """When a CHILD SA was made (Unix time). charon tells ages in whole seconds: what differs by one is the same."""
        at = int(time.time()) - child.age_s
        if self.shaken[0] != child.number or abs(self.shaken[1] - at) > 1:
            self.shaken = (child.number, at)
        return self.shaken[1]

    def bytes_of(self, sas: Iterable[Sa]) -> tuple[int, int]:
        """Bytes received and sent by all CHILD SAs so far: each counts for itself, and its count goes with it."""
        for sa in sas:
            self.counts |= {child.number: (child.rx_bytes, child.tx_bytes) for child in sa.children}
        while len(self.counts) > _MOST_COUNTS:
            first, second = sorted(self.counts)[:2]
            there, gone = self.counts[second], self.counts.pop(first)
            self.counts[second] = (there[0] + gone[0], there[1] + gone[1])
        return sum(rx for rx, _tx in self.counts.values()), sum(tx for _rx, tx in self.counts.values())

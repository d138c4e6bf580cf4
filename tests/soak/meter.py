# SPDX-License-Identifier: GPL-3.0-or-later
"""Counting in the kernel alone: exact at any rate, for hours.

The allow-list is the recorder's. What is not on it is counted once more by protocol, so that a leak has a name without
a capture of a million frames.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Final, Self

from tests.lab.counters import Counters
from tests.lab.counting import nft_rules, nft_sets
from tests.lab.frames import ENDPOINTS, Address, Kind
from tests.lab.host import Host

MLD: Final = "mld"
"""The kernel's own multicast listener reports; no program sends them."""
_TABLE: Final = "soak"
_CLEAR: Final = (
    ("udp4", "meta protocol ip meta l4proto udp"),
    ("tcp4", "meta protocol ip meta l4proto tcp"),
    ("other4", "meta protocol ip"),
    ("udp6", "meta protocol ip6 meta l4proto udp"),
    ("tcp6", "meta protocol ip6 meta l4proto tcp"),
    (MLD, "meta protocol ip6 icmpv6 type { 130, 131, 132, 143 }"),
    ("icmp6", "meta protocol ip6 meta l4proto icmpv6"),
    ("other6", "meta protocol ip6"),
    ("alien", ""),
)


@dataclass(frozen=True, slots=True)
class Meter:
    """Counters on the far side of some links."""

    _counters: Counters

    @classmethod
    def start(cls, host: Host, links: tuple[str, ...], ike: tuple[Address, ...] = ()) -> Self:
        """Count from now on. ``ike`` are where IKE and ESP may go."""
        kinds = [kind for kind in Kind if kind is not Kind.CLEAR]
        lines = [f"table netdev {_TABLE} {{", nft_sets(ike), *(f"counter frames_{kind} {{ }}" for kind in kinds)]
        lines += [f"counter clear_{name} {{ }}" for name, _ in _CLEAR]
        lines += ["chain clear {", *(f"{match} counter name clear_{name} accept" for name, match in _CLEAR), "}"]
        for link in links:
            lines += [f"chain {link} {{", f'type filter hook ingress device "{link}" priority -400; policy accept;']
            for match, kind in nft_rules(ENDPOINTS, ike):
                verdict = "goto clear" if kind is Kind.CLEAR else f"counter name frames_{kind} accept"
                lines.append(f"{match} {verdict}")
            lines += ["goto clear", "}"]
        host.nft("\n".join([*lines, "}", ""]))
        return cls(Counters.open(host, _TABLE))

    def read(self) -> Counter[str]:
        """Frames since the start: ``frames_CLASS`` of the allow-list, and ``clear_PROTOCOL`` of all others."""
        return Counter(self._counters.packets())

    def clear(self) -> Counter[str]:
        """Frames in clear since the start, by protocol."""
        return Counter({name: count for name, count in self.read().items() if name.startswith("clear_") and count})

    def close(self) -> None:
        """Give it back; may be called twice."""
        self._counters.close()

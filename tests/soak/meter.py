# SPDX-License-Identifier: GPL-3.0-or-later
"""Counting in the kernel alone: exact at any rate, for hours.

The allow-list is the recorder's. What is not on it is counted once more by protocol, so that a leak has a name without
a capture of a million frames.
"""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Final, Self

from tests.lab.frames import ENDPOINTS, Kind
from tests.lab.host import Host
from tests.lab.record import nft_rules

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

    host: Host
    links: tuple[str, ...]

    @classmethod
    def start(cls, host: Host, links: tuple[str, ...]) -> Self:
        """Count from now on."""
        kinds = [kind for kind in Kind if kind is not Kind.CLEAR]
        lines = [f"table netdev {_TABLE} {{", *(f"counter frames_{kind} {{ }}" for kind in kinds)]
        lines += [f"counter clear_{name} {{ }}" for name, _ in _CLEAR]
        for link in links:
            lines += [f"chain {link} {{", f'type filter hook ingress device "{link}" priority -400; policy accept;']
            lines += [f"{match} counter name frames_{kind} accept" for match, kind in nft_rules(ENDPOINTS)]
            lines += [f"{match} counter name clear_{name} accept" for name, match in _CLEAR]
            lines.append("}")
        host.nft("\n".join([*lines, "}", ""]))
        return cls(host, links)

    def read(self) -> Counter[str]:
        """Frames since the start: ``frames_CLASS`` of the allow-list, and ``clear_PROTOCOL`` of all others."""
        listing = json.loads(self.host.out("nft", "-j", "list", "counters", "table", "netdev", _TABLE))
        found = (item["counter"] for item in listing["nftables"] if "counter" in item)
        return Counter({counter["name"]: counter["packets"] for counter in found})

    def clear(self) -> Counter[str]:
        """Frames in clear since the start, by protocol."""
        return Counter({name: count for name, count in self.read().items() if name.startswith("clear_") and count})

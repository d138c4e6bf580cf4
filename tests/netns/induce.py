# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes a kernel send errors to others: ``python -m tests.netns.induce LINK MAC``, run by who is on the link.

Packets that claim to come from the internet, for this machine and for another: with an option that nobody knows (RFC
8200 section 4.2), with no hop left, and for where this machine forwards nothing.
"""

import sys
from collections.abc import Iterator

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrHopByHop, PadN
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from scapy.sendrecv import sendp

from tests.lab import plan

UNKNOWN_OPTION = 0x9E
"""Its highest bits ask for a parameter problem, also from a multicast address."""
_ELSEWHERE4, _ELSEWHERE6 = "198.51.100.77", "2001:db8:ffff::77"


def _packets() -> Iterator[Packet]:
    body = UDP(sport=4000, dport=4001) / Raw(b"induced")
    for to in ("ff02::1", _ELSEWHERE6):
        options = IPv6ExtHdrHopByHop(options=[PadN(otype=UNKNOWN_OPTION, optdata=b"ab")])
        yield IPv6(src=str(plan.WEB6), dst=to) / options / body
    for hops in (1, 64):
        yield IP(src=str(plan.WEB4), dst=_ELSEWHERE4, ttl=hops) / body
        yield IPv6(src=str(plan.WEB6), dst=_ELSEWHERE6, hlim=hops) / body


def main(arguments: list[str]) -> int:
    """Send each once."""
    link, mac = arguments
    for packet in _packets():
        sendp(Ether(src=plan.HOME.mac, dst=mac) / packet, iface=link, verbose=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

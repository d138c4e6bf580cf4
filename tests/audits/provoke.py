# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets that a kernel answers by itself: ``python -m tests.audits.provoke LINK TOKEN MAC IPV4 IPV6``, run by who is
on the link with the laptop: to closed ports and dead connections, echoes, queries for groups, unknown headers.
"""

import sys
from collections.abc import Iterator

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLQuery,
    ICMPv6NIQueryName,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    RouterAlert,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from scapy.sendrecv import sendp

from tests.lab import plan


def _provocations(token: bytes, here4: str, here6: str) -> Iterator[Packet]:
    """IP packets, of both families."""
    sources = (
        (IP(src=str(plan.HOME.router4), dst=here4), IP(src=str(plan.WEB4), dst=here4)),
        (IPv6(src=str(plan.HOME.router6), dst=here6), IPv6(src=str(plan.WEB6), dst=here6)),
    )
    for heads, echo in zip(sources, (ICMP(type=8), ICMPv6EchoRequest()), strict=True):
        for head in heads:
            for flags in ("S", "SA", "A", "FA", "PA", "R", "FPU"):
                for port in (22, 443, 40002, plan.GATEWAY_PORT):
                    yield head / TCP(sport=443, dport=port, flags=flags, seq=7, ack=8) / Raw(token)
            for port in (9, 53, 137, 5353, 33434, plan.GATEWAY_PORT):
                yield head / UDP(sport=40000, dport=port) / Raw(token)
            yield head / echo / Raw(token)
    head4, head6 = sources[0][0], sources[1][0]
    for kind in (13, 15, 17):
        yield head4 / ICMP(type=kind) / Raw(token)
    yield IP(src=head4.src, dst=here4, proto=200) / Raw(token)
    yield IPv6(src=head6.src, dst=here6, nh=200) / Raw(token)
    yield head6 / IPv6ExtHdrRouting(type=0, addresses=[here6], segleft=1) / Raw(token)
    yield head6 / IPv6ExtHdrDestOpt(options=[PadN(otype=0x9E, optdata=b"ab")]) / Raw(token)
    yield head6 / ICMPv6NIQueryName(data=token[:16]) / Raw(token)
    local = str(plan.HOME.router_local)
    yield IPv6(src=local, dst="ff02::1", hlim=1) / IPv6ExtHdrHopByHop(options=[RouterAlert()]) / ICMPv6MLQuery(mrd=1)
    yield IP(src=head4.src, dst="224.0.0.1", ttl=1, proto=2) / Raw(bytes.fromhex("1101eefe00000000"))


def main(arguments: list[str]) -> int:
    """Send each once."""
    link, token, mac, here4, here6 = arguments
    for packet in _provocations(bytes.fromhex(token), here4, here6):
        to = {"ff02::1": "33:33:00:00:00:01", "224.0.0.1": "01:00:5e:00:00:01"}.get(packet.dst, mac)
        sendp(Ether(src=plan.HOME.mac, dst=to) / packet, iface=link, verbose=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

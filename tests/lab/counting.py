# SPDX-License-Identifier: GPL-3.0-or-later
"""The allow-list as the kernel counts it: nft matches for every class, and a BPF filter without the frequent ones.

`frames.classify` says the same as a dissector sees it; `record.Recording.check` demands that the two agree.
"""

from collections.abc import Iterable
from typing import Final

from tests.lab.frames import ESP_LEAST, IKE_EXCHANGES, LOOKED_UP, RESOLVERS, SITES, Address, Endpoint, Kind

NOT_CAPTURED: Final = frozenset({Kind.ARP, Kind.TUNNEL, Kind.UDP_ESP})
"""What a recorder with ``prefilter`` leaves out of the capture, but for the bytes that keep a NAT's mapping alive."""
_MTU: Final = 1500
_ESP_SIZES: Final = range(ESP_LEAST, _MTU - 20, 4)
_ISAKMP_SIZES: Final = range(28, _MTU - 40)
_PLAIN4: Final = "@nh,0,8 0x45 ip frag-off & 0xbfff == 0"
"""No options, no fragment."""
_ARP: Final = "ether type arp meta length 28 arp htype 1 arp ptype ip arp hlen 6 arp plen 4 arp operation { 1, 2 }"
Rules = tuple[tuple[str, Kind], ...]


def nft_sets(ike: tuple[Address, ...] = ()) -> str:
    """The sets that `nft_rules` names: lengths that belong together. nft cannot compare two fields of a packet, but all
    pairs that are right can be listed.
    """
    sizes: dict[str, tuple[str, Iterable[tuple[int, ...]]]] = {
        "whole4": ("meta length . ip length . udp length", ((size, size, size - 20) for size in range(28, _MTU + 1))),
        "whole6": ("meta length . ip6 length . udp length", ((40 + size, size, size) for size in range(8, _MTU - 39))),
        "eapol": ("meta length . ip length", ((4 + size, size) for size in range(_MTU - 3))),
    }
    if ike:
        sizes |= {
            "esp4": ("meta length . ip length", ((20 + size, 20 + size) for size in _ESP_SIZES)),
            "esp6": ("meta length . ip6 length", ((40 + size, size) for size in _ESP_SIZES)),
            "isakmp8": ("udp length . udp length", ((8 + size, size) for size in _ISAKMP_SIZES)),
            "isakmp12": ("udp length . udp length", ((12 + size, size) for size in _ISAKMP_SIZES)),
        }
    lines = []
    for name, (fields, right) in sizes.items():
        elements = ", ".join(" . ".join(map(str, each)) for each in right)
        lines.append(f"set {name} {{ typeof {fields}; elements = {{ {elements} }}; }}")
    return "\n".join(lines)


def nft_rules(endpoints: tuple[Endpoint, ...], ike: tuple[Address, ...] = ()) -> Rules:
    """The allow-list as nft matches, first match wins, what none matches is `Kind.CLEAR`.

    ``endpoints`` are where WireGuard may go, ``ike`` where IKE and ESP may.
    """
    near = ", ".join(("fe80::/10", *(str(site.router6) for site in SITES)))
    ndp = "ip6 nexthdr icmpv6 ip6 hoplimit 255 icmpv6 code 0 icmpv6 type"
    sizes = "meta length . ip6 length"
    dhcp = "@th,64,8 1 @th,1952,32 0x63825363"
    dhcp_first = f"{dhcp} @th,1984,16 0x3501 @th,2000,8 {{ 1, 3, 4, 8 }}"
    # In one piece: kernels before 6.18 load nothing from behind byte 255 of a header.
    dhcp_second = f"{dhcp} @th,1984,16 0x3204 @th,2032,24 {{ 0x350101, 0x350103, 0x350104, 0x350108 }}"
    dhcp6 = "@th,64,8 { 1, 3, 4, 5, 6, 8, 9, 11 }"
    return (
        # The kernel takes a tag out of a frame, and what it then calls the protocol is the one behind the tag.
        ("@ll,96,16 { 0x8100, 0x88a8 }", Kind.CLEAR),
        (_ARP, Kind.ARP),
        ("ether type 0x888e @nh,0,8 { 1-3 } @nh,8,8 { 0-3 } meta length . @nh,16,16 @eapol", Kind.EAPOL),
        # What is longer or shorter than its headers say is in clear, whatever it is: something may hide behind them.
        ("ip protocol udp meta length . ip length . udp length != @whole4", Kind.CLEAR),
        ("ip6 nexthdr udp meta length . ip6 length . udp length != @whole6", Kind.CLEAR),
        (f"{_PLAIN4} ip daddr 255.255.255.255 udp sport 68 udp dport 67 {dhcp_first}", Kind.DHCP4),
        (f"{_PLAIN4} ip daddr 255.255.255.255 udp sport 68 udp dport 67 {dhcp_second}", Kind.DHCP4),
        (f"ip6 nexthdr udp ip6 saddr fe80::/10 ip6 daddr ff02::1:2 udp sport 546 udp dport 547 {dhcp6}", Kind.DHCP6),
        (f"{ndp} 133 ip6 daddr ff02::2 {sizes} {{ 48 . 8, 56 . 16 }}", Kind.NDP),
        (f"{ndp} 135 ip6 daddr {{ ff02::1:ff00:0/104, {near} }} {sizes} {{ 64 . 24, 72 . 32 }}", Kind.NDP),
        (f"{ndp} 136 ip6 daddr {{ ff02::1, {near} }} {sizes} {{ 64 . 24, 72 . 32 }}", Kind.NDP),
        *_look_up_rules(),
        *_ike_rules(ike),
        *_wireguard_rules(endpoints),
    )


def _wireguard_rules(endpoints: tuple[Endpoint, ...]) -> Rules:
    shapes = (
        ("@th,64,32 0x01000000 udp length 156", Kind.HANDSHAKE),
        ("@th,64,32 0x02000000 udp length 100", Kind.HANDSHAKE),
        ("@th,64,32 0x03000000 udp length 72", Kind.HANDSHAKE),
        ("@th,64,32 0x04000000 udp length >= 40", Kind.TUNNEL),
    )
    rules: list[tuple[str, Kind]] = []
    # One rule for all endpoints of a family: a flood passes every one of these.
    for version, head in ((4, f"{_PLAIN4} ip daddr"), (6, "ip6 nexthdr udp ip6 daddr")):
        pairs = ", ".join(f"{address} . {port}" for address, port in endpoints if address.version == version)
        if pairs:
            rules += [(f"{head} . udp dport {{ {pairs} }} {shape}", kind) for shape, kind in shapes]
    return tuple(rules)


def _ike_rules(ike: tuple[Address, ...]) -> Rules:
    """ISAKMP on port 500, and on 4500 behind four zeros; ESP in UDP and by itself (RFC 3948, 4303, 7296)."""
    in_udp = f"udp length >= {8 + ESP_LEAST} udp length & 3 == 0 @th,64,32 >= 256 @th,96,32 != 0"
    rules: list[tuple[str, Kind]] = []
    for version, udp, esp, length in (
        (4, _PLAIN4, f"{_PLAIN4} ip protocol esp", "ip length"),
        (6, "ip6 nexthdr udp", "ip6 nexthdr esp", "ip6 length"),
    ):
        gateways = ", ".join(str(address) for address in ike if address.version == version)
        if gateways:
            to = f"{'ip' if version == 4 else 'ip6'} daddr {{ {gateways} }}"
            rules += [(f"{udp} {to} udp dport 500 {match}", Kind.IKE) for match in _isakmp(8)]
            rules += [(f"{udp} {to} udp dport 4500 @th,64,32 0 {match}", Kind.IKE) for match in _isakmp(12)]
            rules += [
                (f"{udp} {to} udp dport 4500 udp length 9 @th,64,8 0xff", Kind.UDP_ESP),
                (f"{udp} {to} udp dport 4500 {in_udp}", Kind.UDP_ESP),
                (f"{esp} {to} esp spi >= 256 esp sequence != 0 meta length . {length} @esp{version}", Kind.ESP),
            ]
    return tuple(rules)


def _isakmp(at: int) -> list[str]:
    """The head of an ISAKMP message that begins so many bytes behind the UDP header's begin, and fills the datagram."""
    bits = 8 * at
    head = f"@th,{bits},64 != 0 @th,{bits + 128},8 != 0 @th,{bits + 192},16 0"
    return [
        f"{head} @th,{bits + 136},8 {version} @th,{bits + 144},8 {{ {', '.join(map(str, exchanges))} }}"
        f" udp length . @th,{bits + 208},16 @isakmp{at}"
        for version, exchanges in IKE_EXCHANGES.items()
    ]


def _look_up_rules() -> Rules:
    """A question for one of the names, to one of the resolvers: a header with one question and nothing else, the name,
    the type (A, AAAA), the class.
    """
    rules = []
    four = ", ".join(str(address) for address in sorted(map(str, RESOLVERS)) if ":" not in address)
    six = ", ".join(str(address) for address in sorted(map(str, RESOLVERS)) if ":" in address)
    for name in LOOKED_UP:
        wire = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
        data = bytes.fromhex("01000001000000000000") + wire
        pieces = [(10 + at, data[at : at + 8]) for at in range(0, len(data), 8)]
        match = " ".join(f"@th,{8 * at},{8 * len(piece)} 0x{piece.hex()}" for at, piece in pieces)
        end = 8 * (10 + len(data))
        match += f" @th,{end},16 {{ 1, 28 }} @th,{end + 16},16 1 udp length {10 + len(data) + 4}"
        rules.append((f"{_PLAIN4} ip daddr {{ {four} }} udp dport 53 {match}", Kind.LOOK_UP))
        rules.append((f"ip6 nexthdr udp ip6 daddr {{ {six} }} udp dport 53 {match}", Kind.LOOK_UP))
    return tuple(rules)


def bpf(endpoints: tuple[Endpoint, ...], ike: tuple[Address, ...] = ()) -> str:
    """A pcap-filter(7) expression that is true for what ``prefilter`` captures: all but `NOT_CAPTURED`, exactly.

    ``endpoints`` are where WireGuard may go, ``ike`` where IKE and ESP may.
    """
    whole4 = "ip[0] = 0x45 and ip[6:2] & 0xbfff = 0 and ip[2:2] = udp[4:2] + 20 and len = ip[2:2] + 14"
    whole6 = "ip6[6] = 17 and ip6[4:2] = ip6[44:2] and len = ip6[4:2] + 54"
    data4 = f"{whole4} and udp[4:2] >= 40 and udp[8:4] = 0x04000000"
    data6 = f"{whole6} and ip6[44:2] >= 40 and ip6[48:4] = 0x04000000"
    arp = "arp[0:4] = 0x00010800 and arp[4:2] = 0x0604 and (arp[6:2] = 1 or arp[6:2] = 2)"
    parts = [f"(arp and len = 42 and {arp})"]
    for address, port in endpoints:
        if address.version == 4:
            parts.append(f"(ip and udp dst port {port} and dst host {address} and {data4})")
        else:
            parts.append(f"(ip6 and dst host {address} and ip6[42:2] = {port} and {data6})")
    for address in ike:
        if address.version == 4:
            esp = f"udp[4:2] >= {8 + ESP_LEAST} and udp[4:2] & 3 = 0 and udp[8:4] >= 256 and udp[12:4] != 0"
            parts.append(f"(ip and udp dst port 4500 and dst host {address} and {whole4} and {esp})")
        else:
            esp = f"ip6[44:2] >= {8 + ESP_LEAST} and ip6[44:2] & 3 = 0 and ip6[48:4] >= 256 and ip6[52:4] != 0"
            parts.append(f"(ip6 and dst host {address} and ip6[42:2] = 4500 and {whole6} and {esp})")
    return f"not ({' or '.join(parts)})"

# SPDX-License-Identifier: GPL-3.0-or-later
"""What a frame is, judged by tshark's dissectors: the allow-list of docs/security.md, from a second, independent hand.

A frame that no rule here knows precisely is `Kind.CLEAR`: also one that carries a byte more than its headers say. The
rules are written as a dissector sees frames and know nothing of the program under test; `counting.py` has the same
classes as nft matches, and the two must agree. `tests/netns/test_judge.py` shows both near misses of every rule.
"""

import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path
from typing import Final

from tests.lab import identity, plan
from tests.lab.identity import Trace, traces
from tests.lab.process import LabError

Address = IPv4Address | IPv6Address
Endpoint = tuple[Address, int]
ENDPOINTS: Final[tuple[Endpoint, ...]] = tuple(
    (address, plan.GATEWAY_PORT) for place in plan.PLACES for address in (place.wan4, place.wan6)
)
SITES: Final = (plan.HOME, plan.CAFE, plan.SIX, plan.TETHER)
RESOLVERS: Final = frozenset(address for site in SITES for address in (site.router4, site.router6, site.router_local))
LOOKED_UP: Final = (plan.GATEWAY_NAME, "ipv4only.arpa")
"""The names that a protected laptop may ask its network for."""
TCP_BASE: Final = 40000
"""Senders' TCP SYNs carry no payload: their kind is the destination port less this."""
_WELL_KNOWN_SYN: Final = {"53": TCP_BASE + 18, "853": TCP_BASE + 19}
"""The senders dnstcp4 and dot4 need the real ports."""
TOKEN_BYTES: Final = 16


class Kind(StrEnum):
    """Classes of frames that leave a laptop."""

    ARP = "arp"
    EAPOL = "eapol"
    DHCP4 = "dhcp4"
    DHCP6 = "dhcp6"
    NDP = "ndp"
    HANDSHAKE = "handshake"
    TUNNEL = "tunnel"
    IKE = "ike"
    ESP = "esp"
    UDP_ESP = "udpesp"
    """ESP in UDP, and what keeps a NAT's mapping alive (RFC 3948)."""
    LOOK_UP = "lookup"
    CLEAR = "clear"


SHAKEN: Final = (Kind.HANDSHAKE, Kind.IKE)
"""The classes by which a tunnel of either kind is agreed upon."""
CARRIED: Final = (Kind.TUNNEL, Kind.ESP, Kind.UDP_ESP)
"""The classes of what a tunnel of either kind carries."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame that the laptop sent."""

    time: float
    """Unix time at which it arrived on the far side."""
    link: str
    kind: Kind
    what: str
    """For people: protocols and destination."""
    length: int
    """Bytes, without the frame check sequence."""
    sender: int | None
    """Number of the sender that sent it (`senders.py`), None when it is nobody's test frame."""
    has_token: bool
    number: int
    """Its number in the capture, from 1, as tshark and Wireshark count."""
    tells: frozenset[Trace] = frozenset()
    """What it tells about the machine; nothing where it is encrypted."""


_FIELDS: Final = (
    "frame.protocols",
    "frame.len",
    "eth.type",
    "ip.dst",
    "ip.hdr_len",
    "ip.len",
    "ip.proto",
    "ip.flags.rb",
    "ip.flags.mf",
    "ip.frag_offset",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.nxt",
    "ipv6.plen",
    "ipv6.hlim",
    "udp.srcport",
    "udp.dstport",
    "udp.length",
    "tcp.dstport",
    "tcp.flags",
    "icmpv6.type",
    "icmpv6.code",
    "dns.flags",
    "dns.qry.name",
    "dns.qry.type",
    "dns.qry.class",
    "dns.count.queries",
    "dns.count.answers",
    "dns.count.auth_rr",
    "dns.count.add_rr",
    "dhcp.type",
    "dhcp.cookie",
    "dhcp.option.type",
    "dhcp.option.dhcp",
    "dhcpv6.msgtype",
    "wg.type",
    "wg.reserved",
    "isakmp.ispi",
    "isakmp.nextpayload",
    "isakmp.version",
    "isakmp.exchangetype",
    "isakmp.length",
    "esp.spi",
    "esp.sequence",
    "udpencap.nat_keepalive",
    "eapol.version",
    "eapol.type",
    "eapol.len",
    "arp.opcode",
    "arp.hw.type",
    "arp.proto.type",
    "arp.hw.size",
    "arp.proto.size",
    "_ws.malformed",
    *identity.FIELDS,
)
_ENCRYPTED: Final = frozenset({Kind.HANDSHAKE, Kind.TUNNEL, Kind.IKE, Kind.ESP, Kind.UDP_ESP})
_NDP_LENGTHS: Final = {"133": {8, 16}, "135": {24, 32}, "136": {24, 32}}
"""With one option of eight bytes at most: the link-layer address (RFC 4861), or a nonce (RFC 7527)."""
_LINK_LOCAL: Final = IPv6Network("fe80::/10")
_ALL_NODES: Final = IPv6Address("ff02::1")
_ALL_ROUTERS: Final = IPv6Address("ff02::2")
_SOLICITED_NODES: Final = IPv6Network("ff02::1:ff00:0/104")
_ALL_DHCP_AGENTS: Final = IPv6Address("ff02::1:2")
_WG_UDP_LENGTH: Final = {"1": 148 + 8, "2": 92 + 8, "3": 64 + 8}
"""UDP lengths of WireGuard's messages of fixed size."""
_WG_DATA_LEAST: Final = 32 + 8
_DHCP_ASKS: Final = {"1", "3", "4", "8"}
"""What a client sends by broadcast: discover, request, decline, inform (RFC 2131)."""
_DHCP6_ASKS: Final = {"1", "3", "4", "5", "6", "8", "9", "11"}
"""Solicit, request, confirm, renew, rebind, release, decline, information request (RFC 8415)."""
_EAPOL_VERSIONS, _EAPOL_TYPES = {"1", "2", "3"}, {"0", "1", "2", "3"}
"""IEEE 802.1X-2001, -2004, -2010; packet, start, log-off, key."""
IKE_EXCHANGES: Final = {0x10: (2, 4, 5, 6, 32), 0x20: (34, 35, 36, 37, 43)}
"""ISAKMP version to its exchange types: RFC 2408, 2409 and transaction (XAUTH); RFC 7296 and 9242."""
ESP_LEAST: Final = 36
"""SPI, sequence number, an IV of eight bytes, a block of four, a tag of twelve; a multiple of four (RFC 4303)."""
_SPI_LEAST: Final = 256
"""The first that RFC 4303 does not reserve."""


def _is_wireguard(row: dict[str, str]) -> bool:
    """Whether the payload parses as a WireGuard message of the right length."""
    if row["wg.reserved"].strip("0:"):
        return False
    if row["wg.type"] in _WG_UDP_LENGTH:
        return int(row["udp.length"]) == _WG_UDP_LENGTH[row["wg.type"]]
    return row["wg.type"] == "4" and int(row["udp.length"]) >= _WG_DATA_LEAST


def _is_look_up(row: dict[str, str]) -> bool:
    """Whether it asks a site's router for the address of the gateway, or for the network's NAT64 prefix, and nothing
    else, with nothing behind the question.
    """
    counts = [row[f"dns.count.{name}"] for name in ("queries", "answers", "auth_rr", "add_rr")]
    name = row["dns.qry.name"]
    length = 8 + 12 + len(name) + 2 + 4
    return (
        row["udp.length"] == str(length)
        and (row["dns.flags"], counts) == ("0x0100", ["1", "0", "0", "0"])
        and name in LOOKED_UP
        and row["dns.qry.type"] in {"1", "28"}
        and row["dns.qry.class"] == "0x0001"
    )


def classify(row: dict[str, str], endpoints: tuple[Endpoint, ...], ike: tuple[Address, ...] = ()) -> Kind:
    """Say what a frame is from tshark's fields (first occurrences; "" where the frame has none).

    ``endpoints`` are where WireGuard may go, ``ike`` where IKE and ESP may.
    """
    if row["_ws.malformed"]:
        return Kind.CLEAR
    match row["eth.type"]:
        case "0x0806":
            return Kind.ARP if _is_proper_arp(row) else Kind.CLEAR
        case "0x888e":
            return Kind.EAPOL if _is_proper_eapol(row) else Kind.CLEAR
        case "0x0800" if _is_plain4(row):
            to: Address = IPv4Address(row["ip.dst"])
            protocol, room = row["ip.proto"], int(row["ip.len"]) - 20
        case "0x86dd" if row["ipv6.plen"] and int(row["frame.len"]) == 14 + 40 + int(row["ipv6.plen"]):
            to = IPv6Address(row["ipv6.dst"])
            protocol, room = row["ipv6.nxt"], int(row["ipv6.plen"])
        case _:
            return Kind.CLEAR
    match protocol:
        case "17" if row["udp.length"] == str(room):
            return _classify_udp(row, to, endpoints, ike)
        case "50" if to in ike and room >= ESP_LEAST and room % 4 == 0 and _is_esp(row):
            return Kind.ESP
        case "58" if to.version == 6 and room in _NDP_LENGTHS.get(row["icmpv6.type"], ()) and _is_proper_ndp(row):
            return Kind.NDP
    return Kind.CLEAR


def _classify_udp(row: dict[str, str], to: Address, endpoints: tuple[Endpoint, ...], ike: tuple[Address, ...]) -> Kind:
    """What a whole UDP datagram is."""
    match row["udp.srcport"], row["udp.dstport"]:
        case "68", "67" if to == IPv4Address("255.255.255.255") and _is_dhcp(row):
            return Kind.DHCP4
        case "546", "547" if to == _ALL_DHCP_AGENTS and IPv6Address(row["ipv6.src"]) in _LINK_LOCAL:
            return Kind.DHCP6 if row["dhcpv6.msgtype"] in _DHCP6_ASKS else Kind.CLEAR
        case _, "53" if to in RESOLVERS and _is_look_up(row):
            return Kind.LOOK_UP
        case _, "500" if to in ike and _is_ike(row, int(row["udp.length"]) - 8):
            return Kind.IKE
        case _, "4500" if to in ike:
            return _classify_encapsulated(row, int(row["udp.length"]) - 8)
        case _, port if (to, int(port)) in endpoints and _is_wireguard(row):
            return Kind.TUNNEL if row["wg.type"] == "4" else Kind.HANDSHAKE
    return Kind.CLEAR


def _classify_encapsulated(row: dict[str, str], room: int) -> Kind:
    """RFC 3948: IKE behind four zeros, ESP, or a single byte that keeps a mapping alive."""
    if row["udpencap.nat_keepalive"]:
        return Kind.UDP_ESP if room == 1 else Kind.CLEAR
    if row["isakmp.version"]:
        return Kind.IKE if _is_ike(row, room - 4) else Kind.CLEAR
    proper = room >= ESP_LEAST and room % 4 == 0 and _is_esp(row)
    return Kind.UDP_ESP if proper else Kind.CLEAR


def _is_plain4(row: dict[str, str]) -> bool:
    """Whether it is a whole IPv4 packet without options, and nothing behind it."""
    flags = {row["ip.flags.rb"], row["ip.flags.mf"]} <= {"0", "False"}
    whole = row["ip.hdr_len"] == "20" and flags and row["ip.frag_offset"] == "0"
    return whole and int(row["frame.len"]) == 14 + int(row["ip.len"])


def _is_proper_arp(row: dict[str, str]) -> bool:
    """A question or an answer about IPv4 on Ethernet (RFC 826), and nothing behind it."""
    shape = [row[f"arp.{name}"] for name in ("hw.type", "proto.type", "hw.size", "proto.size")]
    return shape == ["1", "0x0800", "6", "4"] and row["arp.opcode"] in {"1", "2"} and row["frame.len"] == "42"


def _is_proper_eapol(row: dict[str, str]) -> bool:
    known = row["eapol.version"] in _EAPOL_VERSIONS and row["eapol.type"] in _EAPOL_TYPES
    return known and int(row["frame.len"]) == 14 + 4 + int(row["eapol.len"])


def _is_dhcp(row: dict[str, str]) -> bool:
    """A client's message, which says first which one it is, as clients do; dhcpcd names an address before."""
    is_asked = (row["dhcp.type"], row["dhcp.cookie"]) == ("1", "99.130.83.99")
    return is_asked and row["dhcp.option.type"] in {"50", "53"} and row["dhcp.option.dhcp"] in _DHCP_ASKS


def _is_ike(row: dict[str, str], room: int) -> bool:
    """An ISAKMP message as long as its room."""
    version = int(row["isakmp.version"] or "0", 16)
    known = version in IKE_EXCHANGES and int(row["isakmp.exchangetype"]) in IKE_EXCHANGES[version]
    named = row["isakmp.ispi"].strip("0:") != "" and row["isakmp.nextpayload"] != "0"
    return known and named and row["isakmp.length"] == str(room)


def _is_esp(row: dict[str, str]) -> bool:
    return int(row["esp.spi"] or "0", 16) >= _SPI_LEAST and row["esp.sequence"] not in {"", "0"}


def _is_proper_ndp(row: dict[str, str]) -> bool:
    """RFC 4861's own checks, and the destinations that docs/security.md has for the type."""
    to = IPv6Address(row["ipv6.dst"])
    near = to in _LINK_LOCAL or to in {site.router6 for site in SITES}
    allowed = {"133": to == _ALL_ROUTERS, "135": near or to in _SOLICITED_NODES, "136": near or to == _ALL_NODES}
    return allowed[row["icmpv6.type"]] and row["ipv6.hlim"] == "255" and row["icmpv6.code"] == "0"


def _sender(row: dict[str, str], payload: bytes, token: bytes) -> tuple[int | None, bool]:
    place = payload.find(token) if token else -1
    if place >= 0:
        after = payload[place + TOKEN_BYTES : place + TOKEN_BYTES + 1]
        return (after[0] if after else None), True
    if row["tcp.flags"].lower() in {"0x0002", "0x00c2"} and row["tcp.dstport"]:
        port = _WELL_KNOWN_SYN.get(row["tcp.dstport"], int(row["tcp.dstport"]))
        if TCP_BASE <= port < TCP_BASE + 256:
            return port - TCP_BASE, False
    return None, False


def _what(row: dict[str, str]) -> str:
    to = row["ip.dst"] or row["ipv6.dst"] or row["eth.type"]
    port = row["udp.dstport"] or row["tcp.dstport"]
    kind = f" type {row['icmpv6.type']}" if row["icmpv6.type"] else ""
    return f"{row['frame.protocols'].removeprefix('eth:ethertype:')}{kind} to {to}{f' port {port}' if port else ''}"


def read_pcapng(path: Path) -> Iterator[tuple[float, str, bytes]]:
    """Read what `capture.py` wrote: Unix time, link, frame; a last block that is still being written is left out."""
    data = path.read_bytes()
    names: list[str] = []
    at = 0
    while at + 12 <= len(data):
        kind, length = struct.unpack_from("<II", data, at)
        if at + length > len(data):
            return
        if kind == 1:
            size = struct.unpack_from("<H", data, at + 18)[0]
            names.append(data[at + 20 : at + 20 + size].decode())
        elif kind == 6:
            number, high, low, captured = struct.unpack_from("<IIII", data, at + 8)
            yield ((high << 32) | low) / 1e9, names[number], data[at + 28 : at + 28 + captured]
        at += length


def dissect(
    path: Path, *, token: bytes, endpoints: tuple[Endpoint, ...] = ENDPOINTS, ike: tuple[Address, ...] = ()
) -> tuple[Frame, ...]:
    """Read a capture with tshark and say what each frame is. LabError when tshark saw another number of frames."""
    options = [word for name in _FIELDS for word in ("-e", name)]
    ports = [word for port in sorted({port for _, port in endpoints}) for word in ("-d", f"udp.port=={port},wg")]
    no_reassembly = ["-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE"]
    command = ["tshark", "-n", "-r", str(path), *no_reassembly, *ports, "-T", "fields", "-E", "occurrence=f", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"tshark cannot read {path}: {done.stderr.strip()[-500:]}")
    rows = [dict(zip(_FIELDS, line.split("\t"), strict=True)) for line in done.stdout.splitlines()]
    captured = tuple(read_pcapng(path))
    if len(rows) != len(captured):
        raise LabError(f"tshark saw {len(rows)} frames in {path} where {len(captured)} were written")
    frames = []
    for number, (row, (time, link, payload)) in enumerate(zip(rows, captured, strict=True), 1):
        sender, has_token = _sender(row, payload, token)
        kind = classify(row, endpoints, ike)
        tells = frozenset[Trace]() if kind in _ENCRYPTED else traces(row, payload)
        frames.append(Frame(time, link, kind, _what(row), len(payload), sender, has_token, number, tells))
    return tuple(frames)

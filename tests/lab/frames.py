# SPDX-License-Identifier: GPL-3.0-or-later
"""What a frame is, judged by tshark's dissectors: the allow-list of docs/security.md, from a second, independent hand.

A frame that no rule here knows precisely is `Kind.CLEAR`. The rules are written as a dissector sees frames and know
nothing of the program under test; `record.py` counts the same classes with nft, and the two must agree.
"""

import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path
from typing import Final

from tests.lab import plan
from tests.lab.process import LabError

Endpoint = tuple[IPv4Address | IPv6Address, int]
ENDPOINTS: Final[tuple[Endpoint, ...]] = tuple(
    (address, plan.GATEWAY_PORT) for place in plan.PLACES for address in (place.wan4, place.wan6)
)
SITES: Final = (plan.HOME, plan.CAFE, plan.SIX)
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
    LOOK_UP = "lookup"
    CLEAR = "clear"


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


_FIELDS: Final = (
    "frame.protocols",
    "eth.type",
    "ip.dst",
    "ip.hdr_len",
    "ip.flags.mf",
    "ip.frag_offset",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.nxt",
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
    "dns.count.queries",
    "dns.count.answers",
    "dns.count.auth_rr",
    "dns.count.add_rr",
    "dhcp.type",
    "dhcpv6.msgtype",
    "wg.type",
    "wg.reserved",
    "eapol.type",
    "arp.opcode",
    "_ws.malformed",
)
_NDP_TYPES: Final = {"133", "135", "136"}
_LINK_LOCAL: Final = IPv6Network("fe80::/10")
_ALL_NODES: Final = IPv6Address("ff02::1")
_ALL_ROUTERS: Final = IPv6Address("ff02::2")
_SOLICITED_NODES: Final = IPv6Network("ff02::1:ff00:0/104")
_ALL_DHCP_AGENTS: Final = IPv6Address("ff02::1:2")
_WG_UDP_LENGTH: Final = {"1": 148 + 8, "2": 92 + 8, "3": 64 + 8}
"""UDP lengths of WireGuard's messages of fixed size."""
_WG_DATA_LEAST: Final = 32 + 8


def _is_wireguard(row: dict[str, str]) -> bool:
    """Whether the payload parses as a WireGuard message of the right length."""
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
        (row["udp.dstport"], row["udp.length"]) == ("53", str(length))
        and (row["dns.flags"], counts) == ("0x0100", ["1", "0", "0", "0"])
        and name in LOOKED_UP
        and row["dns.qry.type"] in {"1", "28"}
    )


def classify(row: dict[str, str], endpoints: tuple[Endpoint, ...]) -> Kind:
    """Say what a frame is from tshark's fields (first occurrences; "" where the frame has none)."""
    if row["_ws.malformed"]:
        return Kind.CLEAR
    ip4 = row["eth.type"] == "0x0800" and row["ip.hdr_len"] == "20"
    ip4 = ip4 and row["ip.flags.mf"] in {"0", "False"} and row["ip.frag_offset"] == "0"
    udp4 = ip4 and row["udp.dstport"] != "" and "eth:ethertype:ip:udp" in row["frame.protocols"]
    udp6 = row["ipv6.nxt"] == "17" and row["eth.type"] == "0x86dd" and row["udp.dstport"] != ""
    match row["eth.type"]:
        case "0x0806" if row["arp.opcode"]:
            return Kind.ARP
        case "0x888e" if row["eapol.type"]:
            return Kind.EAPOL
        case "0x0800" if udp4 and row["dhcp.type"] == "1" and (row["udp.srcport"], row["udp.dstport"]) == ("68", "67"):
            return Kind.DHCP4 if row["ip.dst"] == "255.255.255.255" else Kind.CLEAR
        case "0x86dd" if udp6 and row["dhcpv6.msgtype"] and (row["udp.srcport"], row["udp.dstport"]) == ("546", "547"):
            near = IPv6Address(row["ipv6.src"]) in _LINK_LOCAL and IPv6Address(row["ipv6.dst"]) == _ALL_DHCP_AGENTS
            return Kind.DHCP6 if near else Kind.CLEAR
        case "0x86dd" if row["ipv6.nxt"] == "58" and row["icmpv6.type"] in _NDP_TYPES:
            return Kind.NDP if _is_proper_ndp(row) else Kind.CLEAR
        case "0x0800" | "0x86dd" if (udp4 or udp6) and _is_look_up(row):
            asked = IPv4Address(row["ip.dst"]) if udp4 else IPv6Address(row["ipv6.dst"])
            return Kind.LOOK_UP if asked in RESOLVERS else Kind.CLEAR
        case "0x0800" | "0x86dd" if (udp4 or udp6) and _is_wireguard(row):
            to = IPv4Address(row["ip.dst"]) if udp4 else IPv6Address(row["ipv6.dst"])
            if (to, int(row["udp.dstport"])) in endpoints:
                return Kind.TUNNEL if row["wg.type"] == "4" else Kind.HANDSHAKE
    return Kind.CLEAR


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


def dissect(path: Path, *, token: bytes, endpoints: tuple[Endpoint, ...] = ENDPOINTS) -> tuple[Frame, ...]:
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
    for row, (time, link, payload) in zip(rows, captured, strict=True):
        sender, has_token = _sender(row, payload, token)
        frames.append(Frame(time, link, classify(row, endpoints), _what(row), len(payload), sender, has_token))
    return tuple(frames)

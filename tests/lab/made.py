# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames that scapy makes, to judge the judge: one of every kind that may leave, and what misses it by a little.

A near miss is a proper frame in which one thing is wrong. Whoever adds a class to `frames.Kind` adds its frames here.
"""

from dataclasses import dataclass
from typing import Any, Final

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dhcp6 import (
    DUID_LL,
    DHCP6_Advertise,
    DHCP6_InfoRequest,
    DHCP6_Solicit,
    DHCP6OptClientId,
)
from scapy.layers.dns import DNS, DNSQR, DNSRR, DNSRROPT
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6NDOptMTU,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.isakmp import ISAKMP
from scapy.layers.l2 import ARP, LLC, SNAP, Dot1Q, Dot3, Ether
from scapy.packet import Raw

from tests.lab import plan
from tests.lab.frames import Kind
from tests.lab.identity import Trace

IKE4: Final = plan.WEB4
IKE6: Final = plan.WEB6
"""Where the gateway of an IPsec tunnel is, as the judge is told."""


@dataclass(frozen=True, slots=True)
class Made:
    """One frame, and what it is."""

    name: str
    kind: Kind
    data: bytes


_OURS, _ROUTER = plan.LAPTOP_MAC["wlan0"], plan.HOME.mac
_GATEWAY4, _GATEWAY6, _PORT = str(plan.GATEWAY4), str(plan.GATEWAY6), plan.GATEWAY_PORT
_RESOLVER4, _RESOLVER6 = str(plan.HOME.router4), str(plan.HOME.router6)
_ELSEWHERE4, _ELSEWHERE6 = "203.0.113.3", "2001:db8:113::3"
_LOCAL: Final = "fe80::2"
_OTHER: Final = bytes.fromhex(plan.LAPTOP_MAC["eth0"].replace(":", ""))


def _ether(to: str = _ROUTER, **fields: Any) -> Any:
    return Ether(src=_OURS, dst=to, **fields)


def _ip4(to: str, **fields: Any) -> Any:
    return _ether() / IP(src="192.168.10.77", dst=to, **fields)


def _ip6(to: str, source: str = "2001:db8:10::77", **fields: Any) -> Any:
    return _ether() / IPv6(src=source, dst=to, **fields)


def _behind(frame: Any, header: Any) -> Any:
    """The same packet behind an IPv6 extension header."""
    inner = frame[IPv6].payload
    header.nh = frame[IPv6].nh
    return _ether() / IPv6(src=frame[IPv6].src, dst=frame[IPv6].dst, hlim=frame[IPv6].hlim) / header / inner


def _tagged(frame: Any) -> Any:
    """The same in a VLAN."""
    return _ether() / Dot1Q(vlan=5) / frame[Ether].payload


def _longer(frame: Any) -> Any:
    """The same with bytes that belong to the IP packet, and not to the datagram in it."""
    whole = Ether(bytes(frame))
    length = whole[UDP].len
    whole = whole / Raw(b"behind!!")
    below = whole[IPv6] if IPv6 in whole else whole[IP]
    for field in ("len", "plen", "chksum"):
        if field in below.fields:
            setattr(below, field, None)
    whole[UDP].len = length
    return whole


# -- the classes: each frame as it should be, and what can be wrong with it ------------------------------------------
def _arp(psrc: str = "192.168.10.77", **fields: Any) -> Any:
    return _ether("ff:ff:ff:ff:ff:ff") / ARP(hwsrc=_OURS, psrc=psrc, pdst="192.168.10.1", **fields)


def _eapol(version: int = 1, kind: int = 1, length: int = 0, body: bytes = b"") -> Any:
    return _ether("01:80:c2:00:00:03", type=0x888E) / Raw(bytes([version, kind]) + length.to_bytes(2, "big") + body)


_WANTED: Final = ("requested_addr", "192.168.10.77")


def _dhcp(
    *,
    to: str = "255.255.255.255",
    ports: tuple[int, int] = (68, 67),
    op: int = 1,
    said: tuple[Any, ...] = (("message-type", "discover"), "end"),
    **fields: Any,
) -> Any:
    chaddr = bytes.fromhex(_OURS.replace(":", ""))
    head = _ether("ff:ff:ff:ff:ff:ff") / IP(src="0.0.0.0", dst=to, **fields)
    return head / UDP(sport=ports[0], dport=ports[1]) / BOOTP(op=op, chaddr=chaddr, xid=7) / DHCP(options=list(said))


def _dhcp6(
    message: Any = None, *, to: str = "ff02::1:2", source: str = _LOCAL, ports: tuple[int, int] = (546, 547)
) -> Any:
    who = DHCP6OptClientId(duid=DUID_LL(lladdr=_OURS))
    said = message if message is not None else DHCP6_Solicit(trid=7)
    return _ip6(to, source) / UDP(sport=ports[0], dport=ports[1]) / said / who


def _rs(to: str = "ff02::2", **fields: Any) -> Any:
    return _ip6(to, _LOCAL, **{"hlim": 255, **fields}) / ICMPv6ND_RS() / ICMPv6NDOptSrcLLAddr(lladdr=_OURS)


def _ns(to: str = "ff02::1:ff00:1", code: int = 0, source: str = _LOCAL, target: str = "fe80::1", **fields: Any) -> Any:
    head = _ip6(to, source, **{"hlim": 255, **fields})
    return head / ICMPv6ND_NS(tgt=target, code=code) / ICMPv6NDOptSrcLLAddr(lladdr=_OURS)


def _na(to: str = "fe80::1", target: str = _LOCAL, **fields: Any) -> Any:
    return _ip6(to, _LOCAL, **{"hlim": 255, **fields}) / ICMPv6ND_NA(tgt=target)


def _look_up(
    name: str = plan.GATEWAY_NAME, *, to: str = _RESOLVER4, port: int = 53, tail: bytes = b"", **fields: Any
) -> Any:
    question = DNSQR(qname=name, qtype=fields.pop("qtype", "A"), qclass=fields.pop("qclass", "IN"))
    head = _ip6(to) if ":" in to else _ip4(to)
    return head / UDP(sport=40000, dport=port) / DNS(id=7, rd=1, qd=question, **fields) / Raw(tail)


def _wireguard(kind: int, size: int, *, to: str = _GATEWAY4, port: int = _PORT, tail: int = 0, **fields: Any) -> Any:
    head = _ip6(to, **fields) if ":" in to else _ip4(to, **fields)
    return head / UDP(sport=40000, dport=port) / Raw(kind.to_bytes(4, "little") + bytes(size - 4 + tail))


def _ike(
    *,
    to: str = str(IKE4),
    port: int = 500,
    marker: bytes = b"",
    version: int = 0x20,
    exchange: int = 34,
    spi: bytes = b"\1" * 8,
    first: int = 41,
    more: int = 0,
    **fields: Any,
) -> Any:
    """A message with one notification (COOKIE); ``more``: by how much its length is wrong."""
    notify = bytes.fromhex("0000001000004006") + b"\2" * 8
    head = ISAKMP(init_cookie=spi, next_payload=first, version=version, exch_type=exchange, length=28 + 16 + more)
    below = _ip6(to, **fields) if ":" in to else _ip4(to, **fields)
    return below / UDP(sport=port, dport=port) / Raw(marker + bytes(head) + notify)


def _esp(spi: int = 0xC0FFEE00, number: int = 1, size: int = 52) -> bytes:
    return spi.to_bytes(4, "big") + number.to_bytes(4, "big") + bytes(range(size - 8))


def _udp_esp(body: bytes, *, to: str = str(IKE4), port: int = 4500, **fields: Any) -> Any:
    head = _ip6(to, **fields) if ":" in to else _ip4(to, **fields)
    return head / UDP(sport=4500, dport=port) / Raw(body)


def _bare_esp(body: bytes, *, to: str = str(IKE4), **fields: Any) -> Any:
    head = _ip6(to, nh=50, **fields) if ":" in to else _ip4(to, proto=50, **fields)
    return head / Raw(body)


_MARK: Final = bytes(4)
_V1: Final[dict[str, Any]] = {"version": 0x10, "exchange": 5, "first": 11}
_PROPER: Final[tuple[tuple[str, Kind, Any], ...]] = (
    ("arp question", Kind.ARP, _arp()),
    ("arp answer", Kind.ARP, _arp(op=2)),
    ("eapol start", Kind.EAPOL, _eapol()),
    ("eapol response", Kind.EAPOL, _eapol(2, 0, 5, b"\2\1\0\5\1")),
    ("dhcp discover", Kind.DHCP4, _dhcp()),
    ("dhcp request", Kind.DHCP4, _dhcp(said=(("message-type", "request"), ("hostname", "x"), "end"))),
    ("dhcp request of an address", Kind.DHCP4, _dhcp(said=(_WANTED, ("message-type", "request"), "end"))),
    ("dhcpv6 solicit", Kind.DHCP6, _dhcp6()),
    ("dhcpv6 information request", Kind.DHCP6, _dhcp6(DHCP6_InfoRequest(trid=7))),
    ("router solicitation", Kind.NDP, _rs()),
    ("neighbour solicitation", Kind.NDP, _ns()),
    ("neighbour solicitation to a gateway", Kind.NDP, _ns(to=str(plan.HOME.router6))),
    ("neighbour advertisement", Kind.NDP, _na()),
    ("neighbour advertisement to all", Kind.NDP, _na(to="ff02::1")),
    ("look-up", Kind.LOOK_UP, _look_up()),
    ("look-up over ipv6", Kind.LOOK_UP, _look_up(to=_RESOLVER6, qtype="AAAA")),
    ("look-up of the NAT64 prefix", Kind.LOOK_UP, _look_up("ipv4only.arpa", qtype="AAAA")),
    ("initiation", Kind.HANDSHAKE, _wireguard(1, 148)),
    ("response", Kind.HANDSHAKE, _wireguard(2, 92)),
    ("cookie", Kind.HANDSHAKE, _wireguard(3, 64, to=_GATEWAY6)),
    ("wireguard keepalive", Kind.TUNNEL, _wireguard(4, 32)),
    ("wireguard data", Kind.TUNNEL, _wireguard(4, 96, to=_GATEWAY6)),
    ("ike", Kind.IKE, _ike()),
    ("ike over ipv6", Kind.IKE, _ike(to=str(IKE6))),
    ("ike behind NAT", Kind.IKE, _ike(port=4500, marker=_MARK)),
    ("ikev1", Kind.IKE, _ike(**_V1)),
    ("esp in udp", Kind.UDP_ESP, _udp_esp(_esp())),
    ("esp in udp over ipv6", Kind.UDP_ESP, _udp_esp(_esp(), to=str(IKE6))),
    ("NAT keepalive", Kind.UDP_ESP, _udp_esp(b"\xff")),
    ("esp", Kind.ESP, _bare_esp(_esp())),
    ("esp over ipv6", Kind.ESP, _bare_esp(_esp(), to=str(IKE6))),
)
_NEAR_MISSES: Final[tuple[tuple[str, Any], ...]] = (
    # ARP
    ("arp: reverse", _arp(op=3)),
    ("arp: inverse", _arp(op=8)),
    ("arp: not for IPv4", _arp(ptype=0x86DD)),
    ("arp: not on Ethernet", _arp(hwtype=6)),
    ("arp: something behind it", _arp() / Raw(b"behind")),
    ("arp: cut", bytes(_arp())[:-4]),
    ("arp: in a VLAN", _ether() / Dot1Q(vlan=5) / ARP(psrc="192.168.10.77", pdst="192.168.10.1")),
    ("arp: in two VLANs", _ether(type=0x88A8) / Dot1Q(vlan=5) / Dot1Q(vlan=6) / ARP(pdst="192.168.10.1")),
    ("arp: in SNAP", Dot3(src=_OURS, dst=_ROUTER) / LLC() / SNAP(code=0x0806) / ARP()),
    ("rarp", _ether(type=0x8035) / ARP(op=3)),
    # EAPOL
    ("eapol: version 0", _eapol(version=0)),
    ("eapol: type 9", _eapol(kind=9)),
    ("eapol: something behind it", _eapol(body=b"behind")),
    ("eapol: longer than it is", _eapol(2, 0, 9, b"\2\1\0\5\1")),
    ("eapol: preauthentication", _ether(type=0x88C7) / Raw(b"\1\1\0\0")),
    # DHCPv4
    ("dhcp: to the server", _dhcp(to="192.168.10.1")),
    ("dhcp: to the subnet", _dhcp(to="192.168.10.255")),
    ("dhcp: from another port", _dhcp(ports=(1068, 67))),
    ("dhcp: to another port", _dhcp(ports=(68, 69))),
    ("dhcp: a server's answer", _dhcp(ports=(67, 68), op=2)),
    ("dhcp: an answer's op", _dhcp(op=2)),
    ("dhcp: no message type", _dhcp(said=(("hostname", "x"), "end"))),
    ("dhcp: an address and no message type", _dhcp(said=(_WANTED, ("hostname", "x"), "end"))),
    ("dhcp: an offer of an address", _dhcp(said=(_WANTED, ("message-type", "offer"), "end"))),
    ("dhcp: an offer", _dhcp(said=(("message-type", "offer"), "end"))),
    ("dhcp: a release by broadcast", _dhcp(said=(("message-type", "release"), "end"))),
    ("dhcp: text", _ether() / IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67) / Raw(b"x" * 260)),
    ("dhcp: empty", _ether() / IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67)),
    ("dhcp: fragment", _dhcp(flags="MF")),
    ("dhcp: the reserved bit", _dhcp(flags="evil")),
    ("dhcp: IP option", _dhcp(options=[IPOption_Router_Alert()])),
    ("dhcp: behind its end", bytes(_dhcp()) + b"behind"),
    # DHCPv6
    ("dhcpv6: to a server", _dhcp6(to="fe80::1")),
    ("dhcpv6: to all servers of the site", _dhcp6(to="ff05::1:3")),
    ("dhcpv6: from a global address", _dhcp6(source="2001:db8:10::77")),
    ("dhcpv6: from another port", _dhcp6(ports=(547, 547))),
    ("dhcpv6: to another port", _dhcp6(ports=(546, 546))),
    ("dhcpv6: a server's message", _dhcp6(DHCP6_Advertise(trid=7))),
    ("dhcpv6: behind an extension header", _behind(_dhcp6(), IPv6ExtHdrHopByHop())),
    ("dhcpv6: behind its end", bytes(_dhcp6()) + b"behind"),
    # neighbour discovery
    ("nd: solicitation far away", _ns(to="2001:db8:80::80")),
    ("nd: solicitation to all nodes", _ns(to="ff02::1")),
    ("nd: few hops", _ns(hlim=64)),
    ("nd: a code", _ns(code=1)),
    ("nd: more options", _ns() / ICMPv6NDOptMTU()),
    ("nd: something behind it", _ns() / Raw(b"behind")),
    ("nd: behind its end", bytes(_ns()) + b"behind"),
    ("nd: cut", _ip6("ff02::1:ff00:1", _LOCAL, hlim=255) / Raw(bytes(_ns())[54:70])),
    ("nd: behind an extension header", _behind(_ns(), IPv6ExtHdrDestOpt())),
    ("nd: advertisement far away", _na(to="2001:db8:80::80")),
    ("nd: advertisement to all routers", _na(to="ff02::2")),
    ("nd: router solicitation to a router", _rs(to="fe80::1")),
    ("nd: router solicitation with few hops", _rs(hlim=1)),
    ("nd: router advertisement", _ip6("ff02::1", _LOCAL, hlim=255) / ICMPv6ND_RA()),
    ("nd: redirect", _ip6("fe80::1", _LOCAL, hlim=255) / ICMPv6ND_Redirect(tgt="fe80::9", dst="2001:db8::1")),
    ("nd: listener report", _ip6("ff02::16", _LOCAL, hlim=1) / IPv6ExtHdrHopByHop() / ICMPv6MLReport2()),
    ("ping over ipv6", _ip6("ff02::1", _LOCAL, hlim=255) / ICMPv6EchoRequest()),
    # look-ups
    ("look-up: another name", _look_up("www.example.com")),
    ("look-up: a name below it", _look_up(f"x.{plan.GATEWAY_NAME}")),
    ("look-up: in capitals", _look_up(plan.GATEWAY_NAME.upper())),
    ("look-up: TXT", _look_up(qtype="TXT")),
    ("look-up: CHAOS", _look_up(qclass="CH")),
    ("look-up: not recursive", _look_up(ad=1)),
    ("look-up: an answer", _look_up(qr=1)),
    ("look-up: with EDNS", _look_up(ar=DNSRROPT(rclass=4096))),
    ("look-up: with a record", _look_up(an=DNSRR(rrname="x.example", rdata="192.0.2.1"))),
    ("look-up: something behind it", _look_up(tail=b"behind")),
    ("look-up: behind its end", bytes(_look_up()) + b"behind"),
    ("look-up: of another resolver", _look_up(to=str(plan.DNS4))),
    ("look-up: of another resolver over ipv6", _look_up(to=str(plan.DNS6))),
    ("look-up: another port", _look_up(port=5353)),
    ("look-up: tcp", _ip4(_RESOLVER4) / TCP(sport=40000, dport=53, flags="S")),
    # WireGuard
    ("wireguard: another port", _wireguard(4, 96, port=443)),
    ("wireguard: another host", _wireguard(4, 96, to=_ELSEWHERE4)),
    ("wireguard: another host over ipv6", _wireguard(1, 148, to=_ELSEWHERE6)),
    ("wireguard: initiation too short", _wireguard(1, 140)),
    ("wireguard: initiation too long", _wireguard(1, 148, tail=8)),
    ("wireguard: response too long", _wireguard(2, 96)),
    ("wireguard: cookie too short", _wireguard(3, 60)),
    ("wireguard: data too short", _wireguard(4, 28)),
    ("wireguard: type 5", _wireguard(5, 148)),
    ("wireguard: type 0", _wireguard(0, 148)),
    ("wireguard: reserved bytes", _wireguard(0x01000001, 148)),
    ("wireguard: text", _ip4(_GATEWAY4) / UDP(sport=40000, dport=_PORT) / Raw(b"hello" * 30)),
    ("wireguard: empty", _ip4(_GATEWAY4) / UDP(sport=40000, dport=_PORT)),
    ("wireguard: first fragment", _wireguard(4, 96, flags="MF")),
    ("wireguard: later fragment", _wireguard(4, 96, frag=1)),
    ("wireguard: the reserved bit", _wireguard(4, 96, flags="evil")),
    ("wireguard: IP option", _wireguard(4, 96, options=[IPOption_Router_Alert()])),
    ("wireguard: behind its end", bytes(_wireguard(4, 96)) + b"behind"),
    ("wireguard: behind its datagram", _longer(_wireguard(1, 148))),
    ("wireguard: behind its datagram over ipv6", _longer(_wireguard(1, 148, to=_GATEWAY6))),
    ("wireguard: behind an extension header", _behind(_wireguard(4, 96, to=_GATEWAY6), IPv6ExtHdrDestOpt())),
    ("wireguard: behind a routing header", _behind(_wireguard(4, 96, to=_GATEWAY6), IPv6ExtHdrRouting())),
    ("wireguard: in an atomic fragment", _behind(_wireguard(4, 96, to=_GATEWAY6), IPv6ExtHdrFragment())),
    ("wireguard: in a VLAN", _tagged(_wireguard(4, 96))),
    ("wireguard: in IP", _ip4(_GATEWAY4) / IP(bytes(_wireguard(4, 96))[14:])),
    ("tcp to the endpoint", _ip4(_GATEWAY4) / TCP(sport=40000, dport=_PORT, flags="S")),
    ("ping to the endpoint", _ip4(_GATEWAY4) / ICMP() / Raw(b"x" * 32)),
    # IKE and ESP
    ("ike: to another host", _ike(to=_ELSEWHERE4)),
    ("ike: to another host over ipv6", _ike(to=_ELSEWHERE6)),
    ("ike: another port", _ike(port=501)),
    ("ike: longer than it says", _ike(more=-4)),
    ("ike: shorter than it says", _ike(more=4)),
    ("ike: version 3", _ike(version=0x30)),
    ("ike: an exchange of the other version", _ike(exchange=2)),
    ("ike: an unknown exchange", _ike(exchange=240)),
    ("ike: nobody's", _ike(spi=bytes(8))),
    ("ike: no payload", _ike(first=0)),
    ("ike: text", _ip4(str(IKE4)) / UDP(sport=500, dport=500) / Raw(b"hello" * 30)),
    ("ike: fragment", _ike(flags="MF")),
    ("ike: behind its end", bytes(_ike()) + b"behind"),
    ("ike: behind its datagram", _longer(_ike())),
    ("ike: a marker on port 500", _ike(marker=_MARK)),
    ("esp in udp: to another host", _udp_esp(_esp(), to=_ELSEWHERE4)),
    ("esp in udp: another port", _udp_esp(_esp(), port=4501)),
    ("esp in udp: a reserved SPI", _udp_esp(_esp(spi=255))),
    ("esp in udp: packet 0", _udp_esp(_esp(number=0))),
    ("esp in udp: too short", _udp_esp(_esp(size=32))),
    ("esp in udp: no whole words", _udp_esp(_esp(size=53))),
    ("esp in udp: fragment", _udp_esp(_esp(), flags="MF")),
    ("esp in udp: behind its datagram", _longer(_udp_esp(_esp()))),
    ("NAT keepalive: another byte", _udp_esp(b"\xfe")),
    ("NAT keepalive: too long", _udp_esp(b"\xff\xff")),
    ("NAT keepalive: too short", _udp_esp(b"")),
    ("esp: to another host", _bare_esp(_esp(), to=_ELSEWHERE4)),
    ("esp: a reserved SPI", _bare_esp(_esp(spi=1))),
    ("esp: packet 0", _bare_esp(_esp(number=0), to=str(IKE6))),
    ("esp: too short", _bare_esp(_esp(size=32))),
    ("esp: no whole words", _bare_esp(_esp(size=54), to=str(IKE6))),
    ("esp: fragment", _bare_esp(_esp(), flags="MF")),
    ("esp: IP option", _bare_esp(_esp(), options=[IPOption_Router_Alert()])),
    ("esp: behind its end", bytes(_bare_esp(_esp())) + b"behind"),
    ("esp: behind an extension header", _behind(_bare_esp(_esp(), to=str(IKE6)), IPv6ExtHdrDestOpt())),
    ("ah", _ip4(str(IKE4), proto=51) / Raw(b"\x32\4\0\0" + bytes(24) + _esp())),
    # nothing that anybody knows
    ("unknown ethertype", _ether(type=0x88B5) / Raw(bytes(46))),
    ("lldp", _ether("01:80:c2:00:00:0e", type=0x88CC) / Raw(b"\2\7\4" + bytes(10))),
    ("spanning tree", Dot3(src=_OURS, dst="01:80:c2:00:00:00") / LLC(dsap=0x42, ssap=0x42, ctrl=3) / Raw(bytes(35))),
    ("ipv4 of another version", bytes(_wireguard(4, 96)).replace(b"\x08\x00\x45", b"\x08\x00\x65", 1)),
    ("ipv6 as ipv4", bytes(_wireguard(4, 96, to=_GATEWAY6)).replace(b"\x86\xdd\x60", b"\x08\x00\x60", 1)),
)
PROPER: Final = tuple(Made(name, kind, bytes(frame)) for name, kind, frame in _PROPER)
"""One frame and more of every class."""
NEAR_MISSES: Final = tuple(Made(name, Kind.CLEAR, bytes(frame)) for name, frame in _NEAR_MISSES)
"""What is none of them."""


def _spoken(*said: Any) -> Any:
    return _dhcp(said=(("message-type", "discover"), *said, "end"))


_EUI64: Final = "fe80::ff:fe00:2"
"""What the kernel makes of the card's hardware address."""
_INSIDE4, _INSIDE6 = str(plan.TUNNEL4), str(plan.TUNNEL6)
_UUID: Final = b"\xff\0\0\0\1\0\4" + bytes(range(16))
_TELLING: Final[tuple[tuple[str, Kind, Trace | None, Any], ...]] = (
    ("nothing", Kind.DHCP4, None, _spoken()),
    ("an address by chance", Kind.NDP, None, _ns()),
    ("host name", Kind.DHCP4, Trace.HOST_NAME, _spoken(("hostname", b"laptop"))),
    ("full name", Kind.DHCP4, Trace.HOST_NAME, _spoken(("client_FQDN", b"\0\0\0laptop.example"))),
    ("vendor", Kind.DHCP4, Trace.CLASS, _spoken(("vendor_class_id", b"system 12"))),
    ("duid in dhcp", Kind.DHCP4, Trace.DUID, _spoken(("client_id", _UUID))),
    ("duid", Kind.DHCP6, Trace.DUID, _dhcp6()),
    ("duid of another card", Kind.DHCP4, Trace.OTHER_CARD, _spoken(("client_id", b"\1" + _OTHER))),
    ("address made of the card's", Kind.NDP, Trace.EUI64, _ns(source=_EUI64)),
    ("question about it", Kind.NDP, Trace.EUI64, _ns(target=_EUI64)),
    ("answer about the inside", Kind.ARP, Trace.INSIDE, _arp(op=2, psrc=_INSIDE4)),
    ("question from the inside", Kind.ARP, Trace.INSIDE, _arp(psrc=_INSIDE4)),
    ("advertisement of the inside", Kind.NDP, Trace.INSIDE, _na(target=_INSIDE6)),
    ("solicitation from the inside", Kind.NDP, Trace.INSIDE, _ns(source=_INSIDE6)),
)
TELLING: Final = tuple((Made(name, kind, bytes(frame)), told) for name, kind, told, frame in _TELLING)
"""Frames that may leave, and what they tell about the machine."""

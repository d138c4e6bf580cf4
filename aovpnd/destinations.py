# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a packet would go, as people write it for ``aovpnctl explain``: ``[UID@]ADDRESS[:PORT][/PROTOCOL]``.

203.0.113.80            TCP to port 443
203.0.113.80:53/udp     UDP to port 53
[2001:db8::80]:22       TCP to port 22
203.0.113.80/icmp       an echo request, as ping(8) sends it
fe80::1%wlan0           by that link: without one a link-local address means nothing (RFC 4007)
1000@203.0.113.80       sent by a program of that user
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

LONGEST_TEXT: Final = 128
"""Characters; no destination has more."""
PORT: Final = 443
"""What most packets to a stranger are: HTTPS."""
PORTED: Final = {"tcp": 6, "udp": 17, "sctp": 132, "dccp": 33, "udplite": 136}
PORTLESS: Final = {"icmp": 1, "igmp": 2, "ipip": 4, "ipv6": 41, "gre": 47, "esp": 50, "ah": 51, "ospf": 89, "l2tp": 115}
PROTOCOLS: Final = PORTED | PORTLESS
"""By name, as in /etc/protocols; ``icmp`` to an IPv6 address is ICMPv6."""
_ICMPV6: Final = 58
_ON_ONE_LINK: Final = (1, 2)
"""Scopes of multicast for which a socket may say the link (RFC 4291, 2.7; __ipv6_addr_needs_scope_id)."""

_FORM: Final = re.compile(
    r"(?:\[(?P<six>[^\[\]]*)\]|(?P<plain>[^\[\]/]*?))(?::(?P<port>[0-9]{1,5}))?(?:/(?P<protocol>[A-Za-z0-9]{1,12}))?"
)
_USER: Final = re.compile(r"([^@]*)@(.*)", re.DOTALL)
LARGEST_UID: Final = (1 << 32) - 2
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_HOW: Final = "write it like 203.0.113.80:443/tcp or [2001:db8::80]:443"


class DestinationError(ValueError):
    """A text is no destination: ``str(error)`` says why, ``hint`` what to write."""

    def __init__(self, text: str, hint: str = _HOW) -> None:
        super().__init__(text)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Destination:
    """One address, and what is sent there. ``port`` None where the protocol has none; ``link`` "" but for addresses
    that mean something on one link alone; ``uid`` None: of a user who is named nowhere.
    """

    address: IPv4Address | IPv6Address
    port: int | None = PORT
    protocol: str = "tcp"
    link: str = ""
    uid: int | None = None

    @property
    def number(self) -> int:
        """The protocol's number in the IP header (RFC 5237)."""
        return _ICMPV6 if self.protocol == "icmp" and self.address.version == 6 else PROTOCOLS[self.protocol]  # noqa: PLR2004

    def __str__(self) -> str:
        host = f"{self.address}%{self.link}" if self.link else str(self.address)
        whose = f"{self.uid}@" if self.uid is not None else ""
        if self.port is None:
            return f"{whose}{host}/{self.protocol}"
        return f"{whose}{f'[{host}]' if ':' in host else host}:{self.port}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class Routed:
    """What the kernel says of the way to a destination: by the link with the index ``link`` (None: nowhere), ``here``
    where it is an address of this machine, with the source address and the gateway, found in which table.
    """

    link: int | None = None
    here: bool = False
    source: IPv4Address | IPv6Address | None = None
    gateway: IPv4Address | IPv6Address | None = None
    table: int = 0


def parse(text: str) -> Destination:
    """Read a destination. `DestinationError` for everything else; names are not resolved, since asking for one would
    itself be a packet.
    """
    shown = ascii(text[:LONGEST_TEXT])[: LONGEST_TEXT + 2]  # escapes are up to ten letters for one
    uid = None
    if len(text) <= LONGEST_TEXT and (whose := _USER.fullmatch(text)) is not None:
        uid, text = _uid(whose[1], shown), whose[2]
    form = _FORM.fullmatch(_without_brackets(text)) if len(text) <= LONGEST_TEXT else None
    if form is None:
        raise DestinationError(f"{shown} is no destination")
    host, _, link = (form["six"] if form["six"] is not None else form["plain"]).partition("%")
    address = _address(host, shown)
    if form["six"] is not None and ":" not in host:
        raise DestinationError(f"{shown}: brackets are for IPv6 alone")
    protocol = (form["protocol"] or "tcp").lower()
    if protocol == "icmpv6":
        protocol = "icmp"
    if protocol not in PROTOCOLS:
        prefix = protocol.isdecimal() and int(protocol) <= address.max_prefixlen
        what = "a network is no destination" if prefix else f"'{protocol}' is no protocol that I know"
        raise DestinationError(f"{shown}: {what}", f"one address; protocols are {', '.join(PROTOCOLS)}")
    if form["port"] is not None and protocol in PORTLESS:
        raise DestinationError(f"{shown}: {protocol} has no ports", f"write {address}/{protocol}")
    port = None if protocol in PORTLESS else int(form["port"] or PORT)
    if port is not None and not 1 <= port <= 65535:  # noqa: PLR2004 - ports have 16 bits
        raise DestinationError(f"{shown}: {port} is no port", "from 1 to 65535")
    return Destination(address, port, protocol, _link(address, link, shown), uid)


def _uid(text: str, shown: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(LARGEST_UID)) and int(text) <= LARGEST_UID):
        raise DestinationError(f"{shown}: before the @ stands the number of a user", "id -u NAME says it")
    return int(text)


def _without_brackets(text: str) -> str:
    """An IPv6 address that stands alone needs none; what looks like its port then is its last group."""
    host, slash, protocol = text.partition("/")
    return f"[{host}]{slash}{protocol}" if host.count(":") > 1 and not host.startswith("[") else text


def _address(host: str, shown: str) -> IPv4Address | IPv6Address:
    try:
        address = ip_address(host)
    except ValueError:
        if _NAME.fullmatch(host) and not host.replace(".", "").isdecimal():
            hint = f"give an address; the names are the resolver's: getent ahosts {host}"
            raise DestinationError(f"{shown} is a name, and explain asks nobody for its address", hint) from None
        raise DestinationError(f"{shown} is no address") from None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # such a packet is an IPv4 one (RFC 4291, 2.5.5.2)
    if address.is_unspecified:
        raise DestinationError(f"{shown} is no address of anybody")
    return address


def _link(address: IPv4Address | IPv6Address, link: str, shown: str) -> str:
    if isinstance(address, IPv6Address) and address.is_multicast and address.packed[1] & 0xF not in _ON_ONE_LINK:
        raise DestinationError(
            f"{shown} is multicast beyond one link, and by which link it goes is the kernel's choice"
        )
    scoped = isinstance(address, IPv6Address) and (address.is_link_local or address.is_multicast)
    if scoped and not link:
        raise DestinationError(f"{shown} is on every link", f"say on which: {address}%wlan0")
    if link and not scoped:
        raise DestinationError(f"{shown}: a link goes with link-local and multicast IPv6 addresses alone")
    if link and not (len(link) <= 15 and link.isprintable() and link.isascii() and not set(" :") & set(link)):  # noqa: PLR2004 - IFNAMSIZ
        hint = f"ip link shows them; with a port: [{address}%wlan0]:{PORT}" if ":" in link else "ip link shows them"
        raise DestinationError(f"{shown}: this is no name of a link", hint)
    return link

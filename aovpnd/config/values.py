# SPDX-License-Identifier: GPL-3.0-or-later
"""The values of a tunnel file, parsed for good: text in, typed value out, `UnfitError` for everything else.

No message quotes a key, or anything that stands where a key belongs.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_address, ip_interface, ip_network
from typing import Final

from aovpnd.config import hosts
from aovpnd.config.findings import UnfitError, quoted
from aovpnd.ruleset import LARGEST_PORT, Address, Network
from aovpnd.tunnel import Endpoint, HostPort, Interface, is_reserved, unfit

KEY_BYTES: Final = 32
SMALLEST_MTU_IPV6: Final = 1280
"""RFC 8200, section 5; below it the kernel switches IPv6 off on the link."""
SMALLEST_MTU_IPV4: Final = 576
"""RFC 791: what every host must take."""
LARGEST_MTU: Final = 65535

_DIGITS: Final = re.compile(r"0|[1-9][0-9]{0,9}")
_PREFIXED: Final = re.compile(r"[0-9A-Fa-f.:]+(/[0-9]{1,3})?")
_LABEL: Final = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOMAIN: Final = re.compile(rf"~\.|~?{_LABEL}(\.{_LABEL})*\.?")
_LONGEST_DOMAIN: Final = 253
_LOOKS_LIKE_ADDRESS: Final = re.compile(r"[0-9.]+|.*:.*")
"""wg-quick's own test of what in DNS is an address."""


def key(text: str) -> str:
    """A key as wg(8) writes it: 32 bytes in base64, and not all zeros, which means "no key" to the kernel."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    # Compared anew: the last letter before = has two bits that decoding ignores and wg does not.
    if len(raw) != KEY_BYTES or base64.b64encode(raw).decode() != text:
        raise UnfitError("is no key: 32 bytes in base64 are 44 characters, the last one =", "copy it again, whole")
    if not any(raw):
        raise UnfitError("is all zeros, which means no key at all", "wg genkey makes one")
    return text


def private_key(text: str) -> str:
    """A private key as the kernel keeps it: X25519 fixes five bits (RFC 7748, section 5), and reading the device back
    shows them fixed, so a key that some other program made must be compared in that form.
    """
    raw = bytearray(base64.b64decode(key(text)))
    raw[0] &= 248
    raw[31] = (raw[31] & 127) | 64
    return base64.b64encode(raw).decode()


def number(text: str, smallest: int, largest: int) -> int:
    """A decimal number within bounds."""
    if _DIGITS.fullmatch(text) is None or not smallest <= int(text) <= largest:
        raise UnfitError(f"{quoted(text)} is not a number from {smallest} to {largest}")
    return int(text)


def port(text: str) -> int | None:
    """A port to listen on; 0 means any, as in wg(8)."""
    return number(text, 0, LARGEST_PORT) or None


def keepalive(text: str) -> int:
    """Seconds; ``off`` is 0, as in wg(8)."""
    return 0 if text.lower() == "off" else number(text, 0, LARGEST_PORT)


def mtu(text: str, *, smallest: int) -> int:
    """Bytes. ``smallest`` is 1280 where the tunnel carries IPv6."""
    try:
        return number(text, smallest, LARGEST_MTU)
    except UnfitError as error:
        why = "IPv6 needs 1280 (RFC 8200)" if smallest == SMALLEST_MTU_IPV6 else "every host takes 576 (RFC 791)"
        raise UnfitError(error.reason, f"{why}; without the line aovpnd chooses") from None


def interface(text: str) -> Interface:
    """An address of this machine in the tunnel, with its prefix; without one /32 or /128."""
    try:
        value = ip_interface(plain_prefix(text))
    except ValueError:
        raise UnfitError(f"{quoted(text)} is no address", "write it like 10.0.0.2/32 or fd00::2/128") from None
    if value.ip.is_unspecified or value.ip.is_multicast or value.ip.is_loopback or is_reserved(value.ip):
        raise UnfitError(f"{quoted(text)} cannot be the address of a machine", "take the one that the gateway gave you")
    return value


def network(text: str) -> Network:
    """What a peer carries. Bits behind the prefix are cut off, as wg(8) does."""
    try:
        return ip_network(plain_prefix(text), strict=False)
    except ValueError:
        hint = "write it like 10.0.0.0/8 or fd00::/8; 0.0.0.0/0, ::/0 is everything"
        raise UnfitError(f"{quoted(text)} is no network", hint) from None


def exact_network(text: str) -> Network:
    """A network as somebody names it on purpose: bits behind the prefix are a mistake."""
    try:
        return ip_network(plain_prefix(text))
    except ValueError as error:
        if "host bits" in str(error):
            hint = f"write {ip_network(text, strict=False)} for the network, or the address without a prefix"
            raise UnfitError(f"{quoted(text)} has bits behind its prefix", hint) from None
        raise UnfitError(f"{quoted(text)} is no network", "write it like 10.0.0.0/8, 10.0.0.7 or fd00::/8") from None


def joined(found: Iterable[Network]) -> tuple[Network, ...]:
    """Networks, joined where they overlap or touch: nft takes no set in which something is there twice."""
    found = tuple(found)
    four = collapse_addresses(network for network in found if isinstance(network, IPv4Network))
    six = collapse_addresses(network for network in found if isinstance(network, IPv6Network))
    return (*four, *six)


def dns(text: str) -> Address | str:
    """A resolver's address, or a search domain; which of them, wg-quick's own test decides."""
    if _LOOKS_LIKE_ADDRESS.fullmatch(text) is None:
        if _DOMAIN.fullmatch(text) is None or len(text) > _LONGEST_DOMAIN:
            raise UnfitError(
                f"{quoted(text)} is neither an address nor a domain", "write it like 10.0.0.1 or corp.example"
            )
        return text
    try:
        value = ip_address(_plain(text))
    except ValueError:
        raise UnfitError(f"{quoted(text)} is no address", "write it like 10.0.0.1 or fd00::1") from None
    if value.is_unspecified or value.is_multicast or is_reserved(value):
        raise UnfitError(f"{quoted(text)} cannot be the address of a resolver")
    return value


def endpoint(text: str) -> Endpoint | HostPort:
    """Where the gateway listens: ``192.0.2.1:51820``, ``[2001:db8::1]:51820`` or ``vpn.example.org:51820``."""
    host, colon, port_text = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or (":" in host and not bracketed):
        hint = "write it like 192.0.2.1:51820, [2001:db8::1]:51820 or vpn.example.org:51820"
        raise UnfitError(f"{quoted(text)} is not an address or name and a port", hint)
    host = host[1:-1] if bracketed else host
    try:
        addr = ip_address(_plain(host))
    except ValueError:
        if "%" in host:
            raise UnfitError("a zone (%) cannot be used", "write an address that is not link-local") from None
        if bracketed:
            raise UnfitError(f"{quoted(host)} is no IPv6 address", "write it like [2001:db8::1]:51820") from None
        return HostPort(hosts.name(host), number(port_text, 1, LARGEST_PORT))
    if bracketed != isinstance(addr, IPv6Address):
        raise UnfitError(f"{quoted(text)}: brackets are for IPv6 alone", "write it like 192.0.2.1:51820")
    if (why := unfit(addr)) is not None:
        raise UnfitError(f"{quoted(host)} is {why}: no gateway can be there", "write the gateway's own address")
    return Endpoint(addr, number(port_text, 1, LARGEST_PORT))


def target(text: str) -> Endpoint:
    """Whom to ask through a tunnel: ADDRESS:PORT."""
    host, _, port = text.rpartition(":")
    hint = 'write ADDRESS:PORT, "192.0.2.1:443" or "[2001:db8::1]:443"'
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise UnfitError(f"{quoted(text)} is no address with a port", hint)
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 1 << 16):  # noqa: PLR2004 - digits
        raise UnfitError(f"{quoted(text)} is no address with a port", hint)
    try:
        address = ip_address(host)
    except ValueError:
        raise UnfitError(f"{quoted(text)} is no address with a port", hint) from None
    if address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local:
        raise UnfitError(f"{quoted(text)} cannot be reached through a tunnel", "name a server on the other side")
    return Endpoint(address, int(port))


def plain_prefix(text: str) -> str:
    """An address with or without prefix length; ipaddress would take netmasks and zones as well."""
    if _PREFIXED.fullmatch(text) is None:
        raise ValueError(text)
    return text


def _plain(text: str) -> str:
    if _PREFIXED.fullmatch(text) is None or "/" in text:
        raise ValueError(text)
    return text

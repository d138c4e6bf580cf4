# SPDX-License-Identifier: GPL-3.0-or-later
"""Host names of gateways: text in, lower-case A-labels out, `UnfitError` for whatever DNS should not be asked about."""

import re
from typing import Final

from aovpnd.config.findings import UnfitError, quoted
from aovpnd.tunnel import HOST_NAME, LONGEST_NAME

LONGEST_LABEL: Final = 63
_NUMERIC: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)", re.IGNORECASE)
"""Ends in a number, so inet_aton(3) and browsers take it for an IPv4 address in an old notation."""
_SPECIAL: Final = {
    "localhost": ("is this machine itself (RFC 6761)", "write the gateway's name"),
    "local": ("is a name of multicast DNS (RFC 6762), which is never asked", "write the gateway's address"),
    "onion": ("is a name of the Tor network (RFC 7686), which is not in DNS", "write the gateway's address"),
    "invalid": ("is no name that can exist (RFC 6761)", "write the gateway's name"),
    "alt": ("is no name of DNS (RFC 9476)", "write the gateway's name"),
    "ipv4only.arpa": ("asks for a network's NAT64 prefix (RFC 7050), and is no gateway", "write the gateway's name"),
}
"""Names, with all that ends in them, of which no resolver of a network may be asked, or that lead nowhere."""


def name(text: str) -> str:
    """The name of a gateway as DNS knows it: IDNs as A-labels (RFC 5891), lower case, without the final dot."""
    ascii_name = (text if text.isascii() else _a_labels(text)).lower().removesuffix(".")
    if _NUMERIC.fullmatch(ascii_name) is not None:
        raise UnfitError(f"{quoted(text)} is no address", "write it like 192.0.2.1 or [2001:db8::1]")
    labels = ascii_name.split(".")
    if len(ascii_name) > LONGEST_NAME or max(map(len, labels)) > LONGEST_LABEL:
        reason = f"{quoted(text)} is longer than a name may be"
        raise UnfitError(reason, f"at most {LONGEST_NAME} characters, {LONGEST_LABEL} between two dots (RFC 1035)")
    for number in range(len(labels)):
        if (special := _SPECIAL.get(".".join(labels[number:]))) is not None:
            raise UnfitError(f"{quoted(text)} {special[0]}", special[1])
    if len(labels) == 1 and labels[0]:
        hint = "write it whole, like vpn.example.org: search domains are the network's, and not asked"
        raise UnfitError(f"{quoted(text)} is only the first part of a name", hint)
    if HOST_NAME.fullmatch(ascii_name) is None:
        hint = "letters, digits and hyphens between dots (RFC 1123), or an address like 192.0.2.1 or [2001:db8::1]"
        raise UnfitError(f"{quoted(text)} is neither a host name nor an address", hint)
    return ascii_name


def _a_labels(text: str) -> str:
    if len(text) > LONGEST_NAME:
        raise UnfitError("is longer than a name may be", f"at most {LONGEST_NAME} characters (RFC 1035)")
    import idna  # noqa: PLC0415 - a quarter of a megabyte of tables, for the few files with such a name

    try:
        return idna.encode(text, uts46=True, std3_rules=True).decode("ascii")
    except idna.IDNAError:
        hint = "look for typographic characters, or write the name as xn--..."
        raise UnfitError("is no name that IDNA 2008 (RFC 5891) permits", hint) from None

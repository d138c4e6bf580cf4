# SPDX-License-Identifier: GPL-3.0-or-later
"""The values of an IKE tunnel's file: TOML's values in, typed values out, `UnfitError` for everything else."""

import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final, TypeVar

from aovpnd.config import plain, values
from aovpnd.config.findings import UnfitError, quoted
from aovpnd.ipsec import NAT_T_PORT, Ask, Childless, IkeVersion, Method, Revocation
from aovpnd.ruleset import Address, Network
from aovpnd.tunnel import Endpoint, HostPort, Interface

MOST: Final = 16
"""Gateways, files, addresses or proposals in one list."""
MOST_NETWORKS: Final = 1000
LONGEST_IDENTITY: Final = 255
"""Characters; a distinguished name of a company and its departments has a hundred."""
LONGEST_SECRET: Final = 4096
DAY_S: Final = 24 * 3600
MONTH_S: Final = 30 * DAY_S

_IKE_PORT: Final = 500
_GATEWAY: Final = 'write it like "192.0.2.1", "[2001:db8::1]:4500" or "vpn.example.org"'
_PREFIX: Final = re.compile(r"(?:fqdn|dns|userfqdn|rfc822|email|keyid|ipv4|ipv6|asn1dn):|@#|@@?")
"""How strongSwan is told of what type an identity is."""
_SIMPLE: Final = re.compile(r"[A-Za-z0-9._:+@-]+")
_ANYBODY: Final = frozenset({"", "any", "any6"})
_HEX: Final = re.compile(r"(?:0x)?((?:[0-9A-Fa-f]{2}){1,32})")
_TPM_HANDLE: Final = re.compile(r"(?:0x)?([0-9A-Fa-f]{8})")
_T = TypeVar("_T")


def some(value: object, parse: Callable[[object], _T], most: int = MOST) -> tuple[_T, ...]:
    """As `plain.several`, and not empty."""
    found = plain.several(value, parse, most)
    if not found:
        raise UnfitError("an empty list says nothing", "remove the line, or write one")
    return found


def gateway(value: object) -> Endpoint | HostPort:
    """Where charon of the other side listens; port 4500 unless another is written."""
    written = plain.text(value)
    if not written:
        raise UnfitError("is empty", _GATEWAY)
    bracketed = written.startswith("[")
    if written.count(":") > 1 and not bracketed:
        raise UnfitError(f"{quoted(written)} has no brackets around its IPv6 address", _GATEWAY)
    bare = written.endswith("]") if bracketed else ":" not in written
    try:
        found = values.endpoint(f"{written}:{NAT_T_PORT}" if bare else written)
    except UnfitError as error:
        hint = _GATEWAY if "51820" in error.hint else error.hint
        reason = error.reason.replace(f"{written}:{NAT_T_PORT}", written) if bare else error.reason
        raise UnfitError(reason, hint) from None
    if found.port == _IKE_PORT:
        reason = "IKE begins on port 4500 here, where ESP follows it (RFC 7296 section 2.23)"
        raise UnfitError(reason, "leave the port out; a gateway that listens on 500 listens on 4500, too")
    return found


def version(value: object) -> IkeVersion:
    """1 or 2."""
    return IkeVersion(plain.whole(value, 1, 2, "1 (weak) or 2"))


def identity(value: object) -> str:
    """An IKE identity as strongSwan writes them, of exactly one machine or person: no pattern, no network."""
    written = plain.text(value)
    hint = 'write it like "vpn.example.org", "alice@example.org", "192.0.2.1" or "C=DE, O=Example, CN=vpn"'
    if not written or len(written) > LONGEST_IDENTITY or not written.isprintable() or written != written.strip():
        raise UnfitError(f"{quoted(written)} is no identity", hint)
    name = _PREFIX.sub("", written, 1)
    if "*" in written or name.lstrip("%") in _ANYBODY or _is_unspecified(name):
        raise UnfitError(f"{quoted(written)} would be anybody", "write one identity, whole")
    if "=" in name and not written.startswith("@"):
        return written  # a distinguished name
    if written.startswith("keyid:") and name.isascii() and " " not in name:
        return written
    if _SIMPLE.fullmatch(name) is None or _is_range(name) or (":" in name and not _is_address(name)):
        raise UnfitError(f"{quoted(written)} is no identity", hint)
    return written


def user(value: object) -> str:
    """A name to log in with, for EAP or XAuth."""
    written = plain.text(value)
    if not written.strip() or len(written) > LONGEST_IDENTITY or not written.isprintable():
        raise UnfitError(f"{quoted(written)} is no user's name", f"1 to {LONGEST_IDENTITY} printable characters")
    return written


def method(value: object) -> Method:
    """How we show who we are."""
    return _word(value, Method)


def server_method(value: object) -> Method:
    """How the gateway shows who it is."""
    found = _word(value, Method)
    if found not in {Method.PSK, Method.CERTIFICATE}:
        raise UnfitError(f"{quoted(found)} is no way for a gateway", 'write "psk" or "certificate"')
    return found


def ask(value: object) -> Ask:
    """How long a secret is kept that a person is asked for. Nothing is quoted: it may be the secret itself."""
    hint = 'write { ask = "once" }, or { ask = "each time" } for one-time passwords; or name its file instead'
    if not isinstance(value, dict):
        raise UnfitError("is no place for a secret", hint)
    word = value.get("ask")
    if not isinstance(word, str) or word not in set(Ask):
        raise UnfitError("does not say how it is asked for", hint)
    return Ask(word)


def ask_once(value: object) -> Ask:
    """Of a PIN or a key's password, which is the same each time."""
    found = ask(value)
    if found is not Ask.ONCE:
        raise UnfitError("is the same each time", 'write { ask = "once" }')
    return found


def childless(value: object) -> Childless:
    """RFC 6023."""
    return _word(value, Childless)


def revocation(value: object) -> Revocation:
    """How strict."""
    return _word(value, Revocation)


def span(least_s: int, most_s: int) -> Callable[[object], int]:
    """A parser of spans within bounds, seconds."""
    return lambda value: plain.span(value, least_s, most_s)


def span_or_never(value: object) -> int:
    """Seconds, or 0 for never."""
    if value == "0" or (value == 0 and not isinstance(value, bool)):
        return 0
    try:
        return plain.span(value, 60, MONTH_S)
    except UnfitError as error:
        raise UnfitError(error.reason, f'{error.hint}; "0" is never' if error.hint else '"0" is never') from None


def family(value: object) -> int:
    """4 or 6."""
    found = plain.whole(value, 0, 10**6, "4 and 6 are the families")
    if found not in {4, 6}:
        raise UnfitError(f"{found} is no family of addresses", "4 and 6 are the families")
    return found


def network(value: object) -> Network:
    """What the tunnel carries."""
    return values.network(plain.text(value))


def address(value: object) -> Interface:
    """A fixed address of ours."""
    return values.interface(plain.text(value))


def resolver(value: object) -> Address:
    """A name server in the tunnel."""
    found = values.dns(plain.text(value))
    if isinstance(found, str):
        raise UnfitError(
            f"{quoted(found)} is no address", "write it like 10.0.0.1 or fd00::1; domains belong to search"
        )
    return found


def domain(value: object) -> str:
    """A search domain."""
    found = values.dns(plain.text(value))
    if not isinstance(found, str):
        raise UnfitError(f"'{found}' is no domain", "write it like corp.example; addresses belong to dns")
    return found


def mtu(smallest: int) -> Callable[[object], int]:
    """A parser of bytes."""

    def parse(value: object) -> int:
        hint = f"from {smallest} to {values.LARGEST_MTU}; without the line aovpnd chooses"
        return plain.whole(value, smallest, values.LARGEST_MTU, hint)

    return parse


def slot(value: object) -> int:
    """The number of a PKCS#11 slot."""
    return plain.whole(value, 0, 2**32 - 1)


def handle(value: object) -> str:
    """CKA_ID of a key in a token: bytes in hexadecimal digits."""
    return _digits(value, _HEX, "write its CKA_ID in hexadecimal digits, as pkcs11-tool --list-objects shows it")


def tpm_handle(value: object) -> str:
    """Handle of a persistent key in a TPM 2.0."""
    return _digits(value, _TPM_HANDLE, 'write it like "81010001", as tpm2_getcap handles-persistent shows it')


def secret(text: str) -> str:
    """What a file of one secret holds, without the line end that editors write. Nothing of it is ever quoted."""
    held = text.removesuffix("\n").removesuffix("\r")
    if not held:
        raise UnfitError("the file is empty", "write the secret into it, on one line")
    if len(held) > LONGEST_SECRET or not held.isprintable():
        raise UnfitError("the file holds more than one line, or no text", "one secret on one line")
    return held


def _digits(value: object, pattern: re.Pattern[str], hint: str) -> str:
    found = pattern.fullmatch(plain.text(value))
    if found is None:
        raise UnfitError("is no handle", hint)
    return found[1].lower()


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return "%" not in name


def _is_unspecified(name: str) -> bool:
    return _is_address(name) and ip_address(name).is_unspecified


def _is_range(name: str) -> bool:
    """Whether it is two addresses with a hyphen between them, which strongSwan takes for all that lie between."""
    first, _, last = name.partition("-")
    return _is_address(first) and _is_address(last)


_Word = TypeVar("_Word", Method, Childless, Revocation)


def _word(value: object, words: type[_Word]) -> _Word:
    written = plain.text(value)
    try:
        return words(written)
    except ValueError:
        known = ", ".join(f'"{word.value}"' for word in words)
        raise UnfitError(f"{quoted(written)} is not known", f"there are: {known}") from None

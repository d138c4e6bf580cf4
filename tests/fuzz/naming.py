# SPDX-License-Identifier: GPL-3.0-or-later
"""Names: DNS answers by datagram and by stream, what becomes of their addresses, and what other resolvers' programs and
files say.
"""

import struct
import time
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

import dns.message
import dns.rdatatype

from aovpnd.adapters import lookup, resolvers
from aovpnd.adapters.dns_resolvconf import Resolvconf
from aovpnd.adapters.dns_resolved import parse_status
from aovpnd.adapters.probe import is_answer, question
from aovpnd.config import hosts
from aovpnd.config.findings import UnfitError
from aovpnd.core import endpoints, nat64
from aovpnd.core.decide import decide
from aovpnd.core.intent import learn, settle
from aovpnd.errors import ToolError
from aovpnd.inquiries import LookedUp, LookUp
from aovpnd.model import Config, Intent
from aovpnd.ruleset import Address
from aovpnd.tunnel import HOST_NAME, HostPort, Peer, unfit
from tests.fuzz import judge
from tests.fuzz.mutate import Mutator
from tests.fuzz.places import place, put
from tests.fuzz.target import Target, words
from tests.unit.small_world import BASES, WORK, Situation
from tests.unit.test_dns_resolved import DEBIAN_12, DEBIAN_13, LINK, LONG_13, NOTHING_13
from tests.unit.test_lookup import VPN, ZONE, answer

_KINDS: Final = {kind: lookup.question(VPN, kind) for kind in (dns.rdatatype.A, dns.rdatatype.AAAA)}
for _asked in _KINDS.values():
    _asked.id = 0x4242
_A: Final = _KINDS[dns.rdatatype.A]
_ALIASES: Final = tuple(f"a{n}.{VPN}. 60 IN CNAME a{n + 1}.{VPN}." for n in range(12))
_CHAIN: Final = (f"{VPN}. 60 IN CNAME a0.{VPN}.", *_ALIASES, f"a12.{VPN}. 60 IN A 192.0.2.1")
_CIRCLE: Final = (f"{VPN}. 60 IN CNAME b.{VPN}.", f"b.{VPN}. 60 IN CNAME {VPN}.")
_SHORT: Final = (f"{VPN}. 60 IN CNAME gw.example.", "gw.example. 60 IN A 192.0.2.7", "gw.example. 60 IN A 127.0.0.1")
_MANY: Final = tuple(f"{VPN}. 60 IN A 192.0.2.{n}" for n in range(1, 60))
WIRES: Final = tuple(
    answer(asked, *records, rcode=rcode).to_wire()
    for asked in _KINDS.values()
    for records, rcode in (
        (ZONE, "NOERROR"),
        (_CHAIN, "NOERROR"),
        (_CIRCLE, "NOERROR"),
        (_SHORT, "NOERROR"),
        (_MANY, "NOERROR"),
        ((), "NXDOMAIN"),
        ((), "SERVFAIL"),
    )
)
_TRUNCATED: Final = WIRES[0][:2] + b"\x83\x80" + WIRES[0][4:12]
WORDS: Final = (
    *(
        b"\xc0\x0c",
        b"\xc0\x00",
        b"\xc0\xff",
        b"\xff\xff",
        b"\x3f" + b"a" * 63,
        b"\x03vpn\x07example\x03org\x00",
        b"\x00",
    ),
    *(
        b"\x00\x01\x00\x01",
        b"\x00\x05\x00\x01",
        b"\x00\x1c\x00\x01",
        b"\x00\x29",
        b"\x00\x2e",
        b"\x00\xfa",
        b"\x00\xff",
    ),
    *(
        b"\x00\x06",
        b"\x00\x10",
        b"\x00\x21",
        b"\x00\x23",
        b"\x00\x30",
        b"\x00\x32",
        b"\x00\x41",
        b"\x01\x01",
        b"\x00\x04\xc0\x00\x02\x01",
    ),
    *(b"\x83\x80", b"\x81\x80", b"\x85\x05", b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x7f\x00\x00\x01"),
)


def _answer(wire: bytes) -> str:
    """Whatever comes by a datagram: the answer to our question, or nothing; and addresses, none of a name that was not
    asked about, or a word of refusal.
    """
    outcomes = []
    for kind, asked in _KINDS.items():
        found = lookup.matching(wire, asked)
        if found is None:
            outcomes.append("somebody else's")
            continue
        try:
            got = lookup.addresses(found, VPN, kind)
        except lookup.RefusedError as refused:
            judge.told(str(refused))
            outcomes.append(judge.outcome("refused", str(refused)))
            continue
        assert all(isinstance(addr, IPv4Address) is (kind is dns.rdatatype.A) for addr in got)
        outcomes.append(f"{min(len(got), 3)} {bool(found.flags & 0x200)}")
    return " / ".join(outcomes)


class Stream:
    """A connection that has these bytes to give, in pieces of some size."""

    def __init__(self, content: bytes, piece: int) -> None:
        self._left = content
        self._piece = max(piece % 600, 1)

    def recv(self, most: int) -> bytes:
        """The next piece; nothing at the end."""
        size = min(most, self._piece)
        given, self._left = self._left[:size], self._left[size:]
        return given

    def sendall(self, _: bytes) -> None:
        """It takes all."""

    def settimeout(self, _: float) -> None:
        """It never blocks."""


def _stream(case: tuple[bytes, int]) -> str:
    """Whatever comes by TCP or TLS: an answer, or a word of refusal, from no more bytes than an answer may have."""
    content, piece = case
    asking = lookup._Asking(
        LookUp(VPN, 2, "wlan0", ()), IPv4Address("192.0.2.53"), lambda _: None, time.monotonic() + 9, None
    )
    stream: Any = Stream(content, piece)
    try:
        for kind, asked in _KINDS.items():
            asking.take(kind, asking._ask(stream, asked))
        got = asking.result()
    except lookup.RefusedError as refused:
        judge.told(str(refused))
        return judge.outcome("refused", str(refused))
    except TimeoutError:
        return "nothing"
    assert len(got) <= lookup.MOST_ADDRESSES
    return f"{min(len(got), 4)} addresses"


def _framed(*wires: bytes) -> bytes:
    return b"".join(struct.pack("!H", len(wire)) + wire for wire in wires)


# -- addresses --------------------------------------------------------------------------------------------------------
_NAMED: Final = replace(
    WORK,
    peers=(Peer("work-peer0", WORK.peers[0].allowed, host=HostPort(VPN, 51820)), *WORK.peers[1:1]),
)
_CONFIG: Final = Config((_NAMED,))
_WORLDS: Final = tuple(
    (snapshot, settle(_CONFIG, Intent(), snapshot))
    for up in ("private", "two", "IPv6 alone, gateway off-link")
    for snapshot in (
        Situation("one tunnel", BASES[0].lan, "none", up, "absent", "none", "given", "none").world().snapshot,
    )
)
_PACKED: Final = b"".join(
    ip_address(text).packed.rjust(16, b"\0")
    for text in (
        "2001:db8:e::1",
        "192.0.2.1",
        "64:ff9b::c000:aa",
        "fe80::1",
        "::1",
        "127.0.0.1",
        "192.168.1.23",
        "ff02::1",
    )
)


def _learned(case: tuple[bytes, int, int]) -> str:
    """Whatever addresses an answer has: of all, one at a time is used, and only one at which a gateway can be; what is
    embedded for NAT64 is an address again.
    """
    packed, world, name = case
    pieces = [packed[at : at + 16] for at in range(0, min(len(packed), 1024), 16)]
    addresses: tuple[Address, ...] = tuple(
        IPv6Address(piece) if len(piece) == 16 and piece[0] else IPv4Address(piece[-4:].rjust(4, b"\1"))
        for piece in pieces
    )
    snapshot, intent = _WORLDS[world % len(_WORLDS)]
    assert intent.look_up is not None
    host = nat64.WELL_KNOWN if name % 5 == 0 else VPN
    inquiry = replace(intent.look_up.inquiry, host=host)
    intent = replace(intent, look_up=replace(intent.look_up, inquiry=inquiry))
    intent = learn(intent, LookedUp(inquiry, addresses, inquiry.resolvers[0]))
    intent = settle(_CONFIG, intent, snapshot)
    desired = decide(_CONFIG, intent, snapshot)
    used = [endpoint for wish in desired.tunnels for endpoint in wish.spec.endpoints]
    assert len(used) <= 1
    assert all(unfit(endpoint.addr) is None for endpoint in used)
    prefix = nat64.prefix(addresses)
    if prefix is not None:
        assert (
            unfit(nat64.embed(prefix, IPv4Address("192.0.2.1"))) != "an IPv4 address in IPv6 clothes"
            or prefix.prefixlen == 96
        )
    known = endpoints.known(intent.hosts, host)
    assert len(known.answered) <= endpoints.MOST
    return f"{len(used)} used of {len(known.answered)}, {prefix is not None}"


# -- other programs' words --------------------------------------------------------------------------------------------
def _resolvectl(text: str) -> str:
    try:
        held = parse_status(text, LINK)
    except ToolError as error:
        return judge.error(error)
    assert len(held.servers) <= 64
    for domain in held.domains:
        judge.told(domain, longest=255)
    return f"{min(len(held.servers), 3)} {min(len(held.domains), 3)} {held.default_route}"


def _resolver_files(case: tuple[bytes, bytes, bytes, bytes]) -> str:
    """resolv.conf and the records of network managers: addresses of others, bounded."""
    users, networkd, manager, record = case
    run = place("run")
    put(run / resolvers.NETWORKD / "3", networkd)
    put(run / resolvers.NETWORK_MANAGER, manager)
    put(run / "resolvconf" / "keys" / "eth0.dhcp", record)
    text = users.decode("utf-8", "replace")
    others = Resolvconf(run / "resolvconf").others()
    found = resolvers.resolvers(text, (), run)
    found += resolvers.resolvers(others or "", (), run)
    assert len(found) <= 32
    assert not any(address.is_loopback or address.is_multicast or address.is_unspecified for address in found)
    assert not any("%" in str(address) for address in found)
    return f"{min(len(found), 5)} {sorted({address.version for address in found})}"


def _host(text: str) -> str:
    """A gateway's name: one that may be asked for, or a word why not."""
    try:
        name = hosts.name(text)
    except UnfitError as error:
        judge.told(f"{error.reason} ({error.hint})")
        return judge.outcome("unfit", error.reason)
    assert HOST_NAME.fullmatch(name)
    HostPort(name, 1)
    return "ok"


def _probed(case: tuple[bytes, bytes]) -> str:
    query, said = case
    return str(is_answer(query, said))


_QUERY: Final = question(b"ab", "0123456789abcdef")
_CONF: Final = b"# x\nnameserver 192.168.1.1\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\nsearch a.b\n"
_NETWORKD: Final = b"ADMIN_STATE=configured\nDNS=192.168.1.1 9.9.9.9#dns.quad9.net [fd00::1]:53 fe80::2%3\nDOMAINS=x\n"
_NAMES: Final = (
    VPN,
    "büro.straße.example",
    "XN--ZCA.example",
    "192.0.2.1",
    "a.b.c.d.e",
    "0x7f.1",
    "ℊw.example",
    "local",
)


TARGETS: Final = (
    Target("dns-answer", "DNS answers by datagram", (*WIRES, _TRUNCATED), _answer, Mutator(WORDS), slice=1500),
    Target(
        "dns-stream",
        "DNS answers by TCP and TLS, in pieces",
        ((_framed(*WIRES[:1], *WIRES[7:8]), 7), (_framed(WIRES[1], WIRES[8]), 599), (b"\xff\xff" + WIRES[0], 1)),
        _stream,
        Mutator(WORDS),
        slice=1500,
    ),
    Target(
        "dns-addresses",
        "addresses of a gateway's name, NAT64 prefixes",
        ((_PACKED, 0, 1), (_PACKED[32:], 2, 5), (b"", 1, 0)),
        _learned,
        slice=300,
    ),
    Target(
        "host-name",
        "a gateway's name, IDNs",
        _NAMES,
        _host,
        Mutator((*words("。 ． ｡ - -- xn-- ß ς \u200d \u200c ٠ ⅔"),)),
    ),
    Target(
        "probe-answer",
        "DNS answers to the probe in the tunnel",
        ((_QUERY, _QUERY), (_QUERY, b"")),
        _probed,
        Mutator(WORDS),
    ),
    Target(
        "resolvectl",
        "what resolvectl(1) prints",
        (DEBIAN_12, DEBIAN_13, LONG_13, NOTHING_13),
        _resolvectl,
        Mutator(words(LONG_13)),
    ),
    Target(
        "resolver-files",
        "resolv.conf, networkd's, NetworkManager's and resolvconf's records",
        ((_CONF, _NETWORKD, _CONF, _CONF), (b"", b"", b"", b"")),
        _resolver_files,
        Mutator((b"nameserver ", b"DNS=", b"127.0.0.1", b"::1", b"fe80::1%x", b"#", b"%", b"\n", b"\x85", b"\x1e")),
        slice=1000,
    ),
)

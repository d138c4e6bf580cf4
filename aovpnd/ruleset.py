# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules as values: what a table says. `render.py` spells it for nft, `trace.py` says what it does to a packet.

Pure. A `Ruleset` is one whole table, never a change to one. Every name that reaches the text is checked in a
constructor, so rendering cannot be injected.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import pairwise
from typing import Final

from aovpnd.links import SAFE_NAME

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_IDENTIFIER: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_COMMENT: Final = re.compile(r"[A-Za-z0-9 _,.:;()/'+*=-]{1,120}")


class Hook(StrEnum):
    """Netfilter hooks, by their nft words."""

    PREROUTING = "prerouting"
    INPUT = "input"
    FORWARD = "forward"
    OUTPUT = "output"
    POSTROUTING = "postrouting"
    EGRESS = "egress"


class Verdict(Enum):
    """What a rule says. CONTINUE changes the mark at most and lets the next rule speak."""

    ACCEPT = "accept"
    DROP = "drop"
    REJECT = "reject with icmpx admin-prohibited"
    CONTINUE = ""


class Protocol(StrEnum):
    """EtherTypes that a rule can name."""

    IP = "ip"
    IP6 = "ip6"
    ARP = "arp"
    EAPOL = "0x888e"
    VLAN = "8021q"
    PPPOE_DISCOVERY = "0x8863"
    PPPOE_SESSION = "0x8864"


class Framing(StrEnum):
    """Whether a link puts an Ethernet header in front (ARPHRD_ETHER), which PPP and many modems do not."""

    ETHERNET = "ether"
    OTHER = "!= ether"


class Origin(StrEnum):
    """Whether the IP stack handed a packet to the link: then it has a route (skb_dst), which no sender can claim."""

    ROUTED = "routed"
    FRAMED = "a packet socket's frame"


class Owner(StrEnum):
    """Whose socket a packet is from, by nft's words. What the kernel made by itself has none: no rule can ask for that,
    but one behind ``ANYBODY`` sees nothing else.
    """

    ROOT = "0"
    ANYBODY = "!= 4294967295"


@dataclass(frozen=True, slots=True)
class Users:
    """Whose socket a packet is from: one of ``uids``, or (``others``) anybody but those. As `Owner`, no rule with it
    applies to what the kernel made by itself. ``ValueError`` where it would name nobody, or all.
    """

    uids: tuple[int, ...]
    others: bool = False

    def __post_init__(self) -> None:
        if not self.uids or any(not 0 <= uid < 1 << 32 for uid in self.uids):
            raise ValueError(f"{self.uids} are no users")


class L4(StrEnum):
    """Transport protocols that a rule can name."""

    TCP = "tcp"
    UDP = "udp"
    ICMP = "icmp"
    ICMPV6 = "icmpv6"


class Conntrack(StrEnum):
    """``ct state`` words; only for packets that come in, never for what leaves by an outside link (facts T2)."""

    ESTABLISHED = "established"
    RELATED = "related"


class Flow(StrEnum):
    """``ct direction`` words: which way a packet goes, as seen from whoever began the connection."""

    ORIGINAL = "original"
    REPLY = "reply"


LARGEST_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class Ports:
    """A range of ports, both ends in it. ``ValueError`` for one that has no two ports in it."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.last <= LARGEST_PORT:
            raise ValueError(f"{self.first} to {self.last} is no range of ports")

    def __contains__(self, port: int) -> bool:
        return self.first <= port <= self.last

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


Port = int | Ports


def is_among(port: int, ports: tuple[Port, ...]) -> bool:
    """Whether one of several ports and ranges is, or holds, ``port``."""
    return any(port in some if isinstance(some, Ports) else port == some for some in ports)


@dataclass(frozen=True, slots=True)
class Device:
    """How a rule names a link. Index *and* name *and* kind, where known: each alone is unsafe (facts T3, G7).

    ``name`` may end in ``*``. ``ValueError`` for a name that cannot be written safely.
    """

    index: int | None = None
    name: str | None = None
    kind: str | None = None

    def __post_init__(self) -> None:
        if self.name is not None and SAFE_NAME.fullmatch(self.name.removesuffix("*")) is None:
            raise ValueError(f"link name {self.name!r} cannot be written into a rule")
        if self.kind is not None:
            _check_word("link kind", self.kind)

    def matches(self, other: "Device") -> bool:
        """Whether the concrete link ``other`` is one that this names."""
        index = self.index is None or self.index == other.index
        name = self.name is None or _name_matches(self.name, other.name or "")
        return index and name and (self.kind is None or self.kind == other.kind)


def _check_word(what: str, word: str) -> None:
    """Names of ours are words; `ValueError` for anything that nft could read as more than one."""
    if _IDENTIFIER.fullmatch(word) is None:
        msg = f"{what} {word!r} cannot be written into a ruleset"
        raise ValueError(msg)


def _name_matches(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


LOOPBACK: Final = Device(1, "lo")
"""The loopback has index 1 in every network namespace (net/core/dev.c)."""


@dataclass(frozen=True, slots=True)
class Mark:
    """``value`` under ``mask``: as a match, the bits must be so; as a statement, they are made so."""

    value: int
    mask: int


@dataclass(frozen=True, slots=True)
class SetRef:
    """A reference to a named set of links; ``named`` says whether its key is index and name, or the index alone."""

    name: str
    named: bool = False

    def __post_init__(self) -> None:
        _check_word("set", self.name)


def by_family(networks: tuple[Network, ...]) -> Iterable[tuple[Network, ...]]:
    """Networks by IP version, those that there are: one rule speaks of one family."""
    for version in (4, 6):
        if family := tuple(network for network in networks if network.version == version):
            yield family


@dataclass(frozen=True, slots=True)
class Match:
    """A conjunction; what is None or empty matches everything. Tuples are alternatives."""

    iif: Device | None = None
    oif: Device | None = None
    iif_in: SetRef | None = None
    oif_in: SetRef | None = None
    protocol: Protocol | None = None
    framing: Framing | None = None
    frame: tuple[Protocol, ...] = ()
    """The type in the Ethernet header itself; ``protocol`` is only what the sender's socket claimed."""
    tagged: Protocol | None = None
    """The type behind an 802.1Q tag."""
    origin: Origin | None = None
    owner: Owner | Users | None = None
    ppp: tuple[int, ...] = ()
    """Protocols inside a PPPoE session (RFC 2516, section 4; IANA's PPP numbers)."""
    mark: Mark | None = None
    saddr: tuple[Network, ...] = ()
    daddr: tuple[Network, ...] = ()
    l4: tuple[L4, ...] = ()
    sport: tuple[Port, ...] = ()
    dport: tuple[Port, ...] = ()
    icmp_type: tuple[int, ...] = ()  # ICMPv6's; ICMP's where ``l4`` says so
    begins: bool = False
    """The first packet of a TCP connection, or the answer to it: those with the flag SYN."""
    hop_limit: int | None = None
    ct: tuple[Conntrack, ...] = ()
    flow: Flow | None = None
    sa: Address | None = None
    """The far end of the tunnel-mode SA by which the kernel is about to transform the packet; postrouting alone."""
    before: int | None = None
    """Seconds since the epoch on the wall clock: whole ones, nft knows no parts. A set's timer begins when the kernel
    gets the set, however late that is; this does not."""

    def __post_init__(self) -> None:
        if self.ppp and self.protocol is not Protocol.PPPOE_SESSION:
            msg = "a protocol inside a PPPoE session needs a session"
            raise ValueError(msg)
        if (self.sport or self.dport) and not set(self.l4) & {L4.TCP, L4.UDP}:
            msg = "a port needs a protocol: mark and protocol and address and port (facts T7)"
            raise ValueError(msg)
        if self.begins and self.l4 != (L4.TCP,):
            raise ValueError("TCP alone has connections that begin")
        if any(_overlap(ports) for ports in (self.sport, self.dport)):
            msg = "ports of one rule are in their order, and none is there twice: nft takes no set that overlaps"
            raise ValueError(msg)
        if len({network.version for network in self.saddr + self.daddr}) > 1:
            msg = "one rule speaks of one address family"
            raise ValueError(msg)
        if any("%" in str(network) for network in self.saddr + self.daddr):
            msg = "a zone (fe80::1%eth0) may hold any character and cannot be written into a rule"
            raise ValueError(msg)


def _overlap(ports: tuple[Port, ...]) -> bool:
    """Whether a range holds what stands beside it, or is out of order; single ports may stand in any order."""
    if not any(isinstance(port, Ports) for port in ports):
        return False
    ends = [(port.first, port.last) if isinstance(port, Ports) else (port, port) for port in ports]
    return any(last >= first for (_, last), (first, _) in pairwise(ends))


class Mss(StrEnum):
    """Where a bound for TCP's segments may come from, by nft's words, when it is not a number."""

    ROUTE = "rt mtu"
    """What the routes there and back carry, less the headers (nft_rt's tcpmss)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: where it applies, what it does to the mark, what it says, and why.

    ``clamp_mss`` lowers the segment size that a TCP handshake offers, to a number of bytes or to what routes say; the
    kernel never raises it. Such a rule looks at handshakes alone, and judges nothing.
    """

    match: Match
    verdict: Verdict
    comment: str
    set_mark: Mark | None = None
    jump: str | None = None
    clamp_mss: int | Mss | None = None

    def __post_init__(self) -> None:
        if isinstance(self.clamp_mss, int) and not 0 < self.clamp_mss < 1 << 16:
            raise ValueError(f"{self.clamp_mss} is no segment size (RFC 9293, section 3.7.1)")
        if self.clamp_mss is not None and (self.verdict is not Verdict.CONTINUE or self.set_mark or self.jump):
            raise ValueError("a rule that clamps segments judges nothing")
        if _COMMENT.fullmatch(self.comment) is None:
            msg = f"comment {self.comment!r} cannot be written into a rule"
            raise ValueError(msg)
        if self.jump is not None:
            _check_word("chain", self.jump)


@dataclass(frozen=True, slots=True)
class Chain:
    """A base chain (with a hook) or a regular one (without).

    A base chain that filters must *end in an explicit, unconditional drop or reject*: the chain's policy alone leaks
    during an atomic replace (facts T1), so `ValueError` otherwise.
    """

    name: str
    rules: tuple[Rule, ...]
    hook: Hook | None = None
    priority: int = 0
    device: str | None = None
    policy: Verdict = Verdict.DROP

    def __post_init__(self) -> None:
        _check_word("chain", self.name)
        if self.device is not None and SAFE_NAME.fullmatch(self.device) is None:
            msg = f"link name {self.device!r} cannot be written into a chain"
            raise ValueError(msg)
        ends = [rule.verdict for rule in self.rules[-1:] if rule.match == Match()]
        if self.policy is Verdict.DROP and not set(ends) & {Verdict.DROP, Verdict.REJECT}:
            msg = f"chain {self.name} does not end in an explicit drop (facts T1)"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Element:
    """A set element: a link by index (and name, where the set has both), until ``expires_at`` (CLOCK_BOOTTIME seconds)
    or for good.
    """

    device: Device
    expires_at: float | None = None
    lifetime: float | None = None


@dataclass(frozen=True, slots=True)
class LinkSet:
    """A named set of links and what it holds; ``timed`` sets let the kernel remove what has expired."""

    ref: SetRef
    elements: tuple[Element, ...] = ()
    timed: bool = False


@dataclass(frozen=True, slots=True)
class Ruleset:
    """One table, whole. ``owned`` tables belong to the socket that loaded them and go with it (facts T10)."""

    family: str
    table: str
    chains: tuple[Chain, ...]
    sets: tuple[LinkSet, ...] = ()
    owned: bool = False
    comment: str = ""

    def __post_init__(self) -> None:
        _check_word("family", self.family)
        _check_word("table", self.table)
        if self.comment and _COMMENT.fullmatch(self.comment) is None:
            msg = f"comment {self.comment!r} cannot be written into a table"
            raise ValueError(msg)

    def chain(self, name: str) -> Chain:
        """The chain called ``name``; `KeyError` if there is none."""
        return {chain.name: chain for chain in self.chains}[name]

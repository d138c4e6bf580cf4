# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses, routes and rules as rtnetlink(7) dumps them, read without a library.

A main table may hold a whole internet's routes (10,000 of them took pyroute2 half a second): the kernel filters by
family and table, and of what is left only the few routes that matter are looked at closely.
"""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Final

from aovpnd import rtnl
from aovpnd.errors import NetlinkError
from aovpnd.routes import LinkAddress, Route
from aovpnd.ruleset import Address, Network

IPV4, IPV6 = 4, 6
FAMILIES: Final = {IPV4: socket.AF_INET, IPV6: socket.AF_INET6}
"""Address family numbers (Linux's) by IP version."""
MAIN_TABLE: Final = 254
LOCAL_TABLE: Final = 255
UNICAST, UNREACHABLE = 1, 7
"""Route types (RTN_…) that we write or look for."""
TO_TABLE, ACT_UNREACHABLE = 1, 7
"""Rule actions (FR_ACT_…) that we write."""
ACT_NOP: Final = 3
_ACTIONS: Final = {2: "goto", ACT_NOP: "nop", 6: "blackhole", ACT_UNREACHABLE: "unreachable", 8: "prohibit"}
_TABLES: Final = {253: "default", MAIN_TABLE: "main", LOCAL_TABLE: "local"}
INVERT: Final = 0x2
"""FIB_RULE_INVERT: ``not``."""

_BYTES: Final = {IPV4: 4, IPV6: 16}
_IFADDR: Final = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, index
_RTMSG: Final = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
_NEXTHOP: Final = struct.Struct("=HBBi")  # rtnexthop: length, flags, hops, index
_FIB_RULE: Final = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, -, -, action, flags

_CACHE_INFO: Final = struct.Struct("=8xi")  # rta_cacheinfo: references, last use, expires, …

_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_MULTIPATH = 1, 4, 5, 6, 9
_RTA_METRICS, _RTAX_MTU = 8, 2
_RTA_CACHEINFO, _RTA_TABLE, _RTA_VIA, _RTA_PREF = 12, 15, 18, 20
_RTM_F_CLONED: Final = 0x200
_SCOPE_LINK: Final = 253
_OUR_ROUTE: Final = frozenset(
    (_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_VIA, _RTA_PRIORITY, _RTA_CACHEINFO, _RTA_TABLE, _RTA_PREF)
)
"""Attributes that a route has when we wrote it; any other makes it somebody else's."""

_FRA_DST, _FRA_SRC, _FRA_PRIORITY, _FRA_FWMARK, _FRA_SUPPRESS_IFGROUP, _FRA_SUPPRESS_PREFIXLEN = 1, 2, 6, 10, 13, 14
_FRA_TABLE, _FRA_FWMASK, _FRA_OIFNAME, _FRA_PAD, _FRA_UID_RANGE, _FRA_PROTOCOL = 15, 16, 17, 18, 20, 21
_OUR_RULE: Final = frozenset(
    (_FRA_PRIORITY, _FRA_FWMARK, _FRA_FWMASK, _FRA_TABLE, _FRA_PROTOCOL, _FRA_PAD)  # what we write, and what follows
) | {_FRA_DST, _FRA_SRC, _FRA_OIFNAME, _FRA_UID_RANGE, _FRA_SUPPRESS_IFGROUP, _FRA_SUPPRESS_PREFIXLEN}
_UIDS: Final = struct.Struct("=II")  # fib_rule_uid_range: first, last
_OIF_DETACHED: Final = 0x10
"""FIB_RULE_OIF_DETACHED: the link that is named is not there just now."""
_SUPPRESS_NOTHING: Final = 0xFFFFFFFF


# -- addresses --------------------------------------------------------------------------------------------------------
def addresses(family: int) -> tuple[LinkAddress, ...]:
    """Every address of one family (4 or 6) in this network namespace, by link."""
    found = rtnl.dump(rtnl.RTM_GETADDR, _IFADDR.pack(FAMILIES[family], 0, 0, 0, 0), rtnl.RTM_NEWADDR)
    parsed = [address for payload in found if (address := parse_address(payload, family)) is not None]
    return tuple(sorted(parsed, key=lambda address: (address.link, int(address.interface.ip))))


def parse_address(payload: bytes, family: int) -> LinkAddress | None:
    """Read the payload of an RTM_NEWADDR message; None when it is of another family.

    On a point-to-point link IFA_ADDRESS is the far end, and ours is IFA_LOCAL.
    """
    number, prefix_length, _flags, _scope, index = rtnl.unpack(_IFADDR, payload)
    if number != FAMILIES[family]:
        return None
    found = rtnl.attributes(payload, _IFADDR.size)
    raw = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)
    if raw is None or prefix_length > 8 * _BYTES[family]:
        raise NetlinkError(f"link {index} has an address that cannot be read")
    address = _address(raw, family)
    if isinstance(address, IPv4Address):
        return LinkAddress(index, IPv4Interface((int(address), prefix_length)))
    return LinkAddress(index, IPv6Interface((int(address), prefix_length)))


def _address(raw: bytes, family: int) -> Address:
    if len(raw) != _BYTES[family]:
        raise NetlinkError(f"an IPv{family} address of {len(raw)} bytes")
    return IPv4Address(raw) if family == IPV4 else IPv6Address(raw)


# -- routes -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class TableRoute:
    """A route of our own table. ``kind`` is its type (RTN_…), ``odd`` whether it says more than we ever write; of a
    ``multipath`` route ``route`` shows the first next hop.
    """

    route: Route
    kind: int
    tos: int
    odd: bool
    multipath: bool


def main_routes(family: int) -> tuple[Route, ...]:
    """The main table's default and connected routes, each next hop of a multipath route by itself."""
    return tuple(route for payload in _routes(family, MAIN_TABLE) for route in parse_main_route(payload, family))


def table_routes(family: int, table: int) -> tuple[TableRoute, ...]:
    """Everything in one table."""
    found = (parse_table_route(payload, family, table) for payload in _routes(family, table))
    return tuple(route for route in found if route is not None)


def _routes(family: int, table: int) -> list[bytes]:
    header = _RTMSG.pack(FAMILIES[family], 0, 0, 0, table if table <= MAIN_TABLE else 0, 0, 0, 0, 0)
    return rtnl.dump(
        rtnl.RTM_GETROUTE, header + rtnl.attribute(_RTA_TABLE, struct.pack("=I", table)), rtnl.RTM_NEWROUTE
    )


def parse_main_route(payload: bytes, family: int) -> Iterator[Route]:
    """Read a route of the main table; nothing when it is neither a default route nor connected."""
    number, length, _src, _tos, _table, _protocol, scope, kind, flags = rtnl.unpack(_RTMSG, payload)
    # In IPv4 the scope of a route with a gateway is never "link": thousands of them cost no closer look.
    if number != FAMILIES[family] or kind != UNICAST or flags & _RTM_F_CLONED:
        return
    if family == IPV4 and length and scope != _SCOPE_LINK:
        return
    found = rtnl.attributes(payload, _RTMSG.size)
    dst = _destination(found, length, family)
    if _is_over(found):
        return
    metric = rtnl.u32(found[_RTA_PRIORITY]) if _RTA_PRIORITY in found else 0
    metrics = rtnl.attributes(found.get(_RTA_METRICS, b""))
    mtu = rtnl.u32(metrics[_RTAX_MTU]) if _RTAX_MTU in metrics else None
    for link, gateway in _next_hops(found, family):
        if length == 0 or gateway is None:
            yield Route(dst, link, gateway, metric, mtu)


def _is_over(found: rtnl.Attributes) -> bool:
    """Whether a route's lifetime is over: the kernel uses it no more, and clears it away up to half a minute later."""
    info = found.get(_RTA_CACHEINFO, b"")
    return len(info) >= _CACHE_INFO.size and _CACHE_INFO.unpack_from(info)[0] < 0


def parse_table_route(payload: bytes, family: int, table: int) -> TableRoute | None:
    """Read a route of the table ``table``; None when it is of another family or table, or a cache entry."""
    number, length, src_length, tos, short_table, _protocol, _scope, kind, flags = rtnl.unpack(_RTMSG, payload)
    found = rtnl.attributes(payload, _RTMSG.size)
    in_table = rtnl.u32(found[_RTA_TABLE]) if _RTA_TABLE in found else short_table
    if number != FAMILIES[family] or flags & _RTM_F_CLONED or in_table != table:
        return None
    hops = tuple(_next_hops(found, family))
    link, gateway = hops[0] if hops else (None, None)
    odd = bool(found.keys() - _OUR_ROUTE or src_length or tos or len(hops) > 1 or kind not in (UNICAST, UNREACHABLE))
    metric = rtnl.u32(found[_RTA_PRIORITY]) if _RTA_PRIORITY in found else 0
    # IPv6 gives an unreachable route the loopback as its link.
    route = Route(_destination(found, length, family), link if kind == UNICAST else None, gateway, metric)
    return TableRoute(route, kind, tos, odd, multipath=_RTA_MULTIPATH in found)


def _destination(found: rtnl.Attributes, length: int, family: int) -> Network:
    raw = found.get(_RTA_DST, bytes(_BYTES[family]))
    try:
        address = _address(raw, family)
        return (
            IPv4Network((int(address), length))
            if isinstance(address, IPv4Address)
            else IPv6Network((int(address), length))
        )
    except ValueError as error:
        raise NetlinkError(f"a route with a destination that cannot be read: {error}") from error


def _next_hops(found: rtnl.Attributes, family: int) -> Iterator[tuple[int, Address | None]]:
    if _RTA_OIF in found:
        yield rtnl.u32(found[_RTA_OIF]), _gateway(found, family)
    rest = found.get(_RTA_MULTIPATH, b"")
    while rest:
        length, _flags, _hops, link = rtnl.unpack(_NEXTHOP, rest)
        if not _NEXTHOP.size <= length <= len(rest):
            raise NetlinkError(f"a next hop of {length} bytes with {len(rest)} left")
        yield link, _gateway(rtnl.attributes(rest[:length], _NEXTHOP.size), family)
        rest = rest[(length + 3) & ~3 :]


def _gateway(found: rtnl.Attributes, family: int) -> Address | None:
    """RTA_GATEWAY, or RTA_VIA: an IPv4 route over an IPv6 router (RFC 5549)."""
    if _RTA_GATEWAY in found:
        return _address(found[_RTA_GATEWAY], family)
    via = found.get(_RTA_VIA)
    if via is None:
        return None
    for version, number in FAMILIES.items():
        if via[:2] == struct.pack("=H", number):
            return _address(via[2:], version)
    raise NetlinkError("a route over a router of an unknown family")


# -- rules ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class PolicyRule:
    """A rule as in ip-rule(8). ``uids``: the first and the last of ``uidrange``. ``odd``: it matches or does something
    that the other fields do not show.
    """

    family: int
    priority: int
    action: int
    flags: int = 0
    table: int = 0
    mark: int = 0
    mask: int = 0
    uids: tuple[int, int] | None = None
    oif: str = ""
    src: Address | None = None
    dst: Address | None = None
    odd: bool = False


def describe_action(rule: PolicyRule) -> str:
    """What a rule does, as ip-rule(8) spells it."""
    if rule.action == TO_TABLE:
        return f"lookup {_TABLES.get(rule.table, rule.table)}"
    return _ACTIONS.get(rule.action, f"action {rule.action}")


def rules(family: int) -> tuple[PolicyRule, ...]:
    """The rules of one family, in their order."""
    found = rtnl.dump(rtnl.RTM_GETRULE, _FIB_RULE.pack(FAMILIES[family], 0, 0, 0, 0, 0, 0, 0, 0), rtnl.RTM_NEWRULE)
    return tuple(rule for payload in found if (rule := parse_rule(payload, family)) is not None)


def parse_rule(payload: bytes, family: int) -> PolicyRule | None:
    """Read the payload of an RTM_NEWRULE message; None when it is of another family."""
    number, dst_length, src_length, tos, short_table, _1, _2, action, flags = rtnl.unpack(_FIB_RULE, payload)
    if number != FAMILIES[family]:
        return None
    found = rtnl.attributes(payload, _FIB_RULE.size)

    def value(kind: int, default: int) -> int:
        return rtnl.u32(found[kind]) if kind in found else default

    suppresses = any(
        value(kind, _SUPPRESS_NOTHING) != _SUPPRESS_NOTHING for kind in (_FRA_SUPPRESS_IFGROUP, _FRA_SUPPRESS_PREFIXLEN)
    )

    def host(kind: int, length: int) -> Address | None:
        return _address(found[kind], family) if length == 8 * _BYTES[family] and kind in found else None

    src, dst = host(_FRA_SRC, src_length), host(_FRA_DST, dst_length)
    return PolicyRule(
        family=family,
        priority=value(_FRA_PRIORITY, 0),
        action=action,
        flags=flags & ~_OIF_DETACHED,
        table=value(_FRA_TABLE, short_table),
        mark=value(_FRA_FWMARK, 0),
        mask=value(_FRA_FWMASK, 0),
        uids=_uids(found[_FRA_UID_RANGE]) if _FRA_UID_RANGE in found else None,
        oif=rtnl.text(found.get(_FRA_OIFNAME, b"")),
        src=src,
        dst=dst,
        odd=bool(
            found.keys() - _OUR_RULE
            or (dst_length and dst is None)
            or (src_length and src is None)
            or tos
            or suppresses
        ),
    )


def _uids(raw: bytes) -> tuple[int, int]:
    first, last = rtnl.unpack(_UIDS, raw)
    return first, last

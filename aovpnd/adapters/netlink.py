# SPDX-License-Identifier: GPL-3.0-or-later
"""Links, addresses, routes and rules: look at them, and make those that are ours as they should be.

What is there is read from raw dumps (`rtdump`); changes go through pyroute2, which this file alone imports. It drops
arguments that it does not know, so everything that was changed is read back.

Use one `Netlink` from one thread without a running event loop (pyroute2 0.9 refuses to work in one); its socket belongs
to the network namespace that the thread is in.
"""

import errno
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError as KernelRefused

from aovpnd import names, rtnl
from aovpnd.adapters import rtdump, sysctl
from aovpnd.adapters.rtdump import FAMILIES, IPV4, IPV6, UNICAST, UNREACHABLE, PolicyRule, TableRoute
from aovpnd.adapters.rules import (
    ahead,
    as_ours,
    astray_rule,
    is_lane,
    is_look,
    is_ours,
    lane_of,
    lane_rules,
    look_rules,
    our_rule,
    rule_arguments,
    shut_rule,
)
from aovpnd.errors import NetlinkError
from aovpnd.links import Link
from aovpnd.repairs import RuleAhead
from aovpnd.routes import Lane, LinkAddress, Route, Routing
from aovpnd.ruleset import Address
from aovpnd.tunnel import Interface

_ANY_SCOPE: Final = 255
_SCOPE_UNIVERSE: Final = 0
_ONLINK: Final = 0x04
"""RTNH_F_ONLINK."""
_NUD_INCOMPLETE: Final = 0x01
_KERNEL: Final = 2
"""RTPROT_KERNEL. systemd-networkd deletes what it calls foreign rules and routes, except those of this protocol."""
_NODAD_NOPREFIXROUTE: Final = 0x202
"""IFA_F_NODAD: nobody else is on the tunnel. IFA_F_NOPREFIXROUTE: the main table stays as it was."""
_ROUNDS: Final = 4
"""How often `ensure` and `ensure_addresses` look again and repair before they call it a fight."""
_GONE: Final = frozenset((errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL))


@dataclass(frozen=True, slots=True)
class Seen:
    """What `Netlink.observe` saw: the fields of `model.Snapshot` of the same names."""

    links: tuple[Link, ...]
    addresses: tuple[LinkAddress, ...]
    main: tuple[Route, ...]
    routing: Routing
    ipv6: bool
    ahead: tuple[RuleAhead, ...]


class Netlink:
    """Our end of rtnetlink. ``proc_sys`` is where sysctls are."""

    def __init__(self, proc_sys: Path = sysctl.PROC_SYS) -> None:
        self._proc_sys = proc_sys
        self._iproute: Any = None

    def close(self) -> None:
        """Give the socket back; the next change opens a new one."""
        if self._iproute is not None:
            self._iproute.close()
            self._iproute = None

    # -- what is -----------------------------------------------------------------------------------------------------
    def observe(self) -> Seen:
        """Read everything afresh, within a millisecond or two. `NetlinkError` when the kernel does not answer."""
        families = self._families()
        rules = {family: rtdump.rules(family) for family in families}
        return Seen(
            links=rtnl.dump_links(),
            addresses=tuple(address for family in families for address in rtdump.addresses(family)),
            main=tuple(route for family in families for route in rtdump.main_routes(family)),
            routing=self._routing(rules),
            ipv6=IPV6 in families,
            ahead=tuple(dict.fromkeys(rule for family in families for rule in ahead(rules[family]))),
        )

    def _families(self) -> tuple[int, ...]:
        return (IPV4, IPV6) if sysctl.has_ipv6(self._proc_sys) else (IPV4,)

    def _routing(self, rules: Mapping[int, tuple[PolicyRule, ...]] | None = None) -> Routing:
        """Our part of it, of these rules by family, or as they are now. A rule that is there twice counts twice, so
        that it differs from what is wanted.
        """
        families = self._families()
        if rules is None:
            rules = {family: rtdump.rules(family) for family in families}
        routes = [found for family in families for found in rtdump.table_routes(family, names.ROUTE_TABLE)]
        values = ((key, sysctl.read(key, self._proc_sys)) for key, _value in names.SYSCTLS)
        return Routing(
            rules=tuple(family for family in families for rule in rules[family] if rule == our_rule(family)),
            routes=tuple(sorted(map(as_ours, routes), key=lambda route: route.order)),
            sysctls=tuple((key, value) for key, value in values if value is not None),
            shut=tuple(family for family in families for rule in rules[family] if rule == shut_rule(family)),
            lanes=tuple(self._lanes(rules)),
        )

    def _lanes(self, rules: Mapping[int, tuple[PolicyRule, ...]]) -> Iterator[Lane]:
        """The tables of users' own that any rule leads to."""
        led_to = {(rule.table, family) for family, held in rules.items() for rule in held if is_lane(rule)}
        for table, family in sorted(led_to):
            yield lane_of(family, table, rules[family], rtdump.table_routes(family, table))

    # -- what should be ----------------------------------------------------------------------------------------------
    def ensure(self, routing: Routing | None) -> None:
        """Make rules, our table and sysctls exactly so; None removes rules and routes (sysctls stay as they are).

        What closes comes first and goes last: the ``unreachable`` routes before anything else, our table before the
        rules that lead to it, what is new before what is stale. May be called at any time; `NetlinkError` when the
        kernel refuses, or when somebody changes it back faster than we repair.
        """
        wished = routing if routing is not None else Routing((), ())
        there = self._routing().routes
        self._ensure_routes(wished)
        if any(route.link is None and route not in there for route in wished.routes):
            self._drop_waiting()
        # Last: a sysctl that may not be written must not keep the routes from being shut.
        for key, value in wished.sysctls:
            sysctl.ensure(key, value, self._proc_sys)

    def _ensure_routes(self, wished: Routing) -> None:
        for _ in range(_ROUNDS):
            now = self._routing()
            if replace(now, sysctls=wished.sysctls) == wished:
                return
            self._add(wished, now)
            self._remove_stale(wished)
        raise NetlinkError(
            f"rules or routes of table {names.ROUTE_TABLE} do not stay as they should be",
            hint="does another program manage them? See ip rule, and systemd-networkd's ManageForeignRoutes=",
        )

    def _drop_waiting(self) -> None:
        """Forget the neighbours that have not answered yet, and with them what waits for their answer.

        A packet that a window of temporary access let pass may still be waiting for ARP or neighbour discovery when the
        window has closed, behind every inet hook and with its stamp.
        """
        for family in self._families():
            with self._asking("cannot read the neighbours") as iproute:
                waiting = [
                    (entry["ifindex"], entry.get_attr("NDA_DST"))
                    for entry in iproute.get_neighbours(FAMILIES[family])
                    if entry["state"] & _NUD_INCOMPLETE
                ]
            for link, address in waiting:
                with self._asking(f"cannot forget the neighbour {address}", forgive=_GONE) as iproute:
                    iproute.neigh("del", family=FAMILIES[family], ifindex=link, dst=address)

    def _add(self, wished: Routing, now: Routing) -> None:
        self._put_routes(names.ROUTE_TABLE, [route for route in wished.routes if route not in now.routes])
        there = {(lane.family, lane.table): lane for lane in now.lanes}
        for lane in wished.lanes:
            found = there.get((lane.family, lane.table))
            self._put_routes(lane.table, [r for r in lane.routes if found is None or r not in found.routes])
        for family in wished.shut:
            if family not in now.shut:
                self._put_rule(shut_rule(family))
        for family in wished.rules:
            if family not in now.rules:
                self._put_rule(our_rule(family))
        for lane in wished.lanes:
            if lane not in now.lanes:
                for rule in lane_rules(lane):
                    self._put_rule(rule)

    def _put_routes(self, table: int, missing: list[Route]) -> None:
        for route in sorted(missing, key=lambda route: route.link is not None):
            self._put_route(route, table)

    def _remove_stale(self, wished: Routing) -> None:
        rules = {family: rtdump.rules(family) for family in self._families()}
        tables = {(family, names.ROUTE_TABLE): wished.routes for family in rules}
        tables |= {(family, rule.table): () for family in rules for rule in rules[family] if is_lane(rule)}
        tables |= {(lane.family, lane.table): lane.routes for lane in wished.lanes}
        found = [(table, each) for family, table in tables for each in rtdump.table_routes(family, table)]
        stale = [(table, each) for table, each in found if as_ours(each) not in tables[each.route.dst.version, table]]
        for table, each in stale:
            if each.kind != UNREACHABLE:
                self._drop_route(each, table)
        wanted = Counter([our_rule(family) for family in wished.rules] + [shut_rule(family) for family in wished.shut])
        wanted += Counter(rule for lane in wished.lanes for rule in lane_rules(lane))
        for held in rules.values():
            for rule in filter(is_ours, held):
                if wanted[rule]:
                    wanted[rule] -= 1
                else:
                    self._drop_rule(rule)
        for table, each in stale:
            if each.kind == UNREACHABLE:
                self._drop_route(each, table)

    def _put_route(self, route: Route, table: int) -> None:
        kind: dict[str, Any] = {"type": "unreachable"}
        if route.link is not None:
            kind = {"type": "unicast", "oif": route.link}
            if route.dst.version == IPV4 and route.gateway is None:
                # Not "link", as ip-route(8) would have it: the kernel looks a new gateway up with that scope, and would
                # find it behind the tunnel instead of on the link where the DHCP client sees it.
                kind["scope"] = _SCOPE_UNIVERSE
        if route.gateway is not None:
            # The kernel looks for a new gateway by our rules, which lead nowhere; main knows that it is on the link.
            kind |= {"flags": _ONLINK} | _router(route.gateway, route.dst.version)
        with self._asking(f"cannot set the route to {route.dst}") as iproute:
            iproute.route("replace", **_route(route, table), **kind, proto=_KERNEL)

    def _drop_route(self, found: TableRoute, table: int) -> None:
        route = found.route
        more: dict[str, Any] = {"type": found.kind, "tos": found.tos}
        if route.dst.version == IPV4:
            more["scope"] = _ANY_SCOPE
        if route.link is not None and found.kind == UNICAST and not found.multipath:
            more["oif"] = route.link
        with self._asking(f"cannot remove the route to {route.dst}", forgive=_GONE) as iproute:
            iproute.route("del", **_route(route, table), **more)

    def _put_rule(self, rule: PolicyRule) -> None:
        with self._asking(f"cannot add the IPv{rule.family} rule {rule.priority}", forgive={errno.EEXIST}) as iproute:
            iproute.rule("add", **rule_arguments(rule), protocol=_KERNEL)

    def _drop_rule(self, rule: PolicyRule) -> None:
        with self._asking(f"cannot remove the IPv{rule.family} rule {rule.priority}", forgive=_GONE) as iproute:
            iproute.rule("del", **rule_arguments(rule))

    def lead(self, mark: int, gateway: Address | None) -> None:
        """Have look-ups under a mark find the way to ``gateway``, as the main table has it, and to nowhere else; None
        forgets the mark. It is for whoever asks the kernel for routes (RTA_MARK, rtnetlink(7)); no packet carries it.
        """
        for family in self._families():
            there = rtdump.rules(family)
            others = [rule for rule in there if is_look(rule) and rule.mark != mark]
            wanted = look_rules(family, mark, gateway) if gateway is not None else ()
            astray = (astray_rule(family),) if wanted or others else ()
            held = [rule for rule in there if (is_look(rule) and rule.mark == mark) or rule == astray_rule(family)]
            for rule in (*astray, *wanted):
                if rule not in held:
                    self._put_rule(rule)
            for rule in held:
                if rule not in (*astray, *wanted):
                    self._drop_rule(rule)

    # -- tunnel links, for the backends --------------------------------------------------------------------------------
    def create_link(self, name: str, kind: str, *, interface: int | None = None) -> bool:
        """Create a link, down; False when this kernel has no such kind. ``interface``: the if_id of an XFRM one."""
        more: dict[str, Any] = {"xfrm_if_id": interface} if interface is not None else {}
        if kind == "tuntap":
            more["mode"] = "tun"
        try:
            with self._asking(f"cannot create the link {name}") as iproute:
                iproute.link("add", ifname=name, kind=kind, **more)
        except NetlinkError as error:
            if isinstance(error.__cause__, KernelRefused) and error.__cause__.code == errno.EOPNOTSUPP:
                return False
            raise
        return True

    def delete_link(self, link: Link) -> None:
        """Delete a link if it still is what ``link`` says: an index is soon given to somebody else."""
        now = next((other for other in rtnl.dump_links() if other.index == link.index), None)
        if now is None or (now.name, now.kind) != (link.name, link.kind):
            return
        with self._asking(f"cannot delete the link {link.name}", forgive=_GONE) as iproute:
            iproute.link("del", index=link.index)

    def set_link(self, link: Link, *, up: bool | None = None, mtu: int | None = None) -> None:
        """Set a link up or down, and its MTU in bytes; what is None or already so is left alone."""
        wanted: dict[str, Any] = {}
        if mtu is not None and mtu != link.mtu:
            wanted["mtu"] = mtu
        if up is not None and up is not link.up:
            wanted["state"] = "up" if up else "down"
        if not wanted:
            return
        with self._asking(f"cannot change the link {link.name}") as iproute:
            iproute.link("set", index=link.index, **wanted)

    def rename_link(self, link: Link, name: str) -> None:
        """Give a link, which is down, another name."""
        with self._asking(f"cannot call the link {link.name} {name}") as iproute:
            iproute.link("set", index=link.index, ifname=name)

    def addresses_of(self, link: Link) -> tuple[Interface, ...]:
        """The addresses of one link."""
        found = (address for family in self._families() for address in rtdump.addresses(family))
        return tuple(address.interface for address in found if address.link == link.index)

    def ensure_addresses(self, link: Link, wished: Iterable[Interface]) -> None:
        """Give a link exactly these addresses, without routes in main; IPv6 ones where the kernel speaks it."""
        wanted = {address for address in wished if address.version in self._families()}
        for _ in range(_ROUNDS):
            there = set(self.addresses_of(link))
            if there == wanted:
                return
            self._change_addresses(link, stale=there - wanted, missing=wanted - there)
        if set(self.addresses_of(link)) != wanted:
            raise NetlinkError(f"the addresses of {link.name} do not stay as they should be")

    def _change_addresses(self, link: Link, stale: set[Interface], missing: set[Interface]) -> None:
        # New ones first: with its last address of a family, a link loses its routes, and programs would be refused. But
        # one address with two prefix lengths the kernel does not take.
        in_the_way = {address for address in stale if address.ip in {new.ip for new in missing}}
        self._remove_addresses(link, in_the_way)
        for address in sorted(missing, key=str):
            with self._asking(f"cannot add {address} to {link.name}") as iproute:
                iproute.addr("add", **_address(link, address), flags=_NODAD_NOPREFIXROUTE)
        self._remove_addresses(link, stale - in_the_way)

    def _remove_addresses(self, link: Link, addresses: set[Interface]) -> None:
        for address in sorted(addresses, key=str):
            with self._asking(f"cannot remove {address} from {link.name}", forgive=_GONE) as iproute:
                iproute.addr("del", **_address(link, address))

    @contextmanager
    def _asking(self, what: str, forgive: Iterable[int] = ()) -> Iterator[Any]:
        """Ask the kernel for something through pyroute2, whose errors become ours; ``forgive`` are errno values."""
        try:
            if self._iproute is None:
                self._iproute = IPRoute()
            yield self._iproute
        except KernelRefused as error:
            if error.code not in forgive:
                hint = "it needs CAP_NET_ADMIN" if error.code == errno.EPERM else ""
                raise NetlinkError(f"{what}: {os.strerror(error.code)}", hint=hint) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            # A socket that failed once may hold half an answer.
            self.close()
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise NetlinkError(f"{what}: {reason}") from error


def _router(gateway: Address, version: int) -> dict[str, Any]:
    """A router of the route's family, or one of IPv6 for IPv4 (RFC 5549)."""
    if gateway.version == version:
        return {"gateway": str(gateway)}
    return {"via": {"family": FAMILIES[gateway.version], "addr": str(gateway)}}


def _route(route: Route, table: int) -> dict[str, Any]:
    return {
        "family": FAMILIES[route.dst.version],
        "dst": str(route.dst),
        "table": table,
        "priority": route.metric,
    }


def _address(link: Link, address: Interface) -> dict[str, Any]:
    return {
        "family": FAMILIES[address.version],
        "index": link.index,
        "address": str(address.ip),
        "local": str(address.ip),
        "prefixlen": address.network.prefixlen,
    }

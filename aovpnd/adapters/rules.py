# SPDX-License-Identifier: GPL-3.0-or-later
"""Which routing rules are ours, what they look like in the kernel's list, and which of others' stand before them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from aovpnd import names
from aovpnd.adapters import rtdump
from aovpnd.adapters.rtdump import FAMILIES, PolicyRule, TableRoute
from aovpnd.repairs import RuleAhead
from aovpnd.routes import Lane, Route
from aovpnd.ruleset import Address

_WHOLE: Final = 0xFFFFFFFF
_NOT_OURS: Final = 0
"""Link index by which `observe` shows a route of our table that says more than we ever write; no link has it."""


def our_rule(family: int) -> PolicyRule:
    """``not fwmark FWMARK/FWMARK_MASK lookup ROUTE_TABLE``: everything but the tunnel's own packets."""
    return _rule(family, names.RULE_PRIORITY, rtdump.TO_TABLE, names.ROUTE_TABLE)


def shut_rule(family: int) -> PolicyRule:
    """``not fwmark FWMARK/FWMARK_MASK unreachable``: what our table did not answer goes nowhere."""
    return _rule(family, names.SHUT_PRIORITY, rtdump.ACT_UNREACHABLE, 0)


def lane_rules(lane: Lane) -> tuple[PolicyRule, ...]:
    """The rules that lead to a table that some users have to themselves."""
    bare = PolicyRule(lane.family, names.LANE_PRIORITY, rtdump.TO_TABLE, table=lane.table)
    return (
        *(replace(bare, uids=(uid, uid)) for uid in lane.users),
        replace(bare, oif=lane.link_name),
        *(replace(bare, src=source) for source in lane.sources),
    )


def look_rules(family: int, mark: int, gateway: Address) -> tuple[PolicyRule, ...]:
    """The rules by which look-ups under a mark find the way to one address, and to no other."""
    bare = PolicyRule(family, names.NO_LOOK_PRIORITY, rtdump.ACT_UNREACHABLE, mark=mark, mask=_WHOLE)
    if gateway.version != family:
        return (bare,)
    to_it = replace(bare, priority=names.LOOK_PRIORITY, action=rtdump.TO_TABLE, table=rtdump.MAIN_TABLE, dst=gateway)
    return to_it, bare


def is_look(rule: PolicyRule) -> bool:
    """Whether a rule is one of those, of any mark and gateway."""
    ours = rule.mark & names.FWMARK_MASK == names.FWMARK and rule.mask == _WHOLE
    return ours and rule.priority in {names.LOOK_PRIORITY, names.NO_LOOK_PRIORITY}


def astray_rule(family: int) -> PolicyRule:
    """``fwmark FWMARK/FWMARK_MASK unreachable``, before the rule to what charon writes, which leaves out one mark only:
    without a network, the tunnels' own packets go nowhere.
    """
    priority = names.CHARON_PRIORITY - 1
    return PolicyRule(family, priority, rtdump.ACT_UNREACHABLE, mark=names.FWMARK, mask=names.FWMARK_MASK)


def lane_of(family: int, table: int, rules: Iterable[PolicyRule], routes: Iterable[TableRoute]) -> Lane:
    """What rules and routes of such a table are there, as `Routing` shows it. Something wrong among them, or something
    twice, makes it another than any that is wished.
    """
    found = [rule for rule in rules if rule.table == table and is_lane(rule)]
    users = sorted(rule.uids[0] for rule in found if rule.uids is not None)
    links = [rule.oif for rule in found if rule.oif]
    sources = sorted((rule.src for rule in found if rule.src is not None), key=int)
    shown = tuple(sorted(map(as_ours, routes), key=lambda route: route.order))
    lane = Lane(family, table, tuple(users), " ".join(links), tuple(sources), shown)
    return lane if Counter(lane_rules(lane)) == Counter(found) else replace(lane, link_name="")


def _rule(family: int, priority: int, action: int, table: int) -> PolicyRule:
    return PolicyRule(family, priority, action, rtdump.INVERT, table, names.FWMARK, names.FWMARK_MASK)


def is_lane(rule: PolicyRule) -> bool:
    """Whether a rule leads to a table that some users have to themselves."""
    return rule.action == rtdump.TO_TABLE and rule.table in names.LANE_TABLES


def is_ours(rule: PolicyRule) -> bool:
    """Whether a rule is one of ours, or a wrong copy of one: it leads to a table of ours, or shuts what ours shuts."""
    if rule.action == rtdump.TO_TABLE:
        return rule.table == names.ROUTE_TABLE or is_lane(rule)
    return rule.priority == names.SHUT_PRIORITY and (rule.mark, rule.mask) == (names.FWMARK, names.FWMARK_MASK)


def ahead(rules: tuple[PolicyRule, ...]) -> tuple[RuleAhead, ...]:
    """Others' rules that the kernel asks before ours; none while ours is missing, and comes back in a moment."""
    ours = next((place for place, rule in enumerate(rules) if rule == our_rule(rule.family)), 0)
    before = (rule for rule in rules[:ours] if rule.action != rtdump.ACT_NOP and not is_ours(rule))
    return tuple(
        RuleAhead(rule.priority, rtdump.describe_action(rule)) for rule in before if rule.table != rtdump.LOCAL_TABLE
    )


def as_ours(found: TableRoute) -> Route:
    """A route of our table as `Routing` shows it."""
    route = found.route
    return Route(route.dst, _NOT_OURS, route.gateway, route.metric) if found.odd else route


def rule_arguments(rule: PolicyRule) -> dict[str, Any]:
    """As pyroute2 takes a rule."""
    arguments: dict[str, Any] = {
        "family": FAMILIES[rule.family],
        "priority": rule.priority,
        "action": rule.action,
        "flags": rule.flags,
    }
    if rule.table:
        arguments["table"] = rule.table
    if rule.mask:
        arguments |= {"fwmark": rule.mark, "fwmask": rule.mask}
    if rule.uids is not None:
        arguments["uid_range"] = f"{rule.uids[0]}:{rule.uids[1]}"
    if rule.oif:
        arguments["oifname"] = rule.oif
    arguments |= {key: str(host) for key, host in (("src", rule.src), ("dst", rule.dst)) if host is not None}
    return arguments

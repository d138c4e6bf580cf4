# SPDX-License-Identifier: GPL-3.0-or-later
"""Weakenings of which permits there are, of what they are made of, of routes, of order and time."""

from typing import Final

from tests.mutants.mutant import (
    BESIDE,
    CONVERGENCE,
    DECIDE,
    FIREWALL,
    HEALTH,
    INTENT,
    MTU,
    NO_LEAK,
    OVER_TIME,
    PLAN,
    Mutant,
)

_MTU: Final = "aovpnd/core/mtu.py"
_PERMITS: Final = "aovpnd/core/permits.py"
_VIEW: Final = "aovpnd/core/view.py"
_UPLINKS: Final = "aovpnd/core/uplinks.py"
_ROUTING: Final = "aovpnd/core/routing.py"
_BESIDE: Final = "aovpnd/core/beside.py"
_DECIDE: Final = "aovpnd/core/decide.py"
_PLAN: Final = "aovpnd/core/plan.py"
_INTENT: Final = "aovpnd/core/intent.py"
_HEALTH: Final = "aovpnd/core/health.py"
_LINKS: Final = "aovpnd/links.py"

DECIDING: Final = (
    # -- which permits -------------------------------------------------------------------------------------------------
    Mutant(
        "handshake-while-blocked",
        _PERMITS,
        "            return (*always, *look_up, *beside)\n",
        "            return (*always, *handshakes, *tunnel, *own, *beside)\n",
        "disconnected means that nothing is sent to the gateway",
        (FIREWALL,),
    ),
    Mutant(
        "window-in-every-phase",
        _PERMITS,
        "            return (*always, *handshakes, *tunnel, *own, *beside)\n",
        "            return (*always, *handshakes, *tunnel, *own, *beside, *filter(None, (facts.access,)))\n",
        "a grant is a phase, not an extra",
        (FIREWALL,),
    ),
    Mutant(
        "window-rounded-up",
        "aovpnd/clock.py",
        "math.floor(self.wall_at(at))",
        "math.ceil(self.wall_at(at))",
        "the window's end on the wall is up to a second late",
        (DECIDE,),
    ),
    # -- facts ---------------------------------------------------------------------------------------------------------
    Mutant(
        "tunnel-with-another-key",
        _VIEW,
        "return state.digest == spec.digest() and state.fwmark",
        "return state.fwmark",
        "somebody else's key on a link of our name gets everything",
        (DECIDE, NO_LEAK),
    ),
    Mutant(
        "tunnel-of-another-kind",
        _VIEW,
        "ours = [state for state in snapshot.tunnels if is_tunnel_shaped(state.link)]",
        "ours = list(snapshot.tunnels)",
        "a bridge or a dummy with our name is the tunnel (D4)",
        (NO_LEAK,),
    ),
    Mutant(
        "window-follows-the-link",
        _VIEW,
        "(uplink.link.index, uplink.link.name, uplink.network) == (grant.link, grant.link_name, grant.network)",
        "(uplink.link.index, uplink.link.name) == (grant.link, grant.link_name)",
        "a window for the café opens the next network as well",
        (DECIDE, INTENT, NO_LEAK),
    ),
    Mutant(
        "window-never-ends",
        _VIEW,
        "if grant is None or snapshot.now.boot >= grant.expires_at:",
        "if grant is None:",
        "the table is compiled anew with a window that is over",
        (INTENT, OVER_TIME),
    ),
    Mutant(
        "public-lan",
        _BESIDE,
        "tuple(filter(_is_lan, uplink.prefixes))) for",
        "uplink.prefixes) for",
        "a lease calls public addresses local (TunnelCrack, CVE-2023-36672)",
        (DECIDE, NO_LEAK),
    ),
    Mutant(
        "lan-wider-than-private",
        _BESIDE,
        "network.prefixlen >= home.prefixlen and ",
        "",
        "10.0.0.0/7 is half public",
        (BESIDE, NO_LEAK),
    ),
    Mutant(
        "any-bridge-is-host-only",
        _LINKS,
        "all(map(_is_guest_port, ports.get(link.index, ())))",
        "any(map(_is_guest_port, ports.get(link.index, ())))",
        "a bridge with a card in it leads outside (T5)",
        (DECIDE, NO_LEAK),
    ),
    Mutant(
        "network-without-carrier",
        _UPLINKS,
        'return " ".join(map(str, (link.carrier_ups, *known)))',
        'return " ".join(map(str, known))',
        "the next café has the same 192.168.1.1",
        (DECIDE, INTENT, NO_LEAK),
    ),
    Mutant(
        "uplink-by-the-tunnel",
        _UPLINKS,
        "side[link.index] is Side.OUTSIDE and link.up",
        "link.up",
        "our own tunnel counts as a way to reach the gateway",
        (DECIDE,),
    ),
    # -- routing -------------------------------------------------------------------------------------------------------
    Mutant(
        "routes-fall-through",
        _ROUTING,
        "    yield from (Route(_default(family), None, metric=names.CLOSED_METRIC) for family in (IPV4, IPV6))\n",
        "",
        "when every table is flushed, routing does not hold (T14)",
        (DECIDE,),
    ),
    Mutant(
        "ipv6-routes-forgotten",
        _ROUTING,
        "    families = (IPV4, IPV6) if snapshot.ipv6 else (IPV4,)",
        "    families = (IPV4,)",
        "IPv6 is looked up in main (RFC 7359)",
        (DECIDE, PLAN, CONVERGENCE),
    ),
    # -- order and time ------------------------------------------------------------------------------------------------
    Mutant(
        "lock-moves-last",
        _PLAN,
        "    return tuple(actions)\n",
        "    return tuple(sorted(actions, key=lambda action: isinstance(action, LoadRuleset)))\n",
        "tunnel and routes change while the old table is loaded",
        (PLAN, CONVERGENCE),
    ),
    Mutant(
        "loosen-without-a-lock",
        _PLAN,
        "if (not unlocked or _only_tightens(action)) and name_of(action)",
        "if name_of(action)",
        "while no table can be loaded, the tunnel comes up and routes open",
        (PLAN,),
    ),
    Mutant(
        "flush-unnoticed",
        _PLAN,
        "    if desired.ruleset != snapshot.ruleset or snapshot.table_present is not (desired.ruleset is not None):",
        "    if desired.ruleset != snapshot.ruleset and snapshot.table_present:",
        "a flushed table is not loaded again",
        (PLAN, CONVERGENCE),
    ),
    Mutant(
        "tunnel-up-before-the-table",
        _DECIDE,
        "        return (TunnelWish(now.spec, now.link_name, LinkWish.DOWN, mtu=size),)",
        "        return (TunnelWish(now.spec, now.link_name, LinkWish.UP, mtu=size),)",
        "the link is up before a table names it",
        (DECIDE, CONVERGENCE),
    ),
    Mutant(
        "longer-than-permitted",
        _INTENT,
        "    elif not 0 < duration <= policy.max_s:",
        "    elif not 0 < duration:",
        "a window without bounds (F3)",
        (INTENT, OVER_TIME),
    ),
    Mutant(
        "no-budget",
        _INTENT,
        "len(used) >= policy.per_hour:",
        "len(used) > 10 * policy.per_hour:",
        "a window after the other (F3)",
        (INTENT, OVER_TIME),
    ),
    Mutant(
        "window-survives-the-tunnel",
        _INTENT,
        "seen.grant.kind is GrantKind.ACCESS and connected:",
        "seen.grant.kind is GrantKind.ACCESS and not connected:",
        "a window stays open beside a tunnel that is up",
        (INTENT,),
    ),
    Mutant(
        "old-handshake-proves",
        _HEALTH,
        "intent.provoked is not None and intent.provoked.path == path and not is_lost",
        "intent.provoked is not None and not is_lost",
        "connected is claimed over a network that was never tried",
        (HEALTH, DECIDE),
    ),
    Mutant(
        "measures-while-idle",
        _HEALTH,
        "> own * len(state.peers) + EVIDENCE_BYTES",
        ">= 0",
        "an idle tunnel talks, and every network learns that we are there",
        (MTU,),
    ),
    Mutant(
        "never-measures",
        _HEALTH,
        "    return state.tx_bytes - tx_bytes > own",
        "    return state.tx_bytes - tx_bytes < 0 and 0 > own",
        "a black hole stays one: pages hang although the tunnel is connected",
        (MTU,),
    ),
    Mutant(
        "measured-elsewhere",
        _MTU,
        "    return known if known is not None and path is not None and known.path == path.fingerprint() else None",
        "    return known",
        "what one network carries is taken for what the next one carries",
        (MTU,),
    ),
    Mutant(
        "below-ipv6",
        _MTU,
        "return Fit(min(passes, MOST)) if passes >= least else",
        "return Fit(min(passes, MOST)) if passes else",
        "the kernel takes IPv6 off a link below 1280 bytes, and programs lose their addresses",
        (MTU,),
    ),
    Mutant(
        "asks-beside-the-tunnel",
        _MTU,
        "if _answers(spec, filters, address))[:TARGETS]",
        ")[:TARGETS]",
        "who is not behind the tunnel is asked through it, and the silence is believed",
        (MTU,),
    ),
    Mutant(
        "link-keeps-its-size",
        "aovpnd/core/plan.py",
        "    if state.link.mtu != wish.mtu:",
        "    if state.link.mtu < wish.mtu:",
        "what was found is never set: a black hole stays one",
        (MTU,),
    ),
)

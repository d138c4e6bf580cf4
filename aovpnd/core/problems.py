# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong beside the phase, in words for a person. A problem goes when its cause goes."""

from typing import Final, assert_never

from aovpnd import names
from aovpnd.core import (
    beside,
    browser,
    companions,
    confirming,
    dns,
    endpoints,
    failover,
    fights,
    health,
    ike,
    mtu,
    rest,
    sleep,
)
from aovpnd.core.health import IN_VAIN
from aovpnd.core.uplinks import carrying
from aovpnd.core.view import View, carries_everything, named, preferred
from aovpnd.gateways import Left, Why
from aovpnd.ipsec import TunnelSpec, called
from aovpnd.links import Side, sides
from aovpnd.model import Config, GuardState, Intent, Phase, Problem, Severity, Snapshot, Uplink, Wish
from aovpnd.orders import CloseSockets, EnsureDns
from aovpnd.rollback import told
from aovpnd.ruleset import Address
from aovpnd.tunnel import WireGuard

_CODES: Final = {EnsureDns.__name__: "dns-failed", CloseSockets.__name__: "sockets-left"}
"""What failed without anything being less shut."""
UNREAD: Final = "the record of earlier temporary access cannot be read, so it counts as used up for an hour"
MEND_RECORD: Final = f"sooner, as root: remove {names.STATE_DIR}/temporary-access.json and restart aovpnd"
MOST_RULES: Final = 4
"""Of others' rules that status names."""
REMEMBER_CULPRIT_S: Final = 600.0
"""How long status names who removed our table."""


def problems(config: Config, intent: Intent, snapshot: Snapshot, now: View) -> tuple[Problem, ...]:
    """Everything that somebody should know, the configuration's own problems first."""
    spec = now.spec
    return (
        *config.problems,
        *confirming.problems(intent),
        *_choice(config, intent, spec),
        *_tunnel(intent, snapshot, now),
        *ike.problems(snapshot, now),
        *sleep.problems(intent, snapshot, now),
        *rest.problems(config, now),
        *browser.problems(config, intent, now),
        *dns.problems(snapshot, spec, now.filters),
        *dns.problems_beside(snapshot, now),
        *dns.problems_of_users(config, snapshot, now),
        *_path(intent, snapshot, now),
        *_left(intent, now),
        *companions.problems(config, intent, snapshot, now),
        *_elsewhere(now),
        *_record(intent),
        *_rolled_back(snapshot),
        *_guard(snapshot),
        *_culprit(intent, snapshot),
        *fights.problems(intent, snapshot.now.boot),
        *_ahead(snapshot),
        *_links(snapshot),
        *_taken(snapshot, spec),
        *_overlaps(config, now),
        *_claims(config, now),
        *_failures(intent),
    )


def _choice(config: Config, intent: Intent, spec: TunnelSpec | None) -> list[Problem]:
    if intent.wish is Wish.DISCONNECT:
        return []
    if spec is not None:
        return _missing(config, intent, spec)
    if not config.tunnels:
        hint = (
            "put a wg-quick file into the tunnels directory and run: aovpnctl connect; until then: aovpnctl allow-temp"
        )
        return [Problem("no-tunnel", Severity.WARNING, "no tunnel is configured, so everything stays blocked", hint)]
    known = ", ".join(tunnel.name for tunnel in config.tunnels)
    key, wanted_here = preferred(config, intent)
    if key == names.DEVICE and not wanted_here:
        text = "nobody is logged in, and the device has no tunnel of its own"
        return [Problem("nobody-logged-in", Severity.INFO, text, f"the tunnel comes with the next login ({key})")]
    chosen = named(config, intent, key)
    wanted = (chosen,) if chosen is not None else wanted_here
    if wanted:
        text = f"there is no tunnel called {' or '.join(map(str, wanted))}"
        return [Problem("tunnel-unknown", Severity.ERROR, text, f"there are: {known}")]
    if any(user.only is not None for user in config.users):
        return []  # whoever has a tunnel to himself needs no other, and nobody else may have one
    text = "there are several tunnels and none is preferred"
    if config.broken:
        text = f"the file of {', '.join(sorted(config.broken))} cannot be used, so which tunnel is meant is not clear"
    return [Problem("tunnel-not-chosen", Severity.WARNING, text, f"aovpnctl connect NAME, with one of: {known}")]


def _missing(config: Config, intent: Intent, spec: TunnelSpec) -> list[Problem]:
    """Those of the preferred order that are not there; the others carry on without them."""
    key, wanted_here = preferred(config, intent)
    if named(config, intent, key) == spec.name:
        return []
    gone = ", ".join(name for name in wanted_here if config.tunnel(name) is None)
    hint = f"put its file into the tunnels directory, or take it out of [tunnel] {key.partition('.')[2]}"
    return [Problem("tunnel-unknown", Severity.WARNING, f"there is no tunnel called {gone}", hint)] if gone else []


def _tunnel(intent: Intent, snapshot: Snapshot, now: View) -> list[Problem]:
    phase, spec = now.phase, now.spec
    if spec is None:
        return []
    found = []
    if phase in {Phase.CONNECTING, Phase.TEMPORARY_ACCESS}:
        found += _names(intent, now.uplinks, spec)
        if failover.is_wayless(intent.gateways, snapshot.now.boot):
            found.append(Problem("address-family", Severity.WARNING, _no_way(spec), "another network may help"))
    if phase is Phase.CONNECTING and spec.name not in now.wayless:
        found += _handshakes(intent, snapshot, now, spec)
    if phase is Phase.CONNECTED and health.is_dead_end(intent):
        text = f"the gateway of {spec.name} ({_where(spec)}) answers but leads nowhere"
        hint = "its own way to the internet is broken: tell whoever runs it; another tunnel: aovpnctl connect NAME"
        found.append(Problem("exit-dead", Severity.WARNING, text, hint))
    if not carries_everything(spec):
        carried = ", ".join(map(str, spec.prefixes[:4]))
        text = f"{spec.name} carries only {carried}; everything else stays blocked"
        found.append(
            Problem("tunnel-is-narrow", Severity.INFO, text, f"{called(spec).everything} sends everything through it")
        )
    return found


def _handshakes(intent: Intent, snapshot: Snapshot, now: View, spec: TunnelSpec) -> list[Problem]:
    """One that nobody answers, or that was never sent. Where it is known why there is none, that is told instead
    (`ike.problems`).
    """
    if now.state is not None and now.state.said is not None:
        return []
    if now.path is not None and health.sends_nothing(intent, now.state, snapshot.now):
        return [Problem("nothing-sent", Severity.WARNING, _unsent(spec), _WHO_DROPS_IT)]
    hosts = [host for host in intent.hosts if host.name in endpoints.turners(spec)]
    attempts = max((intent.provoked.attempts if intent.provoked is not None else 0, *(host.turns for host in hosts)))
    if not spec.endpoints or attempts < IN_VAIN:
        return []
    where = _where(spec)
    others = len({addr for host in hosts for addr in (*host.answered, *host.good)}) - len(spec.hosts)
    where += f", nor at {others} other addresses" if others > 0 else ""
    text = f"the gateway of {spec.name} ({where}) does not answer"
    hint = "a portal may be in the way: aovpnctl allow-temp; otherwise check the keys and the gateway"
    return [Problem("no-handshake", Severity.WARNING, text, hint)]


def _left(intent: Intent, now: View) -> list[Problem]:
    """The tunnels that were left, and which one carries now instead."""
    specs = {spec.name: spec for spec in now.order}
    carrier = now.spec.name if now.spec is not None else ""
    gone = (left for left in intent.gateways.left if left.back_at is None and left.tunnel in specs.keys() - {carrier})
    return [_why_left(left, specs[left.tunnel], intent, now) for left in gone]


def _why_left(left: Left, spec: TunnelSpec, intent: Intent, now: View) -> Problem:
    if now.spec is not None and now.phase is Phase.CONNECTED:
        instead = f"{now.spec.name} carries instead"
    else:
        instead = f"{now.spec.name if now.spec is not None else 'the next one'} is tried instead"
    match left.why:
        case Why.SILENT:
            text = f"the gateway of {spec.name} ({_where(spec)}) does not answer; {instead}"
            hint = f"it is off, {_SILENT if isinstance(spec, WireGuard) else _FILTERED}; it is tried again by itself"
            return Problem("gateway-silent", Severity.WARNING, text, hint)
        case Why.UNSIGNED:
            text = f"{spec.name}: its gateway ({_where(spec)}) asks for what nobody has given, or refuses it; {instead}"
            return Problem("sign-in-wanted", Severity.WARNING, text, f"aovpnctl sign-in {spec.name}")
        case Why.DEAD_EXIT:
            text = f"the gateway of {spec.name} ({_where(spec)}) answers but leads nowhere; {instead}"
            hint = "its own way to the internet is broken: tell whoever runs it; it is tried again by itself"
            return Problem("exit-dead", Severity.WARNING, text, hint)
        case Why.UNSENT:
            return Problem("nothing-sent", Severity.WARNING, f"{_unsent(spec)}; {instead}", _WHO_DROPS_IT)
        case Why.NO_WAY:
            text = f"{_no_way(spec)}; {instead}"
            hint = "it is tried again by itself as soon as there is a way"
            return Problem("address-family", Severity.WARNING, text, hint)
        case Why.NAMELESS:
            text = f"no address of {', '.join(spec.hosts)}, the gateway of {spec.name}, is known; {instead}"
            if any(host.answered for host in intent.hosts if host.name in spec.hosts):
                text = f"the gateway of {spec.name} has no address that this network leads to; {instead}"
            hint = (
                "nobody has answered when it was looked up, which happens only while no tunnel is connected; to have it"
                f" looked up again: aovpnctl connect {spec.name}"
            )
            return Problem("name-unresolved", Severity.WARNING, text, hint)
        case _:
            assert_never(left.why)


_FILTERED: Final = "or something on the way filters UDP"
_SILENT: Final = (
    "something on the way filters UDP, or it no longer knows our key (WireGuard answers a stranger with silence)"
)
_WHO_DROPS_IT: Final = (
    "another firewall drops them, or there is no route: see nft list ruleset, ip rule, ip route;"
    " it is tried again by itself"
)


def _unsent(spec: TunnelSpec) -> str:
    return f"packets to the gateway of {spec.name} ({_where(spec)}) do not leave this machine"


def _no_way(spec: TunnelSpec) -> str:
    families = " or ".join(f"IPv{version}" for version in sorted({e.addr.version for e in spec.endpoints}))
    return f"the gateway of {spec.name} ({_where(spec)}) cannot be reached: this network has no {families}"


def _where(spec: TunnelSpec) -> str:
    names = (name for name, endpoint in spec.named if endpoint is None)
    return ", ".join(map(str, (*spec.endpoints, *names)))


def _names(intent: Intent, uplinks: tuple[Uplink, ...], spec: TunnelSpec) -> list[Problem]:
    """Gateways whose names were looked up in vain, and such as cannot be reached by the families of this network."""
    found = []
    for name, endpoint in spec.named:
        host = next((host for host in intent.hosts if host.name == name.host), None)
        if host is not None and host.said:
            hint = "it is asked again; a portal may be in the way: aovpnctl allow-temp"
            found.append(Problem("name-unresolved", Severity.WARNING, host.said, hint))
        elif host is not None and host.answered and endpoint is None:
            text = f"{host.name} has no address that can be reached over {_families(uplinks)}"
            found.append(Problem("address-family", Severity.WARNING, text, "another network may help"))
    return found


def _families(uplinks: tuple[Uplink, ...]) -> str:
    return " and ".join(f"IPv{family}" for family in sorted({family for u in uplinks for family in u.families}))


def _path(intent: Intent, snapshot: Snapshot, now: View) -> list[Problem]:
    """A black hole on the way, and what was done about it."""
    known = mtu.known_of(intent, now.path)
    if known is None or not known.lost or now.spec is None:
        return []
    size = mtu.fit(now.spec, intent, snapshot, now.state, now.path)
    text = f"packets of more than {size.narrow or size.link} bytes get lost on the way to the gateway"
    if size.narrow is None:
        text += f", so the tunnel uses {size.link}"
        return [Problem("path-mtu", Severity.INFO, text, _FILTERS_ICMP)]
    text += f"; TCP is held to that, but IPv6 needs {size.link}, so larger packets of other protocols are lost"
    hint = f"{_FILTERS_ICMP}; a tunnel without an IPv6 address gets along with less"
    return [Problem("path-mtu", Severity.WARNING, text, hint)]


_FILTERS_ICMP: Final = "somebody on the way filters the ICMP messages that would have said so"


def _elsewhere(now: View) -> list[Problem]:
    """A window on a link that carries nothing any more, because a better one has come."""
    if now.grant is None:
        return []
    families = {family for uplink in now.uplinks for family in uplink.families}
    best = {uplink.link.name for family in families for uplink in carrying(now.uplinks, frozenset({family}))}
    if now.grant.link_name in best:
        return []
    text = f"temporary access holds for {now.grant.link_name} alone, and traffic goes by {', '.join(sorted(best))} now"
    hint = "aovpnctl allow-temp --cancel, then aovpnctl allow-temp opens the other one; or take its cable out"
    return [Problem("access-elsewhere", Severity.WARNING, text, hint)]


def _rolled_back(snapshot: Snapshot) -> list[Problem]:
    found = snapshot.rolled_back
    return [Problem("rolled-back", Severity.WARNING, *told(found))] if found is not None else []


def _record(intent: Intent) -> list[Problem]:
    return [Problem("budget-unread", Severity.WARNING, UNREAD, MEND_RECORD)] if intent.unread_at is not None else []


def _guard(snapshot: Snapshot) -> list[Problem]:
    match snapshot.guard:
        case GuardState.HELD | GuardState.STARTING:
            return []
        case GuardState.MISSING:
            text = "the guard is not running; the block holds without its second layer"
            return [Problem("guard-missing", Severity.WARNING, text, "it is being restarted")]
        case GuardState.FAILING:
            text = "the guard does not come to hold its tables; the block holds without its second layer"
            hint = "it goes on trying; why it cannot: journalctl -u aovpnd-guard"
            return [Problem("guard-missing", Severity.ERROR, text, hint)]
        case _:
            assert_never(snapshot.guard)


def _culprit(intent: Intent, snapshot: Snapshot) -> list[Problem]:
    if (
        intent.removed_by is None
        or intent.removed_at is None
        or snapshot.now.boot - intent.removed_at > REMEMBER_CULPRIT_S
    ):
        return []
    text = f"{intent.removed_by} changed or removed our table; it was restored at once"
    hint = "other firewalls should leave table inet aovpnd alone"
    return [Problem("ruleset-changed", Severity.WARNING, text, hint, intent.removed_at)]


def _ahead(snapshot: Snapshot) -> list[Problem]:
    """Others' routing rules that are asked before ours. They are not ours to remove, and open nothing."""
    if not snapshot.ahead:
        return []
    rules = ", ".join(f"{rule.priority}: {rule.action}" for rule in snapshot.ahead[:MOST_RULES])
    text = f"other programs' routing rules stand before ours ({rules}); what they lead past the tunnel is refused"
    hint = f"see ip rule and ip -6 rule; they should come behind priority {names.SHUT_PRIORITY}"
    return [Problem("rule-ahead", Severity.WARNING, text, hint)]


def _links(snapshot: Snapshot) -> list[Problem]:
    side = sides(snapshot.links)
    odd = [link for link in snapshot.links if side[link.index] is Side.OUTSIDE and not link.nameable]
    text = "link {} has a name that cannot be written into a rule; it stays closed"
    return [
        Problem(
            "link-unnameable", Severity.WARNING, text.format(link.index), f"ip link set dev NAME name net{link.index}"
        )
        for link in odd
    ]


def _taken(snapshot: Snapshot, spec: TunnelSpec | None) -> list[Problem]:
    """Addresses of the tunnel that a network has given to this machine: the kernel keeps what is for them here."""
    if spec is None:
        return []
    whose: dict[Address, str] = {endpoint.addr: "gateway" for endpoint in spec.endpoints}
    whose |= dict.fromkeys(spec.dns, "name server") | {own.ip: "own address" for own in spec.addresses}
    side = sides(snapshot.links)
    outside = {link.index: link.name for link in snapshot.links if side[link.index] is Side.OUTSIDE}
    return [
        Problem(
            "address-taken",
            Severity.WARNING,
            f"the network has given this machine the address {there.interface.ip}, which is the"
            f" {whose[there.interface.ip]} of {spec.name}; nothing reaches it from here",
            "nobody gives out such an address by chance: use another network",
        )
        for there in snapshot.addresses
        if there.link in outside and there.interface.ip in whose
    ]


def _overlaps(config: Config, now: View) -> list[Problem]:
    """Local networks that stay closed because of what the tunnel leads to."""
    return [
        Problem(
            "lan-overlaps-tunnel",
            Severity.WARNING,
            f"{uplink.link.name} is in {prefix}, in which {taken} of the tunnel lies; that local network stays closed",
            "use another network for what is local, or other addresses for the tunnel",
        )
        for uplink, prefix, taken in beside.overlaps(config, now)
    ]


def _claims(config: Config, now: View) -> list[Problem]:
    """Excluded networks that stay closed because of what tunnels lead to."""
    hint = "exclude less, or leave it out of the tunnel's networks"
    found = [
        f"{network} stays closed: {taken} of the tunnel {spec.name} lies in it"
        for network, spec, taken in beside.claims(config, now)
    ]
    if (config.exclude or beside.kept_out_of_it(config, now)) and config.broken:
        found.append(f"excluded networks stay closed while {', '.join(sorted(config.broken))} cannot be used")
    return [Problem("exclude-closed", Severity.WARNING, text, hint) for text in dict.fromkeys(found)]


def _failures(intent: Intent) -> list[Problem]:
    # One cause may make several actions fail; it is said once.
    causes = dict.fromkeys(
        (_CODES.get(failure.action, "action-failed"), failure.text, failure.hint) for failure in intent.failures
    )
    return [Problem(code, Severity.ERROR, text, hint or "it is being tried again") for code, text, hint in causes]

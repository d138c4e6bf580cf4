# SPDX-License-Identifier: GPL-3.0-or-later
"""When a name is looked up, of whom, and what an answer changes. One look-up runs at a time.

It begins when a tunnel is chosen, or stands beside, that is not connected, there is an uplink with resolvers, and there
is no address to try, or all were tried in vain, or the first one that was known from another network. It ends with its
answer, its deadline, the loss of its network, a handshake, or when the tunnel's file no longer has that name; and with
it ends its permit.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Final, assert_never

from aovpnd.core import nat64
from aovpnd.core.endpoints import MOST, Reach, candidates, known, place, update
from aovpnd.core.uplinks import IPV4
from aovpnd.inquiries import EndpointPolicy, Host, LookedUp, LookUp, OpenLookUp, Unanswered
from aovpnd.ipsec import TunnelSpec
from aovpnd.model import Config, Intent, Snapshot, Uplink
from aovpnd.ruleset import Address
from aovpnd.tunnel import unfit

OPEN_S: Final = 8.0
"""How long a look-up may leave the machine at most: a little more than it takes to give up (adapters.lookup)."""
RETRY_S: Final = (2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""From the beginning of a look-up to that of the next one, by their number since the last handshake; give or take
`JITTER`."""
JITTER: Final = 0.25
MOST_RESOLVERS: Final = 3
"""As in resolv.conf(5), MAXNS."""


def live(intent: Intent, found: Iterable[Uplink], now: float) -> OpenLookUp | None:
    """The look-up that runs, while its time does and its link still carries the network that it was begun on."""
    look_up = intent.look_up
    if look_up is None or now >= look_up.expires_at:
        return None
    asked = (look_up.inquiry.link, look_up.inquiry.link_name, look_up.network)
    return look_up if any((u.link.index, u.link.name, u.network) == asked for u in found) else None


def settle(
    config: Config,
    intent: Intent,
    asking: tuple[TunnelSpec, Reach] | None,
    snapshot: Snapshot,
    found: tuple[Uplink, ...],
) -> Intent:
    """End the look-up that has had its time, and begin the next one that is due of the tunnel that is ``asking``."""
    now, places = snapshot.now.boot, {place(uplink) for uplink in found}
    if intent.look_up is not None and now >= intent.look_up.expires_at:
        intent = learn(intent, Unanswered(intent.look_up.inquiry, "no answer came in time"))
    running = live(intent, found, now)
    if running is None or asking is None or running.inquiry.host not in {*asking[0].hosts, nat64.WELL_KNOWN}:
        intent = replace(intent, look_up=None)
    if intent.look_up is not None or asking is None:
        return intent
    spec, to = asking
    for name in wanted(spec, intent, to, found, config.endpoint):
        host = known(intent.hosts, name)
        if host.asked_in not in places:  # another network: nothing that was in vain before tells anything here
            host = replace(host, attempts=0, retry_at=0.0)
            intent = replace(intent, hosts=update(intent.hosts, host))
        uplink = found[host.attempts % len(found)]
        inquiry = _inquiry(name, uplink, to, snapshot, config.endpoint)
        if inquiry.resolvers and now >= host.retry_at:
            return replace(intent, look_up=OpenLookUp(inquiry, uplink.network, now, now + OPEN_S))
    return intent


def wanted(
    spec: TunnelSpec, intent: Intent, to: Reach, found: tuple[Uplink, ...], policy: EndpointPolicy
) -> tuple[str, ...]:
    """The names that should be looked up, the network's prefix before all others."""
    if not found:
        return ()
    places = {place(uplink) for uplink in found}
    names = [name for name in spec.hosts if _is_wanted(known(intent.hosts, name), to, places)]
    if needs_prefix(spec, intent, to, policy) and known(intent.hosts, nat64.WELL_KNOWN).network not in places:
        names.insert(0, nat64.WELL_KNOWN)
    return tuple(names)


def _is_wanted(host: Host, to: Reach, places: set[str]) -> bool:
    able = candidates(host, to)
    return not able or host.vain >= (len(able) if host.network in places else 1)


def needs_prefix(spec: TunnelSpec, intent: Intent, to: Reach, policy: EndpointPolicy) -> bool:
    """Whether something has an IPv4 address alone where the uplinks have none."""
    if not to.families or IPV4 in to.families or to.prefix is not None:
        return False
    hosts = [known(intent.hosts, name) for name in spec.hosts]
    names = any(not candidates(host, to) and (host.answered or host.good) for host in hosts)
    addresses = any(endpoint.addr.version == IPV4 for endpoint in spec.endpoints)
    return names or addresses or (policy.resolver is not None and policy.resolver.addr.version == IPV4 and bool(hosts))


def _inquiry(name: str, uplink: Uplink, to: Reach, snapshot: Snapshot, policy: EndpointPolicy) -> LookUp:
    link = (uplink.link.index, uplink.link.name)
    # A network's prefix is known to its own resolvers alone, and signed by nobody (RFC 7050 section 3).
    if policy.resolver is not None and name != nat64.WELL_KNOWN:
        pinned = to(policy.resolver.addr)
        resolvers = (pinned,) if pinned is not None else ()
        return LookUp(name, *link, resolvers, policy.resolver.name, policy.dnssec)
    given = [addr for addr in snapshot.resolvers if _can_be_asked(addr, uplink, to)]
    given = given or [addr for addr in uplink.gateways if _can_be_asked(addr, uplink, to)]
    return LookUp(name, *link, tuple(addr for addr in given if _has_source(uplink, addr))[:MOST_RESOLVERS])


def _can_be_asked(addr: Address, uplink: Uplink, to: Reach) -> bool:
    """Whether a resolver is somebody, which a link-local address may well be, and of a family that leads somewhere: one
    of another network may still be written in resolv.conf.
    """
    is_somebody = addr not in to.own and (addr.is_link_local or unfit(addr) is None)
    return is_somebody and addr.version in uplink.families


def _has_source(uplink: Uplink, addr: Address) -> bool:
    """Whether the uplink has an address to ask this one from; where it has none yet, the kernel takes another link's
    (facts T23).
    """
    return any(own.version == addr.version and (addr.is_link_local or not own.is_link_local) for own in uplink.prefixes)


# -- answers -----------------------------------------------------------------------------------------------------------
def learn(intent: Intent, finding: LookedUp | Unanswered) -> Intent:
    """The memory after the look-up that runs was answered; any other answer comes too late."""
    look_up = intent.look_up
    if look_up is None or look_up.inquiry != finding.inquiry:
        return intent
    host = _asked(known(intent.hosts, look_up.inquiry.host), look_up)
    match finding:
        case LookedUp(_, addresses, resolver):
            host = _answered(host, addresses, resolver)
        case Unanswered(_, text):
            host = replace(host, said=f"{host.name} cannot be looked up: {text}")
        case _:
            assert_never(finding)
    return replace(intent, hosts=update(intent.hosts, host), look_up=None)


def _asked(host: Host, look_up: OpenLookUp) -> Host:
    """The same, once more asked, whatever was answered: only a handshake shows that it was the truth."""
    attempts = host.attempts + 1
    wait = RETRY_S[min(attempts, len(RETRY_S)) - 1] * (1 + JITTER * _noise(host.name, attempts, look_up.asked_at))
    where = f"{look_up.inquiry.link} {look_up.network}"
    return replace(host, attempts=attempts, retry_at=look_up.asked_at + wait, asked_in=where)


def _answered(host: Host, addresses: tuple[Address, ...], resolver: Address) -> Host:
    fit = tuple(addr for addr in addresses if unfit(addr) is None)[:MOST]
    if not fit and host.name != nat64.WELL_KNOWN:
        bad = f"{addresses[0]}, {unfit(addresses[0])}: no gateway can be there" if addresses else ""
        said = f"{resolver} says that {host.name} is {bad}" if bad else f"{resolver} knows no address of {host.name}"
        return replace(host, said=said)
    stays = host.current if host.current in fit else None
    return replace(host, answered=fit, network=host.asked_in, current=stays, vain=0, said="")


def _noise(name: str, attempts: int, at: float) -> float:
    """From -1 to 1, the same for the same arguments; ``at`` (CLOCK_BOOTTIME) tells one laptop from the next."""
    digest = hashlib.blake2b(f"{name} {attempts} {at!r}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") / 2**31 - 1


def next_look(
    spec: TunnelSpec, intent: Intent, to: Reach, found: tuple[Uplink, ...], policy: EndpointPolicy
) -> list[float]:
    """When time alone will end a look-up, or begin one (CLOCK_BOOTTIME)."""
    if intent.look_up is not None:
        return [intent.look_up.expires_at]
    return [known(intent.hosts, name).retry_at for name in wanted(spec, intent, to, found, policy)]

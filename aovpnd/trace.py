# SPDX-License-Identifier: GPL-3.0-or-later
"""What a ruleset does to a packet: its verdict, and the rules on the way, as ``nft monitor trace`` shows them. Pure."""

from dataclasses import dataclass, replace

from aovpnd.ruleset import (
    L4,
    Address,
    Chain,
    Conntrack,
    Device,
    Flow,
    Framing,
    Hook,
    Match,
    Network,
    Origin,
    Owner,
    Protocol,
    Rule,
    Ruleset,
    SetRef,
    Users,
    Verdict,
    is_among,
)


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet as the hooks see it. ``ct`` is its conntrack state word, or None for new; ``flow`` whose way it goes.

    ``frame`` is the type in its Ethernet header, None when that is ``protocol``, as it is but for a lying packet
    socket; ``tagged`` the one behind an 802.1Q tag, None without a tag.
    """

    iif: Device | None = None
    oif: Device | None = None
    protocol: Protocol = Protocol.IP
    saddr: Address | None = None
    daddr: Address | None = None
    l4: L4 | None = None
    sport: int = 0
    dport: int = 0
    icmp_type: int = 0
    begins: bool = False
    """Whether it has TCP's flag SYN."""
    hop_limit: int = 64
    mark: int = 0
    ct: Conntrack | None = None
    flow: Flow = Flow.ORIGINAL
    framing: Framing = Framing.ETHERNET
    frame: Protocol | None = None
    tagged: Protocol | None = None
    origin: Origin = Origin.ROUTED
    owner: Owner | int | None = None
    """Whose socket it is from, by uid; ``ANYBODY`` is somebody who is not root, and whom no rule names."""
    ppp: int = 0
    """The protocol inside a PPPoE session."""
    sa: Address | None = None
    """Of an inner packet that ESP is about to take: the far end of its SA."""
    wall: float = 0.0
    """When it passes: seconds since the epoch, by the wall clock."""


@dataclass(frozen=True, slots=True)
class Step:
    """A rule that a packet met and that applied to it, in the chain called ``chain``, counted from 1."""

    chain: str
    number: int
    rule: Rule


def verdict(ruleset: Ruleset, hook: Hook, packet: Packet, now: float = 0.0) -> tuple[Verdict, int]:
    """What ``ruleset``'s chains at ``hook`` say of ``packet`` at ``now`` (CLOCK_BOOTTIME), and the mark it then
    carries.

    A table without a chain at the hook accepts. Of several chains (egress: one per link) each must accept.
    """
    return trace(ruleset, hook, packet, now)[:2]


def trace(ruleset: Ruleset, hook: Hook, packet: Packet, now: float = 0.0) -> tuple[Verdict, int, tuple[Step, ...]]:
    """As `verdict`, and every rule that applied on the way, the deciding one last."""
    mark = packet.mark
    steps: list[Step] = []
    for chain in ruleset.chains:
        if chain.hook is not hook or (chain.device is not None and chain.device != (packet.oif and packet.oif.name)):
            continue
        said, mark = _walk(ruleset, chain, replace(packet, mark=mark), now, steps)
        if said is Verdict.CONTINUE:
            said = chain.policy
        if said is not Verdict.ACCEPT:
            return said, mark, tuple(steps)
    return Verdict.ACCEPT, mark, tuple(steps)


def _walk(ruleset: Ruleset, chain: Chain, packet: Packet, now: float, steps: list[Step]) -> tuple[Verdict, int]:
    for number, rule in enumerate(chain.rules, 1):
        if rule.clamp_mss is not None or not _applies(ruleset, rule.match, packet, now):
            continue
        steps.append(Step(chain.name, number, rule))
        if rule.set_mark is not None:
            packet = replace(packet, mark=packet.mark & ~rule.set_mark.mask | rule.set_mark.value)
        if rule.jump is not None:
            said, mark = _walk(ruleset, ruleset.chain(rule.jump), packet, now, steps)
            packet = replace(packet, mark=mark)
            if said is not Verdict.CONTINUE:
                return said, mark
        elif rule.verdict is not Verdict.CONTINUE:
            return rule.verdict, packet.mark
    return Verdict.CONTINUE, packet.mark


def _applies(ruleset: Ruleset, match: Match, packet: Packet, now: float) -> bool:
    return (
        _device_matches(match.iif, packet.iif)
        and _device_matches(match.oif, packet.oif)
        and (match.iif_in is None or _in_set(ruleset, match.iif_in, packet.iif, now))
        and (match.oif_in is None or _in_set(ruleset, match.oif_in, packet.oif, now))
        and (match.protocol is None or match.protocol is packet.protocol)
        and (match.framing is None or match.framing is packet.framing)
        and (not match.frame or _frame(packet) in match.frame)
        and (match.tagged is None or match.tagged is packet.tagged)
        and (match.origin is None or match.origin is packet.origin)
        and _owner_matches(match.owner, packet.owner)
        and (not match.ppp or packet.ppp in match.ppp)
        and (match.mark is None or packet.mark & match.mark.mask == match.mark.value)
        and _address_matches(match.saddr, packet.saddr)
        and _address_matches(match.daddr, packet.daddr)
        and (not match.l4 or packet.l4 in match.l4)
        and (not match.sport or is_among(packet.sport, match.sport))
        and (not match.dport or is_among(packet.dport, match.dport))
        and (not match.icmp_type or (packet.l4 in (match.l4 or (L4.ICMPV6,)) and packet.icmp_type in match.icmp_type))
        and (not match.begins or packet.begins)
        and (match.hop_limit is None or packet.hop_limit == match.hop_limit)
        and (not match.ct or packet.ct in match.ct)
        and (match.flow is None or match.flow is packet.flow)
        and (match.sa is None or match.sa == packet.sa)
        and (match.before is None or packet.wall < match.before)
    )


def _frame(packet: Packet) -> Protocol | None:
    return (packet.frame or packet.protocol) if packet.framing is Framing.ETHERNET else None


def _owner_matches(wanted: Owner | Users | None, owner: Owner | int | None) -> bool:
    if wanted is None or owner is None:
        return wanted is None
    if isinstance(wanted, Users):
        return (owner in wanted.uids) is not wanted.others if isinstance(owner, int) else wanted.others
    return wanted in {Owner.ROOT if owner == 0 else owner, Owner.ANYBODY}


def _device_matches(wanted: Device | None, device: Device | None) -> bool:
    return wanted is None or (device is not None and wanted.matches(device))


def _in_set(ruleset: Ruleset, ref: SetRef, device: Device | None, now: float) -> bool:
    return device is not None and any(
        element.device.matches(device) and (element.expires_at is None or now < element.expires_at)
        for links in ruleset.sets
        if links.ref == ref
        for element in links.elements
    )


def _address_matches(networks: tuple[Network, ...], address: Address | None) -> bool:
    return not networks or any(address is not None and address.version == n.version and address in n for n in networks)

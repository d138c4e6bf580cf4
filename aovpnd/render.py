# SPDX-License-Identifier: GPL-3.0-or-later
"""How nft spells a `Ruleset`: text for ``nft -f`` and libnftables, from 1.0.6 on.

Text and not JSON, because 1.0.6's JSON loses the egress device. Nothing here needs a look-up when nft loads it: links
are numbers or quoted names, addresses are numbers.
"""

from collections.abc import Iterable
from typing import Final

from aovpnd.ruleset import (
    L4,
    Address,
    Chain,
    Device,
    Element,
    Framing,
    LinkSet,
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
)

_ICMPV6_WORDS: Final = {
    1: "destination-unreachable",
    2: "packet-too-big",
    3: "time-exceeded",
    4: "parameter-problem",
    133: "nd-router-solicit",
    134: "nd-router-advert",
    135: "nd-neighbor-solicit",
    136: "nd-neighbor-advert",
    137: "nd-redirect",
}
_ICMP_WORDS: Final = {
    3: "destination-unreachable",
    5: "redirect",
    11: "time-exceeded",
    12: "parameter-problem",
}

_ORIGIN_WORDS: Final = {Origin.ROUTED: "meta rtclassid != 0xffffffff"}
"""A realm (nft_meta's NFT_META_RTCLASSID) can be read of a packet with a route alone, and no route has this one. What
has no route cannot be named.
"""


def render(ruleset: Ruleset, now: float = 0.0) -> str:
    """The text that replaces the table by this one in a single transaction; ``now`` (CLOCK_BOOTTIME) times elements."""
    name = f"{ruleset.family} {ruleset.table}"
    # Adding it first makes the deletion succeed when there was none. A plain table cannot become an owned one
    # (EOPNOTSUPP).
    flags = " { flags owner; }" if ruleset.owned else ""
    return f"add table {name}{flags}\ndelete table {name}\n{render_table(ruleset, now)}"


def render_table(ruleset: Ruleset, now: float = 0.0) -> str:
    """The ``table … { }`` block alone."""
    lines = [f"table {ruleset.family} {ruleset.table} {{"]
    if ruleset.owned:
        lines.append("\tflags owner")
    if ruleset.comment:
        lines.append(f'\tcomment "{ruleset.comment}"')
    for links in ruleset.sets:
        lines += ["", *_render_set(links, now)]
    # A regular chain must be known before another one jumps to it.
    for chain in sorted(ruleset.chains, key=lambda chain: chain.hook is not None):
        lines += ["", *render_chain(chain)]
    return "\n".join([*lines, "}", ""])


def _render_set(links: LinkSet, now: float) -> Iterable[str]:
    yield f"\tset {links.ref.name} {{"
    yield "\t\ttype iface_index . ifname" if links.ref.named else "\t\ttype iface_index"
    if links.timed:
        yield "\t\tflags timeout"
    elements = [text for element in links.elements if (text := _render_element(links, element, now))]
    if elements:
        yield f"\t\telements = {{ {', '.join(elements)} }}"
    yield "\t}"


def _render_element(links: LinkSet, element: Element, now: float) -> str:
    text = f"{element.device.index}" + (f' . "{element.device.name}"' if links.ref.named else "")
    if element.expires_at is None:
        return text
    # Whole milliseconds, rounded down: the kernel may close a little early, never late.
    left = int((element.expires_at - now) * 1000)
    lifetime = max(left, int((element.lifetime or 0) * 1000))
    return f"{text} timeout {lifetime}ms expires {left}ms" if left > 0 else ""


def render_chain(chain: Chain) -> list[str]:
    """The ``chain … { }`` block, as lines with a tab in front."""
    lines = [f"\tchain {chain.name} {{"]
    if chain.hook is not None:
        device = f' device "{chain.device}"' if chain.device is not None else ""
        policy = "accept" if chain.policy is Verdict.ACCEPT else "drop"
        lines.append(f"\t\ttype filter hook {chain.hook}{device} priority {chain.priority}; policy {policy};")
    return [*lines, *(f"\t\t{render_rule(rule)}" for rule in chain.rules), "\t}"]


def render_rule(rule: Rule) -> str:
    """One rule on one line, its comment at the end."""
    words = list(_match_words(rule.match))
    if rule.set_mark is not None:
        kept = ~rule.set_mark.mask & 0xFFFFFFFF
        words.append(f"meta mark set meta mark & {kept:#010x} | {rule.set_mark.value:#010x}")
    if rule.clamp_mss is not None:
        words.append(f"tcp flags syn tcp option maxseg size set {rule.clamp_mss}")
    if rule.jump is not None:
        words.append(f"jump {rule.jump}")
    elif rule.verdict is not Verdict.CONTINUE:
        words.append(rule.verdict.value)
    return " ".join([*words, f'comment "{rule.comment}"'])


def _match_words(match: Match) -> Iterable[str]:
    """In the order in which the kernel looks: a rule ends at the first word that does not fit, so a link's name and
    kind, sixteen bytes each, come behind what most packets fail at.
    """
    if match.ppp:  # behind PPPoE's six bytes; ahead of the frame's type, or nft 1.0.6 dies of it when it lists the rule
        yield f"@nh,48,16 {_alternatives(f'{number:#06x}' for number in match.ppp)}"
    indexed = any(device is not None and device.index is not None for device in (match.iif, match.oif))
    yield from _index_words(match)
    if indexed:
        yield from _packet_words(match)
    yield from _link_words(match)
    if not indexed:
        yield from _packet_words(match)
    if match.ct:
        yield f"ct state {','.join(match.ct)}"
    if match.flow is not None:
        yield f"ct direction {match.flow}"
    if match.sa is not None:
        yield f"ipsec out {_family(match.sa)} daddr {match.sa}"
    if match.before is not None:
        yield f"meta time < {match.before}"


def _index_words(match: Match) -> Iterable[str]:
    for side, device in (("i", match.iif), ("o", match.oif)):
        if device is not None and device.index is not None:
            yield f"{side}if {device.index}"


def _link_words(match: Match) -> Iterable[str]:
    yield from _device_words("i", match.iif, match.iif_in)
    yield from _device_words("o", match.oif, match.oif_in)
    if match.mark is not None:
        yield f"meta mark & {match.mark.mask:#010x} == {match.mark.value:#010x}"
    if match.protocol is not None:
        yield f"meta protocol {match.protocol}"
    if match.framing is not None:
        yield "meta oiftype ether" if match.framing is Framing.ETHERNET else "meta oiftype != ether"
    if match.frame:
        yield f"ether type {_alternatives(match.frame)}"
    if match.tagged is not None:
        yield f"vlan type {match.tagged}"
    if match.origin is not None:
        yield _ORIGIN_WORDS[match.origin]
    if match.owner is not None:
        yield f"meta skuid {_owner_words(match.owner)}"


def _owner_words(owner: Owner | Users) -> str:
    if isinstance(owner, Owner):
        return owner
    return f"{'!= ' if owner.others else ''}{_alternatives(map(str, owner.uids))}"


def _packet_words(match: Match) -> Iterable[str]:
    for word, networks in (("saddr", match.saddr), ("daddr", match.daddr)):
        if networks:
            said = f"arp {word} ip" if match.protocol is Protocol.ARP else f"{_family(networks[0])} {word}"
            yield f"{said} {_alternatives(map(_network_text, networks))}"
    if match.icmp_type:
        icmp, words = ("icmp", _ICMP_WORDS) if match.l4 == (L4.ICMP,) else ("icmpv6", _ICMPV6_WORDS)
        yield f"{icmp} type {_alternatives(words[number] for number in match.icmp_type)}"
    else:
        yield from _transport_words(match)
    if match.hop_limit is not None:
        yield f"ip6 hoplimit {match.hop_limit}"


def _family(what: Address | Network) -> str:
    return "ip" if what.version == 4 else "ip6"  # noqa: PLR2004 - the IP versions


def _transport_words(match: Match) -> Iterable[str]:
    ported = bool(match.sport or match.dport)
    if match.l4 and not (ported and len(match.l4) == 1):
        yield f"meta l4proto {_alternatives(match.l4)}"
    header = match.l4[0] if len(match.l4) == 1 else "th"
    for word, ports in (("sport", match.sport), ("dport", match.dport)):
        if ports:
            yield f"{header} {word} {_alternatives(map(str, ports))}"
    if match.begins:
        yield "tcp flags syn"


def _device_words(side: str, device: Device | None, ref: SetRef | None) -> Iterable[str]:
    if device is not None:
        if device.kind is not None:
            yield f'meta {side}ifkind "{device.kind}"'
        if device.name is not None:
            yield f'{side}ifname "{device.name}"'
    if ref is not None:
        yield f"{side}if . {side}ifname @{ref.name}" if ref.named else f"{side}if @{ref.name}"


def _alternatives(words: Iterable[str]) -> str:
    words = tuple(words)
    return words[0] if len(words) == 1 else f"{{ {', '.join(words)} }}"


def _network_text(network: Network) -> str:
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)

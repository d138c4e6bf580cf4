# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules as values: what they do to a packet, how nft spells them, and what cannot be written at all."""

from dataclasses import replace
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Final

import pytest

from aovpnd.render import render, render_rule
from aovpnd.ruleset import (
    L4,
    Chain,
    Conntrack,
    Device,
    Element,
    Flow,
    Framing,
    Hook,
    LinkSet,
    Mark,
    Match,
    Origin,
    Ports,
    Protocol,
    Rule,
    Ruleset,
    SetRef,
    Verdict,
)
from aovpnd.trace import Packet, verdict

DROP: Final = Rule(Match(), Verdict.DROP, "end")
LINKS: Final = SetRef("links")
NAMED: Final = SetRef("named", named=True)


def table(*rules: Rule, sets: tuple[LinkSet, ...] = (), hook: Hook = Hook.OUTPUT) -> Ruleset:
    """A table with one chain: these rules, and the end."""
    return Ruleset("inet", "t", (Chain("c", (*rules, DROP), hook),), sets=sets)


def passes(match: Match, packet: Packet, *sets: LinkSet, now: float = 0.0) -> bool:
    """Whether a rule with this match takes the packet."""
    return verdict(table(Rule(match, Verdict.ACCEPT, "it"), sets=sets), Hook.OUTPUT, packet, now)[0] is Verdict.ACCEPT


WLAN: Final = Device(2, "wlan0")
UDP: Final = Packet(
    oif=WLAN,
    iif=Device(3, "eth0"),
    saddr=ip_address("192.0.2.2"),
    daddr=ip_address("192.0.2.1"),
    l4=L4.UDP,
    sport=1000,
    dport=53,
    mark=0x2A000001,
)
REDIRECT: Final = Packet(daddr=ip_address("192.168.1.23"), l4=L4.ICMP, icmp_type=5)
FAR: Final = ip_address("203.0.113.2")
ND: Final = Packet(protocol=Protocol.IP6, daddr=ip_address("fe80::1"), l4=L4.ICMPV6, icmp_type=135, hop_limit=255)


# -- what matches ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("match", "packet", "matches"),
    [
        pytest.param(Match(), Packet(), True, id="everything"),
        pytest.param(Match(oif=WLAN), UDP, True, id="index and name"),
        pytest.param(Match(oif=Device(2, "wlan1")), UDP, False, id="another name"),
        pytest.param(Match(oif=Device(3, "wlan0")), UDP, False, id="another index"),
        pytest.param(Match(oif=Device(2, "wlan0", "tun")), UDP, False, id="no such kind"),
        pytest.param(Match(oif=Device(name="wlan*")), UDP, True, id="a name that begins so"),
        pytest.param(Match(oif=Device(name="wlan*")), replace(UDP, oif=Device(2)), False, id="no name"),
        pytest.param(Match(oif=Device(name="wla*")), replace(UDP, oif=Device(2, "xwlan0")), False, id="not a prefix"),
        pytest.param(Match(oif=WLAN), Packet(), False, id="no link yet"),
        pytest.param(Match(iif=Device(3)), UDP, True, id="where it came from"),
        pytest.param(Match(iif=Device(2)), UDP, False, id="not where it goes"),
        pytest.param(Match(protocol=Protocol.ARP), UDP, False, id="another protocol"),
        pytest.param(Match(mark=Mark(0x2A000000, 0x3F000000)), UDP, True, id="mark under its mask"),
        pytest.param(Match(mark=Mark(0x2A000000, 0xFFFFFFFF)), UDP, False, id="mark with other bits"),
        pytest.param(Match(saddr=(ip_network("192.0.2.0/30"),)), UDP, True, id="from a prefix"),
        pytest.param(Match(daddr=(ip_network("192.0.2.2"),)), UDP, False, id="to another address"),
        pytest.param(Match(daddr=(ip_network("fe80::/10"),)), UDP, False, id="another family"),
        pytest.param(Match(daddr=(ip_network("0.0.0.0/0"),)), Packet(protocol=Protocol.ARP), False, id="no address"),
        pytest.param(Match(l4=(L4.TCP, L4.UDP), dport=(53, 853)), UDP, True, id="one of several ports"),
        pytest.param(Match(l4=(L4.UDP,), sport=(53,)), UDP, False, id="the other port"),
        pytest.param(Match(l4=(L4.TCP,)), UDP, False, id="another transport"),
        pytest.param(Match(l4=(L4.TCP,)), replace(UDP, l4=None), False, id="a transport that no rule names"),
        pytest.param(Match(icmp_type=(135, 136)), ND, True, id="one of several kinds"),
        pytest.param(Match(icmp_type=(135,)), replace(ND, l4=L4.ICMP), False, id="the type of IPv4's ICMP"),
        pytest.param(Match(l4=(L4.ICMP,), icmp_type=(5,)), REDIRECT, True, id="IPv4's own"),
        pytest.param(Match(l4=(L4.ICMP,), icmp_type=(5,)), replace(REDIRECT, l4=L4.ICMPV6), False, id="not IPv6's"),
        pytest.param(Match(hop_limit=255), ND, True, id="from the link itself"),
        pytest.param(Match(hop_limit=255), replace(ND, hop_limit=254), False, id="one hop away"),
        pytest.param(Match(ct=(Conntrack.ESTABLISHED,)), UDP, False, id="new"),
        pytest.param(Match(ct=(Conntrack.ESTABLISHED,)), replace(UDP, ct=Conntrack.RELATED), False, id="related only"),
        pytest.param(Match(oif_in=LINKS), UDP, False, id="a set that is not there"),
        pytest.param(Match(frame=(Protocol.IP,)), UDP, True, id="a frame that says what it is"),
        pytest.param(Match(frame=(Protocol.ARP,)), replace(UDP, frame=Protocol.ARP), True, id="a frame that lies"),
        pytest.param(Match(frame=(Protocol.IP,)), replace(UDP, framing=Framing.OTHER), False, id="no frame at all"),
        pytest.param(Match(origin=Origin.ROUTED), UDP, True, id="from the IP stack"),
        pytest.param(Match(origin=Origin.ROUTED), replace(UDP, origin=Origin.FRAMED), False, id="by a packet socket"),
        pytest.param(Match(sa=FAR), replace(UDP, sa=FAR), True, id="about to be ESP for the gateway"),
        pytest.param(Match(sa=FAR), replace(UDP, sa=ip_address("192.0.2.9")), False, id="ESP for somebody else"),
        pytest.param(Match(sa=FAR), replace(UDP, daddr=FAR), False, id="to the gateway, as it is"),
    ],
)
def test_match(match: Match, packet: Packet, *, matches: bool) -> None:
    """Every condition counts, and what is not there matches nothing."""
    assert passes(match, packet) is matches


def test_sets() -> None:
    """An element is a link by index, or by index and name, until its time is over."""
    by_index = LinkSet(LINKS, (Element(Device(2), 100.0), Element(Device(7))), timed=True)
    by_name = LinkSet(NAMED, (Element(Device(2, "wlan0")),))

    assert passes(Match(oif_in=LINKS), UDP, by_index, now=99.9)
    assert not passes(Match(oif_in=LINKS), UDP, by_index, now=100.0)
    assert passes(Match(oif_in=LINKS), replace(UDP, oif=Device(7, "x")), by_index, now=9e9)
    assert not passes(Match(iif_in=LINKS), UDP, by_index)
    assert passes(Match(oif_in=NAMED), UDP, by_index, by_name)
    assert not passes(Match(oif_in=NAMED), replace(UDP, oif=Device(2, "wlan1")), by_index, by_name)
    assert not passes(Match(oif_in=NAMED), replace(UDP, oif=None), by_index, by_name)


# -- what happens ------------------------------------------------------------------------------------------------------
def test_first_word_counts() -> None:
    """The first rule that says something has said it; marks on the way are kept."""
    rules = (
        Rule(Match(), Verdict.CONTINUE, "mark", set_mark=Mark(0x10, 0xF0)),
        Rule(Match(mark=Mark(0x10, 0xF0)), Verdict.REJECT, "no"),
        Rule(Match(), Verdict.ACCEPT, "never"),
    )

    assert verdict(table(*rules), Hook.OUTPUT, UDP) == (Verdict.REJECT, 0x2A000011)


def test_jumps_come_back() -> None:
    """A regular chain that says nothing returns, with the mark that it made; one that says something ends it."""
    mark = Rule(Match(), Verdict.CONTINUE, "mark", set_mark=Mark(0x10, 0xF0))
    reject = Rule(Match(mark=Mark(0x10, 0xF0)), Verdict.REJECT, "no")
    jump = Rule(Match(), Verdict.CONTINUE, "go", jump="other")
    quiet = Chain("other", (mark,), policy=Verdict.ACCEPT)

    def said(other: Chain) -> tuple[Verdict, int]:
        chains = (other, Chain("c", (jump, reject, DROP), Hook.OUTPUT))
        return verdict(Ruleset("inet", "t", chains), Hook.OUTPUT, UDP)

    assert said(quiet) == (Verdict.REJECT, 0x2A000011)
    assert said(replace(quiet, rules=(mark, Rule(Match(), Verdict.ACCEPT, "yes")))) == (Verdict.ACCEPT, 0x2A000011)


def test_chains_at_a_hook() -> None:
    """Without a chain at its hook a packet passes; of several, each must let it; one of a link, only by that link."""
    accept = Chain("one", (Rule(Match(), Verdict.ACCEPT, "yes"), DROP), Hook.OUTPUT)
    mine = Chain("two", (DROP,), Hook.EGRESS, device="wlan0")
    both = Ruleset("inet", "t", (accept, replace(mine, hook=Hook.OUTPUT, device=None), mine))

    assert verdict(both, Hook.INPUT, UDP)[0] is Verdict.ACCEPT
    assert verdict(both, Hook.OUTPUT, UDP)[0] is Verdict.DROP
    assert verdict(both, Hook.EGRESS, UDP)[0] is Verdict.DROP
    assert verdict(both, Hook.EGRESS, replace(UDP, oif=Device(3, "eth0")))[0] is Verdict.ACCEPT
    assert verdict(both, Hook.EGRESS, replace(UDP, oif=None))[0] is Verdict.ACCEPT


def test_policy_speaks_last() -> None:
    """A chain that only marks lets everything pass by its policy."""
    mark = Rule(Match(), Verdict.CONTINUE, "mark", set_mark=Mark(1, 1))
    marks = Ruleset("inet", "t", (Chain("c", (mark,), Hook.PREROUTING, policy=Verdict.ACCEPT),))

    assert verdict(marks, Hook.PREROUTING, replace(UDP, mark=2)) == (Verdict.ACCEPT, 3)


def test_chain_by_name() -> None:
    """A table's chains have names."""
    assert table().chain("c").rules == (DROP,)
    with pytest.raises(KeyError):
        table().chain("d")


# -- what cannot be written --------------------------------------------------------------------------------------------
EVIL: Final = ('a"b', "a b", "a;b", "a{b", "a\nb", "", "a" * 16, "a*b", "a$b", "a\0", "ä", "a@b\\")


@pytest.mark.parametrize("name", EVIL)
def test_evil_link_names(name: str) -> None:
    """A link may be called almost anything; what nft could misread never gets into a rule, a chain or a set."""
    with pytest.raises(ValueError, match="cannot be written"):
        Device(1, name)
    with pytest.raises(ValueError, match="cannot be written"):
        Chain("c", (DROP,), Hook.EGRESS, device=name)


@pytest.mark.parametrize("word", ['a"b', "a b", "a;b", "a}", "1a", "", "a" * 65, "a-b", "a\n"])
def test_evil_identifiers(word: str) -> None:
    """Names of tables, sets, chains and kinds of links are words, wherever they stand."""
    for made in (
        lambda: Device(1, "lo", word),
        lambda: Chain(word, (DROP,)),
        lambda: SetRef(word),
        lambda: Ruleset(word, "t", ()),
        lambda: Ruleset("inet", word, ()),
        lambda: Rule(Match(), Verdict.CONTINUE, "go", jump=word),
    ):
        with pytest.raises(ValueError, match="cannot be written"):
            made()


@pytest.mark.parametrize("comment", ['"', "a\n", "a\\", "{", "a" * 121, "", "ä", "$x", "#"])
def test_evil_comments(comment: str) -> None:
    """Comments are text of ours, and even so they are checked."""
    with pytest.raises(ValueError, match="comment"):
        Rule(Match(), Verdict.DROP, comment)
    if comment:
        with pytest.raises(ValueError, match="comment"):
            Ruleset("inet", "t", (), comment=comment)


@pytest.mark.parametrize("zone", ["eth0", "2", 'x" } ; flush ruleset ; #'])
def test_evil_zones(zone: str) -> None:
    """A zone of a link-local address may hold any character, so an address that has one gets into no rule."""
    zoned = ip_network(IPv6Address(f"fe80::1%{zone}"))

    with pytest.raises(ValueError, match="zone"):
        Match(daddr=(zoned,))
    with pytest.raises(ValueError, match="zone"):
        Match(saddr=(ip_network("fe80::/10"), zoned))


def test_what_makes_no_sense() -> None:
    """A port without a protocol, two families in one rule, a filter without an explicit end."""
    with pytest.raises(ValueError, match="port needs a protocol"):
        Match(dport=(53,))
    with pytest.raises(ValueError, match="port needs a protocol"):
        Match(sport=(53,), l4=(L4.ICMP,))
    with pytest.raises(ValueError, match="one address family"):
        Match(saddr=(ip_network("fe80::/10"),), daddr=(ip_network("10.0.0.0/8"),))
    for rules in (
        (),
        (Rule(Match(), Verdict.ACCEPT, "yes"),),
        (Rule(Match(oif=WLAN), Verdict.DROP, "not for all"),),
        (DROP, Rule(Match(), Verdict.CONTINUE, "mark", set_mark=Mark(1, 1))),
    ):
        with pytest.raises(ValueError, match="explicit drop"):
            Chain("c", rules, Hook.OUTPUT)


# -- how nft spells it -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (DROP, 'drop comment "end"'),
        (
            Rule(Match(iif=Device(9, "aovpn0", "tun"), oif=Device(name="wlan*")), Verdict.ACCEPT, "x"),
            'iif 9 meta iifkind "tun" iifname "aovpn0" oifname "wlan*" accept comment "x"',
        ),
        (
            Rule(Match(mark=Mark(0x2A000000, 0x3F000000), daddr=(ip_network("192.0.2.1"),)), Verdict.DROP, "x"),
            'meta mark & 0x3f000000 == 0x2a000000 ip daddr 192.0.2.1 drop comment "x"',
        ),
        (
            Rule(Match(l4=(L4.TCP, L4.UDP), dport=(53, 853)), Verdict.REJECT, "x"),
            'meta l4proto { tcp, udp } th dport { 53, 853 } reject with icmpx admin-prohibited comment "x"',
        ),
        (
            Rule(Match(l4=(L4.TCP,), dport=(443, Ports(8000, 8100))), Verdict.ACCEPT, "x"),
            'tcp dport { 443, 8000-8100 } accept comment "x"',
        ),
        (Rule(Match(l4=(L4.UDP,), sport=(Ports(1, 2),)), Verdict.ACCEPT, "x"), 'udp sport 1-2 accept comment "x"'),
        (
            Rule(Match(ct=(Conntrack.ESTABLISHED,), flow=Flow.REPLY), Verdict.ACCEPT, "x"),
            'ct state established ct direction reply accept comment "x"',
        ),
        (Rule(Match(l4=(L4.UDP,), sport=(67,)), Verdict.ACCEPT, "x"), 'udp sport 67 accept comment "x"'),
        (Rule(Match(l4=(L4.UDP,)), Verdict.ACCEPT, "x"), 'meta l4proto udp accept comment "x"'),
        (
            Rule(Match(l4=(L4.ICMP,), icmp_type=(5,)), Verdict.DROP, "x"),
            'icmp type redirect drop comment "x"',
        ),
        (
            Rule(Match(icmp_type=(133, 134), hop_limit=255), Verdict.ACCEPT, "x"),
            'icmpv6 type { nd-router-solicit, nd-router-advert } ip6 hoplimit 255 accept comment "x"',
        ),
        (
            Rule(Match(ct=(Conntrack.ESTABLISHED, Conntrack.RELATED)), Verdict.ACCEPT, "x"),
            'ct state established,related accept comment "x"',
        ),
        (Rule(Match(sa=FAR), Verdict.ACCEPT, "x"), 'ipsec out ip daddr 203.0.113.2 accept comment "x"'),
        (
            Rule(Match(sa=ip_address("2001:db8::2")), Verdict.ACCEPT, "x"),
            'ipsec out ip6 daddr 2001:db8::2 accept comment "x"',
        ),
        (Rule(Match(before=1_700_000_000), Verdict.ACCEPT, "x"), 'meta time < 1700000000 accept comment "x"'),
        (
            Rule(Match(iif_in=LINKS, oif_in=NAMED), Verdict.ACCEPT, "x"),
            'iif @links oif . oifname @named accept comment "x"',
        ),
        (
            Rule(Match(saddr=(ip_network("fe80::/10"), ip_network("::1"))), Verdict.CONTINUE, "x", set_mark=Mark(0, 1)),
            'ip6 saddr { fe80::/10, ::1 } meta mark set meta mark & 0xfffffffe | 0x00000000 comment "x"',
        ),
        (Rule(Match(), Verdict.CONTINUE, "x", jump="other"), 'jump other comment "x"'),
        (Rule(Match(iif=Device(3)), Verdict.DROP, "x"), 'iif 3 drop comment "x"'),
        (
            Rule(Match(protocol=Protocol.ARP, framing=Framing.OTHER), Verdict.ACCEPT, "x"),
            'meta protocol arp meta oiftype != ether accept comment "x"',
        ),
        (
            Rule(Match(protocol=Protocol.IP, origin=Origin.ROUTED), Verdict.ACCEPT, "x"),
            'meta protocol ip meta rtclassid != 0xffffffff accept comment "x"',
        ),
    ],
)
def test_spelling(rule: Rule, text: str) -> None:
    """The words of nft for each condition and each statement."""
    assert render_rule(rule) == text


def test_spelling_of_sets() -> None:
    """Elements carry their whole and their remaining time, rounded down; what has expired is not written."""
    elements = (
        Element(Device(2), 1000.9996, 180.0),
        Element(Device(3), 1000.0),
        Element(Device(4)),
        Element(Device(5), 1001.5),
    )
    timed = LinkSet(LINKS, elements, timed=True)
    named = LinkSet(NAMED, (Element(Device(5, "docker0")),))
    text = render(replace(table(sets=(timed, named, LinkSet(SetRef("empty")))), comment="why"), 1000.0)

    assert text.splitlines()[:18] == [
        "add table inet t",
        "delete table inet t",
        "table inet t {",
        '\tcomment "why"',
        "",
        "\tset links {",
        "\t\ttype iface_index",
        "\t\tflags timeout",
        "\t\telements = { 2 timeout 180000ms expires 999ms, 4, 5 timeout 1500ms expires 1500ms }",
        "\t}",
        "",
        "\tset named {",
        "\t\ttype iface_index . ifname",
        '\t\telements = { 5 . "docker0" }',
        "\t}",
        "",
        "\tset empty {",
        "\t\ttype iface_index",
    ]


def test_what_begins_is_a_connection() -> None:
    """Of TCP, whose first segment says so."""
    with pytest.raises(ValueError, match="TCP alone"):
        Match(l4=(L4.TCP, L4.UDP), begins=True)


def test_what_is_in_a_session_is_asked_of_a_session() -> None:
    """PPP's protocol stands at a place where another frame has something else."""
    with pytest.raises(ValueError, match="needs a session"):
        Match(protocol=Protocol.IP, ppp=(0x0021,))


@pytest.mark.parametrize("size", [0, -12, 65536])
def test_segment_size_is_one(size: int) -> None:
    """A rule that nft would refuse, and with it the whole table, cannot be made."""
    with pytest.raises(ValueError, match="is no segment size"):
        Rule(Match(), Verdict.CONTINUE, "x", clamp_mss=size)


@pytest.mark.parametrize("judges", [{"verdict": Verdict.ACCEPT}, {"jump": "outside"}, {"set_mark": Mark(1, 1)}])
def test_a_rule_that_clamps_segments_judges_nothing(judges: dict[str, Any]) -> None:
    """It looks at handshakes of TCP alone: as an accept it would let them pass, as a drop it would end them."""
    with pytest.raises(ValueError, match="judges nothing"):
        Rule(**{"match": Match(), "verdict": Verdict.CONTINUE, "comment": "x", "clamp_mss": 1200, **judges})

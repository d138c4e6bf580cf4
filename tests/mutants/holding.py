# SPDX-License-Identifier: GPL-3.0-or-later
"""Weakenings of what comes in and goes through, of the guard and early boot, and of how rules are spelled."""

from typing import Final

from tests.mutants.mutant import KERNEL, NO_LEAK, RULESET, STATIC_FILES, Mutant

_FIREWALL: Final = "aovpnd/core/firewall.py"
_GUARD: Final = "aovpnd/guard/rules.py"
_RULESET: Final = "aovpnd/ruleset.py"
_RENDER: Final = "aovpnd/render.py"

HOLDING: Final = (
    # -- the table: what comes in, what goes through -------------------------------------------------------------------
    Mutant(
        "own-address-from-elsewhere",
        _FIREWALL,
        "                    Match(daddr=family),\n                    Verdict.DROP,",
        "                    Match(daddr=family),\n                    Verdict.CONTINUE,",
        "the network learns the tunnel's address (CVE-2019-14899)",
        (NO_LEAK,),
    ),
    Mutant(
        "own-address-behind-link-setup",
        _FIREWALL,
        "_TIERS: Final = (Loopback, Tunnel, HostOnly, LinkSetup,",
        "_TIERS: Final = (Loopback, LinkSetup, Tunnel, HostOnly,",
        "DHCP and discovery for the tunnel's address come in by any link, and inside links are stamped",
        (NO_LEAK,),
    ),
    Mutant(
        "inbound-open",
        _FIREWALL,
        '    Rule(Match(), Verdict.DROP, "inbound is closed, without an answer"),\n)',
        '    Rule(Match(), Verdict.ACCEPT, "inbound is closed, without an answer"),\n)',
        "services are reachable from every network",
        (NO_LEAK,),
    ),
    Mutant(
        "advertisements-from-afar",
        _FIREWALL,
        "advert = Match(saddr=(_LINK_LOCAL,), icmp_type=(_RA,), hop_limit=255)",
        "advert = Match(icmp_type=(_RA,))",
        "a router advertisement from the other side of the world",
        (NO_LEAK,),
    ),
    Mutant(
        "guests-out-by-the-window",
        _FIREWALL,
        '            yield Rule(Match(iif=guest, oif=other), Verdict.ACCEPT, "between guests of this host")\n',
        '            yield Rule(Match(iif=guest), Verdict.ACCEPT, "between guests of this host")\n',
        "containers use a window that was given to the machine",
        (NO_LEAK,),
    ),
    Mutant(
        "into-the-tunnel-from-outside",
        _FIREWALL,
        'yield Rule(there, Verdict.ACCEPT, "guests go through the tunnel")',
        'yield Rule(replace(there, iif=None), Verdict.ACCEPT, "guests go through the tunnel")',
        "the network sends through our tunnel",
        (NO_LEAK,),
    ),
    Mutant(
        "guests-reachable-through-the-tunnel",
        _FIREWALL,
        "yield Rule(replace(back, ct=ANSWERS), Verdict.ACCEPT",
        "yield Rule(back, Verdict.ACCEPT",
        "whoever is in the tunnel reaches the containers",
        (NO_LEAK,),
    ),
    Mutant(
        "all-udp-of-the-gateway-is-marked",
        _FIREWALL,
        "return Match(saddr=(ip_network(addr),), l4=(L4.UDP,), sport=(port,))",
        "return Match(saddr=(ip_network(addr),))",
        "what the gateway's host sends is routed past the tunnel",
        (NO_LEAK,),
    ),
    # -- the guard and early boot --------------------------------------------------------------------------------------
    Mutant(
        "guard-lets-anything-tagged",
        _GUARD,
        "Match(protocol=Protocol.ARP, frame=(Protocol.VLAN,), tagged=Protocol.ARP)",
        "Match(protocol=Protocol.ARP, frame=(Protocol.VLAN,))",
        "a packet socket says ARP and sends IP behind a tag (T4)",
        (NO_LEAK,),
    ),
    Mutant(
        "guard-believes-the-claim",
        _GUARD,
        "Rule(Match(protocol=Protocol.ARP, frame=(Protocol.ARP,)), Verdict.ACCEPT",
        "Rule(Match(protocol=Protocol.ARP), Verdict.ACCEPT",
        "a packet socket says ARP and sends IP (T4)",
        (NO_LEAK,),
    ),
    Mutant(
        "guard-without-end",
        _GUARD,
        'Rule(Match(), Verdict.DROP, "no stamp, no way out: raw sockets',
        'Rule(Match(), Verdict.ACCEPT, "no stamp, no way out: raw sockets',
        "packet sockets, macvlan and bridged guests pass (T4, T5)",
        (NO_LEAK,),
    ),
    Mutant(
        "guard-last-look-open",
        _GUARD,
        'Rule(Match(), Verdict.DROP, "no stamp, no way out"),',
        'Rule(Match(), Verdict.ACCEPT, "no stamp, no way out"),',
        "after a flush everything passes until the daemon is back (T14)",
        (NO_LEAK, KERNEL),
    ),
    Mutant(
        "guard-tunnel-by-name",
        _GUARD,
        'Device(name=f"{names.LINK_PREFIX}*", kind=kind)',
        'Device(name=f"{names.LINK_PREFIX}*")',
        "a card that is called aovpn9 needs no stamp (T3)",
        (NO_LEAK, KERNEL),
    ),
    Mutant(
        "guard-dhcp-to-anybody",
        _GUARD,
        'Match(daddr=(ip_network("255.255.255.255"),), l4=(L4.UDP,), sport=(68,), dport=(67,))',
        "Match(l4=(L4.UDP,), sport=(68,), dport=(67,))",
        "a packet socket reaches anybody from 68 to 67",
        (NO_LEAK,),
    ),
    Mutant(
        "guard-passes-bridges-by-name",
        _GUARD,
        "elements = tuple(Element(Device(link.index, link.name)) for link in host_only)",
        "elements = ()",
        "containers are cut off: a block-everything bug is a bug",
        (NO_LEAK,),
    ),
    Mutant(
        "lockdown-of-another-phase",
        "aovpnd/static_files.py",
        "permits(Phase.BLOCKED, Facts())",
        "permits(Phase.BLOCKED, Facts())[:1]",
        "early boot is what was compiled once and is no longer",
        (STATIC_FILES,),
    ),
    Mutant(
        "lockdown-edited-by-hand",
        "systemd/lockdown.nft",
        '\t\treject with icmpx admin-prohibited comment "refuse at once',
        '\t\taccept comment "refuse at once',
        "early boot is open, and only the file says so",
        (STATIC_FILES,),
    ),
    # -- values and their spelling -------------------------------------------------------------------------------------
    Mutant(
        "policy-alone-drops",
        _RULESET,
        "if self.policy is Verdict.DROP and not set(ends) & {Verdict.DROP, Verdict.REJECT}:",
        "if self.policy is Verdict.DROP and not self.rules:",
        "a chain whose policy alone drops leaks during every replace (T1)",
        (RULESET,),
    ),
    Mutant(
        "names-unchecked",
        _RULESET,
        'if self.name is not None and SAFE_NAME.fullmatch(self.name.removesuffix("*")) is None:',
        "if self.name is not None and not self.name:",
        "a link's name writes rules (H6)",
        (RULESET,),
    ),
    Mutant(
        "zones-unchecked",
        _RULESET,
        'if any("%" in str(network) for network in self.saddr + self.daddr):',
        'if any("$" in str(network) for network in self.saddr + self.daddr):',
        "a resolver's zone writes rules (H6)",
        (RULESET,),
    ),
    Mutant(
        "mask-not-written",
        _RENDER,
        'yield f"meta mark & {match.mark.mask:#010x} == {match.mark.value:#010x}"',
        'yield f"meta mark & {match.mark.value:#010x} != 0x0"',
        "the kernel is told something else than verdict says",
        (RULESET, KERNEL),
    ),
    Mutant(
        "kind-not-written",
        _RENDER,
        """            yield f'meta {side}ifkind "{device.kind}"'""",
        "            pass",
        "the kernel is told less than verdict says (T3)",
        (RULESET, KERNEL),
    ),
    Mutant(
        "expiry-rounded-up",
        _RENDER,
        "    left = int((element.expires_at - now) * 1000)",
        "    left = int((element.expires_at - now) * 1000) + 1000",
        "the kernel closes late",
        (RULESET,),
    ),
)

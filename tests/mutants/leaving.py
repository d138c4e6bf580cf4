# SPDX-License-Identifier: GPL-3.0-or-later
"""Weakenings of what the table lets out."""

from typing import Final

from tests.mutants.mutant import DECIDE, ENDPOINTS, FIREWALL, KERNEL, MTU, NO_LEAK, OVER_TIME, Mutant

_FIREWALL: Final = "aovpnd/core/firewall.py"

LEAVING: Final = (
    # -- the table: what leaves ----------------------------------------------------------------------------------------
    Mutant(
        "established-out",
        _FIREWALL,
        "    leaving = (*before_dns, _NO_OTHER_DNS, *behind_dns)\n",
        "    leaving = (_ANSWERS, *before_dns, _NO_OTHER_DNS, *behind_dns)\n",
        "old connections go on in clear after the lock (T2)",
        (NO_LEAK,),
    ),
    Mutant(
        "handshake-without-mark",
        _FIREWALL,
        "Match(mark=FWMARK, daddr=(ip_network(endpoint.addr),)",
        "Match(daddr=(ip_network(endpoint.addr),)",
        "any program may speak to the gateway in clear (MUL-02-002)",
        (DECIDE, NO_LEAK),
    ),
    Mutant(
        "handshake-by-mark-alone",
        _FIREWALL,
        "match = Match(mark=FWMARK, daddr=(ip_network(endpoint.addr),), l4=(L4.UDP,), dport=(endpoint.port,))",
        "match = Match(mark=FWMARK)",
        "CAP_NET_RAW sets any mark (T7)",
        (NO_LEAK,),
    ),
    Mutant(
        "handshake-by-any-protocol",
        _FIREWALL,
        "l4=(L4.UDP,), dport=(endpoint.port,))",
        "l4=(L4.UDP, L4.TCP), dport=(endpoint.port,))",
        "TCP to the gateway's port (MUL-02-004)",
        (NO_LEAK,),
    ),
    Mutant(
        "handshake-to-any-port",
        _FIREWALL,
        "l4=(L4.UDP,), dport=(endpoint.port,))",
        "l4=(L4.UDP,))",
        "every port of the gateway's host is open to a marked program",
        (NO_LEAK,),
    ),
    Mutant(
        "mark-under-no-mask",
        _FIREWALL,
        "FWMARK: Final = Mark(names.FWMARK, names.FWMARK_MASK)",
        "FWMARK: Final = Mark(names.FWMARK & 0x0F000000, 0x0F000000)",
        "other people's marks count as ours",
        (NO_LEAK,),
    ),
    Mutant(
        "dhcp-to-anybody",
        _FIREWALL,
        "    dhcp = Match(daddr=_BROADCAST, l4=(L4.UDP,), sport=(68,), dport=(67,))",
        "    dhcp = Match(l4=(L4.UDP,), sport=(68,), dport=(67,))",
        "68 to 67 is a tunnel to anywhere for whoever may bind the port",
        (NO_LEAK,),
    ),
    Mutant(
        "dhcpv6-from-anybody",
        _FIREWALL,
        "dhcpv6 = Match(saddr=(_LINK_LOCAL,), daddr=_DHCPV6_SERVERS, l4=(L4.UDP,), sport=(546,), dport=(547,))",
        "dhcpv6 = Match(daddr=_DHCPV6_SERVERS, l4=(L4.UDP,), sport=(546,), dport=(547,))",
        "a global address is told to the link",
        (NO_LEAK,),
    ),
    Mutant(
        "discovery-off-link",
        _FIREWALL,
        "    nodes = (_SOLICITED_NODES, _LINK_LOCAL, *gateways)\n",
        '    nodes = (ip_network("::/0"),)\n',
        "a solicitation to an off-link address is routed there",
        (NO_LEAK,),
    ),
    Mutant(
        "discovery-from-afar",
        _FIREWALL,
        "Match(daddr=nodes, icmp_type=(_NA,), hop_limit=255)",
        "Match(daddr=nodes, icmp_type=(_NA,))",
        "hop limit 255 is what proves that nobody routed it",
        (NO_LEAK,),
    ),
    Mutant(
        "multicast-reports",
        _FIREWALL,
        '    yield _stamped(Match(daddr=_ALL_ROUTERS, icmp_type=(_RS,), hop_limit=255), "router solicitation")',
        '    yield _stamped(Match(daddr=(ip_network("ff02::/16"),), hop_limit=255), "router solicitation")',
        "whatever the kernel multicasts, listener reports too (T13)",
        (NO_LEAK,),
    ),
    Mutant(
        "look-up-without-mark",
        _FIREWALL,
        "        link = Match(oif=Device(name=permit.device.name), oif_in=LOOK_UP, mark=FWMARK, "
        "before=permit.window.ends_wall)",
        "        link = Match(oif=Device(name=permit.device.name), oif_in=LOOK_UP, before=permit.window.ends_wall)",
        "while we ask, every program may ask the network's resolvers",
        (NO_LEAK,),
    ),
    Mutant(
        "look-up-of-anybody",
        _FIREWALL,
        "        dns = replace(link, daddr=resolvers, l4=l4, dport=ports)",
        "        dns = replace(link, l4=l4, dport=ports)",
        "a marked question may go to any server of the world",
        (NO_LEAK,),
    ),
    Mutant(
        "look-up-to-any-port",
        _FIREWALL,
        "        dns = replace(link, daddr=resolvers, l4=l4, dport=ports)",
        "        dns = replace(link, daddr=resolvers, l4=l4)",
        "the resolver's other ports are open to marked programs",
        (NO_LEAK,),
    ),
    Mutant(
        "look-up-by-any-link",
        _FIREWALL,
        "        link = Match(oif=Device(name=permit.device.name), oif_in=LOOK_UP, mark=FWMARK, "
        "before=permit.window.ends_wall)",
        "        link = Match(mark=FWMARK)",
        "another network sees what is asked of this one, and the kernel's timer closes nothing",
        (NO_LEAK,),
    ),
    Mutant(
        "look-up-by-one-clock",
        _FIREWALL,
        "        link = Match(oif=Device(name=permit.device.name), oif_in=LOOK_UP, mark=FWMARK, "
        "before=permit.window.ends_wall)",
        "        link = Match(oif=Device(name=permit.device.name), oif_in=LOOK_UP, mark=FWMARK)",
        "a table that the kernel gets late keeps the door open for as long",
        (FIREWALL,),
    ),
    Mutant(
        "window-by-one-clock",
        _FIREWALL,
        "    link = Match(oif=Device(name=permit.device.name), oif_in=GRANT, before=permit.window.ends_wall)",
        "    link = Match(oif=Device(name=permit.device.name), oif_in=GRANT)",
        "a table that the kernel gets late keeps the window open for as long",
        (FIREWALL,),
    ),
    Mutant(
        "look-up-for-good",
        _FIREWALL,
        "yield LinkSet(LOOK_UP, (_timed(permit),), timed=True)",
        "yield LinkSet(LOOK_UP, (Element(Device(permit.device.index)),), timed=True)",
        "when the daemon is dead the door stays open",
        (NO_LEAK, ENDPOINTS),
    ),
    Mutant(
        "look-up-that-is-not-ended",
        "aovpnd/core/lookups.py",
        "    return replace(intent, hosts=update(intent.hosts, host), look_up=None)",
        "    return replace(intent, hosts=update(intent.hosts, host))",
        "the door stays open behind the answer",
        (ENDPOINTS,),
    ),
    Mutant(
        "look-up-of-another-network",
        "aovpnd/core/lookups.py",
        "any((u.link.index, u.link.name, u.network) == asked for u in found)",
        "any((u.link.index, u.link.name) == asked[:2] for u in found)",
        "roaming takes the open door along",
        (NO_LEAK, ENDPOINTS),
    ),
    Mutant(
        "every-address-of-an-answer",
        "aovpnd/core/endpoints.py",
        "    return replace(spec, peers=tuple(peers))",
        "    for p in [peer for peer in spec.peers if peer.host is not None]:\n"
        "        for a in candidates(known(hosts, p.host.host), to):\n"
        "            peers.append(replace(p, public_key=f'{p.public_key} {a}', endpoint=Endpoint(a, p.host.port)))\n"
        "    return replace(spec, peers=tuple(peers))",
        "a liar opens eight addresses at once, not one",
        (ENDPOINTS,),
    ),
    Mutant(
        "gateways-at-home",
        "aovpnd/core/endpoints.py",
        "        if unfit(addr) is not None or addr in self.own:",
        "        if unfit(addr) is not None:",
        "an answer sends our handshakes to ourselves",
        (ENDPOINTS,),
    ),
    Mutant(
        "dns-by-any-link",
        _FIREWALL,
        "    leaving = (*before_dns, _NO_OTHER_DNS, *behind_dns)\n",
        "    leaving = (*before_dns, *behind_dns)\n",
        "with the LAN open, its router answers the machine's names",
        (NO_LEAK,),
    ),
    Mutant(
        "dns-over-tls-forgotten",
        "aovpnd/core/filtering.py",
        "DNS_PORTS: Final = (DNS_PORT, 853)",
        "DNS_PORTS: Final = (DNS_PORT,)",
        "DNS over TLS goes to the LAN",
        (NO_LEAK,),
    ),
    Mutant(
        "dns-to-anybody-in-a-window",
        _FIREWALL,
        '    yield Rule(dns, Verdict.REJECT, "temporary access: from nobody else")\n',
        "",
        "in a window every resolver is asked, not the lease's alone",
        (DECIDE, NO_LEAK),
    ),
    Mutant(
        "window-by-index-alone",
        _FIREWALL,
        "    link = Match(oif=Device(name=permit.device.name), oif_in=GRANT, before=permit.window.ends_wall)",
        "    link = Match(oif_in=GRANT, before=permit.window.ends_wall)",
        "an index is given to another link after the first is gone (T3)",
        (NO_LEAK,),
    ),
    Mutant(
        "window-by-name-alone",
        _FIREWALL,
        "    link = Match(oif=Device(name=permit.device.name), oif_in=GRANT, before=permit.window.ends_wall)",
        "    link = Match(oif=Device(name=permit.device.name))",
        "without the set there is no timer: the window stays open when the daemon dies (T12)",
        (DECIDE, NO_LEAK, OVER_TIME),
    ),
    Mutant(
        "window-without-timer",
        _FIREWALL,
        "Element(Device(permit.device.index), window.expires_at, window.expires_at - window.opened_at)",
        "Element(Device(permit.device.index), None, window.expires_at - window.opened_at)",
        "the window stays open when the daemon dies (T12)",
        (DECIDE, NO_LEAK, OVER_TIME),
    ),
    Mutant(
        "lan-to-anybody",
        _FIREWALL,
        'yield _stamped(Match(oif=permit.device, daddr=family), "the local network',
        'yield _stamped(Match(oif=permit.device), "the local network',
        "an open LAN opens the internet",
        (DECIDE, NO_LEAK),
    ),
    Mutant(
        "tunnel-by-name",
        _FIREWALL,
        "        yield Rule(by_tunnel, Verdict.ACCEPT, _VERIFIED)\n",
        "        yield Rule(Match(oif=Device(name=permit.device.name)), Verdict.ACCEPT, _VERIFIED)\n",
        "a card that is renamed to aovpn0 is the tunnel (T3)",
        (NO_LEAK, KERNEL),
    ),
    Mutant(
        "stamp-not-cleared",
        _FIREWALL,
        "                (_CLEAR, *_transformed(permits), *map(_irrefutable, leaving), _LAST_END),",
        "                (*_transformed(permits), *map(_irrefutable, leaving), _LAST_END),",
        "who sets the stamp himself has passed the guard already",
        (NO_LEAK,),
    ),
    Mutant(
        "stamp-on-everything",
        _FIREWALL,
        "NO_STAMP: Final = Mark(0, names.STAMP)",
        "NO_STAMP: Final = STAMP",
        "inside packets that come out elsewhere are stamped",
        (NO_LEAK,),
    ),
    Mutant(
        "no-last-look",
        _FIREWALL,
        '_LAST_END: Final = Rule(Match(), Verdict.DROP, "last look: whatever',
        '_LAST_END: Final = Rule(Match(), Verdict.ACCEPT, "last look: whatever',
        "another program's later hook sends a judged packet by another link (T6)",
        (NO_LEAK,),
    ),
    Mutant(
        "last-look-before-nat",
        "aovpnd/names.py",
        "PRIORITY_LAST_LOOK: Final = 300",
        "PRIORITY_LAST_LOOK: Final = 500",
        "the guard looks before the stamp is given, or judges what is no longer what leaves",
        (KERNEL,),
    ),
    Mutant(
        "tcp-before-whose-it-is",
        _FIREWALL,
        """    by_tunnel = Match(oif=permit.device)
    for family in by_family(tuple(map(ip_network, permit.others))):
        yield Rule(replace(by_tunnel, saddr""",
        """    by_tunnel = Match(oif=permit.device)
    yield Rule(replace(by_tunnel, l4=(L4.TCP,)), Verdict.ACCEPT, _VERIFIED)
    for family in by_family(tuple(map(ip_network, permit.others))):
        yield Rule(replace(by_tunnel, saddr""",
        "another tunnel's address, and what users and filters are kept from, by TCP alone",
        (NO_LEAK, MTU),
    ),
    Mutant(
        "clamp-behind-the-verdict",
        _FIREWALL,
        """    yield from mtu.clamped(by_tunnel, permit.narrow)
    yield from using.leaving(permit.device, permit.use, permit.filters)
    if permit.filters:
""",
        """    yield from using.leaving(permit.device, permit.use, permit.filters)
    if permit.filters:
""",
        "TCP is never told what passes, and hangs",
        (MTU,),
    ),
)

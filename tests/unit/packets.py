# SPDX-License-Identifier: GPL-3.0-or-later
"""A catalogue of packets: what must pass somewhere, and beside each the one that is nearly right and must not."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, Final

from aovpnd import names
from aovpnd.ruleset import L4, Conntrack, Device, Flow, Protocol
from aovpnd.trace import Packet
from tests.unit.small_companions import ADDRESS_M4, ADDRESS_M6, ENDPOINT_M, GATEWAY_M
from tests.unit.small_users import ALICE, BOB, CAROL, SERVER_M
from tests.unit.small_world import (
    ENDPOINT4,
    ENDPOINT6,
    ENDPOINT_53,
    GATEWAY4,
    GATEWAY6,
    GATEWAY_2,
    TUNNEL_ADDRESS4,
    TUNNEL_ADDRESS6,
)

# -- links ------------------------------------------------------------------------------------------------------------
DEVICES: Final = (
    Device(1, "lo"),
    Device(2, "wlan0"),
    Device(3, "eth0"),
    Device(5, "docker0", "bridge"),
    Device(6, "virbr0", "bridge"),
    Device(7, "veth5", "veth"),
    Device(8, "br8", "bridge"),
    Device(9, "aovpn0", "wireguard"),
    Device(9, "aovpn0", "tun"),
    Device(9, "aovpn0", "dummy"),  # the name and index of the tunnel, and not the tunnel
    Device(10, "aovpn0", "wireguard"),
    Device(10, "aovpn1", "wireguard"),
    Device(9, "wlan9", "wireguard"),
    Device(12, "aovpn9", "dummy"),
    Device(2, "wlan7"),  # the index of wlan0 in another name
    Device(77, "wlan0"),  # the name of wlan0 with another index
    Device(1, "lo9"),
    Device(77, "lo"),
    Device(77, "docker0", "bridge"),
    Device(99, "usb0"),
    Device(9, "aovpn0", "xfrm"),
    Device(10, "aovpn1", "xfrm"),
    Device(11, "aovpn2", "wireguard"),
)

# -- packets ----------------------------------------------------------------------------------------------------------
EVERYBODY4, EVERYBODY6 = "203.0.113.80", "2001:db8:80::80"
_HERE4, _HERE6, _HERE_LOCAL = "192.168.1.23", "2001:db8:1::23", "fe80::23"


def packet(to: str, l4: L4 | None = L4.UDP, dport: int = 0, **more: Any) -> Packet:
    """A packet to an address, of its family; ``saddr`` is what a laptop at home has."""
    daddr = ip_address(to)
    version6 = daddr.version == 6
    here = (_HERE_LOCAL if daddr.is_multicast or daddr.is_link_local else _HERE6) if version6 else _HERE4
    made = Packet(
        protocol=Protocol.IP6 if version6 else Protocol.IP,
        saddr=ip_address(here),
        daddr=daddr,
        l4=l4,
        sport=40000 if l4 in {L4.TCP, L4.UDP} else 0,
        dport=dport,
    )
    return replace(made, **more)


def discovery(icmp_type: int, to: str, hop_limit: int = 255, **more: Any) -> Packet:
    """A packet of neighbour discovery."""
    return packet(to, L4.ICMPV6, icmp_type=icmp_type, hop_limit=hop_limit, **more)


def _plain() -> Iterator[Packet]:
    yield packet(EVERYBODY4, L4.TCP, 443)
    yield packet(EVERYBODY4, L4.TCP, 443, ct=Conntrack.ESTABLISHED)
    yield packet(EVERYBODY4, L4.UDP, 443, ct=Conntrack.RELATED)
    yield packet(EVERYBODY4, L4.ICMP, icmp_type=8)
    yield packet(EVERYBODY4, None)  # ESP, GRE, SCTP, raw: protocols that no rule names
    yield packet(EVERYBODY6, L4.TCP, 443)
    yield packet(EVERYBODY6, L4.ICMPV6, icmp_type=128)
    for error in (3, 11, 12):
        yield packet(EVERYBODY4, L4.ICMP, icmp_type=error)
    for error in (1, 2, 3, 4):
        yield packet(EVERYBODY6, L4.ICMPV6, icmp_type=error)
    yield packet(EVERYBODY6, L4.UDP, 547, sport=546)
    yield packet(EVERYBODY4, L4.TCP, 443, saddr=TUNNEL_ADDRESS4)


def _marked() -> Iterator[Packet]:
    """To endpoints and elsewhere, with our mark, nearly our mark, and none."""
    nearly = (names.FWMARK ^ 0x01000000, names.FWMARK & 0x0F000000, names.FWMARK | 0x10000000)
    marks = (0, names.FWMARK, names.FWMARK | 0x80000001, *nearly, names.STAMP)
    for mark in marks:
        for endpoint in (ENDPOINT4, ENDPOINT6, ENDPOINT_53):
            to = str(endpoint.addr)
            yield packet(to, L4.UDP, endpoint.port, mark=mark)
            yield packet(to, L4.UDP, endpoint.port + 1, mark=mark)
            yield packet(to, L4.TCP, endpoint.port, mark=mark)
            yield packet(to, None, mark=mark)
        yield packet("192.0.2.2", L4.UDP, ENDPOINT4.port, mark=mark)
        yield packet(EVERYBODY4, L4.TCP, 443, mark=mark)
        yield packet(EVERYBODY6, L4.UDP, ENDPOINT6.port, mark=mark)


def _of_ike() -> Iterator[Packet]:
    """IKE and ESP, in all forms that they have, to gateways whose turn it is and to others."""
    for mark in (0, names.FWMARK, names.FWMARK | 0x10000000, names.STAMP):
        for gateway in (GATEWAY4, GATEWAY6, GATEWAY_2):
            yield packet(str(gateway.addr), L4.UDP, gateway.port, mark=mark)
        yield packet(str(GATEWAY4.addr), L4.UDP, 500, sport=500, mark=mark)
        yield packet(str(GATEWAY4.addr), None, mark=mark)  # ESP or AH without UDP
        yield packet(str(GATEWAY4.addr), L4.TCP, GATEWAY4.port, mark=mark)  # RFC 9329
    yield packet(str(GATEWAY4.addr), L4.UDP, GATEWAY4.port, mark=names.FWMARK, saddr=TUNNEL_ADDRESS4)


def _names() -> Iterator[Packet]:
    """DNS to resolvers and to others."""
    for to in ("192.168.1.1", "198.51.100.1", "2001:db8:53::53", "9.9.9.9", "2620:fe::fe", "172.17.0.2", "192.168.1.7"):
        yield packet(to, L4.UDP, 53)
        yield packet(to, L4.TCP, 53)
        yield packet(to, L4.TCP, 853)
        yield packet(to, L4.UDP, 853)
        for mark in (names.FWMARK, names.FWMARK | 0x80000001, names.FWMARK | 0x10000000, names.STAMP):
            yield packet(to, L4.UDP, 53, mark=mark)
            yield packet(to, L4.TCP, 53, mark=mark)
            yield packet(to, L4.TCP, 853, mark=mark)
            yield packet(to, L4.UDP, 853, mark=mark)
            yield packet(to, L4.UDP, 123, mark=mark)
            yield packet(to, None, mark=mark)
    yield packet("192.168.1.7", L4.UDP, 40001, sport=53)
    yield packet("192.168.1.7", L4.ICMP, icmp_type=8)


def _dhcp() -> Iterator[Packet]:
    right4 = packet("255.255.255.255", L4.UDP, 67, sport=68, saddr=ip_address("0.0.0.0"))
    yield right4
    yield replace(right4, l4=L4.TCP)
    yield replace(right4, sport=67)
    yield replace(right4, dport=68)
    yield replace(right4, dport=53)
    for to in ("192.168.1.1", "192.168.1.255", "224.0.0.1", EVERYBODY4):
        yield replace(right4, daddr=ip_address(to))
    right6 = packet("ff02::1:2", L4.UDP, 547, sport=546)
    yield right6
    yield replace(right6, saddr=ip_address(_HERE6))
    yield replace(right6, sport=547)
    yield replace(right6, dport=546)
    yield replace(right6, l4=L4.TCP)
    for to in ("ff05::1:3", "fe80::1", EVERYBODY6):
        yield replace(right6, daddr=ip_address(to))


def _discovery() -> Iterator[Packet]:
    kinds = (128, 133, 134, 135, 136, 137, 143)
    targets = (
        "ff02::1",
        "ff02::2",
        "ff02::16",
        "ff02::1:ff00:23",
        "ff02::1:fe00:23",
        "ff05::2",
        "fe80::1",
        "2001:db8:1::1",
        "2001:db8:2::1",
        EVERYBODY6,
    )
    for icmp_type, to in itertools.product(kinds, targets):
        yield discovery(icmp_type, to)
        if icmp_type in {133, 135, 136}:
            yield discovery(icmp_type, to, 64)
    yield discovery(135, "ff02::1:ff00:23", saddr=ip_address("::"))
    yield packet("ff02::2", L4.UDP, 133, hop_limit=255)


def _local() -> Iterator[Packet]:
    """The local network, and what only looks local."""
    neighbours = (
        *("192.168.1.7", "192.168.1.255", "192.168.2.7", "10.1.2.3", "11.1.2.3", "169.254.3.4", "172.16.5.5"),
        *("198.51.100.9", "fe80::7", "fd00::7", "fc00::7", "2001:db8:1::7", "172.17.0.2"),
    )
    for to in neighbours:
        yield packet(to, L4.TCP, 445)
    groups = ("224.0.0.251", "224.0.0.252", "239.255.255.250", "255.255.255.255", "ff02::fb", "ff02::1:3", "ff02::c")
    for to in groups:
        yield packet(to, L4.UDP, 5353)
        yield packet(to, L4.UDP, 53)
    yield packet("224.0.0.22", None)
    yield packet(EVERYBODY4, L4.TCP, 445, saddr=ip_address("192.168.1.7"))


def _from_the_tunnel() -> Iterator[Packet]:
    """What somebody may send, from the address that only the tunnel may show."""
    for own, others in (
        (TUNNEL_ADDRESS4, ("198.51.100.1", "192.168.1.7", "172.17.0.2")),
        (TUNNEL_ADDRESS6, ("fd00::7",)),
    ):
        endpoint = ENDPOINT4 if own.version == ENDPOINT4.addr.version else ENDPOINT6
        resolver = "192.168.1.1" if own.version == ENDPOINT4.addr.version else "2001:db8:53::53"
        yield packet(str(endpoint.addr), L4.UDP, endpoint.port, mark=names.FWMARK, saddr=own)
        yield packet(resolver, L4.UDP, 53, mark=names.FWMARK, saddr=own)
        for to in (resolver, *others):
            yield packet(to, L4.TCP, 443, saddr=own)
    yield discovery(135, "ff02::1:ff00:23", saddr=TUNNEL_ADDRESS6)
    for own, peer, elsewhere in ((ADDRESS_M4, "10.99.0.9", "198.51.100.1"), (ADDRESS_M6, "fd99::9", "2001:db8:80::80")):
        for to in (peer, elsewhere):
            yield packet(to, L4.TCP, 443, saddr=own)
            yield packet(to, L4.UDP, 53, saddr=own, mark=names.FWMARK)
    for mark in (0, names.FWMARK):
        yield packet(str(ENDPOINT_M.addr), L4.UDP, ENDPOINT_M.port, mark=mark)
        yield packet(str(GATEWAY_M.addr), L4.UDP, GATEWAY_M.port, mark=mark)
        yield packet(str(ENDPOINT_M.addr), L4.UDP, ENDPOINT_M.port, mark=mark, saddr=ADDRESS_M4)


BESIDE: Final = ("203.0.113.80", "203.0.113.81", "2001:db8:80::80", "2001:db8:81::80")
"""Whom the filters of the small world name, and their neighbours."""
_AT_PORTS: Final = (22, 53, 443, 444, 7999, 8000, 8100, 8101)
"""The ports that those filters name, and the ones beside them."""


_STATES: Final = (
    (None, Flow.ORIGINAL),
    (Conntrack.ESTABLISHED, Flow.ORIGINAL),
    (Conntrack.ESTABLISHED, Flow.REPLY),
    (Conntrack.RELATED, Flow.REPLY),
)
"""Of connections; what is new goes the way of whoever begins it."""


def _filtered() -> Iterator[Packet]:
    """What filters let through a tunnel, and what is nearly that."""
    for to in BESIDE:
        yield from (packet(to, L4.TCP, port) for port in _AT_PORTS)
        yield from (packet(to, L4.UDP, port) for port in (53, 443, 8100, 8101))
    for to, (state, flow) in itertools.product(BESIDE, _STATES):
        yield packet(to, L4.TCP, sport=22, ct=state, flow=flow)
        yield packet(to, L4.TCP, sport=23, ct=state, flow=flow)
        yield packet(to, L4.UDP, sport=22, ct=state, flow=flow)
        for icmp in (L4.ICMP, L4.ICMPV6):  # of the other family, too: its number may stand in any header
            yield packet(to, icmp, icmp_type=8 if icmp is L4.ICMP else 128, ct=state, flow=flow)


def _of_users() -> Iterator[Packet]:
    """What programs of users send, root's among them; all other packets here have no socket. Of those, what begins a
    connection stands beside what does not.
    """
    for saddr in (ADDRESS_M4, TUNNEL_ADDRESS4):
        yield packet(EVERYBODY4, L4.TCP, 443, saddr=saddr)
        yield packet(EVERYBODY4, L4.TCP, 443, saddr=saddr, begins=True)
        yield packet(EVERYBODY4, L4.UDP, 443, saddr=saddr)
    yield packet(EVERYBODY4, L4.TCP, 443, begins=True)
    yield packet(EVERYBODY6, L4.TCP, 443, begins=True)
    yield packet(EVERYBODY4, L4.TCP, 443, begins=True, mark=names.STAMP)
    yield packet(EVERYBODY4, L4.UDP, 443, mark=names.STAMP)
    for owner in (0, ALICE, BOB, CAROL, 1003):
        yield packet(EVERYBODY4, L4.TCP, 443, owner=owner)
        yield packet(EVERYBODY4, L4.TCP, 443, owner=owner, begins=True)
        yield packet(EVERYBODY6, L4.TCP, 443, owner=owner)
        yield packet(EVERYBODY4, L4.TCP, 443, owner=owner, saddr=ADDRESS_M4)
        yield packet("192.168.1.7", L4.TCP, 445, owner=owner)
        for to in (SERVER_M, "9.9.9.9"):
            yield packet(to, L4.UDP, 53, owner=owner)
            yield packet(to, L4.TCP, 853, owner=owner)
            yield packet(to, L4.UDP, 123, owner=owner)


LEAVING: Final = tuple(
    dict.fromkeys(
        (
            *(*_plain(), *_marked(), *_of_ike(), *_names(), *_dhcp(), *_discovery(), *_local(), *_from_the_tunnel()),
            *_filtered(),
            *_of_users(),
        )
    )
)
"""Without a device: each is tried on all of them."""


def _arriving() -> Iterator[Packet]:
    tcp, udp = packet(_HERE4, L4.TCP, 22), packet(_HERE4, L4.UDP, 40000)
    sources = ("192.168.1.7", "10.1.2.3", "169.254.3.4", "198.51.100.9", EVERYBODY4, str(ENDPOINT4.addr))
    for source in sources:
        yield replace(tcp, saddr=ip_address(source))
        yield replace(tcp, saddr=ip_address(source), ct=Conntrack.ESTABLISHED)
    for state in (None, Conntrack.ESTABLISHED, Conntrack.RELATED):
        for endpoint in (ENDPOINT4, ENDPOINT_53):
            yield replace(udp, saddr=endpoint.addr, sport=endpoint.port, ct=state)
            yield replace(udp, saddr=endpoint.addr, sport=endpoint.port + 1, ct=state)
            yield replace(udp, saddr=endpoint.addr, sport=endpoint.port, l4=L4.TCP, ct=state)
        yield replace(udp, saddr=ip_address("192.0.2.9"), sport=ENDPOINT4.port, ct=state)
        yield packet(_HERE6, L4.UDP, 40000, saddr=ENDPOINT6.addr, sport=ENDPOINT6.port, ct=state)
        for own, attacker in ((TUNNEL_ADDRESS4, "192.168.1.7"), (TUNNEL_ADDRESS6, "fe80::7")):
            yield packet(str(own), L4.TCP, 22, saddr=ip_address(attacker), ct=state)
            yield packet(str(own), L4.UDP, 68, saddr=ip_address(attacker), sport=67, ct=state)
        for resolver, other in (("192.168.1.1", "192.168.1.9"), ("2001:db8:53::53", "2001:db8:53::54")):
            here = _HERE4 if "." in resolver else _HERE6
            for l4, port in itertools.product((L4.UDP, L4.TCP), (53, 853)):
                yield packet(here, l4, 40000, saddr=ip_address(resolver), sport=port, ct=state)
                yield packet(here, l4, 40000, saddr=ip_address(other), sport=port, ct=state)
            yield packet(here, L4.UDP, 53, saddr=ip_address(resolver), sport=54, ct=state)
        for own, friend in ((ADDRESS_M4, "10.99.0.9"), (ADDRESS_M6, "fd99::9")):
            yield packet(str(own), L4.TCP, 22, saddr=ip_address(friend), ct=state)
        yield replace(udp, saddr=ENDPOINT_M.addr, sport=ENDPOINT_M.port, ct=state)
    for gateway, port in ((GATEWAY4, GATEWAY4.port), (GATEWAY4, 500), (GATEWAY_2, GATEWAY_2.port)):
        yield replace(udp, saddr=gateway.addr, sport=port)
    yield packet(_HERE4, None, saddr=GATEWAY4.addr)
    lease = replace(udp, sport=67, dport=68, saddr=ip_address("192.168.1.1"))
    yield lease
    yield replace(lease, daddr=ip_address("255.255.255.255"))
    yield replace(lease, l4=L4.TCP)
    yield replace(lease, sport=68)
    yield replace(lease, dport=67)
    yield packet(_HERE_LOCAL, L4.UDP, 68, sport=67, saddr=ip_address("fe80::1"))
    lease6 = packet(_HERE_LOCAL, L4.UDP, 546, sport=547, saddr=ip_address("fe80::1"))
    yield lease6
    yield replace(lease6, saddr=ip_address("2001:db8:1::1"))
    yield replace(lease6, sport=546)
    for icmp_type, hop_limit, source in itertools.product(
        (128, 133, 134, 135, 136, 137), (255, 64), ("fe80::1", "2001:db8:1::1", "::")
    ):
        yield discovery(icmp_type, _HERE_LOCAL, hop_limit, saddr=ip_address(source))
    yield discovery(135, str(TUNNEL_ADDRESS6), saddr=ip_address("fe80::1"))
    for icmp_type, state in itertools.product((5, 3), (None, Conntrack.RELATED)):
        yield packet(_HERE4, L4.ICMP, icmp_type=icmp_type, saddr=ip_address("192.168.1.1"), ct=state)
    yield discovery(137, _HERE_LOCAL, saddr=ip_address("fe80::1"), ct=Conntrack.RELATED)
    yield packet("224.0.0.251", L4.UDP, 5353, saddr=ip_address("192.168.1.7"))
    yield packet(_HERE_LOCAL, L4.TCP, 22, saddr=ip_address("fe80::7"))
    yield packet("fd00::23", L4.TCP, 22, saddr=ip_address("fd00::7"))
    yield from _filtered_in()


def _filtered_in() -> Iterator[Packet]:
    """What filters let into the machine, answers and errors, and what is nearly that."""
    for source, (state, flow) in itertools.product(map(ip_address, BESIDE), _STATES):
        here = str(TUNNEL_ADDRESS4 if source.version == TUNNEL_ADDRESS4.version else TUNNEL_ADDRESS6)
        for l4, port in itertools.product((L4.TCP, L4.UDP), (22, 23)):
            yield packet(here, l4, port, saddr=source, ct=state, flow=flow)
        for icmp, types in ((L4.ICMP, (3, 8)), (L4.ICMPV6, (2, 128))):
            for icmp_type in types:
                yield packet(here, icmp, icmp_type=icmp_type, saddr=source, ct=state, flow=flow)


ARRIVING: Final = tuple(dict.fromkeys(_arriving()))


def _through() -> Iterator[Packet]:
    guest = ip_address("172.17.0.2")
    for made in (
        packet(EVERYBODY4, L4.TCP, 443),
        packet(EVERYBODY4, L4.UDP, 53),
        packet("172.18.0.2", L4.TCP, 853),
        packet("192.168.1.7", L4.TCP, 445),
        packet("255.255.255.255", L4.UDP, 67, sport=68),
        packet(EVERYBODY4, L4.UDP, 67, sport=68),
        packet(EVERYBODY4, L4.ICMP, icmp_type=3),
        packet(str(ENDPOINT4.addr), L4.UDP, ENDPOINT4.port, mark=names.FWMARK),
        packet(str(ENDPOINT4.addr), L4.UDP, ENDPOINT4.port, mark=names.FWMARK | names.STAMP),
        packet(str(TUNNEL_ADDRESS4), L4.TCP, 22),
    ):
        yield replace(made, saddr=guest)
        yield replace(made, saddr=guest, ct=Conntrack.ESTABLISHED)
        yield replace(made, saddr=ENDPOINT4.addr, sport=ENDPOINT4.port if made.l4 is L4.UDP else made.sport)
    for to, port in itertools.product(BESIDE[:2], (443, 7999, 8100, 8101)):
        yield packet(to, L4.TCP, port, saddr=guest)
    yield packet(BESIDE[0], L4.TCP, sport=22, saddr=guest, ct=Conntrack.ESTABLISHED, flow=Flow.REPLY)
    yield packet(BESIDE[0], L4.ICMP, icmp_type=8, saddr=guest)
    yield discovery(135, "fe80::7")
    yield packet("172.18.0.2", L4.TCP, 443, saddr=TUNNEL_ADDRESS4)
    yield packet("10.99.0.9", L4.TCP, 443, saddr=ADDRESS_M4)


THROUGH: Final = tuple(dict.fromkeys(_through()))

_BY: Final[dict[tuple[int, Device | None, Device | None], list[Packet]]] = {}


def by_link(packets: tuple[Packet, ...], iif: Device | None, oif: Device | None) -> list[Packet]:
    """The packets as they come by these links; made once, and not looked up by their values, which takes longer."""
    key = id(packets), iif, oif
    if key not in _BY:
        _BY[key] = [replace(one, iif=iif, oif=oif) for one in packets]
    return _BY[key]

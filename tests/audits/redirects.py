# SPDX-License-Identifier: GPL-3.0-or-later
"""A neighbour who says that he is the better way, or that he is the router."""

import random
from typing import Final

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_Redirect,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptRedirectedHdr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from tests.audits.attack import Attack, Harmless, Phase
from tests.audits.attacker import PORT, ROUTER4, ROUTER6, Victim, pour, victim
from tests.audits.inference import tunnel_port
from tests.audits.scene import LINK, Scene
from tests.lab import plan
from tests.lab.process import LabError, wait_for

ACCOMPLICE4: Final = "192.168.10.66"
ACCOMPLICE6: Final = "fe80::66"
"""Where the attacker's machine would have the packets go: nobody forwards them there."""
ACCOMPLICE: Final = "02:00:00:00:00:66"
_TARGETS4: Final = (str(plan.ECHO4), str(plan.WEB4), str(plan.DNS4))
_TARGETS6: Final = (str(plan.ECHO6), str(plan.WEB6))


# -- redirects (A7) ----------------------------------------------------------------------------------------------------
def _redirects(at: Victim, port: int, many: int) -> list[bytes]:
    """So many redirects in the router's name, about packets inside and outside the tunnel, of both families.

    Of ICMP the kernel believes those about echo replies without asking for a socket (icmp_err).
    """
    chance = random.Random(many)
    head = Ether(src=plan.HOME.mac, dst=at.mac)
    frames = []
    for _ in range(many):
        to4, to6 = chance.choice((*_TARGETS4, str(plan.GATEWAY4))), chance.choice((*_TARGETS6, str(plan.GATEWAY6)))
        quoted = chance.choice(
            (
                IP(src=at.ip4, dst=to4) / ICMP(type=0) / Raw(b"x" * 8),
                IP(src=str(plan.TUNNEL4), dst=to4) / ICMP(type=0) / Raw(b"x" * 8),
                IP(src=at.ip4, dst=str(plan.GATEWAY4)) / UDP(sport=port, dport=plan.GATEWAY_PORT) / Raw(b"x" * 8),
            )
        )
        redirect = IP(src=ROUTER4, dst=at.ip4) / ICMP(type=5, code=chance.randrange(2), gw=ACCOMPLICE4)
        frames.append(head / redirect / quoted)
        redirect6 = ICMPv6ND_Redirect(tgt=ACCOMPLICE6, dst=to6) / ICMPv6NDOptDstLLAddr(lladdr=ACCOMPLICE)
        quoted6 = IPv6(src=at.ip6 or at.local6, dst=to6) / ICMPv6EchoRequest()
        option = ICMPv6NDOptRedirectedHdr(pkt=bytes(quoted6).ljust(64, b"\0"))
        frames.append(head / IPv6(src=ROUTER6, dst=at.local6, hlim=255) / redirect6 / option)
    return [bytes(frame) for frame in frames]


def _redirect(scene: Scene, tries: int) -> None:
    """Redirect everything to a neighbour who forwards nothing."""
    _accomplice(scene)
    pour(scene.attacker, _redirects(victim(scene), tunnel_port(scene), tries))
    scene.everybody_tries()
    for target in (*_TARGETS4, *_TARGETS6, str(plan.GATEWAY4)):
        version, mark = ("-6" if ":" in target else "-4"), ("mark 0x2a000000 " if target == str(plan.GATEWAY4) else "")
        way = scene.host.run("ip", version, "route", "get", target, *mark.split(), check=False).stdout
        assert "66 " not in way, f"redirected: {way}"


def _accomplice(scene: Scene) -> None:
    """The neighbour is there: the laptop's kernel believes only who answers ARP."""
    scene.attacker.ip(f"addr replace {ACCOMPLICE4}/32 dev {PORT}")
    scene.attacker.ip(f"-6 addr replace {ACCOMPLICE6}/64 dev {PORT} nodad")


def _no_accomplice(scene: Scene) -> None:
    scene.attacker.ip(f"addr del {ACCOMPLICE4}/32 dev {PORT}")
    scene.attacker.ip(f"-6 addr del {ACCOMPLICE6}/64 dev {PORT}")


def _redirects_somebody(scene: Scene) -> None:
    _accomplice(scene)

    def redirected() -> bool:
        pour(scene.attacker, frames)
        ways = [scene.host.ip(f"{'-6' if ':' in to else '-4'} route get {to}") for to in (_TARGETS4[0], _TARGETS6[0])]
        return all(" via " in way and "66 " in way for way in ways)

    try:
        frames = _redirects(victim(scene), 1, 30)
        wait_for("the laptop to believe it", redirected, deadline_s=5)
    except LabError as error:
        raise Harmless("no redirect is believed") from error
    finally:
        _no_accomplice(scene)
        scene.host.ip("route flush cache")
        scene.host.ip("-6 route flush cache")


# -- the router's hardware address (A9) --------------------------------------------------------------------------------
def _spoofs(at: Victim, mac: str) -> list[bytes]:
    """The router is at ``mac``: answers and questions that say so, of both families."""
    head = Ether(src=mac, dst=at.mac)
    frames = [
        head / ARP(op=2, hwsrc=mac, psrc=ROUTER4, hwdst=at.mac, pdst=at.ip4),
        head / ARP(op=1, hwsrc=mac, psrc=ROUTER4, pdst=at.ip4),
        Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / ARP(op=2, hwsrc=mac, psrc=ROUTER4, pdst=ROUTER4),
    ]
    for router in (ROUTER6, str(plan.HOME.router6)):
        said = ICMPv6ND_NA(tgt=router, R=1, S=1, O=1) / ICMPv6NDOptDstLLAddr(lladdr=mac)
        asked = ICMPv6ND_NS(tgt=at.local6) / ICMPv6NDOptSrcLLAddr(lladdr=mac)
        frames += [head / IPv6(src=router, dst=at.local6, hlim=255) / each for each in (said, asked)]
    return [bytes(frame) for frame in frames]


def _spoof_router(scene: Scene, tries: int) -> None:
    """Take the router's place while the tunnel would shake hands, and give it back, again and again."""
    at = victim(scene)
    for _ in range(tries):
        pour(scene.attacker, _spoofs(at, ACCOMPLICE))
        scene.everybody_tries()
        pour(scene.attacker, _spoofs(at, plan.HOME.mac))


def _spoofs_somebody(scene: Scene) -> None:
    at = victim(scene)
    scene.host.run("ping", "-c1", "-W1", ROUTER4, check=False)
    pour(scene.attacker, _spoofs(at, ACCOMPLICE))
    known = scene.host.ip(f"neigh show {ROUTER4} dev {LINK}")
    pour(scene.attacker, _spoofs(at, plan.HOME.mac))
    if ACCOMPLICE not in known:
        raise Harmless(f"the router is believed where it was: {known}")


ATTACKS: Final = (
    Attack(
        "A7",
        "redirects",
        "ICMP and neighbour discovery redirects in the router's name, to a neighbour who forwards nothing",
        _redirect,
        _redirects_somebody,
        tries=200,
        many=1000,
        service=0.99,
        brief=(Phase.CONNECTED,),
        give_back=_no_accomplice,
    ),
    Attack(
        "A9",
        "spoofed-router",
        "ARP and neighbour discovery put another machine into the router's place during handshakes",
        _spoof_router,
        _spoofs_somebody,
        brief=(Phase.CONNECTING,),
    ),
)

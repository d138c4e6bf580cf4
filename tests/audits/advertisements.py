# SPDX-License-Identifier: GPL-3.0-or-later
"""What whoever speaks as a router may say by IPv6: routes, name servers, sizes, and that there is no router at all.

The laptop takes every route that an advertisement speaks of, as desktops do (``accept_ra_rt_info_max_plen``).
"""

import random
from typing import Final

from scapy.layers.inet6 import (
    ICMPv6ND_RA,
    ICMPv6NDOptDNSSL,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptRDNSS,
    ICMPv6NDOptRouteInfo,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.audits.attack import Attack, Harmless, Phase
from tests.audits.attacker import ROUTER6, counting, pour
from tests.audits.scene import LINK, Scene
from tests.lab import plan
from tests.lab.frames import Kind
from tests.lab.process import wait_for

TARGET: Final = plan.ECHO6
_HIGH: Final = 1
_ALL_NODES: Final = "ff02::1"
_LURES: Final = (("::", 1), ("8000::", 1), (str(TARGET), 128), (str(plan.GATEWAY6), 128))


def _advert(*options: Packet, lifetime: int = 1800, preference: int = _HIGH, source: str = ROUTER6) -> bytes:
    """An advertisement to everybody on the link."""
    packet = Ether(src=plan.HOME.mac, dst="33:33:00:00:00:01") / IPv6(src=source, dst=_ALL_NODES, hlim=255)
    packet /= ICMPv6ND_RA(routerlifetime=lifetime, prf=preference)
    for option in (ICMPv6NDOptSrcLLAddr(lladdr=plan.HOME.mac), *options):
        packet /= option
    return bytes(packet)


def _lures(lifetime: int = 1800) -> bytes:
    """Routes for both halves of the internet, the target and the gateway, of high preference (RFC 4191)."""
    return _advert(
        *(ICMPv6NDOptRouteInfo(prefix=prefix, plen=bits, prf=_HIGH, rtlifetime=lifetime) for prefix, bits in _LURES)
    )


def _on_link(lifetime: int = 1800) -> bytes:
    """The target's network is on this link (TunnelCrack LocalNet over IPv6)."""
    return _advert(
        *(
            ICMPv6NDOptPrefixInfo(prefix=prefix, prefixlen=bits, L=1, A=0, validlifetime=lifetime, preferredlifetime=0)
            for prefix, bits in (("2001:db8:80::", 64), ("::", 1))
        )
    )


def _rest() -> list[bytes]:
    """Name servers and domains, NAT64 prefixes, sizes."""
    pref64 = Raw(b"\x26\x02\x07\x08" + b"\0\x64\xff\x9b" + bytes(8))
    return [
        _advert(ICMPv6NDOptRDNSS(dns=[ROUTER6, str(plan.DNS6)], lifetime=600)),
        _advert(ICMPv6NDOptDNSSL(searchlist=["example.com", "a" * 60 + ".example"], lifetime=600)),
        _advert(pref64),
        _advert(ICMPv6NDOptMTU(mtu=1280)),
        _advert(ICMPv6NDOptMTU(mtu=68)),
    ]


def _odd(number: int) -> bytes:
    """An advertisement of some stranger, the same each time: a router, prefixes, routes, and what is no option."""
    chance = random.Random(number)
    source = f"fe80::{chance.randrange(1, 1 << 16):x}:{chance.randrange(1, 1 << 16):x}"
    options: list[Packet] = []
    for _ in range(chance.randint(0, 4)):
        prefix, bits = f"2001:db8:{chance.randrange(1 << 16):x}::", chance.randrange(129)
        options.append(
            chance.choice(
                (
                    ICMPv6NDOptPrefixInfo(prefix=prefix, prefixlen=chance.choice((bits, 64))),
                    ICMPv6NDOptRouteInfo(prefix=prefix, plen=bits, prf=chance.randrange(4), rtlifetime=600),
                    ICMPv6NDOptMTU(mtu=chance.randrange(1 << 17)),
                    Raw(chance.randbytes(chance.randrange(64))),
                )
            )
        )
    return _advert(*options, lifetime=chance.choice((0, 1, 1800)), preference=chance.randrange(4), source=source)


def _obey(scene: Scene, longest: int) -> None:
    scene.host.sysctl(**{f"ipv6__conf__{LINK}__accept_ra_rt_info_max_plen": longest})


def _advertise(scene: Scene, tries: int) -> None:
    """Lure, announce the target on the link, say all the rest, and be hundreds of routers; never is the target looked
    for on the link.
    """
    looked = f"icmpv6 type 135 @th,64,128 {int(TARGET):#x}"
    with counting(scene.attacker, target=looked) as asked:
        pour(scene.attacker, [_lures()])
        wait_for("the routes", lambda: "::/1 " in scene.host.ip(f"-6 route show dev {LINK}"))
        scene.everybody_tries()
        for adverts in (
            [_on_link()],
            _rest(),
            [_advert(lifetime=0)],
            [_advert(), *(_odd(number) for number in range(tries))],
        ):
            pour(scene.attacker, adverts)
            scene.everybody_tries()
        assert scene.phase is Phase.ACCESS or not asked()["target"], "the target was looked for on the link"


def _no_more(scene: Scene) -> None:
    """A network without all that: the laptop forgets it when it comes anew."""
    _obey(scene, 0)
    scene.laptop.world.roam("home", ipv6=True)


def _lures_somebody(scene: Scene) -> None:
    lab = scene.laptop.lab
    lab.wg_quick("up")
    try:
        _obey(scene, 128)
        pour(scene.attacker, [_lures()])
        wait_for("the routes", lambda: "::/1 " in scene.host.ip(f"-6 route show dev {LINK}"))
        with scene.laptop.world.record() as recorder:
            scene.host.run("ping", "-6", "-c1", "-W1", str(TARGET), check=False, uid=plan.USER)
            if recorder.count(Kind.CLEAR) == 0:
                raise Harmless("what is for the target stays in the tunnel of plain wg-quick")
    finally:
        lab.wg_quick("down")
        _no_more(scene)


ATTACKS: Final = (
    Attack(
        "A2",
        "advertisements",
        "a rogue router advertises routes of high preference, the target on the link, name servers, NAT64, sizes, its"
        " own end; then hundreds of strangers do",
        _advertise,
        _lures_somebody,
        tries=300,
        many=1000,
        service=0.99,
        brief=(Phase.CONNECTED,),
        prepare=lambda scene: _obey(scene, 128),
        give_back=_no_more,
        callee=TARGET,
    ),
)

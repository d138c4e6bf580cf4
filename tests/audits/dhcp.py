# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases that lure: routes beside the tunnel, a subnet that is the whole internet, the target's own address.

The laptop's client makes every route that a lease speaks of (`tests.lab.laptop`), as the most obedient of clients do.
"""

import json
import os
import random
import signal
import struct
import sys
from functools import partial
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
        report.unlink(missing_ok=True)
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


_JOINED: Final = tuple(phase for phase in Phase if phase is not Phase.ACCESS)
"""Phases in which the laptop may come to another network: with that a window ends."""


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
    scene.laptop.world.roam("home")
    scene.settle()


def _localnet(scene: Scene, tries: int) -> None:
    """Be in that network, and ask for its lease now and then; the target is never looked for on the link."""
    asks = {name: f"arp operation request arp daddr ip {address}" for name, address in _NEIGHBOURS.items()}
    with counting(scene.attacker, **asks) as asked:
        for _ in range(tries):
            scene.everybody_tries()
            scene.laptop.lab.renew(LINK)
        looked_for = {name for name, number in asked().items() if number}
    assert not looked_for, f"looked for on the link: {', '.join(looked_for)}"


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


# -- the laptop is the target (A5) -------------------------------------------------------------------------------------
_TAKEN: Final = {"target": plan.DNS4, "resolver": plan.GATEWAY_INSIDE4, "endpoint": plan.GATEWAY4}
"""Whose address the laptop is given: somebody's on the internet, the tunnel's name server's, the gateway's own."""


def _take(scene: Scene, whose: str) -> None:
    """Come to a network that gives this address to the laptop."""
    address = str(_TAKEN[whose])
    scene.attacker.ip(f"route replace {address}/32 dev {PORT}")
    serve(scene, address, lease(prefix=32))
    scene.laptop.world.roam("home")
    if whose != "endpoint":
        scene.settle()


def _hold(scene: Scene, tries: int, whose: str) -> None:
    """Keep the address for some leases."""
    for _ in range(tries):
        scene.everybody_tries()
        scene.laptop.lab.renew(LINK)
        assert scene.laptop.lab.address(LINK) == str(_TAKEN[whose])


def _let_go(scene: Scene, whose: str) -> None:
    scene.attacker.ip(f"route del {_TAKEN[whose]}/32")
    serve_no_more(scene)


def _own_address(whose: str, title: str, brief: tuple[Phase, ...], service: float | None) -> Attack:
    return Attack(
        *("A5", whose, f"a lease gives the laptop {title} as its own"),
        lambda scene, tries: _hold(scene, tries, whose),
        prepare=lambda scene: _take(scene, whose),
        give_back=lambda scene: _let_go(scene, whose),
        service=service,
        phases=_JOINED,
        brief=brief,
        tries=2,
    )


# -- a soup of options (A8) --------------------------------------------------------------------------------------------
_EACH: Final = 50
"""Odd answers to one question."""
_SHELL: Final = b"x$(reboot)`reboot`;reboot\n\0\xff\x1b[2J"
_SOUP: Final[dict[int, tuple[bytes, ...]]] = {
    1: (bytes(4), b"\xff\xff\xff\xff", b"\x80\0\0\0", b"\xff\0\xff\0", b"\xff"),
    3: (bytes(4), b"\xff" * 4, b"\x7f\0\0\1", plan.GATEWAY4.packed, b"\xe0\0\0\1" * 60),
    6: (bytes(4), b"\x7f\0\0\1", plan.DNS4.packed * 60, b"\xff" * 255),
    12: (b"", _SHELL, b"a" * 255),
    15: (_SHELL, b"." * 255, b"com"),
    26: (struct.pack("!H", 68), struct.pack("!H", 577), struct.pack("!H", 65535), b"\0"),
    28: (bytes(4), plan.ECHO4.packed),
    51: (bytes(4), struct.pack("!I", 1), b"\xff" * 4),
    58: (bytes(4), b"\xff" * 4),
    59: (bytes(4), b"\xff" * 4),
    108: (struct.pack("!I", 300), bytes(4)),
    114: (b"file:///etc/passwd", _SHELL, b"http://" + b"a" * 248),
    119: (b"\xc0\0", b"\3com\0" * 50, b"\x3f" * 200),
    121: (b"\0" * 8, b"\x21" + b"\1" * 9, b"\x20" + b"\1" * 3, bytes(255)),
    252: (b"http://wpad/" + _SHELL, bytes(255)),
}
"""What each option might be (RFC 2132, 8925, 8910, 3397, 3442; 252 is WPAD's)."""


def soup(number: int) -> bytes:
    """The odd answer of this number: the same each time."""
    chance = random.Random(number)
    kind = chance.choice((_OFFER, _ACK, _ACK, _NAK))
    options = lease(chance.choice((0, 1, 24, 31, 32)), seconds=chance.choice((0, 1, 120)))
    for code in chance.sample(sorted(_SOUP), chance.randint(1, 5)):
        options += option(code, chance.choice(_SOUP[code]))
    address = chance.choice((ROUTER4, "0.0.0.0", "255.255.255.255", "127.0.0.1", str(TARGET), "192.168.10.77"))
    payload = bytearray(message(kind, address, options))
    for _ in range(chance.choice((0, 0, 1, 3, 30))):
        payload[chance.randrange(240, len(payload))] = chance.randrange(256)
    return bytes(payload[: chance.choice((len(payload), len(payload), chance.randrange(len(payload))))])


def _said(report: Path) -> dict[str, int]:
    """What the lease server has heard and said so far."""
    said: dict[str, int] = {"questions": 0, "odd": 0}
    return json.loads(report.read_text(encoding="utf-8")) if report.exists() else said


def _has_heard(report: Path, before: int) -> bool:
    return _said(report)["questions"] > before


def _pour_soup(scene: Scene, tries: int) -> None:
    """Each question of the client gets many odd answers, some of which it takes, and an ordinary one."""
    usual = scene.laptop.lab.address(LINK)
    report = serve(scene, usual, lease(), tuple(map(soup, range(tries))), _EACH)
    while (said := _said(report))["odd"] < tries:
        scene.laptop.lab.renew(LINK, wait=False)
        wait_for("a question", partial(_has_heard, report, said["questions"]))
    scene.everybody_tries()
    assert scene.host.run("hostname").stdout == "laptop\n"


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
        give_back=_leave_localnet,
        phases=_JOINED,
        service=0.99,
        brief=(Phase.CONNECTED,),
    ),
    _own_address("target", "the address of the target", (Phase.CONNECTED,), 0.99),
    _own_address("resolver", "the address of the tunnel's name server", (), 0.99),
    _own_address("endpoint", "the address of the gateway", (), None),
    Attack(
        "A8",
        "soup",
        "odd and broken offers, acknowledgements and refusals: MTU 68, leases of 0 s, names with shell in them, masks"
        " of every length, options cut short",
        _pour_soup,
        give_back=serve_no_more,
        tries=300,
        many=10_000,
        brief=(Phase.BLOCKED,),
    ),
)

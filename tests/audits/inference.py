# SPDX-License-Identifier: GPL-3.0-or-later
"""Guesses about the tunnel from its outside: its address, what goes through it, what is open behind it."""

import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6ND_NS, ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from tests.audits.attack import Attack, Harmless, Phase
from tests.audits.attacker import ROUTER4, ROUTER6, Victim, counting, pour, victim
from tests.audits.scene import Scene
from tests.lab import plan
from tests.lab.process import LabError, stop, wait_for

_SPORT: Final = 33333
"""Where the attacker's probes come from, so that their answers are told from what the laptop sends anyway."""
_ANSWERED4: Final = f"ip daddr {ROUTER4} tcp dport {_SPORT}"
_ANSWERED6: Final = f"ip6 daddr {ROUTER6} tcp dport {_SPORT}"
_ERRORS: Final = "ip protocol icmp icmp type { destination-unreachable, echo-reply, parameter-problem }"
_ERRORS6: Final = "ip6 nexthdr icmpv6 icmpv6 type { 1, 2, 3, 4, 129 }"
_LEAST_MTU: Final = 1280


def _to(mac: str) -> Packet:
    return Ether(src=plan.HOME.mac, dst=mac)


def _probes(mac: str, targets: tuple[str, ...], ports: tuple[int, ...], flags: str) -> list[bytes]:
    """TCP segments from the attacker to each port of each address."""
    frames = []
    for target in targets:
        head = IPv6(src=ROUTER6, dst=target) if ":" in target else IP(src=ROUTER4, dst=target)
        frames += _to_ports(_to(mac) / head / TCP(sport=_SPORT, dport=0, flags=flags), ports)
    return frames


def _to_ports(packet: Packet, ports: tuple[int, ...]) -> list[bytes]:
    """The same packet to each port: made once, then port and checksum are put in (RFC 1624)."""
    frame = bytes(packet)
    at = 14 + (40 if IPv6 in packet else 20)
    check = at + (16 if TCP in packet else 6)
    (sum_of_none,) = struct.unpack_from("!H", frame, check)
    frames = []
    for port in ports:
        made, total = bytearray(frame), (~sum_of_none & 0xFFFF) + port
        struct.pack_into("!H", made, at + 2, port)
        struct.pack_into("!H", made, check, ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF)
        frames.append(bytes(made))
    return frames


# -- the tunnel's address (B1, B6) -------------------------------------------------------------------------------------
_LIVE: Final = """
import socket, sys
with socket.create_connection((sys.argv[1], 80)) as line:
    print(line.getsockname()[1], flush=True)
    line.recv(1)
"""
"""A connection through the tunnel on which nothing is said."""


def _infer(scene: Scene, tries: int) -> None:
    """The three phases of CVE-2019-14899: which address is the tunnel's, is there a connection to this server, where
    in its numbers is it. Each probe that is answered, outside the tunnel or in it, tells something.
    """
    at = victim(scene)
    inside = (str(plan.TUNNEL4), str(plan.TUNNEL6), "10.66.0.1", "10.66.0.3")
    ports = tuple(range(40000, 40000 + tries // len(inside)))
    frames = [frame for flags in ("S", "SA", "R", "A", "") for frame in _probes(at.mac, inside, ports, flags)]
    live = None
    if scene.watch is not None and scene.phase is Phase.CONNECTED:
        words = (sys.executable, "-I", "-c", _LIVE, str(plan.WEB4))
        log = scene.host.dir / "live.log"
        log.unlink(missing_ok=True)
        live = scene.host.spawn(*words, uid=plan.USER, log="live")
        port = int(wait_for("a connection through the tunnel", lambda: log.read_text() if log.exists() else ""))
        frames += _spoofed(at, port, tries)
    seen = scene.laptop.world.gateway.host
    seen.nft(_CHALLENGES)
    try:
        with counting(scene.attacker, tcp4=_ANSWERED4, tcp6=_ANSWERED6, icmp4=_ERRORS, icmp6=_ERRORS6) as answers:
            pour(scene.attacker, frames)
            scene.everybody_tries()
            assert not any(answers().values()), f"answers: {answers()}"
        inside_it = seen.out("nft", "list", "table", "inet", "challenges")
        if live is not None:
            assert "packets 0 " in inside_it, f"the connection in the tunnel noticed: {inside_it}"
            assert live.poll() is None, "the connection in the tunnel was ended from outside"
    finally:
        seen.run("nft", "delete", "table", "inet", "challenges")
        if live is not None:
            stop(live)


_CHALLENGES: Final = f"""
table inet challenges {{ chain c {{ type filter hook prerouting priority -310;
  iifname "wg0" ip daddr {plan.WEB4} tcp dport 80 counter comment "what a quiet connection says to spoofed segments" ;
}}; }}
"""


def _spoofed(at: Victim, port: int, tries: int) -> list[bytes]:
    """Segments of the connection's other end, with numbers all over the space (RFC 5961 has them be challenged)."""
    head = _to(at.mac) / IP(src=str(plan.WEB4), dst=str(plan.TUNNEL4))
    steps = range(0, 1 << 32, (1 << 32) // max(tries // 4, 1))
    return [
        bytes(head / TCP(sport=80, dport=port, flags=flags, seq=number, ack=number ^ 0x55555555))
        for number in steps
        for flags in ("S", "R", "A", "SA")
    ]


def _answers_at_home(scene: Scene) -> None:
    with _weak_host(scene), counting(scene.attacker, tcp4=_ANSWERED4) as answers:
        pour(scene.attacker, _probes(victim(scene).mac, (str(plan.TUNNEL4),), tuple(range(40000, 40050)), "S"))
        _must_count(lambda: answers()["tcp4"], "the tunnel's address does not answer on the link")


def _must_count(count: Callable[[], object], text: str) -> None:
    """`Harmless` with this text unless something is counted within two seconds."""
    try:
        wait_for(text, count, deadline_s=2)
    except LabError as error:
        raise Harmless(text) from error


@contextmanager
def _weak_host(scene: Scene) -> Iterator[None]:
    """A laptop without protection that has the tunnel's address somewhere (wg-quick itself has learned to drop what
    asks for it from elsewhere).
    """
    scene.host.ip(f"addr add {plan.TUNNEL4}/32 dev lo")
    try:
        yield
    finally:
        scene.host.ip(f"addr del {plan.TUNNEL4}/32 dev lo")


def _who_has(scene: Scene, tries: int) -> None:
    """ARP and neighbour solicitations for the tunnel's addresses."""
    at = victim(scene)
    asks = (
        Ether(src=plan.HOME.mac, dst="ff:ff:ff:ff:ff:ff")
        / ARP(hwsrc=plan.HOME.mac, psrc=ROUTER4, pdst=str(plan.TUNNEL4)),
        _to(at.mac) / ARP(hwsrc=plan.HOME.mac, psrc=ROUTER4, pdst=str(plan.TUNNEL4)),
        _to(at.mac) / IPv6(src=ROUTER6, dst=str(plan.TUNNEL6), hlim=255) / ICMPv6ND_NS(tgt=str(plan.TUNNEL6)),
        _to(at.mac) / IPv6(src=ROUTER6, dst=at.local6, hlim=255) / ICMPv6ND_NS(tgt=str(plan.TUNNEL6)),
    )
    told = {
        "arp": f"arp operation reply arp saddr ip {plan.TUNNEL4}",
        "ndp": f"icmpv6 type 136 @th,64,128 {int(plan.TUNNEL6):#x}",
    }
    with counting(scene.attacker, **told) as answers:
        pour(scene.attacker, [bytes(ask) for ask in asks], rounds=tries)
        scene.everybody_tries()
        assert not any(answers().values()), f"answers: {answers()}"


def _who_has_at_home(scene: Scene) -> None:
    ask = _to("ff:ff:ff:ff:ff:ff") / ARP(hwsrc=plan.HOME.mac, psrc=ROUTER4, pdst=str(plan.TUNNEL4))
    told = f"arp operation reply arp saddr ip {plan.TUNNEL4}"
    with _weak_host(scene), counting(scene.attacker, arp=told) as answers:
        pour(scene.attacker, [bytes(ask)])
        _must_count(lambda: answers()["arp"], "nobody answers for the tunnel's address")


# -- what comes in (B4, B5, B8) ----------------------------------------------------------------------------------------
def _plaintext(scene: Scene, tries: int) -> None:
    """Packets of the inside without their tunnel, to its port and to its address, in the gateway's name."""
    at = victim(scene)
    port = tunnel_port(scene)
    inner = IP(src=str(plan.GATEWAY_INSIDE4), dst=str(plan.TUNNEL4)) / ICMP() / Raw(b"x" * 40)
    inner6 = IPv6(src=str(plan.GATEWAY_INSIDE6), dst=str(plan.TUNNEL6)) / UDP(sport=53, dport=53) / Raw(b"x" * 40)
    outer = _to(at.mac) / IP(src=str(plan.GATEWAY4), dst=at.ip4) / UDP(sport=plan.GATEWAY_PORT, dport=port)
    frames = [_to(at.mac) / inner, _to(at.mac) / inner6, outer / inner, outer / inner6]
    frames += [
        outer / Raw(bytes([kind, 0, 0, 0]) + b"x" * size) for kind in range(6) for size in (0, 28, 88, 144, 1300)
    ]
    with counting(scene.attacker, icmp4=_ERRORS, icmp6=_ERRORS6) as answers:
        pour(scene.attacker, [bytes(frame) for frame in frames], rounds=tries)
        scene.everybody_tries()
        assert not any(answers().values()), f"answers: {answers()}"


def tunnel_port(scene: Scene) -> int:
    """The port that the tunnel's packets come from; any one while it has none."""
    for line in scene.host.run("wg", "show", "all", "listen-port", check=False).stdout.splitlines():
        return int(line.split()[-1])
    return plan.GATEWAY_PORT


def _icmp_errors(scene: Scene, tries: int) -> None:
    """Spoofed errors about the outer packets and about those inside: too big, port, host, network unreachable."""
    at = victim(scene)
    port = tunnel_port(scene)
    outer = IP(src=at.ip4, dst=str(plan.GATEWAY4), flags="DF") / UDP(sport=port, dport=plan.GATEWAY_PORT)
    inner = IP(src=str(plan.TUNNEL4), dst=str(plan.ECHO4), flags="DF") / UDP(sport=_SPORT, dport=plan.ECHO_PORT)
    echo = IP(src=at.ip4, dst=str(plan.ECHO4), flags="DF") / ICMP(type=0) / Raw(b"x" * 8)
    inner6 = IPv6(src=str(plan.TUNNEL6), dst=str(plan.ECHO6)) / UDP(sport=_SPORT, dport=plan.ECHO_PORT)
    frames = []
    for said, to in ((outer, at.ip4), (echo, at.ip4), (inner, at.ip4), (inner, str(plan.TUNNEL4))):
        for who in (ROUTER4, str(plan.GATEWAY4)):
            head = _to(at.mac) / IP(src=who, dst=to)
            frames += [head / ICMP(type=3, code=4, nexthopmtu=size) / said for size in (0, 68, 576, 1279)]
            frames += [head / ICMP(type=3, code=code) / said for code in (0, 1, 2, 3, 9, 10, 13)]
            frames += [head / ICMP(type=4) / said, head / ICMP(type=11) / said, head / ICMP(type=12) / said]
    head6 = _to(at.mac) / IPv6(src=ROUTER6, dst=at.ip6 or at.local6)
    frames += [head6 / ICMPv6PacketTooBig(mtu=size) / inner6 for size in (0, 68, 1280)]
    frames += [head6 / ICMPv6DestUnreach(code=code) / inner6 for code in range(7)]
    raw = [bytes(frame) for frame in frames]
    pour(scene.attacker, raw, rounds=-(-tries // len(raw)))
    scene.everybody_tries()
    if scene.phase is Phase.CONNECTED:
        sizes = [
            int(line.split("mtu ")[1].split()[0])
            for line in scene.host.ip("-o link show").splitlines()
            if "aovpn" in line
        ]
        assert min(sizes) >= _LEAST_MTU, f"the tunnel's link carries {min(sizes)} bytes"
        assert scene.laptop.works()


def _shrinks_somebody(scene: Scene) -> None:
    at = victim(scene)
    said = IP(src=at.ip4, dst=str(plan.ECHO4), flags="DF") / ICMP(type=0) / Raw(b"x" * 8)
    told = _to(at.mac) / IP(src=ROUTER4, dst=at.ip4) / ICMP(type=3, code=4, nexthopmtu=600) / said
    pour(scene.attacker, [bytes(told)])
    _must_count(
        lambda: "mtu 600" in scene.host.ip(f"route get {plan.ECHO4}"), "a spoofed size of the path is not believed"
    )


def _scan(scene: Scene, tries: int) -> None:
    """SYN, FIN, UDP to ports of the laptop, by both families: nothing tells open from closed."""
    at = victim(scene)
    ports = tuple(range(1, tries + 1))
    frames = _probes(at.mac, tuple(filter(None, (at.ip4, at.ip6, at.local6))), ports, "S")
    frames += _probes(at.mac, (at.ip4,), ports, "F")
    for head in (IP(src=ROUTER4, dst=at.ip4), IPv6(src=ROUTER6, dst=at.ip6 or at.local6)):
        frames += _to_ports(_to(at.mac) / head / UDP(sport=_SPORT, dport=0), ports)
    told = {"icmp4": f"ip daddr {ROUTER4} {_ERRORS}", "icmp6": f"ip6 daddr {ROUTER6} {_ERRORS6}"}
    udp = {"udp4": f"ip daddr {ROUTER4} udp dport {_SPORT}", "udp6": f"ip6 daddr {ROUTER6} udp dport {_SPORT}"}
    with counting(scene.attacker, tcp4=_ANSWERED4, tcp6=_ANSWERED6, **told, **udp) as answers:
        pour(scene.attacker, frames)
        scene.everybody_tries()
        assert not any(answers().values()), f"answers: {answers()}"


def _scan_at_home(scene: Scene) -> None:
    with counting(scene.attacker, tcp4=_ANSWERED4, tcp6=_ANSWERED6) as answers:
        at = victim(scene)
        pour(scene.attacker, _probes(at.mac, (at.ip4, at.ip6), tuple(range(1, 50)), "S"))
        _must_count(lambda: all(answers().values()), "a closed port says nothing")


ATTACKS: Final = (
    Attack(
        "B1",
        "inference",
        "probes for the tunnel's address and for a connection in it, and segments spoofed into one (CVE-2019-14899, all"
        " three phases)",
        _infer,
        _answers_at_home,
        tries=200,
        many=1000,
        service=0.95,
        brief=(Phase.CONNECTED,),
    ),
    Attack(
        "B4",
        "plaintext",
        "packets of the inside without their tunnel, to its port and its address, in the gateway's name",
        _plaintext,
        tries=10,
        many=100,
        service=0.95,
        brief=(Phase.BLOCKED,),
    ),
    Attack(
        "B5",
        "errors",
        "spoofed ICMP errors about packets outside and inside the tunnel: too big, unreachable, quench",
        _icmp_errors,
        _shrinks_somebody,
        tries=200,
        many=1000,
        service=0.95,
        brief=(Phase.CONNECTED,),
    ),
    Attack(
        "B6",
        "who-has",
        "ARP and neighbour solicitations for the tunnel's addresses (X41 MLLVD-CR-24-03)",
        _who_has,
        _who_has_at_home,
        service=0.95,
        brief=(Phase.CONNECTING,),
    ),
    Attack(
        "B8",
        "scan",
        "a scan of the laptop's ports, TCP and UDP, both families (MUL22-04)",
        _scan,
        _scan_at_home,
        tries=500,
        many=65535,
        service=0.95,
        brief=(Phase.ACCESS,),
    ),
)

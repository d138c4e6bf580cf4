# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left of earlier times and what the kernel says by itself: IPv6 beside a tunnel without it (C1, C2), old
connections (C7), leases (C8), ARP (C10), guests and their flows (D9), and the ways around the guard.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from tests.audits.attack import Attack, Harmless, Phase
from tests.audits.scene import LINK, Scene
from tests.audits.xdp import queue_state
from tests.lab import plan
from tests.lab.beacon import RECORD
from tests.lab.frames import Kind
from tests.lab.process import stop, wait_for
from tests.lab.record import Recorder
from tests.lab.senders import new_token

# -- C1, C2: IPv6 ------------------------------------------------------------------------------------------------------
_AT_ONCE: Final = """
import errno, json, socket, sys, time
said = []
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    began = time.monotonic()
    with socket.socket(socket.AF_INET6, kind) as sock:
        sock.settimeout(3)
        try:
            sock.connect((sys.argv[1], 443))
            sock.send(b"x")
            said.append("sent")
        except OSError as error:
            said.append(errno.errorcode.get(error.errno, str(error)))
    said.append(time.monotonic() - began)
print(json.dumps(said))
"""
_REFUSED: Final = {"EACCES", "EPERM", "ENETUNREACH", "EHOSTUNREACH"}


def _four_alone(scene: Scene, count: int) -> None:
    """The tunnel's file speaks of IPv4 alone, the network has IPv6: programs are refused at once, not left to wait;
    through flaps of the carrier and IPv6 switched off and on.
    """
    lab = scene.laptop.lab
    whole = lab.tunnel_conf
    lines = [line for line in whole.splitlines() if not line.startswith(("Address", "AllowedIPs", "DNS"))]
    place = lines.index("[Peer]")
    four = [f"Address = {plan.TUNNEL4}/32", *lines[place:], "AllowedIPs = 0.0.0.0/0", ""]
    lab.install_tunnel(text="\n".join([*lines[:place], *four]))
    lab.ctl("disconnect")
    lab.ctl("connect", check=False)
    try:
        for number in range(count):
            wait_for("IPv4 to work", lambda: scene.laptop.address_outside(4) == str(plan.GATEWAY4), deadline_s=20)
            words = ("-I", "-c", _AT_ONCE, str(plan.WEB6))
            tcp, after_tcp, udp, after_udp = json.loads(scene.host.run(sys.executable, *words, uid=plan.USER).stdout)
            assert {tcp, udp} <= _REFUSED, (tcp, udp)
            assert max(after_tcp, after_udp) < 1, (after_tcp, after_udp)
            if number % 2:
                scene.host.sysctl(**{f"ipv6__conf__{LINK}__disable_ipv6": 1})
                scene.everybody_tries()
                scene.host.sysctl(**{f"ipv6__conf__{LINK}__disable_ipv6": 0})
            else:
                scene.laptop.world.flap(LINK)
            scene.everybody_tries()
    finally:
        lab.install_tunnel(text=whole)
    wait_for("both families to work", scene.laptop.works, poll_s=0.05, deadline_s=30)


# -- C7: old connections -----------------------------------------------------------------------------------------------
_CONNECTIONS: Final = """
import select, socket, sys, time
token = bytes.fromhex(sys.argv[1]) + b"\\xff"
open_ones = []
for address in sys.argv[2:]:
    for turn in range(6):
        try:
            sock = socket.create_connection((address, 80), 2)
        except OSError:
            continue
        sock.setblocking(False)
        if turn % 3 == 0:
            sock.send(b"GET /ip HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        if turn % 3 == 1:
            sock.shutdown(socket.SHUT_WR)
        open_ones.append(sock)
print(len(open_ones), flush=True)
number = 0
while True:
    for sock in open_ones:
        for act in (lambda: sock.send(token), lambda: sock.recv(4096)):
            try:
                act()
            except OSError:
                pass
    number += 1
    if number % 40 == 20 and open_ones:
        open_ones.pop().close()
    time.sleep(0.05)
"""


def _old_connections(scene: Scene, count: int) -> None:
    """TCP connections from a window, some with answers on the way, some half closed, some closed later: the kernel's
    retransmissions, RSTs, FINs and last acknowledgements do not get out when it is over.
    """
    token = (scene.watch.senders.token if scene.watch is not None else new_token()).hex()
    addresses = (str(plan.WEB4), str(plan.WEB6))
    programs = []
    try:
        for number in range(count):
            log = f"old-{time.monotonic_ns()}-{number}"
            command = (sys.executable, "-I", "-c", _CONNECTIONS, token, *addresses)
            programs.append(scene.host.spawn(*command, uid=plan.USER, log=log))
            path = scene.host.dir / f"{log}.log"
            wait_for("connections", path.read_text, poll_s=0.02)
            assert int(path.read_text().split()[0]) >= 6, path.read_text()
        scene.laptop.lab.ctl("allow-temp", "--cancel")
        with scene.laptop.world.record() as recorder:
            began = time.monotonic()
            wait_for("two seconds", lambda: time.monotonic() > began + 2, poll_s=0.1)
            assert recorder.count(Kind.CLEAR) == 0, "old connections speak on"
    finally:
        for program in programs:
            stop(program)


_MEMBER: Final = """
import signal, socket, struct
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
group = socket.inet_aton("239.1.2.3") + struct.pack("4si", bytes(4), socket.if_nametoindex("wlan0"))
sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
print("joined", flush=True)
signal.pause()
"""


def _provoke(scene: Scene, count: int) -> None:
    """Whoever is on the link asks what a kernel answers by itself: RST, ICMP errors, echoes, and reports of groups, of
    which a program has joined one.
    """
    lab = scene.laptop.lab
    log = f"member-{time.monotonic_ns()}"
    member = scene.host.spawn(sys.executable, "-I", "-c", _MEMBER, uid=plan.USER, log=log)
    wait_for("the member", (scene.host.dir / f"{log}.log").read_text, poll_s=0.02)
    six = lab.host.ip(f"-6 addr show dev {LINK} scope global -tentative").split()
    here6 = six[six.index("inet6") + 1].partition("/")[0]
    words = ("lan0", new_token().hex(), plan.LAPTOP_MAC[LINK], lab.address(LINK), here6)
    for _ in range(count):
        if scene.phase is Phase.ACCESS:
            lab.ctl("allow-temp", "--cancel")
        with scene.laptop.world.record() as recorder:
            scene.attacker.out(sys.executable, "-m", "tests.audits.provoke", *words)
            if scene.watch is not None:
                assert recorder.count(Kind.CLEAR) == 0, "the kernel has answered"
            else:
                wait_for("the report of the group", partial(_has, recorder, _REPORT))
    stop(member)


_REPORT: Final = bytes.fromhex("9404000016")
"""The end of an IPv4 header with a router alert, and a report behind it (RFC 2236)."""


def _has(recorder: Recorder, token: bytes) -> bool:
    return token in recorder.path.read_bytes()


def _answers(scene: Scene) -> None:
    scene.host.sysctl(ipv4__icmp_ratelimit=0, ipv6__icmp__ratelimit=0)
    with scene.laptop.world.record() as recorder:
        _provoke(scene, 1)
        what = " ".join(frame.what for frame in recorder.recording(new_token()).clear())
    missing = [word for word in ("ip:tcp", "ipv6:tcp", "ip:icmp", "ipv6:icmpv6", "ip:igmp") if word not in what]
    if missing or ("type 143" not in what and "type 131" not in what):
        raise Harmless(f"an unprotected kernel does not answer by {missing}")


# -- C8, C10: leases and ARP -------------------------------------------------------------------------------------------
def _renew(scene: Scene, count: int) -> None:
    """The DHCP clients begin anew with the lease that they have, and ask for it by the broadcast that is permitted: the
    address stays, and every ARP request of the laptop is for the router or for itself (C10).
    """
    lab = scene.laptop.lab
    before = lab.address(LINK)
    recorder = scene.laptop.world.record()
    lease = scene.host.dir / "run" / f"dhclient-4.{LINK}.leases"
    for _ in range(count):
        known = _leases(lease)
        scene.laptop.lab.kill("dhclient")
        lab.join(LINK)
        wait_for("another lease", partial(_renewed, lease, known), deadline_s=15)
        assert lab.address(LINK) == before
    scene.host.run("ip", "neigh", "flush", "dev", LINK)  # whoever is still needed is asked for anew
    scene.everybody_tries()
    if scene.phase is not Phase.BLOCKED:  # the next handshake asks for the router, which may be some seconds away
        wait_for("somebody to be asked for", lambda: _arp_targets(recorder), deadline_s=30)
    recorder.stop()
    targets = _arp_targets(recorder)
    if scene.phase is not Phase.ACCESS:  # in a window programs may ask for whom they like
        assert targets <= {plan.HOME.router4, IPv4Address(before), IPv4Address(0)}, targets


def _leases(path: Path) -> str:
    """All leases that a client has written down; it writes a new one below."""
    return path.read_text(encoding="utf-8")


def _renewed(path: Path, known: str) -> bool:
    return _leases(path) != known


def _arp_targets(recorder: Recorder) -> set[IPv4Address]:
    """Whom the laptop has asked for so far."""
    found = set()
    data = recorder.path.read_bytes()
    at = data.find(_ARP_REQUEST)
    while at >= 0:
        found.add(IPv4Address(data[at + 26 : at + 30]))
        at = data.find(_ARP_REQUEST, at + 1)
    return found


_ARP_REQUEST: Final = bytes.fromhex("08060001080006040001")
"""EtherType, hardware, protocol, their lengths, request (RFC 826)."""


# -- D9: guests --------------------------------------------------------------------------------------------------------
_GUESTS: Final = {
    "macvlan": "ip link add link wlan0 name g0 type macvlan mode bridge; ip link set g0 netns guest name eth0",
    "macvtap": "ip link add link wlan0 name g0 type macvtap mode bridge; ip link set g0 netns guest name eth0",
    "vepa": "ip link add link wlan0 name g0 type macvlan mode vepa; ip link set g0 netns guest name eth0",
    "routed": "ip link add g0 type veth peer name eth0 netns guest; ip addr add 172.20.0.1/24 dev g0;"
    " ip link set g0 up",
    "bridged": "ip link add gbr0 type bridge; ip addr add 172.20.0.1/24 dev gbr0; ip link set gbr0 up;"
    " ip link add g0 type veth peer name eth0 netns guest; ip link set g0 master gbr0 up",
    "natted": "ip link add gbr0 type bridge; ip addr add 172.20.0.1/24 dev gbr0; ip link set gbr0 up;"
    " ip link add g0 type veth peer name eth0 netns guest; ip link set g0 master gbr0 up; nft 'table ip guestnat"
    ' { chain c { type nat hook postrouting priority 100; ip saddr 172.20.0.0/24 oifname != "gbr0" masquerade; }; }\'',
}
"""How each kind of guest is cabled."""
_INSIDE: Final = """
ip link set lo up; ip link set eth0 up
case $1 in macvlan|macvtap|vepa) ip addr add 192.168.10.88/24 dev eth0; ip route add default via 192.168.10.1;;
*) ip addr add 172.20.0.2/24 dev eth0; ip route add default via 172.20.0.1;; esac
"""
_GUESTS_TRY: Final = (
    "udp4",
    "tcp4",
    "dns4",
    "ping4",
    "mdns4",
    "broadcast4",
    "gateway4",
    "endpoint4",
    "raw4",
    "mark4",
    "packet4",
)


_RECORD_BYTES: Final = RECORD.size


@contextmanager
def _guest(scene: Scene, kind: str) -> Iterator[None]:
    """A guest of the machine, cabled in one way; gone at the end."""
    host = scene.host
    host.run("sh", "-ec", f"ip netns add guest; sysctl -qw net.ipv4.ip_forward=1; {_GUESTS[kind]}")
    host.run("ip", "netns", "exec", "guest", "sh", "-ec", _INSIDE, "sh", kind)
    try:
        yield
    finally:
        script = "nft delete table ip guestnat; ip netns del guest; ip link del g0; ip link del gbr0"
        host.run("sh", "-c", f"{script}; sysctl -qw net.ipv4.ip_forward=0; true")


def _guests_send(scene: Scene, token: bytes, times: int) -> None:
    """Every kind of sender that a guest can be, so many times each."""
    report = scene.host.dir / f"guest-{time.monotonic_ns()}"
    beacon = (sys.executable, "-m", "tests.lab.beacon", token.hex(), "50", "eth0", str(report), *_GUESTS_TRY)
    process = scene.host.spawn("ip", "netns", "exec", "guest", *beacon, log="guest")

    def sent() -> bool:
        return report.exists() and report.stat().st_size >= _RECORD_BYTES * times * len(_GUESTS_TRY)

    wait_for("the guest to send", sent, poll_s=0.02)
    stop(process)


def _guests(scene: Scene, count: int) -> None:
    """Six ways to cable a guest; a window is not theirs either."""
    token = scene.watch.senders.token if scene.watch is not None else new_token()
    for number in range(count):
        kind = list(_GUESTS)[number % len(_GUESTS)]
        with _guest(scene, kind), scene.laptop.world.record() as recorder:
            theirs = new_token() if scene.phase is Phase.ACCESS else token
            _guests_send(scene, theirs, 6)
            recorder.stop()
            assert theirs not in recorder.path.read_bytes(), f"a guest ({kind}) gets out"


def _guests_get_out(scene: Scene) -> None:
    for kind in _GUESTS:
        token = new_token()
        with _guest(scene, kind), scene.laptop.world.record() as recorder:
            _guests_send(scene, token, 6)
            recorder.stop()
            if token not in recorder.path.read_bytes():
                raise Harmless(f"a guest ({kind}) is not seen")


def _sends_more(report: Path) -> None:
    """Wait until a guest has tried some more."""
    before = report.stat().st_size if report.exists() else 0
    wait_for("the guest's flows", lambda: report.exists() and report.stat().st_size > before + 40 * _RECORD_BYTES)


def _old_flows_of_guests(scene: Scene, count: int) -> None:
    """A masqueraded guest sends while the block is off, and goes on with the same sockets when it is on again: what the
    kernel remembers of its connections opens nothing.
    """
    lab = scene.laptop.lab
    for _ in range(count):
        lab.ctl("disconnect")  # or they would go through the tunnel
        lab.ctl("unblock")
        token, report = new_token(), scene.host.dir / f"guest-{time.monotonic_ns()}"
        beacon = ("-m", "tests.lab.beacon", token.hex(), "50", "eth0", str(report), "udp4", "ping4", "raw4", "conn4")
        with _guest(scene, "natted"):
            command = ("ip", "netns", "exec", "guest", sys.executable, *beacon)
            program = scene.host.spawn(*command, log="guest")
            try:
                with scene.laptop.world.record() as recorder:
                    _sends_more(report)
                    recorder.stop()
                    assert token in recorder.path.read_bytes(), "no flow of the guest is seen"
                lab.ctl("block")
                with scene.laptop.world.record() as recorder:
                    _sends_more(report)
                    recorder.stop()
                    assert token not in recorder.path.read_bytes(), "flows of a guest outlive the block"
            finally:
                stop(program)


# -- the ways around the guard -----------------------------------------------------------------------------------------
def _flood_of_links(scene: Scene, count: int) -> None:
    """Links made and deleted as fast as it goes, while a card appears: the guard follows, and its chain is there soon
    after the storm.
    """
    world, host = scene.laptop.world, scene.host
    for _ in range(count):
        lines = "".join(f"link add name flood{number} type veth peer name doolf{number}\n" for number in range(60))
        host.run("ip", "-batch", "-", stdin=lines)
        world.air.ip("link add usb0 type veth peer name usb0-far")
        world.air.run("sh", "-ec", f"ip link set usb0-far name usb0 netns {host.holder.pid}")
        lines = "".join(f"link del flood{number}\n" for number in range(60))
        host.run("ip", "-batch", "-", stdin=lines)
        over = time.monotonic()
        wait_for("the guard's chain", lambda: '"usb0"' in scene.laptop.table("netdev", "aovpnd_guard"), poll_s=0.02)
        assert time.monotonic() < over + 5, "the guard is slow behind a flood of links"
        world.air.ip("link del usb0")


def _link_goes_and_comes(scene: Scene, count: int) -> None:
    """A card is moved into another namespace and back, where its name and index are the same as before: the guard's
    chain is on it again, and so is its hand on the queues.
    """
    world, host = scene.laptop.world, scene.host
    world.air.ip("link add usb0 type veth peer name usb0-far")
    world.air.ip("link set usb0 up")
    world.air.run("sh", "-ec", f"ip link set usb0-far name usb0 netns {host.holder.pid}")
    attached = 'device "usb0"'
    try:
        for _ in range(count):
            host.ip("link set usb0 up")
            wait_for("the chain", lambda: attached in scene.laptop.table("netdev", "aovpnd_guard"), poll_s=0.02)
            wait_for("the queues", lambda: queue_state(host, "usb0") == "EBUSY", poll_s=0.05)
            script = f"ip netns add else; ip link set usb0 netns else; ip -n else link set usb0 netns {host.holder.pid}"
            host.run("sh", "-ec", f"{script}; ip netns del else")
    finally:
        world.air.ip("link del usb0")


ATTACKS: Final = (
    Attack(
        "C1",
        "tunnel-without-ipv6",
        "IPv6 on the network and none in the tunnel, switched off and on, the carrier flapping (RFC 7359, PureVPN)",
        _four_alone,
        tries=2,
        many=100,
        phases=(Phase.CONNECTED,),
        of_wireguard=True,
    ),
    Attack(
        "C7",
        "old-connections",
        "connections of a window: retransmissions, RST, FIN and TIME-WAIT of the kernel when it is over (T2)",
        _old_connections,
        tries=1,
        many=10,
        phases=(Phase.ACCESS,),
    ),
    Attack(
        "C7",
        "provoked",
        "RST, ICMP errors, echo answers, IGMP and MLD reports, which kernels send when they are asked",
        _provoke,
        _answers,
        tries=1,
        many=10,
    ),
    Attack(
        "C8",
        "leases",
        "leases asked for anew in every phase; ARP requests name the router and the laptop alone (C10)",
        _renew,
        tries=1,
        many=10,
    ),
    Attack(
        "D9",
        "guests",
        "guests by macvlan, macvtap and vepa on the card, routed, bridged and masqueraded, root inside (T5)",
        _guests,
        _guests_get_out,
        tries=6,
        many=24,
    ),
    Attack(
        "D9",
        "old-flows-of-guests",
        "connections of a masqueraded guest that are older than the block (T2)",
        _old_flows_of_guests,
        tries=1,
        many=10,
        phases=(Phase.ACCESS,),
    ),
    Attack(
        "D10",
        "flood-of-links",
        "links made and deleted as fast as it goes while a card appears",
        _flood_of_links,
        tries=1,
        many=20,
        phases=(Phase.CONNECTED,),
    ),
    Attack(
        "D10",
        "link-goes-and-comes",
        "a card moved into another namespace and back, with the same name and index",
        _link_goes_and_comes,
        tries=2,
        many=20,
        phases=(Phase.BLOCKED,),
    ),
)

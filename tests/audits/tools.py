# SPDX-License-Identifier: GPL-3.0-or-later
"""Attackers' programs as Debian packages them, run by a neighbour on the laptop's network: nmap, arping, hping3.

They run from the lab's root directory (`tests.lab.rootdir`). Each is bounded, and one that is missing, refuses or sends
too little is an error, not a pass. Those for IPv6 are in `tools6`.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from tests.audits.attack import Attack, Harmless, Phase
from tests.audits.attacker import PORT, ROUTER4, ROUTER6, Victim, counting, victim
from tests.audits.scene import LINK, Scene
from tests.lab import plan
from tests.lab.host import Host
from tests.lab.process import LabError, wait_for

MAC: Final = "02:00:00:00:00:66"
HERE4: Final = "192.168.10.66"
HERE6: Final = "2001:db8:10::66"
LOCAL6: Final = "fe80::66"
_STOPPED: Final = (124, 130, 137)
"""How timeout(1) ends when it had to end the program."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A command line. {ip4}, {ip6}, {local6}, {mac} are the laptop's, {link} is the neighbour's link."""

    line: str
    seconds: float = 20.0
    """How long it may run."""
    statuses: tuple[int, ...] = (0,)
    """Exit statuses that are no refusal: some say 1 when nobody answered."""
    least: int = 1
    """How many frames it must have sent."""


def endless(line: str, *, seconds: float, least: int) -> Tool:
    """One that goes on until it is stopped, and must have run for all that time."""
    return Tool(line, seconds, _STOPPED, least)


# -- the neighbour -----------------------------------------------------------------------------------------------------
@contextmanager
def neighbour(scene: Scene, **sysctls: int) -> Iterator[Host]:
    """A machine on the laptop's network that is not its router; gone at the end."""
    world, at = scene.laptop.world, victim(scene)
    with Host.boot(f"neighbour{len(list(world.dir.iterdir()))}", world.dir) as host:
        world.air.ip(f"link add name stranger type veth peer name {PORT} address {MAC} netns {host.holder.pid}")
        try:
            world.air.ip("link set stranger master br-home up")
            host.sysctl(ipv6__conf__lan0__accept_ra=0, ipv6__conf__lan0__accept_dad=0, **sysctls)
            host.ip(f"link set {PORT} addrgenmode none")
            host.ip(f"link set {PORT} up")
            host.ip(f"addr add {HERE4}/24 dev {PORT}")
            for address in (HERE6, LOCAL6):
                host.ip(f"addr add {address}/64 dev {PORT} nodad")
            host.ip(f"route add default via {ROUTER4}")
            host.ip(f"-6 route add default via {ROUTER6} dev {PORT}")
            _know(host, at)
            yield host
        finally:
            world.air.ip("link del stranger")


def _know(host: Host, at: Victim) -> None:
    """Where the laptop is: to a global address it answers nothing, and DHCPv6 may have given it another one by now."""
    for address in filter(None, (at.ip4, at.ip6, at.local6)):
        host.ip(f"neigh replace {address} lladdr {at.mac} nud permanent dev {PORT}")


def use(scene: Scene, host: Host, tool: Tool) -> str:
    """Run one to its end, or for its time; returns what it printed. LabError when it did not do its work."""
    at = victim(scene)
    _know(host, at)
    line = tool.line.format(ip4=at.ip4, ip6=at.ip6 or at.local6, local6=at.local6, mac=at.mac, link=PORT)
    before = _sent(host)
    bounded = ("timeout", "--signal=INT", "--kill-after=2", f"{tool.seconds:g}")
    done = host.run(*bounded, *line.split(), chroot=True, check=False, timeout_s=tool.seconds + 10)
    said = f"{line!r} ended with {done.returncode}: {(done.stdout + done.stderr)[-600:]}"
    if done.returncode not in tool.statuses:
        raise LabError(said)
    if _sent(host) - before < tool.least:
        raise LabError(f"only {_sent(host) - before} frames were sent: {said}")
    return done.stdout + done.stderr


def _sent(host: Host) -> int:
    return int(host.path(f"/sys/class/net/{PORT}/statistics/tx_packets").read_text(encoding="ascii"))


def tools(*each: Tool) -> Callable[[Scene, int], None]:
    """An attack: each in its turn, while everybody sends."""

    def attack(scene: Scene, tries: int) -> None:
        with neighbour(scene) as host:
            for tool in each * tries:
                use(scene, host, tool)
                scene.everybody_tries()

    return attack


# -- nmap (B1, B8) -----------------------------------------------------------------------------------------------------
_NMAP: Final = "nmap -n -Pn -oG - --max-retries 0 --min-rate 2000 --host-timeout 30s"
_TOLD: Final = re.compile(r"\b(?:open|closed|unfiltered)\b(?!\|)")
"""A port's state that somebody who answers has told; ``open|filtered`` is nmap's word for silence."""
_HOW: Final = (("-sS -p 1-1000", 1000), ("-sA -p 1-200", 200), ("-sU -p 1-200", 200))
SCANS: Final = (
    *(
        Tool(f"{_NMAP} {how} {target}", seconds=45, least=least)
        for target in ("{ip4}", "-6 --send-ip {ip6}")
        for how, least in _HOW
    ),
    Tool(f"{_NMAP} -sS -O -p 22,40000-40020 {{ip4}}", seconds=45, least=22),
)
_INSIDE_SCANS: Final = tuple(
    Tool(f"{_NMAP} {how} {target}", seconds=45, least=least)
    for target in (str(plan.TUNNEL4), f"-6 --send-ip {plan.TUNNEL6}")
    for how, least in _HOW
)
"""IPv6 by the kernel's own neighbour table: the laptop answers no solicitation from a global address."""


def _scan(scene: Scene, tries: int) -> None:
    """SYN, ACK and UDP scans, and a guess at the system, of both families: nothing is told."""
    with neighbour(scene) as host:
        _tell_nothing(scene, host, SCANS * tries)


def _scan_inside(scene: Scene, tries: int) -> None:
    """The same of the tunnel's addresses, by way of the laptop."""
    with neighbour(scene) as host:
        _lead_there(scene, host)
        _tell_nothing(scene, host, _INSIDE_SCANS * tries)


def _tell_nothing(scene: Scene, host: Host, scans: tuple[Tool, ...]) -> None:
    for tool in scans:
        said = use(scene, host, tool)
        assert not _TOLD.search(said), f"nmap was told something: {said}"


def _lead_there(scene: Scene, host: Host) -> None:
    at = victim(scene)
    host.ip(f"route add {plan.TUNNEL4}/32 via {at.ip4}")
    host.ip(f"-6 route add {plan.TUNNEL6}/128 via {at.local6} dev {PORT}")


def _scanned(scene: Scene) -> None:
    with neighbour(scene) as host:
        _tell_something(scene, host, SCANS)


def _scanned_inside(scene: Scene) -> None:
    scene.host.ip(f"addr add {plan.TUNNEL4}/32 dev lo")
    scene.host.ip(f"addr add {plan.TUNNEL6}/128 dev lo nodad")
    try:
        with neighbour(scene) as host:
            _lead_there(scene, host)
            _tell_something(scene, host, _INSIDE_SCANS)
    finally:
        scene.host.ip(f"addr del {plan.TUNNEL4}/32 dev lo")
        scene.host.ip(f"addr del {plan.TUNNEL6}/128 dev lo")


def _tell_something(scene: Scene, host: Host, scans: tuple[Tool, ...]) -> None:
    """Something is told of TCP; of UDP not always, since errors of ICMP are limited for all machines together."""
    scene.host.sysctl(ipv4__icmp_ratelimit=0, ipv6__icmp__ratelimit=0)
    told = {tool: bool(_TOLD.search(use(scene, host, tool))) for tool in scans}
    for tool, something in told.items():
        if not something and "-sU" not in tool.line:
            raise Harmless(f"{tool.line!r} is told nothing")


# -- arping (A9, B6) ---------------------------------------------------------------------------------------------------
_WHO_HAS: Final = (
    Tool(f"arping -i {{link}} -c 5 -W 0.05 {plan.TUNNEL4}", statuses=(0, 1), least=5),
    Tool(f"arping -i {{link}} -c 5 -W 0.05 -t {{mac}} {plan.TUNNEL4}", statuses=(0, 1), least=5),
)
_I_AM_THE_ROUTER: Final = (
    Tool(f"arping -i {{link}} -U -c 3 -W 0.05 -S {ROUTER4} {ROUTER4}", statuses=(0, 1), least=3),
    Tool(f"arping -i {{link}} -U -P -c 3 -W 0.05 -S {ROUTER4} {ROUTER4}", statuses=(0, 1), least=3),
)


def _who_has(scene: Scene, tries: int) -> None:
    told = f"arp operation reply arp saddr ip {plan.TUNNEL4}"
    with neighbour(scene) as host, counting(host, arp=told) as answers:
        for tool in _WHO_HAS * tries:
            use(scene, host, tool)
        assert not answers()["arp"], "somebody has answered for the tunnel's address"


def _who_has_at_home(scene: Scene) -> None:
    scene.host.ip(f"addr add {plan.TUNNEL4}/32 dev lo")
    try:
        _who_has(scene, 1)
    except AssertionError:
        return
    finally:
        scene.host.ip(f"addr del {plan.TUNNEL4}/32 dev lo")
    raise Harmless("nobody answers for the tunnel's address")


def _gratuitous(scene: Scene, tries: int) -> None:
    """The neighbour says that he is the router, again and again; then the router says that it is."""
    with neighbour(scene) as host:
        for _ in range(tries):
            for tool in _I_AM_THE_ROUTER:
                use(scene, host, tool)
            scene.everybody_tries()
    truth = f"arping -i {PORT} -U -c 2 -W 0.05 -S {ROUTER4} {ROUTER4}"
    scene.attacker.run(*truth.split(), chroot=True, check=False)


def _believed(scene: Scene) -> None:
    scene.host.run("ping", "-c1", "-W1", ROUTER4, check=False)
    with neighbour(scene) as host:
        for tool in _I_AM_THE_ROUTER:
            use(scene, host, tool)
        known = scene.host.ip(f"neigh show {ROUTER4} dev {LINK}")
    scene.host.run("ip", "neigh", "flush", "dev", LINK)
    if MAC not in known:
        raise Harmless(f"the router is believed where it was: {known}")


# -- hping3 (B4) -------------------------------------------------------------------------------------------------------
_FLOODS: Final = (
    endless("hping3 --flood -S -p ++1 --rand-source {ip4}", seconds=1, least=1000),
    endless(f"hping3 --flood -A -p ++1 -a {plan.WEB4} {{ip4}}", seconds=1, least=1000),
    endless(
        f"hping3 --flood --udp -k -s {plan.GATEWAY_PORT} -p {plan.GATEWAY_PORT} -a {plan.GATEWAY4} -d 148 {{ip4}}",
        seconds=1,
        least=1000,
    ),
    endless("hping3 --flood --icmp --rand-source {ip4}", seconds=1, least=1000),
    Tool(f"hping3 --faster -c 2000 --icmp -C 5 -K 1 --icmp-gw {HERE4} -a {ROUTER4} {{ip4}}", statuses=(0, 1)),
)


def _flooded(scene: Scene) -> None:
    told = f"ip saddr {victim(scene).ip4} tcp flags & rst != 0"
    with neighbour(scene) as host, counting(host, told=told) as answers:
        use(scene, host, Tool("hping3 -i u2000 -S -p ++40000 -c 50 {ip4}", statuses=(0, 1), least=50))
        try:
            wait_for("answers", lambda: answers()["told"], deadline_s=2)
        except LabError as error:
            raise Harmless("an unprotected laptop does not answer hping3") from error


ATTACKS: Final = (
    Attack(
        "B8",
        "nmap",
        "nmap: scans by SYN, ACK and UDP, and a guess at the system, over both families",
        _scan,
        _scanned,
        tries=1,
        many=3,
        service=0.95,
        brief=(Phase.CONNECTED,),
    ),
    Attack(
        "B1",
        "nmap",
        "nmap: scans of the tunnel's addresses by way of the laptop (CVE-2019-14899)",
        _scan_inside,
        _scanned_inside,
        tries=1,
        many=3,
        service=0.95,
        brief=(),
    ),
    Attack(
        "B6",
        "arping",
        "arping: who has the tunnel's address, asked of everybody and of the laptop",
        _who_has,
        _who_has_at_home,
        tries=1,
        service=0.95,
        brief=(),
    ),
    Attack(
        "A9",
        "arping",
        "arping: a neighbour says by gratuitous ARP that he is the router",
        _gratuitous,
        _believed,
        many=10,
        brief=(),
    ),
    Attack(
        "B4",
        "hping3",
        "hping3: floods with made-up senders, in a server's and in the gateway's name; ICMP redirects",
        tools(*_FLOODS),
        _flooded,
        tries=1,
        many=3,
        brief=(),
    ),
)

# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``aovpnctl explain`` says is what the kernel does: thousands of random destinations, in every phase.

The daemon is asked over its own socket. An ordinary user's program then sends a packet to each destination, and a table
of the test's, behind all of ours, notes by which link each of them went.
"""

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Final

import pytest

from aovpnd.core.way import By
from aovpnd.destinations import Destination
from tests.lab import plan
from tests.lab.process import wait_for
from tests.netns.protected import Protected

pytestmark = pytest.mark.root

EACH: Final = 350
"""Destinations per phase."""
SEED: Final = 20261125
CONNECTIONS: Final = 12
"""Questions that wait together are answered from one pass."""
BRIDGE: Final = "172.18.0.1/16"
OTHERS: Final = (
    "route add 10.99.0.0/16 via 192.168.10.9 dev wlan0",
    "route add default dev br0 table 77",
    "rule add pref 5 to 198.18.0.0/16 lookup 77",
    "rule add pref 6 to 198.19.0.0/16 unreachable",
)
"""Routes and rules of other programs."""

_SEEN: Final = """
add table inet seen
delete table inet seen
table inet seen {{
  set tcp4 {{ type ifname . ipv4_addr . inet_service; size 65535; flags dynamic; }}
  set udp4 {{ type ifname . ipv4_addr . inet_service; size 65535; flags dynamic; }}
  set icmp4 {{ type ifname . ipv4_addr; size 65535; flags dynamic; }}
  set tcp6 {{ type ifname . ipv6_addr . inet_service; size 65535; flags dynamic; }}
  set udp6 {{ type ifname . ipv6_addr . inet_service; size 65535; flags dynamic; }}
  set icmp6 {{ type ifname . ipv6_addr; size 65535; flags dynamic; }}
  chain c {{
    type filter hook postrouting priority 900;
    meta skuid != {uid} accept
    meta nfproto ipv4 meta l4proto tcp add @tcp4 {{ oifname . ip daddr . tcp dport }}
    meta nfproto ipv4 meta l4proto udp add @udp4 {{ oifname . ip daddr . udp dport }}
    icmp type echo-request add @icmp4 {{ oifname . ip daddr }}
    meta nfproto ipv6 meta l4proto tcp add @tcp6 {{ oifname . ip6 daddr . tcp dport }}
    meta nfproto ipv6 meta l4proto udp add @udp6 {{ oifname . ip6 daddr . udp dport }}
    icmpv6 type echo-request add @icmp6 {{ oifname . ip6 daddr }}
  }}
}}
"""


# -- where to ----------------------------------------------------------------------------------------------------------
def destinations(number: int, seed: object) -> list[Destination]:
    """So many different ones: half of them where rules and routes have something to say."""
    chance = random.Random(f"{SEED} {seed}")
    found: dict[str, Destination] = {}
    while len(found) < number:
        where, link = chance.choice(_PLACES)(chance)
        protocol = chance.choice(("tcp", "udp", "udp", "icmp"))
        port = None if protocol == "icmp" else chance.choice((*_PORTS, chance.randrange(1, 30000)))
        destination = Destination(where, port, protocol, link)
        found.setdefault(str(replace(destination, link="")), destination)
    return list(found.values())


_PORTS: Final = (53, 53, 853, 443, 80, 22, 67, 68, 123, 547, 5353, plan.GATEWAY_PORT)


def _four(prefix: str) -> Callable[[random.Random], tuple[IPv4Address, str]]:
    """Any address that begins so."""
    return lambda chance: (
        IPv4Address(".".join((prefix.split(".") + [str(chance.randrange(256)) for _ in range(4)])[:4])),
        "",
    )


def _six(prefix: str, *links: str) -> Callable[[random.Random], tuple[IPv6Address, str]]:
    """Any address that begins so, on one of these links."""
    return lambda chance: (
        IPv6Address(f"{prefix}:{chance.randrange(1, 65536):x}"),
        chance.choice(links) if links else "",
    )


def _one(*addresses: object) -> Callable[[random.Random], tuple[IPv4Address | IPv6Address, str]]:
    def pick(chance: random.Random) -> tuple[IPv4Address | IPv6Address, str]:
        text = str(chance.choice(addresses))
        return (IPv6Address(text) if ":" in text else IPv4Address(text)), ""

    return pick


def _anywhere4(chance: random.Random) -> tuple[IPv4Address, str]:
    return IPv4Address(chance.randrange(1 << 24, 224 << 24)), ""


def _anywhere6(chance: random.Random) -> tuple[IPv6Address, str]:
    return IPv6Address(chance.randrange(1 << 125, 1 << 126)), ""


_PLACES: Final[tuple[Callable[[random.Random], tuple[IPv4Address | IPv6Address, str]], ...]] = (
    *(_anywhere4, _anywhere6),
    *(_four(plan.HOME.lan4), _six(f"{plan.HOME.lan6}:"), _six("fe80:", "wlan0", "wlan0", "br0", "aovpn0")),
    *(_four("172.18"), _four("172.18.0"), _six("fd18:")),
    *(
        _four("10.66.0"),
        _four("10"),
        _four("169.254"),
        _four("127"),
        _four("240"),
        _four("198.18"),
        _four("198.19"),
        _four("10.99"),
        _six("fd66:"),
        _six("fd00:"),
    ),
    _one(*(f"{prefix}.255" for prefix in (plan.HOME.lan4, "172.18.255", "10.66.0")), "255.255.255.255", "::1"),
    _one(plan.GATEWAY4, plan.GATEWAY6, plan.GATEWAY_INSIDE4, plan.GATEWAY_INSIDE6, plan.TUNNEL4, plan.TUNNEL6),
    _one(
        plan.HOME.router4, plan.HOME.router6, plan.DNS4, plan.DNS6, plan.WEB4, plan.WEB6, plan.HOME.wan4, "172.18.0.1"
    ),
    _one("224.0.0.251", "239.255.255.250"),
    lambda chance: (IPv6Address(chance.choice(("ff02::fb", "ff02::1:3"))), chance.choice(("wlan0", "br0"))),
)


# -- what is said, and what happens ------------------------------------------------------------------------------------
def explained(laptop: Protected, where: list[Destination]) -> list[dict[str, Any]]:
    """What the daemon says of each."""
    path = laptop.lab.host.path("/run/aovpnd/control.sock")
    return asyncio.run(_ask(path, where))


async def _ask(path: Path, where: list[Destination]) -> list[dict[str, Any]]:
    answers: dict[int, dict[str, Any]] = {}
    todo = iter(list(enumerate(where)))

    async def client() -> None:
        reader, writer = await asyncio.open_unix_connection(path, limit=1 << 20)
        for number, destination in todo:
            request = {"v": 1, "command": "explain", "destination": str(destination)}
            writer.write(json.dumps(request).encode() + b"\n")
            answers[number] = json.loads(await reader.readline())
        writer.close()

    async with asyncio.timeout(60):
        await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    return [answers[number] for number in range(len(where))]


@dataclass(frozen=True, slots=True)
class Happened:
    """By which links a packet went (our table's view, behind everybody's rules), and what the program was told."""

    links: frozenset[str]
    errno: int


def happened(laptop: Protected, where: list[Destination]) -> list[Happened]:
    """Send to each, as an ordinary user."""
    host = laptop.lab.host
    host.nft(_SEEN.format(uid=plan.USER))
    request = json.dumps([(to.protocol, str(to.address), to.port, to.link) for to in where])
    sent = host.run(sys.executable, "-m", "tests.netns.many_destinations", stdin=request, uid=plan.USER)
    told: list[int] = json.loads(sent.stdout)
    seen: dict[tuple[str, ...], set[str]] = {}
    for item in json.loads(host.out("nft", "-nj", "list", "table", "inet", "seen"))["nftables"]:
        for element in item.get("set", {}).get("elem", []):
            link, *rest = (element.get("elem", {}).get("val", element))["concat"]
            seen.setdefault((item["set"]["name"][:-1], *map(str, rest)), set()).add(link)
    host.nft("delete table inet seen")
    return [Happened(frozenset(seen.get(_key(to), ())), error) for to, error in zip(where, told, strict=True)]


def _key(to: Destination) -> tuple[str, ...]:
    port = () if to.port is None else (str(to.port),)
    return (to.protocol, str(to.address), *port)


def disagreements(laptop: Protected, phase: str, fates: Counter[str], ways: Counter[str]) -> list[str]:
    """Each destination of whose packet the kernel did not do what was explained; how often which fate and which way
    came up is counted.
    """
    laptop.lab.wait_phase(phase)
    links = laptop.lab.host.links()
    where = [to for to in destinations(EACH, f"{phase} {len(fates)}") if not to.link or to.link in links]
    said, did = explained(laptop, where), happened(laptop, where)
    wrong = []
    for to, answer, result in zip(where, said, did, strict=True):
        data = answer["data"]
        fates[data["fate"]] += 1
        ways[data["stages"][0]["why"]] += 1
        expected = frozenset([data["link"]]) if data["passes"] else frozenset()
        # Of a TCP socket that does not wait, and of a ping to many, the kernel keeps the answer to itself.
        told = to.protocol != "udp" or (result.errno == 0) is data["passes"]
        if result.links != expected or not told:
            wrong.append(f"{phase}: {answer['text']}; the kernel: {sorted(result.links)}, errno {result.errno}")
    return wrong


# -- the phases --------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def laptop() -> Iterator[Protected]:
    """At home, with both families, and no tunnel yet."""
    with Protected.build(tunnel=False, control=False) as built:
        built.world.roam("home", ipv6=True)
        yield built


def _add_bridge(laptop: Protected) -> None:
    """A network of guests, as Docker makes one."""
    for words in ("link add br0 type bridge", "link add veth0 type veth peer name veth1", "link set veth0 master br0"):
        laptop.lab.host.ip(words)
    for words in (f"addr add {BRIDGE} dev br0", "addr add fd18::1/64 dev br0 nodad"):
        laptop.lab.host.ip(words)
    for link in ("veth0", "veth1", "br0"):
        laptop.lab.host.ip(f"link set {link} up")
    wait_for("a link-local address", lambda: laptop.lab.host.ip("-6 addr show dev br0 scope link -tentative"))
    wait_for("the route", lambda: "br0" in laptop.lab.host.ip("-6 route show table 24943"))


def test_kernel_does_what_is_explained(laptop: Protected) -> None:
    """Blocked, in a window, connecting, connected, beside guests, with the local network open, disconnected, unblocked:
    of every destination what was said is what happens, and every fate comes up.
    """
    fates: Counter[str] = Counter()
    ways: Counter[str] = Counter()
    wrong = disagreements(laptop, "blocked", fates, ways)
    laptop.lab.ctl("allow-temp", "2min")
    wrong += disagreements(laptop, "temporary-access", fates, ways)
    laptop.lab.ctl("allow-temp", "--cancel")

    laptop.gateway.off()
    laptop.lab.ctl("import", str(laptop.lab.host.dir / "tunnel.conf"), "--name", "office")
    laptop.lab.ctl("connect")
    wait_for("the tunnel's link", lambda: "aovpn0" in laptop.lab.host.ip("route show table 24943"))
    wrong += disagreements(laptop, "connecting", fates, ways)
    laptop.gateway.on()
    wait_for("the tunnel to work", laptop.works)
    wrong += disagreements(laptop, "connected", fates, ways)

    assert not ways[By.OTHERS.value], "so far there is nothing that our own reading of the routes does not explain"

    _add_bridge(laptop)
    for words in OTHERS:
        laptop.lab.host.ip(words)
    wrong += disagreements(laptop, "connected", fates, ways)
    laptop.lab.write_config("[lan]\nallow = true\n")
    laptop.lab.ctl("connect")
    wrong += disagreements(laptop, "connected", fates, ways)
    laptop.lab.ctl("disconnect")
    wrong += disagreements(laptop, "blocked", fates, ways)
    laptop.lab.ctl("allow-temp", "2min")
    wrong += disagreements(laptop, "temporary-access", fates, ways)
    laptop.lab.ctl("unblock")
    wrong += disagreements(laptop, "unblocked", fates, ways)

    assert not wrong, f"{len(wrong)} of {fates.total()}:\n" + "\n".join(wrong[:30])
    assert fates.total() > 3000
    assert ways[By.OTHERS.value] >= 20
    assert {fate for fate, count in fates.items() if count >= 5} >= {
        *("stays", "tunnel", "host-only", "lan", "temporary-access", "open", "unrouted", "refused"),
    }

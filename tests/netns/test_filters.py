# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters on a tunnel, with packets: what they name arrives at the tunnel's far end and is answered; everything else
in that tunnel arrives neither there nor outside. With WireGuard and with IKE, both families, without filters first.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

import pytest

from aovpnd import names
from tests.lab import plan
from tests.lab.host import Host
from tests.lab.ike import Way
from tests.lab.ike_client import account, install
from tests.lab.process import wait_for
from tests.netns.protected import ORDINARY, Protected

pytestmark = pytest.mark.root

OPEN, SHUT = 2222, 2223
"""Where the laptop serves something: what the filters let in, and what they do not."""
_BOTH: Final = f'["{plan.WEB4}", "{plan.WEB6}"]'
_INSIDE: Final = f'["{plan.GATEWAY_INSIDE4}", "{plan.GATEWAY_INSIDE6}"]'
FILTERS: Final = f"""
[[filter]]
tunnel = ["wg", "ike"]
addresses = {_BOTH}
protocol = "tcp"
ports = [80, "8000-8002"]

[[filter]]
tunnel = ["wg", "ike"]
addresses = "{plan.ECHO4}"
protocol = "udp"
ports = {plan.ECHO_PORT}

[[filter]]
tunnel = ["wg", "ike"]
protocol = "icmpv6"

[[filter]]
tunnel = ["wg", "ike"]
direction = "in"
addresses = {_INSIDE}
protocol = "tcp"
ports = {OPEN}
"""

_FAR: Final = """
add table inet far
delete table inet far
table inet far {
  set ported4 { type ipv4_addr . inet_proto . inet_service; size 4096; flags dynamic; }
  set ported6 { type ipv6_addr . inet_proto . inet_service; size 4096; flags dynamic; }
  set pinged4 { type ipv4_addr; size 4096; flags dynamic; }
  set pinged6 { type ipv6_addr; size 4096; flags dynamic; }
  chain c {
    type filter hook prerouting priority -310;
    iifname != { "wg0", "ipsec0" } accept
    meta l4proto { tcp, udp } ip saddr 10.66.0.0/24 add @ported4 { ip daddr . meta l4proto . th dport }
    meta l4proto { tcp, udp } ip6 saddr fd66::/64 add @ported6 { ip6 daddr . meta l4proto . th dport }
    icmp type echo-request add @pinged4 { ip daddr }
    icmpv6 type echo-request add @pinged6 { ip6 daddr }
  }
}
"""
"""What comes out of the tunnel at the gateway, before anything there looks at it."""
_HERE: Final = f"""
add table inet here
delete table inet here
table inet here {{
  set asked4 {{ type inet_service; size 64; flags dynamic; }}
  set asked6 {{ type inet_service; size 64; flags dynamic; }}
  chain c {{
    type filter hook input priority 900;
    iifname "aovpn*" meta protocol ip tcp dport {OPEN}-{SHUT} add @asked4 {{ tcp dport }}
    iifname "aovpn*" meta protocol ip6 tcp dport {OPEN}-{SHUT} add @asked6 {{ tcp dport }}
  }}
}}
"""
"""What our table lets in through the tunnel, whatever becomes of the answers."""


@dataclass(frozen=True, slots=True)
class To:
    """One packet's destination; ``port`` None: a ping."""

    protocol: str
    address: IPv4Address | IPv6Address
    port: int | None = None


_WEB: Final = (plan.WEB4, plan.WEB6)
PERMITTED: Final = frozenset(
    {
        *(To("tcp", web, port) for web in _WEB for port in (80, 8000, 8001, 8002)),
        To("udp", plan.ECHO4, plan.ECHO_PORT),
        *(To("icmp", address) for address in (plan.WEB6, plan.ECHO6)),
    }
)
REFUSED: Final = frozenset(
    {
        *(To("tcp", web, port) for web in _WEB for port in (79, 81, 443, 7999, 8003)),
        *(To("udp", web, port) for web in _WEB for port in (80, 8001)),
        *(To("tcp", echo, 80) for echo in (plan.ECHO4, plan.ECHO6)),
        *(To("udp", plan.ECHO6, plan.ECHO_PORT), To("udp", plan.ECHO4, plan.ECHO_PORT + 1)),
        *(To("icmp", address) for address in (plan.WEB4, plan.ECHO4)),
        *(To(protocol, plan.GATEWAY_INSIDE4, 53) for protocol in ("udp", "tcp")),
        *(To(protocol, plan.GATEWAY_INSIDE6, 53) for protocol in ("udp", "tcp")),
    }
)
EVERYBODY: Final = tuple(sorted(PERMITTED | REFUSED, key=str))


@pytest.fixture(scope="module")
def laptop() -> Iterator[Protected]:
    """At home, with a tunnel of each kind and two services of its own; no filter yet."""
    with Protected.build(links=("wlan0",), way=Way.PSK, tunnel=False, start=False) as built:
        built.lab.install_tunnel("wg")
        install(built.lab, account(built.world.ike, Way.PSK), "ike")
        set_filters(built, "", running=False)
        for port in (OPEN, SHUT):
            service = ("http.server", "--bind", "::", "--directory", "/run/lab-root/tmp", str(port))
            built.lab.host.spawn(sys.executable, "-m", *service, log=f"service{port}")
        built.lab.start_daemon()
        built.world.roam("home", ipv6=True)
        yield built


def set_filters(laptop: Protected, text: str, *, running: bool = True) -> None:
    """Write the settings, and have them read by a daemon that runs."""
    laptop.lab.write_config(f'[tunnel]\nprefer = "wg"\n{text}')
    pid = laptop.daemon_pid() if running else None
    if pid is not None:
        os.kill(pid, signal.SIGHUP)


def filters_are(laptop: Protected, state: str) -> None:
    """Wait until the kernel's table has filters, or has none."""
    has = {"loaded": True, "gone": False}[state]
    wait_for(f"filters to be {state}", lambda: ("filter 1 of the tunnel" in laptop.table("inet", names.TABLE)) is has)


def sent(laptop: Protected) -> dict[To, int]:
    """An ordinary user's program sends to everybody; what it was told (errno)."""
    request = json.dumps([(to.protocol, str(to.address), to.port, "") for to in EVERYBODY])
    told = laptop.lab.host.run(
        sys.executable, "-m", "tests.netns.many_destinations", stdin=request, uid=plan.USER
    ).stdout
    return dict(zip(EVERYBODY, json.loads(told), strict=True))


def arrived(laptop: Protected) -> frozenset[To]:
    """Whose packets came out of the tunnel at its far end, of those that were sent."""
    found: set[To] = set()
    for _, value in noted(laptop.gateway.host, "far"):
        if isinstance(value, str):
            found.add(To("icmp", ip_address(value)))
        else:
            address, protocol, port = value["concat"]
            found.add(To({6: "tcp", 17: "udp"}.get(protocol, protocol), ip_address(address), port))
    return frozenset(found) & frozenset(EVERYBODY)


def noted(host: Host, table: str) -> Iterator[tuple[str, Any]]:
    """The elements of the sets of a table, each with its set's name."""
    listing: dict[str, Any] = json.loads(host.out("nft", "-nj", "list", "table", "inet", table))
    for item in listing["nftables"]:
        for element in item.get("set", {}).get("elem", []):
            inner = element.get("elem", {}).get("val", element) if isinstance(element, dict) else element
            yield item["set"]["name"], inner


def asked(laptop: Protected) -> set[tuple[int, int]]:
    """Which of the laptop's services were asked through the tunnel: IP version and port."""
    return {(int(name[-1]), port) for name, port in noted(laptop.lab.host, "here")}


def served(laptop: Protected, timeout_s: float) -> set[tuple[int, int]]:
    """Which of the laptop's services answer those at the tunnel's far end: IP version and port."""
    found = set()
    for version, to, by in (
        (4, plan.TUNNEL4, plan.GATEWAY_INSIDE4),
        (6, f"[{plan.TUNNEL6}]", plan.GATEWAY_INSIDE6),
    ):
        for port in (OPEN, SHUT):
            ask = ("curl", "-sS", "-o", "/dev/null", "--max-time", f"{timeout_s:g}", "--interface", str(by))
            if laptop.gateway.host.run(*ask, f"http://{to}:{port}/", check=False).returncode == 0:
                found.add((version, port))
    return found


@pytest.mark.parametrize("tunnel", ["wg", "ike"])
def test_filters(laptop: Protected, tunnel: str) -> None:
    """Without filters everything arrives at the far end, and both services answer; with them, what they name, to the
    packet, and nothing of the rest outside either; without them again, everything.
    """
    laptop.lab.ctl("connect", tunnel, check=False)
    wait_for("the tunnel to work", laptop.works, poll_s=0.05, deadline_s=20)
    laptop.gateway.host.nft(_FAR)
    told = sent(laptop)
    wait_for("everything to arrive", lambda: arrived(laptop) == frozenset(EVERYBODY))
    assert set(told.values()) == {0}
    laptop.lab.host.nft(_HERE)
    wait_for("both services", lambda: len(served(laptop, 1)) == 4)
    assert len(asked(laptop)) == 4

    with laptop.nothing_leaves(ORDINARY) as watch:
        set_filters(laptop, FILTERS)
        filters_are(laptop, "loaded")
        laptop.gateway.host.nft(_FAR)
        told = sent(laptop)
        wait_for("what is permitted to arrive", lambda: arrived(laptop) >= PERMITTED)
        assert laptop.works()  # the web server answers, by both families
        laptop.lab.host.nft(_HERE)
        assert served(laptop, 0.5) == asked(laptop) == {(4, OPEN), (6, OPEN)}
        watch.everybody_tries()
        assert arrived(laptop) == PERMITTED
    refused = {to for to, error in told.items() if to.protocol == "udp" and error}
    assert refused == {to for to in REFUSED if to.protocol == "udp"}

    said = " ".join(laptop.lab.ctl("explain", f"{plan.WEB4}:81").stdout.split())
    assert f"refused at once: no filter of the tunnel {tunnel} lets it out" in said
    assert f"/etc/aovpnd/aovpnd.toml:4: filter.{tunnel} = out tcp" in said
    assert "dns-filtered" in laptop.problems()

    set_filters(laptop, "")
    filters_are(laptop, "gone")
    sent(laptop)
    wait_for("everything to arrive", lambda: arrived(laptop) == frozenset(EVERYBODY))


def test_a_filter_that_cannot_be_read(laptop: Protected) -> None:
    """The tunnels had none, and may have got one: neither is used, nothing leaves, and status says why."""
    with laptop.nothing_leaves(ORDINARY):
        set_filters(laptop, FILTERS.replace('"udp"', '"upd"'))
        laptop.lab.wait_phase("blocked")
        laptop.gateway.host.nft(_FAR)
        sent(laptop)
        assert "filters-unread" in laptop.problems()
        assert not arrived(laptop)

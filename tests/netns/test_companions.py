# SPDX-License-Identifier: GPL-3.0-or-later
"""Two tunnels at once, with packets: what each carries comes out at its own far end and at no other, whatever becomes
of either; and nothing leaves in clear. The companion is one of WireGuard, and one of IKE.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

import pytest

from tests.lab import plan
from tests.lab.ike import IkeGateway, Way
from tests.lab.ike_client import FAST, account, install
from tests.lab.process import wait_for
from tests.lab.sites import Gateway
from tests.netns.protected import ORDINARY, Protected

pytestmark = pytest.mark.root

SETTINGS: Final = """
[tunnel]
prefer = "office"
companions = "management"
"""
_SENDER: Final = """
import socket, sys
link, source, to = sys.argv[1:]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())
    sender.bind((source, 0))
    for _ in range(3):
        try:
            sender.sendto(b"across", (to, 7))
        except OSError:
            pass
"""
_FAR: Final = """
add table inet far
delete table inet far
table inet far {
  set from4 { type ipv4_addr; size 256; flags dynamic; }
  set to4 { type ipv4_addr; size 256; flags dynamic; }
  set to6 { type ipv6_addr; size 256; flags dynamic; }
  chain c {
    type filter hook prerouting priority -310;
    iifname != { "wg0", "ipsec0" } accept
    meta nfproto ipv4 add @from4 { ip saddr }
    meta nfproto ipv4 add @to4 { ip daddr }
    meta nfproto ipv6 add @to6 { ip6 daddr }
  }
}
"""
"""What comes out of a tunnel at its gateway, before anything there looks at it."""


@dataclass(slots=True)
class Pair:
    """A laptop with a tunnel for everything, and one beside it to a gateway of its own."""

    laptop: Protected
    office: Gateway
    management: Gateway | IkeGateway
    hosts: tuple[IPv4Address | IPv6Address, ...]
    """What the companion carries, and nobody but those at its far end answers."""

    @property
    def managed_hosts(self) -> set[str]:
        """The same, as nft writes them."""
        return set(map(str, self.hosts))

    @property
    def place(self) -> plan.Place:
        """Where the companion's gateway stands."""
        return self.management.place

    def beside(self) -> dict[str, Any]:
        """What status says of the companion."""
        tunnels = self.laptop.lab.status()["tunnels"]
        none = {"state": "down", "link": None}
        return next((tunnel for tunnel in tunnels if tunnel["name"] == "management"), none)

    def reaches(self, *addresses: object) -> bool:
        """Whether pings are answered."""
        ping = ("ping", "-c", "1", "-W", "1")
        return all(self.laptop.lab.host.run(*ping, str(a), check=False).returncode == 0 for a in addresses)

    def managed(self) -> bool:
        """Whether the companion is up, and its hosts answer, by both families."""
        return self.beside()["state"] == "connected" and self.reaches(*self.hosts)

    def both(self) -> bool:
        """Whether the other one carries the internet as well."""
        return self.laptop.works() and self.managed()

    def look(self) -> None:
        """Begin to note what comes out of either tunnel."""
        for gateway in (self.office, self.management):
            look_at(gateway)


def look_at(gateway: Gateway | IkeGateway) -> None:
    """Begin to note what comes out of a gateway's tunnel."""
    gateway.host.nft(_FAR)


def came_out(gateway: Gateway | IkeGateway, of: str = "to") -> set[str]:
    """Addresses to whom (``to``), or from whom (``from``), packets came out of a gateway's tunnel."""
    listing: dict[str, Any] = json.loads(gateway.host.out("nft", "-nj", "list", "table", "inet", "far"))
    sets = [item["set"] for item in listing["nftables"] if "set" in item and item["set"]["name"].startswith(of)]
    return {
        element.get("elem", {}).get("val", "") if isinstance(element, dict) else element
        for each in sets
        for element in each.get("elem", [])
    }


INTERNET: Final = {str(plan.WEB4), str(plan.WEB6)}


@pytest.fixture(scope="module", params=["wireguard", "ike"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Both up, at home."""
    way = Way.PSK if request.param == "ike" else None
    with Protected.build(way=way, tunnel=False, start=False) as laptop:
        world = laptop.world
        laptop.lab.install_tunnel("office")
        gateway: Gateway | IkeGateway
        hosts: tuple[IPv4Address | IPv6Address, ...]
        if request.param == "ike":
            gateway = world.another_ike_gateway()
            # kernel-libipsec serves only networks in which the gateway has an address itself (tests/lab/ike.py).
            hosts = (plan.ECHO4, gateway.place.inside4, gateway.place.inside6)
            networks = ("203.0.113.0/28", *map(str, hosts[1:]))
            where = (str(gateway.place.wan4),)
            given = account(gateway, Way.PSK, gateways=where, networks=networks, settings=FAST)
            install(laptop.lab, given, "management")
        else:
            gateway, conf = world.another_gateway()
            hosts = (plan.ECHO4, plan.ECHO6, gateway.place.inside4, gateway.place.inside6)
            conf = conf.replace("AllowedIPs = 0.0.0.0/0, ::/0", f"AllowedIPs = {', '.join(map(str, hosts))}")
            laptop.lab.install_tunnel("management", conf)
        laptop.lab.write_config(SETTINGS)
        laptop.lab.start_daemon()
        world.roam("home", ipv6=True)
        made = Pair(laptop, world.gateway, gateway, hosts)
        wait_for("both tunnels", made.both, deadline_s=30, poll_s=0.1)
        yield made


def test_each_carries_its_own(pair: Pair) -> None:
    """Everybody sends: what is for the companion's hosts comes out there alone, the internet's at the other."""
    with pair.laptop.nothing_leaves() as watch:
        pair.look()
        assert pair.both()
        watch.everybody_tries()
    found = pair.laptop.lab.status()
    assert found["phase"] == "connected"
    assert [(t["name"], t["role"]) for t in found["tunnels"]] == [("management", "companion"), ("office", "chosen")]
    assert came_out(pair.management) >= pair.managed_hosts
    assert not came_out(pair.management) & INTERNET
    assert came_out(pair.office) >= INTERNET
    assert not came_out(pair.office) & pair.managed_hosts
    said = " ".join(pair.laptop.lab.ctl("explain", str(plan.ECHO4)).stdout.split())
    assert "leaves through the tunnel management" in said
    shown = pair.laptop.lab.ctl("status").stdout
    assert "Beside it: management" in shown


def test_what_it_carries_is_closed_while_it_is_down(pair: Pair) -> None:
    """Its link is removed ten times under senders to its hosts: no packet of theirs comes out of the other tunnel."""
    wait_for("both tunnels", pair.both, deadline_s=30, poll_s=0.1)
    with pair.laptop.nothing_leaves(ORDINARY) as watch:
        pair.look()
        ping = pair.laptop.lab.host.spawn("ping", "-n", "-i", "0.01", str(plan.ECHO4), log="ping-management")
        try:
            for _ in range(10):
                link = pair.beside()["link"]
                pair.laptop.lab.host.run("ip", "link", "del", str(link), check=False)
                wait_for("the companion", lambda: pair.reaches(plan.ECHO4), deadline_s=30, poll_s=0.05)
        finally:
            ping.kill()
            ping.wait()
        watch.until("both tunnels", pair.both, deadline_s=30)
    assert str(plan.ECHO4) in came_out(pair.management)
    assert not came_out(pair.office) & pair.managed_hosts


def test_no_tunnel_shows_another_ones_address(pair: Pair) -> None:
    """A program that binds to one tunnel's address and sends by the other tunnel's link is heard at neither end."""
    if not isinstance(pair.management, Gateway):
        pytest.skip("charon's selectors name the addresses: nothing else goes into an SA")
    wait_for("both tunnels", pair.both, deadline_s=30, poll_s=0.1)
    # The gateway would take it: what is not seen there was not sent.
    key, place = pair.management.peer_public_key, pair.place
    allowed = f"{place.laptop4}/32,{place.laptop6}/128,{plan.TUNNEL4}/32"
    pair.management.host.run("wg", "set", "wg0", "peer", key, "allowed-ips", allowed)
    try:
        pair.look()
        link = str(pair.beside()["link"])
        for source in (plan.TUNNEL4, place.laptop4):
            pair.laptop.lab.host.run("python3", "-c", _SENDER, link, str(source), str(plan.ECHO4), uid=plan.RAW_USER)
        wait_for("the companion's own", lambda: str(place.laptop4) in came_out(pair.management, "from"))
        assert str(plan.TUNNEL4) not in came_out(pair.management, "from")
        _without_the_rule(pair)
        pair.laptop.lab.host.run("python3", "-c", _SENDER, link, str(plan.TUNNEL4), str(plan.ECHO4), uid=plan.RAW_USER)
        wait_for("what the rule stops", lambda: str(plan.TUNNEL4) in came_out(pair.management, "from"))
    finally:
        allowed = f"{place.laptop4}/32,{place.laptop6}/128"
        pair.management.host.run("wg", "set", "wg0", "peer", key, "allowed-ips", allowed)
        pair.laptop.lab.kill_daemon()
        wait_for("both tunnels", pair.both, deadline_s=30, poll_s=0.1)


def _without_the_rule(pair: Pair) -> None:
    """The control: while the daemon stands still, somebody takes out the rules that stop such a packet."""
    host = pair.laptop.lab.host
    (daemon,) = host.pids_of("aovpnd")
    host.run("kill", "-STOP", str(daemon))
    for chain in ("output", "postrouting"):
        listed = host.out("nft", "-a", "list", "chain", "inet", "aovpnd", chain).splitlines()
        rules = [line.rpartition(" ")[2] for line in listed if "another tunnel's address leaves" in line]
        assert rules
        for handle in rules:
            host.run("nft", "delete", "rule", "inet", "aovpnd", chain, "handle", handle)


def test_killed_and_off_the_network(pair: Pair) -> None:
    """The daemon dies, somebody flushes the ruleset, the network goes and comes: both tunnels are back each time."""
    wait_for("both tunnels", pair.both, deadline_s=30, poll_s=0.1)
    with pair.laptop.nothing_leaves() as watch:
        pair.look()
        pair.laptop.lab.kill_daemon()
        watch.until("both tunnels after the kill", pair.both, deadline_s=40)
        pair.laptop.lab.host.run("nft", "flush", "ruleset")
        watch.until("both tunnels after the flush", pair.both, deadline_s=40)
        pair.laptop.world.flap()
        watch.until("both tunnels on what may be another network", pair.both, deadline_s=40)
    assert not came_out(pair.office) & pair.managed_hosts
    assert not came_out(pair.management) & INTERNET


def test_disconnected(pair: Pair) -> None:
    """Who disconnects is blocked, and the machine is still managed; a window opens the internet, and its hosts are
    reached by the companion all the same.
    """
    wait_for("both tunnels", pair.both, deadline_s=30, poll_s=0.1)
    try:
        with pair.laptop.nothing_leaves() as watch:
            pair.laptop.lab.ctl("disconnect")
            watch.until("to be managed", pair.managed, deadline_s=30)
            assert pair.laptop.lab.status()["phase"] == "blocked"
            assert not pair.reaches(plan.WEB4)
        pair.look()
        pair.laptop.lab.ctl("allow-temp", "1min")
        wait_for("the window", lambda: pair.reaches(plan.WEB4, plan.ECHO4), deadline_s=20)
        assert pair.managed_hosts & came_out(pair.management)
        pair.laptop.lab.ctl("allow-temp", "--cancel")
    finally:
        pair.laptop.lab.ctl("connect")
    wait_for("both tunnels", pair.both, deadline_s=30, poll_s=0.1)


def test_a_gateway_that_is_off(pair: Pair) -> None:
    """Status says so, what it carries waits, and the other tunnel goes on; and it comes back by itself."""
    if not isinstance(pair.management, Gateway):
        pytest.skip("tests/netns/test_ike_life.py has gateways of IKE that go and come")
    wait_for("both tunnels", pair.both, deadline_s=30, poll_s=0.1)
    with pair.laptop.nothing_leaves(ORDINARY):
        pair.look()
        pair.management.off()
        pair.laptop.world.flap()  # it has to show itself anew
        wait_for("the problem", lambda: "companion-silent" in pair.laptop.problems(), deadline_s=60, poll_s=0.1)
        wait_for("the other one", pair.laptop.works, deadline_s=20)
        assert not pair.reaches(plan.ECHO4)
        pair.management.on()
        wait_for("both tunnels", pair.both, deadline_s=90, poll_s=0.2)
    assert not came_out(pair.office) & pair.managed_hosts

# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes into the tunnel is judged as well: nobody outside has a say in it, and nothing outside is told by it."""

import json
import sys
from collections.abc import Iterator
from typing import Final

import pytest

from tests.lab import plan
from tests.lab.frames import Kind
from tests.lab.process import wait_for
from tests.netns.protected import Protected, only

pytestmark = pytest.mark.root

_ERRORS: Final = (
    "icmp type { destination-unreachable, time-exceeded, parameter-problem }",
    "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem }",
)
_DHCP: Final = ("udp sport 68 udp dport 67",)
_METER: Final = """
table inet induced {{
  counter tried {{ }}
  counter left {{ }}
  chain before {{ type filter hook output priority -500; {tried}; }}
  chain behind {{ type filter hook postrouting priority 900; {left}; }}
}}
"""
"""Counts at the tunnel's link what the kernel sends, before all of our chains and behind them."""
_ASK: Final = """
import socket, struct
header = struct.pack("!HHHH", 68, 67, 17, 0)  # a client has the port already
socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP).sendto(header + b"a renewal", ("{server}", 0))
"""


@pytest.fixture(scope="module")
def laptop() -> Iterator[Protected]:
    """Connected at home, and one that forwards, as Docker and libvirt make it do."""
    with Protected.build() as built:
        built.connect("home")
        built.lab.host.sysctl(ipv4__icmp_ratelimit=0, ipv6__icmp__ratelimit=0, ipv4__ip_forward=1)
        built.lab.host.sysctl(ipv4__conf__all__rp_filter=0, ipv4__conf__wlan0__rp_filter=0)
        yield built


def meter(laptop: Protected, matches: tuple[str, ...]) -> None:
    """Begin to count."""
    laptop.lab.host.nft("add table inet induced; delete table inet induced")
    rules = {
        name: "; ".join(f'oifname "aovpn0" {match} counter name "{name}"' for match in matches)
        for name in ("tried", "left")
    }
    laptop.lab.host.nft(_METER.format(**rules))


def counted(laptop: Protected, name: str) -> int:
    """How many packets there were."""
    listed = json.loads(laptop.lab.host.out("nft", "--json", "list", "counter", "inet", "induced", name))
    return int(listed["nftables"][1]["counter"]["packets"])


def test_errors_that_neighbours_provoke(laptop: Protected) -> None:
    """The kernel would send them into the tunnel, to whom a neighbour has named; none of them gets there."""
    mac = laptop.lab.host.out("cat", "/sys/class/net/wlan0/address").strip()
    meter(laptop, _ERRORS)
    with laptop.nothing_leaves():
        laptop.world.home.host.out(sys.executable, "-m", "tests.netns.induce", "lan0", mac)
        wait_for("the kernel to try", lambda: counted(laptop, "tried"))

    assert counted(laptop, "left") == 0
    assert laptop.works()


def test_leases_are_not_asked_for_in_the_tunnel(laptop: Protected) -> None:
    """A client that renews by unicast is refused, as by any other link."""
    meter(laptop, _DHCP)
    laptop.lab.host.run(sys.executable, "-c", _ASK.format(server=plan.HOME.router4), check=False)

    assert counted(laptop, "tried") >= 1
    assert counted(laptop, "left") == 0


def test_local_network_that_covers_the_tunnels(laptop: Protected) -> None:
    """With the LAN open, a network that calls the tunnel's own numbers local gets nothing, and names go on."""
    laptop.lab.write_config("[lan]\nallow = true\n")
    laptop.lab.host.run("kill", "-HUP", str(laptop.daemon_pid()))
    laptop.lab.host.ip("addr add 10.66.0.77/16 dev wlan0")
    laptop.lab.host.ip("-6 addr add fd66::77/64 dev wlan0 nodad")
    try:
        codes = wait_for("the problem", lambda: [problem["code"] for problem in laptop.lab.status()["problems"]])
        assert set(codes) == {"lan-overlaps-tunnel"}
        with laptop.watch() as watch:
            for there in _COVERED:
                laptop.lab.host.run("python3", "-c", _SAY.format(there=there), uid=plan.USER)
            watch.everybody_tries()
            assert laptop.lab.curl(f"http://{plan.WEB_NAME}/ip", "-4").returncode == 0
        left = [frame.what for frame in watch.recording.clear()]
        assert not [what for what in left if any(there in what for there in _COVERED)]
    finally:
        for address in ("10.66.0.77/16", "fd66::77/64"):
            laptop.lab.host.run("ip", "addr", "del", address, "dev", "wlan0", check=False)
    wait_for("the problem to go", lambda: not laptop.lab.status()["problems"])
    assert only(laptop.lab.status(), "tunnels")["state"] == "connected"
    laptop.lab.write_config("")
    laptop.lab.host.run("kill", "-HUP", str(laptop.daemon_pid()))
    wait_for("the LAN to close", lambda: "the local network" not in laptop.table("inet", "aovpnd"))


_COVERED: Final = ("10.66.0.1", "10.66.5.5", "fd66::1")
_SAY: Final = """
import socket
family = socket.AF_INET6 if ":" in "{there}" else socket.AF_INET
socket.socket(family, socket.SOCK_DGRAM).sendto(b"meant for the tunnel", ("{there}", 40000))
"""


def test_who_asks_without_an_address(laptop: Protected) -> None:
    """An uplink that has lost its address asks for its neighbours in the name of any other link: not in the tunnel's,
    also when the daemon is dead.
    """
    host, nobody = laptop.lab.host, str(plan.HOME.router4 + 8)

    def asks() -> None:
        host.ip(f"neigh replace {nobody} dev wlan0 use")
        wait_for("the kernel to have asked in vain", lambda: "FAILED" in host.out("ip", "neigh", "show", nobody))
        host.ip(f"neigh del {nobody} dev wlan0")

    with laptop.nothing_leaves() as watch:
        asks()
    assert watch.recording.counts()[Kind.ARP] > 0, "no control: the kernel does not ask"

    host.ip("-4 addr flush dev wlan0")
    with laptop.nothing_leaves():
        asks()
    laptop.lab.kill_daemon()
    with laptop.nothing_leaves():
        asks()

# SPDX-License-Identifier: GPL-3.0-or-later
"""D7: what other programs keep in the kernel's tables is the same to the letter before, during and after our life, and
their own commands go on working.
"""

from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests.audits.neighbours import RECORDED, Neighbours, difference, theirs
from tests.audits.routing import start_tailscale
from tests.lab.process import wait_for
from tests.netns.protected import Protected

pytestmark = pytest.mark.root

_OWN: Final = """
table inet theirs {
  set s { type ipv4_addr; flags timeout; elements = { 192.0.2.1, 192.0.2.2 timeout 1h }; }
  map m { type mark : verdict; elements = { 0x2a000000 : accept, 0x40000000 : drop }; }
  chain input { type filter hook input priority 7; policy accept; ip saddr @s counter drop; }
  chain output { type route hook output priority 7; policy accept; meta mark vmap @m; }
}
table netdev theirs { chain c { type filter hook ingress device "wlan0" priority 3; policy accept; counter; }; }
table bridge theirs { chain c { type filter hook forward priority 0; policy accept; counter; }; }
table arp theirs { chain c { type filter hook output priority 0; policy accept; counter; }; }
"""
"""Every family, with what a listing may hold; marks that are ours among it."""
_ROUTES: Final = """
ip route add 198.18.0.0/15 dev lo proto 99
ip route add unreachable 198.51.100.0/24 metric 7
ip -6 route add 2001:db8:99::/48 dev lo table 100
ip rule add pref 300 to 198.18.0.0/15 lookup 100
ip -6 rule add pref 12 from 2001:db8:99::/48 lookup 100
"""


@pytest.fixture(scope="module")
def laptop() -> Iterator[Protected]:
    """One laptop for this file; its daemon is not started yet."""
    with Protected.build(links=("wlan0",), start=False, control=False) as built:
        built.lab.write_config('[temporary_access]\nwhile_connected = "pause"\n')
        yield built


def _furnish(laptop: Protected) -> Neighbours:
    """Everybody has moved in."""
    neighbours = Neighbours(laptop.lab.host)
    neighbours.start_firewalld()
    neighbours.run("firewall-cmd", "--zone=public", "--add-port=8080/tcp")
    neighbours.start_fail2ban()
    neighbours.run("fail2ban-client", "set", "sshd", "banip", "203.0.113.99")
    neighbours.restore((RECORDED / "docker.iptables").read_text(encoding="utf-8"))
    neighbours.restore((RECORDED / "libvirt.iptables").read_text(encoding="utf-8"), "--noflush")
    neighbours.iptables("-A INPUT -p tcp --dport 22 -j ACCEPT")
    laptop.lab.host.nft(_OWN)
    laptop.lab.host.run("sh", "-ec", _ROUTES)
    start_tailscale(neighbours)
    return neighbours


def _window(laptop: Protected) -> None:
    laptop.lab.ctl("allow-temp", "60s")
    laptop.lab.wait_phase("temporary-access")
    laptop.lab.ctl("allow-temp", "--cancel")
    laptop.lab.wait_phase("connected", "connecting")


def _kill(laptop: Protected) -> None:
    laptop.lab.kill_daemon()
    laptop.lab.kill_guard()
    wait_for("both to be back", laptop.protected, deadline_s=20, poll_s=0.05)


def _restart(laptop: Protected) -> None:
    laptop.lab.stop_daemon()
    laptop.lab.start_daemon()


def _flush_ours(laptop: Protected) -> None:
    laptop.lab.host.nft("delete table inet aovpnd; delete table netdev aovpnd_early")
    wait_for("our tables", lambda: laptop.table("inet", "aovpnd") and laptop.table("netdev", "aovpnd_early"))


LIFE: Final[dict[str, Callable[[Protected], object]]] = {
    "start": lambda laptop: laptop.lab.start_daemon(),
    "roam and connect": lambda laptop: laptop.connect(ipv6=True),
    "window": _window,
    "kill": _kill,
    "our tables removed": _flush_ours,
    "restart": _restart,
    "disconnect": lambda laptop: laptop.lab.ctl("disconnect"),
    "unblock": lambda laptop: laptop.lab.ctl("unblock"),
    "block": lambda laptop: laptop.lab.ctl("block"),
    "unblock again": lambda laptop: laptop.lab.ctl("unblock"),
    "stop": lambda laptop: laptop.lab.stop_daemon(),
}


def test_life_cycle(laptop: Protected) -> None:
    """Through every stage of our life theirs is theirs."""
    neighbours = _furnish(laptop)
    try:
        before = theirs(neighbours, "wlan0")
        for stage, live in LIFE.items():
            live(laptop)
            changed = difference(before, theirs(neighbours, "wlan0"))
            assert not changed, f"{stage}: {changed}"

        assert neighbours.run("fail2ban-client", "set", "sshd", "unbanip", "203.0.113.99").strip() == "1"
        neighbours.iptables("-D INPUT -p tcp --dport 22 -j ACCEPT")
        laptop.lab.host.nft("delete element inet theirs s { 192.0.2.1 }; delete table bridge theirs")
        told = difference(before, theirs(neighbours, "wlan0"))
        assert all(place in told for place in ("iptables-legacy-save", "ip6tables-nft-save", "nft inet theirs"))
        assert neighbours.run("firewall-cmd", "--reload").strip() == "success"
        assert neighbours.run("firewall-cmd", "--zone=public", "--query-port=8080/tcp", check=False).strip() == "no"
    finally:
        neighbours.leave()

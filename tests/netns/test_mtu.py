# SPDX-License-Identifier: GPL-3.0-or-later
"""A path that carries less than the uplink says: whatever ICMP tells or does not tell, pages load."""

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import plan
from tests.lab.frames import Kind
from tests.lab.host import Host
from tests.lab.process import SLOW, wait_for
from tests.lab.senders import new_token
from tests.netns.protected import Protected, counted

pytestmark = pytest.mark.root

MEGABYTE = 1 << 20
GUEST = """set -e
ip netns add guest
ip link add docker0 type bridge
ip addr add 172.17.0.1/16 dev docker0
ip link add veth0 type veth peer name eth0 netns guest
ip link set veth0 master docker0 up
ip link set docker0 up
echo 1 >/proc/sys/net/ipv4/ip_forward
ip -n guest link set eth0 up
ip -n guest addr add 172.17.0.2/16 dev eth0
ip -n guest route add default via 172.17.0.1
nft 'table ip guests { chain nat { type nat hook postrouting priority 100; ip saddr 172.17.0.0/16 masquerade; }; }'
"""
NO_GUEST = "ip link del docker0; ip netns del guest; nft delete table ip guests"
"""A container as Docker makes it, and its end."""
DEAF = """table inet deaf {
  chain output {
    type filter hook output priority 0; policy accept;
    icmp type destination-unreachable icmp code frag-needed drop
    icmpv6 type packet-too-big drop
  }
}
"""
"""A router that says nothing of packets that are too big: half of the internet's black holes."""
FULL = 1420
ONLY_IPV4 = {"Address": f"{plan.TUNNEL4}/32", "AllowedIPs": "0.0.0.0/0", "DNS": str(plan.GATEWAY_INSIDE4)}


@pytest.fixture(scope="module")
def laptop() -> Iterator[Protected]:
    """One world for this file, with a site that speaks TLS; the daemon runs, the laptop is off every network."""
    with Protected.build(control=False) as built:
        built.world.internet.spawn(
            *(sys.executable, "-m", "tests.netns.tls_site"),
            *(str(built.world.dir / file) for file in ("portal.pem", "portal.key")),
            log="tls",
        )
        yield built


def hop(laptop: Protected) -> tuple[tuple[Host, str], tuple[Host, str]]:
    """Both ends of the cable between the home's router and the internet."""
    return (laptop.world.home.host, "wan0"), (laptop.world.internet, "home")


def carries(laptop: Protected, size: int, *, deaf: bool) -> None:
    """Let the hop behind the router carry so much, and say so by ICMP or not."""
    for host, link in hop(laptop):
        host.run("nft", "delete", "table", "inet", "deaf", check=False)
        if deaf:
            host.nft(DEAF)
        host.ip(f"link set {link} mtu {size}")


def settle(laptop: Protected, conf: str) -> None:
    """Come home with this tunnel, over a path that nothing is known of."""
    laptop.world.unplug("wlan0")
    laptop.lab.install_tunnel(text=conf)
    laptop.lab.ctl("connect")
    laptop.world.roam("home", ipv6=True)
    laptop.lab.wait_phase("connected")


def conf_over(laptop: Protected, family: int, **changes: str) -> str:
    """The tunnel's file with its endpoint in this family."""
    address = f"[{plan.GATEWAY6}]" if family == 6 else str(plan.GATEWAY4)
    text = re.sub(r"(?m)^Endpoint = .*:", f"Endpoint = {address}:", laptop.lab.tunnel_conf)
    for key, value in changes.items():
        line = f"{key} = {value}\n"
        text, known = re.subn(rf"(?m)^{key} = .*\n", line, text)
        text = text if known else text.replace("[Interface]\n", f"[Interface]\n{line}")
    return text


def link_mtu(laptop: Protected) -> int:
    """The tunnel link's MTU."""
    return int(laptop.lab.host.path("/sys/class/net/aovpn0/mtu").read_text(encoding="ascii"))


def fetches(laptop: Protected, family: int, *, timeout_s: float = 8.0) -> int:
    """How much of a megabyte comes over TLS."""
    written = ("-o", "/dev/null", "-w", "%{size_download}")
    return int(_curl(laptop, family, f"/paced?bytes={MEGABYTE}", *written, timeout_s=timeout_s) or 0)


def sends(laptop: Protected, family: int) -> int:
    """How much of a megabyte goes over TLS."""
    upload = Path("/tmp/aovpnd-upload")  # noqa: S108 - the machine's own
    laptop.lab.host.path(str(upload)).write_bytes(bytes(MEGABYTE))
    return int(_curl(laptop, family, "/", "--data-binary", f"@{upload}", timeout_s=8.0) or 0)


def _where(laptop: Protected, family: int) -> tuple[str, ...]:
    web = f"[{plan.WEB6}]" if family == 6 else str(plan.WEB4)
    return ("--cacert", str(laptop.world.ca), "--resolve", f"{plan.PORTAL_NAME}:443:{web}")


def _curl(laptop: Protected, family: int, page: str, *options: str, timeout_s: float) -> str:
    where = _where(laptop, family)
    done = laptop.lab.curl(f"https://{plan.PORTAL_NAME}{page}", *where, *options, timeout_s=timeout_s)
    return done.stdout.strip()


def assert_loads(laptop: Protected, *families: int) -> None:
    """A megabyte goes and comes."""
    assert [fetches(laptop, family) for family in families] == [MEGABYTE] * len(families)
    assert [sends(laptop, family) for family in families] == [MEGABYTE] * len(families)


def test_idle_says_nothing(laptop: Protected) -> None:
    """While no program sends, nothing is measured; one that does makes a packet of full size or a few, and no more."""
    carries(laptop, 1500, deaf=False)
    with laptop.world.record() as recorder:
        settle(laptop, conf_over(laptop, 4))
        quiet_until = time.time() + 3
        wait_for("nothing to happen", lambda: time.time() > quiet_until)
        for _ in range(5):
            assert laptop.address_outside(4) == str(plan.GATEWAY4)
        spoke = time.time()
        wait_for("some time", lambda: time.time() > spoke + 2.5)
    frames = [frame for frame in recorder.recording(new_token()).frames if frame.length >= 1400]
    assert not [frame for frame in frames if frame.time < quiet_until]
    assert 1 <= len(frames) <= 8, frames  # an echo and a query to either server; once more on a slow machine


@pytest.mark.parametrize("outer", [4, 6])
def test_black_hole(laptop: Protected, outer: int) -> None:
    """Path MTU 1300 and not a word of ICMP: once a program has sent something, a megabyte over TLS loads, both ways and
    over both families. With the MTU fixed in the file, as a control, it hangs. Nothing leaves in clear meanwhile.
    """
    carries(laptop, 1300, deaf=True)
    settle(laptop, conf_over(laptop, outer, MTU=str(FULL)))
    assert fetches(laptop, 4, timeout_s=2) < MEGABYTE
    assert link_mtu(laptop) == FULL

    with laptop.world.record() as recorder:
        settle(laptop, conf_over(laptop, outer))
        began = time.monotonic()
        fetches(laptop, 4, timeout_s=1)
        wait_for("the daemon to find it", lambda: "path-mtu" in laptop.problems(), deadline_s=10)
        took = time.monotonic() - began
        assert_loads(laptop, 4, 6)
        assert link_mtu(laptop) == 1280
        passes = (1300 - (60 if outer == 4 else 80)) // 16 * 16
        assert f"more than {passes} bytes get lost" in laptop.problems()["path-mtu"]
    recording = recorder.recording(new_token())
    assert not recording.clear(), recording.describe()
    assert counted(recording, Kind.TUNNEL) > 2 * MEGABYTE / 1300
    assert took < 8 * SLOW, took


def test_a_tunnel_without_ipv6_uses_less(laptop: Protected) -> None:
    """Where no IPv6 has to fit, the link itself takes what passes; and in a network that carries all, all again."""
    carries(laptop, 1300, deaf=True)
    settle(laptop, conf_over(laptop, 4, **ONLY_IPV4))
    assert link_mtu(laptop) == FULL
    fetches(laptop, 4, timeout_s=1)
    wait_for("the daemon to find it", lambda: link_mtu(laptop) == 1232, deadline_s=10)
    assert_loads(laptop, 4)

    carries(laptop, 1500, deaf=False)
    settle(laptop, conf_over(laptop, 4, **ONLY_IPV4))
    wait_for("the full size", lambda: link_mtu(laptop) == FULL)
    assert_loads(laptop, 4)
    assert link_mtu(laptop) == FULL
    assert "path-mtu" not in laptop.problems()


def test_guests_are_held_to_it(laptop: Protected) -> None:
    """A container, whose own link says 1500, hangs until the black hole is found (which may be at once), and then
    loads; with the MTU fixed in the file, as a control, it hangs.
    """
    page = f"https://{plan.PORTAL_NAME}/paced?bytes={MEGABYTE}"
    written = (*_where(laptop, 4), "-o", "/dev/null", "-w", "%{size_download}", page)

    def fetched(timeout_s: int) -> int:
        words = ("ip", "netns", "exec", "guest", "curl", "-sS", "--max-time", str(timeout_s), *written)
        return int(laptop.lab.host.run(*words, check=False).stdout.strip() or 0)

    carries(laptop, 1300, deaf=True)
    laptop.lab.host.run("sh", "-c", GUEST)
    try:
        settle(laptop, conf_over(laptop, 4, MTU=str(FULL)))
        assert fetched(2) < MEGABYTE

        settle(laptop, conf_over(laptop, 4))
        fetched(1)
        wait_for("the daemon to find it", lambda: "path-mtu" in laptop.problems())
        assert fetched(8) == MEGABYTE
    finally:
        laptop.lab.host.run("sh", "-c", NO_GUEST)


@pytest.mark.parametrize(("outer", "mtu"), [(4, 1340), (6, 1320)])
def test_icmp_is_heard(laptop: Protected, outer: int, mtu: int) -> None:
    """A router that says what it carries is believed, without a word of a black hole."""
    carries(laptop, 1400, deaf=False)
    settle(laptop, conf_over(laptop, outer))
    fetches(laptop, 4, timeout_s=1)
    wait_for("the tunnel's link to fit", lambda: link_mtu(laptop) == mtu, deadline_s=10)
    assert_loads(laptop, 4)
    assert "path-mtu" not in laptop.problems()


def test_the_uplink_is_heard(laptop: Protected) -> None:
    """What a route says, as router advertisements make routes say it, and what the link says, before any packet."""
    carries(laptop, 1500, deaf=False)
    settle(laptop, conf_over(laptop, 4))
    default = laptop.lab.host.ip("route show default").splitlines()[0].strip()
    laptop.lab.host.ip(f"route replace {default} mtu 1450")
    wait_for("the route to be heard", lambda: link_mtu(laptop) == 1370)
    laptop.lab.host.ip("link set wlan0 mtu 1400")
    try:
        wait_for("the link to be heard", lambda: link_mtu(laptop) == 1320)
    finally:
        laptop.lab.host.ip("link set wlan0 mtu 1500")
    wait_for("the link to be heard", lambda: link_mtu(laptop) == 1370)

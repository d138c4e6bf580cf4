# SPDX-License-Identifier: GPL-3.0-or-later
"""Other programs, administrators and accidents pull at what holds the block: it stands, is repaired, says who it was.

Every test has senders of all kinds on the laptop and a recorder on the far side; the senders were seen, unprotected,
before the first test (`Protected.positive_control`).
"""

import re
import time
from collections.abc import Callable, Iterator

import pytest

from tests.lab import plan
from tests.lab.frames import CARRIED, Kind
from tests.lab.host import Host
from tests.lab.process import wait_for
from tests.lab.sender_kinds import KINDS
from tests.netns.protected import JUDGED, ORDINARY, PACKET, Protected, names_of, of_wireguard, only

pytestmark = pytest.mark.root

_HOOKED = tuple(kind for kind in KINDS if kind.name in {"udp4", "udp6", "tcp4", "tcp6", "raw4", "dns4"})


@pytest.fixture(scope="module")
def laptop() -> Iterator[Protected]:
    """One world for this file."""
    with Protected.build() as built:
        yield built


@pytest.fixture(autouse=True)
def connected(laptop: Protected) -> Iterator[None]:
    """Each test begins connected at home, and what it left behind goes."""
    laptop.connect()
    yield
    laptop.lab.host.run("sh", "-c", _CLEAN_UP)
    laptop.world.detach("eth0")


_CLEAN_UP = """
for link in aovpn0 aovpn1; do
  case "$(ip -d link show $link)" in
  *" macvlan "*) ip link del $link ;;
  *" veth "*) ip link set $link down; ip link set $link name eth0 ;;
  esac
done
nft delete table inet tool
for link in vpn9 top0 port0; do ip link del $link; done
true
"""


# -- the ruleset -------------------------------------------------------------------------------------------------------
def test_guards_tables_cannot_be_removed(laptop: Protected) -> None:
    """The guard's tables belong to its socket: a flush leaves them out, and nobody else may delete them."""
    tables = [("inet", "aovpnd_guard"), ("netdev", "aovpnd_guard")]
    before = [laptop.table(*table) for table in tables]
    laptop.lab.host.run("nft", "flush", "ruleset")
    refused = [laptop.lab.host.run("nft", "delete", "table", *table, check=False) for table in tables]

    assert all(before)
    assert [laptop.table(*table) for table in tables] == before
    assert [bool(answer.returncode) for answer in refused] == [True, True]


# -- the tunnel, routes and rules --------------------------------------------------------------------------------------
def _ip(*lines: str) -> Callable[[Protected], None]:
    def harm(laptop: Protected) -> None:
        for line in lines:
            laptop.lab.host.ip(line)

    return harm


HARMS: dict[str, Callable[[Protected], None]] = {
    "the main table's route deleted": _ip("route del default"),
    "the uplink's addresses flushed": _ip("addr flush dev wlan0 scope global"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_harm_to_the_tunnel(laptop: Protected, harm: str) -> None:
    """Nothing leaves when what the tunnel stands on is taken away, and it is made good again; the tunnel itself is
    harmed in tests/audits (D5).
    """
    with laptop.nothing_leaves() as watch:
        HARMS[harm](laptop)
        watch.everybody_tries()  # only the DHCP client could mend it
        laptop.world.roam("home")
        watch.until("the tunnel to work", laptop.works)


@of_wireguard("wg set")
@pytest.mark.parametrize(
    "words", ["fwmark 0", "peer {peer} remove", "peer {peer} endpoint 203.0.113.80:40000", "private-key /dev/null"]
)
def test_harm_to_the_device(laptop: Protected, words: str) -> None:
    """``wg set`` by somebody else is announced by nobody; nothing leaves, and the next look mends it."""
    peer = laptop.lab.host.out("wg", "show", "aovpn0", "peers").strip()
    with laptop.nothing_leaves() as watch:
        laptop.lab.host.run("wg", "set", "aovpn0", *words.format(peer=peer).split())
        watch.everybody_tries()
        laptop.world.flap("wlan0")
        watch.until("the tunnel to work", laptop.works)


# -- links that are called like the tunnel -----------------------------------------------------------------------------
def _card(host: Host, name: str) -> None:
    host.ip("link set eth0 down")
    host.ip(f"link set eth0 name {name}")
    host.ip(f"link set {name} up")


@pytest.mark.parametrize("moment", ["before", "while", "after"])
def test_impostors(laptop: Protected, moment: str) -> None:
    """A renamed card that is called like the tunnel: before it is made, beside it, and in its place: its name opens
    nothing (facts T3), and the tunnel is made under another one. Links of other kinds: tests/audits (D4).
    """
    host = laptop.lab.host
    tunnel = only(laptop.lab.status(), "tunnels")["link"]
    name = {"before": "aovpn0", "while": "aovpn1" if tunnel == "aovpn0" else "aovpn0", "after": tunnel}[moment]
    laptop.world.attach("eth0", "home")
    host.sysctl(ipv6__conf__eth0__disable_ipv6=0)
    with laptop.watch(link=name) as watch:
        if moment == "before":
            laptop.lab.ctl("disconnect")
            wait_for("the tunnel to go", lambda: tunnel not in host.links())
            _card(host, name)
        elif moment == "while":
            _card(host, name)
        else:
            # The daemon may be quicker in making its link again; then once more.
            swap = f"ip link del {name}; {_as_script(name)} && exit 0"
            host.run("sh", "-c", f"for turn in 1 2 3 4 5 6 7 8 9; do {swap}; done; exit 1")
        wait_for("the guard's chain", lambda: f'"{name}"' in laptop.table("netdev", "aovpnd_guard"))
        attached = time.time()
        watch.everybody_tries()
        if moment == "before":
            laptop.lab.ctl("connect")
        watch.until("the tunnel to work", laptop.works)
        assert name in host.links()
        assert only(laptop.lab.status(), "tunnels")["link"] not in {name, None}
    watch.assert_silence(start=attached)
    # From Linux 6.16 on an egress chain belongs to the name, so a renamed card has none for a moment.
    assert watch.seen(end=attached) <= names_of(PACKET)


def _as_script(name: str) -> str:
    """The same as `_card` without a moment between the commands."""
    return f"ip link set eth0 down; ip link set eth0 name {name} && ip link set {name} up"


# -- links that come ---------------------------------------------------------------------------------------------------
def test_hot_plugged_card(laptop: Protected) -> None:
    """A card that appears, is set up in the next moment and finds DHCP and router advertisements waiting: nothing but
    link set-up leaves by it, whoever binds to it; then it is an uplink like others.
    """
    world, host = laptop.world, laptop.lab.host
    world.air.ip("link add usb0 type veth peer name usb0-far")
    world.air.ip("link set usb0 master br-cafe up")
    world.links.append("usb0")
    world.cafe.forget_logins()
    try:
        with laptop.watch(link="usb0", rate=100) as watch:
            world.air.ip(f"link set usb0-far name usb0 netns {host.holder.pid}")
            host.ip("link set usb0 up")
            wait_for("the guard's chain", lambda: '"usb0"' in laptop.table("netdev", "aovpnd_guard"))
            attached = time.time()
            laptop.lab.join("usb0")
            laptop.lab.wait_online("usb0", ipv6=True)
            watch.until(
                "two uplinks", lambda: {each["link"] for each in laptop.lab.status()["uplinks"]} == {"wlan0", "usb0"}
            )
            watch.everybody_tries()
    finally:
        world.remove_link("usb0")
    watch.assert_silence(start=attached)
    assert watch.seen(end=attached) <= names_of(PACKET)  # docs/known-issues.md, "A link that appears"

    assert watch.recording.counts()[Kind.DHCP4] >= 2


def test_second_uplink(laptop: Protected) -> None:
    """With a cable beside the Wi-Fi nothing in clear leaves by either; the tunnel moves to the better one, and back."""
    with laptop.nothing_leaves() as watch:
        laptop.world.plug("home")
        watch.until("the cable", lambda: laptop.lab.status()["uplinks"][0]["link"] == "eth0")
        watch.until("the tunnel to work", laptop.works)
        laptop.world.unplug("eth0")
        watch.until("the tunnel to work", laptop.works)
    kinds = {(frame.link, frame.kind) for frame in watch.recording.frames}

    assert {("eth0", kind) for kind in CARRIED} & kinds
    assert {("wlan0", kind) for kind in CARRIED} & kinds


@pytest.mark.parametrize(
    "commands",
    [
        pytest.param("ip link add link wlan0 name top0 type macvlan mode private", id="macvlan"),
        pytest.param(
            "ip link set eth0 up; ip link add link eth0 name port0 type macvlan mode passthru;"
            "ip link add top0 type bridge; ip link set port0 master top0 up",
            id="bridge with the card as its port",
        ),
    ],
)
def test_links_upon_links(laptop: Protected, commands: str) -> None:
    """What is stacked on a card, or takes it in, is outside too."""
    host = laptop.lab.host
    laptop.world.attach("eth0", "home")
    with laptop.nothing_leaves(link="top0", rate=100) as watch:
        host.run("sh", "-ec", f"{commands}; ip link set top0 up; ip addr add 192.168.10.99/24 dev top0")
        watch.until("the tunnel to work", laptop.works)
        host.run("sh", "-c", "ip link del top0; ip link del port0 2>/dev/null; true")
    laptop.world.detach("eth0")


# -- what the kernel is told to do -------------------------------------------------------------------------------------
def test_ipv6_switched_off_and_on(laptop: Protected) -> None:
    """IPv6 disabled everywhere breaks nothing and opens nothing, nor does its return (the PureVPN leak)."""
    host = laptop.lab.host
    four = tuple(kind for kind in JUDGED if "6" not in kind.name)
    with laptop.nothing_leaves(four) as watch:
        host.sysctl(ipv6__conf__all__disable_ipv6=1)
        watch.until("IPv4 to work", lambda: laptop.address_outside(4) == str(plan.GATEWAY4))
        assert laptop.lab.status()["protected"]
        laptop.lab.kill_daemon()
        watch.until("IPv4 to work", lambda: laptop.address_outside(4) == str(plan.GATEWAY4) and laptop.protected())
    with laptop.nothing_leaves() as watch:
        host.sysctl(ipv6__conf__all__disable_ipv6=0)
        watch.until("both to work", laptop.works)


_BENT = (
    'chain seen { type filter hook postrouting priority 0; oifname "wlan0" udp dport { 53, 40000 } counter name bent; }'
)
HOOKS = {
    "re-mark and re-route (T6)": "inet tool { counter bent {}; chain c { type route hook output priority 100;"
    f" meta mark set 0x2a000000; }}; {_BENT}; }}",
    "re-mark before our filter": "inet tool { counter bent {}; chain c { type route hook output priority -150;"
    f" meta mark set 0x2a000000; }}; {_BENT}; }}",
    "the stamp before the last look": "inet tool { counter bent {}; chain c { type route hook output priority 100;"
    f" meta mark set 0x6a000000; }}; {_BENT}; }}",
}


@pytest.mark.parametrize("hook", HOOKS)
def test_our_own_mark_given_by_another_tool(laptop: Protected, hook: str) -> None:
    """A tool's own chain that gives everything our mark behind our filter leads past our route table, and no further
    than the last look, which judges the link by which packets really leave (facts T6). Other hooks: tests/audits.
    """
    host = laptop.lab.host
    with laptop.nothing_leaves(_HOOKED) as watch:
        host.nft(f"table {HOOKS[hook]}")
        watch.everybody_tries()
        bent = host.out("nft", "list", "counter", "inet", "tool", "bent")
        host.nft("delete table inet tool")
        watch.until("the tunnel to work", laptop.works)

    # Packets did turn to the card, or this test would prove nothing.
    assert re.search(r"packets [1-9]", bent), bent


def test_redirect_by_tc(laptop: Protected) -> None:
    """An administrator's redirect behind the tunnel's own hooks gets its packets out, bare of any frame, as
    docs/known-issues.md says; they end with it.
    """
    host, link = laptop.lab.host, only(laptop.lab.status(), "tunnels")["link"]
    with laptop.watch(ORDINARY) as watch:
        redirect = "protocol all u32 match u32 0 0 action mirred egress redirect dev wlan0"
        host.run("sh", "-ec", f"tc qdisc add dev {link} clsact; tc filter add dev {link} egress {redirect}")
        watch.everybody_tries()
        host.run("tc", "qdisc", "del", "dev", link, "clsact")
        closed = time.time()
        watch.until("the tunnel to work", laptop.works)
    watch.assert_silence(start=closed)

    assert watch.recording.clear(end=closed)


def test_unreadable_names_of_links(laptop: Protected) -> None:
    """A link with a name that cannot be written into a rule stays outside, gets nothing, and is reported."""
    host = laptop.lab.host
    name = 'x"{flush;'
    host.run("ip", "link", "add", "link", "wlan0", "name", name, "type", "macvlan", "mode", "private")
    with laptop.nothing_leaves(tuple(kind for kind in JUDGED if not kind.needs_net_raw), link=name) as watch:
        host.run("ip", "link", "set", name, "up")
        watch.until("the report", lambda: "link-unnameable" in laptop.problems())
    host.run("ip", "link", "del", name)

    assert laptop.works()


def test_time_to_heal(laptop: Protected) -> None:
    """A flush is healed by itself, and it is printed how long that took: some milliseconds on a quiet machine."""
    laptop.lab.host.run("nft", "flush", "ruleset")
    flushed = time.monotonic()
    wait_for("the table", lambda: laptop.table("inet", "aovpnd"), deadline_s=5)
    print(f"healed {time.monotonic() - flushed:.3f} s after the flush")

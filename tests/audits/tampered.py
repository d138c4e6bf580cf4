# SPDX-License-Identifier: GPL-3.0-or-later
"""The tunnel's parts taken away, and links that are called like it (D4, D5)."""

import itertools
import re
from collections.abc import Callable
from typing import Final

from tests.audits.attack import Attack, Phase
from tests.audits.programs import go, start_with
from tests.audits.scene import Scene
from tests.lab.process import LabError, wait_for
from tests.lab.senders import new_token


# -- D5: what the tunnel is made of ------------------------------------------------------------------------------------
def _ip(*lines: str) -> Callable[[Scene], None]:
    def harm(scene: Scene) -> None:
        link = tunnel(scene)
        for line in lines:
            scene.host.ip(line.replace("TUN", link))

    return harm


def tunnel(scene: Scene) -> str:
    """The name of the tunnel's link; the one that it would have, where there is none."""
    (item,) = scene.laptop.lab.status()["tunnels"] or [{"link": None}]
    return item["link"] or "aovpn0"


def _kill(scene: Scene) -> None:
    scene.laptop.lab.kill("wireguard-go" if scene.laptop.way is None else "charon-systemd")


def _moved(scene: Scene) -> None:
    """Into another namespace, whose processes could use it there, and back."""
    link = tunnel(scene)
    script = (
        f"ip netns add elsewhere; ip link set {link} netns elsewhere; ip -n elsewhere link set {link} up;"
        f" ip -n elsewhere link set {link} netns 1 || true; ip netns del elsewhere"
    )
    scene.host.run("sh", "-c", script)


HARMS: Final[dict[str, Callable[[Scene], None]]] = {
    "process killed": _kill,
    "link deleted": _ip("link del TUN"),
    "link set down": _ip("link set TUN down"),
    "link renamed": _ip("link set TUN down", "link set TUN name vpn9", "link set vpn9 up"),
    "link moved to another namespace": _moved,
    "addresses flushed": _ip("addr flush dev TUN"),
    "another address": _ip("addr add 10.99.0.1/24 dev TUN"),
    "our routes flushed": _ip("route flush table 24943", "-6 route flush table 24943"),
    "our default replaced": _ip("route replace default via 192.168.10.1 dev wlan0 table 24943 metric 50"),
    "a better default in our table": _ip("route add default via 192.168.10.1 dev wlan0 table 24943 metric 1"),
    "half of the world in our table": _ip("route add 128.0.0.0/1 via 192.168.10.1 dev wlan0 table 24943"),
    "our rules deleted": _ip("rule del pref 10", "-6 rule del pref 10", "-6 rule del pref 11"),
}


def _harm_all(scene: Scene, count: int) -> None:
    """Each in turn, and each time it is made good again within two seconds on a quiet machine."""
    for _, (name, harm) in itertools.product(range(count), HARMS.items()):
        harm(scene)
        wait_for(f"the tunnel to work after: {name}", scene.laptop.works, poll_s=0.02, deadline_s=20)
        scene.host.run("ip", "link", "del", "vpn9", check=False)


# -- D4: names ---------------------------------------------------------------------------------------------------------
KINDS: Final = {
    "dummy": "type dummy",
    "bridge": "type bridge",
    "veth": "type veth peer name peer9",
    "macvlan": "link wlan0 type macvlan mode bridge",
    "macvtap": "link wlan0 type macvtap mode bridge",
    "ipvlan": "link wlan0 type ipvlan mode l2",
    "vlan": "link wlan0 type vlan id 5",
    "wireguard": "type wireguard",
    "vxlan": "type vxlan id 5 remote 192.168.10.1 dev wlan0 dstport 4789",
    "geneve": "type geneve id 5 remote 192.168.10.1",
    "ipip": "type ipip local any remote 192.168.10.1",
    "gre": "type gre local any remote 192.168.10.1",
    "sit": "type sit local any remote 192.168.10.1",
    "ifb": "type ifb",
    "bond": "type bond",
    "team": "type team",
    "vrf": "type vrf table 77",
    "tun": "tun",
    "tap": "tap",
}
"""Link kinds, and how ip-link(8) makes one. No kernel need have all."""
LEAST_KINDS: Final = 8
_MADE: Final = """
ip link set {name} up; ip addr add 192.168.10.99/24 dev {name}; ip route add default dev {name} metric 1; true
"""
_UNKNOWN: Final = re.compile(
    "Unknown device type|not supported|Operation not supported|does not exist|File exists|Device or resource busy"
)
"""Also when the daemon has made its own link again in the meantime."""


def make_link(scene: Scene, name: str, kind: str) -> bool:
    """Make a link of this kind, up and with a default route; False when the kernel knows no such kind."""
    words = KINDS[kind]
    first = f"ip tuntap add {name} mode {words}" if words in {"tun", "tap"} else f"ip link add {name} {words}"
    done = scene.host.run("sh", "-c", first.replace(f"{name} link wlan0", f"link wlan0 name {name}"), check=False)
    if done.returncode:
        assert _UNKNOWN.search(done.stderr), done.stderr
        return False
    scene.host.run("sh", "-c", _MADE.format(name=name))
    return True


def _real(scene: Scene) -> str:
    """The name of the tunnel's link, or that it would have; nothing while status tells of one that has gone."""
    name = tunnel(scene)
    return name if scene.phase is not Phase.CONNECTED or name in scene.host.links() else ""


def _impostors(scene: Scene, count: int) -> None:
    """Beside the tunnel, and in its place as soon as it is deleted: a link of each kind that has its name, and a
    program that sends by it.
    """
    made: set[str] = set()
    for kind in itertools.islice(itertools.cycle(KINDS), count):
        real = wait_for("the tunnel's link", lambda: _real(scene), deadline_s=20)
        name = {"aovpn0": "aovpn1"}.get(real, "aovpn0")
        if scene.phase is Phase.BLOCKED:
            name = "aovpn0"
        elif scene.phase is Phase.CONNECTED and len(made) % 2:
            scene.host.run("ip", "link", "del", real, check=False)  # the daemon may be quicker: then beside it
            name = real if real not in scene.host.links() else name
        if name in scene.host.links() or not make_link(scene, name, kind):
            continue
        token = scene.watch.senders.token if scene.watch is not None else new_token()
        try:
            go(start_with(scene, token, ("programs",), 1, net_raw=False, link=name))
        except LabError:
            if name in scene.host.links():
                raise
            continue  # the daemon took it for what is left of a tunnel of its own, and away
        made.add(kind)
        scene.host.run("ip", "link", "del", name, check=False)
        if scene.phase is Phase.CONNECTED:
            wait_for("the tunnel to work", scene.laptop.works, poll_s=0.05, deadline_s=20)
    assert len(made) >= min(LEAST_KINDS, count // 3), made


ATTACKS: Final = (
    Attack(
        "D5",
        "tunnel-harmed",
        "the tunnel's process, link, addresses, routes and rules taken away or bent, and made good again",
        _harm_all,
        tries=1,
        many=20,
        phases=(Phase.CONNECTED,),
    ),
    Attack(
        "D4",
        "impostors",
        "links of ten kinds that are called like the tunnel, before it, beside it and in its place (T3)",
        _impostors,
        tries=len(KINDS),
        many=4 * len(KINDS),
        phases=(Phase.BLOCKED, Phase.CONNECTED),
    ),
)

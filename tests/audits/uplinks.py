# SPDX-License-Identifier: GPL-3.0-or-later
"""A second uplink that appears suddenly, with DHCP and router advertisements waiting for it (D10): a card, or a link
that is made of one.
"""

import time
from dataclasses import dataclass
from functools import partial
from typing import Final

from tests.audits.attack import Attack, Harmless
from tests.audits.scene import Scene
from tests.lab.frames import Kind
from tests.lab.host import Host
from tests.lab.process import wait_for
from tests.lab.record import Recording
from tests.lab.senders import Senders
from tests.netns.protected import ORDINARY, names_of

_CARD: Final = "usb0"
_TOP: Final = "top0"


@dataclass(frozen=True, slots=True)
class Uplink:
    """One kind of uplink. ``near`` is what the laptop does with the card usb0, which is up already, ``far`` what the
    network does with its end of the cable, which has the same name (shell commands).
    """

    name: str
    near: str = ""
    far: str = ""
    link: str = _TOP
    """The laptop's link that gets the lease."""
    judged: str = _CARD
    """Where the far side listens."""
    makes: str = ""
    """What the kernel must be able to make: the end of ``ip link add link usb0 name top0``."""

    def missing(self, host: Host) -> str:
        """Why this kernel cannot make it, as ip(8) says it; "" when it can. Tried in a namespace of its own."""
        if not self.makes:
            return ""
        script = f"ip link add {_CARD} type veth peer name far; ip link add link {_CARD} name {_TOP} {self.makes}"
        done = host.run("unshare", "--net", "sh", "-ec", script, check=False)
        return f"ip link add {self.makes}: {done.stderr.strip()}" if done.returncode else ""


CARDS: Final = (
    Uplink("card", link=_CARD),
    Uplink(
        "card-with-macvlan",
        f"ip link add link {_CARD} name {_TOP} type macvlan mode private; ip link set {_TOP} up",
        link=_CARD,
        makes="type macvlan",
    ),
)
KINDS: Final = (
    Uplink(
        "macvlan",
        f"ip link add link {_CARD} name {_TOP} type macvlan mode private; ip link set {_TOP} up",
        makes="type macvlan",
    ),
    Uplink(
        # A veth that is a bridge's port is a guest's; the macvlan makes a card of it.
        "bridge",
        f"ip link add link {_CARD} name port0 type macvlan mode passthru;"
        f" ip link add {_TOP} type bridge stp_state 0 forward_delay 0 mcast_snooping 0;"
        f" ip link set port0 master {_TOP} up; ip link set {_TOP} up",
        makes="type bridge",
    ),
    Uplink(
        "vlan",
        f"ip link add link {_CARD} name {_TOP} type vlan id 5; ip link set {_TOP} up",
        f"ip link set {_CARD} nomaster; ip link add link {_CARD} name {_CARD}.5 type vlan id 5;"
        f" ip link set {_CARD}.5 master br-home up",
        judged=f"{_CARD}.5",
        makes="type vlan id 5",
    ),
    Uplink(
        "bond",
        f"ip link add {_TOP} type bond mode active-backup miimon 10; ip link set {_CARD} down;"
        f" ip link set {_CARD} master {_TOP}; ip link set {_TOP} up",
        makes="type bond",
    ),
    Uplink(
        "vrf-slave",
        f"ip link add {_TOP} type vrf table 77; ip link set {_TOP} up; ip link set {_CARD} master {_TOP}",
        link=_CARD,
        makes="type vrf table 77",
    ),
)
"""No kernel need have them all."""


def _appear(scene: Scene, uplink: Uplink) -> Recording:
    """Plug it in: it is up in the same moment, programs that want to send by it run already, and it gets a lease; then
    pull it. What the far side of it saw, of these programs and everybody else's.
    """
    world, lab = scene.laptop.world, scene.laptop.lab
    world.air.ip(f"link add {_CARD} type veth peer name {_CARD}-far")
    try:
        world.air.ip(f"link set {_CARD} master br-home up")
        if uplink.far:
            world.air.run("sh", "-ec", uplink.far)
        with (
            world.record(uplink.judged) as recorder,
            Senders.start(lab, ORDINARY, link=uplink.link, rate=50) as senders,
        ):
            world.air.run("sh", "-ec", f"ip link set {_CARD}-far name {_CARD} netns {scene.host.holder.pid}")
            scene.host.run("sh", "-ec", f"ip link set {_CARD} up; {uplink.near}")
            lab.join(uplink.link)
            lab.wait_online(uplink.link, ipv6=True)
            wait_for("everybody on it", partial(_all_tried, senders, time.time()))
        recording = recorder.recording(senders.token)
        lab.leave(uplink.link)
    finally:
        scene.host.run("sh", "-c", f"ip link del {_TOP}; ip link del port0; true")
        world.air.ip(f"link del {_CARD}")
    return recording


def _all_tried(senders: Senders, since: float) -> bool:
    return {attempt.kind.name for attempt in senders.attempts(since)} == names_of(ORDINARY)


def _hot_plug(uplinks: tuple[Uplink, ...], scene: Scene, count: int) -> None:
    """So many of them, each kind that this kernel has in turn."""
    can = [uplink for uplink in uplinks if not uplink.missing(scene.host)]
    for number in range(count):
        uplink = can[number % len(can)]
        recording = _appear(scene, uplink)
        clear = recording.clear()  # a window is one link's, and this is another one
        assert not clear, f"by the new uplink ({uplink.name}): {recording.describe(clear)}"
        assert recording.counts()[Kind.DHCP4], f"no lease was asked for ({uplink.name})"


def _seen(uplink: Uplink, scene: Scene) -> None:
    """Without protection, programs are seen by it."""
    if not _appear(scene, uplink).clear():
        raise Harmless(f"nobody is seen by the new uplink ({uplink.name})")


def second_uplink(name: str, title: str, *uplinks: Uplink, many: int = 1) -> Attack:
    """The attack with these kinds of uplinks; its control is the first of them."""
    return Attack("D10", name, title, partial(_hot_plug, uplinks), partial(_seen, uplinks[0]), tries=1, many=many)


ATTACKS: Final = (
    second_uplink(
        "second-uplink",
        "a second uplink that appears and is up at once, with DHCP and router advertisements waiting: a card, and what"
        " the kernel makes of one (macvlan, bridge, VLAN, bond, VRF)",
        *CARDS,
        *KINDS,
        many=14,
    ),
)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Wi-Fi, with a radio, an access point and a passphrase: a laptop that has nothing else joins, roams and is cut off.

What it sends is recorded twice: on the air, where every frame of data must be encrypted and is then read with the
network's key, and on the cable behind the access point. First it is unblocked, and every chatty program must be seen.
The radios are pulled out and plugged in again after that, as USB sticks are: a link that appears on a blocked machine.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.lab import plan
from tests.lab.capture import write_pcapng
from tests.lab.frames import Frame, Kind, dissect
from tests.lab.process import wait_for
from tests.lab.record import Recording, now
from tests.lab.world import World
from tests.vm import FULL, managed, wifi
from tests.vm.air import Cover, Said
from tests.vm.guest.chatty import ROUTED, SENDERS
from tests.vm.images import UPLINKS, image
from tests.vm.laptop import BootedLaptop, Cards, clear_kinds, names_of
from tests.vm.machine import Card
from tests.vm.wifi import LINK, MAC, Point

pytestmark = [
    pytest.mark.vm,
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(not FULL, reason="takes minutes: make test-vm"),
]

CARDS: Final = Cards(Card("point1", "tap0", "02:00:00:00:0a:00"), Card("point2", "tap1", "02:00:00:00:0a:01"))
HOME: Final = Point(1, b"lab one", "correct horse battery", CARDS.built_in)
HOSTILE: Final = Point(2, b"\n\x1b[2J\"'$(id)`id`;\\\xff\r%s{0}<b>", "staple \"'$(id)", CARDS.hot_plugged)
"""An SSID is bytes: a new line, an escape sequence, quotes, what shells and formats read, what is no UTF-8."""
SHOWN: Final = r"""\x0a\x1b[2J"'$(id)`id`;\\xff\x0d%s{0}<b>"""
"""The same for people."""
FORGED: Final = frozenset({10, 11, 12, 13, 14, 15})
"""Chatty programs that send in another station's name: an access point takes nothing from who has not joined."""
UNBLOCKED_AIR, BLOCKED_AIR = "/run/unblocked.pcap", "/run/blocked.pcap"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """The lab without its simulated laptop's links."""
    with World.build(links=()) as built:
        yield built


@pytest.fixture(scope="module")
def laptop(world: World) -> Iterator[BootedLaptop]:
    """A laptop with a Wi-Fi radio and no cable: the cards in it are the access points'."""
    macs = (CARDS.built_in.mac, CARDS.hot_plugged.mac)
    files = {**managed.files(world, unmanaged=macs), **wifi.files()}
    with BootedLaptop.power_on(image("trixie", UPLINKS), world, files, CARDS) as booted:
        managed.start(booted)
        for point in (HOME, HOSTILE):
            managed.install(booted, point.name, point.profile())
        seen_when_unblocked(booted)
        yield booted


@pytest.fixture(scope="module")
def since(laptop: BootedLaptop) -> float:
    """When the block was put on, in Unix time; the radios are pulled out then, and come afterwards."""
    wifi.unplug(laptop, HOME)
    began = managed.block(laptop)
    laptop.world.gateway.off()
    wifi.plug(laptop, radios=2)
    wifi.listen(laptop, BLOCKED_AIR)
    wifi.set_up(laptop, HOME)
    wifi.switch_on(laptop, HOME)
    return began


def seen_when_unblocked(laptop: BootedLaptop) -> None:
    """The positive control: on an unblocked laptop every chatty program is seen, on the air or behind the access point.

    On the air all of them are; behind it those that send in the laptop's own name.
    """
    wifi.plug(laptop, radios=2)
    wifi.listen(laptop, UNBLOCKED_AIR)
    wifi.set_up(laptop, HOME)
    wifi.switch_on(laptop, HOME)
    with laptop.world.record(CARDS.built_in.tap) as recorder:
        managed.up(laptop, HOME.name)
        laptop.wait_online(LINK)
        laptop.wait_tried(LINK, SENDERS)
        recording = recorder.recording(laptop.token)
    behind = {frame.sender for frame in recording.frames}
    assert not (missing := set(SENDERS) - FORGED - behind), f"never seen behind the access point: {names_of(missing)}"
    heard = on_the_air(laptop, UNBLOCKED_AIR)
    missing = set(SENDERS) - {frame.sender for frame in judged(laptop, heard)}
    assert not missing, f"never heard on the air: {names_of(missing)}"
    assert_heard_what_arrived(heard, recording)


def on_the_air(laptop: BootedLaptop, path: str) -> tuple[Said, ...]:
    """What was said to the access points; all of it could be read."""
    heard = wifi.said(laptop, path, HOME, HOSTILE)
    covers = Counter(said.cover for said in heard)
    assert covers[Cover.ENCRYPTED] > 0 == covers[Cover.UNREADABLE], covers
    return heard


def judged(laptop: BootedLaptop, heard: tuple[Said, ...]) -> tuple[Frame, ...]:
    """The same frames, as the lab's judge sees them."""
    path = laptop.machine.directory / "air.pcapng"
    write_pcapng(path, LINK, tuple(said.ethernet for said in heard))
    return dissect(path, token=laptop.token)


def assert_heard_what_arrived(heard: tuple[Said, ...], recording: Recording) -> None:
    """Two recorders agree: no more arrived behind the access points than was heard on the air."""
    sizes = Counter(len(said.ethernet) for said in heard)
    arrived = Counter(frame.length for frame in recording.frames)
    assert arrived <= sizes, f"behind the access point, and not on the air: {arrived - sizes}"


def carries(laptop: BootedLaptop) -> None:
    """The tunnel is up, by the radio, and traffic goes through it."""
    managed.wait_phase(laptop, "connected")
    laptop.machine.check("ping", "-c", "3", "-i", "0.2", "-W", "5", str(plan.WEB4))
    assert [link["link"] for link in managed.status(laptop)["uplinks"]] == [LINK]


def test_joins_while_blocked(laptop: BootedLaptop, since: float) -> None:
    """With no tunnel the laptop agrees on a key with the access point, and gets its addresses; all programs try."""
    assert since < now()

    managed.up(laptop, HOME.name)

    laptop.wait_online(LINK)
    laptop.wait_tried(LINK, frozenset(SENDERS) - ROUTED)
    assert managed.status(laptop)["phase"] != "connected"


def test_connects(laptop: BootedLaptop) -> None:
    """As soon as the gateway is there the tunnel is up, and status names the network."""
    laptop.world.gateway.on()

    carries(laptop)

    wait_for("the name", lambda: managed.status(laptop)["uplinks"][0]["name"] == "lab one", deadline_s=60, poll_s=0.5)
    laptop.wait_tried(LINK, frozenset(SENDERS) - ROUTED)


def test_roams_to_a_hostile_network(laptop: BootedLaptop) -> None:
    """Another access point, of another network whose name is an attack: the tunnel is back, and the name is shown with
    nothing in it that a terminal, a log or a shell would obey.
    """
    laptop.plug_card()
    wifi.set_up(laptop, HOSTILE)
    wifi.switch_on(laptop, HOSTILE)
    wifi.let_in(laptop)
    before = laptop.world.gateway.handshakes()

    managed.up(laptop, HOSTILE.name)

    laptop.wait_online(LINK)
    carries(laptop)
    wait_for("a handshake", lambda: laptop.world.gateway.handshakes() > before, deadline_s=60)
    wait_for("the name", lambda: managed.status(laptop)["uplinks"][0]["name"] == SHOWN, deadline_s=60, poll_s=0.5)
    laptop.wait_tried(LINK, frozenset(SENDERS) - ROUTED)


def test_hostile_name_does_no_harm(laptop: BootedLaptop) -> None:
    """No byte of the SSID that is no letter is in the status, in words or as JSON, or in what our units have logged."""
    machine = laptop.machine
    words = machine.check("aovpnctl", "status")
    journal = machine.check("journalctl", "-b", "-o", "json", "-u", "aovpnd*", "-n", "2000")
    published = Path("/run/aovpnd/status.json")

    assert f'Current network: Wi-Fi "{SHOWN}"' in words
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", words) is None
    assert json.loads(machine.check("cat", str(published)))["uplinks"][0]["name"] == SHOWN
    for line in journal.splitlines():
        message = json.loads(line)["MESSAGE"]  # a list of numbers where it is no text
        assert isinstance(message, str), message
        assert message.isprintable(), message


def test_access_point_goes_off_and_on(laptop: BootedLaptop) -> None:
    """Without an access point there is no network and no tunnel; when it is back the laptop is too, by itself."""
    laptop.machine.check("nmcli", "connection", "modify", HOSTILE.name, "connection.autoconnect", "yes")
    wifi.switch_off(laptop, HOSTILE)
    managed.wait_phase(laptop, "offline", "blocked", "connecting")

    wifi.switch_on(laptop, HOSTILE)

    laptop.wait_online(LINK)
    carries(laptop)


def test_nothing_left_in_clear(laptop: BootedLaptop, since: float) -> None:
    """Since the block was put on, neither on the air nor behind the access points was a frame that may not leave."""
    tried = laptop.tried()[LINK]
    heard = on_the_air(laptop, BLOCKED_AIR)
    recording = laptop.recording()
    air = judged(laptop, heard)

    assert not recording.clear(since), recording.describe(recording.clear(since))
    forbidden = tuple(frame for frame in air if frame.kind is Kind.CLEAR or frame.has_token)
    assert not forbidden, recording.describe(forbidden)
    plain = [said for said in heard if said.cover is Cover.PLAIN and not said.eapol]
    assert not plain, f"{len(plain)} frames of data were on the air in clear"
    assert {said.station.hex(":") for said in heard} == {MAC}
    passed = clear_kinds(recording)
    assert min(passed[Kind.ARP], passed[Kind.DHCP4], passed[Kind.NDP], passed[Kind.TUNNEL]) > 0, passed
    kinds = Counter(frame.kind for frame in air)
    assert min(kinds[Kind.EAPOL], kinds[Kind.TUNNEL], kinds[Kind.HANDSHAKE]) > 0, kinds
    assert all(tried[number] > 0 for number in SENDERS), tried

# SPDX-License-Identifier: GPL-3.0-or-later
"""Uplinks that take more than a cable: VLAN, bond, bridge, 802.1X, IPv6 alone, PPP over Ethernet. Each connects.

For each kind: unblocked, every chatty program is seen on the laptop's cable; blocked, with no gateway, the link comes
up and gets its addresses; with one, the tunnel is up and traffic goes through it; nothing was on the cable in clear.
The frames are QEMU's own record of what each card has sent, judged by the lab when what the kind of link puts around
them has been taken off.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.lab import plan
from tests.lab.capture import write_pcapng
from tests.lab.frames import Frame, Kind, dissect
from tests.lab.identity import OURS
from tests.lab.process import wait_for
from tests.lab.tree import copied
from tests.lab.world import World
from tests.vm import FULL, far_ends, managed, uplinks
from tests.vm.far_ends import ONWARD, PORT
from tests.vm.guest import dialler
from tests.vm.guest.chatty import ROUTED
from tests.vm.images import UPLINKS, image
from tests.vm.laptop import BootedLaptop, names_of
from tests.vm.machine import Card
from tests.vm.pcap import frames_of
from tests.vm.uplinks import CARDS, SECOND, Uplink

pytestmark = [
    pytest.mark.vm,
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(not FULL, reason="takes minutes: make test-vm"),
]


DIALLER: Final = "/usr/local/bin/dialler"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """The lab without its simulated laptop's links, and with a network of IPv6 alone."""
    with World.build(links=(), nat64=True) as built:
        yield built


@pytest.fixture(scope="module")
def laptop(world: World) -> Iterator[BootedLaptop]:
    """A laptop with two cards; the other two in it are the far end's."""
    far_ends.lay_cable(world)
    program = copied(Path(dialler.__file__), 0o755)
    files = {**managed.files(world, unmanaged=(PORT.card.mac, ONWARD.card.mac)), DIALLER: program}
    more = (SECOND, PORT, ONWARD)
    with BootedLaptop.power_on(image("trixie", UPLINKS), world, files, CARDS, more=more) as booted:
        managed.start(booted)
        yield booted


@pytest.fixture(params=uplinks.ALL, ids=lambda uplink: uplink.name)
def uplink(request: pytest.FixtureRequest, laptop: BootedLaptop) -> Iterator[Uplink]:
    """Each kind, with its far end; the machine is as it was afterwards."""
    kind: Uplink = request.param
    laptop.world.gateway.on()
    laptop.cable(CARDS.built_in, kind.network)
    kind.far_end(laptop)
    yield kind
    leave(laptop, kind)
    if kind.network == far_ends.CABLE:
        far_ends.clear_away(laptop)


def link_of(laptop: BootedLaptop, uplink: Uplink) -> str:
    """The link that carries: the kind's own, or the first card."""
    return uplink.link or laptop.built_in()


def join(laptop: BootedLaptop, uplink: Uplink) -> str:
    """Have NetworkManager bring the uplink up, and wait for its addresses; returns the link."""
    first, second = laptop.built_in(), laptop.link_of(SECOND.card)
    for name, profile in uplink.profiles:
        managed.install(laptop, name, profile.format(first=first, second=second))
    for name, _ in uplink.profiles[1:] or uplink.profiles:
        managed.up(laptop, name)
    link = link_of(laptop, uplink)
    for family in uplink.families:
        script = f"ip {family} -oneline address show dev {link} scope global -tentative | grep -q inet"
        laptop.machine.wait(f"{link} to get an address", "sh", "-c", script)
    return link


def leave(laptop: BootedLaptop, uplink: Uplink) -> None:
    """The opposite."""
    managed.down(laptop, *(name for name, _ in reversed(uplink.profiles)))


def marks(laptop: BootedLaptop, uplink: Uplink) -> dict[Card, int]:
    """How much of each card's record there is."""
    return {card: laptop.machine.recording(card).stat().st_size for card in uplink.cards}


def sent(laptop: BootedLaptop, uplink: Uplink, since: dict[Card, int]) -> tuple[Frame, ...]:
    """What the laptop's cards have sent since then, judged."""
    found: list[Frame] = []
    for card, start in since.items():
        path = laptop.machine.directory / f"{card.name}.pcapng"
        frames = frames_of(laptop.machine.recording(card), start)
        bare = ((frame, uplink.bare(frame)) for frame in frames)
        judged = tuple(inner or frame for frame, inner in bare if inner or laptop.token in frame)
        write_pcapng(path, card.tap, judged)
        found += dissect(path, token=laptop.token, endpoints=uplink.endpoints)
    return tuple(found)


def describe(frames: tuple[Frame, ...]) -> str:
    """A few of them, for messages."""
    return "; ".join(f"{frame.what} ({frame.link}, sender {frame.sender})" for frame in frames[:8])


def seen_when_unblocked(laptop: BootedLaptop, uplink: Uplink) -> None:
    """The positive control: unblocked, every chatty program is seen on the cable, by this kind of link."""
    managed.unblock(laptop)
    since = marks(laptop, uplink)
    laptop.wait_tried(join(laptop, uplink), uplink.senders)
    dial(laptop, uplink)
    seen = {frame.sender for frame in sent(laptop, uplink, since)}
    missing = set(uplink.senders) - seen
    assert not missing, f"unblocked, yet never seen: {names_of(missing)}"
    assert uplink is not uplinks.PPPOE or dialler.SENDER in seen, "a session of a program is never seen"
    leave(laptop, uplink)


def dial(laptop: BootedLaptop, uplink: Uplink) -> None:
    """Where the kernel knows PPPoE: an ordinary program talks into a session of its own making, as it may."""
    if uplink is uplinks.PPPOE:
        nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--")
        laptop.machine.check(*nobody, DIALLER, laptop.built_in(), laptop.token.hex())


def carries(laptop: BootedLaptop) -> None:
    """The tunnel is up, and traffic goes through it."""
    managed.wait_phase(laptop, "connected")
    laptop.machine.check("ping", "-c", "3", "-i", "0.2", "-W", "5", str(plan.WEB4))
    assert managed.status(laptop)["protected"] is True


def pull_the_active_card(laptop: BootedLaptop, uplink: Uplink) -> None:
    """Pull the card that a bond uses: the other one carries on, with the same tunnel."""
    if uplink is not uplinks.BOND:
        return
    machine = laptop.machine
    active = "/sys/class/net/bond0/bonding/active_slave"
    before = machine.check("cat", active).strip()
    mac = machine.check("cat", f"/sys/class/net/{before}/bonding_slave/perm_hwaddr").strip()
    card = next(card for card in uplink.cards if card.mac == mac)
    machine.monitor("set_link", name=f"card-{card.name}", up=False)
    try:
        machine.wait("the other card", "sh", "-c", f"grep -vqx {before} {active} && grep -q . {active}")
        carries(laptop)
        laptop.wait_tried(uplink.link, uplink.senders - ROUTED)
    finally:
        machine.monitor("set_link", name=f"card-{card.name}", up=True)


def test_uplink(laptop: BootedLaptop, uplink: Uplink) -> None:
    """Blocked it comes up and nothing leaves; it connects; and nothing in clear was on the cable from the block on."""
    seen_when_unblocked(laptop, uplink)
    laptop.world.gateway.off()
    managed.block(laptop)
    since = marks(laptop, uplink)

    link = join(laptop, uplink)
    laptop.wait_tried(link, uplink.senders - ROUTED)
    assert managed.status(laptop)["phase"] != "connected"
    laptop.world.gateway.on()
    carries(laptop)
    assert [each["link"] for each in managed.status(laptop)["uplinks"]] == [link]
    laptop.wait_tried(link, uplink.senders - ROUTED)
    pull_the_active_card(laptop, uplink)
    dial(laptop, uplink)

    frames = sent(laptop, uplink, since)
    forbidden = tuple(
        frame for frame in frames if frame.kind is Kind.CLEAR or frame.has_token or not frame.tells.isdisjoint(OURS)
    )
    assert not forbidden, describe(forbidden)
    kinds = {frame.kind for frame in frames}
    assert kinds >= {Kind.HANDSHAKE, Kind.TUNNEL}, kinds
    if uplink is uplinks.WIRED_8021X:
        assert Kind.EAPOL in kinds
        wait_for("the port", lambda: far_ends.is_open(laptop), deadline_s=5)

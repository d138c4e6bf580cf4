# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab is tested before it may judge: what it must see it sees, and what it says a frame is, the frame is."""

import json
import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.lab import plan
from tests.lab.frames import Kind
from tests.lab.process import wait_for
from tests.lab.sender_kinds import FORGERS, KINDS
from tests.lab.senders import Flood, Senders, new_token
from tests.lab.world import World

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """One world for this file; its laptop has no protection whatever."""
    with World.build(lease_s=20) as built:
        yield built


def test_every_sender_is_seen_completely(world: World) -> None:
    """Positive control: unprotected, each payload that the kernel took is one frame on the far side, of every kind."""
    world.roam("home", ipv6=True)
    with world.record() as recorder, Senders.start(world.laptop, (*KINDS, *FORGERS), rate=50) as senders:
        wait_for("ten of each", lambda: all(senders.sent()[kind.number] >= 10 for kind in (*KINDS, *FORGERS)))
        senders.stop()
    recording = recorder.recording(senders.token)

    assert recording.by_sender() == senders.sent()
    assert {attempt.status for attempt in senders.attempts()} == {0}
    assert len(recording.clear()) >= senders.tried()


@pytest.mark.slow
def test_flood_is_counted_exactly(world: World) -> None:
    """Half a million packets from senders over IPv4, IPv6 and packet sockets; nft counts each of them.

    How many that are in a second is the machine's business, and `make soak` says it.
    """
    world.roam("home", ipv6=True)
    with world.record("wlan0", prefilter=True) as recorder:
        before = recorder.count(Kind.CLEAR)
        with Flood.start(world.laptop) as flood:
            wait_for("half a million frames", lambda: recorder.count(Kind.CLEAR) > 500_000, deadline_s=20)
            figures = flood.stop()
        sent = sum(figure["sent"] for figure in figures.values())
        assert sent <= recorder.count(Kind.CLEAR) - before <= sent + 50
    assert all(figure["sent"] for figure in figures.values())


def test_recorder_survives_a_link_that_goes_down(world: World) -> None:
    """Frames before and after a lost carrier are in the same capture, and the counts agree."""
    world.roam("home")
    with world.record() as recorder, Senders.start(world.laptop, rate=50) as senders:
        wait_for("frames before", lambda: recorder.count(Kind.CLEAR) > 50)
        world.flap("wlan0")
        flapped = time.time()
        wait_for("frames after", lambda: recorder.count(Kind.CLEAR) > 200)
    recording = recorder.recording(senders.token)

    assert recording.clear(end=flapped)
    assert recording.clear(start=flapped)


@pytest.mark.slow
def test_leases_are_renewed(world: World) -> None:
    """A real DHCP client keeps its address longer than a lease lives: a lease that had ended would begin anew."""
    world.roam("home")
    laptop = world.laptop
    address, leases = laptop.address("wlan0"), laptop.bound("wlan0")
    begun = laptop.client_log("wlan0").count("DHCPDISCOVER")
    wait_for("two leases more", lambda: laptop.bound("wlan0") >= leases + 2, deadline_s=60)

    assert laptop.address("wlan0") == address != ""
    assert laptop.client_log("wlan0").count("DHCPDISCOVER") == begun


def test_both_families_reach_the_internet_from_home(world: World) -> None:
    """IPv4 behind the router's address, IPv6 with the laptop's own; names are resolved by what DHCP told."""
    world.roam("home", ipv6=True)

    assert world.laptop.curl(f"http://{plan.WEB_NAME}/ip", "-4").stdout.strip() == plan.HOME.wan4
    assert world.laptop.curl(f"http://{plan.WEB_NAME}/ip", "-6").stdout.startswith(plan.HOME.lan6)


def test_dead_router_keeps_the_carrier(world: World) -> None:
    """With its router off, the laptop has a link and an address, and reaches nothing; on again, it reaches all."""
    world.roam("home")
    world.home.power("off")
    off = world.laptop.curl(f"http://{plan.WEB4}/ip", timeout_s=1)
    world.home.power("on")

    assert off.returncode != 0
    assert "LOWER_UP" in world.laptop.host.ip("link show wlan0")
    wait_for("the router", lambda: world.laptop.curl(f"http://{plan.WEB4}/ip", timeout_s=1).returncode == 0)
    world.roam("home", ipv6=True)


def test_captive_portal_holds_until_the_login(world: World) -> None:
    """Option 114 names the API, the API says captive, each page is a redirect, nothing passes; a login opens."""
    laptop = world.laptop
    world.cafe.forget_logins()
    world.roam("cafe", ipv6=True)
    api = ("--cacert", str(world.ca))

    assert laptop.lease_option("wlan0", "captive-portal") == plan.PORTAL_API
    assert json.loads(laptop.curl(plan.PORTAL_API, *api).stdout)["captive"] is True
    redirect = laptop.curl(f"http://{plan.WEB4}/generate_204", "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}")
    assert redirect.stdout == f"302 http://{plan.PORTAL_NAME}/login"
    assert laptop.curl(f"http://{plan.WEB4}:443/", timeout_s=1).returncode != 0

    assert laptop.curl(f"http://{plan.PORTAL_NAME}/login", "--data", "").returncode == 0

    assert json.loads(laptop.curl(plan.PORTAL_API, *api).stdout)["captive"] is False
    assert laptop.curl(f"http://{plan.WEB4}/generate_204", "-o", "/dev/null", "-w", "%{http_code}").stdout == "204"
    assert laptop.curl(f"http://[{plan.WEB6}]/ip").stdout.startswith(plan.CAFE.lan6)


def test_wg_quick_works_with_the_generated_file(world: World) -> None:
    """The tunnel is real for both families; and without a kill switch the bound and the raw senders leak past it."""
    world.roam("home", ipv6=True)
    with world.record() as recorder:
        world.laptop.wg_quick("up")
        up = time.time()
        seen = [world.laptop.curl(f"http://{address}/ip").stdout.strip() for address in (plan.WEB4, f"[{plan.WEB6}]")]
        with Senders.start(world.laptop, rate=50) as senders:
            wait_for("ten of each", lambda: min(senders.sent()[kind.number] for kind in KINDS) >= 10)
        world.laptop.wg_quick("down")
    recording = recorder.recording(senders.token)

    assert seen == [str(plan.GATEWAY4), str(plan.GATEWAY6)]
    assert recording.counts()[Kind.HANDSHAKE] >= 1
    assert recording.counts()[Kind.TUNNEL] >= 100
    leaked = {kind.name for kind in KINDS if recording.by_sender(start=up)[kind.number]}
    assert {"bound4", "packet4", "mdns4"} <= leaked
    assert not {"udp4", "udp6", "tcp4", "tcp6", "ping4", "ping6"} & leaked


@pytest.mark.slow
def test_gateway_can_go_and_come_back(world: World) -> None:
    """A tunnel without its gateway carries nothing, and works again with it."""
    world.roam("home")
    world.laptop.wg_quick("up")
    try:
        world.gateway.off()
        assert world.laptop.curl(f"http://{plan.WEB4}/ip", timeout_s=1).returncode != 0
        world.gateway.on()
        wait_for(
            "the tunnel",
            lambda: world.laptop.curl(f"http://{plan.WEB4}/ip", timeout_s=2).returncode == 0,
            deadline_s=30,
        )
    finally:
        world.laptop.wg_quick("down")


def test_cards_come_and_go(world: World) -> None:
    """A link that is plugged in is there at once, works, is recorded, and is gone when it is pulled."""
    world.add_link("usb0")
    with world.record("usb0") as recorder:
        world.roam("home", link="usb0")
        assert recorder.count(Kind.DHCP4) >= 2
    world.remove_link("usb0")

    assert "usb0" not in world.laptop.host.links()


def test_a_copy_of_a_program_is_not_another_one(world: World) -> None:
    """Between fork(2) and execve(2) a child is its parent's copy: whoever asks for the daemon means one process."""
    forks = "import os, time; child = os.fork(); print(child, flush=True); time.sleep(60)"
    parent = world.laptop.host.spawn("python3", "-uc", forks, "a-daemon")
    log = world.laptop.host.dir / "python3.log"
    wait_for("both", lambda: len(log.read_text().splitlines()) == 2)
    try:
        assert world.laptop.host.pids_of("a-daemon") == (parent.pid,)
    finally:
        parent.kill()
        parent.wait()
    (orphan,) = world.laptop.host.pids_of("a-daemon")
    os.kill(orphan, signal.SIGKILL)


def test_worlds_are_independent(world: World) -> None:
    """A second world beside the first: the same names and addresses, no frame in common."""
    world.unplug("wlan0")
    with world.record() as quiet, World.build() as other:
        other.roam("home")
        assert other.laptop.curl(f"http://{plan.WEB4}/ip").stdout.strip() == plan.HOME.wan4
    assert quiet.recording(new_token()).frames == ()


def test_nothing_is_left_of_a_closed_world() -> None:
    """All processes of a world end with it."""
    with World.build() as built:
        built.roam("home")
        host = built.laptop.host
        assert len(host.pids()) >= 3
    assert host.pids() == set()

# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian 12's and 13's kernels, booted: the block stands from power-on, on every card, and lets the tunnel through.

The order is that of a day: first the control, an unblocked laptop whose every chatty program must be seen outside, or
nothing below would mean anything; then the protected one, from early boot over a hot-plugged card to the tunnel, and last
the account of all that it sent since power-on.
"""

import json
import re
from collections.abc import Iterator

import pytest

from tests.lab import plan
from tests.lab.frames import Kind
from tests.lab.process import LabError, wait_for
from tests.lab.world import World
from tests.vm.archive import text
from tests.vm.guest.chatty import SENDERS
from tests.vm.images import SUITES, Image, image
from tests.vm.laptop import BUILT_IN, BootedLaptop, bound_senders, clear_kinds, names_of
from tests.vm.product import CHECKOUT, installed

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.slow]

TUNNEL = "/etc/aovpnd/tunnels/home.conf"


@pytest.fixture(scope="module", params=SUITES)
def suite(request: pytest.FixtureRequest) -> Image:
    """The kernels and systems under test."""
    return image(request.param)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """The lab without its simulated laptop's links: a real one is plugged in instead."""
    with World.build(links=()) as built:
        yield built


@pytest.fixture(scope="module")
def control(suite: Image, world: World) -> None:
    """The positive control: on an unblocked laptop, every chatty program is seen outside, by both cards."""
    files = installed(("aovpnd-lockdown.service",))
    files |= {TUNNEL: text(world.laptop.tunnel_conf, 0o600), "/etc/aovpnd/unblocked": text("")}
    with BootedLaptop.power_on(suite, world, files) as laptop:
        link = laptop.link_of(BUILT_IN)
        laptop.wait_online(link)
        laptop.wait_tried(link, SENDERS)
        second = laptop.plug_card()
        laptop.wait_tried(second, bound_senders())
        assert "aovpnd" not in laptop.machine.check("nft", "list", "tables")
        recording = laptop.recording()
    seen = {link: {frame.sender for frame in recording.frames if frame.link == link} for link in ("tap0", "tap1")}
    missing = set(SENDERS) - seen["tap0"] | bound_senders() - seen["tap1"]
    assert not missing, f"unblocked, yet never seen outside: {names_of(missing)}"


@pytest.fixture(scope="module")
def laptop(suite: Image, world: World, control: None) -> Iterator[BootedLaptop]:
    """A laptop with one tunnel configured, blocked from early boot on; its daemon does not run yet."""
    files = installed(("aovpnd-lockdown.service",)) | {TUNNEL: text(world.laptop.tunnel_conf, 0o600)}
    with BootedLaptop.power_on(suite, world, files) as booted:
        yield booted


def test_early_boot_loads_the_block(laptop: BootedLaptop) -> None:
    """Before any network manager starts, the inet table stands and every card has its egress chain, without the daemon."""
    machine = laptop.machine
    machine.wait("the end of the boot", "systemctl", "is-active", "-q", "multi-user.target")
    link = laptop.link_of(BUILT_IN)

    tables = machine.check("nft", "list", "tables")
    egress = machine.check("nft", "list", "table", "netdev", "aovpnd_early")
    started = machine.check(
        *("systemctl", "show", "--property=ActiveEnterTimestampMonotonic", "--value"),
        *("aovpnd-lockdown.service", "network-pre.target", "systemd-udevd.service"),
    ).split()

    assert "table inet aovpnd" in tables
    assert f'device "{link}"' in egress
    assert 0 < int(started[0]) <= min(int(started[1]), int(started[2])), started
    assert machine.check("systemctl", "--failed", "--no-legend", "--plain") == ""


def test_network_manager_gets_its_addresses(laptop: BootedLaptop) -> None:
    """Blocked, a laptop still gets its leases and its router, so that it can leave the block: DHCP and discovery pass."""
    link = laptop.link_of(BUILT_IN)

    laptop.wait_online(link)
    laptop.wait_tried(link, SENDERS)


def test_hot_plugged_card_is_blocked(laptop: BootedLaptop) -> None:
    """The udev rule has put the chain on a card that appears later by the time that a network manager may look at it."""
    link = laptop.plug_card()

    index = laptop.machine.check("cat", f"/sys/class/net/{link}/ifindex").strip()
    chain = laptop.machine.check("nft", "list", "chain", "netdev", "aovpnd_early", f"link_{index}")
    properties = laptop.machine.check("udevadm", "info", f"/sys/class/net/{link}")

    assert f'device "{link}"' in chain
    assert f"AOVPND_EGRESS=link_{index}" in properties
    laptop.wait_online(link)
    laptop.wait_tried(link, bound_senders())


def test_guests_nft_takes_every_ruleset(laptop: BootedLaptop) -> None:
    """Each ruleset that the compiler is known to write, and each file that is shipped, loads twice and stands."""
    files = sorted((*CHECKOUT.glob("tests/unit/golden/*.nft"), *CHECKOUT.glob("systemd/*.nft")))
    assert len(files) > 2

    refused = {}
    for file in files:
        text = file.read_text(encoding="utf-8")
        links = "; ".join(f"ip link add name {link} type dummy" for link in sorted(set(re.findall(r'device "([\w.@-]+)"', text))))
        script = f"{links or ':'}; cat >/run/ruleset && nft -f /run/ruleset && nft -f /run/ruleset && nft list tables | grep -q ."
        result = laptop.machine.run("unshare", "--net", "sh", "-ec", script, stdin=text)
        if result.code != 0:
            refused[file.name] = result.err

    assert refused == {}


def test_kernel_wireguard_comes_up(laptop: BootedLaptop, world: World) -> None:
    """The daemon takes over the block, brings the tunnel up in the kernel, and traffic goes through it to the internet."""
    machine = laptop.machine
    laptop.wait_online(laptop.link_of(BUILT_IN))
    started = machine.run("systemctl", "start", "aovpnd.service")
    assert started.code == 0, machine.check("journalctl", "-b", "--no-pager", "-u", "aovpnd*")

    def status() -> dict[str, object]:
        answer: dict[str, object] = json.loads(machine.check("aovpnctl", "status", "--json"))
        return answer

    try:
        wait_for("the tunnel", lambda: status()["phase"] == "connected", deadline_s=60, poll_s=0.3)
    except LabError:
        pytest.fail(f"{status()}\n{machine.check('journalctl', '-b', '--no-pager', '-u', 'aovpnd*')}")
    assert status()["protected"] is True
    assert "wireguard" in machine.check("ip", "-details", "link", "show", "aovpn0")
    machine.check("ping", "-c", "3", "-i", "0.2", "-W", "5", str(plan.WEB4))
    assert world.gateway.handshakes() > 0
    laptop.wait_tried(laptop.link_of(BUILT_IN), bound_senders())


def test_nothing_left_in_clear_since_power_on(laptop: BootedLaptop) -> None:
    """Of all frames since the first instruction, by every card, not one is outside the allow-list or carries the token."""
    tried = laptop.tried()
    recording = laptop.recording()

    assert not recording.clear(), recording.describe()
    passed = clear_kinds(recording)
    assert min(passed[Kind.ARP], passed[Kind.DHCP4], passed[Kind.NDP]) > 0, passed
    assert sum(sum(counts.values()) for counts in tried.values()) > len(SENDERS), tried

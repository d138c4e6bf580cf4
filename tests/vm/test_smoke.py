# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian 12's and 13's kernels, booted: the block stands from power-on, on every card, and lets the tunnel through.

The order is that of a day: first the control, an unblocked laptop whose every chatty program must be seen outside, or
nothing below would mean anything; then the protected one, from early boot over a hot-plugged card to the tunnel, and
last the account of all that it sent since power-on.
"""

import json
import re
import time
from collections.abc import Iterator

import pytest

from aovpnd import clockfile, names
from tests.lab import plan
from tests.lab.frames import Kind
from tests.lab.ike import Way
from tests.lab.ike_client import account
from tests.lab.process import LabError, wait_for
from tests.lab.product import CHECKOUT, installed
from tests.lab.tree import Tree, text
from tests.lab.world import World
from tests.vm.confined import APPARMOR, ATTEMPTS, PROFILES, TELL_ALL, got_through, labels, refused
from tests.vm.guest.chatty import ROUTED, SENDERS
from tests.vm.images import SUITES, Image, image
from tests.vm.laptop import CONTROL_CARDS, BootedLaptop, bound_senders, clear_kinds, names_of
from tests.vm.rulesets import every_ruleset

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.slow]

TUNNEL = "/etc/aovpnd/tunnels/home.conf"
RULESETS = "/rulesets"
NO_BATTERY = "2001-09-09T01:46:40"
"""Where the hardware clock of the protected laptop begins."""


@pytest.fixture(scope="module", params=SUITES)
def suite(request: pytest.FixtureRequest) -> Image:
    """The kernels and systems under test."""
    return image(request.param)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """The lab without its simulated laptop's links: a real one is plugged in instead."""
    with World.build(links=(), ike=True) as built:
        yield built


@pytest.fixture(scope="module")
def laptop(suite: Image, world: World) -> Iterator[BootedLaptop]:
    """A laptop with one tunnel configured, blocked from early boot on; its daemon does not run yet. Its clock's battery
    is empty, and a daemon before this one noted when its gateway had answered.

    While it boots the control is run: were that one not seen, no test would run.
    """
    office = account(world.ike, Way.CERTIFICATE)
    keys = {f"/etc/aovpnd/keys/{name}": text(key, 0o600) for name, key in office.files.items()}
    files = installed(("aovpnd-lockdown.service",)) | {
        TUNNEL: text(world.laptop.tunnel_conf, 0o600),
        "/etc/aovpnd/tunnels/office.toml": text(office.text, 0o600),
        "/etc/aovpnd/aovpnd.toml": text('[tunnel]\nprefer = ["home"]\n'),
        **keys,
    }
    noted = {f"{names.STATE_DIR}/{clockfile.FILE}": text(f"{int(time.time())}\n", 0o600)}
    rulesets = {f"{RULESETS}/{name}": text(ruleset) for name, ruleset in every_ruleset().items()}
    given = {**files, **rulesets, **noted, **TELL_ALL}
    with BootedLaptop.power_on(suite, world, given, clock=NO_BATTERY, kernel=APPARMOR) as booted:
        seen_when_unblocked(suite, world, files | {"/etc/aovpnd/unblocked": text("")})
        yield booted


def seen_when_unblocked(suite: Image, world: World, files: Tree) -> None:
    """The positive control: on an unblocked laptop every chatty program is seen outside, by both cards."""
    with BootedLaptop.power_on(suite, world, files, CONTROL_CARDS) as laptop:
        link = laptop.built_in()
        laptop.wait_online(link)
        laptop.wait_tried(link, SENDERS)
        laptop.wait_tried(laptop.plug_card(), bound_senders())
        assert "aovpnd" not in laptop.machine.check("nft", "list", "tables")
        recording = laptop.recording()
    first, second = (
        {frame.sender for frame in recording.frames if frame.link == card.tap}
        for card in (CONTROL_CARDS.built_in, CONTROL_CARDS.hot_plugged)
    )
    missing = set(SENDERS) - first | bound_senders() - second
    assert not missing, f"unblocked, yet never seen outside: {names_of(missing)}"


def test_early_boot_loads_the_block(laptop: BootedLaptop) -> None:
    """Before any network manager, and without the daemon, the inet table stands and the card has its egress chain."""
    machine = laptop.machine
    machine.wait("the end of the boot", "systemctl", "is-active", "-q", "multi-user.target")
    link = laptop.built_in()

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


def test_units_are_sound(laptop: BootedLaptop) -> None:
    """This Debian's systemd and udev understand every unit and rule (for their confinement: container/)."""
    machine = laptop.machine
    units = [f"/usr/lib/systemd/system/{path.name}" for path in CHECKOUT.glob("systemd/*.service")]
    assert len(units) >= 4

    machine.check("systemd-analyze", "verify", "--man=no", *(unit.replace("@.", "@aovpn0.") for unit in units))
    if machine.run("udevadm", "verify", "--help").code == 0:  # systemd 254
        machine.check("udevadm", "verify", "/usr/lib/udev/rules.d/82-aovpnd-egress.rules")


def test_network_manager_gets_its_addresses(laptop: BootedLaptop) -> None:
    """Blocked, a laptop still gets its leases and its router, or no tunnel could ever come up."""
    link = laptop.built_in()

    laptop.wait_online(link)
    laptop.wait_tried(link, SENDERS)


def test_hot_plugged_card_is_blocked(laptop: BootedLaptop) -> None:
    """By the time that a network manager may look at a card that appears later, udev has put the chain on it."""
    link = laptop.plug_card()

    index = laptop.machine.check("cat", f"/sys/class/net/{link}/ifindex").strip()
    chain = laptop.machine.check("nft", "list", "chain", "netdev", "aovpnd_early", f"link_{index}")
    properties = laptop.machine.check("udevadm", "info", f"/sys/class/net/{link}")

    assert f'device "{link}"' in chain
    assert f"AOVPND_EGRESS=link_{index}" in properties
    laptop.wait_online(link)
    laptop.wait_tried(link, bound_senders())


def test_guests_nft_takes_every_ruleset(laptop: BootedLaptop) -> None:
    """Each ruleset that is shipped or that the compilers can write loads, and loads again in place of itself."""
    links = sorted({link for text in every_ruleset().values() for link in re.findall(r'device "([\w.@-]+)"', text)})
    script = "".join(f"ip link add name {link} type dummy\n" for link in links)
    script += f"for file in {RULESETS}/*; do nft -f $file && nft -f $file || echo refused: $file; done"

    result = laptop.machine.run("unshare", "--net", "sh", "-c", script)

    assert (result.code, result.out, result.err) == (0, "", "")


def test_kernel_wireguard_comes_up(laptop: BootedLaptop, world: World) -> None:
    """The daemon takes the block over, brings the tunnel up in the kernel, and traffic goes through it. The clock has
    been raised to a time that gateways believe.
    """
    machine = laptop.machine
    laptop.wait_online(laptop.built_in())
    assert int(machine.check("date", "+%s")) < time.time() - 86400
    started = machine.run("systemctl", "start", "aovpnd.service")
    assert abs(int(machine.check("date", "+%s")) - clockfile.EVERY_S - time.time()) < clockfile.EVERY_S, "it was raised"
    assert started.code == 0, machine.check("journalctl", "-b", "--no-pager", "-u", "aovpnd*")

    def status() -> dict[str, object]:
        answer: dict[str, object] = json.loads(machine.check("aovpnctl", "status", "--json"))
        return answer

    try:
        wait_for("the tunnel", lambda: status()["phase"] == "connected", deadline_s=180, poll_s=0.3)
    except LabError:
        pytest.fail(f"{status()}\n{machine.check('journalctl', '-b', '--no-pager', '-u', 'aovpnd*')}")
    assert status()["protected"] is True
    assert "wireguard" in machine.check("ip", "-details", "link", "show", "aovpn0")
    machine.check("ping", "-c", "3", "-i", "0.2", "-W", "5", str(plan.WEB4))
    assert world.gateway.handshakes() > 0
    laptop.wait_tried(laptop.built_in(), frozenset(SENDERS) - ROUTED)  # our routes refuse the others at once


def test_ike_comes_up(laptop: BootedLaptop) -> None:
    """Another tunnel, of IKE, by Debian's charon in its unit: the daemon goes over to it, and traffic through it."""
    machine = laptop.machine
    machine.run("aovpnctl", "connect", "office")  # on a busy machine charon may be up only after the answer

    def carries() -> bool:
        status = json.loads(machine.check("aovpnctl", "status", "--json"))
        (office,) = (tunnel for tunnel in status["tunnels"] if tunnel["name"] == "office")
        return bool(status["protected"] and office["state"] == "connected")

    try:
        wait_for("the tunnel", carries, deadline_s=180, poll_s=0.3)
    except LabError:
        pytest.fail(machine.check("journalctl", "-b", "--no-pager", "-u", "aovpnd*"))
    kinds = [link.get("linkinfo", {}).get("info_kind") for link in json.loads(machine.check("ip", "-d", "-j", "link"))]
    assert "xfrm" in kinds, "ESP is the kernel's"
    machine.check("ping", "-c", "3", "-i", "0.2", "-W", "5", str(plan.WEB4))
    assert labels(machine) == {f"{profile} (enforce)" for profile in ("aovpnd", "aovpnd-guard", "aovpnd-charon")}


def test_wireguard_go_comes_up(laptop: BootedLaptop) -> None:
    """On a kernel that has lost its WireGuard the tunnel of the first day is one of wireguard-go."""
    machine = laptop.machine
    machine.check("sh", "-c", "echo install wireguard /bin/false >/etc/modprobe.d/none.conf")
    machine.wait("the module to go", "modprobe", "-r", "wireguard")
    machine.run("aovpnctl", "connect", "home")

    def carries() -> bool:
        status = json.loads(machine.check("aovpnctl", "status", "--json"))
        (home,) = (tunnel for tunnel in status["tunnels"] if tunnel["name"] == "home")
        return bool(status["protected"] and home["state"] == "connected")

    wait_for("the tunnel", carries, deadline_s=180, poll_s=0.3)
    machine.wait("traffic", "ping", "-c", "3", "-i", "0.2", "-W", "5", str(plan.WEB4))
    assert labels(machine) == {f"{profile} (enforce)" for profile in ("aovpnd", "aovpnd-guard", "aovpnd-wireguard-go")}


def test_apparmor_confines(laptop: BootedLaptop) -> None:
    """All of ours ran in their profiles, enforced, and needed nothing that these refuse; what they need not, they do
    not get (for complain mode, and aovpnd-bus: `test_apparmor`).
    """
    machine = laptop.machine
    assert refused(machine) == []
    assert got_through(machine, None) == {attempt.name for attempt in ATTEMPTS}
    assert {profile: got_through(machine, profile) for profile in PROFILES} == PROFILES


def test_nothing_left_in_clear_since_power_on(laptop: BootedLaptop) -> None:
    """Since the first instruction, by any card, no frame was outside the allow-list or carried the token."""
    tried = laptop.tried()
    recording = laptop.recording()

    assert not recording.clear(), recording.describe()
    passed = clear_kinds(recording)
    assert min(passed[Kind.ARP], passed[Kind.DHCP4], passed[Kind.NDP]) > 0, passed
    assert sum(sum(counts.values()) for counts in tried.values()) > len(SENDERS), tried

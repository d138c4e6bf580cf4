# SPDX-License-Identifier: GPL-3.0-or-later
"""Every process of ours lives a whole life in its AppArmor profile: first with what that would refuse only told, then
with it refused. Nothing is, in either; and what a process does not need it does not get.

The laptop has D-Bus, polkit and NetworkManager, so `aovpnd-bus` has whom to talk to. Its kernel may not load its
WireGuard, so the first tunnel is wireguard-go's; the second is charon's, at first with the kernel's ESP and then with
charon's own.
"""

import itertools
import json
from collections.abc import Iterator
from typing import Final

import pytest

from aovpnd import names
from tests.lab import plan
from tests.lab.ike import Way
from tests.lab.ike_client import account
from tests.lab.process import LabError, wait_for
from tests.lab.product import CHECKOUT, installed
from tests.lab.tree import Symlink, Tree, text
from tests.lab.world import World
from tests.vm import FULL, managed
from tests.vm.confined import APPARMOR, ATTEMPTS, PROFILES, TELL_ALL, got_through, labels, refused
from tests.vm.images import LIFE, SUITES, image
from tests.vm.laptop import CARDS, BootedLaptop
from tests.vm.machine import MachineError

pytestmark = [
    pytest.mark.vm,
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(not FULL, reason="takes minutes: AOVPND_VM=all"),
]

COMPLAIN, ENFORCE = "complain", "enforce"
KERNEL: Final = f"{APPARMOR} module_blacklist=wireguard"
LOADED: Final = f"{names.VENDOR_DIR}/apparmor/aovpnd"
DEBIANS: Final = "/etc/apparmor.d/usr.sbin.charon-systemd"
"""Debian's profile for every charon; of Debian's profiles it alone is loaded, for the others take minutes here."""
CHARON: Final = names.CHARON_UNIT.format(link="aovpn0")
WIREGUARD_GO: Final = "wireguard-go"
USER: Final = "nobody"
_UNITS: Final = "/etc/systemd/system"
_MAY: Final = f"""polkit.addRule(function (action, subject) {{
    if (action.id.indexOf("{names.BUS_NAME}.") == 0 && subject.user == "{USER}") return polkit.Result.YES;
}});
"""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """The lab without its simulated laptop's links, with a gateway that speaks IKE, and a network to go to."""
    with World.build(links=(), tether=True, ike=True) as built:
        yield built


def files(world: World, mode: str) -> Tree:
    """What lies over the system: the product as it is shipped, or with profiles that only complain; two tunnels."""
    given = account(world.ike, Way.CERTIFICATE)
    profiles = (CHECKOUT / "etc" / "apparmor" / "aovpnd").read_text(encoding="utf-8")
    if mode == COMPLAIN:
        profiles = profiles.replace("flags=(", "flags=(complain,")
    return {
        **installed(("aovpnd-lockdown.service", names.UNIT, names.BUS_UNIT)),
        **{f"/etc/aovpnd/keys/{name}": text(key, 0o600) for name, key in given.files.items()},
        **TELL_ALL,
        LOADED: text(profiles),
        managed.TUNNEL: text(world.laptop.tunnel_conf, 0o600),
        "/etc/aovpnd/tunnels/office.toml": text(given.text, 0o600),
        "/etc/aovpnd/aovpnd.toml": text('[tunnel]\nprefer = ["home"]\n'),
        "/etc/polkit-1/rules.d/10-lab.rules": text(_MAY),
        "/etc/NetworkManager/conf.d/lab.conf": text("[keyfile]\nunmanaged-devices=*\n"),
        f"{_UNITS}/NetworkManager-wait-online.service": Symlink("/dev/null"),
        f"{_UNITS}/apparmor.service": Symlink("/dev/null"),
        f"{_UNITS}/aovpnd.service.d/slow.conf": text("[Service]\nWatchdogSec=300\n"),
    }


@pytest.fixture(scope="module", params=[*itertools.product(SUITES, (COMPLAIN, ENFORCE))], ids="-".join)
def life(request: pytest.FixtureRequest, world: World) -> Iterator[tuple[BootedLaptop, str]]:
    """A laptop from its boot on, in a Debian, and its profiles' mode."""
    suite, mode = request.param
    with BootedLaptop.power_on(image(suite, LIFE), world, files(world, mode), kernel=KERNEL, memory=768) as booted:
        yield booted, mode


@pytest.fixture
def laptop(life: tuple[BootedLaptop, str]) -> Iterator[BootedLaptop]:
    """The laptop; of what the test did nothing was refused, or would have been."""
    booted, _ = life
    before = len(refused(booted.machine))
    yield booted
    assert refused(booted.machine)[before:] == []


def journal(laptop: BootedLaptop) -> str:
    """What our processes said last, and where they are now."""
    status = laptop.machine.run("aovpnctl", "status").out
    return status + laptop.machine.check("journalctl", "-b", "--no-pager", "-u", "aovpnd*", "-n", "150")


def carried_by(laptop: BootedLaptop, tunnel: str) -> None:
    """Wait until a tunnel carries, and traffic goes through it."""

    def carries() -> bool:
        status = managed.status(laptop)
        states = {each["name"]: each["state"] for each in status["tunnels"]}
        return bool(status["protected"] and states[tunnel] == "connected")

    try:
        wait_for(f"the tunnel {tunnel}", carries, deadline_s=300, poll_s=0.5)
    except LabError:
        pytest.fail(journal(laptop))
    laptop.machine.wait("traffic", "ping", "-c", "1", "-W", "5", str(plan.WEB4))


def on_the_bus(laptop: BootedLaptop) -> None:
    """Wait until org.aovpnd1 answers."""
    call = ("busctl", "--timeout=5", "call", names.BUS_NAME, names.BUS_PATH, f"{names.BUS_NAME}.Manager", "Status")
    laptop.machine.wait("the bus", *call, seconds=300)


def as_user(laptop: BootedLaptop, *words: str) -> None:
    """What a user says, by D-Bus."""
    laptop.machine.check("runuser", "-u", USER, "--", "aovpnctl", *words)


def connect(laptop: BootedLaptop, tunnel: str) -> None:
    """A user connects, by D-Bus; where the machine is busy the tunnel may be up only after the answer."""
    laptop.machine.run("runuser", "-u", USER, "--", "aovpnctl", "connect", tunnel)
    carried_by(laptop, tunnel)


def test_boots(laptop: BootedLaptop, life: tuple[BootedLaptop, str]) -> None:
    """From power-on to the tunnel of wireguard-go, and everybody is in a profile."""
    machine = laptop.machine
    machine.wait("the end of the boot", "systemctl", "is-active", "-q", "multi-user.target", seconds=600)
    machine.check("apparmor_parser", "--replace", DEBIANS)

    carried_by(laptop, "home")
    on_the_bus(laptop)

    assert labels(machine) == {
        f"{profile} ({life[1]})" for profile in ("aovpnd", "aovpnd-bus", "aovpnd-guard", "aovpnd-wireguard-go")
    }


def test_window_by_the_bus(laptop: BootedLaptop) -> None:
    """A user disconnects, opens temporary access, ends it and connects again: all by D-Bus, with polkit asked."""
    as_user(laptop, "disconnect")
    as_user(laptop, "allow-temp", "2min", "--reason", "portal")
    managed.wait_phase(laptop, "temporary-access")
    as_user(laptop, "allow-temp", "--cancel")
    managed.wait_phase(laptop, "blocked")

    connect(laptop, "home")


def test_roams(laptop: BootedLaptop, world: World) -> None:
    """Another network."""
    card = CARDS.built_in
    laptop.machine.monitor("set_link", name=f"card-{card.name}", up=False)
    world.detach(card.tap)
    world.attach(card.tap, plan.TETHER.name)
    laptop.machine.monitor("set_link", name=f"card-{card.name}", up=True)

    script = f"ip -4 route show default | grep -q 'via {plan.TETHER.router4} '"
    laptop.machine.wait("the other network", "sh", "-c", script, seconds=300)

    carried_by(laptop, "home")


def test_ike(laptop: BootedLaptop, life: tuple[BootedLaptop, str]) -> None:
    """A tunnel of charon, in our profile and not in Debian's; what the gateway gave was written down."""
    machine = laptop.machine
    connect(laptop, "office")

    assert f"aovpnd-charon ({life[1]})" in labels(machine)
    assert "PLUTO_DNS4_1" in machine.check("sh", "-c", f"cat {names.RUNTIME_DIR}/charon/aovpn0/own/given.*")
    assert "xfrm" in machine.check("ip", "-details", "link", "show", "aovpn0")


def test_ike_with_charons_own_esp(laptop: BootedLaptop) -> None:
    """The same on a kernel without XFRM interfaces: charon opens the device of tunnels."""
    machine = laptop.machine
    as_user(laptop, "disconnect")
    machine.wait("the end of charon", "sh", "-c", f"! systemctl is-active -q {CHARON}")
    machine.check("sh", "-c", "echo install xfrm_interface /bin/false >/etc/modprobe.d/none.conf")
    machine.wait("the module to go", "modprobe", "-r", "xfrm_interface")

    connect(laptop, "office")
    assert "tun" in machine.check("ip", "-details", "link", "show", "aovpn0")


def test_comes_back(laptop: BootedLaptop) -> None:
    """Whoever is killed or started again comes back, in its profile."""
    machine = laptop.machine
    before = labels(machine)
    machine.check("systemctl", "kill", "-s", "KILL", CHARON)
    machine.check("systemctl", "kill", "-s", "KILL", names.BUS_UNIT)
    machine.check("systemctl", "restart", names.UNIT, names.GUARD_UNIT, seconds=600)
    carried_by(laptop, "office")
    on_the_bus(laptop)
    assert labels(machine) == before

    connect(laptop, "home")
    first = machine.check("pgrep", "-x", WIREGUARD_GO).strip()
    machine.check("pkill", "-KILL", "-x", WIREGUARD_GO)
    try:  # on another link, where the daemon still saw the first one's
        machine.wait("another one", "sh", "-c", f'now=$(pgrep -x {WIREGUARD_GO}) && [ "$now" != {first} ]')
    except MachineError:
        pytest.fail(journal(laptop))
    carried_by(laptop, "home")


def test_confines(life: tuple[BootedLaptop, str]) -> None:
    """What a profile does not name does not get through, not even by root, and is told; without a profile all does, and
    in complain mode all that is not denied by name.
    """
    (laptop, mode), everything = life, {attempt.name for attempt in ATTEMPTS}
    denied = {"aovpnd": {"passwords"}}
    assert got_through(laptop.machine, None) == everything
    for profile, may in PROFILES.items():
        before = len(refused(laptop.machine))
        expected = may if mode == ENFORCE else everything - denied.get(profile, set())
        assert got_through(laptop.machine, profile) == expected, profile
        told = refused(laptop.machine)[before:]
        assert all(f'profile="{profile}"' in line for line in told)
        assert len(told) >= len(everything - may), told


def test_stops(laptop: BootedLaptop) -> None:
    """A stop, and an end of the block: nobody of ours is left."""
    machine = laptop.machine
    managed.unblock(laptop)
    machine.check("systemctl", "stop", names.UNIT, names.BUS_UNIT)

    wait_for("the end of everybody", lambda: not labels(machine), deadline_s=120, poll_s=0.5)

    assert json.loads(machine.check("nft", "--json", "list", "tables"))["nftables"][1:] == []

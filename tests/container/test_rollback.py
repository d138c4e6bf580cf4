# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions that break the tunnel, by the real apt and dpkg: the one before comes back, and nothing leaves meanwhile.

The five minutes are seconds here, by a drop-in as an administrator would write one. What is judged how is tried without
a machine, in tests/unit/test_rollback.py.
"""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import pytest

from tests.container.booted import Booted, Manager, cards_before_a_boot, furniture
from tests.container.test_package import APT
from tests.lab.container import SUITES, Container
from tests.lab.process import LabError, wait_for
from tests.lab.product import CHECKOUT, installed
from tests.lab.tree import File, Tree, copied, text
from tests.netns.protected import Protected, Watch
from tools.deb import build

pytestmark = [pytest.mark.container, pytest.mark.root, pytest.mark.slow]

WHOLE: Final = "AOVPND_ROLLBACK" in os.environ
"""``make test-rollback``; otherwise one version on one Debian."""
LONG: Final = pytest.mark.skipif(not WHOLE, reason="takes minutes: make test-rollback")
UNIT: Final = "aovpnd-rollback.service"
KEPT: Final = "/var/lib/aovpnd-previous"
PIN: Final = "/etc/apt/preferences.d/aovpnd-rolled-back.pref"
AFTER_S, PROOF_S = 8, 3
SPANS: Final = f"""[Service]
Environment=AOVPND_ROLLBACK_AFTER_S={AFTER_S} AOVPND_ROLLBACK_PROOF_S={PROOF_S} AOVPND_ROLLBACK_PAUSE_S=1
"""
OLD, GOOD, DEAD, MUTE, MENDED = "1.0-1", "1.1-1", "2.0-1", "2.1-1", "3.0-1"


def dead() -> Tree:
    """No program of it starts, the guard's neither: its interpreter is nowhere."""
    programs = {
        path: entry
        for path, entry in installed().items()
        if isinstance(entry, File) and b"python3 -I" in entry.data[:40]
    }
    assert {"/usr/sbin/aovpnd", "/usr/sbin/aovpnd-guard", "/usr/bin/aovpnctl"} <= set(programs)
    return {path: File(entry.data.replace(b"python3", b"python4", 1), entry.mode) for path, entry in programs.items()}


def mute() -> Tree:
    """It runs, and takes no handshake for one."""
    place = "aovpnd/core/health.py"
    source = (CHECKOUT / place).read_text(encoding="utf-8")
    wanted = "    if state is None or path is None or not state.link.up"
    assert wanted in source
    broken = source.replace(wanted, "    if path is path:\n        return False\n" + wanted, 1)
    return {f"/usr/lib/python3/dist-packages/{place}": text(broken)}


VERSIONS: Final = {OLD: dict, GOOD: dict, DEAD: dead, MUTE: mute, MENDED: dict}


FILES: Final[dict[str, Tree]] = {}
"""What each Debian's machine was booted with."""


@pytest.fixture(scope="module")
def machine(nspawn: None, suite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    """A laptop at home with the real package, connected; the other versions lie in /root."""
    assert nspawn is None
    if suite != SUITES[0] and not WHOLE:
        pytest.skip("takes minutes: make test-rollback")
    place = tmp_path_factory.mktemp("versions")
    wanted = VERSIONS if WHOLE else {version: VERSIONS[version] for version in (OLD, GOOD, DEAD)}
    packages = {f"/root/{version}.deb": copied(build(place, version, made())) for version, made in wanted.items()}
    with ExitStack() as stack:
        net = stack.enter_context(Protected.build(tunnel=False, start=False))
        cards_before_a_boot(net.world)
        for link in net.world.links:
            net.lab.udev_rule(link)
        drop_in = {f"/etc/systemd/system/{UNIT}.d/quick.conf": text(SPANS)}
        conf = text(net.lab.tunnel_conf, 0o600)
        files = {**furniture(Manager.NETWORK_MANAGER), **packages, **drop_in, "/root/home.conf": conf}
        FILES[suite] = files
        net.world.attach("wlan0", "home")
        system = stack.enter_context(Container.boot(net.lab.host, suite, files))
        system.wait_booted()
        with net.watch() as watch:
            apt(system, OLD)
        laptop = Booted(net, system, watch, Manager.NETWORK_MANAGER, ExitStack())
        system.check("aovpnctl", "import", "/root/home.conf")
        laptop.wait_works()
        yield laptop


@pytest.fixture
def laptop(machine: Booted) -> Booted:
    """The same with the good version, which has passed."""
    if version(machine) != f"installed {GOOD}":
        apt(machine.system, GOOD)
    wait_for("the end of the trial", lambda: is_over(machine), deadline_s=60)
    machine.wait_works()
    return machine


def apt(system: Container, version: str, *words: str) -> str:
    """Install a version; what apt and dpkg said."""
    done = system.run(*APT, "--allow-downgrades", *words, "install", f"/root/{version}.deb", timeout_s=180)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def version(laptop: Booted) -> str:
    """What dpkg believes: state and version."""
    return laptop.system.check("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", "aovpnd")


def told(laptop: Booted) -> str:
    """What the trials have said."""
    return laptop.system.journal(UNIT)


def is_over(laptop: Booted) -> bool:
    """Whether no trial goes on, and nothing of it is left."""
    left = [laptop.system.path(path).exists() for path in (f"{KEPT}/trial", f"/etc/systemd/system/{UNIT}")]
    return not any(left) and not laptop.system.active(UNIT)


def outcome(laptop: Booted) -> str:
    """The record of a version that went: which, for which, and what then became of the tunnel; "" without one."""
    path = laptop.system.path(f"{KEPT}/rolled-back")
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def candidate(system: Container, *offered: str) -> str:
    """What ``apt upgrade`` would install where a repository offers some versions."""
    system.shell("rm -rf /root/repository; mkdir /root/repository")
    for version in offered:
        system.shell(
            f"""cp /root/{version}.deb /root/repository; cd /root/repository
            dpkg-deb --field {version}.deb >>Packages
            echo "Filename: ./{version}.deb" >>Packages; echo "Size: $(stat -c %s {version}.deb)" >>Packages
            echo "SHA256: $(sha256sum {version}.deb | cut -d ' ' -f 1)" >>Packages; echo >>Packages"""
        )
    system.write("/root/local.list", "deb [trusted=yes] file:/root/repository ./\n")
    only = ("-o", "Dir::Etc::sourcelist=/root/local.list", "-o", "Dir::Etc::sourceparts=/dev/null")
    system.check("apt-get", *only, "-o", "APT::Sandbox::User=root", "update")
    policy = system.check("apt-cache", *only, "policy", "aovpnd")
    return next(line.split()[1] for line in policy.splitlines() if line.startswith("  Candidate:"))


def until_over(laptop: Booted, watch: Watch) -> None:
    """Wait for the end of the trial, and until everybody has tried again."""
    try:
        watch.until("the end of the trial", lambda: is_over(laptop), deadline_s=AFTER_S * 15)
    except LabError as error:
        raise AssertionError(f"{error}\n{version(laptop)}\n{told(laptop)}\n{laptop.describe()}") from error


@contextmanager
def on_trial(laptop: Booted) -> Iterator[Watch]:
    """Nothing leaves until the trial is over, and everybody has tried again."""
    with laptop.net.nothing_leaves() as watch:
        yield watch
        until_over(laptop, watch)


def test_a_version_that_is_dead_goes_again(machine: Booted) -> None:
    """A good version stays. One of which no program starts goes, by dpkg, so that apt knows; the tunnel is back, and
    nothing has left in between; apt does not take that version again.
    """
    system = machine.system
    with on_trial(machine):
        apt(system, GOOD)
    assert version(machine) == f"installed {GOOD}"
    assert f"the tunnel is back with version {GOOD}; version {OLD} stays at hand" in told(machine)

    with on_trial(machine):
        apt(system, DEAD)
    assert (version(machine), outcome(machine)) == (f"installed {GOOD}", f"{DEAD} {GOOD} connected"), told(machine)
    machine.wait_works()
    assert f"version {DEAD} has not had the tunnel back" in told(machine)
    assert f"version {GOOD} is back, and the tunnel with it" in told(machine)
    assert system.run("dpkg", "--audit").stdout == ""
    assert "python4" not in system.check("cat", "/usr/sbin/aovpnd", "/usr/sbin/aovpnd-guard")
    assert "rolled-back" in {problem["code"] for problem in machine.status()["problems"]}
    assert f"with version {DEAD} the tunnel did not come back" in system.run("aovpnctl", "doctor").stdout
    assert f"\nPin: version {DEAD}\nPin-Priority: -1\n" in system.path(PIN).read_text(encoding="utf-8")


@LONG
def test_a_version_that_never_connects_goes_again(laptop: Booted) -> None:
    """Its daemon runs and takes no handshake for one: the version before returns."""
    with on_trial(laptop):
        apt(laptop.system, MUTE)
    laptop.wait_works()

    assert (version(laptop), outcome(laptop)) == (f"installed {GOOD}", f"{MUTE} {GOOD} connected")
    assert candidate(laptop.system, MUTE) == GOOD, "apt does not take it again"
    assert candidate(laptop.system, MUTE, MENDED) == MENDED, "and takes another"


@LONG
def test_offline_it_waits(laptop: Booted) -> None:
    """Without a network the same version stays, for longer than it may be without the tunnel; with one, it goes."""
    with on_trial(laptop) as watch:
        apt(laptop.system, MUTE)
        laptop.world.detach("wlan0")
        until = time.monotonic() + 3 * AFTER_S
        watch.until("the time to pass", lambda: time.monotonic() > until, deadline_s=4 * AFTER_S)
        assert version(laptop) == f"installed {MUTE}"
        assert not is_over(laptop)
        laptop.roam("home")
    laptop.wait_works()

    assert (version(laptop), outcome(laptop)) == (f"installed {GOOD}", f"{MUTE} {GOOD} connected")


@LONG
def test_another_upgrade_in_the_middle(laptop: Booted) -> None:
    """It is tried in place of the broken one, and stays; what is kept is still the version that had worked. Going back
    to that one by hand is a change of version like any other.
    """
    system = laptop.system
    with on_trial(laptop):
        apt(system, MUTE)
        assert UNIT in system.show("multi-user.target", "Wants")["Wants"].split(), "it goes on after a reboot"
        system.kill(UNIT)  # whoever kills the judge gets another one
        apt(system, MENDED)
    assert (version(laptop), outcome(laptop)) == (f"installed {MENDED}", "")
    assert system.check("dpkg-deb", "--field", f"{KEPT}/aovpnd.deb", "Version").strip() == GOOD

    with on_trial(laptop):
        apt(system, GOOD)
    laptop.wait_works()
    assert version(laptop) == f"installed {GOOD}"
    assert f"the tunnel is back with version {GOOD}; version {MENDED} stays at hand" in told(laptop)


@LONG
def test_it_cannot_return(laptop: Booted) -> None:
    """What was kept is damaged: the network stays closed, it is said, and the way back by hand is apt's."""
    system = laptop.system
    with on_trial(laptop):
        apt(system, MUTE)
        system.write(f"{KEPT}/aovpnd.deb", "no package\n")
    assert (version(laptop), outcome(laptop)) == (f"installed {MUTE}", f"{MUTE} {GOOD} failed")
    assert f"version {GOOD} cannot be installed" in told(laptop)
    with laptop.net.nothing_leaves():
        apt(system, GOOD)
        laptop.wait_works()
    assert outcome(laptop) == ""
    assert not system.path(PIN).exists()


@LONG
def test_the_power_is_cut_while_it_returns(laptop: Booted) -> None:
    """Dpkg is in the middle of its work: the next boot is closed from its beginning, and has the work done."""
    net, world, system = laptop.net, laptop.world, laptop.system
    with net.nothing_leaves():
        apt(system, MUTE)
        wait_for("the end of the time", system.path(f"{KEPT}/trial/back").exists, deadline_s=60, poll_s=0.01)
        wait_for("dpkg to unpack", system.path("/var/lib/dpkg/tmp.ci/control").exists, deadline_s=10, poll_s=0.005)
        system.close()
    # What no machine keeps over a power cut.
    world.detach("wlan0")
    net.lab.host.run("nft", "flush", "ruleset")
    cards_before_a_boot(world)
    for link in world.links:
        net.lab.udev_rule(link)
    with net.watch() as watch:
        world.attach("wlan0", "home")
        with Container.boot(net.lab.host, system.suite, FILES[system.suite], system.disk) as again:
            laptop.system = again
            again.wait_booted()
            again.check("nmcli", "--wait", "0", "connection", "up", "wlan0")
            until_over(laptop, watch)
            laptop.wait_works()
            watch.everybody_tries()
            assert (version(laptop), outcome(laptop)) == (f"installed {GOOD}", f"{MUTE} {GOOD} connected"), told(laptop)
            assert again.run("dpkg", "--audit").stdout == ""
    watch.assert_silence()

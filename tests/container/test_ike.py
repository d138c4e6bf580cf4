# SPDX-License-Identifier: GPL-3.0-or-later
"""An IKE tunnel on a whole Debian: charon in a unit of its own, which the daemon starts, adopts and makes anew."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from aovpnd import names
from tests.container.booted import TUNNEL, Booted
from tests.lab.container import ALICE
from tests.lab.ike import Way
from tests.lab.ike_client import FAST, account
from tests.lab.people import Place, run_as
from tests.lab.process import wait_for
from tests.netns.protected import Watch

pytestmark = [pytest.mark.container, pytest.mark.root, pytest.mark.slow]

CHARON: Final = names.CHARON_UNIT.format(link="aovpn0")
WAY: Final = Way.EAP_MSCHAPV2
OFFICE: Final = "/etc/aovpnd/tunnels/office.toml"
CAP_NET_ADMIN: Final = 1 << 12
KEYS: Final = "/etc/aovpnd/keys"
PLACE: Final = "/run/aovpnd/charon/aovpn0"
DEBIANS: Final = "strongswan.service"
MONITOR: Final = "lab-monitor"
MONITORED: Final = "/run/lab-monitored"
AGENT: Final = "asks-people.service"
REPLY: Final = "/usr/lib/systemd/systemd-reply-password"


@pytest.fixture(scope="module")
def office(laptop: Booted) -> Iterator[Booted]:
    """The laptop with an IKE tunnel instead of its WireGuard one, connected; given back as it was."""
    system, world = laptop.system, laptop.world
    gateway = world.ike_gateways[0] if world.ike_gateways else world.speak_ike()
    given = account(gateway, WAY, settings=FAST)
    laptop.net.way = WAY
    for name, text in given.files.items():
        system.write(f"{KEYS}/{name}", text, 0o600)
    system.write(OFFICE, given.text, 0o600)
    kept = Path("/root") / Path(TUNNEL).name
    with laptop.net.nothing_leaves() as watch:
        system.check("mv", TUNNEL, str(kept))
        system.check("systemctl", "reload", names.UNIT)
        system.run("aovpnctl", "connect", "office")  # an earlier test may have chosen the other one by its name
        watch.until("charon", lambda: system.main_pid(CHARON) != 0)
        _wait_carried_by(laptop, "office")
        laptop.until_works(watch)
    yield laptop
    with laptop.net.nothing_leaves() as watch:
        system.shell(f"mv {kept} {TUNNEL}; rm -r {OFFICE} {KEYS}")
        system.check("systemctl", "reload", names.UNIT)
        system.run("aovpnctl", "connect", "home")
        watch.until("the end of charon", lambda: system.main_pid(CHARON) == 0)
        laptop.net.way = None
        _wait_carried_by(laptop, "home")
        laptop.until_works(watch)


def _wait_carried_by(laptop: Booted, name: str) -> None:
    """The one is there as soon as it carries, and status speaks of the other until the pass is over."""

    def carries() -> bool:
        return any(each["name"] == name and each["state"] == "connected" for each in laptop.status()["tunnels"])

    wait_for(f"the tunnel {name}", carries, deadline_s=30, poll_s=0.1)


def test_charon_is_confined(office: Booted) -> None:
    """It has a user and one capability; nobody but root and that user gets at its socket, and it gets at no key and at
    no file but its own.
    """
    system = office.system
    office.assert_confined(CHARON, "aovpnd-charon", CAP_NET_ADMIN)
    pid, uid = system.main_pid(CHARON), system.check("id", "-u", "aovpnd-charon").strip()
    inside = ("nsenter", f"--target={pid}", "--mount", "--setgid=0")

    assert system.check("stat", "-c", "%A %U %G", f"{PLACE}/own/vici") == "srwxrwx--- aovpnd-charon root\n"
    assert system.check("stat", "-c", "%A %U %G", f"{PLACE}/strongswan.conf") == "-rw-r----- root root\n"
    assert "password_file" in system.check(*inside, "--setuid=0", "cat", OFFICE)
    system.check(*inside, f"--setuid={uid}", "touch", f"{PLACE}/own/here")
    for refused in (("cat", OFFICE), ("touch", f"{PLACE}/strongswan.conf"), ("touch", "/etc/resolv.conf")):
        done = system.run(*inside, f"--setuid={uid}", *refused)
        assert done.returncode != 0, refused
        assert any(word in done.stderr for word in ("ermi", "ead-only")), done.stderr
    assert system.run("runuser", "-u", "alice", "--", "ls", PLACE).returncode != 0


def test_what_the_gateway_gave(office: Booted) -> None:
    """Addresses and resolvers of the gateway are in use: systemd-resolved asks those, by the tunnel."""
    pool = office.world.ike.pool
    resolvers = office.system.check("resolvectl", "dns", "aovpn0").partition(": ")[2].split()

    assert {str(pool.inside4), str(pool.inside6)} <= set(resolvers)


def test_daemon_restarts(office: Booted) -> None:
    """A new daemon adopts charon and its SA: the gateway hears nothing of it."""
    system, gateway = office.system, office.world.ike
    before, (sa,) = system.main_pid(CHARON), gateway.sas()
    with office.net.nothing_leaves() as watch:
        system.check("systemctl", "restart", names.UNIT)
        office.until_works(watch)
    assert system.main_pid(CHARON) == before
    assert [each.unique for each in gateway.sas()] == [sa.unique]


def test_charon_is_killed(office: Booted) -> None:
    """Another one, another SA; nothing leaves meanwhile. (One that hangs is ended as in test_hardening.)"""
    system, before = office.system, office.system.main_pid(CHARON)
    with office.net.nothing_leaves() as watch:
        system.check("systemctl", "kill", "-s", "KILL", CHARON)
        watch.until("another charon", lambda: system.main_pid(CHARON) not in {0, before})
        office.until_works(watch)


def test_secrets_as_credentials(office: Booted) -> None:
    """Handed over with the files that it names, the tunnel carries as before; its password is encrypted on the disk,
    and decrypted for the daemon alone, also after a restart. Another import makes it a plain file again.
    """
    system, link = office.system, f"{KEYS}/alice"
    password = system.check("cat", link)
    system.shell(f"mkdir /root/handed && cp -r {OFFICE} {KEYS} /root/handed")
    with office.net.nothing_leaves() as watch:
        try:
            system.check("aovpnctl", "import", "--replace", "--encrypt", "/root/handed/office.toml")
            _wait_carried_by(office, "office")
            office.until_works(watch)
            assert system.check("readlink", link).strip() == f"{names.CREDENTIALS_DIR}/keys@alice"
            assert password.strip() not in system.check("cat", "/etc/credstore.encrypted/aovpnd.keys@alice")
            system.check("systemctl", "restart", names.UNIT)
            _wait_carried_by(office, "office")
            office.until_works(watch)
        finally:
            system.check("aovpnctl", "import", "--replace", "/root/handed/office.toml")
            system.shell("rm -r /root/handed")
            _wait_carried_by(office, "office")
            office.until_works(watch)
    assert system.run("readlink", link).returncode != 0
    assert system.check("cat", link) == password


def test_the_machines_own_charon(office: Booted) -> None:
    """Debian's strongswan.service comes and goes beside ours, and has the usual ports; ours does not notice."""
    system, before = office.system, office.system.main_pid(CHARON)
    with office.net.nothing_leaves() as watch:
        system.shell(f"systemctl unmask --quiet {DEBIANS}; systemctl daemon-reload; systemctl start {DEBIANS}")
        try:
            wait_for("Debian's charon", lambda: "4500" in system.check("ss", "-Hulnp", "sport", "=", ":4500"))
            office.until_works(watch)
        finally:
            system.shell(f"systemctl stop {DEBIANS}; systemctl mask --quiet {DEBIANS}")
        office.until_works(watch)
    assert system.main_pid(CHARON) == before


@contextlib.contextmanager
def _asking(office: Booted) -> Iterator[Watch]:
    """The office's tunnel waits for alice's password, and nothing leaves; as before in the end."""
    system, text = office.system, office.system.check("cat", OFFICE)
    with office.net.nothing_leaves() as watch:
        system.write(OFFICE, text.replace('password_file = "keys/alice"', 'password = { ask = "once" }'), 0o600)
        try:
            system.check("systemctl", "reload", names.UNIT)
            watch.until("a problem", lambda: "sign-in-wanted" in {each["code"] for each in office.status()["problems"]})
            yield watch
        finally:
            system.write(OFFICE, text, 0o600)
            system.check("systemctl", "reload", names.UNIT)
    _wait_carried_by(office, "office")


def test_systemds_agents_ask(office: Booted) -> None:
    """A tunnel whose password nobody has given is closed; ``aovpnctl sign-in --agent`` has systemd ask for it, whoever
    answers by systemd's own protocol brings it up, and the question shows no secret.
    """
    system, secret = office.system, office.world.ike.password
    with _asking(office) as watch:
        try:
            system.check("systemd-run", "--quiet", f"--unit={AGENT}", "aovpnctl", "sign-in", "--agent")
            asked = wait_for("systemd's question", lambda: system.shell("cat /run/systemd/ask-password/ask.* || true"))
            assert "Message=password of alice, for office (" in asked
            socket = next(line.partition("=")[2] for line in asked.splitlines() if line.startswith("Socket="))
            system.shell(f"printf %s {secret} | {REPLY} 1 {socket}")
            _wait_carried_by(office, "office")
            office.until_works(watch)
            assert secret not in system.check("journalctl", "--no-pager", "--output=export")
        finally:
            system.run("systemctl", "stop", AGENT)


def test_whoever_sits_there_signs_in(office: Booted) -> None:
    """An ordinary user, over the real bus, with the real polkit's leave and that of aovpnd-bus's confinement; neither
    whoever watches the bus nor the journal sees what he typed. From afar he is refused.
    """
    system, secret = office.system, office.world.ike.password
    words = ("aovpnctl", "sign-in", "--stdin")
    with _asking(office) as watch:
        refused = run_as(system, ALICE, Place.AFAR, *words, stdin=f"{secret}\n")
        assert (refused.returncode, "polkit says no" in refused.stderr) == (1, True)
        output = f"--property=StandardOutput=file:{MONITORED}"
        system.check("systemd-run", "--quiet", f"--unit={MONITOR}", output, "busctl", "monitor", "org.aovpnd1")
        try:
            look = ("busctl", "call", "org.aovpnd1", "/org/aovpnd1", "org.aovpnd1.Manager", "Status")

            def watches() -> bool:
                # systemd-run is through before the unit's program has begun, and with it the file of its output
                return bool(system.check(*look)) and "Member=Status" in system.run("cat", MONITORED).stdout

            wait_for("the monitor", watches)
            done = run_as(system, ALICE, Place.SEAT, *words, stdin=f"{secret}\n")
            assert (done.returncode, done.stdout, done.stderr) == (0, "signed in: the tunnel office is up\n", "")
            office.until_works(watch)
            wait_for("the call", lambda: "Member=SignIn" in system.check("cat", MONITORED))
            assert secret not in system.check("cat", MONITORED)
            assert secret not in system.check("journalctl", "--no-pager", "--output=export")
        finally:
            system.run("systemctl", "stop", MONITOR)
            system.run("rm", MONITORED)

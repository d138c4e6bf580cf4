# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may what, by the real polkit, logind and D-Bus: a seat is not a password, and neither is an administrator."""

import re

import pytest

from aovpnd import names
from tests.container.booted import BUS_UNIT, Booted
from tests.lab import plan
from tests.lab.container import ADMIN, ALICE, BOB
from tests.lab.people import Place, Terminal, at_the_seat, from_afar, run_as
from tests.lab.process import wait_for
from tests.netns.protected import UNROUTED

pytestmark = [pytest.mark.container, pytest.mark.root, pytest.mark.slow]

PROMPT = r"Password: "  # the prompt of polkit's agent
NETWORK_MANAGER = (
    "org.freedesktop.NetworkManager",
    "/org/freedesktop/NetworkManager",
    "org.freedesktop.NetworkManager",
)
REPLACE_EXISTING = "7"  # every flag of RequestName


def serves(laptop: Booted) -> bool:
    """Whether org.aovpnd1 answers."""
    words = ("org.aovpnd1", "/org/aovpnd1", "org.aovpnd1.Manager", "Status")
    return laptop.system.run("busctl", "--timeout=2", "call", *words).returncode == 0


def test_whoever_sits_here_may_connect(laptop: Booted) -> None:
    """An active local session connects without a password; what opens the machine takes one, also from there."""
    connected = run_as(laptop.system, ALICE, Place.SEAT, "aovpnctl", "connect", "home")
    opened = run_as(laptop.system, ALICE, Place.SEAT, "aovpnctl", "allow-temp", "1min")

    assert (connected.returncode, connected.stderr) == (0, "")
    assert opened.returncode == 1
    assert "takes a password" in opened.stderr
    assert laptop.works()


@pytest.mark.parametrize("place", [Place.AFAR, Place.NOWHERE])
@pytest.mark.parametrize("command", [("connect", "home"), ("allow-temp", "1min"), ("unblock",), ("disconnect",)])
def test_nobody_else_may(laptop: Booted, place: Place, command: tuple[str, ...]) -> None:
    """A session without a seat, and a program without a session, are refused with exit code 1 and a reason."""
    done = run_as(laptop.system, ALICE, place, "aovpnctl", *command)

    assert done.returncode == 1
    assert re.search(r"polkit says no|takes a password", done.stderr), done.stderr
    assert laptop.status()["phase"] == "connected"


def test_somebody_else_sits_there(laptop: Booted) -> None:
    """A local session that is not the active one is refused: somebody else uses the machine now."""
    script = "echo there; read -r go; exec aovpnctl connect home"
    with Terminal.open(laptop.system, ALICE, Place.SEAT, "sh", "-c", script) as terminal:
        terminal.read_until("there")
        with at_the_seat(laptop.system, BOB):
            terminal.enter("go")
            code, shown = terminal.finish()

    assert code == 1
    assert "polkit says no" in shown


def test_temporary_access_takes_the_own_password_each_time(laptop: Booted) -> None:
    """Polkit's agent asks in the terminal. A wrong password opens nothing; the right one opens the machine; the next
    time it is asked for again; ending it takes none.
    """
    system = laptop.system
    command = ("aovpnctl", "allow-temp", "1min", "--reason", "portal")
    system.check("aovpnctl", "disconnect")
    try:
        with laptop.net.nothing_leaves(UNROUTED) as watch:
            with Terminal.open(system, ALICE, Place.SEAT, *command) as terminal:
                shown = terminal.read_until(PROMPT)
                terminal.enter_secret(BOB.password)
                code, _ = terminal.finish()
            watch.everybody_tries()
        assert f"as: {ALICE.name}" in shown
        assert code == 1
        assert laptop.status()["phase"] == "blocked"

        with Terminal.open(system, ALICE, Place.SEAT, *command) as terminal:
            terminal.read_until(PROMPT)
            terminal.enter_secret(ALICE.password)
            code, shown = terminal.finish()
        assert code == 0, shown
        status = laptop.wait_phase("temporary-access")
        assert status["temporary_access"]["granted_to"] == ALICE.name
        assert laptop.net.address_outside(4) == plan.HOME.wan4

        with Terminal.open(system, ALICE, Place.SEAT, *command) as terminal:
            terminal.read_until(PROMPT)
        ended = run_as(system, ALICE, Place.SEAT, "aovpnctl", "allow-temp", "--cancel")
        assert ended.returncode == 0, ended.stderr
        with laptop.net.nothing_leaves(UNROUTED):
            assert laptop.status()["phase"] == "blocked"
    finally:
        system.check("aovpnctl", "connect", "home")
        laptop.wait_works()


def test_administrators_actions_take_an_administrator(laptop: Booted) -> None:
    """Disconnecting: an ordinary user's own password is none of an administrator's."""
    system = laptop.system
    with Terminal.open(system, ALICE, Place.SEAT, "aovpnctl", "disconnect") as terminal:
        shown = terminal.read_until(PROMPT)
        terminal.enter_secret(ALICE.password)
        code, _ = terminal.finish()
    assert f"as: {ADMIN.name}" in shown
    assert code == 1
    assert laptop.status()["phase"] == "connected"

    with Terminal.open(system, ALICE, Place.SEAT, "aovpnctl", "disconnect") as terminal:
        terminal.read_until(PROMPT)
        terminal.enter_secret(ADMIN.password)
        code, shown = terminal.finish()
    try:
        assert code == 0, shown
        assert laptop.status()["phase"] == "blocked"
    finally:
        system.check("aovpnctl", "connect", "home")
        laptop.wait_works()


def test_polkit_is_away(laptop: Booted) -> None:
    """Without polkit everybody but root is refused."""
    system = laptop.system
    system.shell("systemctl mask --runtime polkit.service; systemctl stop polkit.service")
    try:
        asked = run_as(system, ALICE, Place.SEAT, "aovpnctl", "connect", "home")
        system.check("aovpnctl", "connect", "home")
    finally:
        system.shell("systemctl unmask --runtime polkit.service; systemctl start polkit.service")

    assert asked.returncode == 1
    assert "polkit cannot be asked" in asked.stderr


def test_the_name_is_ours(laptop: Booted) -> None:
    """The bus gives org.aovpnd1 to nobody else, asked as forcefully as can be."""
    bus = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "RequestName")
    taken = run_as(laptop.system, ALICE, Place.SEAT, "busctl", "call", *bus, "su", "org.aovpnd1", REPLACE_EXISTING)

    assert taken.returncode != 0
    assert re.search("Access denied|not allowed to own", taken.stderr), taken.stderr


def test_killed_it_comes_back(laptop: Booted) -> None:
    """SIGKILL to aovpnd-bus, and to the bus below it: not a packet leaves, and both serve again."""
    daemon = laptop.system.main_pid(names.UNIT)
    with laptop.net.nothing_leaves() as watch:
        for unit in (BUS_UNIT, "dbus.service"):
            laptop.system.kill(unit)
            watch.until(f"an answer after {unit} died", lambda: serves(laptop))
        laptop.back_on_the_bus()
        laptop.system.check("systemctl", "start", "NetworkManager.service")  # Debian stops it with the bus
        laptop.until_works(watch)

    assert laptop.system.main_pid(names.UNIT) == daemon


def test_connectivity_check(laptop: Booted) -> None:
    """NetworkManager's connectivity check, which asks a server for nothing else than that, is off while the block is
    on, and as it was without it.
    """
    system = laptop.system
    words = ("busctl", "get-property", *NETWORK_MANAGER, "ConnectivityCheckEnabled")
    wait_for("the check to be off", lambda: system.check(*words).split() == ["b", "false"])
    system.check("aovpnctl", "unblock")
    try:
        wait_for("the check to be on", lambda: system.check(*words).split() == ["b", "true"])
    finally:
        system.check("aovpnctl", "block")
        laptop.wait_works()
    wait_for("the check to be off", lambda: system.check(*words).split() == ["b", "false"])


def test_first_block_from_afar(laptop: Booted) -> None:
    """Who has come over the network is known to be there, by logind and not by what he says; the first block then waits
    for somebody's word, the command says so before, and an administrator gives it.
    """
    system = laptop.system
    seen = ("python3", "-I", "-c", "from aovpnd.logins import logins; print(logins()[0].value)")
    system.check("aovpnctl", "unblock")
    system.check("systemctl", "stop", names.UNIT)
    system.path(f"{names.STATE_DIR}/{names.CONFIRMATION_FILE}").unlink()
    system.check("systemctl", "start", names.UNIT)
    assert system.check(*seen).strip() == "nobody"
    assert run_as(system, ALICE, Place.SEAT, *seen).stdout.strip() == "local"
    with from_afar(system, BOB):
        assert run_as(system, ALICE, Place.NOWHERE, *seen).stdout.strip() == "remote"
        blocked = system.run("aovpnctl", "block")
        block = laptop.status()["block"]
        assert "undoes itself after 60 s" in blocked.stderr
        assert "unless you keep it (aovpnctl confirm)" in blocked.stdout
        assert block["confirmed"] is False
        assert 0 < block["undone_in_s"] <= 60
        assert run_as(system, ALICE, Place.SEAT, "aovpnctl", "confirm").returncode == 1
        assert "the block stays" in system.check("aovpnctl", "confirm")
        assert laptop.status()["block"]["confirmed"] is True
    assert system.check(*seen).strip() == "nobody"
    laptop.wait_works()

# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of who may command, as the real polkit, logind and dbus-daemon apply it; and whether the stand-ins of
tests/bus are like the real services.
"""

import re
import shlex
from collections.abc import Callable
from typing import Final
from xml.etree import ElementTree as ET

import pytest

from tests.bus.services import NM, NM_PATH, Login, NetworkManager, Polkit
from tests.bus.table import METHODS, POLKITS_WORD, TABLE, Outcome, Who, expected
from tests.bus.table import Polkit as Does
from tests.container.booted import BUS_UNIT, Booted
from tests.lab.container import ALICE, BOB
from tests.lab.people import Place, Terminal, at_the_seat, run_as
from tests.lab.process import wait_for

pytestmark = [pytest.mark.container, pytest.mark.root, pytest.mark.slow]

ARGUMENTS: Final = {
    "AllowTemporaryAccess": ("us", "60", "portal"),
    "OpenPortal": ("u", "60"),
    "Connect": ("s", "home"),
    "Explain": ("s", ""),
}
SAID: Final = {
    "polkit says no": Outcome.NO,
    "takes a password": Outcome.ASK,
    "polkit cannot be asked": Outcome.UNREACHABLE,
    "the question was cancelled": Outcome.CLOSED,
    "nothing is asked for by home": Outcome.DONE,
}
"""Of the texts of errors; the last one is the daemon's, who was asked."""
CALL: Final = "busctl --timeout=20 call org.aovpnd1 /org/aovpnd1 org.aovpnd1.Manager"
SIGN_IN: Final = """
import fcntl, os
from gi.repository import Gio, GLib
words = os.memfd_create("answers", os.MFD_ALLOW_SEALING)
os.write(words, b'{"1": "a word"}')
fcntl.fcntl(words, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
beside = Gio.UnixFDList.new_from_array([words])
where = ("org.aovpnd1", "/org/aovpnd1", "org.aovpnd1.Manager", "SignIn")
bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)
try:
    print(bus.call_with_unix_fd_list_sync(*where, GLib.Variant("(sh)", ("home", 0)), None, 0, 20000, beside, None)[0])
except GLib.Error as error:
    print("Call failed:", error.message)
"""
"""busctl(1) of Debian 12 passes no descriptors."""
DRIVER: Final = "busctl call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus"
SERVICE_USER: Final = "games"
NOT_BY_ROOT: Final = ("Unblock", "Disconnect", "AllowTemporaryAccess", "OpenPortal")
"""What is left out for root, who needs no polkit: it would open the machine, or take the tunnel down."""


def every_method(*left_out: str) -> str:
    """A script of sh(1) that calls every method, and writes a line for each."""

    def call(method: str) -> str:
        if method == "SignIn":
            return shlex.join(("python3", "-I", "-c", SIGN_IN))
        return f"{CALL} {shlex.join((method, *ARGUMENTS.get(method, ())))}"

    return "; ".join(f"echo {method}: $({call(method)} 2>&1)" for method in METHODS if method not in left_out)


def outcomes(text: str) -> dict[str, Outcome]:
    """What came of each method, by what was written."""
    found = {}
    for line in text.splitlines():
        method, colon, said = line.strip().partition(": ")
        if colon and method in METHODS:
            refused = [outcome for words, outcome in SAID.items() if words in said]
            found[method] = refused[0] if refused else Outcome.DONE if "Call failed" not in said else None
    return {method: outcome for method, outcome in found.items() if outcome is not None}


def at_the_screen(laptop: Booted) -> str:
    """Everything, by the active user."""
    return run_as(laptop.system, ALICE, Place.SEAT, "sh", "-c", every_method()).stdout


def in_the_background(laptop: Booted) -> str:
    """Everything, by somebody who was at the screen, and in whose place somebody else is there now."""
    script = f"echo there; read -r go; {every_method()}"
    with Terminal.open(laptop.system, ALICE, Place.SEAT, "sh", "-c", script) as terminal:
        terminal.read_until("there")
        with at_the_seat(laptop.system, BOB):
            terminal.enter("go")
            return terminal.finish(deadline_s=60)[1]


def of_a_service(laptop: Booted) -> str:
    """Everything, by a program of another service."""
    words = ("systemd-run", "--quiet", "--wait", "--collect", "--pipe", f"--uid={SERVICE_USER}")
    return laptop.system.check(*words, "--", "sh", "-c", every_method())


BY: Final[dict[Who, Callable[[Booted], str]]] = {
    Who.ACTIVE: at_the_screen,
    Who.INACTIVE: in_the_background,
    Who.REMOTE: lambda laptop: run_as(laptop.system, ALICE, Place.AFAR, "sh", "-c", every_method()).stdout,
    Who.SESSIONLESS: lambda laptop: run_as(laptop.system, ALICE, Place.NOWHERE, "sh", "-c", every_method()).stdout,
    Who.SERVICE: of_a_service,
    Who.ROOT: lambda laptop: laptop.system.check("sh", "-c", every_method(*NOT_BY_ROOT)),
}


@pytest.mark.parametrize("who", BY)
def test_table(laptop: Booted, who: Who) -> None:
    """Every method, by everybody, without anybody to ask: as docs/security.md says, and the machine stays as it was."""
    text = BY[who](laptop)
    left_out = set(NOT_BY_ROOT) if who is Who.ROOT else set()

    assert outcomes(text) == {
        method: expected(method, who, Does.DEFAULTS) for method in METHODS if method not in left_out
    }, text
    laptop.wait_works()


def test_actions_are_polkits(laptop: Booted) -> None:
    """What polkit has read from our file is the page's table, and nothing else is ours."""
    told = laptop.system.check("pkaction", "--verbose")
    found = {}
    for entry in re.split(r"\n(?=\S)", told):
        action, _, rest = entry.strip().partition(":\n")
        if action.startswith("org.aovpnd1"):
            implicit = dict(re.findall(r"implicit (\w+): +(\w+)", rest))
            assert "org.freedesktop.policykit.owner -> unix-user:aovpnd-bus" in rest
            found[action] = (implicit["active"], implicit["inactive"], implicit["any"])

    assert found == {
        action: (POLKITS_WORD[row.at_the_screen], *[POLKITS_WORD[row.elsewhere]] * 2) for action, row in TABLE.items()
    }


def test_name_is_nobodys_meanwhile(laptop: Booted) -> None:
    """While aovpnd-bus is down nobody can have its name, not even root, and no call starts another one."""
    system = laptop.system
    system.check("systemctl", "stop", BUS_UNIT)
    try:
        script = f"{DRIVER} RequestName su org.aovpnd1 7; {DRIVER} StartServiceByName su org.aovpnd1 0; {CALL} Status"
        for done in (
            run_as(system, ALICE, Place.SEAT, "sh", "-c", f"({script}) 2>&1"),
            system.run("sh", "-c", f"({script}) 2>&1"),
        ):
            taken, started, called = done.stdout.splitlines()
            assert re.search("Access denied|not allowed to own", taken)
            assert re.search("not provided by any|not found", started)
            assert re.search("not provided by any|not found", called)
        assert "org.aovpnd1" not in system.check("busctl", "--activatable", "--no-legend", "list")
        assert not system.active(BUS_UNIT)
    finally:
        system.check("systemctl", "start", BUS_UNIT)
    wait_for("org.aovpnd1", lambda: system.run("sh", "-c", f"{CALL} Status").returncode == 0, deadline_s=20)


def test_whoever_listens_hears_no_key(laptop: Booted) -> None:
    """Root's monitor hears everything that crosses the bus while commands are given, and no key; others hear nothing of
    each other's calls.
    """
    system = laptop.system
    keys = re.findall(r"(?:PrivateKey|PresharedKey) *= *(\S+)", laptop.world.laptop.tunnel_conf)
    log = "/var/tmp/monitored"  # noqa: S108 - anybody may write there, in the container
    root, stranger = f"{log}.root", f"{log}.alice"
    for file, user in ((root, "root"), (stranger, ALICE.name)):
        script = f"umask 0; exec dbus-monitor --system >{file} 2>&1"
        system.check(
            "systemd-run", "--quiet", f"--uid={user}", f"--unit=listener-{user}", "sh", "-c", f"cd /; {script}"
        )
    try:
        wait_for("a monitor", lambda: system.path(root).exists() and system.path(root).stat().st_size > 0)
        for method in ("Reload", "Status", "Explain", "Connect"):
            words = shlex.join((method, *ARGUMENTS.get(method, ())))
            system.check("sh", "-c", f"{CALL} {words}")
        heard = wait_for(
            "what was said", lambda: _after(system.path(root).read_text(encoding="utf-8"), "member=Connect")
        )
        assert keys
        assert not [key for key in keys if key in heard]
        assert "org.aovpnd1.Manager" in heard
        assert "member=Explain" not in system.path(stranger).read_text(encoding="utf-8")
    finally:
        for user in ("root", ALICE.name):
            system.run("systemctl", "stop", f"listener-{user}")
    laptop.wait_works()


def _after(text: str, word: str) -> str:
    return text if word in text else ""


# ── the stand-ins ────────────────────────────────────────────────────────────────────────────────────────────────────


def shapes(xml: str) -> dict[tuple[str, str, str], str]:
    """Methods, signals and properties of introspection data, with their signatures, by interface, kind and name."""
    found = {}
    for interface in ET.fromstring(xml).iter("interface"):
        for member in interface:
            arguments = [(arg.get("direction", "in"), arg.get("type", "")) for arg in member.iter("arg")]
            if member.tag == "signal":
                arguments = [("out", kind) for _, kind in arguments]
            taken, given = ("".join(kind for way, kind in arguments if way == side) for side in ("in", "out"))
            signature = member.get("type", "") if member.tag == "property" else f"{taken} -> {given}"
            found[interface.get("name", ""), member.tag, member.get("name", "")] = signature
    return found


@pytest.mark.parametrize("service", ["polkit", "logind", "NetworkManager"])
def test_stand_ins_are_like_the_real_ones(laptop: Booted, service: str) -> None:
    """Every method, signal and property that a stand-in has, the real service has, with the same signature."""
    name, path, mocks = {
        "polkit": ("org.freedesktop.PolicyKit1", Polkit.PATH, (Polkit.XML,)),
        "logind": ("org.freedesktop.login1", Login.PATH, (Login.XML,)),
        "NetworkManager": (NM, NM_PATH, (NetworkManager.root_xml(),)),
    }[service]
    real = shapes(laptop.system.check("busctl", "introspect", "--xml-interface", name, path))
    ours = {key: signature for mock in mocks for key, signature in shapes(mock).items()}

    assert ours
    assert {key: real.get(key) for key in ours} == ours


def test_stand_ins_devices_are_like_the_real_ones(laptop: Booted) -> None:
    """NetworkManager's devices, as far as a container has any."""
    devices = laptop.system.check("busctl", "call", NM, NM_PATH, NM, "GetDevices")
    path = re.findall(r'"(/[^"]+)"', devices)[0]
    real = shapes(laptop.system.check("busctl", "introspect", "--xml-interface", NM, path))
    ours = shapes(NetworkManager.device_xml())

    assert {key: real.get(key) for key in ours} == ours

# SPDX-License-Identifier: GPL-3.0-or-later
"""Printing and casting at home, with ``[lan] allow = true``, in every phase; without it nobody is found."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from ipaddress import ip_address, ip_network
from typing import Final

import pytest

from aovpnd import names
from tests.container.booted import Booted, Manager
from tests.container.phases import WINDOWS
from tests.lab import plan
from tests.lab.process import stop, wait_for
from tests.neighbours.devices import CAST, PRINTER, RAW, SERVICE, SSDP, TELEVISION
from tests.neighbours.roots import NEWEST, Root, root
from tests.netns.protected import UNROUTED, Watch

pytestmark = [pytest.mark.container, pytest.mark.root, pytest.mark.slow]

CONFIG: Final = "/etc/aovpnd/aovpnd.toml"
DEVICE: Final = f"{plan.HOME.lan4}.50"
NEAR: Final = tuple(map(ip_network, (f"{plan.HOME.lan4}.0/24", "fe80::/10", "fc00::/7")))
GROUPS: Final = {*map(ip_address, ("224.0.0.251", "239.255.255.250", "255.255.255.255", "ff02::fb", "ff02::1:3"))}
"""Where the open LAN lets packets go to: docs/security.md."""
# By the link of the local network, as browsers and players search: who names none searches behind the tunnel.
_SEARCH: Final = f"""
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(2)
near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
lines = ("M-SEARCH * HTTP/1.1", "HOST: {SSDP[0]}:{SSDP[1]}", 'MAN: "ssdp:discover"', "MX: 1", "ST: {TELEVISION}")
try:
    near.connect(("{DEVICE}", 9))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(near.getsockname()[0]))
    sock.sendto("\\r\\n".join((*lines, "", "")).encode(), {SSDP})
    print(sock.recvfrom(2048)[1][0])
except OSError as error:
    print(error)
"""
_SEND: Final = """
import socket, sys
try:
    sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)
    sock.sendall(bytes(100000))
    sock.shutdown(socket.SHUT_WR)
    print(sock.makefile().read().strip())
except OSError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def laptop() -> Iterator[Booted]:
    """A laptop at home with avahi, where there are a printer and a television."""
    with Booted.power_on(NEWEST, Manager.NETWORK_MANAGER, root=root(Root.TUNNELS)) as booted:
        home = booted.world.home.host
        home.ip(f"addr add {DEVICE}/24 dev lan0")
        home.ip(f"route add 224.0.0.0/4 dev lan0 src {DEVICE}")
        devices = home.spawn(sys.executable, "-m", "tests.neighbours.devices", DEVICE, log="devices")
        booted.world.home.ready(PRINTER, RAW, CAST)
        yield booted
        stop(devices)


# -- what a person does ------------------------------------------------------------------------------------------------
def printer(laptop: Booted) -> str:
    """The address of the printer that mDNS finds; "" when it finds none."""
    words = ("timeout", "10", "avahi-browse", "--resolve", "--terminate", "--parsable", SERVICE.removesuffix(".local."))
    for line in laptop.system.run(*words).stdout.splitlines():
        fields = line.split(";")
        if fields[0] == "=" and fields[2] == "IPv4":
            return fields[7]
    return ""


def television(laptop: Booted) -> str:
    """The address of the one that answers SSDP."""
    return laptop.system.run("python3", "-c", _SEARCH).stdout.strip()


def taken(laptop: Booted, port: int) -> str:
    """How much the device took of what it was sent."""
    return laptop.system.run("python3", "-c", _SEND, DEVICE, str(port)).stdout.strip()


def everything_works(laptop: Booted) -> None:
    """Both are found, and take what they are sent."""
    wait_for("the printer", lambda: printer(laptop) == DEVICE, deadline_s=40)
    wait_for("the television", lambda: television(laptop) == DEVICE, deadline_s=20)
    assert [taken(laptop, port) for port in (PRINTER, RAW, CAST)] == ["100000"] * 3


# -- phases ------------------------------------------------------------------------------------------------------------
@contextmanager
def lan(laptop: Booted) -> Iterator[None]:
    """The local network is open."""
    laptop.system.write(CONFIG, "[lan]\nallow = true\n")
    laptop.system.check("systemctl", "reload", names.UNIT)
    try:
        yield
    finally:
        laptop.system.write(CONFIG, "")
        laptop.system.check("systemctl", "reload", names.UNIT)


@contextmanager
def disconnected(laptop: Booted) -> Iterator[None]:
    """Without a tunnel."""
    laptop.system.check("aovpnctl", "disconnect")
    try:
        laptop.wait_phase("blocked")
        yield
    finally:
        laptop.system.check("aovpnctl", "connect", "home")
        laptop.wait_works()


@contextmanager
def in_a_window(laptop: Booted) -> Iterator[None]:
    """In a window of temporary access."""
    laptop.system.check("systemctl", "stop", names.UNIT)
    laptop.system.check("rm", "-f", WINDOWS)
    laptop.system.check("systemctl", "start", names.UNIT)
    with disconnected(laptop):
        laptop.system.check("aovpnctl", "allow-temp", "5min")
        yield
        laptop.system.check("aovpnctl", "allow-temp", "--cancel")


def nearby(watch: Watch) -> None:
    """Everything that was seen in clear went to the local network, and there was something."""
    frames = watch.recording.clear()
    goals = [ip_address(found[1]) for frame in frames if (found := re.search(r" to ([0-9a-f.:]+)", frame.what))]
    assert len(goals) == len(frames) > 0, watch.recording.describe()
    far = {goal for goal in goals if goal not in GROUPS and not any(goal in network for network in NEAR)}
    assert not far, watch.recording.describe()


PHASES: Final[dict[str, Callable[[Booted], AbstractContextManager[None]]]] = {
    "blocked": disconnected,
    "connected": lambda _: nullcontext(),
}


@pytest.mark.parametrize("phase", PHASES)
def test_open(laptop: Booted, phase: str) -> None:
    """The printer is found by mDNS and prints, the television is found by SSDP; nothing goes further than the home."""
    with lan(laptop), PHASES[phase](laptop):
        with laptop.net.watch(UNROUTED) as watch:
            everything_works(laptop)
            watch.everybody_tries()
        nearby(watch)


def test_in_a_window(laptop: Booted) -> None:
    """The same in a window, where the local network is open in any case."""
    with lan(laptop), in_a_window(laptop):
        everything_works(laptop)


@pytest.mark.parametrize("phase", PHASES)
def test_shut(laptop: Booted, phase: str) -> None:
    """By default neither is found or reached, and avahi announces nothing."""
    laptop.system.check("systemctl", "restart", "avahi-daemon.service")  # what it has heard it knows for two minutes
    with PHASES[phase](laptop), laptop.net.nothing_leaves(UNROUTED) as watch:
        assert printer(laptop) == ""
        assert television(laptop) != DEVICE
        assert {taken(laptop, port) for port in (PRINTER, RAW, CAST)} & {"100000"} == set()
        watch.everybody_tries()

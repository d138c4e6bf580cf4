# SPDX-License-Identifier: GPL-3.0-or-later
"""Old sockets: when they are closed, which are spared, and how the kernel's words are read."""

import os
import socket
import struct
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Final

import pytest

from aovpnd import names
from aovpnd.adapters import sockets as adapter
from aovpnd.core import intent as memory
from aovpnd.core.decide import decide
from aovpnd.errors import NetlinkError
from aovpnd.model import Block, Config, Intent, Lan, Snapshot, Wish
from aovpnd.orders import CloseSockets, SetBlock
from aovpnd.routes import LinkAddress, Route
from aovpnd.sockets import Socket, Sweep, Transport
from aovpnd.users import User
from tests.unit.small_world import DEFAULT4, DOCKER, HOME, LO, TUNNEL_ADDRESS4, TUNNEL_ADDRESS6, VETH, WORK
from tests.unit.test_decide import HOME_NET, NO_NET, ONE, OPEN, SHAKEN, TWO
from tests.unit.world import Laptop

HERE: Final = ip_address("192.168.1.23")
FAR: Final = ip_address("198.51.100.10")
NEAR: Final = ip_address("192.168.1.50")
BRIDGED: Final = replace(
    HOME_NET,
    links=(*HOME_NET.links, DOCKER, VETH),
    addresses=(
        *HOME_NET.addresses,
        LinkAddress(5, ip_interface("172.17.0.1/16")),
        LinkAddress(1, ip_interface("10.9.9.9/32")),
    ),
)


def swept(config: Config, intent: Intent, snapshot: Snapshot) -> Sweep | None:
    """What has to be swept."""
    return decide(config, intent, snapshot).sweep


def tcp(local: object, remote: object = FAR, mark: int = 0) -> Socket:
    """A TCP socket."""
    return Socket(Transport.TCP, ip_address(str(local)), 40000, ip_address(str(remote)), mark)


SWEEP: Final = swept(ONE, Intent(), BRIDGED)
LAN_SWEEP: Final = swept(replace(ONE, lan=Lan.ALLOW), Intent(), BRIDGED)


# -- which -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("found", "closes"),
    [
        pytest.param(tcp(HERE), True, id="direct"),
        pytest.param(tcp("192.168.7.7"), True, id="by an address that is gone"),
        pytest.param(tcp("2001:db8::23", "2001:db8:5::1"), True, id="direct, IPv6"),
        pytest.param(tcp(HERE, NEAR), True, id="to the LAN, which is not open"),
        pytest.param(tcp(TUNNEL_ADDRESS4), False, id="through the tunnel"),
        pytest.param(tcp(TUNNEL_ADDRESS6, "2001:db8:5::1"), False, id="through the tunnel, IPv6"),
        pytest.param(tcp("127.0.0.1", "127.0.0.1"), False, id="loopback"),
        pytest.param(tcp("127.8.0.1", "127.0.0.1"), False, id="another loopback address"),
        pytest.param(tcp("::1", "::1"), False, id="loopback, IPv6"),
        pytest.param(tcp("10.9.9.9", "10.9.9.9"), False, id="an address on the loopback link"),
        pytest.param(tcp("172.17.0.1", "172.17.0.2"), False, id="to a guest"),
        pytest.param(tcp(HERE, HERE), False, id="to ourselves, by the uplink's address"),
        pytest.param(tcp(HERE, mark=names.FWMARK), False, id="ours"),
        pytest.param(tcp(HERE, mark=names.FWMARK | 0x80000005), False, id="ours, with other people's bits"),
        pytest.param(tcp(HERE, mark=names.STAMP), True, id="the stamp is no pass"),
        pytest.param(Socket(Transport.UDP, HERE, 40000, FAR), True, id="connected UDP"),
        pytest.param(Socket(Transport.UDP, HERE, 68, NEAR), False, id="a DHCP client"),
        pytest.param(Socket(Transport.UDP, HERE, 4500, FAR), False, id="an IKE daemon"),
        pytest.param(Socket(Transport.TCP, HERE, 4500, FAR), True, id="TCP from an IKE daemon's port"),
    ],
)
def test_which_go(found: Socket, closes: bool) -> None:
    """Whatever leads out past the tunnel goes; what cannot leave, or is our own business, stays."""
    assert SWEEP is not None
    assert SWEEP.closes(found) is closes


def test_open_lan_is_spared() -> None:
    """What is on the open LAN stays, as long as its own address is there."""
    assert LAN_SWEEP is not None
    assert not LAN_SWEEP.closes(tcp(HERE, NEAR))
    assert LAN_SWEEP.closes(tcp(HERE))
    assert LAN_SWEEP.closes(tcp("192.168.1.99", NEAR))


def test_who_may_not_use_the_tunnel_loses_what_he_has_by_it() -> None:
    """Of him whom it is not for, once; everybody else's stay, and so does what he says to this machine."""
    sweep = swept(replace(ONE, users=(User("bob", 1001, never=(WORK.name,)),)), Intent(), BRIDGED)
    assert sweep is not None
    assert sweep.closes(replace(tcp(TUNNEL_ADDRESS4), uid=1001))
    assert not sweep.closes(replace(tcp(TUNNEL_ADDRESS4), uid=1000))
    assert not sweep.closes(replace(tcp(TUNNEL_ADDRESS4, TUNNEL_ADDRESS4), uid=1001))
    assert sweep.why != SWEEP.why if SWEEP is not None else False


def test_tunnels_are_spared_while_disconnected() -> None:
    """Who disconnects for a minute finds the connections as they were."""
    sweep = swept(TWO, Intent(wish=Wish.DISCONNECT), HOME_NET)

    assert sweep is not None
    assert not sweep.closes(tcp(TUNNEL_ADDRESS4))


def test_address_of_a_tunnel_that_was_left() -> None:
    """When another tunnel carries, with another address, what hangs on the old address is closed."""
    other = replace(HOME, addresses=(ip_interface("10.99.0.2/32"),))
    sweep = swept(replace(TWO, tunnels=(WORK, other), prefer=("home",)), Intent(), HOME_NET)

    assert sweep is not None
    assert sweep.closes(tcp(TUNNEL_ADDRESS4))
    assert not sweep.closes(tcp("10.99.0.2"))


# -- when --------------------------------------------------------------------------------------------------------------
def sweeps(machine: Laptop) -> int:
    """How often sockets were closed."""
    return sum(isinstance(action, CloseSockets) for action in machine.done)


def test_once_for_each_state_of_things() -> None:
    """At the start, and whenever the ways out are others; never while nothing moves."""
    machine = Laptop(ONE)
    machine.settle()
    assert sweeps(machine) == 1
    machine.join("home")
    machine.wait(5.0)
    assert sweeps(machine) == 2
    machine.wait(100.0)
    machine.flush()
    machine.settle()
    assert sweeps(machine) == 2
    events: tuple[Callable[[], None], ...] = (
        lambda: machine.join("cafe"),
        machine.flap,
        lambda: machine.join("home", "eth0"),
        lambda: machine.leave("wlan0"),
        lambda: machine.leave("eth0"),
        machine.restart,
    )
    for number, event in enumerate(events):
        event()
        machine.settle()
        assert sweeps(machine) == 3 + number


def test_behind_a_window_and_an_open_machine() -> None:
    """While programs may connect directly nothing is closed; when they no longer may, everything is."""
    assert swept(ONE, Intent(block=Block.OFF), SHAKEN) is None
    assert swept(ONE, OPEN, HOME_NET) is None
    machine = Laptop(ONE)
    machine.join("home")
    machine.settle()
    before = sweeps(machine)
    machine.settle(SetBlock(Block.OFF))
    machine.settle()
    assert sweeps(machine) == before
    machine.settle(SetBlock(Block.ON))
    assert sweeps(machine) == before + 1

    at_work = replace(OPEN, swept=("anything",))
    closed = memory.settle(ONE, at_work, HOME_NET)
    assert closed.swept is None


def test_kernel_that_cannot() -> None:
    """What cannot be closed is a problem with words, is tried again ever more slowly, and stops nothing else."""
    machine = Laptop(ONE, fails={CloseSockets})
    machine.join("home")
    for _ in range(6):
        machine.look()
        machine.tick(0.1)
    desired = machine.wait(60.0)

    assert "sockets-left" in [problem.code for problem in desired.problems]
    assert desired.phase.value == "connected"
    assert sweeps(machine) < 20


# -- the kernel's words ------------------------------------------------------------------------------------------------
def message(family: int, local: bytes, remote: bytes, ports: tuple[int, int], mark: int | None) -> bytes:
    """An inet_diag_msg."""
    identity = struct.pack("!HH16s16s4s8s", *ports, local, remote, bytes(4), bytes(range(8)))
    text = struct.pack("=BBBB48s20x", family, 1, 0, 0, identity)
    return text + (struct.pack("=HHI", 8, 15, mark) if mark is not None else b"")


def test_reading() -> None:
    """IPv4, IPv6 and IPv4 on an IPv6 socket; the mark where there is one; nobody at the far end."""
    found = adapter.parse(message(socket.AF_INET, HERE.packed, FAR.packed, (4000, 443), names.FWMARK), Transport.TCP)
    assert found is not None
    assert found.socket == Socket(Transport.TCP, HERE, 4000, FAR, names.FWMARK)

    here, far = (bytes(10) + b"\xff\xff" + address.packed for address in (HERE, FAR))
    found = adapter.parse(message(socket.AF_INET6, here, far, (4000, 443), None), Transport.UDP)
    assert found is not None
    assert found.socket == Socket(Transport.UDP, HERE, 4000, FAR)

    assert adapter.parse(message(socket.AF_INET, HERE.packed, bytes(4), (68, 0), None), Transport.UDP) is None
    with pytest.raises(NetlinkError):
        adapter.parse(b"short", Transport.TCP)


def test_own_kernel_lists_a_connection() -> None:
    """The kernel we run on shows a connection on the loopback as it is; nothing is closed here."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        mine = client.getsockname()
        listed = adapter.connected(Transport.TCP)

    wanted = Socket(Transport.TCP, ip_address("127.0.0.1"), mine[1], ip_address("127.0.0.1"), uid=os.getuid())
    assert wanted in [replace(found, mark=0) for found in listed]


def test_lan_needs_an_address_of_its_own() -> None:
    """An uplink without an address in a prefix opens nothing there."""
    snapshot = replace(NO_NET, main=(Route(DEFAULT4, 2, None, 600),), links=(LO, *NO_NET.links[1:]))
    sweep = swept(replace(ONE, lan=Lan.ALLOW), Intent(), snapshot)

    assert sweep is not None
    assert sweep.beside == frozenset()
    assert ip_network("192.168.1.0/24") not in {prefix for _, prefix in sweep.beside}

# SPDX-License-Identifier: GPL-3.0-or-later
"""A laptop that is a whole Debian, with the product installed, at home in the lab's world.

`Booted.power_on` first shows that the far side sees every sender of an unprotected laptop in the very same network
namespace; then it boots the container there, with senders and recorder running from before its first process.
"""

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from aovpnd import names
from tests.lab import plan
from tests.lab.container import Container
from tests.lab.network_manager import uplink
from tests.lab.process import LabError, wait_for
from tests.lab.product import installed
from tests.lab.tree import Symlink, Tree, text
from tests.lab.world import World
from tests.netns.protected import PROVOKED, Protected, Watch

TUNNEL: Final = "/etc/aovpnd/tunnels/home.conf"
BUS_UNIT: Final = "aovpnd-bus.service"
ENABLED: Final = (names.UNIT, BUS_UNIT, "aovpnd-lockdown.service")
OURS: Final = "aovpnd*"
"""The pattern of our units."""
BY_NAME: Final = {
    f"systemd-{unit}.service": f"org.freedesktop.{name}"
    for unit, name in {"hostnamed": "hostname1", "logind": "login1", "resolved": "resolve1"}.items()
}
"""Who is asked for by a name on the bus, and goes on without it when the bus is a new one."""
_UNITS: Final = "/etc/systemd/system"
_SYSTEM_UNITS: Final = "/usr/lib/systemd/system"


class Manager(StrEnum):
    """Who manages the network of a laptop."""

    NETWORK_MANAGER = "NetworkManager"
    NETWORKD = "systemd-networkd"
    IFUPDOWN = "networking"
    DHCPCD = "dhcpcd"


_CONNECTIVITY: Final = f"""[connectivity]
uri=http://{plan.WEB_NAME}/generate_204
interval=60
"""
_NETWORK: Final = """[Match]
Name={link}
[Network]
DHCP=yes
IPv6AcceptRA=yes
[DHCPv4]
RouteMetric={metric}
[IPv6AcceptRA]
RouteMetric={metric}
"""
_INTERFACES: Final = """auto lo {first}
iface lo inet loopback
iface wlan0 inet dhcp
    metric 600
iface wlan0 inet6 auto
iface eth0 inet dhcp
    metric 100
iface eth0 inet6 auto
"""
_DHCPCD: Final = """[Service]
ExecStart=
ExecStart=/usr/sbin/dhcpcd -q -b --nodev
"""
"""As Debian has it, on every link that there is; but udev, which is not in a container, is not asked for them."""
METRICS: Final = {"wlan0": 600, "eth0": 100}
FLUSHER: Final = "firewall.service"
_FLUSHER: Final = """[Unit]
DefaultDependencies=no
After=aovpnd-lockdown.service
Before=network-pre.target
Wants=network-pre.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft flush ruleset
"""
FLUSHES: Final[Tree] = {
    f"{_UNITS}/{FLUSHER}": text(_FLUSHER),
    f"{_UNITS}/sysinit.target.wants/{FLUSHER}": Symlink(f"{_UNITS}/{FLUSHER}"),
}
"""As Debian's nftables.service, where it is enabled: it flushes at the worst moment. Not with systemd-networkd: its
first router solicitation would come before the daemon, and the next one seconds later.
"""


def furniture(manager: Manager) -> Tree:
    """What this laptop has besides the product: a network manager that takes every link of the lab."""
    match manager:
        case Manager.NETWORK_MANAGER:
            found = {"/etc/NetworkManager/conf.d/connectivity.conf": text(_CONNECTIVITY), **FLUSHES}
            for link, metric in METRICS.items():
                found |= uplink(link, metric, ipv6="addr-gen-mode=eui64\n")
            return found
        case Manager.NETWORKD:
            networks = {
                f"/etc/systemd/network/{link}.network": text(_NETWORK.format(link=link, metric=metric))
                for link, metric in METRICS.items()
            }
            wanted = {
                "multi-user.target.wants/systemd-networkd.service": f"{_SYSTEM_UNITS}/systemd-networkd.service",
                "sockets.target.wants/systemd-networkd.socket": f"{_SYSTEM_UNITS}/systemd-networkd.socket",
                "NetworkManager.service": "/dev/null",
            }
            return networks | {f"{_UNITS}/{name}": Symlink(target) for name, target in wanted.items()}
        case Manager.IFUPDOWN:
            # A cable without carrier is nothing to wait for at boot.
            return {"/etc/network/interfaces": text(_INTERFACES.format(first="wlan0"))}
        case Manager.DHCPCD:
            return {f"{_UNITS}/dhcpcd.service.d/lab.conf": text(_DHCPCD)}


def cards_before_a_boot(world: World) -> None:
    """Have the laptop's links as a boot finds them: what is up or has an address, NetworkManager leaves to others."""
    for link in world.links:
        world.laptop.host.ip(f"address flush dev {link}")
        world.laptop.host.ip(f"link set {link} down")
        world.laptop.host.sysctl(**{f"ipv6__conf__{link}__disable_ipv6": 0})


@dataclass(slots=True)
class Booted:
    """A running laptop; a context manager that cuts the power and gives the world back."""

    net: Protected
    """The same laptop as the network tests see it: senders and recorders, `nothing_leaves`."""
    system: Container
    boot: Watch
    """What left from before the first process until the tunnel worked."""
    manager: Manager
    _stack: ExitStack
    started: dict[str, int] = field(default_factory=dict)
    """When a few units became active in that boot, in microseconds."""
    complaints: str = ""
    """Warnings of our units in that boot."""

    @classmethod
    def power_on(cls, suite: str, manager: Manager, *, root: Path | None = None, more: Tree | None = None) -> Self:
        """Boot a laptop at home, the product installed and enabled; returns when its tunnel works.

        ``root``: another Debian than the containers' own; ``more``: files besides.
        """
        with ExitStack() as stack:
            net = stack.enter_context(Protected.build(tunnel=False, start=False))
            world = net.world
            cards_before_a_boot(world)
            for link in world.links:
                world.laptop.udev_rule(link)  # a container has no udev; the virtual machines of tests/vm have
            conf = text(world.laptop.tunnel_conf, 0o600)
            files = {**installed(ENABLED), **furniture(manager), TUNNEL: conf, **(more or {})}
            with net.watch() as boot:
                world.attach("wlan0", "home")
                system = stack.enter_context(Container.boot(world.laptop.host, suite, files, root=root))
                laptop = cls(net, system, boot, manager, stack)
                system.wait_booted()
                laptop.wait_works()
                boot.everybody_tries()
            for unit in ("aovpnd-lockdown.service", FLUSHER, names.GUARD_UNIT, f"{manager}.service", names.UNIT):
                laptop.started[unit] = int(system.show(unit, "ActiveEnterTimestampMonotonic").popitem()[1])
            laptop.complaints = system.journal(OURS, options=("--output=cat", "--priority=warning"))
            laptop._stack = stack.pop_all()
            return laptop
        raise AssertionError("unreachable")

    @property
    def world(self) -> World:
        """Everything around it."""
        return self.net.world

    # -- the product --------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """``aovpnctl status --json``."""
        answer: dict[str, Any] = json.loads(self.system.run("aovpnctl", "status", "--json").stdout)
        return answer

    def provoked(self) -> int:
        """How many handshakes the daemon has asked for; WireGuard itself asks for others, when it hears nothing."""
        self.system.check("journalctl", "--sync")
        return self.system.journal(names.UNIT).count(PROVOKED)

    def works(self) -> bool:
        """Whether it is connected, protected and guarded, and both families reach the internet through the gateway."""
        status = self.status()
        if status["phase"] != "connected" or not status["protected"] or not status["block"]["guarded"]:
            return False
        outside = self.net.address_outside
        return outside(4) == str(plan.GATEWAY4) and outside(6) == str(plan.GATEWAY6)

    def wait_works(self, *, deadline_s: float = 30.0) -> None:
        """Wait until it `works`; says what the laptop thinks of it when it does not."""
        try:
            wait_for("the tunnel to work", self.works, deadline_s=deadline_s, poll_s=0.1)
        except LabError as error:
            seen = [self.net.address_outside(family) for family in (4, 6)]
            raise LabError(f"{error}; seen outside: {seen}\n{self.status()}\n{self.describe()}") from None

    def connectivity(self) -> str:
        """What NetworkManager takes the network for."""
        return self.system.check("nmcli", "networking", "connectivity").strip()

    def wait_full(self) -> None:
        """Wait until NetworkManager takes the network for whole: a moment after aovpnd-bus has turned its check off."""
        try:
            wait_for("NetworkManager to report full", lambda: self.connectivity() == "full")
        except LabError as error:
            says = ("org.freedesktop.NetworkManager", "/org/freedesktop/NetworkManager")
            shown = self.system.check("busctl", "introspect", "--no-pager", *says)
            links = self.system.run("nmcli", "device").stdout
            raise LabError(f"{error}\n{shown}\n{links}\n{self.describe()}") from None

    def until_works(self, watch: Watch) -> None:
        """Wait until it `works`, and then until every sender of a watch has tried again."""
        self.wait_works()
        watch.everybody_tries()

    def describe(self) -> str:
        """What is wrong, for messages of failed tests: the network as the system sees it, and its journal."""
        words = ("ip -brief address", "ip -4 rule", "ip -4 route", "ip -4 route show table all", "systemctl list-jobs")
        told = "".join(f"$ {command}\n{self.system.run(*command.split()).stdout}" for command in words)
        return told + self.system.journal(options=("--output=short-monotonic", "--lines=60"))

    def wait_phase(self, *phases: str, deadline_s: float = 20.0) -> dict[str, Any]:
        """Wait for a phase; return the status."""

        def reached() -> dict[str, Any] | None:
            status = self.status()
            return status if status["phase"] in phases else None

        found = wait_for(f"phase {' or '.join(phases)}", reached, deadline_s=deadline_s, poll_s=0.05)
        if found is None:
            raise LabError("unreachable: wait_for returns what is true")
        return found

    def assert_confined(self, unit: str, user: str, powers: int) -> None:
        """A unit's process has this user and these capabilities (a mask) and no others, gets none by running programs,
        and a filter judges its system calls.
        """
        system = self.system
        words = system.check("cat", f"/proc/{system.main_pid(unit)}/status").splitlines()
        status = dict(line.split(":\t", 1) for line in words)
        assert set(status["Uid"].split()) == {system.check("id", "-u", user).strip()}
        found = {which: int(status[f"Cap{which}"], 16) for which in ("Prm", "Eff", "Bnd")}
        assert set(found.values()) == {powers}, found
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")

    def roam(self, site: str, *, link: str = "wlan0") -> None:
        """Leave the network of a link and join another.

        NetworkManager believes in a carrier's loss after some seconds only; it is told, as by somebody who chooses
        another network. ifupdown looks at no carriers, it is told always. The others are given time to see the loss:
        the kernel tells of a carrier's changes once a second, and of one that is back by then not at all.
        """
        self.world.detach(link)
        if self.manager in (Manager.NETWORKD, Manager.DHCPCD):
            way = ("ip", "-4", "route", "show", "default", "dev", link)
            wait_for("the old network's end", lambda: not self.system.check(*way))
        if self.manager is Manager.IFUPDOWN:
            self.system.run("ifdown", "--force", link)
        self.world.attach(link, site)
        match self.manager:
            case Manager.NETWORK_MANAGER:
                self.system.check("nmcli", "--wait", "0", "connection", "up", link)
            case Manager.IFUPDOWN:
                self.system.check("ifup", link)
            case Manager.NETWORKD | Manager.DHCPCD:
                pass

    def back_on_the_bus(self) -> None:
        """Restart those that a new bus does not have any more: they run, and whoever asks for them waits 25 s."""
        wait_for("the bus", lambda: self.system.run("busctl", "--quiet", "status").returncode == 0)
        there = self.system.check("busctl", "--no-legend", "--acquired", "list")
        for unit, name in BY_NAME.items():
            if name not in there:
                self.system.check("systemctl", "try-restart", unit)

    def close(self) -> None:
        """Cut the power and give everything back; may be called twice."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

# SPDX-License-Identifier: GPL-3.0-or-later
"""The booted laptop of `bench_vm`: three cards under NetworkManager, and one of some tunnels."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, Self, assert_never

from tests.lab import plan
from tests.lab.network_manager import profile, uplink
from tests.lab.plan import Site
from tests.lab.process import LabError, wait_for
from tests.lab.product import installed
from tests.lab.record import Recorder
from tests.lab.tree import Entry, Symlink, Tree, copied, text
from tests.lab.world import World
from tests.vm.images import LIFE, Image, image
from tests.vm.machine import Card, Machine
from tools.bench_vm_figure import Report, read_report

SUITE: Final = "bookworm"
"""Debian 12: NetworkManager 1.42, kernel 6.1."""
MEMORY_MIB: Final = 768
ARRIVES_S: Final = 60.0
"""Whoever is not heard by the new network within this time is counted as never."""
STEADY: Final = 100
"""Packets of the call that reach the other end, two seconds' worth, before a roam is over."""
CONTROL_S: Final = 3.0
"""How long the call is made without a tunnel, for the recorder to see it."""

_CALLER: Final = Path(__file__).parents[1] / "tests" / "vm" / "guest" / "caller.py"
_REPORT: Final = "/run/call"
_CALL: Final = ("/usr/local/bin/caller", str(plan.ECHO4), str(plan.WEB4), _REPORT)
_CONF: Final = "/etc/wireguard/wg0.conf"
_COUNTER: Final = f"""
table inet bench {{
  counter call {{ }}
  chain input {{
    type filter hook input priority 0; policy accept;
    ip saddr {plan.GATEWAY4} ip daddr {plan.ECHO4} udp dport {plan.ECHO_PORT} counter name call
  }}
}}
"""
"""The call as its other end sees it: by the tunnel's gateway alone."""


@dataclass(frozen=True, slots=True)
class Way:
    """A card, the network behind it, and what NetworkManager thinks of it."""

    card: Card
    site: Site
    metric: int


WIFI: Final = Way(Card("wlan0", "tap0", "02:00:00:00:03:00"), plan.HOME, 600)
DOCK: Final = Way(Card("dock0", "tap1", "02:00:00:00:03:01"), plan.CAFE, 100)
TETHER: Final = Way(Card("usb0", "tap2", "02:00:00:00:03:02"), plan.TETHER, 700)
WAYS: Final = (WIFI, DOCK, TETHER)
"""Metrics are NetworkManager's own for radio, cable and modem; all three cards are Ethernet to the kernel."""

_TUNNEL: Final = """[connection]
id=wg0
type=wireguard
interface-name=wg0
autoconnect=true
[wireguard]
private-key={private_key}
[wireguard-peer.{public_key}]
endpoint={endpoint}
preshared-key={preshared_key}
preshared-key-flags=0
allowed-ips=0.0.0.0/0;::/0;
[ipv4]
method=manual
address1={address4}
[ipv6]
method=manual
address1={address6}
"""
_UNITS: Final = "/etc/systemd/system"


# ── the contenders ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Contender:
    """One tunnel: its files, made from the provider's file, and what brings it up when NetworkManager is online."""

    name: str
    files: Callable[[str], Tree]
    up: tuple[str, ...] = ()


def _aovpnd(conf: str) -> Tree:
    units = ("aovpnd-lockdown.service", "aovpnd.service", "aovpnd-bus.service")
    return installed(units) | {"/etc/aovpnd/tunnels/home.conf": text(conf, 0o600)}


def _wg_quick(conf: str) -> Tree:
    """The file without its DNS line, which needs a resolvconf; the call goes to an address."""
    return {_CONF: text("".join(line for line in conf.splitlines(keepends=True) if not line.startswith("DNS")), 0o600)}


def _wg_quick_with_setting(conf: str) -> Tree:
    """The same on a laptop whose owner knows what makes aovpnd quick when a cable is pulled."""
    setting = text("net.ipv4.conf.all.ignore_routes_with_linkdown = 1\n")
    return {**_wg_quick(conf), "/etc/sysctl.d/50-linkdown.conf": setting}


def _network_manager(conf: str) -> Tree:
    """The connection that ``nmcli connection import type wireguard`` makes of the file, without the DNS servers."""
    value = dict(re.findall(r"^(\w+) = (.*)$", conf, re.MULTILINE))
    address4, address6 = value["Address"].split(", ")
    content = _TUNNEL.format(
        private_key=value["PrivateKey"],
        public_key=value["PublicKey"],
        preshared_key=value["PresharedKey"],
        endpoint=value["Endpoint"],
        address4=address4,
        address6=address6,
    )
    return profile("wg0", content)


CONTENDERS: Final = (
    Contender("aovpnd", _aovpnd),
    Contender("wg-quick", _wg_quick, ("wg-quick", "up", "wg0")),
    Contender("NetworkManager", _network_manager),
    Contender("wg-quick, with the setting", _wg_quick_with_setting, ("wg-quick", "up", "wg0")),
)


def the_image() -> Image:
    """The machine's image; made when it is not cached, which needs a network and a minute or two."""
    return image(SUITE, LIFE)


def furniture() -> dict[str, Entry]:
    """What every laptop has: named cards, NetworkManager with a profile for each, the caller."""
    tree: dict[str, Entry] = {
        "/usr/local/bin/caller": copied(_CALLER, 0o755),
        f"{_UNITS}/NetworkManager-wait-online.service": Symlink("/dev/null"),
    }
    for way in WAYS:
        link = way.card.name
        tree[f"/etc/systemd/network/10-{link}.link"] = text(
            f"[Match]\nMACAddress={way.card.mac}\n[Link]\nName={link}\n"
        )
        tree |= uplink(link, way.metric)
    return tree


# ── the laptop ───────────────────────────────────────────────────────────────────────────────────────────────────────


def prepare(world: World) -> None:
    """Let the laptop's dock through the café's portal for good, and count the call where it arrives."""
    world.cafe.host.nft(f"add element inet cafe allowed {{ {DOCK.card.mac} }}\n")
    world.internet.nft(_COUNTER)


class How(Enum):
    """What is there when."""

    BETTER = "the new network is preferred, and the old one goes when it is no longer used"
    RESERVE = "the new network waits, with its lease, until the old one is cut off"
    COLD = "the old network is cut off at the moment at which the new one begins: its lease has to come first"


@dataclass(frozen=True, slots=True)
class Move:
    """One way of changing networks."""

    name: str
    old: Way
    new: Way
    how: How


MOVES: Final = (
    Move("Wi-Fi to dock", WIFI, DOCK, How.BETTER),
    Move("dock to tether", DOCK, TETHER, How.RESERVE),
    Move("tether to Wi-Fi", TETHER, WIFI, How.COLD),
)
"""A round; it ends where it began."""


@dataclass(slots=True)
class Laptop:
    """A running machine on Wi-Fi, recorded since before its first instruction."""

    machine: Machine
    world: World
    recorder: Recorder
    contender: Contender

    @classmethod
    @contextmanager
    def power_on(cls, disk: Image, world: World, contender: Contender) -> Iterator[Self]:
        """Boot at home, no tunnel yet unless it comes up by itself; leaving cuts the power."""
        directory = world.air.dir / f"m{sum(1 for _ in world.air.dir.glob('m*')) + 1}"
        directory.mkdir()
        files = furniture() | dict(contender.files(world.laptop.tunnel_conf))
        cards = tuple(way.card for way in WAYS)
        with (
            Machine(
                disk, directory, enter=world.air.prefix(), cards=cards, overlay=files, memory=MEMORY_MIB
            ) as machine,
            world.record(*(card.tap for card in cards), prefilter=True) as recorder,
        ):
            laptop = cls(machine, world, recorder, contender)
            for way in WAYS:
                world.attach(way.card.tap, way.site.name)
                laptop.link(way, "on" if way is WIFI else "off")
            machine.start()
            machine.wait_agent()
            laptop.wait_lease(WIFI)
            yield laptop

    # -- its networks -------------------------------------------------------------------------------------------------

    def link(self, way: Way, state: str) -> None:
        """Give a card its carrier (``on``) or take it away."""
        self.machine.monitor("set_link", name=f"card-{way.card.name}", up=state == "on")

    def wait_lease(self, way: Way) -> None:
        """Wait until NetworkManager has a default route by a card."""
        link = way.card.name
        self.machine.wait(f"a lease on {link}", "sh", "-c", f"ip -4 route show default dev {link} | grep -q via")

    def move(self, move: Move) -> bool:
        """Change networks; whether the gateway heard the laptop by the new one in time."""
        match move.how:
            case How.BETTER:
                self.link(move.new, "on")
                heard = self._is_heard_by(move.new)
                self.link(move.old, "off")
                return heard
            case How.RESERVE:
                self.link(move.old, "off")
            case How.COLD:
                self.link(move.old, "off")
                self.link(move.new, "on")
            case other:
                assert_never(other)
        return self._is_heard_by(move.new)

    def before(self, move: Move) -> None:
        """Have all as a move needs it: the new network's lease is there, or an earlier one given up."""
        if move.how is How.RESERVE:
            self.link(move.new, "on")
            self.wait_lease(move.new)
            return
        link = move.new.card.name
        words = ("sh", "-c", f'test -z "$(ip -4 route show default dev {link})"')
        self.machine.wait(f"NetworkManager to give {link} up", *words)

    def _is_heard_by(self, way: Way) -> bool:
        gateway, source = self.world.gateway.host, f"\t{way.site.wan4}:"
        return _in_time(lambda: source in gateway.out("wg", "show", "wg0", "endpoints"))

    # -- its tunnel and its call --------------------------------------------------------------------------------------

    def bring_up(self) -> None:
        """Bring the tunnel up, and wait until it carries."""
        if self.contender.up:
            self.machine.check(*self.contender.up)
        self.machine.wait("the tunnel", "ping", "-c", "1", "-W", "3", str(plan.GATEWAY_INSIDE4))

    def call(self) -> None:
        """Begin the call and the stream; returns when the call goes on."""
        self.machine.check("systemd-run", "--quiet", "--unit=caller", *_CALL)
        if not self.wait_steady():
            raise LabError(f"no call by {self.contender.name}: {self.machine.run('systemctl', 'status', 'caller').out}")

    def call_without_tunnel(self) -> None:
        """`CONTROL_S` of the call: what the recorder must see when there is no tunnel yet."""
        self.machine.run(*_CALL, seconds=CONTROL_S)

    def wait_steady(self) -> bool:
        """Wait until the call has gone on for a while; False if it does not in time."""
        after = self._arrived() + STEADY
        return _in_time(lambda: self._arrived() >= after)

    def _arrived(self) -> int:
        """Packets of the call that have come to its other end, by the gateway."""
        listed = self.world.internet.out("nft", "list", "counter", "inet", "bench", "call")
        return int(listed.split("packets ")[1].split()[0])

    def uptime(self) -> float:
        """The machine's own clock: seconds since power-on."""
        return float(self.machine.check("cat", "/proc/uptime").split()[0])

    def report(self) -> Report:
        """What the call has noticed so far."""
        return read_report(self.machine.check("cat", _REPORT))


def _in_time(condition: Callable[[], bool]) -> bool:
    try:
        return wait_for("the call", condition, deadline_s=ARRIVES_S, poll_s=0.1)
    except LabError:
        return False


if __name__ == "__main__":
    print(the_image().disk)

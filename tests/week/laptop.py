# SPDX-License-Identifier: GPL-3.0-or-later
"""The laptop of the week: three cards under NetworkManager, a disk that outlives it, and what can happen to it.

Beside the machine itself: chatty programs that send all the time, a meter of how long it is online (`online.py`), and a
recorder behind each card, since before the first instruction.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from tests.lab import plan
from tests.lab.frames import Kind as Class
from tests.lab.network_manager import uplink
from tests.lab.process import LabError, wait_for
from tests.lab.record import Recorder
from tests.lab.senders import new_token
from tests.lab.tree import Entry, Symlink, Tree, copied, text
from tests.lab.world import World
from tests.vm.guest.chatty import SENDERS, UNBOUND
from tests.vm.images import Image
from tests.vm.machine import Card, Machine
from tests.week.online import Tick, read_ticks
from tests.week.plan import IN_THE_CAFE, Places

MEMORY_MIB: Final = 768
KERNEL: Final = "lsm=capability,apparmor"
"""The distribution's AppArmor; of its profiles ours alone are loaded: a hundred others take minutes where a machine is
translated.
"""
PAUSE_S: Final = 1.0
"""Between two rounds of the chatty programs: by each card, in each way."""
REPAIR_S: Final = 300.0
"""Who is not back by then, without anybody's help, has used up a week's allowance at once: it takes a repair."""
ENOUGH: Final = 10
"""Attempts of every sender by which one believes that it has tried."""
OLD, NEW = "0.0.1-1", "9.9.9-1"
"""The two versions of the package, made of the same tree."""

_GUEST: Final = Path(__file__).parents[1] / "vm" / "guest"
_UNITS: Final = "/etc/systemd/system"
_UPLINKS: Final = "/etc/uplinks"
_CONF: Final = "/root/home.conf"
_PATIENCE_S: Final = 1200.0
"""How long a boot or a package may take: a translated machine compiles the product's files for minutes."""
_DPKG: Final = ("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--install")
_ONLINE: Final = f"""set -e
for way in {{ways}}; do
    ip -4 route show default dev "${{{{way%%=*}}}}" | grep -q "via ${{{{way##*=}}}} "
done
ping -c 1 -W 2 {plan.WEB4} >/dev/null
ping -6 -c 1 -W 2 {plan.WEB6} >/dev/null
cat /run/aovpnd/status.json
"""
_DEAF: Final = 'for card; do [ "$(cat /sys/class/net/$card/carrier 2>/dev/null)" != 1 ] || exit 1; done'


@dataclass(frozen=True, slots=True)
class Port:
    """A card, and what NetworkManager thinks of it: its own metrics for radio, cable and modem."""

    card: Card
    metric: int


PORTS: Final = (
    Port(Card("wlan0", "tap0", "02:00:00:00:04:00"), 600),
    Port(Card("dock0", "tap1", "02:00:00:00:04:01"), 100),
    Port(Card("usb0", "tap2", "02:00:00:00:04:02"), 700),
)
"""In the order of `Places`; all three are Ethernet to the kernel, whose own names (eth0) are no good for them."""
ROUTERS: Final = {site.name: str(site.router4) for site in (plan.HOME, plan.CAFE, plan.TETHER)}


def furniture(token: bytes, places: Places) -> dict[str, Entry]:
    """What the laptop has besides the product: it is laid over its system at every boot."""
    tree: dict[str, Entry] = {
        "/early/chatty": copied(_GUEST / "chatty.py", 0o755),
        "/early/meter": copied(_GUEST / "meter.py", 0o755),
        "/usr/local/bin/visitor": copied(_GUEST / "visitor.py", 0o755),
        "/etc/chatty-token": text(f"{token.hex()} {PAUSE_S}"),
        "/etc/sysctl.d/60-tell-all.conf": text("kernel.printk_ratelimit_burst = 100000\n"),
        _UPLINKS: text(uplinks(places)),
        "/etc/systemd/system.conf.d/slow.conf": text("[Manager]\nDefaultTimeoutStartSec=20min\n"),  # it is translated
        "/etc/systemd/journald.conf.d/audit.conf": text("[Journal]\nAudit=no\n"),  # what is refused is told, no more
        f"{_UNITS}/apparmor.service": Symlink("/dev/null"),
        f"{_UNITS}/NetworkManager-dispatcher.service": Symlink("/dev/null"),  # there are no scripts that it would run
        f"{_UNITS}/NetworkManager-wait-online.service": Symlink("/dev/null"),
        f"{_UNITS}/strongswan.service": Symlink("/dev/null"),  # the distribution's own charon, enabled by its package
    }
    for port in PORTS:
        link, mac = port.card.name, port.card.mac
        tree[f"/etc/systemd/network/10-{link}.link"] = text(f"[Match]\nMACAddress={mac}\n[Link]\nName={link}\n")
        tree |= uplink(link, port.metric)
    return tree


def uplinks(*several: Places) -> str:
    """For the meter: by which card the internet is behind which router, a line for each."""
    pairs = {
        (port.card.name, ROUTERS[site])
        for places in several
        for port, site in zip(PORTS, places.sites, strict=True)
        if site
    }
    return "".join(f"{link} {router}\n" for link, router in sorted(pairs))


@dataclass(slots=True)
class Laptop:
    """One run of the machine, from power-on to power-off."""

    machine: Machine
    world: World
    recorder: Recorder
    token: bytes
    places: Places
    windows: list[tuple[float, float]] = field(default_factory=list)
    """When temporary access was open: Unix time, from the moment at which it was asked for until it was seen closed."""
    _allowed: int = 0
    _report: str = ""

    @classmethod
    @contextmanager
    def power_on(
        cls, image: Image, disk: Path, world: World, places: Places, *, clock: str, more: Tree
    ) -> Iterator[Self]:
        """Boot in these networks, with ``more`` files laid over the disk; leaving cuts the power.

        ``clock`` as in `Machine`.
        """
        directory = world.air.dir / f"m{sum(1 for _ in world.air.dir.glob('m*')) + 1}"
        directory.mkdir()
        cards, token = tuple(port.card for port in PORTS), new_token()
        let_through_the_portal(world)
        with (
            Machine(
                image,
                directory,
                enter=world.air.prefix(),
                cards=cards,
                overlay={**furniture(token, places), **more},
                memory=MEMORY_MIB,
                clock=clock,
                kernel=KERNEL,
                disk=disk,
            ) as machine,
            world.record(*(card.tap for card in cards)) as recorder,
        ):
            laptop = cls(machine, world, recorder, token, places)
            for port, site in zip(PORTS, places.sites, strict=True):
                if site:
                    world.attach(port.card.tap, site)
                laptop._carrier(port, on=bool(site))
            machine.start()
            machine.wait_agent(_PATIENCE_S)
            yield laptop

    def wait_booted(self) -> None:
        """Wait until systemd is done."""
        self.machine.wait(
            "the end of the boot", "systemctl", "is-active", "-q", "multi-user.target", seconds=_PATIENCE_S
        )

    # -- its first day ------------------------------------------------------------------------------------------------
    def everybody_tries(self) -> None:
        """Wait until each of the chatty programs has tried to send by each card, often enough to be seen."""

        def enough() -> bool:
            tried: dict[str, dict[str, int]] = json.loads(self.machine.run("cat", "/run/chatty.json").out or "{}")
            return all(
                tried.get(port.card.name, {}).get(str(number), 0) >= ENOUGH for port in PORTS for number in SENDERS
            )

        wait_for("the chatty programs", enough, deadline_s=180, poll_s=0.3)

    def install(self) -> None:
        """Install the package, and import the tunnel: from the return of this on nothing leaves outside of it."""
        said = self.machine.check(*_DPKG, f"/root/{OLD}.deb", seconds=_PATIENCE_S)
        if "nothing is blocked yet" not in said:
            raise LabError(f"not what a first installation says: {said}")
        self._write(_CONF, self.world.laptop.tunnel_conf)
        imported = self.machine.run("aovpnctl", "import", _CONF, seconds=_PATIENCE_S)
        if (
            imported.code != 0 and "systemctl does not answer" not in imported.out + imported.err
        ):  # not within a minute, that is
            raise LabError(f"the import: {imported.out}{imported.err}")
        wait_for("the block", lambda: self.status()["protected"], deadline_s=_PATIENCE_S, poll_s=0.2)

    def upgrade(self) -> None:
        """Put the newer package over the older one."""
        self.machine.check(*_DPKG, f"/root/{NEW}.deb", seconds=_PATIENCE_S)
        version = self.machine.check("dpkg-query", "--show", "--showformat=${Version}", "aovpnd")
        if version != NEW:
            raise LabError(f"upgraded to {NEW}, and dpkg says {version}")

    # -- its networks -------------------------------------------------------------------------------------------------
    def go(self, places: Places, *, known: str | None = None) -> None:
        """Be in these networks from now on; where nothing changes, every carrier is lost for a moment.

        ``known``: what the meter is told instead of the truth, for a network whose portal is still to be passed.
        """
        self._write(_UPLINKS, uplinks(places) if known is None else known)
        pairs = list(zip(PORTS, self.places.sites, places.sites, strict=True))
        changed = [(port, new) for port, old, new in pairs if old != new]
        changed = changed or [(port, new) for port, _, new in pairs if new]
        for port, _ in changed:
            self._carrier(port, on=False)
        self.machine.wait("the carrier to go", "sh", "-c", _DEAF, "sh", *(port.card.name for port, _ in changed))
        self._arrive(changed)
        self.places = places

    def _arrive(self, changed: list[tuple[Port, str]]) -> None:
        for port, site in changed:
            if site:
                self.world.attach(port.card.tap, site)
                self._carrier(port, on=True)

    def _carrier(self, port: Port, *, on: bool) -> None:
        self.machine.monitor("set_link", name=f"card-{port.card.name}", up=on)

    # -- what happens to it -------------------------------------------------------------------------------------------
    def sleep(self, places: Places) -> None:
        """Suspend, and wake in these networks."""
        self._write(_UPLINKS, uplinks(self.places, places))
        self.machine.check("systemd-run", "--no-block", "--quiet", "--collect", "systemctl", "suspend")
        self.machine.wait_state("suspended", _PATIENCE_S)
        changed = [
            (port, new) for port, old, new in zip(PORTS, self.places.sites, places.sites, strict=True) if old != new
        ]
        for port, _ in changed:
            self.world.detach(port.card.tap)
        self.machine.wake()
        self._write(_UPLINKS, uplinks(places))
        # Other drivers look at the carrier when they wake. These cards' has to be told, and once it is awake itself.
        for port, _ in changed:
            self._carrier(port, on=False)
        self._arrive(changed)
        self.places = places

    def pass_a_portal(self) -> None:
        """Come into the café, whose portal knows nobody any more; open temporary access and log in, as a user does.
        Returns when the access is seen closed, by the tunnel that connects.
        """
        self.world.cafe.forget_logins()
        self.go(IN_THE_CAFE, known="")
        self._wait_routes()
        wait_for(
            "the tunnel to be lost", lambda: self.status()["phase"] != "connected", deadline_s=REPAIR_S, poll_s=0.3
        )
        begin, before = time.time(), self._clear()
        self.machine.check("aovpnctl", "allow-temp", "1min")
        self.machine.check("visitor", f"http://{plan.WEB_NAME}/", uplinks(self.places))
        wait_for("the access to close", self._is_closed, deadline_s=REPAIR_S, poll_s=0.1)
        self._allowed += self._clear() - before
        self.windows.append((begin, time.time()))
        let_through_the_portal(self.world)

    def _is_closed(self) -> bool:
        status = self.status()
        return status["phase"] == "connected" and status["temporary_access"] is None

    def power_off(self, how: str) -> None:
        """``reboot`` or ``poweroff``; returns when the machine has come to its end by itself."""
        self.machine.check("systemctl", "--no-block", how)
        self.machine.wait_state("shutdown", _PATIENCE_S)

    # -- what became of it --------------------------------------------------------------------------------------------
    def wait_back(self) -> None:
        """Wait until there is a lease on every card, the tunnel is connected and guarded, and both families pass."""
        wait_for("the laptop to be back", self._is_back, deadline_s=REPAIR_S, poll_s=0.3)

    def _is_back(self) -> bool:
        """What is published is asked first: it costs little where everything costs much."""
        if not self._carries(self.status()):
            return False
        done = self.machine.run("sh", "-c", _ONLINE.format(ways=self._ways()), seconds=60)
        return done.code == 0 and self._carries(json.loads(done.out))

    @staticmethod
    def _carries(status: Mapping[str, Any]) -> bool:
        return bool(status["phase"] == "connected" and status["protected"] and status["block"]["guarded"])

    def _ways(self) -> str:
        pairs = zip(PORTS, self.places.sites, strict=True)
        return " ".join(f"{port.card.name}={ROUTERS[site]}" for port, site in pairs if site)

    def _wait_routes(self) -> None:
        script = _ONLINE.format(ways=self._ways()).partition("ping")[0]
        self.machine.wait("the leases", "sh", "-c", script)

    def status(self) -> dict[str, Any]:
        """What the daemon has published."""
        done = self.machine.run("cat", "/run/aovpnd/status.json")
        status: dict[str, Any] = (
            json.loads(done.out) if done.code == 0 else {"phase": None, "protected": None, "temporary_access": None}
        )
        return status

    def ticks(self) -> list[Tick]:
        """What the meter has noted since power-on."""
        self._report += self.machine.run("tail", "-c", f"+{len(self._report) + 1}", "/run/online").out
        return read_ticks(self._report)

    def leaked(self) -> int:
        """Frames in clear since the last time that this was asked, what temporary access let out left aside."""
        clear = self._clear()
        leaked, self._allowed = clear - self._allowed, clear
        return leaked

    def forgive(self) -> None:
        """What has left so far is not judged."""
        self._allowed = self._clear()

    def _clear(self) -> int:
        return self.recorder.count(Class.CLEAR)

    def refused(self) -> list[str]:
        """What AppArmor has refused to the product."""
        lines = self.machine.check("dmesg").splitlines()
        return [line for line in lines if 'profile="aovpnd' in line and "DENIED" in line]

    def state(self) -> str:
        """All that helps to understand why it is not back."""
        commands = (
            "cat /run/aovpnd/status.json",
            "ip address; ip -4 route; ip -6 route; ip rule; ip route show table 24943; wg show",
            "nmcli device; systemctl --failed; systemctl list-jobs; cat /etc/uplinks; tail -n 20 /run/online",
            "journalctl -b --no-pager -n 400",
        )
        return "\n".join(f"# {words}\n{self.machine.run('sh', '-c', words, seconds=60).out}" for words in commands)

    def _write(self, path: str, content: str) -> None:
        script = 'mkdir -p "${1%/*}" && umask 077 && cat >"$1.new" && mv "$1.new" "$1"'
        self.machine.check("sh", "-c", script, "sh", path, stdin=content)


def missing(seen: Mapping[str, set[int]]) -> str:
    """Which of the chatty programs a control has not seen, by the taps at which it has seen some; empty when none."""
    everywhere = set().union(*seen.values()) if seen else set()
    unseen = [SENDERS[number][0] for number in sorted(UNBOUND - everywhere)]
    for port in PORTS:
        lacking = sorted(set(SENDERS) - UNBOUND - seen.get(port.card.tap, set()))
        unseen += [f"{SENDERS[number][0]} ({port.card.name})" for number in lacking]
    return ", ".join(unseen)


def let_through_the_portal(world: World) -> None:
    """The café knows all of the laptop's cards."""
    world.cafe.host.nft(f"add element inet cafe allowed {{ {', '.join(port.card.mac for port in PORTS)} }}\n")

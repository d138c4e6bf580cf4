# SPDX-License-Identifier: GPL-3.0-or-later
"""A booted laptop in the lab's world: chatty from before its systemd, recorded from its first instruction."""

import base64
import json
import secrets
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.lab import plan
from tests.lab.frames import Frame, Kind
from tests.lab.process import LabError, wait_for
from tests.lab.record import Recorder, Recording
from tests.lab.tree import Entry, Symlink, Tree, copied, text
from tests.lab.world import World
from tests.vm.guest.chatty import SENDERS, UNBOUND
from tests.vm.images import Image
from tests.vm.machine import Card, Machine, MachineError
from tests.vm.pcap import frames_of
from tests.vm.tpm import Tpm


@dataclass(frozen=True, slots=True)
class Cards:
    """The network cards of one laptop; two laptops may run at once."""

    built_in: Card
    hot_plugged: Card


CARDS: Final = Cards(Card("builtin", "tap0", "02:00:00:00:01:00"), Card("hotplug", "tap1", "02:00:00:00:01:01"))
CONTROL_CARDS: Final = Cards(Card("builtin", "tap2", "02:00:00:00:02:00"), Card("hotplug", "tap3", "02:00:00:00:02:01"))


@dataclass(frozen=True, slots=True)
class Plugged:
    """A card that is there at power-on, and the network that its cable leads to (``home`` for the lab's ``br-home``).

    What is in the machine without being the laptop's, the far end of a cable for instance, is not recorded.
    """

    card: Card
    network: str
    recorded: bool = True


ENOUGH: Final = 10
"""Attempts of every sender by which a test believes that it has tried."""

_NETWORK: Final = """[Match]
MACAddress={mac}
[Network]
DHCP=yes
IPv6AcceptRA=yes
[DHCPv4]
RouteMetric={metric}
[IPv6AcceptRA]
RouteMetric={metric}
"""
"""As network managers do: the card that was there first keeps the default route."""
_UNITS: Final = "/etc/systemd/system"
_SYSTEM_UNITS: Final = "/usr/lib/systemd/system"


def furniture(token: bytes, cards: Cards) -> dict[str, Entry]:
    """What this laptop has besides the product: chatty programs, and systemd-networkd as its network manager."""
    return {
        "/early/chatty": copied(Path(__file__).with_name("guest") / "chatty.py", 0o755),
        "/etc/chatty-token": text(token.hex()),
        "/etc/systemd/network/builtin.network": text(_NETWORK.format(mac=cards.built_in.mac, metric=100)),
        "/etc/systemd/network/hotplug.network": text(_NETWORK.format(mac=cards.hot_plugged.mac, metric=200)),
        f"{_UNITS}/multi-user.target.wants/systemd-networkd.service": Symlink(
            f"{_SYSTEM_UNITS}/systemd-networkd.service"
        ),
        f"{_UNITS}/sockets.target.wants/systemd-networkd.socket": Symlink(f"{_SYSTEM_UNITS}/systemd-networkd.socket"),
        f"{_UNITS}/systemd-networkd-wait-online.service": Symlink("/dev/null"),
        f"{_UNITS}/strongswan.service": Symlink("/dev/null"),  # the distribution's own charon, enabled by its package
    }


@dataclass(slots=True)
class BootedLaptop:
    """One run of a machine on the home network. A context manager; leaving it cuts the power."""

    machine: Machine
    world: World
    token: bytes
    cards: Cards
    _cards: list[Card] = field(default_factory=list)
    _recorders: list[Recorder] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)

    @classmethod
    def power_on(
        cls,
        image: Image,
        world: World,
        files: Tree,
        cards: Cards = CARDS,
        *,
        clock: str = "utc",
        kernel: str = "",
        more: tuple[Plugged, ...] = (),
        disk: Path | None = None,
        swap: Path | None = None,
        memory: int = 512,
        tpm: Tpm | None = None,
        network: str = "home",
        asleep: bytes = b"",
    ) -> Self:
        """Switch the laptop on, its card in a ``network``, with ``files`` laid over its system; ``more`` are cards
        besides, the other words are `Machine`'s. Returns when its agent answers, which is before systemd. One that is
        ``asleep`` on its ``swap`` (the token of before) goes on where it was.
        """
        token = asleep or secrets.token_bytes(16)
        number = sum(1 for _ in world.air.dir.glob("machine*")) + 1
        directory = world.air.dir / f"machine{number}"
        directory.mkdir()
        machine = Machine(
            image,
            directory,
            enter=world.air.prefix(),
            cards=(cards.built_in, *(other.card for other in more)),
            overlay={**furniture(token, cards), **files},
            clock=clock,
            kernel=kernel,
            disk=disk,
            swap=swap,
            memory=memory,
            tpm=tpm,
        )
        laptop = cls(machine, world, token, cards)
        laptop._stack.enter_context(machine)
        try:
            laptop._join(cards.built_in, network)
            for other in more:
                if other.recorded:
                    laptop._record(other.card)
                laptop.cable(other.card, other.network)
            machine.start()
            if asleep:
                machine.wait_resumed()
            else:
                machine.wait_agent()
        except BaseException:
            laptop.close()
            raise
        return laptop

    def _join(self, card: Card, site: str) -> None:
        """Connect a card's tap with a network; the recorders stand before anything can pass."""
        self._record(card)
        self.cable(card, site)

    def _record(self, card: Card) -> None:
        recorder = self.world.record(card.tap, ike=plan.IKE_GATEWAYS)
        self._stack.enter_context(recorder)
        self._recorders.append(recorder)
        self._cards.append(card)

    def cable(self, card: Card, network: str) -> None:
        """Lay a card's cable to another network."""
        self.world.air.ip(f"link set {card.tap} master br-{network} up")

    def put(self, path: str, content: str | bytes, mode: int = 0o600) -> None:
        """Write a file in the running machine, in place of what is there."""
        data = content.encode() if isinstance(content, str) else content
        script = 'mkdir -p "$(dirname "$1")" && base64 -d >"$1.new" && chmod "$2" "$1.new" && mv "$1.new" "$1"'
        self.machine.check("sh", "-c", script, "put", path, f"{mode:o}", stdin=base64.b64encode(data).decode())

    def get(self, path: str) -> bytes:
        """Read a file of the running machine."""
        return base64.b64decode(self.machine.check("base64", "-w0", path))

    def plug_card(self) -> str:
        """Plug a second card in, in the café's network; return its name, when udev has finished with it."""
        card = self.cards.hot_plugged
        self.machine.add_netdev(card)
        self._join(card, "cafe")
        self.machine.plug(card)
        return self.link_of(card)

    def built_in(self) -> str:
        """The name that the running system gives the card that was there at power-on."""
        return self.link_of(self.cards.built_in)

    def link_of(self, card: Card) -> str:
        """The name that the running system gives a card, when the card is there and udev has finished with it."""
        look = f"grep -lixs '{card.mac}' /sys/class/net/*/address"
        found = self.machine.wait(f"the card {card.mac}", "sh", "-c", f"{look} && udevadm settle && {look}")
        return Path(found.split()[-1]).parent.name

    # -- what was tried, what was seen --------------------------------------------------------------------------------

    def tried(self) -> dict[str, Counter[int]]:
        """Attempts of each sender by link, while the link was up."""
        report = self.machine.run("cat", "/run/chatty.json")
        if report.code != 0:
            return {}
        return {
            link: Counter({int(number): count for number, count in counts.items()})
            for link, counts in json.loads(report.out).items()
        }

    def wait_tried(self, link: str, numbers: Mapping[int, object] | frozenset[int], seconds: float = 180) -> None:
        """Wait until each of these senders has tried ENOUGH more often to send by ``link``."""
        before = self.tried().get(link, Counter())

        def enough() -> bool:
            now = self.tried().get(link, Counter())
            return all(now[number] >= before[number] + ENOUGH for number in numbers)

        try:
            wait_for("the chatty programs", enough, deadline_s=seconds, poll_s=0.3)
        except LabError:
            now = self.tried().get(link, Counter())
            lazy = [SENDERS[number][0] for number in numbers if now[number] < before[number] + ENOUGH]
            raise MachineError(f"by {link} these did not try within {seconds} s: {', '.join(lazy)}") from None

    def wait_online(self, link: str, seconds: float = 180) -> None:
        """Wait until a link has what DHCP and a router advertisement give: an address of each family."""
        for family in ("-4", "-6"):
            script = f"ip {family} -oneline address show dev {link} scope global -tentative | grep -q inet"
            self.machine.wait(f"{link} to get an IPv{family[1]} address", "sh", "-c", script, seconds=seconds)

    def recording(self) -> Recording:
        """Stop the machine and return all that it sent since power-on, by two recorders and a counter that agree.

        Beside the lab's recorder (a packet socket and an nft counter per class) QEMU itself has written every frame
        before it reached the tap. LabError when these three differ in a single frame.
        """
        self.machine.pause()
        frames: list[Frame] = []
        recordings = [recorder.recording(self.token) for recorder in self._recorders]
        for card, recording in zip(self._cards, recordings, strict=True):
            seen = sorted(frame.length for frame in recording.frames)
            sent = sorted(map(len, frames_of(self.machine.recording(card))))
            if seen != sent:
                raise LabError(f"{card.tap}: QEMU sent {len(sent)} frames, {len(seen)} were seen behind it")
            frames += recording.frames
        least = {link: counts for recording in recordings for link, counts in recording.least.items()}
        most = {link: counts for recording in recordings for link, counts in recording.most.items()}
        return Recording(tuple(frames), least, most, sum(recording.dropped for recording in recordings), frozenset())

    def close(self) -> None:
        """Cut the power; may be called twice."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def names_of(numbers: Counter[int] | set[int]) -> str:
    """Senders in words, for messages."""
    return ", ".join(SENDERS[number][0] for number in sorted(numbers)) or "none"


def bound_senders() -> frozenset[int]:
    """The senders that choose the link themselves."""
    return frozenset(SENDERS) - UNBOUND


def clear_kinds(recording: Recording) -> Counter[Kind]:
    """Frames on the allow-list, by class: a laptop that sends nothing at all would prove nothing."""
    return Counter(frame.kind for frame in recording.frames if frame.kind is not Kind.CLEAR)

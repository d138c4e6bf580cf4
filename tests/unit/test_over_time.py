# SPDX-License-Identifier: GPL-3.0-or-later
"""A laptop's life in random order: roaming, grants, kills, flushes, reloads, time. What is never so, whatever happens.

Every bookkeeping here is the test's own: when a window was asked for and for how long, where, and what an administrator
took off. Nothing is taken from the memory that is tested.
"""

from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aovpnd import names
from aovpnd.confirmation import NEVER, Logins, Standing
from aovpnd.doors import WhileConnected
from aovpnd.model import Block, Config, GuardState, Intent, Lan, Snapshot, TemporaryAccessPolicy
from aovpnd.orders import (
    AllowTemporary,
    Answer,
    CancelTemporary,
    Command,
    Confirm,
    Connect,
    Disconnect,
    LoadRuleset,
    PrepareSleep,
    Reload,
    SetBlock,
    Woke,
)
from aovpnd.ruleset import L4, Address, Device
from aovpnd.tunnel import Endpoint, HostPort
from tests.unit import spec
from tests.unit.packets import LEAVING, by_link, packet
from tests.unit.small_companions import MGMT
from tests.unit.small_world import CORP, ENDPOINT_53, HOME, ROTATED, WORK, tunnel
from tests.unit.world import SITES, Laptop

PER_HOUR, LONGEST_S = 3, 3600
MOVED: Final = tunnel("work", Endpoint(ip_address("192.0.2.77"), 443))
"""The tunnel called work after its provider has moved."""
VPN: Final = "vpn.example.org"
NAMED: Final = replace(
    WORK, peers=tuple(replace(peer, endpoint=None, host=HostPort(VPN, 51820)) for peer in WORK.peers[:1])
)
CONFIGS: Final = (
    Config((WORK,)),
    Config((WORK,), lan=Lan.ALLOW),
    Config((WORK, HOME), prefer=("home",)),
    Config((WORK, HOME), prefer=("work", "home")),
    Config((ROTATED, HOME), prefer=("work", "home")),
    Config((MOVED,), temporary_access=TemporaryAccessPolicy(while_connected=WhileConnected.PAUSE)),
    Config((CORP,)),
    Config((CORP, HOME), prefer=("corp", "home")),
    Config((NAMED,)),
    Config((NAMED, HOME), prefer=("work", "home")),
    Config(),
    Config((WORK,), locked=frozenset({"lan.allow"})),
    Config((HOME, WORK), prefer=("work",), device=("home",)),
    Config((WORK,), device=()),
    Config((MGMT, WORK), prefer=("work",), companions=("mgmt",)),
    Config((HOME, MGMT, WORK), prefer=("work", "home"), device=("mgmt",), companions=("mgmt",)),
)
GATEWAY, OTHER, LIE = map(ip_address, ("192.0.2.1", "192.0.2.2", "198.51.100.66"))
ANSWERS: Final[tuple[dict[str, tuple[Address, ...]], ...]] = ({}, {VPN: (GATEWAY,)}, {VPN: (LIE, OTHER)}, {VPN: ()})
"""What resolvers say of the gateway that has a name: nothing, the truth, something else, that it has no address."""
PROBES: Final = tuple(LEAVING[::4])
CARDS: Final = (Device(2, "wlan0"), Device(3, "eth0"))
awake = st.booleans()
"""Whether the daemon is there to see what happens."""


@dataclass(frozen=True, slots=True)
class Window:
    """A temporary access that somebody was given. ``at`` on the test's own clock, which no reboot sets back."""

    at: float
    seconds: int
    world: Snapshot


class Life(RuleBasedStateMachine):
    """One laptop, and what its users know of it."""

    def __init__(self) -> None:
        super().__init__()
        self.laptop = Laptop()
        self.clock = 0.0
        self.windows: list[Window] = []
        self.open_until = 0.0
        self.unblocked = False
        self.rests = False
        self.shuts = True
        """Whether a window that ends early is shut early: not while no ruleset can be loaded, nor before the daemon has
        looked again.
        """
        self.first = True
        """Whether there was no block yet but such as have undone themselves or were taken off within their minute."""
        self.undone_at: float | None = None
        """When the block undoes itself, which waits for somebody's word."""

    @initialize(config=st.sampled_from(CONFIGS), site=st.sampled_from([*SITES, None]), logins=st.sampled_from(Logins))
    def first_start(self, config: Config, site: str | None, logins: Logins) -> None:
        """It starts, somewhere or nowhere, and is blocked for the first time."""
        self.laptop.config = config
        self.laptop.intent = Intent(confirmation=NEVER)
        self.laptop.snapshot = replace(self.laptop.snapshot, confirmation=NEVER, logins=logins)
        self._blocked()
        if site is not None:
            self.laptop.join(site)
        self._look(seen=True)

    def _blocked(self) -> None:
        """The block goes up, and may be the first one to stay."""
        if self.first and self.laptop.snapshot.logins is Logins.REMOTE and not self.laptop.config.locked:
            self.undone_at = self.clock + 60.0
        else:
            self.first = False

    def _look(self, *, seen: bool) -> None:
        self.rests = seen
        if not seen:
            return
        if self.undone_at is not None and self.laptop.config.locked:
            self.undone_at, self.first = None, False
        if self.undone_at is not None and self.clock >= self.undone_at:
            self.undone_at, self.unblocked, self.open_until = None, True, self.clock
        self.laptop.settle()
        self.shuts = not self.laptop.fails

    def _ask(self, command: Command) -> Answer | None:
        self.laptop.look(command)
        answer = self.laptop.last_answer
        self._look(seen=True)
        return answer if isinstance(answer, Answer) else None

    # -- what users do ------------------------------------------------------------------------------------------------
    @rule(seconds=st.sampled_from([None, -1, 0, 1, 60, 600, 3600, 3601, 86400]))
    def allow_temporary(self, seconds: int | None) -> None:
        """Somebody wants out."""
        world = self.laptop.snapshot
        self.laptop.look()  # what ends a window by itself has ended it before the question
        answer = self._ask(AllowTemporary(seconds))
        if answer is not None:
            self.windows.append(Window(self.clock, 180 if seconds is None else seconds, world))
            self.open_until = self.clock + self.windows[-1].seconds

    @rule()
    def cancel(self) -> None:
        """Enough."""
        self._ask(CancelTemporary())
        self.open_until = self.clock

    @rule(seconds=st.sampled_from([0.5, 3600.0]))
    def sleep_and_wake(self, seconds: float) -> None:
        """The lid is closed and opened; the daemon was told before and after."""
        self._ask(PrepareSleep())
        self.open_until = self.clock
        self.clock += seconds
        self.laptop.tick(seconds)
        self._ask(Woke())

    @rule(name=st.sampled_from([None, "work", "home", "gone"]))
    def connect(self, name: str | None) -> None:
        """By this tunnel, or by the usual one."""
        self._ask(Connect(name))

    @rule()
    def disconnect(self) -> None:
        """Without a tunnel, and still blocked."""
        self._ask(Disconnect())

    @rule(block=st.sampled_from([Block.ON, Block.ON, Block.OFF]))
    def set_block(self, block: Block) -> None:
        """An administrator takes the block off, or puts it on."""
        self._look(seen=True)  # what undoes itself has done so before
        if block is Block.ON and self.unblocked:
            self._blocked()
        self.unblocked = block is Block.OFF
        if self.unblocked:
            self.open_until, self.undone_at = self.clock, None
        self._ask(SetBlock(block))

    @rule()
    def confirm(self) -> None:
        """The first block shall stay."""
        self._look(seen=True)
        self.undone_at, self.first = None, False
        self._ask(Confirm())

    @rule(logins=st.sampled_from(Logins))
    def log_in(self, logins: Logins) -> None:
        """Somebody comes over the network, or goes."""
        self.laptop.snapshot = replace(self.laptop.snapshot, logins=logins)

    @rule(config=st.sampled_from(CONFIGS))
    def reload(self, config: Config) -> None:
        """Somebody has edited the files."""
        self.laptop.config = config
        self._ask(Reload())

    # -- what happens to it -------------------------------------------------------------------------------------------
    @rule(site=st.sampled_from(list(SITES)), link=st.sampled_from(["wlan0", "eth0"]), seen=awake)
    def roam(self, site: str, link: str, *, seen: bool) -> None:
        """Into another network, or into the same one again."""
        self.laptop.join(site, link)
        self._look(seen=seen)

    @rule(link=st.sampled_from(["wlan0", "eth0"]), seen=awake)
    def leave(self, link: str, *, seen: bool) -> None:
        """Out of range."""
        self.laptop.leave(link)
        self._look(seen=seen)

    @rule(seen=awake)
    def flap(self, *, seen: bool) -> None:
        """The carrier goes and comes."""
        self.laptop.flap()
        self._look(seen=seen)

    @rule(seconds=st.sampled_from([0.5, 20.0, 59.0, 181.0, 1200.0, 3601.0]), seen=awake)
    def time_passes(self, seconds: float, *, seen: bool) -> None:
        """With the daemon awake, or asleep all the time."""
        self.clock += seconds
        if seen:
            self.laptop.wait(seconds)
        else:
            self.laptop.tick(seconds)
        self._look(seen=seen)

    @rule(seconds=st.sampled_from([-86400.0, 3600.0, 1e8]), seen=awake)
    def wall_clock_is_set(self, seconds: float, *, seen: bool) -> None:
        """By NTP, by a user, or by somebody on the network."""
        now = self.laptop.snapshot.now
        self.laptop.snapshot = replace(self.laptop.snapshot, now=replace(now, wall=now.wall + seconds))
        self._look(seen=seen)

    @rule(answers=awake, seen=awake)
    def gateway(self, *, answers: bool, seen: bool) -> None:
        """It goes away, and comes back."""
        self.laptop.answers = answers
        self._look(seen=seen)

    @rule(silent=st.sampled_from(["work", "home", None]), seen=awake)
    def one_gateway(self, silent: str | None, *, seen: bool) -> None:
        """One of them goes away, and the others are there."""
        self.laptop.silent = {silent} if silent is not None else set()
        self._look(seen=seen)

    @rule(answers=st.sampled_from(ANSWERS), where=st.sampled_from([None, GATEWAY, OTHER]), seen=awake)
    def resolver(self, answers: dict[str, tuple[Address, ...]], where: Address | None, *, seen: bool) -> None:
        """It tells the truth, lies, is silent; the gateway stands here or there."""
        self.laptop.names = dict(answers)
        self.laptop.where = None if where is None else frozenset({where, ENDPOINT_53.addr})
        self._look(seen=seen)

    # -- what breaks --------------------------------------------------------------------------------------------------
    @rule(after=st.integers(0, 4), event=st.sampled_from(["wlan0", "eth0", None]))
    def killed(self, after: int, event: str | None) -> None:
        """SIGKILL in the middle of a pass, and a new start."""
        if event is not None:
            self.laptop.join("cafe", event)
        self.laptop.look(stop_after=after)
        self.laptop.restart()
        # An unblock that failed half-way is not remembered: closed. What undoes itself is due again at once.
        self.unblocked = self.laptop.snapshot.unblocked
        self.open_until = min(self.open_until, self.clock)
        kept, now = self.laptop.snapshot.confirmation, self.laptop.snapshot.now.boot
        if not self.unblocked and self.undone_at is None and kept.standing is Standing.AWAITED:
            self.undone_at = self.clock + max(kept.until - now, 0.0)
        self._look(seen=True)

    @rule()
    def reboot(self) -> None:
        """Everything of the kernel's is gone; early boot has loaded the lock."""
        self.laptop.restart(reboot=True)
        self.unblocked = self.laptop.snapshot.unblocked
        self.open_until = self.clock
        if self.undone_at is not None:  # nobody confirmed before the boot ended
            self.undone_at = self.clock
        self._look(seen=True)

    @rule(seen=awake)
    def flush(self, *, seen: bool) -> None:
        """``nft flush ruleset``."""
        self.laptop.flush()
        self._look(seen=seen)

    @rule(seen=awake)
    def guard_dies(self, *, seen: bool) -> None:
        """Its tables go with it."""
        self.laptop.snapshot = replace(self.laptop.snapshot, guard=GuardState.MISSING)
        self._look(seen=seen)

    @rule(seen=awake)
    def tunnel_link_goes(self, *, seen: bool) -> None:
        """Somebody deletes our link."""
        self.laptop.lose_link("aovpn0")
        self._look(seen=seen)

    @rule(broken=awake, seen=awake)
    def nftables_refuses(self, *, broken: bool, seen: bool) -> None:
        """No ruleset can be loaded, for a while."""
        self.laptop.fails = {LoadRuleset} if broken else set()
        self.shuts = self.shuts and not broken
        if not broken:
            self.laptop.tick(2.0)  # a ruleset that failed is tried again soon
            self.clock += 2.0
        self._look(seen=seen)

    def _closed_at(self) -> float:
        """When the last window has closed; the kernel's timer closes it in any case."""
        ends = max((window.at + window.seconds for window in self.windows), default=0.0)
        return self.open_until if self.shuts else ends

    # -- what is always so --------------------------------------------------------------------------------------------
    @invariant()
    def windows_keep_bounds_and_budget(self) -> None:
        """No window is longer than an hour, and in no hour are there more than three; restarts change nothing."""
        assert all(0 < window.seconds <= LONGEST_S for window in self.windows)
        for number, window in enumerate(self.windows[PER_HOUR:]):
            assert window.at - self.windows[number].at >= LONGEST_S

    @invariant()
    def nothing_is_open_without_a_window(self) -> None:
        """In every moment, the daemon awake or not: what is loaded opens a card only inside a window that was given."""
        if self.laptop.snapshot.ruleset is None or self.unblocked or self.clock < self._closed_at():
            return
        for card in CARDS:
            web = by_link(LEAVING[:1], None, card)[0]
            assert not self.laptop.lets_out(web), "a card is open"

    @invariant()
    def one_address_of_a_name(self) -> None:
        """Whatever was answered, marked UDP may go to one address of a name, and nobody else to any."""
        if self.laptop.snapshot.ruleset is None or NAMED not in self.laptop.config.tunnels or not self.rests:
            return
        if self.unblocked or self.clock < self._closed_at():
            return
        for card in CARDS:
            asked = [packet(str(addr), L4.UDP, 51820, oif=card) for addr in (GATEWAY, OTHER, LIE)]
            assert not any(map(self.laptop.lets_out, asked))
            assert sum(self.laptop.lets_out(replace(sent, mark=names.FWMARK)) for sent in asked) <= 1

    @invariant()
    def at_rest_both_readings_agree(self) -> None:
        """Whenever the loop has come to rest, the loaded table lets out what the page does, no more and no less."""
        if not self.rests or self.laptop.fails or NAMED in self.laptop.config.tunnels:
            return
        laptop, snapshot = self.laptop, self.laptop.snapshot
        granted_in = self.windows[-1].world if self.windows else None
        reading = spec.read(spec.World(laptop.config, laptop.intent, snapshot, granted_in))
        if self.unblocked:
            assert snapshot.ruleset is None
            return
        assert snapshot.ruleset is not None
        tunnels = [spec.device_of(state.link) for state in snapshot.tunnels]
        for device in (*CARDS, *tunnels, Device(5, "docker0", "bridge"), Device(99, "usb0")):
            for probe in by_link(PROBES, None, device):
                expected = spec.allowed(reading, probe, spec.Way.OUT, snapshot.now.boot)
                assert laptop.lets_out(probe) is expected, probe


QUICK: Final = settings(max_examples=50, stateful_step_count=30, deadline=None, derandomize=True, database=None)
LONG: Final = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)

TestLife = Life.TestCase
TestLife.settings = QUICK


class LongLife(Life):
    """The same, longer and never the same."""


TestLongLife = pytest.mark.slow(LongLife.TestCase)
LongLife.TestCase.settings = LONG

# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop, with a world of values in place of the system: what it does when, and what it never does."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from aovpnd import destinations
from aovpnd.clock import Clock
from aovpnd.core import decide as deciding
from aovpnd.daemon import Daemon
from aovpnd.destinations import Destination, Routed
from aovpnd.errors import CommandRefused, NftError, StateError, SystemFault
from aovpnd.inquiries import Finding, Inquiry, LookedUp, LookUp, Unanswered
from aovpnd.links import ARPHRD_LOOPBACK, Link
from aovpnd.model import Block, Config, Copies, Desired, GuardState, Intent, Phase, Snapshot
from aovpnd.orders import (
    Action,
    AllowTemporary,
    CancelTemporary,
    CloseSockets,
    Disconnect,
    EnsureCopies,
    EnsureGuard,
    EnsureRouting,
    Explain,
    KeepConfirmation,
    LoadRuleset,
    MarkUnblocked,
    PrepareSleep,
    Reload,
    SetBlock,
)
from aovpnd.resting import Rouse
from aovpnd.routes import LinkAddress, Route, Routing

LO = Link(1, "lo", arphrd=ARPHRD_LOOPBACK)
WLAN = Link(2, "wlan0")
GATEWAY = ip_address("192.168.1.1")
AT_HOME = Snapshot(
    now=Clock(1000.0, 1_700_000_000.0),
    links=(LO, WLAN),
    addresses=(LinkAddress(2, ip_interface("192.168.1.5/24")),),
    main=(Route(ip_network("0.0.0.0/0"), 2, GATEWAY, 600),),
    resolvers=(GATEWAY,),
)
DEADLINE_S = 10


@dataclass(slots=True)
class World:
    """A system that does at once what it is told, and remembers what that was."""

    snapshot: Snapshot = AT_HOME
    done: list[Action] = field(default_factory=list)
    fails: dict[type, Exception] = field(default_factory=dict)
    remembered: list[Intent] = field(default_factory=list)
    remember_fault: SystemFault | None = None
    asked: list[Inquiry] = field(default_factory=list)
    answers: dict[Inquiry, Finding] = field(default_factory=dict)
    publish_fault: StateError | None = None
    ways: dict[Destination, Routed] = field(default_factory=dict)
    tries: int = 7
    looks: list[Rouse] = field(default_factory=list)
    may_answer: threading.Event = field(default_factory=threading.Event)

    def observe(self) -> Snapshot:
        """Look, or fail as told."""
        if Snapshot in self.fails:
            raise self.fails[Snapshot]
        return self.snapshot

    def apply(self, action: Action) -> None:
        """Do it, or fail as told."""
        if type(action) in self.fails:
            raise self.fails[type(action)]
        self.done.append(action)
        match action:
            case LoadRuleset(ruleset):
                self.snapshot = replace(self.snapshot, ruleset=ruleset, table_present=ruleset is not None)
            case EnsureCopies(links, unannounced):
                copies = Copies.ABSENT if links is None else Copies.CURRENT
                self.snapshot = replace(self.snapshot, copies=copies, unannounced=unannounced)
            case EnsureRouting(routing):
                self.snapshot = replace(self.snapshot, routing=routing or Routing((), ()))
            case CloseSockets():
                pass
            case EnsureGuard(state):
                self.snapshot = replace(self.snapshot, guard=state)
            case MarkUnblocked(block):
                self.snapshot = replace(self.snapshot, unblocked=block is Block.OFF)
            case KeepConfirmation(confirmation):
                self.snapshot = replace(self.snapshot, confirmation=confirmation)
            case _:
                msg = f"no tunnel here: {action}"
                raise AssertionError(msg)

    def routes(self, asked: tuple[Destination, ...]) -> dict[Destination, Routed]:
        """What the test says that the kernel says."""
        return {to: self.ways[to] for to in asked if to in self.ways}

    def inquire(self, inquiry: Inquiry) -> Finding:
        """Answer what the test has an answer for, when it wants it to be answered."""
        self.asked.append(inquiry)
        assert self.may_answer.wait(DEADLINE_S)
        if type(inquiry) in self.fails:
            raise self.fails[type(inquiry)]
        return self.answers[inquiry]

    def is_over(self, rouse: Rouse) -> bool:
        """Whether the counter that a rest watches has moved."""
        self.looks.append(rouse)
        if Rouse in self.fails:
            raise self.fails[Rouse]
        return rouse.tries != self.tries

    def remember(self, intent: Intent) -> None:
        """Keep it, or fail as told."""
        if self.remember_fault is not None:
            raise self.remember_fault
        self.remembered.append(intent)

    def pass_time(self, seconds: float) -> None:
        """Move both clocks."""
        now = self.snapshot.now
        self.snapshot = replace(self.snapshot, now=Clock(now.boot + seconds, now.wall + seconds))


@dataclass(slots=True)
class Stage:
    """A running daemon and its world."""

    world: World
    daemon: Daemon
    published: list[tuple[Snapshot, Desired]]
    fed: list[None]
    configured: list[Config | None]

    async def settled(self) -> Desired:
        """Wake the loop and wait for what it publishes."""
        seen = len(self.published)
        self.daemon.wake.now("test")
        await until(lambda: len(self.published) > seen)
        return self.published[-1][1]


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - a condition over values; nothing in them can ring
            await asyncio.sleep(0)


def play(scene: Callable[[Stage], Awaitable[None]], world: World | None = None) -> Stage:
    """Run a daemon on a world, act ``scene``, stop."""

    async def run() -> Stage:
        published: list[tuple[Snapshot, Desired]] = []
        fed: list[None] = []
        configured: list[Config | None] = []

        def configure(previous: Config | None) -> Config:
            configured.append(previous)
            return Config()

        def publish(_config: Config, _intent: Intent, snapshot: Snapshot, desired: Desired) -> None:
            if system.publish_fault is not None:
                raise system.publish_fault
            published.append((snapshot, desired))

        system = world or World()
        recalled = Intent(confirmation=system.snapshot.confirmation)
        daemon = Daemon(system, configure, publish, lambda: fed.append(None), intent=recalled)
        stage = Stage(system, daemon, published, fed, configured)
        ready = asyncio.Event()
        running = asyncio.create_task(daemon.run(ready.set))
        try:
            async with asyncio.timeout(DEADLINE_S):
                await scene(stage)
        finally:
            daemon.stop()
            async with asyncio.timeout(DEADLINE_S):
                await running
        return stage

    return asyncio.run(run())


def test_first_pass_shuts_before_anything_else() -> None:
    """The ruleset is the first thing that a daemon does."""

    async def scene(stage: Stage) -> None:
        await stage.settled()

    stage = play(scene)

    assert [type(action) for action in stage.world.done] == [LoadRuleset, EnsureRouting, CloseSockets, EnsureGuard]
    assert stage.published[-1][1].phase is Phase.BLOCKED


def test_settled_world_is_left_alone_and_the_watchdog_fed() -> None:
    """A second pass does nothing but say that it lives."""

    async def scene(stage: Stage) -> None:
        await stage.settled()
        done, fed = len(stage.world.done), len(stage.fed)
        await stage.settled()
        assert len(stage.world.done) == done
        assert len(stage.fed) > fed

    play(scene)


def test_allowed_means_loaded() -> None:
    """The answer to allow-temp comes when the window is open, not when it was asked for."""

    async def scene(stage: Stage) -> None:
        answer = await stage.daemon.submit(AllowTemporary(60))
        assert answer.expires_at == 1060.0
        assert stage.world.snapshot.ruleset is not None
        assert stage.world.snapshot.ruleset.sets[0].elements
        assert stage.world.snapshot.routing.shut == ()

    play(scene)


def test_cancelled_means_shut() -> None:
    """The answer to a cancel comes when the window is shut."""

    async def scene(stage: Stage) -> None:
        await stage.daemon.submit(AllowTemporary(60))
        await stage.daemon.submit(CancelTemporary())
        assert stage.world.snapshot.ruleset is not None
        assert not stage.world.snapshot.ruleset.sets[0].elements
        assert stage.world.snapshot.routing.shut == (6,)

    play(scene)


def test_budget_is_on_disk_before_the_window_opens() -> None:
    """A budget that cannot be kept is a window that does not open."""
    world = World(remember_fault=StateError("disk full"))

    async def scene(stage: Stage) -> None:
        with pytest.raises(CommandRefused, match="disk full"):
            await stage.daemon.submit(AllowTemporary(60))

    stage = play(scene, world)

    assert stage.published[-1][1].phase is Phase.BLOCKED


def test_closing_needs_no_disk() -> None:
    """A window is closed, before sleep or on demand, although nothing can be written any more."""
    world = World()

    async def scene(stage: Stage) -> None:
        for closing in (CancelTemporary(), PrepareSleep()):
            world.remember_fault = None
            await stage.daemon.submit(AllowTemporary(60))
            world.remember_fault = StateError("disk full")
            await stage.daemon.submit(closing)
            assert stage.published[-1][1].phase is Phase.BLOCKED

    play(scene, world)


def test_refusal_changes_nothing() -> None:
    """Too much is refused, never clamped."""

    async def scene(stage: Stage) -> None:
        await stage.settled()
        done = len(stage.world.done)
        with pytest.raises(CommandRefused):
            await stage.daemon.submit(AllowTemporary(3601))
        assert len(stage.world.done) == done

    play(scene)


def test_question_is_answered_from_a_settled_pass() -> None:
    """Even the first one, which has everything to do, answers when nothing is left to be done."""

    async def scene(stage: Stage) -> None:
        answer = await stage.daemon.submit(Explain(destinations.parse("192.0.2.1")))
        assert answer.text.startswith("192.0.2.1:443/tcp is refused at once: there is no tunnel")
        assert stage.world.remembered == []
        everything = await stage.daemon.submit(Explain())
        assert everything.text == "blocked: everything is as it should be"

    play(scene)


def test_kernel_is_believed_about_the_way() -> None:
    """Another program's rule leads elsewhere than our tables say: what is judged is where it really goes."""
    to = destinations.parse("192.0.2.1")

    async def scene(stage: Stage) -> None:
        answer = await stage.daemon.submit(Explain(to))
        assert answer.text == "192.0.2.1:443/tcp is refused at once: nothing permits it to leave by wlan0"

    play(scene, World(ways={to: Routed(2, gateway=ip_address("192.168.1.77"))}))


def test_question_is_answered_although_something_fails() -> None:
    """That is when people ask."""

    async def scene(stage: Stage) -> None:
        answer = await stage.daemon.submit(Explain())
        assert answer.text == "blocked: 4 things are still to be done"
        assert answer.data is not None
        assert "load ruleset: blocked; there was none" in str(answer.data["actions"])

    play(scene, World(fails={LoadRuleset: NftError("refused")}))


def test_failed_load_is_tried_again_and_routing_shuts_meanwhile() -> None:
    """Without nftables the routes alone keep the machine shut, and status says why."""
    world = World(fails={LoadRuleset: NftError("no nftables here")})

    async def scene(stage: Stage) -> None:
        await until(lambda: any(desired.problems for _, desired in stage.published))
        await until(lambda: any(isinstance(action, EnsureRouting) for action in stage.world.done))

    stage = play(scene, world)

    assert stage.world.snapshot.routing.shut == (6,)
    assert any(problem.text == "no nftables here" for _, desired in stage.published for problem in desired.problems)


def test_failure_reaches_who_asked() -> None:
    """A command whose pass failed is answered with the failure."""

    async def scene(stage: Stage) -> None:
        await stage.settled()
        stage.world.fails[LoadRuleset] = NftError("refused by the kernel")
        with pytest.raises(NftError):
            await stage.daemon.submit(AllowTemporary(60))
        del stage.world.fails[LoadRuleset]

    play(scene)


def test_nothing_is_called_done_while_the_ruleset_waits() -> None:
    """A cancel that comes while the failed load waits for its next attempt is not answered with "ended"."""

    async def scene(stage: Stage) -> None:
        await stage.daemon.submit(AllowTemporary(60))
        stage.world.fails[LoadRuleset] = NftError("refused by the kernel")
        for _ in range(2):
            with pytest.raises(SystemFault, match="refused by the kernel"):
                await stage.daemon.submit(CancelTemporary())
        del stage.world.fails[LoadRuleset]

    play(scene)


class _Heard(logging.Handler):
    """What the daemon logs, whoever set up its logger before."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.messages.append(record.getMessage())


@pytest.fixture
def heard() -> Iterator[_Heard]:
    """Listen to the daemon's log."""
    handler, log = _Heard(), logging.getLogger("aovpnd")
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)


def test_unreadable_system_keeps_the_loop_alive() -> None:
    """When the kernel does not answer, nothing is changed, who asks is told, and the next pass comes."""

    async def scene(stage: Stage) -> None:
        await stage.settled()
        stage.world.fails[Snapshot] = SystemFault("netlink is busy")
        with pytest.raises(SystemFault, match="netlink is busy"):
            await stage.daemon.submit(Disconnect())
        del stage.world.fails[Snapshot]
        await stage.settled()

    play(scene)


def test_unreadable_system_is_told(heard: _Heard) -> None:
    """While the kernel does not answer, status says why, and that nobody vouches for the block; the log says it once,
    and the watchdog is not fed, because a new process may see more. It ends with its cause.
    """

    async def scene(stage: Stage) -> None:
        await stage.settled()
        stage.world.fails[Snapshot] = SystemFault("netlink is busy", hint="wait")
        for _ in range(3):
            fed = len(stage.fed)
            desired = await stage.settled()
            assert (desired.problems[0].code, desired.problems[0].hint) == ("system-unreadable", "wait")
            assert stage.published[-1][0].ruleset is None
            assert len(stage.fed) == fed
        stage.world.fails[Snapshot] = ValueError("a defect")
        desired = await stage.settled()
        assert desired.problems[0].text.endswith("internal error: ValueError")
        assert [problem.code for problem in desired.problems].count("system-unreadable") == 1
        del stage.world.fails[Snapshot]
        assert "system-unreadable" not in {problem.code for problem in (await stage.settled()).problems}

    play(scene)

    assert [text.partition(": ")[2] for text in heard.messages if text.startswith("the system cannot be read")] == [
        "netlink is busy (wait)",
        "internal error: ValueError (see the journal)",
    ]


def test_status_that_cannot_be_written_stops_nothing(heard: _Heard) -> None:
    """A full RUNTIME keeps no window from opening and closing, and the watchdog from being fed; the log says it once,
    and the status is there soon after there is room.
    """
    world = World(publish_fault=StateError("no space left", hint="df"))

    async def scene(stage: Stage) -> None:
        await until(lambda: stage.fed)
        assert (await stage.daemon.submit(AllowTemporary(60))).expires_at == 1060.0
        await stage.daemon.submit(CancelTemporary())
        assert stage.world.snapshot.ruleset is not None
        assert not stage.world.snapshot.ruleset.sets[0].elements
        assert not stage.published
        world.publish_fault = None
        await until(lambda: stage.published)  # by itself

    play(scene, world)

    assert heard.messages.count("the status cannot be told: no space left (df)") == 1


def test_grant_ends_when_its_time_is_over() -> None:
    """Time alone wakes the loop, and the window is shut."""

    async def scene(stage: Stage) -> None:
        await stage.daemon.submit(AllowTemporary(60))
        stage.world.pass_time(60)
        desired = await stage.settled()
        assert desired.phase is Phase.BLOCKED

    play(scene)


def test_stop_closes_an_open_window() -> None:
    """Stopping the service leaves the block, and no window in it."""

    async def scene(stage: Stage) -> None:
        await stage.daemon.submit(AllowTemporary(60))

    stage = play(scene)

    assert stage.world.snapshot.ruleset is not None
    assert not stage.world.snapshot.ruleset.sets[0].elements
    assert stage.world.snapshot.guard is GuardState.HELD


def test_unblock_removes_everything_and_remembers() -> None:
    """An authorised unblock is the one way to open for good; the block comes back with everything."""

    async def scene(stage: Stage) -> None:
        await stage.daemon.submit(SetBlock(Block.OFF))
        open_world = stage.world.snapshot
        assert (open_world.table_present, open_world.guard, open_world.unblocked) == (False, GuardState.MISSING, True)
        assert not open_world.routing.rules
        await stage.daemon.submit(SetBlock(Block.ON))
        shut = stage.world.snapshot
        assert (shut.table_present, shut.guard, shut.unblocked) == (True, GuardState.HELD, False)

    play(scene)


def test_reload_reads_the_configuration_with_the_last_good_one() -> None:
    """A broken file must not lose what worked."""

    async def scene(stage: Stage) -> None:
        await stage.daemon.submit(Reload())

    stage = play(scene)

    assert stage.configured == [None, Config()]


# -- questions ---------------------------------------------------------------------------------------------------------
QUESTION = LookUp("vpn.example.org", 2, "wlan0", (GATEWAY,))


@pytest.mark.parametrize("fails", [False, True])
def test_what_ends_a_rest_is_looked_at(monkeypatch: pytest.MonkeyPatch, *, fails: bool) -> None:
    """While a tunnel rests its counter is read, and nothing else; another number, or none, is a reason for a pass."""

    def decide(config: Config, intent: Intent, snapshot: Snapshot) -> Desired:
        return replace(deciding.decide(config, intent, snapshot), rouse=Rouse(9, 7, 0.01))

    monkeypatch.setattr("aovpnd.daemon.decide", decide)

    async def scene(stage: Stage) -> None:
        await stage.settled()
        await until(lambda: len(stage.world.looks) > 1)
        passes = len(stage.published)
        await until(lambda: len(stage.world.looks) > 4)
        assert len(stage.published) == passes
        if fails:
            stage.world.fails[Rouse] = SystemFault("no answer")
        else:
            stage.world.tries += 1
        await until(lambda: len(stage.published) > passes)
        stage.world.fails.clear()

    play(scene)


def _asks(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """Make the core ask `QUESTION` until it has been answered; what it was answered."""
    learnt: list[Finding] = []

    def decide(config: Config, intent: Intent, snapshot: Snapshot) -> Desired:
        desired = deciding.decide(config, intent, snapshot)
        return desired if learnt else replace(desired, inquiries=(QUESTION,))

    def learn(intent: Intent, finding: Finding) -> Intent:
        learnt.append(finding)
        return intent

    monkeypatch.setattr("aovpnd.daemon.decide", decide)
    monkeypatch.setattr("aovpnd.core.intent.learn", learn)
    return learnt


def test_a_question_is_asked_once_and_only_when_the_ruleset_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many passes go by before the answer; and the answer wakes the loop by itself."""
    answer = LookedUp(QUESTION, (GATEWAY,), GATEWAY)
    learnt = _asks(monkeypatch)
    world = World(fails={LoadRuleset: NftError("no")}, answers={QUESTION: answer})

    async def scene(stage: Stage) -> None:
        await until(lambda: stage.published)
        assert not world.asked
        world.fails.clear()
        world.pass_time(60)
        await stage.settled()
        await stage.settled()
        world.may_answer.set()
        await until(lambda: learnt)

    play(scene, world)

    assert world.asked == [QUESTION]
    assert learnt == [answer]


@pytest.mark.parametrize("fault", [True, False])
def test_a_question_that_fails_is_answered_too(monkeypatch: pytest.MonkeyPatch, fault: bool) -> None:
    """By a fault of the system or by a defect of ours: the loop lives on, and knows."""
    learnt = _asks(monkeypatch)
    world = World(fails={LookUp: SystemFault("no answer", hint="ask later")} if fault else {})
    world.may_answer.set()

    async def scene(_stage: Stage) -> None:
        await until(lambda: learnt)

    play(scene, world)

    text, hint = ("no answer", "ask later") if fault else ("internal error: KeyError", "see the journal")
    assert learnt == [Unanswered(QUESTION, text, hint)]

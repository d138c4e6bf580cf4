# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop: wake, observe, decide, apply, publish, and look again until nothing is left to do.

One pass at a time. An event carries no decision: it means "look again". What touches the system is handed in and runs
in one worker thread, so that control and watchdog stay alive while the kernel is slow. Nothing here loosens anything
after a failure.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol, TypeVar

from aovpnd.clock import Clock
from aovpnd.core import intent as memory
from aovpnd.core import journal
from aovpnd.core.answers import answer as answer_to
from aovpnd.core.decide import decide
from aovpnd.core.fights import rested
from aovpnd.core.picture import Picture
from aovpnd.core.plan import diff, due, is_vital
from aovpnd.core.sightless import sightless
from aovpnd.destinations import Destination, Routed
from aovpnd.errors import AovpndError, CommandRefused, SystemFault
from aovpnd.inquiries import Finding, Inquiry, Unanswered
from aovpnd.messages import Entry, Message, printable
from aovpnd.model import Config, Desired, Intent, Snapshot
from aovpnd.orders import Action, Answer, Command, Connect, LoadRuleset, Question, Refusal, Reload
from aovpnd.resting import Rouse
from aovpnd.wake import Wake

log = logging.getLogger("aovpnd")
T = TypeVar("T")

RESYNC_S: Final = 300.0
"""Look again after this long although nobody said anything: netlink multicast may drop."""
MAX_PASSES: Final = 20
"""Passes in a row that change something before the loop pauses: somebody is fighting us, and the log should say so."""
FIGHT_PAUSE_S: Final = 1.0
UNTOLD_S: Final = 2.0
"""A status that could not be written is tried again this soon: whoever looks for it finds none meanwhile."""
INQUIRERS: Final = 4
"""Threads that wait for answers: questions are few, and each has its own deadline."""


class System(Protocol):
    """What the loop needs of the world. All methods but `inquire` run in the one worker thread; all may raise
    `SystemFault`.
    """

    def observe(self) -> Snapshot:
        """Read everything."""

    def apply(self, action: Action) -> None:
        """Perform one action; the one door through which the system is changed."""

    def remember(self, intent: Intent) -> None:
        """Keep what must survive a restart."""

    def routes(self, asked: tuple[Destination, ...]) -> dict[Destination, Routed]:
        """What the kernel says of the ways there, where it says anything. Sends nothing."""

    def is_over(self, rouse: Rouse) -> bool:
        """Whether a tunnel's rest has ended."""

    def inquire(self, inquiry: Inquiry) -> Finding:
        """Find something out. Runs in a thread of its own, beside all else, and ends by itself within its deadline."""


@dataclass(slots=True)
class _Pending:
    command: Command | Question
    answer: "asyncio.Future[Answer]"


_Passed = tuple[bool, float | None, Rouse | None]
"""Of a pass: whether anything was done, seconds until time alone changes the answer, and what else does unheard."""
_Said = Answer | Refusal | Question
"""What a pass has for who asked: a question is answered from what it saw at its end."""


class Daemon:
    """The loop's life. ``run`` ends after ``stop``; the block stays as it is loaded."""

    def __init__(
        self,
        system: System,
        configure: Callable[[Config | None], Config],
        publish: Callable[[Config, Intent, Snapshot, Desired], None],
        alive: Callable[[], None],
        *,
        intent: Intent,
        resync_s: float = RESYNC_S,
        ring_in: Callable[[float | None], None] = lambda _seconds: None,
    ) -> None:
        """``configure`` reads the configuration (given the last good one), ``publish`` writes the status, ``alive``
        feeds the watchdog, ``ring_in`` sets an alarm that sleep does not delay; whoever hears it wakes the loop.
        """
        self.wake = Wake()
        self.hear: Callable[[], None] = _nothing
        """Called between looking and deciding: what has been heard by then (`changed_by`) belongs to what was seen."""
        self._system = system
        self._configure = configure
        self._publish = publish
        self._alive = alive
        self._ring_in = ring_in
        self._config = configure(None)
        self._intent = replace(intent, chosen=intent.chosen or self._config.chosen)
        self._resync_s = resync_s
        self._pending: list[_Pending] = []
        self._answers: list[tuple[_Pending, _Said]] = []
        self._culprit: str | None = None
        self._loaded_once = False
        self._stopping = False
        self._last = journal.Last()
        self._told: tuple[Snapshot, Desired] | None = None
        self._complaints: dict[Message, str] = {}
        self._ready: Callable[[], None] = _nothing
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="system")
        self._inquirers = ThreadPoolExecutor(max_workers=INQUIRERS, thread_name_prefix="inquiry")
        self._asked: dict[Inquiry, asyncio.Future[Finding]] = {}

    # -- from outside -------------------------------------------------------------------------------------------------
    async def submit(self, command: Command | Question) -> Answer:
        """Carry out ``command`` in the next pass, or answer a question, when that pass is over.

        `CommandRefused` when it cannot be done now, `SystemFault` when the system did not do it.
        """
        pending = _Pending(command, asyncio.get_running_loop().create_future())
        self._pending.append(pending)
        self.wake.now(type(command).__name__)
        return await pending.answer

    def changed_by(self, culprit: str) -> None:
        """Somebody else committed an nftables transaction that touched our dynamic table."""
        self._culprit = culprit
        self.wake.repair(f"nftables changed by {culprit}")

    def links_changed(self) -> None:
        """Links, addresses, routes or rules changed: at once while a window is open, since it may have to be closed."""
        if self._intent.grant is not None:
            self.wake.now("links")
        else:
            self.wake.soon("links")

    def stop(self) -> None:
        """End after one more pass, which closes an open window; everything else stays."""
        self._stopping = True
        self.wake.now("stop")

    # -- the loop -----------------------------------------------------------------------------------------------------
    async def run(self, ready: Callable[[], None]) -> None:
        """Pass after pass until `stop`; ``ready`` is called once, when the first pass has settled."""
        self._ready = ready
        _say(journal.configured(self._config))
        self.wake.now("start")
        passes = 0
        try:
            while True:
                reason = self.wake.take()
                busy, wake_at, rouse = await self._guarded_pass(reason)
                if self._stopping and not busy:
                    return
                passes = passes + 1 if busy else 0
                if passes >= MAX_PASSES:
                    text = f"{passes} passes in a row changed something: is another program fighting us?"
                    _say(Entry(Message.NOT_SETTLING, text))
                    fight = SystemFault("the system does not settle", hint="is another program changing it too?")
                    self._fail_pending(fight)
                    busy, wake_at, rouse, passes = False, FIGHT_PAUSE_S, None, 0
                if busy:
                    self.wake.again(reason)
                await self._sleep(wake_at, rouse)
        finally:
            self._fail_pending(SystemFault("the daemon is stopping", hint="the block stays as it is loaded"))
            self._worker.shutdown(wait=False, cancel_futures=True)
            self._inquirers.shutdown(wait=False, cancel_futures=True)

    async def _sleep(self, seconds: float | None, rouse: Rouse | None) -> None:
        self._ring_in(seconds)
        limit = self._resync_s if seconds is None else min(max(seconds, 0.0), self._resync_s)
        await self.wake.wait(limit, None if rouse is None else rouse.every_s, partial(self._is_roused, rouse))

    async def _is_roused(self, rouse: Rouse | None) -> bool:
        try:
            return rouse is not None and await self._in_worker(partial(self._system.is_over, rouse))
        except SystemFault:
            return True  # a whole look says what is wrong

    async def _guarded_pass(self, reason: str) -> "_Passed":
        """One pass; whatever goes wrong in it, the block stays as loaded and the next pass comes."""
        try:
            result = await self._pass(reason)
        except Exception as error:  # noqa: BLE001 - the one place: whatever it is, it must not end the daemon
            fault = error if isinstance(error, SystemFault) else _defect(error)
            text = f"the system cannot be read, the block stays as it is: {fault}"
            self._complain(Entry(Message.SYSTEM_UNREADABLE, text), None if fault is error else error)
            self._fail_pending(fault)
            self._tell(*sightless(*(self._told or self._unseen()), fault))
            return False, FIGHT_PAUSE_S, None
        self._complaints.pop(Message.SYSTEM_UNREADABLE, None)
        self._alive()
        return result

    def _unseen(self) -> tuple[Snapshot, Desired]:
        """What there is to tell before anything was seen."""
        nothing = Snapshot(Clock(0.0, 0.0))
        return nothing, decide(self._config, self._intent, nothing)

    def _tell(self, snapshot: Snapshot, desired: Desired) -> bool:
        """Publish; False when nobody can read of it. Nothing is less shut for it, and no command fails."""
        try:
            self._publish(self._config, self._intent, snapshot, desired)
        except SystemFault as error:
            self._complain(Entry(Message.STATUS_UNWRITTEN, f"the status cannot be told: {error}"))
            return False
        self._complaints.pop(Message.STATUS_UNWRITTEN, None)
        return True

    def _complain(self, entry: Entry, defect: Exception | None = None) -> None:
        """Say what does not work, once for as long as it is the same."""
        if self._complaints.get(entry.message) != entry.text:
            self._complaints[entry.message] = entry.text
            _say(entry, defect)

    async def _pass(self, reason: str) -> "_Passed":
        """Look, decide, do."""
        snapshot = await self._look()
        self._learn()
        self._intent = memory.settle(self._config, self._intent, snapshot)
        if self._stopping:
            self._intent = replace(self._intent, grant=None)
        commands, self._pending = self._pending, []
        self._answers += await self._carry_out(commands, snapshot)
        desired = decide(self._config, self._intent, snapshot)
        wanted = diff(desired, snapshot)
        self._intent = memory.forget(self._intent, wanted)
        now = snapshot.now.boot
        actions = due(rested(wanted, self._intent, now), self._intent.failures, now)
        fault = await self._apply(actions, snapshot, reason, desired)
        fault = fault or self._unloaded(wanted)
        told = True
        if fault is not None or not actions:
            # Settled: what is published and answered now is what was looked at, not what is hoped for.
            told = self._tell(snapshot, desired)
            self._told = snapshot, desired
            asked = self._asked_about()
            routes = await self._in_worker(partial(self._system.routes, asked)) if asked else {}
            self._reply(fault, Picture(self._config, self._intent, snapshot, desired, wanted), routes)
            if not actions:
                self._ready()
                self._ready = _nothing
            if fault is None:
                self._inquire(desired.inquiries)
        wake_in = None if desired.wake_at is None else desired.wake_at - now
        return bool(actions), wake_in if told else min(UNTOLD_S, wake_in or UNTOLD_S), desired.rouse

    async def _look(self) -> Snapshot:
        """What is, and who altered our table, if it is altered and we had loaded it."""
        known, self._culprit = self._culprit, None
        snapshot = await self._in_worker(self._system.observe)
        self.hear()
        if not self._loaded_once or snapshot.ruleset is not None:
            return snapshot  # who has been heard of while we looked may have struck behind our look: the next one shows
        if known is None:
            known, self._culprit = self._culprit, None
        return replace(snapshot, culprit=known)

    async def _carry_out(self, commands: list[_Pending], snapshot: Snapshot) -> list[tuple[_Pending, _Said]]:
        """Commands change the memory, never the system; the pass that follows does that. Questions wait for its end."""
        answers: list[tuple[_Pending, _Said]] = []
        for pending in commands:
            if isinstance(pending.command, Question):
                answers.append((pending, pending.command))
                continue
            if isinstance(pending.command, Connect | Reload):
                await self._read_configuration(pending.command)
            intent, answer = memory.update(self._config, self._intent, snapshot, pending.command)
            if isinstance(answer, Answer):
                try:
                    # Before the window opens: a budget that a crash forgets is no budget. What keeps nothing, such as
                    # closing a window, must not fail because the disk is full.
                    if memory.kept(intent) != memory.kept(self._intent):
                        await self._in_worker(partial(self._system.remember, intent))
                except SystemFault as error:
                    answer = Refusal(error.code, error.text, error.hint)
                else:
                    self._intent = intent
            answers.append((pending, answer))
        return answers

    async def _read_configuration(self, command: Connect | Reload) -> None:
        before = self._config
        self._config = await self._in_worker(partial(self._configure, before))
        if isinstance(command, Reload) or self._config != before:
            _say(journal.configured(self._config))

    async def _apply(
        self, actions: Iterable[Action], snapshot: Snapshot, reason: str, desired: Desired
    ) -> SystemFault | None:
        """Perform actions in order; the first failure ends the pass, and the next one starts from what is."""
        done: list[Action] = []
        picture = Picture(self._config, self._intent, snapshot, desired)
        for action in actions:
            try:
                await self._in_worker(partial(self._system.apply, action))
            except SystemFault as error:
                self._intent = memory.failed(self._intent, action, snapshot.now.boot, error.text, error.hint)
                _say(journal.failed(picture, action, tuple(done), str(error)))
                if not is_vital(action):
                    continue  # no command is refused, and nothing waits, because programs notice late
                return error
            self._intent = memory.performed(self._intent, action, snapshot.now.boot)
            self._loaded_once = self._loaded_once or isinstance(action, LoadRuleset)
            done.append(action)
        for entry in journal.entries(self._last, picture, tuple(done), reason):
            _say(entry)
        self._last = journal.last(picture, tuple(done), self._last)
        return None

    def _unloaded(self, wanted: tuple[Action, ...]) -> SystemFault | None:
        """Why the ruleset is not as it should be, while it waits for its next attempt: nothing is "done" then."""
        if not any(isinstance(action, LoadRuleset) for action in wanted):
            return None
        failed = (failure for failure in self._intent.failures if failure.action == LoadRuleset.__name__)
        return next((SystemFault(failure.text, hint=failure.hint) for failure in failed), None)

    def _asked_about(self) -> tuple[Destination, ...]:
        return tuple(said.to for _, said in self._answers if isinstance(said, Question) and said.to is not None)

    def _reply(self, fault: SystemFault | None, picture: Picture, routes: dict[Destination, Routed]) -> None:
        answers, self._answers = self._answers, []
        for pending, answer in answers:
            if pending.answer.done():
                continue  # the caller has gone
            if isinstance(answer, Refusal):
                pending.answer.set_exception(CommandRefused(answer.text, hint=answer.hint, code=answer.code))
            elif isinstance(answer, Question):
                pending.answer.set_result(answer_to(answer, picture, routes.get(answer.to) if answer.to else None))
            elif fault is not None:
                pending.answer.set_exception(fault)
            else:
                pending.answer.set_result(answer)

    def _fail_pending(self, error: AovpndError) -> None:
        pending = [*self._pending, *(pending for pending, _ in self._answers)]
        self._pending, self._answers = [], []
        for waiting in pending:
            if not waiting.answer.done():
                waiting.answer.set_exception(error)

    # -- questions ----------------------------------------------------------------------------------------------------
    def _inquire(self, inquiries: Iterable[Inquiry]) -> None:
        """Ask what is not being asked already; the answer wakes the loop."""
        for inquiry in inquiries:
            if inquiry not in self._asked:
                log.debug("%s", inquiry.describe())
                asked = asyncio.get_running_loop().run_in_executor(self._inquirers, self._system.inquire, inquiry)
                asked.add_done_callback(lambda _, what=inquiry: self.wake.now(what.describe()))  # type: ignore[misc]
                self._asked[inquiry] = asked

    def _learn(self) -> None:
        """Take in what was found out since the last pass."""
        for inquiry, asked in [(inquiry, asked) for inquiry, asked in self._asked.items() if asked.done()]:
            del self._asked[inquiry]
            self._intent = memory.learn(self._intent, _finding(inquiry, asked))

    async def _in_worker(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, call)


def _finding(inquiry: Inquiry, asked: "asyncio.Future[Finding]") -> Finding:
    """What came of a question; whatever went wrong, it is an answer."""
    try:
        return asked.result()
    except SystemFault as error:
        return Unanswered(inquiry, error.text, error.hint)
    except asyncio.CancelledError:
        return Unanswered(inquiry, "the daemon is stopping")
    except Exception as error:  # a defect of ours must not end the daemon
        log.exception("%s failed", inquiry.describe())
        return Unanswered(inquiry, (fault := _defect(error)).text, fault.hint)


def _defect(error: Exception) -> SystemFault:
    return SystemFault(f"internal error: {type(error).__name__}", hint="see the journal")


def _say(entry: Entry, defect: Exception | None = None) -> None:
    log.log(entry.level, "%s", printable(entry.text), extra=entry.extra, exc_info=defect)


def _nothing() -> None:
    """Who is ready once need not say so again."""

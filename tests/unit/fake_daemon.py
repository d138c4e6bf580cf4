# SPDX-License-Identifier: GPL-3.0-or-later
"""A daemon that does nothing: real lock, real status file, real control socket, answers made up by the test."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from aovpnd.adapters.publish import Runtime
from aovpnd.clock import Clock
from aovpnd.control import Control
from aovpnd.errors import AovpndError
from aovpnd.orders import Answer, Command, Question
from aovpnd.signin import Desk, Questions, SignIn
from tests.unit.scenes import NOW, Scene


@dataclass
class FakeDaemon:
    """What it was asked, and what it answers."""

    runtime: Runtime
    answer: Answer | AovpndError = field(default_factory=lambda: Answer("done"))
    asked: list[Command | Question | SignIn | Questions] = field(default_factory=list)
    may_answer: threading.Event = field(default_factory=threading.Event)
    """Cleared: it hears commands, and does not answer yet."""

    desk: Desk = field(default_factory=Desk)
    desk_answer: Answer | None = None
    """Said to whoever asks or answers, where a test does not care for tunnels; what was asked is in ``asked`` then."""

    def __post_init__(self) -> None:
        self.may_answer.set()

    def publish(self, scene: Scene) -> None:
        """Publish a scene as if it were now."""
        boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        later = boot - NOW.boot
        intent = scene.intent
        if intent.connected_at is not None:
            intent = replace(intent, connected_at=intent.connected_at + later)
        if intent.grant is not None:
            intent = replace(intent, grant=replace(intent.grant, expires_at=intent.grant.expires_at + later))
        snapshot = replace(scene.snapshot, now=Clock(boot, NOW.wall))
        self.runtime.publish(replace(scene, intent=intent, snapshot=snapshot).document())

    async def submit(self, command: Command | Question) -> Answer:
        """As the real one's."""
        self.asked.append(command)
        if not self.may_answer.is_set():
            await asyncio.get_running_loop().run_in_executor(None, self.may_answer.wait, 20)
        if isinstance(self.answer, AovpndError):
            raise self.answer
        return self.answer

    async def at_the_desk(self, asks: SignIn | Questions) -> Answer:
        """As the real one's."""
        if self.desk_answer is None:
            return await self.desk.serve(self.submit, asks)
        self.asked.append(asks)
        return self.desk_answer


@contextmanager
def fake_daemon(directory: Path, *, uid: int | None = None, bus_uid: int | None = None) -> Iterator[FakeDaemon]:
    """A daemon on a runtime directory, in a thread of its own; ``uid`` is who may command it, by default we, and
    ``bus_uid`` who may on behalf of others.
    """
    runtime = Runtime(directory)
    daemon = FakeDaemon(runtime)
    root = os.getuid() if uid is None else uid
    control = Control(runtime.control_socket, daemon.submit, uid=root, bus_uid=bus_uid, desk=daemon.at_the_desk)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fake daemon")
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(control.open(), loop).result(10)
        yield daemon
    finally:
        asyncio.run_coroutine_threadsafe(control.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
        runtime.close()

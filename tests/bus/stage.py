# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that a test of aovpnd-bus needs, on one private bus."""

import contextlib
import json
import os
import pwd
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gi.repository import GLib

from aovpnd.orders import Answer
from tests.bus.private_bus import BUS_USER, PrivateBus
from tests.bus.services import Login, Loop, NetworkManager, Polkit, Service
from tests.lab.process import wait_for
from tests.unit import scenes
from tests.unit.fake_daemon import FakeDaemon, fake_daemon
from tests.unit.imports import ROOT

AS_ROOT: Final = os.getuid() == 0
SERVICE_USERS: Final = (
    "man",
    "lp",
    "mail",
    "news",
    "uucp",
    "proxy",
    "www-data",
    "backup",
    "list",
    "irc",
    "daemon",
    "bin",
)
"""Users whom every Debian has, and who have no session."""
USER: Final = pwd.getpwnam("games").pw_uid if AS_ROOT else os.getuid()
ANSWER_S: Final = 60.0
DEADLINE_S: Final = 15.0


def command_as(uid: int, *command: str) -> list[str]:
    """A command line that runs something as some user: as root by setpriv(1), otherwise only as oneself."""
    if not AS_ROOT:
        assert uid == os.getuid()
        return list(command)
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--", *command]


def word(answer: dict[str, Any]) -> str:
    """``done``, or the last word of the error."""
    return "done" if "values" in answer else str(answer["error"].rpartition(".")[2])


def others() -> tuple[int, ...]:
    """Other users, as far as we may be them: no one of them is `USER`."""
    return tuple(pwd.getpwnam(name).pw_uid for name in SERVICE_USERS) if AS_ROOT else (USER,)


class Caller:
    """A process of `tests.bus.caller`."""

    def __init__(self, address: str, uid: int) -> None:
        self._process = subprocess.Popen(
            command_as(uid, sys.executable, "-m", "tests.bus.caller"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": address},
        )
        self.name = str(self.answer())

    def tell(self, **order: Any) -> None:
        """Have it do something, without waiting."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """What came of it."""
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], ANSWER_S)[0], "no answer"
        return json.loads(self._process.stdout.readline())

    def call(self, method: str, signature: str = "()", *arguments: Any, **more: Any) -> dict[str, Any]:
        """Call a method, and wait for what it returns."""
        self.tell(method=method, signature=signature, arguments=arguments, **more)
        return dict(self.answer())

    def code(self, method: str, signature: str = "()", *arguments: Any, **more: Any) -> str:
        """``done``, or the last word of the error."""
        return word(self.call(method, signature, *arguments, **more))

    def order(self, **order: Any) -> str:
        """Make one call, as an order that is already written; `code` of what it returns."""
        self.tell(**order)
        return word(self.answer())

    def crowd(self, *orders: dict[str, Any], together: bool = False) -> None:
        """Make all these calls at once, without waiting: each on a connection of its own, or together on this one."""
        self.tell(crowd=orders, together=together)

    def crowd_answers(self) -> list[str]:
        """What came of the calls of a crowd, as `code` says it."""
        return [word(answer) for answer in self.answer()["values"]]

    def kill(self) -> None:
        """It dies, whatever it is waiting for."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


@dataclass
class Stage:
    """aovpnd-bus and all around it."""

    directory: Path
    bus: PrivateBus
    loop: Loop
    daemon: FakeDaemon
    process: subprocess.Popen[bytes] | None = None
    polkit: Polkit | None = None
    login: Login | None = None
    manager: NetworkManager | None = None
    callers: list[Caller] = field(default_factory=list)
    runtime: Path = field(init=False)
    """The daemon's runtime directory."""

    def __post_init__(self) -> None:
        self.runtime = self.directory / "run"

    def start_services(self, *, polkit: bool = True, login: bool = False, manager: bool = False) -> None:
        """Start stand-ins."""
        if polkit:
            self.polkit = Polkit(self.loop, self.bus.address, owner=BUS_USER)
        if login:
            self.login = Login(self.loop, self.bus.address)
        if manager:
            self.manager = NetworkManager(self.loop, self.bus.address, self.directory / "nm-check-off")

    @property
    def authority(self) -> Polkit:
        """The stand-in of polkit."""
        assert self.polkit is not None
        return self.polkit

    def forget(self) -> None:
        """A polkit that is well and was asked nothing, and a daemon that was asked nothing either and will do all."""
        self.authority.forget()
        self.daemon.asked.clear()
        self.daemon.answer = Answer("done", 5.0, {})

    def close_services(self) -> None:
        """All stand-ins die."""
        for service in (self.polkit, self.login, self.manager):
            if service is not None:
                service.close()
        self.polkit = self.login = self.manager = None

    def start(self, *, wait: bool = True) -> None:
        """Start aovpnd-bus."""
        self.process = self.spawn()
        if wait:
            self.wait_served()

    def spawn(self) -> subprocess.Popen[bytes]:
        """One more process of aovpnd-bus."""
        program = str(Path(sys.executable).with_name("aovpnd-bus"))
        places = ("--runtime-dir", str(self.runtime), "--state-dir", str(self.directory / "state"), "--debug")
        with (self.directory / "aovpnd-bus.log").open("ab") as log:
            return subprocess.Popen(
                command_as(BUS_USER, program, *places),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": self.bus.address},
            )

    def log(self) -> str:
        """What aovpnd-bus said."""
        return (self.directory / "aovpnd-bus.log").read_text(encoding="utf-8", errors="replace")

    def wait_served(self) -> None:
        """Wait until somebody has the name, and knows the daemon."""

        def served() -> bool:
            try:
                probe = Service(self.loop, self.bus.address, "")
            except GLib.Error:  # the bus has made its socket, and does not listen yet
                return False
            try:
                return bool(probe.driver("NameHasOwner", "(s)", "org.aovpnd1")[0])
            finally:
                probe.close()

        wait_for("org.aovpnd1", served, deadline_s=DEADLINE_S, poll_s=0.02)

    def caller(self, uid: int = USER) -> Caller:
        """Somebody on the bus."""
        caller = Caller(self.bus.address, uid)
        self.callers.append(caller)
        return caller

    @contextlib.contextmanager
    def flood(self, uid: int, **order: Any) -> Iterator[subprocess.Popen[str]]:
        """A process of `tests.bus.flooder`, which has begun."""
        command = command_as(uid, sys.executable, "-m", "tests.bus.flooder", json.dumps(order))
        environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": self.bus.address}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begins\n"
            yield process
        finally:
            process.kill()
            process.wait()

    def resident_kib(self) -> int:
        """Memory of aovpnd-bus."""
        return self._memory_kib("VmRSS:")

    def peak_kib(self) -> int:
        """The most memory that it ever had."""
        return self._memory_kib("VmHWM:")

    def _memory_kib(self, key: str) -> int:
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(key))

    def descriptors(self) -> int:
        """How many files and sockets aovpnd-bus has open."""
        assert self.process is not None
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def match_rules(self) -> int:
        """How many kinds of signals aovpnd-bus has asked the bus for."""
        probe = Service(self.loop, self.bus.address, "")
        try:
            (stats,) = probe.statistics("org.aovpnd1")
        finally:
            probe.close()
        return int(stats["MatchRules"])

    def close(self) -> None:
        """End everything."""
        for caller in self.callers:
            caller.kill()
        self.kill()
        self.close_services()
        self.loop.close()

    def kill(self) -> None:
        """SIGKILL to aovpnd-bus; may be called twice."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def stage(*, start: bool = True, **services: bool) -> Iterator[Stage]:
    """A stage for as long as the block lasts, whose daemon is connected; the services are `Stage.start_services`'."""
    # Not pytest's directory: other users must get to the socket of the bus.
    directory = Path(tempfile.mkdtemp(prefix="aovpnd-bus-test-"))
    directory.chmod(0o755)
    state = directory / "state"
    state.mkdir(0o700)
    os.chown(state, BUS_USER, -1)
    root = 0 if AS_ROOT else os.getuid() + 1
    bus = PrivateBus(directory)
    bus.start()
    try:
        with fake_daemon(directory / "run", uid=root, bus_uid=BUS_USER) as daemon:
            built = Stage(directory, bus, Loop(), daemon)
            try:
                daemon.publish(scenes.CONNECTED)
                built.start_services(**services)
                if start:
                    built.start()
                yield built
            finally:
                built.close()
    finally:
        bus.kill()
        shutil.rmtree(directory)

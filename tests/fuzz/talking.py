# SPDX-License-Identifier: GPL-3.0-or-later
"""Between the processes: the control socket and D-Bus, both ends of each, and whom aovpnd-bus listens to."""

import asyncio
import contextlib
import io
import json
from collections.abc import Callable
from functools import cache
from typing import Any, Final
from unittest.mock import patch

from aovpnd import control
from aovpnd.bus import daemon as bus_daemon
from aovpnd.bus import networks, polkit, translate
from aovpnd.bus.access import ACTIONS, Action
from aovpnd.bus.calls import BusError, Call, Cancel, Match, Reply, uid_of
from aovpnd.bus.calls import Target as Place
from aovpnd.bus.manager import Manager
from aovpnd.bus.networks import Networks
from aovpnd.bus.sealed import Sealed
from aovpnd.bus.sleep import Sleep
from aovpnd.ctl import arguments, asking
from aovpnd.ctl import bus as ctl_bus
from aovpnd.ctl import explain as ctl_explain
from aovpnd.ctl import orders as ctl_orders
from aovpnd.errors import AovpndError, CommandRefused
from aovpnd.orders import Answer, Command, Question
from tests.fuzz import judge
from tests.fuzz.mutate import Mutator
from tests.fuzz.places import place
from tests.fuzz.target import Target

REQUESTS: Final = tuple(
    json.dumps({"v": 1, "command": word, **fields}).encode() + b"\n"
    for word, fields in (
        ("allow-temp", {"duration_s": 60, "reason": "portal", "user": "alice"}),
        ("connect", {"name": "home"}),
        ("explain", {"destination": "203.0.113.80:53/udp"}),
        ("name-networks", {"names": {"wlan0": "CoffeeShop", "wlan1": "é"}}),
        ("unblock", {}),
        ("confirm", {}),
        ("reload", {}),
        ("prepare-sleep", {}),
        ("questions", {}),
        ("sign-in", {"name": "office", "answers": {"1": "Xy3kQ8vTz0Wb"}}),
    )
)
_EXPLAINED: Final = {
    "passes": True,
    "hint": "",
    "permit": None,
    "specification": "s",
    "source": None,
    "origins": [{"file": "/x", "line": 1, "key": "k", "value": "v"}],
    "stages": [{"where": "output", "rule": "r", "why": "w", "verdict": "v"}],
}
_SEEN: Final = {"snapshot": {"links": [{"index": 1}]}, "intent": {"grant": None}, "desired": {}, "actions": ["x"]}
_YES_OR_NO: Final = {"v": 1, "ok": True, "text": "yes", "expires_at": None}
ANSWERS: Final = (
    b'{"v": 1, "ok": true, "text": "temporary access is open", "expires_at": 5123.25}\n',
    b'{"v": 1, "ok": false, "code": "too-long", "text": "7200 s is not between", "hint": "ask for less"}\n',
    json.dumps({**_YES_OR_NO, "data": _EXPLAINED}).encode() + b"\n",
    json.dumps({**_YES_OR_NO, "data": {**_SEEN, "failures": [{"action": "x", "text": "y"}]}}).encode() + b"\n",
)
_JSON: Final = (
    *('"v"', '"command"', '"duration_s"', '"reason"', '"user"', '"name"', '"names"', '"destination"', '"ok"', '"text"'),
    *(
        '"hint"',
        '"code"',
        '"expires_at"',
        '"data"',
        "null",
        "true",
        "1e400",
        "-1e400",
        "NaN",
        "1e308",
        "1.5",
        '"\\ud800"',
    ),
    *('"\\u0000"', '"\\u001b[2J"', "{}", "[]", "{", "}", "[" * 1500, '{"a":' * 1200, ",", ":", "9" * 400, '"unblock"'),
)


# -- the control socket -----------------------------------------------------------------------------------------------
class Given:
    """An asyncio.StreamWriter that keeps what it is given."""

    def __init__(self) -> None:
        self.content = b""
        self.transport = self

    def write(self, data: bytes) -> None:
        """Kept."""
        self.content += data

    async def drain(self) -> None:
        """Nothing waits."""

    def get_write_buffer_size(self) -> int:
        """All was read."""
        return 0

    def close(self) -> None:
        """It stays readable."""


@cache
def loop() -> asyncio.AbstractEventLoop:
    """One for all cases of this process."""
    return asyncio.new_event_loop()


def _conversation(case: tuple[bytes, bool]) -> str:
    """Whatever is sent over the control socket: each line is one command or is refused in words, and what takes the
    block off is such a line and nothing else.
    """
    content, is_root = case
    submitted: list[Command | Question] = []

    async def submit(what: Command | Question) -> Answer:
        submitted.append(what)
        return Answer("done")

    server = control.Control(place("control") / "socket", submit, bus_uid=7)
    writer: Any = Given()

    async def serve() -> None:
        reader = asyncio.StreamReader(limit=control.LINE_LIMIT)
        reader.feed_data(content)
        reader.feed_eof()
        with patch.object(control, "peer_uid", lambda _: 0 if is_root else 7):
            await server._serve(reader, writer)

    loop().run_until_complete(serve())
    answers = [json.loads(line) for line in writer.content.splitlines()]
    for answer in answers:
        assert answer["v"] == control.VERSION
        judge.told(answer["text"])
        judge.told(answer.get("hint", ""))
        judge.hides(json.dumps(answer), "Xy3kQ8vTz0Wb")
    assert len(submitted) == sum(answer["ok"] for answer in answers)
    assert len(submitted) <= content.count(b"\n")
    for command in submitted:
        assert len(repr(command)) < 20_000
    refused = sorted({judge.outcome("", answer["text"]) for answer in answers if not answer["ok"]})
    return f"{sorted({type(command).__name__ for command in submitted})} {refused[:3]}"


def _answered(case: tuple[bytes, bool]) -> str:
    """Whatever the daemon answers, as aovpnctl reads it: a document and sentences, or a declared error."""
    line, explains = case
    with (
        patch.object(asking, "_is_ours", lambda _: True),
        patch.object(asking, "_exchange", lambda *_: line),
    ):
        try:
            answer = asking.ask("/nowhere", "explain" if explains else "connect")
            shown = [ctl_orders.sentence(answer), json.dumps(ctl_orders._document(answer))]
            if explains:
                shown += _explained(answer)
        except AovpndError as error:
            return type(error).__name__
    for text in shown:
        judge.told(text, longest=30_000)
    return f"ok {answer['expires_at'] is None} {len(shown)}"


def _explained(answer: dict[str, Any]) -> list[str]:
    """What aovpnctl explain shows of an answer that was read, with a destination and without."""
    said = io.StringIO()
    for words in (["explain", "203.0.113.80"], ["explain"]):
        with (
            patch.object(ctl_explain, "ask", lambda *_, **__: answer),
            contextlib.redirect_stdout(said),
            contextlib.suppress(AovpndError),
        ):
            ctl_explain.run(arguments.parse(words))
    return said.getvalue().splitlines()


def _answered_bus(case: tuple[bytes, str]) -> str:
    """The same, as aovpnd-bus reads it; what it returns fits the signature of the method, and aovpnctl's other end."""
    line, method = case
    known = method if method in ACTIONS else "Explain"
    try:
        values = translate.answer(known, line)
    except AovpndError as error:
        name, text = translate.error_name(error.code), translate.error_text(error)
        assert name.isascii()
        assert name.replace(".", "").isalnum()
        again = ctl_bus.refusal(name, text)
        assert str(again.code).isascii()
        _is_dbus(text)
        return type(error).__name__
    for value in values:
        assert isinstance(value, str) or 0 <= value < 2**64  # type: ignore[operator]
        if isinstance(value, str):
            _is_dbus(value)
    told: tuple[Any, ...] = values
    ctl_bus._answered(*told)
    return f"ok {len(values)}"


def _is_dbus(text: str) -> None:
    """What D-Bus takes for a text: UTF-8 without NUL."""
    text.encode("utf-8")
    assert "\0" not in text


def _reply(case: tuple[str, int, str, str, str]) -> str:
    """Whatever comes back over D-Bus, as aovpnctl reads it."""
    text, until, data, name, complaint = case
    outcomes = []
    try:
        answer = ctl_bus._answered(text, until % 2**64, data)
        outcomes.append(f"ok {type(answer['data']).__name__}")
    except AovpndError as error:
        outcomes.append(judge.outcome(type(error).__name__))
    refused = ctl_bus._translated(name, complaint)
    outcomes.append(f"{type(refused).__name__} {len(refused.code) > 40}")
    return " ".join(outcomes)


# -- D-Bus ------------------------------------------------------------------------------------------------------------
class Bus:
    """A bus on which every call is answered with the next of these values, and signals are what it is told."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.heard: dict[str, Callable[[tuple[object, ...]], None]] = {}
        self.called: list[str] = []

    async def call(self, _target: Place, method: str, _signature: str = "()", *_: object, **__: Any) -> Reply:
        """The next answer; `BusError` when there is none."""
        self.called.append(method)
        if not self._answers:
            raise BusError("nobody answers")
        answer = self._answers.pop(0)
        return Reply(tuple(answer) if isinstance(answer, list) else (answer,))

    async def subscribe(self, match: Match, heard: Callable[[tuple[object, ...]], None]) -> Cancel:
        """Remembered."""
        self.heard[match.member] = heard
        return lambda: None


def _called(case: tuple[str, int, str, int, list[Any]]) -> str:
    """Whatever arguments of the right types a method is called with, by root or by somebody whom polkit answers for in
    some way: carried out, as exactly one line that the daemon understands or refuses, or refused; never carried out for
    somebody whom polkit has not authorised.
    """
    method, seconds, text, uid, verdicts = case
    text = text.replace("\0", "").encode("utf-8", "replace").decode()
    lines: list[bytes] = []

    async def ask(line: dict[str, object]) -> bytes:
        sent = json.dumps(line).encode() + b"\n"
        lines.append(sent)
        try:
            control.parse(sent)
        except AovpndError as error:
            return control.spell(error)
        return control.spell(Answer("done", 5.0))

    arguments: dict[str, tuple[object, ...]] = {
        "AllowTemporaryAccess": (seconds % 2**32, text),
        "OpenPortal": (seconds % 2**32,),
        "Connect": (text,),
        "Explain": (text,),
        "SignIn": (text, Sealed(text)),
    }
    uid %= 2**32
    bus: Any = Bus(uid, *verdicts[:3], uid)
    manager = Manager(bus, ask, lambda: "{}")

    async def handle() -> tuple[object, ...]:
        found = await manager.handle(Call(":1.7", method, arguments.get(method, ()), interactive=False))
        await asyncio.sleep(0)
        return found

    with patch("aovpnd.bus.manager._user_name", _alice):
        try:
            values = loop().run_until_complete(handle())
        except AovpndError as error:
            _is_dbus(translate.error_text(error))
            assert not lines or control_refuses(lines[0])
            return judge.outcome(error.code)
    if method != "Status":
        assert len(lines) == 1
        authorised = [v for v in verdicts[:3] if _is_yes(v)]
        assert uid == 0 or len(authorised) >= len(ACTIONS[method])
    return f"{method} {len(values)}"


async def _alice(_: int) -> str:
    return "alice"


def control_refuses(line: bytes) -> bool:
    """Whether the daemon would refuse a line."""
    try:
        control.parse(line)
    except CommandRefused:
        return True
    return False


def _is_yes(verdict: Any) -> bool:
    """Polkit's own words for yes, and nothing like them."""
    try:
        ((authorised, challenge, details),) = (verdict if isinstance(verdict, list) else [verdict],)[0]
    except (TypeError, ValueError):
        return False
    return authorised is True and isinstance(challenge, bool) and isinstance(details, dict)


def _asked_polkit(verdict: Any) -> str:
    """Whatever polkit answers: yes only when it says yes in its own words."""
    bus: Any = Bus(verdict)

    async def ask() -> None:
        await polkit.authorise(bus, ":1.7", Action.UNBLOCK, interactive=False)
        await asyncio.sleep(0)

    try:
        loop().run_until_complete(ask())
    except CommandRefused as error:
        return judge.error(error)
    assert _is_yes(verdict)
    return "authorised"


class Line:
    """The daemon, which takes every report."""

    there = True

    def __init__(self) -> None:
        self.reports: list[dict[str, object]] = []

    async def report(self, request: dict[str, object]) -> bool:
        """Understood as the daemon does."""
        self.reports.append(request)
        control.parse(json.dumps({"v": 1} | request).encode() + b"\n")
        return True


def _named(case: tuple[list[Any], ...]) -> str:
    """Whatever NetworkManager answers: names that can be read, and that the daemon takes, or none."""
    line: Any = Line()
    answers, signal = case
    bus: Any = Bus(*answers)
    following = Networks(bus, line, place("bus-state"))

    async def look() -> None:
        found = await networks.names(bus)
        await following._tell(found)
        await following._tame()
        following._changed(tuple(signal))

    loop().run_until_complete(look())
    reported = line.reports[-1]["names"] if line.reports else {}
    assert isinstance(reported, dict)
    for link, name in reported.items():
        judge.told(link, longest=15)
        judge.told(name, longest=128)
    return f"{min(len(reported), 4)} {len(bus.called) > 8}"


def _slept(case: tuple[list[Any], ...]) -> str:
    """Whatever logind says and answers: the daemon is told of sleep when logind says so, and no descriptor is lost."""
    line: Any = Line()
    answers, *signals = case
    bus: Any = Bus(*answers)
    sleep = Sleep(bus, line)

    async def follow() -> None:
        task = asyncio.ensure_future(sleep.run())
        try:
            for _ in range(3):
                await asyncio.sleep(0)
            for values in signals:
                for heard in bus.heard.values():
                    heard(tuple(values))
            for _ in range(12):
                await asyncio.sleep(0)
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    loop().run_until_complete(follow())
    told = [report["command"] for report in line.reports]
    assert told.count("prepare-sleep") <= sum(values == [True] for values in signals)
    return " ".join(dict.fromkeys(map(str, told))) or "nothing"


def _who(case: Any) -> str:
    """Whatever the bus says of a caller: a uid, or nobody."""
    bus: Any = Bus(case)

    async def ask() -> int:
        return await uid_of(bus, ":1.7")

    try:
        uid = loop().run_until_complete(ask())
    except BusError as error:
        return judge.error(error)
    assert type(uid) is int
    assert 0 <= uid < 2**32
    return "root" if uid == 0 else "somebody"


def _heard(case: tuple[bytes, int]) -> str:
    """Whatever the daemon's line holds, as aovpnd-bus reads it: True only for a yes."""
    content, piece = case
    line = bus_daemon.Line(place("bus"), lambda: None)
    writer: Any = Given()

    async def report() -> bool:
        reader = asyncio.StreamReader(limit=bus_daemon.LINE_LIMIT)
        staying = asyncio.ensure_future(line._stay(reader, writer))
        await asyncio.sleep(0)
        asked = asyncio.ensure_future(line.report({"command": "woke"}))
        for at in range(0, len(content), max(piece % 4000, 64)):
            reader.feed_data(content[at : at + max(piece % 4000, 64)])
            await asyncio.sleep(0)
        reader.feed_eof()
        taken = await asked
        await staying
        return taken

    taken = loop().run_until_complete(report())
    assert not taken or b"true" in content
    return str(taken)


_YES: Final = [[True, False, {}]]
_NO: Final = [[False, True, {"polkit.dismissed": "1"}]]
_CAFE: Final = list("Café".encode())
_WIFI: Final = [[["/1", "/2"]], [2], ["wlan0"], ["/ap/1"], [_CAFE], [2], ["wlan1"], ["/ap/2"], [_CAFE], [True]]
_DEVICE: Final = ["org.freedesktop.NetworkManager.Device.Wireless", {"ActiveAccessPoint": "/ap/1"}, []]
METHODS: Final = tuple(ACTIONS)

TARGETS: Final = (
    Target(
        "control-request",
        "requests on the control socket, as the daemon reads them",
        (*((request, True) for request in REQUESTS), (b"".join(REQUESTS), False)),
        _conversation,
        Mutator(_JSON),
        slice=1500,
    ),
    Target(
        "control-answer",
        "answers on the control socket, as aovpnctl reads them",
        tuple((answer, bool(explains)) for answer in ANSWERS for explains in (0, 1)),
        _answered,
        Mutator(_JSON),
    ),
    Target(
        "bus-answer",
        "answers on the control socket, as aovpnd-bus reads them",
        tuple((answer, method) for answer in ANSWERS for method in ("Connect", "Explain", "OpenPortal", "SignIn")),
        _answered_bus,
        Mutator((*_JSON, *METHODS)),
    ),
    Target(
        "bus-line", "the line that stays, as aovpnd-bus reads it", tuple((a, 9) for a in ANSWERS), _heard, slice=800
    ),
    Target(
        "bus-reply",
        "replies and errors over D-Bus, as aovpnctl reads them",
        (
            ("open", 5_000_000, "null", "org.aovpnd1.Error.TooLong", "no (ask)"),
            ("", 0, "{}", "org.x.Error.NoReply", ""),
        ),
        _reply,
        Mutator((*_JSON, "org.aovpnd1.Error.", "ServiceUnknown", ".AccessDenied", " (", ")")),
    ),
    Target(
        "bus-call",
        "arguments of every method of org.aovpnd1",
        tuple((method, 60, "home", uid, [_YES, _YES]) for method in METHODS for uid in (0, 1000)),
        _called,
        Mutator((*METHODS, "home", "203.0.113.80:53/udp")),
        slice=1200,
    ),
    Target("bus-polkit", "what polkit answers", (_YES, _NO, [[True]]), _asked_polkit, slice=1200),
    Target("bus-caller", "what the bus says of a caller", ([1000], [0]), _who),
    Target("bus-networkmanager", "what NetworkManager answers", ((_WIFI, _DEVICE), ([[[]]], [])), _named, slice=1200),
    Target(
        "bus-logind",
        "signals and answers of logind",
        (([], [True], [False], [True]), ([[7]], ["a", "b", "c"], [], [])),
        _slept,
        slice=800,
    ),
)

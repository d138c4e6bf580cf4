# SPDX-License-Identifier: GPL-3.0-or-later
"""The control socket, over real unix sockets: who may, what is understood, and that no client can hurt it."""

import asyncio
import contextlib
import json
import os
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aovpnd import control
from aovpnd.control import LINE_LIMIT, Control, Limits, parse, spell
from aovpnd.destinations import Destination
from aovpnd.doors import Door
from aovpnd.errors import CommandRefused, StateError
from aovpnd.model import Block
from aovpnd.orders import (
    AllowTemporary,
    Answer,
    CancelTemporary,
    Command,
    Confirm,
    Connect,
    Disconnect,
    Explain,
    NameNetworks,
    PrepareSleep,
    Question,
    Reload,
    SetBlock,
    Woke,
)

DEADLINE_S = 10.0

# ── parse ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b'{"v": 1, "command": "allow-temp"}\n', AllowTemporary()),
        (b'{"v": 1, "command": "allow-temp", "duration_s": null, "reason": ""}', AllowTemporary()),
        (
            '{"v": 1, "command": "allow-temp", "duration_s": 60, "reason": "Café", "user": "alice"}'.encode(),
            AllowTemporary(60, "Café", "alice"),
        ),
        # What policy refuses is not this module's business: it must reach the daemon as it was asked for.
        (b'{"v": 1, "command": "allow-temp", "duration_s": -5}', AllowTemporary(-5)),
        (b'{"v": 1, "command": "allow-temp", "duration_s": 86400}', AllowTemporary(86400)),
        (b'{"v": 1, "command": "cancel-temp"}', CancelTemporary()),
        (b'{"v": 1, "command": "connect"}', Connect()),
        (b'{"v": 1, "command": "connect", "name": "home"}', Connect("home")),
        (b'{"v": 1, "command": "disconnect"}', Disconnect()),
        (b'{"v": 1, "command": "unblock"}', SetBlock(Block.OFF)),
        (b'{"v": 1, "command": "block"}', SetBlock(Block.ON)),
        (b'{"v": 1, "command": "confirm"}', Confirm()),
        (b'{"v": 1, "command": "reload"}', Reload()),
        (b'{"v": 1, "command": "prepare-sleep"}', PrepareSleep()),
        (b'{"v": 1, "command": "woke"}', Woke()),
        (b'{"v": 1, "command": "name-networks", "names": {}}', NameNetworks(())),
        (
            '{"v": 1, "command": "name-networks", "names": {"wlan0": "Caf\u00e9", "eth0": "\\\\xff"}}'.encode(),
            NameNetworks((("eth0", "\\xff"), ("wlan0", "Caf\u00e9"))),
        ),
        (b'{"v": 1, "command": "explain"}', Explain()),
        (
            b'{"v": 1, "command": "explain", "destination": "192.0.2.1:53/udp"}',
            Explain(Destination(ip_address("192.0.2.1"), 53, "udp")),
        ),
    ],
)
def test_command_is_understood(line: bytes, command: Command | Question) -> None:
    """Every command has one spelling."""
    assert parse(line) == command


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"", "this is not one JSON object on one line"),
        (b"allow-temp", "this is not one JSON object on one line"),
        (b"[]", "this is not one JSON object on one line"),
        (b'"allow-temp"', "this is not one JSON object on one line"),
        (b'{"v": 1, "command": "block"} x', "this is not one JSON object on one line"),
        (b'{"v": 1, "command": "unblock", "command": "block"}', "this is not one JSON object on one line"),
        (b'{"v": 1, "command": "allow-temp", "duration_s": NaN}', "this is not one JSON object on one line"),
        (b'{"v": 1, "command": "\xff"}', "this is not one JSON object on one line"),
        (b"[" * 4000, "this is not one JSON object on one line"),
        (b'{"command": "block"}', "this daemon speaks version 1 of the protocol"),
        (b'{"v": 2, "command": "block"}', "this daemon speaks version 1 of the protocol"),
        (b'{"v": true, "command": "block"}', "this daemon speaks version 1 of the protocol"),
        (b'{"v": 1}', "there is no such command"),
        (b'{"v": 1, "command": ["block"]}', "there is no such command"),
        (b'{"v": 1, "command": "Block"}', "there is no such command"),
        (b'{"v": 1, "command": "block", "force": true}', "block has no field 'force'"),
        (b'{"v": 1, "command": "connect", "duration_s": 1}', "connect has no field 'duration_s'"),
        (b'{"v": 1, "command": "block", "\\u001b[2J": 1}', r"block has no field '\x1b[2J'"),
        (b'{"v": 1, "command": "allow-temp", "duration_s": "60"}', "the duration is not a whole number of seconds"),
        (b'{"v": 1, "command": "allow-temp", "duration_s": 60.0}', "the duration is not a whole number of seconds"),
        (b'{"v": 1, "command": "allow-temp", "duration_s": true}', "the duration is not a whole number of seconds"),
        (
            b'{"v": 1, "command": "allow-temp", "duration_s": 1' + b"0" * 30 + b"}",
            "the duration is out of all bounds",
        ),
        (b'{"v": 1, "command": "allow-temp", "reason": 5}', "reason is not a text"),
        (b'{"v": 1, "command": "allow-temp", "reason": "a\\nb"}', "the reason is not one printable line"),
        (b'{"v": 1, "command": "allow-temp", "reason": "\\u202e"}', "the reason is not one printable line"),
        (b'{"v": 1, "command": "allow-temp", "reason": "\\ud800"}', "the reason is not one printable line"),
        (
            b'{"v": 1, "command": "allow-temp", "reason": "' + b"x" * 201 + b'"}',
            "the reason is not one printable line",
        ),
        (b'{"v": 1, "command": "allow-temp", "user": "a\\nb"}', "user is not a user name"),
        (b'{"v": 1, "command": "connect", "name": "../x"}', "this cannot be the name of a tunnel"),
        (b'{"v": 1, "command": "connect", "name": ""}', "this cannot be the name of a tunnel"),
        (b'{"v": 1, "command": "woke", "user": "a"}', "woke has no field 'user'"),
        (b'{"v": 1, "command": "name-networks"}', "names is no table of links and networks"),
        (b'{"v": 1, "command": "name-networks", "names": ["wlan0"]}', "names is no table of links and networks"),
        (
            json.dumps({"v": 1, "command": "name-networks", "names": {f"eth{n}": "x" for n in range(33)}}).encode(),
            "names is no table of links and networks",
        ),
        (b'{"v": 1, "command": "name-networks", "names": {"../x": "a"}}', "'../x' cannot be the name of a link"),
        (b'{"v": 1, "command": "name-networks", "names": {"a b": "a"}}', "'a b' cannot be the name of a link"),
        (b'{"v": 1, "command": "name-networks", "names": {"w": ""}}', "the network of w has no printable name"),
        (b'{"v": 1, "command": "name-networks", "names": {"w": 5}}', "the network of w has no printable name"),
        (
            b'{"v": 1, "command": "name-networks", "names": {"w": "\\u001b[2J"}}',
            "the network of w has no printable name",
        ),
        (
            b'{"v": 1, "command": "name-networks", "names": {"w": "' + b"x" * 129 + b'"}}',
            "the network of w has no printable name",
        ),
        (b'{"v": 1, "command": "explain", "destination": 5}', "destination is not a text"),
        (b'{"v": 1, "command": "explain", "destination": "\\u001b[2J"}', r"'\x1b[2J' is no destination"),
    ],
)
def test_everything_else_is_refused(line: bytes, text: str) -> None:
    """Unknown fields, types and values are refused, never guessed or clamped."""
    with pytest.raises(CommandRefused) as refused:
        parse(line)

    assert (refused.value.code, refused.value.text) == ("bad-request", text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
NEARLY = st.fixed_dictionaries(
    {
        "v": st.just(1) | JSON,
        "command": st.sampled_from(["allow-temp", "connect", "block", "name-networks", "sign-in"]) | JSON,
    },
    optional={
        "duration_s": JSON,
        "reason": JSON,
        "name": JSON,
        "names": JSON,
        "user": JSON,
        "x": JSON,
        "answers": JSON,
    },
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first text on a new machine makes a table of characters
@given(st.binary() | NEARLY.map(lambda value: json.dumps(value).encode()))
@example(b'{"v": 1, "command": {}}')
@example(b'{"v": 1' + b"0" * 5000 + b"}")
def test_no_line_raises_anything_but_a_refusal(line: bytes) -> None:
    """Garbage, and what is nearly a command, is a command or a refusal."""
    with contextlib.suppress(CommandRefused):
        parse(line)


# ── the socket ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Daemon:
    """A stand-in for the loop: remembers what it was asked, answers when it is let."""

    asked: list[Command | Question] = field(default_factory=list)
    was_asked: asyncio.Event = field(default_factory=asyncio.Event)
    pass_over: asyncio.Event = field(default_factory=asyncio.Event)
    error: CommandRefused | None = None

    async def submit(self, command: Command | Question) -> Answer:
        """As the daemon's."""
        self.asked.append(command)
        self.was_asked.set()
        await self.pass_over.wait()
        if self.error is not None:
            raise self.error
        return Answer("done", 12.5)


Scene = Callable[[Control, Daemon, Path], Awaitable[None]]
FAST = Limits(connections=3, line_s=0.3, answer_s=0.3)


def play(
    directory: Path, scene: Scene, *, uid: int | None = None, bus_uid: int | None = None, limits: Limits = FAST
) -> Daemon:
    """Open a control socket, play a scene on it, close it; nothing may be left in the loop."""

    async def run() -> Daemon:
        faults: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        daemon = Daemon()
        daemon.pass_over.set()
        path = directory / "control.sock"
        root = os.getuid() if uid is None else uid
        listening = Control(path, daemon.submit, uid=root, bus_uid=bus_uid, limits=limits)
        await listening.open()
        async with asyncio.timeout(DEADLINE_S):
            await scene(listening, daemon, path)
        await listening.close()
        assert not path.exists()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert faults == []
        return daemon

    return asyncio.run(run())


async def ask(path: Path, *lines: bytes) -> list[dict[str, Any]]:
    """Send lines over one connection; the answers until the other side hangs up or all are answered."""
    reader, writer = await asyncio.open_unix_connection(path)
    answers = []
    try:
        for line in lines:
            writer.write(line)
            if not (answer := await reader.readline()):
                break
            answers.append(json.loads(answer))
    finally:
        writer.close()
    return answers


def test_answers_what_the_daemon_says(tmp_path: Path) -> None:
    """A command reaches the daemon, and its words come back; several may follow each other on one connection."""

    async def scene(_: Control, daemon: Daemon, path: Path) -> None:
        good, bad = await ask(path, b'{"v": 1, "command": "block"}\n', b"what?\n")
        assert good == {"v": 1, "ok": True, "text": "done", "expires_at": 12.5}
        assert bad == {
            "v": 1,
            "ok": False,
            "code": "bad-request",
            "text": "this is not one JSON object on one line",
            "hint": "",
        }
        daemon.error = CommandRefused("no", hint="ask later", code="budget")
        assert await ask(path, b'{"v": 1, "command": "allow-temp"}\n') == [
            {"v": 1, "ok": False, "code": "budget", "text": "no", "hint": "ask later"}
        ]

    assert play(tmp_path, scene).asked == [SetBlock(Block.ON), AllowTemporary()]


def test_question_is_answered_with_data() -> None:
    """What a question was answered with comes as an object beside the sentence; other answers have none."""
    assert json.loads(spell(Answer("it stays", data={"passes": True}))) == {
        "v": 1,
        "ok": True,
        "text": "it stays",
        "expires_at": None,
        "data": {"passes": True},
    }
    assert "data" not in json.loads(spell(Answer("done")))


def test_answer_comes_after_the_pass(tmp_path: Path) -> None:
    """Nothing is sent before the pass that carries the command out is over."""

    async def scene(_: Control, daemon: Daemon, path: Path) -> None:
        daemon.pass_over.clear()
        asking = asyncio.create_task(ask(path, b'{"v": 1, "command": "disconnect"}\n'))
        await daemon.was_asked.wait()
        done, _pending = await asyncio.wait({asking}, timeout=0.1)
        assert not done
        daemon.pass_over.set()
        assert (await asking)[0]["ok"] is True

    play(tmp_path, scene)


def test_pass_may_take_longer_than_a_client_may_think(tmp_path: Path) -> None:
    """The time limits are the client's, not the daemon's."""

    async def scene(_: Control, daemon: Daemon, path: Path) -> None:
        daemon.pass_over.clear()
        asking = asyncio.create_task(ask(path, b'{"v": 1, "command": "disconnect"}\n'))
        await asyncio.wait({asking}, timeout=2 * FAST.line_s)
        daemon.pass_over.set()
        assert (await asking)[0]["ok"] is True

    play(tmp_path, scene)


def test_socket_file_is_its_owners(tmp_path: Path) -> None:
    """The socket has mode 0600 whatever the umask, and takes the place of one that a killed daemon left."""

    async def scene(_: Control, __: Daemon, path: Path) -> None:
        assert os.stat(path).st_mode == stat.S_IFSOCK | 0o600  # noqa: PTH116 - see ASYNC240

    (tmp_path / "control.sock").write_text("left behind", encoding="ascii")
    old = os.umask(0)
    try:
        play(tmp_path, scene)
    finally:
        os.umask(old)


def test_others_are_told_what_to_do(tmp_path: Path) -> None:
    """Whoever is not root is refused before a word is read, and told how it works."""

    async def scene(_: Control, __: Daemon, path: Path) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b'{"v": 1, "command": "unblock"}\n')
        assert json.loads(await reader.readline()) == {
            "v": 1,
            "ok": False,
            "code": "not-authorised",
            "text": "this is root's way in; everybody else asks over D-Bus",
            "hint": "aovpnctl does, or try sudo",
        }
        writer.close()

    assert play(tmp_path, scene, uid=os.getuid() + 1).asked == []


def test_bus_may_speak_and_stay_on_the_line(tmp_path: Path) -> None:
    """The user of aovpnd-bus is listened to as root is, and longer than root: its silence is no slowness."""

    async def scene(_: Control, __: Daemon, path: Path) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        await asyncio.wait({asyncio.create_task(reader.readline())}, timeout=2 * FAST.line_s)
        writer.close()
        assert (await ask(path, b'{"v": 1, "command": "connect"}\n'))[0]["ok"] is True

    daemon = play(tmp_path, scene, uid=os.getuid() + 1, bus_uid=os.getuid())
    assert daemon.asked == [Connect()]


def test_bus_has_places_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bus process that holds all the connections it may have takes none of root's."""
    root, bus = 0, 64001
    who = [bus]
    monkeypatch.setattr(control, "peer_uid", lambda _: who[0])

    async def scene(_: Control, __: Daemon, path: Path) -> None:
        held = [await asyncio.open_unix_connection(path) for _ in range(FAST.connections)]
        for reader, writer in held:
            writer.write(b'{"v": 1, "command": "woke"}\n')
            assert json.loads(await reader.readline())["ok"] is True
        assert (await ask(path, b"\n"))[0]["code"] == "busy"
        who[0] = root
        assert (await ask(path, b'{"v": 1, "command": "block"}\n'))[0]["ok"] is True
        for _reader, writer in held:
            writer.close()

    assert play(tmp_path, scene, uid=root, bus_uid=bus).asked[-1] == SetBlock(Block.ON)


def test_what_opens_carries_its_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon knows by the peer's uid, and by nothing that was said, whether root asked for it or aovpnd-bus did."""
    root, bus = 0, 64001
    who = [bus]
    monkeypatch.setattr(control, "peer_uid", lambda _: who[0])

    async def scene(_: Control, __: Daemon, path: Path) -> None:
        for peer in (bus, root):
            who[0] = peer
            assert (await ask(path, b'{"v": 1, "command": "unblock"}\n'))[0]["ok"] is True
            assert (await ask(path, b'{"v": 1, "command": "allow-temp", "user": "root"}\n'))[0]["ok"] is True
            assert (await ask(path, b'{"v": 1, "command": "unblock", "by": "socket"}\n'))[0]["code"] == "bad-request"

    assert play(tmp_path, scene, uid=root, bus_uid=bus).asked == [
        SetBlock(Block.OFF, Door.BUS),
        AllowTemporary(None, "", "root", Door.BUS),
        SetBlock(Block.OFF, Door.SOCKET),
        AllowTemporary(None, "", "root", Door.SOCKET),
    ]


def test_what_is_asked_for_is_the_desks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root and aovpnd-bus ask and answer alike, a third user is not heard; the loop hears of neither here."""
    root, bus = 0, 64001
    who = [bus]
    monkeypatch.setattr(control, "peer_uid", lambda _: who[0])
    lines = (
        b'{"v": 1, "command": "questions"}\n',
        b'{"v": 1, "command": "sign-in", "name": "office", "answers": {"1": "x"}}\n',
    )

    async def scene(_: Control, __: Daemon, path: Path) -> None:
        for peer, code in ((bus, "nothing-asked"), (root, "nothing-asked"), (4711, "not-authorised")):
            who[0] = peer
            assert [(await ask(path, line))[0]["code"] for line in lines] == [code, code]

    assert play(tmp_path, scene, uid=root, bus_uid=bus).asked == []


def test_bus_is_let_in_by_name(tmp_path: Path) -> None:
    """The socket's list of access (acl(5)) names the user of aovpnd-bus, and nobody else gets through."""

    async def scene(_: Control, __: Daemon, path: Path) -> None:
        acl = os.getxattr(path, "system.posix_acl_access")
        assert acl == bytes.fromhex(
            "02000000"  # version
            "01000600ffffffff"  # the owner reads and writes
            "0200060001fa0000"  # so does uid 64001
            "04000000ffffffff"  # the group does not
            "10000600ffffffff"  # the mask lets the two above
            "20000000ffffffff"  # nobody else does
        )

    play(tmp_path, scene, bus_uid=64001)


def test_file_system_without_lists_of_access(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then root alone gives commands; nothing else depends on it."""

    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    async def scene(_: Control, __: Daemon, path: Path) -> None:
        assert (await ask(path, b'{"v": 1, "command": "block"}\n'))[0]["ok"] is True

    monkeypatch.setattr(os, "setxattr", refuse)
    play(tmp_path, scene, bus_uid=64001)


def test_silence_and_slowness_end(tmp_path: Path) -> None:
    """A client that says nothing, or never ends its line, is hung up on."""

    async def scene(_: Control, __: Daemon, path: Path) -> None:
        for words in (b"", b'{"v": 1, "command": '):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(words)
            assert await reader.read() == b""
            writer.close()

    assert play(tmp_path, scene).asked == []


def test_long_line_is_refused(tmp_path: Path) -> None:
    """The length of a line is bounded, also while it comes in."""

    async def scene(_: Control, __: Daemon, path: Path) -> None:
        answers = await ask(path, b"x" * (LINE_LIMIT + 1))
        assert [answer["text"] for answer in answers] == ["the request is too long"]

    assert play(tmp_path, scene).asked == []


def test_number_of_clients_is_bounded(tmp_path: Path) -> None:
    """Clients beyond the limit are told to come back, and a place that becomes free is given away."""

    async def scene(_: Control, __: Daemon, path: Path) -> None:
        idle = [await asyncio.open_unix_connection(path) for _ in range(FAST.connections)]
        reader, writer = await asyncio.open_unix_connection(path)
        assert json.loads(await reader.readline())["code"] == "busy"
        writer.close()
        for reader, writer in idle:
            writer.close()
            assert await reader.read() == b""
        assert (await ask(path, b'{"v": 1, "command": "block"}\n'))[0]["ok"] is True

    play(tmp_path, scene, limits=Limits(FAST.connections, line_s=DEADLINE_S))


def test_half_a_line_is_no_command(tmp_path: Path) -> None:
    """Whoever hangs up before the end of the line has asked for nothing, even if the words are complete."""

    async def scene(_: Control, __: Daemon, path: Path) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b'{"v": 1, "command": "unblock"}')
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()

    assert play(tmp_path, scene).asked == []


def test_hanging_up_early_changes_nothing(tmp_path: Path) -> None:
    """A client that does not wait for its answer neither stops its command nor disturbs the next client."""

    async def scene(_: Control, daemon: Daemon, path: Path) -> None:
        daemon.pass_over.clear()
        _reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b'{"v": 1, "command": "disconnect"}\n')
        await daemon.was_asked.wait()
        writer.transport.abort()
        daemon.pass_over.set()
        assert (await ask(path, b'{"v": 1, "command": "block"}\n'))[0]["ok"] is True

    assert play(tmp_path, scene).asked == [Disconnect(), SetBlock(Block.ON)]


def test_client_that_never_reads_is_dropped(tmp_path: Path) -> None:
    """Answers nobody takes do not pile up: the client loses the connection, the others do not notice."""

    async def scene(_: Control, __: Daemon, path: Path) -> None:
        _reader, writer = await asyncio.open_unix_connection(path, limit=1)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        try:
            while True:
                writer.write(b"{}\n" * 100)
                await writer.drain()
        except OSError:
            pass
        assert (await ask(path, b'{"v": 1, "command": "block"}\n'))[0]["ok"] is True

    play(tmp_path, scene)


def test_closing_hangs_up(tmp_path: Path) -> None:
    """A daemon that stops lets nobody wait; closing twice, or what was never open, does nothing."""

    async def scene(control: Control, daemon: Daemon, path: Path) -> None:
        daemon.pass_over.clear()
        asking = asyncio.create_task(ask(path, b'{"v": 1, "command": "disconnect"}\n'))
        await daemon.was_asked.wait()
        await control.close()
        assert await asking == []
        await Control(path, daemon.submit).close()

    play(tmp_path, scene)


def test_unusable_path_is_a_state_error(tmp_path: Path) -> None:
    """The daemon learns in our words that it cannot listen."""

    async def run() -> None:
        await Control(tmp_path / "absent" / "control.sock", Daemon().submit).open()

    with pytest.raises(StateError, match=r"cannot listen on .*/control\.sock: No such file or directory"):
        asyncio.run(run())

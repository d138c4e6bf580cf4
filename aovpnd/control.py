# SPDX-License-Identifier: GPL-3.0-or-later
"""The control socket: typed commands in, answers out, and who may, by the peer's credentials.

One JSON object per line, both ways, over the unix stream socket RUNTIME/control.sock::

    > {"v": 1, "command": "allow-temp", "duration_s": 60, "reason": "portal"}
    < {"v": 1, "ok": true, "text": "temporary access is open", "expires_at": 5123.25}
    < {"v": 1, "ok": false, "code": "too-long", "text": "7200 s is not between 1 s and 3600 s", "hint": "ask for less"}

Two may speak here, told apart by the uid that the kernel gives (SO_PEERCRED): root, and the user that aovpnd-bus runs
as. What aovpnd-bus asks for, polkit has authorised: it says for whom (``user``), and it says itself what only a
desktop's services know::

    > {"v": 1, "command": "prepare-sleep"}          before the machine sleeps; the answer means that nothing is open
    > {"v": 1, "command": "woke"}
    > {"v": 1, "command": "name-networks", "names": {"wlan0": "CoffeeShop"}}        for people to read

What tunnels ask people for (`signin`): "sign-in" has the answers by the numbers of their rounds; nothing repeats them,
however wrong the line is::

    > {"v": 1, "command": "questions"}
    > {"v": 1, "command": "sign-in", "name": "office", "answers": {"1": "..."}}

``expires_at`` is seconds on CLOCK_BOOTTIME. The answer to a command is sent after the pass that carried it out, so
"allowed" means loaded. A question ("explain") changes nothing; its answer has ``data``, an object, where the others
have null. Only a whole line counts: whoever hangs up earlier has asked for nothing; whoever hangs up later misses the
answer, and the command is carried out all the same.

What arrives is a stranger's: unknown fields, types and values are refused, never guessed or clamped, and no line,
however wrong, stops the daemon.
"""

import asyncio
import json
import logging
import os
import re
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from aovpnd import destinations
from aovpnd.admission import let_in, peer_uid
from aovpnd.doors import Door
from aovpnd.errors import AovpndError, CommandRefused, StateError
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
from aovpnd.shape import typed
from aovpnd.signin import MOST_ANSWERS, Questions, SignIn
from aovpnd.tunnel import TUNNEL_NAME, Secret

log = logging.getLogger("aovpnd")

Submit = Callable[[Command | Question], Awaitable[Answer]]
"""Carries a command out, or answers a question, and returns after the pass that did; raises `AovpndError` with what to
tell the user."""
Desk = Callable[[SignIn | Questions], Awaitable[Answer]]
"""The same for what people are asked for (`signin`)."""

VERSION: Final = 1
LINE_LIMIT: Final = 32768
"""Bytes of a request with its line end; the longest honest one has `MOST_ANSWERS` answers of characters of which JSON
spells each in 12."""
CONNECTIONS: Final = 32
"""Clients of one user at once: every command is one line, more is a mistake in a loop. aovpnd-bus can use up its own
alone, and not root's."""
LINE_TIMEOUT_S: Final = 10.0
"""How long a client may think before, and within, a line."""
ANSWER_TIMEOUT_S: Final = 5.0
"""How long a client may refuse to read its answer."""
REASON_LENGTH: Final = 200
DURATION_LIMIT_S: Final = 10**9
"""Beyond any policy; only keeps arithmetic and messages sane."""
NETWORKS: Final = 32
"""Links that can have a name of a network."""
NETWORK_NAME_LENGTH: Final = 32 * 4
"""An SSID has at most 32 bytes (IEEE 802.11), each of which may be spelt ``\\xff``."""
LINK_NAME: Final = re.compile(r"[!-.0-~]{1,15}")
"""What the kernel lets a link be called: visible, no slash, shorter than IFNAMSIZ."""
SOCKET_MODE: Final = 0o600
USER_NAME_LENGTH: Final = 64


# -- the words --------------------------------------------------------------------------------------------------------
def parse(line: bytes) -> Command | Question | SignIn | Questions:
    """Read one request line. `CommandRefused` (code ``bad-request``) says what is wrong with it."""
    fields = _fields(line)
    version = fields.pop("v", None)
    if type(version) is not int or version != VERSION:
        raise _bad(
            f"this daemon speaks version {VERSION} of the protocol", "aovpnctl and aovpnd must be of the same release"
        )
    word = fields.pop("command", None)
    if not isinstance(word, str) or word not in _PARSERS:
        raise _bad("there is no such command", f"there are: {', '.join(_PARSERS)}")
    command = _PARSERS[word](fields)
    if fields:
        raise _bad(f"{word} has no field {_quoted(next(iter(fields)))}")
    return command


def _fields(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise _bad("this is not one JSON object on one line") from None
    if not isinstance(value, dict):
        raise _bad("this is not one JSON object on one line")
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field stands twice")
    return fields


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _allow_temp(fields: dict[str, Any]) -> Command:
    duration = fields.pop("duration_s", None)
    if duration is not None and type(duration) is not int:
        raise _bad("the duration is not a whole number of seconds")
    if duration is not None and abs(duration) > DURATION_LIMIT_S:
        raise _bad("the duration is out of all bounds", f"at most {DURATION_LIMIT_S} s")
    reason = _text(fields, "reason") or ""
    if len(reason) > REASON_LENGTH or not reason.isprintable():
        raise _bad("the reason is not one printable line", f"at most {REASON_LENGTH} characters")
    user = _text(fields, "user") or "root"
    if len(user) > USER_NAME_LENGTH or not user.isprintable():  # directories know stranger names than useradd(8)
        raise _bad("user is not a user name")
    return AllowTemporary(duration, reason, user)


def _connect(fields: dict[str, Any]) -> Command:
    name = _text(fields, "name")
    if name is not None and TUNNEL_NAME.fullmatch(name) is None:
        raise _bad("this cannot be the name of a tunnel", "letters, digits, - and _, at most 32")
    return Connect(name)


def _name_networks(fields: dict[str, Any]) -> Command:
    found = fields.pop("names", None)
    if not isinstance(found, dict) or len(found) > NETWORKS:
        raise _bad("names is no table of links and networks", f"at most {NETWORKS} links")
    for link, name in found.items():
        if LINK_NAME.fullmatch(link) is None:
            raise _bad(f"{_quoted(link)} cannot be the name of a link")
        if not isinstance(name, str) or not 0 < len(name) <= NETWORK_NAME_LENGTH or not name.isprintable():
            raise _bad(f"the network of {link} has no printable name", f"at most {NETWORK_NAME_LENGTH} characters")
    return NameNetworks(tuple(sorted(found.items())))


def _sign_in(fields: dict[str, Any]) -> SignIn:
    name, answers = _text(fields, "name"), fields.pop("answers", None)
    if name is None or TUNNEL_NAME.fullmatch(name) is None:
        raise _bad("this cannot be the name of a tunnel", "letters, digits, - and _, at most 32")
    if not isinstance(answers, dict) or not 0 < len(answers) <= MOST_ANSWERS:
        raise _bad("answers is no table of rounds and answers", f"at most {MOST_ANSWERS}")
    for place, answer in answers.items():
        if place not in {str(number) for number in range(1, MOST_ANSWERS + 1)} or not typed(answer):
            raise _bad("an answer is not one line of text, or of no round", "it was not shown to the gateway")
    return SignIn(name, tuple((int(place), Secret(answer)) for place, answer in sorted(answers.items())))


def _text(fields: dict[str, Any], key: str) -> str | None:
    value = fields.pop(key, None)
    if value is not None and not isinstance(value, str):
        raise _bad(f"{key} is not a text")
    return value


def _explain(fields: dict[str, Any]) -> Question:
    text = _text(fields, "destination")
    if text is None:
        return Explain()
    try:
        return Explain(destinations.parse(text))
    except destinations.DestinationError as error:
        raise _bad(str(error), error.hint) from None


_PARSERS: Final[Mapping[str, Callable[[dict[str, Any]], Command | Question | SignIn | Questions]]] = {
    "allow-temp": _allow_temp,
    "cancel-temp": lambda _: CancelTemporary(),
    "connect": _connect,
    "disconnect": lambda _: Disconnect(),
    "unblock": lambda _: SetBlock(Block.OFF),
    "block": lambda _: SetBlock(Block.ON),
    "confirm": lambda _: Confirm(),
    "reload": lambda _: Reload(),
    "prepare-sleep": lambda _: PrepareSleep(),
    "woke": lambda _: Woke(),
    "name-networks": _name_networks,
    "explain": _explain,
    "questions": lambda _: Questions(),
    "sign-in": _sign_in,
}


def _bad(text: str, hint: str = "") -> CommandRefused:
    return CommandRefused(text, hint=hint, code="bad-request")


def _quoted(text: str) -> str:
    return ascii(text[:40])


def spell(answer: Answer | AovpndError) -> bytes:
    """One answer line."""
    value: dict[str, object] = {"v": VERSION, "ok": isinstance(answer, Answer)}
    match answer:
        case Answer(text, expires_at, data):
            value |= {"text": text, "expires_at": expires_at}
            if data is not None:
                value["data"] = data
        case AovpndError():
            value |= {"code": answer.code, "text": answer.text, "hint": answer.hint}
    return json.dumps(value).encode() + b"\n"


# -- the socket -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, and all together, may cost. Times in seconds."""

    connections: int = CONNECTIONS
    line_s: float = LINE_TIMEOUT_S
    answer_s: float = ANSWER_TIMEOUT_S


DEFAULT_LIMITS: Final = Limits()


class Peer(StrEnum):
    """Who may be at the other end."""

    ROOT = "root"
    BUS = "aovpnd-bus"


async def _no_desk(_: SignIn | Questions) -> Answer:
    raise CommandRefused("nothing is asked for here", code="nothing-asked")


class Control:
    """The listening socket; lives as long as the daemon.

    ``uid`` and ``bus_uid`` are the two users who may speak: root, and aovpnd-bus (None where there is no such user).
    Everybody else is told so, whatever the mode of the socket file.
    """

    def __init__(
        self,
        path: Path,
        submit: Submit,
        *,
        uid: int = 0,
        bus_uid: int | None = None,
        limits: Limits = DEFAULT_LIMITS,
        desk: Desk = _no_desk,
    ) -> None:
        self._path = path
        self._submit = submit
        self._desk = desk
        self._uid = uid
        self._bus_uid = bus_uid
        self._limits = limits
        self._clients: set[asyncio.Task[None]] = set()
        self._count: Counter[Peer] = Counter()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen. Takes the place of a socket that a killed daemon left, so call it with the daemon's lock held.

        `StateError` when the path cannot be bound.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            # The file is made with the mode of the socket (unix_bind_bsd), so that it is never wider than this.
            os.fchmod(listener.fileno(), SOCKET_MODE)
            self._path.unlink(missing_ok=True)
            listener.bind(os.fspath(self._path))
            if self._bus_uid is not None:
                self._let_in(self._bus_uid)
            self._server = await asyncio.start_unix_server(self._accept, sock=listener, limit=LINE_LIMIT, backlog=16)
        except OSError as error:
            listener.close()
            raise StateError(f"cannot listen on {self._path}: {error.strerror or error}") from error

    def _let_in(self, uid: int) -> None:
        try:
            let_in(self._path, uid)
        except OSError as error:  # the block does not depend on it
            log.warning("only root can give commands: no list of access for %s: %s", self._path, error.strerror)

    async def close(self) -> None:
        """Stop listening, hang up on everybody and remove the socket. May be called twice, and without `open`."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self._path.unlink(missing_ok=True)
        clients = tuple(self._clients)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer), name="control client")
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = self._who(peer_uid(writer))
        if peer is not None:
            self._count[peer] += 1
        try:
            answer = self._refusal(peer) or await self._converse(reader, peer)
            while answer is not None and await self._send(writer, answer) and not isinstance(answer, _HangUp):
                answer = await self._converse(reader, peer)
        finally:
            if peer is not None:
                self._count[peer] -= 1
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()  # a client that does not read would keep the socket open for ever
            else:
                writer.close()

    def _who(self, uid: int) -> Peer | None:
        if uid == self._uid:
            return Peer.ROOT
        return Peer.BUS if uid == self._bus_uid else None

    def _refusal(self, peer: Peer | None) -> "_HangUp | None":
        if peer is None:
            text = "this is root's way in; everybody else asks over D-Bus"
            return _HangUp(text, hint="aovpnctl does, or try sudo", code="not-authorised")
        if self._count[peer] > self._limits.connections:
            return _HangUp("too many clients at once", hint="try again in a moment", code="busy")
        return None

    async def _converse(self, reader: asyncio.StreamReader, peer: Peer | None) -> Answer | AovpndError | None:
        """Read one line and carry it out; None when the client has hung up or says nothing."""
        # aovpnd-bus stays on the line for life: so each of the two learns of the other's death.
        patience = None if peer is Peer.BUS else self._limits.line_s
        try:
            async with asyncio.timeout(patience):
                line = await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            return _HangUp("the request is too long", hint=f"at most {LINE_LIMIT} bytes", code="bad-request")
        except (asyncio.IncompleteReadError, OSError):  # TimeoutError is an OSError
            return None
        try:
            command = parse(line)
            if peer is Peer.BUS and isinstance(command, AllowTemporary | SetBlock):
                command = replace(command, by=Door.BUS)
            if isinstance(command, SignIn | Questions):
                return await self._desk(command)
            return await self._submit(command)
        except AovpndError as error:
            return error

    async def _send(self, writer: asyncio.StreamWriter, answer: Answer | AovpndError) -> bool:
        """Whether the client took the answer; if not, the loss is its own."""
        try:
            writer.write(spell(answer))
            async with asyncio.timeout(self._limits.answer_s):
                await writer.drain()
        except OSError:
            return False
        return True


class _HangUp(CommandRefused):
    """A refusal after which nothing more is read from the client."""

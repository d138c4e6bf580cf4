# SPDX-License-Identifier: GPL-3.0-or-later
"""charon over VICI, strongSwan's own protocol (src/libcharon/plugins/vici/README.md): one connection, a few questions.

The library reads whatever comes for as long as it comes; here an answer has a size and an end (`_Bounded`), and a
charon that hangs is an error like another (`ToolError`). Nothing that charon answers is believed to have a shape.
"""

import errno
import re
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from vici import Session
from vici.exception import CommandException, DeserializationException, EventUnknownException, SessionException
from vici.protocol import Message, Transport

from aovpnd.errors import ToolError
from aovpnd.messages import printable
from aovpnd.ruleset import Address
from aovpnd.tunnel import Endpoint

_ANSWER_S: Final = 3
"""How long charon may take for an answer; one that takes longer hangs, or the machine is in deep trouble."""
_TIMEVAL: Final = struct.Struct("@ll")
_LENGTH: Final = struct.Struct("!I")
_HEXADECIMAL: Final = re.compile(r"[0-9a-fA-F]{1,8}")
_NONSENSE: Final = (SessionException, EventUnknownException, DeserializationException)
_SHAPELESS: Final = (struct.error, UnicodeError, KeyError, AttributeError, TypeError)
"""What the library stumbles over where an answer is not as it expects."""
_WORK_S: Final = 0.5
_WORK_LOOK_S: Final = 0.01
"""How long, and how often, to look for an SA that charon is at work on: its list leaves that one out."""
_MOST: Final = 64
"""SAs and addresses that are looked at."""


@dataclass(frozen=True, slots=True)
class Child:
    """A CHILD SA. ``number`` grows with each that charon makes, ``age_s`` seconds since it was installed; ``spi`` is
    the one under which it receives.
    """

    number: int
    installed: bool
    age_s: int
    rx_bytes: int
    tx_bytes: int
    name: str = ""
    spi: int = 0


@dataclass(frozen=True, slots=True)
class Sa:
    """An IKE SA of a connection ``name``: where to and from where, the addresses that it gave us, its CHILD SAs, and
    whether an exchange with the other side is under way.
    """

    name: str
    number: int
    established: bool
    local: Address | None
    remote: Endpoint | None
    addresses: tuple[Address, ...]
    children: tuple[Child, ...]
    busy: bool = False


class _Bounded(Transport):  # type: ignore[misc]  # the library has no types
    """The library's transport, with an end: what has not been said `_ANSWER_S` seconds after a question is not waited
    for.
    """

    _end = 0.0
    _late = False

    def send(self, packet: bytes) -> None:
        """Send a packet, a question; `TimeoutError` where one has had no answer, the library's good-bye included."""
        if self._late:
            raise TimeoutError
        self._end = time.monotonic() + _ANSWER_S
        super().send(packet)

    def receive(self, timeout: object = None) -> bytes:  # noqa: ARG002 - the library's own
        """The next packet. `TimeoutError` when it comes too late, `DeserializationException` when it is too long."""
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        if length > self.MAX_SEGMENT:
            raise DeserializationException(f"{length} bytes")
        return self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            if self._late or time.monotonic() >= self._end:
                self._late = True
                raise TimeoutError
            try:
                some: bytes = self.socket.recv(count - len(data))
            except BlockingIOError:
                self._late = True
                raise
            if not some:
                raise ConnectionResetError(errno.ECONNRESET, "the connection was closed")
            data += some
        return bytes(data)


class Charon:
    """One charon, by its socket. Every question is a connection of its own: none of them is left half-answered."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def connections(self) -> tuple[str, ...]:
        """The names of what is loaded."""
        with self._session() as session:
            return tuple(_list(session.request("get-conns"), "conns"))

    def plugins(self) -> frozenset[str]:
        """The plugins that are loaded."""
        with self._session() as session:
            return frozenset(_list(session.request("stats"), "plugins"))

    def key_exchanges(self) -> frozenset[str]:
        """The key exchanges that it can do, by its names for them: ``ECP_256``, ``ML_KEM_768``."""
        with self._session() as session:
            known = session.request("get-algorithms")
        return frozenset(name for kind in ("ke", "dh") for name in known.get(kind, {}))  # "dh" before 6.0

    def sas(self) -> tuple[Sa, ...]:
        """The IKE SAs that there are, in whatever state, the newest last.

        "noblock", since a token that signs for seconds would hold us up; but a tunnel whose SA is left out, for the
        moment of a new key, looks as if it had none. How many there are is known, and they are waited for.
        """
        with self._session() as session:
            end = time.monotonic() + _WORK_S
            while True:
                told = list(session.streamed_request("list-sas", "list-sa", {"noblock": "yes"}))
                if len(told) >= _total(session.request("stats")) or time.monotonic() >= end:
                    break
                time.sleep(_WORK_LOOK_S)
        found = [_sa(name, sa) for section in told for name, sa in section.items() if isinstance(sa, Mapping)]
        return tuple(sorted(found[:_MOST], key=lambda sa: sa.number))

    def load(self, requests: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Load what belongs together; whatever was loaded before is forgotten first. `ToolError` says what charon does
        not take, without anything secret.
        """
        requests = [(command, dict(message)) for command, message in requests]
        try:
            for _command, message in requests:
                Message.serialize(message)
        except struct.error:
            hint = "64 KiB are the most for a certificate or a revocation list"
            raise ToolError("charon cannot be given something as large as that", hint=hint) from None
        with self._session() as session:
            for name in _list(session.request("get-conns"), "conns"):
                session.request("unload-conn", {"name": name})
            session.request("clear-creds")
            for command, message in requests:
                session.request(command, message)

    def unload_secrets(self, ids: Iterable[str]) -> None:
        """Forget shared secrets, by the ids that they were loaded under."""
        with self._session() as session:
            for each in ids:
                session.request("unload-shared", {"id": each})

    def initiate(self, name: str, children: Iterable[str]) -> None:
        """Begin to establish CHILD SAs of a connection, and its IKE SA; does not wait for them."""
        with self._session() as session:
            for child in children:
                session.request("initiate", {"ike": name, "child": child, "timeout": "-1", "loglevel": "-1"})

    def rekey(self, child: Child) -> None:
        """Renew the keys of a CHILD SA, an exchange with the other side; does not wait for it."""
        with self._session() as session:
            session.request("rekey", {"child-id": str(child.number)})

    def terminate(self, sa: Sa) -> None:
        """End an IKE SA and all that belongs to it, whether the other side hears of it or not."""
        with self._session() as session:
            session.request("terminate", {"ike-id": str(sa.number), "force": "yes", "timeout": "-1", "loglevel": "-1"})

    @contextmanager
    def _session(self) -> Iterator[Any]:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
                for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                    channel.setsockopt(socket.SOL_SOCKET, option, _TIMEVAL.pack(_ANSWER_S, 0))
                channel.connect(str(self._path))
                session = Session(channel)
                session.transport = _Bounded(channel)
                yield session
        except CommandException as error:
            raise ToolError(f"charon refuses: {printable(str(error).removeprefix('Command failed: '))[:300]}") from None
        except (BlockingIOError, TimeoutError):
            raise ToolError(f"charon does not answer within {_ANSWER_S} s") from None
        except OSError as error:
            raise ToolError(f"charon cannot be asked: {error.strerror or 'the connection was closed'}") from None
        except (*_NONSENSE, *_SHAPELESS):
            # "from None", everywhere: a message that was sent may hold keys.
            raise ToolError("charon answers nonsense") from None


# -- what it says -----------------------------------------------------------------------------------------------------
def _text(section: Mapping[str, Any], key: str) -> str:
    value = section.get(key, b"")
    return value.decode("ascii", "replace") if isinstance(value, bytes) else ""


def _number(section: Mapping[str, Any], key: str) -> int:
    text = _text(section, key)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else 0  # noqa: PLR2004 - 64 bits


def _hexadecimal(section: Mapping[str, Any], key: str) -> int:
    text = _text(section, key)
    return int(text, 16) if _HEXADECIMAL.fullmatch(text) else 0


def _total(stats: Mapping[str, Any]) -> int:
    sas = stats.get("ikesas")
    return _number(sas, "total") if isinstance(sas, Mapping) else 0


def _list(section: Mapping[str, Any], key: str) -> list[str]:
    values = section.get(key, [])
    return [value.decode("ascii", "replace") for value in values[:_MOST]] if isinstance(values, list) else []


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _endpoint(addr: Address | None, port: int) -> Endpoint | None:
    return Endpoint(addr, port) if addr is not None and 0 < port <= 65535 else None  # noqa: PLR2004 - a port


def _sa(name: str, sa: Mapping[str, Any]) -> Sa:
    children = sa.get("child-sas", {})
    found = children.values() if isinstance(children, Mapping) else ()
    addresses = (_address(text) for text in _list(sa, "local-vips"))
    return Sa(
        name=name,
        number=_number(sa, "uniqueid"),
        established=_text(sa, "state") == "ESTABLISHED",
        local=_address(_text(sa, "local-host")),
        remote=_endpoint(_address(_text(sa, "remote-host")), _number(sa, "remote-port")),
        addresses=tuple(addr for addr in addresses if addr is not None),
        children=tuple(_child(child) for child in found if isinstance(child, Mapping)),
        busy=any(_list(sa, key) for key in ("tasks-active", "tasks-queued")),
    )


def _child(child: Mapping[str, Any]) -> Child:
    return Child(
        number=_number(child, "uniqueid"),
        installed=_text(child, "state") in {"INSTALLED", "REKEYING"},
        age_s=_number(child, "install-time"),
        rx_bytes=_number(child, "bytes-in"),
        tx_bytes=_number(child, "bytes-out"),
        name=_text(child, "name"),
        spi=_hexadecimal(child, "spi-in"),
    )

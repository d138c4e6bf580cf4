# SPDX-License-Identifier: GPL-3.0-or-later
"""The border to charon, against one that is invented: it refuses, hangs, closes, and says whatever can be said."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from vici.protocol import Message

from aovpnd.backends import vici
from aovpnd.backends.vici import Charon, Child, Sa
from aovpnd.errors import ToolError
from aovpnd.tunnel import Endpoint

RESPONSE, UNKNOWN, CONFIRM, EVENT_UNKNOWN, EVENT = 1, 2, 5, 6, 7
SECRET: Final = "correct-horse-battery-staple"  # noqa: S105 - nobody's
Answer = Callable[["Fake", bytes], bytes | None]
_SA: Final[dict[str, Any]] = {
    "uniqueid": "7",
    "state": "ESTABLISHED",
    "local-host": "192.0.2.9",
    "remote-host": "203.0.113.2",
    "remote-port": "4500",
    "local-vips": ["10.8.0.2", "fd00::2"],
    "tasks-active": ["QUICK_MODE"],
    "child-sas": {
        "net-3": {
            "name": "net",
            "uniqueid": "3",
            "state": "INSTALLED",
            "install-time": "12",
            "bytes-in": "100",
            "bytes-out": "200",
        }
    },
}


def packet(kind: int, message: dict[str, Any] | None = None, name: str = "") -> bytes:
    """One packet, its length before it."""
    body = bytes([kind]) + (bytes([len(name)]) + name.encode() if name else b"") + Message.serialize(message or {})
    made: bytes = struct.pack("!I", len(body)) + body
    return made


class Fake:
    """A charon that answers each packet as ``answer`` says; None closes the connection."""

    def __init__(self, path: Path, answer: Answer) -> None:
        self.heard: list[bytes] = []
        self.ends = threading.Event()
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while not self.ends.is_set():
                with self._listener.accept()[0] as peer, suppress(OSError):
                    self._talk(peer)

    def _talk(self, peer: socket.socket) -> None:
        while True:
            length = peer.recv(4, socket.MSG_WAITALL)
            if len(length) < 4:
                return
            heard = peer.recv(struct.unpack("!I", length)[0], socket.MSG_WAITALL)
            self.heard.append(heard)
            answer = self._answer(self, heard)
            if answer is None:
                return
            peer.sendall(answer)

    def close(self) -> None:
        """End it."""
        self.ends.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Callable[[Answer], tuple[Charon, Fake]]]:
    """Makes one charon after the other, each in the place of the last."""
    made: list[Fake] = []

    def make(answer: Answer) -> tuple[Charon, Fake]:
        path = tmp_path / f"vici{len(made)}"
        made.append(Fake(path, answer))
        return Charon(path), made[-1]

    yield make
    for each in made:
        each.close()


def told(*sections: dict[str, Any], total: int = 0) -> Answer:
    """Answer list-sas with these, and that there are ``total``."""

    def answer(_fake: Fake, heard: bytes) -> bytes:
        if heard[0] in {3, 4}:  # registrations
            return packet(CONFIRM)
        if b"stats" in heard:
            return packet(RESPONSE, {"ikesas": {"total": str(total)}})
        return b"".join(packet(EVENT, section, "list-sa") for section in sections) + packet(RESPONSE)

    return answer


Make = Callable[[Answer], tuple[Charon, Fake]]


# -- what there is -----------------------------------------------------------------------------------------------------
def test_sas(fake: Make) -> None:
    """Every value is what charon says, the newest SA stands last."""
    two = {key: value for key, value in _SA.items() if key != "tasks-active"}
    charon, heard = fake(told({"one": _SA}, {"two": {**two, "uniqueid": "5", "state": "CONNECTING", "child-sas": {}}}))
    child = Child(3, installed=True, age_s=12, rx_bytes=100, tx_bytes=200, name="net")
    where = (ip_address("192.0.2.9"), Endpoint(ip_address("203.0.113.2"), 4500))
    addresses = (ip_address("10.8.0.2"), ip_address("fd00::2"))

    assert charon.sas() == (
        Sa("two", 5, False, *where, addresses, ()),
        Sa("one", 7, True, *where, addresses, (child,), busy=True),
    )
    assert b"noblock" in heard.heard[1]


def test_one_that_charon_works_on(fake: Make) -> None:
    """It is in no list meanwhile, and is waited for; for ever it is not."""
    looks = []

    def answer(itself: Fake, heard: bytes) -> bytes | None:
        looks.append(heard) if b"list-sas" in heard else None
        return told(*([{"one": _SA}] if len(looks) > 3 else []), total=1)(itself, heard)

    assert [sa.name for sa in fake(answer)[0].sas()] == ["one"]
    assert len(looks) == 4

    began = time.monotonic()
    assert fake(told(total=1))[0].sas() == ()
    assert time.monotonic() - began >= vici._WORK_S  # noqa: SLF001 - how long it waits


@pytest.mark.parametrize("stats", [{}, {"ikesas": "many"}, {"ikesas": {"total": "-1"}}, {"ikesas": {"total": ["1"]}}])
def test_nobody_knows_how_many(fake: Make, stats: dict[str, Any]) -> None:
    """The list stands as it is, then."""

    def answer(itself: Fake, heard: bytes) -> bytes | None:
        return packet(RESPONSE, stats) if b"stats" in heard else told({"one": _SA})(itself, heard)

    assert len(fake(answer)[0].sas()) == 1


def test_connections(fake: Make) -> None:
    """Their names, and no more of them than anybody could have loaded."""
    charon, _ = fake(lambda *_: packet(RESPONSE, {"conns": ["a", "b"]}))
    assert charon.connections() == ("a", "b")
    charon, _ = fake(lambda *_: packet(RESPONSE, {}))
    assert charon.connections() == ()
    charon, _ = fake(lambda *_: packet(RESPONSE, {"conns": [str(number) for number in range(1000)]}))
    assert len(charon.connections()) == 64


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"uniqueid": "9" * 40}, ("number", 0)),
        ({"uniqueid": "-1"}, ("number", 0)),
        ({"uniqueid": "٣"}, ("number", 0)),
        ({"uniqueid": {}}, ("number", 0)),
        ({"uniqueid": str(2**64 - 1)}, ("number", 2**64 - 1)),
        ({"remote-port": "65536"}, ("remote", None)),
        ({"remote-port": "0"}, ("remote", None)),
        ({"remote-host": "%any"}, ("remote", None)),
        ({"local-host": b"\xff\x00"}, ("local", None)),
        ({"local-vips": ["nonsense", "10.0.0.1"]}, ("addresses", (ip_address("10.0.0.1"),))),
        ({"local-vips": "10.0.0.1"}, ("addresses", ())),
        ({"state": ["ESTABLISHED"]}, ("established", False)),
        ({"child-sas": "many"}, ("children", ())),
        ({"child-sas": {"one": "installed"}}, ("children", ())),
    ],
)
def test_shapeless_values(fake: Make, section: dict[str, Any], expected: tuple[str, object]) -> None:
    """A value that is none is left out; the others stand."""
    charon, _ = fake(told({"one": {**_SA, **section}}))
    (sa,) = charon.sas()

    assert getattr(sa, expected[0]) == expected[1]
    assert sa.name == "one"


def test_endless(fake: Make) -> None:
    """Of a thousand SAs a few are looked at."""
    charon, _ = fake(told(*({str(number): _SA} for number in range(1000))))
    assert len(charon.sas()) == 64


# -- what it does ------------------------------------------------------------------------------------------------------
def test_load(fake: Make) -> None:
    """What was loaded before is forgotten first, then everything comes in its order."""

    def answer(_fake: Fake, heard: bytes) -> bytes:
        return packet(RESPONSE, {"conns": ["old"]} if b"get-conns" in heard else {"success": "yes"})

    charon, seen = fake(answer)
    charon.load([("load-shared", {"id": "x", "data": SECRET}), ("load-conn", {"new": {}})])

    assert [heard[2 : 2 + heard[1]].decode() for heard in seen.heard] == [
        *("get-conns", "unload-conn", "clear-creds", "load-shared", "load-conn")
    ]
    assert b"old" in seen.heard[1]


def test_orders(fake: Make) -> None:
    """Nothing of them waits for the gateway; an SA is ended by its number alone."""
    charon, seen = fake(lambda *_: packet(RESPONSE, {"success": "yes"}))
    charon.initiate("conn", ("child/0", "child/1"))
    charon.rekey(Child(3, installed=True, age_s=0, rx_bytes=0, tx_bytes=0))
    charon.terminate(Sa("conn", 7, True, None, None, (), ()))
    asked = [(heard[2 : 2 + heard[1]].decode(), heard[2 + heard[1] :]) for heard in seen.heard]

    assert [command for command, _ in asked] == ["initiate", "initiate", "rekey", "terminate"]
    assert [message for _, message in asked] == [
        Message.serialize({"ike": "conn", "child": "child/0", "timeout": "-1", "loglevel": "-1"}),
        Message.serialize({"ike": "conn", "child": "child/1", "timeout": "-1", "loglevel": "-1"}),
        Message.serialize({"child-id": "3"}),
        Message.serialize({"ike-id": "7", "force": "yes", "timeout": "-1", "loglevel": "-1"}),
    ]


def test_too_large(fake: Make) -> None:
    """A revocation list that VICI has no room for: said in words, and charon keeps what it has."""
    charon, seen = fake(lambda *_: packet(RESPONSE, {"success": "yes"}))
    with pytest.raises(ToolError, match="as large as that") as caught:
        charon.load([("load-cert", {"type": "X509_CRL", "data": b"x" * 65536})])

    assert "64 KiB" in (caught.value.hint or "")
    assert seen.heard == []


# -- what goes wrong ---------------------------------------------------------------------------------------------------
def _secretive(charon: Charon) -> None:
    charon.load([("load-shared", {"id": "x", "data": SECRET})])


CALLS: Final = {"connections": Charon.connections, "sas": Charon.sas, "load": _secretive}


def complaint(call: Callable[[Charon], object], charon: Charon) -> str:
    """What is said of it: without the secret, and in one line."""
    with pytest.raises(ToolError) as caught:
        call(charon)
    error = caught.value
    assert error.__cause__ is None
    assert error.__suppress_context__
    assert SECRET not in f"{error} {error.hint}"
    assert str(error).isprintable()
    return str(error)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_nobody_there(tmp_path: Path, call: Callable[[Charon], object]) -> None:
    """No socket, one that nobody listens at, a file."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left"))
    (tmp_path / "file").touch()

    for name in ("none", "left", "file"):
        assert "charon cannot be asked: " in complaint(call, Charon(tmp_path / name))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda *_: None, "charon cannot be asked"),
        (lambda *_: packet(UNKNOWN), "nonsense"),
        (lambda *_: packet(EVENT_UNKNOWN), "nonsense"),
        (lambda *_: packet(99), "nonsense"),
        (lambda *_: struct.pack("!I", 0), "nonsense"),
        (lambda *_: b"\xff\xff\xff\xff" + b"x" * 100, "nonsense"),
        (lambda *_: struct.pack("!I", 512 * 1024 + 1), "nonsense"),
        (lambda *_: struct.pack("!I", 5) + b"\x01\x03\xffab", "nonsense"),
        (lambda *_: struct.pack("!I", 2) + b"\x01\x02", "nonsense"),
        (lambda *_: struct.pack("!I", 4) + b"\x01\x03\x01\xff", "nonsense"),
        (lambda *_: packet(RESPONSE, {"success": "no"}), "nonsense"),
        (lambda *_: packet(RESPONSE, {"success": "no", "errmsg": {}}), "nonsense"),
        (lambda *_: packet(RESPONSE, {"success": "no", "errmsg": b"\xff"}), "nonsense"),
    ],
    ids=[
        *("closes", "unknown", "no-event", "kind", "empty", "4-gib", "too-long", "cut-name", "bracket", "utf-8"),
        *("silent-refusal", "section", "not-text"),
    ],
)
def test_wrong(fake: Make, call: Callable[[Charon], object], answer: Answer, said: str) -> None:
    """Whatever comes is an error of ours; nothing secret is in it."""
    charon, _ = fake(answer)
    assert said in complaint(call, charon)


def test_refuses(fake: Make) -> None:
    """Its reason is quoted, short, and unable to write over a terminal."""
    reason = "parsing of \x1b[2J failed\n" + "long " * 200
    charon, _ = fake(lambda *_: packet(RESPONSE, {"success": "no", "errmsg": reason}))
    said = complaint(_secretive, charon)

    assert said.startswith("charon refuses: parsing of ")
    assert len(said) < 400


def hangs(fake: Fake, _heard: bytes) -> bytes:
    """Say nothing."""
    fake.ends.wait()
    return b""


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_hangs(fake: Make, monkeypatch: pytest.MonkeyPatch, call: Callable[[Charon], object]) -> None:
    """One that does not answer is not waited for."""
    monkeypatch.setattr(vici, "_ANSWER_S", 1)
    charon, _ = fake(hangs)
    assert complaint(call, charon) == "charon does not answer within 1 s"


@pytest.mark.parametrize("piece", [b"\x00", packet(EVENT, {"one": _SA}, "list-sa")], ids=["bytes", "events"])
def test_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    """One that never comes to an end, byte by byte or SA by SA, is not listened to for ever."""
    monkeypatch.setattr(vici, "_ANSWER_S", 1)
    ends = threading.Event()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "vici"))
    listener.listen()

    def talk() -> None:
        peer = listener.accept()[0]
        with peer, suppress(OSError):
            peer.sendall(packet(CONFIRM) if len(piece) > 1 else struct.pack("!I", 4096))
            while not ends.wait(0.05):
                peer.sendall(piece)

    threading.Thread(target=talk, daemon=True).start()
    assert complaint(Charon.sas, Charon(tmp_path / "vici")) == "charon does not answer within 1 s"
    ends.set()
    listener.close()


@given(st.binary(max_size=60))
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, body: bytes) -> None:
    """Whatever the body of an answer is, there is an answer or a `ToolError`."""
    path = tmp_path_factory.mktemp("vici") / "vici"
    made = Fake(path, lambda *_: struct.pack("!I", len(body) + 1) + bytes([RESPONSE]) + body)
    with suppress(ToolError):
        assert isinstance(Charon(path).connections(), tuple)
    made.close()

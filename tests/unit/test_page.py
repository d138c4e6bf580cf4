# SPDX-License-Identifier: GPL-3.0-or-later
"""The question for a page behind a tunnel, against servers on this machine that lie in every way."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import pytest

from aovpnd.adapters import bound, lookup, page
from aovpnd.inquiries import LookedUp, LookUp, Unanswered, Visited, VisitPage
from aovpnd.pages import LONGEST_URL, Page, Scheme
from tests.lab.sites import make_certificates

LO: Final = socket.if_nametoindex("lo")
HERE: Final = ip_address("127.0.0.1")
CHECK: Final = Page(Scheme.HTTP, ip_address("10.8.0.1"), 80, "/check?a=b")
OWN: Final = "http://10.8.0.1/check?a=b"


@contextmanager
def served(answer: Callable[[socket.socket], None], scheme: Scheme = Scheme.HTTP) -> Iterator[VisitPage]:
    """A server that answers each connection so, on this machine; the question for its page."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    stream, _ = listening.accept()
                except OSError:
                    return
                with stream:
                    try:
                        answer(stream)
                    except OSError:
                        continue  # whoever asked has heard enough

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        yield VisitPage(LO, "lo", "path", Page(scheme, HERE, listening.getsockname()[1], "/check?a=b"))
        done.set()
        listening.shutdown(socket.SHUT_RDWR)
        server.join(10)


def says(*parts: bytes) -> Callable[[socket.socket], None]:
    """Read the request, and say that."""

    def answer(stream: socket.socket) -> None:
        stream.recv(4096)
        for part in parts:
            stream.sendall(part)

    return answer


# -- the head of an answer ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("head", "wanted"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", None, id="the page"),
        pytest.param(b"HTTP/1.0 204 No Content\r\n\r\n", None, id="no content"),
        pytest.param(b"HTTP/1.1 200 OK\nServer: x\n\n", None, id="bare line ends"),
        pytest.param(b"HTTP/1.1 302 F\r\nLocation: http://a.example/l?x=1\r\n\r\n", "http://a.example/l?x=1", id="302"),
        pytest.param(b"HTTP/1.1 307 T\r\nlocation: https://a.example\r\n\r\n", "https://a.example", id="307"),
        pytest.param(b"HTTP/1.1 302 F\r\nLocation: hTTp://a.example/\r\n\r\n", "http://a.example/", id="hTTp"),
        pytest.param(b"HTTP/1.1 303 S\r\nLocation: /login\r\n\r\n", "http://10.8.0.1/login", id="relative"),
        pytest.param(b"HTTP/1.1 303 S\r\nLocation: //b.example/l\r\n\r\n", "http://b.example/l", id="another host"),
        pytest.param(b"HTTP/1.1 302 F\r\nLocation: /check?a=b\r\n\r\n", OWN, id="a loop"),
        pytest.param(b"HTTP/1.1 511 N\r\n\r\n", OWN, id="RFC 6585"),
        pytest.param(b"HTTP/1.1 511 N\r\nLocation: http://a.example/\r\n\r\n", OWN, id="RFC 6585 has no Location"),
        pytest.param(b"HTTP/1.1 302 F\r\nLocation: javascript:alert(1)\r\n\r\n", OWN, id="another scheme"),
        pytest.param(b"HTTP/1.1 302 F\r\nLocation: file:///etc/passwd\r\n\r\n", OWN, id="a file"),
        pytest.param(b"HTTP/1.1 302 F\r\nLocation: http://me:it@a.example/\r\n\r\n", OWN, id="a password"),
        pytest.param(b"HTTP/1.1 302 F\r\nLocation: http://a.example\\@b.example/\r\n\r\n", OWN, id="backslash"),
        pytest.param(b"HTTP/1.1 302 F\r\nLocation: http://a.example/\x1b[2J\r\n\r\n", OWN, id="a terminal's"),
        pytest.param(b"HTTP/1.1 302 F\r\nLocation: http://a.example/\xc3\xa4\r\n\r\n", OWN, id="not ASCII"),
        pytest.param(b"HTTP/1.1 302 F\r\nLocation: http://a.example/a b\r\n\r\n", OWN, id="blank"),
        pytest.param(b"HTTP/1.1 302 F\r\nLocation: http://a.example/\r\n b\r\n\r\n", OWN, id="folded"),
        pytest.param(b"HTTP/1.1 302 F\r\nLocation: \r\n\r\n", OWN, id="empty"),
        pytest.param(b"HTTP/1.1 302 F\r\nLocation: http:///x\r\n\r\n", "http://10.8.0.1/x", id="the same host"),
        pytest.param(b"HTTP/1.1 302 F\r\nLocation: http://[::1/\r\n\r\n", OWN, id="brackets"),
        pytest.param(b"HTTP/1.1 302 F\r\nLocation: http://a.example:99999/\r\n\r\n", OWN, id="no port"),
        pytest.param(b"HTTP/1.1 302 F\r\nLocation: http://a/\r\nLocation: http://b/\r\n\r\n", OWN, id="two"),
        pytest.param(
            b"HTTP/1.1 302 F\r\nLocation: http://a/" + b"x" * LONGEST_URL + b"\r\n\r\n", OWN, id="longer than a URL"
        ),
        pytest.param(
            b"HTTP/1.1 302 F\r\nLocation: " + b"x" * (LONGEST_URL - 4) + b"\r\n\r\n", OWN, id="too long once resolved"
        ),
    ],
)
def test_what_an_answer_says(head: bytes, wanted: str | None) -> None:
    """Who is in, and where whoever is not has to go: http or https, printable ASCII, no user; else the page."""
    assert page.judge(CHECK, head) == wanted


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 99 OK\r\n\r\n",
        b"HTTP/9 200 OK\r\n\r\n",
        b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 302 Found\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nLocation: http://a.example/\r\n\r\n",
        b"HTTP/1.1 403 Forbidden\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\n\r\n",
    ],
)
def test_what_says_nothing(head: bytes) -> None:
    """What is no answer, and answers of which nobody knows what they mean."""
    with pytest.raises(page.NoPageError):
        page.judge(CHECK, head)


def test_the_request() -> None:
    """One page, of one host, and nothing of this machine."""
    assert page.request(Page(Scheme.HTTPS, ip_address("fd00::1"), 8443, "/x?y")) == (
        b"GET /x?y HTTP/1.1\r\nHost: [fd00::1]:8443\r\nUser-Agent: aovpnd\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )


# -- servers -----------------------------------------------------------------------------------------------------------
def test_signed_in() -> None:
    """The page comes, of whatever size: its head alone is read."""
    with served(says(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * (1 << 20))) as inquiry:
        assert page.visit(inquiry) == Visited(inquiry)


def test_not_signed_in() -> None:
    """A redirect is told and not followed, also one that leads back to itself."""
    asked = []

    def answer(stream: socket.socket) -> None:
        asked.append(stream.recv(4096))
        stream.sendall(b"HTTP/1.1 302 Found\r\nLocation: /check?a=b\r\nSet-Cookie: a=b\r\n\r\n")

    with served(answer) as inquiry:
        assert page.visit(inquiry) == Visited(inquiry, str(inquiry.page))
        assert page.visit(inquiry) == Visited(inquiry, str(inquiry.page))
    assert len(asked) == 2
    assert asked[0] == asked[1] == page.request(inquiry.page)


def _endless(stream: socket.socket) -> None:
    stream.recv(4096)
    stream.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        stream.sendall(b"X-More: and more\r\n" * 64)


def _drip(stream: socket.socket) -> None:
    stream.recv(4096)
    for byte in b"HTTP/1.1 200 OK\r\n" + b"a" * 400:
        stream.sendall(bytes((byte,)))
        time.sleep(0.05)


def _silence(stream: socket.socket) -> None:
    while stream.recv(4096):
        pass


@pytest.mark.parametrize(
    "answer",
    [_endless, _drip, _silence, says(b""), says(b"\0" * 40000)],
    ids=["endless", "drip", "silence", "nothing", "zeros"],
)
def test_it_ends(monkeypatch: pytest.MonkeyPatch, answer: Callable[[socket.socket], None]) -> None:
    """Whoever never ends, or speaks one byte at a time, is left when the time for all of it is over."""
    monkeypatch.setattr(page, "DEADLINE_S", 1.0)
    with served(answer) as inquiry:
        began = time.monotonic()
        assert isinstance(page.visit(inquiry), Unanswered)
        assert time.monotonic() - began < 10


def test_nobody_there() -> None:
    """A refused connection says nothing."""
    with served(says(b"")) as inquiry:
        pass
    found = page.visit(inquiry)
    assert isinstance(found, Unanswered)
    assert found.text == "127.0.0.1 cannot be asked: Connection refused"


def test_a_foreign_certificate(tmp_path: Path) -> None:
    """A page by https that does not prove its name says nothing, whatever it answers; nor does one without TLS."""
    _, certificate, key = make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    heard = []

    def answer(stream: socket.socket) -> None:
        with context.wrap_socket(stream, server_side=True) as inner:
            heard.append(inner.recv(4096))

    with served(answer, Scheme.HTTPS) as inquiry:
        found = page.visit(inquiry)
        assert isinstance(found, Unanswered)
        assert found.text.startswith("127.0.0.1 does not prove who it is: ")
    assert heard == []
    with served(says(b"HTTP/1.1 200 OK\r\n\r\n"), Scheme.HTTPS) as inquiry:
        assert isinstance(page.visit(inquiry), Unanswered)


def test_a_certificate_that_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's authorities decide, about the name that was asked for."""
    authority, certificate, key = make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    name = _name_of(certificate)
    monkeypatch.setattr(lookup, "look_up", lambda asked, _prepare: LookedUp(asked, (HERE,), HERE))
    monkeypatch.setattr(page, "unfit", lambda _addr: None)

    def answer(stream: socket.socket) -> None:
        with context.wrap_socket(stream, server_side=True) as inner:
            inner.recv(4096)
            inner.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with served(answer, Scheme.HTTPS) as inquiry:
        for host, good in ((name, True), ("other.example", False)):
            asked = VisitPage(LO, "lo", "path", Page(Scheme.HTTPS, host, inquiry.page.port), (HERE,))
            assert isinstance(page.visit(asked), Visited if good else Unanswered)


def _name_of(certificate: Path) -> str:
    names = ssl._ssl._test_decode_cert(str(certificate))["subjectAltName"]  # type: ignore[attr-defined] # noqa: SLF001
    return str(next(name for kind, name in names if kind == "DNS"))


# -- by which way ------------------------------------------------------------------------------------------------------
def test_sockets_are_tied_to_the_link() -> None:
    """Each by its link alone, without a mark, which would lead past our own routes; by no other one of its name."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        for addr in (HERE, ip_address("::1")):
            with bound.opened(LO, "lo", addr, kind) as made:
                assert made.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0") == b"lo"
                assert made.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) == 0
    for link, name in ((LO + 999, "lo"), (LO, "aovpn77")):
        with pytest.raises(OSError, match=r"taken the name|[Nn]o (interface|such device)"):
            bound.opened(link, name, HERE, socket.SOCK_STREAM)


def test_a_link_that_is_gone() -> None:
    """Nobody is asked; it is no fault of ours."""
    with served(says(b"HTTP/1.1 200 OK\r\n\r\n")) as inquiry:
        for link, name in ((LO + 999, "lo"), (LO, "aovpn77")):
            found = page.visit(VisitPage(link, name, "path", inquiry.page))
            assert isinstance(found, Unanswered)


@pytest.mark.parametrize(
    ("addresses", "said"),
    [
        ((), "portal.example.com has no address that can be behind a gateway"),
        ((HERE,), "portal.example.com has no address that can be behind a gateway"),
        (None, "portal.example.com cannot be looked up: nobody knows"),
    ],
)
def test_names(monkeypatch: pytest.MonkeyPatch, addresses: tuple[object, ...] | None, said: str) -> None:
    """They are asked of the tunnel's servers by the tunnel's link; an answer that is this machine leads nowhere."""
    seen = []

    def answer(asked: LookUp, prepare: lookup.Prepare) -> object:
        with socket.socket() as new:
            prepare(new)
            seen.append((asked, new.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0")))
        return Unanswered(asked, "nobody knows") if addresses is None else LookedUp(asked, addresses, HERE)  # type: ignore[arg-type]

    monkeypatch.setattr(lookup, "look_up", answer)
    server = ip_address("10.8.0.53")
    inquiry = VisitPage(LO, "lo", "path", Page(Scheme.HTTP, "portal.example.com", 80), (server,))
    assert page.visit(inquiry) == Unanswered(inquiry, said)
    assert seen == [(LookUp("portal.example.com", LO, "lo", (server,)), b"lo")]


def test_the_next_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first one refuses, the next one is asked."""
    addresses = (ip_address("127.0.0.2"), HERE)
    monkeypatch.setattr(lookup, "look_up", lambda asked, _prepare: LookedUp(asked, addresses, HERE))
    monkeypatch.setattr(page, "unfit", lambda _addr: None)
    with served(says(b"HTTP/1.1 511 N\r\n\r\n")) as inquiry:
        asked = VisitPage(LO, "lo", "path", Page(Scheme.HTTP, "portal.example.com", inquiry.page.port), (HERE,))
        assert page.visit(asked) == Visited(asked, str(asked.page))

# SPDX-License-Identifier: GPL-3.0-or-later
"""Our own look-ups: what is believed of an answer, and what is done with a resolver that gives none.

The resolver here is a few lines on this machine's loopback, and answers with what dnspython makes of a zone's text.
"""

import contextlib
import itertools
import socket
import socketserver
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Final

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aovpnd.adapters import lookup
from aovpnd.inquiries import Finding, LookedUp, LookUp, Unanswered

VPN: Final = "vpn.example.org"
HERE: Final = IPv4Address("127.0.0.1")
GATEWAY, GATEWAY6 = ip_address("192.0.2.1"), ip_address("2001:db8:e::1")
ZONE: Final = (f"{VPN}. 60 IN A 192.0.2.1", f"{VPN}. 60 IN AAAA 2001:db8:e::1")

Answer = Callable[[dns.message.Message, bool], list[bytes]]


def answer(asked: dns.message.Message, *records: str, rcode: str = "NOERROR") -> dns.message.Message:
    """An answer with those records that were asked for, and aliases."""
    made = dns.message.make_response(asked)
    made.set_rcode(dns.rcode.from_text(rcode))
    kind = dns.rdatatype.to_text(asked.question[0].rdtype)
    for record in records:
        name, ttl, _, rtype, *data = record.split()
        if rtype in {kind, "CNAME"}:
            made.answer.append(dns.rrset.from_text(name, int(ttl), "IN", rtype, " ".join(data)))
    return made


def truth(asked: dns.message.Message, _: bool) -> list[bytes]:
    """What a resolver should say."""
    return [answer(asked, *ZONE).to_wire()]


@dataclass
class Resolver:
    """A resolver by UDP and TCP on one port; ``answer`` gets the question and whether it came by TCP."""

    answer: Answer = truth
    heard: list[tuple[str, str]] = field(default_factory=list)
    """Protocol and question, in text."""
    port: int = 0

    @contextmanager
    def running(self, context: ssl.SSLContext | None = None) -> Iterator["Resolver"]:
        """Answer, by TLS where there is a context, until the block is left."""
        resolver = self

        class ByDatagram(socketserver.DatagramRequestHandler):
            def handle(self) -> None:
                for wire in resolver.hear("udp", self.packet):
                    self.socket.sendto(wire, self.client_address)

        class ByStream(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    plain: socket.socket = self.request
                    stream = context.wrap_socket(plain, server_side=True) if context is not None else plain
                    with stream:
                        while len(head := stream.recv(2)) == 2:
                            for wire in resolver.hear("tcp", stream.recv(struct.unpack("!H", head)[0])):
                                stream.sendall(struct.pack("!H", len(wire)) + wire)

        with socketserver.ThreadingTCPServer((str(HERE), 0), ByStream) as tcp:
            self.port = tcp.server_address[1]
            with socketserver.UDPServer((str(HERE), self.port), ByDatagram) as udp:
                for server in (tcp, udp):
                    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
                yield self
                for server in (tcp, udp):
                    server.shutdown()

    def hear(self, protocol: str, wire: bytes) -> list[bytes]:
        """Remember a question; what is said to it."""
        asked = dns.message.from_wire(wire)
        self.heard.append((protocol, asked.question[0].to_text()))
        return self.answer(asked, protocol == "tcp")

    def ask(self, *, tls_name: str = "", resolvers: tuple[IPv4Address, ...] = (HERE,)) -> Finding:
        """Look the gateway up here."""
        return lookup.look_up(LookUp(VPN, 1, "lo", resolvers, tls_name), lambda _: None, port=self.port)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the time, so that silence is heard sooner."""
    for name in ("ANSWER_S", "RESEND_S", "GRACE_S"):
        monkeypatch.setattr(lookup, name, getattr(lookup, name) / 10)


def found(finding: Finding) -> tuple[str, ...]:
    """The addresses of an answer."""
    assert isinstance(finding, LookedUp), finding
    return tuple(map(str, finding.addresses))


def failed(finding: Finding) -> str:
    """Why there is none."""
    assert isinstance(finding, Unanswered), finding
    return finding.text


def test_asks_for_both_families_and_nothing_else() -> None:
    """One question for each family, for just this name; no search domain, no other name."""
    with Resolver().running() as resolver:
        finding = resolver.ask()

    assert found(finding) == (str(GATEWAY), str(GATEWAY6))
    assert sorted(resolver.heard) == [("udp", f"{VPN}. IN A"), ("udp", f"{VPN}. IN AAAA")]


def liar(make: Callable[[dns.message.Message], list[bytes]]) -> Answer:
    """What is not believed, and then the truth."""
    return lambda asked, by_tcp: [*make(asked), *truth(asked, by_tcp)]


def _other(asked: dns.message.Message, **changes: object) -> bytes:
    made = answer(asked, f"{VPN}. 60 IN A 198.51.100.66", f"{VPN}. 60 IN AAAA 2001:db8:66::66")
    for name, value in changes.items():
        setattr(made, name, value)
    return made.to_wire()


NOISE: Final[dict[str, Callable[[dns.message.Message], list[bytes]]]] = {
    "other number": lambda asked: [_other(asked, id=asked.id ^ 1)],
    "other name": lambda asked: [
        answer(dns.message.make_query("vpn.example.com.", asked.question[0].rdtype, id=asked.id)).to_wire()
    ],
    "other type": lambda asked: [answer(dns.message.make_query(f"{VPN}.", "MX", id=asked.id)).to_wire()],
    "no question": lambda asked: [asked.id.to_bytes(2, "big") + b"\x81\x80" + b"\0" * 8],
    "a question": lambda asked: [asked.to_wire()],
    "an update": lambda asked: [asked.id.to_bytes(2, "big") + b"\xa8\x00" + b"\0" * 8],
    "cut short": lambda asked: [_other(asked)[:-3]],
    "noise": lambda _: [b"", b"\0", b"\xff" * 300],
    "a loop of pointers": lambda asked: [asked.to_wire()[:2] + b"\x81\x80\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1"],
}


@pytest.mark.parametrize("name", NOISE)
def test_what_does_not_match_is_no_answer(name: str) -> None:
    """Whoever guesses, or sends noise, is not heard; the right answer behind it is."""
    with Resolver(liar(NOISE[name])).running() as resolver:
        assert found(resolver.ask()) == (str(GATEWAY), str(GATEWAY6))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("NXDOMAIN", "says that the name does not exist"),
        ("SERVFAIL", "answers SERVFAIL"),
        ("REFUSED", "answers REFUSED"),
    ],
)
def test_refusals(said: str, expected: str) -> None:
    """A resolver that cannot or will not is named, with what it said; its records are not believed."""
    with Resolver(lambda asked, _: [answer(asked, *ZONE, rcode=said).to_wire()]).running() as resolver:
        assert failed(resolver.ask()) == f"127.0.0.1 {expected}"


@pytest.mark.usefixtures("impatient")
def test_silence() -> None:
    """A question is repeated, and given up in time; the one who was silent is named."""
    with Resolver(lambda *_: []).running() as resolver:
        assert failed(resolver.ask()) == "127.0.0.1 does not answer"

    assert len(resolver.heard) > 4


def test_nobody_there() -> None:
    """A resolver that is not there says so by itself, and no resolver at all is said as well."""
    with Resolver().running() as resolver:
        pass

    assert failed(resolver.ask()) == "127.0.0.1 cannot be asked: Connection refused"
    assert failed(resolver.ask(resolvers=())) == "there is no resolver"


def test_resolvers_in_turn() -> None:
    """When one does not know, the next one is asked; the answer names who gave it."""
    with Resolver().running() as resolver:
        finding = resolver.ask(resolvers=(IPv4Address("127.0.0.2"), HERE))

    assert found(finding) == (str(GATEWAY), str(GATEWAY6))
    assert isinstance(finding, LookedUp)
    assert finding.resolver == HERE


@pytest.mark.parametrize("kind", ["A", "AAAA"])
def test_one_family_is_enough(kind: str) -> None:
    """A resolver that is silent about one family, as broken ones are, costs a moment and not the answer."""

    def half(asked: dns.message.Message, by_tcp: bool) -> list[bytes]:
        return truth(asked, by_tcp) if dns.rdatatype.to_text(asked.question[0].rdtype) == kind else []

    with Resolver(half).running() as resolver:
        assert found(resolver.ask()) == ((str(GATEWAY),) if kind == "A" else (str(GATEWAY6),))


def test_no_address() -> None:
    """A name without addresses is an answer."""
    with Resolver(lambda asked, _: [answer(asked).to_wire()]).running() as resolver:
        assert found(resolver.ask()) == ()


def cut(asked: dns.message.Message, by_tcp: bool) -> list[bytes]:
    """Too long for a datagram."""
    made = answer(asked, *ZONE)
    if not by_tcp:
        made.flags |= dns.flags.TC
    return [made.to_wire()]


def test_truncated() -> None:
    """What does not fit into a datagram is asked for by TCP, and what did fit is not believed."""
    with Resolver(cut).running() as resolver:
        assert found(resolver.ask()) == (str(GATEWAY), str(GATEWAY6))

    assert {protocol for protocol, _ in resolver.heard} == {"udp", "tcp"}


def test_truncated_in_the_middle_of_a_record() -> None:
    """Some cut where it falls."""
    with Resolver(lambda asked, by_tcp: [wire if by_tcp else wire[:-3] for wire in cut(asked, by_tcp)]).running() as it:
        assert found(it.ask()) == (str(GATEWAY), str(GATEWAY6))


@pytest.mark.parametrize(
    ("by_stream", "expected"),
    [
        (lambda asked: [_other(asked, id=asked.id ^ 1)], "answers what was not asked"),
        (lambda _: [b"\0" * 20000], "answers with 20000 bytes, which is no answer"),
    ],
)
def test_streams_are_not_believed_either(
    by_stream: Callable[[dns.message.Message], list[bytes]], expected: str
) -> None:
    """By TCP as well: number, question and size."""

    def resolve(asked: dns.message.Message, by_tcp: bool) -> list[bytes]:
        return by_stream(asked) if by_tcp else cut(asked, by_tcp)

    with Resolver(resolve).running() as resolver:
        assert failed(resolver.ask()) == f"127.0.0.1 {expected}"


@pytest.mark.usefixtures("impatient")
def test_silent_streams() -> None:
    """By TCP as well: who says nothing is given up, and named."""
    with Resolver(lambda asked, by_tcp: [] if by_tcp else cut(asked, by_tcp)).running() as resolver:
        assert failed(resolver.ask()) == "127.0.0.1 does not answer"


def alias(count: int) -> tuple[str, ...]:
    """A chain of so many aliases, and the address at its end."""
    names = [VPN, *(f"a{number}.example.org" for number in range(count))]
    links = [f"{one}. 60 IN CNAME {two}." for one, two in itertools.pairwise(names)]
    return (*links, f"{names[-1]}. 60 IN A 192.0.2.1")


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        pytest.param(alias(1), ("192.0.2.1",), id="an alias"),
        pytest.param(alias(8), ("192.0.2.1",), id="eight aliases"),
        pytest.param(("b.example.org. 60 IN A 192.0.2.1",), (), id="somebody else's address"),
        pytest.param((f"{VPN}. 60 IN CNAME b.example.org.",), (), id="an alias to nowhere"),
        pytest.param(
            (f"{VPN}. 60 IN A 192.0.2.1", "b.example.org. 60 IN A 192.0.2.2"), ("192.0.2.1",), id="one of two names"
        ),
    ],
)
def test_aliases(records: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """Aliases are followed within the answer, and nobody else is asked."""
    with Resolver(lambda asked, _: [answer(asked, *records).to_wire()]).running() as resolver:
        assert found(resolver.ask()) == expected

    assert {question for _, question in resolver.heard} == {f"{VPN}. IN A", f"{VPN}. IN AAAA"}


@pytest.mark.parametrize("records", [alias(9), (f"{VPN}. 60 IN CNAME {VPN}.",)], ids=["nine", "a circle"])
def test_aliases_without_end(records: tuple[str, ...]) -> None:
    """A chain that is too long ends the patience, not the memory."""
    with Resolver(lambda asked, _: [answer(asked, *records).to_wire()]).running() as resolver:
        assert failed(resolver.ask()) == "127.0.0.1 answers with a chain of aliases that does not end"


def test_many_addresses() -> None:
    """More than anybody tries are cut off."""
    records = tuple(f"{VPN}. 60 IN A 192.0.2.{number}" for number in range(1, 60))
    with Resolver(lambda asked, _: [answer(asked, *records).to_wire()]).running() as resolver:
        assert len(found(resolver.ask())) == lookup.MOST_ADDRESSES


@given(st.binary(max_size=600))
def test_any_bytes(wire: bytes) -> None:
    """Whatever comes, it is an answer to this question, or nothing; it raises nothing."""
    asked = lookup.question(VPN, dns.rdatatype.A)
    for data in (wire, asked.to_wire()[:12] + wire, answer(asked).to_wire()[:-2] + wire):
        matched = lookup.matching(data, asked)
        assert matched is None or matched.question == asked.question


def test_numbers_are_not_guessed() -> None:
    """Each question has its own number, of all there are."""
    numbers = [lookup.question(VPN, dns.rdatatype.A).id for _ in range(300)]

    assert len(set(numbers)) > 290
    assert max(numbers) > 60000
    assert min(numbers) < 5000


# -- TLS ---------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for dns.example, its own authority, with its key in the same file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=dns.example", "-addext", "subjectAltName=DNS:dns.example"]
    subprocess.run([*command, "-keyout", str(path), "-out", f"{path}.crt"], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@pytest.fixture
def context(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server that has it, on a machine that trusts it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setattr(lookup, "ANSWER_S", 5.0)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate)
    return made


def test_over_tls(context: ssl.SSLContext) -> None:
    """Both questions by one connection, nothing by datagram, padded so that the length does not tell the name."""
    with Resolver().running(context) as resolver:
        assert found(resolver.ask(tls_name="dns.example")) == (str(GATEWAY), str(GATEWAY6))

    assert [protocol for protocol, _ in resolver.heard] == ["tcp", "tcp"]


def test_certificate_of_another_name(context: ssl.SSLContext) -> None:
    """Whoever stands in between has a certificate, but not of this name: nothing is asked."""
    with Resolver().running(context) as resolver:
        text = failed(resolver.ask(tls_name="dns.other"))

    assert text.startswith("127.0.0.1 does not prove to be dns.other: ")
    assert resolver.heard == []


def test_certificate_of_a_stranger(context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that no authority of the system has signed."""
    monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
    with Resolver().running(context) as resolver:
        text = failed(resolver.ask(tls_name="dns.example"))

    assert text.startswith("127.0.0.1 does not prove to be dns.example: ")
    assert resolver.heard == []


def test_no_tls_there() -> None:
    """A resolver that speaks in clear where it should not is not asked in clear."""
    with Resolver().running() as resolver:
        assert "cannot be asked" in failed(resolver.ask(tls_name="dns.example")) or not resolver.heard

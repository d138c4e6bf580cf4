# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking a name up ourselves: over one link, with our mark, of the resolvers that we are told, and of nobody else.

Never through the C library, whose resolvers, search domains, caches and plugins are the machine's. dnspython makes and
reads the messages; the sockets are our own, so that mark and link are on them before the first packet.

What comes back is hostile until it fits: from the address that was asked, with our number and our question, of bounded
size, its aliases followed within this one answer and only so far.
"""

import secrets
import selectors
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from aovpnd import names
from aovpnd.inquiries import Finding, LookedUp, LookUp, Unanswered
from aovpnd.ruleset import Address

ANSWER_S: Final = 6.0
"""For everything; the permit of the question ends soon after (core.lookups.OPEN_S)."""
RESEND_S: Final = 1.0
"""A datagram that is lost is sent anew after this long."""
GRACE_S: Final = 0.5
"""How long the other family's answer is waited for when one is there (RFC 8305 section 3 waits less, for a browser)."""
PAYLOAD: Final = 1232
"""Bytes of a datagram that no network cuts into pieces (DNS flag day 2020)."""
LARGEST: Final = 16384
"""Bytes of an answer by TCP: a gateway with more addresses than that is none."""
MOST_ALIASES: Final = 8
MOST_ADDRESSES: Final = 32
DNS_PORT, TLS_PORT = 53, 853
_KINDS: Final = (dns.rdatatype.A, dns.rdatatype.AAAA)

Prepare = Callable[[socket.socket], None]
"""What is done to a socket before it sends anything."""


class RefusedError(Exception):
    """A resolver that answered, and not what was asked; the text is for people."""


def look_up(inquiry: LookUp, prepare: Prepare | None = None, *, port: int | None = None) -> Finding:
    """Ask the resolvers in turn, for both families at once, until one of them has an address; within `ANSWER_S`.

    ``prepare`` and ``port`` are for tests; otherwise a socket is bound to the link and marked, which takes
    CAP_NET_ADMIN.
    """
    prepare = prepare or _Outside(inquiry.link_name)
    until = time.monotonic() + ANSWER_S
    said = []
    for number, resolver in enumerate(inquiry.resolvers):
        now = time.monotonic()
        share = (until - now) / (len(inquiry.resolvers) - number)
        asking = _Asking(inquiry, resolver, prepare, now + share, port)
        try:
            addresses = asking.over_tls() if inquiry.tls_name else asking.in_clear()
        except RefusedError as refused:
            said.append(f"{resolver} {refused}")
        except ssl.SSLCertVerificationError as error:
            said.append(f"{resolver} does not prove to be {inquiry.tls_name}: {error.verify_message}")
        except TimeoutError:
            said.append(f"{resolver} does not answer")
        except OSError as error:  # ssl.SSLError is one as well
            said.append(f"{resolver} cannot be asked: {error.strerror or type(error).__name__}")
        else:
            return LookedUp(inquiry, addresses, resolver)
    return Unanswered(inquiry, "; ".join(said) or "there is no resolver")


@dataclass(frozen=True, slots=True)
class _Outside:
    """Ties a socket to one link, and gives it the mark that lets it past our own route table."""

    link_name: str

    def __call__(self, new: socket.socket) -> None:
        new.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.link_name.encode() + b"\0")
        new.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, names.FWMARK)


@dataclass(slots=True)
class _Asking:
    """One resolver being asked, until a moment of time.monotonic()."""

    inquiry: LookUp
    resolver: Address
    prepare: Prepare
    until: float
    port: int | None
    answers: dict[dns.rdatatype.RdataType, tuple[Address, ...]] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)

    def result(self) -> tuple[Address, ...]:
        """Both families' addresses; `RefusedError` when there is none, with the reason of whoever gave one."""
        found = tuple(address for kind in _KINDS for address in self.answers.get(kind, ()))
        if not found and self.refusals:
            raise RefusedError(self.refusals[0])
        if not found and len(self.answers) < len(_KINDS):
            raise TimeoutError
        return found[:MOST_ADDRESSES]

    def take(self, kind: dns.rdatatype.RdataType, answer: dns.message.Message) -> None:
        """Keep what an answer says of one family."""
        try:
            self.answers[kind] = addresses(answer, self.inquiry.host, kind)
        except RefusedError as refused:
            self.answers[kind] = ()
            self.refusals.append(str(refused))

    # -- by datagram --------------------------------------------------------------------------------------------------
    def in_clear(self) -> tuple[Address, ...]:
        """By UDP, one socket for each family, and by TCP what does not fit (RFC 7766)."""
        questions = {kind: question(self.inquiry.host, kind) for kind in _KINDS}
        with selectors.DefaultSelector() as selector:
            sockets = {kind: self._socket(socket.SOCK_DGRAM) for kind in _KINDS}
            try:
                for kind, new in sockets.items():
                    new.connect(self._to(DNS_PORT))
                    new.settimeout(0)
                    selector.register(new, selectors.EVENT_READ, kind)
                self._exchange(selector, sockets, questions)
            finally:
                for new in sockets.values():
                    new.close()
        return self.result()

    def _exchange(
        self,
        selector: selectors.BaseSelector,
        sockets: dict[dns.rdatatype.RdataType, socket.socket],
        questions: dict[dns.rdatatype.RdataType, dns.message.Message],
    ) -> None:
        send_at = 0.0
        while len(self.answers) < len(_KINDS) and (now := time.monotonic()) < self.until:
            if now >= send_at:
                for kind in questions.keys() - self.answers.keys():
                    sockets[kind].send(questions[kind].to_wire())
                send_at = now + RESEND_S
            for key, _ in selector.select(max(min(send_at, self.until) - now, 0)):
                kind = key.data
                try:
                    answer = matching(sockets[kind].recv(PAYLOAD + 1), questions[kind])
                except BlockingIOError:  # the kernel has thrown away what it announced
                    continue
                if answer is None or kind in self.answers:
                    continue  # somebody else's, or a late one: the right one may still come
                if answer.flags & dns.flags.TC:
                    answer = self._by_stream(questions[kind], self._connected(DNS_PORT))
                self.take(kind, answer)
                if self.answers[kind]:
                    self.until = min(self.until, time.monotonic() + GRACE_S)

    # -- by stream ----------------------------------------------------------------------------------------------------
    def over_tls(self) -> tuple[Address, ...]:
        """By TLS, the certificate's name checked against the system's authorities (RFC 7858, RFC 8310 section 8.1)."""
        context = ssl.create_default_context()
        plain = self._connected(TLS_PORT)
        try:
            with context.wrap_socket(plain, server_hostname=self.inquiry.tls_name) as stream:
                for kind in _KINDS:
                    asked = question(self.inquiry.host, kind)
                    asked.use_edns(0, payload=PAYLOAD, options=[dns.edns.GenericOption(_PADDING, b"\0" * 64)])
                    self.take(kind, self._ask(stream, asked))
        finally:
            plain.close()
        return self.result()

    def _by_stream(self, asked: dns.message.Message, stream: socket.socket) -> dns.message.Message:
        with stream:
            return self._ask(stream, asked)

    def _ask(self, stream: socket.socket, asked: dns.message.Message) -> dns.message.Message:
        wire = asked.to_wire()
        self._patient(stream).sendall(struct.pack("!H", len(wire)) + wire)
        (length,) = struct.unpack("!H", self._read(stream, 2))
        if length > LARGEST:
            raise RefusedError(f"answers with {length} bytes, which is no answer")
        answer = matching(self._read(stream, length), asked)
        if answer is None:
            raise RefusedError("answers what was not asked")
        return answer

    def _read(self, stream: socket.socket, length: int) -> bytes:
        data = b""
        while len(data) < length:
            more = self._patient(stream).recv(length - len(data))
            if not more:
                raise RefusedError("ends the connection without an answer")
            data += more
        return data

    def _patient(self, stream: socket.socket) -> socket.socket:
        """The same socket, given all the time that is left; `TimeoutError` when there is none."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        stream.settimeout(left)
        return stream

    # -- sockets ------------------------------------------------------------------------------------------------------
    def _socket(self, kind: socket.SocketKind) -> socket.socket:
        family = socket.AF_INET if isinstance(self.resolver, IPv4Address) else socket.AF_INET6
        new = socket.socket(family, kind | socket.SOCK_CLOEXEC)
        try:
            self.prepare(new)
        except OSError:
            new.close()
            raise
        return new

    def _connected(self, port: int) -> socket.socket:
        stream = self._socket(socket.SOCK_STREAM)
        try:
            self._patient(stream).connect(self._to(port))
        except OSError:
            stream.close()
            raise
        return stream

    def _to(self, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
        port = self.port or port
        if isinstance(self.resolver, IPv4Address):
            return str(self.resolver), port
        return str(self.resolver), port, 0, self.inquiry.link if self.resolver.is_link_local else 0


_PADDING: Final = dns.edns.OptionType(12)
"""EDNS option (RFC 7830): the length of the question must not tell the name."""


# -- messages ----------------------------------------------------------------------------------------------------------
def question(host: str, kind: dns.rdatatype.RdataType) -> dns.message.Message:
    """A question with a number that nobody guesses; no EDNS in clear, which old resolvers refuse, and 512 bytes do."""
    asked = dns.message.make_query(dns.name.from_text(host + "."), kind)
    asked.id = secrets.randbelow(1 << 16)
    return asked


def matching(wire: bytes, asked: dns.message.Message) -> dns.message.Message | None:
    """The answer to this question; None for anything else, which is somebody's guess, or noise."""
    if len(wire) > LARGEST:
        return None
    try:
        answer = dns.message.from_wire(wire, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError):
        # A header with TC may come without whole records behind it (RFC 2181 section 9).
        return _truncated(wire, asked)
    return answer if asked.is_response(answer) and answer.question == asked.question else None


def _truncated(wire: bytes, asked: dns.message.Message) -> dns.message.Message | None:
    try:
        answer = dns.message.from_wire(wire, raise_on_truncation=False, question_only=True)
    except (dns.exception.DNSException, ValueError):
        return None
    is_cut = bool(answer.flags & dns.flags.TC) and answer.question == asked.question
    return answer if is_cut and asked.id == answer.id and answer.flags & dns.flags.QR else None


def addresses(answer: dns.message.Message, host: str, kind: dns.rdatatype.RdataType) -> tuple[Address, ...]:
    """The addresses of one family that an answer gives to ``host``, aliases followed; none when it has none.

    `RefusedError` when the resolver could not or would not say, or says that there is no such name.
    """
    if answer.rcode() != dns.rcode.NOERROR:
        word = dns.rcode.to_text(answer.rcode())
        known = "says that the name does not exist" if word == "NXDOMAIN" else f"answers {word}"
        raise RefusedError(known)
    name = dns.name.from_text(host + ".")
    for _ in range(MOST_ALIASES + 1):
        found = answer.get_rrset(answer.answer, name, dns.rdataclass.IN, kind)
        if found is not None:
            return tuple(_parsed(record.to_text() for record in found))
        alias = answer.get_rrset(answer.answer, name, dns.rdataclass.IN, dns.rdatatype.CNAME)
        if alias is None:
            return ()
        name = alias[0].target
    raise RefusedError("answers with a chain of aliases that does not end")


def _parsed(texts: Iterable[str]) -> Iterable[IPv4Address | IPv6Address]:
    return (ip_address(text) for text in texts)

# SPDX-License-Identifier: GPL-3.0-or-later
"""A probe through the tunnel: does anything behind the gateway answer? A handful of small packets, by the tunnel's link
alone, and only when somebody asks.

By TCP any answer of the target's own counts, a refusal too. By DNS any answer but SERVFAIL does, to a name that no
cache can know: a resolver on the gateway whose own way is dead would otherwise answer from memory.
"""

import errno
import secrets
import selectors
import socket
import struct
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from aovpnd.adapters.bound import opened
from aovpnd.inquiries import Finding, ProbeTunnel, Reached, Unanswered
from aovpnd.ruleset import Address
from aovpnd.tunnel import Endpoint

DEADLINE_S: Final = 3.0
"""A satellite needs 0.7 s there and back; TCP sends a second time after 1 s."""
RESEND_S: Final = 1.0
MOST: Final = 4
"""Targets that are asked at the same time."""
DNS_PORT: Final = 53
_ANSWER: Final = 0x8000
_SERVFAIL: Final = 2
_QUESTION: Final = struct.Struct("!HHHHHH")
_DOMAIN: Final = b"\x07example\x03com\x00"
"""RFC 2606; a name below it, chosen at random, exists nowhere."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """One target that was asked; ``query`` None for a connection."""

    sock: socket.socket
    query: bytes | None = None


def probe(inquiry: ProbeTunnel) -> Finding:
    """Ask all targets at once until one answers; ends within `DEADLINE_S`. Never raises for what the network does."""
    until = time.monotonic() + DEADLINE_S
    with ExitStack() as stack, selectors.DefaultSelector() as waiting:
        for target in (*inquiry.targets[:MOST], *inquiry.resolvers[:MOST]):
            try:
                asked = _connect(inquiry, target) if isinstance(target, Endpoint) else _ask(inquiry, target)
            except OSError:
                continue  # no address or no route of this family in the tunnel: that target says nothing
            stack.enter_context(asked.sock)
            waiting.register(asked.sock, selectors.EVENT_WRITE if asked.query is None else selectors.EVENT_READ, asked)
        if _listen(waiting, until):
            return Reached(inquiry)
    return Unanswered(inquiry, f"nothing behind {inquiry.link_name} answers")


def _connect(inquiry: ProbeTunnel, target: Endpoint) -> _Asked:
    sock = opened(inquiry.link, inquiry.link_name, target.addr, socket.SOCK_STREAM)
    code = sock.connect_ex((str(target.addr), target.port))
    if code not in {0, errno.EINPROGRESS}:
        sock.close()
        raise OSError(code, "cannot connect")
    return _Asked(sock)


def _ask(inquiry: ProbeTunnel, resolver: Address) -> _Asked:
    sock = opened(inquiry.link, inquiry.link_name, resolver, socket.SOCK_DGRAM)
    try:
        sock.connect((str(resolver), DNS_PORT))  # so that answers of nobody else are heard
        query = question(secrets.token_bytes(2), secrets.token_hex(8))
        sock.send(query)
    except BaseException:
        sock.close()
        raise
    return _Asked(sock, query)


def question(number: bytes, label: str) -> bytes:
    """A query for the A record of ``label`` below example.com (RFC 1035 section 4); recursion is desired."""
    name = bytes((len(label),)) + label.encode("ascii") + _DOMAIN
    return number + _QUESTION.pack(0, 0x0100, 1, 0, 0, 0)[2:] + name + struct.pack("!HH", 1, 1)


def is_answer(query: bytes, answer: bytes) -> bool:
    """Whether this is an answer to that query from a resolver that has a way to somewhere."""
    if (
        len(answer) < max(len(query), _QUESTION.size)
        or answer[:2] != query[:2]
        or answer[12 : len(query)] != query[12:]
    ):
        return False
    (flags,) = struct.unpack_from("!H", answer, 2)
    return bool(flags & _ANSWER) and flags & 0xF != _SERVFAIL


def _listen(waiting: selectors.BaseSelector, until: float) -> bool:
    """Wait for the first answer; datagrams are sent anew now and then."""
    resend_at = time.monotonic() + RESEND_S
    while waiting.get_map():
        now = time.monotonic()
        if now >= until:
            return False
        for key, _ in waiting.select(min(until, resend_at) - now):
            asked: _Asked = key.data
            verdict = _connected(asked.sock) if asked.query is None else _answered(asked.sock, asked.query)
            if verdict is not None:
                waiting.unregister(asked.sock)
                if verdict:
                    return True
        if time.monotonic() >= resend_at:
            resend_at += RESEND_S
            _resend(waiting)
    return False


def _connected(sock: socket.socket) -> bool:
    """A connection, or the target's own refusal, is an answer; a router's error is none."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in {0, errno.ECONNREFUSED}


def _answered(sock: socket.socket, query: bytes) -> bool | None:
    """None: go on waiting."""
    try:
        return is_answer(query, sock.recv(512)) or None
    except OSError:
        return None  # an ICMP error on the way: the next try may fare better


def _resend(waiting: selectors.BaseSelector) -> None:
    for asked in [key.data for key in waiting.get_map().values()]:
        if asked.query is not None:
            try:
                asked.sock.send(asked.query)
            except OSError:
                continue

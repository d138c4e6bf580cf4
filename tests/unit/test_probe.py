# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe's own look-up, and what counts as an answer to it."""

import struct
from ipaddress import ip_address
from typing import Final

import pytest

from aovpnd.adapters.probe import is_answer, probe, question
from aovpnd.inquiries import ProbeTunnel, Unanswered

QUERY: Final = question(b"\xab\xcd", "0123456789abcdef")
BODY: Final = QUERY[12:]


def answer(flags: int, *, number: bytes = b"\xab\xcd", body: bytes = BODY) -> bytes:
    """An answer without records."""
    return number + struct.pack("!HHHHH", flags, 1, 0, 0, 0) + body


def test_question() -> None:
    """RFC 1035: one question, recursion desired, a name below example.com, class IN, type A."""
    assert QUERY == (
        b"\xab\xcd\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x100123456789abcdef\x07example\x03com\x00\x00\x01\x00\x01"
    )


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        pytest.param(answer(0x8183), True, id="there is no such name: somebody knows that"),
        pytest.param(answer(0x8180), True, id="an answer"),
        pytest.param(answer(0x8185), True, id="refused: there is somebody"),
        pytest.param(answer(0x8182), False, id="SERVFAIL: the resolver has no way on either"),
        pytest.param(answer(0x0100), False, id="the question itself, sent back"),
        pytest.param(answer(0x8183, number=b"\xab\xce"), False, id="another number"),
        pytest.param(answer(0x8183, body=BODY.replace(b"0123", b"9999")), False, id="another name"),
        pytest.param(answer(0x8183)[:20], False, id="cut off"),
        pytest.param(b"", False, id="nothing"),
    ],
)
def test_what_counts_as_an_answer(said: bytes, *, counts: bool) -> None:
    """Only an answer to this very question, from a resolver that has a way to somewhere."""
    assert is_answer(QUERY, said) is counts


def test_a_link_that_is_gone_answers_nothing() -> None:
    """The probe of a link that is not there, or has another index now, ends at once and sends nothing."""
    for link, name in ((9999, "aovpn77"), (9999, "lo")):
        inquiry = ProbeTunnel(link, name, "path", resolvers=(ip_address("127.0.0.1"), ip_address("::1")))

        assert probe(inquiry) == Unanswered(inquiry, f"nothing behind {name} answers")

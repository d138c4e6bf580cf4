# SPDX-License-Identifier: GPL-3.0-or-later
"""The measurement's packets and rounds, without a network: what is sent, and whose answer counts."""

import socket
from ipaddress import ip_address
from typing import Final

import pytest

from aovpnd.adapters import pathmtu
from aovpnd.errors import SystemFault
from aovpnd.inquiries import MeasurePath

SIZES: Final = (1420, 1408, 800, 576)
TOKEN: Final = bytes(range(8))


@pytest.mark.parametrize("room", [60, 548, 1392])
def test_a_query_has_its_size(room: int) -> None:
    """A question for the root's name servers with an OPT record that is padded (RFC 6891, RFC 7830)."""
    query = pathmtu.query(TOKEN, 2, room)

    assert len(query) == room
    assert query[:12] == b"\x00\x03\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01"
    assert query[12:17] == b"\x00\x00\x02\x00\x01"
    assert query[17:20] == b"\x00\x00\x29"
    assert int.from_bytes(query[26:28], "big") == room - 28
    assert query[28:30] == b"\x00\x0c"
    assert int.from_bytes(query[30:32], "big") == room - 32


@pytest.mark.parametrize(
    ("number", "is_echo", "has_echo", "sizes"),
    [
        (0, True, False, (1420,)),
        (0, False, False, (1420,)),
        (1, True, False, (1420, 576)),
        (1, False, False, ()),
        (2, True, True, SIZES),
        (2, False, True, ()),
        (2, True, False, ()),
        (2, False, False, SIZES),
        (3, True, True, SIZES),
    ],
)
def test_rounds(number: int, sizes: tuple[int, ...], *, is_echo: bool, has_echo: bool) -> None:
    """A healthy path costs one packet of full size in each way; queries step in where nobody answers echoes."""
    assert pathmtu._tries(number, SIZES, is_echo=is_echo, has_echo=has_echo) == sizes  # noqa: SLF001


@pytest.mark.parametrize(
    ("version", "is_echo", "answer", "number"),
    [
        pytest.param(4, True, b"\0\0\x12\x34\0\7\0\2" + TOKEN + bytes(9), 2, id="an echo"),
        pytest.param(6, True, b"\x81\0\x12\x34\0\7\0\2" + TOKEN, 2, id="IPv6's echo"),
        pytest.param(4, True, b"\x08\0\x12\x34\0\7\0\2" + TOKEN, -1, id="a request"),
        pytest.param(4, True, b"\0\0\x12\x34\0\7\0\2" + bytes(8), -1, id="of somebody else"),
        pytest.param(4, True, b"\0\0\x12\x34", -1, id="cut short"),
        pytest.param(4, False, b"\0\3\x81\x80" + bytes(8), 2, id="an answer"),
        pytest.param(4, False, b"\0\3\x01\x00" + bytes(8), -1, id="a question"),
        pytest.param(4, False, b"\0\3\x81", -1, id="an answer cut short"),
        pytest.param(4, False, b"\0\0\x81\x80" + bytes(8), 65535, id="an answer to no question of ours"),
    ],
)
def test_whose_answer_counts(version: int, answer: bytes, number: int, *, is_echo: bool) -> None:
    """Only an echo with our token, and an answer to a query of ours; which of the sizes it was."""
    with socket.socket() as sock:
        probe = pathmtu._Probe(sock, version, is_echo, TOKEN)  # noqa: SLF001
        assert pathmtu._number(probe, answer) == number  # noqa: SLF001


def test_a_link_of_another_index() -> None:
    """Whoever has taken the name of our link is asked nothing."""
    with pytest.raises(SystemFault, match="another link has taken the name"):
        pathmtu.measure(MeasurePath(4711, "lo", "path", (ip_address("127.0.0.1"),), SIZES))


def test_a_link_that_is_gone() -> None:
    """It is an answer, not a defect."""
    with pytest.raises(SystemFault):
        pathmtu.measure(MeasurePath(4711, "aovpn77", "path", (ip_address("127.0.0.1"),), SIZES))


def test_what_the_kernel_knows() -> None:
    """The way to ourselves carries what the loopback does, where we may mark; nothing leads to nowhere."""
    assert pathmtu.known_to_kernel(ip_address("127.0.0.1")) in {None, 65535, 65536}
    assert pathmtu.known_to_kernel(ip_address("255.255.255.255")) is None

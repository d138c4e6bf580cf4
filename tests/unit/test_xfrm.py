# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel's IPsec has (aovpnd/xfrm.py), read off messages as the kernel sends them."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from unittest.mock import patch

import pytest

from aovpnd import rtnl, xfrm
from aovpnd.errors import NetlinkError

SPI: Final = 0xC1234567
LINK: Final = 42
IF_ID: Final = 31
OUT, IN = 1, 0


def sa(spi: int) -> bytes:
    """Struct xfrm_usersa_info: selector, destination, SPI, protocol, and the rest."""
    return bytes(56) + bytes(16) + struct.pack("!I", spi) + bytes([50, 0, 0, 0]) + bytes(224 - 80)


def policy(direction: int, interface: int | None) -> bytes:
    """Struct xfrm_userpolicy_info, and the attributes behind it."""
    what = bytes(160) + bytes([direction]) + bytes(7) + rtnl.attribute(5, bytes(64))
    return what + (rtnl.attribute(IF_ID, struct.pack("=I", interface)) if interface is not None else b"")


@contextmanager
def kernel(sas: list[bytes], policies: list[bytes]) -> Iterator[None]:
    """A kernel that holds these."""

    def dump(request: int, header: bytes, answer: int, protocol: int = 0) -> list[bytes]:
        assert (header, protocol, answer) == (b"", socket.NETLINK_XFRM, request - 2)
        return {0x12: sas, 0x15: policies}[request]

    with patch.object(rtnl, "dump", dump):
        yield


@pytest.mark.parametrize(
    ("sas", "policies", "held"),
    [
        ([SPI], [(IN, LINK), (OUT, LINK)], True),
        ([1, SPI], [(OUT, None), (OUT, LINK)], True),
        ([], [(OUT, LINK)], False),
        ([SPI + 1], [(OUT, LINK)], False),
        ([SPI], [], False),
        ([SPI], [(IN, LINK)], False),
        ([SPI], [(OUT, LINK + 1)], False),
        ([SPI], [(OUT, None)], False),
    ],
)
def test_what_is_held(sas: list[int], policies: list[tuple[int, int | None]], *, held: bool) -> None:
    """It takes the SA that receives, and a policy out by just this interface."""
    with kernel([sa(spi) for spi in sas], [policy(*each) for each in policies]):
        assert xfrm.holds(LINK, SPI) is held


def test_an_answer_that_is_cut_short() -> None:
    """It is no answer."""
    with kernel([sa(SPI)[:100]], []), pytest.raises(NetlinkError):
        xfrm.holds(LINK, SPI)


@pytest.mark.parametrize(
    ("kind", "lost"),
    [(0x10, False), (0x11, True), (0x13, False), (0x14, True), (0x17, False), (0x1C, True), (0x1D, True)],
)
def test_losses(kind: int, *, lost: bool) -> None:
    """Deleted and flushed are lost; what is new, or asked for, is not. What nobody can read may be."""
    message = struct.pack("=IHHII", 20, kind, 0, 0, 0) + bytes(4)

    assert bool(rtnl.changes(message, xfrm.LOSSES)) is lost
    assert rtnl.changes(message[:-1], xfrm.LOSSES)

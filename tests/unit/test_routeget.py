# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel says of a way: read from bytes, and asked about the one address that every machine has."""

import struct
from ipaddress import ip_address

import pytest

from aovpnd import destinations, rtnl
from aovpnd.adapters.routeget import look_up, parse
from aovpnd.destinations import Routed


def answer(kind: int, *attributes: tuple[int, bytes], table: int = 254) -> bytes:
    """An RTM_NEWROUTE message's payload."""
    head = struct.pack("=BBBBBBBBI", 2, 32, 0, 0, table, 0, 0, kind, 0)
    return head + b"".join(rtnl.attribute(number, value) for number, value in attributes)


OIF, GATEWAY, SOURCE, TABLE = (
    (4, struct.pack("=I", 3)),
    (5, ip_address("192.168.1.1").packed),
    (7, ip_address("192.168.1.23").packed),
    (15, struct.pack("=I", 24943)),
)


@pytest.mark.parametrize(
    ("payload", "routed"),
    [
        (
            answer(1, OIF, GATEWAY, SOURCE, TABLE),
            Routed(3, source=ip_address("192.168.1.23"), gateway=ip_address("192.168.1.1"), table=24943),
        ),
        (answer(1, OIF), Routed(3, table=254)),
        (answer(2, OIF, table=255), Routed(3, here=True, table=255)),
        (answer(3, OIF), Routed(3, table=254)),
        (answer(7, OIF), Routed()),
        (answer(6), Routed()),
        (answer(1), Routed()),
    ],
)
def test_answer_is_read(payload: bytes, routed: Routed) -> None:
    """By a link, here, or nowhere: an unreachable route has a link too, lo for IPv6."""
    assert parse(payload) == routed


def test_kernel_answers() -> None:
    """The loopback is everywhere; what no link carries leads nowhere."""
    assert look_up(destinations.parse("127.0.0.1")).here
    assert look_up(destinations.parse("fe80::1%nosuchlink")) == Routed()

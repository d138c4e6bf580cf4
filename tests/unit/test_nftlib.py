# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's notices of nftables transactions: who committed one, and which tables it touched."""

import struct
from typing import Final, cast

import pytest

from aovpnd.adapters.nft import DYNAMIC, OURS, Nftables
from aovpnd.errors import NftError
from aovpnd.nftlib import Change, ChangeReader, Nft
from aovpnd.ruleset import Chain, Match, Rule, Ruleset, Verdict

INET, NETDEV = 1, 5
NEWTABLE, DELTABLE, NEWRULE, NEWSETELEM, NEWGEN = 0, 2, 6, 12, 15
NFTABLES: Final = 10 << 8


def attribute(kind: int, value: bytes) -> bytes:
    """One nlattr, padded."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def notice(kind: int, payload: bytes, family: int = INET, port: int = 7, subsystem: int = NFTABLES) -> bytes:
    """One message of group NFNLGRP_NFTABLES."""
    body = struct.pack("=BBH", family, 0, 0) + payload
    return struct.pack("=IHHII", 16 + len(body), subsystem | kind, 0, 1, port) + body


def about(kind: int, table: str, family: int = INET) -> bytes:
    """A notice about something in a table: its name first, and what does not matter behind it."""
    return notice(kind, attribute(1, table.encode() + b"\0") + attribute(2, b"postrouting\0"), family)


def committed(pid: int = 23515, name: bytes = b"nft\0") -> bytes:
    """The notice that ends a transaction."""
    return notice(
        NEWGEN, attribute(1, struct.pack(">I", 9)) + attribute(2, struct.pack(">I", pid)) + attribute(3, name)
    )


def test_a_transaction_in_one_datagram() -> None:
    """Who, by which port, and what was touched, once each."""
    data = about(NEWTABLE, "theirs", 2) + about(NEWRULE, "aovpnd") + about(NEWSETELEM, "aovpnd") + committed()

    assert ChangeReader().read(data) == [Change(23515, "nft", 7, frozenset({"ip theirs", "inet aovpnd"}))]


def test_a_transaction_over_many_datagrams() -> None:
    """What was touched is remembered until the end is heard, and belongs to no other transaction."""
    reader = ChangeReader()

    assert reader.read(about(DELTABLE, "aovpnd")) == []
    assert reader.read(about(DELTABLE, "aovpnd_early", NETDEV)) == []
    assert [change.tables for change in reader.read(committed())] == [frozenset({"inet aovpnd", "netdev aovpnd_early"})]
    assert [change.tables for change in reader.read(committed() + about(NEWTABLE, "x") + committed())] == [
        frozenset(),
        frozenset({"inet x"}),
    ]


@pytest.mark.parametrize("cut", [1, 15, 20, 30])
def test_a_datagram_that_is_cut_short_may_have_been_about_us(cut: int) -> None:
    """What cannot be read of a transaction is not taken for nothing."""
    reader = ChangeReader()
    reader.read(about(NEWTABLE, "theirs") + about(NEWRULE, "aovpnd")[:cut])
    (change,) = reader.read(committed())

    assert change.tables is None


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(notice(NEWRULE, b""), id="nothing in it"),
        pytest.param(notice(NEWRULE, attribute(2, b"aovpnd\0")), id="another attribute first"),
        pytest.param(notice(NEWRULE, struct.pack("=HH", 99, 1)), id="longer than it is"),
        pytest.param(notice(NEWRULE, struct.pack("=HH", 2, 1)), id="shorter than its head"),
        pytest.param(notice(NEWRULE, attribute(1, b"\0")), id="a table without a name"),
    ],
)
def test_what_cannot_be_read_may_be_ours(odd: bytes) -> None:
    """A notice without the name of its table makes the transaction one that may have touched any."""
    (change,) = ChangeReader().read(about(NEWTABLE, "theirs") + odd + committed())

    assert change.tables is None
    assert change.touches(DYNAMIC)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(committed()[:-8], id="cut short"),
        pytest.param(struct.pack("=IHHII", 3, NFTABLES | NEWGEN, 0, 0, 0), id="shorter than a head"),
        pytest.param(notice(NEWGEN, b"", subsystem=1 << 8), id="of another subsystem"),
    ],
)
def test_remains(data: bytes) -> None:
    """What is no notice is skipped."""
    assert ChangeReader().read(data) == []


def test_malformed_end() -> None:
    """An end that says not who it was still ends."""
    (change,) = ChangeReader().read(notice(NEWGEN, struct.pack("=HH", 1, 2) + attribute(2, b"")))

    assert change == Change(0, "", 7, frozenset())


@pytest.mark.parametrize(
    ("tables", "ours", "dynamic"),
    [
        (None, True, True),
        (frozenset(), False, False),
        ({"ip aovpnd"}, False, False),
        ({"inet filter", "ip nat"}, False, False),
        ({"netdev aovpnd_early"}, True, False),
        ({"inet aovpnd_guard"}, True, False),
        ({"inet aovpnd", "ip nat"}, True, True),
    ],
)
def test_whose_business_it_is(tables: set[str] | None, ours: bool, dynamic: bool) -> None:
    """Others' tables are not; where nobody knows, ours may be among them."""
    change = Change(1, "nft", 7, None if tables is None else frozenset(tables))

    assert (change.touches(OURS), change.touches(DYNAMIC)) == (ours, dynamic)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (Change(5, "nft"), "nft[5]"),
        (Change(0, ""), "somebody"),
        (Change(5, 'x"{;\x1b'), "x????[5]"),
    ],
)
def test_what_is_said_of_a_change(change: Change, text: str) -> None:
    """The name of a process is its own choice: nothing of it reaches a log as it is."""
    assert str(change) == text


# -- loading our own ---------------------------------------------------------------------------------------------------
class Kernel:
    """Takes every ruleset, and shows of it what the test says."""

    def __init__(self, listing: str | None) -> None:
        self.listing = listing

    def run(self, _text: str) -> str:
        """Loaded."""
        return ""

    def list_table(self, _family: str, _table: str) -> str | None:
        """Read back."""
        return self.listing


RULESET: Final = Ruleset("inet", "aovpnd", (Chain("output", (Rule(Match(), Verdict.DROP, "shut"),)),))


@pytest.mark.parametrize(
    ("listing", "loaded"),
    [
        pytest.param('drop comment "shut"', RULESET, id="it is there"),
        pytest.param(None, None, id="somebody was quick to remove it: the next pass sees that, as any removal"),
    ],
)
def test_read_back(listing: str | None, loaded: Ruleset | None) -> None:
    """What is said to be loaded was read back."""
    tables = Nftables(cast("Nft", Kernel(listing)))
    tables.ensure(RULESET)

    assert tables.observe().ruleset == loaded


def test_a_kernel_that_takes_only_half() -> None:
    """Old kernels were seen to say yes without doing it all."""
    with pytest.raises(NftError, match="does not hold"):
        Nftables(cast("Nft", Kernel("drop"))).ensure(RULESET)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The border around the Python binding of libnftables; nothing else imports it.

What the binding lacks (facts, section 2) is made up for here: a failure is an exception and not a number; NUL, which
truncates a command silently with success, is refused; one context is one netlink socket in the network namespace it was
made in, used from one thread only. An ``owner`` table lives as long as the context that loaded it.
"""

import errno
import re
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aovpnd.errors import NftError

MISSING: Final = "No such file or directory"


class Nft:
    """One libnftables context. Close it, or lose it, and its ``owner`` tables are gone."""

    def __init__(self) -> None:
        try:
            import nftables  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415 - a missing package is an answer
        except ImportError as error:
            raise NftError(
                "the Python binding of nftables is missing", hint="apt install python3-nftables", code="nft-missing"
            ) from error
        try:
            # libnftables calls exit(3) when it gets no netlink socket; then nobody would be left to shut routing.
            socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER).close()
        except OSError as error:
            problem = error.strerror or str(error)
            raise NftError(f"nftables cannot be reached: {problem}", hint=_hint(problem)) from error
        self._context: Any = nftables.Nftables()

    def run(self, text: str) -> str:
        """Run nft commands in one transaction and return what they print. `NftError` with libnftables' first line."""
        if "\0" in text:
            raise NftError("an nft text with NUL in it would be cut short")
        code, output, problem = self._context.cmd(text)
        if code != 0:
            raise NftError(f"nftables refused: {_first_line(problem)}", hint=_hint(problem))
        return str(output)

    def list_table(self, family: str, table: str) -> str | None:
        """The listing of one table, or None when there is no such table. Never ``list ruleset``: it starves (facts,
        section 1).
        """
        try:
            return self.run(f"list table {family} {table}")
        except NftError as error:
            if MISSING in error.text:
                return None
            raise

    def remove_table(self, table: str, flags: str = "") -> None:
        """Remove a table (family and name), if it is there; an owned one with its flags."""
        # `destroy` is not in 1.0.6; adding first makes the removal idempotent.
        self.run(f"add table {table} {flags}\ndelete table {table}")


def _first_line(problem: str) -> str:
    lines = [line.strip() for line in problem.splitlines() if line.strip()]
    return lines[0].removeprefix("Error: ") if lines else "no reason given"


def _hint(problem: str) -> str:
    if "Operation not permitted" in problem:
        return "CAP_NET_ADMIN is needed"
    if "not supported" in problem or "Protocol" in problem:
        return "the kernel lacks nftables: modprobe nf_tables, or install a kernel that has it"
    return ""


# What moves in a listing although nobody changed a rule: counters, and the time left of a set element.
_MOVING: Final = re.compile(r" expires [0-9a-z]+| packets \d+ bytes \d+| # handle \d+| # progname \S+")
_IFINDEX: Final = re.compile(r'\b([io]if) (?:"[^"]*"|\d+)')


def fingerprint(listing: str) -> str:
    """A listing without what moves by itself, to compare with later ones.

    An ``oif`` is listed by the name that the index has at that moment, so links are blanked as well: a rename is not a
    change.
    """
    return _IFINDEX.sub(r"\1 _", _MOVING.sub("", listing))


# -- who changed what -------------------------------------------------------------------------------------------------
NETLINK_NETFILTER: Final = 12
NFNLGRP_NFTABLES: Final = 7
NFNL_SUBSYS_NFTABLES: Final = 10
NFT_MSG_NEWGEN: Final = 15
NFTA_TABLE: Final = 1
"""The name of the table: the first attribute of every message about a table or what is in it."""
NFTA_GEN_PROC_PID: Final = 2
NFTA_GEN_PROC_NAME: Final = 3
FAMILIES: Final = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
"""NFPROTO_…"""
SOL_NETLINK: Final = 270
NETLINK_ADD_MEMBERSHIP: Final = 1
SO_RCVBUFFORCE: Final = 33


@dataclass(frozen=True, slots=True)
class Change:
    """A transaction that somebody committed. ``pid`` 0 and no name: we were told too late (overrun), so look at
    everything.

    ``pid`` is the thread's, in the initial pid namespace; ``port`` the netlink port that the request came from;
    ``tables`` those that were touched ("inet aovpnd"), or None when that is not known.
    """

    pid: int
    name: str
    port: int = 0
    tables: frozenset[str] | None = None

    def __str__(self) -> str:
        safe = re.sub(r"[^A-Za-z0-9_.:@/-]", "?", self.name) or "somebody"
        return f"{safe}[{self.pid}]" if self.pid else safe

    def touches(self, tables: Iterable[str]) -> bool:
        """Whether one of these was touched, or may have been."""
        return self.tables is None or not self.tables.isdisjoint(tables)


class Watch:
    """A non-blocking socket that hears of every nftables transaction in this network namespace (nfnetlink, NEWGEN)."""

    def __init__(self) -> None:
        self._reader = ChangeReader()
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, NETLINK_NETFILTER
            )
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)
            except PermissionError:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            self._socket.bind((0, 0))
            self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES)
        except OSError as error:
            raise NftError(f"nftables cannot be watched: {error.strerror}", hint=_hint(str(error))) from error

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def drain(self) -> tuple[Change, ...]:
        """All changes since the last call; one with pid 0 when messages were lost.

        Once it was full, the kernel leaves the socket out until it is empty, and says so once: so it is emptied, and
        whoever looks at the tables after that sees all that was lost.
        """
        changes: list[Change] = []
        while True:
            try:
                data, (sender, _) = self._socket.recvfrom(1 << 18)
            except BlockingIOError:
                return tuple(changes)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise NftError(f"nftables cannot be watched: {error.strerror}") from error
                changes.append(Change(0, ""))
                continue
            if sender == 0:  # the kernel; anybody may send to a netlink socket
                changes += self._reader.read(data)


def own_ports() -> frozenset[int]:
    """The netlink ports of this process's own netfilter sockets (netlink(7): /proc/net/netlink names port and inode).

    The pid in a `Change` does not tell whose it is: it is a thread's, and seen from the initial pid namespace. None
    when nobody can tell, as when there are no descriptors left.
    """
    with suppress(OSError):
        return _own_ports()
    return frozenset()


def _own_ports() -> frozenset[int]:
    inodes = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            inodes.add(str(entry.readlink()).removeprefix("socket:[").removesuffix("]"))
    table = Path("/proc/self/net/netlink").read_text(encoding="ascii", errors="replace")
    rows = [row for line in table.splitlines()[1:] if len(row := line.split()) > 2]  # noqa: PLR2004 - protocol and port
    return frozenset(
        int(row[2]) for row in rows if row[1] == str(NETLINK_NETFILTER) and row[-1] in inodes and row[2].isdecimal()
    )


class ChangeReader:
    """Reads the kernel's notices of one network namespace in their order.

    Those about what a transaction touched come first, over as many datagrams as they take; NEWGEN, which says that it
    is committed and by whom, ends them (nf_tables_commit() in the kernel). Transactions do not mix.
    """

    def __init__(self) -> None:
        self._touched: set[tuple[int, bytes]] = set()
        """Family and name of tables; b"" for one whose name was not to be read."""

    def read(self, data: bytes) -> list[Change]:
        """The transactions that are complete with this datagram. Of malformed remains nothing is known but that
        something was touched.
        """
        changes = []
        offset = 0
        while offset + _NLMSG_BYTES <= len(data):
            length, kind, _flags, _sequence, port = struct.unpack_from("=IHHII", data, offset)
            if length < _NLMSG_BYTES or offset + length > len(data):
                break
            if kind >> 8 == NFNL_SUBSYS_NFTABLES and length >= _NFGENMSG_BYTES:
                if kind & 0xFF == NFT_MSG_NEWGEN:
                    changes.append(self._committed(port, data[offset + _NFGENMSG_BYTES : offset + length]))
                else:
                    # An element may be one of thousands: no closer look than at the first attribute.
                    name = _first_attribute(data, offset + _NFGENMSG_BYTES, offset + length)
                    self._touched.add((data[offset + _NLMSG_BYTES], name))
            offset += (length + 3) & ~3
        if offset < len(data):
            self._touched.add((0, b""))
        return changes

    def _committed(self, port: int, payload: bytes) -> Change:
        attributes = _attributes(payload)
        pid = attributes.get(NFTA_GEN_PROC_PID, b"")
        name = attributes.get(NFTA_GEN_PROC_NAME, b"").rstrip(b"\0").decode("ascii", "replace")
        touched, self._touched = self._touched, set()
        tables = frozenset(
            f"{FAMILIES.get(family, family)} {table.decode('ascii', 'replace')}" for family, table in touched
        )
        known = all(table for _, table in touched)
        return Change(int.from_bytes(pid, "big"), name, port, tables if known else None)


_NLMSG_BYTES: Final = 16
_NFGENMSG_BYTES: Final = 20
"""nlmsghdr, and the nfgenmsg behind it, which begins with the family."""


def _first_attribute(data: bytes, offset: int, end: int) -> bytes:
    """The table's name; nothing where it is not, or not whole."""
    if offset + 4 > end:
        return b""
    length, kind = struct.unpack_from("=HH", data, offset)
    if kind & 0x3FFF != NFTA_TABLE or not 4 <= length <= end - offset:  # noqa: PLR2004 - nlattr is 4 bytes
        return b""
    return data[offset + 4 : offset + length].rstrip(b"\0")


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:  # noqa: PLR2004 - nlattr is 4 bytes
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found

# SPDX-License-Identifier: GPL-3.0-or-later
"""nft's named counters, read over netlink itself: ``nft list counters`` reads every set of a table besides.

The attributes are those of linux/netfilter/nf_tables.h.
"""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tests.lab.host import Host
from tests.lab.process import LabError
from tests.lab.thread import entered

_NETLINK_NETFILTER: Final = 12
_NFPROTO_NETDEV: Final = 5
_NFT_MSG_GETOBJ: Final = 10 << 8 | 19
_NLM_F_REQUEST_DUMP: Final = 0x301
_NLM_F_DUMP_INTR: Final = 0x10
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NFTA_OBJ_TABLE, _NFTA_OBJ_NAME, _NFTA_OBJ_DATA = 1, 2, 4
_NFTA_COUNTER_PACKETS: Final = 2
_NLA_TYPE_MASK: Final = 0x3FFF
_DEADLINE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Counters:
    """The named counters of one netdev table of a machine; `close` it."""

    table: str
    _socket: socket.socket

    @classmethod
    def open(cls, host: Host, table: str) -> Self:
        """A table need not be there yet."""
        with entered(Path(f"/proc/{host.holder.pid}/ns/net")):
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        sock.settimeout(_DEADLINE_S)
        return cls(table, sock)

    def packets(self) -> dict[str, int]:
        """Counter to packets, exact at this moment; empty when there is no such table."""
        while True:
            counted, complete = self._dump()
            if complete:
                return counted

    def _dump(self) -> tuple[dict[str, int], bool]:
        """One dump, and whether nothing changed in the middle of it."""
        attribute = _attribute(_NFTA_OBJ_TABLE, self.table.encode() + b"\0")
        body = struct.pack("!BBH", _NFPROTO_NETDEV, 0, 0) + attribute
        head = struct.pack("=IHHII", 16 + len(body), _NFT_MSG_GETOBJ, _NLM_F_REQUEST_DUMP, 1, 0)
        self._socket.send(head + body)
        counted: dict[str, int] = {}
        complete = True
        while True:
            data = self._socket.recv(1 << 16)
            while data:
                length, kind, flags = struct.unpack_from("=IHH", data)
                complete = complete and not flags & _NLM_F_DUMP_INTR
                if kind == _NLMSG_DONE:
                    return counted, complete
                if kind == _NLMSG_ERROR:
                    raise LabError(f"the kernel refuses to list the counters of {self.table}: {data[16:20].hex()}")
                found = dict(_attributes(data[20:length]))
                packets = dict(_attributes(found[_NFTA_OBJ_DATA]))[_NFTA_COUNTER_PACKETS]
                counted[found[_NFTA_OBJ_NAME].rstrip(b"\0").decode()] = int.from_bytes(packets, "big")
                data = data[(length + 3) & ~3 :]

    def close(self) -> None:
        """May be called twice."""
        self._socket.close()


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        length, kind = struct.unpack_from("=HH", data)
        yield kind & _NLA_TYPE_MASK, data[4:length]
        data = data[(length + 3) & ~3 :]

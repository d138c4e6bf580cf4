# SPDX-License-Identifier: GPL-3.0-or-later
"""rtnetlink(7) on a raw socket: dump what is, and be woken when it changes. Standard library only.

Shared by the guard, which must stay small, and by `adapters.netlink`, which must stay quick: a library that decodes
every attribute of every route takes a quarter of a second for 5,000 of them, on every pass.

A socket belongs to the network namespace in which it was opened. Only the kernel (port 0) is believed: any process may
send a netlink message to our port. Everything raises `NetlinkError` and nothing else.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from types import TracebackType
from typing import Final, Self

from aovpnd.errors import NetlinkError
from aovpnd.links import Link

NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP: Final = 0x300
NLM_F_DUMP_INTR: Final = 0x10
NLMSG_ERROR, NLMSG_DONE, NLMSG_OVERRUN = 2, 3, 4
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
RTM_NEWSTATS, RTM_GETSTATS = 92, 94

_SOL_NETLINK: Final = 270
_NETLINK_ADD_MEMBERSHIP: Final = 1
_NETLINK_GET_STRICT_CHK: Final = 12
"""Since Linux 4.20: the kernel filters a dump by what its header asks for, and refuses what it does not understand."""
_SO_RCVBUFFORCE: Final = 33
_NLA_TYPE_MASK: Final = 0x3FFF
_DATAGRAM_BYTES: Final = 1 << 16
"""The kernel fills dumps up to 32 KiB per datagram when the reader's buffer is large enough."""
_WATCH_BUFFER_BYTES: Final = 4 << 20
_ANSWER_DEADLINE_S: Final = 5.0
_DUMP_TRIES: Final = 16
"""A dump during which something changed is inconsistent (NLM_F_DUMP_INTR) and is taken again."""
_DATAGRAMS_PER_DRAIN: Final = 1000
"""So that a storm of events cannot hold the loop; the descriptor stays readable."""

_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence number, port
_ATTRIBUTE: Final = struct.Struct("=HH")  # rtattr: length, type
_IFINFO: Final = struct.Struct("=BxHiII")  # ifinfomsg: family, device type, index, flags, change mask
_IFSTATS: Final = struct.Struct("=BxxxII")  # if_stats_msg: family, index, filter mask
_LINK_64: Final = 1  # IFLA_STATS_LINK_64, also the bit of the filter mask
_COUNTERS: Final = struct.Struct("=8Q")  # rtnl_link_stats64: packets, bytes, errors, dropped; each received and sent
_U32: Final = struct.Struct("=I")
_S32: Final = struct.Struct("=i")

_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
_IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_EXT_MASK = 3, 4, 10, 18, 29
_IFLA_CARRIER, _IFLA_CARRIER_UP_COUNT = 33, 47
_IFLA_INFO_KIND: Final = 1
_RTEXT_FILTER_SKIP_STATS: Final = 8

_LARGEST_ERRNO: Final = 4095
"""MAX_ERRNO of linux/err.h."""

Attributes = dict[int, bytes]
"""Payloads by attribute type; of one that is repeated the last counts, as in the kernel."""


# -- messages ----------------------------------------------------------------------------------------------------------
def messages(datagram: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Split a datagram into (type, flags, sequence number, payload)."""
    offset, end = 0, len(datagram)
    while offset < end:
        if end - offset < _HEADER.size:
            raise NetlinkError(f"netlink message cut short: {end - offset} bytes left for a header")
        length, kind, flags, sequence, _port = _HEADER.unpack_from(datagram, offset)
        if not _HEADER.size <= length <= end - offset:
            raise NetlinkError(f"netlink message of {length} bytes with {end - offset} left")
        yield kind, flags, sequence, datagram[offset + _HEADER.size : offset + length]
        offset += _align(length)


def attributes(payload: bytes, offset: int = 0) -> Attributes:
    """Read the attributes that follow the first ``offset`` bytes of a message, or those nested in an attribute."""
    found: Attributes = {}
    end = len(payload)
    offset = _align(offset)
    while offset < end:
        if end - offset < _ATTRIBUTE.size:
            raise NetlinkError(f"netlink attribute cut short: {end - offset} bytes left for a header")
        length, kind = _ATTRIBUTE.unpack_from(payload, offset)
        if not _ATTRIBUTE.size <= length <= end - offset:
            raise NetlinkError(f"netlink attribute {kind} of {length} bytes with {end - offset} left")
        found[kind & _NLA_TYPE_MASK] = payload[offset + _ATTRIBUTE.size : offset + length]
        offset += _align(length)
    return found


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute as it is sent, padded."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(_align(length) - length)


def u32(value: bytes) -> int:
    """An attribute of type u32, host byte order."""
    return _number(_U32, value)


def unpack(header: struct.Struct, payload: bytes) -> tuple[int, ...]:
    """The fixed header that a message begins with."""
    if len(payload) < header.size:
        raise NetlinkError(f"netlink message with {len(payload)} bytes instead of at least {header.size}")
    return header.unpack_from(payload)


def text(value: bytes) -> str:
    """An attribute of type string. Bytes that are no UTF-8 become backslash escapes, which no rule ever quotes."""
    return value.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _number(form: struct.Struct, value: bytes) -> int:
    if len(value) != form.size:
        raise NetlinkError(f"netlink attribute with {len(value)} bytes instead of {form.size}")
    number: int = form.unpack(value)[0]
    return number


def _align(length: int) -> int:
    return (length + 3) & ~3


# -- dumps -------------------------------------------------------------------------------------------------------------
def dump(
    request: int, header: bytes, answer: int, flags: int = NLM_F_DUMP, protocol: int = socket.NETLINK_ROUTE
) -> list[bytes]:
    """Ask the kernel for everything of one sort and return the payloads of the messages of type ``answer``; with
    `NLM_F_ACK` in the place of `NLM_F_DUMP`, for the one thing that ``header`` names.

    ``request`` is an RTM_GET… type, ``header`` its fixed header and attributes, by which the kernel filters. A table
    that does not exist is empty. Another ``protocol`` has types of its own (`xfrm`).
    """
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol) as kernel:
            kernel.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
            kernel.settimeout(_ANSWER_DEADLINE_S)
            kernel.bind((0, 0))
            for sequence in range(1, _DUMP_TRIES + 1):
                length = _HEADER.size + len(header)
                kernel.sendto(_HEADER.pack(length, request, NLM_F_REQUEST | flags, sequence, 0) + header, (0, 0))
                found = _collect(kernel, sequence, answer)
                if found is not None:
                    return found
    except OSError as error:
        raise NetlinkError(f"rtnetlink: {os.strerror(error.errno) if error.errno else error}") from error
    raise NetlinkError(f"rtnetlink: the dump changed under us {_DUMP_TRIES} times")


def _collect(kernel: socket.socket, sequence: int, answer: int) -> list[bytes] | None:
    """Read one dump to its end; None when it is inconsistent or was lost on the way and has to be taken again."""
    found = []
    consistent = True
    while True:
        try:
            datagram, sender = kernel.recvfrom(_DATAGRAM_BYTES)
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return None
            raise
        if sender[0] != 0:
            continue
        for kind, flags, number, payload in messages(datagram):
            if number != sequence:
                continue
            consistent = consistent and not flags & NLM_F_DUMP_INTR
            if kind == answer:
                found.append(payload)
            elif kind in (NLMSG_DONE, NLMSG_ERROR):
                _check(payload)
                return found if consistent else None


def _check(payload: bytes) -> None:
    """Raise what an NLMSG_ERROR or NLMSG_DONE says; old kernels end a dump without a word."""
    code = error_code(payload)
    if code not in (0, errno.ENOENT):
        raise OSError(code, os.strerror(code))


def error_code(payload: bytes) -> int:
    """The errno of an NLMSG_ERROR or NLMSG_DONE; 0 where it says none, EPROTO for a number that is none."""
    code = -_S32.unpack_from(payload)[0] if len(payload) >= _S32.size else 0
    return code if 0 <= code <= _LARGEST_ERRNO else errno.EPROTO


def dump_links() -> tuple[Link, ...]:
    """Every link of this network namespace, by index."""
    wanted = attribute(_IFLA_EXT_MASK, _U32.pack(_RTEXT_FILTER_SKIP_STATS))
    found = dump(RTM_GETLINK, _IFINFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + wanted, RTM_NEWLINK)
    return tuple(sorted(map(parse_link, found), key=lambda link: link.index))


@dataclass(frozen=True, slots=True)
class Transferred:
    """Bytes that programs have got out of a link, and put into it, since it was made; and the packets that they tried
    to put into it, those included that nobody took: a tunnel without a session takes none.
    """

    got_bytes: int = 0
    put_bytes: int = 0
    tries: int = 0


def transferred(link: int) -> Transferred:
    """What has gone through a link; nothing through one that is gone."""
    try:
        found = dump(RTM_GETSTATS, _IFSTATS.pack(socket.AF_UNSPEC, link, _LINK_64), RTM_NEWSTATS, NLM_F_ACK)
    except NetlinkError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENODEV:
            return Transferred()
        raise
    counters = [attributes(payload, _IFSTATS.size).get(_LINK_64, b"") for payload in found]
    if len(counters) != 1:
        raise NetlinkError(f"rtnetlink: {len(counters)} answers about the counters of link {link}")
    _, packets, got, put, _, errors, _, dropped = unpack(_COUNTERS, counters[0])
    return Transferred(got, put, packets + errors + dropped)


def parse_link(payload: bytes) -> Link:
    """Read the payload of an RTM_NEWLINK message."""
    _family, arphrd, index, flags, _change = unpack(_IFINFO, payload)
    found = attributes(payload, _IFINFO.size)
    name = text(found.get(_IFLA_IFNAME, b""))
    if index <= 0 or not name:
        raise NetlinkError(f"link {index} without a name")
    info = attributes(found.get(_IFLA_LINKINFO, b""))
    carrier = found.get(_IFLA_CARRIER)
    return Link(
        index=index,
        name=name,
        kind=text(info.get(_IFLA_INFO_KIND, b"")),
        arphrd=arphrd,
        master=_optional(found, _IFLA_MASTER),
        up=bool(flags & _IFF_UP),
        carrier=any(carrier) if carrier is not None else bool(flags & _IFF_LOWER_UP),
        carrier_ups=_optional(found, _IFLA_CARRIER_UP_COUNT),
        mtu=_optional(found, _IFLA_MTU),
    )


def _optional(found: Attributes, kind: int) -> int:
    return u32(found[kind]) if kind in found else 0


# -- changes -----------------------------------------------------------------------------------------------------------
class Group(IntEnum):
    """Multicast groups (RTNLGRP_…) that tell of changes. Neighbours are left out: they change all the time."""

    LINK = 1
    IPV4_ADDRESS = 5
    IPV4_ROUTE = 7
    IPV4_RULE = 8
    IPV6_ADDRESS = 9
    IPV6_ROUTE = 11
    IPV6_RULE = 19


class Change(StrEnum):
    """What sort of thing changed; an event says "look again", never what to do."""

    LINK = "link"
    ADDRESS = "address"
    ROUTE = "route"
    RULE = "rule"
    IPSEC = "ipsec"
    OVERRUN = "overrun"
    """Events were lost: look again at everything."""


Kinds = Mapping[int, Change]
"""Types of messages, and what sort of change each tells of; of others none."""
_CHANGES: Final[Kinds] = {
    RTM_NEWLINK: Change.LINK,
    RTM_DELLINK: Change.LINK,
    RTM_NEWADDR: Change.ADDRESS,
    RTM_DELADDR: Change.ADDRESS,
    RTM_NEWROUTE: Change.ROUTE,
    RTM_DELROUTE: Change.ROUTE,
    RTM_NEWRULE: Change.RULE,
    RTM_DELRULE: Change.RULE,
    NLMSG_OVERRUN: Change.OVERRUN,
}


class Watch:
    """A descriptor that becomes readable when something changes; `drain` says what sort.

    It needs no privilege; with CAP_NET_ADMIN its buffer is larger than net.core.rmem_max allows. Not for two threads.
    Another ``protocol`` has groups and ``kinds`` of its own (`xfrm`).
    """

    def __init__(
        self,
        groups: Iterable[int] = tuple(Group),
        kinds: Kinds = _CHANGES,
        protocol: int = socket.NETLINK_ROUTE,
    ) -> None:
        self._kinds = kinds
        flags = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            self._socket = socket.socket(socket.AF_NETLINK, flags, protocol)
        except OSError as error:
            raise NetlinkError(f"rtnetlink: {error.strerror}") from error
        try:
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _WATCH_BUFFER_BYTES)
            except PermissionError:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WATCH_BUFFER_BYTES)
            self._socket.bind((0, 0))
            for group in groups:
                self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
        except OSError as error:
            self._socket.close()
            raise NetlinkError(f"rtnetlink: cannot listen for changes: {error.strerror}") from error

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._socket.fileno()

    def drain(self) -> frozenset[Change]:
        """Take what has come and say of what sort it was; empty when nothing came. Never blocks."""
        found: set[Change] = set()
        for _ in range(_DATAGRAMS_PER_DRAIN):
            try:
                datagram, sender = self._socket.recvfrom(_DATAGRAM_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise NetlinkError(f"rtnetlink: {error.strerror}") from error
                found.add(Change.OVERRUN)
                continue
            if sender[0] == 0:
                found |= changes(datagram, self._kinds)
        return frozenset(found)

    def close(self) -> None:
        """Stop listening; may be called twice."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def changes(datagram: bytes, kinds: Kinds = _CHANGES) -> frozenset[Change]:
    """Of what sort the changes in a datagram are. One that cannot be read counts as an overrun: look again."""
    try:
        return frozenset(kinds[kind] for kind, *_ in messages(datagram) if kind in kinds)
    except NetlinkError:
        return frozenset((Change.OVERRUN,))

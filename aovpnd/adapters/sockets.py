# SPDX-License-Identifier: GPL-3.0-or-later
"""Close connected sockets: sock_diag(7) on a raw netlink socket. Standard library only.

Dumping 10,000 sockets and closing them takes some tenths of a second; the kernel closes each (SOCK_DESTROY), tells the
far end if the ruleset lets it, and the program ECONNABORTED. Listening sockets are never asked for.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from aovpnd import rtnl
from aovpnd.errors import NetlinkError
from aovpnd.ruleset import Address
from aovpnd.sockets import Socket, Sweep, Transport

_SOCK_DIAG: Final = 4
"""NETLINK_SOCK_DIAG."""
_SOCK_DIAG_BY_FAMILY, _SOCK_DESTROY = 20, 21
_NLM_F_ACK: Final = 0x4
_PROTOCOLS: Final = {Transport.TCP: socket.IPPROTO_TCP, Transport.UDP: socket.IPPROTO_UDP}
_ESTABLISHED: Final = 1
_TCP_STATES: Final = sum(1 << state for state in (1, 2, 4, 5, 8, 9, 11))
"""TCP_ESTABLISHED, SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING: neither those that listen nor what
the kernel keeps of connections that are over."""
_STATES: Final = {Transport.TCP: _TCP_STATES, Transport.UDP: 1 << _ESTABLISHED}
"""A UDP socket that is connected counts as established."""
_INET_DIAG_MARK: Final = 15

_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr
_REQUEST: Final = struct.Struct("=BBBxI")  # inet_diag_req_v2: family, protocol, extensions, states; then the id
_ID: Final = struct.Struct("!HH16s16s4s8s")  # inet_diag_sockid: ports, addresses, link, cookie
_MESSAGE: Final = struct.Struct("=BBBB48s12xI4x")  # inet_diag_msg: family, state, …, the id, …, user, inode
_PER_DATAGRAM: Final = 100
_ROUNDS: Final = 3
"""How often to look again: a program may open a socket while we close its others."""
_DEADLINE_S: Final = 5.0
_BUFFER: Final = 1 << 20
_GONE: Final = frozenset((errno.ENOENT, errno.ESTALE, errno.ESRCH))
_CANNOT: Final = frozenset((errno.EOPNOTSUPP, errno.EINVAL))


@dataclass(frozen=True, slots=True)
class _Found:
    family: int
    id: bytes
    socket: Socket


def close(sweep: Sweep) -> int:
    """Close what `Sweep.closes`, and say how many there were. `NetlinkError` when the kernel cannot or will not."""
    closed = 0
    try:
        for _ in range(_ROUNDS):
            found = [(kind, each) for kind in Transport for each in _dump(kind) if sweep.closes(each.socket)]
            if not found:
                break
            closed += len(found)
            _destroy(found)
    except OSError as error:
        if error.errno in _CANNOT:
            hint = "programs notice by themselves, after minutes; the kernel needs CONFIG_INET_DIAG_DESTROY"
            raise NetlinkError("this kernel cannot close the old connections of programs", hint=hint) from error
        raise NetlinkError(f"sock_diag: {os.strerror(error.errno) if error.errno else error}") from error
    return closed


def connected(transport: Transport) -> tuple[Socket, ...]:
    """The connected sockets of this network namespace. `OSError` when the kernel does not say."""
    return tuple(found.socket for found in _dump(transport))


def _dump(transport: Transport) -> list[_Found]:
    found = []
    for family in (socket.AF_INET, socket.AF_INET6):
        request = _REQUEST.pack(family, _PROTOCOLS[transport], 0, _STATES[transport]) + bytes(_ID.size)
        with _open() as kernel:
            kernel.send(_message(_SOCK_DIAG_BY_FAMILY, rtnl.NLM_F_DUMP, 1, request))
            found += [parse(payload, transport) for payload in _answers(kernel)]
    return [each for each in found if each is not None]


def _answers(kernel: socket.socket) -> Iterator[bytes]:
    """The payloads of one dump. A kernel without IPv6, or without a protocol, has no such sockets."""
    while True:
        for kind, _flags, _sequence, payload in rtnl.messages(_receive(kernel)):
            if kind == _SOCK_DIAG_BY_FAMILY:
                yield payload
            elif kind in (rtnl.NLMSG_DONE, rtnl.NLMSG_ERROR):
                code = rtnl.error_code(payload)
                if code not in (0, errno.ENOENT):
                    raise OSError(code, os.strerror(code))
                return


def parse(payload: bytes, transport: Transport) -> _Found | None:
    """Read an inet_diag_msg; None for a socket that is connected to nobody. `NetlinkError` when it cannot be read."""
    if len(payload) < _MESSAGE.size:
        raise NetlinkError(f"sock_diag: a message of {len(payload)} bytes")
    family, _state, _timer, _again, identity, uid = _MESSAGE.unpack_from(payload)
    port, remote_port, local, remote, _link, _cookie = _ID.unpack(identity)
    if not remote_port:
        return None
    mark = rtnl.attributes(payload, _MESSAGE.size).get(_INET_DIAG_MARK)
    marked = rtnl.u32(mark) if mark is not None else 0
    known = Socket(transport, _address(family, local), port, _address(family, remote), marked, uid)
    return _Found(family, identity, known)


def _address(family: int, raw: bytes) -> Address:
    if family == socket.AF_INET:
        return IPv4Address(raw[:4])
    address = IPv6Address(raw)
    return address.ipv4_mapped or address


def _destroy(found: list[tuple[Transport, _Found]]) -> None:
    """Close each; one that is gone meanwhile is as good as closed. `OSError` when the kernel refuses one."""
    with _open() as kernel:
        for start in range(0, len(found), _PER_DATAGRAM):
            batch = found[start : start + _PER_DATAGRAM]
            kernel.send(
                b"".join(
                    _message(
                        _SOCK_DESTROY, _NLM_F_ACK, number, _REQUEST.pack(each.family, _PROTOCOLS[kind], 0, 0) + each.id
                    )
                    for number, (kind, each) in enumerate(batch)
                )
            )
            answers = 0
            while answers < len(batch):
                for kind, _flags, _sequence, payload in rtnl.messages(_receive(kernel)):
                    code = rtnl.error_code(payload) if kind == rtnl.NLMSG_ERROR else 0
                    if code and code not in _GONE:
                        raise OSError(code, os.strerror(code))
                    answers += kind == rtnl.NLMSG_ERROR


def _open() -> socket.socket:
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG)
    kernel.settimeout(_DEADLINE_S)
    kernel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    kernel.bind((0, 0))
    kernel.connect((0, 0))
    return kernel


def _receive(kernel: socket.socket) -> bytes:
    """The next datagram of the kernel's; another process may send to our port, and is not believed."""
    while True:
        datagram, sender = kernel.recvfrom(_BUFFER)
        if sender[0] == 0:
            return datagram


def _message(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(payload), kind, rtnl.NLM_F_REQUEST | flags, sequence, 0) + payload

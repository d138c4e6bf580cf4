# SPDX-License-Identifier: GPL-3.0-or-later
"""One payload that a program tries to send, and the short words for making its socket."""

import errno
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from tests.lab import plan

PORT: Final = 40000
FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}


@dataclass(frozen=True, slots=True)
class Shot:
    """``send`` is called once, with a payload that carries the token; OSError when the kernel refuses. What ``group``
    it belongs to tells for the control: of each group an unprotected laptop must let out at least one.
    """

    group: str
    send: Callable[[bytes], object]


def numeric(value: int) -> bytes:
    """An int as setsockopt(2) takes it."""
    return struct.pack("i", value)


def is6(address: str) -> bool:
    """Whether an address is of IPv6."""
    return ":" in address


def opened(family: int, kind: int, protocol: int = 0, *options: tuple[int, int, bytes]) -> socket.socket:
    """A socket that does not wait, with these options (level, name, value)."""
    sock = socket.socket(FAMILIES[family], kind | socket.SOCK_NONBLOCK, protocol)
    for level, name, value in options:
        sock.setsockopt(level, name, value)
    return sock


def to(sock: socket.socket, address: str, port: int, flags: int = 0) -> Callable[[bytes], object]:
    """Send by this socket to an address, which may have a zone."""
    where = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)[0][4]
    return lambda payload: sock.sendto(payload, flags, where)


def syn(address: str, port: int, *options: tuple[int, int, bytes]) -> Callable[[bytes], object]:
    """Begin a connection; the payload goes into the SYN where the kernel knows TCP fast open (RFC 7413) for it."""

    def send(payload: bytes) -> None:
        with opened(6 if is6(address) else 4, socket.SOCK_STREAM, 0, *options) as sock:
            with suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, _TCP_FASTOPEN_NO_COOKIE, numeric(1))
            where = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0][4]
            try:
                sock.sendto(payload, socket.MSG_FASTOPEN, where)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.EINPROGRESS:
                    raise

    return send


_TCP_FASTOPEN_NO_COOKIE: Final = 34


def shots(group: str, make: Callable[[], Callable[[bytes], object]]) -> Iterator[Shot]:
    """A shot, where its socket can be made: the privileged kinds are nothing for ordinary programs."""
    with suppress(OSError):
        yield Shot(group, make())


ANYBODY: Final = {4: str(plan.WEB4), 6: str(plan.WEB6)}
"""Somebody on the internet, by family."""
GATEWAY: Final = {4: str(plan.GATEWAY4), 6: str(plan.GATEWAY6)}
RESOLVER: Final = {4: str(plan.DNS4), 6: str(plan.DNS6)}
ROUTER: Final = {4: str(plan.HOME.router4), 6: str(plan.HOME.router6)}

# SPDX-License-Identifier: GPL-3.0-or-later
"""What a path carries: the kernel's own word for the way to the gateway, and a measurement inside the tunnel.

Both by ordinary sockets, without a privilege but our mark: ICMP echo by a ping socket (ping_group_range, which systemd
opens to all), and beside it, because a gateway may not answer pings, a DNS query padded to size (RFC 7830). An echo
comes back as large as it went, so it measures both directions; an answer to a query speaks for the way there alone, and
counts only where nobody answers echoes.
"""

import selectors
import socket
import struct
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from secrets import token_bytes
from typing import Final

from aovpnd import names
from aovpnd.adapters.bound import tie
from aovpnd.errors import SystemFault
from aovpnd.inquiries import Finding, Measured, MeasurePath, Unanswered
from aovpnd.ruleset import Address

ROUNDS_S: Final = (0.4, 1.0, 1.8)
"""When is sent again (`_tries`). The full size has four tries, so that a lost packet does not make a small path."""
DEADLINE_S: Final = 2.8
"""A satellite needs 0.7 s there and back."""

_IPV4: Final = 4
_IP_MTU, _IPV6_MTU = 14, 24
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE = 10, 23, 3
"""Don't-fragment on each packet, whatever the kernel believes of the path (ip(7))."""
_IPV6_DONTFRAG: Final = 62
_ANY_PORT: Final = 9
_DNS_PORT: Final = 53
_TOKEN_BYTES: Final = 8
_ECHO: Final = {4: (8, 0), 6: (128, 129)}
"""ICMP types of echo request and reply."""
_ICMP_HEADER: Final = struct.Struct("!BBHHH")
_IP_HEADER: Final = {4: 20, 6: 40}
_LARGEST: Final = 65535
_QUERY: Final = struct.Struct("!HHHHHH")
_OPT: Final = struct.Struct("!BHHIH")
_OPTION: Final = struct.Struct("!HH")
_PADDING: Final = 12
"""RFC 7830."""
_QR: Final = 0x80


def known_to_kernel(address: Address) -> int | None:
    """Bytes of the largest packet of ours that the kernel sends to ``address`` as it is; None when there is no way.

    Connecting a datagram socket sends nothing (udp(7)); it looks the route up, as the tunnel's own packets are routed.
    """
    family, level, option = (
        (socket.AF_INET, socket.IPPROTO_IP, _IP_MTU)
        if address.version == _IPV4
        else (socket.AF_INET6, socket.IPPROTO_IPV6, _IPV6_MTU)
    )
    try:
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, names.FWMARK)
            sock.connect((str(address), _ANY_PORT))
            return sock.getsockopt(level, option)
    except OSError:
        return None


# -- the measurement ---------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class _Probe:
    """One target asked in one way. ``passed`` are the sizes that were answered."""

    sock: socket.socket
    version: int
    is_echo: bool
    token: bytes = field(default_factory=lambda: token_bytes(_TOKEN_BYTES))
    passed: set[int] = field(default_factory=set)


def measure(inquiry: MeasurePath) -> Finding:
    """Send, and wait for answers, for `DEADLINE_S` at most. `SystemFault` when there is no link to send by."""
    _check_link(inquiry)
    with ExitStack() as stack, selectors.DefaultSelector() as waiting:
        probes = []
        for target in inquiry.targets:
            for is_echo in (True, False):
                try:
                    probe = _open(inquiry, target, is_echo=is_echo)
                except OSError:
                    continue  # no ping socket for us, or no way by this family: the others speak
                stack.enter_context(probe.sock)
                waiting.register(probe.sock, selectors.EVENT_READ, probe)
                probes.append(probe)
        _exchange(probes, waiting, inquiry.sizes)
    passed = _sizes(probes, is_echo=True) or _sizes(probes, is_echo=False)
    if not passed:
        return Unanswered(inquiry, f"nobody inside {inquiry.link_name} answers")
    return Measured(inquiry, max(passed))


def _check_link(inquiry: MeasurePath) -> None:
    """Whoever has taken the name of our link is asked nothing."""
    try:
        index = socket.if_nametoindex(inquiry.link_name)
    except OSError as error:
        raise SystemFault(f"{inquiry.describe()}: there is no such link") from error
    if index != inquiry.link:
        raise SystemFault(f"{inquiry.describe()}: another link has taken the name")


def _open(inquiry: MeasurePath, target: Address, *, is_echo: bool) -> _Probe:
    """A socket that sends by the tunnel's link alone, whole packets, to this target alone."""
    is_ipv4 = target.version == _IPV4
    family, icmp = (socket.AF_INET, socket.IPPROTO_ICMP) if is_ipv4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, icmp if is_echo else 0)
    try:
        tie(sock, inquiry.link, inquiry.link_name)
        if is_ipv4:
            sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_DONTFRAG, 1)
        sock.connect((str(target), 0 if is_echo else _DNS_PORT))
    except BaseException:
        sock.close()
        raise
    return _Probe(sock, target.version, is_echo)


def _exchange(probes: list[_Probe], waiting: selectors.BaseSelector, sizes: tuple[int, ...]) -> None:
    """Send in rounds until an echo of full size has come back, or time is over."""
    began = time.monotonic()
    for number, ends in enumerate((*ROUNDS_S, DEADLINE_S)):
        echoed = _sizes(probes, is_echo=True)
        asks = _sizes(probes, is_echo=False)
        for probe in probes:
            best = max(echoed if probe.is_echo else asks, default=0)
            for size in _tries(number, sizes, is_echo=probe.is_echo, has_echo=bool(echoed)):
                if size > best:
                    _send(probe, size, sizes.index(size))
        while (left := began + ends - time.monotonic()) > 0:
            for key, _ in waiting.select(left):
                _receive(key.data, sizes)
            if sizes[0] in _sizes(probes, is_echo=True):
                return


def _tries(number: int, sizes: tuple[int, ...], *, is_echo: bool, has_echo: bool) -> tuple[int, ...]:
    """What is sent in a round: the full size alone; then the smallest too, which tells whether anybody answers echoes;
    then all, by what is answered.
    """
    match number:
        case 0:
            return sizes[:1]
        case 1:
            return (sizes[0], sizes[-1]) if is_echo else ()
        case _:
            return sizes if is_echo is has_echo else ()


def _sizes(probes: list[_Probe], *, is_echo: bool) -> set[int]:
    """The sizes that passed in one of the two ways."""
    return {size for probe in probes if probe.is_echo is is_echo for size in probe.passed}


def _send(probe: _Probe, size: int, number: int) -> None:
    room = size - _IP_HEADER[probe.version]
    packet = _echo(probe, room, number) if probe.is_echo else query(probe.token, number, room - 8)
    try:
        probe.sock.send(packet)
    except OSError:
        return  # it does not fit the link, or an ICMP error came back: no answer is the answer


def _echo(probe: _Probe, room: int, number: int) -> bytes:
    """An echo request; the kernel fills in identifier and checksum."""
    head = _ICMP_HEADER.pack(_ECHO[probe.version][0], 0, 0, 0, number) + probe.token
    return head.ljust(room, b"\0")


def query(token: bytes, number: int, room: int) -> bytes:
    """A query for the root's name servers, padded to ``room`` bytes (RFC 6891, RFC 7830)."""
    padding = max(room - _QUERY.size - 5 - _OPT.size - _OPTION.size, 0)
    head = _QUERY.pack(_id(token, number), 0x0100, 1, 0, 0, 1) + b"\0" + struct.pack("!HH", 2, 1)
    return head + _OPT.pack(0, 41, 1232, 0, _OPTION.size + padding) + _OPTION.pack(_PADDING, padding) + bytes(padding)


def _id(token: bytes, number: int) -> int:
    return (int.from_bytes(token[:2], "big") + number) & 0xFFFF


def _receive(probe: _Probe, sizes: tuple[int, ...]) -> None:
    """Take what has come. Nobody else's answer counts: the socket is connected, and each token is fresh."""
    while True:
        try:
            answer = probe.sock.recv(_LARGEST)
        except BlockingIOError:
            return
        except OSError:
            continue  # an ICMP error, told once
        number = _number(probe, answer)
        if 0 <= number < len(sizes):
            probe.passed.add(sizes[number])


def _number(probe: _Probe, answer: bytes) -> int:
    """Which of the sizes it answers; -1 for none."""
    if not probe.is_echo:
        is_answer = len(answer) >= _QUERY.size and answer[2] & _QR
        return (int.from_bytes(answer[:2], "big") - _id(probe.token, 0)) & 0xFFFF if is_answer else -1
    if len(answer) < _ICMP_HEADER.size + _TOKEN_BYTES or answer[0] != _ECHO[probe.version][1]:
        return -1
    is_ours = answer[_ICMP_HEADER.size :].startswith(probe.token)
    return int.from_bytes(answer[6:8], "big") if is_ours else -1

# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel itself answers when it is asked by which way a packet would go, as ``ip route get`` asks it.

It sends nothing. The answer takes every rule and table into account, other programs' as well, for a packet without a
mark from a socket that is bound to nothing (to a link, where the destination says one).
"""

import errno
import os
import socket
import struct
from ipaddress import ip_address
from typing import Final

from aovpnd import rtnl
from aovpnd.destinations import Destination, Routed
from aovpnd.errors import NetlinkError

_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence number, port
_RTMSG: Final = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
_RTM_F_LOOKUP_TABLE: Final = 0x1000
"""Answer with the table in which the route was found (rtnetlink(7))."""
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC, _RTA_TABLE, _RTA_UID = 1, 4, 5, 7, 15, 25
_UNICAST, _LOCAL, _BROADCAST, _ANYCAST, _MULTICAST = 1, 2, 3, 4, 5
_DEADLINE_S: Final = 2.0
_ANSWER_BYTES: Final = 1 << 14
_NOWHERE: Final = frozenset(
    {
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.EACCES,
        errno.EINVAL,
        errno.ENODEV,
        errno.ENETDOWN,
        errno.ECONNREFUSED,
    }
)
"""How a look-up says that there is no way: no route, unreachable, prohibit, blackhole, a link that has gone."""


def look_up(to: Destination) -> Routed:
    """The kernel's answer. `NetlinkError` when it gives none."""
    family = socket.AF_INET6 if to.address.version == 6 else socket.AF_INET  # noqa: PLR2004 - the IP version
    body = _RTMSG.pack(family, to.address.max_prefixlen, 0, 0, 0, 0, 0, 0, _RTM_F_LOOKUP_TABLE)
    body += rtnl.attribute(_RTA_DST, to.address.packed)
    if to.uid is not None:
        body += rtnl.attribute(_RTA_UID, struct.pack("=I", to.uid))
    if to.link:
        try:
            body += rtnl.attribute(_RTA_OIF, struct.pack("=I", socket.if_nametoindex(to.link)))
        except OSError:
            return Routed()
    try:
        return parse(_ask(body))
    except OSError as error:
        if error.errno in _NOWHERE:
            return Routed()
        raise NetlinkError(f"rtnetlink: {os.strerror(error.errno) if error.errno else error}") from error


def _ask(body: bytes) -> bytes:
    """One request, and the payload of its answer. `OSError` with what the kernel says instead."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(_DEADLINE_S)
        kernel.bind((0, 0))
        head = _HEADER.pack(_HEADER.size + len(body), rtnl.RTM_GETROUTE, rtnl.NLM_F_REQUEST, 1, 0)
        kernel.sendto(head + body, (0, 0))
        while True:
            datagram, sender = kernel.recvfrom(_ANSWER_BYTES)
            if sender[0] != 0:
                continue
            for kind, _flags, _sequence, payload in rtnl.messages(datagram):
                if kind == rtnl.RTM_NEWROUTE:
                    return payload
                if kind == rtnl.NLMSG_ERROR:
                    code = rtnl.error_code(payload)
                    raise OSError(code, os.strerror(code))


def parse(payload: bytes) -> Routed:
    """Read the payload of an RTM_NEWROUTE message."""
    _family, _dst, _src, _tos, short_table, _protocol, _scope, kind, _flags = rtnl.unpack(_RTMSG, payload)
    found = rtnl.attributes(payload, _RTMSG.size)
    if kind not in {_UNICAST, _LOCAL, _BROADCAST, _ANYCAST, _MULTICAST} or _RTA_OIF not in found:
        return Routed()
    try:
        source = ip_address(found[_RTA_PREFSRC]) if _RTA_PREFSRC in found else None
        gateway = ip_address(found[_RTA_GATEWAY]) if _RTA_GATEWAY in found else None
    except ValueError:
        raise NetlinkError("rtnetlink: a route with an address that cannot be read") from None
    table = rtnl.u32(found[_RTA_TABLE]) if _RTA_TABLE in found else short_table
    return Routed(rtnl.u32(found[_RTA_OIF]), kind == _LOCAL, source, gateway, table)

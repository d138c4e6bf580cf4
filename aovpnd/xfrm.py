# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel's IPsec still has (NETLINK_XFRM, include/uapi/linux/xfrm.h), and when something is taken from it.

charon is told of nothing that somebody else deletes: it holds SAs for alive that are not there any more, and programs
send into nowhere until the next rekeying.
"""

import errno
import os
import socket
import struct
from typing import Final

from aovpnd import rtnl
from aovpnd.errors import NetlinkError

_NEWSA, _DELSA, _GETSA = 0x10, 0x11, 0x12
_NEWPOLICY, _DELPOLICY, _GETPOLICY = 0x13, 0x14, 0x15
_FLUSHSA, _FLUSHPOLICY = 0x1C, 0x1D
_LOSSES: Final = frozenset({_DELSA, _DELPOLICY, _FLUSHSA, _FLUSHPOLICY})
_SA: Final = struct.Struct("!72xI148x")  # xfrm_usersa_info: behind the selector and an address, the SPI
_POLICY: Final = struct.Struct("=160xB7x")  # xfrm_userpolicy_info: the direction
_OUT: Final = 1
_IF_ID: Final = 31
_GROUPS: Final = (3, 4)
"""XFRMNLGRP_SA, XFRMNLGRP_POLICY."""
_DATAGRAM_BYTES: Final = 1 << 16
_DATAGRAMS_PER_DRAIN: Final = 1000


def holds(interface: int, spi: int) -> bool:
    """Whether the kernel has the SA that receives under ``spi``, and a policy by which the XFRM interface (its if_id)
    sends. `NetlinkError` when it cannot be asked.
    """
    sas = rtnl.dump(_GETSA, b"", _NEWSA, protocol=socket.NETLINK_XFRM)
    if not any(rtnl.unpack(_SA, each)[0] == spi for each in sas):
        return False
    policies = rtnl.dump(_GETPOLICY, b"", _NEWPOLICY, protocol=socket.NETLINK_XFRM)
    return any(rtnl.unpack(_POLICY, each)[0] == _OUT and _interface(each) == interface for each in policies)


def _interface(policy: bytes) -> int | None:
    found = rtnl.attributes(policy, _POLICY.size).get(_IF_ID)
    return rtnl.u32(found) if found is not None else None


class Losses:
    """A descriptor that becomes readable when SAs or policies are deleted or flushed, by whomever.

    `NetlinkError` on a kernel without IPsec.
    """

    def __init__(self) -> None:
        flags = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            self._socket = socket.socket(socket.AF_NETLINK, flags, socket.NETLINK_XFRM)
            self._socket.bind((0, 0))
            for group in _GROUPS:
                self._socket.setsockopt(rtnl.SOL_NETLINK, rtnl.NETLINK_ADD_MEMBERSHIP, group)
        except OSError as error:
            raise NetlinkError(f"xfrm: {os.strerror(error.errno) if error.errno else error}") from error

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._socket.fileno()

    def drain(self) -> bool:
        """Take what has come, and say whether something was taken away, or may have been. Never blocks."""
        lost = False
        for _ in range(_DATAGRAMS_PER_DRAIN):
            try:
                datagram, sender = self._socket.recvfrom(_DATAGRAM_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise NetlinkError(f"xfrm: {error.strerror}") from error
                lost = True
                continue
            lost = lost or (sender[0] == 0 and tells_of_a_loss(datagram))
        return lost


def tells_of_a_loss(datagram: bytes) -> bool:
    """Whether a datagram says that something was taken away. One that cannot be read may."""
    try:
        return any(kind in _LOSSES for kind, *_ in rtnl.messages(datagram))
    except NetlinkError:
        return True

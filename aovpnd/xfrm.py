# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel's IPsec still has (NETLINK_XFRM, include/uapi/linux/xfrm.h), and when something is taken from it.

charon is told of nothing that somebody else deletes: it holds SAs for alive that are not there any more, and programs
send into nowhere until the next rekeying.
"""

import socket
import struct
from typing import Final

from aovpnd import rtnl

_NEWSA, _DELSA, _GETSA = 0x10, 0x11, 0x12
_NEWPOLICY, _DELPOLICY, _GETPOLICY = 0x13, 0x14, 0x15
_FLUSHSA, _FLUSHPOLICY = 0x1C, 0x1D
LOSSES: Final[rtnl.Kinds] = {
    _DELSA: rtnl.Change.IPSEC,
    _DELPOLICY: rtnl.Change.IPSEC,
    _FLUSHSA: rtnl.Change.IPSEC,
    _FLUSHPOLICY: rtnl.Change.IPSEC,
    rtnl.NLMSG_OVERRUN: rtnl.Change.OVERRUN,
}
_SA: Final = struct.Struct("!72xI148x")  # xfrm_usersa_info: behind the selector and an address, the SPI
_POLICY: Final = struct.Struct("=160xB7x")  # xfrm_userpolicy_info: the direction
_OUT: Final = 1
_IF_ID: Final = 31
_GROUPS: Final = (3, 4)
"""XFRMNLGRP_SA, XFRMNLGRP_POLICY."""


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


def losses() -> rtnl.Watch:
    """Tells when SAs or policies are deleted or flushed, by whomever. `NetlinkError` on a kernel without IPsec."""
    return rtnl.Watch(_GROUPS, LOSSES, socket.NETLINK_XFRM)

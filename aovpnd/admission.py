# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may connect to the control socket, and who has: an access control list on it, and the peer's credentials."""

import asyncio
import os
import socket
import struct
from pathlib import Path
from typing import Final

_CREDENTIALS: Final = struct.Struct("3i")
"""struct ucred of unix(7): pid, uid, gid."""
_ACL: Final = "system.posix_acl_access"
"""The attribute of acl(5)."""
_ACL_HEAD: Final = struct.Struct("<I")
_ACL_ENTRY: Final = struct.Struct("<HHI")
"""linux/posix_acl_xattr.h: a version, then entries of tag, permission, id."""
_ACL_VERSION: Final = 2
_NOBODY: Final = 0xFFFFFFFF
_READ_WRITE: Final = 6


def let_in(path: Path, uid: int) -> None:
    """Let a user connect who is neither owner nor group, by an access control list (acl(5)).

    A group would do, but the daemon has no CAP_CHOWN to give the file to one. `OSError` where the file system has none.
    """
    entries = ((1, _NOBODY), (2, uid), (4, _NOBODY), (0x10, _NOBODY), (0x20, _NOBODY))
    allowed = {1, 2, 0x10}  # the owner, that user, and the mask; not the group, not others
    acl = _ACL_HEAD.pack(_ACL_VERSION) + b"".join(
        _ACL_ENTRY.pack(tag, _READ_WRITE if tag in allowed else 0, who) for tag, who in entries
    )
    os.setxattr(path, _ACL, acl)


def peer_uid(writer: asyncio.StreamWriter) -> int:
    """Who is at the other end, as the kernel recorded it at connect(2) (SO_PEERCRED)."""
    peer = writer.get_extra_info("socket")
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _pid, uid, _gid = _CREDENTIALS.unpack(raw)
    return int(uid)

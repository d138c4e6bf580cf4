# SPDX-License-Identifier: GPL-3.0-or-later
"""Sockets of our own that send by one link alone, and never by another one that has taken its name."""

import errno
import socket

from aovpnd.ruleset import Address


def tie(new: socket.socket, link: int, link_name: str) -> None:
    """Have a socket send by that link and by no other. `OSError` when there is none, or another one by its name."""
    if socket.if_nametoindex(link_name) != link:
        raise OSError(errno.ENODEV, "another link has taken the name")
    new.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link_name.encode() + b"\0")


def opened(link: int, link_name: str, addr: Address, kind: socket.SocketKind) -> socket.socket:
    """A new socket of an address's family, tied to a link; it does not block. `OSError` as `tie`."""
    family = socket.AF_INET if addr.version == 4 else socket.AF_INET6  # noqa: PLR2004 - IP versions
    new = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        tie(new, link, link_name)
    except BaseException:
        new.close()
        raise
    return new

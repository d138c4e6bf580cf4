#!/usr/bin/python3 -IS
# SPDX-License-Identifier: GPL-3.0-or-later
"""An ordinary program that talks into a PPPoE session of its own making: ``dialler LINK TOKEN``, once.

AF_PPPOX takes no privilege, and the kernel puts any program's words into frames for any hardware address (pppoe(4) is
not documented; net/pppox in the kernel). Each frame says to be another protocol of PPP, and carries the token.
"""

import ctypes
import os
import socket
import struct
import sys

AF_PPPOX = 24
PX_PROTO_OE = 0
PROTOCOLS = (0xC021, 0x8021, 0x0021)
"""LCP, IPCP, IPv4."""
SENDER = 99
SESSION = 0x7777


def main(link: str, token: str) -> None:
    """Send one frame for each protocol; what the kernel refuses is an error."""
    libc = ctypes.CDLL(None, use_errno=True)
    talk = libc.socket(AF_PPPOX, socket.SOCK_STREAM, PX_PROTO_OE)
    to = struct.pack("=HIH6s16s", AF_PPPOX, PX_PROTO_OE, socket.htons(SESSION), b"\2\0\0\0\0\x99", link.encode())
    if talk < 0 or libc.connect(talk, to, len(to)):
        raise OSError(ctypes.get_errno(), "no session")
    for protocol in PROTOCOLS:
        os.write(talk, struct.pack("!H", protocol) + bytes.fromhex(token) + bytes([SENDER]) + bytes(40))


if __name__ == "__main__":
    main(*sys.argv[1:])

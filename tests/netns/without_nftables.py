# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a program as if the kernel had no nftables: ``python -m tests.netns.without_nftables COMMAND...``.

A seccomp filter, which children inherit, answers every socket(AF_NETLINK, …, NETLINK_NETFILTER) with EPROTONOSUPPORT,
as a kernel without CONFIG_NETFILTER_NETLINK does.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from typing import Final

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_SOCKET: Final = {"x86_64": 41, "aarch64": 198}
_AF_NETLINK, _NETLINK_NETFILTER = 16, 12
_NUMBER, _FIRST, _THIRD = 0, 16, 32  # offsets in struct seccomp_data, little endian


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def forbid() -> None:
    """Take nftables away from this process and all that it starts."""
    instructions = (
        (_LOAD, 0, 0, _NUMBER),
        (_EQUAL, 0, 5, _SOCKET[platform.machine()]),
        (_LOAD, 0, 0, _FIRST),
        (_EQUAL, 0, 3, _AF_NETLINK),
        (_LOAD, 0, 0, _THIRD),
        (_EQUAL, 0, 1, _NETLINK_NETFILTER),
        (_RETURN, 0, 0, _ERRNO | errno.EPROTONOSUPPORT),
        (_RETURN, 0, 0, _ALLOW),
    )
    text = b"".join(struct.pack("<HBBI", *instruction) for instruction in instructions)
    program = _Program(len(instructions), text)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0
    ):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    forbid()
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - the command that was given

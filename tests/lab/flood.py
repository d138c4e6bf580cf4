# SPDX-License-Identifier: GPL-3.0-or-later
"""Send as fast as one process can: ``python -m tests.lab.flood TOKEN KIND LINK [RATE]`` until SIGTERM.

sendmmsg(2) hands the kernel hundreds of prepared payloads per call, so that the kernel's work sets the pace, not
Python's. It stops at the first refusal, which is how a firewall answers; then the next call begins behind the refused
one. RATE is the most that it tries per second. Prints ``ready``, and at the end
``{KIND: {"attempts": …, "sent": …, "seconds": …}}``.
"""

import ctypes
import errno
import json
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Final

from tests.lab import plan
from tests.lab.sender_kinds import BY_NAME, frame

BATCH: Final = 512
_PORT: Final = 40000
_NUMBERS: Final = {"udp4": "udp4", "udp6": "udp6", "bound4": "bound4", "bound6": "bound6", "packet4": "packet4"}
KINDS: Final = (*_NUMBERS, "packet6")
_PAUSE_WITHOUT_LINK_S: Final = 0.002
_PAUSE_WHEN_AHEAD_S: Final = 0.004


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _MsgHdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iov", ctypes.POINTER(_IoVec)),
        ("iov_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _MMsgHdr(ctypes.Structure):
    _fields_ = (("header", _MsgHdr), ("sent", ctypes.c_uint))


def _open(kind: str, link: str) -> tuple[socket.socket, bytes]:
    """A socket, and the address that each message goes to (b"": the socket knows)."""
    if kind.startswith("packet"):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sock.bind((link, 0))
        return sock, b""
    version6 = kind.endswith("6")
    sock = socket.socket(socket.AF_INET6 if version6 else socket.AF_INET, socket.SOCK_DGRAM)
    if kind.startswith("bound"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())
    if version6:
        return sock, struct.pack("<HHI16sI", socket.AF_INET6, socket.htons(_PORT), 0, plan.WEB6.packed, 0)
    return sock, struct.pack("<HH4s8x", socket.AF_INET, socket.htons(_PORT), plan.WEB4.packed)


def _payloads(kind: str, token: bytes) -> list[bytes]:
    payload = token + struct.pack("!B", BY_NAME[kind].number) + bytes(15)
    if kind.startswith("packet"):
        payload = frame(0x86DD if kind.endswith("6") else 0x0800, payload)
    return [payload] * BATCH


def _messages(payloads: list[bytes], address: bytes) -> tuple[ctypes.Array[_MMsgHdr], list[object]]:
    """The messages for sendmmsg, and what must live as long as they do."""
    name = ctypes.create_string_buffer(address, len(address)) if address else None
    vectors = (_IoVec * len(payloads))()
    messages = (_MMsgHdr * len(payloads))()
    buffers: list[object] = [name, vectors]
    for number, payload in enumerate(payloads):
        buffer = ctypes.create_string_buffer(payload, len(payload))
        buffers.append(buffer)
        vectors[number] = _IoVec(ctypes.addressof(buffer), len(payload))
        header = messages[number].header
        header.iov = ctypes.pointer(vectors[number])
        header.iov_length = 1
        if name is not None:
            header.name = ctypes.addressof(name)
            header.name_length = len(address)
    return messages, buffers


def _sendmmsg() -> Callable[[int, object, int, int], int]:
    function = ctypes.CDLL(None, use_errno=True).sendmmsg
    function.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
    function.restype = ctypes.c_int
    return function


def main(arguments: list[str]) -> int:
    """Send until SIGTERM."""
    token, kind, link = bytes.fromhex(arguments[0]), arguments[1], arguments[2]
    rate = float(arguments[3]) if len(arguments) > 3 else float("inf")
    running = True

    def end(_signal: int, _frame: object) -> None:
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, end)
    print("ready", flush=True)
    send, size = _sendmmsg(), ctypes.sizeof(_MMsgHdr)
    payloads = _payloads(kind, token)
    attempts = sent = 0
    started = time.monotonic()
    sock: socket.socket | None = None
    base = descriptor = position = 0
    keep: list[object] = []
    while running:
        if sock is None:
            try:
                sock, address = _open(kind, link)
            except OSError:
                time.sleep(_PAUSE_WITHOUT_LINK_S)
                continue
            messages, keep = _messages(payloads, address)
            base, descriptor, position = ctypes.addressof(messages), sock.fileno(), 0
            keep.append(messages)
        taken = send(descriptor, base + position * size, BATCH - position, 0)
        if taken > 0:
            attempts += taken
            sent += taken
            position = (position + taken) % BATCH
        else:
            attempts += 1
            position = (position + 1) % BATCH
            number = ctypes.get_errno()
            if number in {errno.ENETDOWN, errno.ENETUNREACH, errno.EADDRNOTAVAIL}:
                time.sleep(_PAUSE_WITHOUT_LINK_S)  # no firewall's answer: there is nothing to send to
            elif number in {errno.ENODEV, errno.ENXIO}:
                sock.close()
                sock = None
        if (ahead := attempts / rate - (time.monotonic() - started)) > _PAUSE_WHEN_AHEAD_S:
            time.sleep(ahead)
    print(json.dumps({kind: {"attempts": attempts, "sent": sent, "seconds": time.monotonic() - started}}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

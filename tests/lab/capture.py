# SPDX-License-Identifier: GPL-3.0-or-later
"""Write every frame that arrives on some links to a pcapng file: ``python -m tests.lab.capture FILE BPF LINK...``.

Why not dumpcap: libpcap ends a capture when its link goes down, and links going down is what the lab is about. A packet
socket survives that. BPF is a file with the filter as ``tcpdump -ddd`` prints it, or ``-``. It prints ``ready`` when
every frame from then on is seen, and at SIGTERM, when all that had arrived is written, one JSON object: per link what
the kernel counted as passed to us and as dropped (packet(7), PACKET_STATISTICS).
"""

import ctypes
import json
import select
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import BinaryIO, Final

_ETH_P_ALL: Final = 3
_SOL_PACKET: Final = 263
_PACKET_ADD_MEMBERSHIP: Final = 1
_PACKET_STATISTICS: Final = 6
_PACKET_AUXDATA: Final = 8
_PACKET_IGNORE_OUTGOING: Final = 23  # Linux 4.20
_PACKET_MR_PROMISC: Final = 1
_TP_STATUS_VLAN_VALID: Final = 1 << 4
_SO_RCVBUFFORCE: Final = 33
_SO_ATTACH_FILTER: Final = 26
_SO_TIMESTAMPNS: Final = 35
_BUFFER_BYTES: Final = 256 << 20
_FRAME_BYTES: Final = 65536 + 64


def _block(kind: int, body: bytes) -> bytes:
    """A pcapng block (draft-ietf-opsawg-pcapng), padded, with its length on both ends."""
    padded = body + bytes(-len(body) % 4)
    length = struct.pack("<I", len(padded) + 12)
    return struct.pack("<I", kind) + length + padded + length


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _write_head(file: BinaryIO, links: list[str]) -> None:
    """Section header, and one Ethernet interface per link with nanosecond times."""
    file.write(_block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
    for link in links:
        options = _option(2, link.encode()) + _option(9, b"\x09") + _option(0, b"")
        file.write(_block(1, struct.pack("<HHI", 1, 0, 0) + options))


def write_pcapng(path: Path, link: str, frames: tuple[bytes, ...]) -> None:
    """Write frames of one link as they would be captured, at time 0."""
    with path.open("wb") as file:
        _write_head(file, [link])
        for frame in frames:
            file.write(_block(6, struct.pack("<IIIII", 0, 0, 0, len(frame), len(frame)) + frame))


def _open(link: str, bpf: list[tuple[int, int, int, int]]) -> socket.socket:
    """A packet socket on one link, for arriving frames only, whoever they are addressed to."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # protocol 0: nothing arrives before bind
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    sock.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
    sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    if bpf:
        program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in bpf))
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(bpf), ctypes.addressof(program)))
    sock.bind((link, _ETH_P_ALL))
    index = socket.if_nametoindex(link)
    sock.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, struct.pack("iHH8s", index, _PACKET_MR_PROMISC, 0, b""))
    sock.setblocking(False)
    return sock


def _drain(sock: socket.socket, number: int, file: BinaryIO) -> None:
    """Write what waits in a socket."""
    while True:
        try:
            frame, ancillary, _flags, _address = sock.recvmsg(_FRAME_BYTES, 256)
        except BlockingIOError:
            return
        except OSError:
            continue  # ENETDOWN, told once: the link went down, and the socket works again when it is back
        time_ns = 0
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
                seconds, nanoseconds = struct.unpack("qq", data[:16])
                time_ns = seconds * 1_000_000_000 + nanoseconds
            elif level == _SOL_PACKET and kind == _PACKET_AUXDATA:
                status, _len, _snap, _mac, _net, tci, tpid = struct.unpack("IIIHHHH", data[:20])
                if status & _TP_STATUS_VLAN_VALID:  # the kernel took the tag out of the frame
                    frame = frame[:12] + struct.pack("!HH", tpid or 0x8100, tci) + frame[12:]
        head = struct.pack("<IIIII", number, time_ns >> 32, time_ns & 0xFFFFFFFF, len(frame), len(frame))
        file.write(_block(6, head + frame))


def main(arguments: list[str]) -> int:
    """Record until SIGTERM."""
    path, filter_path, *links = arguments
    bpf: list[tuple[int, int, int, int]] = []
    if filter_path != "-":
        for line in Path(filter_path).read_text(encoding="ascii").splitlines()[1:]:
            code, true, false, value = map(int, line.split())
            bpf.append((code, true, false, value))
    asked, ask = socket.socketpair()
    ask.setblocking(False)
    signal.set_wakeup_fd(ask.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda _signal, _frame: None)
    with Path(path).open("wb", buffering=1 << 20) as file:
        _write_head(file, links)
        sockets = {_open(link, bpf): number for number, link in enumerate(links)}
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([asked, *sockets], [], [], 0.2)
            for sock, number in sockets.items():
                _drain(sock, number, file)
            if not ready:
                file.flush()
            if asked in ready:
                break
        result = {}
        for sock, number in sockets.items():
            packets, drops = struct.unpack("II", sock.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
            result[links[number]] = {"packets": packets, "drops": drops}
            sock.close()
    print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

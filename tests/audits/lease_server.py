# SPDX-License-Identifier: GPL-3.0-or-later
"""A DHCP server that gives whatever it is told to: ``python -m tests.audits.lease_server LINK ORDERS REPORT``.

ORDERS is a JSON file, read anew when it has changed: ``{"server": HEX, "odd": [HEX…], "each": N, "offer": HEX, "ack":
HEX}``. A question gets the next N of the odd answers, then the offer or the acknowledgement (RFC 2131), all with its
number and hardware address put in. REPORT gets ``{"questions": N, "odd": N}``. Nothing but the standard library.
"""

import json
import socket
import struct
import sys
from pathlib import Path
from typing import Any, Final

_ETH_IPV4: Final = 0x0800
_COOKIE: Final = 236
"""Where the magic cookie stands, behind it the options (RFC 2131, section 3)."""
_LEAST: Final = _COOKIE + 4
_DISCOVER: Final = 1
_MESSAGE_TYPE: Final = 53


def _sum(header: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(header) // 2}H", header))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def question(frame: bytes) -> tuple[bytes, bytes, int] | None:
    """Number, hardware address and message type of a client's question; None when a frame is no such thing."""
    payload = frame[14 + (frame[14] & 15) * 4 + 8 :]
    if frame[23] != socket.IPPROTO_UDP or frame[36:38] != b"\0C" or len(payload) < _LEAST or payload[0] != 1:
        return None
    at = _LEAST
    while at + 2 < len(payload):
        if payload[at] == _MESSAGE_TYPE:
            return payload[4:8], payload[28:44], payload[at + 2]
        at += 1 if payload[at] == 0 else 2 + payload[at + 1]
    return None


def answer(mac: bytes, server: bytes, number: bytes, client: bytes, payload: bytes) -> bytes:
    """A whole frame, to everybody; odd answers may be too short for what belongs in."""
    body = bytearray(payload)
    if len(body) >= _LEAST:
        body[4:8], body[28:44] = number, client
    udp = struct.pack("!4H", 67, 68, 8 + len(body), 0) + body
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, server, b"\xff" * 4)
    head = head[:10] + struct.pack("!H", _sum(head)) + head[12:]
    return b"\xff" * 6 + mac + struct.pack("!H", _ETH_IPV4) + head + udp


def main(arguments: list[str]) -> None:
    """Answer until killed."""
    link, orders_path, report = arguments[0], Path(arguments[1]), Path(arguments[2])
    mac = bytes.fromhex(Path(f"/sys/class/net/{link}/address").read_text(encoding="ascii").replace(":", ""))
    orders: dict[str, Any] = {}
    read_at = questions = odd = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_IPV4)) as sock:
        sock.bind((link, _ETH_IPV4))
        print("ready", flush=True)
        while True:
            asked = question(sock.recv(2048).ljust(64, b"\0"))
            if asked is None:
                continue
            number, client, kind = asked
            changed = orders_path.stat().st_mtime_ns
            if changed != read_at:
                orders, read_at, odd = json.loads(orders_path.read_text(encoding="utf-8")), changed, 0
            strange = orders["odd"][odd : odd + orders["each"]]
            for payload in (*strange, orders["offer" if kind == _DISCOVER else "ack"]):
                frame = answer(mac, bytes.fromhex(orders["server"]), number, client, bytes.fromhex(payload))
                sock.send(frame)
            questions, odd = questions + 1, odd + len(strange)
            aside = report.with_suffix(".new")
            aside.write_text(json.dumps({"questions": questions, "odd": odd}), encoding="utf-8")
            aside.rename(report)


if __name__ == "__main__":
    main(sys.argv[1:])

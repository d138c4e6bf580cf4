# SPDX-License-Identifier: GPL-3.0-or-later
"""A resolver that does not do its work, on a site's router: ``python -m tests.lab.liar PORT ORDERS``.

ORDERS is a file, read anew for every question: ``{"how": …, "addresses": […]}``. ``lie`` gives those addresses to every
name, ``tcp`` gives them by TCP alone, ``silent`` says nothing, ``servfail`` fails. `Router.resolver` writes it, and
sends the questions here. Nothing but the standard library, so that it shares no mistake with the program under test.
"""

import contextlib
import json
import socketserver
import struct
import sys
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from socket import AF_INET6
from typing import Final

_TYPES: Final = {1: 4, 28: 6}
"""A and AAAA, and the IP versions that they are for."""
_HEADER: Final = struct.Struct("!HHHHHH")
_ANSWER, _CUT, _FAILED = 0x8180, 0x8380, 0x8182


def answers(question: bytes, orders: Path, *, by_tcp: bool) -> Iterator[bytes]:
    """What is said to one question."""
    order = json.loads(orders.read_text(encoding="utf-8"))
    end = question.index(b"\0", _HEADER.size) + 5
    number = question[:2]
    asked = question[_HEADER.size : end]
    version = _TYPES.get(struct.unpack("!H", asked[-4:-2])[0])
    match order["how"]:
        case "silent":
            return
        case "servfail":
            yield number + _HEADER.pack(0, _FAILED, 1, 0, 0, 0)[2:] + asked
        case "tcp" if not by_tcp:
            yield number + _HEADER.pack(0, _CUT, 1, 0, 0, 0)[2:] + asked
        case _:
            found = [address for address in map(ip_address, order["addresses"]) if address.version == version]
            records = [
                b"\xc0\x0c" + asked[-4:] + struct.pack("!IH", 5, len(address.packed)) + address.packed
                for address in found
            ]
            yield number + _HEADER.pack(0, _ANSWER, 1, len(records), 0, 0)[2:] + asked + b"".join(records)


def main(port: int, orders: Path) -> None:
    """Answer until killed."""

    class Datagram(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            data, answering = self.request
            for answer in answers(data, orders, by_tcp=False):
                answering.sendto(answer, self.client_address)

    class Stream(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError, struct.error):
                while True:
                    (length,) = struct.unpack("!H", self.request.recv(2))
                    for answer in answers(self.request.recv(length), orders, by_tcp=True):
                        self.request.sendall(struct.pack("!H", len(answer)) + answer)

    class ByTcp(socketserver.ThreadingTCPServer):
        address_family = AF_INET6
        allow_reuse_address = True
        daemon_threads = True

    class ByUdp(socketserver.ThreadingUDPServer):
        address_family = AF_INET6
        daemon_threads = True

    with ByTcp(("::", port), Stream) as by_tcp, ByUdp(("::", port), Datagram) as by_udp:
        threading.Thread(target=by_tcp.serve_forever, daemon=True).start()
        by_udp.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))

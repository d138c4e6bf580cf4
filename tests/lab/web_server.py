# SPDX-License-Identifier: GPL-3.0-or-later
"""The internet's servers: HTTP on port 80 and an echo service on UDP port 7, over IPv4 and IPv6. A program of its own.

``/ip`` tells the address that the request came from, ``/generate_204`` answers as connectivity checks expect it, and
``/paced?bytes=N&rate=R`` sends N bytes at R bytes per second (R = 0: as fast as it goes). What is posted is counted.
"""

import socket
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import parse_qs, urlsplit

from tests.lab.plan import ECHO_PORT

_PIECE: Final = bytes(range(256)) * 4
_TICKS_PER_S: Final = 20
_UPLOAD_PIECE: Final = 1 << 16


def _plain(address: str) -> str:
    """An address as people write it, without the IPv4-mapped form of a dual-stack socket."""
    mapped = IPv6Address(address.partition("%")[0]).ipv4_mapped if ":" in address else None
    return str(mapped) if mapped else address


class Handler(BaseHTTPRequestHandler):
    """The web server's pages."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer one request."""
        parts = urlsplit(self.path)
        match parts.path:
            case "/generate_204":
                self.send_response(204)
                self.send_header("Content-Length", "0")
                self.end_headers()
            case "/ip":
                self._text(_plain(self.client_address[0]) + "\n")
            case "/paced":
                query = parse_qs(parts.query)
                self._paced(int(query.get("bytes", ["1048576"])[0]), int(query.get("rate", ["0"])[0]))
            case _:
                self._text("the internet\n")

    def do_POST(self) -> None:
        """Take what is sent, and say how much it was."""
        left, taken = int(self.headers["Content-Length"]), 0
        while piece := self.rfile.read(min(_UPLOAD_PIECE, left - taken)):
            taken += len(piece)
        self._text(f"{taken}\n")

    def _text(self, text: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _paced(self, size: int, rate: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(size))
        self.end_headers()
        started, sent = time.monotonic(), 0
        while sent < size:
            due = size if rate == 0 else min(size, int((time.monotonic() - started) * rate) + len(_PIECE))
            while sent < due:
                piece = _PIECE[: due - sent]
                self.wfile.write(piece)
                sent += len(piece)
            if rate:
                time.sleep(1 / _TICKS_PER_S)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  the library's name
        """Say nothing: the recorder sees the traffic."""


class Server(ThreadingHTTPServer):
    """One dual-stack server."""

    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is the normal case here."""


class Echo(socketserver.UDPServer):
    """RFC 862 over UDP."""

    address_family = socket.AF_INET6
    max_packet_size = 65535


class EchoHandler(socketserver.BaseRequestHandler):
    """Send back what came, from the address it was sent to."""

    def handle(self) -> None:
        """Answer one datagram."""
        data, sock = self.request
        sock.sendto(data, self.client_address)


def main(echo_addresses: tuple[str, ...]) -> None:
    """Serve until killed. One echo socket per address, so that the answer comes from the address that was asked."""
    for address in echo_addresses:
        echo = Echo((address, ECHO_PORT), EchoHandler)
        threading.Thread(target=echo.serve_forever, daemon=True).start()
    Server(("::", 80), Handler).serve_forever()


if __name__ == "__main__":
    from tests.lab import plan

    main((f"::ffff:{plan.ECHO4}", str(plan.ECHO6)))

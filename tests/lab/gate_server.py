# SPDX-License-Identifier: GPL-3.0-or-later
"""A page behind a gateway that wants a sign-in with a browser, on port 80: ``python -m tests.lab.gate_server``.

``/check`` is there (204) for whoever has signed in, and leads to ``/login`` whoever has not, each time with another
token; a POST there signs in. ``/out`` signs everybody out; ``/asked`` tells who has asked for the check so far.
"""

import itertools
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv6Address
from socket import AF_INET6
from typing import Final

_TOKENS: Final = itertools.count(1)
_IN: Final[set[str]] = set()
_ASKED: Final[list[str]] = []


class Handler(BaseHTTPRequestHandler):
    """The gate's pages."""

    protocol_version = "HTTP/1.1"

    @property
    def _who(self) -> str:
        address = self.client_address[0].partition("%")[0]
        return str(IPv6Address(address).ipv4_mapped or address)

    def do_GET(self) -> None:
        """Answer one request."""
        match self.path.partition("?")[0]:
            case "/check":
                _ASKED.append(self._who)
                if self._who in _IN:
                    self._answer(204)
                else:
                    self._answer(302, location=f"http://{self.headers['Host']}/login?token={next(_TOKENS)}")
            case "/out":
                _IN.clear()
                self._answer(200)
            case "/asked":
                self._answer(200, json.dumps(_ASKED))
            case _:
                self._answer(200, "<!doctype html><form method=post action=/login><button>Sign in</button></form>\n")

    def do_POST(self) -> None:
        """Sign the visitor in."""
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        _IN.add(self._who)
        self._answer(200, "You are in.\n")

    def _answer(self, status: int, text: str = "", location: str = "") -> None:
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  the library's name
        """Say nothing: who has asked is told when somebody wants to know."""


class Server(ThreadingHTTPServer):
    """One dual-stack server."""

    address_family = AF_INET6
    daemon_threads = True


if __name__ == "__main__":
    Server(("::", 80), Handler).serve_forever()

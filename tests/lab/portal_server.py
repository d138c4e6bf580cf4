# SPDX-License-Identifier: GPL-3.0-or-later
"""The café's captive portal, on the café's router: ``python -m tests.lab.portal_server CERTIFICATE KEY``.

Port 80 answers whatever is asked with a redirect to the login page, which adds the visitor's hardware address to the
router's set of allowed ones. Port 443 serves the captive portal API (RFC 8908), whose address DHCP option 114 tells.
"""

import json
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6
from typing import Final

from tests.lab.plan import PORTAL_NAME

_LOGIN: Final = f"http://{PORTAL_NAME}/login"
_PAGE: Final = """<!doctype html><title>Café</title>
<p>Welcome. <form method=post action=/login><button>Accept the terms</button></form>
"""
_ALLOWED_SET: Final = ("inet", "cafe", "allowed")
"""The router's nft set of logged-in hardware addresses: the only memory of who is logged in."""


def _logged_in(mac: str) -> bool:
    listing = subprocess.run(["nft", "list", "set", *_ALLOWED_SET], capture_output=True, text=True, check=True).stdout
    return mac in listing


def _hardware_address(client: str) -> str:
    """The visitor's hardware address, from the router's neighbour table."""
    plain = client.removeprefix("::ffff:").partition("%")[0]
    words = subprocess.run(
        ["ip", "neigh", "show", plain, "dev", "lan0"], capture_output=True, text=True, check=True
    ).stdout.split()
    return words[words.index("lladdr") + 1]


class Handler(BaseHTTPRequestHandler):
    """The portal's pages."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """The API, the login page, or the redirect to it."""
        host = self.headers.get("Host", "").partition(":")[0]
        captive = not _logged_in(_hardware_address(self.client_address[0]))
        if host == PORTAL_NAME and self.path == "/api":
            answer = {"captive": captive, "user-portal-url": _LOGIN, "venue-info-url": f"http://{PORTAL_NAME}/menu"}
            self._answer(200, json.dumps(answer), "application/captive+json")
        elif host == PORTAL_NAME:
            self._answer(200, _PAGE, "text/html")
        else:
            self.send_response(302)
            self.send_header("Location", _LOGIN)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def do_POST(self) -> None:
        """Log the visitor in."""
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        mac = _hardware_address(self.client_address[0])
        subprocess.run(["nft", "add", "element", *_ALLOWED_SET, "{", mac, "}"], check=True)
        self._answer(200, "<!doctype html><p>You are online.\n", "text/html")

    def _answer(self, status: int, text: str, kind: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "private")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  the library's name
        """Say nothing: the recorder sees the traffic."""


class Server(ThreadingHTTPServer):
    """One dual-stack server."""

    address_family = AF_INET6
    daemon_threads = True


def main(certificate: str, key: str) -> None:
    """Serve until killed."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    api = Server(("::", 443), Handler)
    api.socket = tls.wrap_socket(api.socket, server_side=True)
    threading.Thread(target=api.serve_forever, daemon=True).start()
    Server(("::", 80), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])

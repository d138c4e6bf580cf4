# SPDX-License-Identifier: GPL-3.0-or-later
"""The internet's web server over TLS: ``python -m tests.netns.tls_site CERTIFICATE KEY``."""

import socket
import ssl
import sys
from typing import Any

from tests.lab import web_server


class Server(web_server.Server):
    """TLS is spoken by each connection's own thread: one that hangs in its handshake must not hold up the others."""

    def __init__(self, certificate: str, key: str) -> None:
        super().__init__(("::", 443), web_server.Handler)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate, key)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Speak TLS, then HTTP."""
        assert isinstance(request, socket.socket)
        with self._tls.wrap_socket(request, server_side=True) as wrapped:
            super().finish_request(wrapped, client_address)


if __name__ == "__main__":
    Server(*sys.argv[1:]).serve_forever()

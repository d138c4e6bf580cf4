# SPDX-License-Identifier: GPL-3.0-or-later
"""A printer and a television in somebody's home: ``python -m tests.neighbours.devices ADDRESS``. A program of its own.

The printer takes what it is sent on ports 631 (IPP) and 9100, and is found by mDNS (RFC 6762, RFC 6763); the television
listens on port 8009, and answers SSDP, as those that one casts to do.
"""

import socket
import struct
import sys
import threading
from collections.abc import Callable
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rrset

PRINTER, RAW, CAST = 631, 9100, 8009
MDNS: Final = ("224.0.0.251", 5353)
SSDP: Final = ("239.255.255.250", 1900)
SERVICE: Final = "_ipp._tcp.local."
INSTANCE: Final = f"Lab\\032Printer.{SERVICE}"
HOST: Final = "printer.local."
TELEVISION: Final = "urn:dial-multiscreen-org:service:dial:1"
_TTL_S: Final = 120


def answer(query: bytes, address: str) -> bytes:
    """What the printer says to a question by mDNS; b"" when it is not meant."""
    try:
        asked = dns.message.from_wire(query)
    except (dns.exception.DNSException, ValueError):
        return b""  # others speak there as well
    if asked.flags & dns.flags.QR or not any(str(one.name).endswith((SERVICE, HOST)) for one in asked.question):
        return b""
    said = dns.message.Message(id=0)
    said.flags = dns.flags.QR | dns.flags.AA
    records = {
        (SERVICE, "PTR"): INSTANCE,
        (INSTANCE, "SRV"): f"0 0 {PRINTER} {HOST}",
        (INSTANCE, "TXT"): '"txtvers=1" "rp=ipp/print"',
        (HOST, "A"): address,
    }
    for (name, kind), value in records.items():
        said.answer.append(dns.rrset.from_text(name, _TTL_S, "IN", kind, value))
    return said.to_wire()


def found(query: bytes, address: str) -> bytes:
    """What the television says to a search by SSDP."""
    if not query.startswith(b"M-SEARCH") or TELEVISION.encode() not in query:
        return b""
    lines = ("HTTP/1.1 200 OK", f"LOCATION: http://{address}:{CAST}/", f"ST: {TELEVISION}", "USN: uuid:lab", "", "")
    return "\r\n".join(lines).encode()


def serve_group(group: tuple[str, int], address: str, reply: Callable[[bytes, str], bytes], *, to_group: bool) -> None:
    """Answer what is asked of a multicast group, to all of it or to who asked."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unicast,
    ):
        unicast.bind((address, 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("", group[1]))
        membership = struct.pack("=4s4s", socket.inet_aton(group[0]), socket.inet_aton(address))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        while True:
            query, asker = sock.recvfrom(9000)
            if said := reply(query, address):
                if to_group:
                    sock.sendto(said, group)
                else:
                    unicast.sendto(said, asker)


def serve_port(port: int, address: str) -> None:
    """Take what a connection sends, and say how much it was."""
    with socket.create_server((address, port)) as server:
        while True:
            client, _ = server.accept()
            with client:
                taken = 0
                while piece := client.recv(65536):
                    taken += len(piece)
                client.sendall(f"{taken}\n".encode())


def main(address: str) -> None:
    """Be there until killed."""
    jobs: list[tuple[Callable[..., None], tuple[object, ...], dict[str, object]]] = [
        (serve_group, (MDNS, address, answer), {"to_group": True}),
        (serve_group, (SSDP, address, found), {"to_group": False}),
        *((serve_port, (port, address), {}) for port in (PRINTER, RAW, CAST)),
    ]
    threads = [threading.Thread(target=work, args=args, kwargs=more) for work, args, more in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1])

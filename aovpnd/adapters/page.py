# SPDX-License-Identifier: GPL-3.0-or-later
"""The page behind a tunnel's gateway that tells whether somebody has to sign in with his browser: one request, by the
tunnel's link alone, of whom nothing but the head of the answer is read.

Nothing is followed, kept or sent back: no redirect, no cookie, no body. What comes is hostile until it fits: a head of
bounded size, within one deadline for everything, and a URL in it that a person may be shown. A page by https has to
prove its name to the system's authorities.
"""

import io
import re
import socket
import ssl
import time
from functools import partial
from http.client import HTTPException, HTTPResponse
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from aovpnd.adapters import lookup
from aovpnd.adapters.bound import opened, tie
from aovpnd.inquiries import Finding, LookedUp, LookUp, Unanswered, Visited, VisitPage
from aovpnd.pages import LONGEST_URL, PRINTABLE, Page, Scheme
from aovpnd.ruleset import Address
from aovpnd.tunnel import unfit

DEADLINE_S: Final = 10.0
"""For everything: the name (adapters.lookup takes 6 s at most), the connection, TLS, and the answer's head."""
LARGEST_HEAD: Final = 16384
"""Bytes of an answer that are read."""
PIECE: Final = 2048
MOST_ADDRESSES: Final = 3
"""Addresses of a name that are tried one after the other."""
NETWORK_AUTHENTICATION_REQUIRED: Final = 511
"""RFC 6585 section 6."""
_END: Final = re.compile(rb"\r?\n\r?\n")


class NoPageError(Exception):
    """Nothing was found out, and why, in words for people."""


def visit(inquiry: VisitPage) -> Finding:
    """Ask for the page; ends within `DEADLINE_S`. Never raises for what the network does."""
    until = time.monotonic() + DEADLINE_S
    try:
        return Visited(inquiry, judge(inquiry.page, _head(inquiry, until)))
    except NoPageError as error:
        return Unanswered(inquiry, str(error))
    except ssl.SSLCertVerificationError as error:
        return Unanswered(inquiry, f"{inquiry.page.host} does not prove who it is: {error.verify_message}")
    except TimeoutError:
        return Unanswered(inquiry, f"{inquiry.page.host} does not answer in time")
    except OSError as error:  # ssl.SSLError is one as well
        return Unanswered(inquiry, f"{inquiry.page.host} cannot be asked: {error.strerror or type(error).__name__}")


# -- asking -----------------------------------------------------------------------------------------------------------
def _head(inquiry: VisitPage, until: float) -> bytes:
    """The head of the answer."""
    plain = _connected(inquiry, _addresses(inquiry), until)
    try:
        if inquiry.page.scheme is Scheme.HTTP:
            return _exchange(plain, inquiry.page, until)
        context = ssl.create_default_context()
        _patient(plain, until)
        with context.wrap_socket(plain, server_hostname=str(inquiry.page.host)) as stream:
            return _exchange(stream, inquiry.page, until)
    finally:
        plain.close()


def _addresses(inquiry: VisitPage) -> tuple[Address, ...]:
    """Where the page is: what the tunnel's own resolvers say, and of that only what can be behind a gateway."""
    host = inquiry.page.host
    if not isinstance(host, str):
        return (host,)
    asked = LookUp(host, inquiry.link, inquiry.link_name, inquiry.resolvers)
    found = lookup.look_up(asked, partial(tie, link=inquiry.link, link_name=inquiry.link_name))
    if isinstance(found, LookedUp):
        return tuple(addr for addr in found.addresses if unfit(addr) is None)[:MOST_ADDRESSES]
    raise NoPageError(f"{host} cannot be looked up: {found.text}" if isinstance(found, Unanswered) else host)


def _connected(inquiry: VisitPage, addresses: tuple[Address, ...], until: float) -> socket.socket:
    """A connection to the first address that takes one."""
    failed: OSError | None = None
    for number, addr in enumerate(addresses):
        stream = opened(inquiry.link, inquiry.link_name, addr, socket.SOCK_STREAM)
        share = (until - time.monotonic()) / (len(addresses) - number)
        try:
            _patient(stream, time.monotonic() + share).connect((str(addr), inquiry.page.port))
        except OSError as error:
            stream.close()
            failed = error
        else:
            return stream
    raise failed or NoPageError(f"{inquiry.page.host} has no address that can be behind a gateway")


def _exchange(stream: socket.socket, page: Page, until: float) -> bytes:
    _patient(stream, until).sendall(request(page))
    head = b""
    while _END.search(head) is None and len(head) < LARGEST_HEAD:
        piece = _patient(stream, until).recv(min(PIECE, LARGEST_HEAD - len(head)))
        if not piece:
            break
        head += piece
    return head


def _patient(stream: socket.socket, until: float) -> socket.socket:
    """The same socket, given all the time that is left; `TimeoutError` when there is none."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    stream.settimeout(left)
    return stream


def request(page: Page) -> bytes:
    """The request (RFC 9112 section 3). It tells nothing of this machine."""
    lines = (
        f"GET {page.target} HTTP/1.1",
        f"Host: {page.authority}",
        "User-Agent: aovpnd",
        "Accept: */*",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode("ascii")


# -- the answer -------------------------------------------------------------------------------------------------------
class _Whole:
    """A connection that has said all that it will say."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def makefile(self, _mode: str) -> io.BytesIO:
        """As `http.client` wants it."""
        return io.BytesIO(self._content)


def judge(page: Page, head: bytes) -> str | None:
    """What an answer's head says: the URL where somebody has to sign in; None: the page is there for us.

    `NoPageError` for anything else.
    """
    if _END.search(head) is None:
        raise NoPageError(f"{page.host} answers without an end, or with no answer of HTTP")
    whole: Any = _Whole(head)
    answer = HTTPResponse(whole, method="HEAD")  # there is nothing behind the head
    try:
        answer.begin()
        places = answer.headers.get_all("Location") or []
    except (HTTPException, ValueError, OSError):
        raise NoPageError(f"{page.host} answers with what is no answer of HTTP") from None
    finally:
        answer.close()
    if 200 <= answer.status < 300:  # noqa: PLR2004 - RFC 9110 section 15.3
        return None
    if answer.status == NETWORK_AUTHENTICATION_REQUIRED:
        return str(page)
    if 300 <= answer.status < 400 and places:  # noqa: PLR2004 - RFC 9110 section 15.4
        return leads_to(page, str(places[0])) if len(places) == 1 else str(page)
    raise NoPageError(f"{page.host} answers {answer.status}, which says nothing of a sign-in")


def leads_to(page: Page, location: str) -> str:
    """Where a redirect leads (RFC 9110 section 10.2.2), as far as a person may be sent there; else the page itself, of
    which his browser will be told the same.
    """
    if PRINTABLE.fullmatch(location) is None or len(location) > LONGEST_URL:
        return str(page)
    try:
        url = urljoin(str(page), location)
        parts = urlsplit(url)
        known = parts.port is None or parts.port > 0
        url = parts.scheme + url[len(parts.scheme) :]  # lower case, as whoever reads it expects
    except ValueError:
        return str(page)
    fit = parts.scheme in set(Scheme) and bool(parts.hostname) and "@" not in parts.netloc and "\\" not in url
    return url if fit and known and PRINTABLE.fullmatch(url) is not None and len(url) <= LONGEST_URL else str(page)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages that want a sign-in with a browser: what servers answer, what redirects say, and what files call a page."""

from ipaddress import ip_address
from typing import Final

from aovpnd.adapters import page
from aovpnd.config import sign_in
from aovpnd.config.findings import UnfitError
from aovpnd.ctl import browsing
from aovpnd.pages import LONGEST_URL, Page, Scheme
from tests.fuzz import judge
from tests.fuzz.mutate import Mutator
from tests.fuzz.target import Target, words

_PAGES: Final = (
    Page(Scheme.HTTP, ip_address("10.8.0.1"), 80, "/check?a=b"),
    Page(Scheme.HTTPS, "portal.example.com", 8443),
)
_HEADS: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 302 Found\r\nLocation: http://portal.example/login?token=abc\r\nServer: x\r\n\r\n",
    b"HTTP/1.0 307 T\r\nLocation: //[fd00::1]:8080/a/../b?c#d\r\nLocation: /x\r\n\r\n",
    b"HTTP/1.1 511 Network Authentication Required\nTransfer-Encoding: chunked\n\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
)
_WORDS: Final = (
    *(b"\r\n", b"\n", b"\r\n ", b": ", b"Location: ", b"HTTP/1.1 ", b"HTTP/0.9 ", b"302 ", b"511 ", b"\r\n\r\n"),
    *(b"http://", b"https://", b"//", b"javascript:", b"@", b"[", b"]", b"[::1%25", b"\\", b"%00", b"\x1b[2J", b"\x85"),
    *(b"=?utf-8?b?aHR0cDovL2E=?=", b"Content-Length: -1\r\n", b"Transfer-Encoding: chunked\r\n", b"../", b"?", b"#"),
)
_URLS: Final = (
    "http://10.8.0.1/",
    "https://portal.example.com:8443/check?a=b",
    "http://[fd00::1]/x",
    "HTTPS://büro.example",
)


def _answered(head: bytes) -> str:
    """Whatever a server says: the page is there, or a URL that a person may be shown and that a browser may open, or
    nothing is known.
    """
    outcomes = []
    for asked in _PAGES:
        try:
            wanted = page.judge(asked, head[: page.LARGEST_HEAD])
        except page.NoPageError as error:
            judge.told(str(error))
            outcomes.append(judge.outcome("nothing", str(error)))
            continue
        if wanted is None:
            outcomes.append("there")
            continue
        _judge_url(wanted)
        outcomes.append("itself" if wanted == str(asked) else "elsewhere")
    return " / ".join(outcomes)


def _judge_url(url: str) -> None:
    assert url.startswith(("http://", "https://"))
    assert len(url) <= LONGEST_URL
    assert all("!" <= letter <= "~" for letter in url)
    assert "@" not in url.partition("//")[2].partition("/")[0].partition("?")[0]
    judge.told(url, longest=LONGEST_URL)
    assert browsing.pages({"tunnels": [{"name": "work", "sign_in_url": url}]}) == {"work": url}


def _check(text: str) -> str:
    """Whatever a file calls a page: one that can be asked for, or a word why not."""
    try:
        found = sign_in._page(text)
    except UnfitError as error:
        judge.told(f"{error.reason} ({error.hint})")
        return judge.outcome("unfit", error.reason)
    request = page.request(found)
    assert request.count(b"\r\n") == request.count(b"\n") == 6
    assert request.startswith(b"GET /")
    _judge_url(str(found))
    assert sign_in._page(str(found)) == found
    return f"{found.scheme} {type(found.host).__name__}"


TARGETS: Final = (
    Target("page-answer", "what a page behind a gateway answers", _HEADS, _answered, Mutator(_WORDS), slice=1500),
    Target(
        "page-url",
        "a page that the settings name",
        _URLS,
        _check,
        Mutator((*words("http:// https:// @ : [ ] % # ? \\ \t \r\n 。 ／ ＠ xn-- 0x7f.1 localhost"),)),
        slice=1500,
    ),
)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages behind a tunnel's gateway that tell whether it lets anybody through before he has signed in with a browser:
which are asked, and what is remembered of one. Frozen values; `core.browser` is how they change.

Times are seconds on CLOCK_BOOTTIME.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Address
from typing import Final

from aovpnd.ruleset import Address
from aovpnd.tunnel import Endpoint

TABLE: Final = "sign_in"
"""What the settings call them."""
LONGEST_URL: Final = 2048
"""Characters: longer ones are no address that a person is shown, nor one that a browser's bar shows."""

PRINTABLE: Final = re.compile(r"[!-~]+")
"""What a URL is made of (RFC 3986 section 2): whatever else there is stands percent-encoded."""


def setting(tunnel: str) -> str:
    """The name of a tunnel's check, as settings have names."""
    return f"{TABLE}.{tunnel}"


class Scheme(StrEnum):
    """How a page is asked for."""

    HTTP = "http"
    HTTPS = "https"

    @property
    def port(self) -> int:
        """Where that is spoken unless somebody says otherwise."""
        return 80 if self is Scheme.HTTP else 443


@dataclass(frozen=True, slots=True)
class Page:
    """Where a page is: a URL without user, password and fragment. ``host`` is an address, or a name as DNS knows it;
    ``target`` is path and query, in printable ASCII.
    """

    scheme: Scheme
    host: Address | str
    port: int
    target: str = "/"

    @property
    def endpoint(self) -> Endpoint | None:
        """Whom to connect to; None where a name has to be looked up first."""
        return None if isinstance(self.host, str) else Endpoint(self.host, self.port)

    @property
    def authority(self) -> str:
        """Host and port, as a request names them (RFC 9110 section 7.2)."""
        host = f"[{self.host}]" if isinstance(self.host, IPv6Address) else str(self.host)
        return host if self.port == self.scheme.port else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


@dataclass(frozen=True, slots=True)
class Check:
    """The page of one tunnel that is there for whoever has signed in, and leads to the sign-in whoever has not."""

    tunnel: str
    page: Page


@dataclass(frozen=True, slots=True)
class Visit:
    """What is known of a tunnel's page, in one session: over which path (its fingerprint), since when.

    ``wanted``: the URL at which somebody is to sign in. So many ``times`` in a row it was answered alike, 0 while
    nothing is known; ``vain``: so many questions since went unanswered. ``at`` the last one (None until the pass that
    learns of its end), when ``tx_bytes`` was the count of what the tunnel had sent.
    """

    check: Check
    path: str
    since: float
    at: float | None = None
    tx_bytes: int = 0
    wanted: str | None = None
    times: int = 0
    vain: int = 0

    @property
    def done(self) -> bool:
        """Whether the page was there: nobody has to sign in."""
        return self.times > 0 and self.wanted is None

    @property
    def fresh(self) -> bool:
        """Whether nothing was found out in this session, and nothing was tried in vain."""
        return not self.times and not self.vain

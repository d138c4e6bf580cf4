# SPDX-License-Identifier: GPL-3.0-or-later
"""Why there is no SA, read off what charon writes down: its own words (libcharon 5.9 and 6.0) into `Said`.

The last reason that is known wins. What is not known says nothing here; that the gateway does not answer, others say.
"""

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aovpnd import regular
from aovpnd.ipsec import Said
from aovpnd.messages import printable

_Reason = tuple[re.Pattern[str], Callable[[re.Match[str]], Said]]
_LONGEST: Final = 120
"""Characters of a name that somebody else chose."""
_NAME: Final = r"'([^']*)'"


def _quoted(text: str) -> str:
    return f"'{printable(text)[:_LONGEST]}'"


def _reason(pattern: str, code: str, text: str, hint: str) -> _Reason:
    """``{}`` in the text is the pattern's first group, made safe to show."""
    return re.compile(pattern), lambda found: Said(code, text.format(*map(_quoted, found.groups())), hint)


_ADMINISTRATOR: Final = "ask whoever runs the gateway"
_REFUSED: Final = "ike-refused"
_BY_PSK: Final = "(myself) with pre-shared key"
REFUSALS: Final = frozenset({"ike-user-refused", _REFUSED})
"""Codes by which the gateway has judged what it was shown."""
KEY_REFUSED: Final = Said(
    "ike-key-refused",
    "the gateway refuses our preshared key, our identity, or the name that we call it by",
    "compare secret_file and identity of [[ike.auth]], and identity of [ike.server], with the gateway's",
)
"""It says no more to whoever has not shown who he is (RFC 7296 section 2.21.2)."""
REASONS: Final[tuple[_Reason, ...]] = (
    _reason(
        r"tried \d+ shared keys? for .*, but MAC mismatched",
        "ike-key-differs",
        "the gateway has another preshared key than we have",
        "compare secret_file of [[ike.auth]] with the gateway's",
    ),
    _reason(
        r"constraint check failed: identity " + _NAME + " required",
        "ike-identity-differs",
        "whoever answers is not {}",
        "correct identity of [ike.server], if the gateway has another name; otherwise somebody poses as it",
    ),
    _reason(
        r"IDir " + _NAME + " does not match to ",
        "ike-identity-differs",
        "whoever answers says that it is {}",
        "correct identity of [ike.server], if the gateway has another name; otherwise somebody poses as it",
    ),
    _reason(
        r"subject certificate invalid \(valid from .* to .*\)",
        "ike-server-expired",
        "the gateway's certificate is not valid today",
        "is the clock right? If it is, ask whoever runs the gateway for a new certificate",
    ),
    _reason(
        r"certificate was revoked",
        "ike-server-revoked",
        "the gateway's certificate was revoked",
        _ADMINISTRATOR,
    ),
    _reason(
        r"constraint check failed: RULE_CRL_VALIDATION is ",
        "ike-server-unlisted",
        "no list says that the gateway's certificate is not revoked",
        "bring crls of [ike.server] up to date: a list of whoever signed the gateway's certificate, not past its end",
    ),
    _reason(
        r"no issuer certificate found for ",
        "ike-server-untrusted",
        "nobody whom we believe has signed the gateway's certificate",
        "correct authorities of [ike.server]: it must be the authority that signed the gateway's certificate",
    ),
    _reason(
        r"no trusted \S+ public key found for " + _NAME,
        "ike-identity-differs",
        "the gateway shows no certificate for {}",
        "correct identity of [ike.server], if the gateway has another name; otherwise somebody poses as it",
    ),
    _reason(
        r"requesting (EAP_\S+) authentication, sending EAP_NAK",
        "ike-method-refused",
        "the gateway does not offer {}",
        "set method of [[ike.auth]] to what the gateway asks for",
    ),
    _reason(
        r"no private key found for " + _NAME,
        "ike-key-missing",
        "there is no private key for {}",
        "is the token plugged in, and its PIN right? See key, token and tpm of [[ike.auth]]",
    ),
    _reason(
        r"loading (EAP\S*|XAuth) (?:method|backend)?.*failed",
        "ike-plugin-missing",
        "charon cannot do {}",
        "apt install libcharon-extra-plugins libcharon-extauth-plugins",
    ),
    _reason(
        r"(?:received EAP_FAILURE|EAP-MS-CHAPv2 failed|EAP method \S+ failed|XAuth authentication of .* failed)",
        "ike-user-refused",
        "the gateway refuses the user or the password",
        "correct user and password_file of [[ike.auth]]",
    ),
    _reason(
        r"received NO_PROPOSAL_CHOSEN",
        "ike-no-proposal",
        "the gateway takes none of the algorithms that we offer",
        "set proposals and esp_proposals of [ike] to what the gateway takes",
    ),
    _reason(
        r"received TS_UNACCEPTABLE",
        "ike-networks-refused",
        "the gateway does not lead to the networks that we ask for",
        "correct networks of [tunnel]",
    ),
    _reason(
        r"received (?:INTERNAL_ADDRESS_FAILURE|FAILED_CP_REQUIRED)|no virtual IP found",
        "ike-no-address",
        "the gateway has no address for us",
        "correct families or addresses of [tunnel], or ask whoever runs the gateway",
    ),
    _reason(
        r"received AUTHENTICATION_FAILED",
        _REFUSED,
        "the gateway does not believe that we are who we say, or is not called what we call it",
        "compare identity and certificate of [[ike.auth]], and identity of [ike.server], with what the gateway expects",
    ),
)


def read(text: str) -> Said | None:
    """The reason that stands last in a piece of charon's log, or None where it names none that we know.

    Of one attempt's reasons the first is the cause: what charon says itself before the gateway says that it failed.
    """
    for lines in reversed(_attempts(text)):
        found = next(
            (make(match) for row in lines for pattern, make in REASONS if (match := pattern.search(row))), None
        )
        if found is not None:
            return KEY_REFUSED if found.code == _REFUSED and any(_BY_PSK in row for row in lines) else found
    return None


def _attempts(text: str) -> list[list[str]]:
    """The lines of each attempt."""
    attempts: list[list[str]] = [[]]
    for line in text.splitlines():
        if "initiating" in line:
            attempts.append([])
        attempts[-1].append(line)
    return attempts


# -- the file, to which charon appends ---------------------------------------------------------------------------------
_LARGEST: Final = 1 << 20
_TAIL_BYTES: Final = 1 << 16


def tail(path: Path, start: int) -> str:
    """What stands in it from a byte on, or the end of that; empty where it cannot be read."""
    with contextlib.suppress(OSError), regular.opened(path, follow=False) as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(start, size - _TAIL_BYTES))
        return log.read(_TAIL_BYTES).decode("utf-8", "replace")
    return ""


def cut(path: Path) -> int:
    """How long it is now; one that has grown large begins anew."""
    with contextlib.suppress(OSError), regular.opened(path, follow=False, write=True) as log:
        size = log.seek(0, os.SEEK_END)
        if size < _LARGEST:
            return size
        log.truncate(0)
    return 0

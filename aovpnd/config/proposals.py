# SPDX-License-Identifier: GPL-3.0-or-later
"""Proposals of IKE and ESP in strongSwan's words (swanctl.conf(5)): which there are, and which are weak.

A keyword that charon does not know makes it drop the whole proposal with a line in its log, and take its default
instead: so every one is known here, or refused. Whether the charon that is installed has it (ML-KEM came with 6.0) is
the backend's question.
"""

import difflib
import re
from enum import Enum
from typing import Final

from aovpnd.config import plain
from aovpnd.config.findings import UnfitError, quoted


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LENGTHS: Final = ("128", "192", "256")
_TAGS: Final = ("", "8", "12", "16", "64", "96", "128")
_AEAD: Final = frozenset(
    {
        "chacha20poly1305",
        *(f"aes{bits}{mode}{tag}" for bits in _LENGTHS for mode in ("gcm", "ccm") for tag in _TAGS),
    }
)
_CLASSIC: Final = frozenset(
    {"aes", "3des", "des"}
    | {f"{cipher}{bits}{mode}" for cipher in ("aes", "camellia") for bits in _LENGTHS for mode in ("", "ctr")}
)
_INTEGRITY: Final = _words(
    "sha256 sha2_256 sha384 sha2_384 sha512 sha2_512 aesxcbc aescmac sha sha1 sha1_160 md5 md5_128"
)
_PRF: Final = _words("prfsha256 prfsha384 prfsha512 prfaesxcbc prfaescmac prfsha1 prfmd5")
_GROUPS: Final = _words(
    "x25519 curve25519 x448 curve448 ecp256 ecp384 ecp521 ecp256bp ecp384bp ecp512bp ecp192 ecp224 ecp224bp"
    " modp2048 modp3072 modp4096 modp6144 modp8192 modp1536 modp1024 modp768"
    " modp2048s256 modp2048s224 modp1024s160 mlkem512 mlkem768 mlkem1024"
)
_FURTHER: Final = frozenset(f"ke{number}_{group}" for number in range(1, 8) for group in _GROUPS)
"""Additional key exchanges (RFC 9370)."""
_SEQUENCES: Final = frozenset({"esn", "noesn"})
_WEAK: Final = _words("des 3des md5 md5_128 sha sha1 sha1_160 prfmd5 prfsha1 ecp192 modp768 modp1024 modp1024s160")
"""By RFC 8247 and RFC 8221: broken, or within reach of whoever records today."""
_UNPROTECTED: Final = re.compile(r"null|aes\d+gmac")
_FORM: Final = re.compile(r"[a-z0-9_]+(?:-[a-z0-9_]+)*")
LONGEST: Final = 200
"""Characters of one proposal; strongSwan's own default has fewer than that of each kind."""


class Kind(Enum):
    """What a proposal is for."""

    IKE = "IKE"
    ESP = "ESP"


_ALLOWED: Final = {
    Kind.IKE: _AEAD | _CLASSIC | _INTEGRITY | _PRF | _GROUPS | _FURTHER,
    Kind.ESP: _AEAD | _CLASSIC | _INTEGRITY | _GROUPS | _FURTHER | _SEQUENCES,
}


def proposal(value: object, kind: Kind) -> str:
    """One proposal, as it was written."""
    written = plain.text(value)
    if len(written) > LONGEST or _FORM.fullmatch(written) is None:
        example = "aes256-sha256-x25519" if kind is Kind.IKE else "aes256gcm16-x25519"
        raise UnfitError(f"{quoted(written)} is no proposal", f'write it like "{example}"')
    words = written.split("-")
    for word in words:
        _known(word, kind)
    if len(set(words)) != len(words):
        raise UnfitError(f"{quoted(written)} says something twice", "remove one of them")
    _complete(written, frozenset(words), kind)
    return written


def weak(written: str) -> tuple[str, ...]:
    """The keywords of a proposal that are weak."""
    return tuple(word for word in written.split("-") if word.partition("_")[2] in _WEAK or word in _WEAK)


def _known(word: str, kind: Kind) -> None:
    if word in _ALLOWED[kind]:
        return
    if _UNPROTECTED.fullmatch(word):
        raise UnfitError(f"{quoted(word)} does not encrypt", 'write one that does, like "aes256gcm16"')
    if word == "default":
        raise UnfitError("'default' is no keyword here", "without the line, strongSwan's own proposals are used")
    close = difflib.get_close_matches(word, _ALLOWED[kind], 1)
    hint = f"did you mean {close[0]}?" if close else "swanctl.conf(5) lists the keywords"
    raise UnfitError(f"{quoted(word)} is no keyword of {kind.value} proposals", hint)


def _complete(written: str, words: frozenset[str], kind: Kind) -> None:
    """What charon would drop, or what would not authenticate."""
    if not words & (_AEAD | _CLASSIC):
        raise UnfitError(f"{quoted(written)} names no encryption", 'begin with one, like "aes256"')
    if words & _AEAD and words & _CLASSIC:
        reason = f"{quoted(written)} mixes AEAD ciphers with others"
        raise UnfitError(reason, "make two proposals of it (RFC 7296 section 3.3)")
    if words & _AEAD and words & _INTEGRITY and kind is Kind.ESP:
        raise UnfitError(f"{quoted(written)} has an integrity algorithm beside an AEAD cipher", "remove it")
    if words & _CLASSIC and not words & _INTEGRITY:
        raise UnfitError(f"{quoted(written)} names no integrity algorithm", 'add one, like "sha256"')
    if kind is Kind.IKE and not words & (_INTEGRITY | _PRF):
        raise UnfitError(f"{quoted(written)} names no pseudo-random function", 'add one, like "prfsha256"')
    if kind is Kind.IKE and not words & _GROUPS:
        raise UnfitError(f"{quoted(written)} names no key exchange", 'add one, like "x25519"')
    if words & _FURTHER and not words & _GROUPS:
        raise UnfitError(f"{quoted(written)} adds to a key exchange that it does not name", 'add one, like "x25519"')

# SPDX-License-Identifier: GPL-3.0-or-later
"""How many bytes ESP in UDP adds to a packet, by the words of its proposals (RFC 4303, RFC 3948).

A gateway chooses among the proposals, so the most of all of them counts. Without any strongSwan offers its own, old
ciphers of large blocks among them. What is believed too small costs throughput, too large makes fragments.
"""

import re
from collections.abc import Sequence
from typing import Final

_IP: Final = {4: 20, 6: 40}
_AROUND: Final = 8 + 8 + 2
"""UDP; SPI and sequence number; the length of the padding and the next header."""
_AEAD: Final = re.compile(r"aes\d+[gc]cm(\d*)|chacha20poly1305")
"""Words of a cipher that authenticates by itself, some with the size of its tag, in bytes or bits."""
_AEAD_ADDS: Final = 8 + 3
"""An IV, and padding to a multiple of 4."""
_SHORT_TAGS: Final = {"8": 8, "64": 8, "12": 12, "96": 12}
_TAG: Final = 16
_OTHERS: Final = (
    (re.compile(r"(?:aes|camellia)\d+ctr"), 8 + 3),
    (re.compile(r"(?:aes|camellia)\d*"), 16 + 15),
    (re.compile(r"3?des"), 8 + 7),
)
"""Words of a cipher that does not, and the bytes of IV and padding."""
_ICVS: Final = (
    dict.fromkeys(("sha256", "sha2_256", "md5_128"), 16)
    | dict.fromkeys(("sha384", "sha2_384"), 24)
    | dict.fromkeys(("sha512", "sha2_512"), 32)
    | dict.fromkeys(("aesxcbc", "aescmac", "sha", "sha1", "md5"), 12)
    | {"sha1_160": 20}
)
"""Bytes of what authenticates a packet beside such a cipher, by words."""
_MOST: Final = 16 + 15 + 32


def adds(proposals: Sequence[str]) -> dict[int, int]:
    """The most bytes, by the IP version of the packet outside."""
    most = _AROUND + max((_of(proposal.split("-")) for proposal in proposals), default=_MOST)
    return {version: header + most for version, header in _IP.items()}


def _of(words: Sequence[str]) -> int:
    icv = max((_ICVS.get(word, 0) for word in words), default=0)
    return max(_cipher(word, icv) for word in words) or _MOST


def _cipher(word: str, icv: int) -> int:
    """IV, padding and what authenticates, where a word is that of a cipher."""
    if (aead := _AEAD.fullmatch(word)) is not None:
        return _AEAD_ADDS + _SHORT_TAGS.get(aead[1], _TAG)
    return next((size + icv for form, size in _OTHERS if form.fullmatch(word)), 0)

# SPDX-License-Identifier: GPL-3.0-or-later
"""What ESP adds to a packet, against packets that are put together as RFC 4303 draws them."""

import itertools

import pytest

from aovpnd.config.proposals import _AEAD, _ALLOWED, _CLASSIC, _INTEGRITY, Kind
from aovpnd.core import esp

UPLINK = 1500
SIZES = {
    # words: IV, block, ICV
    "aes256gcm16-x25519": (8, 4, 16),
    "aes128gcm-esn": (8, 4, 16),
    "aes128gcm64": (8, 4, 8),
    "aes192ccm12": (8, 4, 12),
    "chacha20poly1305": (8, 4, 16),
    "aes256-sha256-modp2048": (16, 16, 16),
    "aes128ctr-sha384": (8, 4, 24),
    "camellia256-sha512": (16, 16, 32),
    "aes-aesxcbc": (16, 16, 12),
    "3des-sha1": (8, 8, 12),
    "3des-md5_128": (8, 8, 16),
    "aes128-sha1_160": (16, 16, 20),
}


def _outer(version: int, inner: int, iv: int, block: int, icv: int) -> int:
    padded = -(-(inner + 2) // block) * block
    return {4: 20, 6: 40}[version] + 8 + 8 + iv + padded + icv


@pytest.mark.parametrize("words", SIZES)
def test_what_is_left_fits_and_little_is_given_away(words: str) -> None:
    """The largest packet inside fits into the one outside, for uplinks of every size; at most a block is wasted."""
    iv, block, icv = SIZES[words]
    for version, uplink in itertools.product((4, 6), range(UPLINK, UPLINK + 32)):
        inner = uplink - esp.adds((words,))[version]
        assert _outer(version, inner, iv, block, icv) <= uplink
        assert _outer(version, inner + block, iv, block, icv) > uplink


def test_the_most_counts() -> None:
    """Of several proposals and of several words; and without any, of all that strongSwan may offer."""
    small, large = "aes128gcm16", "aes256-sha512"
    assert esp.adds((small, large)) == esp.adds((large,)) == esp.adds(("aes256-sha256-sha512",)) == esp.adds(())
    assert esp.adds((small,))[6] < esp.adds((large,))[6]
    assert esp.adds(("aes128gcm16-aes256gcm8",)) == esp.adds((small,))


def test_every_word_is_known() -> None:
    """A cipher or integrity algorithm that a file may name is one whose sizes are known here."""
    assert _ALLOWED[Kind.ESP] >= _AEAD | _CLASSIC | _INTEGRITY
    unknown = esp.adds(("no-such-words",))
    assert unknown == esp.adds(())
    for cipher in _AEAD:
        assert esp.adds((cipher,))[4] < unknown[4]
    for cipher, integrity in itertools.product(_CLASSIC, _INTEGRITY):
        alone = esp.adds((cipher,))[4]
        assert alone < esp.adds((f"{cipher}-{integrity}",))[4] <= unknown[4]

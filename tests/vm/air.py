# SPDX-License-Identifier: GPL-3.0-or-later
"""What was said on the air, read with the network's passphrase: IEEE 802.11 frames of a WPA2-PSK network as Ethernet.

Written from the standard (IEEE 802.11-2020: 9.2 frames, 12.5.3 CCMP, 12.7 keys), independently of the kernel that has
sent them. Whoever hears the four messages by which a station and an access point agree on a key, and knows the
passphrase, knows that key.
"""

import hashlib
import hmac
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from tests.vm.pcap import frames_of

_DATA: Final = 2
_QOS, _NO_DATA = 0x8, 0x4
_TO_DS, _FROM_DS, _PROTECTED = 0x01, 0x02, 0x40
_A_MSDU: Final = 0x80
_SNAP: Final = bytes.fromhex("aaaa03000000")
_EAPOL: Final = 0x888E
_KEY_NONCE: Final = slice(17, 49)
_CCMP_HEAD, _CCMP_MIC = 8, 8


class Cover(Enum):
    """How a frame of data was on the air."""

    ENCRYPTED = "encrypted, and read with the key"
    PLAIN = "in clear"
    UNREADABLE = "encrypted, and none of the keys fits"


@dataclass(frozen=True, slots=True)
class Said:
    """A frame of data that a station sent to an access point."""

    cover: Cover
    point: bytes
    """The access point's hardware address."""
    station: bytes
    """Who says that he has sent it."""
    ethernet: bytes
    """As Ethernet; without its content where that could not be read."""

    @property
    def eapol(self) -> bool:
        """Whether it belongs to the agreement on a key, which begins in clear."""
        return self.ethernet[12:14] == _EAPOL.to_bytes(2)


@dataclass(slots=True)
class Listener:
    """Follows the agreements on keys; ``networks`` are passphrase and SSID."""

    networks: tuple[tuple[str, bytes], ...]
    _masters: list[bytes] = field(default_factory=list)
    _nonces: dict[bytes, bytes] = field(default_factory=dict)
    """Of the access points, by their addresses."""
    _keys: dict[bytes, list[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the pairwise master keys (IEEE 802.11-2020, J.4)."""
        self._masters = [hashlib.pbkdf2_hmac("sha1", phrase.encode(), ssid, 4096, 32) for phrase, ssid in self.networks]

    def hear(self, path: Path) -> Iterator[Said]:
        """Read a capture (pcap, radiotap) and give what stations said to access points."""
        for frame in frames_of(path):
            (head,) = struct.unpack_from("<H", frame, 2)
            if len(frame) < head + 24 or (frame[head] >> 2) & 3 != _DATA:
                continue
            said = self._data(frame[head:])
            if said is not None:
                yield said

    def _data(self, frame: bytes) -> Said | None:
        subtype, flags = frame[0] >> 4, frame[1]
        if subtype & _NO_DATA:
            return None
        quality = frame[24:26] if subtype & _QOS else b""
        if quality and quality[0] & _A_MSDU:
            raise ValueError("an A-MSDU: several frames in one are not understood here")
        first, second, third = frame[4:10], frame[10:16], frame[16:22]
        body = frame[24 + len(quality) :]
        if flags & (_TO_DS | _FROM_DS) == _FROM_DS:
            self._remember_nonce(second, body, protected=bool(flags & _PROTECTED))
            return None
        if flags & (_TO_DS | _FROM_DS) != _TO_DS:
            return None
        cover = Cover.PLAIN
        if flags & _PROTECTED:
            cover, body = self._decrypt(frame[:24] + quality, first, body)
        said = Said(cover, first, second, _as_ethernet(third, second, body))
        if said.eapol and cover is Cover.PLAIN:
            self._agree(first, second, body[8:])
        return said

    def _remember_nonce(self, point: bytes, body: bytes, *, protected: bool) -> None:
        if not protected and body[:8] == _SNAP + _EAPOL.to_bytes(2) and len(body) >= 8 + _KEY_NONCE.stop:
            self._nonces[point] = body[8:][_KEY_NONCE]

    def _agree(self, point: bytes, station: bytes, eapol: bytes) -> None:
        """Derive the key that the second message, the station's, belongs to (12.7.1.3)."""
        theirs, ours = self._nonces.get(point), eapol[_KEY_NONCE]
        if theirs is None or not any(ours):
            return
        seed = min(point, station) + max(point, station) + min(theirs, ours) + max(theirs, ours)
        for master in self._masters:
            label = b"Pairwise key expansion\0" + seed
            stream = b"".join(hmac.digest(master, label + bytes([count]), "sha1") for count in range(3))
            self._keys.setdefault(point, []).insert(0, stream[32:48])

    def _decrypt(self, head: bytes, point: bytes, body: bytes) -> tuple[Cover, bytes]:
        """CCMP (12.5.3): the header is authenticated but for what a repetition changes."""
        number = bytes((body[7], body[6], body[5], body[4], body[1], body[0]))
        priority = bytes([head[24] & 0x0F]) if len(head) > 24 else b"\0"
        covered = bytes((head[0] & 0x8F, head[1] & 0x47 | _PROTECTED)) + head[4:22] + bytes((head[22] & 0x0F, 0))
        covered += priority + b"\0" if len(head) > 24 else b""
        for key in self._keys.get(point, ()):
            try:
                nonce = priority + head[10:16] + number
                return Cover.ENCRYPTED, AESCCM(key, tag_length=_CCMP_MIC).decrypt(nonce, body[_CCMP_HEAD:], covered)
            except InvalidTag:
                continue
        return Cover.UNREADABLE, b""


def _as_ethernet(to: bytes, sender: bytes, body: bytes) -> bytes:
    """Put Ethernet's header in the place of LLC's (RFC 1042); what has none gets its length instead of a type."""
    if body[:6] == _SNAP:
        return to + sender + body[6:]
    return to + sender + len(body).to_bytes(2) + body

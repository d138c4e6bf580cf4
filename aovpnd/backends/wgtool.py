# SPDX-License-Identifier: GPL-3.0-or-later
"""What wg(8) prints and reads, as values: ``wg show LINK dump`` and ``wg setconf``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final

from aovpnd import names
from aovpnd.errors import ToolError
from aovpnd.model import PeerState
from aovpnd.tunnel import Endpoint, Peer, Secret, WireGuard

_KEY: Final = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw480]=")
_ENDPOINT: Final = re.compile(r"(?:\[(?P<six>[^\[\]]+)\]|(?P<four>[0-9.]+)):(?P<port>[0-9]+)")
_NONE: Final = "(none)"
_OFF: Final = "off"
_INTERFACE_FIELDS: Final = 4
_PEER_FIELDS: Final = 8
_LARGEST: Final = {16: 1 << 16, 32: 1 << 32, 64: 1 << 64}


@dataclass(frozen=True, slots=True)
class Device:
    """A WireGuard device as it is. ``digest`` compares with `WireGuard.digest`; it and the key are None while the
    device has no key.
    """

    public_key: str | None
    digest: str | None
    fwmark: int
    listen_port: int
    peers: tuple[PeerState, ...] = field(default=())


def parse_dump(text: str) -> Device:
    """Read ``wg show LINK dump``. `ToolError` for anything that wg(8) does not print; it never quotes a line."""
    lines = text.split("\n")
    if lines.pop() != "" or not lines:
        raise ToolError("wg show: the output is cut short")
    try:
        private, public, port, mark = _split(lines[0], _INTERFACE_FIELDS)
        parsed = [_peer(line) for line in lines[1:]]
        key = _optional_key(private)
        return Device(
            public_key=_optional_key(public) if key else None,
            digest=_digest(key, tuple(peer for peer, _state in parsed)) if key else None,
            fwmark=0 if mark == _OFF else _number(mark, 32, 16),
            listen_port=_number(port, 16),
            peers=tuple(state for _peer, state in parsed),
        )
    except ValueError as error:
        # "from None": the message of a ValueError quotes what it could not read, and that may be a key.
        raise ToolError(f"wg show: unexpected output ({type(error).__name__} in {len(lines)} lines)") from None


def _digest(private: str, peers: tuple[Peer, ...]) -> str:
    return WireGuard("device", "", Secret(private), "", (), peers).digest()


def _peer(line: str) -> tuple[Peer, PeerState]:
    public, preshared, endpoint, allowed, handshake, received, sent, keepalive = _split(line, _PEER_FIELDS)
    preshared_key = _optional_key(preshared)
    peer = Peer(
        public_key=_key(public),
        allowed=() if allowed == _NONE else tuple(ip_network(network) for network in allowed.split(",")),
        endpoint=None if endpoint == _NONE else parse_endpoint(endpoint),
        preshared_key=Secret(preshared_key) if preshared_key else None,
        keepalive_s=0 if keepalive == _OFF else _number(keepalive, 16),
    )
    state = PeerState(
        public_key=peer.public_key,
        endpoint=peer.endpoint,
        handshake_wall=_number(handshake, 64) or None,
        rx_bytes=_number(received, 64),
        tx_bytes=_number(sent, 64),
        keepalive_s=peer.keepalive_s,
    )
    return peer, state


def parse_endpoint(text: str) -> Endpoint:
    """``192.0.2.1:51820`` or ``[2001:db8::1]:51820``. `ValueError` for anything else."""
    matched = _ENDPOINT.fullmatch(text)
    if matched is None:
        raise ValueError("not an endpoint")
    address = IPv6Address(matched["six"]) if matched["six"] else IPv4Address(matched["four"])
    return Endpoint(address, _number(matched["port"], 16))


def _split(line: str, count: int) -> list[str]:
    fields = line.split("\t")
    if len(fields) != count:
        raise ValueError("wrong number of fields")
    return fields


def _key(text: str) -> str:
    if _KEY.fullmatch(text) is None:
        raise ValueError("not a key")
    return text


def _optional_key(text: str) -> str | None:
    return None if text == _NONE else _key(text)


def _number(text: str, bits: int, base: int = 10) -> int:
    """An unsigned number; int() alone would take signs, blanks, underscores and other scripts' digits."""
    if re.fullmatch(r"0x[0-9a-f]{1,8}" if base == 16 else r"[0-9]{1,20}", text) is None:  # noqa: PLR2004 - hexadecimal
        raise ValueError("not a number")
    number = int(text, base)
    if number >= _LARGEST[bits]:
        raise ValueError("too large")
    return number


def configuration(spec: WireGuard, keepalive_s: Mapping[str, int]) -> str:
    """The text for ``wg setconf``: keys in it, so it goes through a pipe and nowhere else.

    ``keepalive_s`` overrides a peer's own, by public key.
    """
    lines = ["[Interface]", f"PrivateKey = {spec.private_key.value}", f"FwMark = {names.FWMARK:#x}"]
    if spec.listen_port is not None:
        lines.append(f"ListenPort = {spec.listen_port}")
    for peer in spec.peers:
        lines += ["[Peer]", f"PublicKey = {peer.public_key}"]
        if peer.preshared_key is not None:
            lines.append(f"PresharedKey = {peer.preshared_key.value}")
        if peer.endpoint is not None:
            lines.append(f"Endpoint = {peer.endpoint}")
        if peer.allowed:
            lines.append(f"AllowedIPs = {', '.join(map(str, peer.allowed))}")
        lines.append(f"PersistentKeepalive = {keepalive_s.get(peer.public_key, peer.keepalive_s)}")
    return "\n".join(lines) + "\n"

# SPDX-License-Identifier: GPL-3.0-or-later
"""What wg(8) prints is read strictly, what it shall read is written exactly, and keys are never shown."""

import base64
import contextlib
import string
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aovpnd.adapters.process import without_keys
from aovpnd.backends.wgtool import configuration, parse_dump, parse_endpoint
from aovpnd.errors import ToolError
from aovpnd.model import PeerState
from aovpnd.tunnel import Endpoint, Peer, Secret, WireGuard


def key(number: int) -> str:
    """A key made of one byte."""
    return base64.b64encode(bytes([number] * 32)).decode()


SPEC = WireGuard(
    name="home",
    source="home.conf",
    private_key=Secret(key(1)),
    public_key=key(2),
    addresses=(),
    peers=(
        Peer(key(3), (ip_network("0.0.0.0/0"), ip_network("::/0")), Endpoint(IPv4Address("192.0.2.1"), 51820)),
        Peer(key(4), (ip_network("10.0.0.0/8"),), Endpoint(IPv6Address("2001:db8::1"), 1), Secret(key(5)), 25),
    ),
)
DUMP = (
    f"{key(1)}\t{key(2)}\t40000\t0x2a000000\n"
    f"{key(4)}\t{key(5)}\t[2001:db8::1]:1\t10.0.0.0/8\t1795245339\t92\t180\t25\n"
    f"{key(3)}\t(none)\t192.0.2.1:51820\t::/0,0.0.0.0/0\t0\t0\t148\toff\n"
)


def test_dump_of_a_running_device() -> None:
    """Every field; the digest is that of the configuration, in whatever order wg(8) prints it."""
    device = parse_dump(DUMP)

    assert device.public_key == SPEC.public_key
    assert device.digest == SPEC.digest()
    assert (device.fwmark, device.listen_port) == (0x2A000000, 40000)
    assert device.peers == (
        PeerState(key(4), Endpoint(IPv6Address("2001:db8::1"), 1), 1795245339, 92, 180, 25),
        PeerState(key(3), Endpoint(IPv4Address("192.0.2.1"), 51820), None, 0, 148, 0),
    )


def test_dump_of_a_new_device() -> None:
    """No key, no digest."""
    device = parse_dump("(none)\t(none)\t0\toff\n")

    assert (device.public_key, device.digest, device.fwmark, device.peers) == (None, None, 0, ())


@pytest.mark.parametrize(
    "changed",
    [
        replace(SPEC, private_key=Secret(key(9))),
        replace(SPEC, peers=SPEC.peers[:1]),
        replace(SPEC, peers=(replace(SPEC.peers[0], preshared_key=Secret(key(9))), SPEC.peers[1])),
        replace(SPEC, peers=(replace(SPEC.peers[0], allowed=(ip_network("::/0"),)), SPEC.peers[1])),
        replace(SPEC, peers=(replace(SPEC.peers[0], public_key=key(9)), SPEC.peers[1])),
    ],
)
def test_digest_tells_configurations_apart(changed: WireGuard) -> None:
    """Any key or prefix that differs makes it another device."""
    assert parse_dump(DUMP).digest != changed.digest()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param(DUMP.rstrip("\n"), id="cut short"),
        pytest.param(DUMP + "\n", id="an empty line"),
        pytest.param(DUMP.replace("\toff\n", "\n"), id="a field too few"),
        pytest.param(DUMP.replace("\toff\n", "\toff\tx\n"), id="a field too many"),
        pytest.param(DUMP.replace(key(1), key(1)[:-2] + "B="), id="a key that is none"),
        pytest.param(DUMP.replace("40000", "65536"), id="port"),
        pytest.param(DUMP.replace("0x2a000000", "2a000000"), id="mark"),
        pytest.param(DUMP.replace("0x2a000000", "0x1_0"), id="underscore"),
        pytest.param(DUMP.replace("\t92\t", "\t-1\t"), id="negative"),
        pytest.param(DUMP.replace("\t92\t", "\t٣\t"), id="other digits"),
        pytest.param(DUMP.replace("192.0.2.1:51820", "example.net:51820"), id="host name"),
        pytest.param(DUMP.replace("10.0.0.0/8", "10.0.0.1/8"), id="host bits"),
    ],
)
def test_anything_else_is_an_error(text: str) -> None:
    """A ToolError that quotes no line, for there are keys in them."""
    with pytest.raises(ToolError) as caught:
        parse_dump(text)

    assert not any(key(number) in str(caught.value) for number in range(1, 6))
    assert caught.value.__cause__ is None


@given(st.text(alphabet=string.printable, max_size=300))
def test_no_text_does_harm(text: str) -> None:
    """A device or a ToolError."""
    with contextlib.suppress(ToolError):
        parse_dump(text)


@given(st.data())
def test_no_damage_does_harm(data: st.DataObject) -> None:
    """As above, for a real dump with a few characters replaced."""
    text = list(DUMP)
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.sampled_from("\t\n.:/[]()0-xA=,%"))
    with contextlib.suppress(ToolError):
        parse_dump("".join(text))


@pytest.mark.parametrize(
    "text", ["192.0.2.1", ":1", "2001:db8::1:1", "[192.0.2.1:1", "[]:1", "192.0.2.1:", "[::1]:99999"]
)
def test_broken_endpoint(text: str) -> None:
    """A ValueError."""
    with pytest.raises(ValueError, match=r"\S"):
        parse_endpoint(text)


def test_configuration_is_what_wg_reads() -> None:
    """The whole text, keys and mark included; a keepalive may be overridden by peer."""
    assert configuration(replace(SPEC, listen_port=7), {key(3): 25, key(4): 0}) == (
        f"[Interface]\nPrivateKey = {key(1)}\nFwMark = 0x2a000000\nListenPort = 7\n"
        f"[Peer]\nPublicKey = {key(3)}\nEndpoint = 192.0.2.1:51820\nAllowedIPs = 0.0.0.0/0, ::/0\n"
        "PersistentKeepalive = 25\n"
        f"[Peer]\nPublicKey = {key(4)}\nPresharedKey = {key(5)}\nEndpoint = [2001:db8::1]:1\nAllowedIPs = 10.0.0.0/8\n"
        "PersistentKeepalive = 0\n"
    )


def test_complaints_hide_keys() -> None:
    """wg(8) quotes what it does not like; of that nothing that may be a key is left."""
    complaint = f"Key is not the correct length or format: `{key(1)[:-4]}'\nConfiguration parsing error\n".encode()

    assert without_keys(complaint) == "Key is not the correct length or format: `(hidden)' Configuration parsing error"
    assert without_keys(b" \n") == "it does not say why"
    assert len(without_keys(b"word " * 1000)) == 300

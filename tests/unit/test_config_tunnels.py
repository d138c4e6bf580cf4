# SPDX-License-Identifier: GPL-3.0-or-later
"""Tunnel files: what is read, what is left alone and said so, and every way to get one wrong with its message."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_interface, ip_network
from pathlib import Path

import pytest
import wgconfig

from aovpnd.config import tunnels
from aovpnd.config.findings import Finding
from aovpnd.errors import ConfigError, ToolError
from aovpnd.model import Severity
from aovpnd.tunnel import Endpoint, Peer, Secret, WireGuard, Written

# The keys of wg(8)'s and wg-quick(8)'s own examples: everybody has them.
PRIVATE = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
PUBLIC = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw="
GATEWAY = "GtL7fZc/bLnqZldpVofMCD6hDjrK28SsdLxevJ+qtKU="
SECOND = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0="
PRESHARED = "/UwcSPg38hW/D9Y3tcS1FOV0K1wuURMbS0sesJEP5ak="
SECRETS = (PRIVATE, PRESHARED)

SMALLEST = f"""\
[Interface]
PrivateKey = {PRIVATE}
Address = 10.0.0.2

[Peer]
PublicKey = {GATEWAY}
AllowedIPs = 0.0.0.0/0
Endpoint = 192.0.2.1:51820
"""
FULLEST = f"""\
\ufeff# Proton's "NL-FREE#1", café, 👨‍👩‍👧
[interface]
privatekey={PRIVATE}
\tADDRESS = 10.200.100.8/24 , fd00::8/64   # mine
Address = 10.201.0.8/32
DNS = 10.200.100.1, corp.example
DNS = fd00::1,~.
MTU = 1280
ListenPort = 51820
Table = auto
SaveConfig = false

[Peer] # the gateway
PublicKey = {GATEWAY}
PresharedKey = {PRESHARED}
AllowedIPs = 0.0.0.0/0
AllowedIPs = ::/0, 10.192.124.1/24
Endpoint = [2001:db8::1]:51820
PersistentKeepalive = 25

[PEER]
PublicKey = {SECOND}
AllowedIPs = 10.10.10.230/32
PersistentKeepalive = off
""".replace("\n", "\r\n")


def parse(text: str) -> tuple[WireGuard | None, list[Finding]]:
    """As the daemon would, without a file."""
    return tunnels.parse(text, "home", "home.conf")


def test_smallest_file() -> None:
    """A key, an address, a peer with a place to reach it: that is a tunnel, and there is nothing to say about it."""
    expected = WireGuard(
        name="home",
        source="home.conf",
        private_key=Secret(PRIVATE),
        public_key=PUBLIC,
        addresses=(ip_interface("10.0.0.2/32"),),
        peers=(Peer(GATEWAY, (ip_network("0.0.0.0/0"),), Endpoint(IPv4Address("192.0.2.1"), 51820)),),
    )

    assert parse(SMALLEST) == (expected, [])


def test_fullest_file() -> None:
    """Every key that is honoured, in any case, on several lines or one, with comments, blanks, CRLF and a byte order
    mark, as wg-quick(8) takes it.
    """
    expected = WireGuard(
        name="home",
        source="home.conf",
        private_key=Secret(PRIVATE),
        public_key=PUBLIC,
        addresses=(ip_interface("10.200.100.8/24"), ip_interface("fd00::8/64"), ip_interface("10.201.0.8/32")),
        peers=(
            Peer(
                GATEWAY,
                (ip_network("0.0.0.0/0"), ip_network("::/0"), ip_network("10.192.124.0/24")),
                Endpoint(IPv6Address("2001:db8::1"), 51820),
                Secret(PRESHARED),
                25,
            ),
            Peer(SECOND, (ip_network("10.10.10.230/32"),)),
        ),
        mtu=1280,
        listen_port=51820,
        dns=(IPv4Address("10.200.100.1"), IPv6Address("fd00::1")),
        search=("corp.example", "~."),
    )

    assert parse(FULLEST.removeprefix("\ufeff")) == (expected, [])


def test_lines_are_remembered_and_make_no_difference() -> None:
    """Where the values stand, never a key; a file whose lines were moved is the same tunnel."""
    spec, _ = parse(SMALLEST)
    moved, _ = parse(f"# mine\n{SMALLEST}")

    assert spec is not None
    assert moved is not None
    assert spec.written == (
        Written("Address", "10.0.0.2", 3),
        Written("AllowedIPs", "0.0.0.0/0", 7),
        Written("Endpoint", "192.0.2.1:51820", 8),
    )
    assert [line.line for line in moved.written] == [4, 8, 9]
    assert (moved, moved.digest()) == (spec, spec.digest())


def test_private_key_is_kept_as_the_kernel_shows_it() -> None:
    """The five bits that X25519 fixes are fixed here, or a device read back would never be the one that we want."""
    spec, findings = parse(SMALLEST.replace(PRIVATE, "/" * 42 + "8="))

    assert findings == []
    assert spec is not None
    assert spec.private_key == Secret("+P" + "/" * 39 + "38=")


def test_keepalive_zero_and_any_port() -> None:
    """0 is off for keepalive, and any port for ListenPort, as in wg(8)."""
    spec, _ = parse(SMALLEST.replace("[Peer]", "ListenPort = 0\n[Peer]\nPersistentKeepalive = 0"))

    assert spec is not None
    assert (spec.listen_port, spec.peers[0].keepalive_s) == (None, 0)


NEVER_RUN = "commands of tunnel files are never run (remove them; aovpnd sets routes, DNS and firewall itself)"
NOT_HONOURED = (
    "not honoured (remove them; aovpnd has a route table and a packet mark of its own, and never writes this file)"
)
LEFT_ALONE = {
    "PostUp = iptables -I OUTPUT -j ACCEPT, true; PrivateKey = x\nPreDown = rm -rf /\nPOSTUP =": (
        f"2: PostUp, PreDown (lines 2, 3, 4): {NEVER_RUN}"
    ),
    "#! PostUp = touch /tmp/x": f"2: #! PostUp (line 2): {NEVER_RUN}",
    "#!PreUp=x\n" * 9: f"2: #! PreUp (lines 2, 3, 4, 5, 6, 7, 8, 9, …): {NEVER_RUN}",
    "Table = off\nFwMark = 0x2a\nSaveConfig = true": f"2: Table, FwMark, SaveConfig (lines 2, 3, 4): {NOT_HONOURED}",
    "Table = auto\nFwMark = off\nSaveConfig = false\n# PostUp = x\n#! Address = 10.9.9.9\n#! foo": None,
}


@pytest.mark.parametrize(("lines", "expected"), LEFT_ALONE.items())
def test_lines_that_are_left_alone(lines: str, expected: str | None) -> None:
    """What is not honoured is said once per file and kind, and changes nothing of the tunnel."""
    spec, findings = parse(SMALLEST.replace("[Interface]\n", f"[Interface]\n{lines}\n"))

    assert spec == parse(SMALLEST)[0]
    assert [str(finding) for finding in findings] == ([] if expected is None else [f"home.conf:{expected}"])
    assert all(finding.severity is Severity.WARNING for finding in findings)


def test_all_faults_are_told_at_once() -> None:
    """Somebody who mends a file wants the whole list."""
    _, findings = parse(SMALLEST.replace("10.0.0.2", "x").replace("0.0.0.0/0", "y").replace(PRIVATE, "z"))

    assert [finding.line for finding in findings] == [2, 3, 7]


@pytest.mark.parametrize("text", ["?\n" * 100, SMALLEST.replace("10.0.0.2", "x," * 99 + "x")])
def test_rubbish_is_not_told_in_full(text: str) -> None:
    """Twenty faults and a last word: status does not grow with the file."""
    spec, findings = parse(text)

    assert spec is None
    assert len(findings) == 21
    assert str(findings[20]).endswith("there are more faults (mend those first)")


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "place",
    [
        "{}", "{} =", "PrivateKey {}", "PrivateKey: {}", "{} = x", "Private{} = x", "x = {}", "[{}]", "Address = {}",
        "DNS = {}", "MTU = {}", "ListenPort = {}", "[Peer]\nEndpoint = {}:1", "[Peer]\nEndpoint = {}",
        "[Peer]\nEndpoint = 192.0.2.1:{}", "[Peer]\nAllowedIPs = {}", "[Peer]\nPublicKey = {}x",
        "[Peer]\nPersistentKeepalive = {}", "[Peer]\nPresharedKey = {}{}", "Table = {}", "PostUp = wg set {}",
        "#! PostUp = {}",
    ],
)  # fmt: skip
def test_no_message_shows_a_key(place: str, secret: str) -> None:
    """A key in the wrong place is the mistake that people make; the message about it goes to the journal."""
    _, findings = parse(f"[Interface]\n{place.replace('{}', secret)}\n")
    told = "\n".join(str(finding) for finding in findings)

    assert findings
    assert [window for window in _windows(secret) if window in told] == []


def _windows(secret: str) -> list[str]:
    return [secret[start : start + 12] for start in range(len(secret) - 11)]


def _raise_error() -> object:
    raise ValueError("Unsupported section")


@pytest.mark.parametrize("reading", [dict, lambda: {"PrivateKey": PRIVATE, "Address": "10.0.0.3"}, _raise_error])
def test_parser_must_agree(monkeypatch: pytest.MonkeyPatch, reading: Callable[[], object]) -> None:
    """When wgconfig reads anything else than our border understood, or fails, there is no tunnel."""
    monkeypatch.setattr(wgconfig.WGConfig, "get_interface", lambda _: reading())

    with pytest.raises(ConfigError, match="two readings of the file disagree"):
        parse(SMALLEST)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("/nonexistent/wg", "/nonexistent/wg is not there (apt install wireguard-tools)"),
        ("/bin/false", "/bin/false pubkey failed with status 1 (does wg --version work?)"),
        ("/bin/echo", "/bin/echo pubkey failed with status 0 (does wg --version work?)"),
        ("/dev/null", "/dev/null pubkey failed: PermissionError (does wg --version work?)"),
    ],
)
def test_wg_does_not_work(monkeypatch: pytest.MonkeyPatch, program: str, message: str) -> None:
    """Without wg there is no public key and no tunnel; the message says what to install."""
    monkeypatch.setattr(tunnels, "WG", program)

    with pytest.raises(ToolError) as caught:
        parse(SMALLEST)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    "name", ["a b.conf", "ä.conf", ".conf", "a" * 33 + ".conf", "a;b.conf", "a.b.conf", "a\nb.conf"]
)
def test_file_name_must_be_a_tunnel_name(tmp_path: Path, name: str) -> None:
    """Names reach messages, commands and the bus: nothing but letters, digits, - and _ gets in."""
    path = tmp_path / name
    path.write_text(SMALLEST)
    path.chmod(0o600)

    with pytest.raises(ConfigError, match="the file's name is no tunnel name") as caught:
        tunnels.read(path, tmp_path)

    assert str(caught.value).isprintable()

# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way to get a tunnel file wrong, with the message that tells what to do."""

import pytest

from aovpnd.model import Severity
from tests.unit.test_config_tunnels import GATEWAY, PRIVATE, PUBLIC, SECOND, SMALLEST, parse


def _with(old: str, new: str) -> str:
    assert old in SMALLEST
    return SMALLEST.replace(old, new)


ADDRESS = "Address = 10.0.0.2"
ALLOWED = "AllowedIPs = 0.0.0.0/0"
ENDPOINT = "Endpoint = 192.0.2.1:51820"
NO_KEY = "is no key: 32 bytes in base64 are 44 characters, the last one = (copy it again, whole)"
NO_LINE = "the line is neither a section nor KEY = VALUE (a comment begins with #)"
LIKE = "write it like 192.0.2.1:51820, [2001:db8::1]:51820 or vpn.example.org:51820"
NEITHER = (
    "is neither a host name nor an address (letters, digits and hyphens between dots (RFC 1123), or an address like "
    "192.0.2.1 or [2001:db8::1])"
)
NOT_THERE = "no gateway can be there (write the gateway's own address)"
BAD = {
    # lines and sections
    "": "1: there is no [Interface] section (it holds PrivateKey and Address)",
    "[Peer]\n": "1: there is no [Interface] section (it holds PrivateKey and Address)",
    "Address = 10.0.0.2\n" + SMALLEST: "1: the line stands before any section ([Interface] comes first)",
    _with("[Peer]", "[Pear]"): "5: '[Pear]' is no section (there are [Interface] and [Peer])",
    _with("[Peer]", "[Peer"): "5: '[Peer' is no section (there are [Interface] and [Peer])",
    _with("[Peer]", "[Interface]"): "5: [Interface] stands already in line 1 (put both together)",
    _with(ADDRESS, "Adress = 10.0.0.2"): "3: 'Adress' is no key of [Interface] (did you mean Address?)",
    _with(ADDRESS, "Zebra = 1"): (
        "3: 'Zebra' is no key of [Interface] (there are: PrivateKey, ListenPort, MTU, Address, DNS, FwMark, Table, "
        "SaveConfig, PreUp, PostUp, PreDown, PostDown)"
    ),
    _with(ADDRESS, "S1 = 3"): (
        "3: 'S1' is no key of [Interface] (there are: PrivateKey, ListenPort, MTU, Address, DNS, FwMark, Table, "
        "SaveConfig, PreUp, PostUp, PreDown, PostDown)"
    ),
    _with(ADDRESS, ALLOWED): "3: 'AllowedIPs' is no key of [Interface] (AllowedIPs belongs into [Peer])",
    _with(ALLOWED, "Allowed IPs = 0.0.0.0/0"): f"7: {NO_LINE}",
    _with(ADDRESS, "Address"): f"3: {NO_LINE}",
    _with(ADDRESS, "Address # = 10.0.0.2"): f"3: {NO_LINE}",
    _with(ADDRESS, PRIVATE): f"3: {NO_LINE}",
    _with(ADDRESS, "IgJBgBfBmk="): f"3: {NO_LINE}",  # the end of a key that an editor wrapped
    _with(ADDRESS, f"PrivateKey {PRIVATE}"): f"3: {NO_LINE}",
    _with(ADDRESS, "Address ="): "3: Address: has no value (write one, or remove the line)",
    _with(ADDRESS, "Address = ,"): "3: Address: has no value (write one, or remove the line)",
    _with(ADDRESS, "Address = 10.0.0.2,,10.0.0.3"): (
        "3: Address: has a comma too many (write one comma between two values)"
    ),
    _with(ADDRESS, "Address = 10.0.0.2\x00"): ("3: the line holds a control character (remove it; type the line anew)"),
    _with(ADDRESS, "Address = 10.0.0.2\rPostUp = x"): (
        "3: the line holds a control character (remove it; type the line anew)"
    ),
    _with(ADDRESS, "# \x1b[2J"): "3: the line holds a control character (remove it; type the line anew)",
    _with(ADDRESS, "# \u202e"): "3: the line holds a control character (remove it; type the line anew)",
    _with(ADDRESS, "Address\u2028= 10.0.0.2"): (
        "3: the line holds a control character (remove it; type the line anew)"
    ),
    _with(ADDRESS, "Address = 10.0.0.2\u00a0"): (
        "3: the line holds letters that are not ASCII (look for typographic characters)"
    ),
    _with(ADDRESS, "MTU = ١٢٨٠"): "3: the line holds letters that are not ASCII (look for typographic characters)",
    _with(ADDRESS, "#" * 16385): "3: the line is longer than 16384 characters (is it the right file?)",
    _with("PublicKey", f"PublicKey = {SECOND}\npublickey"): (
        "7: PublicKey: stands already in line 6 (remove one of them)"
    ),
    _with(ADDRESS, "Table = off\nTable = 5"): "4: Table: stands already in line 3 (remove one of them)",
    _with(ENDPOINT, f"{ENDPOINT}, 192.0.2.2:51820"): "8: Endpoint: takes one value, not a list (keep one of them)",
    # keys
    _with(f"PrivateKey = {PRIVATE}\n", ""): "1: PrivateKey: is missing (wg genkey makes one)",
    _with(PRIVATE, "x"): f"2: PrivateKey: {NO_KEY}",
    _with(PRIVATE, PRIVATE[:-1]): f"2: PrivateKey: {NO_KEY}",
    _with(PRIVATE, PRIVATE[:-2] + "l="): f"2: PrivateKey: {NO_KEY}",
    _with(PRIVATE, PRIVATE + PRIVATE): f"2: PrivateKey: {NO_KEY}",
    _with(PRIVATE, PRIVATE.replace("+", "-")): f"2: PrivateKey: {NO_KEY}",
    _with(PRIVATE, "A" * 43 + "="): "2: PrivateKey: is all zeros, which means no key at all (wg genkey makes one)",
    _with(f"PublicKey = {GATEWAY}\n", ""): "5: PublicKey: is missing (the gateway's wg show says it)",
    _with(GATEWAY, f"{GATEWAY} x"): f"6: PublicKey: {NO_KEY}",
    _with(GATEWAY, PUBLIC): "1: a peer has this machine's own key (the peer's PublicKey is the gateway's)",
    _with(ALLOWED, f"{ALLOWED}\nPresharedKey = {PRIVATE[1:]}"): f"8: PresharedKey: {NO_KEY}",
    # numbers
    _with(ADDRESS, f"{ADDRESS}\nMTU = 575"): (
        "4: MTU: '575' is not a number from 576 to 65535 (every host takes 576 (RFC 791); without the line aovpnd "
        "chooses)"
    ),
    _with(ADDRESS, f"{ADDRESS}, fd00::2\nMTU = 1279"): (
        "4: MTU: '1279' is not a number from 1280 to 65535 (IPv6 needs 1280 (RFC 8200); without the line aovpnd "
        "chooses)"
    ),
    _with(ADDRESS, f"{ADDRESS}\nMTU = 1420.0"): (
        "4: MTU: '1420.0' is not a number from 576 to 65535 (every host takes 576 (RFC 791); without the line aovpnd "
        "chooses)"
    ),
    _with(ADDRESS, f"{ADDRESS}\nListenPort = 65536"): "4: ListenPort: '65536' is not a number from 0 to 65535",
    _with(ADDRESS, f"{ADDRESS}\nListenPort = 051820"): "4: ListenPort: '051820' is not a number from 0 to 65535",
    _with(ALLOWED, f"{ALLOWED}\nPersistentKeepalive = 65536"): (
        "8: PersistentKeepalive: '65536' is not a number from 0 to 65535"
    ),
    _with(ALLOWED, f"{ALLOWED}\nPersistentKeepalive = on"): (
        "8: PersistentKeepalive: 'on' is not a number from 0 to 65535"
    ),
    # addresses
    _with(f"{ADDRESS}\n", ""): "1: Address: is missing (write the address that the gateway gave you)",
    _with(ADDRESS, "Address = 10.0.0.256"): (
        "3: Address: '10.0.0.256' is no address (write it like 10.0.0.2/32 or fd00::2/128)"
    ),
    _with(ADDRESS, "Address = 10.0.0.2/255.255.255.0"): (
        "3: Address: '10.0.0.2/255.255.255.0' is no address (write it like 10.0.0.2/32 or fd00::2/128)"
    ),
    _with(ADDRESS, "Address = 10.0.0.2/33"): (
        "3: Address: '10.0.0.2/33' is no address (write it like 10.0.0.2/32 or fd00::2/128)"
    ),
    _with(ADDRESS, "Address = fe80::1%eth0"): (
        "3: Address: 'fe80::1%eth0' is no address (write it like 10.0.0.2/32 or fd00::2/128)"
    ),
    _with(ADDRESS, "Address = 10.0.0.2 10.0.0.3"): (
        "3: Address: '10.0.0.2 10.0.0.3' is no address (write it like 10.0.0.2/32 or fd00::2/128)"
    ),
    _with(ADDRESS, "Address = 127.0.0.1"): (
        "3: Address: '127.0.0.1' cannot be the address of a machine (take the one that the gateway gave you)"
    ),
    _with(ADDRESS, "Address = 0.0.0.0/0"): (
        "3: Address: '0.0.0.0/0' cannot be the address of a machine (take the one that the gateway gave you)"
    ),
    _with(ADDRESS, "Address = ff02::1"): (
        "3: Address: 'ff02::1' cannot be the address of a machine (take the one that the gateway gave you)"
    ),
    _with(ADDRESS, f"{ADDRESS}, 10.0.0.2/24"): "3: Address: '10.0.0.2' stands twice (remove one of them)",
    _with(ADDRESS, "Address = 192.0.2.1/24"): (
        "3: Address: is also the address of an Endpoint (one of the two is wrong)"
    ),
    _with(ADDRESS, f"{ADDRESS}\nDNS = 1.1.1"): "4: DNS: '1.1.1' is no address (write it like 10.0.0.1 or fd00::1)",
    _with(ADDRESS, f"{ADDRESS}\nDNS = ::"): "4: DNS: '::' cannot be the address of a resolver",
    _with(ADDRESS, f"{ADDRESS}\nDNS = $(reboot)"): (
        "4: DNS: '$(reboot)' is neither an address nor a domain (write it like 10.0.0.1 or corp.example)"
    ),
    _with(ADDRESS, f"{ADDRESS}\nDNS = -x.example"): (
        "4: DNS: '-x.example' is neither an address nor a domain (write it like 10.0.0.1 or corp.example)"
    ),
    # peers
    SMALLEST.partition("[Peer]")[0]: ("1: there is no [Peer] section: a tunnel without a peer leads nowhere (add one)"),
    _with(f"{ALLOWED}\n", ""): (
        "5: AllowedIPs: is missing: the peer would carry nothing (AllowedIPs = 0.0.0.0/0, ::/0 sends everything "
        "through it)"
    ),
    _with(ALLOWED, "AllowedIPs = everything"): (
        "7: AllowedIPs: 'everything' is no network (write it like 10.0.0.0/8 or fd00::/8; 0.0.0.0/0, ::/0 is "
        "everything)"
    ),
    _with(ALLOWED, "AllowedIPs = 10.0.0.0/0.0.0.255"): (
        "7: AllowedIPs: '10.0.0.0/0.0.0.255' is no network (write it like 10.0.0.0/8 or fd00::/8; 0.0.0.0/0, ::/0 is "
        "everything)"
    ),
    _with(f"{ENDPOINT}\n", ""): "5: Endpoint: is missing: no peer can be reached (Endpoint = HOST:PORT)",
    SMALLEST + f"[Peer]\nPublicKey = {GATEWAY}\nAllowedIPs = 10.0.0.0/8": (
        "9: the peer of line 5 has the same key (join them)"
    ),
    SMALLEST + f"[Peer]\nPublicKey = {SECOND}\nAllowedIPs = 0.0.0.0/0": (
        "9: AllowedIPs: '0.0.0.0/0' belongs to the peer of line 5 (give it to one of them)"
    ),
    # endpoints
    _with("192.0.2.1:51820", "192.0.2.1"): (f"8: Endpoint: '192.0.2.1' is not an address or name and a port ({LIKE})"),
    _with("192.0.2.1:51820", "2001:db8::1:51820"): (
        f"8: Endpoint: '2001:db8::1:51820' is not an address or name and a port ({LIKE})"
    ),
    _with("192.0.2.1", "[192.0.2.1]"): (
        "8: Endpoint: '[192.0.2.1]:51820': brackets are for IPv6 alone (write it like 192.0.2.1:51820)"
    ),
    _with("192.0.2.1", "192.0.2"): "8: Endpoint: '192.0.2' is no address (write it like 192.0.2.1 or [2001:db8::1])",
    _with("192.0.2.1", "$(id).example.org"): f"8: Endpoint: '$(id).example.org' {NEITHER}",
    _with("192.0.2.1", "vpn..example.org"): f"8: Endpoint: 'vpn..example.org' {NEITHER}",
    _with("192.0.2.1", "-vpn.example.org"): f"8: Endpoint: '-vpn.example.org' {NEITHER}",
    _with("192.0.2.1", "vpn_1.example.org"): f"8: Endpoint: 'vpn_1.example.org' {NEITHER}",
    _with("192.0.2.1", "vpn.example.1x"): f"8: Endpoint: 'vpn.example.1x' {NEITHER}",
    _with("192.0.2.1", "vpn.example.org/24"): f"8: Endpoint: 'vpn.example.org/24' {NEITHER}",
    _with("192.0.2.1", "."): f"8: Endpoint: '.' {NEITHER}",
    _with("192.0.2.1", "[vpn.example.org]"): (
        "8: Endpoint: 'vpn.example.org' is no IPv6 address (write it like [2001:db8::1]:51820)"
    ),
    _with("192.0.2.1", "gateway"): (
        "8: Endpoint: 'gateway' is only the first part of a name (write it whole, like vpn.example.org: search domains "
        "are the network's, and not asked)"
    ),
    _with("192.0.2.1", "localhost"): (
        "8: Endpoint: 'localhost' is this machine itself (RFC 6761) (write the gateway's name)"
    ),
    _with("192.0.2.1", "vpn.LocalHost."): (
        "8: Endpoint: 'vpn.LocalHost.' is this machine itself (RFC 6761) (write the gateway's name)"
    ),
    _with("192.0.2.1", "fritz.local"): (
        "8: Endpoint: 'fritz.local' is a name of multicast DNS (RFC 6762), which is never asked (write the gateway's "
        "address)"
    ),
    _with("192.0.2.1", "x.onion"): (
        "8: Endpoint: 'x.onion' is a name of the Tor network (RFC 7686), which is not in DNS (write the gateway's "
        "address)"
    ),
    _with("192.0.2.1", "ipv4only.arpa"): (
        "8: Endpoint: 'ipv4only.arpa' asks for a network's NAT64 prefix (RFC 7050), and is no gateway (write the "
        "gateway's name)"
    ),
    **{
        _with("192.0.2.1", odd): f"8: Endpoint: '{odd}' is no address (write it like 192.0.2.1 or [2001:db8::1])"
        for odd in ("127.1", "2130706433", "0x7f000001", "0x7f.1", "192.0.2.010", "192.0.2.256", "vpn.example.7")
    },
    _with("192.0.2.1", f"{'a' * 64}.org"): (
        "8: Endpoint: (hidden) is longer than a name may be (at most 253 characters, 63 between two dots (RFC 1035))"
    ),
    _with("192.0.2.1", f"{'a.' * 126}org"): (
        f"8: Endpoint: '{'a.' * 30}…' is longer than a name may be (at most 253 characters, 63 between two dots "
        "(RFC 1035))"
    ),
    _with(
        "192.0.2.1", "vpn.examp\u2028le.org"
    ): "8: the line holds a control character (remove it; type the line anew)",
    _with("192.0.2.1", "\u200fvpn.\u2665.example"): (
        "8: Endpoint: is no name that IDNA 2008 (RFC 5891) permits (look for typographic characters, or write the name "
        "as xn--...)"
    ),
    _with("192.0.2.1", "\uff11\uff12\uff17.\uff11"): (
        "8: Endpoint: '\uff11\uff12\uff17.\uff11' is no address (write it like 192.0.2.1 or [2001:db8::1])"
    ),
    _with("192.0.2.1:51820", "vpn.example.org:\uff15\uff11"): (
        "8: Endpoint: the port holds letters that are not ASCII (it is a number)"
    ),
    _with("192.0.2.1", "[fe80::1%eth0]"): (
        "8: Endpoint: a zone (%) cannot be used (write an address that is not link-local)"
    ),
    _with(":51820", ":0"): "8: Endpoint: '0' is not a number from 1 to 65535",
    _with(":51820", ":http"): "8: Endpoint: 'http' is not a number from 1 to 65535",
    _with("192.0.2.1", "127.0.0.1"): f"8: Endpoint: '127.0.0.1' is a loopback address: {NOT_THERE}",
    _with("192.0.2.1", "[::1]"): f"8: Endpoint: '::1' is a loopback address: {NOT_THERE}",
    _with("192.0.2.1", "0.0.0.0"): f"8: Endpoint: '0.0.0.0' is the unspecified address: {NOT_THERE}",
    _with("192.0.2.1", "[::]"): f"8: Endpoint: '::' is the unspecified address: {NOT_THERE}",
    _with("192.0.2.1", "224.0.0.1"): f"8: Endpoint: '224.0.0.1' is a multicast address: {NOT_THERE}",
    _with("192.0.2.1", "[ff02::1]"): f"8: Endpoint: 'ff02::1' is a multicast address: {NOT_THERE}",
    _with("192.0.2.1", "255.255.255.255"): f"8: Endpoint: '255.255.255.255' is the broadcast address: {NOT_THERE}",
    _with("192.0.2.1", "0.1.2.3"): f"8: Endpoint: '0.1.2.3' is a reserved address: {NOT_THERE}",
    _with("192.0.2.1", "240.0.0.1"): f"8: Endpoint: '240.0.0.1' is a reserved address: {NOT_THERE}",
    _with("192.0.2.1", "[fe80::1]"): f"8: Endpoint: 'fe80::1' is a link-local address: {NOT_THERE}",
    _with("192.0.2.1", "[::ffff:192.0.2.1]"): (
        f"8: Endpoint: '::ffff:192.0.2.1' is an IPv4 address in IPv6 clothes: {NOT_THERE}"
    ),
}


@pytest.mark.parametrize(
    ("text", "expected"), BAD.items(), ids=[f"{number}-{text:.60}" for number, text in enumerate(BAD.values())]
)
def test_bad_file(text: str, expected: str) -> None:
    """One fault, one message: file, line, key, what is wrong, what to do; and no tunnel."""
    spec, findings = parse(text)

    assert spec is None
    assert [str(found) for found in findings if found.severity is Severity.ERROR] == [f"home.conf:{expected}"]

# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way to get the file of an IKE tunnel wrong, with the one message that tells what to do."""

from pathlib import Path

import pytest

from tests.unit.ike_files import CERT, EAP, PERSON, PSK, ROUND, XAUTH, changed, lay, parse


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration directory with every file that the rows name."""
    return lay(tmp_path_factory.mktemp("ike"))


def _ike(line: str) -> str:
    return changed(PSK, "[[ike", f"{line}\n[[ike")


def _server(line: str) -> str:
    return f"{CERT}{line}\n"


def _tunnel(line: str) -> str:
    return f"{PSK}[tunnel]\n{line}\n"


BAD = {
    # tables and keys
    _ike("gateway = 1"): "3: 'gateway' is no key of [ike] (did you mean gateways?)",
    _ike("mobik = true"): "3: 'mobik' is no key of [ike] (did you mean mobike?)",
    _ike("networks = []"): "3: 'networks' is no key of [ike] (it belongs into [tunnel])",
    _ike("[[tunnel]]"): "3: tunnel: is a table (write [tunnel] on a line of its own)",
    changed(PSK, "[ike]", "[[ike]]"): "1: ike: is a table (write [ike] on a line of its own)",
    changed(
        PSK, "[[ike.auth]]", "[ike.auth]"
    ): "3: ike.auth: is a list of rounds (write [[ike.auth]], with two brackets)",
    changed(PSK, ROUND, "auth = 3\n"): "3: ike.auth: is no value (write [[ike.auth]] on a line of its own)",
    changed(
        PSK, '[[ike.auth]]\nmethod = "psk"\nsecret_file = "keys/psk"\n', 'auth = [{ method = "psk" }]\n'
    ): "3: ike.auth: is no value (write [[ike.auth]] on a line of its own)",
    '[interface]\n[ike]\ngateways = "vpn.example.org"\n[[ike.auth]]\nmethod = "psk"\nsecret_file = "keys/psk"\n': (
        "1: 'interface' is no table of a tunnel (there are [ike], [[ike.auth]], [ike.server], [ike.ppk] and [tunnel])"
    ),
    'x = 1\n[ike]\ngateways = "vpn.example.org"\n[[ike.auth]]\nmethod = "psk"\nsecret_file = "keys/psk"\n': (
        "1: 'x' is no table of a tunnel (there are [ike], [[ike.auth]], [ike.server], [ike.ppk] and [tunnel])"
    ),
    PSK + PERSON * 4: "18: ike.auth: there are more than 4 rounds (one or two are usual)",
    PSK + "token = 3\n": '6: ike.auth.token: is a table (write token = { handle = "..." })',
    _tunnel("networks.x = 1"): "7: 'networks.x' is no key of [tunnel] (did you mean networks?)",
    # gateways
    changed(
        PSK, '"vpn.example.org"', "[]"
    ): "2: ike.gateways: an empty list says nothing (remove the line, or write one)",
    changed(PSK, '"vpn.example.org"', "3"): "2: ike.gateways: must be a text, not a number (put it in double quotes)",
    changed(PSK, '"vpn.example.org"', '"vpn.example.org:500"'): (
        "2: ike.gateways: IKE begins on port 4500 here, where ESP follows it (RFC 7296 section 2.23) "
        "(leave the port out; a gateway that listens on 500 listens on 4500, too)"
    ),
    changed(PSK, '"vpn.example.org"', '"gateway"'): (
        "2: ike.gateways: 'gateway' is only the first part of a name (write it whole, like "
        "vpn.example.org: search domains are the network's, and not asked)"
    ),
    changed(PSK, '"vpn.example.org"', '"192.0.2.1:0"'): "2: ike.gateways: '0' is not a number from 1 to 65535",
    changed(PSK, '"vpn.example.org"', '"2001:db8::1"'): (
        "2: ike.gateways: '2001:db8::1' has no brackets around its IPv6 address (write it like "
        '"192.0.2.1", "[2001:db8::1]:4500" or "vpn.example.org")'
    ),
    changed(PSK, '"vpn.example.org"', '"[2001:db8::1"'): (
        "2: ike.gateways: '[2001:db8::1' is not an address or name and a port (write it like "
        '"192.0.2.1", "[2001:db8::1]:4500" or "vpn.example.org")'
    ),
    changed(PSK, '"vpn.example.org"', '"[192.0.2.1]"'): (
        "2: ike.gateways: '[192.0.2.1]': brackets are for IPv6 alone (write it like \"192.0.2.1\", "
        '"[2001:db8::1]:4500" or "vpn.example.org")'
    ),
    changed(PSK, '"vpn.example.org"', '"127.0.0.1"'): (
        "2: ike.gateways: '127.0.0.1' is a loopback address: no gateway can be there (write the gateway's own address)"
    ),
    changed(
        PSK, '"vpn.example.org"', '["192.0.2.1", "192.0.2.1:4500"]'
    ): "2: ike.gateways: something stands twice in the list (remove one of them)",
    changed(
        PSK, '"vpn.example.org"', '"192.0.2"'
    ): "2: ike.gateways: '192.0.2' is no address (write it like 192.0.2.1 or [2001:db8::1])",
    changed(PSK, '"vpn.example.org"', '"a b"'): (
        "2: ike.gateways: 'a b' is only the first part of a name (write it whole, like vpn.example.org: "
        "search domains are the network's, and not asked)"
    ),
    changed(
        PSK, '"vpn.example.org"', '""'
    ): '2: ike.gateways: is empty (write it like "192.0.2.1", "[2001:db8::1]:4500" or "vpn.example.org")',
    changed(
        PSK,
        '"vpn.example.org"',
        str([f"{number}.example" for number in range(17)]),
    ): "2: ike.gateways: a list of 17 is too long (at most 16)",
    changed(PSK, '"vpn.example.org"', '"fe80::1%eth0"'): (
        "2: ike.gateways: 'fe80::1%eth0' has no brackets around its IPv6 address (write it like "
        '"192.0.2.1", "[2001:db8::1]:4500" or "vpn.example.org")'
    ),
    # values of [ike]
    _ike("version = 3"): "3: ike.version: 3 is out of range (1 (weak) or 2)",
    _ike('version = "2"'): "3: ike.version: must be a whole number, not a text (1 (weak) or 2)",
    _ike("version = true"): "3: ike.version: must be a whole number, not true or false (1 (weak) or 2)",
    _ike("aggressive = true"): "3: ike.aggressive: is of IKEv1 (remove the line; IKEv2 needs no such thing)",
    _ike(
        'aggressive = "no"'
    ): "3: ike.aggressive: must be true or false, not a text (write true or false, without quotes)",
    _ike('identity = ""'): (
        '3: ike.identity: \'\' is no identity (write it like "vpn.example.org", "alice@example.org", '
        '"192.0.2.1" or "C=DE, O=Example, CN=vpn")'
    ),
    _ike('identity = "%any"'): "3: ike.identity: '%any' would be anybody (write one identity, whole)",
    _ike('identity = "*"'): "3: ike.identity: '*' would be anybody (write one identity, whole)",
    _ike('identity = "0::0"'): "3: ike.identity: '0::0' would be anybody (write one identity, whole)",
    _ike('identity = "10.0.0.0/8"'): (
        "3: ike.identity: '10.0.0.0/8' is no identity (write it like \"vpn.example.org\", "
        '"alice@example.org", "192.0.2.1" or "C=DE, O=Example, CN=vpn")'
    ),
    _ike('identity = "10.0.0.1-10.0.0.9"'): (
        "3: ike.identity: '10.0.0.1-10.0.0.9' is no identity (write it like \"vpn.example.org\", "
        '"alice@example.org", "192.0.2.1" or "C=DE, O=Example, CN=vpn")'
    ),
    _ike('identity = "CN=*"'): "3: ike.identity: 'CN=*' would be anybody (write one identity, whole)",
    _ike('identity = "ipv4:0.0.0.0"'): "3: ike.identity: 'ipv4:0.0.0.0' would be anybody (write one identity, whole)",
    _ike('identity = "a\\u001bb"'): (
        '3: ike.identity: \'a?b\' is no identity (write it like "vpn.example.org", "alice@example.org", '
        '"192.0.2.1" or "C=DE, O=Example, CN=vpn")'
    ),
    _ike('identity = "ipv4net:10.0.0.0"'): (
        "3: ike.identity: 'ipv4net:10.0.0.0' is no identity (write it like \"vpn.example.org\", "
        '"alice@example.org", "192.0.2.1" or "C=DE, O=Example, CN=vpn")'
    ),
    _ike('identity = "a b"'): (
        '3: ike.identity: \'a b\' is no identity (write it like "vpn.example.org", "alice@example.org", '
        '"192.0.2.1" or "C=DE, O=Example, CN=vpn")'
    ),
    _ike("mobike = 1"): "3: ike.mobike: must be true or false, not a number (write true or false, without quotes)",
    _ike(
        'fragmentation = "yes"'
    ): "3: ike.fragmentation: must be true or false, not a text (write true or false, without quotes)",
    _ike(
        'childless = "maybe"'
    ): '3: ike.childless: \'maybe\' is not known (there are: "allow", "prefer", "force", "never")',
    _ike('dpd = "0"'): "3: ike.dpd: '0' is no time at all (from 1s to 10min)",
    _ike('dpd = "1h"'): "3: ike.dpd: '1h' is too long: at most 10min (from 1s to 10min)",
    _ike('rekey = "5s"'): "3: ike.rekey: '5s' is too short: at least 10s (from 10s to 168h)",
    _ike("rekey = 3.5"): '3: ike.rekey: must be a span of time, not a number (write it like "3min", "1h 30s" or 90)',
    _ike('child_rekey = "forever"'): (
        "3: ike.child_rekey: 'forever' is no span of time; write it like 90, 3min or 1h 30s (from 10s to 168h)"
    ),
    _ike('reauth = "10s"'): "3: ike.reauth: '10s' is too short: at least 1min (from 1min to 720h; \"0\" is never)",
    _ike('reauth = "x"'): (
        "3: ike.reauth: 'x' is no span of time; write it like 90, 3min or 1h 30s (from 1min to 720h; \"0\" is never)"
    ),
    _ike("reauth = true"): (
        '3: ike.reauth: must be a span of time, not true or false (write it like "3min", "1h 30s" or 90; "0" is never)'
    ),
    # proposals
    _ike("proposals = []"): "3: ike.proposals: an empty list says nothing (remove the line, or write one)",
    _ike('proposals = "default"'): (
        "3: ike.proposals: 'default' is no keyword here (without the line, strongSwan's own proposals are used)"
    ),
    _ike('proposals = "aes256"'): "3: ike.proposals: 'aes256' names no integrity algorithm (add one, like \"sha256\")",
    _ike(
        'proposals = "aes256-sha256"'
    ): "3: ike.proposals: 'aes256-sha256' names no key exchange (add one, like \"x25519\")",
    _ike('proposals = "aes256gcm16-x25519"'): (
        "3: ike.proposals: 'aes256gcm16-x25519' names no pseudo-random function (add one, like \"prfsha256\")"
    ),
    _ike(
        'proposals = "aes256-x25519"'
    ): "3: ike.proposals: 'aes256-x25519' names no integrity algorithm (add one, like \"sha256\")",
    _ike(
        'proposals = "sha256-x25519"'
    ): "3: ike.proposals: 'sha256-x25519' names no encryption (begin with one, like \"aes256\")",
    _ike('proposals = "aes256-aes256gcm16-sha256-x25519"'): (
        "3: ike.proposals: 'aes256-aes256gcm16-sha256-x25519' mixes AEAD ciphers with others (make two "
        "proposals of it (RFC 7296 section 3.3))"
    ),
    _ike(
        'proposals = "aes256-sha256-x25519!"'
    ): "3: ike.proposals: 'aes256-sha256-x25519!' is no proposal (write it like \"aes256-sha256-x25519\")",
    _ike(
        'proposals = "AES256-SHA256-x25519"'
    ): "3: ike.proposals: 'AES256-SHA256-x25519' is no proposal (write it like \"aes256-sha256-x25519\")",
    _ike(
        'proposals = "aes256-sha265-x25519"'
    ): "3: ike.proposals: 'sha265' is no keyword of IKE proposals (did you mean sha256?)",
    _ike(
        'proposals = "aes256-sha256-sha256-x25519"'
    ): "3: ike.proposals: 'aes256-sha256-sha256-x25519' says something twice (remove one of them)",
    _ike(
        'proposals = "aes256-sha256-ke1_mlkem768"'
    ): "3: ike.proposals: 'aes256-sha256-ke1_mlkem768' names no key exchange (add one, like \"x25519\")",
    _ike(
        'proposals = "blowfish-sha256-x25519"'
    ): "3: ike.proposals: 'blowfish' is no keyword of IKE proposals (swanctl.conf(5) lists the keywords)",
    _ike("proposals = 3"): "3: ike.proposals: must be a text, not a number (put it in double quotes)",
    _ike(
        'esp_proposals = "aes256"'
    ): "3: ike.esp_proposals: 'aes256' names no integrity algorithm (add one, like \"sha256\")",
    _ike(
        'esp_proposals = "null-sha256"'
    ): "3: ike.esp_proposals: 'null' does not encrypt (write one that does, like \"aes256gcm16\")",
    _ike(
        'esp_proposals = "aes256gmac"'
    ): "3: ike.esp_proposals: 'aes256gmac' does not encrypt (write one that does, like \"aes256gcm16\")",
    _ike('esp_proposals = "aes256gcm16-sha256"'): (
        "3: ike.esp_proposals: 'aes256gcm16-sha256' has an integrity algorithm beside an AEAD cipher (remove it)"
    ),
    _ike(
        'esp_proposals = "aes256gcm16-prfsha256"'
    ): "3: ike.esp_proposals: 'prfsha256' is no keyword of ESP proposals (did you mean sha256?)",
    _ike('esp_proposals = "aes256gcm16-ke1_mlkem768"'): (
        "3: ike.esp_proposals: 'aes256gcm16-ke1_mlkem768' adds to a key exchange that it does not name "
        '(add one, like "x25519")'
    ),
    # the gateway
    changed(PSK, '"vpn.example.org"', '"192.0.2.1"'): (
        "1: ike.server.identity: is missing, and the first gateway has no name (write whom the gateway "
        "says to be: a name in its certificate, or its subject)"
    ),
    _server('identity = "*"'): "9: ike.server.identity: '*' would be anybody (write one identity, whole)",
    _server(
        'method = "eap-tls"'
    ): '9: ike.server.method: \'eap-tls\' is no way for a gateway (write "psk" or "certificate")',
    _server('method = "psk"'): (
        '9: ike.server.method: there is no PSK that the gateway could show (write method = "certificate" '
        'and authorities; or add a round with method = "psk" and its secret_file)'
    ),
    changed(CERT, 'authorities = "keys/ca.crt"\n', ""): (
        "7: ike.server.authorities: is missing (write the file of the authority that made the gateway's "
        "certificate; the system's are never used)"
    ),
    changed(CERT, "ca.crt", "laptop.crt"): (
        "8: ike.server.authorities: there is a certificate that is no authority's (write the authority's "
        "certificate, which has CA:TRUE, not the gateway's)"
    ),
    changed(
        CERT, '"keys/ca.crt"', "[]"
    ): "8: ike.server.authorities: an empty list says nothing (remove the line, or write one)",
    changed(
        CERT, "ca.crt", "gone"
    ): "8: ike.server.authorities: there is no such file (paths are absolute, or relative to BASE)",
    _server(
        'revocation = "strict"'
    ): "9: ike.server.revocation: needs crls (nothing is fetched outside the tunnel: write their files)",
    _server('revocation = "none"'): '9: ike.server.revocation: \'none\' is not known (there are: "relaxed", "strict")',
    _server(
        'crls = "keys/ca.crt"'
    ): "9: ike.server.crls: the file is no revocation list (does openssl crl -in FILE -text read it?)",
    _server('crls = "keys/unnamed.crl"'): (
        "9: ike.server.crls: the list does not name its authority's key (X509v3 Authority Key Identifier) "
        "(ask whoever issues it for one that does, as RFC 5280 demands)"
    ),
    _server(
        'crls = "keys/other.crl"'
    ): "9: ike.server.crls: a list is of none of the authorities (remove it, or add its authority)",
    PSK + '[ike.server]\nauthorities = "keys/ca.crt"\n': (
        "7: ike.server.authorities: has no use where the gateway shows no certificate (remove the line)"
    ),
    PSK + '[ike.server]\nrevocation = "strict"\n': (
        "7: ike.server.revocation: has no use where the gateway shows no certificate (remove the line)"
    ),
    # IKEv1
    changed(EAP, "[[ike", "version = 1\n[[ike"): '5: ike.auth.method: EAP is of IKEv2 (use version = 2, or "xauth")',
    changed(
        changed(PSK, "[[ike", "mobike = true\n[[ike"), "[[ike", "version = 1\n[[ike"
    ): "3: ike.mobike: is of IKEv2 (remove the line, or use version = 2)",
    changed(
        changed(PSK, "[[ike", 'childless = "never"\n[[ike'), "[[ike", "version = 1\n[[ike"
    ): "3: ike.childless: is of IKEv2 (remove the line, or use version = 2)",
    changed(
        PSK + '[ike.ppk]\nidentity = "a"\nsecret_file = "keys/psk"\n', "[[ike", "version = 1\n[[ike"
    ): "7: ike.ppk: is of IKEv2 (remove the line, or use version = 2)",
    changed(
        PSK + '[[ike.auth]]\nmethod = "certificate"\ncertificate = "keys/laptop.crt"\nkey = "keys/laptop.key"\n',
        "[[ike",
        "version = 1\n[[ike",
    ): "8: ike.auth.method: IKEv1 has one round, and XAuth behind it (remove this one)",
    changed(
        PSK + '[ike.server]\nmethod = "certificate"\nauthorities = "keys/ca.crt"\n', "[[ike", "version = 1\n[[ike"
    ): (
        '8: ike.server.method: IKEv1 with "psk" needs a gateway with method = "psk" (both sides do the '
        "same there (RFC 2409))"
    ),
    changed(changed(EAP, "eap-mschapv2", "xauth") + 'method = "psk"\n', "[[ike", "version = 1\n[[ike"): (
        '10: ike.server.method: IKEv1 with "xauth" needs a gateway with method = "certificate" (both '
        "sides do the same there (RFC 2409))"
    ),
    changed(
        PSK + XAUTH * 2,
        "[[ike",
        "version = 1\n[[ike",
    ): "12: ike.auth.method: IKEv1 has one round, and XAuth behind it (remove this one)",
    # PPK
    PSK + '[ike.ppk]\nidentity = "p"\n': (
        "6: ike.ppk.secret_file: is missing (a PPK has an identity and a secret (RFC 8784))"
    ),
    PSK + '[ike.ppk]\nsecret_file = "keys/psk"\n': (
        "6: ike.ppk.identity: is missing (a PPK has an identity and a secret (RFC 8784))"
    ),
    PSK + '[ike.ppk]\nidentity = "p"\nsecret_file = "keys/psk"\nrequired = 1\n': (
        "9: ike.ppk.required: must be true or false, not a number (write true or false, without quotes)"
    ),
    # the tunnel
    _tunnel("networks = []"): "7: tunnel.networks: an empty list says nothing (remove the line, or write one)",
    _tunnel('networks = "all"'): (
        "7: tunnel.networks: 'all' is no network (write it like 10.0.0.0/8 or fd00::/8; 0.0.0.0/0, ::/0 is everything)"
    ),
    _tunnel(
        'networks = ["::/0"]\nfamilies = [4]'
    ): "7: tunnel.networks: none is of a family in families (nothing could be sent; add the family)",
    _tunnel(
        'networks = ["10.0.0.0/8", "10.0.0.0/8"]'
    ): "7: tunnel.networks: something stands twice in the list (remove one of them)",
    _tunnel("families = []"): "7: tunnel.families: an empty list says nothing (remove the line, or write one)",
    _tunnel("families = [5]"): "7: tunnel.families: 5 is no family of addresses (4 and 6 are the families)",
    _tunnel('families = ["4"]'): "7: tunnel.families: must be a whole number, not a text (4 and 6 are the families)",
    _tunnel('addresses = "x"'): "7: tunnel.addresses: 'x' is no address (write it like 10.0.0.2/32 or fd00::2/128)",
    _tunnel('addresses = "127.0.0.1"'): (
        "7: tunnel.addresses: '127.0.0.1' cannot be the address of a machine (take the one that the gateway gave you)"
    ),
    _tunnel(
        'addresses = ["10.0.0.2", "10.0.0.2/24"]'
    ): "7: tunnel.addresses: an address stands twice (remove one of them)",
    _tunnel(
        'addresses = "fd00::2"\nfamilies = [4]'
    ): "7: tunnel.addresses: 'fd00::2/128' is of no family in families (add it there, or remove it here)",
    _tunnel('dns = "corp.example"'): (
        "7: tunnel.dns: 'corp.example' is no address (write it like 10.0.0.1 or fd00::1; domains belong to search)"
    ),
    _tunnel('dns = "0.0.0.0"'): "7: tunnel.dns: '0.0.0.0' cannot be the address of a resolver",
    _tunnel(
        'search = "10.0.0.1"'
    ): "7: tunnel.search: '10.0.0.1' is no domain (write it like corp.example; addresses belong to dns)",
    _tunnel('search = "a b"'): (
        "7: tunnel.search: 'a b' is neither an address nor a domain (write it like 10.0.0.1 or corp.example)"
    ),
    _tunnel("mtu = 1279"): "7: tunnel.mtu: 1279 is out of range (from 1280 to 65535; without the line aovpnd chooses)",
    _tunnel('mtu = "1400"'): (
        "7: tunnel.mtu: must be a whole number, not a text (from 1280 to 65535; without the line aovpnd chooses)"
    ),
    _tunnel(
        "families = [4]\nmtu = 575"
    ): "8: tunnel.mtu: 575 is out of range (from 576 to 65535; without the line aovpnd chooses)",
    changed(
        _tunnel('addresses = "192.0.2.1"'), '"vpn.example.org"', '["vpn.example.org", "192.0.2.1"]'
    ): "7: tunnel.addresses: one is also the address of a gateway (one of the two is wrong)",
}


SEVERAL = {
    "": ["1: ike.gateways: is missing", "1: ike.auth: is missing"],
    "ike = 3\n": ["1: ike: is a table", "1: ike.gateways: is missing", "1: ike.auth: is missing"],
    changed(PSK, ROUND, 'auth.method = "psk"\n'): [
        "3: ike.auth: is a list of rounds",
        "3: ike.auth.secret_file: is missing",
    ],
    changed(PSK, ROUND, 'auth.token.handle = "aa"\n'): [
        "3: ike.auth: is a list of rounds",
        "3: ike.auth.method: is missing",
    ],
    changed(CERT, 'key = "keys/laptop.key"', "token = {}"): [
        "6: ike.auth.token.module: is missing",
        "6: ike.auth.token.handle: is missing",
    ],
    f"{PSK}[ike.ppk]\n": ["6: ike.ppk.identity: is missing", "6: ike.ppk.secret_file: is missing"],
}


@pytest.mark.parametrize(("text", "messages"), SEVERAL.items(), ids=map(str, range(len(SEVERAL))))
def test_several(base: Path, text: str, messages: list[str]) -> None:
    """All that is wrong is told at once."""
    spec, findings = parse(text, base)

    assert [finding.text for finding in findings] == [f"home.toml:{message}" for message in messages]
    assert spec is None


def test_rubbish_is_not_told_in_full(base: Path) -> None:
    """Twenty faults and a last word: status does not grow with the file."""
    spec, findings = parse("".join(f"x{number} = 1\n" for number in range(100)), base)

    assert spec is None
    assert len(findings) == 21
    assert str(findings[20]).endswith("there are more faults (mend those first)")


@pytest.mark.parametrize(("text", "message"), BAD.items(), ids=map(str, range(len(BAD))))
def test_bad(base: Path, text: str, message: str) -> None:
    """One fault, one message with its line and key; BASE is the configuration directory."""
    spec, findings = parse(text, base)

    assert [str(finding).replace(str(base), "BASE") for finding in findings] == [f"home.toml:{message}"]
    assert spec is None

# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way to get the file of an IKE tunnel wrong, with the one message that tells what to do."""

from pathlib import Path

import pytest

from tests.unit.ike_files import lay
from tests.unit.test_config_ike import CERT, EAP, PSK, XAUTH, parse


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration directory with every file that the rows name."""
    return lay(tmp_path_factory.mktemp("ike"))


def _with(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


def _ike(line: str) -> str:
    return _with(PSK, "[[ike", f"{line}\n[[ike")


def _server(line: str) -> str:
    return f"{CERT}{line}\n"


def _tunnel(line: str) -> str:
    return f"{PSK}[tunnel]\n{line}\n"


ROUND = '[[ike.auth]]\nmethod = "psk"\nsecret_file = "keys/psk"\n'
PERSON = '[[ike.auth]]\nmethod = "eap-mschapv2"\nuser = "a"\npassword_file = "keys/pw"\n'
BAD = {
    # tables and keys
    _ike("gateway = 1"): "3: 'gateway' is no key of [ike] (did you mean gateways?)",
    _ike("mobik = true"): "3: 'mobik' is no key of [ike] (did you mean mobike?)",
    _ike("networks = []"): "3: 'networks' is no key of [ike] (it belongs into [tunnel])",
    _ike("[[tunnel]]"): "3: tunnel: is a table (write [tunnel] on a line of its own)",
    _with(PSK, "[ike]", "[[ike]]"): "1: ike: is a table (write [ike] on a line of its own)",
    _with(
        PSK, "[[ike.auth]]", "[ike.auth]"
    ): "3: ike.auth: is a list of rounds (write [[ike.auth]], with two brackets)",
    _with(PSK, ROUND, "auth = 3\n"): "3: ike.auth: is no value (write [[ike.auth]] on a line of its own)",
    _with(
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
    _with(
        PSK, '"vpn.example.org"', "[]"
    ): "2: ike.gateways: an empty list says nothing (remove the line, or write one)",
    _with(PSK, '"vpn.example.org"', "3"): "2: ike.gateways: must be a text, not a number (put it in double quotes)",
    _with(PSK, '"vpn.example.org"', '"vpn.example.org:500"'): (
        "2: ike.gateways: IKE begins on port 4500 here, where ESP follows it (RFC 7296 section 2.23) "
        "(leave the port out; a gateway that listens on 500 listens on 4500, too)"
    ),
    _with(PSK, '"vpn.example.org"', '"gateway"'): (
        "2: ike.gateways: 'gateway' is only the first part of a name (write it whole, like "
        "vpn.example.org: search domains are the network's, and not asked)"
    ),
    _with(PSK, '"vpn.example.org"', '"192.0.2.1:0"'): "2: ike.gateways: '0' is not a number from 1 to 65535",
    _with(PSK, '"vpn.example.org"', '"2001:db8::1"'): (
        "2: ike.gateways: '2001:db8::1' has no brackets around its IPv6 address (write it like "
        '"192.0.2.1", "[2001:db8::1]:4500" or "vpn.example.org")'
    ),
    _with(PSK, '"vpn.example.org"', '"[2001:db8::1"'): (
        "2: ike.gateways: '[2001:db8::1' is not an address or name and a port (write it like "
        '"192.0.2.1", "[2001:db8::1]:4500" or "vpn.example.org")'
    ),
    _with(PSK, '"vpn.example.org"', '"[192.0.2.1]"'): (
        "2: ike.gateways: '[192.0.2.1]': brackets are for IPv6 alone (write it like \"192.0.2.1\", "
        '"[2001:db8::1]:4500" or "vpn.example.org")'
    ),
    _with(PSK, '"vpn.example.org"', '"127.0.0.1"'): (
        "2: ike.gateways: '127.0.0.1' is a loopback address: no gateway can be there (write the gateway's own address)"
    ),
    _with(
        PSK, '"vpn.example.org"', '["192.0.2.1", "192.0.2.1:4500"]'
    ): "2: ike.gateways: something stands twice in the list (remove one of them)",
    _with(
        PSK, '"vpn.example.org"', '"192.0.2"'
    ): "2: ike.gateways: '192.0.2' is no address (write it like 192.0.2.1 or [2001:db8::1])",
    _with(PSK, '"vpn.example.org"', '"a b"'): (
        "2: ike.gateways: 'a b' is only the first part of a name (write it whole, like vpn.example.org: "
        "search domains are the network's, and not asked)"
    ),
    _with(
        PSK, '"vpn.example.org"', '""'
    ): '2: ike.gateways: is empty (write it like "192.0.2.1", "[2001:db8::1]:4500" or "vpn.example.org")',
    _with(
        PSK,
        '"vpn.example.org"',
        str([f"{number}.example" for number in range(17)]),
    ): "2: ike.gateways: a list of 17 is too long (at most 16)",
    _with(PSK, '"vpn.example.org"', '"fe80::1%eth0"'): (
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
    # rounds
    _with(PSK, 'method = "psk"\n', ""): (
        '3: ike.auth.method: is missing (there are: "psk", "certificate", "eap-mschapv2", "eap-tls", '
        '"eap-ttls", "eap-peap", "xauth")'
    ),
    _with(PSK, '"psk"', '"psks"'): (
        '4: ike.auth.method: \'psks\' is not known (there are: "psk", "certificate", "eap-mschapv2", '
        '"eap-tls", "eap-ttls", "eap-peap", "xauth")'
    ),
    _with(
        PSK, 'secret_file = "keys/psk"\n', ""
    ): "3: ike.auth.secret_file: is missing (a file that holds it, which root alone can read)",
    _with(
        PSK, '"keys/psk"', '"keys/gone"'
    ): "5: ike.auth.secret_file: there is no such file (paths are absolute, or relative to BASE)",
    _with(
        PSK, '"keys/psk"', '"keys/empty"'
    ): "5: ike.auth.secret_file: the file is empty (write the secret into it, on one line)",
    _with(
        PSK, '"keys/psk"', '"keys/two"'
    ): "5: ike.auth.secret_file: the file holds more than one line, or no text (one secret on one line)",
    _with(
        PSK, '"keys/psk"', '"keys/odd"'
    ): "5: ike.auth.secret_file: the file holds more than one line, or no text (one secret on one line)",
    _with(
        PSK, '"keys/psk"', '"keys/long"'
    ): "5: ike.auth.secret_file: the file holds more than one line, or no text (one secret on one line)",
    _with(PSK, '"keys/psk"', '"keys/latin"'): "5: ike.auth.secret_file: the file is not UTF-8 text (save it as UTF-8)",
    _with(PSK, '"keys/psk"', '"keys/open"'): (
        "5: ike.auth.secret_file: BASE/keys/open: holds a secret and others can read it (chmod 600 BASE/keys/open)"
    ),
    _with(
        PSK, '"keys/psk"', '"keys"'
    ): "5: ike.auth.secret_file: BASE/keys: is not a regular file (write the name of a file)",
    _with(PSK, '"keys/psk"', '""'): "5: ike.auth.secret_file: is no path (write the name of a file)",
    _with(PSK, '"keys/psk"', "3"): "5: ike.auth.secret_file: must be a text, not a number (put it in double quotes)",
    _with(PSK, '"keys/psk"', '"a\\u0000b"'): "5: ike.auth.secret_file: is no path (write the name of a file)",
    _with(PSK, '"keys/psk"', '"keys/psk/x"'): (
        "5: ike.auth.secret_file: there is no such file (paths are absolute, or relative to the "
        "configuration directory)"
    ),
    PSK + 'user = "alice"\n': '6: ike.auth.user: has no use with method = "psk" (remove the line)',
    PSK + 'token = { handle = "aa" }\n': '6: ike.auth.token: has no use with method = "psk" (remove the line)',
    PSK + ROUND: "7: ike.auth.method: there is a PSK in a round before (one is all that charon can tell apart)",
    PSK + XAUTH: '7: ike.auth.method: XAuth is of IKEv1 (use "eap-mschapv2", or version = 1 (weak))',
    _with(EAP, 'user = "alice"\n', ""): '3: ike.auth.user: is missing (write user = "NAME")',
    _with(EAP, '"alice"', '""'): "5: ike.auth.user: '' is no user's name (1 to 255 printable characters)",
    _with(
        EAP, 'password_file = "keys/pw"\n', ""
    ): "3: ike.auth.password_file: is missing (a file that holds it, which root alone can read)",
    # certificates and keys
    _with(
        CERT, 'certificate = "keys/laptop.crt"\n', ""
    ): "3: ike.auth.certificate: is missing (write certificate and key, or pkcs12)",
    _with(CERT, 'key = "keys/laptop.key"\n', ""): "3: ike.auth.key: is missing (write key, pkcs12, token or tpm)",
    _with(
        CERT, "laptop.crt", "gone.crt"
    ): "5: ike.auth.certificate: there is no such file (paths are absolute, or relative to BASE)",
    _with(CERT, "laptop.crt", "laptop.der"): (
        "5: ike.auth.certificate: the file holds no certificate in PEM (openssl x509 -in FILE -inform "
        "DER makes PEM of DER)"
    ),
    _with(CERT, "laptop.crt", "cut.crt"): (
        "5: ike.auth.certificate: the certificate cannot be read (does openssl x509 -in FILE -text read it?)"
    ),
    _with(CERT, "laptop.crt", "strange.crt"): (
        "5: ike.auth.certificate: the certificate cannot be read (does openssl x509 -in FILE -text read it?)"
    ),
    _with(CERT, "laptop.crt", "damaged.crt"): (
        "5: ike.auth.certificate: certificate 2 of the file cannot be read (does openssl x509 -in FILE -text read it?)"
    ),
    _with(
        CERT, "laptop.crt", "turned.crt"
    ): "6: ike.auth.key: the certificate that belongs to the key is not the first (write it first)",
    _with(
        CERT, "laptop.crt", "many.crt"
    ): "5: ike.auth.certificate: a chain of 11 certificates is too long (at most 10)",
    _with(
        CERT, "laptop.crt", "crowd.crt"
    ): "5: ike.auth.certificate: the file holds too many certificates (at most 64)",
    _with(CERT, "laptop.crt", "laptop.key"): (
        "5: ike.auth.certificate: the file holds no certificate in PEM (openssl x509 -in FILE -inform "
        "DER makes PEM of DER)"
    ),
    _with(CERT, "laptop.crt", "ca.crt"): (
        "6: ike.auth.key: does not belong to the certificate (openssl x509 -pubkey and openssl pkey -pubout tell)"
    ),
    _with(CERT, "laptop.key", "other.key"): (
        "6: ike.auth.key: does not belong to the certificate (openssl x509 -pubkey and openssl pkey -pubout tell)"
    ),
    _with(
        CERT, "laptop.key", "hidden.key"
    ): "6: ike.auth.key: the key is encrypted (password_file names the file with its password)",
    _with(CERT, "laptop.key", "small.key"): "6: ike.auth.key: an RSA key of 1024 bits is too short (at least 2048)",
    _with(
        CERT, "laptop.key", "brainpool.key"
    ): "6: ike.auth.key: the key's curve is not one of IKE's (P-256, P-384 and P-521 are)",
    _with(CERT, "laptop.key", "exchange.key"): (
        "6: ike.auth.key: the key is of a kind that IKE has no use for (RSA, ECDSA, Ed25519 and Ed448 are known)"
    ),
    _with(
        CERT, "laptop.key", "laptop.crt"
    ): "6: ike.auth.key: the key cannot be read (does openssl pkey -in FILE -noout read it?)",
    _with(CERT, "laptop.key", "ed.key"): (
        "6: ike.auth.key: does not belong to the certificate (openssl x509 -pubkey and openssl pkey -pubout tell)"
    ),
    _with(CERT, 'key = "keys/laptop.key"\n', 'key = "keys/hidden.key"\npassword_file = "keys/psk"\n'): (
        "6: ike.auth.key: the key cannot be read, or has another password (does openssl pkey -in FILE -noout read it?)"
    ),
    _with(
        CERT, 'key = "keys/laptop.key"\n', 'key = "keys/laptop.key"\npassword_file = "keys/psk"\n'
    ): "6: ike.auth.key: the key is not encrypted (remove password_file)",
    _with(
        CERT, 'key = "keys/laptop.key"\n', 'key = "keys/laptop.key"\ntoken = { handle = "aa" }\n'
    ): "7: ike.auth.token: stands beside key, and the key is in one place (keep the one where it is)",
    _with(
        CERT, 'key = "keys/laptop.key"\n', 'tpm = { handle = "81010001" }\ntoken = { handle = "aa" }\n'
    ): "6: ike.auth.tpm: stands beside token, and the key is in one place (keep the one where it is)",
    _with(CERT, 'key = "keys/laptop.key"\n', 'tpm = { handle = "8101" }\n'): (
        '6: ike.auth.tpm.handle: is no handle (write it like "81010001", as tpm2_getcap handles-persistent shows it)'
    ),
    _with(
        CERT, 'key = "keys/laptop.key"\n', "tpm = {}\n"
    ): '6: ike.auth.tpm.handle: is missing (tpm = { handle = "81010001" })',
    _with(
        CERT, 'key = "keys/laptop.key"\n', 'tpm = { handle = "81010001" }\npassword_file = "keys/pw"\n'
    ): "7: ike.auth.password_file: has no use without key or pkcs12 (the PIN of a token is in pin_file)",
    _with(CERT, 'key = "keys/laptop.key"\n', 'token = { module = "keys/module.so", handle = "aa" }\n'): (
        "6: ike.auth.token.module: 'keys/module.so' is no absolute path (write where the module is, from / on)"
    ),
    _with(
        CERT, 'key = "keys/laptop.key"\n', 'token = { module = "/nonexistent.so", handle = "aa" }\n'
    ): "6: ike.auth.token.module: there is no such file (p11-kit list-modules shows which there are)",
    _with(
        CERT, 'key = "keys/laptop.key"\n', 'token = { module = "/etc", handle = "aa" }\n'
    ): "6: ike.auth.token.module: is not a regular file (p11-kit list-modules shows which there are)",
    _with(CERT, 'key = "keys/laptop.key"\n', 'token = { module = "/etc/hostname", handle = "xy" }\n'): (
        "6: ike.auth.token.handle: is no handle (write its CKA_ID in hexadecimal digits, as pkcs11-tool "
        "--list-objects shows it)"
    ),
    _with(
        CERT, 'key = "keys/laptop.key"\n', 'token = { module = "/etc/hostname", handle = "aa", slot = -1 }\n'
    ): "6: ike.auth.token.slot: -1 is out of range (from 0 to 4294967295)",
    _with(
        CERT,
        'key = "keys/laptop.key"\n',
        'token = { module = "/etc/hostname", handle = "aa", pin_file = "keys/gone" }\n',
    ): "6: ike.auth.token.pin_file: there is no such file (paths are absolute, or relative to BASE)",
    _with(
        CERT, 'certificate = "keys/laptop.crt"\nkey = "keys/laptop.key"\n', 'pkcs12 = "keys/laptop.p12"\n'
    ): "3: ike.auth.password_file: is missing (a file that holds it, which root alone can read)",
    _with(
        CERT,
        'certificate = "keys/laptop.crt"\nkey = "keys/laptop.key"\n',
        'pkcs12 = "keys/laptop.p12"\npassword_file = "keys/psk"\n',
    ): (
        "5: ike.auth.pkcs12: the file is no PKCS#12, or has another password (does openssl pkcs12 -in "
        "FILE -info -noout read it?)"
    ),
    _with(
        CERT,
        'certificate = "keys/laptop.crt"\nkey = "keys/laptop.key"\n',
        'pkcs12 = "keys/keyless.p12"\npassword_file = "keys/pw"\n',
    ): "5: ike.auth.pkcs12: the file lacks a key or its certificate (export both into it)",
    _with(
        CERT,
        'certificate = "keys/laptop.crt"\nkey = "keys/laptop.key"\n',
        'pkcs12 = "keys/laptop.crt"\npassword_file = "keys/pw"\n',
    ): (
        "5: ike.auth.pkcs12: the file is no PKCS#12, or has another password (does openssl pkcs12 -in "
        "FILE -info -noout read it?)"
    ),
    _with(
        CERT,
        'certificate = "keys/laptop.crt"\nkey = "keys/laptop.key"\n',
        'pkcs12 = "keys/laptop.p12"\npassword_file = "keys/pw"\nkey = "keys/laptop.key"\n',
    ): "7: ike.auth.key: stands beside pkcs12, which holds one (remove one of the two)",
    _with(
        CERT,
        'certificate = "keys/laptop.crt"\nkey = "keys/laptop.key"\n',
        'pkcs12 = "keys/laptop.p12"\npassword_file = "keys/pw"\ntpm = { handle = "81010001" }\n',
    ): "7: ike.auth.tpm: stands beside pkcs12, which holds a key (remove one of the two)",
    _with(CERT, "[[ike", 'identity = "desktop.lab"\n[[ike'): (
        "3: ike.identity: does not stand in the certificate (write one of its alternative names or its "
        "subject; without the line the subject is used)"
    ),
    _with(CERT, "[[ike", 'identity = "C=DE, O=Lab, CN=desktop"\n[[ike'): (
        "3: ike.identity: does not stand in the certificate (write one of its alternative names or its "
        "subject; without the line the subject is used)"
    ),
    # the gateway
    _with(PSK, '"vpn.example.org"', '"192.0.2.1"'): (
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
    _with(CERT, 'authorities = "keys/ca.crt"\n', ""): (
        "7: ike.server.authorities: is missing (write the file of the authority that made the gateway's "
        "certificate; the system's are never used)"
    ),
    _with(CERT, "ca.crt", "laptop.crt"): (
        "8: ike.server.authorities: there is a certificate that is no authority's (write the authority's "
        "certificate, which has CA:TRUE, not the gateway's)"
    ),
    _with(
        CERT, '"keys/ca.crt"', "[]"
    ): "8: ike.server.authorities: an empty list says nothing (remove the line, or write one)",
    _with(
        CERT, "ca.crt", "gone"
    ): "8: ike.server.authorities: there is no such file (paths are absolute, or relative to BASE)",
    _server(
        'revocation = "strict"'
    ): "9: ike.server.revocation: needs crls (nothing is fetched outside the tunnel: write their files)",
    _server('revocation = "none"'): '9: ike.server.revocation: \'none\' is not known (there are: "relaxed", "strict")',
    _server(
        'crls = "keys/ca.crt"'
    ): "9: ike.server.crls: the file is no revocation list (does openssl crl -in FILE -text read it?)",
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
    _with(EAP, "[[ike", "version = 1\n[[ike"): '5: ike.auth.method: EAP is of IKEv2 (use version = 2, or "xauth")',
    _with(
        _with(PSK, "[[ike", "mobike = true\n[[ike"), "[[ike", "version = 1\n[[ike"
    ): "3: ike.mobike: is of IKEv2 (remove the line, or use version = 2)",
    _with(
        _with(PSK, "[[ike", 'childless = "never"\n[[ike'), "[[ike", "version = 1\n[[ike"
    ): "3: ike.childless: is of IKEv2 (remove the line, or use version = 2)",
    _with(
        PSK + '[ike.ppk]\nidentity = "a"\nsecret_file = "keys/psk"\n', "[[ike", "version = 1\n[[ike"
    ): "7: ike.ppk: is of IKEv2 (remove the line, or use version = 2)",
    _with(
        PSK + '[[ike.auth]]\nmethod = "certificate"\ncertificate = "keys/laptop.crt"\nkey = "keys/laptop.key"\n',
        "[[ike",
        "version = 1\n[[ike",
    ): "8: ike.auth.method: IKEv1 has one round, and XAuth behind it (remove this one)",
    _with(PSK + '[ike.server]\nmethod = "certificate"\nauthorities = "keys/ca.crt"\n', "[[ike", "version = 1\n[[ike"): (
        '8: ike.server.method: IKEv1 with "psk" needs a gateway with method = "psk" (both sides do the '
        "same there (RFC 2409))"
    ),
    _with(_with(EAP, "eap-mschapv2", "xauth") + 'method = "psk"\n', "[[ike", "version = 1\n[[ike"): (
        '10: ike.server.method: IKEv1 with "xauth" needs a gateway with method = "certificate" (both '
        "sides do the same there (RFC 2409))"
    ),
    _with(
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
    _with(
        _tunnel('addresses = "192.0.2.1"'), '"vpn.example.org"', '["vpn.example.org", "192.0.2.1"]'
    ): "7: tunnel.addresses: one is also the address of a gateway (one of the two is wrong)",
}


@pytest.mark.parametrize(("text", "message"), BAD.items(), ids=map(str, range(len(BAD))))
def test_bad(base: Path, text: str, message: str) -> None:
    """One fault, one message with its line and key; BASE is the configuration directory."""
    spec, findings = parse(text, base)

    assert [str(finding).replace(str(base), "BASE") for finding in findings] == [f"home.toml:{message}"]
    assert spec is None

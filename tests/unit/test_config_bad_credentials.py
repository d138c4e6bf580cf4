# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way to get the rounds of an IKE tunnel wrong, and the secrets, certificates and keys that they name."""

from pathlib import Path

import pytest

from tests.unit.ike_files import CERT, EAP, PSK, ROUND, XAUTH, changed, lay, parse


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration directory with every file that the rows name."""
    return lay(tmp_path_factory.mktemp("ike"))


BAD = {
    # rounds
    changed(PSK, 'method = "psk"\n', ""): (
        '3: ike.auth.method: is missing (there are: "psk", "certificate", "eap-mschapv2", "eap-tls", '
        '"eap-ttls", "eap-peap", "xauth")'
    ),
    changed(PSK, '"psk"', '"psks"'): (
        '4: ike.auth.method: \'psks\' is not known (there are: "psk", "certificate", "eap-mschapv2", '
        '"eap-tls", "eap-ttls", "eap-peap", "xauth")'
    ),
    changed(
        PSK, 'secret_file = "keys/psk"\n', ""
    ): "3: ike.auth.secret_file: is missing (a file that holds it, which root alone can read)",
    changed(
        PSK, '"keys/psk"', '"keys/gone"'
    ): "5: ike.auth.secret_file: there is no such file (paths are absolute, or relative to BASE)",
    changed(
        PSK, '"keys/psk"', '"keys/empty"'
    ): "5: ike.auth.secret_file: the file is empty (write the secret into it, on one line)",
    changed(
        PSK, '"keys/psk"', '"keys/two"'
    ): "5: ike.auth.secret_file: the file holds more than one line, or no text (one secret on one line)",
    changed(
        PSK, '"keys/psk"', '"keys/odd"'
    ): "5: ike.auth.secret_file: the file holds more than one line, or no text (one secret on one line)",
    changed(
        PSK, '"keys/psk"', '"keys/long"'
    ): "5: ike.auth.secret_file: the file holds more than one line, or no text (one secret on one line)",
    changed(
        PSK, '"keys/psk"', '"keys/latin"'
    ): "5: ike.auth.secret_file: the file is not UTF-8 text (save it as UTF-8)",
    changed(PSK, '"keys/psk"', '"keys/open"'): (
        "5: ike.auth.secret_file: BASE/keys/open: holds a secret and others can read it (chmod 600 BASE/keys/open)"
    ),
    changed(
        PSK, '"keys/psk"', '"keys"'
    ): "5: ike.auth.secret_file: BASE/keys: is not a regular file (write the name of a file)",
    changed(PSK, '"keys/psk"', '""'): "5: ike.auth.secret_file: is no path (write the name of a file)",
    changed(PSK, '"keys/psk"', "3"): "5: ike.auth.secret_file: must be a text, not a number (put it in double quotes)",
    changed(PSK, '"keys/psk"', '"a\\u0000b"'): "5: ike.auth.secret_file: is no path (write the name of a file)",
    changed(PSK, '"keys/psk"', '"keys/psk/x"'): (
        "5: ike.auth.secret_file: there is no such file (paths are absolute, or relative to the "
        "configuration directory)"
    ),
    PSK + 'user = "alice"\n': '6: ike.auth.user: has no use with method = "psk" (remove the line)',
    PSK + 'token = { handle = "aa" }\n': '6: ike.auth.token: has no use with method = "psk" (remove the line)',
    PSK + ROUND: "7: ike.auth.method: there is a PSK in a round before (one is all that charon can tell apart)",
    PSK + XAUTH: '7: ike.auth.method: XAuth is of IKEv1 (use "eap-mschapv2", or version = 1 (weak))',
    changed(EAP, 'user = "alice"\n', ""): '3: ike.auth.user: is missing (write user = "NAME")',
    changed(EAP, '"alice"', '""'): "5: ike.auth.user: '' is no user's name (1 to 255 printable characters)",
    changed(
        EAP, 'password_file = "keys/pw"\n', ""
    ): "3: ike.auth.password_file: is missing (a file that holds it, which root alone can read)",
    # certificates and keys
    changed(
        CERT, 'certificate = "keys/laptop.crt"\n', ""
    ): "3: ike.auth.certificate: is missing (write certificate and key, or pkcs12)",
    changed(CERT, 'key = "keys/laptop.key"\n', ""): "3: ike.auth.key: is missing (write key, pkcs12, token or tpm)",
    changed(
        CERT, "laptop.crt", "gone.crt"
    ): "5: ike.auth.certificate: there is no such file (paths are absolute, or relative to BASE)",
    changed(CERT, "laptop.crt", "laptop.der"): (
        "5: ike.auth.certificate: the file holds no certificate in PEM (openssl x509 -in FILE -inform "
        "DER makes PEM of DER)"
    ),
    changed(CERT, "laptop.crt", "cut.crt"): (
        "5: ike.auth.certificate: the certificate cannot be read (does openssl x509 -in FILE -text read it?)"
    ),
    changed(CERT, "laptop.key", "hidden.key").replace("[ike.server]", 'password_file = "keys/gone"\n[ike.server]'): (
        "7: ike.auth.password_file: there is no such file (paths are absolute, or relative to BASE)"
    ),
    changed(CERT, "ca.crt", "plain.crt"): (
        "8: ike.server.authorities: there is a certificate that is no authority's (write the authority's certificate, "
        "which has CA:TRUE, not the gateway's)"
    ),
    changed(CERT, "laptop.crt", "strange.crt"): (
        "5: ike.auth.certificate: the certificate cannot be read (does openssl x509 -in FILE -text read it?)"
    ),
    changed(CERT, "laptop.crt", "damaged.crt"): (
        "5: ike.auth.certificate: certificate 2 of the file cannot be read (does openssl x509 -in FILE -text read it?)"
    ),
    changed(
        CERT, "laptop.crt", "turned.crt"
    ): "6: ike.auth.key: the certificate that belongs to the key is not the first (write it first)",
    changed(
        CERT, "laptop.crt", "many.crt"
    ): "5: ike.auth.certificate: a chain of 11 certificates is too long (at most 10)",
    changed(
        CERT, "laptop.crt", "crowd.crt"
    ): "5: ike.auth.certificate: the file holds too many certificates (at most 64)",
    changed(CERT, "laptop.crt", "laptop.key"): (
        "5: ike.auth.certificate: the file holds no certificate in PEM (openssl x509 -in FILE -inform "
        "DER makes PEM of DER)"
    ),
    changed(CERT, "laptop.crt", "ca.crt"): (
        "6: ike.auth.key: does not belong to the certificate (openssl x509 -pubkey and openssl pkey -pubout tell)"
    ),
    changed(CERT, "laptop.key", "other.key"): (
        "6: ike.auth.key: does not belong to the certificate (openssl x509 -pubkey and openssl pkey -pubout tell)"
    ),
    changed(
        CERT, "laptop.key", "hidden.key"
    ): "6: ike.auth.key: the key is encrypted (password_file names the file with its password)",
    changed(CERT, "laptop.key", "small.key"): "6: ike.auth.key: an RSA key of 1024 bits is too short (at least 2048)",
    changed(
        CERT, "laptop.key", "brainpool.key"
    ): "6: ike.auth.key: the key's curve is not one of IKE's (P-256, P-384 and P-521 are)",
    changed(CERT, "laptop.key", "exchange.key"): (
        "6: ike.auth.key: the key is of a kind that IKE has no use for (RSA, ECDSA, Ed25519 and Ed448 are known)"
    ),
    changed(
        CERT, "laptop.key", "laptop.crt"
    ): "6: ike.auth.key: the key cannot be read (does openssl pkey -in FILE -noout read it?)",
    changed(CERT, "laptop.key", "ed.key"): (
        "6: ike.auth.key: does not belong to the certificate (openssl x509 -pubkey and openssl pkey -pubout tell)"
    ),
    changed(CERT, 'key = "keys/laptop.key"\n', 'key = "keys/hidden.key"\npassword_file = "keys/psk"\n'): (
        "6: ike.auth.key: the key cannot be read, or has another password (does openssl pkey -in FILE -noout read it?)"
    ),
    changed(
        CERT, 'key = "keys/laptop.key"\n', 'key = "keys/laptop.key"\npassword_file = "keys/psk"\n'
    ): "6: ike.auth.key: the key is not encrypted (remove password_file)",
    changed(
        CERT, 'key = "keys/laptop.key"\n', 'key = "keys/laptop.key"\ntoken = { handle = "aa" }\n'
    ): "7: ike.auth.token: stands beside key, and the key is in one place (keep the one where it is)",
    changed(
        CERT, 'key = "keys/laptop.key"\n', 'tpm = { handle = "81010001" }\ntoken = { handle = "aa" }\n'
    ): "6: ike.auth.tpm: stands beside token, and the key is in one place (keep the one where it is)",
    changed(CERT, 'key = "keys/laptop.key"\n', 'tpm = { handle = "8101" }\n'): (
        '6: ike.auth.tpm.handle: is no handle (write it like "81010001", as tpm2_getcap handles-persistent shows it)'
    ),
    changed(
        CERT, 'key = "keys/laptop.key"\n', "tpm = {}\n"
    ): '6: ike.auth.tpm.handle: is missing (tpm = { handle = "81010001" })',
    changed(
        CERT, 'key = "keys/laptop.key"\n', 'tpm = { handle = "81010001" }\npassword_file = "keys/pw"\n'
    ): "7: ike.auth.password_file: has no use without key or pkcs12 (the PIN of a token is in pin_file)",
    changed(CERT, 'key = "keys/laptop.key"\n', 'token = { module = "keys/module.so", handle = "aa" }\n'): (
        "6: ike.auth.token.module: 'keys/module.so' is no absolute path (write where the module is, from / on)"
    ),
    changed(CERT, 'key = "keys/laptop.key"\n', 'token = { module = "/etc/x {", handle = "aa" }\n'): (
        "6: ike.auth.token.module: '/etc/x {' cannot be told to charon (letters, digits and /._+- make its path)"
    ),
    changed(CERT, 'key = "keys/laptop.key"\n', 'token = { module = "/etc/hostname", handle = "aa" }\n'): (
        '6: ike.auth.token.pin_file: is missing (charon logs in to every token; or pin = { ask = "once" })'
    ),
    changed(
        CERT, 'key = "keys/laptop.key"\n', 'token = { module = "/nonexistent.so", handle = "aa" }\n'
    ): "6: ike.auth.token.module: there is no such file (p11-kit list-modules shows which there are)",
    changed(
        CERT, 'key = "keys/laptop.key"\n', 'token = { module = "/etc", handle = "aa" }\n'
    ): "6: ike.auth.token.module: is not a regular file (p11-kit list-modules shows which there are)",
    changed(CERT, 'key = "keys/laptop.key"\n', 'token = { module = "/etc/hostname", handle = "xy" }\n'): (
        "6: ike.auth.token.handle: is no handle (write its CKA_ID in hexadecimal digits, as pkcs11-tool "
        "--list-objects shows it)"
    ),
    changed(
        CERT,
        'key = "keys/laptop.key"\n',
        'token = { module = "/etc/hostname", handle = "aa", slot = -1, pin_file = "keys/pw" }\n',
    ): "6: ike.auth.token.slot: -1 is out of range (from 0 to 4294967295)",
    changed(
        CERT,
        'key = "keys/laptop.key"\n',
        'token = { module = "/etc/hostname", handle = "aa", pin_file = "keys/gone" }\n',
    ): "6: ike.auth.token.pin_file: there is no such file (paths are absolute, or relative to BASE)",
    changed(
        CERT, 'certificate = "keys/laptop.crt"\nkey = "keys/laptop.key"\n', 'pkcs12 = "keys/laptop.p12"\n'
    ): "3: ike.auth.password_file: is missing (a file that holds it, which root alone can read)",
    changed(
        CERT,
        'certificate = "keys/laptop.crt"\nkey = "keys/laptop.key"\n',
        'pkcs12 = "keys/laptop.p12"\npassword_file = "keys/psk"\n',
    ): (
        "5: ike.auth.pkcs12: the file is no PKCS#12, or has another password (does openssl pkcs12 -in "
        "FILE -info -noout read it?)"
    ),
    changed(
        CERT,
        'certificate = "keys/laptop.crt"\nkey = "keys/laptop.key"\n',
        'pkcs12 = "keys/keyless.p12"\npassword_file = "keys/pw"\n',
    ): "5: ike.auth.pkcs12: the file lacks a key or its certificate (export both into it)",
    changed(
        CERT,
        'certificate = "keys/laptop.crt"\nkey = "keys/laptop.key"\n',
        'pkcs12 = "keys/laptop.crt"\npassword_file = "keys/pw"\n',
    ): (
        "5: ike.auth.pkcs12: the file is no PKCS#12, or has another password (does openssl pkcs12 -in "
        "FILE -info -noout read it?)"
    ),
    changed(
        CERT,
        'certificate = "keys/laptop.crt"\nkey = "keys/laptop.key"\n',
        'pkcs12 = "keys/laptop.p12"\npassword_file = "keys/pw"\nkey = "keys/laptop.key"\n',
    ): "7: ike.auth.key: stands beside pkcs12, which holds one (remove one of the two)",
    changed(
        CERT,
        'certificate = "keys/laptop.crt"\nkey = "keys/laptop.key"\n',
        'pkcs12 = "keys/laptop.p12"\npassword_file = "keys/pw"\ntpm = { handle = "81010001" }\n',
    ): "7: ike.auth.tpm: stands beside pkcs12, which holds a key (remove one of the two)",
    changed(CERT, "[[ike", 'identity = "desktop.lab"\n[[ike'): (
        "3: ike.identity: does not stand in the certificate (write one of its alternative names or its "
        "subject; without the line the subject is used)"
    ),
    changed(CERT, "[[ike", 'identity = "C=DE, O=Lab, CN=desktop"\n[[ike'): (
        "3: ike.identity: does not stand in the certificate (write one of its alternative names or its "
        "subject; without the line the subject is used)"
    ),
}


@pytest.mark.parametrize(("text", "message"), BAD.items(), ids=map(str, range(len(BAD))))
def test_bad(base: Path, text: str, message: str) -> None:
    """One fault, one message with its line and key; BASE is the configuration directory."""
    spec, findings = parse(text, base)

    assert [str(finding).replace(str(base), "BASE") for finding in findings] == [f"home.toml:{message}"]
    assert spec is None


def test_module_that_others_can_change(base: Path, tmp_path: Path) -> None:
    """A library that charon would load and run."""
    module = tmp_path / "module.so"
    module.touch()
    module.chmod(0o666)
    line = f'token = {{ module = "{module}", handle = "aa" }}'
    _, findings = parse(changed(CERT, 'key = "keys/laptop.key"', line), base)

    assert [str(finding) for finding in findings] == [
        f"home.toml:6: ike.auth.token.module: {module}: others can change it (chmod go-w {module})"
    ]

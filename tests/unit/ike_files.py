# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of IKE tunnels, and what they name: keys, certificates, lists and secrets, made once per run of the tests."""

import base64
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID

from aovpnd.config import ike
from aovpnd.config.credentials import Store
from aovpnd.config.findings import Finding
from aovpnd.ipsec import IPsec

SECRET: Final = "Kq7vTz0WbY3xNc5m"  # noqa: S105 - of no use to anybody
PASSWORD: Final = "Pf2hJr8LsD4gMu6e"  # noqa: S105 - as above
BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)
END: Final = datetime(2036, 1, 1, tzinfo=UTC)
PAST: Final = datetime(2026, 2, 1, tzinfo=UTC)
PSK: Final = """[ike]
gateways = "vpn.example.org"
[[ike.auth]]
method = "psk"
secret_file = "keys/psk"
"""
CERT: Final = """[ike]
gateways = "vpn.example.org"
[[ike.auth]]
method = "certificate"
certificate = "keys/laptop.crt"
key = "keys/laptop.key"
[ike.server]
authorities = "keys/ca.crt"
"""
EAP: Final = """[ike]
gateways = "vpn.example.org"
[[ike.auth]]
method = "eap-mschapv2"
user = "alice"
password_file = "keys/pw"
[ike.server]
authorities = "keys/ca.crt"
"""
ROUND: Final = '[[ike.auth]]\nmethod = "psk"\nsecret_file = "keys/psk"\n'
PERSON: Final = '[[ike.auth]]\nmethod = "eap-mschapv2"\nuser = "a"\npassword_file = "keys/pw"\n'
XAUTH: Final = '[[ike.auth]]\nmethod = "xauth"\nuser = "alice"\npassword_file = "keys/pw"\n'
_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def _name(text: str) -> x509.Name:
    oids = {"C": NameOID.COUNTRY_NAME, "O": NameOID.ORGANIZATION_NAME, "CN": NameOID.COMMON_NAME}
    parts = (part.split("=") for part in text.split(", "))
    return x509.Name([x509.NameAttribute(oids[kind], value) for kind, value in parts])


def _certificate(
    subject: str,
    key: _Key,
    issuer: str,
    signer: ec.EllipticCurvePrivateKey,
    end: datetime = END,
    *,
    ca: bool | None = False,
) -> x509.Certificate:
    names = [x509.DNSName("Laptop.lab"), x509.RFC822Name("alice@lab"), x509.IPAddress(ip_address("fd00::7"))]
    builder = x509.CertificateBuilder(
        _name(issuer), _name(subject), key.public_key(), x509.random_serial_number(), BEGIN, end
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if ca is False:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, SHA256())


def _pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def _body(content: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(content) + b"\n-----END CERTIFICATE-----\n"


def _key(key: _Key | x25519.X25519PrivateKey, encryption: KeySerializationEncryption | None = None) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def _list(issuer: str, signer: ec.EllipticCurvePrivateKey, *, named: bool = True) -> x509.CertificateRevocationList:
    builder = x509.CertificateRevocationListBuilder(_name(issuer), BEGIN, BEGIN + timedelta(days=30))
    if named:
        whose = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        builder = builder.add_extension(whose, critical=False)
    return builder.sign(signer, SHA256())


@cache
def contents() -> dict[str, bytes]:
    """Every file by its name."""
    curve = ec.SECP256R1()
    root, between, laptop = (ec.generate_private_key(curve) for _ in range(3))
    authority = _certificate("O=Lab, CN=CA", root, "O=Lab, CN=CA", root, ca=True)
    middle = _certificate("O=Lab, CN=Middle", between, "O=Lab, CN=CA", root, PAST, ca=True)
    ours = _certificate("C=DE, O=Lab, CN=laptop", laptop, "O=Lab, CN=Middle", between)
    revoked = _list("O=Lab, CN=CA", root)
    small = rsa.generate_private_key(65537, 1024)  # noqa: S505 - what is refused
    hidden = BestAvailableEncryption(PASSWORD.encode())
    found = {
        "psk": f"{SECRET}\n",
        "dos": f"{SECRET}\r\n",
        "bare": SECRET,
        "pw": f"{PASSWORD}\n",
        "empty": "\n",
        "two": f"{SECRET}\n{SECRET}\n",
        "odd": f"{SECRET}\x00\n",
        "long": "x" * 5000,
        "open": SECRET,
    }
    keys = {
        "laptop.key": _key(laptop),
        "hidden.key": _key(laptop, hidden),
        "other.key": _key(ec.generate_private_key(curve)),
        "small.key": _key(small),
        "brainpool.key": _key(ec.generate_private_key(ec.BrainpoolP256R1())),
        "exchange.key": _key(x25519.X25519PrivateKey.generate()),
        "ed.key": _key(ed25519.Ed25519PrivateKey.generate()),
    }
    others = {
        "latin": b"caf\xe9\n",
        "ca.crt": _pem(authority),
        "plain.crt": _pem(_certificate("O=Lab, CN=CA", root, "O=Lab, CN=CA", root, ca=None)),
        "laptop.crt": _pem(ours),
        "chain.crt": _pem(ours, middle, authority),
        "turned.crt": _pem(middle, ours),
        "many.crt": _pem(*[ours] * 11),
        "crowd.crt": _pem(ours) * 65,
        "cut.crt": _pem(ours)[:-40],
        "damaged.crt": _pem(ours) + _pem(middle).replace(b"MII", b"MIJ", 1),
        "strange.crt": _body(ours.public_bytes(Encoding.DER).replace(b"\x0c\x06laptop", b"\x4c\x06laptop")),
        "laptop.der": ours.public_bytes(Encoding.DER),
        "ca.crl": revoked.public_bytes(Encoding.PEM),
        "ca.crl.der": revoked.public_bytes(Encoding.DER),
        "unnamed.crl": _list("O=Lab, CN=CA", root, named=False).public_bytes(Encoding.PEM),
        "other.crl": _list("O=Lab, CN=Other", root).public_bytes(Encoding.PEM),
        "laptop.p12": pkcs12.serialize_key_and_certificates(b"laptop", laptop, ours, [middle, authority], hidden),
        "keyless.p12": pkcs12.serialize_key_and_certificates(b"laptop", None, ours, None, hidden),
        "module.so": b"\x7fELF",
    }
    return {name: text.encode() for name, text in found.items()} | keys | others


def lay(base: Path) -> Path:
    """All of them in ``base``/keys, as an administrator leaves them."""
    directory = base / "keys"
    directory.mkdir(mode=0o700, parents=True)
    for name, content in contents().items():
        path = directory / name
        path.write_bytes(content)
        path.chmod(0o644 if name == "open" else 0o600)
    return base


def parse(text: str, base: Path) -> tuple[IPsec | None, list[Finding]]:
    """As the file home.toml, where relative paths begin at ``base``."""
    return ike.parse(text, "home", "home.toml", Store(base))


def changed(text: str, old: str, new: str) -> str:
    """A text in which something that is there is another."""
    assert old in text
    return text.replace(old, new, 1)

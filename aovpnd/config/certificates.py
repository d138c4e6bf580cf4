# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates, revocation lists and private keys, read with cryptography: bytes in, what we need of them out.

Nothing is believed here: charon verifies. What is wrong with a file is said while somebody still looks at it.
Importing the library takes 50 ms, so this module is imported when the first certificate is read.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, SECP521R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509.oid import NameOID

from aovpnd.config.findings import UnfitError

MOST: Final = 64
"""Certificates of one file."""
SMALLEST_RSA: Final = 2048
"""Bits; charon refuses less with its default settings of recent versions, and so does everybody's advice."""
_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
_END: Final = b"-----END CERTIFICATE-----"
_WRONG: Final = (
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    NotImplementedError,
    UnsupportedAlgorithm,
    InternalError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    x509.ExtensionNotFound,
)
"""What the library raises over files that it cannot read; its texts may quote them, and are not told."""
_SHORT: Final = {
    NameOID.COUNTRY_NAME: "C",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.LOCALITY_NAME: "L",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.COMMON_NAME: "CN",
    NameOID.EMAIL_ADDRESS: "E",
    NameOID.DOMAIN_COMPONENT: "DC",
    NameOID.USER_ID: "UID",
}


@dataclass(frozen=True, slots=True)
class Certificate:
    """What we need of a certificate. ``names``: alternative names, lower case; ``subject``: short names and values."""

    pem: str
    subject: tuple[tuple[str, str], ...]
    issuer: bytes
    holder: bytes
    public_key: bytes
    names: frozenset[str]
    expires_wall: float
    is_authority: bool


@dataclass(frozen=True, slots=True)
class Key:
    """A private key, as PKCS#8 in PEM without a password, and its public half to compare with."""

    pem: str
    public_key: bytes

    def __repr__(self) -> str:
        return "Key(hidden)"


def certificates(content: bytes) -> tuple[Certificate, ...]:
    """All certificates of a PEM file, in their order; at least one."""
    blocks = content.split(_BEGIN)[1:]
    if not blocks:
        raise UnfitError("the file holds no certificate in PEM", "openssl x509 -in FILE -inform DER makes PEM of DER")
    if len(blocks) > MOST:
        raise UnfitError("the file holds too many certificates", f"at most {MOST}")
    found = []
    for number, block in enumerate(blocks, 1):
        body, end, _ = block.partition(_END)
        try:
            if not end:
                raise ValueError
            found.append(_certificate(x509.load_pem_x509_certificate(_BEGIN + body + _END + b"\n")))
        except _WRONG:
            which = f"certificate {number} of the file" if len(blocks) > 1 else "the certificate"
            raise UnfitError(f"{which} cannot be read", "does openssl x509 -in FILE -text read it?") from None
    return tuple(found)


def private_key(content: bytes, password: str | None) -> Key:
    """The key of a PEM file; ``password`` when it is encrypted."""
    try:
        key = load_pem_private_key(content, None if password is None else password.encode())
    except TypeError:
        if password is None:
            raise UnfitError("the key is encrypted", "password_file names the file with its password") from None
        raise UnfitError("the key is not encrypted", "remove password_file") from None
    except _WRONG:
        why = "the key cannot be read" if password is None else "the key cannot be read, or has another password"
        raise UnfitError(why, "does openssl pkey -in FILE -noout read it?") from None
    return _key(key)


def container(content: bytes, password: str) -> tuple[tuple[Certificate, ...], Key]:
    """Certificate, chain and key of a PKCS#12 file."""
    try:
        key, first, others = pkcs12.load_key_and_certificates(content, password.encode())
        chain = tuple(_certificate(each) for each in (first, *others) if each is not None)
    except _WRONG:
        reason = "the file is no PKCS#12, or has another password"
        raise UnfitError(reason, "does openssl pkcs12 -in FILE -info -noout read it?") from None
    if key is None or first is None:
        raise UnfitError("the file lacks a key or its certificate", "export both into it")
    return chain[:MOST], _key(key)


def revocations(content: bytes) -> tuple[bytes, bytes]:
    """A revocation list in DER, and who issued it (its name in DER).

    charon finds a list by its authority's key identifier alone, which RFC 5280 (section 5.2) demands of every list: one
    without is never looked at.
    """
    try:
        if b"-----BEGIN X509 CRL-----" in content:
            found = x509.load_pem_x509_crl(content)
        else:
            found = x509.load_der_x509_crl(content)
        found.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
        return found.public_bytes(Encoding.DER), found.issuer.public_bytes()
    except x509.ExtensionNotFound:
        reason = "the list does not name its authority's key (X509v3 Authority Key Identifier)"
        raise UnfitError(reason, "ask whoever issues it for one that does, as RFC 5280 demands") from None
    except _WRONG:
        reason = "the file is no revocation list"
        raise UnfitError(reason, "does openssl crl -in FILE -text read it?") from None


def _certificate(found: x509.Certificate) -> Certificate:
    subject = tuple((_SHORT.get(each.oid, each.oid.dotted_string), str(each.value)) for each in found.subject)
    return Certificate(
        pem=found.public_bytes(Encoding.PEM).decode("ascii"),
        subject=subject,
        issuer=found.issuer.public_bytes(),
        holder=found.subject.public_bytes(),
        public_key=_spki(found),
        names=_names(found),
        expires_wall=_end(found),
        is_authority=_is_authority(found),
    )


def _spki(found: x509.Certificate) -> bytes:
    return found.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _end(found: x509.Certificate) -> float:
    """Python's library had naive times before version 42, and warns of them since."""
    aware = getattr(found, "not_valid_after_utc", None)
    if isinstance(aware, datetime):
        return aware.timestamp()
    return found.not_valid_after.replace(tzinfo=UTC).timestamp()


def _names(found: x509.Certificate) -> frozenset[str]:
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    texts = [name.value for name in names if isinstance(name, x509.DNSName | x509.RFC822Name)]
    texts += [str(name.value) for name in names if isinstance(name, x509.IPAddress)]
    return frozenset(text.lower() for text in texts)


def _is_authority(found: x509.Certificate) -> bool:
    try:
        return found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _key(found: object) -> Key:
    match found:
        case RSAPrivateKey():
            if found.key_size < SMALLEST_RSA:
                raise UnfitError(f"an RSA key of {found.key_size} bits is too short", f"at least {SMALLEST_RSA}")
        case EllipticCurvePrivateKey():
            if not isinstance(found.curve, SECP256R1 | SECP384R1 | SECP521R1):
                raise UnfitError("the key's curve is not one of IKE's", "P-256, P-384 and P-521 are")
        case Ed25519PrivateKey() | Ed448PrivateKey():
            pass
        case _:
            raise UnfitError("the key is of a kind that IKE has no use for", "RSA, ECDSA, Ed25519 and Ed448 are known")
    pem = found.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = found.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Key(pem.decode("ascii"), public)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates of the IKE gateways and of their laptop: good ones, and each kind that must not be believed."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.lab import plan
from tests.lab.process import LabError, run

_NEW: Final = ("openssl", "req", "-x509", "-nodes")
_EC: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
_RSA: Final = ("-newkey", "rsa:2048")
"""IKEv1 hybrid authentication knows no other signature."""


@dataclass(frozen=True, slots=True)
class Pki:
    """A directory with NAME.crt and NAME.key (PEM); made by `Pki.make`.

    ``ca`` is the authority, ``stranger`` another one.

    Of ``ca``: ``gateway``, ``laptop``; ``gateway-expired``, ``laptop-expired``; ``laptop-ending``, which ends in three
    days; ``gateway-misnamed``, who is called otherwise. Of ``stranger``: ``gateway-unknown``, ``laptop-unknown``.
    """

    dir: Path

    @classmethod
    def make(cls, directory: Path, laptop_names: tuple[str, ...]) -> Self:
        """Make all of it. The laptop's certificates hold every identity that it shows itself by."""
        directory.mkdir()
        pki = cls(directory)
        laptop = tuple(sorted(laptop_names))
        gateway = (plan.IKE_NAME, plan.GATEWAY_NAME)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(pki._authority, ("ca", "stranger")))
            wanted = (
                ("gateway", "ca", gateway, 30),
                ("gateway-misnamed", "ca", ("other.lab",), 30),
                ("gateway-unknown", "stranger", gateway, 30),
                ("laptop", "ca", laptop, 30),
                ("laptop-ending", "ca", laptop, 3),
                ("laptop-unknown", "stranger", laptop, 30),
            )
            list(pool.map(lambda each: pki._sign(*each), wanted))
            list(pool.map(pki._end, ("gateway", "laptop")))
        return pki

    def text(self, file: str) -> str:
        """The PEM of one of its files, ``laptop.crt``."""
        return (self.dir / file).read_text(encoding="ascii")

    def vouch(self, public_key: bytes, names: tuple[str, ...]) -> str:
        """A certificate (PEM) of ``ca`` for a key (its public half, PEM) that is elsewhere."""
        key = serialization.load_pem_public_key(public_key)
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise LabError("the key is of another kind than the laptops'")
        now = datetime.now(UTC)
        authority, signs = self._of_the_authority()
        builder = (
            x509.CertificateBuilder()
            .issuer_name(authority.subject)
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        )
        return builder.sign(signs, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode("ascii")

    def revocation_list(self, *revoked: str, ended: bool = False) -> str:
        """The list (PEM) of ``ca``, with these certificates in it, good for a day, or (``ended``) until an hour ago."""
        signer, signs = self._of_the_authority()
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(signer.subject)
            .last_update(now - timedelta(days=1))
            .next_update(now - timedelta(hours=1) if ended else now + timedelta(days=1))
            .add_extension(_key_id_of(signer), critical=False)  # charon finds a list by it alone
            .add_extension(x509.CRLNumber(1), critical=False)
        )
        for name in revoked:
            number = x509.load_pem_x509_certificate((self.dir / f"{name}.crt").read_bytes()).serial_number
            entry = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now - timedelta(hours=1))
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(signs, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode("ascii")

    def _of_the_authority(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        certificate = x509.load_pem_x509_certificate((self.dir / "ca.crt").read_bytes())
        key = serialization.load_pem_private_key((self.dir / "ca.key").read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise LabError("the authority's key is of another kind than it was made")
        return certificate, key

    def _authority(self, name: str) -> None:
        self._new(name, "-subj", f"/CN=Lab IKE {name}", "-days", "60")

    def _sign(self, name: str, authority: str, names: tuple[str, ...], days: int) -> None:
        """A certificate that ``authority`` signs, with these DNS names."""
        alternative = ",".join(f"DNS:{each}" for each in names)
        signed = ("-CA", str(self.dir / f"{authority}.crt"), "-CAkey", str(self.dir / f"{authority}.key"))
        more = ("-addext", f"subjectAltName={alternative}", "-addext", "basicConstraints=critical,CA:FALSE")
        self._new(name, "-subj", f"/CN={names[0]}", "-days", str(days), *more, *signed)

    def _new(self, name: str, *arguments: str) -> None:
        key, certificate = (str(self.dir / f"{name}.{suffix}") for suffix in ("key", "crt"))
        kind = _RSA if name == "gateway" else _EC
        run((*_NEW, *kind, *arguments, "-keyout", key, "-out", certificate))

    def _end(self, name: str) -> None:
        """NAME-expired: NAME's own, but ended yesterday. Not by openssl, which takes no such dates from 3.5 on."""
        key = self.dir / f"{name}.key"
        good = x509.load_pem_x509_certificate((self.dir / f"{name}.crt").read_bytes())
        authority, signs = self._of_the_authority()
        ended = datetime.now(UTC) - timedelta(days=1)
        builder = (
            x509.CertificateBuilder(authority.subject, good.subject, good.public_key(), x509.random_serial_number())
            .not_valid_before(ended - timedelta(days=30))
            .not_valid_after(ended)
        )
        for extension in good.extensions:
            builder = builder.add_extension(extension.value, extension.critical)
        expired = builder.sign(signs, hashes.SHA256())
        (self.dir / f"{name}-expired.crt").write_bytes(expired.public_bytes(serialization.Encoding.PEM))
        (self.dir / f"{name}-expired.key").write_bytes(key.read_bytes())


def _key_id_of(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    named = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(named)

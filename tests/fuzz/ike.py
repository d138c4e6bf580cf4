# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of an IKE tunnel, and the certificates, keys and lists that it names."""

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from aovpnd.config import certificates, ike
from aovpnd.config.credentials import Store
from aovpnd.config.findings import WEAK, UnfitError
from aovpnd.errors import ConfigError
from aovpnd.ipsec import IkeVersion, IPsec, Method
from tests.fuzz import judge
from tests.fuzz.configuration import TOML, findings
from tests.fuzz.mutate import Mutator
from tests.fuzz.places import place
from tests.fuzz.target import Target, words
from tests.unit.ike_files import CERT, EAP, PASSWORD, PSK, SECRET, XAUTH, lay
from tests.unit.test_config_ike import FULLEST

CONTAINER: Final = CERT.replace(
    'certificate = "keys/laptop.crt"\nkey = "keys/laptop.key"', 'pkcs12 = "keys/laptop.p12"\npassword_file = "keys/pw"'
)
ASKS: Final = EAP.replace('password_file = "keys/pw"', 'password = { ask = "each time" }')
OLD: Final = PSK.replace("[[ike", 'version = 1\naggressive = true\nproposals = ["3des-sha1-modp1024"]\n[[ike') + XAUTH


@cache
def _base() -> Path:
    return lay(place("ike"))


# -- the file ---------------------------------------------------------------------------------------------------------
def _file(text: str) -> str:
    base = _base()
    try:
        spec, found = ike.parse(text, "home", "home.toml", Store(base))
    except ConfigError as error:
        judge.quotes_no_run(str(error), text)
        return judge.error(error)
    for finding in found:
        judge.hides(str(finding), SECRET, PASSWORD)
    outcome = findings(found, text.replace(str(base), ""))
    assert (spec is None) is any(finding.code != WEAK for finding in found)
    if spec is None:
        return outcome
    _usable(spec)
    assert len(spec.weak) == len(found)
    judge.hides(repr(spec), SECRET, PASSWORD)
    return judge.outcome("ok", f"{len(spec.gateways)} {[each.method for each in spec.rounds]} {len(spec.weak)}")


def _usable(spec: IPsec) -> None:
    """What charon is told cannot mean anybody, nobody, or nothing, and is of a kind that it understands."""
    assert spec.gateways
    assert spec.rounds
    assert spec.networks
    assert set(spec.families) <= {4, 6}
    assert all(gateway.port != 500 for gateway in spec.gateways)
    for identity in (spec.server.identity, *(each.identity for each in spec.rounds)):
        assert identity is None or (identity.isprintable() and not {"*", "%any"} & {identity} and identity.strip())
    assert spec.server.authorities or spec.server.method is Method.PSK
    for each in spec.rounds:
        assert sum(held is not None for held in (each.secret, each.credential, each.ask)) == 1
        assert spec.version is IkeVersion.V1 or each.method is not Method.XAUTH
    for written in (*spec.proposals, *spec.esp_proposals):
        assert written.replace("-", "").replace("_", "").isalnum()
        assert written.isascii()
    assert all(name.isascii() for name in (*spec.hosts, *spec.search))


# -- what it names ----------------------------------------------------------------------------------------------------
_SIGNER: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
"""Its signatures are the same in every run, and so are the cases."""
_BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_END: Final = datetime(2036, 1, 1, tzinfo=UTC)
_NAME: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "laptop")])
_KEY: Final = _SIGNER.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _certificate() -> bytes:
    builder = x509.CertificateBuilder(_NAME, _NAME, _SIGNER.public_key(), 7, _BEGIN, _END)
    names = x509.SubjectAlternativeName([x509.DNSName("laptop.lab"), x509.RFC822Name("a@lab")])
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.add_extension(names, critical=False).sign(_SIGNER, None).public_bytes(Encoding.PEM)


def _list() -> bytes:
    return x509.CertificateRevocationListBuilder(_NAME, _BEGIN, _END).sign(_SIGNER, None).public_bytes(Encoding.DER)


_P12: Final = base64.b64decode(
    "MIIDYwIBAzCCAx0GCSqGSIb3DQEHAaCCAw4EggMKMIIDBjCCAgEGCSqGSIb3DQEHBqCCAfIwggHuAgEAMIIB5wYJKoZIhvcNAQcBMFYGCSqGSI"
    "b3DQEFDTBJMCgGCSqGSIb3DQEFDDAbBAiLYrc+c8jZaQIBCDAMBggqhkiG9w0CCQUAMB0GCWCGSAFlAwQBKgQQpyw2GB8FLlMWufej09FpTYCC"
    "AYDqrp5ke19LUPPi43rtlQ1mX26bqhFAJNO7L9ZEW4PmdLMimZg+rDwLaAEzfk/GP0wTRuttKgs3n9NyIWkGehsdSHzysKWwlJx83qRKjB1sX1"
    "Xnyjvv+AF0oxub5Qsjg+90/yuZwbqlF38u2tTlVtMYlsAHSScs2hS7YKCZVSSPo+nsQO6CWT+FiCuS4xfK/yhr3GnXoYdN6YXvKfZpgg4FizsQ"
    "ESs2H5/pRMtBTKBQ7CaJfO1xJh3PaEKYHcD9YyW+G3Ryp53EomGHBt/NnFvgKukwbizr0nxtVyZSPl2BRSbNNcrQHSkto/UpW28YB44UQ37Rt6"
    "sGvSQLl3SGhhdzJWEWRi/Tu+p0nnuBpmZTfeoyoDn/VoNx8Fs2MvcRUkYfKUPkGNVqQi0XL5GAxTt/evPvmMnTb2O8bkHEjhmlYZI91uIFA8Ww"
    "5ewozCx5/2iJ3ZwpGaIkOVIjheyEy8XXFUbgmXbnKbK2QfxuVnSM4ZS/9Fbqs4vSoh5n5TuTgSwwgf4GCSqGSIb3DQEHAaCB8ASB7TCB6jCB5w"
    "YLKoZIhvcNAQwKAQKggZ0wgZowVgYJKoZIhvcNAQUNMEkwKAYJKoZIhvcNAQUMMBsECMC5jZq+zR+9AgEIMAwGCCqGSIb3DQIJBQAwHQYJYIZI"
    "AWUDBAEqBBCjeGt/IhTkhSjsx5PEP8ZYBECcuIZQKLKgx8DWDwd/aLajFne2tlw6uTX0cRj3Nv9+FoiZ3UxkcWUo9mWyGQgnwOw2KZJI1sskg9"
    "aMfWnWeBbSMTgwEQYJKoZIhvcNAQkUMQQeAgB4MCMGCSqGSIb3DQEJFTEWBBRRAIwKMQ66NuBlQIEXMCoT1Wmc3zA9MDEwDQYJYIZIAWUDBAIB"
    "BQAEIAkFK1MH+wH/Zsqm5nnNmd68CvzfvlyzmVPSzHY5t4I/BAij5e33pUTbQw=="
)
"""Key and certificate of these, with the password x, and few rounds so that a case is quick."""
_PEM: Final = _certificate()


def _bodies(content: bytes) -> bytes:
    """PEM of DER: damage of the DER would seldom survive in base64."""
    body = base64.b64encode(content)
    return b"-----BEGIN CERTIFICATE-----\n" + body + b"\n-----END CERTIFICATE-----\n"


_READERS: Final[tuple[tuple[str, Callable[[bytes], object]], ...]] = (
    ("certificates", certificates.certificates),
    ("body", lambda content: certificates.certificates(_bodies(content))),
    ("key", lambda content: certificates.private_key(content, None)),
    ("locked", lambda content: certificates.private_key(content, "x")),
    ("container", lambda content: certificates.container(content, "x")),
    ("list", certificates.revocations),
)


def _named(case: tuple[int, bytes]) -> str:
    number, content = case
    kind, reader = _READERS[number % len(_READERS)]
    try:
        reader(content)
    except UnfitError as error:
        judge.told(f"{error.reason} ({error.hint})")
        return judge.outcome(kind, error.reason)
    return f"{kind}: ok"


TARGETS: Final = (
    Target(
        "ike-file",
        "the file of an IKE tunnel",
        (PSK, CERT, EAP, FULLEST, CONTAINER, OLD, ASKS),
        _file,
        Mutator((*TOML, *words(FULLEST), *words(CONTAINER), *words(OLD), "%any", "0.0.0.0", "keys/../keys/psk", "/")),
        slice=600,
    ),
    Target(
        "certificate",
        "certificates, keys, PKCS#12 files and revocation lists",
        (
            (0, _PEM),
            (0, _PEM * 2),
            (1, base64.b64decode(b"".join(_PEM.splitlines()[1:-1]))),
            (2, _KEY),
            (3, _KEY),
            (4, _P12),
            (5, _list()),
        ),
        _named,
        slice=1500,
    ),
)

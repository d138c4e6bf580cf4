# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that the file of an IKE tunnel names: secrets, keys, certificates. `UnfitError` says what is wrong.

Paths are absolute, or relative to the configuration directory. A path that leads nowhere is not quoted: what stands
where a path belongs may be the secret itself.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aovpnd.config import files, ike_values, plain
from aovpnd.config.files import Holds
from aovpnd.config.findings import UnfitError, printable_path, quoted
from aovpnd.errors import ConfigError, ToolError
from aovpnd.ipsec import Locked
from aovpnd.tunnel import Secret

if TYPE_CHECKING:
    from aovpnd.config.certificates import Certificate, Key

LONGEST_PATH: Final = 1024
MOST_CERTIFICATES: Final = 10
_MODULE: Final = re.compile(r"[A-Za-z0-9/._+-]+")
"""Of our own chain."""


class Store:
    """Reads what a tunnel file names, relative to ``base``; lives as long as its parsing."""

    def __init__(self, base: Path) -> None:
        self.base = base

    def secret(self, value: object) -> Secret:
        """One secret on one line."""
        content = self._content(value, Holds.CREDENTIAL)
        try:
            return Secret(ike_values.secret(content.decode("utf-8-sig")))
        except UnicodeDecodeError:
            raise UnfitError("the file is not UTF-8 text", "save it as UTF-8") from None

    def certificates(self, value: object) -> "tuple[Certificate, ...]":
        """The certificates of a PEM file."""
        content = self._content(value, Holds.CERTIFICATES)
        with _installed():
            from aovpnd.config import certificates  # noqa: PLC0415 - 50 ms, for tunnels with certificates
        return certificates.certificates(content)

    def chain(self, value: object) -> "tuple[Certificate, ...]":
        """Our certificate, and behind it those between it and the gateway's authority."""
        found = self.certificates(value)
        if len(found) > MOST_CERTIFICATES:
            raise UnfitError(f"a chain of {len(found)} certificates is too long", f"at most {MOST_CERTIFICATES}")
        return found

    def key(self, value: object, password: Secret | None) -> "Key":
        """The private key of a PEM file."""
        content = self._content(value, Holds.CREDENTIAL)
        with _installed():
            from aovpnd.config import certificates  # noqa: PLC0415 - as above
        return certificates.private_key(content, None if password is None else password.value)

    def locked(self, value: object) -> Locked:
        """The private key of a PEM file that is encrypted, as it is."""
        content = self._content(value, Holds.CREDENTIAL)
        text = content.decode("ascii", "replace")
        if "ENCRYPTED" not in text:
            raise UnfitError("the key is not encrypted", "remove password")
        return Locked(Secret(text))

    def container(self, value: object, password: Secret) -> "tuple[tuple[Certificate, ...], Key]":
        """What a PKCS#12 file holds."""
        content = self._content(value, Holds.CREDENTIAL)
        with _installed():
            from aovpnd.config import certificates  # noqa: PLC0415 - as above
        return certificates.container(content, password.value)

    def authorities(self, value: object) -> "tuple[Certificate, ...]":
        """Certificates of authorities, from one file or several."""
        found = [each for path in ike_values.some(value, _path) for each in self.certificates(path)]
        if not all(each.is_authority for each in found):
            hint = "write the authority's certificate, which has CA:TRUE, not the gateway's"
            raise UnfitError("there is a certificate that is no authority's", hint)
        return tuple({each.pem: each for each in found}.values())

    def revocations(self, value: object) -> tuple[tuple[bytes, bytes], ...]:
        """Revocation lists in DER, each with its issuer."""
        contents = [self._content(path, Holds.CERTIFICATES) for path in ike_values.some(value, _path)]
        with _installed():
            from aovpnd.config import certificates  # noqa: PLC0415 - as above
        return tuple(map(certificates.revocations, contents))

    def module(self, value: object) -> str:
        """A PKCS#11 module: a library that charon will load, so it has to be root's."""
        written = _path(value)
        if not written.startswith("/"):
            raise UnfitError(f"{quoted(written)} is no absolute path", "write where the module is, from / on")
        if _MODULE.fullmatch(written) is None:  # it becomes a line of charon's settings
            raise UnfitError(f"{quoted(written)} cannot be told to charon", "letters, digits and /._+- make its path")
        path = Path(written)
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise UnfitError("is not a regular file", "p11-kit list-modules shows which there are")
            files.judge_owner(status, printable_path(path))
        except ConfigError as error:
            raise _unfit(error, path) from None
        except OSError:
            raise UnfitError("there is no such file", "p11-kit list-modules shows which there are") from None
        return written

    def _content(self, value: object, holds: Holds) -> bytes:
        path = self.base / _path(value)
        try:
            content = files.content(path, holds)
        except ConfigError as error:
            raise _unfit(error, path) from None
        if content is None:
            where = f"paths are absolute, or relative to {printable_path(self.base)}"
            raise UnfitError("there is no such file", where)
        return content


def unlock(locked: Locked, chain: tuple[str, ...], password: Secret) -> Secret:
    """The key, by a password that somebody has given; `UnfitError` when it is another one, or not the chain's key."""
    with _installed():
        from aovpnd.config import certificates  # noqa: PLC0415 - as above
    key = certificates.private_key(locked.pem.value.encode("ascii", "replace"), password.value)
    agree(certificates.certificates(chain[0].encode("ascii")), key)
    return Secret(key.pem)


def agree(chain: "tuple[Certificate, ...]", key: "Key | None") -> None:
    """The chain begins with the certificate that belongs to the key (None: it is somewhere else)."""
    if key is not None and chain[0].public_key != key.public_key:
        if any(each.public_key == key.public_key for each in chain):
            raise UnfitError("the certificate that belongs to the key is not the first", "write it first")
        raise UnfitError("does not belong to the certificate", "openssl x509 -pubkey and openssl pkey -pubout tell")


def ends(chain: "Iterable[Certificate]") -> float | None:
    """When the first of them ends, seconds since the epoch."""
    return min((each.expires_wall for each in chain), default=None)


def confirms(certificate: "Certificate", identity: str) -> bool:
    """Whether a certificate says that it is that identity's; where it is not, charon takes the subject in silence."""
    kind, colon, name = identity.partition(":")
    known = colon and kind in {"fqdn", "dns", "userfqdn", "rfc822", "email", "ipv4", "ipv6", "asn1dn", "keyid"}
    name = name if known else identity.lstrip("@")
    if known and kind == "keyid":
        return True
    if "=" in name:
        return _same_name(certificate.subject, name)
    return name.lower() in certificate.names


def _same_name(subject: tuple[tuple[str, str], ...], written: str) -> bool:
    """Whether a distinguished name is the subject's, as far as one can tell without charon's parser."""
    parts = [part.partition("=") for part in written.lstrip("/").replace("/", ",").split(",")]
    if not all(equals for _, equals, _ in parts):
        return True
    pairs = [(name.strip().upper().replace("EMAILADDRESS", "E"), value.strip()) for name, _, value in parts]
    return any("." in name for name, _ in subject) or pairs == list(subject)


def _path(value: object) -> str:
    written = plain.text(value)
    if not written or len(written) > LONGEST_PATH or not written.isprintable():
        raise UnfitError("is no path", "write the name of a file")
    return written


def _unfit(error: ConfigError, path: Path) -> UnfitError:
    """As the file's own fault, named only where there is such a file."""
    if os.path.lexists(path):
        hint = error.hint if path.is_symlink() or path.is_file() else "write the name of a file"
        return UnfitError(f"{error.file}: {error.reason}", hint)
    return UnfitError("there is no such file", "paths are absolute, or relative to the configuration directory")


@contextmanager
def _installed() -> Iterator[None]:
    """Around the import: ``ToolError`` when cryptography is not there."""
    try:
        yield
    except ImportError:
        raise ToolError("certificates cannot be read", hint="apt install python3-cryptography") from None

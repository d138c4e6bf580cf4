# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the files of the configuration: only those that nobody but an administrator can have written.

Everything is judged on the opened file, not on its name, so that nothing can be exchanged in between.
"""

import errno
import os
import stat
from enum import Enum
from pathlib import Path
from typing import Final

from aovpnd import names
from aovpnd.config.findings import printable_path
from aovpnd.errors import ConfigError


class Holds(Enum):
    """What a file holds: who may see it follows from that."""

    SETTINGS = "settings"
    """Everybody may read it, nobody but its owner write it."""
    KEYS = "keys"
    """Nobody but its owner may read it, and it may not be a link out of its directory, but to a credential of ours."""
    CREDENTIAL = "credential"
    """As keys: a password or key of its own, which a tunnel file names."""
    CERTIFICATES = "certificates"
    """As settings."""


LARGEST: Final = {
    Holds.SETTINGS: 64 * 1024,
    Holds.KEYS: 256 * 1024,
    Holds.CREDENTIAL: 64 * 1024,
    Holds.CERTIFICATES: 448 * 1024,
}
"""Bytes. The longest real tunnels, with a thousand prefixes in AllowedIPs, have a tenth of it; a message to charon has
512 KiB at most.
"""
_DECRYPTED: Final = (
    "it is decrypted while the daemon runs; where it cannot be any more: aovpnctl import --replace --encrypt FILE"
)
_PRIVATE: Final = {Holds.KEYS: "holds a private key", Holds.CREDENTIAL: "holds a secret"}


def names_in(directory: Path, *suffixes: str) -> tuple[Path, ...]:
    """The files of a directory with one of the suffixes, hidden ones excepted, in the order of their names.

    A directory that is not there has none. ``ConfigError`` when it cannot be read, or when others can change it: who
    can remove a file of policy.d removes the policy.
    """
    shown = printable_path(directory)
    try:
        status = directory.stat()
        found = sorted(entry.name for entry in os.scandir(directory))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=shown, hint=_hint(error)) from None
    judge_owner(status, shown)
    return tuple(directory / name for name in found if name.endswith(suffixes) and not name.startswith("."))


def read(path: Path, holds: Holds) -> str | None:
    """The text of a file, without a byte order mark; None when there is no such file.

    ``ConfigError`` as `content`, and when it is not UTF-8.
    """
    found = content(path, holds)
    return None if found is None else decoded(found, printable_path(path), LARGEST[holds])


def content(path: Path, holds: Holds) -> bytes | None:
    """The bytes of a file; None when there is no such file.

    ``ConfigError`` when it is no regular file, too large, or somebody else could have written it (or, for keys and
    secrets, read it).
    """
    shown = printable_path(path)
    try:
        real = path.resolve(strict=True)
        home = path.parent.resolve(strict=True)
        if holds in _PRIVATE and not real.is_relative_to(home) and real.parent != Path(names.CREDENTIALS_DIR):
            raise ConfigError("is a link out of its directory", file=shown, hint="copy the file itself here")
        # No waiting for the other end of a pipe, and no link in the last step, which was resolved above.
        descriptor = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW)
    except FileNotFoundError:
        if path.is_symlink():
            hint = _DECRYPTED if _is_credential(path) else "remove or mend it"
            raise ConfigError("is a link that leads nowhere", file=shown, hint=hint) from None
        return None
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a circle of links, before Python 3.13
        if isinstance(error, PermissionError) and path.is_symlink() and _is_credential(path):
            # A unit that was started without credentials may not look where they would be.
            raise ConfigError("is a link that leads nowhere", file=shown, hint=_DECRYPTED) from None
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "the path leads nowhere"
        raise ConfigError(f"cannot be read: {reason}", file=shown, hint=_hint(error)) from None
    try:
        return _small(_content(descriptor, shown, holds), shown, LARGEST[holds])
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=shown) from None
    finally:
        os.close(descriptor)


def _is_credential(link: Path) -> bool:
    return link.readlink().parent == Path(names.CREDENTIALS_DIR)


def _content(descriptor: int, shown: str, holds: Holds) -> bytes:
    """The bytes of an opened file, once it is known to be one that may be trusted."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError("is not a regular file", file=shown, hint="remove it")
    judge_owner(status, shown)
    if holds in _PRIVATE and stat.S_IMODE(status.st_mode) & 0o077:
        raise ConfigError(f"{_PRIVATE[holds]} and others can read it", file=shown, hint=f"chmod 600 {shown}")
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(LARGEST[holds] + 1)


def judge_owner(status: os.stat_result, shown: str) -> None:
    """Only root, or whoever runs this, may own or change it."""
    if status.st_uid not in {0, os.geteuid()}:
        raise ConfigError("belongs to another user", file=shown, hint=f"chown root: {shown}")
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise ConfigError("others can change it", file=shown, hint=f"chmod go-w {shown}")


def decoded(found: bytes, shown: str, most: int) -> str:
    """The text of a file's bytes, without a byte order mark. ``ConfigError`` when they are too many, or not UTF-8."""
    try:
        return _small(found, shown, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = found.count(b"\n", 0, error.start) + 1
        raise ConfigError("is not UTF-8 text", file=shown, line=line, hint="save it as UTF-8") from None


def _small(found: bytes, shown: str, most: int) -> bytes:
    if len(found) > most:
        raise ConfigError(f"is too large: at most {most // 1024} KiB", file=shown, hint="is it the right file?")
    return found


def _hint(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in {errno.EACCES, errno.EPERM}:
        return "run it as root"
    return ""

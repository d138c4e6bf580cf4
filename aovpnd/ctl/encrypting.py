# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl import --encrypt``: a file that systemd keeps encrypted, with a key of the machine or of its TPM
(systemd-creds(1)), and decrypts for the daemon alone (decision 35): a tunnel's, or a secret that one of IKE names.

Three things belong together: the encrypted file, a drop-in of the daemon's unit that names it, and in the place of the
file a link to where it is decrypted. The link, by which a machine blocks at boot where it is the tunnel, is the
importer's to make, and comes last; it is the first to go.
"""

from __future__ import annotations

import os
from pathlib import Path

from aovpnd import names, regular
from aovpnd.ctl.calling import SYSTEMD, output
from aovpnd.errors import CommandRefused, StateError, ToolError

SYSTEMD_CREDS = "/usr/bin/systemd-creds"
STORE = "/etc/credstore.encrypted"
DROP_INS = f"/etc/systemd/system/{names.UNIT}.d"
PATIENCE_S = 60.0
"""A TPM takes some seconds."""


def target(file: str) -> str:
    """Where systemd decrypts the ``file`` to, while the daemon runs."""
    return f"{names.CREDENTIALS_DIR}/{file}"


def encrypted(file: str, content: bytes, config_dir: str) -> str:
    """The content of a ``file``, encrypted by the machine's key, and its TPM where there is one (``--with-key=auto``).
    `CommandRefused` where there is no systemd to do it, or none that the daemon of these directories is started by.
    """
    if not _is_the_daemons(config_dir):
        hint = f"without --config-dir, or with --config-dir {names.CONFIG_DIR}"
        raise CommandRefused("systemd decrypts for the machine's own daemon alone", hint=hint, code="not-here")
    if not os.path.isdir(SYSTEMD) or not os.path.exists(SYSTEMD_CREDS):
        hint = "without --encrypt the file is root's alone to read"
        raise CommandRefused("there is no systemd here that could encrypt it", hint=hint, code="not-here")
    try:
        if made := output(SYSTEMD_CREDS, "encrypt", f"--name={file}", "-", "-", patience_s=PATIENCE_S, given=content):
            return made
        reason = "it printed nothing"
    except ToolError as error:
        reason = error.text
    hint = "systemd-creds setup makes a key of the machine; systemd-creds has-tpm2 says what there is"
    raise CommandRefused(f"systemd-creds cannot encrypt it: {reason}", hint=hint, code="not-encrypted")


def seal(file: str, text: str) -> None:
    """Keep the ``file`` as it was `encrypted`, and have the daemon's unit name it. Nothing is read before the daemon is
    started again. `StateError` when it cannot be written.
    """
    kept = _kept(file)
    unit = f"# Written by aovpnctl import --encrypt.\n[Service]\nLoadCredentialEncrypted={file}:{kept}\n"
    _put(kept, text, secret=True)
    _put(_drop_in(file), unit, secret=False)


def forget(file: str, config_dir: str) -> bool:
    """Take away what `seal` has written, once nothing leads there any more; False where there is nothing of it, or
    where it is another daemon's than that of these directories.

    `StateError` when it cannot be taken away.
    """
    found = written(file, config_dir)
    try:
        for path in found:
            path.unlink()
    except OSError as error:
        raise StateError(f"{error.filename}: {error.strerror}") from None
    return bool(found)


def written(file: str, config_dir: str) -> list[Path]:
    """What there is of it, nothing where that is another daemon's than of these directories; the drop-in first, since
    one that names a missing file keeps the daemon from starting.
    """
    return [path for path in (_drop_in(file), _kept(file)) if path.exists() and _is_the_daemons(config_dir)]


def _kept(file: str) -> Path:
    return Path(STORE) / f"aovpnd.{file}"


def _drop_in(file: str) -> Path:
    """Of a tunnel called as its file, which ends as drop-ins do; of anything else with that behind it."""
    return Path(DROP_INS) / (f"credential-{file}.conf" if "@" in file else f"credential-{file}")


def _is_the_daemons(config_dir: str) -> bool:
    return Path(config_dir) == Path(names.CONFIG_DIR)


def _put(path: Path, text: str, *, secret: bool) -> None:
    try:
        regular.put(path, text, secret=secret)
    except PermissionError:
        raise CommandRefused("only root may import tunnels", hint="try sudo", code="not-authorised") from None
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}", hint="is the file system full or read-only?") from None

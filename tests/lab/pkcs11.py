# SPDX-License-Identifier: GPL-3.0-or-later
"""A PKCS#11 token that is no hardware: SoftHSM, from the lab's root directory, in which charon runs and finds it."""

from typing import Final

from tests.lab.host import Host

_DIR: Final = "/run/softhsm"
SETTINGS: Final = f"{_DIR}/softhsm2.conf"
MODULE: Final = f"{_DIR}/libsofthsm2.so"
"""Where both the daemon, which looks whose it is, and charon find it."""
HANDLE: Final = "0b"
"""The key's CKA_ID."""
PIN: Final = "493817"
_LABEL: Final = "laptop"
_UTIL: Final = ("chroot", "/run/lab-root", "env", f"SOFTHSM2_CONF={SETTINGS}", "softhsm2-util")


def install(host: Host) -> None:
    """Give a machine the module, and a token that opens by `PIN` and is empty."""
    (host.path(_DIR) / "tokens").mkdir(parents=True)
    host.run("cp", "/run/lab-root/usr/lib/softhsm/libsofthsm2.so", MODULE)
    settings = f"directories.tokendir = {_DIR}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"
    host.path(SETTINGS).write_text(settings, encoding="ascii")
    host.run(*_UTIL, "--init-token", "--free", "--label", _LABEL, "--so-pin", f"{PIN}00", "--pin", PIN)


def put(host: Host, key: str) -> None:
    """Put a private key (PEM, PKCS#8) into the token; whoever has it open sees it at once."""
    file = host.path(f"{_DIR}/key.pem")
    file.touch(0o600)
    file.write_text(key, encoding="ascii")
    words = ("--import", f"{_DIR}/key.pem", "--token", _LABEL, "--label", "key", "--id", HANDLE, "--pin", PIN)
    host.run(*_UTIL, *words)
    file.unlink()

# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnd-guard [--runtime-dir DIR]``: one per network namespace; SIGTERM ends it and its tables with it."""

import logging
import os
import signal
import socket
import sys
from pathlib import Path

from aovpnd import names
from aovpnd.errors import AlreadyRunning, AovpndError
from aovpnd.guard.holder import hold
from aovpnd.guard.queues import Queues
from aovpnd.lock import Lock
from aovpnd.logs import to_stderr
from aovpnd.nftlib import Nft
from aovpnd.options import Parser


def main() -> int:
    """Run the guard. Exit status 0 after SIGTERM, 1 when it cannot do its work."""
    runtime_dir = _runtime_dir()
    to_stderr("aovpnd-guard: %(message)s")
    try:
        lock = runtime_dir / names.GUARD_LOCK_FILE
        lock.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with Lock(lock):
            hold(Nft, Queues(), _ready, _stop_descriptor())
    except AlreadyRunning as error:
        logging.error("%s", error)  # noqa: LOG015, TRY400 - one line for a person
        return 1
    except (AovpndError, OSError) as error:
        logging.error("%s", error)  # noqa: LOG015, TRY400 - one line for a person
        return 1
    return 0


def _runtime_dir() -> Path:
    parser = Parser(prog="aovpnd-guard", description="holds the static half of aovpnd's block")
    parser.add_argument("--runtime-dir", type=Path, default=Path(names.RUNTIME_DIR), metavar="DIR")
    runtime_dir: Path = parser.parse_args().runtime_dir
    return runtime_dir


def _stop_descriptor() -> int:
    """A descriptor that becomes readable on SIGTERM or SIGINT; handlers only write a byte (MLLVD-CR-24-01)."""
    receiver, sender = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(sender)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return receiver


def _ready() -> None:
    """Tell the service manager, sd_notify(3); without one there is nobody to tell."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in {"/", "@"}:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        try:
            manager.connect(address.replace("@", "\0", 1))
            manager.send(b"READY=1")
        except OSError as error:
            logging.warning("the service manager does not hear: %s", error)  # noqa: LOG015 - the guard has one logger


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: GPL-3.0-or-later
"""One command to the daemon, and its answer: root's over the control socket (the protocol is in the docstring of
`control`), everybody else's over the bus.
"""

from __future__ import annotations

import json
import os
import socket

from aovpnd import names
from aovpnd.absence import without_daemon
from aovpnd.errors import AovpndError, CommandRefused, DaemonUnreachable
from aovpnd.shape import fits, moment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1
ANSWER_LIMIT = 1 << 22
"""Bytes; the explanation of a machine with a thousand links has some hundred thousand."""
PATIENCE_S = 60.0
"""How long the daemon may take: a pass that changes everything takes well under one second."""


def ask(runtime_dir: str, command: str, **fields: object) -> dict[str, Any]:
    """Have ``command`` carried out; what the daemon answered after it was. Fields that are None are left out.

    `CommandRefused` when it was not, `DaemonUnreachable` when nobody answers.
    """
    if not _is_ours(os.path.join(runtime_dir, names.CONTROL_SOCKET)):
        from aovpnd.ctl import bus

        return bus.ask(command, fields)
    request = {"v": VERSION, "command": command, **{key: value for key, value in fields.items() if value is not None}}
    line = _exchange(os.path.join(runtime_dir, names.CONTROL_SOCKET), json.dumps(request).encode() + b"\n")
    try:
        answer = json.loads(line)
        if answer["ok"] is True and fits(answer["expires_at"], (moment, None)):
            return {"text": str(answer["text"]), "expires_at": answer["expires_at"], "data": answer.get("data")}
        raise CommandRefused(str(answer["text"]), hint=str(answer["hint"]), code=str(answer["code"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        hint = "aovpnctl and aovpnd must be of the same release"
        raise AovpndError("the daemon's answer cannot be understood", hint=hint) from error


def _is_ours(path: str) -> bool:
    """Whether the socket is there for us: it is its owner's, which is root. `DaemonUnreachable` when there is none."""
    try:
        return os.geteuid() in {0, os.stat(path).st_uid}
    except FileNotFoundError:
        raise _absent() from None
    except OSError:
        return False


def _absent() -> DaemonUnreachable:
    text, hint = without_daemon()
    return DaemonUnreachable(text, hint=hint)


def _exchange(path: str, line: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as daemon:
        daemon.settimeout(PATIENCE_S)
        try:
            daemon.connect(path)
            _send(daemon, line)
            answer = b""
            while not answer.endswith(b"\n") and len(answer) < ANSWER_LIMIT and (more := daemon.recv(ANSWER_LIMIT)):
                answer += more
        except PermissionError:
            raise CommandRefused(f"{path} does not let you in", hint="try sudo", code="not-authorised") from None
        except TimeoutError:
            raise DaemonUnreachable("the daemon does not answer", hint="journalctl -u aovpnd") from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise _absent() from None
        except OSError as error:
            raise DaemonUnreachable(f"{path}: {error.strerror or error}", hint="is this the right place?") from error
    if not answer.endswith(b"\n"):
        raise DaemonUnreachable("the daemon hung up before it answered", hint="aovpnctl status")
    return answer


def _send(daemon: socket.socket, line: bytes) -> None:
    try:
        daemon.sendall(line)
    except BrokenPipeError:
        return  # whoever is refused for who he is is not listened to: the answer is there to be read already

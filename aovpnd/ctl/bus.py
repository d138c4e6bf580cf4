# SPDX-License-Identifier: GPL-3.0-or-later
"""One command over D-Bus, as an ordinary user: ``org.aovpnd1.Manager``, where polkit decides who may.

Where polkit wants a password, an agent asks for it: the desktop's, or else polkit's own for terminals, which runs
beside us for as long as the question takes (pkttyagent(1), as systemctl(1) does it).
"""

from __future__ import annotations

import os
import sys

from aovpnd import names
from aovpnd.errors import AovpndError, CommandRefused, DaemonUnreachable
from aovpnd.shape import fits, moment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

INTERFACE = f"{names.BUS_NAME}.Manager"
ERROR_PREFIX = f"{names.BUS_NAME}.Error."
PATIENCE_MS = 300_000
"""A person may have to find a password; aovpnd-bus gives up sooner, and says so."""
AGENT = "pkttyagent"
AGENT_PATIENCE_S = 5.0
"""How long it may take to be ready."""
SECONDS_LIMIT = 0xFFFFFFFF
"""The largest value of D-Bus' type u."""

METHODS = {
    "allow-temp": "AllowTemporaryAccess",
    "cancel-temp": "CancelTemporaryAccess",
    "connect": "Connect",
    "explain": "Explain",
    "disconnect": "Disconnect",
    "block": "Block",
    "unblock": "Unblock",
    "confirm": "Confirm",
    "reload": "Reload",
    "questions": "Questions",
    "sign-in": "SignIn",
}
"""The commands of the control socket, and the methods that do the same."""

_NOBODY = ("ServiceUnknown", "NameHasNoOwner", "Spawn.ServiceNotFound")


def ask(command: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Have ``command`` carried out; what the daemon answered, in the words of the control socket.

    `CommandRefused` when it was not, `DaemonUnreachable` when the bus, or aovpnd-bus on it, or the daemon is not there.
    """
    try:
        return _call(command, fields)
    except CommandRefused as error:
        if error.code != "authentication-required" or not sys.stdin.isatty():
            raise
    # Nothing was done yet; now with somebody who can ask.
    with _Agent():
        return _call(command, fields)


def _call(command: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    try:
        from gi.repository import Gio, GLib
    except ImportError:
        hint = "apt install python3-gi, or try sudo"
        raise AovpndError("the bus cannot be asked: GLib's binding is missing", hint=hint) from None
    try:
        bus = Gio.bus_get_sync(Gio.BusType.SYSTEM, None)
        bus.set_exit_on_close(False)
    except GLib.Error:
        text = "there is no system bus, and without one only root can give commands"
        raise DaemonUnreachable(text, hint="try sudo", code="bus-unreachable") from None
    signature, values = _arguments(command, fields)
    try:
        answer, _ = bus.call_with_unix_fd_list_sync(
            names.BUS_NAME,
            names.BUS_PATH,
            INTERFACE,
            METHODS[command],
            GLib.Variant(signature, values),
            None,
            Gio.DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION | Gio.DBusCallFlags.NO_AUTO_START,
            PATIENCE_MS,
            _beside(command, fields),
            None,
        )
    except GLib.Error as error:
        name = Gio.DBusError.get_remote_error(error) or ""
        text = str(error.message).removeprefix(f"GDBus.Error:{name}: ")
        raise _translated(name, text) from None
    return _answered(*answer.unpack())


def _beside(command: str, fields: Mapping[str, Any]) -> object:
    """The descriptors that go with a call: what nobody who watches the bus may see, in a sealed file of memory."""
    if command != "sign-in":
        return None
    import fcntl
    import json

    from gi.repository import Gio

    seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
    descriptors = Gio.UnixFDList.new()
    try:
        descriptor = os.memfd_create("aovpnd-answers", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.write(descriptor, json.dumps(fields["answers"]).encode())
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
            descriptors.append(descriptor)  # a copy
        finally:
            os.close(descriptor)
    except OSError as error:
        raise AovpndError(f"the answers cannot be handed over: {error.strerror}", hint="or try sudo") from None
    return descriptors


def _answered(text: str, *more: object) -> dict[str, Any]:
    """From what a method returns: a text, and where it has them, the end of a window and JSON."""
    import json

    until_us = more[0] if more and isinstance(more[0], int) else 0
    data = more[-1] if more and isinstance(more[-1], str) else "null"
    try:
        answer = {"text": text, "expires_at": until_us / 1_000_000 if until_us else None, "data": json.loads(data)}
        if not fits(answer["expires_at"], (moment, None)):
            raise ValueError  # noqa: TRY301 - as below
    except (ValueError, RecursionError):
        hint = "aovpnctl and aovpnd-bus must be of the same release"
        raise AovpndError("aovpnd-bus' answer cannot be understood", hint=hint, code="protocol") from None
    return answer


def _arguments(command: str, fields: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """The arguments of the method. What does not fit into them is refused as the daemon would."""
    match command:
        case "allow-temp":
            seconds = fields.get("duration_s") or 0
            if seconds > SECONDS_LIMIT:
                raise CommandRefused(f"{seconds} s is longer than anything", hint="ask for less", code="too-long")
            return "(us)", (seconds, _encodable(fields.get("reason") or ""))
        case "connect":
            return "(s)", (_encodable(fields.get("name") or ""),)
        case "sign-in":
            return "(sh)", (_encodable(fields["name"]), 0)
        case "explain":
            return "(s)", (_encodable(fields.get("destination") or ""),)
        case _:
            return "()", ()


def _encodable(text: str) -> str:
    """A text as D-Bus has it: UTF-8 without NUL."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "")


def _translated(name: str, text: str) -> AovpndError:
    """Our own error again; or why nobody answered."""
    if name.startswith(ERROR_PREFIX):
        return refusal(name, text)
    if name.rpartition("Error.")[2] in _NOBODY:
        text = "aovpnd-bus is not running, and without it only root can give commands"
        return DaemonUnreachable(text, hint="systemctl status aovpnd-bus; or try sudo", code="bus-unreachable")
    if name.endswith(".AccessDenied"):
        text = "the bus does not let you talk to aovpnd"
        hint = "is org.aovpnd1.conf in /etc/dbus-1/system.d? or try sudo"
        return CommandRefused(text, hint=hint, code="not-authorised")
    if name.endswith((".NoReply", ".Timeout", ".TimedOut")):
        return DaemonUnreachable("aovpnd-bus does not answer", hint="journalctl -u aovpnd-bus", code="bus-unreachable")
    return DaemonUnreachable(f"the bus failed: {text}", hint="aovpnctl status; or try sudo", code="bus-unreachable")


def refusal(name: str, text: str) -> AovpndError:
    """The error that aovpnd-bus spelt: ``org.aovpnd1.Error.TooLong`` and ``text (hint)``."""
    word = name.removeprefix(ERROR_PREFIX)
    code = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in word).lstrip("-")
    what, parenthesis, hint = text.partition(" (")
    if not parenthesis or not text.endswith(")"):
        what, hint = text, ""
    kind = DaemonUnreachable if code == DaemonUnreachable.code else CommandRefused
    return kind(what, hint=hint.removesuffix(")"), code=code)


class _Agent:
    """polkit's agent for terminals, for as long as a question takes."""

    def __enter__(self) -> None:
        import select
        import subprocess

        ready, notify = os.pipe()
        try:
            self._process = subprocess.Popen(
                [AGENT, "--notify-fd", str(notify), "--fallback"],
                pass_fds=(notify,),
            )
        except OSError:
            os.close(ready)
            text = "this takes a password, and polkit's agent for terminals, which asks for it, is missing"
            hint = "apt install polkitd, or try sudo"
            raise CommandRefused(text, hint=hint, code="authentication-required") from None
        finally:
            os.close(notify)
        # It says so when it is ready, and hangs up when it cannot be: then the refusal says what is wrong.
        select.select([ready], [], [], AGENT_PATIENCE_S)
        os.close(ready)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

# SPDX-License-Identifier: GPL-3.0-or-later
"""A program that floods the bus, by its own socket, as fast as the bus takes it: one JSON object of orders as argument.

Keys: ``kind`` (calls: calls that want no answer; answered: calls that want one; strings: long ones; signals: signals to
``to`` alone, in the name of others), ``to`` (a bus name), ``end_s``. It writes a line when it begins, and how many
messages it has sent when it ends.
"""

import json
import os
import socket
import sys
import time
from typing import Any, Final

from gi.repository import Gio, GLib

NAME, PATH = "org.aovpnd1", "/org/aovpnd1"
BATCH: Final = 100
SLEEPS: Final = ("/org/freedesktop/login1", "org.freedesktop.login1.Manager", "PrepareForSleep")
CHANGED: Final = ("/org/freedesktop/NetworkManager/Devices/2", "org.freedesktop.DBus.Properties", "PropertiesChanged")
OWNERS: Final = ("/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged")
_LARGE: Final = 1 << 16


def connect() -> socket.socket:
    """Another connection to the bus, past the greeting (D-Bus specification, Authentication Protocol)."""
    line = socket.socket(socket.AF_UNIX)
    line.connect(os.environ["DBUS_SYSTEM_BUS_ADDRESS"].partition("path=")[2])
    line.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
    if not line.recv(_LARGE).startswith(b"OK"):
        raise SystemExit("the bus does not let us in")
    driver = "org.freedesktop.DBus"
    hello = Gio.DBusMessage.new_method_call(driver, "/org/freedesktop/DBus", driver, "Hello")
    line.sendall(b"BEGIN\r\n" + blob(hello, 1))
    greeting = b""
    while b"NameAcquired" not in greeting:  # a signal, behind the answer
        greeting += line.recv(_LARGE)
    return line


def blob(message: Any, serial: int) -> bytes:
    """A message as it is sent."""
    message.set_serial(serial)
    return bytes(message.to_blob(Gio.DBusCapabilityFlags.NONE))


def call(method: str, signature: str = "()", *arguments: object, answered: bool = False, sender: str = "") -> Any:
    """A call of ours."""
    message = Gio.DBusMessage.new_method_call(NAME, PATH, f"{NAME}.Manager", method)
    message.set_flags(Gio.DBusMessageFlags.NONE if answered else Gio.DBusMessageFlags.NO_REPLY_EXPECTED)
    if arguments:
        message.set_body(GLib.Variant(signature, arguments))
    if sender:
        message.set_sender(sender)
    return message


def signal(to: str | None, sender: str, what: tuple[str, str, str], signature: str, *values: object) -> Any:
    """A signal in the name of somebody else."""
    message = Gio.DBusMessage.new_signal(*what)
    message.set_sender(sender)
    message.set_body(GLib.Variant(signature, values))
    if to is not None:
        message.set_destination(to)
    return message


def forged(to: str | None) -> tuple[Any, ...]:
    """Signals that would matter if they came from whom they name."""
    wlan = {"ActiveAccessPoint": GLib.Variant("o", "/")}
    return (
        signal(to, "org.freedesktop.login1", SLEEPS, "(b)", True),
        signal(to, "org.freedesktop.login1", SLEEPS, "(b)", False),
        signal(to, "org.freedesktop.NetworkManager", CHANGED, "(sa{sv}as)", "org.freedesktop.NetworkManager", wlan, []),
        signal(to, "org.freedesktop.DBus", OWNERS, "(sss)", "org.freedesktop.login1", ":1.1", ""),
    )


def messages(kind: str, to: str) -> tuple[Any, ...]:
    """What is sent over and over."""
    match kind:
        case "calls":
            return (call("Status"), call("Connect", "(s)", "home"))
        case "strings":
            return (call("Connect", "(s)", "x" * 50_000),)
        case "signals":
            return forged(to)
        case _:
            return (call("Status", answered=True), call("Connect", "(s)", "home", answered=True))


def main() -> None:
    """Flood until the end."""
    order = json.loads(sys.argv[1])
    line = connect()
    parts = messages(order["kind"], order.get("to", ""))
    count, serial = 0, 2
    print("begins", flush=True)
    until = time.monotonic() + order["end_s"]
    while time.monotonic() < until:
        batch = [blob(parts[number % len(parts)], serial + number) for number in range(BATCH)]
        serial += BATCH
        line.sendall(b"".join(batch))
        count += BATCH
        while True:  # whoever reads no answers is cut off
            try:
                line.recv(_LARGE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
    print(count, flush=True)


if __name__ == "__main__":
    main()

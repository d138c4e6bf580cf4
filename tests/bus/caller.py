# SPDX-License-Identifier: GPL-3.0-or-later
"""A program on the bus, as some user: does what it reads on standard input, one JSON object per line, and writes what
came of it. The first line that it writes is its bus name.
"""

import fcntl
import json
import os
import sys
import time
from typing import Any

from gi.repository import Gio, GLib

from tests.bus import flooder

NAME, PATH = "org.aovpnd1", "/org/aovpnd1"
FLAGS = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION


def connect() -> Any:
    """Another connection to the bus."""
    return Gio.DBusConnection.new_for_address_sync(os.environ["DBUS_SYSTEM_BUS_ADDRESS"], FLAGS, None, None)


def beside(order: dict[str, Any]) -> Any:
    """The descriptors of a call that has one: a file of memory, ``sealed`` or not, with what is ``written``."""
    if "h" not in order.get("signature", ""):
        return None
    descriptor = os.memfd_create("answers", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(descriptor, order.get("written", '{"1": "a word"}').encode())
    if order.get("sealed", True):
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    descriptors = Gio.UnixFDList.new()
    for _ in range(order.get("descriptors", 1)):
        descriptors.append(descriptor)
    os.close(descriptor)
    return descriptors


def call(bus: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Make one call, or many of the same; ``clock``: return how long each took, in microseconds, in order of size."""
    where = (order.get("name", NAME), order.get("path", PATH), order.get("interface", f"{NAME}.Manager"))
    flags = Gio.DBusCallFlags.NO_AUTO_START
    if order.get("interactive"):
        flags |= Gio.DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION
    arguments = [argument * order.get("times", 1) for argument in order.get("arguments", ())]
    answer = None
    took_us = []
    try:
        parameters = GLib.Variant(order.get("signature", "()"), tuple(arguments))
        for _ in range(order.get("count", 1)):
            began = time.perf_counter()
            answer, _ = bus.call_with_unix_fd_list_sync(
                *where, order["method"], parameters, None, flags, 60_000, beside(order), None
            )
            took_us.append(round((time.perf_counter() - began) * 1e6))
    except GLib.Error as error:
        return outcome(error)
    if order.get("clock"):
        return {"values": sorted(took_us)}
    return {"values": () if answer is None else answer.unpack()}


def outcome(error: Any) -> dict[str, Any]:
    """A failed call."""
    name = Gio.DBusError.get_remote_error(error) or ""
    return {"error": name, "text": error.message.removeprefix(f"GDBus.Error:{name}: ")}


def crowd(bus: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Make all calls of a list at once and wait for every answer: each on a connection of its own, or ``together`` on
    the one that we have.
    """
    calls = order["crowd"]
    connections = [bus if order.get("together") else connect() for _ in calls]
    answers: list[Any] = [None] * len(calls)

    def answered(connection: Any, result: Any, number: int) -> None:
        try:
            answers[number] = {"values": connection.call_with_unix_fd_list_finish(result)[0].unpack()}
        except GLib.Error as error:
            answers[number] = outcome(error)

    for number, (connection, one) in enumerate(zip(connections, calls, strict=True)):
        flags = Gio.DBusCallFlags.NO_AUTO_START
        if one.get("interactive"):
            flags |= Gio.DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION
        parameters = GLib.Variant(one.get("signature", "()"), tuple(one.get("arguments", ())))
        where = (NAME, PATH, one.get("interface", f"{NAME}.Manager"), one["method"])
        connection.call_with_unix_fd_list(*where, parameters, None, flags, 120_000, beside(one), None, answered, number)
    while None in answers:
        GLib.MainContext.default().iteration(True)
    for connection in set(connections) - {bus}:
        connection.close_sync(None)
    return {"values": answers}


def ignore(*_: Any) -> None:
    """The answer to a call. Without anybody to take it, GDBus would tell the bus that none is wanted."""


def vanish(order: dict[str, Any]) -> dict[str, Any]:
    """Connect many times, make a call on each connection, and hang up without waiting: when told, or ``at_once``."""
    connections = [connect() for _ in range(order["count"])]
    parameters = GLib.Variant(order.get("signature", "()"), tuple(order.get("arguments", ())))
    for bus in connections:
        bus.call(NAME, PATH, f"{NAME}.Manager", order["method"], parameters, None, 0, 60_000, None, ignore)
        bus.flush_sync(None)
    if not order.get("at_once"):
        print(json.dumps({"values": [bus.get_unique_name() for bus in connections]}), flush=True)
        sys.stdin.readline()
    for bus in connections:
        bus.close_sync(None)
    return {"values": []}


def forge(order: dict[str, Any]) -> dict[str, Any]:
    """Make a call that names another sender, by a socket of our own; the bus name of that connection is returned."""
    line = flooder.connect()
    line.sendall(flooder.blob(flooder.call("Unblock", answered=True, sender=order["sender"]), 7))
    answer = Gio.DBusMessage.new_from_blob(line.recv(1 << 16), Gio.DBusCapabilityFlags.NONE)
    return {"values": [answer.get_destination()]}


def obey(bus: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Do what one line says."""
    if order.get("crowd"):
        return crowd(bus, order)
    if order.get("raw"):
        return forge(order)
    return vanish(order) if order.get("vanish") else call(bus, order)


def main() -> None:
    """Until standard input ends."""
    bus = connect()
    bus.set_exit_on_close(False)
    print(json.dumps(bus.get_unique_name()), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(obey(bus, order)), flush=True)


if __name__ == "__main__":
    main()

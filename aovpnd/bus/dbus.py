# SPDX-License-Identifier: GPL-3.0-or-later
"""The one module with pydbus and GLib: a connection to the bus, calls both ways, signals both ways.

GLib's loop has a thread of its own, and asyncio's has the rest of the process; what passes between them is values.
pydbus 0.6 and GLib as they are would do seven things that this module does otherwise:

* it answers a call when the method returns, so that a slow one blocks all: here the answer comes when it comes;
* its connection ends the process when the bus goes: here `Connection.lost` is set, and the caller connects anew;
* it lets others take the name: here nobody may;
* its errors are called ``unknown.ValueError``: here they are ours, and nothing internal gets out;
* with GLib before 2.84 each incoming call leaves its message behind: here the reference that is too many is dropped;
* GLib reads calls faster than anybody answers them, and keeps them all: here `turns` judges each as it is read;
* GLib before 2.80.1 takes a signal that somebody sent to us alone for a service's (CVE-2024-34397): here nobody may.
"""

import asyncio
import ctypes
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, Self, TypeVar, assert_never

import pydbus
from gi.repository import Gio, GLib
from pydbus.generic import signal
from pydbus.registration import ObjectRegistration, ObjectWrapper

from aovpnd.bus import sealed
from aovpnd.bus.calls import (
    CALL_TIMEOUT_S,
    DRIVER,
    BusError,
    BusLost,
    Call,
    Cancel,
    Handler,
    Match,
    Reply,
    Target,
    Typed,
)
from aovpnd.bus.translate import error_name, error_text
from aovpnd.bus.turns import LARGEST, Turn, Turns
from aovpnd.errors import AovpndError, CommandRefused

log = logging.getLogger("aovpnd.bus")
T = TypeVar("T")

_LEAKS: Final = GLib.check_version(2, 84, 0) is not None
"""g_dbus_connection_register_object_with_closures() hands over a reference to the invocation which only C code that
returns an answer takes back; PyGObject adds one of its own for that, and the first one stays."""
_gobject: Final = ctypes.CDLL("libgobject-2.0.so.0")
_gobject.g_object_unref.argtypes = [ctypes.c_void_p]


class Glib:
    """GLib's loop in its thread; lives as long as the process."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = GLib.MainContext.new()
        threading.Thread(target=self._run, name="glib", daemon=True).start()

    def _run(self) -> None:
        self._context.push_thread_default()
        GLib.MainLoop.new(self._context, is_running=False).run()

    async def run(self, function: Callable[[], T]) -> T:
        """Run ``function`` in GLib's thread; what it returns or raises."""
        future: asyncio.Future[T] = self._loop.create_future()

        def perform() -> None:
            try:
                value = function()
            except Exception as error:  # noqa: BLE001 - it is raised again where somebody waits for it
                self.settle(future, error=error)
            else:
                self.settle(future, value)

        self.post(perform)
        return await future

    def post(self, function: Callable[[], None]) -> None:
        """Run ``function`` in GLib's thread, some time soon."""

        def once(*_: object) -> bool:
            function()
            return bool(GLib.SOURCE_REMOVE)

        source = GLib.Idle(priority=GLib.PRIORITY_DEFAULT)
        source.set_callback(once)
        source.attach(self._context)

    def soon(self, function: Callable[..., object], *arguments: object) -> None:
        """Run ``function`` in asyncio's thread; nothing once that has ended."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    def settle(self, future: "asyncio.Future[Any]", value: object = None, *, error: Exception | None = None) -> None:
        """Give a future of asyncio's thread its result."""
        self.soon(_settle, future, value, error)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Start a task in asyncio's thread."""
        asyncio.run_coroutine_threadsafe(coroutine, self._loop)


def _settle(future: "asyncio.Future[Any]", value: object, error: Exception | None) -> None:
    if future.done():  # whoever waited has given up
        if isinstance(value, Reply):
            for descriptor in value.descriptors:
                os.close(descriptor)
    elif error is not None:
        future.set_exception(error)
    else:
        future.set_result(value)


class Connection:
    """One connection to the bus, until it is lost; see `calls.Bus`."""

    def __init__(self, glib: Glib, bus: Any) -> None:
        self._glib = glib
        self._bus = bus
        self.lost = asyncio.Event()
        self._exported: _Exported | None = None
        self._registration: Any = None
        self._filter = bus.con.add_filter(_Gate(Turns()).judge)

    @classmethod
    async def open(cls, glib: Glib) -> Self:
        """Connect to the system bus, where DBUS_SYSTEM_BUS_ADDRESS or D-Bus itself says it is. `BusError`."""

        def connect() -> Any:
            bus = pydbus.connect(Gio.dbus_address_get_for_bus_sync(Gio.BusType.SYSTEM, None))
            bus.con.set_exit_on_close(False)
            return bus

        try:
            connection = cls(glib, await glib.run(connect))
        except GLib.Error as error:
            raise _bus_error(error) from error
        connection._bus.con.connect("closed", lambda *_: glib.soon(connection.lost.set))
        if connection._bus.con.is_closed():
            connection.lost.set()
        return connection

    async def close(self) -> None:
        """Hang up. May be called on a lost connection."""

        def disconnect() -> None:
            self._bus.con.remove_filter(self._filter)
            try:
                self._bus.con.close_sync(None)
            except GLib.Error:
                return  # it was closed

        await self._glib.run(disconnect)

    # -- out ----------------------------------------------------------------------------------------------------------
    async def call(
        self,
        target: Target,
        method: str,
        signature: str = "()",
        *arguments: object,
        timeout_s: float = CALL_TIMEOUT_S,
        start: bool = False,
    ) -> Reply:
        """Call a method. `BusError` when it fails. ``start``: the bus may start the service first."""
        if self.lost.is_set():
            raise BusLost("the bus went away")
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        parameters = GLib.Variant(signature, _variants(arguments))
        flags = Gio.DBusCallFlags.NONE if start else Gio.DBusCallFlags.NO_AUTO_START

        def finished(connection: Any, result: Any) -> None:
            try:
                value, descriptors = connection.call_with_unix_fd_list_finish(result)
            except GLib.Error as error:
                self._glib.settle(future, error=_bus_error(error))
            else:
                stolen = tuple(descriptors.steal_fds()) if descriptors is not None else ()
                self._glib.settle(future, Reply(tuple(value.unpack()), stolen))

        def begin() -> None:
            self._bus.con.call_with_unix_fd_list(
                target.name,
                target.path,
                target.interface,
                method,
                parameters,
                None,
                flags,
                round(timeout_s * 1000),
                None,
                None,
                finished,
            )

        self._glib.post(begin)
        return await future

    async def subscribe(self, match: Match, heard: Callable[[tuple[object, ...]], None]) -> Cancel:
        """Hear signals, until the returned function is called."""

        def begin() -> Any:
            return self._bus.subscribe(
                sender=match.sender,
                iface=match.interface,
                signal=match.member,
                object=match.path,
                arg0=match.arg0,
                signal_fired=lambda _sender, _object, _iface, _signal, values: self._glib.soon(heard, tuple(values)),
            )

        subscription = await self._glib.run(begin)
        return lambda: self._glib.post(subscription.unsubscribe)

    # -- in -----------------------------------------------------------------------------------------------------------
    async def serve(self, name: str, path: str, xml: str, handler: Handler, properties: dict[str, object]) -> None:
        """Answer calls at ``path``, and then take ``name``. `BusError` when somebody else has it, or nobody may."""

        def publish() -> None:
            (interface,) = Gio.DBusNodeInfo.new_for_xml(xml).interfaces
            self._exported = _Exported(interface.name, properties)
            wrapper = _Wrapper(self._exported, [interface], self._glib, handler)
            self._registration = ObjectRegistration(self._bus, path, [interface], wrapper, own_wrapper=True)
            # Before this, nobody finds us.
            self._bus.request_name(name, allow_replacement=False, replace=False)

        try:
            await self._glib.run(publish)
        except GLib.Error as error:
            raise _bus_error(error) from error
        except RuntimeError as error:  # pydbus: the name is somebody's
            raise BusError(f"{name}: {error}") from error

    def show(self, properties: dict[str, object], changed: tuple[object, ...]) -> None:
        """Show other properties from now on, with the signals that say so: ours with ``changed``, and D-Bus' own."""

        def emit() -> None:
            exported = self._exported
            if exported is None or self._bus.con.is_closed():
                return
            news = {key: value for key, value in properties.items() if exported.properties.get(key) != value}
            exported.properties = dict(properties)
            if news:
                exported.PropertiesChanged(exported.interface, news, [])
                exported.StatusChanged(*changed)

        self._glib.post(emit)


class _Exported:
    """What pydbus publishes. Its methods are not Python's: `_Wrapper` hands every call to the handler."""

    PropertiesChanged = signal()
    StatusChanged = signal()

    def __init__(self, interface: str, properties: dict[str, object]) -> None:
        self.interface = interface
        self.properties = dict(properties)


class _Wrapper(ObjectWrapper):  # type: ignore[misc] # pydbus has no types
    """pydbus' dispatcher, with answers that may come later."""

    __slots__ = ("glib", "handler")

    def __init__(self, exported: _Exported, interfaces: list[Any], glib: Glib, handler: Handler) -> None:
        super().__init__(exported, interfaces)
        self.glib = glib
        self.handler = handler

    def call_method(
        self, _con: Any, sender: str, _path: str, interface: str, method: str, parameters: Any, invocation: Any
    ) -> None:
        """Called in GLib's thread for each call that fits the introspection data; all others GDBus has refused."""
        if interface == "org.freedesktop.DBus.Properties":
            self._return(invocation, *self._property(method, parameters.unpack()))
        else:
            flags = invocation.get_message().get_flags()
            interactive = bool(flags & Gio.DBusMessageFlags.ALLOW_INTERACTIVE_AUTHORIZATION)
            try:
                arguments = sealed.arguments(parameters, invocation.get_message().get_unix_fd_list())
            except CommandRefused as error:
                self._refuse(invocation, error)
                return
            except Exception:  # a call without an answer would be in hand for ever
                log.exception("%s cannot be read", method)
                self._refuse(invocation, AovpndError("internal error", hint="journalctl -u aovpnd-bus"))
                return
            call = Call(sender, method, arguments, interactive)
            signature = f"({''.join(self.outargs[f'{interface}.{method}'])})"
            self.glib.spawn(self._answer(call, signature, invocation))

    def _property(self, method: str, arguments: tuple[Any, ...]) -> tuple[str, object]:
        types = {key.rpartition(".")[2]: kind for key, kind in self.readable_properties.items()}
        shown = {key: GLib.Variant(types[key], value) for key, value in self.object.properties.items()}
        # GDBus lets through only what the interface has, and nothing of it can be set.
        return ("(v)", (shown[arguments[1]],)) if method == "Get" else ("(a{sv})", (shown,))

    async def _answer(self, call: Call, signature: str, invocation: Any) -> None:
        """In asyncio's thread."""
        try:
            values = await self.handler(call)
        except AovpndError as error:
            self._refuse(invocation, error)
        except Exception:  # a defect of ours is no business of the caller's, and must not leave him waiting
            log.exception("%s failed", call.method)
            self._refuse(invocation, AovpndError("internal error", hint="journalctl -u aovpnd-bus"))
        else:
            self._return(invocation, signature, values)

    def _return(self, invocation: Any, signature: str, values: object) -> None:
        invocation.return_value(GLib.Variant(signature, values) if signature != "()" else None)
        _release(invocation)

    def _refuse(self, invocation: Any, error: AovpndError) -> None:
        invocation.return_dbus_error(error_name(error.code), error_text(error))
        _release(invocation)


class _Gate:
    """What is done with each message before GLib queues it. Called in GDBus' own thread, and in no other."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def judge(self, connection: Any, message: Any, incoming: bool, *_: object) -> Any:  # noqa: FBT001 - GLib's
        """Return the message if it is to go on, None if not."""
        kind = message.get_message_type()
        if not incoming:
            if kind in {Gio.DBusMessageType.METHOD_RETURN, Gio.DBusMessageType.ERROR}:
                self._turns.leaves(message.get_destination() or "", message.get_reply_serial())
            return message
        if kind == Gio.DBusMessageType.SIGNAL:
            # Services send theirs to everybody; to us alone only the bus itself has something to say.
            return message if message.get_destination() is None or message.get_sender() == DRIVER.name else None
        return self._call(connection, message) if kind == Gio.DBusMessageType.METHOD_CALL else message

    def _call(self, connection: Any, message: Any) -> Any:
        body = message.get_body()
        turn = self._turns.arrives(
            message.get_sender() or "",
            message.get_serial(),
            0 if body is None else body.get_size(),
            message.get_num_unix_fds(),
            wants_answer=not message.get_flags() & Gio.DBusMessageFlags.NO_REPLY_EXPECTED,
        )
        match turn:
            case Turn.TAKE:
                return message
            case Turn.IGNORE:
                return None
            case Turn.TOO_LONG:
                refusal = CommandRefused("the call is too long", hint=f"at most {LARGEST} bytes", code="bad-request")
            case Turn.BUSY:
                refusal = CommandRefused("too many requests at once", hint="try again in a moment", code="busy")
            case _:
                assert_never(turn)
        answer = Gio.DBusMessage.new_method_error_literal(message, error_name(refusal.code), error_text(refusal))
        connection.send_message(answer, Gio.DBusSendMessageFlags.NONE)
        return None


def _release(invocation: Any) -> None:
    """Give back the reference that nobody else gives back; once for each invocation, after its answer."""
    if _LEAKS:
        _gobject.g_object_unref(hash(invocation))  # PyGObject's hash of a wrapper is the address of what it wraps


def _variants(value: Any) -> Any:
    """The same value with our `Typed` as GLib's variants."""
    match value:
        case Typed(signature, inner):
            return GLib.Variant(signature, _variants(inner))
        case dict():
            return {key: _variants(inner) for key, inner in value.items()}
        case tuple():
            return tuple(_variants(inner) for inner in value)
        case list():
            return [_variants(inner) for inner in value]
        case _:
            return value


def _bus_error(error: Any) -> BusError:
    name = Gio.DBusError.get_remote_error(error) or ""
    text = str(error.message).removeprefix(f"GDBus.Error:{name}: ").partition("\n")[0]
    return BusError(text, name=name)

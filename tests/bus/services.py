# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-ins for polkit, logind and NetworkManager: the interfaces of the real ones, as far as aovpnd-bus uses them.

The shapes (names, signatures, errors, what polkit demands of who asks it) were recorded from Debian 12's polkit 122,
systemd 252 and NetworkManager 1.42.
"""

import contextlib
import os
import select
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self
from xml.etree import ElementTree as ET

from gi.repository import Gio, GLib

from tests.lab.process import SLOW
from tests.unit.imports import ROOT

POLICY: Final = ROOT / "etc" / "polkit-1" / "actions" / "org.aovpnd1.policy"
OnCall = Callable[[str, str, tuple[Any, ...], Any], None]
"""Sender, method, arguments, invocation."""


class Loop:
    """GLib's loop in a thread, for all stand-ins of a test."""

    def __init__(self) -> None:
        self._context = GLib.MainContext.new()
        self._loop = GLib.MainLoop.new(self._context, False)
        self._thread = threading.Thread(target=self._run, name="stand-ins")
        self._thread.start()

    def _run(self) -> None:
        self._context.push_thread_default()
        self._loop.run()
        self._context.pop_thread_default()

    def do(self, function: Callable[[], Any]) -> Any:
        """Run something in the thread; what it returns, or raises."""
        done = threading.Event()
        result: list[Any] = []
        raised: list[Exception] = []

        def perform(*_: Any) -> bool:
            try:
                result.append(function())
            except Exception as error:  # noqa: BLE001 - raised again where it was asked for
                raised.append(error)
            finally:
                done.set()
            return False

        source = GLib.Idle(priority=GLib.PRIORITY_DEFAULT)
        source.set_callback(perform)
        source.attach(self._context)
        assert done.wait(20 * SLOW), "the stand-ins hang"
        if raised:
            raise raised[0]
        return result[0] if result else None

    def close(self) -> None:
        """End."""
        self._loop.quit()
        self._thread.join(10)


class Service:
    """One connection that owns a name."""

    def __init__(self, loop: Loop, address: str, name: str) -> None:
        self.loop = loop
        self.name = name
        flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
        self.connection = loop.do(lambda: Gio.DBusConnection.new_for_address_sync(address, flags, None, None))
        self.connection.set_exit_on_close(False)

    def own(self) -> Self:
        """Take the name, once everything is exported."""
        self.driver("RequestName", "(su)", self.name, 4)
        return self

    def driver(self, method: str, signature: str, *arguments: Any) -> Any:
        """Ask the bus itself."""
        bus = "org.freedesktop.DBus"
        parameters = GLib.Variant(signature, arguments)
        answer = self.connection.call_sync(bus, "/org/freedesktop/DBus", bus, method, parameters, None, 0, 5000, None)
        return answer.unpack()

    def statistics(self, name: str) -> Any:
        """What dbus-daemon counts for a connection."""
        bus = "org.freedesktop.DBus"
        where = (bus, "/org/freedesktop/DBus", f"{bus}.Debug.Stats", "GetConnectionStats")
        return self.connection.call_sync(*where, GLib.Variant("(s)", (name,)), None, 0, 5000, None).unpack()

    def export(self, path: str, xml: str, on_call: OnCall) -> None:
        """Serve one interface at a path."""

        def called(_con: Any, sender: str, _path: str, _iface: str, method: str, values: Any, invocation: Any) -> None:
            on_call(sender, method, values.unpack(), invocation)

        def register() -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # GLib 2.84's; what follows it came with 2.84
                for interface in Gio.DBusNodeInfo.new_for_xml(xml).interfaces:
                    self.connection.register_object(path, interface, called, None, None)

        self.loop.do(register)

    def emit(self, path: str, interface: str, signal: str, signature: str, *values: Any) -> None:
        """Send a signal to everybody."""
        self.connection.emit_signal(None, path, interface, signal, GLib.Variant(signature, values))
        self.connection.flush_sync(None)

    def close(self) -> None:
        """Die, as the bus sees it."""
        with contextlib.suppress(GLib.Error):
            self.connection.close_sync(None)


# -- polkit -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Asked:
    """One question that polkit was asked."""

    asker: str
    kind: str
    subject: dict[str, Any]
    action: str
    details: dict[str, str]
    flags: int


@dataclass
class Minds:
    """What the stand-in of polkit does; a test changes it."""

    sessions: dict[str, str] = field(default_factory=dict)
    """How a caller sits there, by bus name: active, inactive, remote, none."""
    agent: str = "none"
    """What a person does when asked: none (nobody there), right, wrong, dismiss."""
    agent_is_there: Path | None = None
    """Nobody is there to ask unless this file is."""
    others: str = "active"
    """How everybody sits there whom ``sessions`` does not name."""
    mode: str = "normal"
    """normal; hang: never answers; error; nonsense: an error that says nothing; late: answers yes when let; or yes, no,
    challenge, whatever the file of actions says, as by an administrator's rule.
    """
    modes: dict[str, str] = field(default_factory=dict)
    """The same, by the bus name of who asks for permission."""


class Polkit(Service):
    """Decides by our own file of actions, as the real one does where no rules are."""

    XML = """<node><interface name="org.freedesktop.PolicyKit1.Authority">
      <method name="CheckAuthorization">
        <arg type="(sa{sv})" name="subject" direction="in"/><arg type="s" name="action_id" direction="in"/>
        <arg type="a{ss}" name="details" direction="in"/><arg type="u" name="flags" direction="in"/>
        <arg type="s" name="cancellation_id" direction="in"/><arg type="(bba{ss})" name="result" direction="out"/>
      </method>
      <method name="CancelCheckAuthorization"><arg type="s" name="cancellation_id" direction="in"/></method>
    </interface></node>"""
    PATH = "/org/freedesktop/PolicyKit1/Authority"

    def __init__(self, loop: Loop, address: str, *, owner: int) -> None:
        """``owner``: the uid that the file calls ``aovpnd-bus``."""
        super().__init__(loop, address, "org.freedesktop.PolicyKit1")
        self.minds = Minds()
        self.asked: list[Asked] = []
        self.cancelled: list[str] = []
        self._waiting: list[Any] = []
        self._owner = owner
        self._defaults = {
            action.get("id"): {key: action.findtext(f"defaults/allow_{key}") for key in ("any", "inactive", "active")}
            for action in ET.parse(POLICY).iter("action")
        }
        self.export(self.PATH, self.XML, self._called)
        self.own()

    def _called(self, sender: str, method: str, arguments: tuple[Any, ...], invocation: Any) -> None:
        if method == "CancelCheckAuthorization":
            self.cancelled.append(arguments[0])
            invocation.return_value(None)
            return
        (kind, subject), action, details, flags, _ = arguments
        self.asked.append(Asked(sender, kind, subject, action, details, flags))
        minds = self.minds
        mode = minds.modes.get(subject["name"], minds.mode)
        (uid,) = self.driver("GetConnectionUnixUser", "(s)", sender)
        if uid not in {0, self._owner}:
            text = "Only trusted callers (e.g. uid 0 or an action owner) can use CheckAuthorization()"
            invocation.return_dbus_error("org.freedesktop.PolicyKit1.Error.NotAuthorized", text)
        elif mode in {"hang", "late"}:
            self._waiting.append(invocation)
        elif mode == "error":
            invocation.return_dbus_error("org.freedesktop.PolicyKit1.Error.Failed", "polkit is unwell")
        elif mode == "nonsense":
            invocation.return_dbus_error("com.example.Nonsense", "")
        elif action not in self._defaults:
            text = f"Action {action} is not registered"
            invocation.return_dbus_error("org.freedesktop.PolicyKit1.Error.Failed", text)
        elif mode == "normal":
            invocation.return_value(GLib.Variant("((bba{ss}))", (self._decide(subject, action, flags),)))
        else:
            answer: tuple[bool, bool, dict[str, str]] = (mode == "yes", mode == "challenge", {})
            invocation.return_value(GLib.Variant("((bba{ss}))", (answer,)))

    def _decide(self, subject: dict[str, Any], action: str, flags: int) -> tuple[bool, bool, dict[str, str]]:
        minds = self.minds
        session = minds.sessions.get(subject["name"], minds.others)
        key = {"active": "active", "inactive": "inactive"}.get(session, "any")
        implicit = self._defaults[action][key]
        if implicit in {"yes", "no"}:
            return implicit == "yes", False, {}
        absent = minds.agent_is_there is not None and not minds.agent_is_there.exists()
        if not flags & 1 or minds.agent == "none" or absent:
            return False, True, {}
        if minds.agent == "dismiss":
            return False, False, {"polkit.dismissed": "true"}
        return minds.agent == "right", False, {}

    def forget(self) -> None:
        """Be as after a start: nobody waits, and nothing was asked."""
        self.minds = Minds()
        self.asked.clear()
        self.cancelled.clear()
        self.say_yes()

    def say(self, *verdicts: bool) -> None:
        """Answer those who wait, in the order in which they were asked about, with yes or no."""

        def answer() -> None:
            waiting, self._waiting = self._waiting[: len(verdicts)], self._waiting[len(verdicts) :]
            for verdict, invocation in zip(verdicts, waiting, strict=True):
                invocation.return_value(GLib.Variant("((bba{ss}))", ((verdict, False, {}),)))

        self.loop.do(answer)

    def say_yes(self) -> int:
        """Answer everybody who waits with yes, whether he is still there or not; how many those were."""

        def answer() -> int:
            waiting, self._waiting = self._waiting, []
            for invocation in waiting:
                invocation.return_value(GLib.Variant("((bba{ss}))", ((True, False, {}),)))
            return len(waiting)

        return int(self.loop.do(answer))


# -- logind -----------------------------------------------------------------------------------------------------------
class Login(Service):
    """Hands out inhibitors and says when the machine sleeps."""

    XML = """<node><interface name="org.freedesktop.login1.Manager">
      <method name="Inhibit">
        <arg name="what" type="s" direction="in"/><arg name="who" type="s" direction="in"/>
        <arg name="why" type="s" direction="in"/><arg name="mode" type="s" direction="in"/>
        <arg name="pipe_fd" type="h" direction="out"/>
      </method>
      <signal name="PrepareForSleep"><arg name="start" type="b"/></signal>
    </interface></node>"""
    PATH = "/org/freedesktop/login1"

    def __init__(self, loop: Loop, address: str) -> None:
        super().__init__(loop, address, "org.freedesktop.login1")
        self.inhibitors: list[tuple[tuple[str, ...], int]] = []
        self.refusing = 0
        """So many of the next calls are refused."""
        self.export(self.PATH, self.XML, self._called)
        self.own()

    def _called(self, _sender: str, _method: str, arguments: tuple[Any, ...], invocation: Any) -> None:
        if self.refusing:
            self.refusing -= 1
            invocation.return_dbus_error("org.freedesktop.DBus.Error.NoReply", "too much to do")
            return
        ours, theirs = os.pipe()
        descriptors = Gio.UnixFDList.new()
        index = descriptors.append(theirs)
        os.close(theirs)
        self.inhibitors.append((arguments, ours))
        invocation.return_value_with_unix_fd_list(GLib.Variant("(h)", (index,)), descriptors)

    def held(self) -> list[tuple[str, ...]]:
        """The inhibitors that somebody still holds."""
        return [what for what, ours in self.inhibitors if not select.select([ours], [], [], 0)[0]]

    def sleep(self, *, start: bool) -> None:
        """The machine is about to sleep, or has woken."""
        self.emit(self.PATH, "org.freedesktop.login1.Manager", "PrepareForSleep", "(b)", start)

    def close(self) -> None:
        """Die."""
        super().close()
        for _, ours in self.inhibitors:
            os.close(ours)
        self.inhibitors.clear()


# -- NetworkManager ---------------------------------------------------------------------------------------------------
NM: Final = "org.freedesktop.NetworkManager"
NM_PATH: Final = "/org/freedesktop/NetworkManager"
TYPES: Final = {
    "ConnectivityCheckEnabled": "b",
    "Connectivity": "u",
    "PrimaryConnection": "o",
    "DeviceType": "u",
    "Interface": "s",
    "ActiveAccessPoint": "o",
    "Ssid": "ay",
}


class NetworkManager(Service):
    """One Wi-Fi card, one wired card, access points, and the connectivity check."""

    def __init__(self, loop: Loop, address: str, kept: Path) -> None:
        """``kept``: where the connectivity check is remembered across restarts, as in NetworkManager-intern.conf."""
        super().__init__(loop, address, NM)
        self._kept = kept
        self.properties: dict[str, dict[str, Any]] = {
            NM_PATH: {
                "ConnectivityCheckEnabled": not kept.exists(),
                "Connectivity": 4,
                "PrimaryConnection": f"{NM_PATH}/ActiveConnection/1",
            },
            f"{NM_PATH}/Devices/1": {"DeviceType": 1, "Interface": "eth0"},
            f"{NM_PATH}/Devices/2": {"DeviceType": 2, "Interface": "wlan0", "ActiveAccessPoint": "/"},
        }
        self.export(NM_PATH, self.root_xml(), self._root)
        for number in (1, 2):
            path = f"{NM_PATH}/Devices/{number}"
            names = [f"{NM}.Device", f"{NM}.Device.Wireless"][:number]
            for name in names:
                self.export(path, self._xml(name), lambda *call, at=path: self._property(at, *call[1:]))
        self._points = 0
        self.own()

    @classmethod
    def root_xml(cls) -> str:
        """What the service itself has."""
        return cls._xml(NM, '<method name="GetDevices"><arg type="ao" direction="out"/></method>')

    @classmethod
    def device_xml(cls) -> str:
        """What each device has."""
        return cls._xml(f"{NM}.Device")

    @staticmethod
    def _xml(interface: str, methods: str = "") -> str:
        owners = {
            NM: ("ConnectivityCheckEnabled", "Connectivity", "PrimaryConnection"),
            f"{NM}.Device": ("DeviceType", "Interface"),
            f"{NM}.Device.Wireless": ("ActiveAccessPoint",),
            f"{NM}.AccessPoint": ("Ssid",),
        }
        shapes = "".join(
            f'<property name="{name}" type="{TYPES[name]}" access="readwrite"/>' for name in owners[interface]
        )
        return f'<node><interface name="{interface}">{methods}{shapes}</interface></node>'

    def _root(self, _sender: str, method: str, arguments: tuple[Any, ...], invocation: Any) -> None:
        if method == "GetDevices":
            devices = [path for path in self.properties if "/Devices/" in path]
            invocation.return_value(GLib.Variant("(ao)", (devices,)))
        else:
            self._property(NM_PATH, method, arguments, invocation)

    def _property(self, path: str, method: str, arguments: tuple[Any, ...], invocation: Any) -> None:
        name = arguments[1]
        if method == "Set":
            self.properties[path][name] = arguments[2]
            self._keep()
            invocation.return_value(None)
        else:
            value = GLib.Variant(TYPES[name], self.properties[path][name])
            invocation.return_value(GLib.Variant("(v)", (value,)))

    def _keep(self) -> None:
        if self.check:
            self._kept.unlink(missing_ok=True)
        else:
            self._kept.touch()

    @property
    def check(self) -> bool:
        """Whether the connectivity check is on."""
        return bool(self.properties[NM_PATH]["ConnectivityCheckEnabled"])

    def join(self, ssid: bytes | None) -> None:
        """The Wi-Fi card is on another network, or on none."""
        point = "/"
        if ssid is not None:
            self._points += 1
            point = f"{NM_PATH}/AccessPoint/{self._points}"
            self.properties[point] = {"Ssid": list(ssid)}
            self.export(point, self._xml(f"{NM}.AccessPoint"), lambda *call: self._property(point, *call[1:]))
        device = f"{NM_PATH}/Devices/2"
        self.properties[device]["ActiveAccessPoint"] = point
        changed = {"ActiveAccessPoint": GLib.Variant("o", point)}
        properties = "org.freedesktop.DBus.Properties"
        self.emit(device, properties, "PropertiesChanged", "(sa{sv}as)", f"{NM}.Device.Wireless", changed, [])

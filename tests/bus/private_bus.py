# SPDX-License-Identifier: GPL-3.0-or-later
"""A system bus of our own: the machine's dbus-daemon, with the rules that Debian's has, and with our policy file."""

import contextlib
import os
import pwd
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.lab.process import wait_for
from tests.unit.imports import ROOT

POLICY: Final = ROOT / "etc" / "dbus-1" / "system.d" / "org.aovpnd1.conf"
SERVICES: Final = ("org.freedesktop.PolicyKit1", "org.freedesktop.login1", "org.freedesktop.NetworkManager")
_NAME: Final = "nobody" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
BUS_USER: Final = pwd.getpwnam(_NAME).pw_uid
"""Who aovpnd-bus runs as. dbus-daemon talks to nobody who has no name, so as root the parts are played by users whom
every Debian has.
"""
_CONFIG: Final = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <limit name="max_connections_per_user">1024</limit>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Introspectable"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Properties"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Debug.Stats"/>
    {services}
  </policy>
  <include>{policy}</include>
</busconfig>
"""


@dataclass
class PrivateBus:
    """dbus-daemon on ``directory``/bus; may be killed and started again on the same socket."""

    directory: Path
    prefix: tuple[str, ...] = ()
    """What puts a program where the bus is to run."""
    bus_user: str = _NAME
    _process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def address(self) -> str:
        """For DBUS_SYSTEM_BUS_ADDRESS."""
        return f"unix:path={self.socket}"

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.directory / "bus"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it listens."""
        policy = self.directory / "org.aovpnd1.conf"
        policy.write_text(POLICY.read_text(encoding="utf-8").replace('user="aovpnd-bus"', f'user="{self.bus_user}"'))
        services = "".join(f'<allow own="{name}"/><allow send_destination="{name}"/>' for name in SERVICES)
        config = self.directory / "bus.conf"
        config.write_text(_CONFIG.format(socket=self.socket, policy=policy, services=services), encoding="utf-8")
        self.socket.unlink(missing_ok=True)
        command = [*self.prefix, "dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile"]
        with (self.directory / "dbus-daemon.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for("the private bus", self.socket.exists, deadline_s=10, poll_s=0.01)

    def kill(self) -> None:
        """SIGKILL; may be called twice."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def private_bus(directory: Path) -> Iterator[PrivateBus]:
    """A bus for as long as the block lasts."""
    bus = PrivateBus(directory)
    bus.start()
    try:
        yield bus
    finally:
        bus.kill()

# SPDX-License-Identifier: GPL-3.0-or-later
"""NetworkManager: what the networks of the Wi-Fi links call themselves, and its connectivity check.

Its D-Bus interface is the one of NetworkManager 1.42 and 1.52. Without NetworkManager there is nothing to do here.
"""

import asyncio
import contextlib
import logging
import re
from pathlib import Path
from typing import Final, TypeGuard

from aovpnd.bus.calls import PROPERTIES, Bus, BusError, Match, Target, Typed, only, owner_changes, read_property
from aovpnd.bus.connectivity import Block, Check, Owner, Step, is_outdated, step
from aovpnd.bus.daemon import Line

log = logging.getLogger("aovpnd.bus")

NAME: Final = "org.freedesktop.NetworkManager"
MANAGER: Final = Target(NAME, "/org/freedesktop/NetworkManager", NAME)
WIRELESS: Final = f"{NAME}.Device.Wireless"
WIFI: Final = 2
"""NM_DEVICE_TYPE_WIFI."""
DEVICES: Final = 64
"""More than a laptop has."""
SSID_BYTES: Final = 32
PAUSE_S: Final = 0.5
"""Between two looks: each asks NetworkManager a few things for every link, and tells the daemon what is new."""
LINK_NAME: Final = re.compile(r"[!-.0-~]{1,15}")
"""What the kernel lets a link be called, and the daemon takes."""
PATH: Final = re.compile(r"(/[A-Za-z0-9_]+)+")
"""An object path of the D-Bus specification, the root excepted."""
RECORD: Final = "connectivity-check"
CHECK: Final = "ConnectivityCheckEnabled"
AGAIN_S: Final = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
"""After how long the check is tried again: at a boot polkit may not be there yet. The last one is repeated."""
NOT_THERE: Final = ("ServiceUnknown", "NameHasNoOwner", "UnknownProperty", "InvalidArgs")
"""The errors of a bus without NetworkManager, and of one without the check."""


class Networks:
    """Keeps the daemon informed, on one connection to the bus."""

    def __init__(self, bus: Bus, line: Line, state_dir: Path) -> None:
        self._bus = bus
        self._line = line
        self._record = state_dir / RECORD
        self._look = asyncio.Event()
        self._told: dict[str, str] = {}
        self._block = Block.UNKNOWN
        self._settled: Block | None = None
        self._failed = 0
        """How often in a row the check could not be seen to."""

    def look(self) -> None:
        """The line to the daemon went or came: look again, and tell a new one everything."""
        self._told = {}
        self._look.set()

    def blocked(self, block: Block) -> None:
        """What the daemon says of the block."""
        if block is not self._block:
            self._block = block
            self._look.set()

    async def run(self) -> None:
        """Follow NetworkManager; never returns. `BusError` when the bus is lost."""
        await self._bus.subscribe(owner_changes(NAME), lambda _: self._begin_anew())
        for interface in (NAME, WIRELESS):
            match = Match(NAME, PROPERTIES, "PropertiesChanged", arg0=interface)
            await self._bus.subscribe(match, self._changed)
        self._look.set()
        while True:
            pause_s = AGAIN_S[min(self._failed, len(AGAIN_S)) - 1] if self._failed else None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), pause_s)
            self._look.clear()
            await self._tell(await names(self._bus))
            await self._see_to_the_check()
            await asyncio.sleep(PAUSE_S)

    def _begin_anew(self) -> None:
        self._settled = None
        self._failed = 0
        self._look.set()

    def _changed(self, values: tuple[object, ...]) -> None:
        """A device of ours has another access point, or there are other devices, or another way to the internet; bit
        rates and scans are no news.
        """
        changed = values[1] if len(values) > 1 and isinstance(values[1], dict) else {}
        if {"ActiveAccessPoint", "Devices", "AllDevices", "Connectivity", "PrimaryConnection"} & changed.keys():
            self._look.set()

    async def _tell(self, found: dict[str, str]) -> None:
        if found != self._told and await self._line.report({"command": "name-networks", "names": found}):
            self._told = found

    async def _see_to_the_check(self) -> None:
        try:
            await self._tame()
            done = await self._is_right()
        except (BusError, OSError) as error:
            log.warning("NetworkManager's connectivity check stays as it is for the moment: %s", error)
            done = False
        self._failed = 0 if done else self._failed + 1

    async def _tame(self) -> None:
        """Once for each state of the block, and for each start of NetworkManager: what somebody sets meanwhile is his
        business. What fails is no once.
        """
        block = self._block  # while NetworkManager answers, the daemon may publish another
        if block is self._settled or block is Block.UNKNOWN:
            return
        owner = Owner.WE if self._record.exists() else Owner.NOT_WE
        await self._perform(step(await _check(self._bus), block, owner))
        self._settled = block

    async def _is_right(self) -> bool:
        """Whether, with the check off by us, NetworkManager calls a network whole that is; it is asked to look again
        where not.
        """
        if self._settled is not Block.ON or not self._record.exists() or not await self._is_outdated():
            return True
        await self._bus.call(MANAGER, "CheckConnectivity")
        return not await self._is_outdated()

    async def _is_outdated(self) -> bool:
        if await _check(self._bus) is not Check.OFF:  # somebody wants it: its findings are his business
            return False
        try:
            connectivity = await read_property(self._bus, MANAGER, "Connectivity")
            return is_outdated(connectivity, await read_property(self._bus, MANAGER, "PrimaryConnection"))
        except BusError as error:
            if error.name.rpartition(".")[2] not in NOT_THERE:
                raise
            return False

    async def _perform(self, what: Step) -> None:
        properties = Target(NAME, MANAGER.path, PROPERTIES)
        match what:
            case Step.TURN_OFF:
                # Written first: a check that we turned off and do not know of would stay off for ever.
                self._record.write_text("turned off while the block is on\n", encoding="ascii")
                await self._bus.call(properties, "Set", "(ssv)", NAME, CHECK, Typed("b", False))  # noqa: FBT003
                log.info("NetworkManager's connectivity check is off while the block is on")
            case Step.TURN_ON:
                await self._bus.call(properties, "Set", "(ssv)", NAME, CHECK, Typed("b", True))  # noqa: FBT003
                self._record.unlink(missing_ok=True)
                log.info("NetworkManager's connectivity check is on again")
            case Step.LEAVE:
                return


async def _check(bus: Bus) -> Check:
    try:
        return Check.ON if await read_property(bus, MANAGER, CHECK) is True else Check.OFF
    except BusError as error:
        if error.name.rpartition(".")[2] not in NOT_THERE:
            raise
        return Check.ABSENT


async def names(bus: Bus) -> dict[str, str]:
    """The SSIDs, by the name of the link; empty where there is no NetworkManager. Links that cannot be asked are left
    out.
    """
    try:
        devices = only(await bus.call(MANAGER, "GetDevices"))
    except BusError:
        return {}
    found = {}
    for path in devices[:DEVICES] if isinstance(devices, list) else []:
        try:
            named = await _network(bus, path) if _is_path(path) else None
        except BusError as error:
            log.debug("%s: %s", path, error)
            continue
        if named is not None:
            found[named[0]] = named[1]
    return found


async def _network(bus: Bus, path: str) -> tuple[str, str] | None:
    device = Target(NAME, path, f"{NAME}.Device")
    if await read_property(bus, device, "DeviceType") != WIFI:
        return None
    link = await read_property(bus, device, "Interface")
    point = await read_property(bus, Target(NAME, path, WIRELESS), "ActiveAccessPoint")
    if not _is_path(point) or not isinstance(link, str) or LINK_NAME.fullmatch(link) is None:  # "/" where there is none
        return None
    ssid = await read_property(bus, Target(NAME, point, f"{NAME}.AccessPoint"), "Ssid")
    text = spell(ssid)
    return (link, text) if text else None


def _is_path(value: object) -> TypeGuard[str]:
    """Whether somebody's value is the path of an object; GDBus does not answer a call to anything else."""
    return isinstance(value, str) and PATH.fullmatch(value) is not None


def spell(ssid: object) -> str:
    r"""An SSID for people: UTF-8 where it is, everything else, and whatever cannot be seen, as ``\xff``.

    "" for what is none: an SSID has 1 to 32 bytes (IEEE 802.11), and hidden ones are zeros.
    """
    if not isinstance(ssid, list) or not 0 < len(ssid) <= SSID_BYTES or not any(ssid) or not all(map(_is_byte, ssid)):
        return ""
    letters = bytes(ssid).decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in letters)


def _is_byte(value: object) -> bool:
    return type(value) is int and 0 <= value < 256  # noqa: PLR2004 - a byte


def _escaped(letter: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8"))

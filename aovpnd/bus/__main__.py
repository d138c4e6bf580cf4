# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnd-bus``: wires bus, control socket and status file together, and connects anew whenever the bus was lost.

See aovpnd(8).
"""

import argparse
import asyncio
import logging
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from aovpnd import __version__, names
from aovpnd.bus import daemon, published, translate
from aovpnd.bus.calls import BusError, BusLost
from aovpnd.bus.connectivity import block_of
from aovpnd.bus.dbus import Connection, Glib
from aovpnd.bus.interface import XML
from aovpnd.bus.manager import Manager
from aovpnd.bus.networks import Networks
from aovpnd.bus.sleep import Sleep
from aovpnd.errors import AovpndError
from aovpnd.logs import to_stderr
from aovpnd.options import Parser

log = logging.getLogger("aovpnd.bus")

BACK_OFF_S: Final = (0.1, 5.0)
"""Between two attempts to reach a bus: at first, and at most."""
STATE_DIR: Final = "/var/lib/aovpnd-bus"


def main() -> int:
    """Run until SIGTERM. Exit status 1 when the daemon's runtime directory is not there, or is no more."""
    options = _options()
    to_stderr("%(message)s", logging.DEBUG if options.debug else logging.INFO)
    try:
        asyncio.run(_run(options.runtime_dir, options.state_dir))
    except AovpndError as error:
        log.critical("%s", error)
        return 1
    return 0


def _options() -> argparse.Namespace:
    parser = Parser(prog="aovpnd-bus", description="the D-Bus side of aovpnd: org.aovpnd1 and polkit")
    parser.add_argument("--runtime-dir", type=Path, default=Path(names.RUNTIME_DIR), metavar="DIR")
    parser.add_argument("--state-dir", type=Path, default=Path(STATE_DIR), metavar="DIR")
    parser.add_argument("--debug", action="store_true", help="log more")
    parser.add_argument("--version", action="version", version=f"aovpnd-bus {__version__}")
    return parser.parse_args()


async def _run(runtime_dir: Path, state_dir: Path) -> None:
    loop = asyncio.get_running_loop()
    side = Side(runtime_dir, state_dir)
    watch = published.Watch(runtime_dir)
    broken: asyncio.Future[None] = loop.create_future()

    def happened() -> None:
        try:
            watch.drain()
        except AovpndError as error:
            loop.remove_reader(watch)
            broken.set_exception(error)
        else:
            side.line.look()
            side.refresh()

    loop.add_reader(watch, happened)
    working = asyncio.ensure_future(_together(side.line.run(), side.serve(), _until(broken)))
    loop.add_signal_handler(signal.SIGTERM, working.cancel)
    loop.add_signal_handler(signal.SIGINT, working.cancel)
    try:
        await working
    except asyncio.CancelledError:
        return
    finally:
        loop.remove_reader(watch)
        watch.close()


async def _until(future: "asyncio.Future[None]") -> None:
    await future


async def _together(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run all of them until one fails, and raise what it failed with; the others are cancelled."""
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in coroutines:
                group.create_task(coroutine)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


class Side:
    """What there is on this side of the daemon, whether a bus is there or not."""

    def __init__(self, runtime_dir: Path, state_dir: Path) -> None:
        self._runtime_dir = runtime_dir
        self._state_dir = state_dir
        self._document: translate.Document | None = None
        self._show: Callable[[translate.State], None] = _nobody
        self.line = daemon.Line(runtime_dir, self.refresh)

    def refresh(self) -> None:
        """Read again what the daemon has published, and show it."""
        self._document = published.read(self._runtime_dir) if self.line.there else None
        self._show(self._state())

    def _state(self) -> translate.State:
        return translate.state(self._document)

    def _status(self) -> str:
        return translate.public(self._document, time.clock_gettime(time.CLOCK_BOOTTIME))

    async def serve(self) -> None:
        """Be on the bus whenever there is one; never returns."""
        glib = Glib()
        pause, longest = BACK_OFF_S
        said = ""
        while True:
            try:
                connection = await Connection.open(glib)
                try:
                    await self._session(connection)
                finally:
                    self._show = _nobody
                    await connection.close()
            except BusLost:
                log.info("the bus went away")
                pause, said = BACK_OFF_S[0], ""
            except BusError as error:
                text = str(error)
                if text != said:  # not the same line every five seconds
                    log.warning("no bus: %s", text)
                said = text
                log.debug("trying again in %g s", pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)

    async def _session(self, connection: Connection) -> None:
        manager = Manager(connection, lambda line: daemon.ask(self._runtime_dir, line), self._status)
        networks = Networks(connection, self.line, self._state_dir)

        def show(state: translate.State) -> None:
            connection.show(state.properties(), (state.phase, state.protected))
            networks.blocked(block_of(state.phase))
            networks.look()

        await connection.serve(names.BUS_NAME, names.BUS_PATH, XML, manager.handle, self._state().properties())
        log.info("on the bus as %s", names.BUS_NAME)
        self._show = show
        self.refresh()
        await _together(_until_lost(connection), Sleep(connection, self.line).run(), networks.run())


async def _until_lost(connection: Connection) -> None:
    await connection.lost.wait()
    raise BusLost("the bus went away")


def _nobody(_: translate.State) -> None:
    """Nobody looks."""


if __name__ == "__main__":
    sys.exit(main())

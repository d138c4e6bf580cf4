# SPDX-License-Identifier: GPL-3.0-or-later
"""The other end of the control socket: commands, one connection each; and one connection that stays, for what this
process has to say of its own, and by whose end each side learns of the other's death.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aovpnd import names
from aovpnd.absence import without_daemon
from aovpnd.bus.translate import VERSION, Request
from aovpnd.errors import DaemonUnreachable

log = logging.getLogger("aovpnd.bus")

PATIENCE_S: Final = 60.0
"""How long the daemon may take: a pass that changes everything takes well under one second."""
REPORT_PATIENCE_S: Final = 10.0
"""As `PATIENCE_S`, where nobody waits at a terminal; sleep waits for it, and not longer than logind lets us."""
LINE_LIMIT: Final = 1 << 22
"""Bytes of an answer: the explanation of a machine with a thousand links has some hundred thousand."""
_HINT: Final = "journalctl -u aovpnd"


async def ask(runtime_dir: Path, request: Request) -> bytes:
    """Have a command carried out; the daemon's line of answer. `DaemonUnreachable` when none comes."""
    reader, writer = await _connect(runtime_dir)
    try:
        return await _exchange(reader, writer, request)
    finally:
        writer.close()


async def _connect(runtime_dir: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    path = runtime_dir / names.CONTROL_SOCKET
    try:
        return await asyncio.open_unix_connection(path, limit=LINE_LIMIT)
    except PermissionError as error:
        text = "the daemon does not let aovpnd-bus in"
        raise DaemonUnreachable(text, hint="does --bus-user of aovpnd name its user?") from error
    except OSError as error:
        text, hint = without_daemon()
        raise DaemonUnreachable(text, hint=hint) from error


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request) -> bytes:
    try:
        async with asyncio.timeout(PATIENCE_S):
            writer.write(json.dumps(request).encode() + b"\n")
            await writer.drain()
            line = await reader.readline()
    except TimeoutError as error:
        raise DaemonUnreachable("the daemon does not answer", hint=_HINT) from error
    except (OSError, ValueError) as error:
        raise DaemonUnreachable("the daemon hung up before it answered", hint=_HINT) from error
    if not line.endswith(b"\n"):
        raise DaemonUnreachable("the daemon hung up before it answered", hint=_HINT)
    return line


class Line:
    """The connection that stays: whether a daemon is there, and our reports to it, one after the other."""

    def __init__(self, runtime_dir: Path, changed: Callable[[], None]) -> None:
        """``changed`` is called whenever `there` has changed."""
        self._runtime_dir = runtime_dir
        self._changed = changed
        self._writer: asyncio.StreamWriter | None = None
        self._answers: asyncio.Queue[bytes] = asyncio.Queue()
        self._turn = asyncio.Lock()
        self._look = asyncio.Event()

    @property
    def there(self) -> bool:
        """Whether a daemon is at the other end."""
        return self._writer is not None

    def look(self) -> None:
        """Something in the runtime directory changed: a daemon may be there now."""
        self._look.set()

    async def run(self) -> None:
        """Be connected whenever there is a daemon; never returns."""
        while True:
            self._look.clear()
            try:
                reader, writer = await _connect(self._runtime_dir)
            except DaemonUnreachable as error:
                log.debug("%s", error)
            else:
                await self._stay(reader, writer)
            await self._look.wait()

    async def _stay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the daemon hangs up. It says nothing unasked, but for a refusal before it hangs up."""
        self._answers = asyncio.Queue()
        self._writer = writer
        self._changed()
        try:
            while line := await _line(reader):
                self._answers.put_nowait(line)
        finally:
            self._writer = None
            self._answers.put_nowait(b"")
            writer.close()
            self._changed()

    async def report(self, request: Request) -> bool:
        """Tell the daemon something; whether it has taken it in, that is: whether the pass after it is over."""
        async with self._turn:
            if self._writer is None:
                return False
            self._writer.write(json.dumps({"v": VERSION} | request).encode() + b"\n")
            try:
                async with asyncio.timeout(REPORT_PATIENCE_S):
                    line = await self._answers.get()
            except TimeoutError:
                self._writer.close()  # the answer that comes too late must not be taken for the next one's
                log.warning("the daemon does not answer to %s", request["command"])
                return False
        if b'"ok": true' not in line:
            log.warning("the daemon refused %s: %s", request["command"], ascii(line[:200]))
            return False
        return True


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except (OSError, ValueError):
        return b""

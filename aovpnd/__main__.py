# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnd``: builds everything, wires it together, runs the loop. See aovpnd(8)."""

import argparse
import asyncio
import contextlib
import logging
import os
import re
import secrets
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from aovpnd import __version__, names, passwd, rtnl, status, xfrm
from aovpnd.adapters import systemd
from aovpnd.adapters.clocks import Clocks, clock
from aovpnd.adapters.filewatch import FileWatch
from aovpnd.adapters.nft import DYNAMIC, ForeignChanges
from aovpnd.adapters.publish import Runtime
from aovpnd.adapters.state import State
from aovpnd.config import credentials, load, reload
from aovpnd.config.findings import UnfitError
from aovpnd.control import Control
from aovpnd.daemon import RESYNC_S, Daemon
from aovpnd.errors import AovpndError, CommandRefused, NetlinkError, StateError, SystemFault
from aovpnd.gateways import Gateways
from aovpnd.ipsec import Locked
from aovpnd.lock import holder
from aovpnd.messages import Entry, Message
from aovpnd.model import Config, Desired, Intent, Phase, Snapshot
from aovpnd.options import Parser
from aovpnd.orders import Reload
from aovpnd.resting import Rested
from aovpnd.signin import Desk
from aovpnd.system import System
from aovpnd.tunnel import Secret

log = logging.getLogger("aovpnd")

NAME_FILES: Final = (
    Path(names.RESOLV_CONF),
    Path("/run/systemd/resolve/resolv.conf"),
    Path("/run/systemd/resolve/io.systemd.Resolve"),
    Path("/run/NetworkManager/no-stub-resolv.conf"),
    *(Path("/run/resolvconf") / place / "*" for place in ("keys", "interfaces", "interface")),
)
"""What changes when somebody else decides who is asked for names; "*" stands for any file."""
LOGINS: Final = (Path("/run/systemd/sessions/*"),)
"""What changes when somebody logs in or out."""
TUNNEL_FILES_SETTLE_S: Final = 0.2
"""How long no tunnel file has changed when they are read again: an editor writes in several steps."""
CAP_NET_ADMIN: Final = 12
"""linux/capability.h"""
_EFFECTIVE: Final = re.compile(r"^CapEff:\t([0-9a-f]{1,16})$", re.MULTILINE)
"""In /proc/self/status (proc(5))."""
_UID: Final = re.compile(r"[1-9][0-9]{0,9}")
_NOBODY: Final = (1 << 32) - 1
"""(uid_t) -1, which is no user's."""


def main() -> int:
    """Run the daemon. Exit status 0 after SIGTERM, 1 when it cannot start; whatever was loaded before stays loaded."""
    options = _options()
    systemd.log_to_journal_or_stderr(logging.DEBUG if options.debug else logging.INFO)
    try:
        _require_power()
        runtime = Runtime(options.runtime_dir)
        asyncio.run(_run(options, runtime))
    except AovpndError as error:
        log.critical("%s", error)
        return 1
    return 0


def _options() -> argparse.Namespace:
    parser = Parser(prog="aovpnd", description="always-on VPN daemon: nothing leaves outside the tunnel")
    parser.add_argument("--config-dir", type=Path, default=Path(names.CONFIG_DIR), metavar="DIR")
    parser.add_argument("--state-dir", type=Path, default=Path(names.STATE_DIR), metavar="DIR")
    parser.add_argument("--runtime-dir", type=Path, default=Path(names.RUNTIME_DIR), metavar="DIR")
    parser.add_argument(
        "--bus-user",
        default=names.BUS_USER,
        metavar="USER",
        help=f"who runs aovpnd-bus, by name or number (default: {names.BUS_USER})",
    )
    parser.add_argument("--debug", action="store_true", help="log every pass")
    parser.add_argument("--version", action="version", version=f"aovpnd {__version__}")
    return parser.parse_args()


def _require_power() -> None:
    """`SystemFault` without CAP_NET_ADMIN: a kill switch that cannot load rules must say so at once."""
    status_text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    effective = _EFFECTIVE.search(status_text)
    if effective is None or not int(effective[1], 16) >> CAP_NET_ADMIN & 1:
        raise SystemFault("aovpnd may not change the network: CAP_NET_ADMIN is missing", hint="start it as root")


async def _run(options: argparse.Namespace, runtime: Runtime) -> None:
    state = State(options.config_dir, options.state_dir)
    desk = Desk(_unlock)
    system = System(state, options.runtime_dir, desk)
    guard = GuardWatch(options.runtime_dir)
    files = FileWatch(NAME_FILES)
    tunnels, people = FileWatch((options.config_dir / names.TUNNELS / "*",)), FileWatch(LOGINS)
    clocks = Clocks()
    daemon = Daemon(
        system,
        _configurator(options, desk),
        _publisher(runtime, state, guard, (files, tunnels, people)),
        lambda: systemd.notify("WATCHDOG=1"),
        intent=replace(
            state.recall(clock()),
            proved=runtime.proved(),
            rested=runtime.rested(),
            gateways=Gateways(seed=secrets.randbits(32)),  # no two machines wait alike
        ),
        resync_s=systemd.watchdog_s() or RESYNC_S,
        ring_in=clocks.ring_in,
    )
    guard.died = lambda: daemon.wake.now("the guard died")
    _listen(daemon, {files: "resolv.conf", people: "logins"}, clocks)
    TunnelFiles(tunnels, daemon).listen()
    control = Control(
        runtime.control_socket,
        daemon.submit,
        bus_uid=_uid_of(options.bus_user),
        desk=partial(desk.serve, daemon.submit),
    )
    await control.open()
    try:
        await daemon.run(_announce)
    finally:
        systemd.notify("STOPPING=1")
        log.info("stopped; the block stays as it is loaded", extra=Entry(Message.STOPPED, "").extra)
        await control.close()
        runtime.end()


def _uid_of(user: str) -> int | None:
    """The uid of the user that aovpnd-bus runs as, or None while there is none: then only root gives commands."""
    if user.isascii() and user.isdigit():
        return _uid(user)
    uid = _uid(str(passwd.users().get(user, "")))
    if uid is None:
        log.info("there is no user %s: only root gives commands", user)
    return uid


def _uid(text: str) -> int | None:
    """A uid that is a user's, and not root's."""
    return int(text) if _UID.fullmatch(text) and int(text) < _NOBODY else None


def _unlock(key: Locked, chain: tuple[str, ...], password: Secret) -> Secret:
    try:
        return credentials.unlock(key, chain, password)
    except UnfitError as error:
        raise CommandRefused(error.reason, hint=f"nothing was tried; {error.hint}", code="answer-unfit") from None


def _configurator(options: argparse.Namespace, desk: Desk) -> Callable[[Config | None], Config]:
    def configure(previous: Config | None) -> Config:
        vendor_dir = Path(names.VENDOR_DIR)
        if previous is None:
            config = load(options.config_dir, options.state_dir, vendor_dir)
        else:
            config = reload(previous, options.config_dir, options.state_dir, vendor_dir)
        desk.expect(config.tunnels)
        return config

    return configure


def _publisher(
    runtime: Runtime, state: State, guard: "GuardWatch", watched: tuple[FileWatch, ...]
) -> Callable[[Config, Intent, Snapshot, Desired], None]:
    def publish(config: Config, intent: Intent, snapshot: Snapshot, desired: Desired) -> None:
        guard.follow()
        for files in watched:
            files.follow()
        if desired.phase is Phase.CONNECTED and intent.provoked is not None:
            runtime.prove(intent.provoked.path.fingerprint())
            _keep(state, intent)
        runtime.rest(_rested(intent))
        runtime.publish(status.document(config, intent, snapshot, desired))

    return publish


def _rested(intent: Intent) -> Rested | None:
    rest = intent.rest
    return Rested(rest.path.fingerprint(), rest.tries) if rest is not None and rest.path is not None else None


def _keep(state: State, intent: Intent) -> None:
    try:
        state.keep_addresses(intent.hosts)
        state.keep_clock(intent.shaken_wall)
    except StateError as error:  # the next start has to look names up, and to believe its clock
        log.warning("%s", error)


def _announce() -> None:
    """The first pass has settled: the block stands. Only now may units that are ordered after us start."""
    systemd.notify("READY=1")
    log.info("ready", extra=Entry(Message.STARTED, "", (("VERSION", __version__),)).extra)


def _listen(daemon: Daemon, watched: dict[FileWatch, str], clocks: Clocks) -> None:
    """Everything that wakes the loop."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, daemon.stop)
    loop.add_signal_handler(signal.SIGINT, daemon.stop)
    loop.add_signal_handler(signal.SIGHUP, _reload, daemon)

    loop.add_reader(clocks.alarm, _heard_clocks, clocks, daemon)
    loop.add_reader(clocks.jumps, _heard_clocks, clocks, daemon)
    for files, reason in watched.items():
        if files.fileno() >= 0:
            loop.add_reader(files, _heard_files, files, daemon, reason)
    links = rtnl.Watch()
    loop.add_reader(links, _heard_links, links, daemon)
    with contextlib.suppress(NetlinkError):  # a kernel without IPsec has none to lose
        losses = xfrm.losses()
        loop.add_reader(losses, _heard_losses, losses, daemon)
    try:
        changes = ForeignChanges()
    except SystemFault as error:  # a kernel without nftables: routing alone keeps the machine shut, and says so
        log.error("%s", error)  # noqa: TRY400 - the text says it
    else:
        loop.add_reader(changes, _heard_nftables, changes, daemon)
        daemon.hear = partial(_heard_nftables, changes, daemon)


def _heard_links(links: rtnl.Watch, daemon: Daemon) -> None:
    if links.drain():
        daemon.links_changed()


def _heard_losses(losses: rtnl.Watch, daemon: Daemon) -> None:
    if losses.drain():
        daemon.wake.soon("IPsec SAs")


def _heard_clocks(clocks: Clocks, daemon: Daemon) -> None:
    if clocks.rang():
        daemon.wake.now("time")
    if clocks.jumped():
        daemon.wake.now("a clock jumped")


def _heard_files(files: FileWatch, daemon: Daemon, reason: str) -> None:
    if files.drain():
        daemon.wake.soon(reason)


def _heard_nftables(changes: ForeignChanges, daemon: Daemon) -> None:
    for change in changes.drain():
        if change.touches(DYNAMIC):
            daemon.changed_by(str(change))
        else:
            daemon.wake.repair("the guard's tables")


class TunnelFiles:
    """Hears of new, changed and removed tunnel files, and has the configuration read again when they have settled.

    So a new key needs no command. A file that is read half-written is found broken, its last good version stays in
    force, and the end of the writing is heard as well.
    """

    def __init__(self, files: FileWatch, daemon: Daemon) -> None:
        self._files = files
        self._daemon = daemon
        self._timer: asyncio.TimerHandle | None = None

    def listen(self) -> None:
        """From now on, in the running loop."""
        if self._files.fileno() >= 0:
            asyncio.get_running_loop().add_reader(self._files, self._heard)

    def _heard(self) -> None:
        if not self._files.drain():
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(TUNNEL_FILES_SETTLE_S, _reload, self._daemon)


class GuardWatch:
    """Hears of the death of the guard's process, whoever started it (pidfd_open(2))."""

    def __init__(self, runtime_dir: Path) -> None:
        self.died: Callable[[], None] = lambda: None
        self._lock = runtime_dir / names.GUARD_LOCK_FILE
        self._watched: int | None = None

    def follow(self) -> None:
        """Watch the process that holds the guard's lock now. Called from the event loop."""
        pid = holder(self._lock)
        if pid is None or pid == self._watched:
            return
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:  # it is gone, or there are no descriptors left; the next look sees its tables
            return
        self._watched = pid
        asyncio.get_running_loop().add_reader(descriptor, self._gone, descriptor)

    def _gone(self, descriptor: int) -> None:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
        self._watched = None
        self.died()


def _reload(daemon: Daemon) -> None:
    task = asyncio.ensure_future(daemon.submit(Reload()))
    task.add_done_callback(lambda done: done.cancelled() or done.exception())


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: GPL-3.0-or-later
"""What the daemon publishes, read as it is now: is there a daemon, what does it say, how much time is left.

While a daemon runs, it holds the lock. Reading wakes nobody: the time left is computed here, byte counters
come from sysfs.
"""

from __future__ import annotations

import os
import time

from aovpnd import __version__, names, vouch
from aovpnd.absence import without_daemon
from aovpnd.errors import StateError
from aovpnd.shape import ACCESS, STATUS, fits, is_shallow, moment, number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SCHEMA = 1
LARGEST = 1 << 20
"""Bytes of a status file that is believed; the largest real one has some thousand."""
BOOT_ID = "/proc/sys/kernel/random/boot_id"
SYSFS = "/sys/class/net"

SILENT_S = 2.0
"""How long the daemon may take to say that a window is over; it is woken in the very moment."""

RUNNING, STARTING, ABSENT = "running", "starting", "absent"
"""Whether a daemon runs: and has published, has not yet, or there is none."""


class Reading:
    """What was found: ``daemon`` is RUNNING, STARTING or ABSENT; ``document`` has the published keys in every case."""

    __slots__ = ("daemon", "document")

    def __init__(self, daemon: str, document: dict[str, Any]) -> None:
        self.daemon = daemon
        self.document = document

    def public(self) -> dict[str, Any]:
        """The document without the keys that are for us alone."""
        return {key: _stripped(value) for key, value in self.document.items() if not key.startswith("_")}


def read(runtime_dir: str) -> Reading:
    """Read what is published now. `StateError` when it cannot be understood."""
    running = is_running(runtime_dir)
    document = _published(os.path.join(runtime_dir, names.STATUS_FILE))
    if not running:
        return Reading(ABSENT, _absent(_still_open(document)))
    if document is None:
        return Reading(STARTING, _starting())
    if document.get("schema") != SCHEMA:
        raise StateError("the daemon speaks another schema", hint="aovpnctl and aovpnd must be of the same release")
    if not fits(document, STATUS):
        raise StateError("what the daemon published cannot be understood", hint="restart aovpnd")
    return Reading(RUNNING, _fresh(document))


def is_running(runtime_dir: str) -> bool:
    """Whether a daemon holds the lock; the kernel lets go of it when the daemon dies, however it dies."""
    path = os.path.join(runtime_dir, names.LOCK_FILE)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}") from error
    try:
        return vouch.is_held(fd)
    finally:
        os.close(fd)


def _published(path: str) -> dict[str, Any] | None:
    """The status file of this boot, or None."""
    try:
        with open(path, "rb") as file:
            text = file.read(LARGEST).decode()
        with open(BOOT_ID, encoding="utf-8") as file:
            boot_id = file.read().strip()
        document = loads(text)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise StateError(f"{path} cannot be understood", hint="restart aovpnd") from error
    if not isinstance(document, dict) or not is_shallow(document):
        raise StateError(f"{path} cannot be understood", hint="restart aovpnd")
    return document if document.get("_boot_id") == boot_id else None


# -- what is stale in a file ------------------------------------------------------------------------------------------
def _fresh(document: dict[str, Any]) -> dict[str, Any]:
    access = document["temporary_access"]
    tunnels = [{**tunnel, **_counters(tunnel)} for tunnel in document["tunnels"]]
    block = document["block"]
    undone = block.get("_undone_boot")  # none in what an older release has published
    block = {**block, "undone_in_s": _left(undone) if moment(undone) else None}
    document = {**document, "tunnels": tunnels, "block": block}
    if access and time.clock_gettime(time.CLOCK_BOOTTIME) - access["_expires_boot"] > SILENT_S:
        return _over(document)
    return {**document, "temporary_access": access and {**access, "remaining_s": _left(access["_expires_boot"])}}


def _over(document: dict[str, Any]) -> dict[str, Any]:
    """What a daemon that hangs would say, had it seen the end of its window; the kernel has."""
    text = "temporary access is over and the kernel has closed it, but the daemon has not looked since: it hangs"
    hint = "systemctl restart aovpnd; the block stays as it is loaded meanwhile"
    problem = {"code": "daemon-silent", "severity": "error", "text": text, "hint": hint}
    ended = {"phase": None, "protected": False, "temporary_access": None}  # nobody vouches for the rest
    return {**document, **ended, "problems": [problem, *document["problems"]]}


def _left(ends: float) -> int:
    """Seconds until a moment on CLOCK_BOOTTIME, rounded up: while any time is left it is not 0."""
    left = ends - time.clock_gettime(time.CLOCK_BOOTTIME)
    return max(0, -int(-left // 1))


def _counters(tunnel: dict[str, Any]) -> dict[str, int]:
    """What the link has carried since the tunnel was connected: another one may have used it before."""
    link, since = tunnel["link"], tunnel.get("_counted_from", [0, 0])  # none in what an older release has published
    keys = ("rx_bytes", "tx_bytes")
    if link is None or "/" in link or not fits(since, [number]) or len(since) != len(keys):
        return {}
    found = {}
    for key, before in zip(keys, since, strict=True):
        try:
            with open(f"{SYSFS}/{link}/statistics/{key}", encoding="utf-8") as file:
                found[key] = max(int(file.read()) - before, 0)
        except (OSError, ValueError):
            return {}  # the link went away: what was published last is the best there is
    return found


def _stripped(value: Any) -> Any:  # noqa: ANN401 - JSON
    match value:
        case dict():
            return {key: _stripped(inner) for key, inner in value.items() if not key.startswith("_")}
        case list():
            return [_stripped(inner) for inner in value]
        case _:
            return value


# -- when there is no daemon to speak ---------------------------------------------------------------------------------
def _still_open(document: dict[str, Any] | None) -> dict[str, Any] | None:
    """A dead daemon's window that the kernel closes at its time: nobody else says that it may still be open."""
    access = document.get("temporary_access") if document is not None else None
    if access is None or not fits(access, ACCESS) or not _left(access["_expires_boot"]):
        return None
    return {**access, "remaining_s": _left(access["_expires_boot"])}


def _absent(access: dict[str, Any] | None) -> dict[str, Any]:
    return _silent("daemon-not-running", *without_daemon()) | {"temporary_access": access}


def _starting() -> dict[str, Any]:
    text = "the daemon is starting, or cannot write its status; the block remains as loaded"
    hint = "look again in a moment; then see: df /run, and journalctl -u aovpnd"
    return _silent("daemon-starting", text, hint)


def _silent(code: str, text: str, hint: str) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "protected": False,  # nobody vouches for it
        "phase": None,
        "uplinks": [],
        "tunnels": [],
        "temporary_access": None,
        "block": {
            "guarded": None,
            "managed_by": None,
            "user_may_unblock": False,
            "confirmed": None,
            "undone_in_s": None,
        },
        "dns": None,
        "problems": [{"code": code, "severity": "error", "text": text, "hint": hint}],
        "version": __version__,
    }


# -- JSON without the json module -------------------------------------------------------------------------------------
class _Plain:
    """What json.JSONDecoder tells its scanner."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int

    @staticmethod
    def parse_constant(word: str) -> None:
        raise ValueError(f"{word} is not JSON")


def loads(text: str) -> Any:  # noqa: ANN401 - JSON
    """json.loads by the same scanner in C, without importing ``re``, which takes as long as the rest of `status`.

    `ValueError` for what is not JSON.
    """
    try:
        from _json import make_scanner
    except ImportError:  # another Python than CPython
        import json

        return json.loads(text)
    try:
        value, end = make_scanner(_Plain)(text.lstrip(" \t\r\n"), 0)  # type: ignore[arg-type]
    except StopIteration:
        raise ValueError("there is nothing") from None
    except RecursionError:
        raise ValueError("too deep") from None
    if text.lstrip(" \t\r\n")[end:].strip(" \t\r\n"):
        raise ValueError("there is more than one value")
    return value

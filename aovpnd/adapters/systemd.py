# SPDX-License-Identifier: GPL-3.0-or-later
"""The service manager and the journal, where there are any; without them everything here does nothing, quietly."""

import logging
import os
import sys
from pathlib import Path

from aovpnd.messages import printable

log = logging.getLogger("aovpnd")

_BOOTED = Path("/run/systemd/system")


def under_systemd() -> bool:
    """Whether the service manager started us (sd_booted(3), and INVOCATION_ID of systemd.exec(5))."""
    return "INVOCATION_ID" in os.environ and _BOOTED.is_dir()


def notify(state: str) -> None:
    """Tell the service manager: ``READY=1``, ``WATCHDOG=1``, ``STATUS=…``, ``STOPPING=1`` (sd_notify(3))."""
    if "NOTIFY_SOCKET" not in os.environ:
        return
    try:
        from systemd import daemon  # type: ignore[attr-defined,import-not-found,unused-ignore]  # noqa: PLC0415 - optional

        daemon.notify(state)
    except (
        ImportError,
        OSError,
    ) as error:  # it raises on a dead socket (facts, section 2); that must not end a kill switch
        log.debug("the service manager does not hear: %s", error)


def watchdog_s() -> float | None:
    """How often the watchdog wants to be fed, at most: half of what systemd set (sd_watchdog_enabled(3)); None without
    one.
    """
    text = os.environ.get("WATCHDOG_USEC", "")
    return int(text) / 2e6 if text.isdigit() else None


def log_to_journal_or_stderr(level: int = logging.INFO) -> None:
    """Send our log to the journal with its fields when that is where stderr goes, else to stderr as plain lines."""
    log.setLevel(level)
    log.propagate = False
    log.addHandler(_handler())


def _handler() -> logging.Handler:
    if "JOURNAL_STREAM" in os.environ:
        try:
            from systemd import journal  # type: ignore[attr-defined,import-not-found,unused-ignore]  # noqa: PLC0415 - optional

            handler: logging.Handler = journal.JournalHandler(SYSLOG_IDENTIFIER="aovpnd")
        except ImportError:
            pass
        else:
            handler.addFilter(_in_one_line)
            return handler
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("aovpnd: %(levelname)s: %(message)s"))
    handler.addFilter(_in_one_line)
    return handler


def _in_one_line(record: logging.LogRecord) -> bool:
    """Melt the arguments into the message, and let nothing through that a terminal obeys or that begins a line.

    JournalHandler exports ``args`` as a field of its own (facts, section 2), and messages quote other programs.
    """
    record.msg, record.args = printable(record.getMessage()), ()
    return True

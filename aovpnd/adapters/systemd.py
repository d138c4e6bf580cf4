# SPDX-License-Identifier: GPL-3.0-or-later
"""The service manager and the journal, where there are any; without them everything here does nothing, quietly."""

import logging
import os
import sys
from pathlib import Path

from aovpnd.logs import one_line

log = logging.getLogger("aovpnd")

_BOOTED = Path("/run/systemd/system")
LEAST_WATCHDOG_S = 0.5
"""Whoever asks to hear of us more often gets no more: the loop is not kept busy by it."""
_LONGEST_USEC = 15
"""Digits: some years. More is nobody's watchdog."""


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
    if not text.isascii() or not text.isdigit() or len(text) > _LONGEST_USEC:
        return None
    return max(int(text) / 2e6, LEAST_WATCHDOG_S) if int(text) else None


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
            handler.addFilter(one_line)
            return handler
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("aovpnd: %(levelname)s: %(message)s"))
    handler.addFilter(one_line)
    return handler

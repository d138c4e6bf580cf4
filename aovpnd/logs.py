# SPDX-License-Identifier: GPL-3.0-or-later
"""What all three processes do to every line that they log, wherever it goes from there."""

import logging
import sys

from aovpnd.messages import printable


def one_line(record: logging.LogRecord) -> bool:
    """A filter for handlers: melt the arguments into the message, and let nothing through that a terminal obeys or that
    begins a line.

    JournalHandler exports ``args`` as a field of its own (facts, section 2), and messages quote other programs.
    """
    record.msg, record.args = printable(record.getMessage()), ()
    return True


def to_stderr(form: str, level: int = logging.INFO) -> None:
    """Log to standard error, each record as one line of this ``form``: other programs' words are in some."""
    logging.basicConfig(level=level, format=form, stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.addFilter(one_line)

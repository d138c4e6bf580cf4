# SPDX-License-Identifier: GPL-3.0-or-later
"""Time that passes while the machine sleeps, and clocks that jump: timerfd_create(2), through ctypes because Python has
it only from 3.13 on.

The event loop's own timers stand on CLOCK_MONOTONIC, which stands still in suspend: a deadline that passed meanwhile
would be noticed late by as long as the machine slept. A timer on CLOCK_BOOTTIME is over as soon as it wakes.
"""

import ctypes
import errno
import os
import struct
import time
from dataclasses import replace
from typing import Final

from aovpnd.clock import LAST_S, Clock
from aovpnd.errors import SystemFault

_CLOCK_REALTIME, _CLOCK_BOOTTIME = 0, 7
_ABSTIME, _CANCEL_ON_SET = 1, 2
"""TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET: the timer is cancelled when the clock jumps, which waking up does too."""
_LEAST_S: Final = 1e-6
"""A timer of 0 would be none."""
_SET_S: Final = 0.1
"""The wall clock was set when it is off by so much; less is what passes between two readings on a busy machine."""
_ITIMERSPEC: Final = struct.Struct("qqqq")  # interval, then value, each in seconds and nanoseconds


def clock() -> Clock:
    """Now, on both clocks."""
    boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    return Clock(boot, time.time(), boot - time.clock_gettime(time.CLOCK_MONOTONIC))


class SteadyClock:
    """Now, on both clocks, which keep their distance until somebody sets the one on the wall.

    A moment to come has one name on the wall then, however often it is asked for: a rule that holds it stays the same.
    """

    def __init__(self) -> None:
        self._epoch: float | None = None
        """Of the boot: milliseconds, so that adding and subtracting it makes no difference."""

    def read(self) -> Clock:
        """As `clock`, the wall at most `_SET_S` off."""
        now = clock()
        epoch = round(now.wall_at(0.0), 3)
        if self._epoch is None or abs(epoch - self._epoch) > _SET_S:
            self._epoch = epoch
        return replace(now, wall=self._epoch + now.boot)


class Clocks:
    """Two descriptors to poll: `alarm` for a moment that has come, `jumps` for a clock that jumped."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.alarm = self._create(_CLOCK_BOOTTIME)
        self.jumps = self._create(_CLOCK_REALTIME)
        self._set(self.jumps, _ABSTIME | _CANCEL_ON_SET, LAST_S, 0)

    def ring_in(self, seconds: float | None) -> None:
        """Let `alarm` become readable in so many seconds, sleep included; None: not at all. The last call counts."""
        whole, part = divmod(max(seconds, _LEAST_S), 1) if seconds is not None else (0, 0)
        self._set(self.alarm, 0, int(whole), int(part * 1e9))

    def rang(self) -> bool:
        """Whether the moment has come; said once."""
        return _read(self.alarm) == 0

    def jumped(self) -> bool:
        """Whether the wall clock was set, or the machine has slept; said once."""
        return _read(self.jumps) == errno.ECANCELED

    def close(self) -> None:
        """Give both back."""
        os.close(self.alarm)
        os.close(self.jumps)

    def _create(self, clock: int) -> int:
        descriptor = self._libc.timerfd_create(clock, os.O_NONBLOCK | os.O_CLOEXEC)
        if descriptor < 0:
            raise SystemFault(f"timerfd_create: {os.strerror(ctypes.get_errno())}")
        return int(descriptor)

    def _set(self, descriptor: int, flags: int, seconds: int, nanoseconds: int) -> None:
        wanted = ctypes.create_string_buffer(_ITIMERSPEC.pack(0, 0, seconds, nanoseconds), _ITIMERSPEC.size)
        if self._libc.timerfd_settime(descriptor, flags, wanted, None) < 0:
            raise SystemFault(f"timerfd_settime: {os.strerror(ctypes.get_errno())}")


def _read(descriptor: int) -> int:
    """0 when the timer is over, otherwise errno."""
    try:
        os.read(descriptor, 8)
    except OSError as error:
        return error.errno or errno.EIO
    return 0

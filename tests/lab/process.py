# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for conditions, and running programs with errors one can read."""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

T = TypeVar("T")
POLL_S = 0.01
SLOW: Final = float(os.environ.get("AOVPND_LAB_SLOW", "1"))
"""How many times slower than an ordinary one this machine is: the lab's deadlines are as much longer, its polite
senders as much rarer, and a promise in seconds that a test measures counts times this.
"""


class LabError(Exception):
    """The lab itself does not work: no finding about the program under test."""


def wait_for(what: str, condition: Callable[[], T], *, deadline_s: float = 30.0, poll_s: float = POLL_S) -> T:
    """Call ``condition`` until it returns something true, and return that; LabError after ``deadline_s`` seconds, as
    many times longer as the machine is `SLOW`.
    """
    deadline_s *= SLOW
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise LabError(f"waited {deadline_s:g} s in vain for {what} (last seen: {value!r})")
        time.sleep(poll_s)


def run(
    command: Sequence[str],
    *,
    check: bool = True,
    stdin: str | None = None,
    timeout_s: float = 30.0,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end with text in and out; LabError with its standard error when ``check`` and it failed, or
    when it is not done in time, which is as many times longer as the machine is `SLOW`.
    """
    timeout_s *= SLOW
    try:
        done = subprocess.run(
            list(command), input=stdin or "", capture_output=True, text=True, check=False, timeout=timeout_s, env=env
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(command)} was not done after {timeout_s:g} s") from error
    if check and done.returncode:
        raise LabError(f"{' '.join(command)} failed ({done.returncode}): {done.stderr.strip() or done.stdout.strip()}")
    return done


def stop(process: subprocess.Popen[bytes], *, grace_s: float = 3.0) -> int:
    """End a program that we started: SIGTERM, after ``grace_s`` seconds SIGKILL; returns its exit status. On a `SLOW`
    machine the grace is longer.
    """
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace_s * SLOW)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()

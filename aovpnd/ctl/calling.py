# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of the system, for commands that have no daemon to ask: by their path, in an environment of our own."""

from __future__ import annotations

import subprocess

from aovpnd.errors import ToolError

SYSTEMCTL = "/usr/bin/systemctl"
SYSTEMD = "/run/systemd/system"
"""Is there when systemd is the system's manager, sd_booted(3)."""


def call(*command: str, patience_s: float, given: bytes = b"") -> subprocess.CompletedProcess[str]:
    """Run one to its end, with ``given`` as its standard input. OSError when it cannot be run,
    `subprocess.TimeoutExpired` when it does not end.
    """
    done = subprocess.run(
        command,
        input=given,
        capture_output=True,
        timeout=patience_s,
        check=False,
        env={"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    out, err = (text.decode("utf-8", "replace") for text in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def output(*command: str, patience_s: float, given: bytes = b"") -> str:
    """What one that has to succeed prints. `ToolError` with the reason when it does not."""
    try:
        done = call(*command, patience_s=patience_s, given=given)
    except OSError as error:
        raise ToolError(error.strerror or str(error)) from None
    except subprocess.TimeoutExpired:
        raise ToolError(f"it has not ended within {patience_s:.0f} s") from None
    if done.returncode != 0:
        raise ToolError(" ".join(done.stderr.split())[:200])
    return done.stdout

# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of tunnels that ask a person do, and look at."""

import subprocess

from tests.lab.laptop import BIN
from tests.lab.process import wait_for
from tests.netns.protected import Protected


def sign_in(laptop: Protected, name: str, secret: str) -> subprocess.CompletedProcess[str]:
    """``aovpnctl sign-in NAME --stdin``."""
    command = (str(BIN / "aovpnctl"), "sign-in", name, "--stdin", "--timeout", "40s")
    return laptop.lab.host.run(*command, stdin=f"{secret}\n", check=False, timeout_s=90)


def attempts(laptop: Protected) -> int:
    """How often the gateway was asked for an SA, as it tells itself."""
    return sum("is initiating a" in line for line in laptop.world.ike.charon.log().splitlines())


def told(laptop: Protected, code: str) -> str:
    """The text of a problem, once it is there."""
    return wait_for(code, lambda: laptop.problems().get(code, ""), deadline_s=30, poll_s=0.1)

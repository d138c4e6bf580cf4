# SPDX-License-Identifier: GPL-3.0-or-later
"""A program that tries many ways out, each once: ``python -m tests.audits.bulk TOKEN LINK COUNT CORPUS...``.

It opens what it needs, prints ``ready``, waits for SIGUSR1, so that the sockets may be older than what happens then,
sends, and prints what became of it: ``{"tried": …, "taken": …, "groups": [names of those of which the kernel took any],
"numbers": {group: the byte behind the token}}``.
"""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Final

from tests.audits.shot import Shot

CORPORA: Final = {
    "programs": ("options", "programs"),
    "marks": ("options", "marks"),
    "names": ("asking", "names"),
    "discovery": ("asking", "discovery"),
    "raw": ("crafted", "raw"),
    "frames": ("crafted", "frames"),
    "xdp": ("xdp", "shots"),
}
"""Module and function of each corpus; scapy is loaded for those alone that need it."""
FIRST_NUMBER: Final = 64
"""Behind the token stands the group's number, beyond those of the lab's senders."""


def _corpus(name: str, link: str, count: int) -> Iterator[Shot]:
    module, function = CORPORA[name]
    made: Callable[[str, int], Iterator[Shot]] = getattr(import_module(f"tests.audits.{module}"), function)
    return made(link, count)


def main(arguments: list[str]) -> int:
    """Send everything once."""
    token, link, count, *names = arguments
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    shots = [shot for name in names for shot in _corpus(name, link, int(count))]
    print("ready", flush=True)
    signal.sigwait({signal.SIGUSR1})
    numbers = {group: FIRST_NUMBER + place for place, group in enumerate(sorted({shot.group for shot in shots}))}
    taken: list[str] = []
    for number, shot in enumerate(shots):
        payload = bytes.fromhex(token) + bytes([numbers[shot.group]]) + number.to_bytes(4, "big")
        try:
            shot.send(payload)
        except OSError:
            continue
        taken.append(shot.group)
    print(json.dumps({"tried": len(shots), "taken": len(taken), "groups": sorted(set(taken)), "numbers": numbers}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

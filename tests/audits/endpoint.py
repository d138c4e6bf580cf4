# SPDX-License-Identifier: GPL-3.0-or-later
"""What the exception for the gateway's endpoint could be used for."""

import sys
from typing import Final

from tests.audits.attack import Attack, Harmless
from tests.audits.scene import Scene
from tests.lab import plan
from tests.lab.frames import Kind

_SENDER: Final = """
import socket, sys
token = bytes.fromhex(sys.argv[1])
for family, address in ((socket.AF_INET, sys.argv[2]), (socket.AF_INET6, sys.argv[3])):
    for port in (int(sys.argv[4]), 22, 53, 80, 443, 500, 4500, *range(51800, 51815)):
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            with socket.socket(family, kind) as sock:
                sock.setblocking(False)
                try:
                    sock.connect((address, port))
                    sock.send(token + b"\\xff")
                except OSError:
                    pass
"""


def _send_to_endpoint(scene: Scene, tries: int) -> None:
    """An ordinary program, as a web page can make a browser one, speaks to the gateway's address on the tunnel's port
    and on others, by TCP and UDP.
    """
    token = (scene.watch.senders.token if scene.watch is not None else bytes(16)).hex()
    words = (sys.executable, "-c", _SENDER, token, str(plan.GATEWAY4), str(plan.GATEWAY6), str(plan.GATEWAY_PORT))
    for _ in range(tries):
        scene.host.run(*words, uid=plan.USER)


def _reaches_endpoint(scene: Scene) -> None:
    with scene.laptop.world.record() as recorder:
        _send_to_endpoint(scene, 1)
        if recorder.count(Kind.CLEAR) == 0:
            raise Harmless("nothing arrived at the gateway's address")


ATTACKS: Final = (
    Attack(
        "A6",
        "endpoint",
        "an ordinary program sends to the gateway's own address and port (MUL-02-002, MUL-02-004)",
        _send_to_endpoint,
        _reaches_endpoint,
        service=0.95,
    ),
)

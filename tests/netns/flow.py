# SPDX-License-Identifier: GPL-3.0-or-later
"""A call of 50 packets a second: ``python -m tests.netns.flow ADDRESS PORT REPORT`` until SIGTERM.

One connected UDP socket sends numbered packets to an echo service. REPORT gets one line of JSON per event: ``sent``
(number, errno; 0 when the kernel took it), and ``back`` (number), each with Unix time.
"""

import json
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path

PERIOD_S = 0.02


def main(arguments: list[str]) -> int:
    """Send until SIGTERM."""
    address, port, report = arguments
    running = True

    def end(_signal: int, _frame: object) -> None:
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, end)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, Path(report).open("w", encoding="ascii") as file:
        # Not bound to an address by connect(2): the source may change with the tunnel, as a roaming call's does.
        sock.setblocking(False)
        number, due = 0, time.monotonic()
        while running:
            number += 1
            code = 0
            try:
                sock.sendto(struct.pack("!I", number), (address, int(port)))
            except OSError as error:
                code = error.errno or -1
            print(json.dumps({"sent": number, "errno": code, "at": time.time()}), file=file, flush=True)
            due = max(due + PERIOD_S, time.monotonic())
            while (left := due - time.monotonic()) > 0:
                if select.select([sock], [], [], left)[0]:
                    back = sock.recv(64)
                    print(json.dumps({"back": struct.unpack("!I", back)[0], "at": time.time()}), file=file, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

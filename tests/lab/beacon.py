# SPDX-License-Identifier: GPL-3.0-or-later
"""Send politely, in many ways: ``python -m tests.lab.beacon TOKEN RATE LINK REPORT KIND...`` until SIGTERM.

Each kind of `sender_kinds.KINDS` sends RATE payloads a second. REPORT gets one record per attempt (`RECORD`): Unix
time, kind, errno (0: the kernel took it, 255: the link or socket does not exist yet). Sockets stay open as long as they
work, so that old ones are tried as well as new ones.
"""

import signal
import struct
import sys
import time
from pathlib import Path
from typing import Final

from tests.lab.sender_kinds import BY_NAME, Send

RECORD: Final = struct.Struct("<dBB")
NOT_OPEN: Final = 255


def main(arguments: list[str]) -> int:
    """Send until SIGTERM."""
    token, rate, link, report, *names = arguments
    kinds = [BY_NAME[name] for name in names]
    opened: dict[int, Send] = {}
    running = True

    def end(_signal: int, _frame: object) -> None:
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, end)
    print("ready", flush=True)
    with Path(report).open("wb") as file:
        number, due = 0, time.monotonic()
        while running:
            number += 1
            for kind in kinds:
                payload = bytes.fromhex(token) + struct.pack("!BI", kind.number, number)
                status = 0
                if kind.number not in opened:
                    try:
                        opened[kind.number] = kind.open(link)
                    except OSError:
                        status = NOT_OPEN
                stamp = time.time()
                if status == 0:
                    try:
                        opened[kind.number](payload)
                    except OSError as error:
                        status = min(error.errno or NOT_OPEN - 1, NOT_OPEN - 1)
                file.write(RECORD.pack(stamp, kind.number, status))
            file.flush()
            due = max(due + 1 / float(rate), time.monotonic())  # no burst after the machine had other work
            time.sleep(max(0.0, due - time.monotonic()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

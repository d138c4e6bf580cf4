# SPDX-License-Identifier: GPL-3.0-or-later
"""Restart a program that ends, as systemd does with ``Restart=always`` and ``RestartSec=100ms``: the lab has no
systemd.

``python -m tests.lab.supervise JOURNAL -- COMMAND...``: every start and end is one JSON line in JOURNAL. SIGTERM is
passed on to the program, and ends the supervisor with it.
"""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Final

RESTART_S: Final = 0.1


def main(arguments: list[str]) -> int:
    """Keep the program running until SIGTERM; returns its last exit status."""
    journal, command = Path(arguments[0]), arguments[2:]
    stopping = threading.Event()
    child: subprocess.Popen[bytes] | None = None

    def terminate(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()
        if child is not None:
            child.terminate()

    signal.signal(signal.SIGTERM, terminate)
    status = 0
    with journal.open("a", encoding="utf-8", buffering=1) as log:
        while not stopping.is_set():
            child = subprocess.Popen(command)
            if stopping.is_set():  # the signal came between the loop's test and the start
                child.terminate()
            log.write(json.dumps({"event": "start", "pid": child.pid, "time": time.time()}) + "\n")
            status = child.wait()
            log.write(json.dumps({"event": "end", "pid": child.pid, "status": status, "time": time.time()}) + "\n")
            stopping.wait(RESTART_S)
    return max(status, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

#!/usr/bin/python3 -IS
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs commands in the test machine, over a virtio-serial port: without network, ssh or service manager.

One JSON object per line each way. Request: ``id``, ``argv``, ``timeout`` in seconds, and ``stdin`` as text or null.
Answer: ``id``, ``code`` (null when the time ran out), ``out``, ``err``. After opening the port, before any request, it
says ``{"hello": kernel release}``. Each request has a thread of its own: one that hangs does not stop the others.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

_LOCK = threading.Lock()


def open_port() -> int:
    """Return the port, waiting for its driver. The machine has one port, so its name needs no look-up in sysfs."""
    while True:
        for path in Path("/dev").glob("vport*p1"):
            with contextlib.suppress(OSError):
                return os.open(path, os.O_RDWR)
        time.sleep(0.02)


def send(port: int, message: dict[str, object]) -> None:
    """Write one answer whole."""
    data = (json.dumps(message) + "\n").encode()
    with _LOCK:
        while data:
            data = data[os.write(port, data) :]


def serve(port: int, request: dict[str, Any]) -> None:
    """Run one request and answer it; whatever goes wrong is the answer."""
    answer: dict[str, object] = {"id": request["id"]}
    try:
        child = subprocess.Popen(
            request["argv"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = child.communicate(request["stdin"], timeout=request["timeout"])
            answer |= {"code": child.returncode, "out": out, "err": err}
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            out, err = child.communicate()
            answer |= {"code": None, "out": out, "err": err}
    except Exception as error:  # noqa: BLE001 (the tests must learn of it, and the agent must go on)
        answer |= {"code": 127, "out": "", "err": repr(error)}
    send(port, answer)


def main() -> None:
    """Serve until the machine stops."""
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    port = open_port()
    send(port, {"hello": os.uname().release})
    pending = b""
    while True:
        try:
            data = os.read(port, 65536)
        except OSError as error:
            sys.exit(f"agent: {error}")
        if not data:  # nobody is connected on the other side
            time.sleep(0.02)
            continue
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            threading.Thread(target=serve, args=(port, json.loads(line)), daemon=True).start()


if __name__ == "__main__":
    main()

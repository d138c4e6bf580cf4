# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of the benchmarks that run inside a simulated machine; what they find is printed, a JSON value a line."""

import fcntl
import json
import os
import socket
import struct
import sys
import termios
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from aovpnd import names
from aovpnd.adapters.clocks import clock
from aovpnd.adapters.nft import Nftables
from aovpnd.adapters.state import State
from aovpnd.config import load
from aovpnd.core import intent as memory
from aovpnd.core.decide import decide
from aovpnd.core.firewall import compile as compile_ruleset
from aovpnd.core.permits import Handshake, HostOnly, LinkSetup, Loopback, Permit, Tunnel, TunnelAddresses
from aovpnd.core.plan import diff
from aovpnd.nftlib import Nft
from aovpnd.ruleset import Device
from aovpnd.system import System
from aovpnd.tunnel import Endpoint
from tests.lab.plan import ECHO_PORT
from tests.lab.web_server import Echo, EchoHandler

CHUNK_BYTES: Final = 1 << 18
PORT: Final = 5201
PATIENCE_S: Final = 10.0
POLL_S: Final = 0.0005


def programs(rounds: int, *commands: str) -> list[list[float]]:
    """Seconds that each command took as a whole process, round by round, so that all meet the same weather."""
    times: list[list[float]] = [[] for _ in commands]
    quiet = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_RDWR, 0) for stream in (0, 1, 2)]
    for _ in range(rounds):
        for command, taken in zip(commands, times, strict=True):
            words = command.split()
            start = time.perf_counter()
            child = os.posix_spawnp(words[0], words, os.environ, file_actions=quiet)
            _, status = os.waitpid(child, 0)
            taken.append(time.perf_counter() - start)
            if status:
                raise ChildProcessError(f"{command} failed ({os.waitstatus_to_exitcode(status)})")
    return times


def ruleset(rounds: int) -> list[float]:
    """Seconds to replace the table of a connected laptop with Docker and to read it back, in one long-lived context."""
    endpoint = Endpoint(ip_address("203.0.113.2"), 51820)
    permits: list[Permit] = [Loopback(), LinkSetup(), Handshake(endpoint), HostOnly(Device(1, "lo", "bridge"))]
    tables = [
        compile_ruleset((*permits, Tunnel(Device(1, "lo", "wireguard")), TunnelAddresses((ip_address(address),))))
        for address in ("10.66.0.2", "10.66.0.3")
    ]
    nft = Nftables(Nft())
    taken = []
    for number in range(rounds):
        start = time.perf_counter()
        nft.ensure(tables[number % 2])
        taken.append(time.perf_counter() - start)
    return taken


def passes(rounds: int) -> list[float]:
    """Seconds for one pass of the loop in which nothing is to do: look at the whole machine, decide, compare.

    It looks through adapters of its own, beside the daemon, and applies nothing.
    """
    config_dir, state_dir = Path(names.CONFIG_DIR), Path(names.STATE_DIR)
    state = State(config_dir, state_dir)
    system = System(state, Path(names.RUNTIME_DIR))
    config = load(config_dir, state_dir, Path(names.VENDOR_DIR))
    intent = state.recall(clock())
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        snapshot = system.observe()
        intent = memory.settle(config, intent, snapshot)
        diff(decide(config, intent, snapshot), snapshot)
        taken.append(time.perf_counter() - start)
    return taken


def sink(address: str) -> int:
    """Accept one connection, read it to its end; returns the bytes."""
    total = 0
    with socket.create_server((address, PORT)) as server:
        connection, _ = server.accept()
        with connection:
            while count := len(connection.recv(CHUNK_BYTES)):
                total += count
    return total


def source(address: str) -> None:
    """Each line of standard input says for how many seconds to send as fast as TCP takes it; a line of output says how
    many bytes it was, and the seconds until the other end had acknowledged them. TimeoutError when it does not.
    """
    block = bytes(CHUNK_BYTES)
    with socket.create_connection((address, PORT), timeout=PATIENCE_S) as connection:
        for line in sys.stdin:
            total, start = 0, time.perf_counter()
            while time.perf_counter() - start < float(line):
                total += connection.send(block)
            while _unacknowledged(connection):
                if time.perf_counter() - start > float(line) + PATIENCE_S:
                    raise TimeoutError("what was sent is not acknowledged")
                time.sleep(POLL_S)
            print(json.dumps([total, time.perf_counter() - start]), flush=True)


def _unacknowledged(connection: socket.socket) -> int:
    """Bytes that the other end has not acknowledged yet (SIOCOUTQ, tcp(7))."""
    return int(struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0])


def echo(address: str) -> None:
    """Send back every datagram, as the internet's echo service does; until it is ended."""
    Echo((f"::ffff:{address}", ECHO_PORT), EchoHandler).serve_forever()


PARTS: Final[dict[str, Callable[[list[str]], object]]] = {
    "programs": lambda words: programs(int(words[0]), *words[1:]),
    "ruleset": lambda words: ruleset(int(words[0])),
    "passes": lambda words: passes(int(words[0])),
    "echo": lambda words: echo(words[0]),
    "sink": lambda words: sink(words[0]),
    "source": lambda words: source(words[0]),
}

if __name__ == "__main__":
    print(json.dumps(PARTS[sys.argv[1]](sys.argv[2:])), flush=True)

# SPDX-License-Identifier: GPL-3.0-or-later
"""What programs on the laptop itself try, by every means that sockets have: C1 to C7, D1 to D3."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final

from tests.audits.attack import Attack, Harmless, Phase
from tests.audits.scene import LINK, Scene
from tests.lab import plan
from tests.lab.frames import Kind
from tests.lab.process import LabError
from tests.lab.senders import new_token

_NOBODY: Final = (f"{plan.HOME.lan4}.9", "fe80::9")
_SILENT: Final = frozenset({"join"})
"""Groups whose frames carry no token: the kernel makes them."""


def start(
    scene: Scene, corpora: tuple[str, ...], count: int, *, net_raw: bool, link: str = LINK
) -> subprocess.Popen[bytes]:
    """A program of the laptop that is ready to try these corpora."""
    token = scene.watch.senders.token if scene.watch is not None else new_token()
    return start_with(scene, token, corpora, count, net_raw=net_raw, link=link)


def start_with(
    scene: Scene, token: bytes, corpora: tuple[str, ...], count: int, *, net_raw: bool, link: str = LINK
) -> subprocess.Popen[bytes]:
    """The same with a token of the caller's."""
    command = (sys.executable, "-m", "tests.audits.bulk", token.hex(), link, str(count), *corpora)
    uid = plan.RAW_USER if net_raw else plan.USER
    program = scene.host.spawn(*command, uid=uid, net_raw=net_raw, log="bulk", stdout=subprocess.PIPE)
    if program.stdout is None or program.stdout.readline() != b"ready\n":
        raise LabError(f"a program did not start: {(scene.host.dir / 'bulk.log').read_text()[-600:]}")
    return program


def go(program: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Have it send, to its end; returns what it says became of it."""
    os.kill(program.pid, signal.SIGUSR1)
    output = program.communicate(timeout=120)[0]
    said: dict[str, Any] = json.loads(output)
    return said


def tries(*corpora: str, net_raw: bool, least: int) -> Callable[[Scene, int], None]:
    """An attack: so many payloads of these corpora, ``least`` of them at least, by sockets that were open before.

    In a window the program opens its sockets while it may send, and sends when the window has just been closed.
    """

    def attack(scene: Scene, count: int) -> None:
        program = start(scene, corpora, count, net_raw=net_raw)
        if scene.phase is Phase.ACCESS:
            scene.laptop.lab.ctl("allow-temp", "--cancel")
            with scene.laptop.world.record() as recorder:
                said = go(program)
                assert recorder.count(Kind.CLEAR) == 0, "old sockets get out when the window is over"
        else:
            said = go(program)
        assert said["tried"] >= min(least, 0.8 * count), said

    return attack


def harms(*corpora: str, net_raw: bool, groups: int, count: int) -> Callable[[Scene], None]:
    """The control: of every group of which an unprotected kernel took anything, the far side sees it."""

    def control(scene: Scene) -> None:
        for nobody in _NOBODY:  # else what goes there waits in vain for an address
            scene.host.ip(f"neigh replace {nobody} lladdr 02:00:00:00:00:09 dev {LINK} nud permanent")
        token = new_token()
        with scene.laptop.world.record() as recorder:
            said = go(start_with(scene, token, corpora, count, net_raw=net_raw))
            recorder.stop()
            data = recorder.path.read_bytes()
        seen = {group for group, number in said["numbers"].items() if token + bytes([number]) in data}
        unseen = set(said["groups"]) - seen - _SILENT
        if unseen or len(seen) < groups:
            raise Harmless(f"never seen: {sorted(unseen)}; seen are {len(seen)} of {groups}: {sorted(seen)}")

    return control


ATTACKS: Final = (
    Attack(
        "C3",
        "dns-everywhere",
        "names asked for by UDP and TCP on seven ports of eight resolvers, by ordinary programs, bound or not",
        tries("names", net_raw=False, least=200),
        harms("names", net_raw=False, groups=10, count=1),
        tries=1000,
        many=1000,
    ),
    Attack(
        "C4",
        "discovery",
        "mDNS, LLMNR, NetBIOS, SSDP, WS-Discovery, Dropbox, Spotify, KDE Connect and others; groups joined",
        tries("discovery", net_raw=False, least=100),
        harms("discovery", net_raw=False, groups=16, count=1),
        tries=1000,
        many=1000,
    ),
    Attack(
        "C5",
        "raw-packets",
        "fragments, IP options, extension headers, SCTP, DCCP, GRE, ESP, IP in IP and other protocols by raw sockets",
        tries("raw", net_raw=True, least=5000),
        harms("raw", net_raw=True, groups=40, count=400),
        tries=300,
        many=6000,
    ),
    Attack(
        "D1",
        "socket-options",
        "SO_BINDTODEVICE, IP_PKTINFO, IP_UNICAST_IF, foreign sources, source routes, UDP-Lite, GSO, fast open",
        tries("programs", net_raw=False, least=300),
        harms("programs", net_raw=False, groups=20, count=1),
        tries=1000,
        many=1000,
    ),
    Attack(
        "D2",
        "marks",
        "SO_MARK with every bit, all but one, all, and by chance, and options that need CAP_NET_RAW (T7)",
        tries("marks", "programs", net_raw=True, least=800),
        harms("marks", "programs", net_raw=True, groups=24, count=64),
        tries=1000,
        many=1000,
    ),
    Attack(
        "D3",
        "frames",
        "packet sockets: frames of every type, lying about it, tagged, marked and stamped, past the queue",
        tries("frames", net_raw=True, least=4000),
        harms("frames", net_raw=True, groups=40, count=400),
        tries=300,
        many=6000,
    ),
    Attack(
        "D3",
        "af-xdp",
        "AF_XDP: frames from a program with CAP_NET_RAW straight to the driver, past every hook",
        tries("xdp", net_raw=True, least=10),
        harms("xdp", net_raw=True, groups=1, count=32),
        tries=64,
        many=3000,
    ),
)

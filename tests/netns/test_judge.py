# SPDX-License-Identifier: GPL-3.0-or-later
"""The judge is judged: a frame that misses a rule by a little is in clear, for the dissector and for the kernel."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.capture import write_pcapng
from tests.lab.frames import Frame, Kind, dissect, read_pcapng
from tests.lab.host import Host, new_world_dir
from tests.lab.identity import Trace
from tests.lab.made import IKE4, IKE6, NEAR_MISSES, PROPER, TELLING, Made
from tests.lab.process import wait_for
from tests.lab.record import Recorder, Recording
from tests.lab.senders import new_token

pytestmark = pytest.mark.root

LINK = "far0"
_SEND = """
import socket, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
sock.bind(("near0", 0))
for line in sys.stdin:
    sock.send(bytes.fromhex(line))
    print("sent", flush=True)
"""


@pytest.fixture(scope="module")
def ends() -> Iterator[tuple[Host, Host]]:
    """Two machines and a cable on which nobody speaks by himself."""
    directory = new_world_dir()
    with Host.boot("near", directory) as near, Host.boot("far", directory) as far:
        for host in (near, far):
            host.sysctl(ipv6__conf__all__disable_ipv6=1, ipv6__conf__default__disable_ipv6=1)
        near.ip(f"link add near0 type veth peer name {LINK} netns {far.holder.pid}")
        near.ip("link set near0 up")
        far.ip(f"link set {LINK} up")
        yield near, far


def _judged(ends: tuple[Host, Host], frames: tuple[Made, ...]) -> list[tuple[str, Kind, Kind]]:
    """What dissector and nft take each frame for, which is sent alone."""
    near, far = ends
    counted: list[Kind] = []
    with Recorder.start(far, (LINK,), ike=(IKE4, IKE6)) as recorder:
        command = [*near.prefix(), sys.executable, "-I", "-c", _SEND]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as sender:
            assert sender.stdin is not None
            assert sender.stdout is not None
            before: Counter[Kind] = Counter()
            for frame in frames:
                print(frame.data.hex(), file=sender.stdin, flush=True)
                assert sender.stdout.readline() == "sent\n"
                after = _next(recorder, before)
                counted += (after - before).elements()
                before = after
            sender.stdin.close()
        recorder.stop()
    dissected = dissect(recorder.path, token=new_token(), ike=(IKE4, IKE6))
    return [(frame.name, seen.kind, kind) for frame, seen, kind in zip(frames, dissected, counted, strict=True)]


def _next(recorder: Recorder, before: Counter[Kind]) -> Counter[Kind]:
    """The counters when they have counted one frame more."""
    wait_for("the frame", lambda: recorder.counters()[LINK].total() > before.total())
    return recorder.counters()[LINK]


def test_proper_frames_are_known(ends: tuple[Host, Host]) -> None:
    """Every class has its frame, and both judges know it."""
    assert _judged(ends, PROPER) == [(frame.name, frame.kind, frame.kind) for frame in PROPER]
    assert {frame.kind for frame in PROPER} == set(Kind) - {Kind.CLEAR}


def test_near_misses_are_in_clear(ends: tuple[Host, Host]) -> None:
    """Wrong port, length, type or address; a fragment, an option, an extension header, something behind the end."""
    judged = _judged(ends, NEAR_MISSES)

    assert [miss for miss in judged if miss[1:] != (Kind.CLEAR, Kind.CLEAR)] == []
    assert len({frame.data for frame in NEAR_MISSES} - {frame.data for frame in PROPER}) == len(NEAR_MISSES) > 100


def test_ike_is_in_clear_where_there_is_none(ends: tuple[Host, Host]) -> None:
    """A recorder that was told of no IPsec gateway knows neither IKE nor ESP; the two judges agree on the sums, too."""
    near, far = ends
    frames = [frame for frame in PROPER if frame.kind in {Kind.IKE, Kind.UDP_ESP, Kind.ESP}]
    with Recorder.start(far, (LINK,)) as recorder:
        lines = "".join(f"{frame.data.hex()}\n" for frame in frames)
        near.run(sys.executable, "-I", "-c", _SEND, stdin=lines)
        wait_for("all of them", lambda: recorder.count(Kind.CLEAR) == len(frames))

    assert recorder.recording(new_token()).counts() == {Kind.CLEAR: len(frames)}


def test_prefilter_leaves_out_only_what_is_frequent(ends: tuple[Host, Host]) -> None:
    """A capture for floods lacks the tunnels' data and ARP; of near misses it lacks none."""
    near, far = ends
    frames = (*PROPER, *NEAR_MISSES)
    with Recorder.start(far, (LINK,), prefilter=True, ike=(IKE4, IKE6)) as recorder:
        lines = "".join(f"{frame.data.hex()}\n" for frame in frames)
        near.run(sys.executable, "-I", "-c", _SEND, stdin=lines)
        wait_for("all of them", lambda: recorder.counters()[LINK].total() == len(frames))
        recorder.stop()
    captured = Counter(data for _, _, data in read_pcapng(recorder.path))
    left_out = [frame for frame in frames if not captured[frame.data]]

    assert {frame.kind for frame in left_out} == {Kind.ARP, Kind.TUNNEL, Kind.UDP_ESP}
    assert captured.total() == len(frames) - len(left_out)
    assert "NAT keepalive" not in {frame.name for frame in left_out}


def test_what_frames_tell(tmp_path: Path) -> None:
    """By what a network can know the machine again is seen in frames that may leave; an inner address never may."""
    capture = tmp_path / "frames.pcapng"
    write_pcapng(capture, "wlan0", tuple(frame.data for frame, _ in TELLING))
    seen = dissect(capture, token=new_token())
    recording = Recording(seen, {}, {}, 0, frozenset())

    assert [(frame.kind, set(frame.tells)) for frame in seen] == [
        (frame.kind, {told} if told is not None else set()) for frame, told in TELLING
    ]
    assert recording.identity() == Counter(told for _, told in TELLING if told is not None)
    assert [frame.number for frame in recording.clear()] == [
        number for number, (_, told) in enumerate(TELLING, 1) if told is Trace.INSIDE
    ]


def test_complaint_names_the_socket() -> None:
    """What a failing test says of a frame: what it is, on which link, and by which kind of socket it was sent."""
    frames = tuple(
        Frame(0.0, "wlan0", Kind.CLEAR, "ip:udp to 203.0.113.80 port 40000", 60, sender, has_token, number)
        for number, (sender, has_token) in enumerate([(0, True), (0, True), (36, True), (None, True), (None, False)], 1)
    )

    assert Recording(frames, {}, {}, 0, frozenset()).describe().split("; ") == [
        f"{count} × ip:udp to 203.0.113.80 port 40000 (wlan0), sent by {whom}"
        for count, whom in (
            (2, "udp4"),
            (1, "packet4 with CAP_NET_RAW"),
            (1, "a program of the test"),
            (1, "the kernel, or who bears no token"),
        )
    ]

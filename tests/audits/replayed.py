# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames that programs play (D3, B4): netsniff-ng's trafgen by a program of the laptop with CAP_NET_RAW, and tcpreplay,
which plays a recorded session of the tunnel and the DHCP exchange before it, to the laptop and from it.
"""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tests.audits.attack import Attack, Harmless, Phase
from tests.audits.attacker import PORT, victim
from tests.audits.scene import LINK, Scene
from tests.audits.tools import Tool, neighbour, use
from tests.lab import plan
from tests.lab.frames import Kind
from tests.lab.process import LabError, stop, wait_for
from tests.lab.senders import new_token

_FRAMES: Final = 200
_TRAFGEN: Final = (
    "timeout --signal=INT --kill-after=2 5"
    f" trafgen --dev {LINK} --conf /run/trafgen.cfg --num {_FRAMES} --cpus 1 --no-sock-mem --notouch-irq"
)
_TCPREPLAY: Final = f"timeout --signal=INT --kill-after=2 3 tcpreplay --intf1={LINK} --pps=200 --quiet /run/played.pcap"
"""It tries a frame that is dropped again and again (ENOBUFS), so it is stopped."""
_PLAYED: Final = Tool(f"tcpreplay --intf1={PORT} --pps=500 --quiet /run/played.pcap", least=3)
_LONG_S: Final = 20


def _by_raw_user(scene: Scene, line: str, *statuses: int) -> None:
    """A program of the laptop with CAP_NET_RAW and nothing else, to its end. LabError when it refuses."""
    log = f"raw-{time.monotonic_ns()}"
    in_tmp = ("sh", "-c", f"cd /tmp && exec {line}")  # trafgen makes a file where it is
    program = scene.host.spawn(*in_tmp, chroot=True, uid=plan.RAW_USER, net_raw=True, log=log)
    try:
        status = program.wait(_LONG_S)
    except subprocess.TimeoutExpired as error:
        stop(program)
        raise LabError(f"{line!r} did not end in {_LONG_S} s") from error
    if status not in {0, *statuses}:
        raise LabError(f"{line!r} ended with {status}: {(scene.host.dir / f'{log}.log').read_text()[-600:]}")


# -- trafgen (D3) ------------------------------------------------------------------------------------------------------
def _config(scene: Scene, token: bytes) -> str:
    """Frames of both families, tagged, and of types of their own, as trafgen's language writes them."""
    at = victim(scene)
    payload = ", ".join(f"0x{byte:02x}" for byte in (*token, 0xFF))
    head = f"eth(da={plan.HOME.mac}, sa={at.mac})"
    to6 = f"ipv6(sa={at.ip6 or at.local6}, da={plan.WEB6})"
    return "\n".join(
        f"{{ {frame}, {payload}, fill(0x41, 40) }}"
        for frame in (
            f"{head}, ipv4(sa={at.ip4}, da={plan.WEB4}), udp(sp=40000, dp=443)",
            f"{head}, ipv4(sa={at.ip4}, da={plan.WEB4}), tcp(sp=40000, dp=443, syn)",
            f"{head}, ipv4(sa={at.ip4}, da={plan.GATEWAY4}), udp(sp=40000, dp={plan.GATEWAY_PORT})",
            f"{head}, ipv4(sa=drnd(), da={plan.WEB4}), icmp4(echorequest)",
            f"{head}, {to6}, udp(sp=40000, dp=443)",
            f"{head}, {to6}, icmp6(echorequest)",
            f"{head}, vlan(id=5), ipv4(sa={at.ip4}, da={plan.WEB4}), udp(sp=40000, dp=443)",
            f"eth(da=ff:ff:ff:ff:ff:ff, sa={at.mac}, type=0x88b5)",
        )
    )


def _generate(scene: Scene, tries: int) -> None:
    """Two hundred frames a try; in a window they are sent when it has just been closed."""
    token = scene.watch.senders.token if scene.watch is not None else new_token()
    (scene.host.dir / "run" / "trafgen.cfg").write_text(_config(scene, token), encoding="utf-8")
    if scene.phase is Phase.ACCESS:
        scene.laptop.lab.ctl("allow-temp", "--cancel")
    with scene.laptop.world.record() as recorder:
        for _ in range(tries):
            _by_raw_user(scene, _TRAFGEN, 124, -signal.SIGKILL)
        assert recorder.count(Kind.CLEAR) == 0, "trafgen's frames get out"


def _generated(scene: Scene) -> None:
    try:
        _generate(scene, 1)
    except AssertionError:
        return
    raise Harmless("nothing of what trafgen sends is seen")


# -- tcpreplay (B4, D3) ------------------------------------------------------------------------------------------------
def _record(scene: Scene, *, sent: bool) -> Path:
    """A lease asked for, a handshake and a minute's worth of talk, as the far side of the link sees it: what the laptop
    ``sent``, or what it got. A ping is in it, which an unprotected laptop answers when it comes again.
    """
    lab, world = scene.laptop.lab, scene.laptop.world
    path = world.air.dir / f"session-{time.monotonic_ns()}.pcap"
    way = "in" if sent else "out"  # as the air's end of the cable sees it
    dump = world.air.spawn("tcpdump", "-U", "-i", LINK, "-Q", way, "-w", str(path), "-Z", "root", log="tcpdump")
    wait_for("tcpdump", path.exists)
    lab.renew(LINK)
    if scene.watch is not None:
        wait_for("the tunnel to work", scene.laptop.works, poll_s=0.05, deadline_s=30)
    scene.attacker.run("ping", "-c3", "-i0.2", "-W1", victim(scene).ip4, check=False)
    size = path.stat().st_size
    scene.everybody_tries()
    wait_for("frames", lambda: path.stat().st_size > max(size, 600))
    stop(dump)
    return path


def _play_to_it(scene: Scene, tries: int) -> None:
    """A neighbour sends the laptop again what it got before."""
    session = _record(scene, sent=False)
    with neighbour(scene) as host:
        shutil.copy(session, host.dir / "run" / "played.pcap")
        for _ in range(tries):
            use(scene, host, _PLAYED)
            scene.everybody_tries()


def _answers_again(scene: Scene) -> None:
    session = _record(scene, sent=False)
    with neighbour(scene) as host, scene.laptop.world.record() as recorder:
        shutil.copy(session, host.dir / "run" / "played.pcap")
        use(scene, host, _PLAYED)
        if recorder.count(Kind.CLEAR) == 0:
            raise Harmless("an unprotected laptop answers nothing that is played again")


def _play_from_it(scene: Scene, tries: int) -> None:
    """A program of the laptop sends the tunnel's packets of before once more: none of them is seen again."""
    session = _record(scene, sent=True)
    head, frames = session.read_bytes()[:24], _frames(session)
    port = plan.GATEWAY_PORT.to_bytes(2, "big")
    tunnel = [frame for frame in frames if frame[28:30] == b"\x08\x00" and frame[39] == 17 and frame[52:54] == port]
    if scene.watch is not None:
        assert tunnel, "no packet of the tunnel was recorded"
        frames = tunnel
    (scene.host.dir / "run" / "played.pcap").write_bytes(head + b"".join(frames))
    with scene.laptop.world.record() as recorder:
        for _ in range(tries):
            _by_raw_user(scene, _TCPREPLAY, 124)
        clear = recorder.count(Kind.CLEAR)
        recorder.stop()
        data = recorder.path.read_bytes()
    assert clear == 0, "what is played again gets out"
    assert not any(frame[16:] in data for frame in tunnel), "a packet of the tunnel was seen a second time"


def _frames(path: Path) -> list[bytes]:
    """The frames of a pcap file of this machine's byte order, each with its header of 16 bytes."""
    data, at, found = path.read_bytes(), 24, []
    while at + 16 <= len(data):
        length = int.from_bytes(data[at + 8 : at + 12], sys.byteorder)
        found.append(data[at : at + 16 + length])
        at += 16 + length
    return found


def _played_again(scene: Scene) -> None:
    try:
        _play_from_it(scene, 1)
    except AssertionError:
        return
    raise Harmless("nothing of what tcpreplay sends is seen")


ATTACKS: Final = (
    Attack(
        "D3",
        "trafgen",
        "netsniff-ng's trafgen: frames of both families, tagged, and of types of their own, with CAP_NET_RAW",
        _generate,
        _generated,
        tries=1,
        many=10,
        brief=(),
    ),
    Attack(
        "B4",
        "tcpreplay",
        "tcpreplay: a neighbour plays a lease and a session of the tunnel to the laptop again",
        _play_to_it,
        _answers_again,
        tries=1,
        many=10,
        phases=(Phase.CONNECTED,),  # the router's frames come from somewhere else: as A9, that is no time of service
        brief=(),
    ),
    Attack(
        "D3",
        "tcpreplay",
        "tcpreplay: a program with CAP_NET_RAW plays the laptop's own packets of the tunnel again",
        _play_from_it,
        _played_again,
        tries=1,
        many=10,
        service=0.95,
        phases=(Phase.CONNECTED,),
        brief=(),
    ),
)

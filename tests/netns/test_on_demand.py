# SPDX-License-Identifier: GPL-3.0-or-later
"""A tunnel on demand rests while nobody sends: nothing of it goes to its gateway, and nothing else leaves either.

Of both kinds. Who is at rest is looked at from outside: what the recorder counts, while time passes and the laptop
roams, and what it counts when one packet wakes it.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from aovpnd import names
from tests.lab import plan
from tests.lab.frames import CARRIED, SHAKEN
from tests.lab.ike import Way
from tests.lab.process import SLOW, wait_for
from tests.lab.record import Recorder
from tests.lab.sender_kinds import BY_NAME
from tests.netns.protected import JUDGED, PACKET, WAY, Protected

pytestmark = pytest.mark.root

OF_THE_TUNNEL: Final = (*SHAKEN, *CARRIED)
"""All that goes to a gateway."""
LINK: Final = f"{names.LINK_PREFIX}0"
REST_S: Final = 5
QUIET_S: Final = 23.0
"""Longer than DPD (2 s here), than what keeps a NAT's mapping (20 s), than WireGuard's keepalive (10 s) and what it
repeats of a handshake (5 s)."""
BESIDE: Final = (*PACKET, *(BY_NAME[name] for name in ("bound4", "bound6", "mdns4", "mdns6")))
"""Senders whose packets go to the uplink, and never into the tunnel."""
WAYS: Final = {"wireguard": None, "ike": Way.PSK}


@pytest.fixture(scope="module", params=WAYS if WAY is None else ["ike"])
def laptop(request: pytest.FixtureRequest) -> Iterator[Protected]:
    """A laptop whose only tunnel is on demand."""
    with Protected.build(links=("wlan0",), way=WAYS[request.param], start=False) as built:
        built.lab.write_config(f'[tunnel]\non_demand = "tunnel"\nrest_after = "{REST_S}s"\n')
        built.world.cafe.host.nft(f"add element inet cafe allowed {{ {plan.LAPTOP_MAC['wlan0']} }}")
        built.lab.start_daemon()
        yield built


@pytest.fixture(autouse=True)
def resting(laptop: Protected) -> None:
    """Each test begins at home, at rest; before the first rest it was connected."""
    if laptop.lab.status()["phase"] == "offline":
        laptop.connect()
    rests(laptop)


def rests(laptop: Protected) -> None:
    """Wait for its rest."""
    laptop.lab.wait_phase("resting", deadline_s=60)


def passes(seconds: float) -> None:
    """Let time pass."""
    until = time.monotonic() + seconds
    wait_for("time to pass", lambda: time.monotonic() >= until, deadline_s=seconds + 5, poll_s=0.2)


def recorded(laptop: Protected) -> Recorder:
    """A recorder that tells the tunnel's own packets from others."""
    return laptop.world.record(ike=plan.IKE_GATEWAYS if laptop.way is not None else ())


def spent(laptop: Protected) -> float:
    """Seconds of a processor that the daemon has used."""
    fields = Path(f"/proc/{laptop.daemon_pid()}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")  # utime, stime: proc(5)


def servers(laptop: Protected) -> list[str]:
    """The name servers that programs ask."""
    lines = laptop.lab.host.out("cat", names.RESOLV_CONF).splitlines()
    return [line for line in lines if line.startswith("nameserver")]


def pings(laptop: Protected, count: int, every_s: float) -> float | None:
    """Send one packet after the other through the tunnel; seconds until the first answer."""
    began = time.time()
    told = laptop.lab.host.run(
        *("ping", "-D", "-n", "-W", str(int(5 * SLOW)), "-c", str(count), "-i", str(every_s), str(plan.WEB4)),
        check=False,
        timeout_s=30 + 20 * SLOW,
    ).stdout
    answers = [float(line[1:].partition("]")[0]) for line in told.splitlines() if "bytes from" in line]
    return min(answers) - began if answers else None


def test_nothing_is_sent_at_rest_and_one_packet_wakes_it(laptop: Protected) -> None:
    """For longer than any interval of its own nothing goes to the gateway; status says that it rests, and names no
    problem. A packet brings the tunnel back, and it rests again when nobody sends.
    """
    before = servers(laptop)
    with recorded(laptop) as recorder:
        before_s, seen = spent(laptop), time.monotonic()
        passes(QUIET_S)
        quiet = recorder.count(*OF_THE_TUNNEL)
        used = (spent(laptop) - before_s) / (time.monotonic() - seen)
        status = laptop.lab.status()
        after_s = pings(laptop, int(60 * SLOW), 0.1)
        woken = recorder.count(*OF_THE_TUNNEL)
    print(f"at rest for {QUIET_S:.0f} s: {quiet} packets, {used:.2%} of a processor")
    print(f"first answer {after_s or -1:.3f} s after the first packet")
    (tunnel,) = status["tunnels"]

    assert quiet == 0
    assert (status["phase"], tunnel["state"], status["protected"]) == ("resting", "resting", True)
    assert status["problems"] == []
    assert servers(laptop) == before != []
    assert woken > 0  # the recorder sees what there is
    assert after_s is not None
    assert after_s < 3 * SLOW
    assert laptop.lab.status()["phase"] == "connected"
    rests(laptop)


def test_a_program_is_served(laptop: Protected) -> None:
    """A connection that is begun while the tunnel rests is made, with the program's own patience."""
    began = time.monotonic()
    shown = laptop.lab.curl(f"http://{plan.WEB4}/ip", timeout_s=10).stdout.strip()
    print(f"a page, begun at rest: {time.monotonic() - began:.2f} s")

    assert shown == str(plan.GATEWAY4)


def test_one_single_packet(laptop: Protected) -> None:
    """WireGuard keeps the packet that wakes it, until it has shaken hands. What wakes one of IKE is kept where the
    kernel has a queue for that.
    """
    keeps = laptop.way is None or " plug " in laptop.lab.host.out("tc", "qdisc", "show", "dev", LINK)
    after_s = pings(laptop, 1, 1)
    print(f"one single packet: {'lost' if after_s is None else f'answered after {after_s:.3f} s'} (kept: {keeps})")

    if keeps:
        assert after_s is not None
        wait_for(
            "the queue to be gone",
            lambda: " plug " not in laptop.lab.host.out("tc", "qdisc", "show", "dev", LINK),
            deadline_s=5,
        )
    laptop.lab.wait_phase("connected", deadline_s=10)


def test_roaming_at_rest_sends_nothing(laptop: Protected) -> None:
    """Home, café, home: nothing goes to the gateway, and the first packet there is served."""
    with recorded(laptop) as recorder:
        for site in ("cafe", "home"):
            laptop.world.roam(site)
            rests(laptop)
            passes(6)
        quiet = recorder.count(*OF_THE_TUNNEL)
        assert laptop.lab.status()["phase"] == "resting"
        after_s = pings(laptop, int(60 * SLOW), 0.1)
        woken = recorder.count(*OF_THE_TUNNEL)
    print(f"two roams at rest: {quiet} packets; first answer {after_s or -1:.3f} s after the first packet")

    assert quiet == 0
    assert woken > 0
    assert after_s is not None
    assert after_s < 3 * SLOW


def test_killed_at_rest(laptop: Protected) -> None:
    """SIGKILL to the daemon at rest: nothing leaks, nothing goes to the gateway, the next daemon rests as well, names
    are asked of the same servers, and a packet wakes it.
    """
    before, pid = servers(laptop), laptop.daemon_pid()
    with laptop.nothing_leaves(BESIDE) as watch:
        laptop.lab.kill_daemon()
        watch.until("another daemon", lambda: laptop.daemon_pid() not in {None, pid} and laptop.protected())
        rests(laptop)
        passes(6)
        assert laptop.lab.status()["phase"] == "resting"
    counts = watch.recording.counts()

    assert sum(counts[kind] for kind in OF_THE_TUNNEL) == 0
    assert servers(laptop) == before != []
    assert pings(laptop, int(60 * SLOW), 0.1) is not None
    rests(laptop)


def test_asked_end_begins_connected(laptop: Protected) -> None:
    """A daemon that was stopped as it should be is followed by one that connects first: so an upgrade is proved."""
    laptop.lab.stop_daemon()
    laptop.lab.start_daemon()
    laptop.lab.wait_phase("connected", deadline_s=20)
    rests(laptop)


def test_everybody_sends(laptop: Protected) -> None:
    """Senders of every kind begin while it rests: it wakes for those it may carry, and of none anything leaves in
    clear.
    """
    with laptop.nothing_leaves(JUDGED) as watch:
        watch.until("the tunnel to work", laptop.works)
    rests(laptop)


def test_connect_wakes_it(laptop: Protected) -> None:
    """Who asks for the tunnel has it at once."""
    laptop.lab.ctl("connect")
    laptop.lab.wait_phase("connected", deadline_s=10)
    rests(laptop)


def test_waiting_for_it_ends(laptop: Protected) -> None:
    """What waits for the tunnel at boot may start while it rests: what it sends wakes it."""
    assert laptop.lab.ctl("wait", "--connected", "--timeout", "5s").returncode == 0
    assert laptop.lab.status()["phase"] == "resting"

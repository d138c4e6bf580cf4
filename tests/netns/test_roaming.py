# SPDX-License-Identifier: GPL-3.0-or-later
"""From network to network: what goes on, what is closed, and that nothing leaves meanwhile.

Times are printed and not judged here, but for the deadlines of what is waited for: the figures are the benchmark's.
"""

import errno
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aovpnd import names
from tests.lab import plan
from tests.lab.call import arrivals, gap
from tests.lab.frames import CARRIED, Kind
from tests.lab.process import stop, wait_for
from tests.lab.senders import Flood, new_token
from tests.netns import many_sockets
from tests.netns.protected import ORDINARY, Protected, counted

pytestmark = pytest.mark.root

TOLD = frozenset({errno.ECONNABORTED, errno.EPIPE, errno.EDESTADDRREQ})
"""What a program reads from a connection that was closed under it: once ECONNABORTED, and then that there is none."""
CLOSED = frozenset({"tcp4", "tcp6", "connected4"})
"""The kinds of `many_sockets` that have a connection."""


@pytest.fixture(scope="module")
def laptop() -> Iterator[Protected]:
    """One world for this file; connected at home when a test begins."""
    with Protected.build(links=("wlan0", "eth0", "usb0")) as built:
        yield built


def direct_sockets(laptop: Protected, address: str) -> int:
    """How many connections hang on an address of a direct path."""
    words = ("-Htun", "state", "connected", "exclude", "time-wait", "src", address)
    return len(laptop.lab.host.out("ss", *words).splitlines())


def said(what: str, seconds: float) -> None:
    """A figure for whoever reads the log."""
    print(f"{what}: {seconds * 1000:.0f} ms")


# -- old sockets -------------------------------------------------------------------------------------------------------
def test_old_sockets_go_with_the_window(laptop: Protected) -> None:
    """Two hundred sockets that were opened in a window: those with a connection are told at once when it closes."""
    laptop.world.roam("home", ipv6=True)
    laptop.lab.ctl("disconnect")
    laptop.lab.ctl("allow-temp", "60s")
    token = new_token()
    report = laptop.lab.host.dir / f"many-{secrets.token_hex(4)}"
    report.touch()
    report.chmod(0o666)
    here = laptop.lab.address("wlan0")
    with laptop.world.record() as recorder:
        command = (sys.executable, "-m", "tests.netns.many_sockets", token.hex(), str(report))
        many = laptop.lab.host.spawn(*command, uid=plan.USER, log="many", stdout=subprocess.PIPE)
        assert many.stdout is not None
        assert many.stdout.readline() == b"ready\n", (laptop.lab.host.dir / "many.log").read_text()
        assert direct_sockets(laptop, here) >= 2 * many_sockets.EACH
        began = time.time()
        laptop.lab.ctl("allow-temp", "--cancel")
        end = time.time()
        wait_for("the old connections to be gone", lambda: not direct_sockets(laptop, here))
        said("old connections gone", time.time() - began)
        wait_for("everybody to notice", lambda: _told(report) >= _with_a_connection(), deadline_s=10)
        stop(many)
        many.stdout.close()
    recording = recorder.recording(token)

    assert recording.by_sender(end=began), "the control: they were seen while the window was open"
    late = recording.clear(start=end)
    assert not late, recording.describe(late)
    laptop.lab.ctl("connect")
    laptop.lab.wait_phase("connected")


def _told(report: Path) -> set[int]:
    data = report.read_bytes()
    size = many_sockets.RECORD.size
    tries = many_sockets.RECORD.iter_unpack(data[: len(data) // size * size])
    return {index for _at, index, status in tries if status in TOLD}


def _with_a_connection() -> set[int]:
    kinds = [name for name, _ in many_sockets.KINDS for _ in range(many_sockets.EACH)]
    return {index for index, name in enumerate(kinds) if name in CLOSED}


# -- from network to network -------------------------------------------------------------------------------------------
@contextmanager
def talking(laptop: Protected) -> Iterator[Path]:
    """A call through the tunnel until the block is left; yields its report."""
    report = laptop.lab.host.dir / f"call-{secrets.token_hex(4)}"
    report.touch()
    report.chmod(0o666)
    call = laptop.lab.host.spawn(
        sys.executable, "-m", "tests.lab.call", str(plan.ECHO4), str(report), uid=plan.USER, log="call"
    )
    try:
        wait_for("the call", lambda: len(arrivals(report)) > 10)
        yield report
    finally:
        stop(call)


@contextmanager
def downloading(laptop: Protected) -> Iterator[subprocess.Popen[bytes]]:
    """A download through the tunnel that takes as long as the block does; it must not have stood still, nor have ended
    but with its address: a gateway of IKE may give another one with a new SA.
    """
    host = laptop.lab.host
    target = host.dir / f"download-{secrets.token_hex(4)}"
    target.touch()
    target.chmod(0o666)
    url = f"http://{plan.WEB4}/paced?bytes=1000000000&rate=200000"
    before = laptop.lab.address(f"{names.LINK_PREFIX}0")
    addresses = host.spawn("ip", "monitor", "address", log=f"{target.name}-addresses")
    curl = host.spawn("curl", "-sS", "-o", str(target), url, uid=plan.USER, log="download")

    def lost_its_address() -> bool:
        told = (host.dir / f"{target.name}-addresses.log").read_text(encoding="utf-8").splitlines()
        return laptop.way is not None and any(" inet " + before in line for line in told if "Deleted" in line)

    try:
        wait_for("the download", lambda: target.stat().st_size > 0)
        yield curl
        size = target.stat().st_size
        wait_for(
            "the download to go on", lambda: target.stat().st_size > size or curl.poll() is not None, deadline_s=15
        )
        complaint = (host.dir / "download.log").read_text(encoding="utf-8")[-200:]
        assert curl.poll() is None or lost_its_address(), f"the download has ended: {complaint}"
    finally:
        stop(curl)
        stop(addresses)


def heard(report: Path, since: float) -> bool:
    """Whether the call has been heard for half a second without a longer silence."""
    now = time.time()
    return now - since > 0.5 and gap(report, now - 0.5, now) < 0.2


def test_dock_and_tether(laptop: Protected) -> None:
    """Wi-Fi, a dock beside it, the dock pulled, a telephone by USB, Wi-Fi gone, the telephone gone: call and download
    go on, by the best uplink each time, and nothing leaves in clear.
    """
    world = laptop.world
    laptop.connect(ipv6=True)
    mac = laptop.lab.host.path("/sys/class/net/usb0/address").read_text(encoding="ascii").strip()
    world.cafe.host.nft(f"add element inet cafe allowed {{ {mac} }}")
    steps: tuple[tuple[str, Callable[[], object]], ...] = (
        ("dock plugged in", lambda: world.plug("home")),
        ("dock's carrier lost, its routes still there", lambda: world.detach("eth0")),
        ("telephone plugged in", lambda: world.plug("cafe", link="usb0")),
        ("Wi-Fi gone", lambda: world.unplug("wlan0")),
        ("Wi-Fi back", lambda: world.roam("home")),
        ("telephone pulled", lambda: world.unplug("usb0")),
        ("carrier lost and back", lambda: world.flap("wlan0")),
    )
    with laptop.nothing_leaves() as watch, talking(laptop) as call, downloading(laptop):
        for what, step in steps:
            began = time.time()
            step()
            done = time.time()
            wait_for("the call to be heard", lambda done=done: heard(call, done), deadline_s=15)  # type: ignore[misc]
            wait_for("the tunnel", lambda: laptop.lab.status()["phase"] == "connected", deadline_s=15)
            said(f"{what}: longest silence of the call", gap(call, began, time.time()))
    world.unplug("eth0")

    assert counted(watch.recording, *CARRIED)


def test_point_to_point_uplink(laptop: Protected) -> None:
    """An uplink as PPP and mobile modems are: an address of its own, a far end, a default route by the link alone."""
    world, host = laptop.world, laptop.lab.host
    world.unplug("wlan0")
    router = world.home.host
    router.sysctl(ipv4__conf__lan0__proxy_arp=1)
    router.ip("route replace 100.64.7.9/32 dev lan0")
    try:
        with laptop.nothing_leaves(ORDINARY, link="usb0") as watch:
            world.attach("usb0", "home")
            host.ip("link set usb0 up")
            host.ip("addr add 100.64.7.9 peer 100.64.7.1 dev usb0")
            began = time.time()
            host.ip("route add default dev usb0 metric 700")
            watch.until("the tunnel to work", laptop.works)
            said("tunnel by a point-to-point link", time.time() - began)
            (uplink,) = laptop.lab.status()["uplinks"]
            assert uplink["link"] == "usb0"
            host.ip("addr del 100.64.7.9 peer 100.64.7.1 dev usb0")
            watch.until("no uplink", lambda: laptop.lab.status()["phase"] == "offline")
    finally:
        world.unplug("usb0")
        router.ip("route del 100.64.7.9/32 dev lan0")
        router.sysctl(ipv4__conf__lan0__proxy_arp=0)
    assert counted(watch.recording, *CARRIED)


def test_fight_over_rules_and_routes(laptop: Protected) -> None:
    """Somebody removes our rules and routes a hundred times a second: nothing leaves, they come back, no core is taken,
    status says what goes on, and when it is over everything works again.
    """
    laptop.connect(ipv6=True)
    script = (
        "while :; do for f in -4 -6; do ip $f rule del priority 10; ip $f rule del priority 11;"
        f" ip $f route flush table {names.ROUTE_TABLE}; done; sleep 0.01; done"
    )
    with laptop.nothing_leaves() as watch:
        pid = laptop.daemon_pid()
        assert pid is not None
        vandal = laptop.lab.host.spawn("sh", "-c", script, log="vandal")
        try:
            began, spent = time.time(), cpu_s(pid)
            wait_for("status to tell", lambda: "fight" in laptop.problems(), deadline_s=30)
            watch.everybody_tries()
            share = (cpu_s(pid) - spent) / (time.time() - began)
        finally:
            stop(vandal)
        watch.until("the tunnel to work", laptop.works)
    print(f"the daemon's share of a core in a fight: {share:.0%}")
    assert laptop.daemon_pid() == pid


def cpu_s(pid: int) -> float:
    """Seconds that the threads of a process were on a processor (nanoseconds in schedstat)."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text(encoding="ascii").split()[0]) for task in tasks) / 1e9


def test_roam_under_flood(laptop: Protected) -> None:
    """Everybody sends as fast as it goes while the laptop moves, there and back: nothing in clear.

    In the flood the tunnel's queue is full of it, so a page need not load; packets of the tunnel are enough.
    """
    laptop.world.cafe.host.nft(f"add element inet cafe allowed {{ {plan.LAPTOP_MAC['wlan0']} }}")  # past the portal
    laptop.connect(ipv6=True)
    with laptop.world.record(prefilter=True) as recorder:
        with Flood.start(laptop.lab):
            for site in ("cafe", "home"):
                laptop.world.roam(site)
                seen = recorder.count(*CARRIED)
                wait_for("the tunnel's packets", lambda: recorder.count(*CARRIED) > seen + 100, deadline_s=60)  # noqa: B023
        wait_for("the tunnel to work", laptop.works, deadline_s=30)
        assert recorder.count(Kind.CLEAR) == 0

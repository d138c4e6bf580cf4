# SPDX-License-Identifier: GPL-3.0-or-later
"""Temporary access: it opens what it says, and whatever ends it, nothing sends a moment longer.

The laptop is in a café that drops WireGuard and lets everything else through, so that a window is what gets it online.
"""

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.lab import plan
from tests.lab.frames import SHAKEN
from tests.lab.process import SLOW, stop, wait_for
from tests.lab.record import now
from tests.lab.senders import new_token
from tests.netns import many_sockets
from tests.netns.protected import JUDGED, PACKET, Protected, counted, names_of

pytestmark = pytest.mark.root

LATE_S = 0.1
"""How much later than its deadline a window may close."""
DNS = {"dns4", "dns6", "doq4", "dnstcp4", "dot4"}
OPENED = {"udp4", "udp6", "tcp4", "tcp6", "ping4", "ping6", "bound4"}


@pytest.fixture(scope="module")
def laptop() -> Iterator[Protected]:
    """One world for this file."""
    with Protected.build() as built:
        built.world.cafe.shut_udp(built.port)
        built.world.cafe.host.nft(f"add element inet cafe allowed {{ {plan.LAPTOP_MAC['wlan0']} }}")
        yield built


@pytest.fixture(autouse=True)
def in_the_cafe(laptop: Protected) -> None:
    """Each test begins in the café, without a tunnel or an old session, and with a new hour's budget."""
    laptop.lab.stop_daemon()
    for link in laptop.lab.host.links():
        if link.startswith("aovpn"):
            laptop.lab.host.ip(f"link del {link}")
    laptop.lab.host.path("/var/lib/aovpnd/temporary-access.json").unlink(missing_ok=True)
    laptop.world.cafe.shut_udp(laptop.port)
    if laptop.lab.address("wlan0").rpartition(".")[0] != plan.CAFE.lan4:
        laptop.world.roam("cafe", ipv6=True)
    laptop.lab.start_daemon()
    laptop.lab.wait_phase("connecting")


def allow(laptop: Protected, span: str, *arguments: str) -> float:
    """Ask for a window; returns its deadline (Unix time)."""
    laptop.lab.ctl("allow-temp", span, *arguments)
    return deadline(laptop)


def lasting(seconds: int) -> str:
    """The span of a window in which a machine gets done what takes it so long where it is not `SLOW`."""
    return f"{seconds * SLOW:.0f}s"


def deadline(laptop: Protected) -> float:
    """When the window closes (Unix time), from what the daemon has published."""
    published = json.loads(laptop.lab.host.path("/run/aovpnd/status.json").read_text(encoding="utf-8"))
    expires = float(published["temporary_access"]["_expires_boot"])
    return time.time() + expires - time.clock_gettime(time.CLOCK_BOOTTIME)


def past(moment: float) -> None:
    """Wait until a moment is over."""
    wait_for("the deadline", lambda: time.time() > moment, deadline_s=max(moment - time.time(), 0) + 5)


def is_closed(laptop: Protected) -> bool:
    """Whether the daemon says that no window is open."""
    status = laptop.lab.status()
    return bool(status["protected"]) and status["temporary_access"] is None


def test_opens_and_closes_by_time(laptop: Protected) -> None:
    """Ordinary programs get out from the café's address, by both families; DNS to the lease's resolvers alone; packet
    sockets not at all. The countdown runs, and at the deadline all of it ends.
    """
    with laptop.watch() as watch:
        granted = time.time()
        end = allow(laptop, lasting(6), "--reason", "portal")
        status, text = laptop.lab.status(), laptop.lab.ctl("status").stdout
        assert laptop.address_outside(4) == plan.CAFE.wan4
        assert laptop.lab.curl(f"http://{plan.WEB_NAME}/ip", "-4").stdout.strip() == plan.CAFE.wan4
        assert laptop.address_outside(6).startswith(plan.CAFE.lan6)
        past(end)
        watch.until("the window to close", lambda: is_closed(laptop))

    assert (status["phase"], status["protected"]) == ("temporary-access", False)
    access = status["temporary_access"]
    assert (access["scope"], access["reason"], access["granted_to"]) == ("machine", "portal", "root")
    assert 0 < access["remaining_s"] <= 6 * SLOW
    assert f"Internet connection left: 00:0{'' if SLOW > 1 else '0:0'}" in text
    seen = watch.seen(start=granted)
    assert seen >= OPENED
    if laptop.way is None:  # the addresses of an IKE tunnel are its gateway's to give, and so none is there before
        assert "conn4" not in seen, "what was begun in the tunnel, on its address, waits for it"
    assert not seen & (DNS | names_of(PACKET))
    assert not watch.recording.clear(end=granted)
    watch.assert_silence(start=end + LATE_S)


@pytest.mark.parametrize("ending", ["cancel", "roaming", "tunnel", "stop", "sigkill", "flap"])
def test_what_ends_it(laptop: Protected, ending: str) -> None:
    """Cancelling, another network, the tunnel's success, the end of the service, and a crash each end the window for
    good.
    """
    with laptop.watch() as watch:
        end = allow(laptop, "60s")
        watch.until("the open network", lambda: laptop.address_outside(4) == plan.CAFE.wan4)
        match ending:
            case "cancel":
                laptop.lab.ctl("allow-temp", "--cancel")
            case "roaming":
                laptop.world.detach("wlan0")
                laptop.lab.leave("wlan0")
                wait_for("the window to close", lambda: is_closed(laptop))
            case "flap":
                laptop.world.flap("wlan0")
            case "tunnel":
                laptop.world.cafe.shut_udp()
            case "stop":
                laptop.lab.stop_daemon()
            case _:
                laptop.lab.kill_daemon()
        if ending != "stop":
            wait_for("the window to close", lambda: laptop.daemon_pid() and is_closed(laptop), deadline_s=15)
        closed = now()
        watch.everybody_tries()
        if ending == "roaming":
            laptop.world.roam("home")
            watch.until("the tunnel to work", laptop.works)
    if ending == "stop":
        laptop.lab.start_daemon()

    assert closed < end
    assert watch.seen(end=closed) >= {"udp4", "tcp4"}
    watch.assert_silence(start=closed)
    assert is_closed(laptop)


def test_kernel_closes_it_when_the_daemon_is_dead(laptop: Protected) -> None:
    """The daemon is killed in the middle and nobody restarts it: the kernel's timer ends the window on time."""
    with laptop.watch() as watch:
        end = allow(laptop, "4s")
        with laptop.no_restarts():
            killed = laptop.lab.kill_daemon()
            past(end + LATE_S)
            watch.everybody_tries()
            closed = time.time()
        wait_for("the daemon", lambda: laptop.daemon_pid() and is_closed(laptop), deadline_s=15)

    assert watch.seen(start=killed + 0.1, end=end) >= {"udp4", "tcp4"}, "it should have stayed open until then"
    watch.assert_silence(start=end + LATE_S)
    assert closed > end


def test_flush_does_not_prolong_it(laptop: Protected) -> None:
    """A table that is flushed in a window comes back with what is left of the window, and no more."""
    with laptop.watch() as watch:
        end = allow(laptop, "4s")
        laptop.lab.host.run("nft", "flush", "ruleset")
        wait_for("the table", lambda: laptop.table("inet", "aovpnd"))
        again = deadline(laptop)
        past(end)
        watch.until("the window to close", lambda: is_closed(laptop))

    assert again == pytest.approx(end, abs=0.02)
    watch.assert_silence(start=end + LATE_S)


@pytest.mark.parametrize("daemon", ["alive", "killed"])
def test_two_hundred_sockets(laptop: Protected, daemon: str) -> None:
    """Sockets of six kinds that were opened in the window, with data in flight, send nothing after the deadline; also
    when the daemon is killed in the middle, and not restarted.
    """
    token = new_token()
    report = laptop.lab.host.dir / f"many-{secrets.token_hex(4)}"
    report.touch()
    report.chmod(0o666)
    with laptop.world.record() as recorder:
        end = allow(laptop, lasting(5))
        command = (sys.executable, "-m", "tests.netns.many_sockets", token.hex(), str(report))
        many = laptop.lab.host.spawn(*command, uid=plan.USER, log="many", stdout=subprocess.PIPE)
        assert many.stdout is not None
        assert many.stdout.readline() == b"ready\n", (laptop.lab.host.dir / "many.log").read_text()
        ready = time.time()
        with laptop.no_restarts() if daemon == "killed" else contextlib.nullcontext():
            if daemon == "killed":
                laptop.lab.kill_daemon()
            past(end)
            wait_for("twenty more rounds", lambda: _rounds(report, end) >= 20)
        stop(many)
        many.stdout.close()
    recording = recorder.recording(token)

    sent = {index for at, index, status in _tries(report) if status == 0 and at < end}
    tried = {index for at, index, _status in _tries(report) if at > end}
    assert ready < end
    assert (len(sent), len(tried)) == (many_sockets.SOCKETS, many_sockets.SOCKETS)
    seen = recording.by_sender(end=end)
    assert all(seen[many_sockets.FIRST + number] >= many_sockets.EACH for number in range(len(many_sockets.KINDS))), (
        seen
    )
    late = recording.clear(start=end + LATE_S)
    assert not late, recording.describe(late)
    wait_for("the daemon", lambda: laptop.daemon_pid() and is_closed(laptop), deadline_s=15)


def _tries(report: os.PathLike[str]) -> list[tuple[float, int, int]]:
    with open(report, "rb") as file:  # noqa: PTH123 - a path-like
        data = file.read()
    size = many_sockets.RECORD.size
    return list(many_sockets.RECORD.iter_unpack(data[: len(data) // size * size]))


def _rounds(report: os.PathLike[str], since: float) -> int:
    return sum(1 for at, index, _ in _tries(report) if at > since and index == 0)


def test_budget_survives_restarts(laptop: Protected) -> None:
    """Three an hour, whatever happens to the daemon in between; the fourth is refused and says when it is possible."""
    for ending in ("cancel", "stop", "sigkill"):
        allow(laptop, "60s")
        if ending == "cancel":
            laptop.lab.ctl("allow-temp", "--cancel")
        elif ending == "stop":
            laptop.lab.stop_daemon()
            laptop.lab.start_daemon()
        else:
            laptop.lab.kill_daemon()
        wait_for("the window to close", lambda: laptop.daemon_pid() and is_closed(laptop))
        laptop.lab.wait_phase("connecting")
    refused = laptop.lab.ctl("allow-temp", "10s", check=False)

    assert refused.returncode == 1
    assert "an hour" in refused.stderr
    assert is_closed(laptop)


def test_spans_are_refused_never_clamped(laptop: Protected) -> None:
    """Too much, nothing, and what is no span: nothing opens."""
    spans = {"2h": 1, "1h 1s": 1, "0s": 2, "soon": 2, "-5": 2}

    assert {span: laptop.lab.ctl("allow-temp", span, check=False).returncode for span in spans} == spans
    assert is_closed(laptop)


def test_second_request_neither_prolongs_nor_costs(laptop: Protected) -> None:
    """While a window is open, another one is refused, and the deadline stays."""
    end = allow(laptop, "30s")
    refused = laptop.lab.ctl("allow-temp", "60s", check=False)

    assert refused.returncode == 1
    assert deadline(laptop) == pytest.approx(end, abs=0.02)
    laptop.lab.ctl("allow-temp", "--cancel")


def test_refused_while_connected_and_without_a_network(laptop: Protected) -> None:
    """With the tunnel up there is nothing to open for, and without an uplink nothing to open."""
    laptop.world.roam("home")
    wait_for("the tunnel to work", laptop.works)
    connected = laptop.lab.ctl("allow-temp", "10s", check=False)
    laptop.world.unplug("wlan0")
    laptop.lab.wait_phase("offline")
    offline = laptop.lab.ctl("allow-temp", "10s", check=False)

    assert (connected.returncode, offline.returncode) == (1, 1)
    assert "tunnel is up" in connected.stderr
    assert "no network" in offline.stderr


def test_other_users_may_not(laptop: Protected) -> None:
    """An ordinary user reads the status and gets nothing opened."""
    assert laptop.lab.ctl("status", uid=plan.USER).returncode == 0
    refused = laptop.lab.ctl("allow-temp", "10s", check=False, uid=plan.USER)

    assert refused.returncode in {1, 3}
    assert is_closed(laptop)


def test_before_any_tunnel_is_configured() -> None:
    """A new machine: blocked, with a hint; a window gets it online, ends by itself, and everything is shut again."""
    with Protected.build(tunnel=False, control=False) as new:
        new.world.roam("home")
        new.lab.wait_phase("blocked")
        assert "no-tunnel" in new.problems()
        with new.watch(tuple(kind for kind in JUDGED if "6" not in kind.name)) as watch:
            watch.everybody_tries()
            granted = time.time()
            end = allow(new, "3s")
            wait_for("the open network", lambda: new.address_outside(4) == plan.HOME.wan4)
            past(end + LATE_S)
            watch.everybody_tries()
            assert new.lab.status()["phase"] == "blocked"
        assert watch.seen(start=granted) >= {"udp4", "tcp4", "ping4"}
        assert not watch.recording.clear(end=granted)
        watch.assert_silence(start=end + LATE_S)
        assert counted(watch.recording, *SHAKEN) == 0

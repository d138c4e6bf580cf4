# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is wrong with what the daemon is given, the network stays closed, and it says what is wrong and where."""

import os
import signal
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.lab import plan
from tests.lab.laptop import BIN
from tests.lab.process import stop, wait_for
from tests.netns.protected import ORDINARY, PACKET, UNROUTED, Protected, names_of

pytestmark = pytest.mark.root

_MULTICAST = {"mdns4", "mdns6"}
_REPORTS = "ff02::16"
"""Where the kernel says which groups a machine is in (RFC 3810, section 5.2.14)."""
Case = Callable[[Protected], None]


@pytest.fixture(scope="module")
def laptop() -> Iterator[Protected]:
    """One world for this file, its laptop off every network, the daemon not running."""
    with Protected.build(start=False) as built:
        yield built


@pytest.fixture(autouse=True)
def clean(laptop: Protected) -> Iterator[None]:
    """Each test begins with a good configuration, off every network, and with nothing of a daemon's left."""
    yield
    laptop.world.unplug("wlan0")
    if laptop.daemon_pid() is not None:
        laptop.lab.stop_daemon()
    laptop.lab.ctl("unblock", "--offline")
    laptop.lab.host.path("/etc/aovpnd/unblocked").unlink()
    laptop.lab.write_config("")
    laptop.lab.host.path("/etc/aovpnd/tunnels/tunnel.conf").unlink(missing_ok=True)
    laptop.lab.install_tunnel()
    for link in laptop.lab.host.links():
        if link.startswith("aovpn"):
            laptop.lab.host.ip(f"link del {link}")


def _conf(laptop: Protected, old: str, new: str) -> None:
    text = laptop.lab.tunnel_conf
    assert old in text
    laptop.lab.install_tunnel(text=text.replace(old, new))


def _toml(text: str) -> Case:
    return lambda laptop: laptop.lab.write_config(text)


def _tunnel(old: str, new: str) -> Case:
    return lambda laptop: _conf(laptop, old, new)


def _mode(mode: int) -> Case:
    return lambda laptop: laptop.lab.host.path("/etc/aovpnd/tunnels/tunnel.conf").chmod(mode)


CASES = {
    "broken TOML": (_toml("[temporary_access\nmax = 3\n"), "aovpnd.toml:1", "config-invalid"),
    "unknown key": (_toml("[lan]\nallwo = true\n"), "allwo", "config-invalid"),
    "unknown section": (_toml("[wlan]\nallow = true\n"), "wlan", "config-invalid"),
    "wrong type": (_toml('[lan]\nallow = "yes"\n'), "aovpnd.toml:2", "config-invalid"),
    "no text at all": (_toml("\x00\x01"), "aovpnd.toml", "config-invalid"),
    "key file readable by others": (_mode(0o644), "tunnel.conf", "config-invalid"),
    "key file writable by a group": (_mode(0o660), "tunnel.conf", "config-invalid"),
    "tunnel without peers": (
        lambda laptop: laptop.lab.install_tunnel(text=laptop.lab.tunnel_conf.partition("[Peer]")[0]),
        "tunnel.conf",
        "config-invalid",
    ),
    "tunnel without a key": (_tunnel("PrivateKey = ", "PrivateKey = x"), "tunnel.conf:2", "config-invalid"),
    "unknown key in the tunnel": (_tunnel("[Peer]", "Colour = red\n[Peer]"), "Colour", "config-invalid"),
    "key twice": (_tunnel("[Peer]", "PrivateKey = AAAA\n[Peer]"), "tunnel.conf", "config-invalid"),
    "endpoint that is no host": (_tunnel(str(plan.GATEWAY4), "localhost"), "tunnel.conf", "config-invalid"),
    "endpoint without a port": (_tunnel(f":{plan.GATEWAY_PORT}", ""), "tunnel.conf", "config-invalid"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_configuration(laptop: Protected, case: str) -> None:
    """The daemon runs, blocks, and status names file and place; nothing leaves, and `aovpnctl check` fails too."""
    spoil, place, code = CASES[case]
    laptop.lab.install_tunnel()
    spoil(laptop)
    with laptop.nothing_leaves(UNROUTED) as watch:
        laptop.lab.start_daemon()
        laptop.world.roam("home")
        watch.until("the uplink", lambda: laptop.lab.status()["uplinks"])
        watch.everybody_tries()
        status = laptop.lab.status()
    problems = laptop.problems()
    check = laptop.lab.ctl("check", check=False)

    assert status["protected"]
    assert place in problems[code], problems
    assert laptop.lab.tunnel_conf.split("PrivateKey = ")[1].split()[0] not in laptop.lab.daemon_log()
    assert check.returncode == 1
    assert place in check.stdout + check.stderr


def test_configuration_that_breaks_while_it_runs(laptop: Protected) -> None:
    """A file that is broken later leaves the last good configuration in force: the tunnel stays, and status says so."""
    laptop.lab.install_tunnel()
    laptop.lab.start_daemon()
    laptop.connect()
    with laptop.nothing_leaves() as watch:
        laptop.lab.write_config("[lan\n")
        laptop.lab.install_tunnel(text="rubbish\n")
        pid = laptop.daemon_pid()
        assert pid is not None
        os.kill(pid, signal.SIGHUP)
        watch.until("the report", lambda: "config-invalid" in laptop.problems())
        assert laptop.works()


def test_no_permission(laptop: Protected) -> None:
    """Without CAP_NET_ADMIN it says so and ends; it does not pretend to protect."""
    answer = laptop.lab.host.run(str(BIN / "aovpnd"), "--runtime-dir", "/tmp/none", check=False, uid=plan.USER)  # noqa: S108

    assert answer.returncode == 1
    assert "CAP_NET_ADMIN" in answer.stderr


def test_unknown_option(laptop: Protected) -> None:
    """A wrong command line is wrong usage."""
    assert laptop.lab.host.run(str(BIN / "aovpnd"), "--colour", check=False).returncode == 2


def test_kernel_without_nftables(laptop: Protected) -> None:
    """Nothing can be filtered, so routing alone is shut, for good: no tunnel, no window; status names the reason.
    Ordinary programs get nothing out; packet sockets and multicast do, the kernel's listener reports included
    (docs/known-issues.md).
    """
    laptop.lab.install_tunnel()
    command = (sys.executable, "-m", "tests.netns.without_nftables", str(BIN / "aovpnd"))
    daemon = laptop.lab.host.spawn(*command, log="without")
    wait_for("the daemon", laptop.lab.daemon_answers, deadline_s=20)
    try:
        wait_for("the routes", lambda: "unreachable" in laptop.lab.host.ip("route show table 24943"))
        laptop.world.roam("home", ipv6=True)
        quiet = tuple(kind for kind in ORDINARY if kind.name not in _MULTICAST | {"conn4"})
        with laptop.watch(quiet) as watch:
            watch.everybody_tries()
            status = laptop.lab.status()
            refused = laptop.lab.ctl("allow-temp", "10s", check=False)
            watch.everybody_tries()
    finally:
        stop(daemon)

    left = tuple(f for f in watch.recording.clear() if f.has_token or _REPORTS not in f.what)
    assert not left, watch.recording.describe(left)
    assert status["protected"] is False
    assert any("nftables" in problem["text"] for problem in status["problems"])
    assert refused.returncode == 1
    assert watch.seen() <= names_of(PACKET) | _MULTICAST


def test_state_that_cannot_be_written(laptop: Protected) -> None:
    """No window opens when its use cannot be remembered: a budget that a crash forgets is none."""
    laptop.lab.install_tunnel()
    laptop.lab.host.run("sh", "-ec", "rm -rf /var/lib/aovpnd; touch /var/lib/aovpnd")
    try:
        laptop.lab.start_daemon()
        laptop.lab.ctl("disconnect", check=False)
        laptop.world.roam("home")
        wait_for("the uplink", lambda: laptop.lab.status()["uplinks"])
        with laptop.nothing_leaves(UNROUTED) as watch:
            refused = laptop.lab.ctl("allow-temp", "10s", check=False)
            watch.everybody_tries()
    finally:
        laptop.lab.host.run("rm", "-f", "/var/lib/aovpnd")

    assert refused.returncode == 1


def test_garbage_in_the_state(laptop: Protected) -> None:
    """A budget that cannot be read counts as used up."""
    laptop.lab.install_tunnel()
    path = laptop.lab.host.path("/var/lib/aovpnd/temporary-access.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{", encoding="utf-8")
    laptop.lab.start_daemon()
    laptop.lab.ctl("disconnect")
    laptop.world.roam("home")
    wait_for("the uplink", lambda: laptop.lab.status()["uplinks"])
    refused = laptop.lab.ctl("allow-temp", "10s", check=False)
    path.unlink()

    assert refused.returncode == 1
    assert "an hour" in refused.stderr

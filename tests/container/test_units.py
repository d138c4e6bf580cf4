# SPDX-License-Identifier: GPL-3.0-or-later
"""Our units under the real systemd: whatever is done to them, nothing leaves, and they come back by themselves."""

import re
import signal
from functools import partial

import pytest

from aovpnd import names
from tests.audits.xdp import queue_state
from tests.container.booted import Booted
from tests.lab.process import wait_for

pytestmark = [pytest.mark.container, pytest.mark.root, pytest.mark.slow]

WIREGUARD_GO = names.WIREGUARD_GO_UNIT.format(link="aovpn0")
RESTARTS = 3
WATCHDOG_S = 2


def restarts(laptop: Booted, unit: str) -> int:
    """How often systemd has started a unit again by itself."""
    return int(laptop.system.show(unit, "NRestarts")["NRestarts"])


def restarted(laptop: Booted, count: int) -> bool:
    """Whether systemd has started the daemon that often."""
    return restarts(laptop, names.UNIT) >= count


def test_stop_keeps_the_block_and_start_adopts(laptop: Booted) -> None:
    """``systemctl stop`` opens nothing and takes nothing away: guard, tunnel and its session stay, and a start finds
    them.
    """
    system = laptop.system
    provoked, guard = laptop.provoked(), system.main_pid(names.GUARD_UNIT)
    with laptop.net.nothing_leaves() as watch:
        system.check("systemctl", "stop", names.UNIT)
        watch.everybody_tries()
        assert not system.active(names.UNIT)
        assert system.main_pid(names.GUARD_UNIT) == guard
        assert laptop.net.address_outside(4)
        assert system.run("aovpnctl", "status").returncode == 3
        system.check("systemctl", "start", names.UNIT)
        assert laptop.status()["phase"] == "connected", "Type=notify: ready means that the first passes are done"
        laptop.wait_works()

    assert laptop.provoked() == provoked, system.journal(names.UNIT, options=("--output=short-monotonic",))


def test_restart(laptop: Booted) -> None:
    """``systemctl restart``, of both at once as an upgrade does it, and over and over: the session goes on.

    Over and over, because systemd's SIGTERM may meet the daemon while a wg(8) of its own runs: KillMode= spares that.
    """
    assert laptop.system.show(names.UNIT, "KillMode") == {"KillMode": "mixed"}
    provoked = laptop.provoked()
    with laptop.net.nothing_leaves() as watch:
        laptop.system.check("systemctl", "restart", names.UNIT, names.GUARD_UNIT)
        laptop.until_works(watch)
        for _ in range(RESTARTS):
            laptop.system.check("systemctl", "restart", names.UNIT)
        laptop.until_works(watch)

    assert laptop.provoked() == provoked, laptop.system.journal(names.UNIT)


@pytest.mark.parametrize("units", [(names.UNIT,), (names.GUARD_UNIT,), (names.UNIT, names.GUARD_UNIT)])
def test_kill(laptop: Booted, units: tuple[str, ...]) -> None:
    """SIGKILL: systemd starts it again, and the session in the kernel or in wireguard-go is taken over."""
    system = laptop.system
    before = {unit: restarts(laptop, unit) for unit in units}
    with laptop.net.nothing_leaves() as watch:
        for unit in units:
            system.kill(unit)
        watch.until("systemd to restart them", lambda: all(restarts(laptop, unit) > before[unit] for unit in units))
        laptop.until_works(watch)

    assert {unit: restarts(laptop, unit) - count for unit, count in before.items()} == dict.fromkeys(units, 1)


def test_many_crashes_are_no_reason_to_give_up(laptop: Booted) -> None:
    """More crashes in a row than systemd's ordinary limit (five in ten seconds): it still starts the daemon again."""
    before = restarts(laptop, names.UNIT)
    with laptop.net.nothing_leaves() as watch:
        for number in range(1, 7):
            wait_for("a process", lambda: laptop.system.main_pid(names.UNIT))
            laptop.system.kill(names.UNIT)
            watch.until("a restart", partial(restarted, laptop, before + number))
        laptop.until_works(watch)


def test_wireguard_go_dies(laptop: Booted) -> None:
    """Without kernel WireGuard the tunnel is a unit of its own: when it dies, its link goes too; a new one is made."""
    if "wireguard" in laptop.system.check("ip", "-details", "link", "show", "aovpn0"):
        pytest.skip("this machine's kernel has WireGuard")
    before = laptop.system.main_pid(WIREGUARD_GO)
    with laptop.net.nothing_leaves() as watch:
        laptop.system.kill(WIREGUARD_GO)
        watch.until("a new tunnel", lambda: laptop.system.main_pid(WIREGUARD_GO) not in {0, before})
        laptop.until_works(watch)


def test_reload(laptop: Booted) -> None:
    """``systemctl reload`` reads the configuration again; a broken one is reported and changes nothing."""
    system = laptop.system
    pid = system.main_pid(names.UNIT)
    system.write("/etc/aovpnd/aovpnd.toml", "[lan]\nallow = 'perhaps'\n")
    system.check("systemctl", "reload", names.UNIT)
    wait_for("the problem", lambda: laptop.status()["problems"])
    assert laptop.works()
    system.write("/etc/aovpnd/aovpnd.toml", "")
    system.check("systemctl", "reload", names.UNIT)
    wait_for("the problem to go", lambda: not laptop.status()["problems"])

    assert system.main_pid(names.UNIT) == pid


def test_watchdog(laptop: Booted) -> None:
    """A daemon that hangs is killed and started again by systemd, and nothing leaves meanwhile."""
    system = laptop.system
    drop_in = f"/run/systemd/system/{names.UNIT}.d/watchdog.conf"
    system.write(drop_in, f"[Service]\nWatchdogSec={WATCHDOG_S}\nTimeoutAbortSec=1\n")
    system.shell(f"systemctl daemon-reload; systemctl restart {names.UNIT}")
    try:
        laptop.wait_works()
        before = restarts(laptop, names.UNIT)
        with laptop.net.nothing_leaves() as watch:
            system.kill(names.UNIT, signal.SIGSTOP)
            watch.until("the watchdog to bite", lambda: restarts(laptop, names.UNIT) > before)
            laptop.until_works(watch)
        # It was fed while nothing happened, or it would have bitten without reason.
        assert "Watchdog timeout" in system.journal(names.UNIT)
        assert restarts(laptop, names.UNIT) == before + 1
    finally:
        system.shell(f"rm {drop_in}; systemctl daemon-reload; systemctl restart {names.UNIT}")
        laptop.wait_works()


def test_the_guards_hand_on_the_queues(laptop: Booted) -> None:
    """Its unit lets it take every queue of the links, so that nobody's AF_XDP socket gets one (decision 25)."""
    journal = laptop.system.journal(names.GUARD_UNIT)
    assert "not every queue is taken" not in journal
    for link in ("wlan0", "eth0"):
        assert queue_state(laptop.net.lab.host, link) == "EBUSY"


def test_systemd_itself(laptop: Booted) -> None:
    """A new systemd in place of the old one (``daemon-reexec``, as an upgrade does) changes nothing."""
    pids = [laptop.system.main_pid(unit) for unit in (names.UNIT, names.GUARD_UNIT)]
    with laptop.net.nothing_leaves():
        laptop.system.shell("systemctl daemon-reexec; systemctl daemon-reload")
        laptop.wait_works()

    assert [laptop.system.main_pid(unit) for unit in (names.UNIT, names.GUARD_UNIT)] == pids


def test_foreign_flush_names_the_culprit(laptop: Booted) -> None:
    """``nft flush ruleset`` is healed at once; the culprit is named, in spite of the unit's view of /proc."""
    with laptop.net.nothing_leaves() as watch:
        laptop.system.check("nft", "flush", "ruleset")
        laptop.until_works(watch)
    told = laptop.system.journal(names.UNIT)

    assert re.search(r"woken by: .*nftables changed by nft\[", told), told[-2000:]

# SPDX-License-Identifier: GPL-3.0-or-later
"""Names go through the tunnel, by /etc/resolv.conf; and whoever writes that file, whoever dies, it comes back.

Names are asked for as programs do it (getaddrinfo), and what leaves is recorded on the far side.
"""

import contextlib
import itertools
import os
import subprocess
import time
from collections.abc import Iterator
from typing import Final

import pytest

from aovpnd import names
from tests.lab import plan
from tests.lab.frames import CARRIED
from tests.lab.laptop import BIN
from tests.lab.process import wait_for
from tests.lab.record import Recorder, Recording
from tests.lab.senders import new_token
from tests.netns.protected import Protected, counted

ABSENT = 3
"""Exit status of `aovpnctl status` without a daemon."""
pytestmark = pytest.mark.root

HOME_LEASE: Final = f"nameserver {plan.HOME.router4}\n"
CAFE_LEASE: Final = f"nameserver {plan.CAFE.router4}\n"
OURS: Final = f"{names.RESOLV_CONF_MARK}nameserver {plan.GATEWAY_INSIDE4}\nnameserver {plan.GATEWAY_INSIDE6}\n"
SAVED: Final = f"/var/lib/aovpnd/{names.RESOLV_CONF_SAVED}"
QUICK_S: Final = 1.0
"""A name that cannot be asked for fails within this: programs wait 10 s for a resolver that does not answer."""
_numbers = itertools.count()


@pytest.fixture(scope="module")
def laptop() -> Iterator[Protected]:
    """One world for this file."""
    with Protected.build(control=False) as built:
        built.world.cafe.host.nft(f"add element inet cafe allowed {{ {plan.LAPTOP_MAC['wlan0']} }}")
        yield built


@pytest.fixture(autouse=True)
def at_home(laptop: Protected) -> None:
    """Each test begins at home, connected."""
    lab = laptop.lab
    lab.host.path("/var/lib/aovpnd/temporary-access.json").unlink(missing_ok=True)
    laptop.world.cafe.shut_udp()
    if lab.host.path("/etc/aovpnd/unblocked").exists():
        lab.host.path("/etc/aovpnd/unblocked").unlink()
        lab.stop_daemon()
        lab.start_daemon()
    if lab.status()["temporary_access"] is not None:
        lab.ctl("allow-temp", "--cancel")
    lab.ctl("connect")
    if lab.address("wlan0").rpartition(".")[0] != plan.HOME.lan4:
        laptop.world.roam("home")
    wait_for("the tunnel's servers", lambda: asks_the_tunnel(laptop), poll_s=0.05)
    wait_for("the tunnel", lambda: lab.status()["phase"] == "connected", poll_s=0.05)


# -- what a test asks --------------------------------------------------------------------------------------------------
def conf(laptop: Protected) -> str:
    """What programs read."""
    return laptop.lab.host.run("cat", names.RESOLV_CONF, check=False).stdout


def asks_the_tunnel(laptop: Protected) -> bool:
    """Whether the file is ours and the daemon says so."""
    dns = laptop.lab.status()["dns"]
    return conf(laptop) == OURS and dns is not None and dns["by"] == ["resolv.conf"]


def resolves(laptop: Protected, name: str = plan.WEB_NAME) -> bool:
    """Whether an ordinary program finds the addresses of a name."""
    found = laptop.lab.host.run("getent", "ahosts", name, check=False, uid=plan.USER).stdout
    return str(plan.WEB4) in found and str(plan.WEB6) in found


def takes_s(laptop: Protected) -> float:
    """How long a program waits for a name that nobody can be asked for."""
    began = time.monotonic()
    assert not resolves(laptop, f"no{next(_numbers)}.example.org")
    return time.monotonic() - began


def write(laptop: Protected, text: str) -> None:
    """Overwrite the file as NetworkManager and DHCP clients do."""
    place = names.RESOLV_CONF
    laptop.lab.host.run("sh", "-ec", f"cat >{place}.new; chmod 644 {place}.new; mv -f {place}.new {place}", stdin=text)


@contextlib.contextmanager
def recorded(laptop: Protected) -> Iterator[list[Recording]]:
    """What the far side saw; the list is filled when the block is left."""
    seen: list[Recording] = []
    recorder: Recorder
    with laptop.world.record() as recorder:
        yield seen
        seen.append(recorder.recording(new_token()))


def dns_frames(recording: Recording) -> set[str]:
    """The DNS that was seen in clear."""
    return {frame.what for frame in recording.clear() if "dns" in frame.what}


def kill(laptop: Protected) -> None:
    """SIGKILL to the daemon, and wait for the next one."""
    before = laptop.starts()
    laptop.lab.kill_daemon()
    wait_for("the daemon", lambda: laptop.starts() > before and laptop.lab.daemon_answers(), poll_s=0.03)


# -- connected, blocked, open ------------------------------------------------------------------------------------------
def test_names_go_through_the_tunnel(laptop: Protected) -> None:
    """Connected, at home and after a DHCP client has written another network's resolvers, through a crash: names
    resolve, and nothing of them is seen outside. Disconnected they fail at once, and the network's resolvers are back.
    """
    with laptop.nothing_leaves() as watch:
        assert resolves(laptop)
        kill(laptop)
        watch.until("names after a crash", lambda: asks_the_tunnel(laptop) and resolves(laptop))
        laptop.world.roam("cafe")
        # The cable is quicker than a slow daemon, and what it wrote at home is right until it sees the new lease.
        watch.until("another network", lambda: laptop.lab.status()["phase"] == "connected")
        watch.until("names elsewhere", lambda: asks_the_tunnel(laptop) and resolves(laptop))
        laptop.lab.ctl("disconnect")
        assert conf(laptop) == CAFE_LEASE
        assert not laptop.lab.host.path(SAVED).exists()
        assert takes_s(laptop) < QUICK_S
    assert counted(watch.recording, *CARRIED)
    assert laptop.lab.status()["dns"] is None


def test_temporary_access(laptop: Protected) -> None:
    """In a window programs ask the lease's resolver (who alone knows a portal), and no other; before and behind it the
    tunnel's.
    """
    lab = laptop.lab
    laptop.world.cafe.shut_udp(laptop.port)
    laptop.world.roam("cafe")
    lab.wait_phase("connecting")
    wait_for("the tunnel's servers", lambda: asks_the_tunnel(laptop), poll_s=0.05)
    with recorded(laptop) as seen:
        lab.ctl("allow-temp", "60s")
        assert conf(laptop) == CAFE_LEASE
        assert resolves(laptop)
        assert f"{plan.CAFE.router4}" in lab.host.run("getent", "ahosts", plan.PORTAL_NAME, check=False).stdout
    assert any(str(plan.CAFE.router4) in what for what in dns_frames(seen[0]))
    assert not any(str(plan.GATEWAY_INSIDE4) in frame.what for frame in seen[0].frames)

    lab.ctl("allow-temp", "--cancel")
    with recorded(laptop) as seen:
        assert asks_the_tunnel(laptop)
        late = ("timeout", "0.5", "getent", "ahosts", f"late{next(_numbers)}.example.org")
        assert lab.host.run(*late, check=False, uid=plan.USER).stdout == ""
    assert not seen[0].clear(), seen[0].describe()


# -- whoever writes the file -------------------------------------------------------------------------------------------
def test_other_programs_write_the_file(laptop: Protected) -> None:
    """What NetworkManager or a DHCP client writes is replaced within moments, kept, and given back; so are a link and
    an empty place.
    """
    host = laptop.lab.host
    newer = "# by NetworkManager\nnameserver 192.168.10.1\noptions edns0\n"
    write(laptop, newer)
    wait_for("ours to be back", lambda: asks_the_tunnel(laptop))
    host.path("/run/manager.conf").write_text(newer, encoding="utf-8")
    laptop.lab.ctl("disconnect")
    assert conf(laptop) == newer

    host.run("ln", "-sf", "../run/manager.conf", names.RESOLV_CONF)
    laptop.lab.ctl("connect")
    wait_for("the tunnel's servers", lambda: asks_the_tunnel(laptop), poll_s=0.05)
    laptop.lab.ctl("disconnect")
    assert host.out("readlink", names.RESOLV_CONF) == "../run/manager.conf\n"

    host.run("rm", names.RESOLV_CONF)
    laptop.lab.ctl("connect")
    wait_for("the tunnel's servers", lambda: asks_the_tunnel(laptop), poll_s=0.05)
    laptop.lab.ctl("disconnect")
    assert not host.path(names.RESOLV_CONF).exists()
    write(laptop, HOME_LEASE)


def test_a_mount_point(laptop: Protected) -> None:
    """In containers the file is mounted, and cannot be replaced; it is written in place, and what others write to it
    is seen. Read-only, it is a problem that is told, and nothing else suffers.
    """
    host, lab = laptop.lab.host, laptop.lab
    lab.ctl("disconnect")
    write(laptop, HOME_LEASE)
    host.path("/run/mounted.conf").write_text(HOME_LEASE, encoding="utf-8")
    host.run("mount", "--bind", "/run/mounted.conf", names.RESOLV_CONF)
    try:
        lab.ctl("connect")
        wait_for("the tunnel's servers", lambda: asks_the_tunnel(laptop) and resolves(laptop), poll_s=0.05)
        host.run("sh", "-ec", f"echo 'nameserver 192.0.2.77' >{names.RESOLV_CONF}")
        wait_for("ours to be back", lambda: asks_the_tunnel(laptop))
        lab.ctl("disconnect")
        assert conf(laptop) == "nameserver 192.0.2.77\n"

        host.run("mount", "-o", "remount,bind,ro", names.RESOLV_CONF)
        lab.ctl("connect")
        wait_for("a problem", lambda: "dns-failed" in laptop.problems(), poll_s=0.05)
        assert laptop.problems()["dns-failed"] == "/etc/resolv.conf cannot be written: Read-only file system"
        wait_for("the tunnel all the same", lambda: lab.status()["phase"] == "connected", poll_s=0.05)
        assert laptop.protected()
        host.run("mount", "-o", "remount,bind,rw", names.RESOLV_CONF)
        wait_for("it to be healed", lambda: asks_the_tunnel(laptop), deadline_s=20, poll_s=0.05)
        assert "dns-failed" not in laptop.problems()
    finally:
        host.run("umount", names.RESOLV_CONF)


# -- whoever dies ------------------------------------------------------------------------------------------------------
def test_killed_at_any_moment(laptop: Protected) -> None:
    """SIGKILL while the file is taken and given back: afterwards it is what it was."""
    write(laptop, HOME_LEASE)
    wait_for("ours to be back", lambda: asks_the_tunnel(laptop))
    for step in range(6):
        order = "connect" if step % 2 else "disconnect"
        asking = laptop.lab.host.spawn(*_ctl(order), log="killed", stdout=subprocess.DEVNULL)
        wait_until = time.monotonic() + 0.06 + step * 0.016
        _wait_until(wait_until)
        kill(laptop)
        asking.wait(10)
    laptop.lab.ctl("connect")
    wait_for("the tunnel's servers", lambda: asks_the_tunnel(laptop), poll_s=0.05)
    laptop.lab.ctl("disconnect")
    assert conf(laptop) == HOME_LEASE
    assert not laptop.lab.host.path(SAVED).exists()


def _wait_until(moment: float) -> None:
    wait_for("the moment", lambda: time.monotonic() >= moment, poll_s=0.001)


def _ctl(*words: str) -> list[str]:
    return [str(BIN / "aovpnctl"), *words]


def test_unblock_gives_back(laptop: Protected) -> None:
    """By the daemon, and by hand when it is dead."""
    lab = laptop.lab
    write(laptop, HOME_LEASE)
    wait_for("ours to be back", lambda: asks_the_tunnel(laptop))
    with laptop.no_restarts():
        pid = laptop.daemon_pid()
        assert pid is not None
        os.kill(pid, 9)
        # Its lock is let go of last, and a program that it was just starting may hold it until it is another one.
        wait_for("the daemon's end", lambda: lab.ctl("status", check=False).returncode == ABSENT)
        done = lab.ctl("unblock", "--offline").stdout
        assert f"{names.RESOLV_CONF}: given back\n" in done
        assert conf(laptop) == HOME_LEASE
        assert resolves(laptop)
        lab.host.path("/etc/aovpnd/unblocked").unlink()
    wait_for("the tunnel's servers", lambda: asks_the_tunnel(laptop), poll_s=0.05)
    lab.ctl("unblock")
    assert conf(laptop) == HOME_LEASE
    assert resolves(laptop)
    lab.ctl("block")

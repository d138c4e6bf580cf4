# SPDX-License-Identifier: GPL-3.0-or-later
"""Our units are as confined as docs/decisions/0034 says: by their files, and as each Debian's systemd runs them."""

from pathlib import Path
from typing import Final

import pytest

from aovpnd import names
from tests.container.booted import BUS_UNIT, TUNNEL, Booted
from tests.lab.container import image, program
from tests.lab.process import run
from tests.lab.product import CHECKOUT

pytestmark = [pytest.mark.container, pytest.mark.root, pytest.mark.slow]

UNITS: Final = sorted(CHECKOUT.glob("systemd/*.service"))
WIREGUARD_GO: Final = names.WIREGUARD_GO_UNIT.format(link="aovpn0")
ROLLBACK: Final = "aovpnd-rollback.service"
WORST: Final = {names.UNIT: 20, names.CHARON_UNIT.format(link=""): 17, ROLLBACK: 84}
"""What ``systemd-analyze security`` may find exposed at most, in tenths; 15 for the others. One installs packages."""
CAP_NET_ADMIN, CAP_NET_RAW = 1 << 12, 1 << 13
POWERS: Final = {
    names.UNIT: CAP_NET_ADMIN,
    names.GUARD_UNIT: CAP_NET_ADMIN | CAP_NET_RAW,
    WIREGUARD_GO: CAP_NET_ADMIN,
    BUS_UNIT: 0,
}
"""The capabilities of each unit's process: what it has, and can ever have."""
USERS: Final = {names.GUARD_UNIT: "aovpnd-guard", WIREGUARD_GO: "aovpnd-wg-go", BUS_UNIT: "aovpnd-bus"}
"""Who each unit's process is; the daemon is root."""


def exposed(suite: str, unit: Path, worst: int) -> str:
    """What a Debian's systemd says against a unit file; nothing where it finds it confined enough."""
    analyze = program(image(suite), "systemd-analyze")
    words = ("security", "--offline=true", f"--threshold={worst}", "--no-pager", str(unit))
    done = run([*analyze, *words], check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.name))
def test_exposure(suite: str, unit: Path) -> None:
    """No unit that is shipped is more exposed than the limits."""
    assert exposed(suite, unit, WORST.get(unit.name, 15)) == ""


def test_exposure_is_judged(suite: str, tmp_path: Path) -> None:
    """The control: the same unit as root, and one that is not confined at all, are found too much exposed."""
    guard = CHECKOUT / "systemd" / names.GUARD_UNIT
    as_root, bare = tmp_path / "root.service", tmp_path / "bare.service"
    as_root.write_text(guard.read_text(encoding="utf-8").replace("User=aovpnd-guard\n", ""), encoding="utf-8")
    bare.write_text("[Service]\nExecStart=/usr/bin/true\n", encoding="utf-8")

    assert "root user" in exposed(suite, as_root, 15)
    assert "UNSAFE" in exposed(suite, bare, 20)


@pytest.mark.parametrize("unit", POWERS)
def test_who_runs(laptop: Booted, unit: str) -> None:
    """Each process has its user and its capabilities and no others, gets none by running programs, and a filter judges
    its system calls.
    """
    if unit == WIREGUARD_GO and laptop.system.main_pid(unit) == 0:
        pytest.skip("this machine's kernel has WireGuard")
    laptop.assert_confined(unit, USERS.get(unit, "root"), POWERS[unit])


@pytest.mark.parametrize("unit", [names.UNIT, names.CHARON_UNIT, names.WIREGUARD_GO_UNIT])
def test_keys_get_into_no_core_dump(laptop: Booted, unit: str) -> None:
    """Whoever holds keys leaves none behind when it crashes."""
    shown = laptop.system.show(unit.format(link="aovpn9"), "LimitCORE")
    assert shown == {"LimitCORE": "0"}


def test_helpers_read_no_keys_and_write_nothing(laptop: Booted) -> None:
    """What runs as a helper's user, in its view of the files, gets at no key and at no file but its own; with root's
    powers the same words do.
    """
    system = laptop.system
    for unit in USERS:
        pid = system.main_pid(unit)
        if unit == WIREGUARD_GO and pid == 0:
            continue
        uid = system.check("id", "-u", USERS[unit]).strip()
        inside = ("nsenter", f"--target={pid}", "--mount", "--setgid=0")
        assert "PrivateKey" in system.check(*inside, "--setuid=0", "cat", TUNNEL)
        for refused in (
            ("cat", TUNNEL),
            ("cat", f"{names.RUNTIME_DIR}/{names.DAEMON_LOCK_FILE}"),
            ("touch", f"{names.RUNTIME_DIR}/{names.STATUS_FILE}"),
            ("touch", "/etc/resolv.conf"),
            ("kill", "-0", str(system.main_pid(names.UNIT))),
        ):
            done = system.run(*inside, f"--setuid={uid}", *refused)
            assert done.returncode != 0, (unit, refused)
            assert any(word in done.stderr for word in ("ermi", "ead-only", "No such process")), (unit, done.stderr)


def test_a_tunnel_that_hangs_is_ended(laptop: Booted) -> None:
    """A wireguard-go that does not answer any more is ended by its unit, since the daemon may not signal its user's
    processes, and a new tunnel comes up.
    """
    system = laptop.system
    before = system.main_pid(WIREGUARD_GO)
    if before == 0:
        pytest.skip("this machine's kernel has WireGuard")
    with laptop.net.nothing_leaves() as watch:
        system.check("kill", "-STOP", str(before))
        system.check("ip", "link", "delete", "aovpn0")
        watch.until("a new tunnel", lambda: system.main_pid(WIREGUARD_GO) not in {0, before})
        laptop.until_works(watch)


def test_lockdown_needs_no_disk(laptop: Booted) -> None:
    """The block of early boot is loaded also where nothing on the disk can be written yet."""
    system = laptop.system
    with laptop.net.nothing_leaves() as watch:
        system.shell("mount --bind /tmp /tmp; mount -o remount,bind,ro /tmp; ! touch /tmp/here")
        try:
            system.check("systemctl", "restart", "aovpnd-lockdown.service")
            assert system.show("aovpnd-lockdown.service", "Result", "ExecMainStatus") == {
                "Result": "success",
                "ExecMainStatus": "0",
            }
        finally:
            system.shell("umount /tmp")
        laptop.until_works(watch)


def test_keys_as_credentials(laptop: Booted) -> None:
    """A tunnel file that systemd keeps encrypted and decrypts for the daemon alone, also when it has to start
    that again after a crash: no key is on the disk in clear. When the machine's key has gone, the daemon does not
    start, nothing leaves, and one command brings the tunnel back; another one, the plain file.
    """
    system = laptop.system
    kept, drop_in = "/etc/credstore.encrypted/aovpnd.home.conf", f"/etc/systemd/system/{names.UNIT}.d"
    plain = system.check("cat", TUNNEL)
    system.write("/root/home.conf", plain, 0o600)
    with laptop.net.nothing_leaves() as watch:
        try:
            before = system.main_pid(names.UNIT)
            system.check("aovpnctl", "import", "--replace", "--encrypt", "/root/home.conf")
            laptop.until_works(watch)
            assert before != system.main_pid(names.UNIT)
            assert system.check("readlink", TUNNEL).strip() == f"{names.CREDENTIALS_DIR}/home.conf"
            assert system.check("aovpnctl", "check") == "the configuration is in order\n"
            assert "PrivateKey" not in system.check("cat", kept)

            before = system.main_pid(names.UNIT)
            system.kill(names.UNIT)
            watch.until("a restart", lambda: system.main_pid(names.UNIT) not in {0, before})
            laptop.until_works(watch)

            system.check("rm", "/var/lib/systemd/credential.secret")
            assert system.run("systemctl", "restart", names.UNIT).returncode != 0
            assert "where it cannot be any more: aovpnctl import --replace" in system.run("aovpnctl", "check").stdout
            system.check("aovpnctl", "import", "--replace", "--encrypt", "/root/home.conf")
            laptop.until_works(watch)

            system.check("aovpnctl", "import", "--replace", "/root/home.conf")
            system.check("systemctl", "restart", names.UNIT)
            laptop.until_works(watch)
            assert system.check("cat", TUNNEL) == plain
            assert system.run("ls", kept, f"{drop_in}/credential-home.conf").returncode != 0
        finally:
            system.shell(f"rm -f {drop_in}/credential-* {kept} {TUNNEL} /root/home.conf; systemctl daemon-reload")
            system.write(TUNNEL, plain, 0o600)
            system.check("systemctl", "restart", names.UNIT)
            laptop.wait_works()


def test_guard_starts_when_tmp_is_empty(laptop: Booted) -> None:
    """Not while /tmp is being emptied, where systemd 252 makes a unit's /dev; nor is there a circle in the order. The
    daemon does not wait for a guard that may never start.
    """
    system = laptop.system
    order = system.show(names.GUARD_UNIT, "After", "Before")

    assert {"systemd-tmpfiles-setup.service", "aovpnd-lockdown.service"} <= set(order["After"].split())
    assert "network-pre.target" in order["Before"].split()
    assert names.UNIT not in order["Before"].split()
    assert "ordering cycle" not in system.journal()

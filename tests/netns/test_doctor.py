# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl doctor`` on a real laptop of the lab: what it finds there, by its codes, as root and as a user."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from tests.lab import plan
from tests.lab.frames import Kind
from tests.lab.process import stop, wait_for
from tests.netns.protected import ORDINARY, UNROUTED, Protected, counted

pytestmark = pytest.mark.root

ALWAYS: Final = {"no-systemd", "bus-not-running"}
"""The lab has no systemd and no bus."""
USER: Final = 64001
SENDERS: Final = tuple(kind for kind in ORDINARY if kind in UNROUTED)


@pytest.fixture(scope="module")
def laptop() -> Iterator[Protected]:
    """A laptop at home that was never protected."""
    with Protected.build(links=("wlan0",), tunnel=False, start=False, control=False) as built:
        built.world.roam("home")
        yield built


def examined(laptop: Protected, *, uid: int | None = None) -> dict[str, Any]:
    """``aovpnctl doctor --json``; its exit status says the same as its document."""
    done = laptop.lab.ctl("doctor", "--json", check=False, uid=uid)
    assert done.stderr == ""
    document: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if document["ok"] else 1)
    return document


def codes(document: dict[str, Any], *severities: str) -> set[str]:
    """The codes of findings."""
    return {one["code"] for one in document["findings"] if one["severity"] in (severities or {"warning", "error"})}


def test_a_foreign_tunnel(laptop: Protected) -> None:
    """Unprotected beside a wg-quick link that works: both are named. Blocked, nothing leaves by that link any more, and
    it is all that there is to do, but for a tunnel of ours.
    """
    laptop.lab.wg_quick("up")
    try:
        wait_for("wg-quick's tunnel", lambda: laptop.address_outside(4) == str(plan.GATEWAY4))
        found = examined(laptop)
        assert {"not-blocked", "daemon-not-running", "guard-not-running", "foreign-tunnel", "no-tunnel"} <= codes(found)
        (said,) = (one["text"] for one in found["findings"] if one["code"] == "foreign-tunnel")
        assert "wg0" in said

        laptop.lab.start_daemon()
        wait_for("the block", laptop.protected, poll_s=0.05)
        with laptop.nothing_leaves(SENDERS, link="wg0") as watch:
            watch.everybody_tries()
        assert counted(watch.recording, Kind.HANDSHAKE, Kind.TUNNEL) == 0
        assert codes(examined(laptop)) - ALWAYS == {"foreign-tunnel", "no-tunnel"}
        laptop.lab.stop_daemon()
    finally:
        laptop.lab.wg_quick("down")


@contextmanager
def elsewhere(laptop: Protected, name: str, *under: str) -> Iterator[None]:
    """A process of that name in another network, which the laptop's /proc shows as well."""
    host = laptop.world.cafe.host
    program = host.dir / name
    if not program.exists():
        shutil.copy("/usr/bin/sleep", program)
    process = host.spawn(*under, str(program), "60", log="elsewhere")
    try:
        yield
        assert process.poll() is None
    finally:
        stop(process)


def test_connected_and_broken(laptop: Protected) -> None:
    """Connected; as a user; the table gone beside a broken configuration; the guard gone as well."""
    laptop.lab.install_tunnel()
    laptop.lab.start_daemon()
    wait_for("the tunnel to work", laptop.works, poll_s=0.05, deadline_s=20)
    with elsewhere(laptop, "NetworkManager"):
        found = examined(laptop)
    assert codes(found) - ALWAYS == set(), found
    assert {"block", "kernel", "configuration", "names", "clock"} <= codes(found, "ok")
    assert found["unseen"] == []
    before = laptop.table("inet", "aovpnd")

    with elsewhere(laptop, "NetworkManager", "unshare", "--pid", "--fork", "--kill-child"):
        wait_for("a container's process", lambda: laptop.world.cafe.host.pids_of("NetworkManager"))
        found = examined(laptop, uid=USER)
    assert codes(found) - ALWAYS == set(), found
    assert any("nftables" in text for text in found["unseen"])
    assert any("/etc/aovpnd" in text or "/var/lib/aovpnd" in text for text in found["unseen"])
    assert "block" not in codes(found, "ok"), "it says that it is well, and has not seen it"
    assert laptop.table("inet", "aovpnd") == before, "looking has changed something"

    laptop.lab.install_tunnel("broken", "[Interface]\nPrivateKey = \x1b[2Jnonsense\n")
    laptop.lab.stop_daemon()
    found = examined(laptop)
    assert "daemon-not-running" in codes(found)
    assert "block" in codes(found, "ok"), "stopping opens nothing"
    laptop.lab.host.nft("delete table inet aovpnd")
    shown = laptop.lab.ctl("doctor", check=False)
    assert shown.returncode == 1
    assert "error: table inet aovpnd is not loaded; the guard keeps the network shut" in shown.stdout
    assert "broken.conf" in shown.stdout
    assert all(line.isprintable() for line in shown.stdout.splitlines())
    assert {"table-missing", "daemon-not-running", "configuration"} <= codes(examined(laptop))

    laptop.lab.kill_guard()
    wait_for("the guard's tables to go", lambda: not laptop.table("inet", "aovpnd_guard"))
    assert {"guard-tables-missing", "guard-not-running"} <= codes(examined(laptop))

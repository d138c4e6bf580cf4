# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl doctor`` on whole Debians: the real neighbours are recognised, and what stands in the way is found."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from tests.container.booted import Booted
from tests.lab.container import ALICE

pytestmark = [pytest.mark.container, pytest.mark.root, pytest.mark.slow]

WANTS: Final = "/etc/systemd/system/multi-user.target.wants"
PUT: Final = f"""
ln -s /usr/lib/systemd/system/wg-quick@.service {WANTS}/wg-quick@office.service
ln -s /usr/lib/systemd/system/nftables.service {WANTS}/nftables.service
printf 'flush ruleset\\n' >/etc/nftables.conf
printf '[connection]\\nid=work\\ntype=wireguard\\n' >/etc/NetworkManager/system-connections/w.nmconnection
mv /etc/systemd/system/sysinit.target.wants/aovpnd-lockdown.service /root/
ln -s /dev/null /etc/udev/rules.d/82-aovpnd-egress.rules
"""
TAKE: Final = f"""
rm {WANTS}/wg-quick@office.service {WANTS}/nftables.service /etc/nftables.conf
rm /etc/NetworkManager/system-connections/w.nmconnection /etc/udev/rules.d/82-aovpnd-egress.rules
mv /root/aovpnd-lockdown.service /etc/systemd/system/sysinit.target.wants/
"""
FOUND: Final = {"vpn-beside", "flush-at-boot", "vpn-autoconnects", "not-enabled", "boot-files-missing"}


def examined(laptop: Booted, *before: str) -> dict[str, Any]:
    """``aovpnctl doctor --json``; its exit status says the same as its document."""
    done = laptop.system.run(*before, "aovpnctl", "doctor", "--json")
    document: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if document["ok"] else 1)
    return document


def wrong(laptop: Booted, document: dict[str, Any]) -> set[str]:
    """The codes of what there is to do, apart from what the daemon itself remembers of the tests before."""
    return codes(document) - {problem["code"] for problem in laptop.status()["problems"]}


def codes(document: dict[str, Any], *severities: str) -> set[str]:
    """The codes of findings."""
    return {one["code"] for one in document["findings"] if one["severity"] in (severities or {"warning", "error"})}


@contextmanager
def obstacles(laptop: Booted) -> Iterator[None]:
    """What stands in the way at the next boot; nothing of it is started."""
    laptop.system.shell(f"set -e; mkdir -p {WANTS} /etc/udev/rules.d; {PUT}")
    try:
        yield
    finally:
        laptop.system.shell(f"set -e; {TAKE}")


def test_network_manager(laptop: Booted) -> None:
    """Connected, all is well, for root and for a user; NetworkManager and resolved are known, and nobody else."""
    laptop.wait_full()
    found = examined(laptop)
    assert wrong(laptop, found) == set(), found
    assert found["unseen"] == []
    assert codes(found, "ok") >= {"block", "boot", "kernel", "configuration", "names", "clock"}
    met = {code for code in codes(found, "info") if code.startswith("neighbour-")}
    assert met == {"neighbour-networkmanager", "neighbour-resolved"}

    found = examined(laptop, "runuser", "-u", ALICE.name, "--")
    assert wrong(laptop, found) == set(), found
    assert {"boot", "clock"} <= codes(found, "ok")
    assert not {"block", "configuration"} & codes(found, "ok")
    assert any("nftables" in text for text in found["unseen"])


def test_what_stands_in_the_way(laptop: Booted) -> None:
    """Another VPN and a flush at boot, a lockdown that is not enabled, a masked rule: all found."""
    with obstacles(laptop):
        assert wrong(laptop, examined(laptop)) == FOUND
    assert wrong(laptop, examined(laptop)) == set()


def test_networkd(networkd: Booted) -> None:
    """systemd-networkd is known, and what it would do with our rules and our link."""
    found = examined(networkd)
    assert wrong(networkd, found) == set(), found
    assert {"neighbour-networkd", "neighbour-networkd-foreign"} <= codes(found, "info")
    assert "neighbour-networkmanager" not in codes(found, "info")
    keeps = "[Network]\nManageForeignRoutingPolicyRules=no\nManageForeignRoutes=no\n"
    networkd.system.write("/etc/systemd/networkd.conf.d/keep.conf", keeps)
    networkd.system.write("/etc/systemd/network/zz.network", "[Match]\nName=*\n")
    try:
        found = examined(networkd)
        assert wrong(networkd, found) == {"tunnel-claimed"}
        assert "neighbour-networkd-foreign" not in codes(found, "info")
    finally:
        networkd.system.check("rm", "/etc/systemd/networkd.conf.d/keep.conf", "/etc/systemd/network/zz.network")

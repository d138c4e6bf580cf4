# SPDX-License-Identifier: GPL-3.0-or-later
"""Laptops that are damaged before they boot, and what is to become of each. None of them may send a frame in clear."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from aovpnd import names
from tests.lab.product import installed
from tests.lab.tree import Directory, Entry, Symlink, Tree, text
from tests.vm.images import SUITES

TUNNEL: Final = "/etc/aovpnd/tunnels/home.conf"
ENABLED: Final = ("aovpnd-lockdown.service", names.UNIT)
_UNITS: Final = "/etc/systemd/system"
_NOTHING: Final[Tree] = MappingProxyType({})
_CYCLE: Final = """[Unit]
DefaultDependencies=no
After=network-pre.target sysinit.target
Before=aovpnd-lockdown.service
[Service]
Type=oneshot
ExecStart=/bin/true
[Install]
"""
_EARLY_NETWORK: Final = """[Unit]
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'for link in /sys/class/net/e*; do ip link set "${link##*/}" up; done; true'
"""
_FILL: Final = """#!/bin/sh
fallocate -l 64G /filler 2>/dev/null
dd if=/dev/zero of=/filler2 bs=1M 2>/dev/null
dd if=/dev/zero of=/filler3 bs=1 count=4096 2>/dev/null
exit 0
"""


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with a laptop. ``connects``: the Debians on which its tunnel comes up all the same; on others
    ``network`` says whether it joins a network, where it does not with what its ``console`` has to say; without that,
    nobody knows: network managers wait for a guard, and go on where that one fails quickly. One that connects may say
    that as well, and then does not: systemd takes out of a cycle of its units whichever it likes.
    """

    files: Mapping[str, Entry] = field(default_factory=dict)
    connects: tuple[str, ...] = ()
    network: bool = True
    console: str = ""
    """What its console has to say."""


_SHUT: Final = "THE BLOCK COULD NOT BE LOADED"
_NO_PYTHON: Final = {
    path: text("#!/usr/bin/python3.99 -I\n", 0o755)
    for path in installed()
    if path in {"/usr/sbin/aovpnd", "/usr/sbin/aovpnd-guard", "/usr/bin/aovpnctl"}
}
_RAN_BEFORE: Final[Tree] = {names.STATE_DIR: Directory(0o700)}
"""systemd makes the daemon's directory at its first start."""
DAMAGES: Final[Mapping[str, Damage]] = {
    "settings that cannot be read": Damage(
        {"/etc/aovpnd/aovpnd.toml": text("[tunnel\nprefer = \x00\n")}, connects=SUITES
    ),
    "a tunnel's file that cannot be read": Damage({TUNNEL: text("[Interface]\nPrivateKey = none\n", 0o600)}),
    # Debian 12's systemd makes directories in /tmp for a unit's own view of the system, and starts none without.
    "a disk that is full": Damage(
        {"/before/fill": text(_FILL, 0o755), **_RAN_BEFORE}, connects=("trixie",), network=False
    ),
    "/var read-only": Damage({"/etc/fstab": text("/var /var none bind,ro 0 0\n"), **_RAN_BEFORE}, connects=SUITES),
    "the daemon masked": Damage({f"{_UNITS}/{names.UNIT}": Symlink("/dev/null")}),
    "the daemon fails": Damage({"/usr/sbin/aovpnd": text("#!/bin/false\n", 0o755)}),
    "the guard fails": Damage({"/usr/sbin/aovpnd-guard": text("#!/bin/false\n", 0o755)}, network=False),
    "no Python": Damage(_NO_PYTHON, network=False),
    "no nft": Damage({"/usr/sbin/nft": text("#!/bin/false\n", 0o755)}, network=False, console=_SHUT),
    "early boot's ruleset damaged": Damage(
        {"/usr/lib/aovpnd/lockdown.nft": text("table inet aovpnd {\n")}, network=False, console=_SHUT
    ),
    "the guard's user missing": Damage({"/usr/lib/sysusers.d/aovpnd.conf": text("")}, network=False, console=_SHUT),
    "early boot's unit masked": Damage(
        {f"{_UNITS}/aovpnd-lockdown.service": Symlink("/dev/null")}, network=False, console=_SHUT
    ),
    "an ordering cycle": Damage(
        {
            f"{_UNITS}/cycle.service": text(_CYCLE),
            f"{_UNITS}/sysinit.target.wants/cycle.service": Symlink(f"{_UNITS}/cycle.service"),
        },
        connects=SUITES,
        network=False,
        console=_SHUT,
    ),
    "links up before everything": Damage(
        {
            f"{_UNITS}/early.service": text(_EARLY_NETWORK),
            f"{_UNITS}/sysinit.target.wants/early.service": Symlink(f"{_UNITS}/early.service"),
        },
        connects=SUITES,
    ),
}
"""By name. Each is tried on both Debians."""

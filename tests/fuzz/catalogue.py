# SPDX-License-Identifier: GPL-3.0-or-later
"""Every target there is, by the order in which a byte reaches the program. A new border is one line here."""

from typing import Final

from tests.fuzz import (
    browsing,
    commandline,
    configuration,
    examined,
    ike,
    kept,
    machine,
    naming,
    netlink,
    shown,
    snapshots,
    talking,
)
from tests.fuzz.target import Target

TARGETS: Final[dict[str, Target]] = {
    target.name: target
    for target in (
        *configuration.TARGETS,
        *ike.TARGETS,
        *kept.TARGETS,
        *netlink.TARGETS,
        *naming.TARGETS,
        *browsing.TARGETS,
        *machine.TARGETS,
        *commandline.TARGETS,
        *talking.TARGETS,
        *shown.TARGETS,
        *snapshots.TARGETS,
        *examined.TARGETS,
    )
}

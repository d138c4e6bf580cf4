# SPDX-License-Identifier: GPL-3.0-or-later
"""All that is to be said of a machine, once each. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aovpnd.ctl.doctor.block import block, boot, programs
from aovpnd.ctl.doctor.machine import clock, configuration, kernel, name_service
from aovpnd.ctl.doctor.neighbours import neighbours

if TYPE_CHECKING:
    from aovpnd.ctl.doctor.facts import Facts, Finding

AREAS = (block, programs, boot, kernel, configuration, name_service, clock, neighbours)


def judge(facts: Facts) -> tuple[Finding, ...]:
    """The findings in the order in which they are told; what is found twice is said where it was found first."""
    found: dict[tuple[str, str], Finding] = {}
    codes: set[str] = set()
    for area in AREAS:
        fresh = [finding for finding in area(facts) if finding.code not in codes]
        for finding in fresh:
            found.setdefault((finding.code, finding.text), finding)
        codes |= {finding.code for finding in fresh}
    return tuple(found.values())

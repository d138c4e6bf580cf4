# SPDX-License-Identifier: GPL-3.0-or-later
"""Sleep and clocks that jump: what the machine has slept through is not relied on, and what a clock says is doubted.

CLOCK_BOOTTIME runs on in suspend and CLOCK_MONOTONIC does not, so their difference tells of sleep whoever caused it,
with logind or without.
"""

from dataclasses import replace
from typing import Final

from aovpnd.clock import Clock
from aovpnd.core import companions, health
from aovpnd.core.view import View
from aovpnd.model import Intent, Phase, Problem, Severity, Snapshot

NAP_S: Final = 0.5
"""Sleep that is noticed: less than what a dark second of any lid takes, more than two clocks that are read one after
the other differ by."""
JUST_PROVOKED_S: Final = 5.0
"""A handshake that was provoked a moment ago is not provoked again because somebody else says that we woke."""


def settle(intent: Intent, now: Clock) -> Intent:
    """Whoever has slept starts afresh: no window stays open, and the tunnel has to prove itself."""
    slept = intent.slept_s is not None and now.slept_s - intent.slept_s >= NAP_S
    intent = replace(intent, slept_s=now.slept_s)
    return woke(replace(intent, grant=None), now) if slept else intent


def woke(intent: Intent, now: Clock) -> Intent:
    """The tunnel proves itself anew; meanwhile its session goes on."""
    intent = companions.forget(intent)
    if intent.provoked is not None and 0 <= now.boot - intent.provoked.at < JUST_PROVOKED_S:
        return intent
    return replace(intent, provoked=None, proved="")


def shaken(intent: Intent, seen: View, *, connected: bool) -> Intent:
    """Remember what the wall clock showed at the last handshake."""
    if not connected or seen.state is None:
        return intent
    return replace(intent, shaken_wall=seen.state.handshake_wall)


def problems(intent: Intent, snapshot: Snapshot, now: View) -> list[Problem]:
    """A clock that went back: WireGuard's first message carries the time, and the gateway takes an older one than the
    last for a replay, in silence (TAI64N, section 5.1 of its paper).
    """
    in_vain = intent.provoked is not None and intent.provoked.attempts >= health.IN_VAIN
    if now.spec is None or now.phase is not Phase.CONNECTING or not in_vain or intent.shaken_wall is None:
        return []
    behind = intent.shaken_wall - snapshot.now.wall
    if behind <= 1:
        return []
    text = f"the clock shows a time before the last handshake of {now.spec.name}, so its gateway answers no new one"
    hint = "set the clock (timedatectl), or let the gateway remove our peer and add it again"
    return [Problem("clock-went-back", Severity.ERROR, text, hint)]

# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the tunnel alive, and when must it shake hands: what `connected`, `lost` and `idle` mean.

Connected: an authenticated handshake since link, endpoint or uplink last changed. To make that a plain fact, every
change of path resets the peers (`TunnelWish.path`), so that any handshake at all is a handshake over this path.

Lost: data sent, and for `LOST_AFTER_S` neither anything received nor a handshake. A healthy WireGuard peer answers data
within 10 s even if it has nothing to say (passive keepalive, WireGuard paper section 6.5), and WireGuard itself starts
a new handshake after 15 s of silence. Idle is not lost.
"""

from typing import Final

from aovpnd.gateways import Heard, Path
from aovpnd.model import Clock, Intent, TunnelState

LOST_AFTER_S: Final = 35.0
"""15 s until WireGuard asks for a new handshake (KEEPALIVE_TIMEOUT + REKEY_TIMEOUT), 20 s for it to succeed."""
RETRY_S: Final = (2.0, 3.0, 5.0, 10.0, 20.0, 40.0, 60.0)
"""Until the handshake is provoked anew, by the number of attempts; in between WireGuard itself retries every 5 s, for
90 s. Soon at first: a gateway that comes back, or a portal that has opened, is found within moments."""
IN_VAIN: Final = 3
"""Attempts after which somebody should know that the gateway does not answer."""
BUSY_LOOK_S: Final = 20.0
IDLE_LOOK_S: Final = 60.0
"""How often a connected tunnel is looked at, with traffic and without."""
FIRST_LOOK_S, LAST_LOOK_S = 0.02, 5.0
"""Nothing tells us that a handshake succeeded (the kernel sends no event), so we look: soon at first, then less and
less often."""
KEEPALIVE_BYTES: Final = 32
"""A keepalive is a data message without data: 16 bytes of header, 16 of tag."""
FRESH_SESSION_S: Final = 180.0
"""A session older than REJECT_AFTER_TIME is no proof of anything."""


def is_connected(intent: Intent, state: TunnelState | None, path: Path | None, now: Clock) -> bool:
    """Whether the tunnel has proved itself over this path and has not gone silent since."""
    if state is None or path is None or not state.link.up or state.handshake_wall is None:
        return False
    return intent.provoked is not None and intent.provoked.path == path and not is_lost(intent, state, now)


def is_lost(intent: Intent, state: TunnelState, now: Clock) -> bool:
    """Whether data went out and nothing, not even a handshake, came back for too long."""
    heard = intent.heard
    return (
        heard is not None
        and now.boot - heard.at >= LOST_AFTER_S
        and not _hears(heard, state)
        and _has_sent(heard, state, now)
    )


def listen(heard: Heard | None, state: TunnelState, now: Clock) -> Heard:
    """What we know of the other side after looking at ``state``: the moment moves on when it spoke, or we did not."""
    if heard is not None and not _hears(heard, state) and _has_sent(heard, state, now):
        return heard
    return Heard(now.boot, state.rx_bytes, state.tx_bytes, state.handshake_wall)


def _hears(heard: Heard, state: TunnelState) -> bool:
    return state.rx_bytes != heard.rx_bytes or state.handshake_wall != heard.handshake_wall


def _has_sent(heard: Heard, state: TunnelState, now: Clock) -> bool:
    """Whether more went out than keepalives account for."""
    intervals = [peer.keepalive_s for peer in state.peers if peer.keepalive_s]
    keepalives = sum(int((now.boot - heard.at) // interval) + 1 for interval in intervals)
    return state.tx_bytes - heard.tx_bytes > keepalives * KEEPALIVE_BYTES


def must_provoke(intent: Intent, state: TunnelState, path: Path | None, now: Clock) -> bool:
    """Whether to reset the session and shake hands now: on a new path at once, otherwise when the last attempt has had
    its time.
    """
    if path is None:
        return False
    if intent.provoked is None or intent.provoked.path != path:
        return True
    return not is_connected(intent, state, path, now) and now.boot >= retry_at(intent)


def retry_at(intent: Intent) -> float:
    """When the handshake may be provoked anew on the same path."""
    if intent.provoked is None:
        return 0.0
    return intent.provoked.at + RETRY_S[max(min(intent.provoked.attempts, len(RETRY_S)) - 1, 0)]


def next_look(intent: Intent, state: TunnelState, path: Path, now: Clock) -> float:
    """When to look at the tunnel again (CLOCK_BOOTTIME)."""
    if is_connected(intent, state, path, now):
        heard = intent.heard
        if heard is not None and heard.at < now.boot:  # data is out, and no answer yet
            return heard.at + LOST_AFTER_S
        return now.boot + (IDLE_LOOK_S if heard is not None and heard.tx_bytes == state.tx_bytes else BUSY_LOOK_S)
    if intent.provoked is None or intent.provoked.path != path:
        return now.boot + FIRST_LOOK_S
    waited = now.boot - intent.provoked.at
    return min(
        now.boot + min(max(waited / 4, FIRST_LOOK_S), LAST_LOOK_S), max(retry_at(intent), now.boot + FIRST_LOOK_S)
    )

# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the tunnel alive, and when must it shake hands: what `connected`, `lost` and `idle` mean.

Connected: an authenticated handshake since link, endpoint or uplink last changed. To make that a plain fact, every
change of path resets the peers (`TunnelWish.path`), so that any handshake at all is a handshake over this path.

Lost: data sent, and for `LOST_AFTER_S` neither anything received nor a handshake. A healthy WireGuard peer answers data
within 10 s even if it has nothing to say (passive keepalive, WireGuard paper section 6.5), and WireGuard itself starts
a new handshake after 15 s of silence. Idle is not lost.

Sent is also what programs have put into the link and WireGuard has not sent: the kernel refuses outer packets that have
no route, or that another firewall drops, and only the link's own counter has seen them.

In doubt: data sent, and for `SUSPECT_S` little or no data received, whatever keepalives say. That may be a user who
sends what nobody answers, so a probe through the tunnel decides (`inquiries.ProbeTunnel`); nothing is asked while
nobody sends. Unanswered once: lost, at once, so that a handshake shows whether the gateway is there at all. Unanswered
again behind that handshake: the gateway is there and leads nowhere (`is_dead_end`). Answered: all is well, and it is
not asked again for a while.
"""

from typing import Final

from aovpnd.clock import Clock
from aovpnd.gateways import Doubt, Heard, Path, Provoked
from aovpnd.ipsec import IKE_BACKEND
from aovpnd.model import Intent, TunnelState

LOST_AFTER_S: Final = 35.0
"""15 s until WireGuard asks for a new handshake (KEEPALIVE_TIMEOUT + REKEY_TIMEOUT), 20 s for it to succeed."""
RETRY_S: Final = (2.0, 3.0, 5.0, 10.0, 20.0, 40.0, 60.0)
"""Until the handshake is provoked anew, by the number of attempts; in between WireGuard itself retries every 5 s, for
90 s. Soon at first: a gateway that comes back, or a portal that has opened, is found within moments."""
IN_VAIN: Final = 3
"""Attempts after which somebody should know that the gateway does not answer."""
SUSPECT_S: Final = 5.0
"""No data back for so long is worth a question: longer than a slow page, shorter than a person waits."""
WINDOW_S: Final = 30.0
"""The span over which what goes out and what comes back are compared."""
COOL_S: Final = (15.0, 60.0, 300.0, 600.0)
"""How long a probe that was answered holds, by how many were in a row; somebody then sends what nobody answers."""
AGAIN_S: Final = (0.0, 10.0, 30.0, 60.0, 300.0)
"""How long after a probe that went unanswered the next one comes: the second decides, so it comes at once."""
DEAD_END: Final = 2
"""Probes in vain, with a handshake in between."""
BUSY_LOOK_S: Final = 5.0
IDLE_LOOK_S: Final = 30.0
"""How often a connected tunnel is looked at, with traffic and without."""
FIRST_LOOK_S, LAST_LOOK_S = 0.02, 5.0
"""Nothing tells us that a handshake succeeded (the kernel sends no event), so we look: soon at first, then less and
less often."""
KEEPALIVE_BYTES: Final = 32
"""A keepalive is a data message without data: 16 bytes of header, 16 of tag."""
INITIATION_BYTES, RESPONSE_BYTES = 148, 92
PASSIVE_S, REKEY_S = 10.0, 120.0
"""KEEPALIVE_TIMEOUT and REKEY_AFTER_TIME: how often the two are sent while all is well."""
RETRANSMIT_S: Final = 5.0
"""REKEY_TIMEOUT: how often a handshake is asked for that is not answered."""
STUCK_BYTES: Final = 512
"""More than the kernel says by itself on a link that has just come up (MLDv2 reports), which may be for no peer."""
UNSENT_S: Final = 1.0
"""A handshake is asked for at once; it is on its way, and counted, long before."""
EVIDENCE_BYTES: Final = 1024
"""So much sent, beyond handshakes and keepalives, are programs at work: a TLS client has said hello."""
FRESH_SESSION_S: Final = 180.0
"""A session older than REJECT_AFTER_TIME is no proof of anything."""


def is_connected(intent: Intent, state: TunnelState | None, path: Path | None, now: Clock) -> bool:
    """Whether the tunnel has proved itself over this path and has not gone silent since."""
    if state is None or path is None or not state.link.up or state.handshake_wall is None:
        return False
    return intent.provoked is not None and intent.provoked.path == path and not is_lost(intent, state, now)


def is_lost(intent: Intent, state: TunnelState, now: Clock) -> bool:
    """Whether data went out and nothing, not even a handshake, came back for too long, or a probe has said so.

    Where IKE is behind it, charon asks by itself (RFC 7296 section 2.4, RFC 3706), and silence shows as a lost SA.
    """
    doubt, provoked = doubt_of(intent), intent.provoked
    if doubt is not None and doubt.unanswered == 1 and provoked is not None and provoked.at < (doubt.at or now.boot):
        return True
    heard = intent.heard
    return (
        state.backend != IKE_BACKEND
        and heard is not None
        and now.boot - heard.at >= LOST_AFTER_S
        and not _hears(heard, state)
        and has_sent(heard, state, now)
    )


def listen(heard: Heard | None, state: TunnelState, now: Clock) -> Heard:
    """What we know of the other side after looking at ``state``: the moment moves on when it spoke, or we did not."""
    if heard is not None and not _hears(heard, state) and has_sent(heard, state, now):
        return heard
    return _heard(state, now)


def _heard(state: TunnelState, now: Clock) -> Heard:
    return Heard(now.boot, state.rx_bytes, state.tx_bytes, state.handshake_wall, state.put_bytes)


def _hears(heard: Heard, state: TunnelState) -> bool:
    return state.rx_bytes != heard.rx_bytes or state.handshake_wall != heard.handshake_wall


def has_sent(heard: Heard, state: TunnelState, now: Clock) -> bool:
    """Whether more went out, or should have, than keepalives account for."""
    if _is_stuck(heard, state):
        return True
    intervals = [peer.keepalive_s for peer in state.peers if peer.keepalive_s]
    keepalives = sum(int((now.boot - heard.at) // interval) + 1 for interval in intervals)
    return state.tx_bytes - heard.tx_bytes > keepalives * KEEPALIVE_BYTES


def _is_stuck(before: Heard, state: TunnelState) -> bool:
    """Whether programs have put more into the link than was sent to peers, where it grows by some bytes a packet."""
    sent = state.tx_bytes - before.tx_bytes
    return sent >= 0 and state.put_bytes - before.put_bytes > sent + STUCK_BYTES  # less than 0: peers were set anew


def is_used(state: TunnelState, tx_bytes: int, span: float) -> bool:
    """Whether programs have sent something in the last ``span`` seconds, at whose beginning ``tx_bytes`` was the count:
    more than handshakes and keepalives account for.
    """
    keepalives = [PASSIVE_S, *(float(peer.keepalive_s) for peer in state.peers if peer.keepalive_s)]
    own = sum(KEEPALIVE_BYTES * (1 + span / interval) for interval in keepalives)
    own += INITIATION_BYTES * (2 + span / REKEY_S)
    return state.tx_bytes - tx_bytes > own * len(state.peers) + EVIDENCE_BYTES


def sends_nothing(intent: Intent, state: TunnelState | None, now: Clock) -> bool:
    """Whether a handshake was asked for, and not one packet has left the machine for it."""
    provoked = intent.provoked
    if provoked is None or state is None or state.backend == IKE_BACKEND or now.boot - provoked.at < UNSENT_S:
        return False  # what charon sends before there is an SA, nobody counts
    return state.handshake_wall is None and state.tx_bytes == 0


# -- in doubt ---------------------------------------------------------------------------------------------------------
def doubt_of(intent: Intent) -> Doubt | None:
    """What probes have said of the path that is in use; those of another path say nothing."""
    doubt, provoked = intent.doubt, intent.provoked
    return doubt if doubt is not None and provoked is not None and doubt.path == provoked.path.fingerprint() else None


def doubted(intent: Intent, path: str, *, unanswered: int, answered: int) -> Doubt:
    """One more probe of this path went the one way or the other; the next pass says when."""
    before = intent.doubt if intent.doubt is not None and intent.doubt.path == path else None
    return Doubt(
        path,
        None,
        unanswered + (before.unanswered if before is not None and unanswered else 0),
        answered + (before.answered if before is not None and answered else 0),
    )


def is_dead_end(intent: Intent) -> bool:
    """Whether the gateway shakes hands and leads nowhere."""
    doubt = doubt_of(intent)
    return doubt is not None and doubt.unanswered >= DEAD_END


def listen_for_data(returned: Heard | None, state: TunnelState, now: Clock) -> Heard:
    """What we know of behind the gateway: the moment moves on when data came back, or none went out.

    And after `WINDOW_S`, so that what was lost long ago does not weigh against what comes back now.
    """
    if (
        returned is not None
        and now.boot - returned.at < WINDOW_S
        and not has_data_come(returned, state, now)
        and has_data_gone(returned, state, now)
    ):
        return returned
    return _heard(state, now)


def has_data_come(returned: Heard, state: TunnelState, now: Clock) -> bool:
    """Whether more was received than keepalives, handshakes and half of what went out account for.

    Half: a resolver on a gateway that leads nowhere answers, and every page that is asked for fails all the same. An
    upload gets less than half back as well; then a probe is asked now and then, and answered.
    """
    span = now.boot - returned.at
    shaken = state.handshake_wall != returned.handshake_wall
    handshakes = (INITIATION_BYTES + RESPONSE_BYTES) * (1 + int(span // REKEY_S)) if shaken else 0
    keepalives = KEEPALIVE_BYTES * (2 + int(span // PASSIVE_S))
    least = (handshakes + keepalives) * max(len(state.peers), 1) + (state.tx_bytes - returned.tx_bytes) / 2
    return state.rx_bytes - returned.rx_bytes > least


def has_data_gone(returned: Heard, state: TunnelState, now: Clock) -> bool:
    """Whether more was sent, or should have been, than keepalives and handshakes account for, those that nobody answers
    included.
    """
    if _is_stuck(returned, state):
        return True
    span = now.boot - returned.at
    intervals = [PASSIVE_S, *(peer.keepalive_s for peer in state.peers if peer.keepalive_s)]
    keepalives = KEEPALIVE_BYTES * sum(1 + int(span // interval) for interval in intervals)
    handshakes = INITIATION_BYTES * (1 + int(max(span - PASSIVE_S, 0) // RETRANSMIT_S))
    return state.tx_bytes - returned.tx_bytes > keepalives + handshakes


def probe_at(intent: Intent, now: Clock) -> float | None:
    """When to ask through the tunnel that is connected, or None while nothing speaks for it."""
    doubt, returned = doubt_of(intent), intent.returned
    if doubt is not None and doubt.unanswered == 1:
        return doubt.at  # behind the handshake that the first one has caused, whether anybody sends or not
    if returned is None or returned.at >= now.boot:
        return None
    suspect_at = returned.at + SUSPECT_S
    if doubt is None or doubt.at is None:
        return suspect_at
    if doubt.unanswered:
        return max(suspect_at, doubt.at + AGAIN_S[min(doubt.unanswered, len(AGAIN_S)) - 1])
    return max(suspect_at, doubt.at + COOL_S[min(doubt.answered, len(COOL_S)) - 1])


def must_probe(intent: Intent, state: TunnelState | None, path: Path | None, now: Clock) -> bool:
    """Whether to ask through the tunnel now."""
    if not is_connected(intent, state, path, now):
        return False
    moment = probe_at(intent, now)
    return moment is not None and moment <= now.boot


# -- when to shake hands, when to look --------------------------------------------------------------------------------
def must_provoke(intent: Intent, state: TunnelState, path: Path | None, now: Clock) -> bool:
    """Whether to reset the session and shake hands now: on a new path at once, otherwise when the last attempt has had
    its time.
    """
    if path is None:
        return False
    if intent.provoked is None or intent.provoked.path != path:
        return True
    if state.said is not None and state.said.waits:
        return False  # not before somebody signs in, which begins anew (`told`)
    return not is_connected(intent, state, path, now) and now.boot >= retry_at(intent)


def provoked(before: Provoked | None, path: Path, now: float) -> Provoked:
    """A handshake was asked for at ``now`` (CLOCK_BOOTTIME): once more on the same path, or for the first time."""
    attempts = before.attempts if before is not None and before.path == path else 0
    return Provoked(path, now, attempts + 1)


def retry_at(intent: Intent) -> float:
    """When the handshake may be provoked anew on the same path."""
    if intent.provoked is None:
        return 0.0
    return intent.provoked.at + RETRY_S[max(min(intent.provoked.attempts, len(RETRY_S)) - 1, 0)]


def next_look(intent: Intent, state: TunnelState, path: Path, now: Clock) -> float:
    """When to look at the tunnel again (CLOCK_BOOTTIME)."""
    if is_connected(intent, state, path, now):
        heard, probe = intent.heard, probe_at(intent, now)
        looks = [now.boot + (BUSY_LOOK_S if intent.sent_at == now.boot else IDLE_LOOK_S)]
        looks += [probe] if probe is not None and probe > now.boot else []
        if heard is not None and heard.at < now.boot:  # data is out, and no answer yet
            looks += [now.boot + BUSY_LOOK_S, heard.at + LOST_AFTER_S]
        return min(looks)
    if intent.provoked is None or intent.provoked.path != path:
        return now.boot + FIRST_LOOK_S
    if state.said is not None and state.said.waits:
        return now.boot + IDLE_LOOK_S
    waited = now.boot - intent.provoked.at
    return min(
        now.boot + min(max(waited / 4, FIRST_LOOK_S), LAST_LOOK_S), max(retry_at(intent), now.boot + FIRST_LOOK_S)
    )

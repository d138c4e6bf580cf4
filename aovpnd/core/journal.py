# SPDX-License-Identifier: GPL-3.0-or-later
"""``entries(last, picture, done, reason)``: what the log says of a pass, and nothing of one that changed nothing.

One line per pass that did something. It has the id of the most telling event in it; the rare further event gets a line
of its own, so that ``journalctl MESSAGE_ID=…`` finds every one of a kind.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from aovpnd.core.picture import Picture
from aovpnd.messages import Entry, Message
from aovpnd.model import Config, Grant, Phase, Severity
from aovpnd.orders import Action, LoadRuleset

MOST_PROBLEMS: Final = 3
"""Faults of files that a line of the log tells; ``aovpnctl check`` tells all."""


@dataclass(frozen=True, slots=True)
class Last:
    """What the log has said last."""

    phase: Phase | None = None
    grant: Grant | None = None
    tunnel: str | None = None


def last(picture: Picture) -> Last:
    """What the next pass is compared with."""
    spec = picture.spec
    return Last(picture.desired.phase, picture.intent.grant, spec.name if spec is not None else None)


def entries(before: Last, picture: Picture, done: tuple[Action, ...], reason: str) -> tuple[Entry, ...]:
    """The lines of a pass that performed ``done``, woken by ``reason``."""
    events = list(_events(before, picture, done))
    if not events:
        return ()
    phase, fields = picture.desired.phase, _fields(before, picture)
    actions = [action.describe() for action in done]
    (message, text, more), *others = events
    whole = f"{': '.join(filter(None, (phase, '; '.join(filter(None, (text, *actions))))))} (woken by: {reason})"
    first = Entry(message, whole, (*fields, ("ACTIONS", "; ".join(actions)), ("REASON", reason), *more))
    return (first, *(Entry(message, f"{phase}: {text}", (*fields, *more)) for message, text, more in others))


Event = tuple[Message, str, tuple[tuple[str, str], ...]]


def _events(before: Last, picture: Picture, done: tuple[Action, ...]) -> Iterator[Event]:
    """What happened, the most telling first; the last two say only that something did."""
    found = (*_window(before.grant, picture.intent.grant), *_tunnel(before, picture), *_ruleset(picture, done))
    yield from found
    if not found and before.phase is not picture.desired.phase:
        yield Message.PHASE_CHANGED, "", ()
    elif not found and done:
        yield Message.RULESET_LOADED if _loads(done) else Message.SYSTEM_CHANGED, "", ()


def _window(before: Grant | None, grant: Grant | None) -> Iterator[Event]:
    if before is not None and grant != before:
        text = f"temporary access on {before.link_name} has ended"
        yield Message.WINDOW_CLOSED, text, (("LINK", before.link_name), ("USER", before.granted_to))
    if grant is not None and grant != before:
        span = round(grant.expires_at - grant.granted_at)
        why = f": {grant.reason}" if grant.reason else ""
        text = f"temporary access on {grant.link_name} for {span} s, granted to {grant.granted_to}{why}"
        fields = (("LINK", grant.link_name), ("USER", grant.granted_to), ("SPAN_S", str(span)), ("WHY", grant.reason))
        yield Message.WINDOW_OPENED, text, fields


def _tunnel(before: Last, picture: Picture) -> Iterator[Event]:
    phase, spec = picture.desired.phase, picture.spec
    if before.phase is Phase.CONNECTED and phase in {Phase.CONNECTING, Phase.OFFLINE}:
        yield Message.TUNNEL_LOST, f"the tunnel {before.tunnel} is no longer up", (("LOST", before.tunnel or ""),)
    if spec is None:
        return
    if before.tunnel is not None and before.tunnel != spec.name:
        text = f"from the tunnel {before.tunnel} to {spec.name}"
        yield Message.TUNNEL_SWITCHED, text, (("TUNNEL_BEFORE", before.tunnel),)
    if phase is Phase.CONNECTED and before.phase is not Phase.CONNECTED:
        yield Message.TUNNEL_UP, f"the tunnel {spec.name} is up", ()


def _ruleset(picture: Picture, done: tuple[Action, ...]) -> Iterator[Event]:
    culprit = picture.snapshot.culprit
    if culprit is not None and _loads(done):
        yield Message.RULESET_RESTORED, f"restored what {culprit} changed", (("CULPRIT", culprit),)


def _loads(done: Iterable[Action]) -> bool:
    return any(isinstance(action, LoadRuleset) and action.ruleset is not None for action in done)


def _fields(before: Last, picture: Picture) -> tuple[tuple[str, str], ...]:
    """What every line of a pass has."""
    spec = picture.spec
    return (
        ("PHASE", picture.desired.phase),
        ("PHASE_BEFORE", before.phase if before.phase and before.phase is not picture.desired.phase else ""),
        ("TUNNEL", spec.name if spec is not None else ""),
        ("UPLINK", " ".join(uplink.link.name for uplink in picture.desired.uplinks)),
    )


def failed(picture: Picture, action: Action, done: tuple[Action, ...], fault: str) -> Entry:
    """The line of an action that failed; ``done`` are those before it."""
    fields = (
        *_fields(Last(picture.desired.phase), picture),
        ("ACTION", type(action).__name__),
        ("ACTIONS", "; ".join(each.describe() for each in done)),
        ("FAULT", fault),
    )
    return Entry(Message.ACTION_FAILED, f"{picture.desired.phase}: {action.describe()} failed: {fault}", fields)


def configured(config: Config) -> Entry:
    """The line of a configuration that was read: good, or broken, and then how."""
    tunnels = ", ".join(spec.name for spec in config.tunnels) or "none"
    errors = [problem.text for problem in config.problems if problem.severity is Severity.ERROR]
    if not errors:
        return Entry(Message.CONFIGURATION_READ, f"configuration read; tunnels: {tunnels}", (("TUNNELS", tunnels),))
    told = "; ".join(errors[:MOST_PROBLEMS])
    more = f"; and {len(errors) - MOST_PROBLEMS} more (aovpnctl check)" if len(errors) > MOST_PROBLEMS else ""
    text = f"the configuration is broken, and what worked is kept: {told}{more}"
    return Entry(Message.CONFIGURATION_BROKEN, text, (("TUNNELS", tunnels), ("FAULT", told)))

# SPDX-License-Identifier: GPL-3.0-or-later
"""``entries(last, picture, done, reason)``: what the log says of a pass, and nothing of one that changed nothing.

One line per pass that did something. It has the id of the most telling event in it; the rare further event gets a line
of its own, so that ``journalctl MESSAGE_ID=…`` finds every one of a kind. And one line for each problem that appears or
goes, which is why something happened, or did not.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from aovpnd.core.picture import Picture
from aovpnd.messages import ERROR, INFO, WARNING, Entry, Message
from aovpnd.model import Config, Grant, Phase, Problem, Severity
from aovpnd.orders import Action, LoadRuleset

MOST_PROBLEMS: Final = 3
"""Faults of files that a line of the log tells; ``aovpnctl check`` tells all."""


@dataclass(frozen=True, slots=True)
class Last:
    """What the log has said last."""

    phase: Phase | None = None
    grant: Grant | None = None
    tunnel: str | None = None
    up: bool = False
    """Whether the tunnel was, a window that pauses it or not."""
    problems: tuple[Problem, ...] = ()


NOTHING_YET: Final = Last()


def last(picture: Picture, done: tuple[Action, ...] = (), before: Last = NOTHING_YET) -> Last:
    """What the next pass is compared with. Problems are told once the system has settled: a guard that is not there
    when the daemon starts is there in a moment.
    """
    spec = picture.spec
    up = picture.intent.connected_at is not None
    problems = before.problems if done else _told(picture)
    return Last(picture.desired.phase, picture.intent.grant, spec.name if spec is not None else None, up, problems)


def entries(before: Last, picture: Picture, done: tuple[Action, ...], reason: str) -> tuple[Entry, ...]:
    """The lines of a pass that performed ``done``, woken by ``reason``."""
    events, problems = list(_events(before, picture, done)), () if done else tuple(_problems(before, picture))
    if not events:
        return problems
    phase, fields = picture.desired.phase, _fields(before, picture)
    actions = [action.describe() for action in done]
    (message, text, more), *others = events
    whole = f"{': '.join(filter(None, (phase, '; '.join(filter(None, (text, *actions))))))} (woken by: {reason})"
    first = Entry(message, whole, (*fields, ("ACTIONS", "; ".join(actions)), ("REASON", reason), *more))
    return (first, *(Entry(message, f"{phase}: {text}", (*fields, *more)) for message, text, more in others), *problems)


Event = tuple[Message, str, tuple[tuple[str, str], ...]]


def _events(before: Last, picture: Picture, done: tuple[Action, ...]) -> Iterator[Event]:
    """What happened, the most telling first; the last two say only that something did."""
    found = (
        *_undone(before, picture),
        *_window(before.grant, picture.intent.grant),
        *_tunnel(before, picture),
        *_ruleset(picture, done),
    )
    yield from found
    if not found and before.phase is not picture.desired.phase:
        yield Message.PHASE_CHANGED, "", ()
    elif not found and done:
        yield Message.RULESET_LOADED if _loads(done) else Message.SYSTEM_CHANGED, "", ()


def _undone(before: Last, picture: Picture) -> Iterator[Event]:
    if picture.desired.phase is not before.phase and picture.intent.undone_at is not None:
        yield Message.BLOCK_UNDONE, "nobody confirmed the first block in time, so it undid itself", ()


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
    moved = spec is not None and before.tunnel not in {None, spec.name}  # on purpose, or for what a problem says
    if before.phase is Phase.CONNECTED and phase in {Phase.CONNECTING, Phase.OFFLINE} and not moved:
        yield Message.TUNNEL_LOST, f"the tunnel {before.tunnel} is no longer up", (("LOST", before.tunnel or ""),)
    if spec is None:
        return
    if before.tunnel is not None and moved:
        text = f"from the tunnel {before.tunnel} to {spec.name}"
        yield Message.TUNNEL_SWITCHED, text, (("TUNNEL_BEFORE", before.tunnel),)
    if phase is Phase.CONNECTED and before.phase is not Phase.CONNECTED and not before.up:
        yield Message.TUNNEL_UP, f"the tunnel {spec.name} is up", ()


def _ruleset(picture: Picture, done: tuple[Action, ...]) -> Iterator[Event]:
    culprit = picture.snapshot.culprit
    if culprit is not None and _loads(done):
        yield Message.RULESET_RESTORED, f"restored what {culprit} changed", (("CULPRIT", culprit),)


def _loads(done: Iterable[Action]) -> bool:
    return any(isinstance(action, LoadRuleset) and action.ruleset is not None for action in done)


_TOLD_OTHERWISE: Final = frozenset({"action-failed", "dns-failed", "sockets-left", "ruleset-changed"})
"""Codes of problems that have lines of their own."""
_LOUD: Final = {Severity.INFO: INFO, Severity.WARNING: WARNING, Severity.ERROR: ERROR}


def _told(picture: Picture) -> tuple[Problem, ...]:
    """The problems that are told one by one; those of files are told when the files are read."""
    problems = (problem for problem in picture.desired.problems if problem not in picture.config.problems)
    return tuple(problem for problem in problems if problem.code not in _TOLD_OTHERWISE)


def _problems(before: Last, picture: Picture) -> Iterator[Entry]:
    """Those that have come and gone. One whose words alone have changed is still the same."""
    now = _told(picture)
    many, were = Counter(problem.code for problem in now), Counter(problem.code for problem in before.problems)
    for problem in now:
        if many[problem.code] > were[problem.code] and problem not in before.problems:
            hint = f" ({problem.hint})" if problem.hint else ""
            fields = (*_problem(before, picture, problem), ("HINT", problem.hint))
            yield Entry(Message.PROBLEM_FOUND, f"problem: {problem.text}{hint}", fields, _LOUD[problem.severity])
    for problem in before.problems:
        if were[problem.code] > many[problem.code] and problem not in now:
            yield Entry(Message.PROBLEM_GONE, f"no longer: {problem.text}", _problem(before, picture, problem))


def _problem(before: Last, picture: Picture, problem: Problem) -> tuple[tuple[str, str], ...]:
    said = (("PROBLEM_CODE", problem.code), ("PROBLEM_SEVERITY", problem.severity), ("PROBLEM", problem.text))
    return (*_fields(before, picture), *said)


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

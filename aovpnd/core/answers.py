# SPDX-License-Identifier: GPL-3.0-or-later
"""``answer(question, picture) -> Answer``: what is, put so that a person and a program can read it. Never a key in it.

The keys of the data are stable, and in aovpnctl(8): times in seconds from now, addresses as texts, unknown as null.
"""

from collections.abc import Mapping

from aovpnd.clock import Clock
from aovpnd.core.explain import Explanation, Fate, explain, route_text
from aovpnd.core.picture import Picture
from aovpnd.core.sentences import SPECIFICATION, tell, words
from aovpnd.destinations import Routed
from aovpnd.model import LinkWish, Origin, Snapshot
from aovpnd.orders import Answer, Question
from aovpnd.routes import Routing
from aovpnd.ruleset import Ruleset

Document = dict[str, object]


def answer(question: Question, picture: Picture, said: Routed | None = None) -> Answer:
    """Answer from what the last pass saw, and from what the kernel ``said`` of the way."""
    if question.to is None:
        count = len(picture.actions)
        pending = f"{count} things are still to be done" if count != 1 else "one thing is still to be done"
        text = f"{picture.desired.phase}: {pending if count else 'everything is as it should be'}"
        return Answer(text, data=overview(picture))
    what = explain(picture, question.to, said)
    told = tell(picture, what)
    grant = picture.intent.grant
    ends = grant.expires_at if what.fate is Fate.ACCESS and grant is not None else None
    return Answer(told.text, ends, _explained(what, told.hint, told.origins))


def _explained(what: Explanation, hint: str, origins: tuple[Origin, ...]) -> Document:
    return {
        "destination": str(what.to),
        "passes": what.passes,
        "fate": what.fate.value,
        "permit": words(what.permit) if what.permit is not None else None,
        "link": what.way.link.name if what.way.link is not None else None,
        "source": str(what.way.source) if what.way.source is not None else None,
        "hint": hint,
        "specification": SPECIFICATION,
        "origins": list(map(_origin, origins)),
        "stages": [
            {"where": stage.where, "rule": stage.rule, "why": stage.why, "verdict": stage.verdict}
            for stage in what.stages
        ],
    }


def _origin(origin: Origin) -> Document:
    return {"file": origin.file, "line": origin.line, "key": origin.key, "value": origin.value}


# -- everything -------------------------------------------------------------------------------------------------------
def overview(picture: Picture) -> Document:
    """What was seen, what is wanted, what should be, and what is to be done about it."""
    intent, now = picture.intent, picture.snapshot.now
    return {
        "phase": picture.desired.phase.value,
        "snapshot": _snapshot(picture.snapshot),
        "intent": _intent(picture, now),
        "desired": _desired(picture),
        "actions": [action.describe() for action in picture.actions],
        "failures": [
            {
                "action": failure.action,
                "attempts": failure.attempts,
                "again_in_s": _until(failure.retry_at, now),
                "text": failure.text,
                "hint": failure.hint,
            }
            for failure in intent.failures
        ],
    }


def _snapshot(snapshot: Snapshot) -> Document:
    names = {link.index: link.name for link in snapshot.links}
    return {
        "links": [
            {"index": link.index, "name": link.name, "kind": link.kind, "up": link.up, "carrier": link.carrier}
            for link in snapshot.links
        ],
        "addresses": [f"{a.interface} dev {names.get(a.link, a.link)}" for a in snapshot.addresses],
        "main": [route_text(route, snapshot.links) for route in snapshot.main],
        "routing": _routing(snapshot.routing, snapshot),
        "tunnels": [
            {
                "link": state.link.name,
                "backend": state.backend,
                "up": state.link.up,
                "addresses": list(map(str, state.addresses)),
                "endpoints": [str(peer.endpoint) for peer in state.peers if peer.endpoint is not None],
                "handshake_s_ago": _since(state.handshake_wall, snapshot.now),
            }
            for state in snapshot.tunnels
        ],
        "ruleset": _ruleset(snapshot.ruleset),
        "table_present": snapshot.table_present,
        "guard": snapshot.guard.value,
        "copies": snapshot.copies.value,
        "resolvers": list(map(str, snapshot.resolvers)),
        "unblocked": snapshot.unblocked,
        "ipv6": snapshot.ipv6,
    }


def _intent(picture: Picture, now: Clock) -> Document:
    intent, grant = picture.intent, picture.intent.grant
    return {
        "block": intent.block.value,
        "wish": intent.wish.value,
        "chosen": None if picture.spec is None else picture.spec.name,
        "named_by_the_user": intent.chosen,
        "grants_this_hour": len(intent.used),
        "grant": None
        if grant is None
        else {
            "kind": grant.kind.value,
            "link": grant.link_name,
            "ends_in_s": _until(grant.expires_at, now),
            "granted_to": grant.granted_to,
            "reason": grant.reason or None,
        },
    }


def _desired(picture: Picture) -> Document:
    desired, snapshot = picture.desired, picture.snapshot
    return {
        "permits": list(dict.fromkeys(map(words, picture.permits))),
        "ruleset": _ruleset(desired.ruleset),
        "routing": None if desired.routing is None else _routing(desired.routing, snapshot),
        "tunnels": [
            {
                "name": wish.spec.name,
                "file": wish.spec.source,
                "link": wish.link_name,
                "up": wish.state is LinkWish.UP,
                "handshake": "to be made anew" if wish.path is not None else "left alone",
            }
            for wish in desired.tunnels
        ],
        "guard": desired.guard.value,
        "unblocked": desired.unblocked,
        "uplinks": [
            {
                "link": uplink.link.name,
                "gateways": list(map(str, uplink.gateways)),
                "prefixes": list(map(str, uplink.prefixes)),
            }
            for uplink in desired.uplinks
        ],
        "inquiries": [inquiry.describe() for inquiry in desired.inquiries],
        "problems": [problem.text for problem in desired.problems],
        "look_again_in_s": _until(desired.wake_at, snapshot.now),
    }


def _ruleset(ruleset: Ruleset | None) -> Mapping[str, int] | None:
    """How many rules each chain has; what they say, ``nft list table inet aovpnd`` shows."""
    return None if ruleset is None else {chain.name: len(chain.rules) for chain in ruleset.chains}


def _routing(routing: Routing, snapshot: Snapshot) -> Document:
    return {
        "rules": [f"IPv{family}" for family in routing.rules],
        "shut": [f"IPv{family}" for family in routing.shut],
        "routes": [route_text(route, snapshot.links) for route in routing.routes],
        "of_users": [
            {
                "table": lane.table,
                "users": list(lane.users),
                "link": lane.link_name,
                "routes": [route_text(route, snapshot.links) for route in lane.routes],
            }
            for lane in routing.lanes
        ],
    }


def _until(at: float | None, now: Clock) -> float | None:
    return None if at is None else round(max(at - now.boot, 0.0), 1)


def _since(wall: int | None, now: Clock) -> float | None:
    return None if wall is None else round(max(now.wall - wall, 0.0), 1)

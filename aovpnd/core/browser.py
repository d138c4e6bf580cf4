# SPDX-License-Identifier: GPL-3.0-or-later
"""Gateways that shake hands with whoever has the key, and let him reach one page until he has signed in there with his
browser. A tunnel whose settings name a check (`[[sign_in]]`) is asked for it, and so is known to wait for somebody.

Asked once in each session: when the tunnel has connected. While a sign-in is wanted, again and again, ever more seldom,
so that it is known soon when somebody is in; when all is well only after ten minutes, and only if programs send: idle
is silent, and a tunnel that rests is never asked. What waits for a browser is no dead end, so no probe judges it, and
no other tunnel takes over. Only the tunnel that carries is asked.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from aovpnd.clock import Clock
from aovpnd.core.filtering import may_ask
from aovpnd.core.health import RETRY_S, is_used
from aovpnd.core.view import View
from aovpnd.filters import Filter
from aovpnd.inquiries import Unanswered, Visited, VisitPage
from aovpnd.ipsec import TunnelSpec
from aovpnd.model import Config, Intent, Phase, Problem, Severity, TunnelState
from aovpnd.pages import Check, Page, Visit
from aovpnd.ruleset import Address

AGAIN_S: Final = 600.0
"""A session at the gateway's page may end behind our backs: who uses the tunnel asks again after that time."""
VAIN_S: Final = 10.0
"""When nothing was found out: doubled each time, up to `AGAIN_S`."""
FORGETS: Final = 2
"""What was wanted is no longer claimed after so many questions in vain."""
MOST_RESOLVERS: Final = 3


# -- what is remembered ------------------------------------------------------------------------------------------------
def _check_of(config: Config, spec: TunnelSpec | None) -> Check | None:
    return next((check for check in config.sign_in if spec is not None and check.tunnel == spec.name), None)


def settle(config: Config, intent: Intent, seen: View, now: Clock) -> Visit | None:
    """The memory after looking: begun anew with each session, and no longer than it. A rest changes nothing of it."""
    check, state, path = _check_of(config, seen.spec), seen.state, seen.path
    if check is None or state is None or path is None:
        return None
    visit = intent.visit
    if intent.rest is not None:
        return visit if visit is not None and visit.check == check else None
    if intent.connected_at is None:
        return None
    session = (check, path.fingerprint(), intent.connected_at)
    if visit is None or (visit.check, visit.path, visit.since) != session:
        visit = Visit(*session)
    if visit.at is None and not visit.fresh:
        visit = replace(visit, at=now.boot, tx_bytes=state.tx_bytes)
    return replace(visit, tx_bytes=min(visit.tx_bytes, state.tx_bytes))  # a counter may begin anew


def learn(intent: Intent, inquiry: VisitPage, finding: Visited | Unanswered) -> Intent:
    """The memory after the page was asked for. Who waits for a browser is in no doubt."""
    visit = intent.visit
    if visit is None or (visit.path, visit.check.page) != (inquiry.path, inquiry.page):
        return intent
    if isinstance(finding, Visited):
        alike = (visit.wanted is None) is (finding.wanted is None)
        times = visit.times + 1 if alike else 1
        visit = replace(visit, at=None, wanted=finding.wanted, times=times, vain=0)
        return replace(intent, visit=visit, doubt=intent.doubt if finding.wanted is None else None)
    visit = replace(visit, at=None, vain=visit.vain + 1)
    if visit.wanted is None or visit.vain >= FORGETS:
        visit = replace(visit, wanted=None, times=0)  # nothing is known any more
    return replace(intent, visit=visit)


def wanted(intent: Intent, path: str) -> str | None:
    """The URL at which somebody is to sign in, of the path with this fingerprint."""
    return intent.visit.wanted if intent.visit is not None and intent.visit.path == path else None


# -- when to ask -------------------------------------------------------------------------------------------------------
def due_at(visit: Visit) -> float | None:
    """When to ask next, if it is of use then; None until the pass that takes an answer in."""
    if visit.fresh:
        return visit.since
    if visit.at is None:
        return None
    if visit.wanted is not None:
        return visit.at + RETRY_S[min(visit.times + visit.vain, len(RETRY_S)) - 1]
    return visit.at + (min(VAIN_S * 2.0 ** min(visit.vain - 1, 16), AGAIN_S) if visit.vain else AGAIN_S)


def _is_due(config: Config, visit: Visit, state: TunnelState, now: Clock) -> bool:
    moment = due_at(visit)
    if moment is None or now.boot < moment:
        return False
    # One that is to rest when nobody sends would never come to it.
    ceases = visit.check.tunnel in config.on_demand and visit.times >= len(RETRY_S)
    if visit.at is None or (visit.wanted is not None and not ceases):
        return True
    return is_used(state, visit.tx_bytes, now.boot - visit.at)


def inquiry(config: Config, intent: Intent, now: View, clock: Clock) -> VisitPage | None:
    """The question that is due, of a tunnel that is connected."""
    visit = intent.visit
    if now.phase is not Phase.CONNECTED or now.spec is None or now.state is None or visit is None:
        return None
    page, link = visit.check.page, now.state.link
    if _unasked(now.spec, now.filters, page) is not None or not _is_due(config, visit, now.state, clock):
        return None
    resolvers = () if page.endpoint is not None else _resolvers(now.spec, now.filters)
    return VisitPage(link.index, link.name, visit.path, page, resolvers)


def _resolvers(spec: TunnelSpec, filters: tuple[Filter, ...]) -> tuple[Address, ...]:
    return tuple(address for address in spec.dns if may_ask(spec, filters, address))[:MOST_RESOLVERS]


def _unasked(spec: TunnelSpec, filters: tuple[Filter, ...], page: Page) -> str | None:
    """Why the page cannot be asked for through the tunnel, in words; None: it can."""
    if page.endpoint is None:
        found = _resolvers(spec, filters)
        return None if found else f"{spec.name} has no name server that may be asked for {page.host}"
    if may_ask(spec, filters, page.endpoint):
        return None
    return f"{spec.name} does not lead to {page.endpoint}, or its filters do not let it out"


def explains(config: Config, intent: Intent, now: View, clock: Clock) -> bool:
    """Whether nothing need come back from behind the gateway: somebody has to sign in there, or that is being asked."""
    visit = intent.visit
    if visit is None or visit.wanted is not None:
        return visit is not None
    return visit.fresh and inquiry(config, intent, now, clock) is not None


def moments(intent: Intent) -> Iterator[float]:
    """When time alone makes a question due (CLOCK_BOOTTIME)."""
    if intent.rest is None and intent.visit is not None and (moment := due_at(intent.visit)) is not None:
        yield moment


# -- what is told ------------------------------------------------------------------------------------------------------
def problems(config: Config, intent: Intent, now: View) -> Iterator[Problem]:
    """The sign-in that is wanted, and checks that are of no use."""
    visit = intent.visit
    if visit is not None and visit.wanted is not None and now.phase in {Phase.CONNECTED, Phase.RESTING}:
        name = visit.check.tunnel
        text = f"{name}: its gateway lets nobody through before a sign-in with a browser, at {visit.wanted}"
        yield Problem("sign-in-by-browser", Severity.WARNING, text, f"aovpnctl sign-in {name}")
    beside = {each.spec.name for each in now.companions}
    for check in config.sign_in:
        why = None
        if check.tunnel in beside:
            why = f"{check.tunnel} stands beside, and only the tunnel that carries is asked"
        elif now.spec is not None and now.spec.name == check.tunnel and now.phase is Phase.CONNECTED:
            why = _unasked(now.spec, now.filters, check.page)
        if why is not None:
            text = f"nobody is told when {check.tunnel} waits for a sign-in with a browser: {why}"
            yield Problem("sign-in-unasked", Severity.WARNING, text, "see [[sign_in]] in aovpnd.conf(5)")

# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with an IKE tunnel in particular: what charon says, certificates that end, methods that are weak."""

from collections.abc import Iterable
from typing import Final

from aovpnd.core.view import View
from aovpnd.ipsec import IPsec
from aovpnd.model import Phase, Problem, Severity, Snapshot

DAY_S: Final = 86400.0
SOON_S: Final = 14 * DAY_S
"""How long before a certificate ends somebody should know: it has to be asked for, signed and brought here."""


def problems(snapshot: Snapshot, now: View) -> list[Problem]:
    """Of the chosen tunnel, where it is one of IKE."""
    spec = now.spec
    if not isinstance(spec, IPsec):
        return []
    return [*_said(now, spec), *_ends(snapshot.now.wall, spec), *_weak(spec)]


def _said(now: View, spec: IPsec) -> Iterable[Problem]:
    said = now.state.said if now.state is not None else None
    if said is not None and now.phase not in {Phase.CONNECTED, Phase.RESTING}:
        yield Problem(said.code, Severity.ERROR, f"{spec.name}: {said.text}", said.hint)


def _ends(wall: float, spec: IPsec) -> Iterable[Problem]:
    """Certificates that have ended, and those that will soon, with the days that are left."""
    ours = min((at for each in spec.rounds if (at := each.expires_wall) is not None), default=None)
    for whose, at, hint in (
        ("our certificate", ours, "ask whoever issued it for a new one"),
        ("the authority's certificate", spec.server.expires_wall, "ask whoever runs the gateway for the new one"),
    ):
        if at is None or at - wall > SOON_S:
            continue
        if at <= wall:
            text = f"{whose} for {spec.name} has ended {_days(wall - at)} ago"
            yield Problem("certificate-expired", Severity.ERROR, text, f"{hint}; is the clock right?")
        else:
            text = f"{whose} for {spec.name} ends in {_days(at - wall)}"
            yield Problem("certificate-expires", Severity.WARNING, text, hint)


def _days(span_s: float) -> str:
    days = int(span_s // DAY_S)
    return "less than a day" if days < 1 else "one day" if days == 1 else f"{days} days"


def _weak(spec: IPsec) -> Iterable[Problem]:
    if spec.weak:
        text = f"{spec.name} is weak: {'; '.join(spec.weak)}"
        yield Problem(
            "tunnel-is-weak", Severity.WARNING, text, "ask whoever runs the gateway for IKEv2 and certificates"
        )

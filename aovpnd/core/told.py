# SPDX-License-Identifier: GPL-3.0-or-later
"""What the memory makes of what it is told: that the machine sleeps or woke, how networks are called, that somebody has
signed in to a tunnel. What was answered then, nobody here knows.
"""

from dataclasses import replace
from typing import assert_never

from aovpnd.core import sleep
from aovpnd.core.view import choose
from aovpnd.model import Config, Intent, Snapshot, Wish
from aovpnd.orders import Answer, NameNetworks, PrepareSleep, Refusal, SignedIn, Woke


def hear(
    config: Config, intent: Intent, snapshot: Snapshot, told: PrepareSleep | Woke | NameNetworks | SignedIn
) -> tuple[Intent, Answer | Refusal]:
    """The memory after that, and what to answer."""
    match told:
        case PrepareSleep():
            return replace(intent, grant=None), Answer("nothing is left open")
        case Woke():
            return sleep.woke(intent, snapshot.now), Answer("looked again")
        case NameNetworks(names):
            return replace(intent, network_names=names), Answer("names taken down")
        case SignedIn(name):
            return _signed_in(config, intent, name)
        case _:
            assert_never(told)


def _signed_in(config: Config, intent: Intent, name: str) -> tuple[Intent, Answer | Refusal]:
    """Try a tunnel at once that waited for it; one that was left meanwhile carries instead of the one that did."""
    if config.tunnel(name) is None:
        return intent, Refusal("tunnel-unknown", f"there is no tunnel called {name}", "aovpnctl tunnels")
    if intent.wish is Wish.DISCONNECT:
        return intent, Answer(f"kept for {name}, and not tried now (aovpnctl connect)", data={"tried": False})
    trying = Answer(f"signing in to {name}", data={"tried": True})
    if intent.gateways.entry(name) is not None:
        # Not by a trial: that would use up a one-time password, and the tunnel itself would want another.
        left = tuple(left for left in intent.gateways.left if left.tunnel != name)
        gateways = replace(intent.gateways, carrier=name, left=left, trial=None)
        return replace(intent, gateways=gateways, provoked=None), trying
    if any(known.tunnel == name for known in intent.companions):
        companions = tuple(
            replace(known, provoked=None) if known.tunnel == name and known.connected_at is None else known
            for known in intent.companions
        )
        return replace(intent, companions=companions), trying
    spec = choose(config, intent)
    if spec is None or spec.name != name:
        return intent, Answer(f"kept for {name}, and not tried now (aovpnctl connect {name})", data={"tried": False})
    return (intent if intent.connected_at is not None else replace(intent, provoked=None, rest=None)), trying

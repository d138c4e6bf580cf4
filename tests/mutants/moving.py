# SPDX-License-Identifier: GPL-3.0-or-later
"""Weakenings of fail-over, of key rotation in place, and of the rule that tells a dead gateway from a quiet user."""

from typing import Final

from tests.mutants.mutant import CONVERGENCE, FAILOVER, FAILOVER_WAYS, HEALTH, NO_LEAK, Mutant

_VIEW: Final = "aovpnd/core/view.py"
_FAILOVER: Final = "aovpnd/core/failover.py"
_HEALTH: Final = "aovpnd/core/health.py"

MOVING: Final = (
    Mutant(
        "any-link-is-made",
        _VIEW,
        "if made is not None and as_made(state, filters, use) == made), None)",
        "if made is not None), None)",
        "whatever somebody made of our link is taken for the tunnel while a file changes",
        (FAILOVER, NO_LEAK),
    ),
    Mutant(
        "trial-with-addresses",
        _VIEW,
        "replace(spec, addresses=())",
        "spec",
        "the link beside could be taken for the tunnel's, and be given its permit",
        (CONVERGENCE, FAILOVER),
    ),
    Mutant(
        "named-tunnel-is-replaced",
        _VIEW,
        "wanted = (chosen,) if chosen is not None else best_first",
        "wanted = (chosen, *best_first) if chosen is not None else best_first",
        "who names a tunnel is sent by another one in silence",
        (FAILOVER, NO_LEAK),
    ),
    Mutant(
        "every-network-leads-there",
        _VIEW,
        "or not has_way(spec, snapshot, found)",
        "or False",
        "a tunnel whose gateway the network does not lead to stays connected for ever",
        (FAILOVER_WAYS,),
    ),
    Mutant(
        "unsent-is-idle",
        _HEALTH,
        "return sent >= 0 and state.put_bytes - before.put_bytes > sent + STUCK_BYTES",
        "return False and sent >= 0",
        "what another firewall drops counts as idleness, and nothing is ever noticed",
        (FAILOVER_WAYS, HEALTH),
    ),
    Mutant(
        "no-back-off",
        _FAILOVER,
        "retry_at = now + backoff(spec.name, times, gateways.seed)",
        "retry_at = now",
        "a gateway that dies as soon as it carries makes the laptop flap",
        (FAILOVER,),
    ),
    Mutant(
        "record-wiped-at-once",
        _FAILOVER,
        "now - left.back_at >= STABLE_S",
        "now - left.back_at >= 0",
        "every return is the first: the back-off never grows",
        (FAILOVER,),
    ),
    Mutant(
        "dead-exit-on-handshake",
        _FAILOVER,
        "    return entry.back_at is not None and entry.why is Why.DEAD_EXIT",
        "    return False",
        "a gateway that shakes hands and leads nowhere is gone back to and kept",
        (FAILOVER,),
    ),
    Mutant(
        "one-probe-condemns",
        _HEALTH,
        "DEAD_END: Final = 2",
        "DEAD_END: Final = 1",
        "one lost packet takes a good tunnel away",
        (FAILOVER, HEALTH),
    ),
    Mutant(
        "probe-when-idle",
        _HEALTH,
        "        and has_data_gone(returned, state, now)\n",
        "",
        "an idle laptop sends probes for ever",
        (FAILOVER, HEALTH),
    ),
    Mutant(
        "keepalives-are-data",
        _HEALTH,
        "    return state.rx_bytes - returned.rx_bytes > least",
        "    return state.rx_bytes > returned.rx_bytes",
        "a gateway whose exit is dead looks alive for ever",
        (FAILOVER, HEALTH),
    ),
)

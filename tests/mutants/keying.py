# SPDX-License-Identifier: GPL-3.0-or-later
"""Weakenings of what is IKE's alone: the gateway whose turn it is, what it gives, and what charon makes of it."""

from typing import Final

from tests.mutants.mutant import CORE_ESP, CORE_IKE, IKESAS, NO_LEAK, RTNL, STRONGSWAN, XFRM, Mutant

_IPSEC: Final = "aovpnd/ipsec.py"
_VIEW: Final = "aovpnd/core/view.py"

KEYING: Final = (
    Mutant(
        "flushed-and-alive",
        "aovpnd/backends/ikesas.py",
        "    return sa, child if child is not None and _held(interface, child) else None\n",
        "    return sa, child\n",
        "what somebody flushes from the kernel is believed to carry, until the keys are renewed",
        (IKESAS,),
    ),
    Mutant(
        "sas-without-policies",
        "aovpnd/xfrm.py",
        "    return any(rtnl.unpack(_POLICY, each)[0] == _OUT and ",
        "    return True or any(rtnl.unpack(_POLICY, each)[0] == _OUT and ",
        "with its policies flushed a tunnel sends nothing, and is believed to be well",
        (XFRM,),
    ),
    Mutant(
        "charon-finds-anybody",
        "aovpnd/adapters/rules.py",
        "    return to_it, bare\n",
        "    return (to_it,)\n",
        "between two networks charon asks for its gateway where that is not, and the tunnel is made anew",
        (RTNL,),
    ),
    Mutant(
        "esp-adds-too-little",
        "aovpnd/core/esp.py",
        "_AEAD_ADDS: Final = 8 + 3",
        "_AEAD_ADDS: Final = 8",
        "the largest packets of an IKE tunnel leave in two pieces, which many networks drop",
        (CORE_ESP,),
    ),
    Mutant(
        "every-gateway-at-once",
        _IPSEC,
        "return (self.endpoint,) if self.endpoint is not None else ()",
        "return tuple(gateway for gateway in self.gateways if isinstance(gateway, Endpoint))",
        "marked packets may go to gateways whose turn it is not",
        (CORE_IKE, NO_LEAK),
    ),
    Mutant(
        "gifts-are-unguarded",
        _VIEW,
        "addresses=spec.addresses or gift.addresses,",
        "addresses=spec.addresses,",
        "what the gateway gives is never put on the link, and shown by others until it is",
        (CORE_IKE, NO_LEAK),
    ),
    Mutant(
        "any-address-will-do",
        _VIEW,
        "(waits or set(state.addresses) == wanted)",
        "(isinstance(spec, IPsec) or set(state.addresses) == wanted)",
        "a link with addresses that nobody has given is taken for the tunnel",
        (CORE_IKE, NO_LEAK),
    ),
    Mutant(
        "esp-for-anybody",
        "aovpnd/trace.py",
        "and (match.sa is None or match.sa == packet.sa)",
        "and (match.sa is None or packet.sa is not None)",
        "what somebody else's SA takes leaves as if it were the tunnel's",
        (NO_LEAK,),
    ),
    Mutant(
        "transformed-at-output-too",
        "aovpnd/core/firewall.py",
        "            return  # at output it still leaves by the tunnel",
        "            yield from _transformed((permit,))",
        "another program's SA to the gateway takes what it likes, around the tunnel",
        (NO_LEAK,),
    ),
    Mutant(
        "transformed-without-the-kernel",
        "aovpnd/core/facts.py",
        "state is not None and state.link.kind == names.XFRM:",
        "state is not None:",
        "a tunnel that hands the kernel nothing lets others hand it something",
        (NO_LEAK,),
    ),
    Mutant(
        "twins-are-one",
        _IPSEC,
        "            self.name,\n            self.version,",
        "            self.version,",
        "the link of one tunnel is taken for another's that has the same certificate",
        (CORE_IKE,),
    ),
    Mutant(
        "turns-are-no-attempts",
        "aovpnd/core/failover.py",
        "for name in turners(spec)), default=0)",
        "for name in spec.hosts), default=0)",
        "a tunnel none of whose gateways answers is kept for minutes",
        (CORE_IKE,),
    ),
    Mutant(
        "silence-ends-the-sa",
        "aovpnd/core/health.py",
        "        state.backend != IKE_BACKEND\n        and heard is not None",
        "        heard is not None",
        "a gateway that has nothing to say is taken for dead",
        (CORE_IKE,),
    ),
    Mutant(
        "a-gift-proves-nothing",
        "aovpnd/core/failover.py",
        "return state.handshake_wall is not None or given",
        "return state.handshake_wall is not None",
        "a better tunnel of IKE is never gone back to",
        (CORE_IKE,),
    ),
    Mutant(
        "an-old-gift-proves-something",
        "aovpnd/core/failover.py",
        "given = state.given is not None and state.given.lease is Lease.HELD",
        "given = state.given is not None",
        "a better tunnel that is dead is gone back to",
        (CORE_IKE,),
    ),
    Mutant(
        "stays-with-the-old-gateway",
        "aovpnd/core/plan.py",
        "return spec.endpoint is not None and any(peer.endpoint != spec.endpoint for peer in state.peers)",
        "return False",
        "charon goes on with a gateway that has no permit any more",
        (CORE_IKE,),
    ),
    Mutant(
        "asked-for-once",
        "aovpnd/backends/ikesas.py",
        "    for _ in range(_TRIES):\n        sa, absent",
        "    for _ in range(1):\n        sa, absent",
        "of two families one stays without its tunnel",
        (STRONGSWAN,),
    ),
)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Weakenings of what keeps users to their own tunnels."""

from typing import Final

from tests.mutants.mutant import CONFIG_USERS, NO_LEAK, RTNL, USERS, Mutant

_USING: Final = "aovpnd/core/using.py"
_ROUTING: Final = "aovpnd/core/routing.py"
_CONFIG: Final = "aovpnd/config/users.py"

DIVIDING: Final = (
    Mutant(
        "own-tunnel-for-everybody",
        _USING,
        '        yield Rule(others, Verdict.REJECT, "this tunnel',
        '        yield Rule(others, Verdict.CONTINUE, "this tunnel',
        "whoever binds a socket to a user's link uses that user's tunnel",
        (NO_LEAK,),
    ),
    Mutant(
        "barred-and-not-kept",
        _USING,
        "Users(who.barred)), Verdict.REJECT",
        "Users(who.barred)), Verdict.CONTINUE",
        "who may use one tunnel alone uses the one that carries while his own is down",
        (NO_LEAK,),
    ),
    Mutant(
        "nobodys-connections",
        _USING,
        "            yield Rule(replace(unknown, l4=(L4.TCP,), begins=True), Verdict.REJECT, why)",
        "            yield Rule(replace(unknown, l4=(L4.TCP,), begins=True), Verdict.CONTINUE, why)",
        "whoever has the kernel make a socket (SMC) uses any tunnel",
        (NO_LEAK, USERS),
    ),
    Mutant(
        "nobodys-datagrams",
        _USING,
        "            if each.use.owners:\n                yield Rule(replace(unknown",
        "            if False:\n                yield Rule(replace(unknown",
        "whoever has the kernel make a socket (RxRPC) sends by somebody's own tunnel",
        (NO_LEAK, USERS),
    ),
    Mutant(
        "nobodys-from-elsewhere",
        _USING,
        "            yield Rule(unknown, Verdict.DROP,",
        "            yield Rule(unknown, Verdict.CONTINUE,",
        "what is left of a connection beside the tunnels leaves by the tunnel to which its program has bound it",
        (NO_LEAK, USERS),
    ),
    Mutant(
        "known-by-a-mark-of-ones-own",
        _USING,
        '            yield Rule(by_tunnel, Verdict.CONTINUE, "the bit is ours here", set_mark=Mark(0, known.mask))\n',
        "",
        "who may set a mark is somebody, whoever he is",
        (NO_LEAK, USERS),
    ),
    Mutant(
        "names-past-the-filters",
        _USING,
        "for port in DNS_PORTS] if filters else [(_DNS, DNS_PORTS)]",
        "for port in DNS_PORTS] if False else [(_DNS, DNS_PORTS)]",
        "others ask her name servers what her filters let nobody ask",
        (NO_LEAK, USERS),
    ),
    Mutant(
        "link-taken-along-by-the-barred",
        "aovpnd/core/view.py",
        "as_made(state, filters, use) == made), None)",
        "as_made(state, filters, made.use) == made), None)",
        "while a tunnel is left for another, the old one's end sees who may use the new one alone",
        (NO_LEAK, USERS),
    ),
    Mutant(
        "others-stay-on-the-own-tunnel",
        "aovpnd/sockets.py",
        " or self._is_others(socket):",
        ":",
        "what others had by a tunnel that is somebody's own again leaves by it when their programs close it",
        (USERS,),
    ),
    Mutant(
        "two-tables-of-one-user",
        _CONFIG,
        "    for first, again in _twice(ruled):",
        "    for first, again in ():",
        "the second table about somebody takes away what the first one forbids",
        (CONFIG_USERS,),
    ),
    Mutant(
        "own-tunnel-for-guests",
        "aovpnd/core/guests.py",
        " and not permit.use.owners]",
        "]",
        "containers of other users go through a user's own tunnel",
        (NO_LEAK, USERS),
    ),
    Mutant(
        "any-name-by-the-own-tunnel",
        _USING,
        "dns = replace(by_tunnel, daddr=servers, l4=l4",
        "dns = replace(by_tunnel, l4=l4",
        "everybody asks anybody for names through a user's own tunnel",
        (NO_LEAK,),
    ),
    Mutant(
        "barred-only-from-what-is-never",
        "aovpnd/users.py",
        "return self.only in {None, tunnel} and tunnel not in self.never",
        "return tunnel not in self.never",
        "who has one tunnel and no other has all the others",
        (NO_LEAK, USERS),
    ),
    Mutant(
        "own-tunnel-outlives-the-login",
        _USING,
        "if user.when is When.ALWAYS or user.uid in people)",
        "if True)",
        "a person's tunnel stays up when nobody is there",
        (NO_LEAK, USERS),
    ),
    Mutant(
        "lane-open-behind",
        _ROUTING,
        "    routes = near | set(_through(now, each.spec, each.state))\n",
        "    routes = near | {r for r in _through(now, each.spec, each.state) if r.link}\n",
        "while a user's tunnel is down, routing leads his packets by the one that carries",
        (USERS,),
    ),
    Mutant(
        "lane-in-a-window",
        _ROUTING,
        "    if now.grant is not None or place >=",
        "    if place >=",
        "a user with a tunnel to himself never sees the portal",
        (USERS,),
    ),
    Mutant(
        "lane-without-its-address",
        "aovpnd/adapters/rules.py",
        "        *(replace(bare, src=source) for source in lane.sources),\n",
        "",
        "answers to a user are dropped where reverse paths are asked for",
        (RTNL,),
    ),
    Mutant(
        "root-is-somebody",
        _CONFIG,
        "    if uid == 0:",
        "    if False:",
        "the daemon itself is kept from its tunnels",
        (CONFIG_USERS,),
    ),
)

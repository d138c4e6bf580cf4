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
        "dns = replace(by_tunnel, daddr=servers, l4=",
        "dns = replace(by_tunnel, l4=",
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

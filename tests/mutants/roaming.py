# SPDX-License-Identifier: GPL-3.0-or-later
"""Weakenings of what happens from network to network: old sockets, sleep, the way of the tunnel."""

from typing import Final

from tests.mutants.mutant import FIGHTS, SLEEP, SOCKETS, UPLINKS, Mutant

_LEAF: Final = "aovpnd/sockets.py"
_SOCKETS: Final = "aovpnd/core/sockets.py"
_FIGHTS: Final = "aovpnd/core/fights.py"
_SLEEP: Final = "aovpnd/core/sleep.py"
_UPLINKS: Final = "aovpnd/core/uplinks.py"

ROAMING: Final = (
    # -- old sockets ---------------------------------------------------------------------------------------------------
    Mutant(
        "tunnel-sockets-are-closed",
        _SOCKETS,
        "inside=addresses | _inside(snapshot)",
        "inside=_inside(snapshot)",
        "each roam tears every connection through the tunnel",
        (SOCKETS,),
    ),
    Mutant(
        "direct-sockets-stay",
        _LEAF,
        "or (socket.local in self.own and socket.remote in self.own)",
        "or socket.local in self.own",
        "programs wait for minutes on connections that are dead",
        (SOCKETS,),
    ),
    Mutant(
        "stamp-is-ours",
        _LEAF,
        "socket.mark & names.FWMARK_MASK == names.FWMARK",
        "socket.mark",
        "whoever marks its packets keeps its direct connections",
        (SOCKETS,),
    ),
    Mutant(
        "sockets-closed-in-a-window",
        _SOCKETS,
        "    if now.phase in _OPEN:\n        return None\n",
        "",
        "a window of temporary access that lets nobody connect",
        (SOCKETS,),
    ),
    Mutant(
        "swept-once-for-all",
        _SOCKETS,
        "return replace(intent, swept=None) if phase in _OPEN else intent",
        "return intent",
        "what was opened in a window lives on behind it",
        (SOCKETS,),
    ),
    # -- sleep ---------------------------------------------------------------------------------------------------------
    Mutant(
        "window-survives-sleep",
        _SLEEP,
        "woke(replace(intent, grant=None), now) if slept",
        "woke(intent, now) if slept",
        "a lid that was closed in a window opens on what is left of it",
        (SLEEP,),
    ),
    Mutant(
        "sleep-proves-nothing-new",
        _SLEEP,
        'return replace(intent, provoked=None, proved="")',
        "return intent",
        "connected is claimed over a session that the gateway has forgotten",
        (SLEEP,),
    ),
    # -- the way of the tunnel -----------------------------------------------------------------------------------------
    Mutant(
        "any-uplink-carries",
        _UPLINKS,
        "return tuple(uplink for uplink in found if uplink.link.index in carriers) or found",
        "return found[:0] or found[-1:]",
        "connected is claimed while packets go another way",
        (UPLINKS,),
    ),
    # -- fights --------------------------------------------------------------------------------------------------------
    Mutant(
        "ruleset-waits-for-routes",
        _FIGHTS,
        "    if any(isinstance(action, LoadRuleset) for action in wanted):\n        return wanted\n",
        "",
        "a window ends, and the routes that shut it wait for the end of a fight",
        (FIGHTS,),
    ),
    Mutant(
        "handshake-waits",
        _FIGHTS,
        "return wish.path is None and wish.state is LinkWish.UP",
        "return True",
        "a tunnel that must go down stays up as long as somebody fights us",
        (FIGHTS,),
    ),
)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Weakenings of what is kept out of the tunnel, and stays closed all the same."""

from typing import Final

from tests.mutants.mutant import BESIDE, CONFIG_BESIDE, NO_LEAK, Mutant

_BESIDE: Final = "aovpnd/core/beside.py"
_SETTINGS: Final = "aovpnd/config/settings.py"

EXCLUDING: Final = (
    Mutant(
        "excluded-names",
        "aovpnd/core/firewall.py",
        "_WITHOUT_DNS: Final = (Lan, Excluded)",
        "_WITHOUT_DNS: Final = (Lan,)",
        "names are asked in clear of whoever is in an excluded network",
        (NO_LEAK,),
    ),
    Mutant(
        "excluded-by-any-link",
        "aovpnd/core/firewall.py",
        'yield _stamped(Match(oif=permit.device, daddr=family), "kept out',
        'yield _stamped(Match(daddr=family), "kept out',
        "whoever plugs in a link sees what is excluded",
        (NO_LEAK,),
    ),
    Mutant(
        "excluded-by-the-first-link",
        _BESIDE,
        "return min(carrying, key=lambda uplink: uplink.metrics[uplink.families.index(family)], default=None)",
        "return next(iter(carrying), None)",
        "what is excluded goes by an uplink that would carry nothing else of that family",
        (BESIDE, NO_LEAK),
    ),
    Mutant(
        "excluded-for-guests",
        "aovpnd/core/firewall.py",
        "(*guests.forwarded(permits), _FORWARD_END), Hook.FORWARD",
        "(*guests.forwarded(permits), *(r for p in permits if isinstance(p, Excluded) for r in _beside(p)), "
        "_FORWARD_END), Hook.FORWARD",
        "containers go round the tunnel",
        (NO_LEAK,),
    ),
    Mutant(
        "excluded-over-the-tunnels",
        _BESIDE,
        "if uplink is not None and _claimed(specs, network) is None:",
        "if uplink is not None:",
        "what is meant for a tunnel goes in clear while it is not up",
        (BESIDE, NO_LEAK),
    ),
    Mutant(
        "excluded-but-of-the-chosen",
        _BESIDE,
        "return _by_uplink(config, now, config.exclude, (*config.tunnels, *now.specs))",
        "return _by_uplink(config, now, config.exclude, now.specs)",
        "to disconnect, or fail-over, opens what another tunnel carries",
        (BESIDE, NO_LEAK),
    ),
    Mutant(
        "excluded-just-as-carried",
        _BESIDE,
        "for prefix in spec.prefixes if lies_in(prefix, network))",
        "for prefix in spec.prefixes if prefix != network and lies_in(prefix, network))",
        "a network that a tunnel carries goes in clear while it is not up",
        (BESIDE, NO_LEAK),
    ),
    Mutant(
        "excluded-from-what-nobody-knows",
        _BESIDE,
        "for network in networks if not config.broken else ():",
        "for network in networks:",
        "what is meant for a tunnel whose file is broken goes in clear",
        (BESIDE, NO_LEAK),
    ),
    Mutant(
        "excluded-from-any-tunnel",
        _BESIDE,
        "return config.excluded_from(now.spec.name) if now.spec is not None else ()",
        "return tuple(network for _, networks in config.exclude_from for network in networks)",
        "what is kept out of one tunnel goes in clear beside every other",
        (BESIDE, NO_LEAK),
    ),
    Mutant(
        "excluded-from-one-over-the-others",
        _BESIDE,
        "able = {*config.companions, *using.lanes(config), *((now.spec.name,) if now.spec is not None else ())}",
        "able = {*((now.spec.name,) if now.spec is not None else ())}",
        "what a companion carries goes in clear while that one is not up",
        (BESIDE, NO_LEAK),
    ),
    Mutant(
        "excluded-from-one-for-all",
        "aovpnd/core/firewall.py",
        "            if permit.barred:\n",
        "            if not permit.networks:\n",
        "who may not use a tunnel goes in clear past it",
        (NO_LEAK,),
    ),
    Mutant(
        "excluded-from-one-for-those-who-have-another",
        "aovpnd/core/routing.py",
        "return routes | set(_excluded(snapshot, excluded(config, now), now))",
        "return routes | set(_excluded(snapshot, [*excluded(config, now), *excluded_from_it(config, now)], now))",
        "who has a tunnel to himself is led past it by what is kept out of another",
        (BESIDE,),
    ),
    Mutant(
        "excluded-from-one-what-a-companion-carries",
        _BESIDE,
        "for prefix in spec.prefixes if overlap(prefix, network))\n    return next(found, None)",
        "for prefix in spec.prefixes if lies_in(prefix, network))\n    return next(found, None)",
        "a part of what a companion carries goes in clear past it",
        (BESIDE, NO_LEAK),
    ),
    Mutant(
        "excluded-from-one-begun-by-nobody",
        "aovpnd/core/using.py",
        "        if isinstance(each, Excluded) and each.barred:\n",
        "        if isinstance(each, Excluded) and not each.networks:\n",
        "by a socket that the kernel makes, whoever may not use a tunnel goes in clear past it",
        (NO_LEAK,),
    ),
    Mutant(
        "excluded-from-one-before",
        "aovpnd/sockets.py",
        "socket.local == own and socket.remote in prefix and socket.uid not in users",
        "socket.local == own and socket.remote in prefix",
        "the end of an old connection of somebody's goes in clear past a tunnel that is not for him",
        (BESIDE,),
    ),
    Mutant(
        "excluded-over-a-policy",
        "aovpnd/config/excluding.py",
        "return settings.EXCLUDE not in locked or each.layer is Layer.POLICY",
        "return True",
        "a policy that keeps nothing out of tunnels is gone round by a list for one of them",
        (CONFIG_BESIDE,),
    ),
    Mutant(
        "excluded-everything",
        _SETTINGS,
        "WIDEST: Final = {4: 8, 6: 16}",
        "WIDEST: Final = {4: 0, 6: 0}",
        "one line takes the block off",
        (CONFIG_BESIDE,),
    ),
    Mutant(
        "excluded-by-users",
        _SETTINGS,
        'EXCLUDE: Key(excluded, ""),',
        'EXCLUDE: Key(excluded, "", users=True),',
        "whoever may choose a tunnel opens the network",
        (CONFIG_BESIDE,),
    ),
)

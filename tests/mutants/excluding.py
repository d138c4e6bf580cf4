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
        "if uplink is not None and _claimed(config, now, network) is None:",
        "if uplink is not None:",
        "what is meant for a tunnel goes in clear while it is not up",
        (BESIDE, NO_LEAK),
    ),
    Mutant(
        "excluded-but-of-the-chosen",
        _BESIDE,
        "for spec in (*config.tunnels, *now.specs):",
        "for spec in now.specs:",
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
        "for network in config.exclude if not config.broken else ():",
        "for network in config.exclude:",
        "what is meant for a tunnel whose file is broken goes in clear",
        (BESIDE, NO_LEAK),
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
        'EXCLUDE: Key(_networks, ""),',
        'EXCLUDE: Key(_networks, "", users=True),',
        "whoever may choose a tunnel opens the network",
        (CONFIG_BESIDE,),
    ),
)

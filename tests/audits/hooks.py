# SPDX-License-Identifier: GPL-3.0-or-later
"""Other programs' hooks before, between and behind ours, which change, copy or turn packets (D8, facts T6)."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.audits.attack import Attack, Phase
from tests.audits.neighbours import ours, tables
from tests.audits.scene import Scene
from tests.netns.protected import only

_ROUTER: Final = "192.168.10.1"


@dataclass(frozen=True, slots=True)
class Hook:
    """One program's chains, an nft text; TUNNEL stands for the tunnel's link, where there is one. ``before`` and
    ``after`` are shell commands around it.
    """

    text: str
    before: str = ""
    after: str = ""
    turns: str = ""
    """A counter of table ``inet tool`` that shows, where the tunnel is up, that packets did turn."""


def _bent(what: str) -> str:
    """A chain that does something, and one that counts what turns to the card for it."""
    to_card = 'oifname "wlan0" udp dport { 53, 40000 }'
    seen = f"chain seen {{ type filter hook postrouting priority 0; {to_card} counter name bent; }}"
    return f"table inet tool {{ counter bent {{}}; chain c {{ {what} }}; {seen}; }}"


_THEIR_RULE: Final = "ip rule add pref 5 fwmark 0x1/0xff lookup main; ip -6 rule add pref 5 fwmark 0x1/0xff lookup main"
_NO_RULE: Final = "ip rule del pref 5; ip -6 rule del pref 5"
REROUTE: Final = (
    Hook(_bent("type route hook output priority 100; meta mark set 0x1;"), _THEIR_RULE, _NO_RULE, turns="bent"),
    Hook(_bent("type route hook output priority -150; meta mark set 0x1;"), _THEIR_RULE, _NO_RULE, turns="bent"),
    Hook(_bent("type route hook output priority 100; meta mark set 0x40000001;"), _THEIR_RULE, _NO_RULE, turns="bent"),
    Hook(_bent("type route hook output priority 100; meta mark set 0xffffffff;")),
)
"""Marks that lead past our table by a rule of the program's own, with our stamp in them and without."""

NAT: Final = (
    Hook(f"table ip tool {{ chain c {{ type nat hook output priority -100; ip protocol udp dnat to {_ROUTER}; }}; }}"),
    Hook("table inet tool { chain c { type nat hook output priority -100; meta l4proto { tcp, udp } redirect; }; }"),
    Hook('table inet tool { chain c { type nat hook postrouting priority 100; oifname "TUNNEL" masquerade; }; }'),
    Hook(f"table ip tool {{ chain c {{ type nat hook postrouting priority 90; snat to {_ROUTER}; }}; }}"),
)


def _dup(hook: str, priority: int) -> str:
    copy = f'dup to {_ROUTER} device "wlan0"'
    return f"table ip tool {{ chain c {{ type filter hook {hook} priority {priority}; {copy}; }}; }}"


COPIES: Final = (
    Hook(_dup("output", 200)),
    Hook(_dup("postrouting", 350)),
    Hook(
        'table netdev tool { chain c { type filter hook egress device "TUNNEL" priority 0; dup to "wlan0"; }; }',
    ),
    Hook(
        'table netdev tool { chain c { type filter hook egress device "TUNNEL" priority 0; fwd to "wlan0"; }; }',
    ),
)

PRIORITIES: Final = (
    Hook(
        "table inet tool { chain c { type filter hook output priority -400; accept; };"
        " chain d { type filter hook postrouting priority -400; accept; };"
        " chain e { type filter hook postrouting priority 500; accept; }; }"
    ),
    Hook(
        'table netdev tool { chain c { type filter hook ingress device "wlan0" priority -500; accept; };'
        ' chain d { type filter hook egress device "wlan0" priority -500; accept; };'
        ' chain e { type filter hook egress device "wlan0" priority 500; accept; }; }'
    ),
    Hook("table inet tool { chain c { type filter hook postrouting priority 350; meta mark set 0x40000000; }; }"),
    Hook(
        "table inet tool { chain c { type filter hook output priority 1; notrack; };"
        " chain d { type filter hook output priority -310; ct zone set 7; };"
        " chain e { type filter hook prerouting priority -310; ct zone set 7; }; }"
    ),
    Hook(
        "table inet tool { chain c { type filter hook prerouting priority -150;"
        " meta l4proto { tcp, udp } tproxy ip to 127.0.0.1:3128 meta mark set 0x1 accept; }; }",
        "ip rule add pref 20 fwmark 0x1/0xff lookup 100; ip route add local default dev lo table 100",
        "ip rule del pref 20; ip route flush table 100",
    ),
)
"""Verdicts of chains far before ours and behind them end nothing; marks behind the last look come too late; a
transparent proxy and another zone of conntrack change nothing about what leaves."""


def hooked(hooks: tuple[Hook, ...]) -> Callable[[Scene, int], None]:
    """Load each, let everybody try, take it away; our table stays as it is all the while."""

    def run(scene: Scene, tries: int) -> None:
        before = ours(scene.host)
        link = only(scene.laptop.lab.status(), "tunnels")["link"]
        try:
            for _ in range(tries):
                for hook in hooks:
                    if link is not None or "TUNNEL" not in hook.text:
                        _try(scene, hook, str(link))
        finally:
            _clean(scene)
            scene.host.run("sh", "-c", "; ".join(filter(None, (hook.after for hook in hooks))) or "true", check=False)
        assert ours(scene.host) == before

    return run


def _try(scene: Scene, hook: Hook, link: str) -> None:
    if hook.before:
        scene.host.run("sh", "-ec", hook.before)
    scene.host.nft(hook.text.replace("TUNNEL", link))
    scene.everybody_tries()
    if hook.turns and scene.phase is Phase.CONNECTED and scene.watch is not None:
        counter = scene.host.out("nft", "list", "counter", "inet", "tool", hook.turns)
        assert re.search(r"packets [1-9]", counter), "no packet turned to the card"
    _clean(scene)
    if hook.after:
        scene.host.run("sh", "-ec", hook.after)


def _clean(scene: Scene) -> None:
    for family, name in tables(scene.host):
        scene.host.run("nft", "delete", "table", family, name, check=False)


ATTACKS: Final = (
    Attack(
        "D8",
        "reroute",
        "a later `type route` hook gives marks that lead past our route table (facts T6)",
        hooked(REROUTE),
        tries=1,
    ),
    Attack("D8", "nat", "DNAT, REDIRECT, SNAT and MASQUERADE of what the laptop sends itself", hooked(NAT), tries=1),
    Attack(
        "D8",
        "copies",
        "`dup` and `fwd` from output, postrouting and the tunnel's egress to the card",
        hooked(COPIES),
        tries=1,
    ),
    Attack(
        "D8",
        "priorities",
        "chains before and behind ours that accept or stamp; ingress and egress; conntrack zones; tproxy",
        hooked(PRIORITIES),
        tries=1,
    ),
)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Other programs' routing rules and route tables (D7)."""

from typing import Final

from tests.audits.attack import Attack, Phase
from tests.audits.neighbours import Neighbours
from tests.audits.scene import Scene
from tests.audits.tables import attack, flood
from tests.lab.process import wait_for

_TAILSCALE_CHAINS: Final = """*filter
:ts-input - [0:0]
:ts-forward - [0:0]
-I INPUT -j ts-input
-I FORWARD -j ts-forward
-A ts-input -i tailscale0 -j ACCEPT
-A ts-forward -i tailscale0 -j MARK --set-xmark 0x40000/0xff0000
-A ts-forward -m mark --mark 0x40000/0xff0000 -j ACCEPT
-A ts-forward -s 100.64.0.0/10 -o tailscale0 -j DROP
-A ts-forward -o tailscale0 -j ACCEPT
COMMIT
*nat
:ts-postrouting - [0:0]
-I POSTROUTING -j ts-postrouting
-A ts-postrouting -m mark --mark 0x40000/0xff0000 -j MASQUERADE
COMMIT
"""
_TAILSCALE_RULES: Final = """
for family in -4 -6; do
  ip $family rule add pref 5210 fwmark 0x80000/0xff0000 lookup main
  ip $family rule add pref 5230 fwmark 0x80000/0xff0000 lookup default
  ip $family rule add pref 5250 fwmark 0x80000/0xff0000 unreachable
  ip $family rule add pref 5270 lookup 52
done
ip route add 100.64.0.0/10 dev lo table 52
"""
_NO_TAILSCALE: Final = """
for family in -4 -6; do for pref in 5210 5230 5250 5270; do ip $family rule del pref $pref; done; done
ip route flush table 52
"""


def start_tailscale(neighbours: Neighbours) -> None:
    """What tailscaled 1.x sets, but for its link: marks, routing rules, chains of iptables."""
    neighbours.host.run("sh", "-ec", _TAILSCALE_RULES)
    neighbours.restore(_TAILSCALE_CHAINS, "--noflush", backends=("nft",))


def stop_tailscale(neighbours: Neighbours) -> None:
    """What it takes away in the end."""
    neighbours.host.run("sh", "-ec", _NO_TAILSCALE)
    for table, hooks in (("filter", ("input", "forward")), ("nat", ("postrouting",))):
        for hook in hooks:
            for words in (f"-D {hook.upper()} -j ts-{hook}", f"-F ts-{hook}", f"-X ts-{hook}"):
                neighbours.run("iptables-nft", "-t", table, *words.split())


_AHEAD: Final = (1, 5, 9)
_BEHIND: Final = (12, 100, 5210, 32765)


def _rules(scene: Scene, tries: int) -> None:
    """Another program's rules that send everything to main, before ours and behind. Those before cost the internet,
    and status names them.
    """
    try:
        with flood(scene, tries):
            for _ in range(tries):
                for priority in (*_AHEAD, *_BEHIND):
                    for family in ("-4", "-6"):
                        scene.host.ip(f"{family} rule add pref {priority} lookup main")
                    if priority in _AHEAD and scene.watch is not None:
                        told = f"{priority}: lookup main"
                        wait_for("the rule to be named", lambda what=told: what in _ahead(scene), deadline_s=20)  # type: ignore[misc]
                    scene.everybody_tries()
                    for family in ("-4", "-6"):
                        scene.host.ip(f"{family} rule del pref {priority}")
            if scene.watch is not None:
                wait_for("the rules to be forgotten", lambda: not _ahead(scene), deadline_s=20)
    finally:
        loop = f"for pref in {' '.join(map(str, (*_AHEAD, *_BEHIND)))}; do ip $family rule del pref $pref; done"
        scene.host.run("sh", "-c", f"for family in -4 -6; do {loop}; done", check=False)


def _ahead(scene: Scene) -> str:
    return scene.laptop.problems().get("rule-ahead", "")


_SQUAT: Final = """
ip route replace default via 192.168.10.1 dev wlan0 table 24943 metric 1
ip route add 128.0.0.0/1 via 192.168.10.1 dev wlan0 table 24943
ip rule add pref 300 from all lookup 24943
"""
"""Another program that took the number of our route table for its own."""


def _squatted(scene: Scene, tries: int) -> None:
    with flood(scene, tries):
        for _ in range(tries):
            scene.host.run("sh", "-ec", _SQUAT)
            wait_for(
                "our table to be ours again",
                lambda: "wlan0" not in scene.host.ip("route show table 24943") and "300:" not in scene.host.ip("rule"),
                deadline_s=20,
                poll_s=0.05,
            )
            scene.everybody_tries()


ATTACKS: Final = (
    Attack(
        "D7",
        "rules",
        "other programs' routing rules at priorities before ours and behind, which lead to main",
        _rules,
        tries=1,
    ),
    Attack(
        "D7",
        "squatted",
        "our route table's number is another program's as well",
        _squatted,
        tries=1,
        brief=(Phase.CONNECTED,),
    ),
    Attack(
        "D7",
        "tailscale",
        "Tailscale's marks, routing rules and chains come and go",
        attack(start_tailscale, stop_tailscale),
        tries=1,
        brief=(Phase.CONNECTED,),
        service=0.9,
    ),
)

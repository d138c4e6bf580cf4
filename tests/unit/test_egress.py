# SPDX-License-Identifier: GPL-3.0-or-later
"""Which links early boot's egress table is attached to, and lets go of; with a libnftables of paper."""

import re
from ipaddress import IPv4Address
from itertools import product
from typing import Any

import pytest

from aovpnd import names
from aovpnd.adapters.egress import EgressCopies
from aovpnd.guard import rules
from aovpnd.links import ARPHRD_LOOPBACK, ARPHRD_NONE, Link
from aovpnd.model import Copies
from aovpnd.ruleset import Device, Hook, Origin, Protocol, Verdict
from aovpnd.trace import Packet, verdict

LO = Link(1, "lo", arphrd=ARPHRD_LOOPBACK)
CARD = Link(2, "wlan0")
TUNNEL = Link(9, "aovpn0", kind="tun", arphrd=ARPHRD_NONE)
OWN = (IPv4Address("10.66.0.2"), IPv4Address("10.77.0.2"))
_UNANNOUNCED = re.compile(r"meta protocol arp ether type arp arp saddr ip (?:{ )?([0-9., ]+?)(?: })? drop")


class Paper:
    """Holds the early table's chains, index to device and judge, as a listing would show them."""

    def __init__(self, chains: dict[int, tuple[str, str]]) -> None:
        self.chains = chains
        self.loaded: list[str] = []

    def remove_table(self, *_table: str) -> None:
        """Nothing is removed."""

    def list_table(self, _family: str, _table: str) -> str | None:
        """The listing."""
        return "".join(
            f'chain link_{index} {{\n\t\ttype filter hook egress device "{device}" priority filter; policy drop;\n'
            f'\t\tjump {judge} comment "every outside link alike"\n\t\tdrop\n\t}}\n'
            for index, (device, judge) in self.chains.items()
        )

    def run(self, text: str) -> str:
        """Nothing is carried out."""
        self.loaded.append(text)
        return ""


@pytest.mark.parametrize(
    ("chains", "state"),
    [
        pytest.param({2: ("wlan0", "routed")}, Copies.CURRENT, id="as it should be"),
        pytest.param({}, Copies.STALE, id="a card without a chain"),
        pytest.param({2: ("wlan0", "outside")}, Copies.STALE, id="as early boot left it"),
        pytest.param({2: ("eth7", "routed")}, Copies.STALE, id="renamed"),
        pytest.param({2: ("wlan0", "routed"), 9: ("aovpn0", "routed")}, Copies.STALE, id="a chain on the tunnel"),
        pytest.param(
            {2: ("wlan0", "routed"), 5: ("aovpn0", "routed")},
            Copies.STALE,
            id="left by a link that had the tunnel's name",
        ),
        pytest.param(
            {2: ("wlan0", "routed"), 5: ("usb0", "routed")},
            Copies.CURRENT,
            id="the udev rule was quicker than our look",
        ),
    ],
)
def test_what_is_attached(chains: dict[int, tuple[str, str]], state: Copies) -> None:
    """Every outside link has its chain; no other link has one, also not by its name."""
    paper: Any = Paper(chains)
    copies = EgressCopies(paper)
    links = (LO, CARD, TUNNEL)
    copies.ensure(links)

    assert copies.observe(links) is state


def test_what_arp_names_nobody() -> None:
    """The tunnel's addresses in both copies, by their latest list; the guard's own tables know none."""
    paper: Any = Paper({2: ("wlan0", "routed")})
    copies = EgressCopies(paper)
    links = (LO, CARD)
    for own in (("10.66.0.2",), ("10.66.0.2", "10.77.0.2"), ()):
        paper.loaded.clear()
        copies.ensure(links, tuple(map(IPv4Address, own)))

        assert [set(_UNANNOUNCED.findall(text)) for text in paper.loaded] == [{", ".join(own)} if own else set()] * 2
        assert copies.unannounced == tuple(map(IPv4Address, own))
    copies.ensure(links, OWN)
    copies.ensure(None)
    assert copies.unannounced == ()
    assert "arp saddr" not in rules.whole(links)


def test_arp_of_everybody_else_passes() -> None:
    """Whoever names the tunnel's address as who asks or answers is stopped, by any socket, and nobody else."""
    egress = rules.egress_table((LO, CARD), unannounced=OWN)
    device = Device(2, "wlan0")
    for sender, mark, origin in product((*OWN, IPv4Address("192.168.10.7"), None), (0, names.STAMP), (None, *Origin)):
        frame = Packet(protocol=Protocol.ARP, oif=device, saddr=sender, mark=mark, origin=origin)
        assert (verdict(egress, Hook.EGRESS, frame)[0] is Verdict.ACCEPT) is (sender not in OWN), frame

# SPDX-License-Identifier: GPL-3.0-or-later
"""Which links early boot's egress table is attached to, and lets go of; with a libnftables of paper."""

from typing import Any

import pytest

from aovpnd.adapters.egress import EgressCopies
from aovpnd.links import ARPHRD_LOOPBACK, ARPHRD_NONE, Link
from aovpnd.model import Copies

LO = Link(1, "lo", arphrd=ARPHRD_LOOPBACK)
CARD = Link(2, "wlan0")
TUNNEL = Link(9, "aovpn0", kind="tun", arphrd=ARPHRD_NONE)


class Paper:
    """Holds the early table's chains, index to device and judge, as a listing would show them."""

    def __init__(self, chains: dict[int, tuple[str, str]]) -> None:
        self.chains = chains

    def list_table(self, _family: str, _table: str) -> str | None:
        """The listing."""
        return "".join(
            f'chain link_{index} {{\n\t\ttype filter hook egress device "{device}" priority filter; policy drop;\n'
            f'\t\tjump {judge} comment "every outside link alike"\n\t\tdrop\n\t}}\n'
            for index, (device, judge) in self.chains.items()
        )

    def run(self, _text: str) -> str:
        """Nothing is carried out."""
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

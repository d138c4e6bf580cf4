# SPDX-License-Identifier: GPL-3.0-or-later
"""Kinds of uplinks for a booted laptop: NetworkManager's profiles, the cable's far end, and what becomes of frames."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.lab import plan
from tests.lab.frames import ENDPOINTS, Endpoint
from tests.vm import far_ends
from tests.vm.guest.chatty import SENDERS
from tests.vm.laptop import BootedLaptop, Cards, Plugged
from tests.vm.machine import Card

CARDS: Final = Cards(Card("first", "tap0", "02:00:00:00:0b:00"), Card("unused", "tap1", "02:00:00:00:0b:01"))
SECOND: Final = Plugged(Card("second", "tap2", "02:00:00:00:0b:02"), "home")
IPV4_SENDERS: Final = frozenset({1, 2, 3, 6, 7, 8})
"""They need an address of IPv4."""
NAT64_ENDPOINT: Final[Endpoint] = (plan.SIX.behind_nat64(plan.GATEWAY4), plan.GATEWAY_PORT)

_ADDRESSES: Final = """[ipv4]
method=auto
[ipv6]
method=auto
addr-gen-mode=eui64
"""
_NO_ADDRESSES: Final = """[ipv4]
method=disabled
[ipv6]
method=disabled
"""
_HEAD: Final = """[connection]
id={id}
type={type}
interface-name={link}
autoconnect=false
"""
_PORT: Final = "controller={controller}\nport-type={type}\n"


def _nothing(laptop: BootedLaptop) -> None:
    """The lab's own network needs no more."""
    del laptop


def _as_it_is(frame: bytes) -> bytes:
    return frame


@dataclass(frozen=True, slots=True)
class Uplink:
    """One kind. ``profiles``: name and text, in which ``{first}`` and ``{second}`` are the cards; that of the link
    itself is the first.
    """

    name: str
    link: str
    profiles: tuple[tuple[str, str], ...]
    network: str = "home"
    """Where the first card's cable leads."""
    far_end: Callable[[BootedLaptop], None] = _nothing
    bare: Callable[[bytes], bytes | None] = _as_it_is
    """Takes off a frame what this kind of link puts around it; None for what this kind itself has to say."""
    cards: tuple[Card, ...] = (CARDS.built_in,)
    senders: frozenset[int] = frozenset(SENDERS)
    families: tuple[str, ...] = ("-4", "-6")
    endpoints: tuple[Endpoint, ...] = ENDPOINTS


def _port(name: str, link: str, controller: str, kind: str) -> tuple[str, str]:
    return name, _HEAD.format(id=name, type="ethernet", link=link) + _PORT.format(controller=controller, type=kind)


_WIRED_8021X: Final = f"""[802-1x]
eap=peap
identity={far_ends.USER}
password={far_ends.PASSWORD}
phase2-auth=mschapv2
ca-cert={far_ends.AUTHORITY}
"""

PLAIN: Final = ("plain", _HEAD.format(id="plain", type="ethernet", link="{first}"))
VLAN: Final = Uplink(
    "vlan",
    "office",
    (
        (
            "vlan",
            _HEAD.format(id="vlan", type="vlan", link="office")
            + f"[vlan]\nid={far_ends.VLAN}\nparent={{first}}\n{_ADDRESSES}",
        ),
    ),
    far_ends.CABLE,
    far_ends.vlan_switch,
    far_ends.untagged,
)
BOND: Final = Uplink(
    "bond",
    "bond0",
    (
        (
            "bond",
            _HEAD.format(id="bond", type="bond", link="bond0")
            + f"[bond]\nmode=active-backup\nmiimon=100\n{_ADDRESSES}",
        ),
        _port("bond-first", "{first}", "bond0", "bond"),
        _port("bond-second", "{second}", "bond0", "bond"),
    ),
    cards=(CARDS.built_in, SECOND.card),
)
BRIDGE: Final = Uplink(
    "bridge",
    "br0",
    (
        ("bridge", _HEAD.format(id="bridge", type="bridge", link="br0") + f"[bridge]\nstp=false\n{_ADDRESSES}"),
        _port("bridge-first", "{first}", "br0", "bridge"),
    ),
)
WIRED_8021X: Final = Uplink(
    "802.1x",
    "",
    (("802.1x", PLAIN[1].replace("plain", "802.1x") + _WIRED_8021X + _ADDRESSES),),
    far_ends.CABLE,
    far_ends.port_with_8021x,
)
NAT64: Final = Uplink(
    "nat64",
    "",
    (("nat64", PLAIN[1].replace("plain", "nat64") + _ADDRESSES.replace("auto", "disabled", 1)),),
    "six",
    senders=frozenset(SENDERS) - IPV4_SENDERS,
    families=("-6",),
    endpoints=(*ENDPOINTS, NAT64_ENDPOINT),
)
PPPOE: Final = Uplink(
    "pppoe",
    "ppp0",
    (
        (
            "pppoe",
            _HEAD.format(id="pppoe", type="pppoe", link="ppp0")
            + f"[pppoe]\nparent={{first}}\nusername={far_ends.USER}\npassword={far_ends.PASSWORD}\n"
            + _ADDRESSES.replace("method=auto\naddr-gen-mode=eui64", "method=disabled"),
        ),
    ),
    far_ends.CABLE,
    far_ends.provider,
    far_ends.out_of_session,
    senders=frozenset({1, 2, 3, 6, 7, 8, 10, 11}),
    families=("-4",),
)
ALL: Final = (VLAN, BOND, BRIDGE, WIRED_8021X, NAT64, PPPOE)

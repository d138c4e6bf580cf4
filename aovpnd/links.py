# SPDX-License-Identifier: GPL-3.0-or-later
"""What a link is, and on which side of the block it stands. Pure; shared by the guard and the core.

*Outside* is every link except the loopback, our own tunnels, bridges whose ports are all veth or tap (Docker's,
libvirt's), and those ports. Unknown means outside.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from aovpnd import names

SAFE_NAME: Final = re.compile(r"[A-Za-z0-9_.:@-]{1,15}")
"""Link names that may be written into an nft text. The kernel allows more (dev_valid_name): such a link is outside, has
no name for us, and can never be an uplink."""

ARPHRD_ETHER: Final = 1
ARPHRD_LOOPBACK: Final = 772
ARPHRD_NONE: Final = 65534
OUR_LINK: Final = re.compile(rf"{names.LINK_PREFIX}\d{{1,3}}")


class Side(Enum):
    """Where a link stands; everything that is not provably harmless is OUTSIDE."""

    LOOPBACK = "loopback"
    TUNNEL = "tunnel"
    HOST_ONLY = "host-only"
    OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class Link:
    """A network device as rtnetlink(7) reports it.

    ``kind`` is IFLA_INFO_KIND ("" for hardware), ``arphrd`` ifi_type, ``master`` the index of the bridge or bond (0:
    none), ``carrier_ups`` how often the carrier came (IFLA_CARRIER_UP_COUNT), ``mtu`` bytes.
    """

    index: int
    name: str
    kind: str = ""
    arphrd: int = ARPHRD_ETHER
    master: int = 0
    up: bool = True
    carrier: bool = True
    carrier_ups: int = 1
    mtu: int = 1500

    @property
    def nameable(self) -> bool:
        """Whether the name may be written into an nft text."""
        return SAFE_NAME.fullmatch(self.name) is not None


def is_tunnel_shaped(link: Link) -> bool:
    """Whether a link has the name and the kind of a tunnel of ours; whether it *is* ours, its key tells (backends)."""
    if OUR_LINK.fullmatch(link.name) is None or link.kind not in names.TUNNEL_KINDS:
        return False
    return link.kind != "tun" or link.arphrd == ARPHRD_NONE


def sides(links: Iterable[Link]) -> dict[int, Side]:
    """Say for every link index on which side it stands."""
    links = tuple(links)
    ports: dict[int, list[Link]] = {}
    for link in links:
        if link.master:
            ports.setdefault(link.master, []).append(link)
    host_only = {
        link.index
        for link in links
        if link.kind == "bridge" and not link.master and all(map(_is_guest_port, ports.get(link.index, ())))
    }
    return {link.index: _side(link, host_only) for link in links}


def _is_guest_port(link: Link) -> bool:
    """A veth leads into a namespace, a tap into a virtual machine: neither reaches a network but through us."""
    return link.kind == "veth" or (link.kind == "tun" and link.arphrd == ARPHRD_ETHER)


def _side(link: Link, host_only: set[int]) -> Side:
    if link.index == 1 and link.arphrd == ARPHRD_LOOPBACK:
        return Side.LOOPBACK
    if is_tunnel_shaped(link):
        return Side.TUNNEL
    if link.index in host_only or (link.master in host_only and _is_guest_port(link)):
        return Side.HOST_ONLY
    return Side.OUTSIDE


def uplink_kind(link: Link) -> str:
    """``wifi``, ``mobile``, ``ethernet``, or the kernel's own word for the kind of link.

    Wireless cards look like Ethernet in rtnetlink; the first letters of the name tell, as in
    systemd.net-naming-scheme(7) and in the kernel's own wlan0 and wwan0.
    """
    if link.name.startswith("wl"):
        return "wifi"
    if link.name.startswith("ww") or link.kind in {"ppp", "wwan"}:
        return "mobile"
    if link.arphrd == ARPHRD_ETHER and link.kind in {"", "veth"}:
        return "ethernet"
    return link.kind or "other"

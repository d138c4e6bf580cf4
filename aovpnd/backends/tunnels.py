# SPDX-License-Identifier: GPL-3.0-or-later
"""All our tunnel links, of both kinds: each belongs to the backend that knows what is behind it."""

from collections.abc import Iterable
from pathlib import Path
from typing import assert_never

from aovpnd.adapters.netlink import Netlink
from aovpnd.backends import plug
from aovpnd.backends.linkshape import find
from aovpnd.backends.strongswan import StrongSwanBackend
from aovpnd.backends.wireguard import WireGuardBackend
from aovpnd.ipsec import IPsec
from aovpnd.links import Link
from aovpnd.model import TunnelState, TunnelWish
from aovpnd.resting import Rouse
from aovpnd.routes import LinkAddress
from aovpnd.signin import Desk
from aovpnd.tunnel import WireGuard


class Tunnels:
    """Both backends in this network namespace; used from the thread that uses their `Netlink`."""

    def __init__(self, runtime_dir: Path, netlink: Netlink, desk: Desk | None = None) -> None:
        self._wireguard = WireGuardBackend(runtime_dir, netlink)
        self._strongswan = StrongSwanBackend(runtime_dir, netlink, desk=desk)

    def observe(self, links: Iterable[Link], addresses: Iterable[LinkAddress]) -> tuple[TunnelState, ...]:
        """All our links, by index."""
        links, addresses = tuple(links), tuple(addresses)
        found = (*self._wireguard.observe(links, addresses), *self._strongswan.observe(links, addresses))
        return tuple(sorted(found, key=lambda state: state.link.index))

    def ensure(self, wish: TunnelWish) -> None:
        """Make a link as wished. One that the other backend has made goes first: its kind cannot change in place."""
        link = find(wish.link_name)
        match wish.spec:
            case WireGuard():
                if link is not None and self._strongswan.owns(link):
                    self._strongswan.remove(link)
                self._wireguard.ensure(wish)
            case IPsec():
                if link is not None and self._wireguard.owns(link):
                    self._wireguard.remove(link)
                self._strongswan.ensure(wish)
            case _:
                assert_never(wish.spec)

    def is_over(self, rouse: Rouse) -> bool:
        """Whether a tunnel's rest has ended: its link has counted another packet. `NetlinkError` when nobody can
        tell.
        """
        return plug.tries(rouse.link) != rouse.tries

    def remove(self, link: Link) -> None:
        """Delete a link, and end what is behind it; may be called twice."""
        if self._strongswan.owns(link):
            self._strongswan.remove(link)
        else:
            self._wireguard.remove(link)

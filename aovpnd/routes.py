# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses on links, routes, and all that we keep in routing: frozen values, in the words of ip-route(8) and
ip-rule(8).
"""

from dataclasses import dataclass
from typing import Final

from aovpnd.ruleset import Address, Network
from aovpnd.tunnel import Interface


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """An address on a link."""

    link: int
    interface: Interface


@dataclass(frozen=True, slots=True)
class Route:
    """A route as in ip-route(8). ``link`` None means ``unreachable``, ``mtu`` None that it says nothing of it."""

    dst: Network
    link: int | None
    gateway: Address | None = None
    metric: int = 0
    mtu: int | None = None

    @property
    def order(self) -> tuple[int, int, int, int, int]:
        """One order for routes, so that equal tables are equal values."""
        dst = self.dst
        return (dst.version, int(dst.network_address), dst.prefixlen, self.metric, self.link or 0)


@dataclass(frozen=True, slots=True)
class Lane:
    """A route table of one family that some users have to themselves. It is asked before ours: for what sockets of
    ``users`` (uids) send, for what is bound to the link called ``link_name``, and for what bears one of ``sources``,
    its addresses, so that the kernel's own answers, and reverse-path look-ups, find it as well.
    """

    family: int
    table: int
    users: tuple[int, ...]
    link_name: str
    sources: tuple[Address, ...]
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True)
class Routing:
    """Everything that we keep in routing: our rule per family, our table's routes (by `Route.order`), our sysctls.

    ``shut``: families with a second rule that ends look-ups which our table did not answer: an IPv6 socket that is
    bound to a link skips ``unreachable default``, kept on ``lo``. (A bound IPv4 socket's packets no routing stops.)
    """

    rules: tuple[int, ...]
    routes: tuple[Route, ...]
    sysctls: tuple[tuple[str, int], ...] = ()
    shut: tuple[int, ...] = ()
    lanes: tuple[Lane, ...] = ()


UNROUTED: Final = Routing((), ())
"""Nothing of ours."""

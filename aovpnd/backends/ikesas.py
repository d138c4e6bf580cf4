# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of charon's SAs live, in the kernel as well, which are lacking, and whether one has moved."""

from collections.abc import Iterable
from typing import Final

from aovpnd import xfrm
from aovpnd.backends.charon import children_of, name_of
from aovpnd.backends.linkshape import is_local
from aovpnd.backends.userspace import wait
from aovpnd.backends.vici import Charon, Child, Sa
from aovpnd.errors import NetlinkError
from aovpnd.ipsec import IPsec

_TRIES: Final = 4
_TRY_S: Final = 0.25
"""How often, and how long each time, CHILD SAs are waited for once the link has its addresses."""


def complete(charon: Charon, spec: IPsec) -> None:
    """kernel-libipsec makes no CHILD SA before the link has its address, which the IKE SA has to bring first, and
    charon sees it there a moment later: what is not made, of IKEv1 one of two, is asked for again.
    """
    for _ in range(_TRIES):
        sa, absent = lacking(charon, spec)
        if sa is None or not absent:
            return
        if not sa.busy:
            charon.initiate(name_of(spec), absent)
        wait(lambda: not lacking(charon, spec)[1], _TRY_S)


def lacking(charon: Charon, spec: IPsec) -> tuple[Sa | None, tuple[str, ...]]:
    """The IKE SA that lives, and the CHILD SAs that it should have and has not."""
    sa, _ = alive(charon.sas())
    carrying = {child.name for child in sa.children if child.installed} if sa is not None else set()
    return sa, tuple(name for name in children_of(spec) if name not in carrying)


def has_moved(charon: Charon, name: str) -> bool:
    """Whether an SA's packets leave from an address that this machine has."""
    sa, _ = alive(sa for sa in charon.sas() if sa.name == name)
    return sa is None or sa.local is None or is_local(sa.local)


def alive(sas: Iterable[Sa]) -> tuple[Sa | None, Child | None]:
    """The newest IKE SA that is established, and the newest CHILD SA of it that carries."""
    sa = next((sa for sa in reversed(tuple(sas)) if sa.established), None)
    if sa is None:
        return None, None
    carrying = (child for child in sa.children if child.installed)
    return sa, max(carrying, key=lambda child: child.number, default=None)


def carrying(charon: Charon, name: str, sas: Iterable[Sa], interface: int | None) -> tuple[Sa | None, Child | None]:
    """As `alive`, of a connection's SAs; without the CHILD SA of an XFRM interface (its if_id) that the kernel has no
    more. charon may just be renewing it, so it is asked once more.
    """
    sa, child = alive(sas)
    if interface is None or child is None or _held(interface, child):
        return sa, child
    sa, child = alive(sa for sa in charon.sas() if sa.name == name)
    return sa, child if child is not None and _held(interface, child) else None


def _held(interface: int, child: Child) -> bool:
    try:
        return xfrm.holds(interface, child.spi)
    except NetlinkError:
        return True  # nobody says that it was lost

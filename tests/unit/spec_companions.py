# SPDX-License-Identifier: GPL-3.0-or-later
"""The page's section on companions, read a second time: as `spec`, of which it is a part."""

from collections.abc import Iterable
from dataclasses import dataclass

from aovpnd.filters import Filter
from aovpnd.ipsec import TunnelSpec
from aovpnd.ruleset import Address, Device
from tests.unit.spec_setup import NONE


@dataclass(frozen=True, slots=True)
class Companion:
    """A tunnel that stands beside the chosen one; ``device`` once its link is verified."""

    name: str
    device: Device | None
    filters: tuple[Filter, ...]
    addresses: frozenset[Address]
    transforming: frozenset[Address]


def at_large(tunnel: TunnelSpec, own: set[Address], taken: set[Address], *, alone: bool) -> bool:
    """Whether a tunnel can stand beside others: it does not carry everything, in one piece or in halves, unless users
    have it ``alone``, and has no address of another one.
    """
    return (alone or all(prefix.prefixlen > 1 for prefix in tunnel.prefixes)) and not own & taken


def of_device(companions: Iterable[Companion], device: Device | None) -> Companion | None:
    """The companion that has a link."""
    return next((each for each in companions if device is not None and each.device == device), None)


def elsewhere(companions: Iterable[Companion], device: Device | None) -> frozenset[Address]:
    """The addresses of all companions but the one that has a link."""
    others = [each.addresses for each in companions if device is None or each.device != device]
    return NONE.union(*others) if others else NONE

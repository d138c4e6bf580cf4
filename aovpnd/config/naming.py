# SPDX-License-Identifier: GPL-3.0-or-later
"""The tunnels that the settings name: whether they are there, and can do what is wanted of them."""

from collections.abc import Collection, Iterator

from aovpnd import names
from aovpnd.config.findings import Finding, no_tunnel
from aovpnd.config.settings import Settings
from aovpnd.ipsec import TunnelSpec, restless
from aovpnd.model import Origin


def findings(found: Settings, known: Collection[str], specs: tuple[TunnelSpec, ...]) -> Iterator[Finding]:
    """What is wrong with the names; ``known`` are those of all files, ``specs`` what the good ones say."""
    for origin, name in _wanted(found):
        if name not in known:
            yield no_tunnel(name, known, origin.file, origin.line, origin.key)
    yield from _restless(found, specs)


def _restless(found: Settings, specs: tuple[TunnelSpec, ...]) -> Iterator[Finding]:
    """Tunnels that should rest, and cannot."""
    origins = {origin.key: origin for origin in found.origins}
    where = origins[names.ON_DEMAND]
    for spec in specs:
        if spec.name in found.on_demand and (why := restless(spec)):
            hint = f"take that out of it, or {spec.name} out of this list"
            yield Finding(where.file, f"{spec.name} cannot rest: {why}", hint, where.line, where.key)


def _wanted(found: Settings) -> Iterator[tuple[Origin, str]]:
    """The names of tunnels in the settings, and where they stand."""
    named = found.chosen is not None and names.PREFER not in found.locked
    orders = {names.PREFER: (found.chosen or "",) if named else found.prefer}
    orders |= {f"tunnel.{kind}": order for kind, order in found.by_kind}
    orders |= {names.DEVICE: found.device or (), names.COMPANIONS: found.companions}
    orders |= {names.ON_DEMAND: found.on_demand}
    for origin in found.origins:
        for name in orders.get(origin.key, ()):
            yield origin, name

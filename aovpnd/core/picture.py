# SPDX-License-Identifier: GPL-3.0-or-later
"""One pass as a whole: what a question is answered from."""

from dataclasses import dataclass

from aovpnd.core.decide import permitted
from aovpnd.core.permits import Permit
from aovpnd.core.view import view
from aovpnd.ipsec import TunnelSpec
from aovpnd.model import Config, Desired, Intent, Snapshot
from aovpnd.orders import Action


@dataclass(frozen=True, slots=True)
class Picture:
    """What was written, wanted, seen and decided; ``actions`` are those that are still to be done."""

    config: Config
    intent: Intent
    snapshot: Snapshot
    desired: Desired
    actions: tuple[Action, ...] = ()

    @property
    def spec(self) -> TunnelSpec | None:
        """The chosen tunnel, with the addresses of its gateways as far as they are known."""
        return view(self.config, self.intent, self.snapshot).spec

    @property
    def permits(self) -> tuple[Permit, ...]:
        """What may leave now; none while unblocked."""
        return permitted(self.config, self.intent, self.snapshot)

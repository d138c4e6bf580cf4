# SPDX-License-Identifier: GPL-3.0-or-later
"""One pass as a whole: what a question is answered from."""

from dataclasses import dataclass

from aovpnd.core.decide import permitted
from aovpnd.core.permits import Permit
from aovpnd.core.view import Beside, View, view
from aovpnd.core.way import By, Way
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
    def view(self) -> View:
        """What was read off all that."""
        return view(self.config, self.intent, self.snapshot)

    @property
    def spec(self) -> TunnelSpec | None:
        """The chosen tunnel, with the addresses of its gateways as far as they are known."""
        return self.view.spec

    def companion(self, link: str, found: Way, uid: int | None = None) -> Beside | None:
        """The tunnel beside the chosen one that has a link, or would have it if it were up: its networks are closed
        until then; those of a user's own, to that user.
        """
        standing, route, own = self.view.companions, found.route, found.by is By.USERS
        his = next((user.only for user in self.config.users if user.uid == uid), None) if own else None
        by_link = (each for each in standing if each.state is not None and each.link_name == link)
        able = (each for each in standing if each.private is own and (not own or each.spec.name == his))
        closed = (each for each in able if route is not None and not route.link and route.dst in each.spec.prefixes)
        return next(by_link, None) or next(closed, None)

    @property
    def permits(self) -> tuple[Permit, ...]:
        """What may leave now; none while unblocked."""
        return permitted(self.config, self.intent, self.snapshot)

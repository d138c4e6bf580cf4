# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to the outside world whose answer takes longer than a pass may, and the answers.

`decide` names the questions that are open (`Desired.inquiries`), equal values being one question. The loop asks each of
them once, beside its passes and only while the ruleset is loaded that permits it, and hands the answer to
`core.intent.learn`. A question that is no longer desired when its answer comes was asked in vain.
"""

from dataclasses import dataclass

from aovpnd.ruleset import Address
from aovpnd.tunnel import Endpoint


@dataclass(frozen=True, slots=True)
class LookUp:
    """The addresses of ``host``, asked of an uplink's resolvers and over that link alone."""

    host: str
    link: int
    link_name: str
    resolvers: tuple[Address, ...]

    def describe(self) -> str:
        """One line for the log."""
        return f"look up {self.host}"


@dataclass(frozen=True, slots=True)
class ProbeTunnel:
    """Whether anything behind the tunnel's gateway answers: ``targets`` by TCP, or ``resolvers`` with a look-up of
    theirs. Asked over the tunnel's link alone; ``path`` is the fingerprint of the path that is in doubt.
    """

    link: int
    link_name: str
    path: str
    targets: tuple[Endpoint, ...] = ()
    resolvers: tuple[Address, ...] = ()

    def describe(self) -> str:
        """One line for the log."""
        return f"probe through {self.link_name}"


Inquiry = LookUp | ProbeTunnel


@dataclass(frozen=True, slots=True)
class LookedUp:
    """The addresses that were found, IPv4 and IPv6, in the order of the answer; none when there are none."""

    inquiry: LookUp
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Reached:
    """Something behind the gateway answered."""

    inquiry: ProbeTunnel


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Nothing was found out, and why."""

    inquiry: Inquiry
    text: str
    hint: str = ""


Finding = LookedUp | Reached | Unanswered

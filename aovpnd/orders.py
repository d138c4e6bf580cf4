# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be done: an `Action` that the loop performs, a `Command` that a person gives, and the answer to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import assert_never

from aovpnd.confirmation import Confirmation, Standing
from aovpnd.destinations import Destination
from aovpnd.dns import Dns
from aovpnd.doors import Door
from aovpnd.links import Link
from aovpnd.model import Block, GuardState, TunnelWish
from aovpnd.routes import Routing
from aovpnd.ruleset import Ruleset
from aovpnd.sockets import Sweep


# -- what to do about it -----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class LoadRuleset:
    """Replace our table by this one in one transaction, and read it back; None removes it."""

    ruleset: Ruleset | None
    reason: str = ""

    def describe(self) -> str:
        """One line for the log."""
        return f"load ruleset: {self.reason}" if self.ruleset is not None else "remove ruleset"


@dataclass(frozen=True, slots=True)
class EnsureCopies:
    """Keep our own copies of the guard's tables, for these links; None removes them (and early boot's). ARP names none
    of ``unannounced``.
    """

    links: tuple[Link, ...] | None
    unannounced: tuple[IPv4Address, ...] = ()

    def describe(self) -> str:
        """One line for the log."""
        return "attach egress" if self.links is not None else "detach egress"


@dataclass(frozen=True, slots=True)
class RemoveTunnel:
    """Delete a tunnel link of ours."""

    link: Link

    def describe(self) -> str:
        """One line for the log."""
        return f"remove tunnel link {self.link.name}"


@dataclass(frozen=True, slots=True)
class EnsureTunnel:
    """Make the tunnel link as wished: create, configure, address, set up or down, provoke a handshake."""

    wish: TunnelWish
    reason: str = ""

    def describe(self) -> str:
        """One line for the log."""
        return f"tunnel {self.wish.spec.name} on {self.wish.link_name}: {self.reason}"


@dataclass(frozen=True, slots=True)
class EnsureRouting:
    """Make rules, our route table and sysctls so; None removes rules and routes."""

    routing: Routing | None

    def describe(self) -> str:
        """One line for the log."""
        if self.routing is None:
            return "remove our rule and routes"
        return f"routing: {len(self.routing.rules)} rules, {len(self.routing.routes)} routes"


@dataclass(frozen=True, slots=True)
class CloseSockets:
    """Close the sockets of programs whose connections go a way that is closed or gone."""

    sweep: Sweep

    def describe(self) -> str:
        """One line for the log."""
        return "close old sockets"


@dataclass(frozen=True, slots=True)
class EnsureGuard:
    """Start the guard, or stop it."""

    state: GuardState

    def describe(self) -> str:
        """One line for the log."""
        return "start the guard" if self.state is GuardState.HELD else "stop the guard"


@dataclass(frozen=True, slots=True)
class MarkUnblocked:
    """Write or remove the marker that keeps the block off across restarts."""

    block: Block

    def describe(self) -> str:
        """One line for the log."""
        return f"remember that the block is {self.block}"


@dataclass(frozen=True, slots=True)
class EnsureDns:
    """Let programs ask these servers for names, and forget what they heard before; None gives back what was there."""

    dns: Dns | None
    reason: str = ""

    def describe(self) -> str:
        """One line for the log."""
        what = f"ask {self.dns}" if self.dns is not None else "as the network has them"
        return f"names: {what}{f' ({self.reason})' if self.reason else ''}"


@dataclass(frozen=True, slots=True)
class KeepConfirmation:
    """Write down whether the block stands for good, or how long it waits for somebody's word."""

    confirmation: Confirmation

    def describe(self) -> str:
        """One line for the log."""
        match self.confirmation.standing:
            case Standing.NEVER:
                return "remember that no block was confirmed"
            case Standing.AWAITED:
                return "remember that the block undoes itself"
            case Standing.GIVEN | Standing.NEEDLESS:
                return "remember that the block stands for good"
            case _:
                assert_never(self.confirmation.standing)


Action = (
    LoadRuleset
    | EnsureCopies
    | RemoveTunnel
    | EnsureTunnel
    | EnsureRouting
    | CloseSockets
    | EnsureGuard
    | MarkUnblocked
    | KeepConfirmation
    | EnsureDns
)


# -- what can be asked -------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class AllowTemporary:
    """Open the machine for a while. ``duration_s`` None means policy's default; ``user`` asked, ``by`` that door."""

    duration_s: int | None = None
    reason: str = ""
    user: str = "root"
    by: Door = Door.SOCKET


@dataclass(frozen=True, slots=True)
class CancelTemporary:
    """End the temporary access now."""


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect, by the tunnel called ``name`` or the preferred one."""

    name: str | None = None


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Take the tunnel down; the block stays."""


@dataclass(frozen=True, slots=True)
class SetBlock:
    """Take the block off for good, or put it on. ``by``: by which door it was asked for."""

    block: Block
    by: Door = Door.SOCKET


@dataclass(frozen=True, slots=True)
class Confirm:
    """Let the block stay, on or yet to come, that would undo itself."""


@dataclass(frozen=True, slots=True)
class Reload:
    """Read the configuration again."""


@dataclass(frozen=True, slots=True)
class PrepareSleep:
    """The machine is about to sleep, and the kernel's timers with it: close what they would leave open."""


@dataclass(frozen=True, slots=True)
class Woke:
    """The machine has slept: look at everything again."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Somebody has given what a tunnel asks for; the secrets themselves never come here (`signin`)."""

    name: str


@dataclass(frozen=True, slots=True)
class NameNetworks:
    """What the networks of some links call themselves, for people to read: pairs of link and name. It decides
    nothing.
    """

    names: tuple[tuple[str, str], ...]


Command = (
    AllowTemporary
    | CancelTemporary
    | Connect
    | Disconnect
    | SetBlock
    | Confirm
    | Reload
    | PrepareSleep
    | Woke
    | NameNetworks
    | SignedIn
)


@dataclass(frozen=True, slots=True)
class Explain:
    """What becomes of a packet to ``to``, and why; None: what was seen, what should be, and what is still to be done.

    A question: it changes nothing, and whoever may read the status may ask it.
    """

    to: Destination | None = None


Question = Explain


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command did, once the pass that carried it out is over, or what a question was answered with.

    ``data`` is for programs: JSON, with the keys of aovpnctl(8).
    """

    text: str
    expires_at: float | None = None
    data: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a command was not carried out; nothing was changed."""

    code: str
    text: str
    hint: str = ""

# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may call which method: the polkit actions of each, and what polkit's answers mean. Pure.

docs/security.md says it in words, etc/polkit-1/actions/org.aovpnd1.policy says who has which action.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from aovpnd.errors import CommandRefused


class Action(StrEnum):
    """A polkit action of ours."""

    CONNECT = "org.aovpnd1.connect"
    PORTAL = "org.aovpnd1.portal"
    ALLOW_TEMP = "org.aovpnd1.allow-temp"
    DISCONNECT = "org.aovpnd1.disconnect"
    UNBLOCK = "org.aovpnd1.unblock"
    IMPORT = "org.aovpnd1.import"
    SIGN_IN = "org.aovpnd1.sign-in"


ACTIONS: Final[Mapping[str, tuple[Action, ...]]] = {
    "Status": (),
    "Connect": (Action.CONNECT,),
    "Explain": (Action.CONNECT,),  # it changes nothing, but each question costs the daemon a pass
    # Ending a window only tightens; whoever sits at the machine may.
    "CancelTemporaryAccess": (Action.CONNECT,),
    # What it opens is still the whole machine, so it takes what opening the whole machine takes.
    "OpenPortal": (Action.PORTAL, Action.ALLOW_TEMP),
    "AllowTemporaryAccess": (Action.ALLOW_TEMP,),
    "Disconnect": (Action.DISCONNECT,),
    "Unblock": (Action.UNBLOCK,),
    "Block": (Action.UNBLOCK,),
    "Confirm": (Action.UNBLOCK,),
    "Reload": (Action.IMPORT,),
    "Questions": (Action.SIGN_IN,),  # they name accounts
    "SignIn": (Action.SIGN_IN,),
}
"""Every method, and the actions that its caller must all be authorised for. A method that is not here is nobody's."""

DISMISSED: Final = "polkit.dismissed"
"""The detail by which polkit says that the person closed the dialogue."""

_SITTING: Final = "whoever sits at this machine"
_ADMINISTRATOR: Final = "administrators"
WORDS: Final[Mapping[Action, tuple[str, str]]] = {
    Action.CONNECT: ("connecting", _SITTING),
    Action.PORTAL: ("signing in to a portal", _SITTING),
    Action.ALLOW_TEMP: ("opening the whole machine", f"{_SITTING}, with a password"),
    Action.DISCONNECT: ("disconnecting", _ADMINISTRATOR),
    Action.UNBLOCK: ("changing the block", _ADMINISTRATOR),
    Action.IMPORT: ("reading another configuration", _ADMINISTRATOR),
    Action.SIGN_IN: ("signing in", _SITTING),
}
"""What each action is, and whom it is for, where the administrator has made no rule."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What polkit answered (its AuthorizationResult)."""

    authorised: bool
    challenge: bool = False
    details: Mapping[str, str] = field(default_factory=dict)


def judge(action: Action, verdict: Verdict) -> None:
    """Return if polkit has authorised ``action``; otherwise `CommandRefused` says why not."""
    if verdict.authorised:
        return
    doing, who = WORDS[action]
    if DISMISSED in verdict.details:
        raise CommandRefused(f"{doing} takes a password, and the question was cancelled", code="dismissed")
    if verdict.challenge:
        raise CommandRefused(
            f"{doing} takes a password, and there was nobody to ask for it",
            hint="run it in a terminal or in a desktop session, or try sudo",
            code="authentication-required",
        )
    raise CommandRefused(f"polkit says no: this is for {who}", hint="try sudo", code="not-authorised")


def unanswered(why: str) -> CommandRefused:
    """The refusal for when polkit could not be asked, or did not answer: in doubt, no."""
    return CommandRefused(
        f"polkit cannot be asked whether you may do this: {why}",
        hint="systemctl status polkit; root needs no polkit: try sudo",
        code="polkit-unreachable",
    )

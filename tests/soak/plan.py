# SPDX-License-Identifier: GPL-3.0-or-later
"""What a soak does, trial by trial: drawn from the seed, so that every trial can be had again alone."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final, assert_never

from tests.lab.process import wait_for
from tests.soak.stage import Stage

_QUIET: Final = ("roam", "flap", "flush", "reload", "reconnect", "kill guard")
"""What leaves the daemon alive: the first part of the transitions, so that its memory can be watched."""
_ALL: Final = (*_QUIET, "roam", "flap", "flush", "kill daemon", "grant", "grant")
IKE: Final = (
    *("roam", "flap", "flush", "reconnect", "kill daemon", "kill guard"),
    *("kill charon", "hang charon", "flush SAs", "gateway restarted", "gateway deletes SAs"),
)
"""What happens to an IKE tunnel."""
_MOMENT_S: Final = 0.6
"""Kills come within this time after a transition has begun; most are over by then."""


class Part(StrEnum):
    """The parts of a soak."""

    TRANSITIONS = "transitions"
    KILLS = "kills"
    FLUSHES = "kills and flushes"
    BOTH = "both killed, and a flush"
    CHARON = "IKE: charon killed"
    SAS = "IKE: SAs and policies flushed"
    IKE = "IKE: transitions"

    @property
    def is_ike(self) -> bool:
        """Whether its tunnel is one of IKE."""
        return self in {Part.CHARON, Part.SAS, Part.IKE}


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many trials of each part."""

    transitions: int = 1000
    kills: int = 200
    flushes: int = 100
    both: int = 100
    charon: int = 100
    sas: int = 100
    ike: int = 100

    def of(self, part: Part) -> int:
        """The number of trials of a part."""
        match part:
            case Part.TRANSITIONS:
                return self.transitions
            case Part.KILLS:
                return self.kills
            case Part.FLUSHES:
                return self.flushes
            case Part.BOTH:
                return self.both
            case Part.CHARON:
                return self.charon
            case Part.SAS:
                return self.sas
            case Part.IKE:
                return self.ike
            case _:
                assert_never(part)


def perform(stage: Stage, part: Part, number: int, seed: int, quiet: int) -> str:
    """Do one trial and return what it was; whether all of it comes back, the caller waits for.

    Of the transitions the first ``quiet`` leave the daemon alive.
    """
    random = Random(f"{seed} {part} {number}")
    match part:
        case Part.TRANSITIONS:
            return _transition(stage, random, _QUIET if number < quiet else _ALL)
        case Part.KILLS:
            return _kill(stage, random, (("daemon",), ("guard",), ("daemon", "guard")))
        case Part.FLUSHES:
            what = _kill(stage, random, (("daemon",), ("guard",)))
            stage.flush()
            return f"{what}, flush"
        case Part.BOTH:
            return _both(stage, random)
        case Part.CHARON:
            return _ike(stage, random, "kill charon")
        case Part.SAS:
            # Where the kernel holds them there are two doors.
            by_kernel = stage.kernel_does_esp() and random.choice((True, False))
            return _ike(stage, random, "flush the kernel's SAs" if by_kernel else "flush SAs")
        case Part.IKE:
            return _ike(stage, random, random.choice(IKE))
        case _:
            assert_never(part)


def _transition(stage: Stage, random: Random, choice: tuple[str, ...]) -> str:
    what = random.choice(choice)
    if what == "grant":
        if not stage.grants_left:  # three an hour; a new hour comes with a new daemon
            stage.kill_daemon()
            stage.wait_back()
        return f"grant, {stage.grant(random)}"
    _actions(stage)[what]()
    return what


def _actions(stage: Stage) -> dict[str, Callable[[], None]]:
    ike = stage.laptop.world.ike_gateways
    return {
        "roam": stage.roam,
        "flap": stage.flap,
        "flush": stage.flush,
        "reload": stage.reload,
        "reconnect": stage.reconnect,
        "kill guard": stage.kill_guard,
        "kill daemon": stage.kill_daemon,
        "kill charon": stage.kill_charon,
        "hang charon": stage.hang_charon,
        "flush SAs": stage.flush_sas,
        "flush the kernel's SAs": stage.flush_kernel,
        **({"gateway restarted": ike[0].restart, "gateway deletes SAs": ike[0].terminate} if ike else {}),
    }


def _ike(stage: Stage, random: Random, what: str) -> str:
    """One thing, and in half of the trials a transition a random moment before it."""
    before = random.choice((None, None, "roam", "flap")) if what != "roam" else None
    if before is not None:
        _actions(stage)[before]()
        _pause(random.uniform(0, _MOMENT_S))
    _actions(stage)[what]()
    return f"{before}, {what}" if before else what


def _kill(stage: Stage, random: Random, victims: tuple[tuple[str, ...], ...]) -> str:
    """A transition, and at a random moment of it a SIGKILL to the daemon, the guard, or one after the other."""
    chosen = random.choice(victims)
    # Both dead behind a flush is a part of its own: early boot's table goes with the flush, too.
    transitions = ("roam", "flap", "reload", "nothing", "flush")[: 4 if len(chosen) > 1 else 5]
    what = random.choice(transitions)
    if what != "nothing":
        _actions(stage)[what]()
    _pause(random.uniform(0, _MOMENT_S))
    for victim in chosen:
        _actions(stage)[f"kill {victim}"]()
    return f"{what}, kill {' and '.join(chosen)}"


def _both(stage: Stage, random: Random) -> str:
    """A transition, and at a random moment of it both die, and the ruleset with them, before anybody restarts."""
    what = random.choice(("roam", "flap", "nothing"))
    if what != "nothing":
        _actions(stage)[what]()
    _pause(random.uniform(0, _MOMENT_S))
    with stage.laptop.no_restarts():
        stage.kill_daemon()
        stage.kill_guard()
        stage.flush()
        _pause(0.2)
    return f"{what}, kill both, flush"


def _pause(seconds: float) -> None:
    """The moment is random on purpose; nothing is waited for."""
    end = time.monotonic() + seconds
    wait_for("the moment", lambda: time.monotonic() >= end, deadline_s=seconds + 5, poll_s=0.005)

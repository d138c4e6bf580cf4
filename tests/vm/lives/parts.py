# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens in each part, trial by trial, drawn from the seed; every trial has its own control beside it."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Final

from tests.lab.process import LabError, wait_for
from tests.lab.record import now
from tests.lab.tree import text
from tests.vm.guest.chatty import SENDERS
from tests.vm.images import SUITES
from tests.vm.laptop import BootedLaptop
from tests.vm.lives import moving
from tests.vm.lives.broken import DAMAGES, Damage
from tests.vm.lives.record import Life, Part
from tests.vm.lives.stage import DEADLINE_S, UNBLOCKED, Stage, leaked, senders, status, wait_works
from tests.vm.machine import MachineError

ENDS: Final = (
    ("systemctl", "poweroff"),
    ("systemctl", "reboot"),
    ("systemctl", "poweroff", "--force"),
    ("systemctl", "reboot", "--force", "--force"),
    ("shutdown", "-h", "now"),
)
"""Ways of switching a laptop off."""
_OUTLIVING: Final = frozenset({3, 10, 12})
"""Senders that need neither a route nor a name: what outlives a system goes on with them to the last instruction."""
_BOOT_S: Final = 12.0
"""Within which a power cut comes that hits the boot; a machine that is translated takes about as long."""
_MOMENT_S: Final = 4.0
"""Within which a power cut comes that hits an action."""
_ACTIONS: Final[dict[str, tuple[str, ...]]] = {
    "while the daemon restarts": ("systemctl", "--no-block", "restart", "aovpnd.service"),
    "while it reconnects": ("aovpnctl", "connect", "home"),
    "while a tunnel is imported": ("aovpnctl", "import", "/root/work.conf"),
    "while somebody flushes": ("nft", "flush", "ruleset"),
    "while settings are read": ("systemctl", "--no-block", "reload", "aovpnd.service"),
    "in a window": ("aovpnctl", "allow-temp", "5min"),
}
"""What a power cut interrupts."""
WINDOW: Final = "in a window"


def live(stage: Stage, part: Part, numbers: Sequence[int], seed: int) -> Iterator[Life]:
    """Do the trials of a part; one that goes wrong is told, and the next one begins."""
    match part:
        case Part.UPGRADE:
            yield from moving.upgrades(stage, numbers, seed)
        case Part.SUSPEND:
            yield from moving.suspends(stage, numbers, seed)
        case _:
            for number in numbers:
                yield _alone(stage, part, number, seed)


def _alone(stage: Stage, part: Part, number: int, seed: int) -> Life:
    suite, random = SUITES[number % len(SUITES)], Random(f"{seed} {part} {number}")
    whats = {
        Part.COLD: ("cold boot", cold),
        Part.BROKEN: (tuple(DAMAGES)[number // len(SUITES) % len(DAMAGES)], broken),
        Part.END: (" ".join(ENDS[number // len(SUITES) % len(ENDS)]), end),
        Part.POWER_CUT: (random.choice(("at boot", *_ACTIONS)), power_cut),
    }
    what, trial = whats[part]
    life = Life(part, number, suite, what, senders=len(SENDERS))
    try:
        return trial(stage, life, random)
    except (LabError, MachineError) as error:
        return replace(life, lost=str(error))


# -- boots ------------------------------------------------------------------------------------------------------------
def cold(stage: Stage, life: Life, _random: Random) -> Life:
    """From power-on to a tunnel that works."""
    with stage.laptop(life.suite, stage.configured) as laptop:
        back_s = wait_works(laptop)
        laptop.wait_tried(laptop.built_in(), _OUTLIVING, DEADLINE_S)
        life = _judged(life, laptop, back_s=back_s)
    return replace(life, control=stage.control(life.suite, stage.configured))


def broken(stage: Stage, life: Life, _random: Random) -> Life:
    """A boot of a machine that is damaged: shut, and as connected as can be."""
    damage = DAMAGES[life.what]
    files = {**stage.configured, **damage.files}
    back_s, lost = None, ""
    with stage.laptop(life.suite, files) as laptop:
        if life.suite in damage.connects:
            back_s = wait_works(laptop)
        elif damage.network:
            laptop.wait_online(laptop.built_in(), DEADLINE_S)
        else:
            lost = _without_network(laptop, damage)
        laptop.wait_tried(laptop.built_in(), _OUTLIVING, DEADLINE_S)
        life = _judged(life, laptop, back_s=back_s, lost=lost)
    return replace(life, control=stage.control(life.suite, stage.configured))


def _without_network(laptop: BootedLaptop, damage: Damage) -> str:
    """Wait for the block, early boot's or, as late as it comes, the daemon's. A card that nobody brings up sends
    nothing: somebody does it then. Returns what is not as it should be.
    """
    machine = laptop.machine
    if damage.console:
        wait_for("words on the console", lambda: damage.console in machine.console(1000), deadline_s=DEADLINE_S)
        wait_for("the daemon's block", lambda: status(laptop).get("protected"), deadline_s=DEADLINE_S, poll_s=0.5)
    else:
        machine.wait("early boot's block", "systemctl", "is-active", "-q", "aovpnd-lockdown", seconds=DEADLINE_S)
    runs = machine.run("systemctl", "is-active", "-q", "systemd-networkd").code == 0
    machine.check("ip", "link", "set", laptop.built_in(), "up")
    return "a network manager runs" if runs and damage.console else ""


# -- ends -------------------------------------------------------------------------------------------------------------
def end(stage: Stage, life: Life, _random: Random) -> Life:
    """Switched off while programs send that no end of the system ends."""
    command = ENDS[life.number // len(SUITES) % len(ENDS)]
    with stage.laptop(life.suite, stage.configured) as laptop:
        back_s = wait_works(laptop)
        switch_off(laptop, command)
        life = _judged(life, laptop, back_s=back_s)
    files = {**stage.configured, UNBLOCKED: text("")}
    with stage.laptop(life.suite, files, control=True) as laptop:
        link = laptop.built_in()
        laptop.wait_online(link, DEADLINE_S)
        laptop.wait_tried(link, SENDERS, DEADLINE_S)
        since = now()
        switch_off(laptop, command)
        seen = senders(laptop.recording(), since)
    # With the network's routes gone, most have no way any more; those that need none go on to the last.
    return replace(life, control=len(seen & _OUTLIVING), senders=len(_OUTLIVING))


def switch_off(laptop: BootedLaptop, command: Sequence[str]) -> None:
    """Switch a laptop off, and wait until it is."""
    words = " ".join(command)
    laptop.machine.run("systemd-run", "--quiet", "--no-block", "/bin/sh", "-c", f"exec {words}")
    laptop.machine.wait_state("shutdown", DEADLINE_S)


def power_cut(stage: Stage, life: Life, random: Random) -> Life:
    """The power fails at a random instant; at the next boot all is as it should be."""
    with stage.disk(life.suite) as disk:
        files = {**stage.configured, "/root/work.conf": text(stage.world.laptop.tunnel_conf, 0o600)}
        with stage.laptop(life.suite, files, disk=disk) as laptop:
            until = float("inf")
            if life.what in _ACTIONS:
                wait_works(laptop)
                laptop.machine.check("sync")
                until = now() if life.what == WINDOW else until
                _begin(laptop, _ACTIONS[life.what])
            _pause(random.uniform(0, _MOMENT_S if life.what in _ACTIONS else _BOOT_S))
            recording = laptop.recording()
            before = leaked(recording, end=until)
        with stage.laptop(life.suite, {}, disk=disk) as laptop:
            back_s = _back(laptop, life)
            life = _judged(life, laptop, back_s=back_s)
        life = replace(life, leaked="; ".join(filter(None, (before, life.leaked))))
        return replace(life, control=stage.control(life.suite, {}, disk=disk))


def _back(laptop: BootedLaptop, life: Life) -> float:
    """Wait until the tunnel works; where a second one was imported, nobody can know which is meant."""
    if life.what == "while a tunnel is imported":
        laptop.wait_online(laptop.built_in(), DEADLINE_S)
        wait_for("the daemon", lambda: laptop.machine.run("aovpnctl", "status").code is not None, deadline_s=DEADLINE_S)
        laptop.machine.run("aovpnctl", "connect", "home")
    return wait_works(laptop)


def _begin(laptop: BootedLaptop, command: Sequence[str]) -> None:
    laptop.machine.check("systemd-run", "--quiet", "--no-block", *command)


def _pause(seconds: float) -> None:
    """The instant is random on purpose; nothing is waited for."""
    over = time.monotonic() + seconds
    wait_for("the instant", lambda: time.monotonic() >= over, deadline_s=seconds + 5, poll_s=0.01)


def _judged(life: Life, laptop: BootedLaptop, back_s: float | None, lost: str = "") -> Life:
    """A life with what its laptop sent since power-on."""
    recording = laptop.recording()
    return replace(life, frames=len(recording.frames), leaked=leaked(recording), back_s=back_s, lost=lost)

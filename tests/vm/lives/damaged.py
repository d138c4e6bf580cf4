# SPDX-License-Identifier: GPL-3.0-or-later
"""Broken boots: one laptop for each damage."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from aovpnd import names
from tests.lab.process import LabError, wait_for
from tests.vm.guest.chatty import SENDERS
from tests.vm.images import SUITES
from tests.vm.laptop import BootedLaptop
from tests.vm.lives.broken import DAMAGES, Damage
from tests.vm.lives.record import Life, Part
from tests.vm.lives.stage import DEADLINE_S, OUTLIVING, Stage, leaked, status, wait_works
from tests.vm.machine import MachineError


def damaged(stage: Stage, numbers: Sequence[int]) -> Iterator[Life]:
    """Each laptop has a damage of its own; they share the controls, one of each Debian, which have none."""
    controls: dict[str, int] = {}
    for number in numbers:
        suite, what = SUITES[number % len(SUITES)], tuple(DAMAGES)[number // len(SUITES) % len(DAMAGES)]
        life = Life(Part.BROKEN, number, suite, what, senders=len(SENDERS))
        try:
            life = _boot(stage, life)
            if suite not in controls:
                controls[suite] = stage.control(suite, stage.configured)
            yield replace(life, control=controls[suite])
        except (LabError, MachineError) as error:
            yield replace(life, lost=str(error))


def _boot(stage: Stage, life: Life) -> Life:
    """A boot of a machine that is damaged: shut, and as connected as can be."""
    damage = DAMAGES[life.what]
    back_s, lost = None, ""
    with stage.laptop(life.suite, {**stage.configured, **damage.files}) as laptop:
        if life.suite in damage.connects and not _says(laptop, damage):
            back_s = wait_works(laptop)
        elif damage.network:
            laptop.wait_online(laptop.built_in(), DEADLINE_S)
        else:
            lost = _without_network(laptop, damage)
        laptop.wait_tried(laptop.built_in(), OUTLIVING, DEADLINE_S)
        recording = laptop.recording()
    return replace(life, frames=len(recording.frames), leaked=leaked(recording), back_s=back_s, lost=lost)


def _says(laptop: BootedLaptop, damage: Damage) -> bool:
    """Whether the console of one that may connect says why it does not; asked once it is known which it will be."""

    def decided() -> bool:
        return bool(status(laptop).get("uplinks")) or said()

    def said() -> bool:
        return damage.console in laptop.machine.console(1000)

    if damage.console:
        wait_for("a network, or words on the console", decided, deadline_s=DEADLINE_S, poll_s=0.5)
    return bool(damage.console) and said()


def _without_network(laptop: BootedLaptop, damage: Damage) -> str:
    """Wait for the block, early boot's or, as late as it comes, the daemon's. A card that nobody brings up sends
    nothing: somebody does it then. Returns what is not as it should be: of network managers, that one began before the
    daemon; later whatever asks for one starts it (networkd's sockets do).
    """
    machine = laptop.machine
    if damage.console:
        wait_for("words on the console", lambda: damage.console in machine.console(1000), deadline_s=DEADLINE_S)
        wait_for("the daemon's block", lambda: status(laptop).get("protected"), deadline_s=DEADLINE_S, poll_s=0.5)
    else:
        machine.wait("early boot's block", "systemctl", "is-active", "-q", "aovpnd-lockdown", seconds=DEADLINE_S)
    began = [_began(laptop, unit) for unit in ("systemd-networkd.service", names.UNIT)]
    machine.check("ip", "link", "set", laptop.built_in(), "up")
    return "a network manager runs" if damage.console and 0 < began[0] < began[1] else ""


def _began(laptop: BootedLaptop, unit: str) -> int:
    """Microseconds from the boot to the beginning of a unit's program; 0 of one that has not begun."""
    shown = laptop.machine.check("systemctl", "show", "--property=ExecMainStartTimestampMonotonic", "--value", unit)
    return int(shown.strip() or 0)

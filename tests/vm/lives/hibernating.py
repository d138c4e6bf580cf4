# SPDX-License-Identifier: GPL-3.0-or-later
"""Laptops that hibernate: all of their memory goes to the disk, the power goes off, and they go on where they were."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import Any

from tests.lab import plan
from tests.lab.process import LabError
from tests.lab.tree import Tree, text
from tests.vm.guest.chatty import SENDERS
from tests.vm.images import LIFE
from tests.vm.laptop import BootedLaptop
from tests.vm.lives.moving import SLEEPS, go_to_sleep, open_window, sleeper
from tests.vm.lives.record import Life, Part
from tests.vm.lives.stage import DEADLINE_S, OUTLIVING, UNBLOCKED, Stage, groups, leaked, senders, uptime, wait_works
from tests.vm.machine import SWAP, MachineError


def hibernations(stage: Stage, numbers: Sequence[int], seed: int) -> Iterator[Life]:
    """Each trial is a laptop that boots, hibernates, and is switched on again: in the same network or in another one,
    sometimes with a window open that hibernation has to close. Without the block the same laptop is seen after waking.
    """
    for suite, group in groups(numbers):
        files = sleeper(stage)
        control, wrong = _control(stage, suite, files)
        for number in group:
            random = Random(f"{seed} {Part.HIBERNATION} {number}")
            life = Life(
                Part.HIBERNATION,
                number,
                suite,
                random.choice(SLEEPS),
                senders=len(SENDERS),
                control=control,
                lost=wrong,
            )
            yield life if wrong else _live(stage, life, files, random)


def _live(stage: Stage, life: Life, files: Tree, random: Random) -> Life:
    with _kept(stage, life.suite) as kept:
        try:
            with stage.laptop(life.suite, files, **kept) as laptop:
                wait_works(laptop)
                opened = open_window(laptop) if life.what == SLEEPS[2] else float("inf")
                _hibernate(laptop)
                before = laptop.recording()
            network = random.choice(("home", plan.TETHER.name)) if life.what == SLEEPS[1] else "home"
            with stage.laptop(life.suite, {}, **kept, asleep=laptop.token, network=network) as woken:
                begun = uptime(woken)
                back_s = wait_works(woken) - begun
                woken.wait_tried(woken.built_in(), OUTLIVING, DEADLINE_S)  # our routes refuse others at once
                after = woken.recording()
        except (LabError, MachineError) as error:
            return replace(life, lost=str(error))
    return replace(
        life,
        back_s=back_s,
        frames=len(before.frames) + len(after.frames),
        leaked="; ".join(filter(None, (leaked(before, end=opened), leaked(after)))),
    )


def _control(stage: Stage, suite: str, files: Tree) -> tuple[int, str]:
    """How many senders are seen after waking where nothing is blocked; and what went wrong."""
    with _kept(stage, suite) as kept:
        try:
            with stage.laptop(suite, {**files, UNBLOCKED: text("")}, control=True, **kept) as laptop:
                laptop.wait_online(laptop.built_in(), DEADLINE_S)
                _hibernate(laptop)
            with stage.laptop(suite, {}, control=True, **kept, asleep=laptop.token) as woken:
                woken.wait_online(woken.built_in(), DEADLINE_S)
                woken.wait_tried(woken.built_in(), SENDERS, DEADLINE_S)
                return len(senders(woken.recording())), ""
        except (LabError, MachineError) as error:
            return 0, f"its control: {error}"


@contextmanager
def _kept(stage: Stage, suite: str) -> Iterator[dict[str, Any]]:
    """What a laptop is before and after: its disks."""
    with stage.disk(suite, LIFE) as disk, stage.swap() as swap:
        yield {"disk": disk, "swap": swap, "more": LIFE}


def _hibernate(laptop: BootedLaptop) -> None:
    """Switch off with all that is in memory kept on the swap."""
    laptop.machine.check("swapon", SWAP)
    go_to_sleep(laptop, "hibernate", "shutdown")

# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts in which one laptop lives through several trials: upgrades of the package, and sleep."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Final

from aovpnd import names
from tests.lab import plan
from tests.lab.process import LabError, wait_for
from tests.lab.product import installed
from tests.lab.record import Recording, now
from tests.lab.tree import Symlink, Tree, copied, text
from tests.vm.guest.chatty import SENDERS
from tests.vm.images import LIFE
from tests.vm.laptop import CARDS, BootedLaptop
from tests.vm.lives.broken import ENABLED, TUNNEL
from tests.vm.lives.record import Life, Part
from tests.vm.lives.stage import DEADLINE_S, Stage, groups, leaked, senders, status, uptime, wait_works
from tests.vm.machine import MachineError
from tools.deb import build

VERSIONS: Final = ("0.0.1-1", "9.9.9-1")
_MANAGER: Final[Tree] = {"/etc/systemd/system/NetworkManager.service": Symlink("/dev/null")}
"""systemd-networkd has the links, as on the other laptops."""
_HALFWAY: Final = "that fails halfway"
_PY3COMPILE: Final = "/usr/bin/py3compile"
SLEEPS: Final = ("asleep", "woken in another network", "with a window open")


@dataclass(slots=True)
class Span:
    """A trial, and the time of the capture from which on it is answered for; what was permitted in it."""

    life: Life
    start: float
    window: tuple[float, float] | None = None


# -- upgrades ---------------------------------------------------------------------------------------------------------
def upgrades(stage: Stage, numbers: Sequence[int]) -> Iterator[Life]:
    """The package over itself, forth and back, connected; before the first tunnel everybody has been seen outside."""
    for suite, group in groups(numbers):
        with tempfile.TemporaryDirectory() as directory:
            debs = {f"/root/{version}.deb": copied(build(Path(directory), version)) for version in VERSIONS}
        files = {**debs, **_MANAGER, "/root/home.conf": text(stage.world.laptop.tunnel_conf, 0o600)}
        spans: list[Span] = []
        with stage.laptop(suite, files, more=LIFE) as laptop:
            machine = laptop.machine
            link = laptop.built_in()
            laptop.wait_online(link, DEADLINE_S)
            machine.wait("the boot", "systemctl", "is-active", "-q", "multi-user.target", seconds=DEADLINE_S)
            machine.check("dpkg", "-i", f"/root/{VERSIONS[0]}.deb", seconds=DEADLINE_S)
            laptop.wait_tried(link, SENDERS, DEADLINE_S)
            machine.check("aovpnctl", "import", "/root/home.conf", seconds=DEADLINE_S)
            blocked = now()
            wait_works(laptop)
            for number in group:
                life = Life(Part.UPGRADE, number, suite, "upgrade", senders=len(SENDERS))
                start, begun = max(now(), blocked) if spans else blocked, uptime(laptop)
                try:
                    life = _upgrade(laptop, life, (number + 1) % 2)
                    life = replace(life, back_s=wait_works(laptop) - begun)
                except (LabError, MachineError) as error:
                    life = replace(life, lost=str(error))
                spans.append(Span(life, start))
                if life.lost:
                    break
            recording = laptop.recording()
            control = len(senders(recording, end=blocked))
        yield from (replace(life, control=control) for life in _answered(spans, recording))


def _upgrade(laptop: BootedLaptop, life: Life, to: int) -> Life:
    """Install a version over the other; every fourth time it fails halfway at first."""
    machine = laptop.machine
    words = ("dpkg", "-i", f"/root/{VERSIONS[to]}.deb")
    if life.number % 4 != 3:
        machine.check(*words, seconds=DEADLINE_S)
        return replace(life, what="upgraded" if to else "downgraded")
    with _broken(laptop, _PY3COMPILE):
        if machine.run(*words, seconds=DEADLINE_S).code == 0:
            raise LabError("dpkg did not fail")
        wait_works(laptop)
    machine.check("dpkg", "--configure", "--pending", seconds=DEADLINE_S)
    return replace(life, what=f"{'upgrade' if to else 'downgrade'} {_HALFWAY}")


@contextmanager
def _broken(laptop: BootedLaptop, program: str) -> Iterator[None]:
    laptop.machine.check("sh", "-c", f"mv {program} {program}.kept && ln -s /bin/false {program}")
    try:
        yield
    finally:
        laptop.machine.check("mv", f"{program}.kept", program)


# -- sleep ------------------------------------------------------------------------------------------------------------
def sleeper(stage: Stage) -> Tree:
    """What a laptop has that sleeps: a window may be open although the tunnel works."""
    return {
        **installed((*ENABLED, names.BUS_UNIT)),
        **_MANAGER,
        TUNNEL: text(stage.world.laptop.tunnel_conf, 0o600),
        "/etc/aovpnd/aovpnd.toml": text('[temporary_access]\nwhile_connected = "pause"\n'),
    }


def suspends(stage: Stage, numbers: Sequence[int], seed: int) -> Iterator[Life]:
    """Asleep and awake again; sometimes elsewhere, sometimes with a window open that the sleep has to close."""
    for suite, group in groups(numbers):
        files = sleeper(stage)
        spans: list[Span] = []
        with stage.laptop(suite, files, more=LIFE) as laptop:
            wait_works(laptop)
            for number in group:
                random = Random(f"{seed} {Part.SUSPEND} {number}")
                span = Span(
                    Life(Part.SUSPEND, number, suite, random.choice(SLEEPS), senders=len(SENDERS)),
                    now() if spans else 0.0,
                )
                spans.append(span)
                try:
                    span.life = replace(span.life, back_s=_sleep(stage, laptop, span, random))
                except (LabError, MachineError) as error:
                    span.life = replace(span.life, lost=str(error))
                    break
            recording = laptop.recording()
        control = stage.control(suite, files, more=LIFE)
        yield from (replace(life, control=control) for life in _answered(spans, recording))


def _sleep(stage: Stage, laptop: BootedLaptop, span: Span, random: Random) -> float:
    """Sleep and wake; return the machine's own seconds from waking until the tunnel worked."""
    machine, card = laptop.machine, CARDS.built_in
    opened = open_window(laptop) if span.life.what == SLEEPS[2] else None
    try:
        go_to_sleep(laptop, "suspend", "suspended")
    finally:
        if opened is not None:
            span.window = (opened, now())
    elsewhere = span.life.what == SLEEPS[1]
    if elsewhere:
        machine.monitor("set_link", name=f"card-{card.name}", up=False)
        stage.world.detach(card.tap)
        stage.world.attach(card.tap, random.choice(("home", plan.TETHER.name)))
    machine.wake(DEADLINE_S)
    begun = uptime(laptop)
    if elsewhere:
        machine.monitor("set_link", name=f"card-{card.name}", up=True)
    return wait_works(laptop) - begun


def open_window(laptop: BootedLaptop) -> float:
    """Have a window open, by which everybody sends; returns when it was asked for."""
    asked = now()
    laptop.machine.check("aovpnctl", "allow-temp", "5min")
    wait_for("the window", lambda: status(laptop)["phase"] == "temporary-access", deadline_s=DEADLINE_S)
    laptop.wait_tried(laptop.built_in(), SENDERS, DEADLINE_S)
    return asked


def go_to_sleep(laptop: BootedLaptop, how: str, state: str) -> None:
    """``systemctl HOW``, which goes by logind, until QEMU calls the machine so. logind refuses the next sleep while it
    has not finished with the last one.
    """
    machine = laptop.machine
    manager = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
    prepares = ("busctl", "get-property", *manager, "PreparingForSleep")
    wait_for(
        "the end of the last sleep", lambda: machine.run(*prepares).out.split() == ["b", "false"], deadline_s=DEADLINE_S
    )
    machine.check("systemd-run", "--quiet", "--no-block", "systemctl", how)
    try:
        machine.wait_state(state, DEADLINE_S)
    except MachineError as error:
        journal = machine.run("journalctl", "-b", "--no-pager", "-n", "40").out
        raise MachineError(f"{error}\n{journal}") from None


def _answered(spans: Sequence[Span], recording: Recording) -> Iterator[Life]:
    """Every trial answers for what left from its beginning to that of the next one, but for what a window permits."""
    ends = [span.start for span in spans[1:]] + [float("inf")]
    for span, end in zip(spans, ends, strict=True):
        parts = [(span.start, end)]
        if span.window is not None:
            parts = [(span.start, span.window[0]), (span.window[1], end)]
        words = "; ".join(filter(None, (leaked(recording, *part) for part in parts)))
        yield replace(span.life, leaked=words, frames=len(recording.between(span.start, end)))

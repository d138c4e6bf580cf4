# SPDX-License-Identifier: GPL-3.0-or-later
"""``make demo-shell``: a person on the laptop."""

import os
import select
import subprocess
from pathlib import Path
from typing import Final

from tests.lab import plan
from tests.lab.demo.stage import Stage
from tests.lab.laptop import BIN
from tests.lab.process import LabError, wait_for

HELP: Final = f"""
You are root on a laptop at home, in a world of its own; aovpnd runs. Nothing you do here reaches your machine.
Thirty kinds of programs try to leak all the time.

  aovpnctl status                   how it is; --watch keeps it live
  leaks                             frames that left in clear so far, counted on the far side (0 is good)
  curl {plan.WEB4}/ip             the address that the internet sees you under; {plan.GATEWAY4} is the gateway's
  nft flush ruleset                 try it; and  pkill -9 -x aovpnd,  pkill -9 -f aovpnd.guard
  lab cafe | home | mobile | out    roam; the café has a captive portal, the mobile network IPv6 alone
  lab gateway off | on              the gateway dies, and comes back
  aovpnctl explain 192.0.2.1:443    would it leave, by which rule, and why
  aovpnctl allow-temp 1m            then  curl http://{plan.PORTAL_NAME}/login -d ''  logs in
  nft list table inet aovpnd        the rules, with their reasons
  tcpdump -ni wlan0                 what the laptop itself sees; record it at the far side with  lab record
  help                              this text;  exit  ends the world
"""
_RC: Final = """
PS1='\\[\\e[1;32m\\]laptop\\[\\e[0m\\]:\\w# '
help() { cat "$LAB/help"; }
leaks() { lab leaks; }
lab() { echo "$*" >"$LAB/ask" && cat "$LAB/answer"; }
export PATH="$LAB_BIN:$PATH"
help
"""


def run() -> int:
    """Build the protected stage, bring it home, and give the laptop's shell to a person."""
    stage = Stage.build()
    try:
        stage.start_daemon()
        stage.truth()
        stage.home()
        stage.laptop.wait_phase("connected", deadline_s=30)
        return _shell(stage)
    finally:
        stage.close()


def _shell(stage: Stage) -> int:
    """Run bash in the laptop; what it asks of the world around arrives by a pair of pipes."""
    place = stage.world.dir / "shell"
    place.mkdir()
    for pipe in ("ask", "answer"):
        os.mkfifo(place / pipe)
    (place / "help").write_text(HELP, encoding="utf-8")
    (place / "rc").write_text(_RC, encoding="utf-8")
    environment = {**os.environ, "LAB": str(place), "LAB_BIN": str(BIN)}
    bash = subprocess.Popen(
        [*stage.laptop.host.prefix(), "bash", "--noprofile", "--rcfile", str(place / "rc"), "-i"], env=environment
    )
    while bash.poll() is None:
        asked = _read(place / "ask", bash)
        if asked:
            _write(place / "answer", answer(stage, asked.strip()) + "\n")
    return bash.returncode


def _read(pipe: Path, bash: subprocess.Popen[bytes]) -> str:
    """Wait for a question, or for the shell's end."""
    descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        while bash.poll() is None:
            if select.select([descriptor], [], [], 0.2)[0]:
                return os.read(descriptor, 4096).decode(errors="replace")
    finally:
        os.close(descriptor)
    return ""


def _write(pipe: Path, text: str) -> None:
    """Give an answer, unless nobody waits for it any more (Ctrl-C)."""

    def opened() -> int | None:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return None

    try:
        descriptor = wait_for("the shell to read", opened, deadline_s=2)
    except LabError:
        return
    if descriptor is not None:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)


def answer(stage: Stage, question: str) -> str:
    """Do what the shell's ``lab`` asks, and say what came of it."""
    match question.split():
        case ["leaks"]:
            return f"{stage.clear_so_far()} frames in clear so far, of {stage.senders.tried()} sent by programs"
        case ["home"]:
            stage.world.roam("home", wait=False)
            return "at home"
        case ["cafe"]:
            stage.world.cafe.forget_logins()
            stage.world.roam("cafe", wait=False)
            return "in the café, behind its captive portal"
        case ["mobile"]:
            stage.world.roam("six", wait=False)
            return "in a mobile network, IPv6 alone"
        case ["gateway", "off"]:
            stage.gateway_dies()
            return "the gateway is off"
        case ["gateway", "on"]:
            stage.truth()
            return "the gateway is on"
        case ["out"]:
            stage.world.unplug("wlan0")
            return "out of range"
        case ["record"]:
            return f"tshark -r {stage.recorder.path}"
        case _:
            return "lab home | cafe | mobile | out | gateway off | gateway on | record | leaks"

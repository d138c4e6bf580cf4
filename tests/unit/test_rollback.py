# SPDX-License-Identifier: GPL-3.0-or-later
"""aovpnd-rollback's judgement, with stand-ins for dpkg, systemctl, ip and aovpnctl, and a clock of its own.

tests/container/test_rollback.py has it do the same on whole Debians.
"""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from aovpnd import durations, names
from aovpnd.adapters.state import State
from aovpnd.rollback import Outcome, RolledBack, parse, told
from tests.lab.product import CHECKOUT

SCRIPT: Final = CHECKOUT / "systemd/aovpnd-rollback"
OLD, NEW, NEWER = "1.0-1", "2.0-1", "3.0-1"
PAUSE_S, AFTER_S, PROOF_S = 10, 30, 10
BEFORE, AFTERWARDS = "aaaa", "bbbb"
HOME: Final = "default via 192.0.2.1 dev wlan0 proto dhcp\n"
STATUS: Final = '{{\n  "phase": "{}",\n  "problems": [{}]\n}}\n'
MOST_LOOKS: Final = 9
"""A trial that goes on for so long goes on for ever."""
ASKS: Final = ("'wait", "--connected", "--timeout", "1s'")
_STAND_INS: Final = {
    "dpkg-query": 'cat "$W/dpkg" || exit 1',
    # What fails says so in $W/refuses.
    "dpkg": f"""echo "dpkg $*" >>"$W/calls"
if [ -s "$W/refuses" ]; then cat "$W/refuses" >&2; exit 2; fi
printf 'installed {OLD}' >"$W/dpkg"; . "$W/returned" """,
    "systemctl": """case "$1" in
show) property=${2#*=}; cat "$W/unit.$property" 2>/dev/null || : ;;
list-jobs) printf '7 aovpnd.service start waiting\\nNo jobs running.\\n' ;;
*) echo "systemctl $*" >>"$W/calls" ;;
esac""",
    "aovpnctl": f"""case "$*" in
{" ".join(ASKS)}) [ -e "$W/connected" ] ;;
'status --json') cat "$W/status" ;;
esac""",
    "ip": 'cat "$W/routes"',
    "timeout": 'shift; exec "$@"',
    "sync": ":",
    "stat": "echo 4711",
    "sleep": f"""read -r looks <"$W/looks"; looks=$((looks + 1)); echo $looks >"$W/looks"
read -r now _ <"$W/uptime"; echo "$((${{now%%.*}} + $1)).50 1.0" >"$W/uptime"
if [ -e "$W/at.$looks" ]; then . "$W/at.$looks"; fi
if [ $looks -ge {MOST_LOOKS} ]; then kill "$PPID"; fi""",
}
CONNECTED: Final = '>"$W/connected"; '
LOST: Final = 'rm -f "$W/connected"; '
CUT: Final = 'kill -KILL "$PPID"'


def found(version: str, state: str = "installed") -> str:
    """A step: this is what dpkg says."""
    return f"printf '{state} {version}' >\"$W/dpkg\"; "


def says(name: str, value: str) -> str:
    """A step: this is a property of the daemon's unit."""
    return f"echo '{value}' >\"$W/unit.{name}\"; "


def reports(phase: str, problem: str = "") -> str:
    """A step: this is what the daemon publishes."""
    return f"echo '{STATUS.format(phase, problem)}' >\"$W/status\"; "


@dataclass(slots=True)
class Machine:
    """A machine on which `OLD` was kept and `NEW` has just been installed, at home, its tunnel not connected."""

    root: Path

    @property
    def world(self) -> Path:
        """Where the stand-ins look."""
        return self.root / "world"

    @property
    def kept(self) -> Path:
        """Where the version before is."""
        return self.root / "var/lib/aovpnd-previous"

    def build(self) -> None:
        """Make it."""
        places = ("world", "bin", "etc/aovpnd/tunnels", "etc/apt/preferences.d", "var/lib/aovpnd-previous/trial")
        for place in (*places, "etc/systemd/system/multi-user.target.wants", "run/systemd/system"):
            (self.root / place).mkdir(parents=True)
        for name, text in _STAND_INS.items():
            path = self.root / "bin" / name
            path.write_text(f"#!/bin/sh\nW={self.world}\n{text}\n", encoding="utf-8")
            path.chmod(0o755)
        files = {
            "looks": "0\n",
            "uptime": "1000.00 1.0\n",
            "dpkg": f"installed {NEW}",
            "routes": HOME,
            "returned": CONNECTED + says("InvocationID", "cccc"),
            "status": STATUS.format("connecting", ""),
            **{f"unit.{name}": f"{value}\n" for name, value in _UNIT.items()},
        }
        for name, text in files.items():
            (self.world / name).write_text(text, encoding="utf-8")
        (self.root / "etc/aovpnd/tunnels/home.conf").touch()
        (self.root / f"etc/systemd/system/{UNIT}").write_text(f"ExecStart={self.kept}/aovpnd-rollback watch\n", "utf-8")
        (self.kept / "aovpnd.deb").touch()
        (self.kept / "trial/version").write_text(f"{OLD}\n", encoding="utf-8")
        (self.kept / "trial/before").write_text(f"{BEFORE}\n", encoding="utf-8")
        text = SCRIPT.read_text(encoding="utf-8").replace("PATH=/", f"PATH={self.root}/bin:/", 1)
        for place in ("/var/lib/aovpnd-previous", "/etc/", "/run/systemd"):
            assert place in text
            text = text.replace(place, f"{self.root}{place}")
        for name in ("uptime", "locks"):
            assert f"\n{name}=/proc/{name}\n" in text
            text = text.replace(f"/proc/{name}", f"{self.world}/{name}")
        (self.root / "script").write_text(text, encoding="utf-8")

    def watch(self, steps: Mapping[int, str]) -> str:
        """Watch, with things happening after so many looks; what was said."""
        for number, step in steps.items():
            (self.world / f"at.{number}").write_text(f"{step}\n", encoding="utf-8")
        words = ["sh", str(self.root / "script"), "watch"]
        return subprocess.run(words, check=False, capture_output=True, text=True, timeout=60, env=_SPANS).stdout

    @property
    def looks(self) -> int:
        """How often it has looked."""
        return int((self.world / "looks").read_text(encoding="ascii"))

    @property
    def installs(self) -> int:
        """How often dpkg was told to install what was kept."""
        path = self.world / "calls"
        calls = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        wanted = f"dpkg --force-downgrade --force-confold --install {self.kept}/aovpnd.deb"
        assert all(call == wanted for call in calls if call.startswith("dpkg"))
        return calls.count(wanted)

    @property
    def outcome(self) -> str:
        """What status and doctor find."""
        path = self.kept / "rolled-back"
        return path.read_text(encoding="utf-8").strip() if path.exists() else ""

    @property
    def pinned(self) -> bool:
        """Whether apt is kept from the version that was refused, and from no other."""
        path = self.root / "etc/apt/preferences.d/aovpnd-rolled-back.pref"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        assert not text or f"\nPackage: aovpnd\nPin: version {NEW}\nPin-Priority: -1\n" in text
        return bool(text)

    @property
    def over(self) -> bool:
        """Whether nothing of the trial is left but what was kept."""
        left = (self.kept / "trial", self.root / f"etc/systemd/system/{UNIT}")
        return not any(path.exists() for path in left) and (self.kept / "aovpnd.deb").exists()


UNIT: Final = "aovpnd-rollback.service"
_SPANS: Final = {
    "AOVPND_ROLLBACK_AFTER_S": str(AFTER_S),
    "AOVPND_ROLLBACK_PROOF_S": str(PROOF_S),
    "AOVPND_ROLLBACK_PAUSE_S": str(PAUSE_S),
}
_UNIT: Final = {
    "InvocationID": AFTERWARDS,
    "UnitFileState": "enabled",
    "ActiveState": "activating",
    "ConditionResult": "yes",
    "LoadState": "loaded",
}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine in the first moment of a trial."""
    made = Machine(tmp_path)
    made.build()
    return made


def test_a_good_version_stays(machine: Machine) -> None:
    """Connected for a minute by a process of its own, it has passed; the version before is still at hand."""
    said = machine.watch({2: CONNECTED})

    assert f"the tunnel is back with version {NEW}; version {OLD} stays at hand" in said
    assert machine.looks == 2 + PROOF_S / PAUSE_S
    assert (machine.installs, machine.outcome, machine.pinned, machine.over) == (0, "", False, True)


def test_a_bad_version_goes(machine: Machine) -> None:
    """After its time without the tunnel the version before is installed; when it is connected, that is said."""
    said = machine.watch({})

    assert f"version {NEW} has not had the tunnel back in {AFTER_S} s: version {OLD} returns" in said
    assert f"version {OLD} is back, and the tunnel with it" in said
    assert machine.looks == (AFTER_S + PROOF_S) / PAUSE_S + 1
    assert (machine.installs, machine.outcome, machine.pinned) == (1, f"{NEW} {OLD} connected", True)
    assert machine.over


def test_without_a_tunnel_by_the_version_before(machine: Machine) -> None:
    """It may have been the network: so it is said, and nothing is installed any more."""
    (machine.world / "returned").write_text(":", encoding="utf-8")
    said = machine.watch({})

    assert "so it may be the network or the gateway" in said
    assert (machine.installs, machine.outcome, machine.over) == (1, f"{NEW} {OLD} in-vain", True)


@pytest.mark.parametrize(
    "routes",
    [
        "",
        "192.0.2.0/24 dev wlan0 proto kernel scope link\n",
        "default dev aovpn0 proto static\n",
        "default via 192.0.2.1 dev wlan0 linkdown \n",
        "unreachable default metric 4294967295\n",
    ],
)
def test_offline(machine: Machine, routes: str) -> None:
    """A machine without a network waits, however long; with a network for its time, the version goes."""
    (machine.world / "routes").write_text(routes, encoding="utf-8")
    machine.watch({})
    assert (machine.looks, machine.installs) == (MOST_LOOKS, 0)

    (machine.world / "looks").write_text("0\n", encoding="ascii")
    machine.watch({2: f"echo '{HOME}' >\"$W/routes\""})
    assert machine.installs == 1


def test_sleep_is_no_time_without_a_tunnel(machine: Machine) -> None:
    """An hour of sleep counts as two looks."""
    machine.watch({1: 'echo "9000.0 1.0" >"$W/uptime"; ', 2: CONNECTED})

    assert machine.installs == 0
    assert machine.over


@pytest.mark.parametrize("by", [1, 3])
def test_up_and_down(machine: Machine, by: int) -> None:
    """One that connects and dies over and over is not back: neither where a look hits it, nor where none does."""
    steps = {number: CONNECTED + says("InvocationID", f"{number}") for number in range(1, MOST_LOOKS, by)}
    if by > 1:
        steps |= {number + 1: LOST for number in steps}
    machine.watch(steps | {MOST_LOOKS - 1: ":"})

    assert machine.installs == 1


@pytest.mark.parametrize(
    "step", [says("InvocationID", BEFORE), found(NEW, "half-configured"), found(NEW, "unpacked")], ids=str.split
)
def test_the_old_process_shows_nothing(machine: Machine, step: str) -> None:
    """While the process of before still runs, or the package is half installed, a tunnel says nothing of the version;
    without one, it goes.
    """
    machine.watch({1: CONNECTED + step})
    assert (machine.looks, machine.installs, machine.over) == (MOST_LOOKS, 0, False)

    (machine.world / "looks").write_text("0\n", encoding="ascii")
    machine.watch({1: LOST})
    assert machine.installs == 1


@pytest.mark.parametrize("state", ["unpacked", "half-installed"])
def test_a_large_upgrade(machine: Machine, state: str) -> None:
    """While dpkg is at work and has not come to us yet, Python may not start: that is no version's fault."""
    at_work = "echo '1: POSIX  ADVISORY  WRITE 99 08:01:4711 0 EOF' >\"$W/locks\"; "
    machine.watch({1: at_work + found(NEW, state)})
    assert (machine.looks, machine.installs, machine.over) == (MOST_LOOKS, 0, False)

    (machine.world / "looks").write_text("0\n", encoding="ascii")
    machine.watch({1: 'rm "$W/locks"'})
    assert machine.installs == 1


@pytest.mark.parametrize(
    "step",
    [
        '>"$W/../etc/aovpnd/unblocked"',
        'rm "$W/../etc/aovpnd/tunnels/home.conf"',
        says("UnitFileState", "disabled"),
        says("UnitFileState", "masked"),
        says("ActiveState", "inactive"),
        reports("temporary-access"),
        reports("unblocked"),
        reports("blocked"),
    ],
)
def test_excused(machine: Machine, step: str) -> None:
    """Somebody has taken the block off, the tunnel away or down, opened a window, or stopped the daemon: no trial of
    the version.
    """
    machine.watch({1: step})

    assert (machine.looks, machine.installs, machine.over) == (MOST_LOOKS, 0, False)


@pytest.mark.parametrize(
    "step",
    [
        says("ActiveState", "failed"),
        says("ActiveState", "inactive") + says("ConditionResult", "no"),
        says("ActiveState", "inactive") + says("LoadState", "bad-setting"),
        says("ActiveState", "inactive") + says("InvocationID", BEFORE),
        says("ActiveState", "inactive") + says("InvocationID", ""),
        'rm "$W/status"',
        *(reports("blocked", f'"code": "{code}"') for code in ("no-tunnel", "tunnel-unknown", "tunnel-not-chosen")),
    ],
)
def test_not_excused(machine: Machine, step: str) -> None:
    """It fails, does not start, says nothing, or does not find its tunnel any more: that is the version's."""
    machine.watch({1: step})

    assert machine.installs == 1


def test_a_reboot_in_the_middle(machine: Machine) -> None:
    """The count goes on where it was; what was not written to its end counts as nothing."""
    machine.watch({2: CUT})
    assert (machine.kept / "trial/counted").read_text(encoding="utf-8") == "10\n"
    (machine.world / "uptime").write_text("20.0 1.0\n", encoding="ascii")
    (machine.kept / "trial/counted.new").touch()
    (machine.world / "at.2").unlink()
    machine.watch({})
    assert machine.looks == (AFTER_S + PROOF_S) / PAUSE_S + 2
    assert machine.installs == 1


def test_the_power_is_cut_while_it_returns(machine: Machine) -> None:
    """It is installed again at the next boot, whatever is half there."""
    (machine.world / "returned").write_text(found(OLD, "half-configured") + 'kill -KILL "$PPID"', encoding="utf-8")
    machine.watch({})
    assert machine.installs == 1
    (machine.world / "returned").write_text(CONNECTED, encoding="utf-8")
    machine.watch({})

    assert (machine.installs, machine.outcome, machine.over) == (2, f"{NEW} {OLD} connected", True)


def test_another_upgrade_in_the_middle(machine: Machine) -> None:
    """It has a time of its own; what returns is the version that is known to work."""
    said = machine.watch({2: found(NEWER)})
    assert f"version {NEWER} has not had the tunnel back in {AFTER_S} s: version {OLD} returns" in said
    assert machine.looks > 2 + AFTER_S / PAUSE_S


def test_another_version_while_it_waits(machine: Machine) -> None:
    """The lock of dpkg is held by somebody who installs a version that works: it stays."""
    (machine.world / "refuses").write_text("dpkg: error: dpkg frontend lock was locked by another process\n", "utf-8")
    said = machine.watch({5: found(NEWER) + CONNECTED})

    assert f"version {NEWER} has been installed meanwhile" in said
    assert f"the tunnel is back with version {NEWER}" in said
    assert (machine.outcome, machine.pinned) == ("", False)


def test_refused_and_installed_again(machine: Machine) -> None:
    """Somebody insists on the version that has just gone: it is tried once more, and not sent away at once."""
    (machine.world / "returned").write_text(":", encoding="utf-8")
    said = machine.watch({5: found(NEW) + CONNECTED})

    assert f"the tunnel is back with version {NEW}" in said
    assert (machine.installs, machine.outcome, machine.pinned) == (1, "", False)


def test_back_at_the_last_moment(machine: Machine) -> None:
    """While dpkg is locked the tunnel comes back: nothing is replaced."""
    (machine.world / "refuses").write_text("dpkg frontend lock was locked by apt process with pid 5\n", "utf-8")
    said = machine.watch({5: CONNECTED, 7: 'rm "$W/refuses"'})

    assert "before it was replaced" in said
    assert f"the tunnel is back with version {NEW}" in said
    assert machine.outcome == ""


def test_a_postinst_that_waits_for_ever(machine: Machine) -> None:
    """It keeps dpkg locked, waiting for units of the new version: their jobs are cancelled. Nobody else's wait is."""
    refuses = machine.world / "refuses"
    refuses.write_text("dpkg: error: dpkg frontend lock was locked by another process with pid 5\n", encoding="utf-8")
    machine.watch({})
    assert "systemctl cancel" not in (machine.world / "calls").read_text(encoding="utf-8")

    (machine.world / "looks").write_text("0\n", encoding="ascii")
    machine.watch({1: found(NEW, "half-configured"), 5: 'rm "$W/refuses"'})
    calls = (machine.world / "calls").read_text(encoding="utf-8").splitlines()
    assert {call for call in calls if "cancel" in call} == {"systemctl cancel 7"}
    assert machine.outcome == f"{NEW} {OLD} connected"


def test_it_cannot_return(machine: Machine) -> None:
    """Three times dpkg fails: that is said, what to do by hand as well, and it is left alone."""
    (machine.world / "refuses").write_text("dpkg: dependency problems prevent configuration\n", "utf-8")
    said = machine.watch({})

    assert said.count("dependency problems") == machine.installs == 3
    assert f"version {OLD} cannot be installed" in said
    assert f"By hand: dpkg --install {machine.kept}/aovpnd.deb" in said
    assert (machine.outcome, machine.over) == (f"{NEW} {OLD} failed", True)


@pytest.mark.parametrize("now", [f"installed {OLD}", f"config-files {NEW}", ""])
def test_nothing_to_judge(machine: Machine, now: str) -> None:
    """The upgrade was given up, or somebody went back by hand, or removed the package."""
    (machine.world / "dpkg").write_text(now, encoding="utf-8")
    if not now:
        (machine.world / "dpkg").unlink()
    machine.watch({})

    assert (machine.looks, machine.installs, machine.outcome, machine.over) == (0, 0, "", True)


@pytest.mark.parametrize("text", ["", "1.0 $(id)\n", "../x\n"])
def test_a_record_that_is_none(machine: Machine, text: str) -> None:
    """What is no version is none, and ends the trial."""
    (machine.kept / "trial/version").write_text(text, encoding="utf-8")
    machine.watch({})

    assert (machine.looks, machine.installs, machine.over) == (0, 0, True)


def test_what_it_asks_is_understood() -> None:
    """The words to aovpnctl, and five minutes where no unit says otherwise."""
    words = " ".join(ASKS).strip("'")
    text = SCRIPT.read_text(encoding="utf-8")
    unit = (CHECKOUT / "systemd" / UNIT).read_text(encoding="utf-8")

    assert f" aovpnctl {words} >" in text
    assert durations.parse(ASKS[-1].strip("'")) == 1
    for name, span in (("AFTER", 300), ("PROOF", 60), ("PAUSE", 5)):
        assert f"{{AOVPND_ROLLBACK_{name}_S:-{span}}}" in text
        assert f"AOVPND_ROLLBACK_{name}_S={span}" in unit


@pytest.mark.parametrize("outcome", ["connected", "in-vain", "failed", "waiting"])
def test_its_record_is_read(outcome: str) -> None:
    """Status and doctor read what it writes, each outcome as it is, and tell both versions."""
    found = parse(f"{NEW} {OLD} {outcome}\n")

    assert found == RolledBack(NEW, OLD, Outcome(outcome))
    assert f"version {NEW}" in told(found)[0]
    assert f"version {OLD}" in told(found)[0]
    assert outcome in SCRIPT.read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["", "1 2", "1 2 3", "1 2 connected x", "1 $(id) connected", "\x1b[2J 2 failed"])
def test_a_damaged_record_is_none(text: str) -> None:
    """What it would never write says nothing, and reaches no terminal."""
    assert parse(text) is None


def test_the_daemon_reads_the_record(tmp_path: Path) -> None:
    """As it is; what is absent, no file or no text is none."""
    path = tmp_path / "rolled-back"
    state = State(tmp_path, tmp_path, path)
    assert state.rolled_back() is None
    path.write_text(f"{NEW} {OLD} in-vain\n", encoding="utf-8")
    assert state.rolled_back() == RolledBack(NEW, OLD, Outcome.IN_VAIN)
    path.write_bytes(b"\xff\xfe connected")
    assert state.rolled_back() is None
    path.unlink()
    path.mkdir()
    assert state.rolled_back() is None


def test_it_opens_nothing() -> None:
    """It knows no word by which a table, a rule, a route or a link would be changed, and no address to ask."""
    text = SCRIPT.read_text(encoding="utf-8")
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))

    opens = ("nft", "flush", "ip rule", "ip link", "route add", "route del", "unblock ", "http")
    assert [word for word in opens if word in code] == []
    assert names.UNIT in code
    assert {
        name: value.replace("$kept", "/var/lib/aovpnd-previous")
        for name, value in re.findall(r"(?m)^(notice|package|pin)=(\S+)", text)
    } == {"notice": names.ROLLED_BACK, "package": names.KEPT_PACKAGE, "pin": names.PIN_FILE}
    assert f"dev {names.LINK_PREFIX}[0-9]" in code
    subprocess.run(["sh", "-n", SCRIPT], check=True)

# SPDX-License-Identifier: GPL-3.0-or-later
"""What other programs do to the kernel's tables, on purpose to theirs and by accident to ours (D6, D7)."""

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.audits.attack import Attack, Phase
from tests.audits.neighbours import Neighbours, ours, tables
from tests.audits.scene import LINK, Scene
from tests.lab.process import wait_for
from tests.lab.senders import Flood

MANY: Final = 20
FLOOD: Final = ("bound4", "packet4")
"""Without pause, and never into the tunnel."""
HEALED_S: Final = 5.0


# -- how it is tried ---------------------------------------------------------------------------------------------------
def attack(*steps: Callable[[Neighbours], None], culprit: str = "") -> Callable[[Scene, int], None]:
    """Take these steps, again and again, each followed by everybody's next try; under a flood where it is done often.

    ``culprit``: the steps touch our table, it comes back, and status names this program; otherwise none do, and nobody
    is named.
    """

    def run(scene: Scene, tries: int) -> None:
        neighbours = Neighbours(scene.host)
        before = ours(scene.host)
        try:
            with flood(scene, tries):
                for _ in range(tries):
                    for step in steps:
                        _step(scene, neighbours, step, culprit, before)
                    scene.everybody_tries()
        finally:
            neighbours.leave()

    return run


def _step(scene: Scene, neighbours: Neighbours, step: Callable[[Neighbours], None], culprit: str, before: str) -> None:
    said = named(scene)
    step(neighbours)
    wait_for("our table to be as before", lambda: ours(scene.host) == before, deadline_s=HEALED_S, poll_s=0.02)
    if culprit:
        wait_for("the culprit to be named", lambda: named(scene) != said, deadline_s=HEALED_S, poll_s=0.05)
        assert re.search(rf"\b{culprit}\[\d+\]", named(scene)), named(scene)
    else:
        assert named(scene) == said, "somebody is named who did nothing to our table"


def named(scene: Scene) -> str:
    """What status says of who touched our table last; "" when nobody did."""
    return scene.laptop.problems().get("ruleset-changed", "")


@contextmanager
def flood(scene: Scene, tries: int) -> Iterator[None]:
    """A flood for as long as many tries take; none in a window, which lets it through."""
    if tries < MANY or scene.watch is None or scene.phase is Phase.ACCESS:
        yield
        return
    with Flood.start(scene.laptop.lab, FLOOD, link=LINK, token=scene.watch.senders.token):
        yield


# -- nftables ----------------------------------------------------------------------------------------------------------
def _flush(neighbours: Neighbours) -> None:
    neighbours.run("nft", "flush", "ruleset")


OUR_TABLE: Final = (
    "delete table inet aovpnd",
    "flush table inet aovpnd",
    "flush chain inet aovpnd postrouting",
    "insert rule inet aovpnd output accept; insert rule inet aovpnd postrouting accept",
    "add chain inet aovpnd output { policy accept; }; delete chain inet aovpnd forward",
)
"""What somebody does to it who means it, or has learnt its name from a listing."""


def _text(text: str) -> Callable[[Neighbours], None]:
    def step(neighbours: Neighbours) -> None:
        neighbours.run("nft", "-f", "-", stdin=text)

    return step


def _storm(neighbours: Neighbours) -> None:
    """As fast as a shell can."""
    neighbours.run("sh", "-c", "for i in $(seq 50); do nft flush ruleset; done")


_BUSY: Final = """
import nftables, sys, time
kernel, end, done = nftables.Nftables(), time.monotonic() + float(sys.argv[1]), 0
kernel.cmd("add table ip storm")  # stays while it lasts
while time.monotonic() < end:
    done += kernel.cmd("add table ip busy")[0] == 0
    done += kernel.cmd("add chain ip busy c { type filter hook output priority 9; }; delete table ip busy")[0] == 0
    time.sleep(0.005)
kernel.cmd("delete table ip storm")
print(done)
"""
BUSY_S: Final = 3.0
BUSY_SHARE: Final = 0.2
"""Of a core: what the daemon may take while others change their tables hundreds of times a second. It was a third at 30
changes a second when each was a reason to look."""
BUSYHEALED_S: Final = 1.0


def _busy(scene: Scene, tries: int) -> None:
    """A storm of transactions over somebody else's table, and in the middle of it ours is removed."""
    before = ours(scene.host)
    for _ in range(tries):
        pid, taken, began = scene.laptop.daemon_pid(), _cpu_s(scene.laptop.daemon_pid()), time.monotonic()
        storm = scene.host.spawn("/usr/bin/python3", "-c", _BUSY, str(BUSY_S), log="busy", stdout=subprocess.PIPE)
        wait_for("the storm", lambda: ("ip", "storm") in tables(scene.host), poll_s=0.001)
        removed = time.monotonic()
        scene.host.nft("delete table inet aovpnd")
        wait_for("our table to be as before", lambda: ours(scene.host) == before, deadline_s=HEALED_S, poll_s=0.01)
        healed = time.monotonic() - removed
        done = int(storm.communicate()[0])
        share = (_cpu_s(pid) - taken) / (time.monotonic() - began)
        assert done > BUSY_S * 30, f"only {done} transactions: that is no storm"
        assert share < BUSY_SHARE, f"{done} transactions of others took {share:.0%} of a core"
        assert healed < BUSYHEALED_S, f"repaired after {healed:.2f} s"


def _cpu_s(pid: int | None) -> float:
    """Seconds of processor time that a process has taken; proc_pid_stat(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- iptables ----------------------------------------------------------------------------------------------------------
_RULES: Final = """*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A OUTPUT -j ACCEPT
COMMIT
*mangle
:OUTPUT ACCEPT [0:0]
-A OUTPUT -j MARK --set-xmark 0x40000000/0x40000000
COMMIT
"""
"""Everything accepted, and everything given our stamp, before our own chains see it."""


def _restore(neighbours: Neighbours) -> None:
    for family in ("iptables", "ip6tables"):
        neighbours.restore(_RULES, family=family)


def _flush_iptables(neighbours: Neighbours) -> None:
    for table in ("filter", "mangle"):
        neighbours.iptables(f"-t {table} -F")
        neighbours.iptables(f"-t {table} -X")


# -- firewalld and ufw -------------------------------------------------------------------------------------------------
def _firewall_cmd(*options: str) -> Callable[[Neighbours], None]:
    def step(neighbours: Neighbours) -> None:
        assert neighbours.run("firewall-cmd", *options).strip() == "success"

    return step


def _ufw(words: str, says: str) -> Callable[[Neighbours], None]:
    def step(neighbours: Neighbours) -> None:
        said = neighbours.run("ufw", *words.split())
        assert says in said, said

    return step


def _fail2ban(verb: str, address: str) -> Callable[[Neighbours], None]:
    """Ban or unban; the ban is there when it is to be."""

    def step(neighbours: Neighbours) -> None:
        neighbours.run("fail2ban-client", "set", "sshd", verb, address)
        banned = verb == "banip"
        wait_for(verb, lambda: (address in neighbours.host.out("nft", "list", "ruleset")) is banned, deadline_s=20)

    return step


# -- the attacks -------------------------------------------------------------------------------------------------------
ATTACKS: Final = (
    Attack(
        "D6",
        "nft-flush",
        "`nft flush ruleset`, `nft -f /etc/nftables.conf`, `systemctl restart nftables`",
        attack(_flush, Neighbours.load_nftables_conf, Neighbours.restart_nftables, culprit="nft"),
        tries=1,
    ),
    Attack(
        "D6",
        "nft-storm",
        "fifty times `nft flush ruleset` without a pause",
        attack(_storm, culprit="nft"),
        tries=1,
    ),
    Attack(
        "D6",
        "busy",
        "hundreds of transactions a second over somebody else's table, and ours removed in the middle of them",
        _busy,
        tries=1,
        brief=(Phase.CONNECTED,),
        phases=(Phase.BLOCKED, Phase.CONNECTED),
    ),
    Attack(
        "D6",
        "nft-our-table",
        "our table deleted, emptied, given rules that accept, another policy, fewer chains",
        attack(*map(_text, OUR_TABLE), culprit="nft"),
        tries=1,
    ),
    Attack(
        "D6",
        "iptables",
        "`iptables-restore` and `iptables -F` by both backends (nft, legacy), with our stamp set on everything",
        attack(_restore, _flush_iptables),
        tries=1,
        service=0.9,
    ),
    Attack(
        "D6",
        "firewalld",
        "firewalld: start, `--reload`, `--complete-reload`, a port added, stop (firewalld issue 742)",
        attack(
            Neighbours.start_firewalld,
            _firewall_cmd("--reload"),
            _firewall_cmd("--complete-reload"),
            _firewall_cmd("--zone=public", "--add-port=8080/tcp"),
            Neighbours.stop_firewalld,
        ),
        tries=1,
        brief=(Phase.CONNECTED,),
        service=0.5,  # it drops everything itself while it reloads
    ),
    Attack(
        "D6",
        "ufw",
        "ufw: enable, allow, reload, disable",
        attack(
            _ufw("--force enable", "active and enabled"),
            _ufw("allow 22/tcp", "Rule added"),
            _ufw("delete allow 22/tcp", "Rule deleted"),
            _ufw("reload", "reloaded"),
            _ufw("--force disable", "stopped"),
        ),
        tries=1,
        brief=(Phase.CONNECTED,),
        service=0.5,  # it drops everything itself while it is set up
    ),
    Attack(
        "D6",
        "fail2ban",
        "fail2ban: start, ban, unban, stop",
        attack(
            Neighbours.start_fail2ban,
            _fail2ban("banip", "203.0.113.99"),
            _fail2ban("unbanip", "203.0.113.99"),
            Neighbours.stop_fail2ban,
        ),
        tries=1,
        brief=(Phase.CONNECTED,),
        service=0.9,
    ),
)

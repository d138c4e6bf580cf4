# SPDX-License-Identifier: GPL-3.0-or-later
"""What AppArmor lets our processes do in a machine: who is in which profile, what was refused, what gets through."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tests.lab.tree import Tree, text
from tests.vm.machine import Machine

APPARMOR: Final = "lsm=capability,apparmor audit=1 audit_backlog_limit=8192"
"""The kernel's arguments: the distribution's own AppArmor."""
TELL_ALL: Final[Tree] = {"/etc/sysctl.d/60-tell-all.conf": text("kernel.printk_ratelimit_burst = 100000\n")}
"""Lies over the system: the kernel's log tells all that is refused, however much it is."""
_TUNNEL: Final = "/etc/aovpnd/tunnels/home.conf"


@dataclass(frozen=True, slots=True)
class Attempt:
    """Something to try: Python that raises when it may not."""

    name: str
    code: str


ATTEMPTS: Final = (
    Attempt("passwords", "open('/etc/shadow')"),
    Attempt("a user's file", "open('/home/alice/diary')"),
    Attempt("root's file", "open('/root/diary')"),
    Attempt("a key", f"open('{_TUNNEL}')"),
    Attempt("name servers", "open('/etc/resolv.conf', 'a')"),
    Attempt("a unit", "open('/etc/systemd/system/evil.service', 'w')"),
    Attempt("a program", "subprocess.run(['/usr/bin/id'], stdout=subprocess.DEVNULL, check=True)"),
    Attempt("the internet", "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"),
    Attempt("a connection", "socket.socket(socket.AF_INET6, socket.SOCK_STREAM)"),
    Attempt("frames", "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"),
    Attempt("the device of tunnels", "os.open('/dev/net/tun', os.O_RDWR)"),
)
PROFILES: Final[Mapping[str, frozenset[str]]] = {
    "aovpnd": frozenset({"a key", "name servers", "the internet", "a connection", "the device of tunnels"}),
    "aovpnd-guard": frozenset(),
    "aovpnd-bus": frozenset(),
    "aovpnd-wireguard-go": frozenset({"the internet", "the device of tunnels"}),
    "aovpnd-charon": frozenset({"the internet", "the device of tunnels"}),
}
"""What of `ATTEMPTS` a profile lets through. Debian's kernels do not judge who connects to a UNIX socket."""
_SCRIPT: Final = """
import json, os, socket, subprocess, sys
passed = []
for name, code in json.loads(sys.argv[1]):
    try:
        exec(code)
    except PermissionError:
        continue
    passed.append(name)
print(json.dumps(passed))
"""


def got_through(machine: Machine, profile: str | None) -> set[str]:
    """Which of `ATTEMPTS` root's own program gets through in a profile; None: without one."""
    machine.check("sh", "-c", "mkdir -p /home/alice && echo dear >/home/alice/diary && echo dear >/root/diary")
    tries = json.dumps([(attempt.name, attempt.code) for attempt in ATTEMPTS])
    within = () if profile is None else ("aa-exec", "-p", profile, "--")
    answer = machine.check(*within, "python3", "-Ic", _SCRIPT, tries)
    return set(json.loads(answer))


def refused(machine: Machine) -> list[str]:
    """What AppArmor has refused to us since the boot, or would have."""
    lines = machine.check("dmesg").splitlines()
    told = ('apparmor="DENIED"', 'apparmor="ALLOWED"')
    return [line for line in lines if 'profile="aovpnd' in line and any(word in line for word in told)]


def labels(machine: Machine) -> set[str]:
    """The profiles that our processes are in, with their mode: ``aovpnd (enforce)``; of one without, its command."""
    found = set()
    for line in machine.check("ps", "-eo", "label:40=,args=").splitlines():
        label, program = line[:40].strip(), line[40:].strip()
        ours = any(word in program.partition(" -f ")[0] for word in ("/usr/sbin/aovpnd", "wireguard-go"))
        if label.startswith("aovpnd"):
            found.add(label)
        elif ours or "charon" in program:
            found.add(program)
    return found

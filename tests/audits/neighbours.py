# SPDX-License-Identifier: GPL-3.0-or-later
"""Other programs that keep firewalls, as Debian packages them, at work on the laptop; and what is theirs, to compare.

They run from the lab's root directory (`tests.lab.rootdir`) in the laptop's namespaces, with an /etc and a /var of
their own, so that each believes to be at home. firewalld gets a private system bus there: the daemon under test needs
none, and a whole container would add nothing to what the kernel sees.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lab import plan
from tests.lab.beacon import RECORD
from tests.lab.enter import netns_inode
from tests.lab.host import Host
from tests.lab.process import stop, wait_for
from tests.lab.rootdir import lab_root

RECORDED: Final = Path(__file__).parent / "recorded"
_BACKENDS: Final = ("nft", "legacy")
_FAMILIES: Final = ("iptables", "ip6tables")
_OURS: Final = re.compile(r"^aovpnd(_guard|_copy|_early)?$")
_LONG_S: Final = 60.0
_REMARKS: Final = re.compile(r"^#.*\n", re.MULTILINE)
_COUNTERS: Final = re.compile(r" \[\d+:\d+\]$", re.MULTILINE)

_OWN_PLACES: Final = """
[ ! -e /run/lab-root/run/neighbours ] || exit 0
mkdir -p /run/neighbours /run/dbus
mount -t tmpfs tmpfs /run/neighbours
for place in etc var; do
  mkdir -p /run/neighbours/$place /run/neighbours/$place-work
  mount -t overlay overlay /run/lab-root/$place \\
    -o lowerdir=/run/lab-root/$place,upperdir=/run/neighbours/$place,workdir=/run/neighbours/$place-work
done
mount --bind /etc/resolv.conf /run/lab-root/etc/resolv.conf
"""


@dataclass(slots=True)
class Neighbours:
    """The other programs of one machine."""

    host: Host
    _bus: subprocess.Popen[bytes] | None = None
    _firewalld: subprocess.Popen[bytes] | None = None
    _fail2ban: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.host.run("sh", "-ec", _OWN_PLACES)

    def run(self, *command: str, stdin: str | None = None, check: bool = True) -> str:
        """Run one of their programs to its end; what it printed."""
        return self.host.run(*command, chroot=True, stdin=stdin, check=check, timeout_s=_LONG_S).stdout

    # -- nftables ----------------------------------------------------------------------------------------------------
    def restart_nftables(self) -> None:
        """``systemctl restart nftables``: its unit's ExecStop=, then its ExecStart=."""
        unit = (lab_root() / "usr/lib/systemd/system/nftables.service").read_text(encoding="utf-8")
        for key in ("ExecStop", "ExecStart"):
            (line,) = re.findall(rf"^{key}=(.*)$", unit, re.MULTILINE)
            self.run(*line.split())

    def load_nftables_conf(self) -> None:
        """``nft -f /etc/nftables.conf``, as Debian's, which begins with ``flush ruleset``."""
        self.run("nft", "-f", "/etc/nftables.conf")

    # -- iptables ----------------------------------------------------------------------------------------------------
    def iptables(self, words: str, *, backends: tuple[str, ...] = _BACKENDS) -> None:
        """``iptables WORDS`` and ``ip6tables WORDS``, of both backends."""
        for backend in backends:
            for family in _FAMILIES:
                self.run(f"{family}-{backend}", *words.split())

    def save(self) -> dict[str, str]:
        """What ``iptables-save`` of each family and backend prints; its own remarks and the counters left out."""
        saved = {}
        for program in (f"{family}-{backend}-save" for family in _FAMILIES for backend in _BACKENDS):
            text = self.run(program)
            saved[program] = _COUNTERS.sub("", _REMARKS.sub("", text))
        return saved

    def restore(self, text: str, *more: str, family: str = "iptables", backends: tuple[str, ...] = _BACKENDS) -> None:
        """``iptables-restore`` of a whole text, by both backends; ``more`` are options."""
        for backend in backends:
            self.run(f"{family}-{backend}-restore", *more, stdin=text)

    # -- firewalld ---------------------------------------------------------------------------------------------------
    def start_firewalld(self) -> None:
        """Start it on a private system bus, as its unit does; returns when ``firewall-cmd`` says that it runs."""
        if self._bus is None:
            self._bus = self.host.spawn("dbus-daemon", "--system", "--nofork", "--nopidfile", log="dbus", chroot=True)
            wait_for("the bus", self.host.path("/run/dbus/system_bus_socket").exists)
        self._firewalld = self.host.spawn("firewalld", "--nofork", "--nopid", log="firewalld", chroot=True)
        wait_for("firewalld", lambda: "running" in self.run("firewall-cmd", "--state", check=False), deadline_s=_LONG_S)

    def stop_firewalld(self) -> None:
        """Stop it, as its unit does; it takes its table along."""
        if self._firewalld is not None:
            stop(self._firewalld, grace_s=_LONG_S)
            self._firewalld = None

    # -- fail2ban ----------------------------------------------------------------------------------------------------
    def start_fail2ban(self) -> None:
        """Start it with one jail, sshd, by its nftables action."""
        jail = "[DEFAULT]\nbackend = polling\nbanaction = nftables[type=multiport]\n[sshd]\nenabled = true\n"
        jail += "logpath = /var/log/auth.log\n"
        script = "mkdir -p /run/fail2ban && : >/var/log/auth.log && cat >/etc/fail2ban/jail.d/lab.conf"
        self.run("sh", "-c", f"rm -f /etc/fail2ban/jail.d/*; {script}", stdin=jail)
        self._fail2ban = self.host.spawn("fail2ban-server", "-xf", "start", log="fail2ban", chroot=True)
        wait_for("fail2ban", lambda: "sshd" in self.run("fail2ban-client", "status", check=False), deadline_s=_LONG_S)

    def stop_fail2ban(self) -> None:
        """Stop it; it takes back what it banned."""
        if self._fail2ban is not None:
            self.run("fail2ban-client", "stop", check=False)
            stop(self._fail2ban, grace_s=_LONG_S)
            self._fail2ban = None

    # -- the end -----------------------------------------------------------------------------------------------------
    def leave(self) -> None:
        """Stop everything, and take away all that they made; may be called twice."""
        self.stop_firewalld()
        self.stop_fail2ban()
        if self._bus is not None:
            stop(self._bus)
            self._bus = None
            self.host.path("/run/dbus/system_bus_socket").unlink(missing_ok=True)
        for family, table in tables(self.host):
            self.host.run("nft", "delete", "table", family, table, check=False)
        for program in (f"{family}-legacy" for family in _FAMILIES):
            for table, chains in _LEGACY.items():
                script = f"{program} -t {table} -F && {program} -t {table} -X"
                script += "".join(f" && {program} -t {table} -P {chain} ACCEPT" for chain in chains)
                self.run("sh", "-c", f"grep -qx {table} /proc/net/{program[:-9]}_tables_names || exit 0; {script}")


_LEGACY: Final = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "OUTPUT", "POSTROUTING"),
    "mangle": (),
}


def tables(host: Host) -> list[tuple[str, str]]:
    """The nft tables (family, name) that are not ours."""
    words = (line.split() for line in host.out("nft", "list", "tables").splitlines())
    return [(family, name) for _, family, name in words if not _OURS.match(name)]


def ours(host: Host) -> str:
    """Our dynamic table, without what moves by itself; "" while it is gone."""
    listing = host.run("nft", "-s", "list", "table", "inet", "aovpnd", check=False).stdout
    return re.sub(r'\b([io]if) (?:"[^"]*"|\d+)', r"\1 _", listing)


# -- guests ------------------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Guest:
    """A network namespace of its own on the laptop, as containers and virtual machines are to its bridges."""

    host: Host
    process: subprocess.Popen[bytes]
    report: Path

    @property
    def place(self) -> str:
        """The path of its network namespace."""
        return f"/proc/{self.process.pid}/ns/net"

    def prefix(self) -> tuple[str, ...]:
        """What to put before a command so that it runs in the guest."""
        return ("nsenter", f"--net={self.place}", "--")

    def address_outside(self) -> str:
        """The address that the web server sees the guest come from; "" when it sees nothing of it."""
        curl = ("curl", "-sS", "--max-time", "1", f"http://{plan.WEB4}/ip")
        return self.host.run(*self.prefix(), *curl, check=False).stdout.strip()

    def has_tried(self) -> bool:
        """Whether every one of its senders has tried several times."""
        return self.report.stat().st_size // RECORD.size >= 5 * len(_GUESTS_SENDERS)


@contextmanager
def namespace(host: Host) -> Iterator[Guest]:
    """A network namespace without links."""
    holder = host.spawn("unshare", "--net", "sleep", "infinity", log="guest")
    found = Guest(host, holder, host.dir / f"guest-{holder.pid}")
    try:
        wait_for("the guest", lambda: Path(found.place).stat().st_ino not in {host.netns, netns_inode()})
        yield found
    finally:
        stop(holder)


@contextmanager
def guest(host: Host, bridge: str, network: str, token: bytes) -> Iterator[Guest]:
    """A guest of ``bridge``, which has address .1 of ``network`` ("172.17.0"); its programs send until it goes."""
    forwarding = host.out("sysctl", "-n", "net.ipv4.ip_forward").strip()
    with namespace(host) as made:
        made.report.touch()
        host.run("sh", "-ec", _BRIDGED.format(bridge=bridge, network=network, pid=made.process.pid))
        inside = f"ip link set lo up; ip addr add {network}.2/24 dev eth0; ip link set eth0 up"
        host.run(*made.prefix(), "sh", "-ec", f"{inside}; ip route add default via {network}.1")
        words = (token.hex(), "25", "eth0", str(made.report), *_GUESTS_SENDERS)
        sender = host.spawn(*made.prefix(), sys.executable, "-m", "tests.lab.beacon", *words, log="beacon")
        try:
            yield made
        finally:
            stop(sender)
            host.run("sh", "-c", f"ip link del guest0; ip link del {bridge}", check=False)
            host.sysctl(ipv4__ip_forward=forwarding)


_BRIDGED: Final = """
echo 1 >/proc/sys/net/ipv4/ip_forward
ip link add {bridge} type bridge
ip addr add {network}.1/24 dev {bridge}
ip link set {bridge} up
ip link add guest0 type veth peer name eth0 netns {pid}
ip link set guest0 master {bridge} up
"""
_GUESTS_SENDERS: Final = ("udp4", "tcp4", "dns4", "raw4", "packet4")


# -- what is theirs ----------------------------------------------------------------------------------------------------
def theirs(neighbours: Neighbours, *links: str) -> dict[str, str]:
    """Everything in the kernel's tables that is not ours, as their own programs print it: by what printed it.

    Counters are left out, and so are routes by ``links``, which come and go with a network's lease.
    """
    host = neighbours.host
    found = {
        f"nft {family} {name}": host.out("nft", "-s", "list", "table", family, name) for family, name in tables(host)
    }
    found |= neighbours.save()
    for family in ("-4", "-6"):
        rules = host.ip(f"{family} rule").splitlines()
        found[f"ip {family} rule"] = "\n".join(rule for rule in rules if not _RULE.search(rule))
        routes = host.ip(f"{family} route show table all").splitlines()
        moving = re.compile(rf"\btable 24943\b|\bdev (aovpn\d+{''.join(f'|{link}' for link in links)})\b")
        found[f"ip {family} route"] = "\n".join(sorted(route for route in routes if not moving.search(route)))
    return found


_RULE: Final = re.compile(r"lookup 24943|^11:\t.*fwmark 0x2a000000/0x3f000000 unreachable")


def difference(before: dict[str, str], after: dict[str, str]) -> str:
    """What is not the same to the letter, for people; "" when all is."""
    changed = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
    return "\n".join(f"{key}:\n{before.get(key)}\n--- became ---\n{after.get(key)}" for key in sorted(changed))

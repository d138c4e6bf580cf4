# SPDX-License-Identifier: GPL-3.0-or-later
"""What the doctor sees of a machine, and what it says of it: frozen values, None where something could not be seen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from aovpnd.links import Link
from aovpnd.rollback import RolledBack


class Area(StrEnum):
    """Where a finding belongs, in the order in which they are told."""

    BLOCK = "block"
    PROGRAMS = "programs"
    BOOT = "boot"
    KERNEL = "kernel"
    CONFIGURATION = "configuration"
    NAMES = "names"
    CLOCK = "clock"
    NEIGHBOURS = "neighbours"


class Verdict(StrEnum):
    """OK and INFO need nothing done; a WARNING is something to do; with an ERROR protection or network is missing."""

    OK = "ok"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is said. ``code`` stays the same for programs; ``hint`` says what to do."""

    code: str
    area: Area
    verdict: Verdict
    text: str
    hint: str = ""


class Manager(StrEnum):
    """Whether systemd has booted this machine, sd_booted(3)."""

    SYSTEMD = "systemd"
    OTHER = "other"


class Running(StrEnum):
    """Whether a daemon runs: `ctl.reading`'s words, and what cannot be read."""

    RUNNING = "running"
    STARTING = "starting"
    ABSENT = "absent"
    UNREADABLE = "unreadable"


class Will(StrEnum):
    """What another program does with something of ours, by its configuration."""

    KEEPS = "keeps"
    REMOVES = "removes"


class Mark(StrEnum):
    """The file by which an administrator has taken the block off."""

    ABSENT = "absent"
    THERE = "there"


@dataclass(frozen=True, slots=True)
class Told:
    """A problem that the daemon itself tells."""

    code: str
    severity: str
    text: str
    hint: str


@dataclass(frozen=True, slots=True)
class Daemon:
    """What the daemon publishes."""

    state: Running
    version: str = ""
    phase: str = ""
    carries: tuple[str, ...] = ()
    """By what it asks for names, as status calls it; empty while it asks nobody."""
    problems: tuple[Told, ...] = ()
    window_s: int | None = None
    """How long temporary access stays open, also after the death of a daemon; None when it is not open."""
    why: str = ""
    """Why it is UNREADABLE."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process, by the name that the kernel has of it. ``started`` is Unix time, in s."""

    program: str
    pid: int
    started: float


@dataclass(frozen=True, slots=True)
class Table:
    """A table of nftables."""

    family: str
    name: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A routing rule of ``family`` 4 or 6; ``shown`` is how ip-rule(8) would write what it does."""

    family: int
    priority: int
    table: str
    shown: str


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of systemd as ``systemctl show`` has it."""

    name: str
    load: str = "loaded"
    active: str = "active"
    file: str = ""
    """UnitFileState: enabled, disabled, static, masked, …"""


@dataclass(frozen=True, slots=True)
class Kernel:
    """The kernel: its ``release``, and what its configuration has built in or as a module (None: nobody tells)."""

    release: str
    options: frozenset[str] | None = None
    wireguard: str = "module"
    """Where WireGuard is: "loaded", "module" (of the running kernel), "program" (wireguard-go) or "" (nowhere)."""
    modules: str = "there"
    """Whether the running kernel's modules are "there", "gone", or "none": it has no use for any."""
    tun: bool = True
    strongswan: tuple[str, ...] = ()
    """Debian's packages of strongSwan that an IKE tunnel needs and that are not there."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What `config.check` says of one thing."""

    severity: str
    text: str
    hint: str


@dataclass(frozen=True, slots=True)
class Configuration:
    """What stands in the files."""

    findings: tuple[Checked, ...] = ()
    tunnels: tuple[str, ...] = ("home",)
    ike: tuple[str, ...] = ()
    """Those of the tunnels that are IKE's."""
    lan: str = "block"


class Writer(StrEnum):
    """Whose text stands in resolv.conf(5), by what it says of itself or where it leads."""

    OURS = "aovpnd"
    RESOLVED = "systemd-resolved"
    RESOLVCONF = "resolvconf"
    NETWORK_MANAGER = "NetworkManager"
    DHCPCD = "dhcpcd"
    DHCLIENT = "dhclient"
    SOMEBODY = "an administrator"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Names:
    """/etc/resolv.conf: whose text it is, where a symbolic link leads, which servers it names."""

    writer: Writer = Writer.SOMEBODY
    leads_to: str = ""
    servers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Clock:
    """Unix times in s: ``now``; ``newest``, that of the newest file which was written by a right clock; ``rtc``, the
    hardware's.
    """

    now: float
    newest: float
    rtc: float | None = None


@dataclass(frozen=True, slots=True)
class NetworkManager:
    """What nmcli(1) and its files say; "" where they do not."""

    tunnel: str = ""
    """The state of our link."""
    connectivity: str = ""
    profiles: tuple[str, ...] | None = ()
    """Profiles of VPNs that connect by themselves."""


@dataclass(frozen=True, slots=True)
class Networkd:
    """networkd.conf(5): what becomes of other people's rules and routes; ``claiming`` files match our link."""

    rules: Will = Will.REMOVES
    routes: Will = Will.REMOVES
    claiming: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Firewalls:
    """What stands in the files of firewalls that are loaded at boot."""

    nftables: Will = Will.KEEPS
    """REMOVES: its file flushes everybody's tables."""
    dropping: tuple[str, ...] = ()
    """Files by which everything is dropped that leaves and is not named."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that was seen. What has a default is not on every machine, or differs from none that is well."""

    version: str
    replaced_at: float
    """When the files of this program were put there, Unix time in s."""
    daemon: Daemon
    manager: Manager
    kernel: Kernel
    clock: Clock
    names: Names
    mark: Mark = Mark.ABSENT
    families: tuple[int, ...] = (4, 6)
    processes: tuple[Process, ...] = ()
    missing_programs: tuple[str, ...] = ()
    sysctls: tuple[tuple[str, int | None], ...] = ()
    tables: frozenset[Table] | None = None
    closed: frozenset[str] | None = None
    """Hooks at which table inet aovpnd drops what it does not permit."""
    egress: frozenset[str] | None = None
    """Links on which the guard has an egress chain."""
    links: tuple[Link, ...] | None = None
    rules: tuple[Rule, ...] | None = None
    shut: tuple[int, ...] | None = None
    """Families whose route table of ours ends in nothing but the tunnel."""
    units: tuple[Unit, ...] | None = None
    enabled: frozenset[str] = frozenset()
    """Units that something at boot wants, by the links in /etc/systemd/system."""
    missing_files: tuple[str, ...] = ()
    """Files of early boot that are not there."""
    rolled_back: RolledBack | None = None
    configuration: Configuration | None = None
    network_manager: NetworkManager = NetworkManager()
    networkd: Networkd = Networkd()
    firewalls: Firewalls = Firewalls()
    printers: tuple[str, ...] | None = ()
    """Printers of cups that are reached over the network."""
    unseen: tuple[str, ...] = ()
    """What could not be seen, each a phrase."""

    def runs(self, *programs: str) -> bool:
        """Whether a process of one of these names is there."""
        return any(process.program in programs for process in self.processes)

    def active(self, *names: str) -> bool:
        """Whether systemd has one of these units running."""
        return any(unit.name in names and unit.active in ACTIVE for unit in self.units or ())


ACTIVE = frozenset({"active", "activating", "reloading"})

# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom programs ask for names, by whatever this machine has for it; and whom the network gave.

systemd-resolved counts when it listens or when resolv.conf(5) leads to its stub; resolvconf(8) when it is installed and
in use; otherwise, and beside a resolved that resolv.conf(5) does not lead to, the file itself is written. What stops to
count is given back.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from aovpnd import names
from aovpnd.adapters import process
from aovpnd.adapters.dns_file import ResolvConfFile
from aovpnd.adapters.dns_resolvconf import Resolvconf
from aovpnd.adapters.dns_resolved import STUBS, Resolved
from aovpnd.adapters.resolvers import parse, resolvers
from aovpnd.dns import Dns, DnsState, Mechanism
from aovpnd.errors import SystemFault, ToolError
from aovpnd.links import Link, is_tunnel_shaped
from aovpnd.routes import Route
from aovpnd.ruleset import Address

NSCD: Final = Path("/run/nscd/socket")
NSCD_DEADLINE_S: Final = 1.0


@dataclass(slots=True)
class NameService:
    """All mechanisms behind one observe and one ensure."""

    state_dir: Path
    path: Path = Path(names.RESOLV_CONF)
    run: Path = Path("/run")
    _file: ResolvConfFile = field(init=False)
    _resolvconf: Resolvconf = field(init=False)
    _resolved: Resolved = field(init=False)
    _links: tuple[Link, ...] = ()
    _by: tuple[Mechanism, ...] = ()
    _own: tuple[Address, ...] = ()
    """The tunnels' servers that were last told to anybody."""
    _gateways: tuple[Address, ...] = ()

    def __post_init__(self) -> None:
        self._file = ResolvConfFile(self.path, self.state_dir / names.RESOLV_CONF_SAVED)
        self._resolvconf = Resolvconf(self.run / "resolvconf")
        self._resolved = Resolved(self.run / "systemd/resolve")

    def observe(self, links: tuple[Link, ...], main: tuple[Route, ...] = ()) -> DnsState:
        """What is; ``links`` are all there are, ``main`` the routes of the main table. It never fails: what cannot be
        seen is astray.
        """
        gateways = (route.gateway for route in main if route.dst.prefixlen == 0)
        self._gateways = tuple(addr for addr in gateways if addr is not None and not addr.is_link_local)
        self._links = tuple(link for link in links if is_tunnel_shaped(link))
        self._by = self._mechanisms()
        found: list[Dns | None] = []
        astray: list[str] = []
        for mechanism in Mechanism:
            dns, wrong = self._observe(mechanism)
            if mechanism in self._by:
                found.append(dns)
            elif dns is not None:
                wrong = f"{mechanism} is not asked any more"
            astray += [wrong] if wrong else []
        same = len(set(map(_one, found))) == 1
        lost = Mechanism.FILE in self._by and self._file.is_lost()
        wrong = "; ".join(astray) or ("" if same else "not everywhere")
        return DnsState(self._by, found[0] if same else None, wrong, lost=lost)

    def ensure(self, dns: Dns | None) -> None:
        """Ask these servers by every mechanism that counts, and no other; caches are emptied. `SystemFault` when that
        fails.
        """
        faults: list[SystemFault] = []
        if dns is not None:
            self._own = tuple(server for each in dns.each for server in each.servers)
        for mechanism in Mechanism:
            try:
                self._ensure(mechanism, dns if mechanism in self._by else None)
            except SystemFault as fault:  # one that is broken is no reason to leave the others as they are
                faults.append(fault)
        if NSCD.exists():
            try:
                process.run("nscd", "--invalidate=hosts", deadline_s=NSCD_DEADLINE_S)
            except ToolError as fault:
                faults.append(fault)
        if faults:
            raise faults[0]

    def resolvers(self) -> tuple[Address, ...]:
        """The network's resolvers, whoever is asked now."""
        others = self._resolvconf.others()
        return resolvers(self._file.users() if others is None else others, self._own, self.run)

    def _mechanisms(self) -> tuple[Mechanism, ...]:
        users = parse(self._file.users())
        leads_to_resolved = bool(users) and set(users) <= STUBS
        counts = {
            Mechanism.RESOLVED: leads_to_resolved or self._resolved.runs(),
            Mechanism.RESOLVCONF: not leads_to_resolved and self._resolvconf.is_there(),
        }
        counts[Mechanism.FILE] = not leads_to_resolved and not counts[Mechanism.RESOLVCONF]
        return tuple(mechanism for mechanism in Mechanism if counts[mechanism])

    def _observe(self, mechanism: Mechanism) -> tuple[Dns | None, str]:
        match mechanism:
            case Mechanism.RESOLVED:
                return self._resolved.observe(self._links) if mechanism in self._by else (None, "")
            case Mechanism.RESOLVCONF:
                return self._resolvconf.observe(parse(self._file.now()))
            case Mechanism.FILE:
                return self._file.observe()

    def _ensure(self, mechanism: Mechanism, dns: Dns | None) -> None:
        match mechanism:
            case Mechanism.RESOLVED:
                if mechanism in self._by:
                    self._resolved.ensure(dns, self._links)
            case Mechanism.RESOLVCONF:
                self._resolvconf.ensure(_one(dns))
            case Mechanism.FILE:
                # Whoever carries names in most networks: their own servers if anybody knows them, or the gateways.
                servers = dict.fromkeys(self.resolvers() or self._gateways)
                self._file.ensure(_one(dns), "".join(f"nameserver {server}\n" for server in servers))


def _one(dns: Dns | None) -> Dns | None:
    """Without what only systemd-resolved can tell apart."""
    return replace(dns, beside=()) if dns is not None else None

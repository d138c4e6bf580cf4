# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine as the loop sees it: all adapters behind ``observe`` and the one door ``apply``. Used from the worker
thread.
"""

from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import assert_never

from aovpnd.adapters import sockets
from aovpnd.adapters.clocks import SteadyClock, clock
from aovpnd.adapters.dns import NameService
from aovpnd.adapters.egress import EgressCopies
from aovpnd.adapters.guard import GuardProcess
from aovpnd.adapters.netlink import Netlink
from aovpnd.adapters.nft import Nftables, Seen
from aovpnd.adapters.pathmtu import measure
from aovpnd.adapters.probe import probe
from aovpnd.adapters.routeget import look_up
from aovpnd.adapters.state import State
from aovpnd.backends.tunnels import Tunnels
from aovpnd.destinations import Destination, Routed
from aovpnd.errors import NetlinkError, NftError
from aovpnd.inquiries import Finding, Inquiry, LookUp, MeasurePath, ProbeTunnel, VisitPage
from aovpnd.links import Link
from aovpnd.logins import logins
from aovpnd.model import Copies, GuardState, Intent, Snapshot
from aovpnd.nftlib import Nft
from aovpnd.orders import (
    Action,
    CloseSockets,
    EnsureCopies,
    EnsureDns,
    EnsureGuard,
    EnsureRouting,
    EnsureTunnel,
    KeepConfirmation,
    LoadRuleset,
    MarkUnblocked,
    RemoveTunnel,
)
from aovpnd.resting import Rouse
from aovpnd.signin import Desk


class System:
    """Everything outside the process: a pass reads one `Snapshot` and performs one `Action` after the other."""

    def __init__(self, state: State, runtime_dir: Path, desk: Desk | None = None) -> None:
        self._state = state
        self._desk = desk
        self._clock = SteadyClock()
        self._guard = GuardProcess(runtime_dir)
        self._names = NameService(state.state_dir)
        self._runtime_dir = runtime_dir
        # Made on first use: libnftables and pyroute2 stay in the thread, and the network namespace, that they were made
        # in.
        self._nft: tuple[Nftables, EgressCopies] | None = None
        self._netlink: Netlink | None = None
        self._links: Tunnels | None = None

    def observe(self) -> Snapshot:
        """Read everything. `SystemFault` when links and routes cannot be read; nftables alone may fail, and then is
        absent.
        """
        network = self._network().observe()
        tables, copies, unannounced = self._tables(network.links)
        now = self._clock.read()
        confirmation = self._state.confirmation(now)
        who, people = logins()
        return Snapshot(
            now=now,
            links=network.links,
            addresses=network.addresses,
            main=network.main,
            tunnels=self._tunnels().observe(network.links, network.addresses),
            ruleset=tables.ruleset,
            table_present=tables.present,
            guard=self._guard.observe(tables.guard),
            copies=copies,
            unannounced=unannounced,
            routing=network.routing,
            dns=self._names.observe(network.links, network.main),
            resolvers=self._names.resolvers(),
            unblocked=self._state.unblocked(),
            ipv6=network.ipv6,
            ahead=network.ahead,
            rolled_back=self._state.rolled_back(),
            confirmation=confirmation,
            logins=who,
            people=people,
        )

    def apply(self, action: Action) -> None:
        """Perform one action. `SystemFault` when it failed."""
        match action:
            case LoadRuleset(ruleset):
                self._nftables()[0].ensure(ruleset)
            case EnsureCopies(links, unannounced):
                self._nftables()[1].ensure(links, unannounced)
            case RemoveTunnel(link):
                self._tunnels().remove(link)
            case EnsureTunnel(wish):
                self._tunnels().ensure(wish)
            case EnsureRouting(routing):
                self._network().ensure(routing)
            case CloseSockets(sweep):
                sockets.close(sweep)
            case EnsureGuard(state):
                self._guard.ensure(state)
            case MarkUnblocked(block):
                self._state.mark(block)
            case KeepConfirmation(confirmation):
                self._state.keep_confirmation(confirmation)
            case EnsureDns(dns):
                self._names.ensure(dns)
            case _:
                assert_never(action)

    def remember(self, intent: Intent) -> None:
        """Keep what must survive a restart. `StateError` when that fails."""
        self._state.remember(intent, clock())

    def routes(self, asked: tuple[Destination, ...]) -> dict[Destination, Routed]:
        """What the kernel says of the ways there, where it says anything; nothing is sent."""
        found = {}
        for to in asked:
            with suppress(NetlinkError):
                found[to] = look_up(to)
        return found

    def is_over(self, rouse: Rouse) -> bool:
        """Whether a tunnel's rest has ended. `NetlinkError` when nobody can tell."""
        return self._tunnels().is_over(rouse)

    def inquire(self, inquiry: Inquiry) -> Finding:
        """Find something out; called from any thread, several at once. `SystemFault` when nothing can be."""
        match inquiry:
            case ProbeTunnel():
                return probe(inquiry)
            case MeasurePath():
                return measure(inquiry)
            case LookUp():
                from aovpnd.adapters.lookup import look_up  # noqa: PLC0415 - see LAZY in tests/unit/test_imports.py

                return look_up(inquiry)
            case VisitPage():
                from aovpnd.adapters.page import visit  # noqa: PLC0415 - as the look-up's

                return visit(inquiry)
            case _:
                assert_never(inquiry)

    def _tables(self, links: tuple[Link, ...]) -> tuple[Seen, Copies, tuple[IPv4Address, ...]]:
        try:
            tables, copies = self._nftables()
            return tables.observe(), copies.observe(links), copies.unannounced
        except NftError:
            # Loading will fail as well, and that is what the user is told; routing keeps the machine shut meanwhile.
            return Seen(None, present=False, guard=GuardState.MISSING), Copies.STALE, ()

    def _nftables(self) -> tuple[Nftables, EgressCopies]:
        if self._nft is None:
            nft = Nft()
            self._nft = Nftables(nft), EgressCopies(nft)
        return self._nft

    def _network(self) -> Netlink:
        if self._netlink is None:
            self._netlink = Netlink()
        return self._netlink

    def _tunnels(self) -> Tunnels:
        if self._links is None:
            self._links = Tunnels(self._runtime_dir, self._network(), self._desk)
        return self._links

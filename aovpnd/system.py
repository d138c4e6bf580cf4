# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine as the loop sees it: all adapters behind ``observe`` and the one door ``apply``. Used from the worker
thread.
"""

from pathlib import Path
from typing import assert_never

from aovpnd.adapters.guard import GuardProcess
from aovpnd.adapters.netlink import Netlink
from aovpnd.adapters.nft import Nftables, Seen
from aovpnd.adapters.resolvers import resolvers
from aovpnd.adapters.state import State, clock
from aovpnd.backends.wireguard import WireGuardBackend
from aovpnd.errors import NftError
from aovpnd.model import GuardState, Intent, Snapshot
from aovpnd.orders import (
    Action,
    EnsureGuard,
    EnsureRouting,
    EnsureTunnel,
    LoadRuleset,
    MarkUnblocked,
    RemoveTunnel,
)


class System:
    """Everything outside the process: a pass reads one `Snapshot` and performs one `Action` after the other."""

    def __init__(self, state: State, runtime_dir: Path) -> None:
        self._state = state
        self._guard = GuardProcess(runtime_dir)
        self._runtime_dir = runtime_dir
        # Made on first use: libnftables and pyroute2 stay in the thread, and the network namespace, that they were made
        # in.
        self._nft: Nftables | None = None
        self._netlink: Netlink | None = None
        self._wireguard: WireGuardBackend | None = None

    def observe(self) -> Snapshot:
        """Read everything. `SystemFault` when links and routes cannot be read; nftables alone may fail, and then is
        absent.
        """
        network = self._network().observe()
        tables = self._tables()
        return Snapshot(
            now=clock(),
            links=network.links,
            addresses=network.addresses,
            main=network.main,
            tunnels=self._tunnels().observe(network.links, network.addresses),
            ruleset=tables.ruleset,
            table_present=tables.present,
            guard=self._guard.observe(tables.guard),
            routing=network.routing,
            resolvers=resolvers(),
            unblocked=self._state.unblocked(),
            ipv6=network.ipv6,
        )

    def apply(self, action: Action) -> None:
        """Perform one action. `SystemFault` when it failed."""
        match action:
            case LoadRuleset(ruleset):
                self._nftables().ensure(ruleset)
            case RemoveTunnel(link):
                self._tunnels().remove(link)
            case EnsureTunnel(wish):
                self._tunnels().ensure(wish)
            case EnsureRouting(routing):
                self._network().ensure(routing)
            case EnsureGuard(state):
                self._guard.ensure(state)
            case MarkUnblocked(block):
                self._state.mark(block)
            case _:
                assert_never(action)

    def remember(self, intent: Intent) -> None:
        """Keep what must survive a restart. `StateError` when that fails."""
        self._state.remember(intent, clock())

    def _tables(self) -> Seen:
        try:
            return self._nftables().observe()
        except NftError:
            # Loading will fail as well, and its failure is what the user is told; routing keeps the machine shut
            # meanwhile.
            return Seen(None, present=False, guard=GuardState.MISSING)

    def _nftables(self) -> Nftables:
        if self._nft is None:
            self._nft = Nftables()
        return self._nft

    def _network(self) -> Netlink:
        if self._netlink is None:
            self._netlink = Netlink()
        return self._netlink

    def _tunnels(self) -> WireGuardBackend:
        if self._wireguard is None:
            self._wireguard = WireGuardBackend(self._runtime_dir, self._network())
        return self._wireguard

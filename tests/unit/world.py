# SPDX-License-Identifier: GPL-3.0-or-later
"""A laptop made of values: actions change it as the kernel would, and events happen to it. No clock but its own.

`Laptop` is the world and the loop's memory together; `look` is one pass of the loop (aovpnd/daemon.py) without its
threads, and `settle` pass after pass until nothing is left to do.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface
from typing import Final, assert_never

from aovpnd import names
from aovpnd.clock import Clock
from aovpnd.confirmation import Confirmation, Standing
from aovpnd.core import intent as memory
from aovpnd.core.decide import decide
from aovpnd.core.fights import rested
from aovpnd.core.plan import diff, due, is_vital
from aovpnd.dns import Dns, DnsState, Mechanism
from aovpnd.inquiries import (
    Host,
    Inquiry,
    LookedUp,
    LookUp,
    Measured,
    MeasurePath,
    OpenLookUp,
    ProbeTunnel,
    Reached,
    Unanswered,
    Visited,
    VisitPage,
)
from aovpnd.ipsec import IKE_BACKEND, Given, IPsec, Lease
from aovpnd.links import ARPHRD_NONE, Link
from aovpnd.model import (
    Block,
    Config,
    Copies,
    Desired,
    GuardState,
    Intent,
    LinkWish,
    PeerState,
    Phase,
    Snapshot,
    TunnelState,
    TunnelWish,
)
from aovpnd.orders import (
    Action,
    Answer,
    CloseSockets,
    Command,
    EnsureCopies,
    EnsureDns,
    EnsureGuard,
    EnsureRouting,
    EnsureTunnel,
    KeepConfirmation,
    LoadRuleset,
    MarkUnblocked,
    Refusal,
    RemoveTunnel,
)
from aovpnd.resting import Queue, Shake
from aovpnd.routes import LinkAddress, Route, Routing
from aovpnd.ruleset import L4, Address, Device, Hook, Ruleset, Verdict
from aovpnd.trace import Packet, verdict
from tests.unit.small_world import CLOCK, DEFAULT4, DOCKER, ETH, GIVEN, LO, VETH, WLAN

MOST_PASSES: Final = 8
"""More than that without coming to rest is no convergence."""
NO_PAGE: Final = "no page"
"""What `Laptop.page` is where nobody answers."""
SITES: Final = {"home": ("192.168.1.23/24", "192.168.1.1"), "cafe": ("10.9.0.23/16", "10.9.0.1")}


class FaultError(Exception):
    """The kernel refuses."""


DPD_S: Final = 30.0
"""After so long without an answer charon takes the SA down."""


@dataclass(slots=True)
class Charon:
    """What is behind a link of IKE. ``asked``: for an SA; ``moves``: the SA is asked to show itself on a new path."""

    tunnel: str
    asked: bool = False
    moves: bool = False
    silent_s: float = 0.0


@dataclass(slots=True)
class Laptop:
    """The world and the memory."""

    config: Config = field(default_factory=Config)
    intent: Intent = field(default_factory=Intent)
    snapshot: Snapshot = field(default_factory=lambda: Snapshot(CLOCK, links=(LO, WLAN, ETH, DOCKER, VETH)))
    answers: bool = True
    """Whether the gateways do."""
    silent: set[str] = field(default_factory=set)
    """Tunnels whose gateways are off, or do not know us."""
    dead_exits: set[str] = field(default_factory=set)
    """Tunnels whose gateways shake hands, and lead nowhere."""
    refused: set[str] = field(default_factory=set)
    """Tunnels whose outer packets the kernel does not send: another firewall drops them."""
    where: frozenset[Address] | None = None
    """Where the gateways stand; None: wherever they are looked for."""
    names: dict[str, tuple[Address, ...]] = field(default_factory=dict)
    """What resolvers say; of names that are not here nothing, not even no."""
    looked_up: list[LookUp] = field(default_factory=list)
    """Every look-up."""
    _finding: LookedUp | None = None
    _open: OpenLookUp | None = None
    busy: bool = True
    """Whether programs send through the tunnel."""
    fails: set[type[Action]] = field(default_factory=set)
    fails_for: set[str] = field(default_factory=set)
    """Tunnels whose links cannot be made."""
    done: list[Action] = field(default_factory=list)
    """Everything that was ever performed."""
    watch: Callable[["Laptop"], None] | None = None
    """Called after every action."""
    asked: list[float] = field(default_factory=list)
    """When a probe was sent through the tunnel."""
    carries: int | None = 1500
    """Bytes inside the tunnel that the path carries; None when nobody there answers a measurement."""
    measured: list[float] = field(default_factory=list)
    """When the path was measured."""
    page: str | None = None
    """Where the gateway sends whoever asks for its page: None is nowhere, `NO_PAGE`: it does not answer."""
    visited: list[float] = field(default_factory=list)
    """When the page was asked for."""
    one_way: bool = False
    """Whether programs send only what nobody answers."""
    next_index: int = 50
    gives: Given = GIVEN
    """What gateways of IKE give."""
    charons: dict[str, Charon] = field(default_factory=dict)
    """By link name."""
    lulled: dict[str, int] = field(default_factory=dict)
    """WireGuard's links without a session, which shake hands with the next packet, and how many there were."""

    # -- the loop -----------------------------------------------------------------------------------------------------
    def look(self, command: Command | None = None, *, stop_after: int | None = None) -> tuple[Desired, int]:
        """One pass; returns what should be, and how many actions were tried. ``stop_after`` so many: killed there."""
        self._shake_hands()
        if self._finding is not None:
            self.intent, self._finding = memory.learn(self.intent, self._finding), None
        self.intent = memory.settle(self.config, self.intent, self.snapshot)
        answer: Answer | Refusal | None = None
        if command is not None:
            self.intent, answer = memory.update(self.config, self.intent, self.snapshot, command)
        self.last_answer = answer
        desired = decide(self.config, self.intent, self.snapshot)
        wanted = diff(desired, self.snapshot)
        self.intent = memory.forget(self.intent, wanted)
        wanted = rested(wanted, self.intent, self.snapshot.now.boot)
        actions = due(wanted, self.intent.failures, self.snapshot.now.boot)
        for action in actions[:stop_after]:
            now = self.snapshot.now.boot
            try:
                self.apply(action)
            except FaultError as fault:
                self.intent = memory.failed(self.intent, action, now, str(fault), "")
                if is_vital(action):
                    break
                continue
            self.intent = memory.performed(self.intent, action, now)
            if self.watch is not None:
                self.watch(self)
        if not actions:
            for inquiry in desired.inquiries:
                self._ask(inquiry)
        return desired, len(actions)

    def _ask(self, inquiry: Inquiry) -> None:
        """The loop's questions: probes answered at once, look-ups in the next pass, if anybody answers."""
        match inquiry:
            case ProbeTunnel():
                self.asked.append(self.snapshot.now.boot)
                (state,) = [state for state in self.snapshot.tunnels if state.link.index == inquiry.link]
                reached = any(self._leads_on(state, peer) and peer.handshake_wall is not None for peer in state.peers)
                self.intent = memory.learn(self.intent, Reached(inquiry) if reached else Unanswered(inquiry, "nothing"))
            case MeasurePath():
                self.measured.append(self.snapshot.now.boot)
                fitting = [size for size in inquiry.sizes if size <= (self.carries or 0)]
                answer = Measured(inquiry, fitting[0]) if fitting else Unanswered(inquiry, "nobody")
                self.intent = memory.learn(self.intent, answer)
            case LookUp():
                self._look_up(inquiry)
            case VisitPage():
                self.visited.append(self.snapshot.now.boot)
                known = self.page != NO_PAGE
                said = Visited(inquiry, self.page) if known else Unanswered(inquiry, "no answer")
                self.intent = memory.learn(self.intent, said)
            case _:
                assert_never(inquiry)

    def _look_up(self, inquiry: LookUp) -> None:
        """The resolver hears what the ruleset lets out."""
        if self.intent.look_up != self._open:
            self.looked_up.append(inquiry)
            self._open = self.intent.look_up
        resolver, port = inquiry.resolvers[0], 853 if inquiry.tls_name else 53
        oif = Device(inquiry.link, inquiry.link_name)
        outer = Packet(oif=oif, daddr=resolver, l4=L4.TCP, dport=port, mark=names.FWMARK)
        if inquiry.host in self.names and self.lets_out(outer):
            self._finding = LookedUp(inquiry, self.names[inquiry.host], resolver)

    last_answer: Answer | Refusal | None = None

    def settle(self, command: Command | None = None) -> Desired:
        """Pass after pass until there is nothing to do; `AssertionError` when that never comes."""
        for _ in range(MOST_PASSES):
            desired, actions = self.look(command)
            command = None
            if not actions and self._finding is None:
                return desired
        raise AssertionError(f"no rest after {MOST_PASSES} passes: {[a.describe() for a in self.done[-8:]]}")

    def wait(self, seconds: float) -> Desired:
        """Let time pass, and wake when it was asked for, but hardly more than a hundred times."""
        until = self.snapshot.now.boot + seconds
        desired = self.settle()
        for _ in range(200):
            now = self.snapshot.now.boot
            wake = until if desired.wake_at is None else min(max(desired.wake_at, now + seconds / 100), until)
            self.tick(wake - now)
            desired = self.settle()
            if wake >= until:
                return desired
        raise AssertionError("time does not pass")

    # -- what the kernel does -----------------------------------------------------------------------------------------
    def apply(self, action: Action) -> None:
        """Perform an action; `FaultError` when the kernel refuses it."""
        self.done.append(action)
        self._refuse(action)
        match action:
            case LoadRuleset(ruleset):
                self.snapshot = replace(self.snapshot, ruleset=ruleset, table_present=ruleset is not None)
            case EnsureCopies(links, unannounced):
                copies = Copies.ABSENT if links is None else Copies.CURRENT
                self.snapshot = replace(self.snapshot, copies=copies, unannounced=unannounced)
            case RemoveTunnel(link):
                self.lose_link(link.name)
            case EnsureTunnel(wish):
                self._ensure_tunnel(wish)
            case EnsureRouting(routing):
                self._ensure_routing(routing)
            case CloseSockets():
                pass
            case EnsureGuard(state):
                self.snapshot = replace(self.snapshot, guard=state)
            case MarkUnblocked(block):
                self.snapshot = replace(self.snapshot, unblocked=block is Block.OFF)
            case KeepConfirmation(confirmation):
                self.snapshot = replace(self.snapshot, confirmation=confirmation)
            case EnsureDns(dns):
                self.set_dns(dns)
            case _:
                assert_never(action)

    def _refuse(self, action: Action) -> None:
        if type(action) in self.fails:
            raise FaultError(f"{type(action).__name__} refused")
        if isinstance(action, EnsureTunnel) and action.wish.spec.name in self.fails_for:
            raise FaultError(f"{action.wish.spec.name} cannot be made")

    def set_dns(self, dns: Dns | None, astray: str = "") -> None:
        """Let programs ask these servers."""
        self.snapshot = replace(self.snapshot, dns=DnsState((Mechanism.FILE,), dns, astray))

    def _ensure_tunnel(self, wish: TunnelWish) -> None:
        states = {state.link.name: state for state in self.snapshot.tunnels}
        old = states.get(wish.link_name)
        if isinstance(wish.spec, IPsec):
            states[wish.link_name] = self._ensure_ike(wish, wish.spec, old)
            self._replace_tunnels(tuple(states.values()))
            return
        self.charons.pop(wish.link_name, None)
        if old is None or old.backend == IKE_BACKEND:  # its kind cannot change in place
            link = Link(self.next_index, wish.link_name, "wireguard", ARPHRD_NONE, up=False)
            self.next_index += 1
        else:
            link = old.link
        keep = old is not None and wish.path is None and old.digest == wish.spec.digest()
        known = {peer.public_key: peer for peer in old.peers} if old is not None and keep else {}
        peers = tuple(
            replace(known[peer.public_key], endpoint=peer.endpoint)
            if peer.public_key in known
            else PeerState(peer.public_key, peer.endpoint, None, 0, 0)
            for peer in wish.spec.peers
        )
        is_new = old is not None and link.index != old.link.index  # the ruleset does not know it yet
        link = replace(link, up=wish.state is LinkWish.UP and not is_new, mtu=wish.mtu)
        spec = wish.spec
        addresses = tuple(a for a in spec.addresses if a.version == 4 or self.snapshot.ipv6)
        made = TunnelState(link, "kernel", spec.public_key, spec.digest(), names.FWMARK, addresses, peers)
        if old is not None:  # the link's own counters go on
            made = replace(made, put_bytes=old.put_bytes, got_bytes=old.got_bytes, tries=old.tries)
        if wish.path is not None:
            self.lulled.pop(wish.link_name, None)
            self.lulled |= {wish.link_name: made.tries} if wish.shake is Shake.WANTED else {}
        states[wish.link_name] = made
        self._replace_tunnels(tuple(states.values()))

    def _ensure_ike(self, wish: TunnelWish, spec: IPsec, old: TunnelState | None) -> TunnelState:
        """As aovpnd/backends/strongswan.py does it."""
        state = old if old is not None and old.backend == IKE_BACKEND else None
        if state is None:
            link = Link(self.next_index, wish.link_name, "xfrm", ARPHRD_NONE, up=False)
            self.next_index += 1
            state = TunnelState(link, IKE_BACKEND, None, None, names.FWMARK, ())
        endpoint, state = spec.endpoint, replace(state, fwmark=names.FWMARK)
        if state.digest != spec.digest() or not state.peers or state.peers[0].endpoint != endpoint:
            self.charons[wish.link_name] = Charon(spec.name)  # all SAs go
            peer = PeerState("", endpoint, None, 0, 0)
            state = replace(state, digest=spec.digest(), peers=(peer,), given=None)
        if spec.addresses:
            shall = tuple(a for a in spec.addresses if a.version == 4 or self.snapshot.ipv6)
            state = replace(state, addresses=shall)
        up = wish.state is LinkWish.UP and old is not None and old.backend == IKE_BACKEND  # what is new stays down
        if wish.path is not None and wish.shake is Shake.WANTED and up:
            self.charons[wish.link_name] = Charon(spec.name)  # the SA goes, and what was given stays
            peer = replace(state.peers[0], handshake_wall=None)
            state = replace(state, peers=(peer,), given=over(state.given), queue=Queue.HELD)
        elif wish.path is not None and up:
            charon = self.charons.setdefault(wish.link_name, Charon(spec.name))
            charon.moves = state.handshake_wall is not None and not charon.moves
            charon.asked = True
            peer = replace(state.peers[0], handshake_wall=None)
            state = replace(state, peers=(peer,), given=state.given if charon.moves else None)
        elif state.peers[0].handshake_wall is not None:
            state = replace(state, queue=Queue.OPEN)
        return replace(state, link=replace(state.link, up=up, mtu=wish.mtu))

    def _replace_tunnels(self, tunnels: tuple[TunnelState, ...]) -> None:
        """Tunnels change, and so do the links, and the kernel removes routes over links that are not up."""
        ours = {state.link.name for state in (*self.snapshot.tunnels, *tunnels)}
        links = [link for link in self.snapshot.links if link.name not in ours]
        links += [state.link for state in tunnels]
        self.snapshot = replace(self.snapshot, tunnels=tunnels, links=tuple(links))
        self._drop_dead_routes()

    def _drop_dead_routes(self) -> None:
        alive = {link.index for link in self.snapshot.links if link.up} | {None}
        routing = self.snapshot.routing
        kept = tuple(route for route in routing.routes if route.link in alive)
        lanes = tuple(replace(own, routes=tuple(r for r in own.routes if r.link in alive)) for own in routing.lanes)
        main = tuple(route for route in self.snapshot.main if route.link in alive)
        self.snapshot = replace(self.snapshot, routing=replace(routing, routes=kept, lanes=lanes), main=main)

    def _ensure_routing(self, routing: Routing | None) -> None:
        if routing is None:
            self.snapshot = replace(self.snapshot, routing=Routing((), (), self.snapshot.routing.sysctls))
            return
        up = {link.index for link in self.snapshot.links if link.up}
        routes = (*routing.routes, *(route for lane in routing.lanes for route in lane.routes))
        if any(route.link is not None and route.link not in up for route in routes):
            raise FaultError("network is down")
        self.snapshot = replace(self.snapshot, routing=routing)

    def _shake_hands(self) -> None:
        """A tunnel that is up and may send gets its answer, if the gateway is there."""
        up = {link.index for link in self.snapshot.links if link.up and link.carrier}
        ways = [route.link for route in self.snapshot.main if route.dst.prefixlen == 0 and route.link in up]
        tunnels = tuple(
            self._negotiate(state, ways)
            if state.backend == IKE_BACKEND
            else replace(
                state,
                peers=tuple(
                    replace(peer, handshake_wall=peer.handshake_wall or int(self.snapshot.now.wall))
                    if any(self._may_shake(state, peer, way) for way in ways)
                    and state.link.up
                    and state.fwmark == names.FWMARK
                    and state.tries != self.lulled.get(state.link.name)
                    else peer
                    for peer in state.peers
                ),
            )
            for state in self.snapshot.tunnels
        )
        self.snapshot = replace(self.snapshot, tunnels=tunnels)

    def _negotiate(self, state: TunnelState, ways: Sequence[int | None]) -> TunnelState:
        """The gateway gives first; a handshake counts once the link has what is given."""
        charon = self.charons.get(state.link.name)
        if charon is None or not state.peers or not charon.asked or state.fwmark != names.FWMARK:
            return state
        (peer,) = state.peers
        if not state.link.up or not any(self._may_shake(state, peer, way) for way in ways):
            return state
        given = self.gives if state.given is None or state.given.lease is Lease.OVER else state.given
        state = replace(state, given=given)
        has = {a.ip for a in given.addresses} <= {a.ip for a in state.addresses}
        if not has or peer.handshake_wall is not None:
            return state
        charon.moves = False
        return replace(state, peers=(replace(peer, handshake_wall=int(self.snapshot.now.wall)),))

    def _dpd(self, state: TunnelState, seconds: float) -> TunnelState:
        """Charon asks by itself whether the gateway lives."""
        charon = self.charons.get(state.link.name)
        if charon is None or state.given is None or state.given.lease is Lease.OVER:
            return state
        up = {link.index for link in self.snapshot.links if link.up and link.carrier}
        ways = [route.link for route in self.snapshot.main if route.dst.prefixlen == 0 and route.link in up]
        answers = any(self._may_shake(state, peer, way) for way in ways for peer in state.peers)
        charon.silent_s = 0.0 if answers else charon.silent_s + seconds
        if charon.silent_s < DPD_S:
            return state
        charon.asked, charon.moves, charon.silent_s = False, False, 0.0
        peers = tuple(replace(peer, handshake_wall=None) for peer in state.peers)
        return replace(state, given=None, peers=peers)

    def _is_of(self, state: TunnelState, peer: PeerState, tunnels: set[str]) -> bool:
        """Whether a peer is of one of these tunnels."""
        charon = self.charons.get(state.link.name)
        if charon is not None:
            return charon.tunnel in tunnels
        return any(peer.public_key.startswith(f"{name}-") for name in tunnels)

    def _is_refused(self, state: TunnelState, peer: PeerState) -> bool:
        return self._is_of(state, peer, self.refused)

    def _answers(self, state: TunnelState, peer: PeerState) -> bool:
        return self.answers and not self._is_of(state, peer, self.refused | self.silent)

    def _leads_on(self, state: TunnelState, peer: PeerState) -> bool:
        return self._answers(state, peer) and not self._is_of(state, peer, self.dead_exits)

    def _may_shake(self, state: TunnelState, peer: PeerState, way: int | None) -> bool:
        link = next(link for link in self.snapshot.links if link.index == way)
        if peer.endpoint is None or not self._answers(state, peer):
            return False
        if self.where is not None and peer.endpoint.addr not in self.where:
            return False
        outer = Packet(
            oif=Device(link.index, link.name, link.kind or None),
            daddr=peer.endpoint.addr,
            l4=L4.UDP,
            dport=peer.endpoint.port,
            mark=names.FWMARK,
        )
        return leaves(self.snapshot.ruleset, self.snapshot.now.boot, outer)

    # -- what happens to it -------------------------------------------------------------------------------------------
    def tick(self, seconds: float) -> None:
        """Let time pass on both clocks, with traffic through the tunnel where it is up."""
        now = self.snapshot.now
        tunnels = tuple(
            replace(
                state,
                peers=tuple(self._traffic(state, peer, seconds) for peer in state.peers),
                put_bytes=state.put_bytes + (2000 if self.busy else 0),
                tries=state.tries + (2 if self.busy else 0),
            )
            if state.link.up
            else state
            for state in (self._dpd(state, seconds) for state in self.snapshot.tunnels)
        )
        later = Clock(now.boot + seconds, now.wall + seconds)
        guard = self.snapshot.guard if self.snapshot.guard is not GuardState.STARTING else GuardState.HELD
        self.snapshot = replace(self.snapshot, now=later, tunnels=tunnels, guard=guard)

    def _traffic(self, state: TunnelState, peer: PeerState, seconds: float) -> PeerState:
        if not self.busy or self._is_refused(state, peer):
            return peer
        now = self.snapshot.now.boot
        passive = 32 * int((now + seconds) // 10 - now // 10)  # WireGuard answers data within 10 s, with nothing to say
        heard = (
            1000 if self._leads_on(state, peer) and not self.one_way else passive if self._answers(state, peer) else 0
        )
        heard = heard if peer.handshake_wall is not None else 0
        return replace(peer, tx_bytes=peer.tx_bytes + 1000, rx_bytes=peer.rx_bytes + heard)

    def join(self, site: str, link: str = "wlan0") -> None:
        """Come into a network: carrier, lease, default route."""
        self.leave(link)
        address, gateway = SITES[site]
        card = self._link(link)
        self._replace_link(replace(card, carrier=True, carrier_ups=card.carrier_ups + 1))
        metric = 600 if link == "wlan0" else 100
        self.snapshot = replace(
            self.snapshot,
            addresses=(*self.snapshot.addresses, LinkAddress(card.index, ip_interface(address))),
            main=(*self.snapshot.main, Route(DEFAULT4, card.index, ip_address(gateway), metric)),
            resolvers=(ip_address(gateway),),
        )

    def leave(self, link: str = "wlan0") -> None:
        """Go out of range: no carrier, no lease, no route."""
        card = self._link(link)
        self._replace_link(replace(card, carrier=False))
        self.snapshot = replace(
            self.snapshot,
            addresses=tuple(address for address in self.snapshot.addresses if address.link != card.index),
            main=tuple(route for route in self.snapshot.main if route.link != card.index),
        )

    def flap(self, link: str = "wlan0") -> None:
        """Lose the carrier and have it back, with the lease as it was."""
        card = self._link(link)
        if card.carrier:
            self._replace_link(replace(card, carrier_ups=card.carrier_ups + 1))

    def _link(self, name: str) -> Link:
        return next(link for link in self.snapshot.links if link.name == name)

    def _replace_link(self, new: Link) -> None:
        links = tuple(new if link.index == new.index else link for link in self.snapshot.links)
        self.snapshot = replace(self.snapshot, links=links)

    def lose_link(self, name: str) -> None:
        """A tunnel link is deleted, by us or by somebody."""
        self.charons.pop(name, None)
        self.snapshot = replace(self.snapshot, links=tuple(x for x in self.snapshot.links if x.name != name))
        self._replace_tunnels(tuple(state for state in self.snapshot.tunnels if state.link.name != name))

    def flush(self) -> None:
        """``nft flush ruleset``: the dynamic table goes, the guard's stay."""
        self.snapshot = replace(self.snapshot, ruleset=None, table_present=False)

    def restart(self, *, reboot: bool = False) -> None:
        """The daemon's memory goes, but for what it keeps in a file; ``reboot``: everything of the kernel's too."""
        kept = Intent(
            block=Block.OFF if self.snapshot.unblocked else Block.ON,
            confirmation=self.snapshot.confirmation,
            wish=self.intent.wish,
            chosen=self.intent.chosen,
            used=self.intent.used,
            hosts=tuple(Host(host.name, host.good) for host in self.intent.hosts if host.good),
        )
        self.snapshot = replace(self.snapshot, ruleset=None)
        if self.snapshot.dns.dns is not None:  # a file that outlives us, of which we do not know whether it is right
            self.set_dns(None, "not as we left it")
        if reboot:
            now = self.snapshot.now
            kept = replace(kept, used=tuple(at - now.boot for at in kept.used))
            self.charons = {}
            fresh = Snapshot(Clock(0.0, now.wall), links=(LO, WLAN, ETH, DOCKER, VETH))
            old, self.snapshot = self.snapshot, replace(fresh, dns=self.snapshot.dns)
            if kept.confirmation.standing is Standing.AWAITED:
                kept = replace(kept, confirmation=Confirmation(Standing.AWAITED))  # of a boot that has ended
            self.snapshot = replace(self.snapshot, unblocked=old.unblocked, confirmation=kept.confirmation)
        self.intent = kept

    # -- what is seen -------------------------------------------------------------------------------------------------
    @property
    def phase(self) -> Phase:
        """What ``status`` would say."""
        return decide(self.config, self.intent, self.snapshot).phase

    def lets_out(self, packet: Packet) -> bool:
        """Whether the loaded ruleset lets a packet leave now."""
        return leaves(self.snapshot.ruleset, self.snapshot.now.boot, packet)


def over(given: Given | None) -> Given | None:
    """What was given with an SA that has ended."""
    return replace(given, lease=Lease.OVER) if given is not None else None


def leaves(table: Ruleset | None, now: float, packet: Packet) -> bool:
    """Whether a packet passes both looks of a table; without one everything does."""
    if table is None:
        return True
    hooks = (Hook.OUTPUT, Hook.POSTROUTING)
    return all(verdict(table, hook, packet, now)[0] is Verdict.ACCEPT for hook in hooks)

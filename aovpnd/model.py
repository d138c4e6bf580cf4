# SPDX-License-Identifier: GPL-3.0-or-later
"""The nouns that everybody shares: frozen values in the field's own words, which know of themselves alone.

Times called ``at``, ``since``, ``expires_at`` are seconds on CLOCK_BOOTTIME, which runs on through suspend; ``wall`` is
seconds since the epoch. Spans end in ``_s``. ``None`` means unknown or absent.
"""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address

from aovpnd.clock import Clock
from aovpnd.confirmation import NEEDLESS, Confirmation, Logins
from aovpnd.dns import UNTOUCHED, Dns, DnsState
from aovpnd.doors import Openers, WhileConnected
from aovpnd.filters import Filter
from aovpnd.gateways import (
    FRESH,
    Companion,
    Doubt,
    Gateways,
    Heard,
    Path,
    PathMtu,
    Provoked,
    Rest,
    Role,
)
from aovpnd.inquiries import BUILT_IN_ENDPOINT, EndpointPolicy, Host, Inquiry, OpenLookUp
from aovpnd.ipsec import Given, Said, TunnelSpec
from aovpnd.links import Link
from aovpnd.pages import Check, Visit
from aovpnd.repairs import Failure, Repairs, RuleAhead
from aovpnd.resting import Moved, Queue, Rested, Rouse, Shake
from aovpnd.rollback import RolledBack
from aovpnd.routes import UNROUTED, LinkAddress, Route, Routing
from aovpnd.ruleset import Address, Network, Ruleset
from aovpnd.sockets import Sweep
from aovpnd.tunnel import Endpoint, Interface
from aovpnd.users import User


# -- configuration -----------------------------------------------------------------------------------------------------
class Lan(StrEnum):
    """Whether the local network may be reached beside the tunnel."""

    BLOCK = "block"
    ALLOW = "allow"


class Enabled(StrEnum):
    """Whether policy permits temporary access at all."""

    YES = "yes"
    NO = "no"


@dataclass(frozen=True, slots=True)
class TemporaryAccessPolicy:
    """``[temporary_access]``: spans in seconds, ``per_hour`` grants in any sliding hour."""

    enabled: Enabled = Enabled.YES
    duration_s: int = 180
    max_s: int = 3600
    per_hour: int = 3
    while_connected: WhileConnected = WhileConnected.REFUSE


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from: a file and line, or "built-in"."""

    key: str
    value: str
    file: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """What was written, validated: the orders, who stands beside whichever tunnel carries, who rests while nobody sends
    and after how long, whom to ``probe``.
    """

    tunnels: tuple[TunnelSpec, ...] = ()
    prefer: tuple[str, ...] = ()
    by_kind: tuple[tuple[str, tuple[str, ...]], ...] = ()
    device: tuple[str, ...] | None = None
    companions: tuple[str, ...] = ()
    on_demand: tuple[str, ...] = ()
    rest_after_s: int = 300
    chosen: str | None = None
    probe: tuple[Endpoint, ...] = ()
    temporary_access: TemporaryAccessPolicy = TemporaryAccessPolicy()
    lan: Lan = Lan.BLOCK
    exclude: tuple[Network, ...] = ()
    exclude_from: tuple[tuple[str, tuple[Network, ...]], ...] = ()
    openers: Openers = Openers.AUTHORISED
    endpoint: EndpointPolicy = BUILT_IN_ENDPOINT
    filters: tuple[tuple[str, tuple[Filter, ...]], ...] = ()
    users: tuple[User, ...] = ()
    sign_in: tuple[Check, ...] = ()
    origins: tuple[Origin, ...] = ()
    locked: frozenset[str] = frozenset()
    """Keys that a mandatory policy has set; what the user asks for does not change them."""
    broken: frozenset[str] = frozenset()
    """Names of tunnels whose files cannot be used: beside one of them, another is not "the only one"."""
    problems: "tuple[Problem, ...]" = ()

    def tunnel(self, name: str) -> TunnelSpec | None:
        """The tunnel called ``name``."""
        return next((spec for spec in self.tunnels if spec.name == name), None)

    def filters_of(self, name: str) -> tuple[Filter, ...]:
        """The filters of the tunnel called ``name``; none let everything through."""
        return dict(self.filters).get(name, ())

    def excluded_from(self, name: str) -> tuple[Network, ...]:
        """What is kept out of the tunnel called ``name``, and of no other."""
        return dict(self.exclude_from).get(name, ())


# -- what is -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class PeerState:
    """What ``wg show`` says of a peer. ``handshake_wall``: seconds (epoch) of the last handshake, or None.
    ``path_mtu``: bytes of the largest outer packet that the kernel sends the endpoint (RFC 1191, RFC 8201), or None.
    """

    public_key: str
    endpoint: Endpoint | None
    handshake_wall: int | None
    rx_bytes: int
    tx_bytes: int
    keepalive_s: int = 0
    path_mtu: int | None = None


@dataclass(frozen=True, slots=True)
class TunnelState:
    """A link of ours as it is; ``digest`` as its tunnel's, None when it is not (yet) configured. What programs have put
    into it, sent or not, and got out of it, its own counters say, of all tunnels that it has carried; ``tries`` counts
    the packets put into it, also those it refused. Of IKE: what it was ``given``, and what charon ``said`` when there
    is no SA.
    """

    link: Link
    backend: str
    public_key: str | None
    digest: str | None
    fwmark: int
    addresses: tuple[Interface, ...]
    peers: tuple[PeerState, ...] = ()
    put_bytes: int = 0
    got_bytes: int = 0
    tries: int = 0
    queue: Queue = Queue.OPEN
    given: Given | None = None
    said: Said | None = None

    @property
    def handshake_wall(self) -> int | None:
        """Newest handshake of any peer."""
        return max((peer.handshake_wall for peer in self.peers if peer.handshake_wall), default=None)

    @property
    def rx_bytes(self) -> int:
        """Bytes received from all peers, authenticated ones only."""
        return sum(peer.rx_bytes for peer in self.peers)

    @property
    def tx_bytes(self) -> int:
        """Bytes sent to all peers, handshakes included."""
        return sum(peer.tx_bytes for peer in self.peers)


class GuardState(StrEnum):
    """Whether the guard's tables are there; STARTING: not yet; FAILING: its process was started again and again."""

    HELD = "held"
    STARTING = "starting"
    FAILING = "failing"
    MISSING = "missing"


class Copies(StrEnum):
    """The daemon's own copies of the guard's tables: as they should be for the present links, not so, or not there."""

    CURRENT = "current"
    STALE = "stale"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is, read fresh each pass. ``main`` is the main table; ``ruleset`` what is loaded, or None when our table is
    absent, altered, or not known to be ours (after a start); ``culprit`` who changed it ("nft[23515]"), if seen.
    ``resolvers`` are the network's own; ``unblocked``: the marker file is there; ``ipv6``: the kernel speaks it;
    ``confirmation`` is what the disk keeps; ``logins`` and ``people`` (uids): who is logged in now.
    """

    now: Clock
    links: tuple[Link, ...] = ()
    addresses: tuple[LinkAddress, ...] = ()
    main: tuple[Route, ...] = ()
    tunnels: tuple[TunnelState, ...] = ()
    ruleset: Ruleset | None = None
    table_present: bool = False
    culprit: str | None = None
    guard: GuardState = GuardState.MISSING
    copies: Copies = Copies.CURRENT
    unannounced: tuple[IPv4Address, ...] = ()  # what the copies keep out of ARP, in order
    routing: Routing = UNROUTED
    dns: DnsState = UNTOUCHED
    resolvers: tuple[Address, ...] = ()
    unblocked: bool = False
    ipv6: bool = True
    ahead: tuple[RuleAhead, ...] = ()
    rolled_back: RolledBack | None = None
    confirmation: Confirmation = NEEDLESS
    logins: Logins = Logins.LOCAL
    people: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Uplink:
    """What carries a default route outside the tunnel. ``network`` identifies the L2 network as far as we can tell: it
    may end a grant or start a handshake, never grant trust. ``metrics``: of its best default routes, by family.
    """

    link: Link
    network: str
    gateways: tuple[Address, ...]
    prefixes: tuple[Network, ...]
    families: tuple[int, ...]
    metrics: tuple[int, ...] = ()


# -- what the user wants, and the little we must remember --------------------------------------------------------------
class Block(StrEnum):
    """Whether the block is on."""

    ON = "on"
    OFF = "off"


class Wish(StrEnum):
    """Whether the user wants a tunnel. Disconnecting still blocks."""

    CONNECT = "connect"
    DISCONNECT = "disconnect"


class GrantKind(StrEnum):
    """Why a grant was given: to get online (ends when the tunnel is up), or to pause a tunnel that is up."""

    ACCESS = "access"
    PAUSE = "pause"


@dataclass(frozen=True, slots=True)
class Grant:
    """One temporary access, bound to one uplink and network."""

    kind: GrantKind
    link: int
    link_name: str
    network: str
    granted_at: float
    expires_at: float
    granted_to: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Intent:
    """The wish and the memory; the only place that may hold any. ``used`` are the starts of the last hour's grants
    (negative for those of an earlier boot), ``proved`` is the fingerprint of the path over which the daemon before us
    was connected, ``network_names`` are what the networks of some links call themselves (SSID), to be shown.
    """

    block: Block = Block.ON
    confirmation: Confirmation = NEEDLESS
    undone_at: float | None = None  # when the block last undid itself
    wish: Wish = Wish.CONNECT
    chosen: str | None = None
    grant: Grant | None = None
    used: tuple[float, ...] = ()
    unread_at: float | None = None  # when ``used`` could not be read: for an hour it counts as used up
    provoked: Provoked | None = None
    heard: Heard | None = None
    returned: Heard | None = None  # as ``heard``, of data alone, which keepalives and handshakes are not
    sent_at: float | None = None  # when more than keepalives was last seen to have been sent
    data_at: float | None = None  # when data was last seen to have come back
    doubt: Doubt | None = None
    connected_at: float | None = None
    counted_from: tuple[int, int] = (0, 0)  # the link's counters then, bytes received and sent
    proved: str = ""
    moved: Moved | None = None
    rest: Rest | None = None
    rested: Rested | None = None  # of the daemon before us
    hosts: tuple[Host, ...] = ()
    look_up: OpenLookUp | None = None
    failures: tuple[Failure, ...] = ()
    removed_by: str | None = None
    removed_at: float | None = None
    gateways: Gateways = FRESH
    companions: tuple[Companion, ...] = ()
    repairs: tuple[Repairs, ...] = ()
    slept_s: float | None = None
    shaken_wall: int | None = None  # what the wall clock showed at the last handshake that counted
    swept: tuple[str, ...] | None = None  # the state of things for which old sockets were closed (`Sweep.why`)
    path_mtu: PathMtu | None = None  # what was found out of the size of packets that the present path carries
    visit: Visit | None = None  # what is known of the page of the tunnel that carries
    network_names: tuple[tuple[str, str], ...] = ()
    uplink_kind: str = ""  # of the uplink that carries, or of the last one that did
    logins: Logins = Logins.LOCAL

    def network_name(self, link: str) -> str | None:
        """What the network of the link of that name calls itself, as far as a network manager says."""
        return dict(self.network_names).get(link)


# -- what should be ----------------------------------------------------------------------------------------------------
class Phase(StrEnum):
    """Derived on every pass, never stored."""

    BLOCKED = "blocked"
    OFFLINE = "offline"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    RESTING = "resting"
    TEMPORARY_ACCESS = "temporary-access"
    UNBLOCKED = "unblocked"


class Severity(StrEnum):
    """How bad a problem is for the user."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong beside the phase, ``at`` or ``until`` some time; it clears itself with its cause."""

    code: str
    severity: Severity
    text: str
    hint: str = ""
    at: float | None = None
    until: float | None = None


class LinkWish(StrEnum):
    """How far a tunnel link may go: it is set up only once the ruleset knows it."""

    DOWN = "down"
    UP = "up"


@dataclass(frozen=True, slots=True)
class TunnelWish:
    """One tunnel as it should be. A ``path`` asks for a fresh session over it, with a handshake now, or not before a
    packet wants it; None leaves the session alone.
    """

    spec: TunnelSpec
    link_name: str
    state: LinkWish
    path: Path | None = None
    mtu: int = 1420  # of the link, bytes
    role: Role = Role.CARRIES
    shake: Shake = Shake.NOW


@dataclass(frozen=True, slots=True)
class Desired:
    """What should be. ``ruleset`` and ``routing`` None mean: nothing of ours at all (unblocked). ``order`` names the
    tunnels that may carry, the best first; ``inquiries`` are open questions, asked once all else is as it should be.
    """

    phase: Phase
    ruleset: Ruleset | None
    routing: Routing | None
    tunnels: tuple[TunnelWish, ...] = ()
    sweep: Sweep | None = None
    dns: Dns | None = None
    guard: GuardState = GuardState.HELD
    unblocked: bool = False
    confirmation: Confirmation = NEEDLESS
    uplinks: tuple[Uplink, ...] = ()
    order: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    inquiries: tuple[Inquiry, ...] = ()
    wake_at: float | None = None
    rouse: Rouse | None = None

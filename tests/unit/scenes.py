# SPDX-License-Identifier: GPL-3.0-or-later
"""One laptop in every phase, as values: what status tests publish and what aovpnctl tests show."""

from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, Final

from aovpnd import status
from aovpnd.clock import Clock
from aovpnd.links import ARPHRD_NONE, Link
from aovpnd.model import (
    Config,
    Desired,
    Grant,
    GrantKind,
    GuardState,
    Intent,
    LinkWish,
    PeerState,
    Phase,
    Problem,
    Severity,
    Snapshot,
    TunnelState,
    TunnelWish,
    Uplink,
    Wish,
)
from aovpnd.ruleset import Ruleset
from aovpnd.tunnel import Endpoint, Peer, Secret, WireGuard

NOW: Final = Clock(boot=5000.0, wall=1_790_000_000.0)
"""2026-09-21 14:13:20 UTC."""
LOADED: Final = Ruleset("inet", "aovpnd", ())
ENDPOINT: Final = Endpoint(ip_address("203.0.113.1"), 51820)
WLAN: Final = Link(2, "wlan0")
TUN: Final = Link(7, "aovpn0", kind="wireguard", arphrd=ARPHRD_NONE)
UPLINK: Final = Uplink(WLAN, "1 192.168.1.1", (ip_address("192.168.1.1"),), (ip_network("192.168.1.0/24"),), (4,))


def _tunnel(name: str) -> WireGuard:
    return WireGuard(
        name=name,
        source=f"/etc/aovpnd/tunnels/{name}.conf",
        private_key=Secret("cHJpdmF0ZSBrZXkgb2YgdGhlIGxhcHRvcCAgICAgICA="),
        public_key="bGFwdG9w",
        addresses=(ip_interface("10.8.0.2/32"),),
        peers=(Peer("Z2F0ZXdheQ==", (ip_network("0.0.0.0/0"),), ENDPOINT),),
    )


HOME: Final = _tunnel("home")
WORK: Final = _tunnel("work")
SHAKEN: Final = TunnelState(
    link=TUN,
    backend="wireguard",
    public_key=HOME.public_key,
    digest=HOME.digest(),
    fwmark=0x2A000000,
    addresses=HOME.addresses,
    peers=(PeerState("Z2F0ZXdheQ==", ENDPOINT, 1_789_999_955, 1_300_000, 360_000),),
    put_bytes=1000 + 348_160,
    got_bytes=3000 + 1_258_291,
)
SILENT: Final = replace(SHAKEN, peers=(PeerState("Z2F0ZXdheQ==", ENDPOINT, None, 0, 148),), put_bytes=60, got_bytes=0)
GRANT: Final = Grant(GrantKind.ACCESS, 2, "wlan0", "1 192.168.1.1", 4820.0, 5176.0, "alice", "hotel portal")
NO_ANSWER: Final = Problem(
    "no-handshake",
    Severity.WARNING,
    "the gateway of home (203.0.113.1:51820) does not answer",
    "a portal may be in the way: aovpnctl allow-temp; otherwise check the keys and the gateway",
)
NO_TUNNEL: Final = Problem(
    "no-tunnel",
    Severity.WARNING,
    "no tunnel is configured, so everything stays blocked",
    "put a wg-quick file into the tunnels directory and run: aovpnctl connect; until then: aovpnctl allow-temp",
)


@dataclass(frozen=True, slots=True)
class Scene:
    """What one pass saw and decided."""

    config: Config
    intent: Intent
    snapshot: Snapshot
    desired: Desired

    def document(self) -> dict[str, Any]:
        """As published."""
        return dict(status.document(self.config, self.intent, self.snapshot, self.desired))


_CONFIG: Final = Config(tunnels=(HOME, WORK), prefer=("home",))
_SNAPSHOT: Final = Snapshot(now=NOW, links=(WLAN,), ruleset=LOADED, table_present=True, guard=GuardState.HELD)
_WISHES: Final = (TunnelWish(HOME, "aovpn0", LinkWish.UP),)

BLOCKED: Final = Scene(
    Config(), Intent(), _SNAPSHOT, Desired(Phase.BLOCKED, LOADED, None, uplinks=(UPLINK,), problems=(NO_TUNNEL,))
)
DISCONNECTED: Final = Scene(
    _CONFIG, Intent(wish=Wish.DISCONNECT), _SNAPSHOT, Desired(Phase.BLOCKED, LOADED, None, uplinks=(UPLINK,))
)
OFFLINE: Final = Scene(_CONFIG, Intent(), _SNAPSHOT, Desired(Phase.OFFLINE, LOADED, None, tunnels=_WISHES))
CONNECTING: Final = Scene(
    _CONFIG,
    Intent(),
    replace(_SNAPSHOT, tunnels=(SILENT,)),
    Desired(Phase.CONNECTING, LOADED, None, tunnels=_WISHES, uplinks=(UPLINK,), problems=(NO_ANSWER,)),
)
CONNECTED: Final = Scene(
    _CONFIG,
    Intent(connected_at=NOW.boot - 8000.0 / 2, counted_from=(3000, 1000)),
    replace(_SNAPSHOT, tunnels=(SHAKEN,)),
    Desired(Phase.CONNECTED, LOADED, None, tunnels=_WISHES, uplinks=(UPLINK,)),
)
RESTING: Final = Scene(
    replace(_CONFIG, on_demand=("home",)),
    Intent(),
    replace(_SNAPSHOT, tunnels=(SILENT,)),
    Desired(Phase.RESTING, LOADED, None, tunnels=_WISHES, uplinks=(UPLINK,)),
)
TEMPORARY_ACCESS: Final = Scene(
    Config(),
    Intent(grant=GRANT),
    _SNAPSHOT,
    Desired(Phase.TEMPORARY_ACCESS, LOADED, None, uplinks=(UPLINK,)),
)
UNBLOCKED: Final = Scene(
    _CONFIG,
    Intent(),
    replace(_SNAPSHOT, ruleset=None, guard=GuardState.MISSING, unblocked=True),
    Desired(Phase.UNBLOCKED, None, None, guard=GuardState.MISSING, unblocked=True, uplinks=(UPLINK,)),
)
SCENES: Final = {
    "blocked": BLOCKED,
    "disconnected": DISCONNECTED,
    "offline": OFFLINE,
    "connecting": CONNECTING,
    "connected": CONNECTED,
    "resting": RESTING,
    "temporary-access": TEMPORARY_ACCESS,
    "unblocked": UNBLOCKED,
}

# SPDX-License-Identifier: GPL-3.0-or-later
"""The story that the demo plays, as data: one `Row` per event."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tests.lab.demo.stage import Names, Stage

Act = Callable[[Stage], None]


class Back(Enum):
    """What must be there again after an event before it counts as recovered; each is waited for."""

    NOTHING = "nothing"
    TUNNEL = "the tunnel"
    TABLES = "ruleset and tunnel"
    GUARDED = "daemon, guard and tunnel"


class Until(Enum):
    """When a row ends."""

    DWELL = "after a while"
    DEADLINE = "at the deadline of the temporary access"


@dataclass(frozen=True, slots=True)
class Row:
    """An event, what it means on either stage, and what must come back on the protected one."""

    event: str
    protected: tuple[Act, ...]
    control: tuple[Act, ...]
    back: Back = Back.NOTHING
    until: Until = Until.DWELL
    names: Names = Names.TUNNEL
    """Who must answer the protected laptop's programs at the end of the row when they ask for a name."""
    dwell_s: float = 3.0
    known: frozenset[str] = frozenset()
    """Senders that docs/known-issues.md says get out here; each is a leak that is counted apart."""
    control_note: str = ""
    """What the event is on the unprotected stage, where that is something else."""


PACKETS: Final = frozenset({"packet4", "packet6", "bypass4", "ethertype", "packetmark4"})
MULTICAST: Final = frozenset({"mdns4", "mdns6"})
"""Both dead and then a flush: routing alone is left, and these two ask no route."""


def _nothing(_stage: Stage) -> None:
    """What a laptop without a daemon makes of the death of one."""


STORY: Final = (
    Row(
        "locked before any network",
        (Stage.start_daemon,),
        (Stage.carrier_without_network,),
        names=Names.NOBODY,
    ),
    Row(
        "home, and a resolver that lies",
        (Stage.home_with_a_liar,),
        (Stage.home_with_a_liar,),
        names=Names.NOBODY,
    ),
    Row(
        "the truth, and the tunnel",
        (Stage.truth,),
        (Stage.truth, Stage.wg_quick_up),
        back=Back.TUNNEL,
    ),
    Row(
        "kill -9 of the daemon",
        (Stage.kill_daemon,),
        (_nothing,),
        back=Back.GUARDED,
        control_note="no daemon to kill",
    ),
    Row(
        "kill -9 of the guard",
        (Stage.kill_guard,),
        (_nothing,),
        back=Back.GUARDED,
        control_note="no guard to kill",
    ),
    Row(
        "nft flush ruleset",
        (Stage.flush,),
        (Stage.flush,),
        back=Back.TABLES,
    ),
    Row(
        "both dead, then a flush",
        (Stage.kill_both_and_flush,),
        (Stage.flush,),
        back=Back.GUARDED,
        known=PACKETS | MULTICAST,
        control_note="a flush",
    ),
    Row(
        "tunnel process killed",
        (Stage.kill_tunnel,),
        (Stage.kill_tunnel,),
        back=Back.TUNNEL,
    ),
    Row(
        "a gateway dies",
        (Stage.second_gateway, Stage.gateway_dies),
        (Stage.gateway_dies,),
        back=Back.TUNNEL,
    ),
    Row(
        "to IPv6 alone, in a download",
        (Stage.start_download, Stage.mobile, Stage.watch_roaming),
        (Stage.mobile, Stage.wg_quick_up),
        back=Back.TUNNEL,
    ),
    Row(
        "roam to the café",
        (Stage.cafe,),
        (Stage.cafe,),
        names=Names.NOBODY,
    ),
    Row(
        "captive portal",
        (Stage.open_page,),
        (Stage.wg_quick_down, Stage.open_page),
        names=Names.NOBODY,
        control_note="wg-quick down",
    ),
    Row(
        "allow-temp 1m, log in",
        (Stage.allow_temp,),
        (Stage.log_in,),
        until=Until.DEADLINE,
        names=Names.NETWORK,
        control_note="log in",
    ),
    Row(
        "window closes in a download",
        (Stage.watch_download,),
        (Stage.watch_download,),
        dwell_s=5.0,
        names=Names.NOBODY,
        control_note="nothing closes",
    ),
    Row(
        "tunnel again",
        (Stage.end_download, Stage.cafe_lets_tunnels_through),
        (Stage.end_download, Stage.cafe_lets_tunnels_through, Stage.wg_quick_up),
        back=Back.TUNNEL,
    ),
    Row(
        "lid closed, opened at home",
        (Stage.close_lid, Stage.sleep_and_wake_at_home),
        (Stage.wg_quick_down, Stage.sleep_and_wake_at_home),
        back=Back.TUNNEL,
        control_note="wg-quick down",
    ),
    Row(
        "stop of the service",
        (Stage.stop_daemon,),
        (Stage.wg_quick_down,),
        control_note="wg-quick down",
    ),
)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Every cell that is tried in the lab."""

import errno
import os
from typing import Final

from tests.audits.attack import Phase
from tests.faults import causes, provocations
from tests.faults.cell import Cell, Fault, Provoke, Way
from tests.lab.refuse import NETLINK_NETFILTER, NETLINK_ROUTE, NETLINK_SOCK_DIAG, Rule

_NFT_BATCH: Final = 0x10
_NFT_LIST: Final = tuple(0x0A00 | kind for kind in (1, 4, 7, 10, 13, 19, 22))
"""NFT_MSG_GETTABLE and its kind: chains, rules, sets, elements, objects, flow tables."""
_NEWLINK, _DELLINK, _GETLINK, _NEWADDR, _GETADDR, _NEWROUTE, _GETROUTE, _NEWRULE, _GETRULE = (
    16,
    17,
    18,
    20,
    22,
    24,
    26,
    32,
    34,
)
_SOCK_DIAG, _SOCK_DESTROY = 20, 21
_UP: Final = (Phase.CONNECTED, Phase.ACCESS)
"""Where there is a tunnel that carries."""


# -- the cells ---------------------------------------------------------------------------------------------------------
def _each(call: str, ways: dict[Way, Fault], provoke: Provoke, said: str, **more: object) -> tuple[Cell, ...]:
    return tuple(Cell(call, way, fault, provoke, said, **more) for way, fault in ways.items())  # type: ignore[arg-type]


_REFUSALS: Final = (Way.EPERM, Way.EBUSY, Way.ENOSPC, Way.EIO)

_NFT: Final = (
    *_each(
        "nft load",
        {way: causes.netlink(NETLINK_NETFILTER, (_NFT_BATCH,), way) for way in (*_REFUSALS, Way.EACCES)},
        provocations.flush,
        r"nftables refused",
    ),
    Cell(
        "nft load", Way.TIMEOUT, causes.netlink(NETLINK_NETFILTER, (_NFT_BATCH,), Way.TIMEOUT), provocations.flush, ""
    ),
    *_each(
        "nft list",
        {way: causes.netlink(NETLINK_NETFILTER, _NFT_LIST, way) for way in (Way.EPERM, Way.EIO, Way.EBUSY)},
        provocations.flush,
        r"nftables refused",
    ),
    *_each(
        "guard's nft",
        {way: causes.netlink(NETLINK_NETFILTER, (_NFT_BATCH,), way, causes.GUARD) for way in (*_REFUSALS,)},
        provocations.kill_guard,
        r"guard-missing: ",
    ),
    *_each(
        "guard's links",
        {way: causes.netlink(NETLINK_ROUTE, (_GETLINK,), way, causes.GUARD) for way in (Way.EPERM, Way.EIO)},
        provocations.kill_guard,
        r"guard-missing: ",
    ),
    *_each(
        "guard's start",
        {way: causes.started(r"bin/python3", way) for way in (Way.MISSING, Way.EACCES, Way.EIO)},
        provocations.kill_guard,
        r"the guard cannot be started",
    ),
)
_ROUTING: Final = (
    *_each(
        "routes",
        {way: causes.netlink(NETLINK_ROUTE, (_NEWROUTE,), way) for way in _REFUSALS},
        provocations.flush_routes,
        r"cannot set the route",
    ),
    Cell(
        "routes", Way.TIMEOUT, causes.netlink(NETLINK_ROUTE, (_NEWROUTE,), Way.TIMEOUT), provocations.flush_routes, ""
    ),
    *_each(
        "rules",
        {way: causes.netlink(NETLINK_ROUTE, (_NEWRULE,), way) for way in _REFUSALS},
        provocations.delete_rules,
        r"cannot add the IPv\d rule",
    ),
    *_each(
        "list of links",
        {way: causes.netlink(NETLINK_ROUTE, (_GETLINK,), way) for way in (Way.EPERM, Way.EIO)},
        provocations.wake,
        r"system-unreadable: ",
    ),
    *_each(
        "list of addresses",
        {way: causes.netlink(NETLINK_ROUTE, (_GETADDR,), way) for way in (Way.EBUSY, Way.EIO)},
        provocations.wake,
        r"system-unreadable: ",
    ),
    *_each(
        "list of routes",
        {way: causes.netlink(NETLINK_ROUTE, (_GETROUTE,), way) for way in (Way.ENOSPC, Way.EIO)},
        provocations.wake,
        r"system-unreadable: ",
    ),
    *_each(
        "list of rules",
        {way: causes.netlink(NETLINK_ROUTE, (_GETRULE,), way) for way in (Way.EPERM, Way.EIO)},
        provocations.wake,
        r"system-unreadable: ",
    ),
    Cell("list of links", Way.TIMEOUT, causes.netlink(NETLINK_ROUTE, (_GETLINK,), Way.TIMEOUT), provocations.wake, ""),
    Cell(
        "descriptors",
        Way.EMFILE,
        causes.no_descriptors,
        provocations.wake,
        r"cannot be read.*Too many open files",
        journal=True,
    ),
    *_each(
        "sysctl",
        {
            way: causes.file("openat", r"/src_valid_mark$", way, writes=True)
            for way in (Way.EPERM, Way.EACCES, Way.EIO, Way.EROFS)
        },
        provocations.sysctl,
        r"cannot set net.ipv4.conf.all.src_valid_mark",
    ),
)
_TUNNEL: Final = (
    *_each(
        "tunnel link",
        {way: causes.netlink(NETLINK_ROUTE, (_NEWLINK,), way) for way in (Way.EPERM, Way.EBUSY, Way.EIO)},
        provocations.link_down,
        r"cannot (change|create) the link aovpn0",
    ),
    *_each(
        "tunnel address",
        {way: causes.netlink(NETLINK_ROUTE, (_NEWADDR,), way) for way in (Way.EPERM, Way.ENOSPC, Way.EIO)},
        provocations.other_address,
        r"cannot add \S+ to aovpn0",
    ),
    # What was read meanwhile is read again when somebody says so (docs/known-issues.md).
    *_each(
        "wg",
        {way: causes.read_again(causes.started(r"/wg$", way)) for way in (Way.MISSING, Way.EACCES, Way.EIO)}
        | {
            Way.STATUS: causes.read_again(causes.fake("/usr/bin/wg", "echo no such thing >&2; exit 7")),
            Way.GARBAGE: causes.read_again(causes.fake("/usr/bin/wg", "head -c 3000 /dev/urandom")),
            Way.PARTIAL: causes.read_again(causes.fake("/usr/bin/wg", "printf 'AAAA\\tBBBB'")),
            Way.TIMEOUT: causes.read_again(causes.fake("/usr/bin/wg", "exec sleep 60")),
        },
        provocations.other_mtu,
        r"\bwg\b.*(cannot be started|failed|was not done|output)",
    ),
    *_each(
        "wireguard-go",
        {way: causes.started(r"/wireguard-go$", way) for way in (Way.MISSING, Way.EACCES)}
        | {
            Way.STATUS: causes.fake("/usr/bin/wireguard-go", "echo broken >&2; exit 7"),
            Way.GARBAGE: causes.fake("/usr/bin/wireguard-go", "head -c 9000 /dev/urandom; exit 1"),
            Way.TIMEOUT: causes.fake("/usr/bin/wireguard-go", "exec sleep 60"),
        },
        provocations.new_tunnel,
        r"wireguard-go",
    ),
    *_each(
        "tun device",
        {
            way: causes.refused(Rule("openat", path=r"^/dev/net/tun$", error=causes.ERRNO[way]))
            for way in (Way.MISSING, Way.EACCES, Way.EBUSY)
        },
        provocations.new_tunnel,
        r"wireguard-go for aovpn0 ended at once",
    ),
    Cell(
        "wireguard-go hangs",
        Way.TIMEOUT,
        lambda stage: causes.frozen("wireguard-go", stage),
        provocations.wake,
        "",
        _UP,
    ),
)
_NAMES: Final = (
    *_each(
        "resolv.conf",
        {way: causes.file("openat", r"resolv\.conf\.aovpnd$", way, writes=True) for way in (Way.ENOSPC, Way.EIO)}
        | {
            Way.EBUSY: causes.refused(
                Rule("rename", path=r"resolv\.conf", error=errno.EBUSY, program=causes.DAEMON),
                Rule("openat", path=r"resolv\.conf$", writes=True, error=errno.EROFS, program=causes.DAEMON),
            )
        },
        provocations.names_overwritten,
        r"resolv\.conf cannot be written",
        phases=_UP,
    ),
    Cell(
        "resolv.conf",
        Way.TIMEOUT,
        lambda stage: causes.pipe_in_place("/etc/resolv.conf", stage),
        provocations.wake,
        r"resolv\.conf",
        _UP,
    ),
    *_each(
        "resolvconf",
        {
            Way.STATUS: lambda stage: causes.resolvconf("echo broken >&2; exit 7", stage),
            Way.TIMEOUT: lambda stage: causes.resolvconf("exec sleep 60", stage),
        },
        provocations.wake,
        r"resolvconf .*(failed|was not done)",
        phases=_UP,
    ),
    *_each(
        "resolvectl",
        {
            Way.MISSING: lambda stage: causes.resolved("", stage),
            Way.STATUS: lambda stage: causes.resolved("echo broken >&2; exit 7", stage),
            Way.GARBAGE: lambda stage: causes.resolved("head -c 3000 /dev/urandom", stage),
            Way.PARTIAL: lambda stage: causes.resolved("echo 'Link 4'", stage),
            Way.TIMEOUT: lambda stage: causes.resolved("exec sleep 60", stage),
        },
        provocations.wake,
        r"systemd-resolved (does not do what it is told|holds something else|cannot be reached)",
        phases=_UP,
    ),
)
_STATE: Final = (
    *_each(
        "budget",
        {
            Way.ENOSPC: lambda stage: causes.full("/var/lib/aovpnd", stage),
            Way.EROFS: lambda stage: causes.read_only("/var/lib/aovpnd", stage),
            Way.EACCES: causes.file("openat", r"temporary-access\.json\.new$", Way.EACCES, writes=True),
            Way.EBUSY: causes.file("rename", r"temporary-access\.json$", Way.EBUSY),
            Way.EIO: causes.refused(Rule("fsync", error=errno.EIO, program=causes.DAEMON)),
        },
        provocations.ask_window,
        r"temporary-access\.json: .*\(is the file system full or read-only\?\)",
        phases=(Phase.BLOCKED, Phase.CONNECTING, Phase.CONNECTED),
    ),
    *_each(
        "choice",
        {
            Way.ENOSPC: lambda stage: causes.full("/var/lib/aovpnd", stage),
            Way.EACCES: causes.file("openat", r"choice\.toml\.new$", Way.EACCES, writes=True),
        },
        provocations.choose,
        r"(choice\.toml|temporary-access\.json): .*\(is the file system full or read-only\?\)",
        phases=(Phase.CONNECTED,),
    ),
    # The old status makes the room for the new one.
    Cell(
        "status",
        Way.ENOSPC,
        causes.telling(lambda stage: causes.full("/run/aovpnd", stage)),
        provocations.news,
        r"config-invalid: .*is no setting",
    ),
    *_each(
        "status",
        {
            Way.EROFS: causes.telling(lambda stage: causes.read_only_over("/run/aovpnd", stage)),
            Way.EACCES: causes.telling(causes.file("openat", r"status\.json\.new$", Way.EACCES, writes=True)),
            Way.EBUSY: causes.telling(causes.file("rename", r"status\.json$", Way.EBUSY)),
        },
        provocations.news,
        r"the status cannot be told: .*\(is its file system full, or read-only\? See: df /run\)",
        journal=True,
    ),
)
_CONFIGURATION: Final = (
    *_each(
        "settings",
        {
            way: causes.read_again(causes.file("openat", r"aovpnd\.toml$", way))
            for way in (Way.EACCES, Way.EIO, Way.EPERM)
        }
        | {
            Way.GARBAGE: causes.read_again(
                lambda stage: causes.text_in("/etc/aovpnd/aovpnd.toml", os.urandom(3000), stage)
            ),
            Way.PARTIAL: causes.read_again(
                lambda stage: causes.text_in("/etc/aovpnd/aovpnd.toml", b"[temporary_acc", stage)
            ),
            Way.TIMEOUT: causes.read_again(lambda stage: causes.pipe_in_place("/etc/aovpnd/aovpnd.toml", stage)),
        },
        provocations.reload,
        r"config-kept: settings",
    ),
    *_each(
        "tunnel file",
        {way: causes.read_again(causes.file("openat", r"tunnel\.conf$", way)) for way in (Way.EACCES, Way.EIO)}
        | {
            Way.GARBAGE: causes.read_again(
                lambda stage: causes.text_in("/etc/aovpnd/tunnels/tunnel.conf", os.urandom(3000), stage)
            ),
            Way.PARTIAL: causes.read_again(
                lambda stage: causes.text_in("/etc/aovpnd/tunnels/tunnel.conf", b"[Interface]\nPrivateKey =", stage)
            ),
            Way.TIMEOUT: causes.read_again(
                lambda stage: causes.pipe_in_place("/etc/aovpnd/tunnels/tunnel.conf", stage)
            ),
        },
        provocations.reload,
        r"config-kept: tunnel tunnel",
    ),
    *_each(
        "tunnels directory",
        {way: causes.read_again(causes.file("openat", r"/tunnels$", way)) for way in (Way.EACCES, Way.EIO)},
        provocations.reload,
        r"config-kept: tunnel tunnel",
    ),
)
_SOCKETS: Final = _each(
    "sock_diag",
    {way: causes.netlink(NETLINK_SOCK_DIAG, (_SOCK_DIAG,), way) for way in (Way.EPERM, Way.EIO)}
    | {
        Way.MISSING: causes.refused(
            Rule("socket", netlink=NETLINK_SOCK_DIAG, error=errno.EPROTONOSUPPORT, program=causes.DAEMON)
        )
    },
    provocations.roam,
    r"sockets-left: ",
    phases=(Phase.CONNECTED,),
)

CELLS: Final[tuple[Cell, ...]] = (
    *_NFT,
    *_ROUTING,
    *_TUNNEL,
    *_NAMES,
    *_STATE,
    *_CONFIGURATION,
    *_SOCKETS,
)

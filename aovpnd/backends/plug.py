# SPDX-License-Identifier: GPL-3.0-or-later
"""A queue before a tunnel's link that keeps packets until there is an SA for them: tc's plug (net/sched/sch_plug.c).

Where the kernel does ESP it refuses a packet without an SA, and the program hears "no route to host"; charon's own ESP
drops it in silence. So what wakes a tunnel from its rest waits here. A kernel without plug does as it would without us.
"""

import contextlib
import struct
from typing import Final

from aovpnd import rtnl
from aovpnd.backends.userspace import wait
from aovpnd.errors import NetlinkError

LIMIT_BYTES: Final = 1 << 18
"""More than programs send before they wait for an answer; what comes then is dropped, and sent again."""
_DRAIN_S: Final = 0.3

_NEW, _DELETE, _GET = 36, 37, 38  # RTM_NEWQDISC and its like
_CREATE: Final = 0x400 | 0x100  # NLM_F_CREATE, NLM_F_REPLACE
_ECHO: Final = 0x8  # NLM_F_ECHO: until Linux 6.7 only listeners hear the answer otherwise
_TCMSG: Final = struct.Struct("=BxxxiIII")  # family, link, handle, parent, info
_ROOT: Final = 0xFFFFFFFF
_KIND, _OPTIONS, _STATS2, _STATS_QUEUE = 1, 2, 7, 3
_QOPT: Final = struct.Struct("=iI")  # tc_plug_qopt: action, limit
_BUFFER, _RELEASE = 0, 2
_QUEUE: Final = struct.Struct("=5I")  # gnet_stats_queue: length, bytes, dropped, requeued, over limits
_PLUG: Final = "plug"


def hold(link: int) -> None:
    """Keep what programs send from now on, where the kernel can. May be called twice."""
    with contextlib.suppress(NetlinkError):
        rtnl.dump(_NEW, _request(link) + _options(_BUFFER), _NEW, rtnl.NLM_F_ACK | _CREATE)


def waiting(link: int) -> int | None:
    """How many packets wait, or did and found no room; None where none is kept. `NetlinkError` when nobody can tell."""
    queue = _queue(link)
    return queue[0] + queue[2] if queue is not None else None


def release(link: int) -> None:
    """Let go what waits, in its order, and what comes. `NetlinkError` when that fails."""
    rtnl.dump(_NEW, _request(link) + _options(_RELEASE), _NEW, rtnl.NLM_F_ACK)
    wait(lambda: _length(link) == 0, _DRAIN_S)
    drop(link)


def drop(link: int) -> None:
    """Let go of nothing that waits: it was for a tunnel that is not there. `NetlinkError` when that fails."""
    if waiting(link) is not None:
        rtnl.dump(_DELETE, _request(link), _NEW, rtnl.NLM_F_ACK)


def tries(link: int) -> int:
    """Packets that programs put into a link, or should have been (`TunnelState.tries`), those that wait among them."""
    return rtnl.transferred(link).tries + (waiting(link) or 0)


def _length(link: int) -> int:
    queue = _queue(link)
    return queue[0] if queue is not None else 0


def _queue(link: int) -> tuple[int, ...] | None:
    """The numbers of a link's queue, where it is one of plug's."""
    try:
        answers = rtnl.dump(_GET, _request(link), _NEW, rtnl.NLM_F_ACK | _ECHO)
    except NetlinkError:
        return None  # the link is gone, and what it counts says so
    for payload in answers:
        found = rtnl.attributes(payload, _TCMSG.size)
        if rtnl.text(found.get(_KIND, b"")) == _PLUG:
            return rtnl.unpack(_QUEUE, rtnl.attributes(found.get(_STATS2, b"")).get(_STATS_QUEUE, b""))
    return None


def _request(link: int) -> bytes:
    return _TCMSG.pack(0, link, 0, _ROOT, 0)


def _options(action: int) -> bytes:
    kind = rtnl.attribute(_KIND, _PLUG.encode() + b"\0")
    return kind + rtnl.attribute(_OPTIONS, _QOPT.pack(action, LIMIT_BYTES))

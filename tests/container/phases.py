# SPDX-License-Identifier: GPL-3.0-or-later
"""The three phases of docs/neighbours.md on a booted laptop: what each lets through, and that nothing else leaves.

Each leaves the laptop as it found it, at home and connected.
"""

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from aovpnd import names
from aovpnd.adapters.state import BUDGET_FILE
from tests.container.booted import Booted
from tests.lab import plan
from tests.lab.process import wait_for
from tests.lab.sender_kinds import SenderKind
from tests.netns.protected import PACKET, UNROUTED, Watch, names_of

WINDOWS: Final = f"{names.STATE_DIR}/{BUDGET_FILE}"
"""What the daemon remembers of the last hour's windows."""
DNS: Final = frozenset({"dns4", "dns6", "doq4", "dnstcp4", "dot4"})
OPENED: Final = frozenset({"udp4", "udp6", "tcp4", "tcp6", "ping4", "ping6", "bound4"})
QUICK_S: Final = 2.0
"""Within this a name that nobody may be asked for has failed."""
OURS: Final = ((plan.GATEWAY4, plan.GATEWAY_PORT), (plan.GATEWAY6, plan.GATEWAY_PORT))
"""Where handshakes may go."""
_numbers = itertools.count()


# -- names, as programs of the C library find them ---------------------------------------------------------------------
def answered_by(laptop: Booted) -> str:
    """The address of the resolver that answers programs; "" when none does."""
    words = laptop.system.run("getent", "-s", "dns", "ahostsv4", plan.WHO_NAME, timeout_s=30).stdout.split()
    return words[0] if words else ""


def by_the_tunnel(laptop: Booted) -> bool:
    """Whether the tunnel's resolver answers."""
    return answered_by(laptop) == str(plan.GATEWAY_INSIDE4)


def by_the_lease(laptop: Booted, site: plan.Site = plan.HOME) -> bool:
    """Whether the resolver of a site's lease answers."""
    return answered_by(laptop) == str(site.router4)


def fails_in_s(laptop: Booted) -> float:
    """How long a program waits for a name that it does not get."""
    began = time.monotonic()
    found = laptop.system.run("getent", "-s", "dns", "ahosts", f"p{next(_numbers)}.example.org", timeout_s=60).stdout
    assert not found
    return time.monotonic() - began


# -- phases ------------------------------------------------------------------------------------------------------------
@contextmanager
def blocked(laptop: Booted) -> Iterator[Watch]:
    """Disconnected by the administrator; whatever happens then, nothing leaves, nor while the tunnel comes back. Other
    tunnels' handshakes are in clear, as anything else.
    """
    with laptop.net.watch(UNROUTED, endpoints=OURS) as watch:
        laptop.system.check("aovpnctl", "disconnect")
        try:
            laptop.wait_phase("blocked")
            yield watch
            watch.everybody_tries()
            assert laptop.status()["phase"] == "blocked"
        finally:
            laptop.system.check("aovpnctl", "connect", "home")
        laptop.until_works(watch)
    watch.assert_silence()


@dataclass(slots=True)
class Window:
    """A window of temporary access, and the watch over it; when it was open (Unix time), once it is over."""

    watch: Watch
    opened: float = 0.0
    closed: float = 0.0

    def seen(self) -> set[str]:
        """The names of the senders of whom the far side saw anything while it was open."""
        return self.watch.seen(self.opened, self.closed)


@contextmanager
def window(laptop: Booted, kinds: tuple[SenderKind, ...] = UNROUTED) -> Iterator[Window]:
    """A window, without a tunnel, with senders of these ``kinds``. It opens what it should, for as long as it is there:
    ordinary programs get out, packet sockets do not, and names are asked of the lease's resolvers alone; behind it
    nothing leaves, nor before.
    """
    system = laptop.system
    system.check("systemctl", "stop", names.UNIT)
    system.check("rm", "-f", WINDOWS)  # three an hour are few for a test
    system.check("systemctl", "start", names.UNIT)
    system.check("aovpnctl", "disconnect")
    try:
        laptop.wait_phase("blocked")
        with laptop.net.watch(kinds) as watch:
            watch.everybody_tries()
            span = Window(watch, time.time())
            system.check("aovpnctl", "allow-temp", "5min")
            laptop.wait_phase("temporary-access")
            watch.everybody_tries()
            yield span
            watch.everybody_tries()
            if laptop.status()["temporary_access"] is not None:  # what happened may have ended it
                system.check("aovpnctl", "allow-temp", "--cancel")
            laptop.wait_phase("blocked", "offline")
            span.closed = time.time()
            watch.everybody_tries()
        watch.assert_silence(end=span.opened)
        watch.assert_silence(start=span.closed)
        seen = span.seen()
        assert seen >= OPENED & names_of(kinds), OPENED - seen
        assert not seen & names_of(kinds) & (DNS | names_of(PACKET)), seen
        clear = watch.recording.clear(span.opened, span.closed)
        asked = {frame.what.partition(" to ")[2] for frame in clear if ":udp:dns " in frame.what}
        sites = (plan.HOME, plan.CAFE)
        assert asked <= {f"{router} port 53" for site in sites for router in (site.router4, site.router6)}
    finally:
        system.check("aovpnctl", "connect", "home")
    laptop.wait_works()


def names_fail_at_once(laptop: Booted) -> None:
    """Nobody is asked, and programs do not wait for it."""
    wait_for("names to fail at once", lambda: fails_in_s(laptop) < QUICK_S, deadline_s=20)

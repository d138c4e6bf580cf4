# SPDX-License-Identifier: GPL-3.0-or-later
"""The three phases of docs/neighbours.md on a booted laptop: what each lets through, and that nothing else leaves.

Each leaves the laptop as it found it, at home and connected.
"""

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aovpnd import names
from aovpnd.adapters.state import BUDGET_FILE
from tests.container.booted import Booted
from tests.lab import plan
from tests.lab.process import wait_for
from tests.netns.protected import PACKET, UNROUTED, Watch, names_of

WINDOWS: Final = f"{names.STATE_DIR}/{BUDGET_FILE}"
"""What the daemon remembers of the last hour's windows."""
DNS: Final = frozenset({"dns4", "dns6", "doq4", "dnstcp4", "dot4"})
OPENED: Final = frozenset({"udp4", "udp6", "tcp4", "tcp6", "ping4", "ping6", "bound4"})
QUICK_S: Final = 2.0
"""Within this a name that nobody may be asked for has failed."""
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
    """Disconnected by the administrator; whatever happens then, nothing leaves, nor while the tunnel comes back."""
    with laptop.net.nothing_leaves(UNROUTED) as watch:
        laptop.system.check("aovpnctl", "disconnect")
        try:
            laptop.wait_phase("blocked")
            yield watch
            watch.everybody_tries()
            assert laptop.status()["phase"] == "blocked"
        finally:
            laptop.system.check("aovpnctl", "connect", "home")
        laptop.until_works(watch)


@contextmanager
def window(laptop: Booted, *, link: str = "wlan0") -> Iterator[Watch]:
    """A window of temporary access, without a tunnel. It opens what it should, for as long as it is there: ordinary
    programs get out, packet sockets do not, and names are asked of the lease's resolvers alone; behind it nothing
    leaves, nor before.
    """
    system = laptop.system
    system.check("systemctl", "stop", names.UNIT)
    system.check("rm", "-f", WINDOWS)  # three an hour are few for a test
    system.check("systemctl", "start", names.UNIT)
    system.check("aovpnctl", "disconnect")
    try:
        laptop.wait_phase("blocked")
        with laptop.net.watch(UNROUTED, link=link) as watch:
            watch.everybody_tries()
            opened = time.time()
            system.check("aovpnctl", "allow-temp", "5min")
            laptop.wait_phase("temporary-access")
            watch.everybody_tries()
            yield watch
            watch.everybody_tries()
            if laptop.status()["temporary_access"] is not None:  # what happened may have ended it
                system.check("aovpnctl", "allow-temp", "--cancel")
            laptop.wait_phase("blocked", "offline")
            closed = time.time()
            watch.everybody_tries()
        watch.assert_silence(end=opened)
        watch.assert_silence(start=closed)
        seen = watch.seen(opened, closed)
        assert seen >= OPENED, OPENED - seen
        assert not seen & (DNS | names_of(PACKET)), seen
        asked = {
            frame.what.partition(" to ")[2] for frame in watch.recording.clear(opened, closed) if ":udp:dns " in frame.what
        }
        sites = (plan.HOME, plan.CAFE)
        assert asked <= {f"{router} port 53" for site in sites for router in (site.router4, site.router6)}
    finally:
        system.check("aovpnctl", "connect", "home")
    laptop.wait_works()


def names_fail_at_once(laptop: Booted) -> None:
    """Nobody is asked, and programs do not wait for it."""
    wait_for("names to fail at once", lambda: fails_in_s(laptop) < QUICK_S, deadline_s=20)



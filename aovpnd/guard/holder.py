# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard's life: load the tables, hold them, follow the list of links."""

import logging
import select
from collections.abc import Callable
from typing import Final

from aovpnd import rtnl
from aovpnd.errors import NetlinkError, NftError
from aovpnd.guard import rules
from aovpnd.guard.queues import Queues
from aovpnd.links import Link
from aovpnd.nftlib import Nft

log = logging.getLogger("aovpnd.guard")

RETRY_S: Final = 0.05
"""After a failure: a link that went away while it was being attached to (ENOENT before Linux 6.16) is gone by then."""
LAST_RETRY_S: Final = 5.0
"""After many in a row: a kernel without nftables gets none by being asked."""


class Holder:
    """Holds the tables for as long as it lives. Used from one thread."""

    def __init__(
        self,
        open_nft: Callable[[], Nft],
        queues: Queues,
        dump_links: Callable[[], tuple[Link, ...]] = rtnl.dump_links,
    ) -> None:
        self._open_nft = open_nft
        self._nft: Nft | None = None
        self._dump_links = dump_links
        self._queues = queues
        self._attached: rules.Attached | None = None
        self._complaint = ""

    def follow(self) -> bool:
        """Bring the tables up to the present list of links; whether they are. Both go in one transaction, or not at
        all.
        """
        try:
            links = self._dump_links()
            wanted = rules.attached(links)
            if wanted != self._attached:
                if self._nft is None:
                    self._nft = self._open_nft()
                self._nft.run(rules.whole(links))
                self._attached = wanted
                log.info("egress guarded on %s", ", ".join(name for _, name, _ in wanted[0]) or "no link yet")
            self._queues.follow(rules.outside(links))
        except (NetlinkError, NftError) as error:
            # What was loaded before still stands: the transaction failed as a whole.
            if str(error) != self._complaint:  # said once: it is tried again and again
                self._complaint = str(error)
                log.warning("not up to date with the links, trying again: %s", error)
            return False
        self._complaint = ""
        return True


def hold(open_nft: Callable[[], Nft], queues: Queues, ready: Callable[[], None], stop: int) -> None:
    """Hold the tables until ``stop`` (a descriptor) becomes readable; ``ready`` is called once they stand first.

    What fails is tried again, ever more seldom: whoever started us would do no better by starting us again.
    """
    with rtnl.Watch((rtnl.Group.LINK,)) as watch:
        holder = Holder(open_nft, queues)
        current = announced = False
        pause = RETRY_S
        while True:
            current = holder.follow()
            if current and not announced:
                ready()
                announced = True
            readable, _, _ = select.select([watch.fileno(), stop], [], [], None if current else pause)
            pause = RETRY_S if current else min(2 * pause, LAST_RETRY_S)
            if stop in readable:
                return
            watch.drain()

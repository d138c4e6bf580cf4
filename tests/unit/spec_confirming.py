# SPDX-License-Identifier: GPL-3.0-or-later
"""The page's section on the first block, read a second time: as `spec`, of which it is a part, without a word of the
core's.
"""

from aovpnd.confirmation import Logins, Standing
from aovpnd.model import Block, Config, Intent, Snapshot


def undoes_itself(config: Config, intent: Intent, now: float) -> bool:
    """Whether the block comes off by itself: it waits for somebody's word, its time is over, and no policy keeps it."""
    waits = intent.block is Block.ON and intent.confirmation.standing is Standing.AWAITED
    return waits and now >= intent.confirmation.until and not _ruled(config)


def may_be_cut_off(config: Config, intent: Intent, snapshot: Snapshot) -> bool:
    """Whether this is the first block, nothing of ours stands yet, and somebody is logged in over the network."""
    first = intent.block is Block.ON and intent.confirmation.standing is Standing.NEVER and not _ruled(config)
    stands = snapshot.table_present or snapshot.routing.rules != () or snapshot.routing.routes != ()
    return first and snapshot.logins is Logins.REMOTE and not stands


def _ruled(config: Config) -> bool:
    """By a mandatory policy, or by files of which none can be read."""
    return config.locked != frozenset() or "config-closed" in {problem.code for problem in config.problems}

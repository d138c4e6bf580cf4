# SPDX-License-Identifier: GPL-3.0-or-later
"""What came of the week, for docs/week.md."""

from typing import Final

from tests.week.plan import CHANGES, Kind
from tests.week.run import Outcome, Record

ALLOWANCE_S: Final = 300.0
"""A week's time offline that the uplink did not cause."""
_HEAD: Final = """<!-- SPDX-License-Identifier: GPL-3.0-or-later -->

# A week of a laptop

`make week` writes this page: a whole Debian under QEMU, with its own kernel, systemd, NetworkManager and AppArmor,
gets the package by dpkg and a tunnel by `aovpnctl import`, and then lives through a week of changing networks, sleep,
captive portals and reboots, and an upgrade to a newer package, all drawn from a seed. Programs that send by every card
in every way they know run from before systemd starts until the power is off. Behind each of its three cards stands a
recorder, since before the first instruction of each day; every frame is judged by the allow-list of
[security.md](security.md).

* *Back* is when each card has its lease, status says `connected`, `protected` and guarded, and a server on the internet
  answers pings of both families through the tunnel. Nobody helps: where that takes more than five minutes, the week
  has failed.
* *Offline* is the time in which an echo service beyond the tunnel, asked four times a second by both families, did not
  answer by one of them for more than a second and three times in a row (then all of it counts), although there was an
  *uplink*: a card with carrier, and a default route by it to the router of the network that it really is in, whose
  portal, if any, was passed. Without these the network is the reason, and the time is counted apart. Both are noted on
  the laptop, four times a second. Sleep counts for nothing, nor does shutting down; after a power-on it counts from the
  first lease on.
* In a *captive portal* temporary access is opened, somebody logs in, and the tunnel, which then connects, closes the
  access. What leaves until it is seen closed is allowed, and counted apart.

A day lasts from one power-on to the next, and at each of them the hardware clock has moved on by a day. A night takes
seconds here, and nobody reads mail between two changes: these are a week's events without its pauses. The processor is
translated, ten times slower than a laptop's and more where others use the machine as well: systemd gives a unit twenty
minutes to start instead of one and a half, and of AppArmor's profiles ours alone are loaded.

"""


def page(record: Record, days: int, head: str) -> str:
    """The page of a week of so many days, whether it is over or not."""
    done = record.days
    outcomes = [outcome for day in done for outcome in day.outcomes]
    awake_s = sum(day.online_s + day.without_uplink_s + day.offline_s for day in done)
    longest_s = max((day.longest_s for day in done), default=0.0)
    frames = sum(sum(day.frames.values()) for day in done)
    lines = [
        f"{head} {max(len(done) - 1, 0)} of {days} days, {awake_s / 60:.0f} minutes awake.",
        "",
        f"* Frames in clear: **{sum(day.leaked for day in done)}**, of {frames:,} that left the laptop. Before the",
        "  package was there, each of the programs was seen outside, by each card",
        f"  ({sum(day.control for day in done):,} frames).",
        f"* Offline in spite of an uplink: **{sum(day.offline_s for day in done):.0f} s**, {longest_s:.1f} s at a",
        f"  stretch at most; {ALLOWANCE_S:.0f} s are allowed. For want of an uplink:",
        f"  {sum(day.without_uplink_s for day in done):.0f} s.",
        f"* Repairs by hand: **{sum(bool(day.lost) for day in done)}**.",
        f"* {sum(day.windows for day in done)} windows of temporary access, in which",
        f"  {sum(day.in_windows for day in done):,} frames left in clear, as they may.",
        f"* AppArmor refused to our processes what they asked for: {sum(len(day.refused) for day in done)} times.",
        "",
        "| what | times | in clear | back, median | slowest | offline, sum | worst |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for kind in Kind:
        of_it = [outcome for outcome in outcomes if outcome.kind == kind]
        lines += [row(kind, of_it)] if of_it else []
    lines += [
        row("**network changes**", [outcome for outcome in outcomes if outcome.kind in CHANGES]),
        row("**all**", outcomes),
        "",
    ]
    return _HEAD + "\n".join(lines)


def row(name: str, outcomes: list[Outcome]) -> str:
    """One line of the table."""
    backs = sorted(outcome.back_s for outcome in outcomes) or [0.0]
    offline = [outcome.offline_s for outcome in outcomes] or [0.0]
    cells = (
        name,
        str(len(outcomes)),
        str(sum(outcome.leaked for outcome in outcomes)),
        f"{backs[len(backs) // 2]:.1f} s",
        f"{backs[-1]:.1f} s",
        f"{sum(offline):.1f} s",
        f"{max(offline):.1f} s",
    )
    return f"| {' | '.join(cells)} |"


def passed(record: Record, days: int) -> bool:
    """Whether all of so many days are lived through, nothing was seen or broke, and it was not offline for long."""
    return (
        len(record.days) == 1 + days
        and not record.is_broken
        and not any(day.leaked or any(outcome.leaked for outcome in day.outcomes) for day in record.days)
        and sum(day.offline_s for day in record.days) <= ALLOWANCE_S
    )

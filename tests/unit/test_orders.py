# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tunnels may carry: on a kind of uplink, and while nobody is logged in."""

from dataclasses import replace
from typing import Final

import pytest

from aovpnd.confirmation import Logins
from aovpnd.core import intent as memory
from aovpnd.core.decide import decide
from aovpnd.core.view import order
from aovpnd.gateways import Gateways, Left, Why
from aovpnd.model import Intent, Phase, Wish
from aovpnd.orders import Answer, Connect, Refusal
from tests.unit.test_decide import HOME_NET, ONE, TWO

BY_KIND: Final = replace(TWO, prefer=("work",), by_kind=(("mobile", ("home", "work")),))


def test_kinds_of_uplinks_have_orders_of_their_own() -> None:
    """Each order begins with its first; without an uplink the last one's stays, and so does what the user named."""
    carried = Intent(gateways=Gateways("work", (Left("home", Why.SILENT, 1.0, 99.0),)), uplink_kind="mobile")
    modem = replace(HOME_NET, links=tuple(replace(link, kind="wwan", name="wwan0") for link in HOME_NET.links))

    at_home = memory.settle(BY_KIND, carried, HOME_NET)
    away = memory.settle(BY_KIND, at_home, replace(HOME_NET, main=()))
    outside = memory.settle(BY_KIND, replace(away, uplink_kind="wifi"), modem)

    assert (at_home.uplink_kind, at_home.gateways.carrier, at_home.gateways.left) == ("wifi", None, ())
    assert [spec.name for spec in order(BY_KIND, at_home)] == ["work"]
    assert away.uplink_kind == "wifi"
    assert outside.uplink_kind == "mobile"
    assert [spec.name for spec in order(BY_KIND, outside)] == ["home", "work"]
    assert [spec.name for spec in order(BY_KIND, replace(outside, chosen="work"))] == ["work"]


BEFORE_LOGIN: Final = replace(TWO, prefer=("work",), by_kind=(("wifi", ("home", "work")),), device=("home",))


def test_nobody_is_logged_in() -> None:
    """Then the device's order holds, whatever the kind of uplink and whoever named another; each change begins with the
    first of its order, and what was named is in force again with the next login.
    """
    alone = replace(HOME_NET, logins=Logins.NOBODY)
    carried = Intent(chosen="work", gateways=Gateways("work"), uplink_kind="wifi")

    left = memory.settle(BEFORE_LOGIN, carried, alone)
    back = memory.settle(BEFORE_LOGIN, replace(left, gateways=Gateways("home")), HOME_NET)

    assert (left.logins, left.gateways.carrier) == (Logins.NOBODY, None)
    assert [spec.name for spec in order(BEFORE_LOGIN, left)] == ["home"]
    assert (back.logins, back.gateways.carrier) == (Logins.LOCAL, None)
    assert [spec.name for spec in order(BEFORE_LOGIN, back)] == ["work"]
    assert order(replace(BEFORE_LOGIN, device=()), left) == ()
    assert order(BEFORE_LOGIN, replace(left, wish=Wish.DISCONNECT)) == ()


def test_what_is_asked_for_while_nobody_is_logged_in() -> None:
    """Another tunnel than the device's is refused; a policy for everybody is the device's, if it says no more."""
    alone = Intent(logins=Logins.NOBODY)
    ruled = replace(BEFORE_LOGIN, locked=frozenset({"tunnel.prefer"}))

    assert memory.update(BEFORE_LOGIN, alone, HOME_NET, Connect("work"))[1] == Refusal(
        "nobody-logged-in", "while nobody is logged in the tunnel is home", "log in, or change tunnel.device"
    )
    assert memory.update(replace(BEFORE_LOGIN, device=()), alone, HOME_NET, Connect("work"))[1] == Refusal(
        "nobody-logged-in", "while nobody is logged in there is no tunnel", "log in, or change tunnel.device"
    )
    assert memory.update(BEFORE_LOGIN, alone, HOME_NET, Connect("home"))[1] == Answer("connecting by home")
    assert [spec.name for spec in order(ruled, alone)] == ["work"]
    assert [s.name for s in order(replace(ruled, locked=ruled.locked | {"tunnel.device"}), alone)] == ["home"]


def test_a_policy_for_one_kind() -> None:
    """It holds on that kind alone; one for all kinds is not got around by an order for one that is no policy."""
    one = replace(BY_KIND, locked=frozenset({"tunnel.mobile"}))
    every = replace(BY_KIND, locked=frozenset({"tunnel.prefer"}))
    away = Intent(uplink_kind="mobile")

    assert memory.update(one, away, HOME_NET, Connect("work"))[1] == Refusal(
        "policy", "policy says that the tunnel is home, then work", "aovpnctl connect"
    )
    assert memory.update(one, Intent(uplink_kind="wifi"), HOME_NET, Connect("home"))[1] == Answer("connecting by home")
    assert [spec.name for spec in order(every, away)] == ["work"]
    assert [spec.name for spec in order(replace(every, locked=every.locked | one.locked), away)] == ["home", "work"]


@pytest.mark.parametrize(
    ("device", "phase", "problems"),
    [
        (("home",), Phase.CONNECTING, []),
        ((), Phase.BLOCKED, ["nobody-logged-in"]),
        (("gone",), Phase.BLOCKED, ["tunnel-unknown"]),
        (("gone", "home"), Phase.CONNECTING, ["tunnel-unknown"]),
    ],
)
def test_the_devices_own_tunnel(device: tuple[str, ...], phase: Phase, problems: list[str]) -> None:
    """Nobody is logged in: it is made, or the status says why there is none; what somebody has named says nothing."""
    alone = Intent(chosen="work", logins=Logins.NOBODY)
    desired = decide(replace(TWO, device=device), alone, HOME_NET)

    assert desired.phase is phase
    assert [wish.spec.name for wish in desired.tunnels] == [name for name in device if name == "home"]
    assert [problem.code for problem in desired.problems] == problems
    assert decide(ONE, alone, HOME_NET) == decide(ONE, Intent(chosen="work"), HOME_NET), "without the key, nobody asks"

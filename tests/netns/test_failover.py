# SPDX-License-Identifier: GPL-3.0-or-later
"""Two gateways in a preferred order, and everything that can be wrong with the better one: the next one carries, in
bounded time, under senders of all kinds, with nothing in clear; and the better one carries again when it answers.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import pytest

from tests.lab import plan
from tests.lab.frames import Kind
from tests.lab.process import SLOW, stop, wait_for
from tests.lab.senders import Flood
from tests.lab.sites import Gateway, new_key, public_key
from tests.netns.protected import Protected, counted

pytestmark = pytest.mark.root

ORDER: Final = f"""
[tunnel]
prefer = ["office", "home"]
[health]
probe = ["{plan.WEB4}:80"]
"""


@dataclass(slots=True)
class Two:
    """A laptop whose order is the gateways of office and home."""

    laptop: Protected
    office: Gateway
    home: Gateway

    def carries(self, gateway: Gateway) -> bool:
        """Whether the internet sees us come from a gateway, and the daemon says that all is well."""
        status = self.laptop.lab.status()
        connected = status["phase"] == "connected" and status["protected"]
        return connected and self.laptop.address_outside(4) == str(gateway.place.wan4)

    def until(self, gateway: Gateway, *, deadline_s: float) -> float:
        """Wait until a gateway carries; returns the seconds that took."""
        began = time.monotonic()
        wait_for(f"{gateway.place.name} to carry", lambda: self.carries(gateway), deadline_s=deadline_s, poll_s=0.05)
        return time.monotonic() - began

    def roles(self) -> dict[str, str]:
        """What status says of each tunnel."""
        return {tunnel["name"]: tunnel["role"] for tunnel in self.laptop.lab.status()["tunnels"]}


@pytest.fixture(scope="module")
def two() -> Iterator[Two]:
    """One world for this file, connected by the better gateway."""
    with Protected.build(start=False, tunnel=False) as laptop:
        gateway, conf = laptop.world.another_gateway()
        laptop.lab.install_tunnel("office")
        laptop.lab.install_tunnel("home", conf)
        laptop.lab.write_config(ORDER)
        laptop.lab.start_daemon()
        laptop.world.roam("home")
        made = Two(laptop, laptop.world.gateway, gateway)
        made.until(made.office, deadline_s=20)
        yield made


BREAKS: Final[dict[str, tuple[Callable[[Gateway], None], Callable[[Gateway], None], str]]] = {
    "off": (Gateway.off, Gateway.on, "gateway-silent"),
    "key revoked": (Gateway.revoke, Gateway.admit, "gateway-silent"),
    "UDP filtered": (
        lambda gateway: gateway.filter_udp(filtered=True),
        lambda gateway: gateway.filter_udp(filtered=False),
        "gateway-silent",
    ),
    "exit dead": (
        lambda gateway: gateway.shut_exit(dead=True),
        lambda gateway: gateway.shut_exit(dead=False),
        "exit-dead",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_the_next_one_carries(two: Two, name: str, record_property: Callable[[str, object], None]) -> None:
    """Whatever is wrong with the better gateway: the next one carries soon, status says why, and it is gone back to."""
    breaks, mends, code = BREAKS[name]
    two.until(two.office, deadline_s=20)
    with two.laptop.nothing_leaves() as watch:
        breaks(two.office)
        seconds = two.until(two.home, deadline_s=45)
        watch.everybody_tries()
        roles, problems = two.roles(), two.laptop.problems()
        mends(two.office)
        two.laptop.lab.ctl("connect")  # what its back-off would have brought by itself
        back = two.until(two.office, deadline_s=30)

    record_property("failed over in", f"{seconds:.1f} s")
    print(f"{name}: the next gateway carried after {seconds:.1f} s, the better one again after {back:.1f} s")
    assert roles == {"office": "failed", "home": "chosen"}
    assert "home carries instead" in problems[code]
    assert seconds < 35 * SLOW
    assert two.laptop.problems() == {}
    assert counted(watch.recording, Kind.TUNNEL) > 100


def test_fail_over_under_flood(two: Two, record_property: Callable[[str, object], None]) -> None:
    """Everybody sends as fast as it goes while the better gateway is off: the next one carries, nothing in clear."""
    two.until(two.office, deadline_s=20)
    with two.laptop.world.record(prefilter=True) as recorder:
        with Flood.start(two.laptop.lab):
            two.office.off()
            began = time.monotonic()
            wait_for("the next gateway", lambda: two.roles()["home"] == "chosen", deadline_s=90, poll_s=0.2)
            two.laptop.lab.wait_phase("connected", deadline_s=60)
            seconds = time.monotonic() - began
            carried = recorder.count(Kind.TUNNEL)
            wait_for("the tunnel's packets", lambda: recorder.count(Kind.TUNNEL) > carried + 100, deadline_s=60)
        two.until(two.home, deadline_s=30)
        assert recorder.count(Kind.CLEAR) == 0
    record_property("failed over under flood in", f"{seconds:.1f} s")
    print(f"under flood the next gateway carried after {seconds:.1f} s")
    two.office.on()
    two.laptop.lab.ctl("connect")
    two.until(two.office, deadline_s=60)


# -- what does not leave the machine -----------------------------------------------------------------------------------
_NO_IPV6: Final = "net.ipv6.conf.wlan0.disable_ipv6"
_ANOTHER_FIREWALL: Final = f"""table inet another {{
    chain output {{
        type filter hook output priority 10
        ip6 daddr {plan.GATEWAY6} drop
    }}
}}
"""


def _lose_six(two: Two, *, lost: bool) -> None:
    two.laptop.lab.host.run("sysctl", "-qw", f"{_NO_IPV6}={int(lost)}")


def _another_firewall(two: Two, *, lost: bool) -> None:
    two.laptop.lab.host.nft(_ANOTHER_FIREWALL if lost else "delete table inet another")


@pytest.mark.parametrize(
    ("breaks", "code", "says"),
    [
        pytest.param(_lose_six, "address-family", "this network has no IPv6", id="IPv6 goes, IPv4 stays"),
        pytest.param(_another_firewall, "nothing-sent", "do not leave this machine", id="another firewall"),
    ],
)
def test_a_black_hole_on_this_machine(two: Two, breaks: Callable[..., None], code: str, says: str) -> None:
    """The better gateway has an IPv6 address alone, and the kernel refuses what goes there, so that WireGuard counts
    nothing as sent: that is not idleness. The next one carries soon, status says what it is, and it is gone back to.
    """
    two.until(two.office, deadline_s=20)
    conf = two.laptop.lab.tunnel_conf
    where = f"[{plan.GATEWAY6}]:{plan.GATEWAY_PORT}"
    two.laptop.lab.install_tunnel("office", conf.replace(f"{plan.GATEWAY4}:{plan.GATEWAY_PORT}", where))

    def by_six() -> bool:
        used = next(tunnel for tunnel in two.laptop.lab.status()["tunnels"] if tunnel["name"] == "office")
        return used["endpoint"] == where and two.carries(two.office)

    try:
        wait_for("the tunnel over IPv6", by_six, deadline_s=20)
        with two.laptop.nothing_leaves() as watch:
            watch.everybody_tries()
            breaks(two, lost=True)
            seconds = two.until(two.home, deadline_s=40)
            roles, problems = two.roles(), two.laptop.problems()
            breaks(two, lost=False)
            two.laptop.lab.ctl("connect")
            back = two.until(two.office, deadline_s=40)
    finally:
        two.laptop.lab.install_tunnel("office", conf)

    print(f"{says}: the next gateway carried after {seconds:.1f} s, the better one again after {back:.1f} s")
    assert roles == {"office": "failed", "home": "chosen"}
    assert says in problems[code]
    assert "home carries instead" in problems[code]
    wait_for("nothing to complain of", lambda: two.laptop.problems() == {}, deadline_s=10)


# -- a new key for the same tunnel -------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Call:
    """What became of a call: error numbers of sends, and the longest time without a packet back."""

    errors: set[int]
    gap_s: float
    sent: int
    back: int


@contextmanager
def call(two: Two) -> Iterator[Callable[[], Call]]:
    """A call of 50 packets a second by the laptop's user; the function that is given tells how it went so far."""
    report = two.laptop.lab.host.dir / "flow.jsonl"
    sender = two.laptop.lab.host.spawn(
        *(sys.executable, "-m", "tests.netns.flow", str(plan.ECHO4), str(plan.ECHO_PORT), str(report)), log="flow"
    )

    def so_far() -> Call:
        lines = report.read_text(encoding="ascii").splitlines() if report.exists() else []
        events = [json.loads(line) for line in lines[:-1]]
        sent = [event for event in events if "sent" in event]
        back = [event["at"] for event in events if "back" in event]
        gaps = [after - before for before, after in pairwise(back)]
        return Call({event["errno"] for event in sent}, max(gaps, default=9.9), len(sent), len(back))

    try:
        wait_for("the call to be heard", lambda: so_far().back > 50)
        yield so_far
    finally:
        stop(sender)


def test_a_new_key_without_a_gap(two: Two) -> None:
    """The file gets a new key and the gateway knows it from that moment on: no send of a call fails, the link stays,
    and what is lost is what a handshake takes.
    """
    two.until(two.office, deadline_s=20)
    link = two.laptop.lab.host.out("ip", "-o", "link", "show", "aovpn0").split(":")[0]
    key = new_key()
    with two.laptop.nothing_leaves(), call(two) as so_far:
        two.laptop.lab.install_tunnel("office", two.office.tunnel_conf(key))
        two.office.admit(public_key(key))
        before = so_far()
        wait_for("the call to go on", lambda: so_far().back > before.back + 100, deadline_s=15)
        call_was = so_far()

    print(f"new key: {call_was.sent} sent, {call_was.back} back, longest gap {call_was.gap_s:.2f} s")
    # How long the gap was is for people to read: a handshake before the gateway knows the key is asked for again.
    assert call_was.errors == {0}
    assert two.laptop.lab.host.out("ip", "-o", "link", "show", "aovpn0").split(":")[0] == link
    assert two.carries(two.office)


def test_a_named_tunnel_is_not_replaced(two: Two) -> None:
    """Who names a tunnel gets that one or none; asking for the order again brings the next one."""
    two.laptop.lab.ctl("connect", "office")
    two.until(two.office, deadline_s=10)
    two.office.off()
    try:
        with two.laptop.nothing_leaves():
            wait_for("the daemon to say so", lambda: "no-handshake" in two.laptop.problems(), deadline_s=40)
            assert two.roles() == {"office": "chosen", "home": "available"}
            two.laptop.lab.ctl("connect")
            two.until(two.home, deadline_s=20)
    finally:
        two.office.on()
    two.laptop.lab.ctl("connect")
    two.until(two.office, deadline_s=30)


def test_another_tunnel_by_cable(two: Two) -> None:
    """On a cable another order is in force than on Wi-Fi: the one goes with the other, both ways, and nothing leaves
    between them.
    """
    two.until(two.office, deadline_s=20)
    two.laptop.lab.write_config(ORDER.replace("[health]", 'ethernet = "home"\n[health]'))
    two.laptop.lab.ctl("connect")  # reads it
    with two.laptop.nothing_leaves() as watch:
        two.laptop.world.plug("home")
        by_cable = two.until(two.home, deadline_s=30)
        watch.everybody_tries()
        # It carries within the pass, at whose end status speaks of it.
        wait_for("status to say so", lambda: (roles := two.roles())["home"] == "chosen" != roles["office"])
        two.laptop.world.unplug("eth0")
        back = two.until(two.office, deadline_s=30)
    two.laptop.lab.write_config(ORDER)
    two.laptop.lab.ctl("connect")  # reads it

    print(f"the cable's tunnel carried after {by_cable:.1f} s, that of Wi-Fi again after {back:.1f} s")
    assert two.laptop.problems() == {}

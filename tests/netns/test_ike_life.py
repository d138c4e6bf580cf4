# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of an IKE tunnel: it moves by MOBIKE, renews its keys, outlives the daemon, goes from gateway to gateway.

Senders of all kinds are on the laptop and a recorder on the far side. What happens to it under a flood is the soak's.
"""

import re
import time
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from aovpnd import names
from tests.lab import charon, plan
from tests.lab.call import arrivals, gap, lost
from tests.lab.charon import Sa
from tests.lab.ike import IkeGateway, Way
from tests.lab.ike_client import FAST, account, install
from tests.lab.process import SLOW, wait_for
from tests.netns.protected import CHARON, ORDINARY, VICI, WAY, Protected
from tests.netns.test_roaming import downloading, talking

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def laptop() -> Iterator[Protected]:
    """One world for this file: two gateways that speak IKE, two sites, and one with IPv6 alone."""
    with Protected.build(links=("wlan0",), way=Way.CERTIFICATE, nat64=True, tunnel=False, start=False) as built:
        built.world.cafe.host.nft(f"add element inet cafe allowed {{ {plan.LAPTOP_MAC['wlan0']} }}")
        other = built.world.another_ike_gateway()
        write(built, gateways=(str(plan.GATEWAY4), str(other.place.wan4)))
        built.lab.start_daemon()
        built.world.roam("home", ipv6=True)
        yield built


@pytest.fixture(autouse=True)
def connected(laptop: Protected) -> None:
    """Each test begins connected at home."""
    laptop.connect()


def write(laptop: Protected, **more: object) -> None:
    """Give the tunnel other gateways or settings."""
    settings = {**FAST, **dict(more.pop("settings", {}))}  # type: ignore[call-overload]
    install(laptop.lab, account(laptop.world.ike, Way.CERTIFICATE, settings=settings, **more))  # type: ignore[arg-type]


def sa_of(gateway: IkeGateway) -> Sa:
    """The laptop's newest SA at a gateway."""
    return max((sa for sa in gateway.sas() if sa.children), key=lambda sa: sa.unique)


def outside(laptop: Protected, gateway: IkeGateway) -> bool:
    """Whether both families reach the internet from a gateway's address, and the daemon says that all is well."""
    status = laptop.lab.status()
    here = (laptop.address_outside(4), laptop.address_outside(6))
    return status["phase"] == "connected" and here == (str(gateway.place.wan4), str(gateway.place.wan6))


def test_moves_by_mobike(laptop: Protected) -> None:
    """Home, café, home: the same SA with the same addresses, a download and a call that go on."""
    before = sa_of(laptop.world.ike)
    with laptop.nothing_leaves() as watch, talking(laptop) as call, downloading(laptop):
        for site in ("cafe", "home"):
            began = time.time()
            laptop.world.roam(site)
            there = time.time()
            watch.until(f"the tunnel at {site}", laptop.works)
            wait_for("the call", lambda there=there: any(at > there for at in arrivals(call)), deadline_s=15)  # type: ignore[misc]
            back = next(at for at in arrivals(call) if at > there)
            print(
                f"roam to {site}: {there - began:.2f} s without a network, heard {back - there:.2f} s after its lease"
            )
    after = sa_of(laptop.world.ike)

    assert (after.unique, after.vips) == (before.unique, before.vips)
    asked = re.findall(r"checking path \S+ - (\S+)\[", laptop.lab.host.out("cat", str(CHARON.log)))
    assert set(asked) <= {str(plan.GATEWAY4)}, "elsewhere it is refused, and charon asks again after 2.5 s"


def test_daemon_is_killed_and_adopts(laptop: Protected) -> None:
    """SIGKILL to the daemon: charon carries on, and the next daemon takes its SA over as it is."""
    before, pid = sa_of(laptop.world.ike), laptop.daemon_pid()
    with laptop.nothing_leaves() as watch, talking(laptop) as call:
        began = time.time()
        laptop.lab.kill_daemon()
        watch.until("another daemon", lambda: laptop.daemon_pid() not in {None, pid} and laptop.works())
        silence = gap(call, began, time.time())
    print(f"daemon killed: longest silence of the call {silence:.2f} s")

    assert sa_of(laptop.world.ike) == before
    assert silence < SLOW


@pytest.mark.parametrize("renewed", ["child_rekey", "rekey", "reauth"])
def test_keys_are_renewed_without_a_gap(laptop: Protected, renewed: str) -> None:
    """New keys of ESP, of IKE, and a new authentication, at their time: no packet of a call is lost.

    But those that a gateway sends by its new SA before we have read the answer that makes it ours: who answers IKE_AUTH
    may do so at once (RFC 7296 section 1.2), and charon counts what it cannot open yet.
    """
    charon.say_more(laptop.lab.host, CHARON.settings, VICI)
    if renewed != "reauth":  # which may not come that often by itself
        write(laptop, settings={renewed: "10s"})
        wait_for("the new settings", lambda: laptop.works() and not laptop.problems(), deadline_s=20)

    def generations() -> tuple[int, int]:
        sa = sa_of(laptop.world.ike)
        return sa.unique, max(sa.children)

    def too_early() -> int:
        return charon.unclaimed(laptop.lab.host.out("cat", str(CHARON.log)))

    with laptop.nothing_leaves(ORDINARY), talking(laptop) as call:
        start, was, before = time.time(), generations(), too_early()
        if renewed == "reauth":
            charon.reauthenticate(laptop.lab.host, VICI)
        wait_for("new keys", lambda: generations() != was, deadline_s=25, poll_s=0.2)
        end = time.time()
        wait_for("the call behind it", lambda: arrivals(call)[-1] > end + 1, deadline_s=10)
        missed, silence, unread = lost(call, start, end), gap(call, start, end), too_early() - before
    print(f"{renewed}: {missed} packets lost, {unread} came too early, longest silence {silence * 1000:.0f} ms")

    assert missed <= (unread if renewed == "reauth" else 0)
    conf = laptop.lab.host.out("cat", names.RESOLV_CONF)
    assert [line for line in conf.splitlines() if line.startswith("nameserver")], (
        "the name servers went with the old SA"
    )
    assert laptop.works()
    assert laptop.problems() == {}


GONE: Final[dict[str, tuple[Callable[[IkeGateway], None], Callable[[IkeGateway], None]]]] = {
    "killed": (IkeGateway.off, IkeGateway.on),
    "hangs": (IkeGateway.hang, IkeGateway.resume),
}


@pytest.mark.parametrize("name", GONE if WAY is not None else ["killed"])  # the other one: make test-ike
def test_the_next_gateway_carries(laptop: Protected, name: str) -> None:
    """Of one tunnel's two gateways the one that is used goes, and the next one carries; when that goes, the first."""
    first, other = laptop.world.ike_gateways
    breaks, mends = GONE[name]
    write(laptop, gateways=(str(first.place.wan4), str(other.place.wan4)))
    now, then = (first, other) if outside(laptop, first) else (other, first)
    with laptop.nothing_leaves() as watch:
        for gone, next_one in ((now, then), (then, now)):
            wait_for("the tunnel", lambda gone=gone: outside(laptop, gone), deadline_s=40)  # type: ignore[misc]
            began = time.monotonic()
            breaks(gone)
            try:
                watch.until("the next gateway", lambda to=next_one: outside(laptop, to), deadline_s=60)  # type: ignore[misc]
                print(f"{name}: the next gateway carried after {time.monotonic() - began:.1f} s")
            finally:
                mends(gone)


def test_from_ipv4_to_ipv6_alone(laptop: Protected) -> None:
    """A site with IPv6 alone: the gateway is reached by its IPv6 address, and both families go through the tunnel."""
    write(laptop, gateways=(str(plan.GATEWAY4), f"[{plan.GATEWAY6}]"))
    assert laptop.world.six is not None
    behind = plan.SIX.behind_nat64(plan.GATEWAY4)
    with laptop.nothing_leaves(ike=(*plan.IKE_GATEWAYS, behind)) as watch:
        for site in ("six", "home"):
            laptop.world.roam(site)
            began = time.monotonic()
            watch.until(f"the tunnel at {site}", laptop.works, deadline_s=60)
            print(f"roam to {site}: carries {time.monotonic() - began:.1f} s after it is online")

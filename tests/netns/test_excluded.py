# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks that are kept out of the tunnel: they alone are reached in clear, whether the tunnel is up or not."""

import os
import shutil
import signal
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

import pytest

from tests.lab import plan
from tests.lab.process import wait_for
from tests.netns.protected import Protected

pytestmark = pytest.mark.root

OUTSIDE: Final = (plan.DNS4, plan.DNS6)
"""Senders ask them for names all the time, which leaves by no link but the tunnel; here they are asked for pages."""
GATEWAYS: Final = {str(plan.GATEWAY4), str(plan.GATEWAY6)}
"""Whose addresses are seen outside of what came through the tunnel."""


@pytest.fixture(scope="module")
def laptop() -> Iterator[Protected]:
    """Connected at home, with both families, and with two machines of the internet left out of the tunnel."""
    with Protected.build(links=("wlan0",)) as built:
        exclude(built, *OUTSIDE)
        built.connect("home", ipv6=True)
        yield built


def exclude(laptop: Protected, *networks: object, tunnel: str | None = None) -> None:
    """Write the settings, and have them read: out of all tunnels, or out of one."""
    written = ", ".join(f'"{network}"' for network in networks)
    head = "[exclude]" if tunnel is None else f'[[exclude_from]]\ntunnel = "{tunnel}"'
    laptop.lab.write_config(f"{head}\nnetworks = [{written}]\n")
    pid = laptop.daemon_pid()
    assert pid is not None
    os.kill(pid, signal.SIGHUP)


def seen_from(laptop: Protected, address: IPv4Address | IPv6Address) -> str:
    """From which address we come there; "" when we do not."""
    host = f"[{address}]" if address.version == 6 else str(address)
    return laptop.lab.curl(f"http://{host}/ip", timeout_s=2).stdout.strip()


def all_outside(laptop: Protected) -> bool:
    """Whether both are reached, and not from the tunnel's gateway."""
    seen = {seen_from(laptop, address) for address in OUTSIDE}
    return "" not in seen and seen.isdisjoint(GATEWAYS)


def only_excluded(laptop: Protected) -> None:
    """What the two are asked for goes in clear; nothing else does, however hard everybody tries, names included."""
    with laptop.watch() as watch:
        watch.until("pages of what is excluded", lambda: all_outside(laptop))
    clear = watch.recording.clear()
    strange = tuple(
        frame for frame in clear if frame.has_token or not any(str(address) in frame.what for address in OUTSIDE)
    )

    assert not strange, watch.recording.describe(strange)
    for address in OUTSIDE:
        assert any(str(address) in frame.what for frame in clear), f"no control: nothing went to {address}"


def test_connected(laptop: Protected) -> None:
    """Everything else goes through the tunnel."""
    wait_for("the settings to hold", lambda: all_outside(laptop), poll_s=0.05)
    only_excluded(laptop)
    assert laptop.works()


def test_daemon_and_guard_are_killed(laptop: Protected) -> None:
    """What holds while nobody looks is the same."""
    with laptop.watch() as watch:
        laptop.lab.kill_daemon()
        watch.until("pages of what is excluded", lambda: all_outside(laptop))
        laptop.lab.kill_guard()
        watch.until("the tunnel to work", laptop.works)
    strange = [f for f in watch.recording.clear() if f.has_token or not any(str(a) in f.what for a in OUTSIDE)]

    assert not strange, watch.recording.describe(tuple(strange))


def test_what_a_tunnel_has(laptop: Protected) -> None:
    """A network with the tunnel's own addresses in it stays closed; so does everything once the list is empty."""
    exclude(laptop, "10.66.0.0/16", "fd66::/32")
    wait_for("the problem", lambda: "exclude-closed" in laptop.problems(), poll_s=0.05)
    with laptop.nothing_leaves() as watch:
        watch.until("the tunnel to work", laptop.works)
    exclude(laptop)
    wait_for("the problem to go", lambda: "exclude-closed" not in laptop.problems(), poll_s=0.05)
    with laptop.nothing_leaves():
        assert {seen_from(laptop, address) for address in OUTSIDE} == GATEWAYS


def test_disconnected(laptop: Protected) -> None:
    """Without a tunnel they are reached as before, and nobody else is."""
    exclude(laptop, *OUTSIDE)
    laptop.lab.ctl("disconnect")
    laptop.lab.wait_phase("blocked")
    only_excluded(laptop)
    assert laptop.address_outside(4) == ""
    laptop.lab.ctl("connect")
    wait_for("the tunnel to work", laptop.works, poll_s=0.05, deadline_s=20)


def test_from_one_tunnel(laptop: Protected) -> None:
    """Out of one tunnel alone: in clear while that one carries, and neither beside another nor without any."""
    (file,) = laptop.lab.host.path("/etc/aovpnd/tunnels").glob("tunnel.*")
    copy = Path(shutil.copy2(file, file.with_stem("other")))
    exclude(laptop, *OUTSIDE, tunnel="tunnel")
    laptop.lab.ctl("connect", "tunnel")
    wait_for("the settings to hold", lambda: all_outside(laptop), poll_s=0.05)
    only_excluded(laptop)

    laptop.lab.ctl("connect", "other")
    with laptop.nothing_leaves() as watch:
        watch.until("the other tunnel to carry", lambda: carries(laptop, "other"))
        watch.until("pages through it", lambda: {seen_from(laptop, address) for address in OUTSIDE} == GATEWAYS)
        laptop.lab.ctl("disconnect")
        laptop.lab.wait_phase("blocked")
        assert {seen_from(laptop, address) for address in OUTSIDE} == {""}

    laptop.lab.ctl("connect", "tunnel")
    wait_for("them to be reached again", lambda: all_outside(laptop), poll_s=0.05)
    copy.unlink()


def carries(laptop: Protected, name: str) -> bool:
    """Whether the machine is connected by this tunnel."""
    status = laptop.lab.status()
    return status["phase"] == "connected" and [each["name"] for each in status["tunnels"] if each["link"]] == [name]

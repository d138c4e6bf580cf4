# SPDX-License-Identifier: GPL-3.0-or-later
"""Gateways that let nobody through before a sign-in with a browser: it is told where, once, it goes when somebody is
in, and the question for it goes through the tunnel and nowhere else.

Real gateways of both kinds, whose exit is shut, with a page behind them; senders of all kinds on the laptop.
"""

import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Final

import pytest

from aovpnd import names
from tests.lab import plan
from tests.lab.ike import IkeGateway, Way
from tests.lab.laptop import BIN
from tests.lab.process import stop, wait_for
from tests.lab.sites import Gateway
from tests.netns.protected import JUDGED, WAY, Protected, of_wireguard, only

pytestmark = pytest.mark.root

WAYS: Final = {"wireguard": None, "ike": Way.PSK}
_CTL: Final = BIN / "aovpnctl"
LINK: Final = f"{names.LINK_PREFIX}0"
CODE: Final = "sign-in-by-browser"
STILL_S: Final = 8.0
"""Longer than several of the first questions are apart."""


@dataclass(slots=True)
class Gate:
    """The page behind a laptop's gateway, at this address inside the tunnel."""

    laptop: Protected
    gateway: Gateway | IkeGateway
    inside: IPv4Address

    @property
    def config(self) -> str:
        """The settings that name it."""
        return f'[[sign_in]]\ntunnel = "tunnel"\ncheck = "http://{self.inside}/check"\n'

    def start(self) -> Any:
        """Serve it, in the gateway's machine."""
        served = self.gateway.host.spawn(sys.executable, "-m", "tests.lab.gate_server", log="gate")
        wait_for("the gate", lambda: self._get("/asked") != "", deadline_s=60)
        return served

    def _get(self, path: str) -> str:
        command = ("curl", "-s", "--max-time", "5", f"http://127.0.0.1{path}")
        return self.gateway.host.run(*command, check=False).stdout

    def asked(self) -> list[str]:
        """Who has asked for the check, by the addresses that they came from."""
        return [str(who) for who in json.loads(self._get("/asked"))]

    def shut(self) -> None:
        """Everybody is signed out, and nothing goes through."""
        self._get("/out")
        self.gateway.shut_exit(dead=True)

    def sign_in(self) -> None:
        """What a person's browser does, through the tunnel."""
        url = f"http://{self.inside}/login?token=1"
        shown = self.laptop.lab.host.out("curl", "-s", "--max-time", "10", "-d", "", url)
        assert shown == "You are in.\n"
        self.gateway.shut_exit(dead=False)


@pytest.fixture(scope="module", params=WAYS if WAY is None else ["ike"])
def gate(request: pytest.FixtureRequest) -> Iterator[Gate]:
    """A laptop that is off every network, and whose gateway is shut."""
    way = WAYS[request.param]
    with Protected.build(links=("wlan0",), way=way, start=False) as laptop:
        inside = plan.GATEWAY_INSIDE4 if way is None else laptop.world.ike.pool.inside4
        made = Gate(laptop, laptop.gateway, inside)
        made.start()
        made.shut()
        laptop.lab.write_config(made.config)
        laptop.lab.start_daemon()
        yield made


def told(laptop: Protected) -> str:
    """The problem that names the page."""
    return wait_for(CODE, lambda: laptop.problems().get(CODE, ""), deadline_s=30, poll_s=0.1)


def passes(seconds: float) -> None:
    """Let time pass."""
    until = time.monotonic() + seconds
    wait_for("time to pass", lambda: time.monotonic() >= until, deadline_s=seconds + 5, poll_s=0.2)


def test_told_until_somebody_is_in(gate: Gate) -> None:
    """Connected and protected, status names the page; `aovpnctl sign-in` shows it once and ends when somebody has
    signed in, and then there is no problem. Nothing in clear, before and after; nor does the log repeat itself.
    """
    laptop = gate.laptop
    with laptop.nothing_leaves(JUDGED) as watch:
        laptop.world.roam("home")
        text = watch.until("the problem", lambda: laptop.problems().get(CODE, ""), deadline_s=30)
        status = laptop.lab.status()
        tunnel = only(status, "tunnels")
        assert f"http://{gate.inside}/login?token=" in text
        assert (status["phase"], status["protected"], tunnel["state"]) == ("connected", True, "connected")
        assert tunnel["sign_in"] == "wanted"
        assert tunnel["sign_in_url"].startswith(f"http://{gate.inside}/login?token=")
        assert laptop.address_outside(4) == ""  # the gateway does shut

        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(laptop.lab.ctl, "sign-in", "--timeout", "60s", check=False)
            before = len(gate.asked())
            wait_for("questions", lambda: len(gate.asked()) > before + 1, deadline_s=90)
            assert not waiting.done()
            gate.sign_in()
            signed_in = time.monotonic()
            done = waiting.result()
        took = time.monotonic() - signed_in
        watch.until("the tunnel to work", laptop.works if laptop.way is None else lambda: reaches(laptop))
        assert CODE not in laptop.problems()
    print(f"seen {took:.1f} s after the sign-in; asked {len(gate.asked())} times")

    assert (done.returncode, done.stderr) == (0, "")
    first, last = done.stdout.splitlines()
    assert first.startswith(f"tunnel: sign in with a browser, at http://{gate.inside}/login?token=")
    assert last == "signed in: the gateway of tunnel lets through"
    assert only(laptop.lab.status(), "tunnels")["sign_in"] == "done"
    assert laptop.lab.daemon_log().count("problem: tunnel: its gateway lets nobody through") == 1
    own = laptop.lab.host.out("ip", "-o", "-4", "addr", "show", "dev", LINK)
    assert all(f" {who}/" in own for who in gate.asked())


def reaches(laptop: Protected) -> bool:
    """Whether the internet sees the laptop come from its gateway."""
    return laptop.address_outside(4) == str(plan.GATEWAY4)


def test_nothing_is_asked_when_all_is_well(gate: Gate) -> None:
    """Whoever is in is asked no more, whether programs send or not; roaming asks once."""
    laptop = gate.laptop
    before = len(gate.asked())
    passes(STILL_S)
    assert len(gate.asked()) == before
    laptop.world.unplug("wlan0")
    laptop.lab.wait_phase("offline", deadline_s=20)
    laptop.world.roam("home")
    wait_for("the tunnel", lambda: reaches(laptop), deadline_s=30)
    wait_for("one more question", lambda: len(gate.asked()) > before, deadline_s=10)
    passes(STILL_S)
    assert len(gate.asked()) == before + 1
    assert CODE not in laptop.problems()


def test_the_agent_tells_once(gate: Gate) -> None:
    """`--agent` writes where to sign in one time, however often the page is asked for, and each time with another
    token.
    """
    laptop = gate.laptop
    gate.shut()
    laptop.world.unplug("wlan0")
    laptop.lab.wait_phase("offline", deadline_s=20)
    laptop.world.roam("home")
    told(laptop)
    before = len(gate.asked())
    command = ("timeout", "--preserve-status", "-s", "INT", "10", str(_CTL), "sign-in", "--agent")
    shown = laptop.lab.host.run(*command, check=False, timeout_s=60).stdout
    assert len(gate.asked()) > before
    assert shown.count("sign in with a browser") == 1
    gate.sign_in()


def test_at_rest_nobody_asks(gate: Gate) -> None:
    """A tunnel on demand rests, whatever becomes of the sign-in meanwhile; when a packet wakes it, the page is asked
    for once more, and it is told.
    """
    laptop = gate.laptop
    laptop.lab.stop_daemon()
    laptop.lab.write_config(f'[tunnel]\non_demand = "tunnel"\nrest_after = "5s"\n{gate.config}')
    laptop.lab.start_daemon()
    laptop.lab.wait_phase("resting", deadline_s=60)
    before = len(gate.asked())
    gate.shut()
    passes(STILL_S)
    assert (laptop.lab.status()["phase"], len(gate.asked())) == ("resting", before)

    laptop.address_outside(4)
    told(laptop)
    assert len(gate.asked()) > before


@of_wireguard("which tunnel it is makes no difference to fail-over")
def test_a_gateway_that_waits_is_not_left() -> None:
    """Behind the better gateway nothing answers but its page: it is kept while somebody has to sign in there, and left
    for the next one when there is no such page.
    """
    with Protected.build(links=("wlan0",), way=None, start=False) as laptop:
        _, conf = laptop.world.another_gateway()
        laptop.lab.install_tunnel("next", conf)
        gate = Gate(laptop, laptop.gateway, plan.GATEWAY_INSIDE4)
        served = gate.start()
        gate.shut()
        order = f'[tunnel]\nprefer = ["tunnel", "next"]\n[health]\nprobe = ["{plan.WEB4}:80"]\n'
        laptop.lab.write_config(order + gate.config)
        laptop.lab.start_daemon()
        with laptop.nothing_leaves(JUDGED) as watch:
            laptop.world.roam("home")
            watch.until("the problem", lambda: laptop.problems().get(CODE, ""), deadline_s=30)
            passes(25)
            roles = {tunnel["name"]: tunnel["role"] for tunnel in laptop.lab.status()["tunnels"]}
            assert roles == {"tunnel": "chosen", "next": "standby"}
            assert CODE in laptop.problems()
            stop(served)
            began = time.monotonic()
            watch.until("the next one", lambda: "exit-dead" in laptop.problems(), deadline_s=300)
    print(f"without its page it was left after {time.monotonic() - began:.0f} s")

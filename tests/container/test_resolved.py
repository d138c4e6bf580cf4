# SPDX-License-Identifier: GPL-3.0-or-later
"""Names by the real systemd-resolved, and without it, from within the unit's sandbox.

Programs ask by nss-resolve and by resolved's stub, as Debian has it; what leaves is recorded on the far side.
"""

import itertools
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from aovpnd import names
from tests.container.booted import TUNNEL, Booted
from tests.lab import plan
from tests.lab.process import wait_for
from tests.lab.record import Recording
from tests.lab.senders import new_token

pytestmark = [pytest.mark.container, pytest.mark.root, pytest.mark.slow]

RESOLVED: Final = "systemd-resolved.service"
CONFIG: Final = "/etc/aovpnd/aovpnd.toml"
STUB: Final = "../run/systemd/resolve/stub-resolv.conf"
QUICK_S: Final = 2.0
"""Within this a name that nobody may be asked for has failed; resolved itself gives up after 10 s and more."""
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def through_the_tunnel(laptop: Booted) -> Iterator[None]:
    """Each test begins and ends connected, names through the tunnel by resolved."""
    wait_for("the tunnel's servers", lambda: by_resolved(laptop), poll_s=0.1)
    yield
    laptop.wait_works()
    wait_for("the tunnel's servers", lambda: by_resolved(laptop), poll_s=0.1, deadline_s=20)


# -- what a test asks --------------------------------------------------------------------------------------------------
def asked(laptop: Booted) -> list[str] | None:
    """By what programs are led to the tunnel's servers, as the daemon says; None when they are not."""
    dns = laptop.status()["dns"]
    return None if dns is None else list(dns["by"])


def by_resolved(laptop: Booted) -> bool:
    """Whether the daemon and resolved agree that the tunnel's servers are asked."""
    return asked(laptop) == ["systemd-resolved"] and str(plan.GATEWAY_INSIDE4) in held(laptop)


def held(laptop: Booted) -> str:
    """What resolved holds for the tunnel's link."""
    return laptop.system.run("resolvectl", "status", "aovpn0").stdout


def resolves(laptop: Booted, name: str = plan.WEB_NAME) -> bool:
    """Whether programs find a name: by the C library, and by the stub where that is in use."""
    return str(plan.WEB4) in laptop.system.run("getent", "ahosts", name).stdout


def fails_in_s(laptop: Booted, name: str) -> float:
    """How long a program waits for a name that it does not get."""
    began = time.monotonic()
    assert not laptop.system.run("getent", "ahosts", name).stdout
    return time.monotonic() - began


def fails_quickly(laptop: Booted) -> None:
    """Names fail within `QUICK_S`, once resolved has learned that a server is out of reach, which takes it 8 s."""
    fails_in_s(laptop, plan.GATEWAY_NAME)
    assert fails_in_s(laptop, plan.GATEWAY_NAME) < QUICK_S
    assert fails_in_s(laptop, new_name()) < QUICK_S


def new_name() -> str:
    """A name that nobody has in a cache."""
    return f"n{next(_numbers)}.example.org"


@contextmanager
def recorded(laptop: Booted) -> Iterator[list[Recording]]:
    """What the far side saw; the list is filled when the block is left."""
    seen: list[Recording] = []
    with laptop.world.record() as recorder:
        yield seen
        seen.append(recorder.recording(new_token()))


def dns_in_clear(recording: Recording) -> set[str]:
    """Where DNS went in clear: address and port."""
    return {frame.what.partition(" to ")[2] for frame in recording.clear() if ":udp:dns " in frame.what}


# -- systemd-resolved --------------------------------------------------------------------------------------------------
def test_names_go_through_the_tunnel(laptop: Booted) -> None:
    """Found by every way that programs ask, and nothing of it is seen outside; LLMNR and mDNS are off on our link."""
    with laptop.net.nothing_leaves():
        assert resolves(laptop)
        assert str(plan.WEB4) in laptop.system.check("getent", "-s", "dns", "ahostsv4", plan.WEB_NAME)
        assert str(plan.WEB4) in laptop.system.check("resolvectl", "query", "--cache=no", plan.WEB_NAME)
        assert fails_in_s(laptop, new_name()) < QUICK_S
    assert "+DefaultRoute -LLMNR -mDNS -DNSOverTLS" in held(laptop)
    assert laptop.system.check("readlink", names.RESOLV_CONF).strip() == STUB


@pytest.mark.parametrize("how", ["kill", "restart", "stopped for a while"])
def test_resolved_goes(laptop: Booted, how: str) -> None:
    """However it goes, no packet notices; names come back with it."""
    system = laptop.system
    before = system.main_pid(RESOLVED)
    with laptop.net.nothing_leaves() as watch:
        match how:
            case "kill":
                system.kill(RESOLVED)
            case "restart":
                system.check("systemctl", "restart", RESOLVED)
            case _:
                system.check("systemctl", "stop", RESOLVED)
                watch.everybody_tries()
                assert laptop.status()["phase"] == "connected"
                system.check("systemctl", "start", RESOLVED)
        watch.until("a new one", lambda: system.main_pid(RESOLVED) not in {0, before})
        watch.until("names", lambda: by_resolved(laptop) and resolves(laptop))


def test_resolved_hangs(laptop: Booted) -> None:
    """It is told as a problem; commands are answered all the same, and it is put right when it wakes."""
    system = laptop.system
    with laptop.net.nothing_leaves() as watch:
        system.kill(RESOLVED, signal.SIGSTOP)
        try:
            began = time.monotonic()
            system.check("aovpnctl", "disconnect")
            system.check("aovpnctl", "connect")
            assert time.monotonic() - began < 6
            watch.until("a problem", lambda: "dns-failed" in _problems(laptop))
            watch.until("the tunnel all the same", lambda: laptop.status()["phase"] == "connected")
        finally:
            system.kill(RESOLVED, signal.SIGCONT)
        watch.until(
            "it to be healed", lambda: by_resolved(laptop) and "dns-failed" not in _problems(laptop), deadline_s=60
        )


def _problems(laptop: Booted) -> set[str]:
    return {problem["code"] for problem in laptop.status()["problems"]}


def test_somebody_else_tells_resolved(laptop: Booted) -> None:
    """Another program that sets our link's servers, or reverts it, is put right within moments."""
    for words in (("revert", "aovpn0"), ("dns", "aovpn0", "192.0.2.66")):
        laptop.system.check("resolvectl", *words)
        wait_for("the tunnel's servers", lambda: by_resolved(laptop), poll_s=0.05, deadline_s=5)
        assert "192.0.2.66" not in held(laptop)


def test_a_window(laptop: Booted) -> None:
    """In a window the lease's resolver is asked and no other, with nothing left in a cache; behind it the tunnel's."""
    system = laptop.system
    system.write(CONFIG, '[temporary_access]\nwhile_connected = "pause"\n')
    system.check("systemctl", "reload", names.UNIT)
    try:
        assert resolves(laptop)
        with recorded(laptop) as seen:
            system.check("aovpnctl", "allow-temp", "60s")
            assert "DNS Servers" not in held(laptop)
            assert resolves(laptop)
        resolvers = {f"{router} port 53" for router in (plan.HOME.router4, plan.HOME.router6)}
        assert dns_in_clear(seen[0])
        assert dns_in_clear(seen[0]) <= resolvers
        system.check("aovpnctl", "allow-temp", "--cancel")
        with laptop.net.nothing_leaves():
            assert by_resolved(laptop)
            assert resolves(laptop)
    finally:
        system.write(CONFIG, "")
        system.check("systemctl", "reload", names.UNIT)


def test_disconnected(laptop: Booted) -> None:
    """Without a tunnel names fail at once, and nothing of them is seen."""
    with laptop.net.nothing_leaves():
        laptop.system.check("aovpnctl", "disconnect")
        assert asked(laptop) is None
        fails_quickly(laptop)
        laptop.system.check("aovpnctl", "connect")
        laptop.wait_works()


def test_split(laptop: Booted) -> None:
    """A narrow tunnel with domains: their names go to its servers, all others to nobody, and at once."""
    system = laptop.system
    whole = laptop.world.laptop.tunnel_conf
    narrow = whole.replace("AllowedIPs = 0.0.0.0/0, ::/0", "AllowedIPs = 10.66.0.0/24, fd66::/64")
    narrow = narrow.replace(str(plan.GATEWAY_INSIDE6), f"{plan.GATEWAY_INSIDE6}, ~example.com")
    with laptop.net.nothing_leaves() as watch:
        system.write(TUNNEL, narrow, 0o600)
        system.check("aovpnctl", "connect")
        watch.until("a split", lambda: (laptop.status()["dns"] or {}).get("scope") == "domains")
        watch.until("its names", lambda: resolves(laptop))
        assert "~example.com" in held(laptop)
        assert "-DefaultRoute" in held(laptop)
        assert fails_in_s(laptop, plan.GATEWAY_NAME) < QUICK_S
        system.write(TUNNEL, whole, 0o600)
        system.check("aovpnctl", "connect")
        laptop.wait_works()


# -- without it --------------------------------------------------------------------------------------------------------
def test_without_resolved(laptop: Booted) -> None:
    """Then /etc/resolv.conf itself is written, from within the unit's walls; whoever overwrites it, it comes back."""
    system = laptop.system

    def conf() -> str:
        return system.run("cat", names.RESOLV_CONF).stdout

    def write(text: str) -> None:
        system.write(f"{names.RESOLV_CONF}.new", text)
        system.check("mv", f"{names.RESOLV_CONF}.new", names.RESOLV_CONF)

    lease = f"nameserver {plan.HOME.router4}\n"
    # Masked, or the next call over D-Bus would start it again.
    system.shell(f"systemctl mask --runtime --now {RESOLVED}")
    try:
        with laptop.net.nothing_leaves() as watch:
            write(lease)
            watch.until("ours", lambda: asked(laptop) == ["resolv.conf"] and resolves(laptop))
            assert conf().startswith(names.RESOLV_CONF_MARK)
            write(f"# newer\n{lease}")
            watch.until("ours again", lambda: conf().startswith(names.RESOLV_CONF_MARK) and resolves(laptop))
            system.check("aovpnctl", "disconnect")
            assert conf() == f"# newer\n{lease}"
            assert fails_in_s(laptop, new_name()) < QUICK_S
            system.check("aovpnctl", "connect")
            watch.until("ours again", lambda: conf().startswith(names.RESOLV_CONF_MARK) and resolves(laptop))
    finally:
        system.shell(f"systemctl unmask --runtime {RESOLVED}; systemctl start {RESOLVED}")
        system.shell(f"ln -sf {STUB} {names.RESOLV_CONF}")
    wait_for("resolved", lambda: by_resolved(laptop), poll_s=0.1, deadline_s=20)
    assert not system.run("ls", f"/var/lib/aovpnd/{names.RESOLV_CONF_SAVED}").stdout

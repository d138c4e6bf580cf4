# SPDX-License-Identifier: GPL-3.0-or-later
"""Gateways that wait for somebody's browser: when a page is asked for, what is told of it, and that nothing else
follows from it.
"""

import json
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Final

import pytest

from aovpnd.core import browser
from aovpnd.core import intent as memory
from aovpnd.core.decide import decide, permitted
from aovpnd.core.health import RETRY_S
from aovpnd.filters import Direction, Filter
from aovpnd.inquiries import ProbeTunnel, Unanswered, Visited, VisitPage
from aovpnd.model import Config, Intent, Phase, Severity
from aovpnd.orders import Connect, EnsureTunnel
from aovpnd.pages import Check, Page, Scheme, Visit
from aovpnd.ruleset import L4
from aovpnd.status import document
from aovpnd.tunnel import Endpoint
from aovpnd.users import User
from tests.unit.small_world import CORP, HOME, SERVER4, SERVER6, WORK
from tests.unit.world import NO_PAGE, Laptop

PAGE: Final = Page(Scheme.HTTP, SERVER4, 80)
NAMED: Final = Page(Scheme.HTTPS, "portal.example.com", 8443, "/check?a=b")
LOGIN: Final = "http://10.64.0.1/login?from=here"
CONFIGS: Final = {
    "wireguard": Config((WORK,), sign_in=(Check("work", PAGE),)),
    "ike": Config((CORP,), sign_in=(Check("corp", PAGE),)),
}
TWO: Final = Config(
    (HOME, WORK),
    prefer=("work", "home"),
    probe=(Endpoint(ip_address("198.51.100.9"), 443),),
    sign_in=(Check("work", PAGE),),
)
OFFICE: Final = replace(
    WORK, peers=(replace(WORK.peers[0], allowed=(ip_network("10.0.0.0/8"),)), *WORK.peers[1:1]), dns=(SERVER4,)
)


def connected(config: Config, page: str | None = None, *, busy: bool = True) -> Laptop:
    """A laptop at home that has just connected, and whose gateway sends it to that page."""
    machine = Laptop(config)
    machine.page, machine.busy = page, busy
    machine.join("home")
    passes(machine, 5)
    assert at(machine) is Phase.CONNECTED
    return machine


def at(machine: Laptop) -> Phase:
    """The phase now; a function, so that nobody takes it for what it was before."""
    return machine.phase


def passes(machine: Laptop, seconds: int) -> int:
    """Let time pass; returns how often the page was asked for."""
    before, left = len(machine.visited), float(seconds)
    while left > 0:
        step = min(left, max(seconds / 10, 5.0))
        machine.wait(step)
        left -= step
    return len(machine.visited) - before


def told(machine: Laptop) -> dict[str, str]:
    """What status says of sign-ins: code to text."""
    found = machine.settle().problems
    return {problem.code: problem.text for problem in found if problem.code.startswith("sign-in")}


def shown(machine: Laptop, name: str) -> tuple[object, object]:
    """What is published of a tunnel's sign-in."""
    whole = json.loads(json.dumps(document(machine.config, machine.intent, machine.snapshot, machine.settle())))
    (tunnel,) = [each for each in whole["tunnels"] if each["name"] == name]
    return tunnel["sign_in"], tunnel["sign_in_url"]


# -- when it is asked for ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", CONFIGS)
def test_asked_once(name: str) -> None:
    """When the tunnel has connected; not again while nobody sends, nor before ten minutes while somebody does."""
    machine = connected(CONFIGS[name], busy=False)
    assert len(machine.visited) == 1
    assert passes(machine, 3600) == 0

    machine.busy = True
    assert passes(machine, 120) == 1
    assert passes(machine, 460) == 0
    assert passes(machine, 140) == 1
    assert told(machine) == {}
    assert shown(machine, machine.config.tunnels[0].name) == ("done", None)


def test_nobody_asks_without_a_check() -> None:
    """Of a tunnel that has none, whatever the settings say of others."""
    machine = connected(replace(CONFIGS["wireguard"], sign_in=(Check("home", PAGE),)), LOGIN)
    assert passes(machine, 900) == machine.visited.count(0.0) == 0
    assert shown(machine, "work") == (None, None)


@pytest.mark.parametrize("name", CONFIGS)
def test_wanted(name: str) -> None:
    """It is told with the URL, in a tunnel that is connected and protected, asked again with back-off, and goes within
    moments of the sign-in.
    """
    machine = connected(CONFIGS[name], LOGIN, busy=False)
    tunnel = machine.config.tunnels[0].name
    (problem,) = [each for each in machine.settle().problems if each.code == "sign-in-by-browser"]
    assert problem.text == f"{tunnel}: its gateway lets nobody through before a sign-in with a browser, at {LOGIN}"
    assert (problem.severity, problem.hint) == (Severity.WARNING, f"aovpnctl sign-in {tunnel}")
    assert shown(machine, tunnel) == ("wanted", LOGIN)
    assert at(machine) is Phase.CONNECTED

    for _ in range(300):
        machine.wait(1.0)
    waits = [round(later - before) for before, later in zip(machine.visited, machine.visited[1:], strict=False)]
    assert waits[: len(RETRY_S)] == pytest.approx(RETRY_S, abs=1.1)
    assert waits[len(RETRY_S) :] == pytest.approx([60] * (len(waits) - len(RETRY_S)), abs=1.1)

    machine.page = None
    assert 0 < passes(machine, 62) <= 2
    assert told(machine) == {}
    assert shown(machine, tunnel) == ("done", None)
    assert passes(machine, 600) == 0


def test_it_ends_later() -> None:
    """The gateway's session runs out: whoever uses the tunnel hears of it within ten minutes."""
    machine = connected(CONFIGS["wireguard"])
    machine.page = LOGIN
    passes(machine, 620)
    assert "sign-in-by-browser" in told(machine)


def test_another_url() -> None:
    """The one that is told is the last one."""
    machine = connected(CONFIGS["wireguard"], LOGIN)
    machine.page = LOGIN + "2"
    passes(machine, 10)
    assert shown(machine, "work") == ("wanted", LOGIN + "2")


def test_nothing_is_claimed() -> None:
    """A page that does not answer says nothing: no problem, and ever fewer questions while somebody sends."""
    machine = connected(CONFIGS["wireguard"], NO_PAGE)
    assert (told(machine), shown(machine, "work")) == ({}, (None, None))
    assert 4 <= passes(machine, 300) <= 6
    assert passes(machine, 3600) <= 8
    machine.busy = False
    passes(machine, 700)
    assert passes(machine, 1800) == 0


def test_what_was_wanted_is_forgotten() -> None:
    """One answer that is lost takes nothing back; two in a row do, and then nothing is claimed, nor that he is in."""
    machine = connected(CONFIGS["wireguard"], LOGIN)
    machine.page = NO_PAGE
    while not (machine.intent.visit is not None and machine.intent.visit.vain == 1):
        passes(machine, 1)
    assert shown(machine, "work") == ("wanted", LOGIN)
    passes(machine, 120)
    assert (told(machine), shown(machine, "work")) == ({}, (None, None))
    machine.page = LOGIN
    passes(machine, 120)
    assert shown(machine, "work") == ("wanted", LOGIN)


def test_roaming_asks_again() -> None:
    """Another path is another session: asked once, whatever was known; off every network nothing is known."""
    machine = connected(CONFIGS["wireguard"], busy=False)
    machine.page = LOGIN
    machine.join("cafe")
    assert passes(machine, 1) == 1
    assert "sign-in-by-browser" in told(machine)
    machine.leave()
    passes(machine, 5)
    assert (told(machine), machine.intent.visit) == ({}, None)
    machine.page = None
    machine.join("home")
    assert passes(machine, 5) == 1
    assert told(machine) == {}


def test_a_new_session_asks_again() -> None:
    """Also over the same path."""
    machine = connected(CONFIGS["wireguard"])
    machine.answers = False
    passes(machine, 60)
    assert at(machine) is Phase.CONNECTING
    before = len(machine.visited)
    machine.answers = True
    passes(machine, 60)
    assert len(machine.visited) == before + 1


def test_another_check() -> None:
    """What was known of another page is forgotten."""
    machine = connected(CONFIGS["wireguard"], LOGIN, busy=False)
    machine.config = replace(machine.config, sign_in=(Check("work", NAMED),))
    machine.page = None
    assert passes(machine, 2) == 1
    assert told(machine) == {}


# -- at rest -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", CONFIGS)
def test_never_at_rest(name: str) -> None:
    """A tunnel on demand comes to rest although somebody has to sign in, is asked nothing then, and is not woken; what
    is known is still told.
    """
    config = CONFIGS[name]
    tunnel = config.tunnels[0].name
    machine = connected(replace(config, on_demand=(tunnel,), rest_after_s=30), LOGIN, busy=False)
    while at(machine) is not Phase.RESTING:
        assert passes(machine, 1) < 2
    assert 1 < len(machine.visited) < len(RETRY_S)  # another question was to come soon
    assert shown(machine, tunnel) == ("wanted", LOGIN)
    assert passes(machine, 300) == passes(machine, 3600) == 0
    assert not decide(machine.config, machine.intent, machine.snapshot).inquiries
    machine.join("cafe")
    assert passes(machine, 600) == 0
    assert at(machine) is Phase.RESTING

    machine.page, before = None, len(machine.visited)
    machine.settle(Connect())
    passes(machine, 3)
    assert len(machine.visited) == before + 1
    assert (at(machine), told(machine)) == (Phase.CONNECTED, {})


def test_another_check_at_rest() -> None:
    """Nothing is known of it."""
    machine = connected(replace(CONFIGS["wireguard"], on_demand=("work",), rest_after_s=60), busy=False)
    passes(machine, 300)
    assert machine.intent.visit is not None
    machine.config = replace(machine.config, sign_in=(Check("work", NAMED),))
    passes(machine, 2)
    assert at(machine) is Phase.RESTING
    assert machine.intent.visit is None


# -- what else does not follow from it ---------------------------------------------------------------------------------
def carrier(machine: Laptop) -> str:
    """The tunnel that carries."""
    return next(wish.spec.name for wish in machine.settle().tunnels)


def test_no_other_tunnel_takes_over() -> None:
    """Nothing comes back from behind a gateway that waits for a browser: no probe asks, and it is not left. Where the
    page says nothing, probes decide as ever.
    """
    machine = connected(TWO, LOGIN)
    machine.dead_exits = {"work"}
    assert passes(machine, 900) > 10
    assert (carrier(machine), machine.asked, at(machine)) == ("work", [], Phase.CONNECTED)
    assert "exit-dead" not in {problem.code for problem in machine.settle().problems}

    machine.page = NO_PAGE
    passes(machine, 300)
    assert carrier(machine) == "home"


def test_a_dead_end_that_turns_out_to_wait() -> None:
    """The session at the gateway ends while programs send: the probe finds nothing, the page says why, and it stays."""
    machine = connected(TWO)
    passes(machine, 30)
    machine.dead_exits, machine.page = {"work"}, LOGIN
    passes(machine, 600)
    assert (carrier(machine), at(machine)) == ("work", Phase.CONNECTED)
    assert "sign-in-by-browser" in told(machine)


def test_a_probe_that_was_asked_before() -> None:
    """Its answer comes too late to take anything away."""
    machine = connected(TWO, LOGIN)
    assert machine.intent.visit is not None
    asked = ProbeTunnel(1, "aovpn0", machine.intent.visit.path)
    assert memory.learn(machine.intent, Unanswered(asked, "")) == machine.intent
    other = memory.learn(machine.intent, Unanswered(replace(asked, path="other"), ""))
    assert other.doubt is not None


def test_an_answer_that_comes_late() -> None:
    """Of another path, another page, or when nobody asks any more."""
    machine = connected(CONFIGS["wireguard"])
    visit = machine.intent.visit
    assert visit is not None
    asked = VisitPage(1, "aovpn0", visit.path, PAGE)
    for late in (replace(asked, path="other"), replace(asked, page=NAMED)):
        assert memory.learn(machine.intent, Visited(late, LOGIN)) == machine.intent
    assert memory.learn(Intent(), Visited(asked, LOGIN)) == Intent()


def test_nothing_is_opened_for_it() -> None:
    """The ruleset is the same with it and without."""
    machine = connected(CONFIGS["wireguard"], LOGIN)
    without = replace(machine.config, sign_in=())
    assert permitted(machine.config, machine.intent, machine.snapshot) == permitted(
        without, machine.intent, machine.snapshot
    )


def test_only_once_the_tunnel_stands() -> None:
    """Whatever is killed on the way there: nobody asks before the last action has been performed."""
    machine = Laptop(CONFIGS["wireguard"])
    seen = []
    machine.watch = lambda now: seen.append(len(now.visited))
    machine.join("home")
    passes(machine, 5)
    assert any(isinstance(action, EnsureTunnel) for action in machine.done)
    assert (set(seen), len(machine.visited)) == ({0}, 1)


# -- whom --------------------------------------------------------------------------------------------------------------
def asked(config: Config, page: str | None = None) -> tuple[VisitPage, ...]:
    """What a tunnel that has just connected would ask."""
    machine = connected(replace(config, sign_in=()), page)
    machine.config = config
    machine.intent = memory.settle(config, machine.intent, machine.snapshot)
    found = decide(config, machine.intent, machine.snapshot).inquiries
    return tuple(inquiry for inquiry in found if isinstance(inquiry, VisitPage))


def test_what_is_asked() -> None:
    """The page, by the tunnel's link alone; its name of the tunnel's own servers."""
    (by_address,) = asked(CONFIGS["wireguard"])
    assert (by_address.link_name, by_address.page, by_address.resolvers) == ("aovpn0", PAGE, ())
    assert by_address.describe() == "ask for a page through aovpn0"
    (by_name,) = asked(replace(CONFIGS["wireguard"], sign_in=(Check("work", NAMED),)))
    assert (by_name.page, by_name.resolvers) == (NAMED, (SERVER4, SERVER6))


HTTP_ALONE: Final = (Filter(Direction.OUT, addresses=(ip_network("10.64.0.1/32"),), protocols=(L4.TCP,), ports=(80,)),)


@pytest.mark.parametrize(
    ("spec", "page", "filters", "why"),
    [
        pytest.param(WORK, PAGE, HTTP_ALONE, None, id="a filter lets it out"),
        pytest.param(
            WORK,
            replace(PAGE, port=81),
            HTTP_ALONE,
            "work does not lead to 10.64.0.1:81, or its filters do not let it out",
            id="none does",
        ),
        pytest.param(
            WORK,
            NAMED,
            HTTP_ALONE,
            "work has no name server that may be asked for portal.example.com",
            id="nor to a name server",
        ),
        pytest.param(OFFICE, PAGE, (), None, id="a network of the tunnel"),
        pytest.param(
            OFFICE,
            replace(PAGE, host=ip_address("192.168.7.1")),
            (),
            "work does not lead to 192.168.7.1:80, or its filters do not let it out",
            id="none of them",
        ),
        pytest.param(
            replace(WORK, dns=()),
            NAMED,
            (),
            "work has no name server that may be asked for portal.example.com",
            id="no name server",
        ),
    ],
)
def test_filters_and_networks(spec: type(WORK), page: Page, filters: tuple[Filter, ...], why: str | None) -> None:  # type: ignore[valid-type]
    """A question goes where any packet may, and nowhere else; where it cannot, somebody is told."""
    config = Config((spec,), sign_in=(Check("work", page),), filters=(("work", filters),))
    assert len(asked(config)) == (why is None)

    machine = connected(config, LOGIN)
    text = f"nobody is told when work waits for a sign-in with a browser: {why}"
    assert told(machine).get("sign-in-unasked") == (None if why is None else text)


def test_only_the_tunnel_that_carries() -> None:
    """A companion, or a user's own tunnel, is not asked, and status says so."""
    mgmt = replace(OFFICE, name="mgmt", addresses=(ip_interface("10.9.9.2/32"),))
    for config in (
        Config((WORK, mgmt), prefer=("work",), companions=("mgmt",), sign_in=(Check("mgmt", PAGE),)),
        Config(
            (WORK, mgmt), prefer=("work",), users=(User("alice", 1000, only="mgmt"),), sign_in=(Check("mgmt", PAGE),)
        ),
    ):
        machine = connected(config, LOGIN)
        assert passes(machine, 60) == len(machine.visited) == 0
        assert told(machine) == {
            "sign-in-unasked": "nobody is told when mgmt waits for a sign-in with a browser: mgmt stands beside, and"
            " only the tunnel that carries is asked"
        }


def test_a_counter_that_begins_anew() -> None:
    """What was counted before it says nothing against what is sent now."""
    machine = connected(CONFIGS["wireguard"], busy=False)
    assert machine.intent.visit is not None
    machine.intent = replace(machine.intent, visit=replace(machine.intent.visit, tx_bytes=10**9))
    machine.busy = True
    assert passes(machine, 660) == 1


@pytest.mark.parametrize(
    ("visit", "at"),
    [
        pytest.param(Visit(Check("work", PAGE), "path", 5.0), 5.0, id="at once"),
        pytest.param(Visit(Check("work", PAGE), "path", 5.0, times=1), None, id="not before it is taken in"),
        pytest.param(Visit(Check("work", PAGE), "path", 5.0, 10.0, times=1), 610.0, id="all is well"),
        pytest.param(Visit(Check("work", PAGE), "path", 5.0, 10.0, wanted=LOGIN, times=1), 12.0, id="wanted"),
        pytest.param(Visit(Check("work", PAGE), "path", 5.0, 10.0, wanted=LOGIN, times=1, vain=1), 13.0, id="lost"),
        pytest.param(Visit(Check("work", PAGE), "path", 5.0, 10.0, wanted=LOGIN, times=99), 70.0, id="at most"),
        pytest.param(Visit(Check("work", PAGE), "path", 5.0, 10.0, vain=1), 20.0, id="in vain"),
        pytest.param(Visit(Check("work", PAGE), "path", 5.0, 10.0, vain=99), 610.0, id="in vain for long"),
    ],
)
def test_when_it_is_due(visit: Visit, at: float | None) -> None:
    """And the loop wakes for it."""
    assert browser.due_at(visit) == at
    assert list(browser.moments(replace(Intent(), visit=visit))) == ([at] if at is not None else [])


@pytest.mark.parametrize(
    ("page", "text", "authority"),
    [
        (PAGE, "http://10.64.0.1/", "10.64.0.1"),
        (NAMED, "https://portal.example.com:8443/check?a=b", "portal.example.com:8443"),
        (Page(Scheme.HTTPS, SERVER6, 443, "/x"), "https://[fd64::1]/x", "[fd64::1]"),
        (Page(Scheme.HTTP, SERVER6, 443), "http://[fd64::1]:443/", "[fd64::1]:443"),
    ],
)
def test_a_page_as_a_url(page: Page, text: str, authority: str) -> None:
    """As a browser and as a request have it."""
    assert (str(page), page.authority) == (text, authority)

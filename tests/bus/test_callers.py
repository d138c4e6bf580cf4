# SPDX-License-Identifier: GPL-3.0-or-later
"""How a call is treated: what polkit is asked, what the daemon is told, what odd calls and slow people do to others."""

import pwd
from collections.abc import Iterator
from typing import Final

import pytest

from aovpnd.bus.turns import PLACES_EACH
from aovpnd.doors import Door
from aovpnd.errors import CommandRefused
from aovpnd.orders import AllowTemporary, Connect
from tests.bus.private_bus import BUS_USER
from tests.bus.stage import AS_ROOT, DEADLINE_S, USER, Caller, Stage, stage
from tests.lab.process import wait_for

NO, ASK, YES = "NotAuthorised", "AuthenticationRequired", "done"
ARGUMENTS: Final[dict[str, tuple[object, ...]]] = {
    "AllowTemporaryAccess": ("(us)", 60, "hotel portal"),
    "OpenPortal": ("(u)", 60),
    "Connect": ("(s)", "home"),
    "Explain": ("(s)", ""),
}


@pytest.fixture(scope="module")
def scene() -> Iterator[Stage]:
    """One stage for this file."""
    with stage() as built:
        yield built


@pytest.fixture(autouse=True)
def fresh(scene: Stage) -> None:
    """Each test begins with a polkit that is well, and a daemon that was asked nothing."""
    if scene.polkit is None:
        scene.start_services()
    scene.forget()


@pytest.fixture(scope="module")
def user(scene: Stage) -> Caller:
    """An ordinary user on the bus."""
    return scene.caller()


def wait_asked(scene: Stage, count: int) -> None:
    """Wait until polkit was asked so often."""
    wait_for("polkit to be asked", lambda: len(scene.authority.asked) >= count, deadline_s=DEADLINE_S, poll_s=0.01)


def ask(caller: Caller, method: str, *, interactive: bool = False) -> str:
    """Call a method with arguments that are good."""
    signature, *arguments = ARGUMENTS.get(method, ("()",))
    return caller.code(method, str(signature), *arguments, interactive=interactive)


def test_subject_is_the_bus_name(scene: Stage, user: Caller) -> None:
    """Polkit is asked by our process about the caller's unique name; the flags are the caller's own wish."""
    for interactive in (False, True):
        scene.authority.asked.clear()
        ask(user, "OpenPortal", interactive=interactive)
        assert {(asked.kind, *asked.subject.items()) for asked in scene.authority.asked} == {
            ("system-bus-name", ("name", user.name))
        }
        assert {asked.flags for asked in scene.authority.asked} == {int(interactive)}
        assert [asked.action for asked in scene.authority.asked] == ["org.aovpnd1.portal", "org.aovpnd1.allow-temp"]
        assert {asked.asker for asked in scene.authority.asked} != {user.name}


def test_permission_is_for_one_call(scene: Stage, user: Caller) -> None:
    """The next call of the same program is asked about again, and so is every other argument."""
    scene.authority.minds.agent = "right"
    assert ask(user, "AllowTemporaryAccess", interactive=True) == YES
    scene.authority.minds.agent = "none"
    assert ask(user, "AllowTemporaryAccess", interactive=True) == ASK
    assert len(scene.authority.asked) == 2


def test_person_is_named(scene: Stage, user: Caller) -> None:
    """The daemon is told for whom it opens, by the uid that the bus knows and not by what the caller says."""
    scene.authority.minds.agent = "right"
    answer = user.call("AllowTemporaryAccess", "(us)", 60, "hotel portal", interactive=True)

    assert answer == {"values": ["done", 5_000_000]}
    assert scene.daemon.asked == [AllowTemporary(60, "hotel portal", pwd.getpwuid(USER).pw_name, Door.BUS)]


def test_refusal_of_the_daemon_is_the_answer(scene: Stage, user: Caller) -> None:
    """With its code as the name of the error, its words, and its hint."""
    scene.daemon.answer = CommandRefused("there is no tunnel called x", hint="there are: home", code="tunnel-unknown")

    assert user.call("Connect", "(s)", "x") == {
        "error": "org.aovpnd1.Error.TunnelUnknown",
        "text": "there is no tunnel called x (there are: home)",
    }


def test_too_many_at_once(scene: Stage, user: Caller) -> None:
    """One user's waiting calls are bounded; the rest is refused at once, and what is only read still is."""
    scene.authority.minds.mode = "late"
    crowd = scene.caller()
    crowd.tell(vanish=True, count=60, method="Connect", signature="(s)", arguments=["home"])
    crowd.answer()
    wait_asked(scene, PLACES_EACH)
    assert ask(user, "Connect") == "Busy"
    assert len(scene.authority.asked) == PLACES_EACH
    assert ask(user, "Status") == YES
    crowd.tell()
    crowd.answer()
    scene.authority.minds.mode = "normal"
    wait_for("a place to come free", lambda: ask(user, "Connect") == YES, deadline_s=DEADLINE_S)


def test_one_who_hesitates_blocks_nobody(scene: Stage, user: Caller) -> None:
    """While somebody's password is waited for, others are served."""
    scene.authority.minds.mode = "late"
    slow = scene.caller()
    slow.tell(method="Connect", signature="(s)", arguments=["work"], interactive=True)
    wait_asked(scene, 1)
    scene.authority.minds.mode = "normal"
    assert ask(user, "Connect") == YES
    assert ask(user, "Status") == YES
    assert scene.daemon.asked == [Connect("home")]
    scene.authority.say_yes()
    assert slow.answer() == {"values": ["done"]}
    assert scene.daemon.asked == [Connect("home"), Connect("work")]


def test_name_cannot_be_taken(scene: Stage, user: Caller) -> None:
    """Nobody replaces the one who has the name: others may not own it, and our own user may not replace."""
    driver = {"name": "org.freedesktop.DBus", "path": "/org/freedesktop/DBus", "interface": "org.freedesktop.DBus"}
    allow_replacement, replace = 1, 2
    flags = allow_replacement | replace | 4
    if AS_ROOT:
        for uid in (USER, 0):
            other = scene.caller(uid)
            assert other.code("RequestName", "(su)", "org.aovpnd1", flags, **driver) == "AccessDenied"
    ours = scene.caller(BUS_USER)
    assert ours.call("RequestName", "(su)", "org.aovpnd1", flags, **driver) == {"values": [3]}  # somebody has it
    assert ask(user, "Connect") == YES


@pytest.mark.parametrize(
    ("method", "signature", "arguments", "error"),
    [
        ("Connect", "(u)", [1], "InvalidArgs"),
        ("Connect", "()", [], "InvalidArgs"),
        ("AllowTemporaryAccess", "(si)", ["a", 1], "InvalidArgs"),
        ("Explode", "()", [], "UnknownMethod"),
        ("call_method", "()", [], "UnknownMethod"),
        ("PropertiesChanged", "()", [], "UnknownMethod"),
    ],
)
def test_wrong_calls_are_refused(
    scene: Stage, user: Caller, method: str, signature: str, arguments: list[object], error: str
) -> None:
    """What does not fit the interface is refused before anything of ours sees it."""
    assert user.code(method, signature, *arguments) == error
    assert (scene.authority.asked, scene.daemon.asked) == ([], [])
    assert ask(user, "Status") == YES


@pytest.mark.parametrize("times", [2_000, 1_000_000, 20_000_000])
def test_long_strings_are_refused(scene: Stage, user: Caller, times: int) -> None:
    """Megabytes are refused, and change nothing for the next caller."""
    assert user.code("Connect", "(s)", "x", times=times) == "BadRequest"
    assert user.code("AllowTemporaryAccess", "(us)", 1, "x" * times if times < 10_000 else "y" * 70_000) == "BadRequest"
    assert (scene.authority.asked, scene.daemon.asked) == ([], [])
    assert ask(user, "Status") == YES


def test_properties_can_be_read_and_not_set(user: Caller) -> None:
    """By D-Bus' own interface."""
    place = {"interface": "org.freedesktop.DBus.Properties"}
    manager = "org.aovpnd1.Manager"

    assert user.call("GetAll", "(s)", manager, **place) == {
        "values": [{"Phase": "connected", "Protected": True, "Tunnel": "home", "TemporaryAccessUntil": 0}]
    }
    assert user.call("Get", "(ss)", manager, "Phase", **place) == {"values": ["connected"]}
    assert user.code("Get", "(ss)", manager, "Secret", **place) == "InvalidArgs"
    assert user.code("GetAll", "(s)", "com.example", **place) != YES

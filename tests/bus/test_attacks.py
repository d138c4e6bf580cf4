# SPDX-License-Identifier: GPL-3.0-or-later
"""What callers try: to vanish, to have one call authorised and make another, to be somebody else, to be many."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import pytest
from gi.repository import Gio, GLib

from aovpnd.bus.dbus import _Gate
from aovpnd.bus.turns import Turns
from aovpnd.orders import AllowTemporary, Connect, PrepareSleep
from tests.bus import flooder
from tests.bus.services import Login, Service
from tests.bus.stage import AS_ROOT, DEADLINE_S, USER, Caller, Stage, others, stage
from tests.lab.process import wait_for

DRIVER: Final = {"name": "org.freedesktop.DBus", "path": "/org/freedesktop/DBus", "interface": "org.freedesktop.DBus"}
EVERY_FLAG: Final = 7
"""Of RequestName: allow replacement, replace, do not queue."""
KIBIBYTES: Final = 4096
"""How much memory may grow by chance."""


@pytest.fixture(scope="module")
def scene() -> Iterator[Stage]:
    """One stage for this file, with logind."""
    with stage(login=True) as built:
        yield built


@pytest.fixture(autouse=True)
def fresh(scene: Stage) -> None:
    """Each test begins with a polkit that is well, and a daemon that was asked nothing."""
    scene.forget()


@pytest.fixture(scope="module")
def people(scene: Stage) -> tuple[Caller, ...]:
    """A program of every user that we can be."""
    return tuple(scene.caller(uid) for uid in dict.fromkeys((USER, *others())))


def logind(scene: Stage) -> Login:
    """The stand-in of logind."""
    assert scene.login is not None
    return scene.login


def wait_asked(scene: Stage, count: int) -> None:
    """Wait until polkit was asked so often."""
    wait_for("polkit to be asked", lambda: len(scene.authority.asked) >= count, deadline_s=DEADLINE_S, poll_s=0.01)


def order(method: str, signature: str = "()", *arguments: object, interactive: bool = False) -> dict[str, Any]:
    """A call for a crowd."""
    return {"method": method, "signature": signature, "arguments": arguments, "interactive": interactive}


# ── to vanish ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_thousand_callers_vanish(scene: Stage, people: tuple[Caller, ...]) -> None:
    """A thousand programs ask and hang up: half of them while polkit thinks, which then says yes to all, half at once
    (CVE-2021-3560). Nothing is done, and nothing is left: memory, descriptors, rules for signals, questions.
    """
    authority = scene.authority
    authority.minds.mode = "late"
    each, rounds = (4, 10) if AS_ROOT else (4, 125)
    connect: dict[str, Any] = {"vanish": True, "count": each, "method": "Connect", "signature": "(s)"}
    connect["arguments"] = ["home"]
    before, vanished = (0, 0, 0), 0
    for number in range(rounds):
        for at_once in (False, True):
            for person in people:
                person.tell(**connect, at_once=at_once)
            if not at_once:
                for person in people:
                    assert len(person.answer()["values"]) == each
                wait_asked(scene, each * len(people))
                for person in people:
                    person.tell()
            assert [person.answer() for person in people] == [{"values": []}] * len(people)
            vanished += each * len(people)
        wait_for("all to be cancelled", lambda: len(authority.cancelled) >= len(authority.asked), deadline_s=20)
        authority.say_yes()
        authority.asked.clear()
        authority.cancelled.clear()
        if number == 0:
            before = (scene.resident_kib(), scene.descriptors(), scene.match_rules())
    assert vanished >= 1000
    assert scene.daemon.asked == []
    wait_for("nothing to be left", lambda: scene.match_rules() <= before[2], deadline_s=DEADLINE_S)
    wait_for("no line to the daemon to be left", lambda: scene.descriptors() <= before[1], deadline_s=DEADLINE_S)
    assert scene.resident_kib() - before[0] < KIBIBYTES
    scene.authority.minds.mode = "normal"
    assert people[0].code("Connect", "(s)", "home") == "done"
    assert scene.daemon.asked == [Connect("home")]


# ── to have one call authorised, and make another ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("verdicts", [(True, False), (False, True)])
def test_permission_is_for_these_arguments(
    scene: Stage, people: tuple[Caller, ...], verdicts: tuple[bool, bool]
) -> None:
    """Two calls of the same method by the same connection, one of them authorised: that one is carried out, as it was
    asked about.
    """
    scene.authority.minds.mode = "late"
    caller = people[0]
    caller.crowd(
        order("AllowTemporaryAccess", "(us)", 60, "mine"),
        order("AllowTemporaryAccess", "(us)", 3600, "other"),
        together=True,
    )
    wait_asked(scene, 2)
    scene.authority.say(*verdicts)
    outcomes = caller.crowd_answers()

    carried = [ask for ask in scene.daemon.asked if isinstance(ask, AllowTemporary)]
    assert Counter(outcomes) == Counter({"done": 1, "NotAuthorised": 1})
    assert [(ask.duration_s, ask.reason) for ask in carried] == [
        (60, "mine") if outcomes[0] == "done" else (3600, "other")
    ]


def test_permission_is_for_this_method(scene: Stage, people: tuple[Caller, ...]) -> None:
    """While one call waits for polkit, the same program makes a graver one: polkit's yes to the first is none to it."""
    scene.authority.minds.mode = "late"
    caller = people[0]
    caller.crowd(
        order("Connect", "(s)", "home"), order("Unblock"), order("AllowTemporaryAccess", "(us)", 1, ""), together=True
    )
    wait_asked(scene, 3)
    scene.authority.say(*(asked.action == "org.aovpnd1.connect" for asked in scene.authority.asked))

    assert caller.crowd_answers() == ["done", "NotAuthorised", "NotAuthorised"]
    assert scene.daemon.asked == [Connect("home")]


# ── to be somebody else ──────────────────────────────────────────────────────────────────────────────────────────────


def test_sender_cannot_be_forged(scene: Stage, people: tuple[Caller, ...]) -> None:
    """A call that names another sender (root's connection, the bus, a service) is its real sender's: polkit is asked
    about that one, by unique bus name, and never about a process or a session.
    """
    scene.authority.minds.mode = "no"
    roots = scene.authority.connection.get_unique_name()
    for sender in (roots, "org.freedesktop.DBus", "org.freedesktop.PolicyKit1"):
        people[0].tell(raw=True, sender=sender)
        name = people[0].answer()["values"][0]
        wait_asked(scene, 1)
        (asked,) = scene.authority.asked
        assert (asked.kind, asked.subject) == ("system-bus-name", {"name": name})
        assert name not in {sender, people[0].name}
        scene.authority.asked.clear()
    assert scene.daemon.asked == []


def test_forged_signals_are_ignored(scene: Stage) -> None:
    """Signals of a stranger that look like logind's, NetworkManager's and the bus' own, sent to everybody and to us
    alone (CVE-2024-34397): nothing happens; the real logind is heard.
    """
    stranger = Service(scene.loop, scene.bus.address, "")
    try:
        (ours,) = stranger.driver("GetNameOwner", "(s)", "org.aovpnd1")
        for to in (ours, None):
            for _ in range(20):
                for message in flooder.forged(to):
                    stranger.connection.send_message(message, Gio.DBusSendMessageFlags.NONE)
        stranger.driver("GetId", "()")  # the bus has taken them all before it answers this
    finally:
        stranger.close()
    logind(scene).sleep(start=True)
    wait_for("the real one to be heard", lambda: scene.daemon.asked, deadline_s=DEADLINE_S)
    assert scene.daemon.asked == [PrepareSleep()]
    logind(scene).sleep(start=False)
    wait_for("sleep to be held back", lambda: logind(scene).held(), deadline_s=DEADLINE_S)


def test_gate_itself_ignores_forged_signals() -> None:
    """Whatever GLib makes of them: a signal to us alone passes from nobody but the bus, one to everybody passes."""
    gate = _Gate(Turns())

    def passes(message: Any, sender: str) -> bool:
        message.set_sender(sender)
        return gate.judge(None, message, True) is message

    assert not any(passes(message, ":1.66") for message in flooder.forged(":1.5"))
    assert all(passes(message, ":1.2") for message in flooder.forged(None))
    assert all(passes(message, "org.freedesktop.DBus") for message in flooder.forged(":1.5"))


@pytest.mark.skipif(not AS_ROOT, reason="needs users who are not aovpnd-bus'")
def test_name_cannot_be_squatted(scene: Stage, people: tuple[Caller, ...]) -> None:
    """While aovpnd-bus is down nobody can take its name, root and everybody else; it has it again when it is back. And
    nobody can have the bus start one.
    """
    root = scene.caller(0)
    scene.kill()
    try:
        for caller in (*people, root):
            for name in ("org.aovpnd1", "org.aovpnd1.Manager"):
                assert caller.code("RequestName", "(su)", name, EVERY_FLAG, **DRIVER) == "AccessDenied"
            assert caller.code("StartServiceByName", "(su)", "org.aovpnd1", 0, **DRIVER) == "ServiceUnknown"
        assert not [name for name in root.call("ListActivatableNames", **DRIVER)["values"][0] if "aovpnd" in name]
        assert people[0].code("Status") in {"ServiceUnknown", "NameHasNoOwner"}
    finally:
        scene.start()
        wait_for("the daemon to be known", lambda: root.code("Status") == "done", deadline_s=DEADLINE_S)
    assert root.code("StartServiceByName", "(su)", "org.aovpnd1", 0, **DRIVER) == "ServiceUnknown"
    assert scene.process is not None
    assert root.call("GetConnectionUnixProcessID", "(s)", "org.aovpnd1", **DRIVER) == {"values": [scene.process.pid]}


# ── to be odd ────────────────────────────────────────────────────────────────────────────────────────────────────────


def nested(depth: int) -> Any:
    """A variant in a variant, and so on."""
    value = GLib.Variant("s", "deep")
    for _ in range(depth):
        value = GLib.Variant("v", value)
    return value


PLACE: Final = ("org.aovpnd1", "/org/aovpnd1", "org.aovpnd1.Manager")
PROPERTIES: Final = "org.freedesktop.DBus.Properties"
# By what is odd: path, interface, method, arguments, and the last word of the error.
ODD: Final[dict[str, tuple[str, str, str, Any, str]]] = {
    "NaN": (*PLACE[1:], "AllowTemporaryAccess", GLib.Variant("(ds)", (float("nan"), "")), "InvalidArgs"),
    "negative": (*PLACE[1:], "AllowTemporaryAccess", GLib.Variant("(is)", (-1, "")), "InvalidArgs"),
    "huge": (*PLACE[1:], "AllowTemporaryAccess", GLib.Variant("(us)", (2**32 - 1, "")), "BadRequest"),
    "64 bit": (*PLACE[1:], "AllowTemporaryAccess", GLib.Variant("(ts)", (60, "")), "InvalidArgs"),
    "a line more": (*PLACE[1:], "AllowTemporaryAccess", GLib.Variant("(us)", (60, 'x"}\n{"v": 1')), "BadRequest"),
    "control characters": (*PLACE[1:], "AllowTemporaryAccess", GLib.Variant("(us)", (60, "\x1b[2J\x07")), "BadRequest"),
    "bidirectional": (*PLACE[1:], "AllowTemporaryAccess", GLib.Variant("(us)", (60, "\u202eevil")), "BadRequest"),
    "long reason": (*PLACE[1:], "AllowTemporaryAccess", GLib.Variant("(us)", (60, "x" * 201)), "BadRequest"),
    "path for a name": (*PLACE[1:], "Connect", GLib.Variant("(s)", ("../../etc/shadow",)), "BadRequest"),
    "option for a name": (*PLACE[1:], "Connect", GLib.Variant("(s)", ("--config=/tmp/x",)), "BadRequest"),
    "variant": (*PLACE[1:], "Connect", GLib.Variant("(v)", (GLib.Variant("s", "home"),)), "InvalidArgs"),
    "deep variants": (*PLACE[1:], "Connect", GLib.Variant("(v)", (nested(60),)), "InvalidArgs"),
    "array": (*PLACE[1:], "Connect", GLib.Variant("(as)", (["home"] * 500,)), "InvalidArgs"),
    "one too many": (*PLACE[1:], "Unblock", GLib.Variant("(s)", ("x",)), "InvalidArgs"),
    "unknown method": (*PLACE[1:], "Explode", None, "UnknownMethod"),
    "method of Python's": (*PLACE[1:], "__init__", None, "UnknownMethod"),
    "unknown path": ("/org/aovpnd1/x", PLACE[2], "Unblock", None, "UnknownMethod"),
    "root path": ("/", PLACE[2], "Unblock", None, "UnknownMethod"),
    "unknown interface": (PLACE[1], "org.aovpnd1.Admin", "Unblock", None, "AccessDenied"),
    "object manager": (PLACE[1], "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", None, "AccessDenied"),
    "set a property": (
        *(PLACE[1], PROPERTIES, "Set"),
        GLib.Variant("(ssv)", (PLACE[2], "Protected", GLib.Variant("b", True))),
        "InvalidArgs",
    ),
    "get what is not there": (PLACE[1], PROPERTIES, "Get", GLib.Variant("(ss)", (PLACE[2], "Keys")), "InvalidArgs"),
    "properties of another": (PLACE[1], PROPERTIES, "GetAll", GLib.Variant("(s)", ("com.example",)), "InvalidArgs"),
}


@pytest.mark.parametrize("what", ODD)
def test_odd_calls(scene: Stage, what: str) -> None:
    """Made by one who is authorised for everything, so that nothing but their oddity refuses them; the next call is
    served. What the interface does not have never reaches the daemon.
    """
    path, interface, method, arguments, error = ODD[what]
    scene.authority.minds.mode = "yes"
    caller = Service(scene.loop, scene.bus.address, "")
    try:
        with pytest.raises(GLib.Error) as refused:
            caller.connection.call_sync(PLACE[0], path, interface, method, arguments, None, 0, 20_000, None)
        assert (Gio.DBusError.get_remote_error(refused.value) or "").rpartition(".")[2] == error
        assert scene.daemon.asked == []
        status = caller.connection.call_sync(*PLACE, "Status", None, None, 0, 20_000, None)
        assert status.unpack()[0].startswith("{")
    finally:
        caller.close()
    assert "Traceback" not in scene.log()
    assert "internal error" not in scene.log()


def test_introspection_for_strangers(people: tuple[Caller, ...]) -> None:
    """Everybody may see what there is, and there is nothing but the interface and D-Bus' own."""
    place = {"interface": "org.freedesktop.DBus.Introspectable"}
    (text,) = people[-1].call("Introspect", **place)["values"]
    interfaces = {interface.name for interface in Gio.DBusNodeInfo.new_for_xml(text).interfaces}

    assert interfaces == {
        "org.aovpnd1.Manager",
        *(f"org.freedesktop.DBus.{own}" for own in ("Peer", "Properties", "Introspectable")),
    }


# ── to be many ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_five_hundred_at_once(scene: Stage, people: tuple[Caller, ...]) -> None:
    """Five hundred programs of all users ask at the same moment: whoever only reads is served; of those who command,
    some of every user are, and the others are told to come back.
    """
    scene.authority.minds.mode = "yes"
    each = 500 // len(people) + 1
    calls = ([order("Status"), order("Connect", "(s)", "home"), order("Status")] * each)[:each]
    for person in people:
        person.crowd(*calls)
    for person in people:
        outcomes = person.crowd_answers()
        commands = [outcome for outcome, call in zip(outcomes, calls, strict=True) if call["method"] == "Connect"]
        assert outcomes.count("done") >= each - len(commands) + 1
        assert set(commands) <= {"done", "Busy"}
        assert set(outcomes) - {"Busy"} == {"done"}
        assert outcomes.count("Busy") == commands.count("Busy")


@pytest.mark.parametrize("kind", ["calls", "answered", "strings", "signals"])
def test_flood(scene: Stage, people: tuple[Caller, ...], kind: str) -> None:
    """While one program sends whatever the bus takes, another user disconnects and reads the status each time that he
    asks; aovpnd-bus does not grow, and afterwards it is as quick as before.
    """
    scene.authority.minds.mode = "yes"
    (ours,) = people[0].call("GetNameOwner", "(s)", "org.aovpnd1", **DRIVER)["values"]
    other = people[-1]
    assert other.code("Status") == "done"
    before = scene.resident_kib()
    with scene.flood(USER, kind=kind, to=ours, end_s=1.0) as flooding:
        while flooding.poll() is None:
            assert [other.code("Status"), other.code("Disconnect")] == ["done", "done"]
        assert int(flooding.communicate()[0]) >= 200
    assert [other.code("Status"), other.code("Disconnect")] == ["done", "done"]
    assert scene.resident_kib() - before < 4 * KIBIBYTES


def test_flooders_are_told(scene: Stage, people: tuple[Caller, ...]) -> None:
    """A connection with eight calls in hand gets no ninth; its neighbour of the same user does."""
    scene.authority.minds.mode = "late"
    people[0].crowd(*[order("Connect", "(s)", "home")] * 12, together=True)
    wait_asked(scene, 8)
    neighbour = scene.caller()
    assert neighbour.code("Status") == "done"
    neighbour.tell(**order("Connect", "(s)", "work"))
    wait_asked(scene, 9)
    scene.authority.say(*[True] * 9)
    assert Counter(people[0].crowd_answers()) == Counter({"done": 8, "Busy": 4})
    assert neighbour.answer() == {"values": ["done"]}

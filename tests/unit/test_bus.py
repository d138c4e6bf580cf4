# SPDX-License-Identifier: GPL-3.0-or-later
"""What aovpnd-bus decides, without a bus: who is asked about what, what an answer means, what is passed on."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest

from aovpnd import destinations, names
from aovpnd.bus import polkit, translate
from aovpnd.bus.access import ACTIONS, WORDS, Action, Verdict, judge
from aovpnd.bus.calls import BusError, Call, Cancel, Match, Reply, Target, Typed
from aovpnd.bus.connectivity import Block, Check, Owner, Step, block_of, step
from aovpnd.bus.interface import INTERFACE, XML
from aovpnd.bus.manager import Manager
from aovpnd.bus.networks import spell
from aovpnd.bus.sealed import Sealed
from aovpnd.bus.turns import PLACES_EACH
from aovpnd.control import parse
from aovpnd.ctl import bus as ctl
from aovpnd.errors import AovpndError, CommandRefused, DaemonUnreachable
from aovpnd.model import Block as Wall
from aovpnd.orders import (
    AllowTemporary,
    CancelTemporary,
    Command,
    Confirm,
    Connect,
    Disconnect,
    Explain,
    Reload,
    SetBlock,
)
from aovpnd.signin import Questions, SignIn
from aovpnd.tunnel import Secret
from tests.unit import scenes
from tests.unit.imports import ROOT

METHODS: Final = {method.get("name", ""): method for method in ET.fromstring(XML).iter("method")}

# ── who may ──────────────────────────────────────────────────────────────────────────────────────────────────────────

DEFAULTS: Final = {
    # action: (from elsewhere or without a session, in the background, at the screen)
    "org.aovpnd1.connect": ("no", "no", "yes"),
    "org.aovpnd1.portal": ("no", "no", "yes"),
    "org.aovpnd1.allow-temp": ("no", "no", "auth_self"),
    "org.aovpnd1.disconnect": ("auth_admin", "auth_admin", "auth_admin"),
    "org.aovpnd1.unblock": ("auth_admin", "auth_admin", "auth_admin"),
    "org.aovpnd1.import": ("auth_admin", "auth_admin", "auth_admin"),
    "org.aovpnd1.sign-in": ("no", "no", "yes"),
}


def test_policy_is_as_specified() -> None:
    """Polkit's file has exactly our actions with these defaults, keeps no authorisation, and names aovpnd-bus as the
    owner, without which polkit would tell it nothing about other users.
    """
    tree = ET.parse(ROOT / "etc" / "polkit-1" / "actions" / "org.aovpnd1.policy")
    found = {
        action.get("id"): tuple(
            action.findtext(f"defaults/{key}") for key in ("allow_any", "allow_inactive", "allow_active")
        )
        for action in tree.iter("action")
    }
    owners = {action.findtext("annotate[@key='org.freedesktop.policykit.owner']") for action in tree.iter("action")}

    assert found == DEFAULTS
    assert found.keys() == {action.value for action in Action}
    assert owners == {f"unix-user:{names.BUS_USER}"}
    assert all(action.findtext("message") for action in tree.iter("action"))


def test_every_method_has_an_owner() -> None:
    """Interface, access and commands know the same methods; only reading the status is free."""
    assert METHODS.keys() == ACTIONS.keys()
    assert [method for method, actions in ACTIONS.items() if not actions] == ["Status"]
    assert WORDS.keys() == set(Action)
    assert set(ctl.METHODS.values()) | {"OpenPortal", "Status"} == METHODS.keys()


def test_what_opens_takes_what_opening_takes() -> None:
    """Whatever opens the whole machine asks for the password that opening the whole machine takes."""
    for method in translate.OPENS:
        assert Action.ALLOW_TEMP in ACTIONS[method]
    for method in ("Unblock", "Block", "Confirm"):
        assert ACTIONS[method] == (Action.UNBLOCK,)


@pytest.mark.parametrize("action", Action)
def test_verdicts(action: Action) -> None:
    """Only "authorised" is a yes; each no says what it means, and what to do."""
    judge(action, Verdict(authorised=True))
    for verdict, code in (
        (Verdict(authorised=False), "not-authorised"),
        (Verdict(authorised=False, challenge=True), "authentication-required"),
        (Verdict(authorised=False, challenge=True, details={"polkit.dismissed": "true"}), "dismissed"),
        (Verdict(authorised=False, details={"polkit.dismissed": ""}), "dismissed"),
    ):
        with pytest.raises(CommandRefused) as refused:
            judge(action, verdict)
        assert refused.value.code == code
        assert refused.value.text


def test_bus_policy_lets_one_user_have_the_name() -> None:
    """Nobody but aovpnd-bus may be org.aovpnd1, and nothing but the interface may be spoken to."""
    tree = ET.parse(ROOT / "etc" / "dbus-1" / "system.d" / "org.aovpnd1.conf")
    rules = [
        (policy.attrib, [(rule.tag, rule.attrib) for rule in policy]) for policy in tree.getroot().findall("policy")
    ]
    us = {"send_destination": "org.aovpnd1"}

    assert rules == [
        ({"user": "aovpnd-bus"}, [("allow", {"own": "org.aovpnd1"})]),
        (
            {"context": "default"},
            [
                ("deny", {"own": "org.aovpnd1"}),
                ("deny", us | {"send_type": "method_call"}),
                ("allow", us | {"send_interface": INTERFACE}),
                ("allow", us | {"send_interface": "org.freedesktop.DBus.Introspectable"}),
                ("allow", us | {"send_interface": "org.freedesktop.DBus.Peer"}),
                ("allow", us | {"send_interface": "org.freedesktop.DBus.Properties"}),
            ],
        ),
    ]
    assert not list(ROOT.rglob("*/system-services/*"))


# ── what is passed on ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("method", "arguments", "command"),
    [
        ("AllowTemporaryAccess", (60, "hotel portal"), AllowTemporary(60, "hotel portal", "alice")),
        ("AllowTemporaryAccess", (0, ""), AllowTemporary(None, "", "alice")),
        ("AllowTemporaryAccess", (2**32 - 1, ""), None),
        ("AllowTemporaryAccess", (1, "two\nlines"), None),
        ("OpenPortal", (120,), AllowTemporary(120, "to sign in to the network", "alice")),
        ("CancelTemporaryAccess", (), CancelTemporary()),
        ("Connect", ("home",), Connect("home")),
        ("Connect", ("",), Connect(None)),
        ("Connect", ("../../etc",), None),
        ("Explain", ("192.0.2.1",), Explain(destinations.parse("192.0.2.1"))),
        ("Explain", ("",), Explain()),
        ("Disconnect", (), Disconnect()),
        ("Block", (), SetBlock(Wall.ON)),
        ("Unblock", (), SetBlock(Wall.OFF)),
        ("Confirm", (), Confirm()),
        ("Reload", (), Reload()),
        ("Questions", (), Questions()),
        ("SignIn", ("home", Sealed('{"1": "a word"}')), SignIn("home", ((1, Secret("a word")),))),
        ("SignIn", ("home", Sealed('{"9": "a word"}')), None),
        ("SignIn", ("../home", Sealed('{"1": "a word"}')), None),
    ],
)
def test_method_is_a_command(
    method: str, arguments: tuple[object, ...], command: Command | Explain | Questions | SignIn | None
) -> None:
    """Each method is one line for the daemon, which parses it as strictly as root's."""
    line = json.dumps(translate.on_behalf(translate.request(Call(":1.5", method, arguments)), "alice")).encode()

    if command is None:
        with pytest.raises(CommandRefused):
            parse(line)
    else:
        assert parse(line) == command


def test_long_texts_are_refused_before_anybody_is_asked() -> None:
    """Nobody can make us carry megabytes to the daemon."""
    with pytest.raises(CommandRefused, match="longer than 1000 characters"):
        translate.request(Call(":1.5", "Connect", ("x" * 1001,)))


@pytest.mark.parametrize(
    ("name", "shown"),
    [("alice", "alice"), ("CORP\\bob", "CORP\\bob"), ("", "uid 7"), ("a\nb", "uid 7"), ("x" * 65, "uid 7")],
)
def test_user_names_are_printable(name: str, shown: str) -> None:
    """A directory may call people anything; the journal and the status show what can be shown."""
    assert translate.user_name(name, 7) == shown


def test_answers_become_values() -> None:
    """A sentence, and for what opens the end in microseconds."""
    line = b'{"v": 1, "ok": true, "text": "temporary access is open", "expires_at": 5123.25}\n'

    assert translate.answer("AllowTemporaryAccess", line) == ("temporary access is open", 5_123_250_000)
    question = b'{"ok": true, "text": "no", "expires_at": null, "data": {"passes": false}}'
    assert translate.answer("Explain", question) == ("no", 0, '{"passes": false}')
    assert translate.answer("SignIn", question) == ("no", '{"passes": false}')
    assert translate.answer("Connect", b'{"ok": true, "text": "connecting", "expires_at": null}') == ("connecting",)


@pytest.mark.parametrize("line", [b"", b"[]", b"{}", b'{"ok": true}', b'{"ok": true, "text": "", "expires_at": "x"}'])
def test_odd_answers_are_refusals(line: bytes) -> None:
    """Whatever the daemon says that is no answer, nothing is taken for done."""
    with pytest.raises(CommandRefused) as refused:
        translate.answer("Connect", line)
    assert refused.value.code == "protocol"


@pytest.mark.parametrize(
    "error",
    [
        CommandRefused("7200 s is not between 1 s and 3600 s", hint="ask for less", code="too-long"),
        CommandRefused("there is no tunnel called x", hint="there are: a (old), b", code="tunnel-unknown"),
        CommandRefused("no", code="refused"),
        DaemonUnreachable(
            "daemon not running; the block remains as loaded", hint="to start it: systemctl start aovpnd"
        ),
    ],
)
def test_errors_survive_the_way(error: AovpndError) -> None:
    """Aovpnctl shows text, hint and code as the daemon gave them, and exits as if it had asked itself."""
    back = ctl.refusal(translate.error_name(error.code), translate.error_text(error))

    assert (type(back), back.text, back.hint, back.code) == (type(error), error.text, error.hint, error.code)


@pytest.mark.parametrize(
    ("code", "name"), [("too-long", "TooLong"), ("error", "Error"), ("a.b", "Failed"), ("", "Failed")]
)
def test_error_names_are_names(code: str, name: str) -> None:
    """Every code gives a valid D-Bus error name below ours."""
    assert translate.error_name(code) == f"org.aovpnd1.Error.{name}"
    assert re.fullmatch(r"org\.aovpnd1\.Error\.[A-Za-z0-9]+", translate.error_name(code))


# ── status ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("scene", scenes.SCENES)
def test_properties_are_the_status(scene: str) -> None:
    """Phase, protection, tunnel and end as published; the JSON has everything but what is the reader's own."""
    document = scenes.SCENES[scene].document()
    state = translate.state(document)
    shown = json.loads(translate.public(document, scenes.NOW.boot + 6.0))

    assert (state.phase, state.protected) == (document["phase"], document["protected"])
    assert state.tunnel == ("home" if scene in {"connected", "connecting", "offline", "resting"} else "")
    assert state.until_us == (5_176_000_000 if scene == "temporary-access" else 0)
    assert {shape.get("name") for shape in ET.fromstring(XML).iter("property")} == set(state.properties())
    assert "_" not in {key[0] for key in (*shown, *(key for tunnel in shown["tunnels"] for key in tunnel))}
    assert shown["version"] == document["version"]
    if scene == "temporary-access":
        assert shown["temporary_access"]["remaining_s"] == 170


def test_no_daemon_is_no_status() -> None:
    """Then the properties are empty, and whoever asks is told what remains."""
    assert translate.state(None).properties() == {
        "Phase": "",
        "Protected": False,
        "Tunnel": "",
        "TemporaryAccessUntil": 0,
    }
    with pytest.raises(DaemonUnreachable, match="the block remains as loaded"):
        translate.public(None, 0.0)


# ── the desktop's services ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("ssid", "shown"),
    [
        (list(b"CoffeeShop"), "CoffeeShop"),
        (list("Café ☕".encode()), "Café ☕"),
        (list(b"\xff\xfe"), r"\xff\xfe"),
        (list(b"a\x1b[2Jb\n"), r"a\x1b[2Jb\x0a"),
        (list("x\u202ey".encode()), r"x\xe2\x80\xaey"),
        (list(b"\xff" * 32), r"\xff" * 32),
        ([0] * 8, ""),
        ([], ""),
        ([65] * 33, ""),
        ("text", ""),
        (None, ""),
    ],
)
def test_ssids_are_spelt(ssid: object, shown: str) -> None:
    """An SSID is up to 32 bytes of anything; what is shown can be shown, and fits into what the daemon takes."""
    assert spell(ssid) == shown
    if shown:
        parse(json.dumps({"v": 1, "command": "name-networks", "names": {"wlan0": shown}}).encode())


def test_connectivity_check() -> None:
    """Off while we block, on again after it if it was us; nobody else's choice is touched, nothing without a daemon."""
    steps = {(check, block, owner): step(check, block, owner) for check in Check for block in Block for owner in Owner}

    assert {case: what for case, what in steps.items() if what is not Step.LEAVE} == {
        (Check.ON, Block.ON, Owner.WE): Step.TURN_OFF,
        (Check.ON, Block.ON, Owner.NOT_WE): Step.TURN_OFF,
        (Check.ON, Block.OFF, Owner.WE): Step.TURN_ON,
        (Check.OFF, Block.OFF, Owner.WE): Step.TURN_ON,
    }
    assert [block_of(phase) for phase in ("", "unblocked", "connected", "temporary-access")] == [
        Block.UNKNOWN,
        Block.OFF,
        Block.ON,
        Block.ON,
    ]


# ── a call, with a bus that is made up ───────────────────────────────────────────────────────────────────────────────

YES: Final[tuple[object, ...]] = ((True, False, {}),)
Answers = Callable[[Target, str, tuple[object, ...]], Awaitable[tuple[object, ...]]]


@dataclass
class FakeBus:
    """Answers as the test says, and remembers what it was asked."""

    answers: Answers
    called: list[tuple[str, tuple[object, ...]]] = field(default_factory=list)
    heard: dict[str, Callable[[tuple[object, ...]], None]] = field(default_factory=dict)
    was_asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(
        self,
        target: Target,
        method: str,
        signature: str = "()",
        *arguments: object,
        timeout_s: float = 10.0,
        start: bool = False,
    ) -> Reply:
        """As a connection's. Only polkit may be started by asking it."""
        assert start is (method == "CheckAuthorization"), signature
        self.called.append((method, arguments))
        if method == "CheckAuthorization":
            self.was_asked.set()
        try:
            async with asyncio.timeout(timeout_s):
                return Reply(await self.answers(target, method, arguments))
        except TimeoutError:
            raise BusError("Timeout was reached") from None

    async def subscribe(self, match: Match, heard: Callable[[tuple[object, ...]], None]) -> Cancel:
        """As a connection's."""
        self.heard[match.arg0 or ""] = heard

        def forget() -> None:
            self.heard.pop(match.arg0 or "", None)

        return forget

    def asked(self, method: str) -> list[tuple[object, ...]]:
        """The arguments of every call of that method."""
        return [arguments for name, arguments in self.called if name == method]


def world(verdict: object = YES, *, uids: tuple[int | None, ...] = (1000,)) -> FakeBus:
    """A bus with a polkit that says ``verdict`` (or raises it, or never answers: None), and callers with these uids,
    one for each time that somebody asks; None: he has gone.
    """
    left = list(uids)

    async def answers(target: Target, method: str, _: tuple[object, ...]) -> tuple[object, ...]:
        if method == "GetConnectionUnixUser":
            uid = left.pop(0) if len(left) > 1 else left[0]
            if uid is None:
                raise BusError("no such name", name="org.freedesktop.DBus.Error.NameHasNoOwner")
            return (uid,)
        assert target == polkit.AUTHORITY
        if method == "CancelCheckAuthorization":
            return ()
        if verdict is None:
            await asyncio.Event().wait()
        if isinstance(verdict, BusError):
            raise verdict
        return verdict if isinstance(verdict, tuple) else ()

    return FakeBus(answers)


def handle(bus: FakeBus, call: Call) -> tuple[tuple[object, ...] | CommandRefused, list[translate.Request]]:
    """Have one call handled; what it returned or was refused with, and what the daemon was asked."""
    asked: list[translate.Request] = []

    async def daemon(line: translate.Request) -> bytes:
        asked.append(line)
        return b'{"ok": true, "text": "done", "expires_at": 1.0}'

    async def play() -> tuple[object, ...] | CommandRefused:
        try:
            return await Manager(bus, daemon, lambda: "{}").handle(call)
        except CommandRefused as error:
            return error
        finally:
            await asyncio.sleep(0)

    return asyncio.run(play()), asked


CALL: Final = Call(":1.42", "Connect", ("home",))


def code(result: object) -> str:
    """The code of a refusal."""
    assert isinstance(result, CommandRefused), result
    return result.code


def test_polkit_is_asked_about_the_bus_name() -> None:
    """The subject is the connection's unique name, never a process; a person is asked only if the caller says so."""
    for interactive, flags in ((False, 0), (True, 1)):
        bus = world()
        result, asked = handle(bus, Call(":1.42", "AllowTemporaryAccess", (60, "x"), interactive))

        assert result == ("done", 1_000_000)
        assert len(asked) == 1
        ((subject, action, details, given, _),) = bus.asked("CheckAuthorization")
        assert subject == ("system-bus-name", {"name": Typed("s", ":1.42")})
        assert (action, details, given) == ("org.aovpnd1.allow-temp", {}, flags)
        assert bus.heard == {}


def test_root_needs_no_polkit() -> None:
    """Uid 0 is authorised without a question, so polkit may be dead."""
    bus = world(BusError("dead"), uids=(0,))

    assert handle(bus, Call(":1.1", "Unblock", ()))[1] == [{"v": 1, "command": "unblock"}]
    assert bus.asked("CheckAuthorization") == []


@pytest.mark.parametrize(
    ("verdict", "word"),
    [
        (((False, False, {}),), "not-authorised"),
        (((False, True, {}),), "authentication-required"),
        (BusError("The name is not activatable"), "polkit-unreachable"),
        ((), "polkit-unreachable"),
        (((1, 0, {}),), "polkit-unreachable"),
        (((True, False),), "polkit-unreachable"),
        ((True, False, {}), "polkit-unreachable"),
        ((("yes", False, {}),), "polkit-unreachable"),
    ],
)
def test_anything_but_yes_is_no(verdict: object, word: str) -> None:
    """Refusal, challenge, death and nonsense: the daemon never hears of it."""
    result, asked = handle(world(verdict), CALL)

    assert (code(result), asked) == (word, [])


def test_silence_is_no(monkeypatch: pytest.MonkeyPatch) -> None:
    """A polkit that does not answer in time has refused, and its dialogue is taken off the screen."""
    monkeypatch.setattr(polkit, "PATIENCE_S", 0.05)
    bus = world(None)
    result, asked = handle(bus, CALL)

    assert (code(result), asked) == ("polkit-unreachable", [])
    assert bus.asked("CancelCheckAuthorization") == [(bus.asked("CheckAuthorization")[0][4],)]


@pytest.mark.parametrize("uids", [(None,), (1000, None), (1000, 0), (1000, 1001)])
def test_caller_who_is_not_there_any_more(uids: tuple[int | None, ...]) -> None:
    """A yes about somebody who has gone meanwhile, or is somebody else, is a no (CVE-2021-3560)."""
    result, asked = handle(world(uids=uids), CALL)

    assert (code(result), asked) == ("caller-gone", [])


@pytest.mark.parametrize("sender", ["org.aovpnd1", "com.example.Root", "org.freedesktop.DBus", ""])
def test_only_unique_names_are_callers(sender: str) -> None:
    """A name that changes hands may be root's when it is looked at."""
    bus = world(uids=(0,))
    result, asked = handle(bus, Call(sender, "Unblock", ()))

    assert (code(result), asked, bus.called) == ("caller-gone", [], [])


def test_caller_who_went_before_anybody_listened() -> None:
    """Who went just before his going would have been heard is looked for once more: polkit is not asked about nobody,
    and no dialogue waits for ever.
    """
    bus = world(uids=(1000, None))
    result, _ = handle(bus, CALL)

    assert code(result) == "caller-gone"
    assert bus.asked("CheckAuthorization") == []


def test_caller_who_goes_while_polkit_thinks() -> None:
    """The check ends when the bus says that the caller has gone; polkit's late yes changes nothing."""
    bus = world(None)
    asked: list[translate.Request] = []

    async def daemon(line: translate.Request) -> bytes:
        asked.append(line)
        return b""

    async def play() -> None:
        handling = asyncio.create_task(Manager(bus, daemon, lambda: "{}").handle(CALL))
        async with asyncio.timeout(5):
            await bus.was_asked.wait()
        bus.heard[":1.42"]((":1.42", ":1.42", ""))
        with pytest.raises(CommandRefused) as refused:
            await handling
        assert refused.value.code == "caller-gone"
        await asyncio.sleep(0)

    asyncio.run(play())
    assert asked == []
    assert len(bus.asked("CancelCheckAuthorization")) == 1


def test_every_action_of_a_method_is_asked() -> None:
    """A portal's window opens the whole machine, so it takes both permissions; one no is enough."""
    bus = world()
    handle(bus, Call(":1.42", "OpenPortal", (60,)))

    assert [arguments[1] for arguments in bus.asked("CheckAuthorization")] == [
        "org.aovpnd1.portal",
        "org.aovpnd1.allow-temp",
    ]


def test_garbage_is_refused_before_polkit_is_asked() -> None:
    """Nobody is shown a dialogue for what can be no command."""
    bus = world()

    assert code(handle(bus, Call(":1.42", "Connect", ("x" * 2000,)))[0]) == "bad-request"
    assert code(handle(bus, Call(":1.42", "Explode", ()))[0]) == "bad-request"
    assert bus.called == []


def test_one_user_cannot_take_all_places() -> None:
    """More calls at once than one user may have are refused; another user's are not, and places come free again."""

    async def play() -> None:
        release = asyncio.Event()
        users = {":1.1": 1000, ":1.2": 1001}

        async def answers(_: Target, method: str, arguments: tuple[object, ...]) -> tuple[object, ...]:
            if method == "GetConnectionUnixUser":
                return (users[str(arguments[0])],)
            await release.wait()
            return YES

        async def daemon(_: translate.Request) -> bytes:
            return b'{"ok": true, "text": "done", "expires_at": null}'

        manager = Manager(FakeBus(answers), daemon, lambda: "{}")
        first = [asyncio.create_task(manager.handle(Call(":1.1", "Connect", ("",)))) for _ in range(PLACES_EACH)]
        await asyncio.sleep(0.05)
        with pytest.raises(CommandRefused, match="too many requests"):
            await manager.handle(Call(":1.1", "Connect", ("",)))
        other = asyncio.create_task(manager.handle(Call(":1.2", "Connect", ("",))))
        await asyncio.sleep(0.05)
        release.set()
        assert await asyncio.gather(*first, other) == [("done",)] * (PLACES_EACH + 1)
        assert await manager.handle(Call(":1.1", "Connect", ("",))) == ("done",)

    asyncio.run(play())


def test_documented_files_are_installed_by_the_documented_names() -> None:
    """Bus policy and polkit's rule speak of the user that the unit and sysusers make."""
    for file in (
        "systemd/aovpnd-bus.service",
        "etc/sysusers.d/aovpnd.conf",
        "etc/dbus-1/system.d/org.aovpnd1.conf",
        "etc/polkit-1/rules.d/50-aovpnd.rules",
    ):
        assert re.search(rf"\b{names.BUS_USER}\b", Path(ROOT / file).read_text(encoding="utf-8"))

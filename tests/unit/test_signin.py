# SPDX-License-Identifier: GPL-3.0-or-later
"""What people are asked for: what is kept and how long, what is tried with it and how often, what is never shown."""

import asyncio
import json
import logging
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, cast

import pytest

from aovpnd.__main__ import _unlock
from aovpnd.adapters.netlink import Netlink
from aovpnd.backends.charon import Place, name_of, requests, spent
from aovpnd.backends.ikememory import Memory
from aovpnd.backends.ikepeople import People
from aovpnd.backends.strongswan import StrongSwanBackend
from aovpnd.backends.vici import Charon, Sa
from aovpnd.control import parse
from aovpnd.core import failover, health
from aovpnd.core.problems import problems
from aovpnd.core.told import hear
from aovpnd.core.view import view
from aovpnd.errors import CommandRefused, ToolError
from aovpnd.gateways import Companion, Gateways, Left, Provoked, Why
from aovpnd.ipsec import SIGN_IN_REFUSED, SIGN_IN_WANTED, Ask, Credential, Locked, Method, Round, Said, Token
from aovpnd.model import Config, Intent, Wish
from aovpnd.orders import Answer, Refusal, SignedIn
from aovpnd.signin import Desk, Questions, SignIn, answered, asked, refused, wanted
from aovpnd.tunnel import Secret
from tests.unit.ike_files import CERT, EAP, XAUTH, lay
from tests.unit.ike_files import PASSWORD as KEY_PASSWORD
from tests.unit.ike_files import PSK as PSK_FILE
from tests.unit.ike_files import parse as parse_file
from tests.unit.scenes import HOME, WORK
from tests.unit.small_world import AOVPN, CLOCK
from tests.unit.small_world import WORK as TUNNEL
from tests.unit.test_charon_settings import PSK
from tests.unit.test_decide import HOME_NET, PATH, SHOOK
from tests.unit.test_health import SILENT

PASSWORD: Final = "Vn5rXe9yQa2mGk7t"  # noqa: S105 - of no use to anybody
ONCE: Final = replace(PSK, name="office", rounds=(Round(Method.EAP_MSCHAPV2, None, "alice", ask=Ask.ONCE),))
EACH: Final = replace(ONCE, rounds=(replace(ONCE.rounds[0], ask=Ask.EACH_TIME),))
PIN: Final = replace(
    ONCE,
    rounds=(
        Round(Method.CERTIFICATE, credential=Credential(("PEM",), Token("beef", "/usr/lib/p11.so", ask=Ask.ONCE))),
    ),
)
WRONG: Final = Said("ike-user-refused", "the gateway refuses the user or the password")


def desk_with(*specs: Any, answer: str | None = PASSWORD) -> Desk:
    """A desk that expects these tunnels, each of them answered."""
    desk = Desk()
    desk.expect(specs)
    for spec in specs:
        if answer is not None:
            desk.take(spec.name, {1: Secret(answer)})
    return desk


# -- the desk ----------------------------------------------------------------------------------------------------------
def test_what_is_asked() -> None:
    """In words that name whose it is; a tunnel whose secrets are in files asks for nothing."""
    assert [each.words for spec in (ONCE, EACH, PIN) for each in asked(spec)] == [
        "password of alice",
        "one-time password of alice",
        "PIN of the token",
    ]
    assert asked(PSK) == ()


def test_once_is_kept_until_it_is_refused() -> None:
    """As many attempts as there are; a refusal forgets it."""
    desk = desk_with(ONCE)

    assert desk.fetch(ONCE) == desk.fetch(ONCE) == {1: Secret(PASSWORD)}
    desk.forget(ONCE)
    assert desk.fetch(ONCE) is None
    assert [each["wanted"] for each in desk.questions()] == [True]


def test_each_time_serves_one_attempt() -> None:
    """The second finds none, and wants it."""
    desk = desk_with(EACH)
    assert desk.fetch(EACH) == {1: Secret(PASSWORD)}
    assert desk.fetch(EACH) is None


@pytest.mark.parametrize(
    "changed",
    [
        replace(ONCE, server=replace(ONCE.server, identity="other.lab")),
        replace(ONCE, gateways=(*ONCE.gateways, ONCE.gateways[0])),
        EACH,
        PSK,
    ],
)
def test_an_answer_is_for_the_tunnel_as_it_was(changed: Any) -> None:
    """Of a file that has changed nobody knows whom it shows the password to; one that was read again is the same."""
    desk = desk_with(ONCE)
    desk.expect((ONCE,))
    assert desk.fetch(ONCE) is not None

    desk.expect((changed,))
    assert desk.fetch(changed) is None
    desk.expect((ONCE,))
    assert desk.fetch(ONCE) is None


def test_only_what_is_missing_is_taken() -> None:
    """Neither for an unknown tunnel, nor for another round, nor twice."""
    desk = desk_with(ONCE, answer=None)
    for name, place in (("home", 1), ("office", 2)):
        with pytest.raises(CommandRefused) as refusal:
            desk.take(name, {place: Secret(PASSWORD)})
        assert refusal.value.code in {"nothing-asked", "answers-differ"}
    desk.take("office", {1: Secret(PASSWORD)})
    with pytest.raises(CommandRefused):
        desk.take("office", {1: Secret("another")})
    assert desk.fetch(ONCE) == {1: Secret(PASSWORD)}


def test_the_loop_hears_the_name_alone() -> None:
    """What goes on to the daemon has no secret in it; a question goes nowhere."""
    desk, heard = desk_with(ONCE, answer=None), list[SignedIn]()

    async def submit(command: SignedIn) -> Answer:
        heard.append(command)
        return Answer("done")

    questions = asyncio.run(desk.serve(submit, Questions()))
    asyncio.run(desk.serve(submit, SignIn("office", ((1, Secret(PASSWORD)),))))

    assert questions.data == {
        "questions": [
            {"tunnel": "office", "place": 1, "text": "password of alice", "gateway": str(ONCE.gateways[0])}
            | {"wanted": False}
        ]
    }
    assert heard == [SignedIn("office")]
    assert desk.questions() == []


# -- what charon is given ----------------------------------------------------------------------------------------------
@dataclass
class Told:
    """A charon that notes what it is told, and takes no token with a PIN where ``picky``."""

    loaded: list[str] = field(default_factory=list)
    unloaded: list[str] = field(default_factory=list)
    picky: bool = False
    initiated: int = 0

    def load(self, told: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Noted."""
        text = json.dumps(list(told), default=str)
        self.loaded.append(text)
        if self.picky and "pin" in text:
            raise ToolError("charon refuses: token")

    def sas(self) -> tuple[Sa, ...]:
        """None: an attempt ends at once."""
        return ()

    def plugins(self) -> frozenset[str]:
        """All that are needed."""
        return frozenset({"eap-mschapv2"})

    def key_exchanges(self) -> frozenset[str]:
        """None is asked for."""
        return frozenset()

    def initiate(self, *_: object) -> None:
        """Counted."""
        self.initiated += 1

    def unload_secrets(self, ids: Iterable[str]) -> None:
        """Noted."""
        self.unloaded += ids


def attempt(desk: Desk, spec: Any, charon: Told, memory: Memory) -> bool:
    """One attempt, as the backend begins it."""
    place = Place(Path("/nowhere"), "aovpn0")
    return People(desk).answer(memory, spec, cast("Charon", charon), lambda given: requests(given, place, None))


def test_nothing_is_tried_without_an_answer() -> None:
    """Charon is told nothing, and why is said."""
    memory, charon = Memory(), Told()
    assert not attempt(desk_with(ONCE, answer=None), ONCE, charon, memory)
    assert (charon.loaded, memory.said) == ([], wanted(ONCE))


def test_a_refused_password_is_not_used_twice() -> None:
    """Whatever is looked at how often: one attempt with it, then none until there is another."""
    desk, charon, memory = desk_with(ONCE), Told(), Memory()
    assert attempt(desk, ONCE, charon, memory)
    people = People(desk)

    first = people.said(memory, WRONG)
    assert first == refused(ONCE, WRONG)
    assert not attempt(desk, ONCE, charon, memory)
    assert people.said(memory, None) == first
    desk.take("office", {1: Secret("another")})
    assert people.said(memory, WRONG) == first  # of the attempt before: it forgets nothing that came since
    assert attempt(desk, ONCE, charon, memory)
    assert people.said(memory, None) is None

    assert [PASSWORD in text for text in charon.loaded] == [True, False]


def test_a_refusal_that_nobody_has_seen_yet(tmp_path: Path) -> None:
    """It comes between the look at the world and the next attempt: there is none with that password."""
    desk, charon = desk_with(ONCE), Told()
    backend = StrongSwanBackend(tmp_path, Netlink(), tmp_path, desk)
    place = Place(tmp_path, "aovpn0")
    place.make()

    backend._provoke("aovpn0", ONCE, cast("Charon", charon), "home")  # noqa: SLF001 - as the pass does
    place.log.write_text("received EAP_FAILURE, EAP authentication failed\n", encoding="ascii")
    backend._provoke("aovpn0", ONCE, cast("Charon", charon), "home")  # noqa: SLF001

    assert charon.initiated == 1
    assert desk.fetch(ONCE) is None


def test_silence_is_no_refusal() -> None:
    """A gateway that does not answer, or takes none of our algorithms, has judged no password."""
    desk, memory = desk_with(ONCE), Memory()
    attempt(desk, ONCE, Told(), memory)
    for said in (None, Said("ike-no-proposal", "")):
        assert People(desk).said(memory, said) == said
    assert desk.fetch(ONCE) is not None


def test_a_one_time_password_leaves_charon() -> None:
    """When it has served, once; one that is kept stays."""
    for spec, ids in ((EACH, ["ike-1"]), (ONCE, [])):
        charon, memory = Told(), Memory()
        attempt(desk_with(spec), spec, charon, memory)
        for _ in range(2):
            People.succeeded(cast("Charon", charon), memory)
        assert charon.unloaded == ids == list(spent(spec))


def test_a_wrong_pin_is_given_once() -> None:
    """The token is asked for its key once with it, then charon is told all but the key."""
    desk, charon, memory = desk_with(PIN), Told(picky=True), Memory()
    assert not attempt(desk, PIN, charon, memory)
    assert not attempt(desk, PIN, charon, memory)

    assert memory.refused is not None
    assert memory.refused.code == SIGN_IN_REFUSED
    assert ["load-token" in text for text in charon.loaded] == [True, False]


def test_the_digest_is_the_same() -> None:
    """What somebody typed changes nothing of what the tunnel is called in charon; how it is asked for does."""
    for spec in (ONCE, PIN):
        assert answered(spec, {1: Secret(PASSWORD)}).digest() == spec.digest()
    assert len({ONCE.digest(), EACH.digest(), PIN.digest(), PSK.digest()}) == 4


# -- core --------------------------------------------------------------------------------------------------------------
OTHER: Final = replace(TUNNEL, name="other")
CONFIG: Final = Config((HOME, WORK), prefer=("home", "work"))


def test_waiting_is_not_trying() -> None:
    """A tunnel that waits for somebody is not made to shake hands again, and is looked at now and then; on a new path,
    and once somebody has signed in, it is tried.
    """
    late = replace(CLOCK, boot=CLOCK.boot + 3600)
    shook = replace(SHOOK, provoked=Provoked(PATH, CLOCK.boot, 3))
    for code in (SIGN_IN_WANTED, SIGN_IN_REFUSED):
        waits = replace(SILENT, said=Said(code, ""))
        assert not health.must_provoke(shook, waits, PATH, late)
        assert health.next_look(shook, waits, PATH, late) == late.boot + health.IDLE_LOOK_S
        assert health.must_provoke(shook, waits, replace(PATH, link=77), late)
        assert health.must_provoke(replace(shook, provoked=None), waits, PATH, late)
    assert health.must_provoke(shook, replace(SILENT, said=Said("ike-no-proposal", "")), PATH, late)


def told(intent: Intent, name: str) -> tuple[Intent, Answer | Refusal]:
    """Somebody has signed in."""
    return hear(CONFIG, intent, HOME_NET, SignedIn(name))


def test_signing_in_begins_anew() -> None:
    """The tunnel that carries and is not up is tried at once; one that is up goes on; nothing else changes."""
    waiting = Intent(provoked=Provoked(PATH, CLOCK.boot, 3))
    up = replace(waiting, connected_at=CLOCK.boot)

    assert told(waiting, "home")[0] == replace(waiting, provoked=None)
    assert told(up, "home")[0] == up
    for intent, name in ((waiting, "work"), (replace(waiting, wish=Wish.DISCONNECT), "home")):
        after, answer = told(intent, name)
        assert after == intent
        assert isinstance(answer, Answer)
        assert answer.data == {"tried": False}
    assert isinstance(told(waiting, "nobody")[1], Refusal)


def test_one_that_was_left_is_taken_back_without_a_trial() -> None:
    """A trial would use a one-time password up."""
    left = Left("home", Why.SILENT, CLOCK.boot, CLOCK.boot + 600)
    intent = Intent(gateways=Gateways(carrier="work", left=(left,)), provoked=Provoked(PATH, CLOCK.boot))

    after, _ = told(intent, "home")

    assert (after.gateways.carrier, after.gateways.left, after.provoked) == ("home", (), None)


def test_the_next_tunnel_carries_meanwhile() -> None:
    """One that waits is left for another that can be tried, at once; where that one waits as well, only when the first
    has had its time. Status says what to do about it.
    """
    scene = replace(HOME_NET, links=(*HOME_NET.links, AOVPN), tunnels=(replace(SILENT, said=Said(SIGN_IN_WANTED, "")),))
    both = Config((TUNNEL, OTHER), prefer=(TUNNEL.name, OTHER.name))
    seen = view(both, Intent(), scene)
    assert seen.path is not None
    intent = Intent(provoked=Provoked(seen.path, CLOCK.boot, 1))

    left = failover.settle(Gateways(), intent, seen, CLOCK)
    alone = failover.settle(Gateways(), intent, view(Config((TUNNEL,)), Intent(), scene), CLOCK)
    waiting = Left(OTHER.name, Why.UNSIGNED, CLOCK.boot, CLOCK.boot + 30, networks=seen.path.networks)
    stays = failover.settle(Gateways(left=(waiting,)), intent, seen, CLOCK)
    moves = failover.settle(Gateways(left=(waiting,)), intent, seen, replace(CLOCK, boot=CLOCK.boot + 31))

    assert (left.carrier, left.left[0].why) == (OTHER.name, Why.UNSIGNED)
    assert (alone.carrier, stays.carrier, moves.carrier) == (None, None, OTHER.name)
    told = problems(both, replace(intent, gateways=left), scene, view(both, replace(intent, gateways=left), scene))
    (problem,) = (each for each in told if each.code == SIGN_IN_WANTED)
    assert problem.hint == f"aovpnctl sign-in {TUNNEL.name}"


def test_a_companion_is_tried_anew() -> None:
    """It alone."""
    provoked = Provoked(PATH, CLOCK.boot)
    intent = Intent(companions=(Companion("work", provoked), Companion("home", provoked)))

    after, _ = told(intent, "work")

    assert [known.provoked for known in after.companions] == [None, provoked]


# -- the socket --------------------------------------------------------------------------------------------------------
def line(**fields: object) -> bytes:
    """A request."""
    return json.dumps({"v": 1, "command": "sign-in", **fields}).encode()


def test_a_good_line() -> None:
    """Answers by their rounds."""
    assert parse(line(name="office", answers={"2": "b", "1": PASSWORD})) == SignIn(
        "office", ((1, Secret(PASSWORD)), (2, Secret("b")))
    )
    assert parse(b'{"v": 1, "command": "questions"}') == Questions()


@pytest.mark.parametrize(
    "answers",
    [
        PASSWORD,
        [PASSWORD],
        {},
        {"0": PASSWORD},
        {"5": PASSWORD},
        {PASSWORD: PASSWORD},
        {"1": f"{PASSWORD}\n"},
        {"1": PASSWORD * 64},
        {"1": ""},
        {"1": 5},
        {str(place): PASSWORD for place in range(1, 6)},
    ],
)
def test_no_refusal_repeats_an_answer(answers: object) -> None:
    """However wrong a line is, also one with the secret in the wrong place."""
    for wrong in (line(name="office", answers=answers), line(name=PASSWORD * 3, answers={"1": PASSWORD})):
        with pytest.raises(CommandRefused) as refusal:
            parse(wrong)
        assert PASSWORD not in str(refusal.value)


# -- nothing is shown --------------------------------------------------------------------------------------------------
def test_a_secret_is_printed_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """Not by what is logged, nor by what any value on its way looks like, nor by what is said of it."""
    caplog.set_level(logging.DEBUG)
    desk, memory, charon = desk_with(ONCE), Memory(), Told()
    given = answered(ONCE, {1: Secret(PASSWORD)})
    attempt(desk, ONCE, charon, memory)
    said = People(desk).said(memory, WRONG)
    shown = (
        *(given, answered(PIN, {1: Secret(PASSWORD)}), desk, memory, said, desk.questions(), desk.fetch(ONCE)),
        *(SignIn("office", ((1, Secret(PASSWORD)),)), SignedIn("office"), name_of(given)),
    )

    assert PASSWORD in charon.loaded[0]  # that is what it is for
    assert [each for each in shown if PASSWORD in f"{each!r}{each}"] == []
    assert PASSWORD not in caplog.text


# -- files -------------------------------------------------------------------------------------------------------------
ASKS: Final = EAP.replace('password_file = "keys/pw"', 'password = { ask = "once" }')


HIDDEN: Final = 'key = "keys/hidden.key"'
LOCKED: Final = CERT.replace('key = "keys/laptop.key"', f'{HIDDEN}\npassword = {{ ask = "once" }}')
CONTAINER: Final = LOCKED.replace(HIDDEN, 'pkcs12 = "keys/laptop.p12"').replace('certificate = "keys/laptop.crt"\n', "")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A configuration directory with all that the files name."""
    lay(tmp_path)
    return tmp_path


def test_files_that_ask(base: Path) -> None:
    """Of a password for good or for once, in one line or a table; of a PIN; of XAuth's."""
    for text, ask in (
        (ASKS, Ask.ONCE),
        (ASKS.replace("once", "each time"), Ask.EACH_TIME),
        (ASKS.replace('password = { ask = "once" }', 'password.ask = "once"'), Ask.ONCE),
        (ASKS.replace('password = { ask = "once" }', '[ike.auth.password]\nask = "once"'), Ask.ONCE),
    ):
        spec, findings = parse_file(text, base)
        assert findings == []
        assert spec is not None
        (each,) = spec.rounds
        assert (each.ask, each.secret) == (ask, None)
    xauth = PSK_FILE.replace("[ike]", "[ike]\nversion = 1") + XAUTH.replace(
        'password_file = "keys/pw"', 'password = { ask = "each time" }'
    )
    spec, _ = parse_file(xauth, base)
    assert spec is not None
    assert spec.rounds[1].ask is Ask.EACH_TIME
    tpm = CERT.replace('key = "keys/laptop.key"', 'tpm = { handle = "81010001", pin = { ask = "once" } }')
    spec, findings = parse_file(tpm, base)
    assert spec is not None, findings
    assert [each.words for each in asked(spec)] == ["PIN of the TPM"]


def test_an_encrypted_key(base: Path) -> None:
    """Charon is told of it when its password is given; a wrong one is refused before anything is tried."""
    spec, findings = parse_file(LOCKED, base)
    assert spec is not None, findings
    credential = spec.rounds[0].credential
    assert credential is not None
    assert isinstance(credential.key, Locked)
    assert [each.words for each in asked(spec)] == ["password of the private key"]
    place = Place(Path("/nowhere"), "aovpn0")
    assert "load-key" not in [command for command, _ in requests(spec, place, None)]

    desk = Desk(_unlock)
    desk.expect((spec,))
    with pytest.raises(CommandRefused) as refusal:
        desk.take("home", {1: Secret("another")})
    assert "another password" in str(refusal.value)
    assert desk.fetch(spec) is None
    desk.take("home", {1: Secret(KEY_PASSWORD)})
    answers = desk.fetch(spec)
    assert answers is not None
    given = answered(spec, answers)
    (key,) = (message["data"] for command, message in requests(given, place, None) if command == "load-key")

    assert key.startswith("-----BEGIN PRIVATE KEY-----")
    assert name_of(given) == name_of(spec)
    assert key not in f"{given!r}{desk!r}{answers!r}"


def test_a_slow_password_holds_nobody_up(base: Path) -> None:
    """While a key's password is judged, the loop and the backend go on; of a tunnel that changes meanwhile, no key is
    kept.
    """
    spec, _ = parse_file(LOCKED, base)
    assert spec is not None
    begun, judged = threading.Event(), threading.Event()

    def unlock(key: Locked, chain: tuple[str, ...], password: Secret) -> Secret:
        begun.set()
        assert judged.wait(timeout=30)
        return _unlock(key, chain, password)

    desk = Desk(unlock)
    desk.expect((spec,))

    async def tried(_: SignedIn) -> Answer:
        return Answer("tried")

    async def play() -> object:
        signing = asyncio.create_task(desk.serve(tried, SignIn("home", ((1, Secret(KEY_PASSWORD)),))))
        await asyncio.to_thread(begun.wait, 30)
        assert desk.fetch(spec) is None
        desk.expect((replace(spec, networks=()),))
        judged.set()
        with pytest.raises(CommandRefused) as refusal:
            await signing
        return refusal.value.code

    assert asyncio.run(play()) == "answers-differ"
    assert [each["tunnel"] for each in desk.questions()] == ["home"]


@pytest.mark.parametrize(
    ("text", "where", "reason"),
    [
        (ASKS.replace('{ ask = "once" }', f'"{PASSWORD}"'), "ike.auth.password", "is no place for a secret"),
        (ASKS.replace('"once"', f'"{PASSWORD}"'), "ike.auth.password", "does not say how it is asked for"),
        (ASKS.replace('"once"', "true"), "ike.auth.password", "does not say how it is asked for"),
        (ASKS.replace('"once"', "[]"), "ike.auth.password", "does not say how it is asked for"),
        (ASKS.replace('{ ask = "once" }', "{}"), "ike.auth.password", "does not say how it is asked for"),
        (f"{ASKS}".replace("[ike.server]", 'password_file = "keys/pw"\n[ike.server]'), "ike.auth.password", "beside"),
        (ASKS.replace("once", "each time").replace("[ike]", '[ike]\nreauth = "1h"'), "ike.auth.password", "reauth"),
        (PSK_FILE.replace('secret_file = "keys/psk"', 'password = { ask = "once" }'), "ike.auth.password", "no use"),
        (CERT.replace("[ike.server]", 'password = { ask = "once" }\n[ike.server]'), "ike.auth.key", "is not encrypted"),
        (LOCKED.replace("once", "each time"), "ike.auth.password", "is the same each time"),
        (
            LOCKED.replace(HIDDEN, 'tpm = { handle = "81010001" }'),
            "ike.auth.password",
            "without key",
        ),
        (CONTAINER, "ike.auth.password", "before it is open"),
        (
            CERT.replace('key = "keys/laptop.key"', 'tpm = { handle = "81010001", pin = { ask = "each time" } }'),
            "ike.auth.tpm.pin",
            "is the same each time",
        ),
    ],
)
def test_nonsense_is_refused_with_its_place(base: Path, text: str, where: str, reason: str) -> None:
    """Line, key, what to do; and nothing of what may be the secret itself."""
    spec, findings = parse_file(text, base)

    assert spec is None
    found = next(each for each in findings if each.key == where)
    assert reason in found.reason
    assert found.line
    assert found.hint
    assert PASSWORD not in str(findings)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal's lines: which there are, what they say, and what never stands in one."""

import asyncio
import logging
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, Final

import pytest

from aovpnd.adapters import systemd
from aovpnd.core import journal
from aovpnd.core.journal import Last, configured, entries, failed
from aovpnd.core.picture import Picture
from aovpnd.daemon import Daemon
from aovpnd.destinations import Destination, Routed
from aovpnd.doors import WhileConnected
from aovpnd.errors import NetlinkError, SystemFault
from aovpnd.inquiries import Finding, Inquiry, Unanswered
from aovpnd.messages import Entry, Message, printable
from aovpnd.model import (
    Block,
    Config,
    Grant,
    GrantKind,
    Intent,
    Phase,
    Problem,
    Severity,
    Snapshot,
    TemporaryAccessPolicy,
)
from aovpnd.orders import (
    Action,
    AllowTemporary,
    CancelTemporary,
    Command,
    Confirm,
    Connect,
    Disconnect,
    EnsureRouting,
    EnsureTunnel,
    LoadRuleset,
    Reload,
    SetBlock,
)
from aovpnd.resting import Rouse
from aovpnd.tunnel import Secret
from tests.unit.imports import ROOT
from tests.unit.small_world import HOME, WORK
from tests.unit.world import FaultError, Laptop

KEYS: Final = ("yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=", "/UwcSPg38hW/D9Y3tcS1FOV0K1wuURMbS0sesJEP5ak=")
SECRET: Final = replace(
    WORK, private_key=Secret(KEYS[0]), peers=(replace(WORK.peers[0], preshared_key=Secret(KEYS[1])), *WORK.peers[1:])
)
BROKEN: Final = Problem("config-invalid", Severity.ERROR, "/etc/aovpnd/aovpnd.toml:2: lan.allow: must be true or false")


# -- what is written down ----------------------------------------------------------------------------------------------
CATALOGUE: Final = (ROOT / "etc" / "catalog" / "aovpnd.catalog").read_text(encoding="utf-8")
PAGE: Final = (ROOT / "docs" / "man" / "aovpnd.8.md").read_text(encoding="utf-8")


def test_every_message_has_a_help_text_and_a_row() -> None:
    """The catalogue and the manual page have each id once, and no other."""
    wanted = sorted(message.value for message in Message)

    assert sorted(re.findall(r"(?m)^-- ([0-9a-f]{32})$", CATALOGUE)) == wanted
    assert sorted(re.findall(r"(?m)^\| `([0-9a-f]{32})` \|", PAGE)) == wanted
    assert set(re.findall(r"MESSAGE_ID=([0-9a-f]+)", CATALOGUE + PAGE)) <= set(wanted)


def test_catalogue_names_only_fields_that_there_are() -> None:
    """A field that nobody sets would be shown as it stands there."""
    code = "".join(
        (ROOT / "aovpnd" / name).read_text(encoding="utf-8")
        for name in ("core/journal.py", "__main__.py", "messages.py")
    )
    in_catalogue, on_page = re.findall(r"@AOVPND_([A-Z_]+)@", CATALOGUE), re.findall(r"AOVPND_([A-Z_]+)", PAGE)
    named = {*in_catalogue, *on_page} - {"RUNTIME_DIR", "ROLLBACK_AFTER_S"}  # which are of the environment

    assert {name for name in named if f'"{name}"' not in code} == set()


def test_ids_are_unlike() -> None:
    """128 bits each, random ones (sd-id128(3)), and levels that exist."""
    assert all(re.fullmatch(r"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}", message.value) for message in Message)
    assert len({message.value for message in Message}) == len(Message)
    assert {logging.getLevelName(message.level) for message in Message} == {"INFO", "WARNING", "ERROR"}


# -- what is said of a pass --------------------------------------------------------------------------------------------
@dataclass
class Told:
    """A laptop, pass by pass, and what the log says of it."""

    laptop: Laptop
    last: Last = field(default_factory=Last)
    lines: list[Entry] = field(default_factory=list)

    def settle(self, command: Command | None = None, reason: str = "test") -> list[Entry]:
        """Passes until nothing is left to do; the lines of this time."""
        before = len(self.lines)
        for _ in range(8):
            done = len(self.laptop.done)
            desired, tried = self.laptop.look(command)
            command = None
            picture = Picture(self.laptop.config, self.laptop.intent, self.laptop.snapshot, desired)
            self.lines += entries(self.last, picture, tuple(self.laptop.done[done:]), reason)
            self.last = journal.last(picture, tuple(self.laptop.done[done:]), self.last)
            if not tried:
                break
        return self.lines[before:]


@pytest.fixture
def told() -> Told:
    """At home with two tunnels."""
    laptop = Laptop(Config((WORK, HOME), prefer=("work",)))
    laptop.join("home")
    return Told(laptop)


def kinds(lines: list[Entry]) -> list[Message]:
    """Of what kind they are."""
    return [line.message for line in lines]


def test_life_in_lines(told: Told) -> None:
    """Start to connected, and then what people ask the journal for; nothing is said of a pass that did nothing."""
    assert Message.TUNNEL_UP in kinds(told.settle())
    assert told.settle() == []
    assert kinds(told.settle(Disconnect()))[0] is Message.PHASE_CHANGED
    assert kinds(told.settle(AllowTemporary(60, "portal", "alice")))[0] is Message.WINDOW_OPENED
    assert kinds(told.settle(CancelTemporary()))[0] is Message.WINDOW_CLOSED
    assert Message.TUNNEL_UP in kinds(told.settle(Connect()))
    assert Message.TUNNEL_SWITCHED in kinds(told.settle(Connect("home")))
    told.settle(Connect("work"))
    told.laptop.leave()
    assert Message.TUNNEL_LOST in kinds(told.settle())
    assert told.settle(SetBlock(Block.OFF))[0].message is Message.PHASE_CHANGED


def test_window_says_who_where_how_long_and_why(told: Told) -> None:
    """In the text and in the fields; the phase before as well."""
    told.settle(Disconnect())
    line = next(
        line for line in told.settle(AllowTemporary(60, "portal", "alice")) if line.message is Message.WINDOW_OPENED
    )

    assert line.text.startswith(
        "temporary-access: temporary access on wlan0 for 60 s, granted to alice: portal; load ruleset: temporary-access"
    )
    assert line.text.endswith(" (woken by: test)")
    assert line.extra == {
        "MESSAGE_ID": Message.WINDOW_OPENED.value,
        "AOVPND_PHASE": "temporary-access",
        "AOVPND_PHASE_BEFORE": "blocked",
        "AOVPND_UPLINK": "wlan0",
        "AOVPND_ACTIONS": line.extra["AOVPND_ACTIONS"],
        "AOVPND_REASON": "test",
        "AOVPND_LINK": "wlan0",
        "AOVPND_USER": "alice",
        "AOVPND_SPAN_S": "60",
        "AOVPND_WHY": "portal",
    }
    assert line.extra["AOVPND_ACTIONS"].startswith("load ruleset: temporary-access; ")
    closed = next(line for line in told.settle(CancelTemporary()) if line.message is Message.WINDOW_CLOSED)
    assert "temporary access on wlan0 has ended" in closed.text
    assert "granted to alice" not in next(
        line.text for line in told.settle(AllowTemporary(60)) if line.message is Message.WINDOW_OPENED
    )


def test_culprit_is_named(told: Told) -> None:
    """Who changed our table, when it was loaded again; otherwise it was only loaded."""
    told.settle()
    told.laptop.flush()
    told.laptop.snapshot = replace(told.laptop.snapshot, culprit="nft[77]")
    desired, _ = told.laptop.look()
    seen = Picture(told.laptop.config, told.laptop.intent, replace(told.laptop.snapshot, culprit="nft[77]"), desired)
    load = LoadRuleset(desired.ruleset, "connected")
    (line,) = entries(journal.last(seen), seen, (load,), "nftables")

    assert (line.message, line.message.level) == (Message.RULESET_RESTORED, logging.WARNING)
    assert line.extra["AOVPND_CULPRIT"] == "nft[77]"
    quiet = replace(seen, snapshot=replace(seen.snapshot, culprit=None))
    assert kinds([*entries(journal.last(quiet), quiet, (load,), "x")]) == [Message.RULESET_LOADED]
    assert kinds([*entries(journal.last(quiet), quiet, (EnsureRouting(None),), "x")]) == [Message.SYSTEM_CHANGED]
    assert kinds([*entries(journal.last(quiet), quiet, (LoadRuleset(None),), "x")]) == [Message.SYSTEM_CHANGED]


def test_rare_coincidence_is_two_lines(told: Told) -> None:
    """A window that the tunnel's success closes: both can be found, and what was done is told once."""
    told.settle()
    laptop = told.laptop
    seen = Picture(laptop.config, laptop.intent, laptop.snapshot, laptop.settle())
    grant = Grant(GrantKind.ACCESS, 2, "wlan0", "1 192.168.1.1", 990.0, 1050.0, "alice", "portal")
    lines = entries(
        Last(Phase.TEMPORARY_ACCESS, grant, "work"), seen, (LoadRuleset(seen.desired.ruleset, "it"),), "links"
    )

    assert kinds([*lines]) == [Message.WINDOW_CLOSED, Message.TUNNEL_UP]
    assert lines[0].extra["AOVPND_ACTIONS"] == "load ruleset: it"
    assert "AOVPND_ACTIONS" not in lines[1].extra
    assert lines[1].text == "connected: the tunnel work is up"


def test_change_of_tunnel_is_one_line(told: Told) -> None:
    """Somebody asked for it: nothing was lost."""
    told.settle()
    lines = told.settle(Connect("home"))

    assert kinds(lines) == [Message.TUNNEL_SWITCHED, Message.TUNNEL_UP]
    assert lines[0].text.startswith("connecting: from the tunnel work to home; ")


def test_paused_tunnel_has_not_come_up(told: Told) -> None:
    """A window over a tunnel that goes on: it opens and closes, and nothing else happened."""
    told.laptop.config = replace(
        told.laptop.config, temporary_access=TemporaryAccessPolicy(while_connected=WhileConnected.PAUSE)
    )
    told.settle()
    told.settle(AllowTemporary(60))

    assert kinds(told.settle(CancelTemporary())) == [Message.WINDOW_CLOSED]


def test_problems_come_and_go(told: Told) -> None:
    """Each is one line when it appears and one when it goes, with its words, hint and code; as loud as it is bad."""
    told.settle()
    told.laptop.silent = {"work"}
    told.laptop.flap()
    said: list[Entry] = []
    for _ in range(60):
        told.laptop.tick(1.0)
        said += [line for line in told.settle() if line.message in {Message.PROBLEM_FOUND, Message.PROBLEM_GONE}]
    (found,) = said
    told.laptop.silent = set()
    for _ in range(60):
        told.laptop.tick(1.0)
        said += [line for line in told.settle() if line.message in {Message.PROBLEM_FOUND, Message.PROBLEM_GONE}]

    assert (found.message, found.level) == (Message.PROBLEM_FOUND, logging.WARNING)
    assert found.text.startswith("problem: the gateway of work (")
    assert found.text.endswith("check the keys and the gateway)")
    assert found.extra["AOVPND_PROBLEM_CODE"] == "no-handshake"
    assert found.extra["AOVPND_PROBLEM_SEVERITY"] == "warning"
    assert said[1:] == [replace(said[1], message=Message.PROBLEM_GONE)]
    assert said[1].text.startswith("no longer: the gateway of work (")


def test_problems_that_have_lines_already(told: Told) -> None:
    """Faults of files are told when they are read, and failures when they happen."""
    told.laptop.config = replace(told.laptop.config, problems=(BROKEN,))
    told.laptop.fails = {EnsureRouting}

    assert not {Message.PROBLEM_FOUND, Message.PROBLEM_GONE} & set(kinds(told.settle()))


def test_words_alone_are_no_news() -> None:
    """A second one of the same code is; and what has no hint has none."""
    laptop = Laptop(Config((WORK,)))
    seen = Picture(laptop.config, laptop.intent, laptop.snapshot, laptop.settle())
    one = Problem("fight", Severity.INFO, "one thing")

    def lines(before: tuple[Problem, ...], now: tuple[Problem, ...]) -> list[str]:
        then = replace(journal.last(seen), problems=before)
        return [line.text for line in entries(then, replace(seen, desired=replace(seen.desired, problems=now)), (), "")]

    other = replace(one, text="another thing")
    assert lines((), (one,)) == ["problem: one thing"]
    assert lines((one,), (other,)) == []
    assert lines((one,), (one, other)) == ["problem: another thing"]
    assert lines((one, other), (other,)) == ["no longer: one thing"]


def test_failure_and_configuration() -> None:
    """What failed, after what, and why; a configuration that is good or broken, with no more faults than one reads."""
    laptop = Laptop(Config((WORK,)))
    laptop.join("home")
    desired, _ = laptop.look()
    seen = Picture(laptop.config, laptop.intent, laptop.snapshot, desired)
    line = failed(seen, EnsureRouting(None), (LoadRuleset(None),), "it is busy (try later)")

    assert line.text.endswith(": remove our rule and routes failed: it is busy (try later)")
    assert (line.extra["AOVPND_ACTION"], line.extra["AOVPND_ACTIONS"]) == ("EnsureRouting", "remove ruleset")
    assert line.message.level == logging.ERROR
    assert configured(Config((WORK, HOME))).text == "configuration read; tunnels: work, home"
    assert configured(Config()).text == "configuration read; tunnels: none"
    assert configured(Config(problems=(BROKEN,) * 5)).text == (
        "the configuration is broken, and what worked is kept: "
        + "; ".join([BROKEN.text] * 3)
        + "; and 2 more (aovpnctl check)"
    )
    assert configured(Config(problems=(BROKEN,))).text.endswith(BROKEN.text)


# -- what never stands in one ------------------------------------------------------------------------------------------
def test_fields_are_one_printable_line() -> None:
    """Nothing that begins a line, that a terminal obeys, or that cannot be seen; what is empty has no field."""
    entry = Entry(Message.STARTED, "", (("CULPRIT", "a\nMESSAGE=b\x1b[2J\u202e"), ("WHY", "")))

    assert entry.extra == {"MESSAGE_ID": Message.STARTED.value, "AOVPND_CULPRIT": r"a\nMESSAGE=b\x1b[2J\u202e"}
    assert printable("Café ☕") == "Café ☕"


class _Collecting(logging.Handler):
    """As systemd's JournalHandler does it: the message, and everything that the record holds."""

    def __init__(self, **_: object) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.records: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.texts.append(self.format(record))
        self.records.append(dict(record.__dict__))


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Collecting]:
    """Our log, as the journal would get it."""
    package, module = ModuleType("systemd"), ModuleType("systemd.journal")
    package.journal = module  # type: ignore[attr-defined]
    module.JournalHandler = _Collecting  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "systemd", package)
    monkeypatch.setitem(sys.modules, "systemd.journal", module)
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    log = logging.getLogger("aovpnd")
    before = (log.level, log.propagate, log.handlers[:])
    systemd.log_to_journal_or_stderr(logging.DEBUG)
    handler = log.handlers[-1]
    assert isinstance(handler, _Collecting)
    yield handler
    log.setLevel(before[0])
    log.propagate = before[1]
    log.handlers[:] = before[2]


def test_journal_gets_the_fields_and_one_line(collected: _Collecting) -> None:
    """Arguments are melted into the message, whatever they hold, and the fields are the record's."""
    logging.getLogger("aovpnd").info("by %s", "x\n\x1b[2J", extra=Entry(Message.STARTED, "", (("VERSION", "1"),)).extra)

    assert collected.texts == [r"by x\n\x1b[2J"]
    assert collected.records[0]["MESSAGE_ID"] == Message.STARTED.value
    assert collected.records[0]["AOVPND_VERSION"] == "1"
    assert collected.records[0]["args"] == ()


def test_stderr_gets_plain_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a journal, or without systemd's library, the text alone, and every message is one line."""
    log = logging.getLogger("aovpnd")
    before = (log.level, log.propagate, log.handlers[:])
    for stream in ("", "1:2"):
        log.handlers[:] = []
        monkeypatch.setitem(sys.modules, "systemd", None)
        if stream:
            monkeypatch.setenv("JOURNAL_STREAM", stream)
        else:
            monkeypatch.delenv("JOURNAL_STREAM", raising=False)
        systemd.log_to_journal_or_stderr()
        log.warning("%s", "a\nb", extra=Entry(Message.STOPPED, "").extra)
        assert capsys.readouterr().err == "aovpnd: WARNING: a\\nb\n"
    log.setLevel(before[0])
    log.propagate = before[1]
    log.handlers[:] = before[2]


@dataclass
class _Machine:
    """A system that is a laptop of values; what it is told to, fails."""

    laptop: Laptop
    unreadable: bool = False
    defect: bool = False

    def observe(self) -> Snapshot:
        """Look."""
        if self.unreadable:
            raise NetlinkError("it does\nnot answer")
        if self.defect:
            raise RuntimeError("a defect")
        self.laptop._shake_hands()  # noqa: SLF001 - time passes when somebody looks
        return self.laptop.snapshot

    def apply(self, action: Action) -> None:
        """Do it, or fail."""
        try:
            self.laptop.apply(action)
        except FaultError as error:
            raise SystemFault(f"{error}\n{action.describe()}") from error

    def is_over(self, rouse: Rouse) -> bool:
        """Nobody sends."""
        return rouse.tries < 0

    def remember(self, intent: Intent) -> None:
        """Nothing is kept."""

    def routes(self, asked: tuple[Destination, ...]) -> dict[Destination, Routed]:
        """Nothing fits what is known."""
        return dict.fromkeys(asked, Routed())

    def inquire(self, inquiry: Inquiry) -> Finding:
        """Nobody knows."""
        return Unanswered(inquiry, "nobody knows")


async def _life(daemon: Daemon, machine: _Machine, failing: tuple[type[Action], ...]) -> None:
    """Everything that the daemon has words for."""
    commands: tuple[Command, ...] = (
        *(Connect(), Disconnect(), AllowTemporary(60, "portal", "alice"), CancelTemporary(), Connect("home"), Reload()),
        *(Connect("work"), SetBlock(Block.OFF), SetBlock(Block.ON), Confirm()),
    )
    for faults in ((), *((each,) for each in failing)):
        machine.laptop.fails = set(faults)
        machine.laptop.tick(100.0)  # what failed before may be tried again
        for command in commands:
            try:
                await daemon.submit(command)
            except Exception:  # noqa: BLE001, S112 - what is refused is logged all the same
                continue
    machine.laptop.fails = set()
    machine.laptop.tick(100.0)
    await daemon.submit(Connect("work"))
    machine.laptop.flush()
    daemon.changed_by("nft[77]")
    await daemon.submit(Reload())
    for wrong in ("unreadable", "defect"):
        setattr(machine, wrong, True)
        with pytest.raises(SystemFault):
            await daemon.submit(Reload())
        setattr(machine, wrong, False)


def test_no_line_ever_holds_a_key(collected: _Collecting) -> None:
    """Everything that can be logged is, with known keys in the configuration: in no text, no field, no argument."""
    machine = _Machine(Laptop(Config((SECRET, HOME), prefer=("work",), problems=(BROKEN,))))
    machine.laptop.join("home")
    configure: Callable[[Config | None], Config] = lambda _: machine.laptop.config  # noqa: E731 - a stand-in

    async def run() -> None:
        daemon = Daemon(machine, configure, lambda *_: None, lambda: None, intent=Intent())
        running = asyncio.create_task(daemon.run(lambda: None))
        async with asyncio.timeout(30):
            await _life(daemon, machine, (LoadRuleset, EnsureTunnel, EnsureRouting))
            daemon.stop()
            await running

    asyncio.run(run())

    said = {Message(record["MESSAGE_ID"]) for record in collected.records if "MESSAGE_ID" in record}
    assert said >= {
        *(Message.TUNNEL_UP, Message.TUNNEL_SWITCHED, Message.WINDOW_OPENED, Message.WINDOW_CLOSED),
        *(Message.ACTION_FAILED, Message.CONFIGURATION_BROKEN, Message.RULESET_RESTORED, Message.SYSTEM_UNREADABLE),
    }
    everything = "\n".join([*collected.texts, *map(repr, collected.records)])
    assert not any(key in everything for key in KEYS)
    # A traceback of our own has lines; nothing else does.
    assert all("\n" not in text for text in collected.texts if "Traceback" not in text)

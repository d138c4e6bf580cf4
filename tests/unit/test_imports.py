# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may import whom, with the reason for every edge that is missing. Read it as the plan of the house."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.unit.imports import ROOT, Import, circles, imports, is_standard, modules

# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────────

# fmt: off
PURE: Final = frozenset((
    "__future__", "abc", "base64", "binascii", "collections", "dataclasses", "enum", "functools", "hashlib",
    "ipaddress", "itertools", "math", "operator", "re", "types", "typing",
))
# fmt: on
"""What of the standard library can neither act, nor wait, nor read a clock."""
ANY: Final = frozenset({"*"})


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the house: its modules, the parts it may import, what of the standard library, and why no more."""

    name: str
    may: frozenset[str]
    why: str
    standard: frozenset[str] = ANY


def _part(name: str, may: str, why: str, standard: frozenset[str] = ANY) -> Part:
    return Part(name, frozenset(may.split()), why, standard)


PARTS: Final = (
    # values, from the ground up
    _part("__init__", "", "it is imported by everything, also by the quick commands"),
    _part("names", "", "guard and quick commands read it: it must cost nothing and depend on nothing", PURE),
    _part("errors", "", "everything raises them, so they can know of nobody", PURE),
    _part("links", "names", "a leaf that guard, core and adapters share: one meaning of 'outside' for all", PURE),
    _part("ruleset", "names links", "what a ruleset means must not depend on who loads it or when", PURE),
    _part("clock", "", "what time it is, is two numbers", PURE),
    _part(
        "render",
        "names links ruleset",
        "text for nft is a function of the ruleset alone, or golden files mean nothing",
        PURE,
    ),
    _part("trace", "links ruleset", "what a ruleset does to a packet depends on nothing but the two", PURE),
    _part("tunnel", "links ruleset", "what a file says of a tunnel, and nothing of what the machine makes of it", PURE),
    _part("ipsec", "links ruleset tunnel", "as tunnel", PURE),
    _part("filters", "links ruleset", "what somebody wrote of a tunnel; what becomes of packets is core's", PURE),
    _part(
        "gateways",
        "links ruleset filters tunnel users",
        "what is remembered of tunnels is values; what follows is core's",
        PURE,
    ),
    _part("resting", "", "when a tunnel rests is core's, and all that it takes is some numbers", PURE),
    _part("users", "links ruleset", "what somebody wrote of users; what becomes of packets is core's", PURE),
    _part("pages", "links ruleset tunnel", "where a page is and what is known of it; what follows is core's", PURE),
    _part(
        "routes", "links ruleset tunnel", "what stands in a routing table is values, shared by core and adapters", PURE
    ),
    _part("passwd", "names", "one file, asked by the daemon and by whoever reads the settings"),
    _part("dns", "links ruleset", "whom to ask for names is data, shared by core and adapters", PURE),
    _part("doors", "", "who may have the network opened is two words; what follows is core's", PURE),
    _part("confirmation", "", "whether the block is confirmed is a word and a moment; what follows is core's", PURE),
    _part("logins", "confirmation", "one question to libsystemd, asked by the daemon and by the commands that warn"),
    _part("repairs", "", "what is remembered is values; what follows is core's", PURE),
    _part("rollback", "names", "what was written of a version that went is said alike by status and doctor", PURE),
    _part("sockets", "names links ruleset", "which sockets go is data, shared by core and adapter", PURE),
    _part("absence", "names", "what is true without a daemon is said alike by status, commands and bus"),
    _part("vouch", "", "whether a daemon runs is asked by a status bar every second: it must cost nothing"),
    _part(
        "regular", "", "a way to read and to keep a file that all share who do: it must cost nothing and know nobody"
    ),
    _part(
        "clockfile", "names clock regular logs options", "runs by itself at boot, and the daemon writes what it reads"
    ),
    _part(
        "resolvconf", "names regular", "the way out when all else fails writes resolv.conf with it, as the daemon does"
    ),
    _part(
        "inquiries",
        "links ruleset tunnel ipsec pages",
        "questions and answers are values; who asks is the loop's business",
        PURE,
    ),
    _part(
        "model",
        "names errors clock links users routes ruleset filters tunnel ipsec dns doors gateways inquiries sockets"
        " repairs resting rollback confirmation pages",
        "the nouns that all share: whatever they imported, all would import",
        PURE,
    ),
    _part("destinations", "", "where a packet would go is a text that somebody typed, and nothing else", PURE),
    _part(
        "orders",
        "names errors links routes ruleset model tunnel dns doors destinations sockets confirmation",
        "what to do is data; how it is done is the adapters' business",
        PURE,
    ),
    _part("admission", "", "who is at the other end of a socket, the kernel says"),
    _part(
        "signin",
        "errors ipsec links ruleset tunnel orders",
        "who answers and who needs it meet here; neither sees the other, and core sees neither",
    ),
    _part("messages", "", "ids and names of fields are the same for whoever logs, and for whoever searches", PURE),
    _part("shape", "", "readers of every process check with it what another one wrote, also the quick one", PURE),
    _part("logs", "messages", "one filter for the logs of all processes; what they log is theirs to say"),
    _part("options", "messages", "how the processes read their command lines; the quick command has its own"),
    _part("durations", "", "the quick commands read spans of time with it: it must cost nothing", PURE),
    _part(
        "status",
        "__init__ names clock links ruleset model tunnel ipsec confirmation",
        "what is published is a function of what was seen; when and where is the adapters' business",
        PURE | {"datetime"},
    ),
    # decisions
    _part(
        "core",
        "names clock errors links users routes ruleset filters model tunnel ipsec dns doors gateways inquiries sockets"
        " repairs resting orders rollback confirmation pages",
        "decisions are pure: no clock, no logging, no input or output, so that a test can go through all of them",
        PURE,
    ),
    _part(
        "core.explain",
        "names links routes ruleset trace render model destinations guard.rules",
        "the guard's tables judge as well, and its rules are values that say how; rules are quoted as nft writes them",
        PURE,
    ),
    _part(
        "core.journal",
        "names links ruleset model tunnel orders messages",
        "what is said of a pass; who says it, the loop",
        PURE,
    ),
    _part(
        "core.answers",
        "names routes clock ruleset model destinations orders",
        "as core, of a destination that somebody typed",
        PURE,
    ),
    _part(
        "core.way",
        "names links routes ruleset model destinations",
        "as core, for a destination that somebody typed",
        PURE,
    ),
    _part(
        "core.sentences",
        "names links users ruleset filters model tunnel ipsec destinations",
        "as core, for a destination that somebody typed",
        PURE,
    ),
    _part(
        "config",
        "names errors links users passwd ruleset filters model tunnel ipsec inquiries durations doors pages",
        "reading what somebody wrote decides nothing and changes nothing",
    ),
    _part(
        "importers",
        "names regular errors links ruleset model tunnel ipsec config messages",
        "they write our own files, and do nothing else",
    ),
    # the outside world
    _part("lock", "errors", "one file of a few lines for all three processes"),
    _part(
        "nftlib",
        "names errors",
        "one context of libnftables for adapters and guard; what is loaded is not its business",
    ),
    _part("rtnl", "names errors links", "a raw socket that guard and adapters share: small enough for the guard"),
    _part("xfrm", "errors rtnl", "what the kernel's IPsec has; rtnl speaks to it"),
    _part(
        "adapters",
        "names clock errors links routes ruleset render model tunnel dns inquiries sockets orders messages logs nftlib"
        " rtnl lock resolvconf regular repairs resting rollback vouch clockfile confirmation pages",
        "they observe and ensure; an adapter that imported core, config or daemon could decide",
    ),
    _part("adapters.routeget", "errors rtnl destinations", "one question to the kernel, and its answer"),
    _part(
        "adapters.egress",
        "names links model guard.rules nftlib",
        "the daemon's copies of the guard's tables: one text for both, and nothing of the guard but its rules",
    ),
    _part(
        "backends",
        "names errors links routes ruleset model resting tunnel ipsec orders adapters rtnl xfrm messages regular"
        " signin",
        "one kind of tunnel each; whether there shall be one is decided in core, how it is shown to the user elsewhere",
    ),
    _part(
        "guard.rules",
        "names links ruleset render",
        "the guard's tables as values: early boot and the adapter that mends its chains hold the same ones",
        PURE,
    ),
    # the three processes and the program of the user
    _part(
        "status",
        "names clock errors links ruleset model tunnel ipsec confirmation",
        "what is published is a function of what is: it must never influence it",
        PURE | {"datetime"},
    ),
    _part(
        "control",
        "names errors links model tunnel orders destinations doors signin admission shape",
        "it is given a submit(command): who asks must not reach what acts",
    ),
    _part("wake", "", "reasons to look again are words; what is looked at is the loop's business"),
    _part(
        "daemon",
        "names clock errors links ruleset render model resting tunnel inquiries orders messages destinations wake core"
        " config status",
        "adapters, backends and control are handed in, so that tests hand in fakes",
    ),
    _part(
        "guard",
        "names errors links ruleset render nftlib rtnl lock logs options",
        "it must outlive every mistake of the rest: nothing of core, model, daemon or the adapters' libraries",
    ),
    _part(
        "bus",
        "names absence errors logs options shape",
        "unprivileged and in a process of its own: it knows a protocol, not our decisions",
    ),
    _part(
        "ctl",
        "names absence errors durations destinations shape vouch",
        "every command starts in the blink of an eye; work is done in the daemon",
    ),
    _part(
        "ctl.check",
        "names errors config model tunnel ipsec links ruleset",
        "works without a daemon: reads the files as the daemon would",
    ),
    _part("ctl.export", "names errors config model tunnel", "reads one file, as the daemon would"),
    _part(
        "ctl.doctor",
        "names errors regular rollback config model tunnel ipsec links ruleset",
        "reads all that there is and changes nothing: no adapter, no order, no daemon",
    ),
    *(
        _part(
            f"ctl.doctor.{module}",
            "names links rollback",
            "what is said of a machine is a function of what was seen of it, so that tests need no machine",
            PURE,
        )
        for module in ("facts", "block", "judge")
    ),
    _part("ctl.doctor.machine", "names links", "as ctl.doctor.judge; a date is shown as one", PURE | {"time"}),
    _part("ctl.doctor.neighbours", "names links", "as ctl.doctor.judge", PURE),
    _part("ctl.doctor.parse", "names links", "as ctl.doctor.judge, of text", PURE | {"json", "fnmatch"}),
    _part("ctl.explain", "names errors destinations shape passwd", "as ctl; whom a name means, one file says"),
    _part("ctl.readable", "names errors config", "as check"),
    _part("ctl.policy", "names errors config model tunnel ipsec links ruleset", "as check"),
    _part("ctl.encrypting", "names errors regular", "runs systemd-creds and writes what it made"),
    _part("ctl.placing", "names errors config", "writes what others have read"),
    *(
        _part(
            f"ctl.{module}",
            "names errors regular config importers model tunnel ipsec links ruleset",
            "as check, and writes what it read",
        )
        for module in ("import_", "import_ike", "import_wgquick")
    ),
    _part(
        "ctl.offline", "names errors lock resolvconf regular", "the way out when all else fails: no daemon, no library"
    ),
    _part(
        "ctl.remote", "names errors confirmation logins regular", "what is said before a person is cut off, and after"
    ),
    _part("ctl.status", "names absence errors", "a status bar asks every second: it reads one published file"),
    _part(
        "static_files",
        "names links ruleset render model tunnel ipsec core guard.rules",
        "early boot loads what the compilers write: the same ones, with nothing between",
    ),
    _part(
        "system",
        "names errors links ruleset model resting tunnel ipsec destinations inquiries orders adapters backends nftlib"
        " confirmation logins signin",
        "it puts the adapters behind one door; it decides nothing, so it must not see core",
    ),
    _part("__main__", "*", "it builds everything and wires it together"),
)

LIBRARIES: Final = {
    # library: (the only modules that import it, why)
    "nftables": (("nftlib",), "a context is bound to one thread and one network namespace: one place makes them"),
    "pyroute2": (("adapters.netlink",), "0.13 s to import, drops unknown arguments silently, differs between versions"),
    "systemd": (("adapters.systemd",), "optional: without systemd the daemon protects all the same"),
    "wgconfig": (("config.tunnels",), "accepts garbage: a strict border stands before and behind it"),
    "dns": (
        ("adapters.lookup",),
        "it could ask the machine's resolvers: here it makes and reads messages",
    ),
    "cryptography": (("config.certificates",), "50 ms and 10 MB: only where a tunnel has certificates"),
    "idna": (("config.hosts",), "names in other scripts end at the border"),
    "vici": (("backends.vici",), "reads without a limit once an answer has begun: the border sets one"),
    "gi": (("bus.dbus", "ctl.bus"), "GLib's loop lives in the unprivileged process; aovpnctl makes one call with it"),
    "pydbus": (("bus.dbus",), "its faults are met in one place"),
}

LAZY: Final = {
    ("aovpnd.nftlib", "nftables"): "a missing binding is an answer with a hint, and not a failure to start",
    ("aovpnd.adapters.systemd", "systemd"): "optional: where it is missing, nothing is said to anybody",
    (
        "aovpnd.system",
        "aovpnd.adapters.page",
    ): "as the look-up, and TLS and HTTP: only where a page is asked",
    ("aovpnd.system", "aovpnd.adapters.lookup"): "50 ms of dnspython at every start, also where no gateway has a name",
    ("aovpnd.config.credentials", "aovpnd.config.certificates"): "as much, also where no tunnel has a certificate",
    ("aovpnd.config.hosts", "idna"): "a quarter of a megabyte of tables for the few names in other scripts than ASCII",
}
"""Imports inside functions, beside those of the quick commands, and why."""

# ── the tests ────────────────────────────────────────────────────────────────────────────────────────────────────────

MODULES: Final = modules(ROOT / "aovpnd")
IMPORTS: Final = tuple(
    statement
    for name, path in MODULES.items()
    for statement in imports(name, path.read_text(encoding="utf-8"), MODULES)
)


def _within(module: str, place: str) -> bool:
    return module == place or module.startswith(f"{place}.")


def part_of(module: str) -> Part:
    """The part with the longest name that a module lies in; raises LookupError when it has no place in the table."""
    inside = module.removeprefix("aovpnd").removeprefix(".") or "__init__"
    homes = [part for part in PARTS if _within(inside, part.name)]
    if not homes:
        raise LookupError(
            f"{module} has no place in PARTS of {Path(__file__).name}: say what it may import, and why no more"
        )
    return max(homes, key=lambda part: len(part.name))


def allowed(statement: Import) -> str | None:
    """Why an import is forbidden, or None if it is not."""
    part = part_of(statement.importer)
    target = statement.target
    if _within(target, "aovpnd"):
        other = part_of(target).name
        # A module within a package may import its siblings; whoever may import a part may import what lies in it.
        siblings = part.name.partition(".")[0] == other.partition(".")[0]
        if siblings or other == "__init__" or "*" in part.may or any(_within(other, name) for name in part.may):
            return None
        return f"{part.name} may not import {other}: {part.why}"
    if is_standard(target):
        if "*" in part.standard or target.partition(".")[0] in part.standard:
            return None
        return f"{part.name} may not import {target}: {part.why}"
    library = target.partition(".")[0]
    if library not in LIBRARIES:
        return (
            f"{library} is no library of ours: give it one module, and a reason, in LIBRARIES of {Path(__file__).name}"
        )
    homes, why = LIBRARIES[library]
    if any(_within(statement.importer, f"aovpnd.{home}") for home in homes):
        return None
    return f"{library} is imported by {' and '.join(homes)} alone: {why}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_module_imports_only_what_its_part_may(module: str) -> None:
    """Every import stays within the table, and every module has a place in it."""
    wrong = [
        f"{statement}: {why}" for statement in IMPORTS if statement.importer == module and (why := allowed(statement))
    ]

    assert not wrong, "\n".join(wrong)


def test_there_are_no_circles() -> None:
    """No module imports itself by way of others, lazily or not: every file can be read after those it imports."""
    edges: dict[str, set[str]] = {name: set() for name in MODULES}
    for statement in IMPORTS:
        if statement.target in MODULES and statement.target != statement.importer:
            edges[statement.importer].add(statement.target)

    assert circles(edges) == ()


def test_only_commands_import_lazily() -> None:
    """An import inside a function is for the quick commands; elsewhere it hides a dependency."""
    hidden = [
        str(found)
        for found in IMPORTS
        if found.lazy and not _within(found.importer, "aovpnd.ctl") and (found.importer, found.target) not in LAZY
    ]

    assert not hidden, "\n".join(hidden)


@pytest.mark.parametrize(
    ("importer", "target", "part"),
    [
        ("aovpnd.core.decide", "time", "core"),
        ("aovpnd.core.decide", "aovpnd.adapters.nft", "core"),
        ("aovpnd.core.plan", "logging", "core"),
        ("aovpnd.adapters.nft", "aovpnd.core.decide", "adapters"),
        ("aovpnd.adapters.nft", "nftables", "nftlib"),
        ("aovpnd.guard.hold", "aovpnd.model", "guard"),
        ("aovpnd.guard.hold", "pyroute2", "adapters.netlink"),
        ("aovpnd.ctl.status", "aovpnd.config.files", "ctl.status"),
        ("aovpnd.daemon", "aovpnd.adapters.nft", "daemon"),
        ("aovpnd.ruleset", "os", "ruleset"),
        ("aovpnd.config.files", "yaml", "no library of ours"),
    ],
)
def test_forbidden_edge_is_noticed(importer: str, target: str, part: str) -> None:
    """The table refuses the edges that matter most; a table that allowed everything would pass the tests above."""
    why = allowed(Import(importer, 1, target, lazy=False))

    assert why is not None
    assert part in why


def test_circle_is_noticed() -> None:
    """A circle of three is found, and what merely leads into it is not part of it."""
    assert circles({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}) == (("a", "b", "c"),)


def test_imports_are_found_wherever_they_stand() -> None:
    """Submodules, functions and several names on a line are all seen, with the module that is really meant."""
    source = "import os, json\nfrom aovpnd import names\ndef f():\n    from aovpnd.core import plan, NAME\n"

    found = imports("m", source, {"aovpnd.names", "aovpnd.core", "aovpnd.core.plan"})

    assert [(statement.line, statement.target, statement.lazy) for statement in found] == [
        (1, "json", False),
        (1, "os", False),
        (2, "aovpnd.names", False),
        (4, "aovpnd.core", True),
        (4, "aovpnd.core.plan", True),
    ]

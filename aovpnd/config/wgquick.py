# SPDX-License-Identifier: GPL-3.0-or-later
"""The border before the parser: which lines a tunnel file may have, after wg-quick(8) and wg(8).

Both read ``Key = value`` in the sections ``[Interface]`` and ``[Peer]``, without regard to case, and ignore what
follows a ``#``. Where they are lenient (a key given twice, blanks inside keys) we refuse: a line that is not
understood may be one that was meant to protect somebody.
"""

import difflib
import re
from dataclasses import dataclass
from enum import Enum
from typing import Final, assert_never

from aovpnd.config import hosts
from aovpnd.config.findings import NOT_HONOURED, Finding, Findings, UnfitError, quoted
from aovpnd.model import Severity

LONGEST_LINE: Final = 16 * 1024
"""Characters; room for a thousand prefixes."""
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters but the tab, line ends that only some programs know, and what turns the direction of text."""
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,23}")
_ENDPOINT: Final = re.compile(r"Endpoint[ \t]*=", re.IGNORECASE)
"""The one key whose value may hold other letters: a name in the script of its owner."""
_WG_QUICK_COMMENT: Final = re.compile(r"#!\s*(\w+)\s*=")


class Takes(Enum):
    """How often a key may stand in its section, and what becomes of it."""

    ONE = "one value, once"
    LIST = "values separated by commas, on any number of lines"
    SCRIPT = "a command that is never run"
    IGNORED = "understood and not honoured"


class Section(Enum):
    """The two kinds of section."""

    INTERFACE = "Interface"
    PEER = "Peer"


KEYS: Final = {
    Section.INTERFACE: {
        "PrivateKey": Takes.ONE,
        "ListenPort": Takes.ONE,
        "MTU": Takes.ONE,
        "Address": Takes.LIST,
        "DNS": Takes.LIST,
        "FwMark": Takes.IGNORED,
        "Table": Takes.IGNORED,
        "SaveConfig": Takes.IGNORED,
        "PreUp": Takes.SCRIPT,
        "PostUp": Takes.SCRIPT,
        "PreDown": Takes.SCRIPT,
        "PostDown": Takes.SCRIPT,
    },
    Section.PEER: {
        "PublicKey": Takes.ONE,
        "PresharedKey": Takes.ONE,
        "AllowedIPs": Takes.LIST,
        "Endpoint": Takes.ONE,
        "PersistentKeepalive": Takes.ONE,
    },
}
"""Every key of wg-quick(8) and wg(8), in their spelling."""
_HARMLESS: Final = {("Table", "auto"), ("SaveConfig", "false"), ("FwMark", "off"), ("FwMark", "0")}
"""What is written and is so anyway; nothing to report."""


@dataclass(frozen=True, slots=True)
class Item:
    """One value of a key that we honour: stripped, printable ASCII, not empty, without comma."""

    key: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Block:
    """One section. ``line`` is where its head stands."""

    section: Section
    line: int
    items: tuple[Item, ...]

    def one(self, key: str) -> Item | None:
        """The value of a key that may stand once."""
        return next(iter(self.all(key)), None)

    def all(self, key: str) -> tuple[Item, ...]:
        """The values of a key, in the order of the file."""
        return tuple(item for item in self.items if item.key == key)


class _Reader(Findings):
    """Goes through the lines of one file; lives as long as `parse`."""

    def __init__(self, file: str) -> None:
        super().__init__(file)
        self.heads: list[tuple[Section, int]] = []
        self.items: list[list[Item]] = []
        self.first: dict[str, int] = {}
        self.lost = False
        """Below a head that was refused: what stands there has no meaning, and no message of its own."""
        self.scripts: dict[int, str] = {}
        self.ignored: dict[int, str] = {}

    def line(self, number: int, raw: str) -> None:
        """One line, without its end."""
        if len(raw) > LONGEST_LINE:
            return self.fault(number, f"the line is longer than {LONGEST_LINE} characters", "is it the right file?")
        if _CONTROL.search(raw):
            return self.fault(number, "the line holds a control character", "remove it; type the line anew")
        text, _, comment = raw.partition("#")
        text = text.strip(" \t")
        commented = _WG_QUICK_COMMENT.match("#" + comment)
        if commented is not None and (script := _known(commented[1], Takes.SCRIPT)) is not None:
            self.scripts[number] = f"#! {script}"
        if not text:
            return None
        if not text.isascii() and not _ENDPOINT.match(text):
            return self.fault(number, "the line holds letters that are not ASCII", "look for typographic characters")
        return self.head(number, text) if text.startswith("[") else self.entry(number, text)

    def head(self, number: int, text: str) -> None:
        """``[Interface]`` or ``[Peer]``."""
        section = next((section for section in Section if text.lower() == f"[{section.value}]".lower()), None)
        self.lost = True
        if section is None:
            return self.fault(number, f"{quoted(text)} is no section", "there are [Interface] and [Peer]")
        if section is Section.INTERFACE and (before := self.interface_line()) is not None:
            return self.fault(number, f"[Interface] stands already in line {before}", "put both together")
        self.lost = False
        self.heads.append((section, number))
        self.items.append([])
        self.first = {}
        return None

    def interface_line(self) -> int | None:
        """Where the interface section begins."""
        return next((line for section, line in self.heads if section is Section.INTERFACE), None)

    def entry(self, number: int, text: str) -> None:
        """``Key = value``. A line that may be a stray piece of base64 is never quoted: it may be a private key."""
        if self.lost:
            return None
        name, equals, value = (part.strip(" \t") for part in text.partition("="))
        if not equals or not _WORD.fullmatch(name) or (not value.strip("=") and _known(name) is None):
            return self.fault(number, "the line is neither a section nor KEY = VALUE", "a comment begins with #")
        if not self.heads:
            return self.fault(number, "the line stands before any section", "[Interface] comes first")
        section = self.heads[-1][0]
        key = _spelled(name, KEYS[section])
        if key is None:
            return self.fault(number, f"{quoted(name)} is no key of [{section.value}]", _advice(name, section))
        takes = KEYS[section][key]
        if takes is not Takes.SCRIPT and not value.strip(","):
            return self.fault(number, "has no value", "write one, or remove the line", key)
        if takes in {Takes.ONE, Takes.IGNORED} and key in self.first:
            return self.fault(number, f"stands already in line {self.first[key]}", "remove one of them", key)
        self.first.setdefault(key, number)
        return self.take(number, key, takes, value)

    def take(self, number: int, key: str, takes: Takes, value: str) -> None:
        """Keep a value, or remember that it was left alone."""
        match takes:
            case Takes.SCRIPT:
                self.scripts[number] = key
            case Takes.IGNORED:
                if (key, value.lower()) not in _HARMLESS:
                    self.ignored[number] = key
            case Takes.ONE:
                if "," in value:
                    return self.fault(number, "takes one value, not a list", "keep one of them", key)
                return self.one(number, key, value)
            case Takes.LIST:
                parts = [part.strip(" \t") for part in value.split(",")]
                if not all(parts):
                    return self.fault(number, "has a comma too many", "write one comma between two values", key)
                self.items[-1] += (Item(key, part, number) for part in parts)
            case _:
                assert_never(takes)
        return None

    def one(self, number: int, key: str, value: str) -> None:
        """Keep a value that stands alone, in ASCII: the parser behind this border knows nothing else."""
        if not value.isascii():
            host, colon, port = value.rpartition(":")
            try:
                value = f"{hosts.name(host)}{colon}{port}" if port.isascii() else value
            except UnfitError as error:
                return self.fault(number, error.reason, error.hint, key)
        if not value.isascii():
            return self.fault(number, "the port holds letters that are not ASCII", "it is a number", key)
        return self.items[-1].append(Item(key, value, number))

    def reports(self) -> list[Finding]:
        """What was left alone: one finding for all commands of a file, one for all other keys."""
        found = []
        if self.scripts:
            reason = f"{_list(self.scripts)}: commands of tunnel files are never run"
            hint = "remove them; aovpnd sets routes, DNS and firewall itself"
            found.append(self._report(reason, hint, min(self.scripts)))
        if self.ignored:
            reason = f"{_list(self.ignored)}: not honoured"
            hint = "remove them; aovpnd has a route table and a packet mark of its own, and never writes this file"
            found.append(self._report(reason, hint, min(self.ignored)))
        return found

    def _report(self, reason: str, hint: str, line: int) -> Finding:
        return Finding(self.file, reason, hint, line, None, Severity.WARNING, NOT_HONOURED)


def parse(text: str, file: str) -> tuple[tuple[Block, ...], list[Finding]]:
    """The sections of a file, and what is wrong with it; they are good only when no finding is an error."""
    reader = _Reader(file)
    # At line feeds alone: str.splitlines knows nine more line ends, which wg does not.
    for number, raw in enumerate(text.split("\n"), 1):
        if reader.full:
            break
        reader.line(number, raw.removesuffix("\r"))
    blocks = tuple(
        Block(section, line, tuple(items)) for (section, line), items in zip(reader.heads, reader.items, strict=True)
    )
    return blocks, reader.all + reader.reports()


def canonical(blocks: tuple[Block, ...]) -> str:
    """The honoured part of a file in its plainest spelling: no comments, one value to a line."""
    lines: list[str] = []
    for block in blocks:
        lines.append(f"[{block.section.value}]")
        lines += (f"{item.key} = {item.text}" for item in block.items)
    return "".join(f"{line}\n" for line in lines)


def _spelled(name: str, keys: dict[str, Takes]) -> str | None:
    """The key in wg's spelling; case does not matter."""
    return next((key for key in keys if key.lower() == name.lower()), None)


def _known(name: str, takes: Takes | None = None) -> str | None:
    """A key of either section."""
    keys = {key: kind for section in Section for key, kind in KEYS[section].items() if takes in {None, kind}}
    return _spelled(name, keys)


def _advice(name: str, section: Section) -> str:
    other = Section.PEER if section is Section.INTERFACE else Section.INTERFACE
    if (key := _spelled(name, KEYS[other])) is not None:
        return f"{key} belongs into [{other.value}]"
    close = difflib.get_close_matches(name, KEYS[section], 1)
    return f"did you mean {close[0]}?" if close else f"there are: {', '.join(KEYS[section])}"


def _list(lines: dict[int, str]) -> str:
    """``PostUp, PreDown (lines 5, 7)``, cut short where there are many."""
    keys = ", ".join(dict.fromkeys(lines.values()))
    numbers = sorted(lines)
    shown = ", ".join(map(str, numbers[:8])) + (", …" if len(numbers) > 8 else "")  # noqa: PLR2004 - as many as one reads
    return f"{keys} ({'lines' if len(numbers) > 1 else 'line'} {shown})"

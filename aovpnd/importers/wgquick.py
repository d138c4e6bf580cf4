# SPDX-License-Identifier: GPL-3.0-or-later
"""wg-quick(8) files into tunnels of ours: the same format, with everything taken out that we do not do.

The lines keep their numbers, so that a message about the file is a message about the one that somebody was given: what
is refused becomes a comment. Comments stay as they are.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address, ip_interface, ip_network
from typing import Final

from aovpnd import names
from aovpnd.config.wgquick import KEYS, Takes
from aovpnd.messages import HIDDEN, without_keys
from aovpnd.ruleset import Network
from aovpnd.tunnel import WireGuard

REFUSED: Final = "# refused by aovpnctl import: "
SECRETS: Final = frozenset({"PrivateKey", "PresharedKey"})
LONGEST_NAME: Final = 32
_SHOWN: Final = 60
_COMMENTED: Final = re.compile(r"\s*#!\s*(\w+)\s*=(.*)", re.DOTALL)
_UNFIT: Final = re.compile(r"[^A-Za-z0-9_-]+")
_KEYS: Final = {key.lower(): (key, takes) for keys in KEYS.values() for key, takes in keys.items()}
_SO_ANYWAY: Final = {("Table", "auto"), ("SaveConfig", "false"), ("FwMark", "off"), ("FwMark", "0")}


class Fate(StrEnum):
    """What became of a line."""

    KEPT = "kept"
    NARROWED = "narrowed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the file: its number, its key in wg's spelling, its value (hidden where it is secret), what became of
    it and why.
    """

    number: int
    key: str
    value: str
    fate: Fate
    why: str = ""

    def __str__(self) -> str:
        text = f"{self.number}: {self.fate}: {self.key} = {self.value}"
        return f"{text} ({self.why})" if self.why else text


@dataclass(frozen=True, slots=True)
class Imported:
    """The text of our file, what became of each line of theirs, and what else there is to know."""

    text: str
    lines: tuple[Line, ...]
    notes: tuple[str, ...]


def convert(text: str, spec: WireGuard) -> Imported:
    """Make our file of a text that `aovpnd.config` has found to describe ``spec``."""
    written: list[str] = []
    lines: list[Line] = []
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        kept = raw.removesuffix("\r").rstrip(" \t")
        line = _judge(number, kept, spec)
        if line is not None:
            lines.append(line)
        written.append(f"{REFUSED}{kept.strip()}" if line is not None and line.fate is Fate.REFUSED else kept)
    return Imported("\n".join(written).rstrip("\n") + "\n", tuple(lines), tuple(_notes(spec)))


def name_of(stem: str) -> str:
    """A tunnel name from a file's: what cannot be in one becomes a hyphen. "" when nothing is left."""
    return _UNFIT.sub("-", stem).strip("-_")[:LONGEST_NAME].rstrip("-_")


# -- one line ---------------------------------------------------------------------------------------------------------
def _judge(number: int, raw: str, spec: WireGuard) -> Line | None:
    """What becomes of a line; None for comments, blanks and heads of sections."""
    commented = _COMMENTED.fullmatch(raw)
    if commented is not None and (known := _KEYS.get(commented[1].lower())) and known[1] is Takes.SCRIPT:
        return Line(number, f"#! {known[0]}", _shown(commented[2]), Fate.REFUSED, _NEVER_RUN)
    name, equals, value = (part.strip(" \t") for part in raw.partition("#")[0].partition("="))
    if not equals or (known := _KEYS.get(name.lower())) is None:
        return None
    key, takes = known
    if takes is Takes.SCRIPT:
        value = raw.partition("=")[2]  # a command may hold a #
        return Line(number, key, _shown(value), Fate.REFUSED, _NEVER_RUN)
    if takes is Takes.IGNORED:
        if (key, value.lower()) in _SO_ANYWAY:
            return Line(number, key, value, Fate.KEPT, "it is so anyway")
        return Line(number, key, _shown(value), Fate.REFUSED, _OWN[key])
    if key in SECRETS:
        return Line(number, key, HIDDEN, Fate.KEPT)
    why = _narrowed(key, value, spec)
    return Line(number, key, _shown(value), Fate.NARROWED if why else Fate.KEPT, why)


_NEVER_RUN: Final = "commands of tunnel files are never run; aovpnd sets routes, DNS and firewall itself"
_OWN: Final = {
    "Table": f"aovpnd has a route table of its own, {names.ROUTE_TABLE}",
    "FwMark": f"aovpnd has a packet mark of its own, {names.FWMARK:#x}",
    "SaveConfig": "aovpnd never writes to this file",
}


def _narrowed(key: str, value: str, spec: WireGuard) -> str:
    """In which way the line means less here than wg-quick makes of it; "" when it means the same."""
    match key:
        case "ListenPort":
            return "packets leave from it, but nobody can begin a conversation from outside"
        case "Address":
            return _narrow_address(value, spec)
        case "DNS":
            return _narrow_dns(value, spec)
        case _:
            return ""


def _narrow_address(value: str, spec: WireGuard) -> str:
    """wg-quick routes the prefix of an address into the tunnel; here AllowedIPs alone says what goes there."""
    networks = [ip_interface(part.strip(" \t")).network for part in value.split(",")]
    lost = [network for network in networks if network.num_addresses > 1 and not _is_within(network, spec.prefixes)]
    return f"{', '.join(map(str, lost))} is in no AllowedIPs: nothing but the address itself is used" if lost else ""


def _narrow_dns(value: str, spec: WireGuard) -> str:
    """wg-quick asks every server; here one that the tunnel does not carry could only be asked outside of it."""
    servers = [server for server in spec.dns if not server.is_loopback and not spec.carries(server)]
    lost = [str(server) for server in servers if str(server) in {_canonical(part) for part in value.split(",")}]
    if not lost:
        return ""
    return f"{', '.join(lost)} {'is' if len(lost) == 1 else 'are'} in no AllowedIPs, and never asked"


def _canonical(text: str) -> str:
    """An address as it is shown; other words stay."""
    try:
        return str(ip_address(text.strip(" \t")))
    except ValueError:
        return text


def _is_within(network: Network, prefixes: Iterable[Network]) -> bool:
    return any(
        network.version == prefix.version
        and network.prefixlen >= prefix.prefixlen
        and network.network_address in prefix
        for prefix in prefixes
    )


def _shown(value: str) -> str:
    """A value for the report: one short printable line, and nothing that looks like a key."""
    text = "".join(letter if letter.isprintable() else "?" for letter in value.strip(" \t"))
    text = without_keys(text)
    return f"{text[:_SHOWN]}…" if len(text) > _SHOWN else text


# -- the whole --------------------------------------------------------------------------------------------------------
def _notes(spec: WireGuard) -> Iterable[str]:
    """What a person should know of the tunnel as a whole."""
    for version, everything in ((4, "0.0.0.0/0"), (6, "::/0")):
        carried = [prefix for prefix in spec.prefixes if prefix.version == version]
        if _is_within(ip_network(everything), carried) or _is_halves(carried):
            continue
        what = f"of IPv{version} nothing but {', '.join(map(str, carried[:4]))}" if carried else f"no IPv{version}"
        yield f"the tunnel carries {what}; the rest stays blocked (AllowedIPs = {everything} sends all of it through)"
    if spec.hosts:
        found_by, verb = ", ".join(spec.hosts), "is" if len(spec.hosts) == 1 else "are"
        yield f"the network sees that {found_by} {verb} looked up, by aovpnd alone; an address needs no look-up"
    if len(spec.peers) > 1:
        yield f"it has {len(spec.peers)} peers; each carries what its AllowedIPs say"


def _is_halves(carried: list[Network]) -> bool:
    """0.0.0.0/1 and 128.0.0.0/1, as many write it."""
    return sum(prefix.prefixlen == 1 for prefix in carried) == 2  # noqa: PLR2004 - halves

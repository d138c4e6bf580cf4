# SPDX-License-Identifier: GPL-3.0-or-later
"""What programs and files say, as values. Everything is somebody else's: what cannot be understood is left out."""

from __future__ import annotations

import fnmatch
import json
import re
from typing import TYPE_CHECKING, Any

from aovpnd import names
from aovpnd.ctl.doctor.facts import Process, Rule, Table, Unit, Will, Writer
from aovpnd.links import ARPHRD_ETHER, ARPHRD_LOOPBACK, ARPHRD_NONE, Link

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MOST = 4096
"""Of anything: no machine has as many, and nobody reads more."""
LONGEST = 120
"""Characters of one name or value that is quoted."""
MOST_DIGITS = 18

_TABLE = re.compile(r"table (\w+) ([\w./-]+)")
_HOOK = re.compile(r"type (?:filter|route|nat) hook (\w+) priority [^;\n]{1,64}; policy drop;")
_DEVICES = re.compile(r"hook egress devices? (?:= )?(\{[^}]{0,9999}\}|\"[^\"]{0,64}\"|[^\s{};]{1,64})")
_KEY = re.compile(r"[A-Za-z][\w.-]{0,63}")
_OPTION = re.compile(r"^(CONFIG_\w+)=[ym]$", re.MULTILINE)
_PRINTER = re.compile(r"<(?:Default)?Printer ([^>\s]{1,127})>")
_NETWORK_URI = re.compile(r"DeviceURI (?:ipps?|https?|socket|lpd|dnssd|smb|beh|implicitclass):")
_FLUSH = re.compile(r"^[ \t]*flush[ \t]+ruleset[ \t]*;?[ \t]*(?:#.*)?$", re.MULTILINE)
_TRUE = frozenset({"1", "yes", "y", "true", "t", "on"})
_FALSE = frozenset({"0", "no", "n", "false", "f", "off"})


# -- nft(8) and ip(8) -------------------------------------------------------------------------------------------------
def tables(text: str) -> frozenset[Table]:
    """``nft list tables``."""
    found = (_TABLE.match(line) for line in _lines(text))
    return frozenset(Table(match[1], match[2]) for match in found if match)


def closed(text: str) -> frozenset[str]:
    """The hooks of a listed table whose chains drop by default."""
    return frozenset(_HOOK.findall(text))


def egress(text: str) -> frozenset[str]:
    """The links of a listed table's egress chains."""
    found: set[str] = set()
    for devices in _DEVICES.findall(text)[:MOST]:
        found |= {name.strip(' "') for name in devices.strip("{}").split(",")}
    return frozenset(found - {""})


def links(text: str) -> tuple[Link, ...] | None:
    """``ip -json -details link show``; None when it is not that."""
    entries = [entry for entry in _entries(text) if _is_link(entry)]
    index: dict[object, int] = {entry["ifname"]: entry["ifindex"] for entry in entries}
    return tuple(_link(entry, index) for entry in entries) or None


def _is_link(entry: dict[str, Any]) -> bool:
    return isinstance(entry.get("ifindex"), int) and isinstance(entry.get("ifname"), str)


def _link(entry: dict[str, Any], index: dict[object, int]) -> Link:
    info, flags, master = entry.get("linkinfo"), entry.get("flags"), entry.get("master")
    kind = info.get("info_kind") if isinstance(info, dict) else ""
    return Link(
        index=entry["ifindex"],
        name=_short(entry["ifname"]),
        kind=_short(str(kind or "")),
        arphrd=_HARDWARE.get(str(entry.get("link_type")), 0),
        master=index.get(master, 0) if isinstance(master, str) else 0,
        up=isinstance(flags, list) and "UP" in flags,
    )


_HARDWARE = {"ether": ARPHRD_ETHER, "loopback": ARPHRD_LOOPBACK, "none": ARPHRD_NONE}
"""Types of hardware, as ip(8) writes them, that `links.sides` tells apart."""


def rules(family: int, text: str) -> tuple[Rule, ...] | None:
    """``ip -json rule show``; None when it is not that."""
    found = []
    for entry in _entries(text):
        priority, table = entry.get("priority"), str(entry.get("table", ""))
        if isinstance(priority, int):
            shown = f"lookup {table}" if table else str(entry.get("action", "?"))
            found.append(Rule(family, priority, table, _short(shown)))
    return tuple(found) or None


def is_shut(text: str) -> bool:
    """Whether our table has its ``unreachable default``; ``ip -json route show table all type unreachable``."""
    return any(
        entry.get("dst") == "default"
        and str(entry.get("table")) == str(names.ROUTE_TABLE)
        and entry.get("metric") == names.CLOSED_METRIC
        for entry in _entries(text)
    )


def _entries(text: str) -> list[dict[str, Any]]:
    try:
        document = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return []
    return [entry for entry in document[:MOST] if isinstance(entry, dict)] if isinstance(document, list) else []


# -- systemd and its files --------------------------------------------------------------------------------------------
def units(text: str) -> tuple[Unit, ...]:
    """``systemctl show --property=Id,LoadState,ActiveState,UnitFileState``: blocks with an empty line between."""
    found = []
    for block in text.split("\n\n")[:MOST]:
        values = dict(line.partition("=")[::2] for line in block.splitlines())
        if values.get("Id"):
            states = (_short(values.get(key, "")) for key in ("LoadState", "ActiveState", "UnitFileState"))
            found.append(Unit(_short(values["Id"]), *states))
    return tuple(found)


def settings(text: str) -> Iterator[tuple[str, str, str]]:
    """Section, key and value of an ini file, in their order; a key may come again."""
    section = ""
    for line in _lines(text):
        stripped = line.strip()
        if stripped.startswith("[") and stripped.endswith("]"):
            section = stripped[1:-1]
        elif pair := _pair(stripped):
            yield section, *pair


def _pair(line: str) -> tuple[str, str] | None:
    """``key = value``; a remark has no key."""
    key, equals, value = line.partition("=")
    return (key.strip(), value.strip()) if equals and _KEY.fullmatch(key.strip()) else None


def will(texts: Iterable[str], key: str) -> Will:
    """What networkd does with foreign rules or routes: the last file that says so wins; it removes them by default."""
    found = Will.REMOVES
    for text in texts:
        for section, name, value in settings(text):
            if (section, name) == ("Network", key) and value.lower() in _TRUE | _FALSE:
                found = Will.KEEPS if value.lower() in _FALSE else Will.REMOVES
    return found


def claims(text: str, link: str) -> bool:
    """Whether a systemd.network(5) file would take a link of this name: by its Name=, or because it takes all."""
    matches = [(key, value) for section, key, value in settings(text) if section == "Match"]
    named = [value for key, value in matches if key == "Name"]
    return len(named) == len(matches) and any(_matches(link, value) for value in named)


def _matches(name: str, value: str) -> bool:
    """A list of patterns; ``!`` in front turns it round."""
    found = any(_glob(name, pattern) for pattern in value.removeprefix("!").split())
    return found is not value.startswith("!")


def _glob(name: str, pattern: str) -> bool:
    return len(pattern) <= LONGEST and "*" * 4 not in pattern and fnmatch.fnmatchcase(name, pattern)


def autoconnects(text: str) -> str | None:
    """The name of a NetworkManager profile (nm-settings-keyfile(5)) of a VPN that connects by itself, or None."""
    values = {key: value for section, key, value in settings(text) if section == "connection"}
    if values.get("type") not in {"vpn", "wireguard"} or values.get("autoconnect", "true").lower() in _FALSE:
        return None
    return _short(values.get("id", "?"))


# -- other files ------------------------------------------------------------------------------------------------------
def options(text: str) -> frozenset[str]:
    """What a kernel's configuration has, built in or as a module."""
    return frozenset(_OPTION.findall(text))


def flushes(text: str) -> Will:
    """Whether an nft file removes everybody's tables."""
    return Will.REMOVES if _FLUSH.search(text) else Will.KEEPS


def drops_output(text: str) -> bool:
    """Whether what iptables-save(8) or ufw (/etc/default/ufw) have written drops what leaves and is not named."""
    table = ""
    for line in _lines(text):
        words = line.split()
        if line.startswith("*"):
            table = line[1:].strip()
        elif table == "filter" and words[:2] == [":OUTPUT", "DROP"]:
            return True
        elif (pair := _pair(line)) and pair[0] == "DEFAULT_OUTPUT_POLICY":
            return pair[1].strip("\"'").upper() in {"DROP", "REJECT"}
    return False


def printers(text: str) -> tuple[str, ...]:
    """Names of printers in printers.conf(5) that are reached over the network. Their addresses may carry passwords."""
    found, name = [], ""
    for line in _lines(text):
        stripped = line.strip()
        if match := _PRINTER.match(stripped):
            name = match[1]
        elif stripped.startswith("</"):
            name = ""
        elif name and _NETWORK_URI.match(stripped):
            found.append(_short(name))
    return tuple(found[:MOST])


def writer(text: str, leads_to: str) -> Writer:
    """Whose resolv.conf(5) it is: by where a link leads, else by what the first lines say."""
    if text.startswith(names.RESOLV_CONF_MARK):
        return Writer.OURS
    for place, whose in _PLACES:
        if place in leads_to:
            return whose
    head = "\n".join(line for line in text[: LONGEST * 10].splitlines()[:10] if line.startswith(("#", ";")))
    for words, whose in _HEADS:
        if words in head:
            return whose
    return Writer.SOMEBODY if text else Writer.NOBODY


_PLACES = (
    ("systemd/resolve/", Writer.RESOLVED),
    ("resolvconf/", Writer.RESOLVCONF),
    ("NetworkManager/", Writer.NETWORK_MANAGER),
)
_HEADS = (
    ("systemd-resolved", Writer.RESOLVED),
    ("Generated by NetworkManager", Writer.NETWORK_MANAGER),
    ("Generated by dhcpcd", Writer.DHCPCD),
    ("Generated by resolvconf", Writer.RESOLVCONF),
    ("generated by resolvconf(8)", Writer.RESOLVCONF),
    ("by dhclient", Writer.DHCLIENT),
)


def servers(text: str) -> tuple[str, ...]:
    """The words behind ``nameserver``."""
    found = (line.split() for line in _lines(text))
    return tuple(_short(words[1]) for words in found if len(words) > 1 and words[0] == "nameserver")[:16]


def process(pid: int, text: str, booted_at: float, ticks: int) -> Process | None:
    """/proc/PID/stat, proc(5). ``ticks`` are those of the clock in a second, ``booted_at`` Unix time. None for one that
    has ended, also while nobody has asked how (Z, X).
    """
    name, _, rest = text.partition("(")[2].rpartition(")")
    words = rest.split()
    if len(words) < 20 or not _is_number(words[19]):  # noqa: PLR2004 - the field starttime, counted from behind the name
        return None
    if words[0] in {"Z", "X"}:
        return None
    return Process(_short(name), pid, booted_at + int(words[19]) / ticks)


def is_nested(text: str) -> bool:
    """Whether /proc/PID/status, proc(5), is that of a process in a PID namespace below ours: it has several numbers."""
    return any(len(line.split()) > 2 for line in _lines(text) if line.startswith("NSpid:"))  # noqa: PLR2004 - word, number


def script(found: Process, text: str) -> Process:
    """The process of an interpreter by what it runs (/proc/PID/cmdline): ``-m aovpnd.guard`` is aovpnd-guard."""
    for word in text.split("\0")[1:4]:
        name = word.rpartition("/")[2]
        if name and not name.startswith("-"):
            return Process(_short(name.replace(".", "-")), found.pid, found.started)
    return found


def number(text: str) -> int | None:
    """A file of /proc/sys or /sys that holds one number."""
    word = text.strip()
    return int(word) if _is_number(word.removeprefix("-")) else None


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= MOST_DIGITS


def fields(text: str) -> tuple[tuple[str, str], ...]:
    """``nmcli --terse`` with two fields: escaped colons belong to the first one."""
    found = (line.replace("\\:", "\0").partition(":") for line in _lines(text))
    return tuple((_short(left.replace("\0", ":")), _short(right.replace("\0", ":"))) for left, _, right in found)


def _lines(text: str) -> list[str]:
    return text.splitlines()[: 1 << 16]


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"

# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings: which there are, what each may be, and which of several layers wins.

From weak to strong: built-in, vendor, ``aovpnd.toml``, ``conf.d``, what the user chose, and ``policy.d``, which locks
what it sets. `KEYS` is the whole list; aovpnd.conf(5) is the same list in words.
"""

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import ip_address
from typing import Final, TypeVar

from aovpnd import durations, names
from aovpnd.config import hosts, plain, toml, values
from aovpnd.config.findings import INVALID, OVERRULED, Finding, Findings, UnfitError, quoted
from aovpnd.doors import Openers, WhileConnected
from aovpnd.inquiries import BUILT_IN_ENDPOINT, Dnssec, EndpointPolicy, Pinned
from aovpnd.ipsec import Weak
from aovpnd.model import Enabled, Lan, Origin, Severity, TemporaryAccessPolicy
from aovpnd.ruleset import Network
from aovpnd.tunnel import TUNNEL_NAME, Endpoint, unfit

MAX_S: Final = 3600
"""No temporary access is longer than an hour, whatever the files say."""
MAX_PER_HOUR: Final = 3
"""Nor are there more than three in any hour: with more, "temporary" would mean nothing."""
REST_AFTER_S, REST_BOUNDS_S = 300, (5, 86400)
"""After how long without a packet a tunnel on demand rests."""
BUILT_IN: Final = "built-in"
ALLOW_WEAK: Final = "ike.allow_weak"
EXCLUDE: Final = "exclude.networks"
WIDEST: Final = {4: 8, 6: 16}
"""Bits, by IP version, that the prefix of an excluded network has at least: more is no exception."""
MOST_NETWORKS: Final = 64
_RESOLVER: Final = re.compile(r"tls://(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<four>[0-9.]+))#(?P<name>.+)")


class Layer(IntEnum):
    """Where a file stands; a higher one wins."""

    VENDOR = 1
    ADMIN = 2
    DROP_IN = 3
    CHOICE = 4
    POLICY = 5


Parsed = (
    str
    | int
    | tuple[str, ...]
    | tuple[Endpoint, ...]
    | tuple[Network, ...]
    | Enabled
    | Lan
    | Openers
    | WhileConnected
    | Pinned
    | Dnssec
    | Weak
)
_T = TypeVar("_T", bound=Parsed)
_Item = TypeVar("_Item", str, Endpoint)
KINDS: Final = ("ethernet", "wifi", "mobile")
"""The kinds of uplinks that may have tunnels of their own, as `links.uplink_kind` calls them."""
_NOBODY: Final[tuple[str, ...]] = ()
MOST_ITEMS: Final = 16
"""More tunnels or targets than that in one list are a mistake."""


@dataclass(frozen=True, slots=True)
class Key:
    """One setting: how its value is read, and the built-in value as a file would write it."""

    parse: Callable[[object], Parsed]
    built_in: str
    users: bool = False
    """Whether a user's own choice may set it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One value that a file sets."""

    key: str
    value: Parsed
    written: str
    file: str
    line: int
    layer: Layer


_BUILT_IN_POLICY: Final = TemporaryAccessPolicy()


@dataclass(frozen=True, slots=True)
class Settings:
    """The effective values, each with its origin."""

    prefer: tuple[str, ...] = ()
    by_kind: tuple[tuple[str, tuple[str, ...]], ...] = ()
    device: tuple[str, ...] | None = None
    companions: tuple[str, ...] = ()
    on_demand: tuple[str, ...] = ()
    rest_after_s: int = REST_AFTER_S
    chosen: str | None = None
    probe: tuple[Endpoint, ...] = ()
    temporary_access: TemporaryAccessPolicy = _BUILT_IN_POLICY
    lan: Lan = Lan.BLOCK
    exclude: tuple[Network, ...] = ()
    openers: Openers = Openers.AUTHORISED
    endpoint: EndpointPolicy = BUILT_IN_ENDPOINT
    weak: Weak = Weak.REFUSE
    origins: tuple[Origin, ...] = ()
    locked: frozenset[str] = frozenset()


# -- what a value may be ----------------------------------------------------------------------------------------------
def tunnel_name(value: object) -> str:
    """The name of a tunnel."""
    text = plain.text(value)
    if TUNNEL_NAME.fullmatch(text) is None:
        raise UnfitError(f"{quoted(text)} is no tunnel name", "letters, digits, - and _, at most 32")
    return text


def _order(value: object) -> tuple[str, ...]:
    """One name, or several from the best on."""
    return _several(value, tunnel_name)


def _targets(value: object) -> tuple[Endpoint, ...]:
    return _several(value, lambda each: values.target(plain.text(each)))


def _several(value: object, parse: Callable[[object], _Item]) -> tuple[_Item, ...]:
    """One value or a list of them, none twice."""
    found = plain.several(value, parse, MOST_ITEMS)
    if not found:
        raise UnfitError("an empty list says nothing", "remove the line for the built-in value")
    return found


def _enabled(value: object) -> Enabled:
    return Enabled.YES if plain.boolean(value) else Enabled.NO


def _openers(value: object) -> Openers:
    return Openers.AUTHORISED if plain.boolean(value) else Openers.ROOT


def _lan(value: object) -> Lan:
    return Lan.ALLOW if plain.boolean(value) else Lan.BLOCK


def excluded(value: object) -> tuple[Network, ...]:
    """What is kept out of tunnels; joined, so that it is the same however it is written."""
    return values.joined(plain.several(value, _network, MOST_NETWORKS))


def _network(value: object) -> Network:
    text = plain.text(value)
    network = values.exact_network(text)
    if network.prefixlen < WIDEST[network.version]:
        reason = f"{quoted(text)} is too much to be left out of the tunnel"
        raise UnfitError(reason, f"at most a /{WIDEST[network.version]} of IPv{network.version}")
    nowhere = network.is_loopback or network.is_multicast or network.is_link_local or network.is_reserved
    if nowhere or network.network_address.is_unspecified:
        raise UnfitError(f"{quoted(text)} is nowhere that a router leads to", "name networks of others")
    return network


def _weak(value: object) -> Weak:
    return Weak.ALLOW if plain.boolean(value) else Weak.REFUSE


def _resolver(value: object) -> Pinned | str:
    """``tls://ADDRESS#NAME``: where the resolver is, and the name in its certificate; "" is none."""
    text = plain.text(value)
    if not text:
        return ""
    hint = 'write it like "tls://9.9.9.9#dns.quad9.net" or "tls://[2620:fe::fe]#dns.quad9.net"'
    matched = _RESOLVER.fullmatch(text)
    if matched is None:
        raise UnfitError(f"{quoted(text)} is no resolver", hint)
    try:
        addr = ip_address(matched["six"] or matched["four"])
    except ValueError:
        raise UnfitError(f"{quoted(text)} has no address", hint) from None
    if (why := unfit(addr)) is not None:
        raise UnfitError(f"{quoted(str(addr))} is {why}: no resolver can be there", hint)
    return Pinned(addr, hosts.name(matched["name"]))


def _dnssec(value: object) -> Dnssec:
    if plain.boolean(value):
        reason = "answers cannot be validated by this version"
        raise UnfitError(reason, 'resolver = "tls://..." asks a resolver that you trust, which validates them')
    return Dnssec.OFF


def _span(value: object) -> int:
    return plain.span(value, 1, MAX_S)


def _rest_after(value: object) -> int:
    return plain.span(value, *REST_BOUNDS_S)


def _per_hour(value: object) -> int:
    hint = f"from 1 to {MAX_PER_HOUR}"
    if isinstance(value, int) and not isinstance(value, bool):
        hint += "; enabled = false forbids temporary access altogether"
    return plain.whole(value, 1, MAX_PER_HOUR, hint)


def _while_connected(value: object) -> WhileConnected:
    text = plain.text(value)
    try:
        return WhileConnected(text)
    except ValueError:
        raise UnfitError(f"{quoted(text)} is not known", 'write "refuse" or "pause"') from None


KEYS: Final = {
    names.PREFER: Key(_order, "", users=True),
    **{f"tunnel.{kind}": Key(_order, "") for kind in KINDS},
    names.DEVICE: Key(lambda value: () if value == [] else _order(value), ""),
    names.COMPANIONS: Key(_order, ""),
    names.ON_DEMAND: Key(_order, ""),
    "tunnel.rest_after": Key(_rest_after, durations.render(REST_AFTER_S)),
    "temporary_access.enabled": Key(_enabled, "true"),
    "temporary_access.duration": Key(_span, "3min"),
    "temporary_access.max": Key(_span, "1h"),
    "temporary_access.per_hour": Key(_per_hour, "3"),
    "temporary_access.while_connected": Key(_while_connected, "refuse"),
    "lan.allow": Key(_lan, "false"),
    EXCLUDE: Key(excluded, ""),
    "health.probe": Key(_targets, ""),
    "endpoint.resolver": Key(_resolver, ""),
    "endpoint.dnssec": Key(_dnssec, "false"),
    "dbus.open": Key(_openers, "true"),
    ALLOW_WEAK: Key(_weak, "false"),
}
"""Every setting there is, by its dotted name."""
_TABLES: Final = sorted({key.partition(".")[0] for key in KEYS})
_LISTS: Final = ("filter", "user", "sign_in", names.EXCLUDE_FROM)
_HEADS: Final = {**{name: f"[{name}]" for name in _TABLES}, **{name: f"[[{name}]]" for name in _LISTS}}


# -- one file ---------------------------------------------------------------------------------------------------------
def read(values: Iterable[toml.Value], file: str, layer: Layer) -> tuple[list[Setting], list[Finding]]:
    """The settings of one file, and what is wrong with it. Settings are good only when no finding is an error."""
    settings: list[Setting] = []
    findings = Findings(file)
    for entry in values:
        name = ".".join(entry.path)
        if name in _TABLES and entry.value == {}:
            continue  # a table's head
        if findings.full:
            break
        try:
            settings.append(_setting(entry, file, layer))
        except UnfitError as error:
            findings.fault(entry.line, error.reason, error.hint, name if _known(entry) is not None else None)
    return settings, findings.all


def _setting(entry: toml.Value, file: str, layer: Layer) -> Setting:
    name = ".".join(entry.path)
    key = _known(entry)
    if key is None:
        raise _unknown(name)
    if layer is Layer.CHOICE and not key.users:
        raise UnfitError("users cannot choose this", "remove the line; administrators set it in aovpnd.toml")
    return Setting(name, key.parse(entry.value), _written(entry.value), file, entry.line, layer)


def _known(entry: toml.Value) -> Key | None:
    """The setting that an entry names; a quoted name with a dot in it is another name."""
    return None if any("." in part for part in entry.path) else KEYS.get(".".join(entry.path))


def _unknown(name: str) -> UnfitError:
    if name in _TABLES:
        return UnfitError(f"{quoted(name)} is a table, not a value", f"write [{name}] on a line of its own")
    table, _, _ = name.partition(".")
    known = [key for key in KEYS if key.startswith(f"{table}.")]
    if not known and "." not in name:
        known = [key for key in KEYS if key.endswith(f".{name}")]
        if known:
            return UnfitError(f"{quoted(name)} stands in no table", f"write [{known[0].partition('.')[0]}] above it")
    close = difflib.get_close_matches(name, KEYS, 1) if "." in name else []
    close = close or [_HEADS[head] for head in difflib.get_close_matches(name, _HEADS, 1)]
    hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known or _HEADS.values())}"
    return UnfitError(f"{quoted(name)} is no setting", hint)


def _written(value: object) -> str:
    """A value as `Origin` shows it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


# -- all files --------------------------------------------------------------------------------------------------------
def merge(settings: Iterable[Setting]) -> tuple[Settings, list[Finding]]:
    """The effective settings: of several values the one of the highest layer, in it the last.

    An ERROR among the findings means that the settings contradict each other and may not be used.
    """
    settings, chosen = tuple(settings), dict[str, Setting]()
    ranked = sorted(settings, key=lambda setting: setting.layer)
    for setting in ranked:
        chosen[setting.key] = setting
    duration, findings = _duration(chosen)
    access = TemporaryAccessPolicy(
        enabled=_value(chosen, "temporary_access.enabled", _BUILT_IN_POLICY.enabled),
        duration_s=duration,
        max_s=_value(chosen, "temporary_access.max", _BUILT_IN_POLICY.max_s),
        per_hour=_value(chosen, "temporary_access.per_hour", _BUILT_IN_POLICY.per_hour),
        while_connected=_value(chosen, "temporary_access.while_connected", _BUILT_IN_POLICY.while_connected),
    )
    # What the user named means that tunnel and no other, so it is kept apart from the order.
    named = next((s.value for s in settings if s.key == names.PREFER and s.layer is Layer.CHOICE), None)
    orders = [s for s in ranked if s.key == names.PREFER and s.layer is not Layer.CHOICE]
    locked = frozenset(key for key, setting in chosen.items() if setting.layer is Layer.POLICY)
    pinned = chosen.get("endpoint.resolver")
    endpoint = EndpointPolicy(
        resolver=pinned.value if pinned is not None and isinstance(pinned.value, Pinned) else None,
        dnssec=_value(chosen, "endpoint.dnssec", Dnssec.OFF),
    )
    effective = Settings(
        prefer=_value({setting.key: setting for setting in orders}, names.PREFER, ()),
        by_kind=tuple((kind, order) for kind in KINDS if (order := _value(chosen, f"tunnel.{kind}", _NOBODY))),
        device=_value(chosen, names.DEVICE, _NOBODY) if names.DEVICE in chosen else None,
        companions=_value(chosen, names.COMPANIONS, _NOBODY),
        on_demand=_value(chosen, names.ON_DEMAND, _NOBODY),
        rest_after_s=_value(chosen, "tunnel.rest_after", REST_AFTER_S),
        chosen=named[0] if isinstance(named, tuple) and isinstance(named[0], str) else None,
        probe=_value(chosen, "health.probe", ()),
        temporary_access=access,
        lan=_value(chosen, "lan.allow", Lan.BLOCK),
        exclude=_value(chosen, EXCLUDE, ()),
        openers=_value(chosen, "dbus.open", Openers.AUTHORISED),
        endpoint=endpoint,
        weak=_value(chosen, ALLOW_WEAK, Weak.REFUSE),
        origins=tuple(_origin(key, chosen, duration) for key in KEYS),
        locked=locked,
    )
    return effective, findings


def _value(chosen: dict[str, Setting], key: str, otherwise: _T) -> _T:
    """The value of a key, or the built-in one, which has the type that the key's parser in `KEYS` returns."""
    setting = chosen.get(key)
    if setting is None:
        return otherwise
    if not isinstance(setting.value, type(otherwise)):
        raise TypeError(f"{key} has a value of the wrong type")
    return setting.value


def _duration(chosen: dict[str, Setting]) -> tuple[int, list[Finding]]:
    """The default span, never above the longest. The built-in one follows a shorter maximum in silence; one that is
    written is an error, except under a policy: a policy must not be broken by what it overrules.
    """
    max_s = _value(chosen, "temporary_access.max", _BUILT_IN_POLICY.max_s)
    duration_s = _value(chosen, "temporary_access.duration", min(_BUILT_IN_POLICY.duration_s, max_s))
    duration, longest = chosen.get("temporary_access.duration"), chosen.get("temporary_access.max")
    if duration is None or longest is None or duration_s <= max_s:
        return duration_s, []
    reason = (
        f"{durations.render(duration_s)} is more than temporary_access.max, "
        f"{durations.render(max_s)} in {longest.file}:{longest.line}"
    )
    ruled = longest.layer is Layer.POLICY and duration.layer is not Layer.POLICY
    hint = f"{durations.render(max_s)} is used" if ruled else "make duration shorter, or max longer"
    severity, code = (Severity.WARNING, OVERRULED) if ruled else (Severity.ERROR, INVALID)
    return max_s, [Finding(duration.file, reason, hint, duration.line, duration.key, severity, code)]


def _origin(key: str, chosen: dict[str, Setting], duration_s: int) -> Origin:
    setting = chosen.get(key)
    written = setting.written if setting is not None else KEYS[key].built_in
    if key == "temporary_access.duration" and duration_s != (setting.value if setting else _BUILT_IN_POLICY.duration_s):
        setting = chosen["temporary_access.max"]  # which alone can have shortened it
        written = durations.render(duration_s)
    if setting is None:
        return Origin(key, written, BUILT_IN)
    return Origin(key, written, setting.file, setting.line)

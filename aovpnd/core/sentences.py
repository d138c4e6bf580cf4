# SPDX-License-Identifier: GPL-3.0-or-later
"""An explanation in words for a person: one sentence that says what happens and why, what to do about it, and which
line of which file it comes from.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Final, assert_never

from aovpnd import names
from aovpnd.core.companions import is_connected
from aovpnd.core.explain import OUTPUT, Explanation, Fate
from aovpnd.core.filtering import DNS_PORTS
from aovpnd.core.permits import (
    DISCOVERY,
    Excluded,
    Handshake,
    HostOnly,
    Lan,
    LinkSetup,
    LookUp,
    Loopback,
    Permit,
    TemporaryAccess,
    Transformed,
    Tunnel,
    TunnelAddresses,
)
from aovpnd.core.picture import Picture
from aovpnd.core.way import By, Turn
from aovpnd.destinations import Destination
from aovpnd.filters import Direction, Filter, setting
from aovpnd.ipsec import TunnelSpec, called
from aovpnd.model import Config, Origin, Phase, Uplink, Wish
from aovpnd.model import Lan as LanSetting
from aovpnd.ruleset import Address
from aovpnd.users import setting as user_setting

SPECIFICATION = "docs/security.md"
_DNS: Final = "DNS leaves by no link but the tunnel"
_LAN_HINT: Final = "[lan] allow = true opens the private ones"
UNPLUG = "to get online for a while without the tunnel: aovpnctl allow-temp"


@dataclass(frozen=True, slots=True)
class Told:
    """The sentence, what to do (may be ""), and the lines of files behind it."""

    text: str
    hint: str = ""
    origins: tuple[Origin, ...] = ()


def words(permit: Permit) -> str:
    """A permit as docs/security.md calls it."""
    match permit:
        case Loopback():
            return "Loopback"
        case LinkSetup():
            return "Link set-up"
        case Handshake():
            return "Handshake"
        case LookUp():
            return "Look-up"
        case Tunnel():
            return "Tunnel"
        case TunnelAddresses():
            return "Tunnel's addresses"
        case Transformed():
            return "Transformed"
        case TemporaryAccess():
            return "Temporary access"
        case HostOnly():
            return "Host-only networks"
        case Lan():
            return "LAN"
        case Excluded():
            return "Excluded networks"
        case _:
            assert_never(permit)


def tell(picture: Picture, what: Explanation) -> Told:
    """Put it in words."""
    link = what.way.link.name if what.way.link is not None else ""
    match what.fate:
        case Fate.HERE:
            return Told(f"{what.to} stays on this machine")
        case Fate.TUNNEL:
            return _through_the_tunnel(picture, what, link)
        case Fate.GUESTS:
            return Told(f"{what.to} goes to a guest of this machine, by {link}")
        case Fate.LAN:
            text = f"{what.to} leaves by {link}: the local network may be reached beside the tunnel"
            return Told(text, "", _settings(picture.config, "lan.allow"))
        case Fate.EXCLUDED:
            text = f"{what.to} leaves by {link} in clear: its network is kept out of the tunnel"
            return Told(text, "", _exclusions(picture, what.to.address))
        case Fate.ACCESS:
            whose = f" (granted to {picture.intent.grant.granted_to})" if picture.intent.grant is not None else ""
            text = f"{what.to} leaves by {link} as temporary access{whose}"
            return Told(
                text,
                "to end it now: aovpnctl allow-temp --cancel",
                _settings(picture.config, "temporary_access.enabled"),
            )
        case Fate.OTHER:
            return Told(f"{what.to} leaves by {link}: {_reason(what)}")
        case Fate.OPEN:
            return _open(picture, what.to, link)
        case Fate.UNROUTED:
            return _unrouted(picture, what)
        case Fate.REFUSED | Fate.DROPPED:
            return _stopped(picture, what, link)
        case _:
            assert_never(what.fate)


def _through_the_tunnel(picture: Picture, what: Explanation, link: str) -> Told:
    route, beside = what.way.route, picture.companion(link, what.way)
    spec = beside.spec if beside is not None else picture.spec
    name, endpoints = (spec.name, spec.endpoints) if spec is not None else (link, ())
    origins = (
        *_of_the_user(picture, what),
        *_networks(spec, lambda text: route is not None and ip_network(text, strict=False) == route.dst),
        *_gateways(spec),
        *_filters(picture, name, lambda number, _: number == what.named_by),
    )
    where = " or ".join(map(str, endpoints)) or "its gateway"
    outside = f"outside, nothing of it is seen but the tunnel's own packets to {where}"
    is_up = picture.desired.phase is Phase.CONNECTED
    if beside is not None:
        is_up = is_connected(picture.intent, beside, picture.snapshot.now)
    if is_up:
        return Told(f"{what.to} leaves through the tunnel {name} ({link})", outside, origins)
    if beside is None and picture.desired.phase is Phase.RESTING:
        text = f"{what.to} leaves through the tunnel {name} ({link}), which rests, and connects when something is sent"
        return Told(text, outside, origins)
    waiting = "there is no network" if picture.desired.phase is Phase.OFFLINE else "the gateway has not answered yet"
    text = f"{what.to} goes into the tunnel {name} ({link}) and waits there: {waiting}"
    return Told(text, outside, origins)


def _open(picture: Picture, to: Destination, link: str) -> Told:
    if picture.desired.phase is Phase.UNBLOCKED:
        return Told(f"{to} leaves by {link} in clear: the block is off", "to put it on: aovpnctl block")
    text = f"{to} leaves by {link} in clear: neither our table nor the guard's is there"
    return Told(text, "journalctl -u aovpnd says why; systemctl restart aovpnd")


# -- why not ----------------------------------------------------------------------------------------------------------
def _unrouted(picture: Picture, what: Explanation) -> Told:
    told = _because_of_the_place(picture, what) or _because_of_a_companion(picture, what)
    told = told or _because_of_the_phase(picture, what.to)
    return Told(f"{what.to} is refused at once: {told.text}", told.hint, told.origins)


def _because_of_the_place(picture: Picture, what: Explanation) -> Told | None:
    """What is special about where it would go."""
    to, spec = what.to, picture.spec
    if what.way.by is By.PROTOCOL:
        return Told(
            "TCP connects to one machine, and this is the address of many", f"try {replace(to, protocol='udp')}"
        )
    if (
        to.link
        and what.way.turn is Turn.NOWHERE
        and what.way.link is None
        and not _is_uplink(picture.desired.uplinks, to.link)
    ):
        return Told(f"no network can be reached by the link {to.link}", "ip link shows the links")
    if spec is not None and any(endpoint.addr == to.address for endpoint in spec.endpoints):
        text = f"that is the gateway of the tunnel {spec.name}, where only the tunnel's own packets go"
        written = _gateways(spec, lambda line: str(to.address) in line)
        return Told(text, "", written or _gateways(spec))
    if what.way.by is By.OTHERS and what.way.turn is Turn.NOWHERE:
        return Told("the kernel knows no way there, by a rule or route that is not ours", f"ip route get {to.address}")
    near = next((u for u in picture.desired.uplinks if to.link == u.link.name or _is_near(u, to)), None)
    if near is None or picture.desired.phase is Phase.UNBLOCKED:
        return None
    return _because_of_the_lan(picture, to, near)


def _because_of_the_lan(picture: Picture, to: Destination, near: Uplink) -> Told:
    """It is beside this machine, and closed: for now, or whatever [lan] says."""
    origins = _settings(picture.config, "lan.allow")
    if _is_dns(to):
        return Told(_DNS)
    is_open = picture.config.lan is LanSetting.ALLOW
    if to.address.is_multicast and to.address not in DISCOVERY:
        text = f"of multicast, the local network of {near.link.name} is open to discovery alone"
        return Told(text if is_open else f"the local network of {near.link.name} stays closed", "", origins)
    if is_open:
        text = f"it is on {near.link.name}, whose network is no private one, so that it counts as the internet"
        return Told(text, "", origins)
    hint = "a policy keeps it so" if "lan.allow" in picture.config.locked else _LAN_HINT
    return Told(f"the local network of {near.link.name} stays closed", hint, origins)


def _because_of_a_companion(picture: Picture, what: Explanation) -> Told | None:
    """It is for a tunnel beside the chosen one, and for no other."""
    beside = picture.companion("", what.way, what.to.uid)
    if beside is None:
        return _because_of_ones_own(picture, what)
    text = f"the tunnel {beside.spec.name} is not up yet, and what it carries leaves by no other"
    return Told(text, "", (*_of_the_user(picture, what), *_networks(beside.spec)))


def _because_of_ones_own(picture: Picture, what: Explanation) -> Told | None:
    """It is for no tunnel that this user may use."""
    user = next((user for user in picture.config.users if user.uid == what.to.uid), None)
    if what.way.by is not By.USERS or user is None or user.only is None:
        return None
    text = f"the tunnel {user.only} does not carry it, and {user.name} may use no other"
    return Told(text, "", (*_of_the_user(picture, what), *_networks(picture.config.tunnel(user.only))))


def _because_of_the_phase(picture: Picture, to: Destination) -> Told:
    spec = picture.spec
    match picture.desired.phase:
        case Phase.OFFLINE:
            return Told("there is no network, and without the tunnel nothing leaves")
        case Phase.BLOCKED if picture.intent.wish is Wish.DISCONNECT:
            return Told("the tunnel was disconnected, and the block stays", f"to connect: aovpnctl connect; {UNPLUG}")
        case Phase.BLOCKED:
            return Told("there is no tunnel to go through, and nothing leaves outside one", UNPLUG)
        case Phase.CONNECTING if spec is None or spec.carries(to.address):
            name = spec.name if spec is not None else ""
            return Told(f"the tunnel {name} is not up yet, and nothing leaves outside it", UNPLUG)
        case Phase.CONNECTING | Phase.CONNECTED | Phase.RESTING:
            name = spec.name if spec is not None else ""
            hint = f"{called(spec).everything} sends everything through it" if spec is not None else ""
            text = f"the tunnel {name} does not carry it, and nothing leaves outside the tunnel"
            return Told(text, hint, _networks(spec))
        case Phase.TEMPORARY_ACCESS | Phase.UNBLOCKED:
            return Told("no route leads there", "ip route shows the routes; the network may not have this kind of IP")
        case _:
            assert_never(picture.desired.phase)


def _stopped(picture: Picture, what: Explanation, link: str) -> Told:
    """A rule was against it."""
    verb = "refused at once" if what.fate is Fate.REFUSED else "dropped"
    if what.stages[-1].where in {"guard", "egress"}:
        text = f"{what.to} is dropped by the guard: our table is not there to permit it"
        return Told(text, "it is being loaded again; journalctl -u aovpnd says more")
    if isinstance(what.permit, Tunnel | Excluded) and (told := _not_for_the_user(picture, what, link)) is not None:
        return told
    if isinstance(what.permit, Tunnel) and what.permit.filters:
        return _filtered(picture, what, link, verb)
    if _is_dns(what.to):
        if isinstance(what.permit, TemporaryAccess):
            resolvers = ", ".join(map(str, what.permit.resolvers)) or "none"
            text = f"while temporary access is open, names are asked of the lease's resolvers alone: {resolvers}"
            return Told(f"{what.to} is {verb}: {text}")
        return Told(f"{what.to} is {verb}: {_DNS}")
    told = _because_of_the_place(picture, what)
    reason = told.text if told is not None else f"nothing permits it to leave by {link}"
    return Told(f"{what.to} is {verb}: {reason}", told.hint if told else "", told.origins if told else ())


def _tunnel_by(picture: Picture, what: Explanation, link: str) -> str:
    """The name of the tunnel whose link it would leave by."""
    beside = picture.companion(link, what.way)
    spec = beside.spec if beside is not None else picture.spec
    return spec.name if spec is not None else ""


def _not_for_the_user(picture: Picture, what: Explanation, link: str) -> Told | None:
    """The tunnel is there, and not for the one who sends."""
    user = next((user for user in picture.config.users if user.uid == what.to.uid), None)
    name = _tunnel_by(picture, what, link)
    if user is None or user.may_use(name):
        return None
    instead = f", who may use {user.only} alone" if user.only is not None else ""
    text = f"{what.to} is refused at once: the tunnel {name} is not for {user.name}{instead}"
    return Told(text, "aovpnctl status shows all tunnels", _settings(picture.config, user_setting(user.name)))


def _filtered(picture: Picture, what: Explanation, link: str, verb: str) -> Told:
    """The tunnel carries it, and the tunnel's filters name it nowhere."""
    name = _tunnel_by(picture, what, link)
    text = f"{what.to} is {verb}: no filter of the tunnel {name} lets it out"
    is_locked = setting(name) in picture.config.locked
    hint = "a policy keeps it so" if is_locked else f'if it shall be: another [[filter]] with tunnel = "{name}"'
    return Told(text, hint, _filters(picture, name, lambda _, each: each.direction is Direction.OUT))


def _is_dns(to: Destination) -> bool:
    return to.port in DNS_PORTS and to.protocol in {"tcp", "udp"}


def _is_uplink(uplinks: tuple[Uplink, ...], link: str) -> bool:
    return any(uplink.link.name == link for uplink in uplinks)


def _is_near(uplink: Uplink, to: Destination) -> bool:
    return any(to.address.version == prefix.version and to.address in prefix for prefix in uplink.prefixes)


def _reason(what: Explanation) -> str:
    return next(reversed([stage.why for stage in what.stages if stage.where == OUTPUT]))


# -- where it is written ----------------------------------------------------------------------------------------------
def _exclusions(picture: Picture, address: Address) -> tuple[Origin, ...]:
    """Where it is said that an address is kept out of every tunnel, or out of the one that carries."""
    config, carries = picture.config, picture.spec
    lists = [("exclude.networks", config.exclude)]
    if carries is not None:
        lists.append((f"{names.EXCLUDE_FROM}.{carries.name}", config.excluded_from(carries.name)))
    return tuple(
        origin for key, nets in lists if any(address in net for net in nets) for origin in _settings(config, key)
    )


def _settings(config: Config, key: str) -> tuple[Origin, ...]:
    return tuple(origin for origin in config.origins if origin.key == key)


def _of_the_user(picture: Picture, what: Explanation) -> tuple[Origin, ...]:
    """Where it is said that he has a tunnel to himself, if that is what led him."""
    users = (user for user in picture.config.users if what.way.by is By.USERS and user.uid == what.to.uid)
    return tuple(origin for user in users for origin in _settings(picture.config, user_setting(user.name)))


_Fits = Callable[[str], bool]


def _networks(spec: TunnelSpec | None, fits: _Fits = bool) -> tuple[Origin, ...]:
    """The lines of a tunnel's file that say what it carries: those that fit."""
    return _lines(spec, called(spec).networks, fits) if spec is not None else ()


def _filters(picture: Picture, name: str, fits: Callable[[int, Filter], bool]) -> tuple[Origin, ...]:
    """Where those of a tunnel's filters stand that fit, by number, from 1, and value."""
    held = zip(_settings(picture.config, setting(name)), picture.config.filters_of(name), strict=False)
    return tuple(origin for number, (origin, each) in enumerate(held, 1) if fits(number, each))


def _gateways(spec: TunnelSpec | None, fits: _Fits = bool) -> tuple[Origin, ...]:
    """Those that say where it leads."""
    return _lines(spec, called(spec).gateway, fits) if spec is not None else ()


def _lines(spec: TunnelSpec, key: str, fits: _Fits) -> tuple[Origin, ...]:
    return tuple(
        Origin(key, written.text, spec.source, written.line)
        for written in spec.written
        if written.key == key and fits(written.text)
    )

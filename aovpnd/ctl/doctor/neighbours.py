# SPDX-License-Identifier: GPL-3.0-or-later
"""Other programs that change networks, how each is recognised, and what to do about it. Pure; docs/neighbours.md."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aovpnd import names
from aovpnd.ctl.doctor.facts import Area, Facts, Finding, Verdict, Will
from aovpnd.links import ARPHRD_ETHER, OUR_LINK

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One other program: its ``units`` (an instance's template ends in ``@``), the names of its processes, and what
    living beside it means. ``code`` is the end of the finding's code.
    """

    code: str
    name: str
    units: tuple[str, ...]
    programs: tuple[str, ...]
    text: str
    hint: str = ""


_GUESTS = (
    "guests on its bridges go through the tunnel or nowhere; in a window of temporary access they get nothing out",
    "a guest on a macvlan, or bridged to a card, gets nothing out at all",
)
_ITS_TABLE = "its tables are its own, and are left alone; what it drops stays dropped, also inside the tunnel"

NEIGHBOURS = (
    Neighbour(
        "networkmanager",
        "NetworkManager",
        ("NetworkManager.service",),
        ("NetworkManager",),
        "networks are its business, the tunnel is not; its connectivity check is off while the block is on",
        "after aovpnd is removed: the check is turned on again by `aovpnctl unblock`",
    ),
    Neighbour(
        "networkd",
        "systemd-networkd",
        ("systemd-networkd.service",),
        ("systemd-network",),
        "networks are its business, the tunnel is not",
    ),
    Neighbour(
        "resolved",
        "systemd-resolved",
        ("systemd-resolved.service",),
        ("systemd-resolve",),
        "it is told of the tunnel's servers, link by link, and forgets its answers when they change",
    ),
    Neighbour(
        "resolvconf",
        "resolvconf",
        ("resolvconf.service",),
        (),
        "it is told of the tunnel's servers, as a record of its own",
    ),
    Neighbour(
        "ifupdown",
        "ifupdown",
        ("networking.service",),
        ("ifup",),
        "links of /etc/network/interfaces come up behind the block",
        "commands there (pre-up, up) that need the network fail until the tunnel is up",
    ),
    Neighbour(
        "dhcpcd",
        "dhcpcd",
        ("dhcpcd.service", "dhcpcd@"),
        ("dhcpcd",),
        "it writes resolv.conf by itself, and asks every link for a lease",
        f"in /etc/dhcpcd.conf: denyinterfaces {names.LINK_PREFIX}*",
    ),
    Neighbour(
        "dhclient",
        "dhclient",
        (),
        ("dhclient",),
        "it gets its leases by broadcast; where it asks or releases by unicast it is refused, and no lease is lost",
    ),
    Neighbour(
        "docker",
        "Docker",
        ("docker.service",),
        ("dockerd",),
        _GUESTS[0],
        'containers ask the servers of every network, in turn: "dns" in /etc/docker/daemon.json names the tunnel\'s',
    ),
    Neighbour("podman", "Podman", ("podman.service", "podman.socket"), ("podman", "conmon"), *_GUESTS),
    Neighbour(
        "libvirt",
        "libvirt",
        ("libvirtd.service", "virtqemud.service", "virtnetworkd.service"),
        ("libvirtd", "virtqemud", "virtnetworkd"),
        *_GUESTS,
    ),
    Neighbour(
        "lxc",
        "LXC",
        ("lxc-net.service", "lxc@", "lxd.service", "incus.service"),
        ("lxc-start", "lxcfs", "lxd", "incusd"),
        *_GUESTS,
    ),
    Neighbour(
        "nspawn",
        "systemd-nspawn",
        ("systemd-nspawn@",),
        ("systemd-nspawn",),
        _GUESTS[0],
        "a guest on a cable without a bridge (--network-veth) gets nothing out: --network-zone= gives it one",
    ),
    Neighbour(
        "rootless",
        "rootless containers",
        (),
        ("slirp4netns", "pasta", "pasta.avx2"),
        "their network is an ordinary program of their user, which goes through the tunnel, and shares a window",
    ),
    Neighbour(
        "avahi",
        "Avahi",
        ("avahi-daemon.service",),
        ("avahi-daemon",),
        "printers and casts are found, and this machine is announced, only where the local network is open",
        "at home or at work: [lan] allow = true in /etc/aovpnd/aovpnd.toml opens it, in every network alike",
    ),
    Neighbour("firewalld", "firewalld", ("firewalld.service",), ("firewalld",), _ITS_TABLE),
    Neighbour("ufw", "ufw", ("ufw.service",), (), _ITS_TABLE),
    Neighbour("nftables", "nftables.service", ("nftables.service",), (), _ITS_TABLE),
    Neighbour(
        "iptables",
        "iptables-persistent",
        ("netfilter-persistent.service", "iptables.service", "ip6tables.service"),
        (),
        _ITS_TABLE,
    ),
    Neighbour(
        "tailscale",
        "Tailscale",
        ("tailscaled.service",),
        ("tailscaled",),
        "a second tunnel; its routing rules come behind ours, so its network is out of reach while the block is on",
        "two tunnels at a time are not possible: systemctl disable --now tailscaled, unless it is for later",
    ),
)

_STAND_IN = re.compile(r"ipsec[0-9]{1,3}")
"""The device beside that of a charon of ours (docs/decisions/0039)."""
VPNS = (
    ("wg-quick", "wg-quick@", ()),
    ("OpenVPN", "openvpn@", ("openvpn",)),
    ("OpenVPN", "openvpn-client@", ("openvpn",)),
    # Not openvpn.service: Debian enables it with the package, and it only starts instances, whose processes are seen.
    ("strongSwan", "strongswan.service", ()),  # charon-systemd may be ours
    ("strongSwan", "strongswan-starter.service", ("charon",)),
    ("Libreswan", "ipsec.service", ("pluto",)),
    ("Mullvad", "mullvad-daemon.service", ("mullvad-daemon",)),
    ("NordVPN", "nordvpnd.service", ("nordvpnd",)),
    ("ZeroTier", "zerotier-one.service", ("zerotier-one",)),
)
"""Other VPNs: name, unit (a template's ends in ``@``), processes."""
TUNNEL_KINDS = frozenset(
    {"wireguard", "tun", "ovpn", "ipip", "sit", "gre", "ip6gre", "ip6tnl", "vti", "xfrm", "gretap"}
)
FALLBACKS = frozenset({"tunl0", "sit0", "gre0", "gretap0", "erspan0", "ip6tnl0", "ip6gre0", "ip_vti0", "ip6_vti0"})
"""What the kernel makes with a module, to be used by nobody."""


def asked_of_systemd() -> tuple[str, ...]:
    """Every unit above, with a pattern for the instances of a template."""
    units = [unit for neighbour in NEIGHBOURS for unit in neighbour.units] + [unit for _, unit, _ in VPNS]
    return tuple(f"{unit}*" if unit.endswith("@") else unit for unit in dict.fromkeys(units))


def neighbours(facts: Facts) -> Iterator[Finding]:
    """Everybody who is there, and what is to be done."""
    for neighbour in NEIGHBOURS:
        if _is_there(facts, neighbour.units, neighbour.programs) or neighbour.name == facts.names.writer.value:
            yield _note(neighbour.code, f"{neighbour.name}: {neighbour.text}", neighbour.hint)
    yield from _network_manager(facts)
    yield from _networkd(facts)
    yield from _firewalls(facts)
    yield from _other_vpns(facts)
    yield from _printers(facts)


def _note(code: str, text: str, hint: str) -> Finding:
    return Finding(f"neighbour-{code}", Area.NEIGHBOURS, Verdict.INFO, text, hint)


def _warn(code: str, text: str, hint: str) -> Finding:
    return Finding(code, Area.NEIGHBOURS, Verdict.WARNING, text, hint)


def _is_there(facts: Facts, units: tuple[str, ...], programs: tuple[str, ...]) -> bool:
    return facts.runs(*programs) or bool(_units(facts, units))


def _units(facts: Facts, wanted: tuple[str, ...]) -> list[str]:
    """Which of these run or are started at boot."""
    running = (unit.name for unit in facts.units or () if facts.active(unit.name))
    found = dict.fromkeys((*running, *sorted(facts.enabled)))
    return [name for name in found if any(name == unit or _is_instance(name, unit) for unit in wanted)]


def _is_instance(name: str, template: str) -> bool:
    return template.endswith("@") and name.startswith(template)


def _network_manager(facts: Facts) -> Iterator[Finding]:
    seen = facts.network_manager
    if seen.tunnel and "unmanaged" not in seen.tunnel and "externally" not in seen.tunnel:
        text = f"NetworkManager manages our tunnel's link ({seen.tunnel}) as if it were its own"
        hint = f"in /etc/NetworkManager/conf.d: [keyfile] unmanaged-devices=interface-name:{names.LINK_PREFIX}*"
        yield _warn("tunnel-managed", text, hint)
    if facts.daemon.phase == "connected" and seen.connectivity in {"none", "limited", "portal"}:
        text = f"NetworkManager takes the network for “{seen.connectivity}” although the tunnel works"
        hint = "it asks beside the tunnel; aovpnd-bus turns that off: does it run?"
        yield _note("connectivity", text, hint)
    if seen.profiles:
        text = f"NetworkManager connects other VPNs by itself: {', '.join(seen.profiles)}"
        hint = f"nmcli connection modify '{seen.profiles[0]}' connection.autoconnect no"
        yield _warn("vpn-autoconnects", text, hint)


def _networkd(facts: Facts) -> Iterator[Finding]:
    if not _is_there(facts, ("systemd-networkd.service",), ("systemd-network",)):
        return
    keys = (("ManageForeignRoutingPolicyRules", facts.networkd.rules), ("ManageForeignRoutes", facts.networkd.routes))
    if removing := [key for key, will in keys if will is Will.REMOVES]:
        text = "systemd-networkd removes others' routing rules and routes when it starts; the daemon puts ours back"
        keys_to_set = ", ".join(f"{key}=no" for key in removing)
        hint = f"to spare both the work, in /etc/systemd/networkd.conf.d: [Network] {keys_to_set}"
        yield _note("networkd-foreign", text, hint)
    if facts.networkd.claiming:
        text = f"systemd-networkd would take our tunnel's link for its own, by {', '.join(facts.networkd.claiming)}"
        hint = f"name other links there: [Match] Name=!{names.LINK_PREFIX}* does"
        yield _warn("tunnel-claimed", text, hint)


def _firewalls(facts: Facts) -> Iterator[Finding]:
    if facts.firewalls.nftables is Will.REMOVES and _units(facts, ("nftables.service",)):
        text = (
            "/etc/nftables.conf flushes everybody's tables: at boot that can take the block off until the daemon starts"
        )
        hint = "in place of “flush ruleset”, for each table of the file: table inet filter, delete table inet filter"
        yield _warn("flush-at-boot", text, hint)
    if facts.firewalls.dropping:
        text = f"{', '.join(facts.firewalls.dropping)} drops what leaves and is not named: also the tunnel's packets"
        hint = "allow UDP to the gateway's address and port, and everything that leaves by the tunnel's link, there"
        yield _warn("output-dropped", text, hint)


def _other_vpns(facts: Facts) -> Iterator[Finding]:
    found: dict[str, list[str]] = {}
    for name, unit, programs in VPNS:
        if _is_there(facts, (unit,), programs):
            found.setdefault(name, []).extend(_units(facts, (unit,)))
    for name, units in found.items():
        text = f"{name} runs or is started at boot: what it sends to its gateway goes through our tunnel or nowhere"
        hint = (
            f"systemctl disable --now {' '.join(units)}"
            if units
            else "end it, unless it is meant to go through the tunnel"
        )
        yield _warn("vpn-beside", text, hint)
    ours = facts.configuration is not None and bool(facts.configuration.ike)
    others = [
        link.name
        for link in facts.links or ()
        if link.kind in TUNNEL_KINDS and link.name not in FALLBACKS and not OUR_LINK.fullmatch(link.name)
        if link.kind != "tun" or link.arphrd != ARPHRD_ETHER
        if not ours or not _STAND_IN.fullmatch(link.name)
    ]
    if others:
        text = f"there are other tunnels' links ({', '.join(others)}): nothing leaves by them while the block is on"
        hint = f"take them down, or bring their file in: sudo aovpnctl import FILE; wg-quick down {others[0]}"
        yield _warn("foreign-tunnel", text, hint)


def _printers(facts: Facts) -> Iterator[Finding]:
    if facts.printers and facts.configuration is not None and facts.configuration.lan == "block":
        text = f"printers on the network cannot be reached while the local network is shut: {', '.join(facts.printers)}"
        hint = "at home or at work: [lan] allow = true in /etc/aovpnd/aovpnd.toml opens it, in every network alike"
        yield _note("printers", text, hint)

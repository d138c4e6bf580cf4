# SPDX-License-Identifier: GPL-3.0-or-later
"""What the other end of a cable is, where it is more than a socket: a switch with VLANs, or with 802.1X, or a provider.

It lives in a network namespace of the laptop's own machine, whose kernel knows all of this, and has two network cards:
one for the laptop's cable, which the lab joins with the laptop's card, and one that leads on to the lab's home network.
"""

from typing import Final

from tests.lab.world import World
from tests.vm.laptop import BootedLaptop, Plugged
from tests.vm.machine import Card

CABLE: Final = "cable"
"""The network of the laptop's cable: two ends, and the recorder."""
PORT: Final = Plugged(Card("port", "tap3", "02:00:00:00:0b:03"), CABLE, recorded=False)
"""The far end of the laptop's cable."""
ONWARD: Final = Plugged(Card("onward", "tap4", "02:00:00:00:0b:04"), "home", recorded=False)
NAMESPACE: Final = "far"
VLAN: Final = 10
USER, PASSWORD = "alice", "wonder land"
AUTHORITY: Final = "/run/port/ca.pem"
"""Who vouches for the switch's certificate."""
_HOSTAPD: Final = """interface={port}
driver=wired
ctrl_interface=/run/hostapd-port
use_pae_group_addr=1
ieee8021x=1
eap_reauth_period=0
eap_server=1
eap_user_file=/run/port/users
ca_cert=/run/port/ca.pem
server_cert=/run/port/port.pem
private_key=/run/port/port.key
"""
_DISCOVERY, _SESSION = b"\x88\x63", b"\x88\x64"
_ASKS: Final = frozenset({0x09, 0x19, 0xA7})
"""What a client sends to find a session, to begin and to end it (RFC 2516: PADI, PADR, PADT)."""
_CONTROL: Final = frozenset({0xC021, 0xC023, 0xC223, 0x8021, 0x8057})
_CARRIED: Final = {0x0021: b"\x08\x00", 0x0057: b"\x86\xdd"}
_PPP: Final = """require-chap
lcp-echo-interval 10
nobsdcomp
noccp
"""
_PROVIDER: Final = """set -e
ip -n far addr add 192.168.10.99/24 dev "$2"
ip -n far link set "$2" up
ip -n far route add default via 192.168.10.1
ip netns exec far sysctl -qw net.ipv4.ip_forward=1
ip netns exec far nft "table ip provider {
  chain out { type nat hook postrouting priority 100; oifname \"$2\" masquerade; }; }"
modprobe pppoe
mkdir -p /etc/ppp/plugins
ln -sf /usr/lib/pppd/*/rp-pppoe.so /etc/ppp/plugins/ # where pppoe-server has its pppd look for it
ip netns exec far pppoe-server -k -I "$1" -L 10.67.0.1 -R 10.67.0.2 -N 4 -O /run/port/options -X /run/port/pppoe.pid
"""
_OPEN: Final = """#!/bin/sh
case $2 in
AP-STA-CONNECTED) ip netns exec far nft delete table bridge port ;;
esac
"""
_MAKE: Final = """set -e
ip netns add far
for card in "$1" "$2"; do ip link set "$card" netns far; done
ip netns exec far sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
ip -n far link set "$1" up
"""
_BRIDGE: Final = """set -e
ip -n far link add br0 type bridge stp_state 0 mcast_snooping 0
for port in "$1" "$2"; do ip -n far link set "$port" master br0 up; done
ip -n far link set br0 up
"""


def lay_cable(world: World) -> None:
    """Make the network of the laptop's cable, where frames to the next bridge alone (802.1X) get through as well."""
    world.air.ip(f"link add br-{CABLE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0 group_fwd_mask 8")
    world.air.ip(f"link set br-{CABLE} up")


def _make(laptop: BootedLaptop) -> tuple[str, str]:
    """The namespace with both cards; returns their names."""
    port, onward = laptop.link_of(PORT.card), laptop.link_of(ONWARD.card)
    laptop.machine.check("sh", "-c", _MAKE, "far", port, onward)
    return port, onward


def vlan_switch(laptop: BootedLaptop) -> None:
    """A port with one VLAN, tagged: what comes without the tag ends there."""
    port, onward = _make(laptop)
    laptop.machine.check("ip", "-n", NAMESPACE, *f"link add link {port} name tagged type vlan id {VLAN}".split())
    laptop.machine.check("sh", "-c", _BRIDGE, "far", "tagged", onward)


def port_with_8021x(laptop: BootedLaptop) -> None:
    """A port that is shut but for EAPOL until somebody has shown who he is, by PEAP with a password."""
    port, onward = _make(laptop)
    directory = laptop.world.dir
    for name, path in (("ca.pem", laptop.world.ca), ("port.pem", directory / "portal.pem")):
        laptop.put(f"/run/port/{name}", path.read_bytes())
    laptop.put("/run/port/port.key", (directory / "portal.key").read_bytes())
    laptop.put("/run/port/users", f'* PEAP\n"{USER}" MSCHAPV2 "{PASSWORD}" [2]\n')
    laptop.put("/run/port/hostapd.conf", _HOSTAPD.format(port=port))
    laptop.put("/run/port/open", _OPEN, 0o755)
    machine = laptop.machine
    machine.check("sh", "-c", _BRIDGE, "far", port, onward)
    shut = "table bridge port { chain forward { type filter hook forward priority 0; policy drop; }; }"
    machine.check("ip", "netns", "exec", NAMESPACE, "nft", "-f", "-", stdin=shut)
    inside = ("ip", "netns", "exec", NAMESPACE)
    machine.check(*inside, "hostapd", "-B", "-P", "/run/port/hostapd.pid", "/run/port/hostapd.conf")
    follow = ("hostapd_cli", "-B", "-P", "/run/port/follow.pid", "-p", "/run/hostapd-port", "-i", port)
    machine.check(*inside, *follow, "-a", "/run/port/open")


def provider(laptop: BootedLaptop) -> None:
    """A provider's end of a DSL line: PPP over Ethernet, with CHAP, IPv4 alone, and translation of addresses."""
    port, onward = _make(laptop)
    laptop.put("/run/port/options", _PPP)
    laptop.put("/etc/ppp/chap-secrets", f'"{USER}" * "{PASSWORD}" *\n')
    laptop.machine.check("sh", "-c", _PROVIDER, "far", port, onward)


def is_open(laptop: BootedLaptop) -> bool:
    """Whether somebody has shown who he is at that port."""
    tables = laptop.machine.check("ip", "netns", "exec", NAMESPACE, "nft", "list", "tables")
    return "bridge port" not in tables


def clear_away(laptop: BootedLaptop) -> None:
    """End what is there; the cards come back."""
    script = "for pid in /run/port/*.pid; do test ! -e $pid || kill $(cat $pid); done; rm -rf /run/port"
    laptop.machine.check("sh", "-c", script)
    laptop.machine.check("ip", "netns", "delete", NAMESPACE)
    for plugged in (PORT, ONWARD):
        laptop.link_of(plugged.card)


def untagged(frame: bytes) -> bytes:
    """A frame of the VLAN, without the tag; any other as it is."""
    tag = frame[12:14] == b"\x81\x00" and int.from_bytes(frame[14:16]) & 0xFFF == VLAN
    return frame[:12] + frame[16:] if tag else frame


def out_of_session(frame: bytes) -> bytes | None:
    """The packet that a frame of PPP over Ethernet carries, as a frame of its own; None where it is PPP's own words, in
    their right form, and any other frame as it is.
    """
    kind, code, length = frame[12:14], frame[15:16], int.from_bytes(frame[18:20])
    if frame[14:15] != b"\x11" or length != len(frame) - 20:
        return frame
    if kind == _DISCOVERY and code[0] in _ASKS:
        return None
    if kind == _SESSION and code == b"\0":
        protocol = int.from_bytes(frame[20:22])
        if protocol in _CARRIED:
            return frame[:12] + _CARRIED[protocol] + frame[22:]
        return None if protocol in _CONTROL else frame
    return frame

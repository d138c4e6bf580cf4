# SPDX-License-Identifier: GPL-3.0-or-later
"""Access points for a booted laptop: radios of mac80211_hwsim, each with hostapd in a namespace of its own.

The radios are all in the laptop's kernel. The first stays with the laptop; each of the others goes into a namespace,
with a network card that leads to a network of the lab. There is nothing else between them than the air.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lab.tree import Tree, copied
from tests.vm.air import Listener, Said
from tests.vm.laptop import BootedLaptop
from tests.vm.machine import Card

LINK: Final = "wlan0"
"""The laptop's own."""
MAC: Final = "02:00:00:00:00:00"
"""Its address, mac80211_hwsim's first."""
_SNIFFER: Final = "/usr/local/bin/sniffer"
_AIR: Final = "hwsim0"
_HOSTAPD: Final = """interface={link}
bridge=br0
driver=nl80211
ctrl_interface=/run/hostapd-{name}
hw_mode=g
channel={channel}
ssid2={ssid}
wpa=2
wpa_key_mgmt=WPA-PSK
rsn_pairwise=CCMP
wpa_passphrase={passphrase}
"""
_PROFILE: Final = """[connection]
id={name}
type=wifi
interface-name={laptop}
autoconnect=false
[wifi]
ssid={ssid}
[wifi-security]
key-mgmt=wpa-psk
psk={passphrase}
[ipv4]
method=auto
[ipv6]
method=auto
addr-gen-mode=eui64
"""
_UPDATE: Final = "@ll,96,32 0x00060001 @ll,128,32 0xaf810100 meta length 20"
"""What an access point's kernel says to its switches in the name of a station that has come (IEEE 802.11F, XID): these
bytes and no more. It is not the laptop's.
"""
_NAMESPACE: Final = f"""set -e
ip netns add "$1"
iw phy "$2" set netns name "$1"
ip link set "$3" netns "$1"
ip netns exec "$1" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
ip -n "$1" link add br0 type bridge stp_state 0 mcast_snooping 0
ip -n "$1" link set "$3" master br0 up
ip -n "$1" link set br0 up
ip netns exec "$1" nft "add table netdev point
  add chain netdev point out {{ type filter hook egress device \\"$3\\" priority 0; }}
  add rule netdev point out {_UPDATE} drop"
"""


@dataclass(frozen=True, slots=True)
class Point:
    """An access point; ``number`` is its radio's, from 1 on, ``card`` leads to its network."""

    number: int
    ssid: bytes
    passphrase: str
    card: Card

    @property
    def name(self) -> str:
        """Of its namespace, and of the laptop's profile for it."""
        return f"point{self.number}"

    def configuration(self) -> str:
        """hostapd.conf(5)."""
        return _HOSTAPD.format(
            name=self.name,
            link=f"wlan{self.number}",
            channel=1 + 5 * (self.number - 1),
            ssid=self.ssid.hex(),
            passphrase=self.passphrase,
        )

    def profile(self) -> str:
        """nm-settings-keyfile(5): an SSID is bytes there, and what is no text is written as such."""
        ssid = "".join(f"{byte};" for byte in self.ssid)
        return _PROFILE.format(name=self.name, laptop=LINK, ssid=ssid, passphrase=self.passphrase)


def files() -> Tree:
    """What the machine needs for it."""
    return {_SNIFFER: copied(Path(__file__).with_name("guest") / "sniffer.py", 0o755)}


def plug(laptop: BootedLaptop, radios: int) -> None:
    """Plug the radios in, all at once."""
    laptop.machine.check("modprobe", "mac80211_hwsim", f"radios={1 + radios}")
    laptop.machine.wait("the radio", "sh", "-c", f"test -e /sys/class/net/{LINK} && udevadm settle")


def unplug(laptop: BootedLaptop, *points: Point) -> None:
    """Pull them out; the cards of the access points come back."""
    for point in points:
        switch_off(laptop, point)
        laptop.machine.check("ip", "netns", "delete", point.name)
        laptop.link_of(point.card)
    laptop.machine.wait("the radios to go", "modprobe", "--remove", "mac80211_hwsim")


def listen(laptop: BootedLaptop, path: str) -> None:
    """Record what is said on the air from now on, until the radios go."""
    machine = laptop.machine
    machine.check("ip", "link", "set", _AIR, "up")
    machine.check("systemd-run", "-q", "--collect", _SNIFFER, _AIR, path)
    machine.wait("the recording of the air", "test", "-s", path)


def said(laptop: BootedLaptop, path: str, *points: Point) -> tuple[Said, ...]:
    """What stations have said to these access points, as recorded there."""
    copy = laptop.machine.directory / Path(path).name
    copy.write_bytes(laptop.get(path))
    listener = Listener(tuple((point.passphrase, point.ssid) for point in points))
    return tuple(listener.hear(copy))


def set_up(laptop: BootedLaptop, point: Point) -> None:
    """Give an access point its namespace, its radio and its card."""
    machine, radio = laptop.machine, point.number
    (phy,) = machine.check("ls", f"/sys/class/net/wlan{radio}/device/ieee80211").split()
    machine.check("sh", "-c", _NAMESPACE, "point", point.name, phy, laptop.link_of(point.card))
    laptop.put(f"/run/{point.name}.conf", point.configuration())


def switch_on(laptop: BootedLaptop, point: Point) -> None:
    """Start hostapd; returns when the network is there."""
    command = ("hostapd", "-B", "-P", f"/run/{point.name}.pid", f"/run/{point.name}.conf")
    laptop.machine.check("ip", "netns", "exec", point.name, *command)
    ask = ("hostapd_cli", "-p", f"/run/hostapd-{point.name}", "status")
    laptop.machine.wait("the access point", "sh", "-c", f"ip netns exec {point.name} {' '.join(ask)} | grep -q ENABLED")


def switch_off(laptop: BootedLaptop, point: Point) -> None:
    """End hostapd, if it runs."""
    pid = f"/run/{point.name}.pid"
    script = f"test ! -e {pid} || {{ kill $(cat {pid}); while test -e {pid}; do sleep 0.1; done; }}"
    laptop.machine.check("sh", "-c", script)


def let_in(laptop: BootedLaptop) -> None:
    """Log the laptop's radio in at the café's portal."""
    laptop.world.cafe.host.run("nft", "add", "element", "inet", "cafe", "allowed", f"{{ {MAC} }}")

# SPDX-License-Identifier: GPL-3.0-or-later
"""Other tunnels beside ours, each with the real other end: how it comes up, and what its own network is."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from tests.container.booted import Booted
from tests.lab import plan
from tests.lab.process import stop, wait_for
from tests.lab.sites import Gateway
from tests.neighbours.roots import Root, root

OFFICE: Final = "office"
"""The name of each."""
VPN_PORT: Final = 1194
_STATIC: Final = "-----BEGIN OpenVPN Static key V1-----\n{key}\n-----END OpenVPN Static key V1-----\n"
_CLIENT: Final = f"""dev {OFFICE}
dev-type tun
proto udp
remote {plan.ECHO4} {VPN_PORT}
ifconfig 10.9.0.2 10.9.0.1
cipher AES-256-CBC
secret office.key
redirect-gateway def1
ping 1
"""
_SERVER: Final = """
mount --rbind /dev "$1/dev"
mount --bind "$2" "$1/mnt"
shift
cd /
exec chroot "$ROOT" /usr/sbin/openvpn --dev tun9 --local {address} --port {port} --ifconfig 10.9.0.1 10.9.0.2 \\
  --cipher AES-256-CBC --secret /mnt/office.key --ping 1
"""
_MARKED: Final = f"""
ip tuntap add {OFFICE} mode tun
ip addr add 100.100.0.2/32 dev {OFFICE}
ip link set {OFFICE} up
ip route add 100.64.0.0/10 dev {OFFICE} table 52
ip rule add priority 5210 fwmark 0x80000/0xff0000 lookup main
ip rule add priority 5230 fwmark 0x80000/0xff0000 lookup default
ip rule add priority 5250 fwmark 0x80000/0xff0000 unreachable
ip rule add priority 5270 lookup 52
"""
"""Links, routes and rules as Tailscale makes them; nobody is behind the link."""
_UNMARKED: Final = f"""
for priority in 5210 5230 5250 5270; do ip rule del priority $priority; done
ip link del {OFFICE}
"""


@dataclass(frozen=True, slots=True)
class Beside:
    """A tunnel that is up beside ours: an address in its own network; whether its rules stand before ours, so that what
    programs send is led into it and refused; and whether it leads everything into itself, our tunnel's packets too.
    """

    inside: str
    ahead: bool = False
    takes_all: bool = False
    found: frozenset[str] = frozenset({"foreign-tunnel"})
    """What the doctor says of it."""


@contextmanager
def wg_quick(laptop: Booted, gateway: Gateway, conf: str, allowed: str) -> Iterator[None]:
    """wg-quick(8) with a second gateway; no names, and IPv4 alone: a link in a link may be too small for IPv6."""
    lines = [line for line in conf.splitlines() if not line.startswith(("DNS", "Address", "AllowedIPs"))]
    address = f"[Interface]\nAddress = {gateway.place.laptop4}/32"
    text = "\n".join(lines).replace("[Interface]", address) + f"\nAllowedIPs = {allowed}\n"
    laptop.system.write(f"/etc/wireguard/{OFFICE}.conf", text, 0o600)
    laptop.system.check("wg-quick", "up", OFFICE)
    try:
        yield
    finally:
        laptop.system.check("wg-quick", "down", OFFICE)


@contextmanager
def wg_quick_all(laptop: Booted) -> Iterator[Beside]:
    """It carries everything, by rules that the kernel puts before ours."""
    gateway, conf = _second(laptop)
    with wg_quick(laptop, gateway, conf, "0.0.0.0/0"):
        yield Beside(str(gateway.place.inside4), ahead=True, takes_all=True)


@contextmanager
def wg_quick_narrow(laptop: Booted) -> Iterator[Beside]:
    """It carries the office's network alone, by routes of the main table."""
    gateway, conf = _second(laptop)
    with wg_quick(laptop, gateway, conf, f"{gateway.place.inside4}/32"):
        yield Beside(str(gateway.place.inside4))


_GATEWAYS: Final[dict[int, tuple[Gateway, str]]] = {}


def _second(laptop: Booted) -> tuple[Gateway, str]:
    """The second gateway of a world, which is put up once."""
    if id(laptop.world) not in _GATEWAYS:
        _GATEWAYS[id(laptop.world)] = laptop.world.another_gateway()
    return _GATEWAYS[id(laptop.world)]


@contextmanager
def openvpn(laptop: Booted) -> Iterator[Beside]:
    """OpenVPN by Debian's unit, which leads the internet into itself by two routes of the main table. Our tunnel's own
    packets go by that table too, and so into it.
    """
    world, system = laptop.world, laptop.system
    key = _STATIC.format(key="\n".join(secrets.token_hex(16) for _ in range(16)))
    (world.dir / f"{OFFICE}.key").touch(0o600)
    (world.dir / f"{OFFICE}.key").write_text(key, encoding="ascii")
    script = _SERVER.format(address=plan.ECHO4, port=VPN_PORT)
    place = str(root(Root.TUNNELS))
    words = ("unshare", "--mount", "sh", "-ec", script, "sh", place, str(world.dir))
    server = world.internet.spawn(*words, log="openvpn", env={"ROOT": place})
    system.write(f"/etc/openvpn/{OFFICE}.key", key, 0o600)
    system.write(f"/etc/openvpn/{OFFICE}.conf", _CLIENT)
    system.check("systemctl", "start", f"openvpn@{OFFICE}.service")
    try:
        wait_for("OpenVPN's routes", lambda: "0.0.0.0/1" in system.check("ip", "route"), deadline_s=20)
        yield Beside("10.9.0.1", takes_all=True, found=frozenset({"foreign-tunnel", "vpn-beside"}))
    finally:
        system.check("systemctl", "stop", f"openvpn@{OFFICE}.service")
        stop(server)


@contextmanager
def marked(laptop: Booted) -> Iterator[Beside]:
    """Rules with a mark of its own, and a table, as Tailscale has them."""
    laptop.system.shell(_MARKED)
    try:
        yield Beside("100.100.0.1")
    finally:
        laptop.system.shell(_UNMARKED)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The machines that a laptop meets: routers at home and in the café, the internet, and the WireGuard gateway."""

import json
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lab import dnsmasq, plan
from tests.lab.host import Host
from tests.lab.plan import Site
from tests.lab.process import SLOW, run, stop, wait_for

_NAT: Final = """
table inet router {
  chain postrouting { type nat hook postrouting priority 100; meta nfproto ipv4 oifname "wan0" masquerade; }
}
"""
_PORTAL: Final = """
table inet cafe {
  set allowed { type ether_addr; }
  set shut { type inet_service; comment "UDP ports that stay shut after the login too"; }
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname "lan0" udp dport @shut drop
    iifname "lan0" ether saddr != @allowed drop
  }
  chain prerouting {
    type nat hook prerouting priority -100;
    iifname "lan0" ether saddr != @allowed tcp dport 80 redirect to :80
  }
}
"""
_GATEWAY: Final = """
table inet gateway {
  chain postrouting { type nat hook postrouting priority 100; iifname "wg0" oifname "wan0" masquerade; }
  chain exit { type filter hook forward priority 0; }
  chain way { type filter hook prerouting priority -300; }
}
"""


_LIAR: Final = 5353
_TO_THE_LIAR: Final = """
table inet liar {{
  chain prerouting {{
    type nat hook prerouting priority -150;
    iifname "lan0" ip daddr {lan4} udp dport 53 dnat ip to {lan4}:{port}
    iifname "lan0" ip daddr {lan4} tcp dport 53 dnat ip to {lan4}:{port}
    iifname "lan0" ip6 daddr {lan6} udp dport 53 dnat ip6 to [{lan6}]:{port}
    iifname "lan0" ip6 daddr {lan6} tcp dport 53 dnat ip6 to [{lan6}]:{port}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Router:
    """A site's router: DHCP, router advertisements, DNS, NAT for IPv4, plain routing for IPv6."""

    host: Host
    site: Site

    def configure(self, *, lease_s: int, portal_tls: tuple[Path, Path] | None = None) -> None:
        """Give it addresses and services; with ``portal_tls`` (certificate, key) it is one with a captive portal."""
        host, site = self.host, self.site
        host.sysctl(ipv4__ip_forward=1, ipv6__conf__all__forwarding=1, ipv6__conf__lan0__accept_dad=0)
        host.sysctl(ipv6__conf__wan0__accept_dad=0, ipv6__conf__lan0__keep_addr_on_down=1)
        host.ip(f"link set lan0 address {site.mac} up")
        host.ip("link set wan0 up")
        if not site.nat64:
            host.ip(f"addr add {site.router4}/24 dev lan0")
        host.ip(f"addr add {site.router6}/64 dev lan0")
        host.ip(f"addr add {site.wan4}/30 dev wan0")
        host.ip(f"addr add {site.wan6}/64 dev wan0")
        host.ip(f"route add default via {site.wan4_gateway}")
        host.ip(f"-6 route add default via {site.wan6_gateway}")
        host.nft(_NAT)
        if site.nat64:
            self._nat64()
        if portal_tls:
            host.nft(_PORTAL)
            host.spawn(sys.executable, "-m", "tests.lab.portal_server", *map(str, portal_tls), log="portal")
        dnsmasq.start(host, dnsmasq.lan_config(site, lease_s=lease_s, portal=portal_tls is not None))

    def _nat64(self) -> None:
        """Start the translator (tayga), and route the prefix into it."""
        host, inside = self.host, f"{self.site.lan4}.0/24"
        text = f"tun-device nat64\nipv4-addr {self.site.lan4}.1\nprefix {self.site.nat64}::/96\n"
        text += f"dynamic-pool {inside}\nipv6-addr {self.site.lan6}:1::64\n"
        (host.dir / "run" / "tayga.conf").write_text(text, encoding="utf-8")
        host.spawn("tayga", "-c", "/run/tayga.conf", "--mktun", chroot=True, log="tayga").wait(10 * SLOW)
        host.ip("link set nat64 up")
        host.ip(f"route add {inside} dev nat64")
        host.ip(f"-6 route add {self.site.nat64}::/96 dev nat64")
        host.ip(f"-6 route add {self.site.lan6}:1::64/128 dev nat64")
        host.spawn("tayga", "-c", "/run/tayga.conf", "-d", chroot=True, log="tayga")

    def resolver(self, how: str, *addresses: object) -> None:
        """How its resolver does its work: ``honest``, or ``lie`` (these addresses, whatever the name), ``tcp`` (these,
        by TCP alone), ``silent``, ``servfail``.
        """
        orders = self.host.dir / "resolver.json"
        orders.write_text(json.dumps({"how": how, "addresses": list(map(str, addresses))}), encoding="utf-8")
        self.host.run("nft", "delete", "table", "inet", "liar", check=False)
        if how == "honest":
            return
        if not self.host.pids_of("tests.lab.liar"):
            self.host.spawn(sys.executable, "-m", "tests.lab.liar", str(_LIAR), str(orders), log="liar")
            self.ready(_LIAR)
        self.host.nft(_TO_THE_LIAR.format(lan4=self.site.router4, lan6=self.site.router6, port=_LIAR))

    def ready(self, *ports: int) -> None:
        """Wait until it listens on these TCP ports."""
        _wait_for_ports(self.host, ports)

    def power(self, state: str) -> None:
        """``off``: its LAN port goes dead while the laptop keeps its carrier, as behind a switch; ``on`` again."""
        self.host.ip(f"link set lan0 {'up' if state == 'on' else 'down'}")

    def forget_logins(self) -> None:
        """Everybody has to log in to the captive portal again."""
        self.host.run("nft", "flush", "set", "inet", "cafe", "allowed")

    def logged_in(self, mac: str) -> bool:
        """Whether the portal lets this hardware address through."""
        return mac in self.host.out("nft", "list", "set", "inet", "cafe", "allowed")

    def shut_udp(self, *ports: int) -> None:
        """Drop UDP to these ports, for those who are logged in too; without ports, open all again."""
        elements = f"add element inet cafe shut {{ {', '.join(map(str, ports))} }}" if ports else ""
        self.host.nft(f"flush set inet cafe shut\n{elements}\n")


def start_internet(host: Host, sites: tuple[Site, ...]) -> None:
    """Connect the sites with the gateway, and start DNS, web and echo servers. `internet_ready` waits for them."""
    host.sysctl(ipv4__ip_forward=1, ipv6__conf__all__forwarding=1)
    for address in (plan.WEB4, plan.DNS4, plan.ECHO4):
        host.ip(f"addr add {address}/32 dev lo")
    for address6 in (plan.WEB6, plan.DNS6, plan.ECHO6):
        host.ip(f"addr add {address6}/128 dev lo")
    for site in sites:
        host.sysctl(**{f"ipv6__conf__{site.name}__accept_dad": 0})
        host.ip(f"link set {site.name} up")
        host.ip(f"addr add {site.wan4_gateway}/30 dev {site.name}")
        host.ip(f"addr add {site.wan6_gateway}/64 dev {site.name}")
        host.ip(f"-6 route add {site.lan6}::/64 via {site.wan6}")
    connect_gateway(host, plan.PLACES[0])
    host.ip(f"route add {plan.MOVED4}/32 via {plan.GATEWAY4}")
    host.spawn(sys.executable, "-m", "tests.lab.web_server", log="web")
    dnsmasq.start(host, dnsmasq.internet_config())


def connect_gateway(host: Host, place: plan.Place) -> None:
    """Bring up the internet's end of a gateway's cable."""
    host.sysctl(**{f"ipv6__conf__{place.name}__accept_dad": 0})
    host.ip(f"link set {place.name} up")
    host.ip(f"addr add {place.wan4_gateway}/30 dev {place.name}")
    host.ip(f"addr add {place.wan6_gateway}/64 dev {place.name}")


def internet_ready(host: Host) -> None:
    """Wait until the web and echo servers answer."""
    _wait_for_ports(host, (80,))
    wait_for("the echo server", lambda: host.out("ss", "-Hlun", f"sport = :{plan.ECHO_PORT}").count("\n") == 2)


def _wait_for_ports(host: Host, ports: tuple[int, ...]) -> None:
    def listening() -> bool:
        seen = {line.split()[3].rpartition(":")[2] for line in host.out("ss", "-Hltn").splitlines()}
        return seen >= set(map(str, ports))

    wait_for(f"{host.name} to listen on {ports}", listening)


def _listens(path: Path) -> bool:
    """Whether somebody listens on a socket."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(path))
    except OSError:
        return False
    return True


@dataclass(slots=True)
class Gateway:
    """A WireGuard gateway: wireguard-go, NAT behind it for both families, a resolver inside the tunnel."""

    host: Host
    private_key: str
    peer_public_key: str
    preshared_key: str
    place: plan.Place = plan.PLACES[0]
    _process: subprocess.Popen[bytes] | None = None

    def configure(self) -> None:
        """Give it addresses, NAT and its tunnel."""
        host, place = self.host, self.place
        host.sysctl(ipv4__ip_forward=1, ipv6__conf__all__forwarding=1, ipv6__conf__wan0__accept_dad=0)
        host.ip("link set wan0 up")
        host.ip(f"addr add {place.wan4}/30 dev wan0")
        host.ip(f"addr add {place.wan6}/64 dev wan0")
        host.ip(f"route add default via {place.wan4_gateway}")
        host.ip(f"-6 route add default via {place.wan6_gateway}")
        host.nft(_GATEWAY)
        self.on()
        dnsmasq.start(host, dnsmasq.resolver_config("wg0", self.place))

    def on(self) -> None:
        """Start the tunnel's end; nothing happens when it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        host = self.host
        self._process = host.spawn("wireguard-go", "-f", "wg0", log="wireguard")
        # Not by `wg show`: between bind(2) and listen(2) it takes the socket for a dead one's, and removes it (facts).
        wait_for("the gateway's tunnel", lambda: _listens(host.path("/run/wireguard/wg0.sock")))
        self._set()
        host.ip("link set wg0 mtu 1420 up")
        host.ip(f"addr add {self.place.inside4}/24 dev wg0")
        host.ip(f"addr add {self.place.inside6}/64 dev wg0 nodad")

    def _set(self) -> None:
        """Give the tunnel's end its keys and its peer; a session that goes on is not disturbed."""
        config = f"""[Interface]
PrivateKey = {self.private_key}
ListenPort = {plan.GATEWAY_PORT}
[Peer]
PublicKey = {self.peer_public_key}
PresharedKey = {self.preshared_key}
AllowedIPs = {self.place.laptop4}/32, {self.place.laptop6}/128
"""
        self.host.run("wg", "syncconf", "wg0", "/dev/stdin", stdin=config)

    def revoke(self) -> None:
        """Forget the laptop's key: it gets no answer any more. `admit` takes it back."""
        self.host.run("wg", "set", "wg0", "peer", self.peer_public_key, "remove")

    def admit(self, peer_public_key: str = "", private_key: str = "") -> None:
        """Know the laptop, by this key from now on; with ``private_key`` the gateway has another one itself."""
        self.peer_public_key = peer_public_key or self.peer_public_key
        self.private_key = private_key or self.private_key
        self._set()

    def shut_exit(self, *, dead: bool) -> None:
        """Whether the gateway's own way to the internet is dead: it shakes hands, and forwards nothing."""
        self._rules("exit", 'iifname "wg0" drop' if dead else "")

    def filter_udp(self, *, filtered: bool) -> None:
        """Whether the tunnel's port is filtered on the way: nothing arrives, and nobody is told."""
        self._rules("way", f"udp dport {plan.GATEWAY_PORT} drop" if filtered else "")

    def _rules(self, chain: str, rule: str) -> None:
        added = f"add rule inet gateway {chain} {rule}\n" if rule else ""
        self.host.nft(f"flush chain inet gateway {chain}\n{added}")

    def tunnel_conf(self, laptop_key: str) -> str:
        """A file as a provider hands it out, wg-quick(8)'s format."""
        place = self.place
        return f"""[Interface]
PrivateKey = {laptop_key}
Address = {place.laptop4}/32, {place.laptop6}/128
DNS = {place.inside4}, {place.inside6}

[Peer]
PublicKey = {self.public_key()}
PresharedKey = {self.preshared_key}
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = {place.wan4}:{plan.GATEWAY_PORT}
"""

    def off(self) -> None:
        """Stop the tunnel's end: handshakes get no answer any more (an ICMP port unreachable, as from a real host)."""
        if self._process is not None:
            stop(self._process)
            self._process = None

    def move(self) -> None:
        """Be found at `plan.MOVED4` from now on, and at the old addresses no more; `come_back` undoes it."""
        self.host.ip(f"addr add {plan.MOVED4}/32 dev lo")
        self.host.nft(
            "table inet moved { chain input { type filter hook input priority 0; policy accept;"
            f" ip daddr {plan.GATEWAY4} udp dport {plan.GATEWAY_PORT} drop;"
            f" ip6 daddr {plan.GATEWAY6} udp dport {plan.GATEWAY_PORT} drop; }}; }}\n"
        )

    def come_back(self) -> None:
        """Be where one was."""
        self.host.ip(f"addr del {plan.MOVED4}/32 dev lo")
        self.host.nft("delete table inet moved\n")

    def public_key(self) -> str:
        """The gateway's public key."""
        return public_key(self.private_key)

    def handshakes(self) -> int:
        """Unix time of the laptop's last handshake, 0 when there was none."""
        words = self.host.out("wg", "show", "wg0", "latest-handshakes").split()
        return int(words[1]) if len(words) > 1 else 0


def new_key() -> str:
    """Return a new private key."""
    return run(("wg", "genkey")).stdout.strip()


def new_preshared_key() -> str:
    """Return a new preshared key."""
    return run(("wg", "genpsk")).stdout.strip()


def public_key(private_key: str) -> str:
    """Return what belongs to a private key."""
    return run(("wg", "pubkey"), stdin=private_key + "\n").stdout.strip()


def make_certificates(directory: Path) -> tuple[Path, Path, Path]:
    """Make a certificate authority and the portal's certificate; returns (authority, certificate, key), in PEM."""
    ca, ca_key, cert, key = (directory / name for name in ("ca.pem", "ca.key", "portal.pem", "portal.key"))
    new = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    run((*new, "-days", "30", "-subj", "/CN=Lab authority", "-keyout", str(ca_key), "-out", str(ca)))
    name = ("-subj", f"/CN={plan.PORTAL_NAME}", "-addext", f"subjectAltName=DNS:{plan.PORTAL_NAME}")
    signed = ("-addext", "basicConstraints=critical,CA:FALSE", "-CA", str(ca), "-CAkey", str(ca_key))
    run((*new, "-days", "30", *name, *signed, "-keyout", str(key), "-out", str(cert)))
    return ca, cert, key

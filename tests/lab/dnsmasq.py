# SPDX-License-Identifier: GPL-3.0-or-later
"""dnsmasq as the simulated machines use it: DHCPv4, DHCPv6, router advertisements and DNS."""

import os
import re
import signal
from ipaddress import IPv4Address
from typing import Final

from tests.lab import plan
from tests.lab.host import Host
from tests.lab.plan import Site
from tests.lab.process import LabError, wait_for

_WELL_KNOWN: Final = ("192.0.0.170", "192.0.0.171")
"""RFC 7050. (dnsmasq makes no other IPv6 addresses: the site has NAT64 and no DNS64.)"""
_IS_IPV4: Final = re.compile(r"dhcp-range=[0-9]+[.]|dhcp-option=option:|dhcp-authoritative")
_BASE = """
port=53
bind-dynamic
no-resolv
no-hosts
no-ping
cache-size=0
user=root
keep-in-foreground
log-facility=-
"""


def lan_config(site: Site, *, lease_s: int, portal: bool) -> str:
    """Configuration of a router: leases of ``lease_s`` seconds (at least 120), DHCP option 114 if ``portal``."""
    text = f"""{_BASE}
interface=lan0
server={plan.DNS4}
dhcp-authoritative
dhcp-leasefile=/run/dnsmasq.leases
dhcp-range={site.lan4}.100,{site.lan4}.199,255.255.255.0,{lease_s}
dhcp-option=option:router,{site.router4}
dhcp-option=option:dns-server,{site.router4}
address=/{plan.WHO_NAME}/{site.router4}
enable-ra
ra-param=lan0,10,600
dhcp-range={site.lan6}::1000,{site.lan6}::1fff,slaac,64,{lease_s}
dhcp-option=option6:dns-server,[{site.router6}]
log-dhcp
"""
    if site.nat64:
        text = "".join(line for line in text.splitlines(keepends=True) if not _IS_IPV4.match(line))
        text += "".join(f"address=/ipv4only.arpa/{site.behind_nat64(IPv4Address(a))}\n" for a in _WELL_KNOWN)
    if portal:
        text += f"dhcp-option-force=114,{plan.PORTAL_API}\naddress=/{plan.PORTAL_NAME}/{site.router4}\n"
    return text


def resolver_config(interface: str, place: plan.Place) -> str:
    """Configuration of a gateway's resolver, inside both its tunnels, that forwards to the internet's."""
    who = f"address=/{plan.WHO_NAME}/{place.inside4}\n"
    pool = plan.IKE_POOLS[place.name]
    listen = f"interface={interface}\nlisten-address={pool.inside4},{pool.inside6}\n"
    return f"{_BASE}\n{listen}server={plan.DNS4}\n{who}"


def internet_config() -> str:
    """Configuration of the internet's DNS: it knows the world's names, and answers everything else with NXDOMAIN."""
    names = {
        plan.WEB_NAME: (plan.WEB4, plan.WEB6),
        plan.GATEWAY_NAME: (plan.GATEWAY4, plan.GATEWAY6),
        "connectivity.example.org": (plan.WEB4, plan.WEB6),
    }
    records = "".join(f"address=/{name}/{address}\n" for name, pair in names.items() for address in pair)
    return f"{_BASE}\nlisten-address={plan.DNS4},{plan.DNS6}\nlocal=/#/\n{records}"


def restart(host: Host, config: str) -> None:
    """Have a machine's only dnsmasq serve another configuration; its leases stay."""
    for pid in host.pids_of("dnsmasq"):
        os.kill(pid, signal.SIGKILL)
    wait_for("dnsmasq to end", lambda: not host.pids_of("dnsmasq"))
    start(host, config)


def start(host: Host, config: str) -> None:
    """Start dnsmasq in a machine and wait until it answers on its port 53."""
    path = host.dir / "run" / "dnsmasq.conf"
    path.write_text(config, encoding="utf-8")
    process = host.spawn("dnsmasq", "--conf-file=/run/dnsmasq.conf", chroot=True)

    def listening() -> bool:
        if process.poll() is not None:
            raise LabError(f"dnsmasq in {host.name} ended: {(host.dir / 'dnsmasq.log').read_text()[-400:]}")
        return ":53 " in host.out("ss", "-Hlun", "sport = :53")

    wait_for(f"dnsmasq in {host.name}", listening)

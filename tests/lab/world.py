# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulated world: one laptop, two sites, an internet, a WireGuard gateway; see README.md beside this file."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab import plan
from tests.lab.enter import require_private_world
from tests.lab.ethtool import software_segmentation
from tests.lab.frames import ENDPOINTS, Address, Endpoint
from tests.lab.host import Host, new_world_dir
from tests.lab.ike import IkeGateway, Way
from tests.lab.ike_client import install_charon
from tests.lab.laptop import Laptop
from tests.lab.pki import Pki
from tests.lab.plan import CAFE, HOME, SIX, TETHER
from tests.lab.process import SLOW, LabError
from tests.lab.record import Recorder
from tests.lab.sites import (
    Gateway,
    Router,
    connect_gateway,
    internet_ready,
    make_certificates,
    new_key,
    new_preshared_key,
    public_key,
    start_internet,
)


@dataclass(slots=True)
class World:
    """Everything; made by `World.build`, given back by `close` or the end of a ``with``."""

    dir: Path
    laptop: Laptop
    home: Router
    cafe: Router
    internet: Host
    gateway: Gateway
    air: Host
    """Radio and switch: one bridge per site; the recorder listens on its ends of the laptop's links."""
    six: Router | None
    """The site with IPv6 alone, where there is one."""
    tether: Router | None
    """The telephone, where there is one."""
    ca: Path
    """Certificate of the authority that signed the captive portal's."""
    links: list[str] = field(default_factory=list)
    more_gateways: list[Gateway] = field(default_factory=list)
    """Those that were asked for with `another_gateway`."""
    ike_gateways: list[IkeGateway] = field(default_factory=list)
    """In the machines of the gateways, where IKE was asked for: the first one's, and those of `another_ike_gateway`."""
    _recorders: list[Recorder] = field(default_factory=list)

    @classmethod
    def build(
        cls,
        *,
        lease_s: int = 120,
        links: tuple[str, ...] = ("wlan0", "eth0"),
        nat64: bool = False,
        tether: bool = False,
        ike: bool = False,
    ) -> Self:
        """Build a world, its laptop off every network: the links exist, are down, and have no carrier.

        ``lease_s``: lifetime of DHCPv4 leases, 20 s and more (the client counts it; servers give two minutes at least);
        on a `SLOW` machine they live longer.
        ``nat64``: there is a third site, ``six``, with IPv6 alone; ``tether``: there is ``tether``, a telephone's.
        ``ike``: the gateway speaks IKE as well, and the laptop has the program charon-systemd.
        """
        require_private_world()
        lease_s = round(lease_s * SLOW)
        directory = new_world_dir()
        with ThreadPoolExecutor() as pool:
            keys = pool.submit(lambda: (new_key(), new_key(), new_preshared_key()))
            certificates = pool.submit(make_certificates, directory)
            pki = pool.submit(Pki.make, directory / "pki", tuple(way.identity for way in Way)) if ike else None
            more = (*(("six",) if nat64 else ()), *(("tether",) if tether else ()))
            names = ("laptop", "home", "cafe", "internet", "gateway", "air", *more)
            hosts = dict(zip(names, pool.map(lambda name: Host.boot(name, directory), names), strict=True))
            laptop_key, gateway_key, preshared = keys.result()
            ca, certificate, key = certificates.result()
            gateway = Gateway(hosts["gateway"], gateway_key, public_key(laptop_key), preshared)
            conf = gateway.tunnel_conf(laptop_key)
            world = cls(
                directory,
                laptop=Laptop(hosts["laptop"], conf, lease_s),
                home=Router(hosts["home"], HOME),
                cafe=Router(hosts["cafe"], CAFE),
                six=Router(hosts["six"], SIX) if nat64 else None,
                tether=Router(hosts["tether"], TETHER) if tether else None,
                internet=hosts["internet"],
                gateway=gateway,
                air=hosts["air"],
                ca=ca,
            )
            try:
                world._wire(links)
                jobs = [
                    pool.submit(start_internet, world.internet, tuple(router.site for router in world.routers)),
                    pool.submit(gateway.configure),
                    pool.submit(world.home.configure, lease_s=lease_s),
                    pool.submit(world.cafe.configure, lease_s=lease_s, portal_tls=(certificate, key)),
                    pool.submit(world.laptop.configure),
                ]
                others = (router for router in (world.six, world.tether) if router is not None)
                jobs += [pool.submit(router.configure, lease_s=lease_s) for router in others]
                for job in jobs:
                    job.result()
                if pki is not None:
                    install_charon(world.laptop.host)
                    world._ike(gateway, pki.result())
                internet_ready(world.internet)
                world.cafe.ready(80, 443)
            except BaseException:
                world.close()
                raise
        return world

    @property
    def routers(self) -> tuple[Router, ...]:
        """The routers of all sites."""
        return (self.home, self.cafe, *(router for router in (self.six, self.tether) if router is not None))

    def _wire(self, links: tuple[str, ...]) -> None:
        """Join the machines with veth pairs, and the sites' LANs with bridges in the air."""
        self.air.sysctl(ipv6__conf__all__disable_ipv6=1, ipv6__conf__default__disable_ipv6=1)
        for router in self.routers:
            name = router.site.name
            self.air.ip(f"link add br-{name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0")
            self.air.ip(f"link set br-{name} up")
            _veth(self.air, name, router.host, "lan0")
            self.air.ip(f"link set {name} master br-{name} up")
            _veth(self.internet, name, router.host, "wan0")
        _veth(self.internet, "gateway", self.gateway.host, "wan0")
        for link in links:
            self.add_link(link)

    def another_gateway(self) -> tuple[Gateway, str]:
        """Put up one more gateway (two at most, a third of a second each); returns it, and the laptop's file for it."""
        place = plan.PLACES[1 + len(self.more_gateways)]
        laptop_key = new_key()
        host = Host.boot(place.name, self.dir)
        gateway = Gateway(host, new_key(), public_key(laptop_key), new_preshared_key(), place)
        self.more_gateways.append(gateway)
        _veth(self.internet, place.name, host, "wan0")
        connect_gateway(self.internet, place)
        gateway.configure()
        return gateway, gateway.tunnel_conf(laptop_key)

    @property
    def ike(self) -> IkeGateway:
        """The first IKE gateway; LabError in a world that was built without."""
        if not self.ike_gateways:
            raise LabError("this world has no IKE gateway (World.build(ike=True))")
        return self.ike_gateways[0]

    def speak_ike(self) -> IkeGateway:
        """Have the gateway speak IKE as well, in a world that was built without."""
        pki = Pki.make(self.dir / "pki", tuple(way.identity for way in Way))
        return self._ike(self.gateway, pki)

    def another_ike_gateway(self) -> IkeGateway:
        """Put up one more gateway that speaks IKE (two at most), with the same certificates and secrets."""
        first = self.ike
        self.another_gateway()
        other = self._ike(self.more_gateways[-1], first.pki)
        other.psk, other.password, other.ppk = first.psk, first.password, first.ppk
        other.load()
        return other

    def _ike(self, gateway: Gateway, pki: Pki) -> IkeGateway:
        """Start charon in a gateway's machine."""
        ike = IkeGateway(gateway.host, pki, gateway.place)
        self.ike_gateways.append(ike)
        ike.configure()
        return ike

    # -- what happens to the laptop -----------------------------------------------------------------------------------

    def add_link(self, link: str) -> None:
        """Plug a network card in: the link appears in the laptop, down and without carrier."""
        _veth(self.air, link, self.laptop.host, link, mac=plan.LAPTOP_MAC.get(link))
        software_segmentation(self.laptop.host, link)
        self.links.append(link)

    def remove_link(self, link: str) -> None:
        """Pull a network card out."""
        self.laptop.leave(link)
        self.air.ip(f"link del {link}")
        self.links.remove(link)

    def attach(self, link: str, site: str) -> None:
        """Give a link carrier at a site, nothing more."""
        sites = [router.site.name for router in self.routers]
        if site not in sites:
            raise LabError(f"no site {site}: there are {', '.join(sites)}")
        self.air.ip(f"link set {link} master br-{site} up")

    def detach(self, link: str) -> None:
        """Take a link's carrier away, nothing more."""
        self.air.ip(f"link set {link} down nomaster")

    def roam(self, site: str, *, link: str = "wlan0", wait: bool = True, ipv6: bool = False) -> None:
        """Leave the network that a link is in, join a site's, wait for its lease (``ipv6``: and for its IPv6)."""
        self.detach(link)
        self.laptop.leave(link)
        self.attach(link, site)
        self.laptop.join(link)
        if wait:
            self.laptop.wait_online(link, ipv4=site != SIX.name, ipv6=ipv6 or site == SIX.name)

    def plug(self, site: str, *, link: str = "eth0", wait: bool = True) -> None:
        """Join a site's network by cable as well."""
        self.roam(site, link=link, wait=wait)

    def unplug(self, link: str = "eth0") -> None:
        """Leave the network of a link: out of range, or the cable pulled."""
        self.detach(link)
        self.laptop.leave(link)

    def flap(self, link: str = "wlan0") -> None:
        """Take a link's carrier away and give it back at once; the DHCP clients do not notice."""
        self.air.ip(f"link set {link} down")
        self.air.ip(f"link set {link} up")

    def record(
        self,
        *links: str,
        prefilter: bool = False,
        endpoints: tuple[Endpoint, ...] = ENDPOINTS,
        ike: tuple[Address, ...] | None = None,
    ) -> Recorder:
        """Start a recorder on the far side of links (all of them when none is named); stop it by its ``with``.

        ``endpoints``: where handshakes may go; ``ike``: where IKE and ESP may, to the gateways of a world that has such
        when not given.
        """
        if ike is None:
            ike = plan.IKE_GATEWAYS if self.ike_gateways else ()
        recorded = links or tuple(self.links)
        recorder = Recorder.start(self.air, recorded, prefilter=prefilter, endpoints=endpoints, ike=ike)
        self._recorders.append(recorder)
        return recorder

    # -- the end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Kill everything in this world, and give it back; may be called twice."""
        for recorder in self._recorders:
            recorder.stop()
        gateways = (gateway.host for gateway in (self.gateway, *self.more_gateways))
        routers = (router.host for router in self.routers)
        for host in (self.laptop.host, *routers, self.internet, *gateways, self.air):
            host.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _veth(one: Host, name: str, other: Host, other_name: str, *, mac: str | None = None) -> None:
    """Join two machines; the other's end gets ``mac``."""
    address = f"address {mac}" if mac else ""
    one.ip(f"link add name {name} type veth peer name {other_name} {address} netns {other.holder.pid}")


def by_name(tunnel_conf: str) -> str:
    """The same file with the gateway's name in place of its address."""
    return tunnel_conf.replace(f"Endpoint = {plan.GATEWAY4}:", f"Endpoint = {plan.GATEWAY_NAME}:")

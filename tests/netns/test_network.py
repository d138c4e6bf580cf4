# SPDX-License-Identifier: GPL-3.0-or-later
"""What the network around may ask and get: inbound, DNS, leases, the local network, and guests of the machine."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab import plan
from tests.lab.frames import CARRIED, Frame, Kind
from tests.lab.host import Host
from tests.lab.process import SLOW, stop, wait_for
from tests.lab.senders import new_token
from tests.netns.protected import ORDINARY, Protected, counted

pytestmark = pytest.mark.root

LISTENING = 8080
PORTS = tuple(map(str, (22, 53, 80, 111, 443, 631, 5353, 5355, LISTENING, 51820, *range(40000, 40040))))
ROUTER = {str(plan.HOME.router4), str(plan.HOME.router6), "fe80::ff:fe00:1001"}
"""The addresses of the one who scans."""
_SERVER = """
import socket, threading
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.bind(("::", 8080))
tcp = socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
threading.Thread(target=lambda: [udp.sendto(*udp.recvfrom(2048)) for _ in iter(int, 1)], daemon=True).start()
print("ready", flush=True)
while True:
    tcp.accept()
"""


def scan(world_host: Host, address: str) -> dict[str, int]:
    """What the laptop shows of itself to this host (`tests.netns.scan`)."""
    found: dict[str, int] = json.loads(world_host.out(sys.executable, "-m", "tests.netns.scan", address, *PORTS))
    return found


def arp(world_host: Host, address: str) -> int:
    """How many answers this host gets to "who has"."""
    source = str(plan.HOME.router4)
    return int(world_host.out(sys.executable, "-m", "tests.netns.scan", "--arp", "lan0", source, address))


def global6(laptop: Protected) -> str:
    """The laptop's global IPv6 address at home."""
    words = laptop.lab.host.ip("-6 addr show dev wlan0 scope global -tentative").split()
    return words[words.index("inet6") + 1].partition("/")[0]


@pytest.fixture(scope="module")
def laptop() -> Iterator[Protected]:
    """One world for this file, its daemon not started yet."""
    with Protected.build(start=False) as built:
        built.lab.host.sysctl(ipv4__icmp_ratelimit=0, ipv6__icmp__ratelimit=0)  # whoever is asked, answers
        yield built


@pytest.fixture(autouse=True)
def connected(laptop: Protected, request: pytest.FixtureRequest) -> None:
    """Each test but the unprotected ones begins connected at home."""
    if not {"unprotected", "leases"} & set(request.node.name.split("_")):
        if laptop.daemon_pid() is None:
            laptop.lab.start_daemon()
        laptop.connect(ipv6=True)


@pytest.fixture(scope="module")
def server(laptop: Protected) -> Iterator[None]:
    """A program that listens to everybody, on the laptop."""
    process = laptop.lab.host.spawn(sys.executable, "-I", "-c", _SERVER, uid=plan.USER, log="server")
    wait_for("the server", lambda: "ready" in (laptop.lab.host.dir / "server.log").read_text())
    yield
    stop(process)


# -- inbound -----------------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("server")
def test_unprotected_laptop_answers(laptop: Protected) -> None:
    """Control: without the daemon, the scan sees the open port and the closed ones, by both families, and the address
    of another link too, by ARP as well.
    """
    router = laptop.world.home.host
    # The kernel gives one and the same asker six errors at once and then one a second; the control wants to see them.
    laptop.lab.host.sysctl(ipv4__icmp_ratelimit=0, ipv6__icmp__ratelimit=0)
    laptop.world.roam("home", ipv6=True)
    here = laptop.lab.address("wlan0")
    laptop.lab.host.ip(f"addr add {plan.TUNNEL4}/32 dev lo")
    router.ip(f"route add {plan.TUNNEL4}/32 via {here}")
    try:
        for address in (here, global6(laptop), str(plan.TUNNEL4)):
            found = scan(router, address)
            assert (address, found["open"], found["silent"]) == (address, 1, 0)
            assert found["udp_refused"] > 10
        assert arp(router, str(plan.TUNNEL4)) == 5
    finally:
        laptop.lab.host.ip(f"addr del {plan.TUNNEL4}/32 dev lo")
        router.ip(f"route del {plan.TUNNEL4}/32")
        laptop.lab.host.sysctl(ipv4__icmp_ratelimit=1000, ipv6__icmp__ratelimit=1000)
        laptop.world.unplug("wlan0")


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("phase", ["connected", "connecting", "blocked", "temporary-access"])
def test_inbound_is_closed(laptop: Protected, phase: str) -> None:
    """From the link, no port is open and none closed, by neither family, and nothing at all is answered."""
    with in_phase(laptop, phase), laptop.world.record() as recorder:
        found = [scan(laptop.world.home.host, address) for address in (laptop.lab.address("wlan0"), global6(laptop))]
    recording = recorder.recording(new_token())

    assert found == [{"open": 0, "refused": 0, "silent": len(PORTS), "udp_refused": 0}] * 2
    # In a window the laptop may speak, but not with the one who scans it.
    answers = [frame for frame in recording.clear() if phase != "temporary-access" or _to(frame) in ROUTER]
    assert not answers, recording.describe()


def _to(frame: Frame) -> str:
    return frame.what.rpartition(" to ")[2].partition(" ")[0]


def assert_tunnels_address_is_not_there_for_the_link(laptop: Protected) -> None:
    """Who is on the link gets no RST and no ARP answer for the tunnel's address (CVE-2019-14899, MLLVD-CR-24-03), also
    where he may speak with us. (tests/audits/inference.py asks in more ways, while he may not.)
    """
    router = laptop.world.home.host
    here, here6 = laptop.lab.address("wlan0"), global6(laptop)
    router.ip(f"route replace {plan.TUNNEL4}/32 via {here}")
    router.ip(f"-6 route replace {plan.TUNNEL6}/128 via {here6} dev lan0")
    with laptop.world.record() as recorder:
        found = [scan(router, str(address)) for address in (plan.TUNNEL4, plan.TUNNEL6)]
        answers = arp(router, str(plan.TUNNEL4))
    recording = recorder.recording(new_token())
    router.ip(f"route del {plan.TUNNEL4}/32")
    router.ip(f"-6 route del {plan.TUNNEL6}/128")

    assert found == [{"open": 0, "refused": 0, "silent": len(PORTS), "udp_refused": 0}] * 2
    assert answers == 0
    assert not recording.clear(), recording.describe()


@contextmanager
def in_phase(laptop: Protected, phase: str) -> Iterator[None]:
    """Have the daemon in a phase, at home, until the block is left."""
    try:
        match phase:
            case "blocked":
                laptop.lab.ctl("disconnect")
            case "connecting":
                laptop.gateway.off()
                laptop.lab.ctl("disconnect")
                laptop.lab.ctl("connect")
            case "temporary-access":
                laptop.lab.stop_daemon()
                laptop.lab.host.path("/var/lib/aovpnd/temporary-access.json").unlink(missing_ok=True)
                laptop.lab.start_daemon()
                laptop.lab.ctl("disconnect")
                laptop.lab.ctl("allow-temp", "60s")
            case _:
                assert phase == "connected"
        laptop.lab.wait_phase(phase)
        yield
    finally:
        laptop.lab.ctl("allow-temp", "--cancel")
        laptop.gateway.on()
        laptop.lab.ctl("disconnect")
        laptop.lab.ctl("connect")


# -- DNS ---------------------------------------------------------------------------------------------------------------
_ASK = """
import socket, struct, sys
query = struct.pack("!6H", 7, 256, 1, 0, 0, 0) + b"\\3www\\7example\\3com\\0" + struct.pack("!2H", 1, 1)
for address in sys.argv[1:]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port in (53, 853):
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            sock = socket.socket(family, kind)
            sock.settimeout(0.3)
            try:
                sock.connect((address, port))
                sock.send(query if kind == socket.SOCK_DGRAM else struct.pack("!H", len(query)) + query)
                print("answer" if sock.recv(512) else "nothing")
            except OSError as error:
                print(error.strerror or error)
"""


@pytest.mark.parametrize("phase", ["connected", "connecting", "blocked", "temporary-access"])
def test_dns_in_every_phase(laptop: Protected, phase: str) -> None:
    """Ports 53 and 853, over UDP and TCP, to the internet's resolvers and the router's: no phase lets them out in
    clear, but a window to the lease's own resolver.
    """
    resolvers = [str(address) for address in (plan.DNS4, plan.DNS6, plan.HOME.router6)]
    lease = str(plan.HOME.router4)
    with in_phase(laptop, phase), laptop.world.record() as recorder:
        laptop.lab.host.run(sys.executable, "-I", "-c", _ASK, *resolvers, uid=plan.USER)
        before = recorder.count(Kind.CLEAR)
        answers = laptop.lab.host.run(sys.executable, "-I", "-c", _ASK, lease, uid=plan.USER).stdout.splitlines()
        asked = recorder.count(Kind.CLEAR)

    assert before == 0
    assert (asked > 0) == (phase == "temporary-access")
    assert ("answer" in answers) == (phase == "temporary-access")


def test_dns_in_the_tunnel(laptop: Protected) -> None:
    """Names are free inside the tunnel."""
    path = laptop.lab.host.path("/etc/resolv.conf")
    before = path.read_text(encoding="utf-8")
    path.write_text(f"nameserver {plan.GATEWAY_INSIDE4}\n", encoding="utf-8")
    try:
        with laptop.nothing_leaves(ORDINARY) as watch:
            assert laptop.lab.curl(f"http://{plan.WEB_NAME}/ip", "-4").stdout.strip() == str(plan.GATEWAY4)
    finally:
        path.write_text(before, encoding="utf-8")
    assert counted(watch.recording, *CARRIED)


# -- the local network -------------------------------------------------------------------------------------------------
def _pings(laptop: Protected, address: str) -> bool:
    return laptop.lab.host.run("ping", "-c1", "-W1", address, check=False, uid=plan.USER).returncode == 0


@pytest.mark.usefixtures("server")
def test_lan_permit(laptop: Protected) -> None:
    """Off: not even the router answers a ping. On: private on-link addresses and link-local ones, and still neither
    DNS nor anything further away; off again: shut again.
    """
    router, link_local = str(plan.HOME.router4), "fe80::ff:fe00:1001%wlan0"
    assert not _pings(laptop, router)
    assert not _pings(laptop, link_local)
    laptop.lab.write_config("[lan]\nallow = true\n")
    laptop.lab.host.run("kill", "-HUP", str(laptop.daemon_pid()))
    wait_for("the router to answer", lambda: _pings(laptop, router))
    assert _pings(laptop, link_local)
    with laptop.world.record() as recorder:
        laptop.lab.host.run(sys.executable, "-I", "-c", _ASK, router, str(plan.DNS4), uid=plan.USER)
        _pings(laptop, str(plan.HOME.router6))  # its prefix is public: through the tunnel, or not at all
        assert laptop.works()
        assert recorder.count(Kind.CLEAR) == 0
    assert_tunnels_address_is_not_there_for_the_link(laptop)
    laptop.lab.write_config("")
    laptop.lab.host.run("kill", "-HUP", str(laptop.daemon_pid()))
    wait_for("the router to be out of reach", lambda: not _pings(laptop, router))


# -- guests ------------------------------------------------------------------------------------------------------------
_GUEST = """
set -e
ip netns add guest
ip link add docker0 type bridge
ip addr add 172.17.0.1/16 dev docker0
ip -6 addr add fd17::1/64 dev docker0 nodad
ip link add veth0 type veth peer name eth0 netns guest
ip link set veth0 master docker0 up
ip link set docker0 up
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.wlan0.accept_ra=2
ip -n guest link set lo up
ip -n guest link set eth0 up
ip -n guest addr add 172.17.0.2/16 dev eth0
ip -n guest -6 addr add fd17::2/64 dev eth0 nodad
ip -n guest route add default via 172.17.0.1
ip -n guest -6 route add default via fd17::1
nft 'table inet docker { chain c { type nat hook postrouting priority 100;
  ip saddr 172.17.0.0/16 oifname != "docker0" masquerade; ip6 saddr fd17::/64 oifname != "docker0" masquerade; }; }'
"""
_NO_GUEST = """
nft delete table inet docker
ip link del port0
ip link del docker0
ip netns del guest
sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0
true
"""


@pytest.fixture
def guest(laptop: Protected) -> Iterator[None]:
    """A container as Docker makes it: a bridge, a veth, masquerading, both families."""
    laptop.lab.host.run("sh", "-c", _GUEST)
    yield
    laptop.lab.host.run("sh", "-c", _NO_GUEST)


def _guest_outside(laptop: Protected, url: str) -> str:
    words = ("ip", "netns", "exec", "guest", "curl", "-sS", "--max-time", "1", url)
    return laptop.lab.host.run(*words, check=False).stdout.strip()


def _guest_sends(laptop: Protected, token: bytes) -> None:
    """Every kind that a container can send, for half a second, to the network and to its host."""
    names = ("udp4", "udp6", "tcp4", "tcp6", "dns4", "dns6", "packet4", "packet6", "raw4", "mdns4", "gateway4")
    report = laptop.lab.host.dir / "guest-report"
    beacon = (sys.executable, "-m", "tests.lab.beacon", token.hex(), "20", "eth0", str(report), *names)
    process = laptop.lab.host.spawn("ip", "netns", "exec", "guest", *beacon, log="guest")
    since = time.time()
    wait_for("the guest to send", lambda: time.time() > since + 0.8)
    stop(process)


_ASK_OFTEN = """
import socket, sys, time
for address in sys.argv[1:]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for kind, port in ((socket.SOCK_DGRAM, 53), (socket.SOCK_STREAM, 443)):
        for number in range(6):
            time.sleep(0.01)
            with socket.socket(family, kind) as asker:
                asker.settimeout(20)
                try:
                    asker.connect((address, port))
                    asker.send(b"?")
                    asker.recv(1)
                except TimeoutError:
                    pass
                except OSError:
                    print("refused")
"""


@pytest.mark.usefixtures("guest")
def test_guests_are_told_each_time(laptop: Protected) -> None:
    """While nothing takes what it sends, every question and connection of a container is refused at once, also the
    tenth in a row: a name that is asked of several servers in turn fails with the last of them. (All ICMP together is
    bounded by the kernel, 50 at once.) Its own host it reaches all the same.
    """
    ask = ("ip", "netns", "exec", "guest", "python3", "-c", _ASK_OFTEN)
    with in_phase(laptop, "blocked"):
        refused = laptop.lab.host.run(*ask, str(plan.WEB4), "9.9.9.9", str(plan.WEB6)).stdout.split()
        assert len(refused) == 3 * 2 * 6
        for host in ("172.17.0.1", "fd17::1"):
            laptop.lab.host.run("ip", "netns", "exec", "guest", "ping", "-c", "1", "-W", "5", host)


@pytest.mark.usefixtures("guest")
def test_guests_reach_the_tunnel_and_never_the_uplink(laptop: Protected) -> None:
    """A container has the internet through the tunnel, by both families, and not a packet of it leaves beside it, with
    the tunnel, without it, and while temporary access is open for the machine itself.
    """
    token = new_token()
    with laptop.world.record() as recorder:
        wait_for("the guest's tunnel", lambda: _guest_outside(laptop, f"http://{plan.WEB4}/ip") == str(plan.GATEWAY4))
        assert _guest_outside(laptop, f"http://[{plan.WEB6}]/ip") == str(plan.GATEWAY6)
        _guest_sends(laptop, token)
        with in_phase(laptop, "blocked"):
            _guest_sends(laptop, token)
            assert _guest_outside(laptop, f"http://{plan.WEB4}/ip") == ""
    recording = recorder.recording(token)
    assert not recording.clear(), recording.describe()

    with in_phase(laptop, "temporary-access"), laptop.world.record() as recorder:
        _guest_sends(laptop, token)
        assert _guest_outside(laptop, f"http://{plan.WEB4}/ip") == ""
        assert laptop.address_outside(4) == plan.HOME.wan4
    recording = recorder.recording(token)
    assert not [frame for frame in recording.frames if frame.has_token]


@pytest.mark.usefixtures("guest")
def test_bridge_that_gets_a_card_is_outside(laptop: Protected) -> None:
    """A bridge with a port that is no guest's leads out: host and guests lose it, and nothing of them leaves."""
    wait_for("the guest", lambda: _pings(laptop, "172.17.0.2"))
    laptop.world.attach("eth0", "home")
    token = new_token()
    with laptop.world.record() as recorder:
        laptop.lab.host.run(
            "sh", "-ec", "ip link set eth0 up; ip link add link eth0 name port0 type macvlan mode passthru"
        )
        laptop.lab.host.run("sh", "-ec", "ip link set port0 master docker0; ip link set port0 up")
        wait_for("the bridge to be outside", lambda: not _pings(laptop, "172.17.0.2"))
        _guest_sends(laptop, token)
        wait_for("the tunnel to work", laptop.works)
        laptop.lab.host.ip("link del port0")
        wait_for("the bridge to be host-only", lambda: _pings(laptop, "172.17.0.2"))
    recording = recorder.recording(token)
    laptop.world.detach("eth0")

    assert not recording.clear(), recording.describe()
    assert counted(recording, *CARRIED)


# -- leases ------------------------------------------------------------------------------------------------------------
_LOOK_S = 0.3
LEASE_S = 20
"""dhclient rebinds at seven eighths: two and a half seconds for that, also on a busy machine."""


class Leased:
    """Two laptops at home for three lifetimes of a lease, one connected, one blocked, while other tests run."""

    def __init__(self) -> None:
        self.laptops = (
            Protected.build(lease_s=LEASE_S, control=False),
            Protected.build(lease_s=LEASE_S, tunnel=False, control=False),
        )
        self.recorders = [each.world.record() for each in self.laptops]
        for each in self.laptops:
            each.world.roam("home", ipv6=True)
        self.first = self.addresses()
        self.seen: set[tuple[str, ...]] = set()
        self._over = threading.Event()
        self.end = time.monotonic() + 3 * LEASE_S * SLOW
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def addresses(self) -> tuple[str, ...]:
        """The IPv4 address of each, "" for none."""
        return tuple(each.lab.address("wlan0") for each in self.laptops)

    def _watch(self) -> None:
        while time.monotonic() < self.end:
            self.seen.add(self.addresses())
            self._over.wait(_LOOK_S)

    def wait(self) -> None:
        """Wait until three lifetimes are over."""
        self._watcher.join()

    def close(self) -> None:
        """Give everything back."""
        self.end = 0
        self._over.set()
        self._watcher.join()
        for each in self.laptops:
            each.world.close()


@pytest.fixture(scope="module", autouse=True)
def leased(request: pytest.FixtureRequest) -> Iterator[Leased | None]:
    """Started before the first test of this file when the last one, which needs a minute of it, will run."""
    if all(item.name != test_leases_live_on.__name__ for item in request.session.items):
        yield None
        return
    two = Leased()
    yield two
    two.close()


@pytest.mark.slow
def test_leases_live_on(leased: Leased) -> None:
    """Three lifetimes of a DHCPv4 lease, blocked and connected: renewal by unicast is refused, rebinding by broadcast
    keeps the address. DHCPv6 and router advertisements give addresses under the block too.
    """
    leased.wait()
    phases = [each.lab.status()["phase"] for each in leased.laptops]
    sixes = [global6(each) for each in leased.laptops]
    recordings = [recorder.recording(new_token()) for recorder in leased.recorders]

    assert all(leased.first)
    assert leased.seen == {leased.first}
    assert phases == ["connected", "blocked"]
    assert all(six.startswith(plan.HOME.lan6) for six in sixes)
    for recording in recordings:
        assert not recording.clear(), recording.describe()
        assert recording.counts()[Kind.DHCP4] >= 2 + 3
        assert recording.counts()[Kind.DHCP6] >= 2

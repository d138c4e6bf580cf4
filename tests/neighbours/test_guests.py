# SPDX-License-Identifier: GPL-3.0-or-later
"""The real container programs of Debian 13, each with a guest: where it gets, in every phase."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

import pytest

from aovpnd import names
from tests.audits.neighbours import namespace
from tests.container.booted import TUNNEL, Booted, Manager
from tests.container.phases import blocked, window
from tests.container.test_doctor import codes, examined, wrong
from tests.lab import plan
from tests.lab.container import ALICE
from tests.lab.frames import Kind
from tests.lab.process import stop, wait_for
from tests.neighbours.guests import SLEEP, Guest, guests_pid, judge
from tests.neighbours.roots import NEWEST, Root, root

pytestmark = [pytest.mark.container, pytest.mark.root, pytest.mark.slow]

ROOTFS: Final = "/srv/guest"
_ROOTFS: Final = f"""
for place in dev etc proc run sys tmp; do mkdir -p {ROOTFS}/$place; done
libraries=$(ldd /usr/bin/curl /usr/bin/getent | grep -o '/[^ )]*[.]so[^ )]*' | sort -u)
cp -L --parents /usr/bin/curl /usr/bin/sleep /usr/bin/getent $libraries {ROOTFS}/
touch {ROOTFS}/etc/os-release
"""
"""A guest's system: three programs and their libraries."""
LXC: Final = f"""
lxc.rootfs.path = dir:{ROOTFS}
lxc.uts.name = guest
lxc.net.0.type = veth
lxc.net.0.link = lxcbr0
lxc.net.0.flags = up
lxc.net.0.ipv4.address = 10.0.3.9/24
lxc.net.0.ipv4.gateway = auto
lxc.apparmor.profile = unconfined
lxc.console.path = none
lxc.tty.max = 0
lxc.mount.auto = proc:rw
lxc.init.cmd = /usr/bin/sleep infinity
"""
NSPAWN: Final = (
    *("systemd-run", "--quiet", "--unit=nspawn-guest", "--collect"),
    *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--resolv-conf=off", f"--directory={ROOTFS}"),
)


@pytest.fixture(scope="module")
def laptop() -> Iterator[Booted]:
    """A laptop at home with all of these programs, as Debian starts them."""
    with Booted.power_on(NEWEST, Manager.NETWORK_MANAGER, root=root(Root.GUESTS)) as booted:
        booted.system.shell(_ROOTFS)
        yield booted


# -- guests of each ----------------------------------------------------------------------------------------------------
@contextmanager
def docker(laptop: Booted) -> Iterator[Guest]:
    """A container on Docker's default bridge."""
    system = laptop.system
    system.shell(f"printf 'FROM scratch\\nCOPY . /\\n' | docker build --quiet --tag guest --file - {ROOTFS}")
    system.check("docker", "run", "--detach", "--name", "guest", "guest", *SLEEP)
    try:
        yield Guest(laptop.system.host, guests_pid(laptop))
    finally:
        system.check("docker", "rm", "--force", "guest")


@contextmanager
def podman(laptop: Booted) -> Iterator[Guest]:
    """A container of root's on podman's default bridge, which the real netavark makes."""
    system = laptop.system
    words = ("--name", "guest", "--cgroups=disabled", "--pids-limit=0", "--rootfs", ROOTFS)
    system.check("podman", "run", "--detach", *words, *SLEEP)
    try:
        yield Guest(laptop.system.host, guests_pid(laptop))
    finally:
        system.check("podman", "rm", "--force", "--time", "0", "guest")


@contextmanager
def lxc(laptop: Booted) -> Iterator[Guest]:
    """A container of LXC on lxcbr0, which lxc-net.service makes."""
    system = laptop.system
    system.write("/var/lib/lxc/guest/config", LXC)
    system.check("lxc-start", "--name", "guest")
    try:
        yield Guest(laptop.system.host, guests_pid(laptop))
    finally:
        system.check("lxc-stop", "--kill", "--name", "guest")


@contextmanager
def nspawn(laptop: Booted, *network: str) -> Iterator[Guest]:
    """A container of systemd-nspawn; its network is its user's business, as where NetworkManager manages."""
    system = laptop.system
    system.check(*NSPAWN, *network, *SLEEP)
    try:
        yield Guest(laptop.system.host, guests_pid(laptop), "host0")
    finally:
        system.check("systemctl", "stop", "nspawn-guest.service")


@contextmanager
def addressed(laptop: Booted, there: Guest, link: str) -> Iterator[None]:
    """Give both ends of a guest's cable their addresses, and the guest a way out, with NAT."""
    host = laptop.system.host
    host.run(
        "sh", "-ec", f"ip addr add 10.7.7.1/24 dev {link}; ip link set {link} up; sysctl -qw net.ipv4.ip_forward=1"
    )
    inside = "ip addr add 10.7.7.2/24 dev host0; ip link set host0 up; ip route add default via 10.7.7.1"
    host.run(*there.prefix(), "sh", "-ec", inside)
    nat = "type nat hook postrouting priority 100; ip saddr 10.7.7.0/24 masquerade;"
    laptop.system.check("nft", "-f", "-", stdin=f"table ip zone {{ chain out {{ {nat} }}; }}\n")
    try:
        yield
    finally:
        laptop.system.check("nft", "delete", "table", "ip", "zone")


@contextmanager
def zone(laptop: Booted) -> Iterator[Guest]:
    """One behind a bridge of its zone."""
    with nspawn(laptop, "--network-zone=lab") as there, addressed(laptop, there, "vz-lab"):
        yield there


@contextmanager
def libvirt(laptop: Booted) -> Iterator[Guest]:
    """A guest on libvirt's default network; in a machine's place a namespace, whose cable is a port of virbr0."""
    system, host = laptop.system, laptop.system.host
    virsh = ("virsh", "--connect", "qemu:///system")
    system.check(*virsh, "net-start", "default")
    try:
        with namespace(host) as made:
            there = Guest(host, made.process.pid)
            wait_for("libvirt's bridge", lambda: "192.168.122.1" in host.ip("addr show virbr0"))
            host.ip(f"link add vnet9 type veth peer name eth0 netns {there.pid}")
            host.ip("link set vnet9 master virbr0 up")
            words = "ip addr add 192.168.122.9/24 dev eth0; ip link set eth0 up; ip route add default via 192.168.122.1"
            host.run(*there.prefix(), "sh", "-ec", words)
            yield there
    finally:
        system.check(*virsh, "net-destroy", "default")


GUESTS: Final[dict[str, Callable[[Booted], AbstractContextManager[Guest]]]] = {
    "docker": docker,
    "podman": podman,
    "lxc": lxc,
    "nspawn-zone": zone,
    "libvirt": libvirt,
}


@pytest.mark.parametrize("program", GUESTS)
def test_guest(laptop: Booted, program: str) -> None:
    """Blocked it fails at once, connected it comes out at the gateway, and it shares no window."""
    with GUESTS[program](laptop) as there:
        judge(laptop, there)


def test_a_cable_without_a_bridge(laptop: Booted) -> None:
    """A guest whose cable is no bridge's port (nspawn --network-veth) is not known as a guest: it gets nothing out."""
    with nspawn(laptop, "--network-veth") as there:
        link = next(name for name in laptop.system.host.links() if name.startswith("ve-"))
        with (
            addressed(laptop, there, link),
            laptop.net.nothing_leaves() as watch,
            there.sending(watch.senders.token),
        ):
            assert there.address_outside() == ""


def test_doctor(laptop: Booted) -> None:
    """All of these programs are met, and there is nothing to do."""
    with docker(laptop):
        found = examined(laptop)
    assert wrong(laptop, found) == set(), found
    assert codes(found, "info") >= {f"neighbour-{name}" for name in ("docker", "libvirt", "lxc")}
    with nspawn(laptop, "--network-zone=lab"):
        assert "neighbour-nspawn" in codes(examined(laptop), "info")


# -- docker build ------------------------------------------------------------------------------------------------------
CA: Final = f"{ROOTFS}/ca.pem"
SMALL: Final = 1280
"""The smallest MTU that IPv6 allows, which is what a tunnel in a tunnel, or a mobile network, leaves."""
MEGABYTE: Final = 1 << 20
_DOCKERFILE: Final = """FROM scratch
COPY . /
RUN ["/usr/bin/curl", "-sS", "--max-time", "20", "--cacert", "/ca.pem", "--connect-to", "::{name}:443", \
  "--output", "/page", "--write-out", "got %{{size_download}} in %{{time_total}} s\\n", "https://{portal}/paced?bytes={size}"]
"""


_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
"""Docker paints what a program says on standard error, each piece as it comes."""


@pytest.fixture
def small(laptop: Booted) -> Iterator[Booted]:
    """Its tunnel has the smallest MTU; the internet has a site that speaks TLS."""
    world, system = laptop.world, laptop.system
    certificate, key = (str(world.dir / file) for file in ("portal.pem", "portal.key"))
    site = world.internet.spawn(sys.executable, "-m", "tests.netns.tls_site", certificate, key, log="tls")
    system.write(CA, (world.dir / "ca.pem").read_text(encoding="ascii"))
    system.write(TUNNEL, world.laptop.tunnel_conf.replace("[Peer]", f"MTU = {SMALL}\n[Peer]"), 0o600)
    system.check("systemctl", "reload", names.UNIT)
    wait_for("the small tunnel", lambda: f"mtu {SMALL}" in system.check("ip", "link", "show", "aovpn0"))
    laptop.wait_works()
    system.check("systemctl", "restart", "docker.service")  # whom to ask for names it reads when it makes a container
    try:
        yield laptop
    finally:
        stop(site)
        system.write(TUNNEL, world.laptop.tunnel_conf, 0o600)
        system.check("systemctl", "reload", names.UNIT)
        laptop.wait_works()


def build(laptop: Booted) -> tuple[int, str]:
    """``docker build`` of an image that fetches a page: exit status, and what it said."""
    text = _DOCKERFILE.format(name=plan.WEB_NAME, portal=plan.PORTAL_NAME, size=MEGABYTE)
    words = ("docker", "build", "--no-cache", "--file", "-", ROOTFS)
    done = laptop.system.run(*words, stdin=text, timeout_s=120)
    return done.returncode, _COLOUR.sub("", done.stdout + done.stderr)


def test_docker_build(small: Booted) -> None:
    """It finds the name by the tunnel and loads the page over TLS, all of it, and nothing of it is seen; blocked it
    fails, and nothing is seen.
    """
    with small.net.nothing_leaves():
        status, said = build(small)
        assert (status, f"got {MEGABYTE} in" in said) == (0, True), said
    with blocked(small):
        status, said = build(small)
        assert status != 0
        assert "Could not resolve host" in said, said


# -- programs of a user ------------------------------------------------------------------------------------------------
SLIRP: Final = """
unshare --user --map-root-user --net sleep 30 &
sleeper=$!
while [ "$(readlink /proc/$sleeper/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do :; done
slirp4netns --configure --disable-host-loopback --ready-fd=3 $sleeper tap0 3>"$HOME/ready" >/dev/null 2>&1 &
while [ ! -s "$HOME/ready" ]; do :; done
nsenter --target=$sleeper --user --net --preserve-credentials curl -sS --max-time 3 "$1"
kill $sleeper
rm "$HOME/ready"
"""
ROOTLESS: Final = {
    "pasta": ("pasta", "--config-net", "--", "curl", "-sS", "--max-time", "3"),
    "slirp4netns": ("bash", "-c", SLIRP, "bash"),
}


@pytest.mark.parametrize("program", ROOTLESS)
def test_rootless(laptop: Booted, program: str) -> None:
    """What carries a rootless container's network is an ordinary program of its user: it goes where these may go."""
    as_alice = ("setpriv", f"--reuid={ALICE.uid}", f"--regid={ALICE.uid}", "--clear-groups", "--")
    home = ("env", f"HOME=/home/{ALICE.name}")

    def seen() -> str:
        return laptop.system.run(*as_alice, *home, *ROOTLESS[program], f"http://{plan.WEB4}/ip").stdout.strip()

    with blocked(laptop):
        assert seen() == ""
    with laptop.net.nothing_leaves() as watch:
        wait_for("the gateway's address", lambda: seen() == str(plan.GATEWAY4))
    assert watch.recording.counts()[Kind.TUNNEL] > 0
    with window(laptop):
        assert seen() == plan.HOME.wan4

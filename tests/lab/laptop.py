# SPDX-License-Identifier: GPL-3.0-or-later
"""The laptop: its links, real DHCP clients, plain wg-quick for comparison, and the daemon under test with its CLI."""

import json
import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aovpnd import names
from aovpnd.ctl import reading
from aovpnd.errors import StateError
from tests.lab import plan
from tests.lab.host import Host
from tests.lab.process import SLOW, LabError, stop, wait_for

BIN: Final = Path(sys.executable).parent
"""Where the programs under test are: beside the Python that runs the lab (.venv/bin)."""
SYSTEMD: Final = Path(__file__).resolve().parents[2] / "systemd"
_HOOK: Final = """
make_resolv_conf() {
  [ -n "$new_domain_name_servers" ] || return 0
  for server in $new_domain_name_servers; do echo "nameserver $server"; done >/run/machine-etc/resolv.conf.dhclient-new
  mv -f /run/machine-etc/resolv.conf.dhclient-new /run/machine-etc/resolv.conf
}
"""
"""As Debian's own function does it, with a file that is moved into its place."""
_ROUTES: Final = """
routes() {
  while [ $# -ge 5 ] && [ $1 -le 32 ]; do
    bits=$1; near=$(( ($1 + 7) / 8 )); to=; place=0; shift
    [ $# -ge $((near + 4)) ] || return 0
    while [ $place -lt 4 ]; do
      if [ $place -lt $near ]; then to=$to.$1; shift; else to=$to.0; fi
      place=$((place + 1))
    done
    via="via $1.$2.$3.$4"; shift 4
    [ "$via" = "via 0.0.0.0" ] && via=
    ip -4 route add ${to#.}/$bits $via dev $interface
  done
}
case $reason in BOUND|REBOOT|RENEW|REBIND)
  routes $new_rfc3442_classless_static_routes
  routes $new_ms_classless_static_routes
  set -- $new_static_routes
  while [ $# -ge 2 ]; do ip -4 route add $1 via $2 dev $interface; shift 2; done
esac
"""
"""Every route that a lease speaks of is made: by option 121 (RFC 3442), as Microsoft wrote it before (249), and by
option 33. Clients differ in what they take; this one stands for all of them.
"""
_METRICS: Final = {"eth": 100, "wlan": 600}
"""NetworkManager's metrics of default routes: cable before radio before everything else."""
_CLIENT: Final = """
try=0
while [ $1 = -6 ] && [ $try -lt 100 ] && [ -z "$(ip -6 addr show dev $2 scope link -tentative)" ]; do
  try=$((try + 1)); sleep 0.05
done
exec dhclient $1 -d -e IF_METRIC=$3 -cf /run/dhclient.conf -lf /run/dhclient$1.$2.leases -pf /run/dhclient$1.$2.pid $2
"""
"""A DHCP client for a family, a link and a route metric; DHCPv6 waits for the link-local address.
"""


@dataclass(slots=True)
class Laptop:
    """The machine under test."""

    host: Host
    tunnel_conf: str
    """Text of a wg-quick file for the world's gateway."""
    lease_s: int
    """Lifetime of DHCPv4 leases as the client counts it; it renews at a half and rebinds at 85 % of it (RFC 2131)."""
    _clients: dict[str, list[subprocess.Popen[bytes]]] = field(default_factory=dict)
    _supervisor: subprocess.Popen[bytes] | None = None

    def configure(self) -> None:
        """Prepare the DHCP client's files and what ordinary programs may do."""
        host = self.host
        host.sysctl(ipv4__ping_group_range="0 2147483647")  # ping without privilege, as distributions have it
        for when, name, hook in (("enter", "resolv", _HOOK), ("exit", "routes", _ROUTES)):
            place = f"/run/lab-root/etc/dhcp/dhclient-{when}-hooks.d"
            host.run("mount", "-t", "tmpfs", "tmpfs", place)
            host.run("tee", f"{place}/{name}", stdin=hook)
        (host.dir / "run" / "dhclient.conf").write_text(self._dhclient_conf(), encoding="utf-8")
        (host.dir / "tunnel.conf").touch(0o600)
        (host.dir / "tunnel.conf").write_text(self.tunnel_conf, encoding="utf-8")

    def _dhclient_conf(self) -> str:
        return f"""
option captive-portal code 114 = text;
option rfc3442-classless-static-routes code 121 = array of unsigned integer 8;
option ms-classless-static-routes code 249 = array of unsigned integer 8;
request subnet-mask, broadcast-address, routers, domain-name-servers, rfc3442-classless-static-routes,
  ms-classless-static-routes, static-routes, interface-mtu, captive-portal, dhcp6.name-servers;
initial-interval 1; backoff-cutoff 2; select-timeout 0; reboot 1; timeout 30; retry 1;
supersede dhcp-lease-time {self.lease_s};
supersede dhcp-renewal-time {self.lease_s // 2};
supersede dhcp-rebinding-time {self.lease_s * 85 // 100};
"""

    # -- network ------------------------------------------------------------------------------------------------------

    def join(self, link: str) -> None:
        """Do what a network manager does when it may use a link: set it up and start DHCP clients. Does not wait."""
        self.host.sysctl(**{f"ipv6__conf__{link}__disable_ipv6": 0})
        self.host.ip(f"link set {link} up")
        self._clients[link] = [self._client(family, link) for family in ("-4", "-6")]

    def _client(self, family: str, link: str) -> subprocess.Popen[bytes]:
        metric = str(_METRICS.get(link.rstrip("0123456789"), 700))
        words = ("sh", "-c", _CLIENT, "sh", family, link, metric)
        return self.host.spawn(*words, chroot=True, log=f"dhclient{family}.{link}")

    def renew(self, link: str, *, wait: bool = True) -> None:
        """Have the DHCPv4 client ask anew, as at the end of a lease: a new one that finds it (RFC 2131, INIT-REBOOT).

        ``wait``: until it has one.
        """
        before = self.bound(link)
        client = self._clients[link][0]
        client.kill()
        client.wait()
        self._clients[link][0] = self._client("-4", link)
        if wait:
            wait_for("a lease", lambda: self.bound(link) > before, deadline_s=15)

    def bound(self, link: str) -> int:
        """How often a link's DHCPv4 client has got a lease, renewals included; its file of leases leaves some out."""
        return self.client_log(link).count("bound to")

    def client_log(self, link: str) -> str:
        """What the DHCPv4 clients of a link have said."""
        return (self.host.dir / f"dhclient-4.{link}.log").read_text(encoding="utf-8", errors="replace")

    def leave(self, link: str) -> None:
        """Do what a network manager does when a link loses its carrier: no client, no address, no lease."""
        for client in self._clients.pop(link, []):
            client.kill()  # a client that is asked to stop would release its lease, and say so on the network
            client.wait()
        self.host.ip(f"addr flush dev {link} scope global")
        # As NetworkManager does: the kernel asks for routers again only when IPv6 starts anew.
        self.host.sysctl(**{f"ipv6__conf__{link}__disable_ipv6": 1})
        for lease in (self.host.dir / "run").glob(f"dhclient-*.{link}.*"):
            lease.unlink()

    def wait_online(self, link: str, *, ipv4: bool = True, ipv6: bool = False, deadline_s: float = 15.0) -> None:
        """Wait until a link has an IPv4 lease and a default route; with ``ipv6`` also a global address and route."""

        def online() -> bool:
            routes = not ipv4 or self.host.ip(f"-4 route show default dev {link}")
            if ipv6:
                addresses = self.host.ip(f"-6 addr show dev {link} scope global -tentative")
                return bool(routes and "inet6" in addresses and self.host.ip(f"-6 route show default dev {link}"))
            return bool(routes)

        wait_for(f"{link} to be online", online, deadline_s=deadline_s, poll_s=0.03)

    def address(self, link: str) -> str:
        """The IPv4 address of a link; "" when it has none."""
        match = re.search(r"inet (\S+)/", self.host.run("ip", "-4", "addr", "show", "dev", link, check=False).stdout)
        return match[1] if match else ""

    def address6(self, link: str, scope: str) -> str:
        """The IPv6 address of a link, ``global`` or ``link``; "" when it has none that may be used."""
        words = self.host.ip(f"-6 addr show dev {link} scope {scope} -tentative").split()
        return words[words.index("inet6") + 1].partition("/")[0] if words else ""

    def lease_option(self, link: str, name: str) -> str:
        """An option of the link's DHCPv4 lease as dhclient.leases(5) writes it, "" when it is not there."""
        path = self.host.dir / "run" / f"dhclient-4.{link}.leases"
        found = re.findall(rf'option {name} "?([^;"]*)"?;', path.read_text(encoding="utf-8") if path.exists() else "")
        return str(found[-1]) if found else ""

    # -- an ordinary tunnel, for comparison ---------------------------------------------------------------------------

    def wg_quick(self, verb: str) -> None:
        """``wg-quick up`` or ``down`` with the world's tunnel file, through wireguard-go where the kernel has none.

        The DNS line is left out: it needs a resolvconf, and no test here asks what wg-quick does about DNS.
        """
        text = "".join(line for line in self.tunnel_conf.splitlines(keepends=True) if not line.startswith("DNS"))
        path = self.host.dir / "wg0.conf"
        path.touch(0o600)
        path.write_text(text, encoding="utf-8")
        status = self.host.spawn("wg-quick", verb, str(path), log="wg-quick").wait(20 * SLOW)
        if status:
            raise LabError(f"wg-quick {verb} failed: {(self.host.dir / 'wg-quick.log').read_text()[-600:]}")

    # -- the program under test ---------------------------------------------------------------------------------------

    def install_tunnel(self, name: str = "tunnel", text: str | None = None) -> Path:
        """Write a wg-quick file to /etc/aovpnd/tunnels/NAME.conf (0600); returns its path inside the laptop."""
        inside = f"/etc/aovpnd/tunnels/{name}.conf"
        path = self.host.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o600)
        path.write_text(self.tunnel_conf if text is None else text, encoding="utf-8")
        return Path(inside)

    def write_config(self, text: str, file: str = "aovpnd.toml") -> None:
        """Write /etc/aovpnd/FILE."""
        path = self.host.path(f"/etc/aovpnd/{file}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def early_boot(self) -> None:
        """Do what an installed system does before any network manager: lockdown.nft, and the udev rule per link."""
        self.host.run("nft", "-f", str(SYSTEMD / "lockdown.nft"))
        for link in self.host.links():
            if link != "lo":
                self.udev_rule(link)

    def udev_rule(self, link: str) -> None:
        """Do what the udev rule does when a link appears: its own command, with this checkout's file to include."""
        rules = (SYSTEMD / "82-aovpnd-egress.rules").read_text(encoding="utf-8")
        command = re.search(r"^PROGRAM==\"/usr/sbin/nft '(.*?)'\", ENV", rules, re.MULTILINE)
        if command is None:
            raise LabError("the udev rule has no nft command any more")
        index = self.host.path(f"/sys/class/net/{link}/ifindex").read_text(encoding="ascii").strip()
        text = command[1].replace('\\"', '"').replace("$attr{ifindex}", index).replace("$kernel", link)
        self.host.run("nft", text.replace("/usr/lib/aovpnd", str(SYSTEMD)))

    def start_daemon(
        self, *arguments: str, wait: bool = True, deadline_s: float = 20.0, under: tuple[str, ...] = ()
    ) -> None:
        """Start aovpnd as its service would: supervised, on the laptop's /etc/aovpnd, /var/lib/aovpnd and /run/aovpnd.

        ``wait``: until `ctl` reaches it, which answers after the first pass. ``under``: a command that becomes the one
        behind it (`refuse.Refusals.command`).
        """
        if self._supervisor is not None and self._supervisor.poll() is None:
            raise LabError("the daemon is running already")
        journal = str(self.host.dir / "supervisor.jsonl")
        command = (sys.executable, "-m", "tests.lab.supervise", journal, "--", *under, str(BIN / "aovpnd"), *arguments)
        self._supervisor = self.host.spawn(*command, log="aovpnd")
        if wait:
            wait_for("the daemon", self.daemon_answers, deadline_s=deadline_s, poll_s=0.03)

    def daemon_answers(self) -> bool:
        """Whether a daemon runs and has published its status."""
        try:
            return self._read().daemon == reading.RUNNING
        except StateError:
            return False

    def stop_daemon(self, *, deadline_s: float = 20.0) -> int:
        """Stop the service: SIGTERM to the daemon, no restart; returns the daemon's exit status."""
        if self._supervisor is None:
            raise LabError("no daemon was started")
        status = stop(self._supervisor, grace_s=deadline_s)
        self._supervisor = None
        return status

    def kill_daemon(self) -> float:
        """SIGKILL to the daemon, which the supervisor then restarts; returns the time of the signal (Unix)."""
        return self.kill("aovpnd")

    def kill_guard(self) -> float:
        """SIGKILL to aovpnd-guard; returns the time of the signal (Unix)."""
        return self.kill("aovpnd-guard")

    def kill(self, *programs: str) -> float:
        """SIGKILL to every process of the laptop that runs one of these; LabError when there is none."""
        pids = self.host.pids_of(*programs)
        if not pids:
            raise LabError(f"no {' or '.join(programs)} runs in the laptop")
        for pid in pids:
            os.kill(pid, 9)
        return time.time()

    def daemon_log(self) -> str:
        """What the daemon and its supervisor have said."""
        return (self.host.dir / "aovpnd.log").read_text(encoding="utf-8", errors="replace")

    def keep_log(self, path: Path) -> None:
        """Copy the daemon's log, if there is one; ``path`` is outside of this world."""
        with suppress(FileNotFoundError):
            path.write_bytes((self.host.dir / "aovpnd.log").read_bytes())

    def ctl(self, *arguments: str, check: bool = True, uid: int | None = None) -> subprocess.CompletedProcess[str]:
        """Run aovpnctl as root, or as another user."""
        return self.host.run(str(BIN / "aovpnctl"), *arguments, check=check, uid=uid)

    def status(self) -> dict[str, Any]:
        """What ``aovpnctl status --json`` shows; also when no daemon runs (its phase is then None). LabError when it
        shows nothing.

        It is read by the function that aovpnctl has for it, without a process: a test that waits asks many times a
        second, and a start of Python is a tenth of one. Bytes carried are those last published.
        """
        try:
            return self._read().public()
        except StateError as error:
            raise LabError(f"there is no status: {error}") from error

    def _read(self) -> reading.Reading:
        return reading.read(str(self.host.path(names.RUNTIME_DIR)))

    def access_ends(self) -> float:
        """Unix time at which temporary access ends, exactly; LabError when there is none."""
        published = json.loads(self.host.path("/run/aovpnd/status.json").read_text(encoding="utf-8"))
        access = published["temporary_access"]
        if access is None:
            raise LabError("there is no temporary access")
        return float(access["_expires_boot"]) - time.clock_gettime(time.CLOCK_BOOTTIME) + time.time()

    def wait_phase(self, *phases: str, deadline_s: float = 20.0) -> dict[str, Any]:
        """Wait until the daemon is in one of these phases; returns its status."""

        def reached() -> dict[str, Any] | None:
            status = self.status() if self.daemon_answers() else {}
            return status if status.get("phase") in phases else None

        found = wait_for(f"phase {' or '.join(phases)}", reached, deadline_s=deadline_s, poll_s=0.05)
        if found is None:
            raise LabError("unreachable: wait_for returns what is true")
        return found

    # -- programs of its user -----------------------------------------------------------------------------------------

    def curl(self, url: str, *arguments: str, timeout_s: float = 5.0) -> subprocess.CompletedProcess[str]:
        """Fetch a page as an ordinary user, names resolved as the laptop resolves them; never raises."""
        command = ("curl", "-sS", "--max-time", f"{timeout_s * SLOW:g}", *arguments, url)
        return self.host.run(*command, check=False, uid=plan.USER, timeout_s=timeout_s + 5)

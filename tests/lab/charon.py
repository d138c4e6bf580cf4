# SPDX-License-Identifier: GPL-3.0-or-later
"""strongSwan's charon-systemd in a machine of the lab, and swanctl beside it: a gateway's, or a plain one on a laptop.

It comes from the lab's root directory. The kernel here has no ESP, so the packets are the business of its own plugin
kernel-libipsec, behind a TUN link ``ipsec0``, and travel in UDP (RFC 3948).
"""

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.lab.host import Host
from tests.lab.process import LabError, stop, wait_for

PLUGINS: Final = (
    *("random", "nonce", "openssl", "pem", "pkcs1", "pkcs8", "x509", "pubkey", "constraints", "revocation", "hmac"),
    *("sha1", "sha2", "md5", "aes", "gcm", "curve25519", "kdf", "kernel-libipsec", "kernel-netlink", "socket-default"),
    *("vici", "updown", "resolve", "attr", "eap-identity", "eap-mschapv2", "eap-md5", "eap-tls", "eap-ttls"),
    *("xauth-generic", "counters"),
)
"""What is loaded, in this order: kernel-libipsec before the kernel's own ESP. Debian packages no eap-peap."""
_FWMARK: Final = "0x42"
_SETTINGS: Final = """
charon-systemd {{
  load_modular = no
  load = {plugins}
  retransmit_tries = 3
  retransmit_timeout = 1.0
  {more}
  journal {{
    default = -1
  }}
  filelog {{
    stderr {{
      default = 1
      flush_line = yes
    }}
  }}
  plugins {{
    vici {{
      socket = unix://{dir}/charon.vici
    }}
    socket-default {{
      fwmark = {mark}
    }}
    kernel-netlink {{
      fwmark = !{mark}
    }}
    resolve {{
      file = {dir}/resolv.conf
    }}
    eap-ttls {{
      phase2_method = mschapv2
    }}
    updown {{
      dns_handler = no
    }}
  }}
}}
swanctl {{
  socket = unix://{dir}/charon.vici
}}
"""
"""Its own packets are marked, and pass by the routes of the tunnel: otherwise they would go into it themselves."""
_CHILD: Final = re.compile(r" uniqueid=(\d+) reqid=\d+ state=INSTALLED ")
_SA: Final = re.compile(r"^list-sa event \{(\S+) \{uniqueid=(\d+) version=(\d) state=(\w+) (.*)\}\}$")


@dataclass(frozen=True, slots=True)
class Sa:
    """An IKE SA as ``swanctl --list-sas`` tells it."""

    connection: str
    unique: int
    version: int
    state: str
    """ESTABLISHED, CONNECTING, REKEYING, ...; RFC 7296's words for it are longer."""
    remote: str
    """The other side's identity."""
    remote_address: str
    vips: tuple[str, ...]
    """Virtual addresses, whoever gave them."""
    children: tuple[int, ...]
    """The numbers of the CHILD SAs that are installed; a renewed one has a new number."""


@dataclass(slots=True)
class Charon:
    """One charon of a machine. Its files are in /run/NAME there, ``swanctl`` of them as swanctl.conf(5) wants them."""

    host: Host
    name: str
    more: str = ""
    """Settings beside those that all have, in strongswan.conf(5)'s words."""
    chroot: bool = True
    """The program of the lab's root directory; otherwise the machine's own."""
    _process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def dir(self) -> Path:
        """Where its files are, seen from outside; the machine sees them in /run."""
        return self.host.dir / "run" / self.name

    @property
    def pid(self) -> int:
        """Of the process that runs; LabError when none does."""
        if not self.running or self._process is None:
            raise LabError(f"no charon runs in {self.host.name}")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it runs, hanging or not."""
        return self._process is not None and self._process.poll() is None

    def write(self, conf: str, files: Mapping[str, str]) -> None:
        """Write swanctl.conf, and certificates and keys by their places below (``x509/gateway.crt``)."""
        for name, text in {"swanctl.conf": conf, **files}.items():
            path = self.dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(0o600)
            path.write_text(text, encoding="utf-8")

    def start(self) -> None:
        """Start it and have it read all that was written; nothing happens when it runs."""
        if self.running:
            return
        self.dir.mkdir(parents=True, exist_ok=True)
        settings = _SETTINGS.format(plugins=" ".join(PLUGINS), dir=f"/run/{self.name}", mark=_FWMARK, more=self.more)
        (self.dir / "strongswan.conf").write_text(settings, encoding="utf-8")
        socket = self.dir / "charon.vici"
        for stale in (socket, self.dir / "resolv.conf"):
            stale.unlink(missing_ok=True)
        self._process = self.host.spawn("charon-systemd", chroot=self.chroot, env=self._environment(), log=self.name)

        def listening() -> bool:
            if not self.running:
                raise LabError(f"charon in {self.host.name} ended: {self.log()[-600:]}")
            return socket.exists()

        wait_for(f"charon in {self.host.name}", listening)
        self.load()

    def load(self) -> None:
        """Have it read again what was written: connections, pools, secrets, certificates."""
        self.swanctl("--load-all", "--noprompt", "--clear")

    def stop(self) -> None:
        """Ask it to end: it says so to those it is connected with."""
        if self._process is not None:
            stop(self._process)

    def kill(self) -> None:
        """SIGKILL, hanging or not; nobody is told."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def hang(self) -> None:
        """Stop it in its tracks: its sockets are open, and nothing is answered. `resume` lets it go on."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `hang`."""
        os.kill(self.pid, signal.SIGCONT)

    def swanctl(self, *arguments: str, timeout_s: float = 30.0) -> str:
        """Run swanctl against it, and return what it printed."""
        words = [f"{key}={value}" for key, value in self._environment().items()]
        return self.host.run("env", *words, "swanctl", *arguments, chroot=True, timeout_s=timeout_s).stdout

    def sas(self) -> tuple[Sa, ...]:
        """All its IKE SAs."""
        return sas(self.host, f"/run/{self.name}/charon.vici")

    def established(self, connection: str | None = None) -> int:
        """How many IKE SAs stand, of one connection or of all, that have a CHILD SA."""
        return sum(
            sa.state == "ESTABLISHED" and bool(sa.children) and connection in {None, sa.connection} for sa in self.sas()
        )

    def log(self) -> str:
        """What it has said."""
        return (self.host.dir / f"{self.name}.log").read_text(encoding="utf-8", errors="replace")

    def _environment(self) -> dict[str, str]:
        place = f"/run/{self.name}"
        return {"STRONGSWAN_CONF": f"{place}/strongswan.conf", "SWANCTL_DIR": place}


def sas(host: Host, socket: str) -> tuple[Sa, ...]:
    """All IKE SAs of the charon in a machine that listens on this socket (VICI): also one that others have started."""
    lines = _swanctl(host, socket, "--list-sas", "--raw").splitlines()
    return tuple(_sa(line) for line in lines if line.startswith("list-sa event"))


def flush(host: Host, socket: str) -> None:
    """Take all its SAs from such a charon, with their policies. The other side is told, but not waited for."""
    for sa in sas(host, socket):
        _swanctl(host, socket, "--terminate", "--ike-id", str(sa.unique), "--force", "--timeout", "-1", check=False)


def reauthenticate(host: Host, socket: str) -> None:
    """Have such a charon's SAs show anew who they are."""
    for sa in sas(host, socket):
        _swanctl(host, socket, "--rekey", "--ike-id", str(sa.unique), "--reauth")


def say_more(host: Host, settings: Path, socket: str) -> None:
    """Have such a charon, logging to a file as its settings say, tell what it throws away of ESP (`unclaimed`)."""
    host.run("sed", "-i", r"s/^\( *\)tls = 1$/&\n\1esp = 2/", str(settings))
    _swanctl(host, socket, "--reload-settings")


def unclaimed(log: str) -> int:
    """How many packets of ESP it received, `say_more` given, that are of no SA it has."""
    return log.count("inbound ESP packet does not belong to an installed SA")


def _swanctl(host: Host, socket: str, *arguments: str, check: bool = True) -> str:
    return host.run("swanctl", *arguments, "--uri", f"unix://{socket}", chroot=True, check=check).stdout


def _sa(line: str) -> Sa:
    """Read a line of swanctl's raw output."""
    match = _SA.match(line)
    if match is None:
        raise LabError(f"swanctl speaks in another way than expected: {line!r}")
    connection, unique, version, state, rest = match.groups()
    said = dict(re.findall(r"([\w-]+)=(\S+)", rest.partition(" child-sas ")[0]))
    vips = re.search(r"(?:local|remote)-vips=\[([^]]*)\]", rest)
    return Sa(
        connection,
        int(unique),
        int(version),
        state,
        said.get("remote-id", ""),
        said.get("remote-host", ""),
        tuple(vips[1].split()) if vips else (),
        tuple(map(int, _CHILD.findall(rest))),
    )

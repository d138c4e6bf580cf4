# SPDX-License-Identifier: GPL-3.0-or-later
"""The IKE gateway: real charon beside a gateway's WireGuard, with every way of authentication that Debian packages."""

import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from tests.lab import plan
from tests.lab.charon import Charon, Sa
from tests.lab.host import Host
from tests.lab.pki import Pki

USER: Final = "alice"
PPK: Final = "ppk1"


class Way(StrEnum):
    """How a laptop shows itself: one connection of the gateway each, chosen by the laptop's identity."""

    PSK = "psk"
    PPK = "ppk"
    """A PSK, and a post-quantum preshared key (RFC 8784) without which there is no tunnel."""
    CERTIFICATE = "certificate"
    EAP_MSCHAPV2 = "eap-mschapv2"
    EAP_TLS = "eap-tls"
    EAP_TTLS = "eap-ttls"
    """With EAP-MSCHAPv2 inside."""
    V1_MAIN = "v1-main"
    """IKEv1, PSK and XAuth."""
    V1_AGGRESSIVE = "v1-aggressive"
    """The same in aggressive mode."""
    V1_HYBRID = "v1-hybrid"
    """IKEv1, the gateway by its certificate, the laptop by XAuth alone."""

    @property
    def identity(self) -> str:
        """The laptop's IKE identity."""
        return f"{self}.laptop.lab"

    @property
    def version(self) -> int:
        """Of IKE."""
        return 1 if self.startswith("v1-") else 2


_SETTINGS: Final = """i_dont_care_about_security_and_use_aggressive_mode_psk = yes
  dos_protection = no
  half_open_timeout = 5"""
"""Without the first charon answers no aggressive mode with a PSK. Without the second it stops to answer a laptop that
has left some IKE SAs half open, as refusing the gateway does; a `block_threshold` of 0 it raises to 4.
"""
_BY_PSK: Final = frozenset({Way.PSK, Way.PPK, Way.V1_MAIN, Way.V1_AGGRESSIVE})
"""Those in which the gateway itself shows a PSK, not its certificate."""
ROUNDS: Final = {
    Way.PSK: ("psk",),
    Way.PPK: ("psk",),
    Way.CERTIFICATE: ("pubkey",),
    Way.EAP_MSCHAPV2: ("eap-mschapv2",),
    Way.EAP_TLS: ("eap-tls",),
    Way.EAP_TTLS: ("eap-ttls",),
    Way.V1_MAIN: ("psk", "xauth"),
    Way.V1_AGGRESSIVE: ("psk", "xauth"),
    Way.V1_HYBRID: ("xauth",),
}
"""What is asked of the laptop, in swanctl.conf(5)'s words."""
_RULES: Final = """
table inet ike {
  chain postrouting { type nat hook postrouting priority 100; iifname "ipsec*" oifname "wan0" masquerade; }
  chain exit { type filter hook forward priority 0; }
  chain way { type filter hook prerouting priority -300; }
}
"""


@dataclass(slots=True)
class IkeGateway:
    """charon in the machine of a gateway; `configure` starts it."""

    host: Host
    pki: Pki
    place: plan.Place = plan.PLACES[0]
    certificate: str = "gateway"
    """What it shows itself by, a name of `Pki`; after a change `load`."""
    networks: tuple[str, ...] = ("0.0.0.0/0", "::/0")
    """What it lets a laptop have; after a change `load`.

    kernel-libipsec serves only networks in which the gateway has an address itself, also where it is the laptop that
    asks for less: 203.0.113.0/24 and 2001:db8::/32, where the internet's servers are as well, or `pool`'s own.
    """
    proposals: str = "default"
    """Of IKE, in swanctl.conf(5)'s words; after a change `load`."""
    psk: str = field(default_factory=lambda: secrets.token_hex(16))
    password: str = field(default_factory=lambda: secrets.token_hex(8))
    ppk: str = field(default_factory=lambda: secrets.token_hex(32))
    charon: Charon = field(init=False)

    def __post_init__(self) -> None:
        self.charon = Charon(self.host, "ike", _SETTINGS)

    @property
    def pool(self) -> plan.Pool:
        """Its addresses inside, and those that it gives."""
        return plan.IKE_POOLS[self.place.name]

    def configure(self) -> None:
        """Give the machine its inside addresses and rules, and start charon. The machine is a gateway already."""
        self.host.ip(f"addr add {self.pool.inside4}/32 dev lo")
        self.host.ip(f"addr add {self.pool.inside6}/128 dev lo")
        self.host.nft(_RULES)
        self.on()

    # -- what happens to it -------------------------------------------------------------------------------------------

    def on(self) -> None:
        """Start charon; nothing happens when it runs. It knows nobody then."""
        self._write()
        self.charon.start()

    def off(self) -> None:
        """End charon at once, without a word: IKE gets no answer any more (an ICMP port unreachable)."""
        self.charon.kill()

    def leave(self) -> None:
        """End charon in order: it deletes its SAs, and says so."""
        self.charon.stop()

    def restart(self) -> None:
        """It knows nobody any more, and is there at once: SAs are flushed without a word."""
        self.off()
        self.on()

    def hang(self) -> None:
        """Answer nothing; `resume` goes on where it stood."""
        self.charon.hang()

    def resume(self) -> None:
        """Go on after `hang`."""
        self.charon.resume()

    def load(self) -> None:
        """Live by what the fields say now. SAs that stand go on."""
        self._write()
        self.charon.load()

    def rotate(self) -> None:
        """Have another PSK, another password and another PPK; the laptop's files are the old ones."""
        self.psk, self.password, self.ppk = secrets.token_hex(16), secrets.token_hex(8), secrets.token_hex(32)
        self.load()

    def certify(self, certificate: str) -> None:
        """Show another certificate of `Pki`: ``gateway-expired``, ``gateway-misnamed``, ``gateway-unknown``."""
        self.certificate = certificate
        self.load()

    def insist(self, proposals: str) -> None:
        """Take these algorithms for IKE alone."""
        self.proposals = proposals
        self.load()

    def terminate(self) -> None:
        """Delete all SAs that stand, and say so to the laptops (RFC 7296 section 1.4.1)."""
        for sa in self.sas():
            self.charon.swanctl("--terminate", "--ike-id", str(sa.unique), "--timeout", "5")

    def rekey(self, *, child: bool = False) -> None:
        """Begin to renew the keys of all IKE SAs, or of their CHILD SAs (``child``)."""
        for sa in self.sas():
            names = [f"net{number or ''}" for number in range(len(sa.children))]
            for words in [("--child", name) for name in names] if child else [()]:
                self.charon.swanctl("--rekey", "--ike-id", str(sa.unique), *words)

    def shut_exit(self, *, dead: bool) -> None:
        """Whether the gateway's own way to the internet is dead: it is connected, and forwards nothing."""
        self._rules("exit", 'iifname "ipsec*" drop' if dead else "")

    def filter_udp(self, *, filtered: bool) -> None:
        """Whether its ports are filtered on the way: nothing arrives, and nobody is told."""
        self._rules("way", "udp dport { 500, 4500 } drop" if filtered else "")

    # -- looking ------------------------------------------------------------------------------------------------------

    def sas(self) -> tuple[Sa, ...]:
        """Its IKE SAs, but for those that are half open, as every attempt that fails leaves one for half a minute; none
        when it does not run.
        """
        found = self.charon.sas() if self.charon.running else ()
        return tuple(sa for sa in found if sa.state != "CONNECTING")

    def established(self, way: Way | None = None) -> int:
        """How many laptops are connected, in one way or in all."""
        return self.charon.established(way) if self.charon.running else 0

    def shows_certificate(self, way: Way) -> bool:
        """Whether it shows itself by a certificate; by a PSK otherwise."""
        return way not in _BY_PSK

    # -- its files ----------------------------------------------------------------------------------------------------

    def _rules(self, chain: str, rule: str) -> None:
        added = f"add rule inet ike {chain} {rule}\n" if rule else ""
        self.host.nft(f"flush chain inet ike {chain}\n{added}")

    def _write(self) -> None:
        files = {
            "x509/gateway.crt": self.pki.text(f"{self.certificate}.crt"),
            "private/gateway.key": self.pki.text(f"{self.certificate}.key"),
            "x509ca/ca.crt": self.pki.text("ca.crt"),
        }
        self.charon.write(self._conf(), files)

    def _conf(self) -> str:
        pool, connections = self.pool, "".join(self._connection(way) for way in Way)
        return f"""connections {{
{connections}}}
pools {{
  four {{
    addrs = {pool.first4}-{pool.last4}
    dns = {pool.inside4}
    25 = {plan.IKE_SEARCH}
  }}
  six {{
    addrs = {pool.first6}-{pool.last6}
    dns = {pool.inside6}
  }}
}}
secrets {{
  ike-all {{
    secret = "{self.psk}"
  }}
  eap-user {{
    id = {USER}
    secret = "{self.password}"
  }}
  xauth-user {{
    id = {USER}
    secret = "{self.password}"
  }}
  ppk-all {{
    id = {PPK}
    secret = "{self.ppk}"
  }}
}}
"""

    def _connection(self, way: Way) -> str:
        """One connection. IKEv1 has one selector for each CHILD SA, so that there is one of these for each family."""
        lines = [f"  {way} {{", f"    version = {way.version}", "    pools = four, six", "    unique = replace"]
        lines += [
            f"    proposals = {self.proposals}",
            "    mobike = yes",
            "    fragmentation = yes",
            "    dpd_delay = 10s",
            "    send_cert = always",
        ]
        if way is Way.V1_AGGRESSIVE:
            lines.append("    aggressive = yes")
        if way is Way.PPK:
            lines += [f"    ppk_id = {PPK}", "    ppk_required = yes"]
        own = "auth = pubkey\n      certs = gateway.crt" if self.shows_certificate(way) else "auth = psk"
        lines.append(f"    local {{\n      {own}\n      id = {plan.IKE_NAME}\n    }}")
        for number, auth in enumerate(ROUNDS[way]):
            lines.append(f"    remote-{number} {{\n      auth = {auth}")
            if not number:
                lines.append(f"      id = {way.identity}")
            if way in {Way.EAP_MSCHAPV2, Way.EAP_TTLS}:
                lines.append("      eap_id = %any")
            if way is Way.CERTIFICATE:
                lines.append("      cacerts = ca.crt")
            lines.append("    }")
        lines.append("    children {")
        groups = [(network,) for network in self.networks] if way.version == 1 else [self.networks]
        for number, group in enumerate(groups):
            name = f"net{number or ''}"
            lines.append(
                f"      {name} {{\n        local_ts = {', '.join(group)}\n        dpd_action = clear\n      }}"
            )
        return "\n".join([*lines, "    }", "  }", ""])

# SPDX-License-Identifier: GPL-3.0-or-later
"""What a laptop needs to reach an IKE gateway: NAME.toml with its secrets, and the program charon-systemd.

For comparison, the same tunnel by charon and swanctl alone.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lab import pkcs11, plan
from tests.lab.charon import Charon
from tests.lab.host import Host
from tests.lab.ike import PPK, ROUNDS, USER, IkeGateway, Way
from tests.lab.laptop import Laptop

FAST: Final = {"dpd": "2s"}
"""Settings for tests that wait for a lost gateway."""
_PROGRAM: Final = f"""#!/bin/sh
export SOFTHSM2_CONF={pkcs11.SETTINGS} # of the token that a test may have made
exec chroot /run/lab-root /usr/sbin/charon-systemd "$@"
"""
"""It becomes charon, in the namespace that it is called in: the same process, so that signals reach it. It sees the
machine's /run.
"""
_CHARON: Final = Path("/usr/sbin/charon-systemd")
_KEYS: Final = "/etc/aovpnd/keys"
_METHODS: Final = {
    way: tuple("certificate" if asked == "pubkey" else asked for asked in rounds) for way, rounds in ROUNDS.items()
}
"""The rounds of a way, in the words of NAME.toml."""


@dataclass(frozen=True, slots=True)
class Account:
    """What an administrator hands out for one laptop: the text of NAME.toml, and files by their names in keys/."""

    way: Way
    text: str
    files: Mapping[str, str]


def account(
    gateway: IkeGateway,
    way: Way,
    *,
    gateways: tuple[str, ...] = (str(plan.GATEWAY4),),
    certificate: str = "laptop",
    authority: str = "ca",
    server: str = plan.IKE_NAME,
    families: tuple[int, ...] | None = None,
    networks: tuple[str, ...] | None = None,
    settings: Mapping[str, object] | None = None,
) -> Account:
    """Make an account with a gateway as it is now; other values than the defaults make one that does not fit.

    ``certificate`` and ``authority`` are names of `Pki`; ``server`` is whom the laptop expects; ``networks`` are all of
    its ``families`` (those of IKEv1: IPv4 alone) when not given; ``settings`` go into the table [ike] as they are.
    """
    families = families or ((4,) if way.version == 1 else (4, 6))
    networks = networks or tuple({4: "0.0.0.0/0", 6: "::/0"}[family] for family in families)
    ike: dict[str, object] = {"gateways": list(gateways), "version": way.version, "identity": way.identity}
    if way is Way.V1_AGGRESSIVE:
        ike["aggressive"] = True
    lines = _table("ike", ike | dict(settings or {}))
    files: dict[str, str] = {}
    for method in _METHODS[way]:
        lines += ["[[ike.auth]]", f'method = "{method}"']
        if method == "psk":
            lines.append(f'secret_file = "keys/{way}.psk"')
            files[f"{way}.psk"] = f"{gateway.psk}\n"
        elif method in {"certificate", "eap-tls"}:
            lines += [f'certificate = "keys/{certificate}.crt"', f'key = "keys/{certificate}.key"']
            files |= {f"{certificate}.{end}": gateway.pki.text(f"{certificate}.{end}") for end in ("crt", "key")}
        else:
            lines += [f'user = "{USER}"', f'password_file = "keys/{USER}"']
            files[USER] = f"{gateway.password}\n"
    if gateway.shows_certificate(way):
        lines += _table("ike.server", {"method": "certificate", "identity": server})
        lines.append(f'authorities = ["keys/{authority}.crt"]')
        files[f"{authority}.crt"] = gateway.pki.text(f"{authority}.crt")
    else:
        lines += _table("ike.server", {"method": "psk", "identity": server})
    if way is Way.PPK:
        lines += _table("ike.ppk", {"identity": PPK, "secret_file": "keys/ppk"})
        files["ppk"] = f"{gateway.ppk}\n"
    lines += _table("tunnel", {"networks": list(networks), "families": list(families)})
    return Account(way, "\n".join([*lines, ""]), files)


def install(laptop: Laptop, given: Account, name: str = "tunnel") -> Path:
    """Write /etc/aovpnd/tunnels/NAME.toml and the files in /etc/aovpnd/keys (0600); returns NAME.toml's path inside."""
    inside = f"/etc/aovpnd/tunnels/{name}.toml"
    # The tunnel's file last: whoever watches for it finds all that it names.
    for place, text in {**{f"{_KEYS}/{file}": text for file, text in given.files.items()}, inside: given.text}.items():
        path = laptop.host.path(place)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(0o600)
        path.write_text(text, encoding="utf-8")
    return Path(inside)


def install_charon(host: Host) -> None:
    """Give a machine the program charon-systemd, in /usr/sbin, where Debian has it and may have put it already."""
    if _CHARON.exists():
        return
    place = host.dir / "sbin"
    place.mkdir()
    (place / "charon-systemd").write_text(_PROGRAM, encoding="ascii")
    (place / "charon-systemd").chmod(0o755)
    host.run("mount", "-t", "overlay", "-o", f"lowerdir={place}:/usr/sbin", "overlay", "/usr/sbin")


def _table(name: str, values: Mapping[str, object]) -> list[str]:
    """A TOML table of strings, numbers, truth values and lists of these: JSON's forms of them are TOML's."""
    return [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]


@dataclass(slots=True)
class PlainIke:
    """charon and swanctl on a laptop, by hand: for comparison, and to judge the gateway."""

    charon: Charon
    gateway: IkeGateway
    ways: tuple[Way, ...] = tuple(Way)
    """There is a connection for each."""
    connection: tuple[str, ...] = ("dpd_delay = 2s",)
    child: tuple[str, ...] = ()
    """Settings of each connection, and of each CHILD SA, in swanctl.conf(5)'s words."""

    @classmethod
    def start(cls, laptop: Laptop, gateway: IkeGateway, *, to: str = str(plan.GATEWAY4)) -> "PlainIke":
        """Start it with a connection for each way; nothing is connected."""
        plain = cls(Charon(laptop.host, "plain-ike", chroot=False), gateway)
        plain.write(to)
        plain.charon.start()
        return plain

    def write(self, to: str, *, certificate: str = "laptop") -> None:
        """Write its connections, to this address of the gateway, with this certificate of `Pki`; `Charon.load` reads
        them.
        """
        pki = self.gateway.pki
        files = {
            "x509/laptop.crt": pki.text(f"{certificate}.crt"),
            "private/laptop.key": pki.text(f"{certificate}.key"),
            "x509ca/ca.crt": pki.text("ca.crt"),
        }
        self.charon.write(self._conf(to), files)

    def up(self, way: Way, *, timeout_s: int = 10) -> None:
        """Connect; LabError when it does not come up. With IKEv1 a CHILD SA for IPv4, then one for IPv6."""
        for child in ("net", "net1") if way.version == 1 else ("net",):
            self.charon.swanctl("--initiate", "--ike", way, "--child", child, "--timeout", str(timeout_s))

    def down(self, way: Way) -> None:
        """Disconnect, in order."""
        self.charon.swanctl("--terminate", "--ike", way, "--timeout", "5")

    def resolvers(self) -> list[str]:
        """Those that the gateway gave."""
        path = self.charon.dir / "resolv.conf"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [line.split()[1] for line in lines if line.startswith("nameserver ")]

    def _conf(self, to: str) -> str:
        gateway = self.gateway
        connections = "".join(self._connection(way, to) for way in self.ways)
        user = f'id = {USER}\n    secret = "{gateway.password}"'
        return f"""connections {{
{connections}}}
secrets {{
  ike-all {{
    secret = "{gateway.psk}"
  }}
  eap-user {{
    {user}
  }}
  xauth-user {{
    {user}
  }}
  ppk-all {{
    id = {PPK}
    secret = "{gateway.ppk}"
  }}
}}
"""

    def _connection(self, way: Way, to: str) -> str:
        lines = [f"  {way} {{", f"    version = {way.version}", f"    remote_addrs = {to}", "    remote_port = 4500"]
        lines.append("    local_port = 4500")  # from port 500 charon would leave the four zeros out
        lines += ["    vips = 0.0.0.0, ::", "    mobike = yes", *(f"    {setting}" for setting in self.connection)]
        if way is Way.V1_AGGRESSIVE:
            lines.append("    aggressive = yes")
        if way is Way.PPK:
            lines += [f"    ppk_id = {PPK}", "    ppk_required = yes"]
        for number, method in enumerate(_METHODS[way]):
            lines += [f"    local-{number} {{", f"      auth = {'pubkey' if method == 'certificate' else method}"]
            if not number:
                lines.append(f"      id = {way.identity}")
            if method in {"certificate", "eap-tls"}:
                lines.append("      certs = laptop.crt")
            elif method != "psk":
                lines.append(f"      {'xauth_id' if method == 'xauth' else 'eap_id'} = {USER}")
            lines.append("    }")
        shown = "auth = pubkey\n      cacerts = ca.crt" if self.gateway.shows_certificate(way) else "auth = psk"
        lines.append(f"    remote {{\n      {shown}\n      id = {plan.IKE_NAME}\n    }}\n    children {{")
        if way.version == 1:
            # One selector for each CHILD SA. Without local_ts the second would be from the IPv4 address as well.
            children = {"net": "remote_ts = 0.0.0.0/0", "net1": "remote_ts = ::/0\n        local_ts = ::/0"}
        else:
            children = {"net": "remote_ts = 0.0.0.0/0, ::/0"}
        more = "".join(f"\n        {setting}" for setting in self.child)
        lines += [f"      {name} {{\n        {selectors}{more}\n      }}" for name, selectors in children.items()]
        return "\n".join([*lines, "    }", "  }", ""])

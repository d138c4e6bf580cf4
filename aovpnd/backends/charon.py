# SPDX-License-Identifier: GPL-3.0-or-later
"""What a charon of ours is told: its settings file, and an `IPsec` value in VICI's words.

Each link has a charon of its own, on ports of its own, which listens to us alone: other people's strongSwan goes on
beside it, and what one tunnel is told never reaches another (docs/decisions/0039).
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, assert_never

from aovpnd import names
from aovpnd.ipsec import Ask, IkeVersion, IPsec, Locked, Method, Revocation, Round, Token
from aovpnd.ruleset import Network
from aovpnd.tunnel import Secret

PLUGINS: Final = (
    *("random", "nonce", "openssl", "pem", "pkcs1", "pkcs7", "pkcs8", "pkcs11", "tpm", "x509", "pubkey", "constraints"),
    *("revocation", "hmac", "sha1", "sha2", "md4", "aes", "gcm", "curve25519", "ml", "kdf"),
    *("{data_plane}", "kernel-netlink", "socket-default", "vici", "updown"),
    *("eap-identity", "eap-mschapv2", "eap-tls", "eap-ttls", "eap-peap", "xauth-generic"),
)
"""Loaded by name, so that no file of the machine's own charon changes ours; one that is not installed is left out."""
KEYS: Final = "ike"
"""The one VICI name below which a link's secrets are kept."""

_TUNNELS: Final = tuple(f"{names.LINK_PREFIX}{number}" for number in range(20))
"""Links by which no IKE goes: of the tunnel that carries, of one on trial, of as many as may stand beside.
(kernel-libipsec must see the one that it is behind: no SA without its address.)"""
_SETTINGS: Final = """\
# Written by aovpnd for the charon of {link}; strongswan.conf(5). Nothing secret is here.
charon-systemd {{
  load_modular = no
  load = {plugins}
  # Ports of its own: the usual ones may be somebody else's.
  port = 0
  port_nat_t = 0
  # Addresses and routes are ours to make. What kernel-libipsec insists on goes where nobody looks.
  install_routes = no
  routing_table = {table}
  routing_table_prio = {priority}
  install_virtual_ip = no
  interfaces_ignore = {ours}
  # Given up in 15 s: the daemon tries again, or the next gateway.
  retransmit_timeout = 1.0
  retransmit_base = 1.5
  retransmit_tries = 5
  keep_alive = 20s
  # Who shows anew who he is does so beside the SA that carries.
  make_before_break = yes
  # A gateway's hints lead nowhere but to it.
  follow_redirects = no
  accept_unencrypted_mainmode_messages = no
  # Refused unless the tunnel's file is (`IPsec.weak`).
  i_dont_care_about_security_and_use_aggressive_mode_psk = no
  filelog {{
    aovpnd {{
      path = {log}
      append = yes
      flush_line = yes
      default = 0
      cfg = 1
      ike = 1
      lib = 1
      chd = 1
      knl = 1
      tls = 1
    }}
  }}
  plugins {{
{tokens}    vici {{
      socket = unix://{socket}
    }}
    socket-default {{
      fwmark = {fwmark:#x}
    }}
    # Routes are looked up under a mark that leads to the gateway, and to none of its other addresses.
    kernel-netlink {{
      fwmark = !{look:#x}/0xffffffff
    }}
    kernel-libipsec {{
      allow_peer_ts = yes
    }}
    updown {{
      dns_handler = yes
    }}
  }}
}}
"""
_TOKENS: Final = """\
    # What else a token holds is nobody whom we believe.
    pkcs11 {{
      modules {{
{modules}      }}
    }}
"""
_MODULE: Final = """\
        token{number} {{
          path = {path}
          load_certs = no
        }}
"""


class Place:
    """Where a link's charon has its files: what we write is out of its reach, and what it writes is in ``own``, which
    is its user's under systemd. ``given`` holds what a gateway gave, one file for each IKE SA; ``kept`` what it gave
    a tunnel that rests.
    """

    def __init__(self, runtime_dir: Path, link: str) -> None:
        self.all = runtime_dir / "charon"
        self.directory = self.all / link
        self.settings = self.directory / "strongswan.conf"
        self.stand_in = self.directory / "stand-in"
        self.kept = self.directory / "kept"
        self.own = self.directory / "own"
        self.socket = self.own / "vici"
        self.log = self.own / "log"
        self.given = self.own / "given"

    def make(self) -> None:
        """Make the directories. Whatever the umask, charon's unit comes in by root's group, and takes ``own``."""
        self.own.mkdir(mode=0o770, parents=True, exist_ok=True)
        for directory in (self.all, self.directory):
            directory.chmod(0o710)

    def write_settings(self, text: str) -> None:
        """Write what charon reads when it starts, for itself alone."""
        self.settings.write_text(text, encoding="utf-8")
        self.settings.chmod(0o640)

    def reads(self, modules: tuple[str, ...]) -> bool:
        """Whether charon was started with these PKCS#11 modules; it loads them when it starts, and never again."""
        if not modules:
            return True
        try:
            return _tokens(modules) in self.settings.read_text(encoding="utf-8")
        except OSError:
            return False

    def all_given(self) -> dict[int, Path]:
        """The files that were written so far, by the number of their IKE SA."""
        found = ((path.suffix.removeprefix("."), path) for path in self.own.glob(f"{self.given.name}.*"))
        return {int(number): path for number, path in found if number.isascii() and number.isdigit()}


def modules_of(spec: IPsec) -> tuple[str, ...]:
    """The PKCS#11 modules of a tunnel's tokens. charon knows them as token1, token2, in this order."""
    keys = (each.credential.key for each in spec.rounds if each.credential is not None)
    return tuple(dict.fromkeys(key.module for key in keys if isinstance(key, Token) and key.module is not None))


def _tokens(modules: tuple[str, ...]) -> str:
    written = (_MODULE.format(number=number, path=path) for number, path in enumerate(modules, 1))
    return _TOKENS.format(modules="".join(written)) if modules else ""


def settings(link: str, place: Place, modules: tuple[str, ...] = (), *, kernel: bool) -> str:
    """strongswan.conf(5) for one link's charon, which loads PKCS#11 ``modules``; ``kernel``: the kernel does ESP,
    otherwise kernel-libipsec.
    """
    plugins = (plugin.format(data_plane="" if kernel else "kernel-libipsec") for plugin in PLUGINS)
    return _SETTINGS.format(
        link=link,
        plugins=" ".join(plugin for plugin in plugins if plugin),
        tokens=_tokens(modules),
        table=names.CHARON_TABLE,
        priority=names.CHARON_PRIORITY,
        ours=",".join(other for other in _TUNNELS if kernel or other != link),
        log=place.log,
        socket=place.socket,
        fwmark=names.FWMARK,
        look=look_mark(link),
    )


def look_mark(link: str) -> int:
    """The mark under which a link's charon looks for routes; no packet carries it (`adapters.netlink.Netlink.lead`)."""
    return names.FWMARK + 1 + int(link.removeprefix(names.LINK_PREFIX))


def name_of(spec: IPsec) -> str:
    """The name of a tunnel's connection: all that it is, and the gateway that it leads to."""
    where = spec.endpoint
    return f"{spec.digest()}@{where.addr}@{where.port}" if where is not None else spec.digest()


def requests(spec: IPsec, place: Place, interface: int | None) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """What charon must be told of a tunnel: secrets first. ``interface``: the XFRM interface's if_id, where there is
    one.
    """
    for crl in spec.server.crls:
        yield "load-cert", {"type": "X509_CRL", "flag": "NONE", "data": crl}
    for number, each in enumerate(spec.rounds, 1):
        yield from _secrets(str(number), each, spec)
    if spec.ppk is not None:
        yield "load-shared", _shared("ppk", "PPK", spec.ppk.secret, spec.ppk.identity)
    yield "load-conn", {name_of(spec): _connection(spec, place, interface)}


def _secrets(number: str, each: Round, spec: IPsec) -> Iterable[tuple[str, Mapping[str, Any]]]:
    if each.credential is not None:
        key = each.credential.key
        if (isinstance(key, Locked) and key.opened is None) or (
            isinstance(key, Token) and key.ask is not None and key.pin is None
        ):
            pass  # not before somebody has given password or PIN: some tokens count attempts
        elif isinstance(key, Token):
            where = {"slot": str(key.slot)} if key.slot is not None else {}
            module = {"module": f"token{modules_of(spec).index(key.module) + 1}"} if key.module is not None else {}
            pin = {"pin": key.pin.value} if key.pin is not None else {}
            yield "load-token", {"handle": key.handle, **where, **module, **pin}
        else:
            held = (key.opened or key.pem) if isinstance(key, Locked) else key
            yield "load-key", {"type": "any", "data": held.value}
    if each.secret is not None:
        match each.method:
            case Method.PSK:
                owners = (owner for owner in (each.identity, spec.server.identity) if owner is not None)
                yield "load-shared", _shared(number, "IKE", each.secret, *owners)
            case Method.EAP_MSCHAPV2 | Method.EAP_TTLS | Method.EAP_PEAP:
                yield "load-shared", _shared(number, "EAP", each.secret, each.user or "")
            case Method.XAUTH:
                yield "load-shared", _shared(number, "XAUTH", each.secret, each.user or "")
            case Method.CERTIFICATE | Method.EAP_TLS:
                pass
            case _:
                assert_never(each.method)


def spent(spec: IPsec) -> tuple[str, ...]:
    """The ids of the secrets that served once."""
    return tuple(f"{KEYS}-{place}" for place, each in enumerate(spec.rounds, 1) if each.ask is Ask.EACH_TIME)


def _shared(of: str, kind: str, secret: Secret, *owners: str) -> dict[str, Any]:
    """The secret as it is written. Each has an id of its own: charon keeps one by each."""
    return {"id": f"{KEYS}-{of}", "type": kind, "data": secret.value, "owners": list(owners)}


def _connection(spec: IPsec, place: Place, interface: int | None) -> dict[str, Any]:
    fixed = [str(address.ip) for address in spec.addresses]
    asked = ["0.0.0.0" if family == 4 else "::" for family in spec.families]  # noqa: PLR2004 - "any": RFC 7296
    connection: dict[str, Any] = {
        "version": str(int(spec.version)),
        "remote_addrs": [str(spec.endpoint.addr)] if spec.endpoint is not None else [],
        "remote_port": str(spec.endpoint.port) if spec.endpoint is not None else "4500",
        "aggressive": _word(spec.aggressive),
        "encap": "yes",
        "mobike": _word(spec.mobike),
        "fragmentation": _word(spec.fragmentation),
        "childless": spec.childless.value,
        "dpd_delay": f"{spec.timing.dpd_s}s",
        "dpd_timeout": f"{3 * spec.timing.dpd_s}s",
        "keyingtries": "1",  # the daemon tries again, in its own time
        "rekey_time": f"{spec.timing.rekey_s}s",
        "reauth_time": f"{spec.timing.reauth_s}s",
        "unique": "never",
        "vips": fixed or asked,
        "remote-1": _server(spec),
        "children": _children(spec, place, interface),
    }
    if spec.proposals:
        connection["proposals"] = list(spec.proposals)
    if spec.ppk is not None:
        connection |= {"ppk_id": spec.ppk.identity, "ppk_required": _word(spec.ppk.required)}
    return connection | {f"local-{place}": _ours(each) for place, each in enumerate(spec.rounds, 1)}


def _ours(each: Round) -> dict[str, Any]:
    words = {Method.PSK: "psk", Method.CERTIFICATE: "pubkey"}
    found: dict[str, Any] = {"auth": words.get(each.method, each.method.value)}
    if each.identity is not None:
        found["id"] = each.identity
    if each.user is not None:
        found["xauth_id" if each.method is Method.XAUTH else "eap_id"] = each.user
    if each.credential is not None:
        found["certs"] = list(each.credential.chain)
    return found


def _server(spec: IPsec) -> dict[str, Any]:
    found: dict[str, Any] = {
        "auth": "psk" if spec.server.method is Method.PSK else "pubkey",
        "id": spec.server.identity,
    }
    if spec.server.authorities:
        found["cacerts"] = list(spec.server.authorities)
    if spec.server.revocation is Revocation.STRICT:
        found["revocation"] = "strict"
    return found


def children_of(spec: IPsec) -> tuple[str, ...]:
    """The names of a tunnel's CHILD SAs: one for all networks, of IKEv1 one for each (RFC 2409 section 5.5)."""
    if spec.version is IkeVersion.V2:
        return (name_of(spec),)
    return tuple(f"{name_of(spec)}/{place}" for place in range(len(spec.networks)))


def _children(spec: IPsec, place: Place, interface: int | None) -> dict[str, Any]:
    if spec.version is IkeVersion.V2:
        return {name_of(spec): _child(spec.networks, spec, place, interface)}
    found = {}
    for name, network in zip(children_of(spec), spec.networks, strict=True):
        found[name] = _child((network,), spec, place, interface)
        if network.version == 6:  # noqa: PLR2004 - the family; without it, it would be from the IPv4 address as well
            found[name]["local_ts"] = ["::/0"]
    return found


def _child(networks: tuple[Network, ...], spec: IPsec, place: Place, interface: int | None) -> dict[str, Any]:
    child: dict[str, Any] = {
        "mode": "tunnel",
        "remote_ts": [str(network) for network in networks],
        "rekey_time": f"{spec.timing.child_rekey_s}s",
        "start_action": "none",
        "dpd_action": "clear",
        "close_action": "none",
        # VICI does not tell which name servers were given; charon tells programs that it runs, and one of them writes
        # it down (docs/decisions/0039).
        "updown": f"env -0 >{place.given}.$PLUTO_UNIQUEID",
    }
    if spec.esp_proposals:
        child["esp_proposals"] = list(spec.esp_proposals)
    if interface is not None:
        child |= {
            "if_id_in": str(interface),
            "if_id_out": str(interface),
            "set_mark_out": f"{names.FWMARK:#x}/{names.FWMARK_MASK:#x}",
        }
    return child


def _word(flag: bool) -> str:  # noqa: FBT001 - VICI's words for it
    return "yes" if flag else "no"

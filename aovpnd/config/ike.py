# SPDX-License-Identifier: GPL-3.0-or-later
"""One file of an IKE tunnel, NAME.toml, to one `IPsec` value; aovpnd-ike(5) is the format in words.

What cannot work is refused here, where somebody reads the message, and not by charon in the middle of the night. What
works and protects badly is told by the code `findings.WEAK`: whether it may be used, the settings decide.
"""

from dataclasses import dataclass, replace
from typing import Final

from aovpnd.config import credentials, ike_rounds, ike_tables, ike_values, plain, proposals, toml, values
from aovpnd.config.credentials import Store
from aovpnd.config.findings import WEAK, Finding
from aovpnd.config.ike_tables import Reader, Table, Tables
from aovpnd.config.proposals import Kind
from aovpnd.ipsec import Childless, IkeVersion, IPsec, Method, Ppk, Revocation, Round, Server, Timing
from aovpnd.ruleset import Network
from aovpnd.tunnel import Endpoint, HostPort, Interface, Written

SHORTEST_S: Final = 10
LONGEST_S: Final = 7 * ike_values.DAY_S
LONGEST_DPD_S: Final = 600

_ALL: Final = (ike_values.network("0.0.0.0/0"), ike_values.network("::/0"))
_TLS: Final = frozenset({Method.EAP_TLS, Method.EAP_TTLS, Method.EAP_PEAP})
"""Methods within which the gateway, or a server behind it, shows a certificate of its own."""
_Gateways = tuple[Endpoint | HostPort, ...]
_Reach = tuple[tuple[Network, ...], tuple[int, ...], tuple[Interface, ...]]


def parse(text: str, name: str, file: str, store: Store) -> tuple[IPsec | None, list[Finding]]:
    """The tunnel that a text describes, and what there is to say of it; None when a finding is an error of another code
    than `WEAK`. ``store``: reads the files that it names.

    ``ConfigError`` when it is not TOML, ``ToolError`` when certificates cannot be read on this machine.
    """
    entries = toml.parse(text, file)
    reader = Reader(file)
    tables = ike_tables.read(entries, reader)
    spec = _tunnel(reader, tables, store, name)
    if spec is None or reader.all:
        return None, reader.all
    weaknesses = _weaknesses(tables, spec)
    spec = replace(spec, weak=tuple(each.words for each in weaknesses), written=_written(tables))
    return spec, [each.finding(file) for each in weaknesses]


def _tunnel(reader: Reader, tables: Tables, store: Store, name: str) -> IPsec | None:
    """The whole file; None when something indispensable is missing, which was told."""
    ike, inner = tables.ike, tables.tunnel
    version = reader.typed(ike, "version", ike_values.version) or IkeVersion.V2
    gateways = _gateways(reader, ike)
    rounds = ike_rounds.read(reader, store, tables, version)
    server = _server(reader, tables, store, rounds, gateways)
    _of_version(reader, tables, version)
    _together(reader, tables, rounds, server, version)
    networks, families, addresses = _reach(reader, inner, gateways)
    smallest = values.SMALLEST_MTU_IPV6 if 6 in families else values.SMALLEST_MTU_IPV4  # noqa: PLR2004 - the family
    dns = reader.typed(inner, "dns", lambda value: plain.several(value, ike_values.resolver, ike_values.MOST))
    search = reader.typed(inner, "search", lambda value: plain.several(value, ike_values.domain, ike_values.MOST))
    mobike = reader.typed(ike, "mobike", plain.boolean)
    fragmentation = reader.typed(ike, "fragmentation", plain.boolean)
    aggressive = reader.typed(ike, "aggressive", plain.boolean)
    wanted = _proposals(reader, ike, "proposals", Kind.IKE)
    esp = _proposals(reader, ike, "esp_proposals", Kind.ESP)
    childless = reader.typed(ike, "childless", ike_values.childless)
    timing = _timing(reader, ike)
    ppk = _ppk(reader, store, tables.ppk)
    mtu = reader.typed(inner, "mtu", ike_values.mtu(smallest))
    if server is None:
        return None
    return IPsec(
        name=name,
        source=reader.file,
        gateways=gateways,
        rounds=rounds,
        server=server,
        version=version,
        aggressive=aggressive is True,
        proposals=wanted,
        esp_proposals=esp,
        networks=networks,
        families=families,
        addresses=addresses,
        mtu=mtu,
        dns=dns or (),
        search=search or (),
        mobike=version is IkeVersion.V2 and mobike is not False,
        fragmentation=fragmentation is not False,
        childless=childless or Childless.ALLOW,
        timing=timing,
        ppk=ppk,
    )


def _gateways(reader: Reader, ike: Table) -> _Gateways:
    if "gateways" not in ike.values:
        reader.wrong(ike, "gateways", "is missing", 'write gateways = ["vpn.example.org"], the best first')
    return reader.typed(ike, "gateways", lambda value: ike_values.some(value, ike_values.gateway)) or ()


def _proposals(reader: Reader, ike: Table, name: str, kind: Kind) -> tuple[str, ...]:
    def one(value: object) -> str:
        return proposals.proposal(value, kind)

    return reader.typed(ike, name, lambda value: ike_values.some(value, one)) or ()


def _timing(reader: Reader, ike: Table) -> Timing:
    default = Timing()
    lifetime = ike_values.span(SHORTEST_S, LONGEST_S)
    reauth_s = reader.typed(ike, "reauth", ike_values.span_or_never)
    return Timing(
        rekey_s=reader.typed(ike, "rekey", lifetime) or default.rekey_s,
        child_rekey_s=reader.typed(ike, "child_rekey", lifetime) or default.child_rekey_s,
        reauth_s=default.reauth_s if reauth_s is None else reauth_s,
        dpd_s=reader.typed(ike, "dpd", ike_values.span(1, LONGEST_DPD_S)) or default.dpd_s,
    )


def _ppk(reader: Reader, store: Store, table: Table | None) -> Ppk | None:
    if table is None:
        return None
    for name in ("identity", "secret_file"):
        if name not in table.values:
            reader.wrong(table, name, "is missing", "a PPK has an identity and a secret (RFC 8784)")
    identity = reader.typed(table, "identity", ike_values.identity)
    secret = reader.typed(table, "secret_file", store.secret)
    required = reader.typed(table, "required", plain.boolean)
    return Ppk(identity, secret, required is not False) if identity is not None and secret is not None else None


def _reach(reader: Reader, inner: Table, gateways: _Gateways) -> _Reach:
    """Networks that the tunnel carries, families of which an address is asked for, and fixed addresses."""
    most = ike_values.MOST_NETWORKS
    networks = reader.typed(inner, "networks", lambda value: ike_values.some(value, ike_values.network, most)) or _ALL
    addresses = (
        reader.typed(inner, "addresses", lambda value: plain.several(value, ike_values.address, ike_values.MOST)) or ()
    )
    families = reader.typed(inner, "families", lambda value: ike_values.some(value, ike_values.family))
    if families is None:
        families = tuple(sorted({each.version for each in addresses})) or (4, 6)
    families = tuple(sorted(families))
    for each in addresses:
        if each.version not in families:
            reader.wrong(inner, "addresses", f"'{each}' is of no family in families", "add it there, or remove it here")
    if len({each.ip for each in addresses}) != len(addresses):
        reader.wrong(inner, "addresses", "an address stands twice", "remove one of them")
    outer = {gateway.addr for gateway in gateways if isinstance(gateway, Endpoint)}
    if outer & {each.ip for each in addresses}:
        reader.wrong(inner, "addresses", "one is also the address of a gateway", "one of the two is wrong")
    if not any(each.version in families for each in networks):
        reader.wrong(inner, "networks", "none is of a family in families", "nothing could be sent; add the family")
    return networks, families, addresses


# -- the other side ---------------------------------------------------------------------------------------------------
def _server(
    reader: Reader, tables: Tables, store: Store, rounds: tuple[Round, ...], gateways: _Gateways
) -> Server | None:
    table = tables.server
    first = rounds[0].method if rounds else None
    method = reader.typed(table, "method", ike_values.server_method)
    if method is None:
        method = Method.PSK if first is Method.PSK else Method.CERTIFICATE
    identity = reader.typed(table, "identity", ike_values.identity)
    if "identity" not in table.values:
        identity = gateways[0].host if gateways and isinstance(gateways[0], HostPort) else None
        if gateways and identity is None:
            hint = "write whom the gateway says to be: a name in its certificate, or its subject"
            reader.wrong(table, "identity", "is missing, and the first gateway has no name", hint)
    needed = method is Method.CERTIFICATE or any(each.method in _TLS for each in rounds)
    if not needed and rounds:
        for name in ("authorities", "revocation", "crls"):
            if name in table.values and any(each.method is Method.PSK for each in rounds):
                reader.wrong(table, name, "has no use where the gateway shows no certificate", "remove the line")
        return Server(method, identity) if identity is not None else None
    if "authorities" not in table.values and rounds:
        hint = "write the file of the authority that made the gateway's certificate; the system's are never used"
        reader.wrong(table, "authorities", "is missing", hint)
    authorities = reader.typed(table, "authorities", store.authorities) or ()
    revocation = reader.typed(table, "revocation", ike_values.revocation) or Revocation.RELAXED
    lists = reader.typed(table, "crls", store.revocations) or ()
    if revocation is Revocation.STRICT and "crls" not in table.values:
        reader.wrong(table, "revocation", "needs crls", "nothing is fetched outside the tunnel: write their files")
    holders = {each.holder for each in authorities}
    if authorities and not all(issuer in holders for _, issuer in lists):
        reader.wrong(table, "crls", "a list is of none of the authorities", "remove it, or add its authority")
    if identity is None:
        return None
    return Server(
        method=method,
        identity=identity,
        authorities=tuple(each.pem for each in authorities),
        revocation=revocation,
        crls=tuple(content for content, _ in lists),
        expires_wall=credentials.ends(authorities),
    )


def _of_version(reader: Reader, tables: Tables, version: IkeVersion) -> None:
    """Keys that only the other version of IKE has a use for."""
    ike = tables.ike
    if version is IkeVersion.V2:
        if "aggressive" in ike.values and ike.values["aggressive"].value is True:
            reader.wrong(ike, "aggressive", "is of IKEv1", "remove the line; IKEv2 needs no such thing")
        return
    hint = "remove the line, or use version = 2"
    if "mobike" in ike.values and ike.values["mobike"].value is True:
        reader.wrong(ike, "mobike", "is of IKEv2", hint)
    if "childless" in ike.values:
        reader.wrong(ike, "childless", "is of IKEv2", hint)
    if tables.ppk is not None:
        reader.fault(tables.ppk.line, "is of IKEv2", hint, tables.ppk.name)


def _together(
    reader: Reader, tables: Tables, rounds: tuple[Round, ...], server: Server | None, version: IkeVersion
) -> None:
    """Whether we and the gateway can show each other who we are in these ways."""
    if server is None or not rounds:
        return
    ours = [each.method for each in rounds]
    if version is IkeVersion.V1:
        wanted = Method.PSK if ours[0] is Method.PSK else Method.CERTIFICATE
        if server.method is not wanted:
            reason = f'IKEv1 with "{ours[0]}" needs a gateway with method = "{wanted}"'
            reader.wrong(tables.server, "method", reason, "both sides do the same there (RFC 2409)")
    elif server.method is Method.PSK and Method.PSK not in ours:
        hint = 'write method = "certificate" and authorities; or add a round with method = "psk" and its secret_file'
        reader.wrong(tables.server, "method", "there is no PSK that the gateway could show", hint)


# -- what is weak, and where values stand -----------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Weakness:
    """What is weak, in words; at which key, and what would be better."""

    words: str
    table: Table
    key: str
    better: str

    def finding(self, file: str) -> Finding:
        """As an error, until the settings allow it."""
        hint = f"{self.better}; an administrator can allow it: [ike] allow_weak = true in aovpnd.toml"
        line, key = self.table.at(self.key), self.table.key(self.key)
        return Finding(file, f"{self.words} is weak", hint, line, key, code=WEAK)


def _weaknesses(tables: Tables, spec: IPsec) -> list[_Weakness]:
    """What works and protects badly, each once."""
    ike, server, ours = tables.ike, tables.server, [each.method for each in spec.rounds]
    found: list[_Weakness] = []
    if spec.version is IkeVersion.V1:
        found.append(_Weakness("IKEv1", ike, "version", "use version = 2"))
    if spec.aggressive and Method.PSK in ours:
        better = "whoever sees one message can guess at the PSK at leisure; use version = 2"
        found.append(_Weakness("aggressive mode with a PSK", ike, "aggressive", better))
    elif spec.aggressive:
        better = "it shows our identity to everybody; use version = 2"
        found.append(_Weakness("aggressive mode", ike, "aggressive", better))
    for name, written in (("proposals", spec.proposals), ("esp_proposals", spec.esp_proposals)):
        better = 'take it out; "aes256gcm16-prfsha384-x25519" is strong' if name == "proposals" else "take it out"
        weak = dict.fromkeys(word for each in written for word in proposals.weak(each))
        found += (_Weakness(f"'{word}' in {name}", ike, name, better) for word in weak)
    if Method.EAP_MSCHAPV2 in ours and spec.server.method is Method.PSK:
        words = "EAP-MSCHAPv2 towards a gateway without a certificate"
        found.append(_Weakness(words, server, "method", 'use method = "certificate" and authorities'))
    return found


def _written(tables: Tables) -> tuple[Written, ...]:
    """Where the values stand that somebody may want to find again; never a secret, nor the file of one."""
    found: list[Written] = []
    for table, names in (
        (tables.ike, ("gateways",)),
        (tables.tunnel, ("networks", "addresses", "dns", "search", "mtu")),
    ):
        for name in names:
            entry = table.values.get(name)
            if entry is not None:
                listed = entry.value if isinstance(entry.value, list) else [entry.value]
                found += (Written(name, str(each), entry.line) for each in listed)
    return tuple(found)

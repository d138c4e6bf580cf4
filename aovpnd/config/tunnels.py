# SPDX-License-Identifier: GPL-3.0-or-later
"""One tunnel file to one value: of wg-quick's format (NAME.conf) here, of IKE's (NAME.toml) in `ike`.

For WireGuard there is a border on both sides of the parser. wgconfig alone accepts nearly anything: unknown sections'
keys, keys in any case as different keys, ``#! PostUp`` as if it were no comment, two peers with one key as one. So
`wgquick` and `values` judge every line first, wgconfig reads only what they let through, and what it read must be what
they understood, or the file is refused.
"""

import io
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

import wgconfig

from aovpnd.config import files, ike, values, wgquick
from aovpnd.config.credentials import Store
from aovpnd.config.findings import Finding, Findings, UnfitError, printable_path
from aovpnd.config.wgquick import Block, Item, Section
from aovpnd.errors import ConfigError, ToolError
from aovpnd.ipsec import TunnelSpec
from aovpnd.model import Severity
from aovpnd.ruleset import Address, Network
from aovpnd.tunnel import TUNNEL_NAME, Endpoint, HostPort, Interface, Peer, Secret, WireGuard, Written

SUFFIX: Final = ".conf"
IKE_SUFFIX: Final = ".toml"
WG: Final = "/usr/bin/wg"
"""From wireguard-tools. Deriving a public key with it takes 1 ms; a library for the same costs 15 ms of every start."""
WG_TIMEOUT_S: Final = 5.0

_PUBLIC: Final = frozenset({"Address", "DNS", "MTU", "AllowedIPs", "Endpoint"})
_T = TypeVar("_T")


def name_of(path: Path) -> str:
    """The name of the tunnel that a file holds, as it was written."""
    return path.name.removesuffix(path.suffix)


def read(path: Path, base: Path) -> tuple[TunnelSpec | None, list[Finding]]:
    """The tunnel of one file, or None, and what there is to say about it. ``base`` is the configuration directory.

    ``ConfigError`` when the file cannot be read or may not be trusted, ``ToolError`` when wg does not work.
    """
    shown = printable_path(path)
    is_ike = path.suffix == IKE_SUFFIX
    name = name_of(path)
    if TUNNEL_NAME.fullmatch(name) is None:
        hint = f"name it NAME{path.suffix}: letters, digits, - and _, at most 32"
        raise ConfigError("the file's name is no tunnel name", file=shown, hint=hint)
    # The file of an IKE tunnel names those that hold its secrets, and has none in it.
    text = files.read(path, files.Holds.SETTINGS if is_ike else files.Holds.KEYS)
    if text is None:
        raise ConfigError("there is no such file", file=shown)
    return ike.parse(text, name, shown, Store(base)) if is_ike else parse(text, name, shown)


def parse(text: str, name: str, file: str) -> tuple[WireGuard | None, list[Finding]]:
    """The tunnel that a text describes, or None when a finding is an error."""
    blocks, findings = wgquick.parse(text, file)
    if _is_broken(findings):
        return None, findings
    builder = _Builder(file)
    spec = builder.tunnel(blocks, name)
    findings += builder.all
    if spec is None or _is_broken(findings):
        return None, findings
    _agree(blocks, file)
    return replace(spec, written=_written(blocks)), findings


def _written(blocks: tuple[Block, ...]) -> tuple[Written, ...]:
    """Where the values stand that somebody may want to find again; never a key."""
    return tuple(
        Written(item.key, item.text, item.line) for block in blocks for item in block.items if item.key in _PUBLIC
    )


def _is_broken(findings: list[Finding]) -> bool:
    return any(finding.severity is Severity.ERROR for finding in findings)


class _Builder(Findings):
    """Makes typed values of one file's items, and collects all that is wrong rather than the first; lives as long as
    `parse`.
    """

    def typed(self, item: Item | None, parse_value: Callable[[str], _T]) -> _T | None:
        """The value of an item; None when it is absent or was found wanting."""
        if item is None:
            return None
        try:
            return parse_value(item.text)
        except UnfitError as error:
            self.fault(item.line, error.reason, error.hint, item.key)
            return None

    def each(self, items: tuple[Item, ...], parse_value: Callable[[str], _T]) -> list[tuple[Item, _T]]:
        """The values of a list, each with where it stands."""
        typed = [(item, self.typed(item, parse_value)) for item in items]
        return [(item, value) for item, value in typed if value is not None]

    def tunnel(self, blocks: tuple[Block, ...], name: str) -> WireGuard | None:
        """The whole file; None when something indispensable is missing."""
        interface = next((block for block in blocks if block.section is Section.INTERFACE), None)
        if interface is None:
            self.fault(1, "there is no [Interface] section", "it holds PrivateKey and Address")
            return None
        private_key = self.typed(interface.one("PrivateKey"), values.private_key)
        if interface.one("PrivateKey") is None:
            self.fault(interface.line, "is missing", "wg genkey makes one", "PrivateKey")
        addresses = self.addresses(interface)
        peers = self.peers([block for block in blocks if block.section is Section.PEER], interface)
        has_ipv6 = any(value.version == 6 for value in (*addresses, *(net for peer in peers for net in peer.allowed)))  # noqa: PLR2004
        smallest = values.SMALLEST_MTU_IPV6 if has_ipv6 else values.SMALLEST_MTU_IPV4
        mtu = self.typed(interface.one("MTU"), lambda text: values.mtu(text, smallest=smallest))
        listen_port = self.typed(interface.one("ListenPort"), values.port)
        dns = [value for _, value in self.each(interface.all("DNS"), values.dns)]
        self.own_addresses(addresses, peers, interface)
        if private_key is None or _is_broken(self.all):
            return None
        public_key = _public_key(private_key)
        if any(peer.public_key == public_key for peer in peers):
            self.fault(interface.line, "a peer has this machine's own key", "the peer's PublicKey is the gateway's")
        return WireGuard(
            name=name,
            source=self.file,
            private_key=Secret(private_key),
            public_key=public_key,
            addresses=tuple(addresses),
            peers=tuple(peers),
            mtu=mtu,
            listen_port=listen_port,
            dns=tuple(value for value in dns if not isinstance(value, str)),
            search=tuple(value for value in dns if isinstance(value, str)),
        )

    def addresses(self, interface: Block) -> list[Interface]:
        """This machine's addresses in the tunnel. None would let the kernel pick one of another link's."""
        found: list[Interface] = []
        known: set[Address] = set()
        for item, value in self.each(interface.all("Address"), values.interface):
            if value.ip in known:
                self.fault(item.line, f"'{value.ip}' stands twice", "remove one of them", item.key)
            known.add(value.ip)
            found.append(value)
        if not interface.all("Address"):
            self.fault(interface.line, "is missing", "write the address that the gateway gave you", "Address")
        return found

    def peers(self, blocks: list[Block], interface: Block) -> list[Peer]:
        """All peers. A prefix given to two peers would belong to the last in silence (wg(8)), so it is refused."""
        if not blocks:
            self.fault(interface.line, "there is no [Peer] section: a tunnel without a peer leads nowhere", "add one")
        found: list[Peer] = []
        owners: dict[Network, int] = {}
        known: dict[str, int] = {}
        for block in blocks:
            peer = self.peer(block)
            if peer is None:
                continue
            if peer.public_key in known:
                self.fault(block.line, f"the peer of line {known[peer.public_key]} has the same key", "join them")
            known.setdefault(peer.public_key, block.line)
            for network in peer.allowed:
                if owners.setdefault(network, block.line) != block.line:
                    reason = f"'{network}' belongs to the peer of line {owners[network]}"
                    self.fault(block.line, reason, "give it to one of them", "AllowedIPs")
            found.append(peer)
        if blocks and not any(block.one("Endpoint") for block in blocks):
            self.fault(blocks[0].line, "is missing: no peer can be reached", "Endpoint = HOST:PORT", "Endpoint")
        return found

    def peer(self, block: Block) -> Peer | None:
        """One peer, or None when it has no usable key."""
        public_key = self.typed(block.one("PublicKey"), values.key)
        if block.one("PublicKey") is None:
            self.fault(block.line, "is missing", "the gateway's wg show says it", "PublicKey")
        preshared = self.typed(block.one("PresharedKey"), values.key)
        allowed = [value for _, value in self.each(block.all("AllowedIPs"), values.network)]
        if not block.all("AllowedIPs"):
            hint = "AllowedIPs = 0.0.0.0/0, ::/0 sends everything through it"
            self.fault(block.line, "is missing: the peer would carry nothing", hint, "AllowedIPs")
        endpoint = self.typed(block.one("Endpoint"), values.endpoint)
        keepalive_s = self.typed(block.one("PersistentKeepalive"), values.keepalive)
        if public_key is None:
            return None
        return Peer(
            public_key=public_key,
            allowed=tuple(dict.fromkeys(allowed)),
            endpoint=endpoint if isinstance(endpoint, Endpoint) else None,
            preshared_key=None if preshared is None else Secret(preshared),
            keepalive_s=keepalive_s or 0,
            host=endpoint if isinstance(endpoint, HostPort) else None,
        )

    def own_addresses(self, addresses: list[Interface], peers: list[Peer], interface: Block) -> None:
        """The gateway cannot be reached at our own address inside the tunnel."""
        own = {address.ip for address in addresses}
        endpoints: list[Endpoint] = [peer.endpoint for peer in peers if peer.endpoint is not None]
        if any(endpoint.addr in own for endpoint in endpoints):
            written = next(
                (item for item in interface.all("Address") if item.text.partition("/")[0] in {str(ip) for ip in own}),
                None,
            )
            line = interface.line if written is None else written.line
            self.fault(line, "is also the address of an Endpoint", "one of the two is wrong", "Address")


def _public_key(private_key: str) -> str:
    """X25519 of the private key, by ``wg pubkey``: the key goes over a pipe, never into an argument list."""
    try:
        done = subprocess.run(
            [WG, "pubkey"],
            input=f"{private_key}\n".encode(),
            capture_output=True,
            timeout=WG_TIMEOUT_S,
            check=False,
            env={},
        )
    except FileNotFoundError:
        raise ToolError(f"{WG} is not there", hint="apt install wireguard-tools") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolError(f"{WG} pubkey failed: {type(error).__name__}", hint="does wg --version work?") from None
    try:
        return values.key(done.stdout.decode("ascii", "replace").strip())
    except UnfitError:
        raise ToolError(f"{WG} pubkey failed with status {done.returncode}", hint="does wg --version work?") from None


def _agree(blocks: tuple[Block, ...], file: str) -> None:
    """Let wgconfig read what passed the border, and compare; ``ConfigError`` when it understood something else."""
    parser = wgconfig.WGConfig()
    try:
        parser.read_from_fileobj(io.StringIO(wgquick.canonical(blocks)))
        read_interface = _plain(parser.get_interface())
        read_peers = {key: _plain(peer) for key, peer in parser.get_peers(keys_only=False).items()}
    except (ValueError, LookupError, TypeError, AttributeError):
        read_interface, read_peers = {}, {}
    interface = {}
    peers = {}
    for block in blocks:
        content = {key: [item.text for item in block.all(key)] for key in {item.key for item in block.items}}
        if block.section is Section.INTERFACE:
            interface = content
        else:
            peers[content["PublicKey"][0]] = content
    if (read_interface, read_peers) != (interface, peers):
        raise ConfigError(
            "two readings of the file disagree", file=file, hint="write one plain KEY = VALUE per line; report this"
        )


def _plain(section: dict[str, object]) -> dict[str, list[str]]:
    """A number, a text or a list of texts is what wgconfig gives; one form for all."""
    return {
        key: [str(item) for item in (value if isinstance(value, list) else [value])] for key, value in section.items()
    }

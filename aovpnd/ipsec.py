# SPDX-License-Identifier: GPL-3.0-or-later
"""What an IKE tunnel is, as its file describes it: frozen values, in swanctl.conf(5)'s words."""

import hashlib
from dataclasses import dataclass, field
from enum import Enum, IntEnum, StrEnum
from typing import Final

from aovpnd.ruleset import Address, Network
from aovpnd.tunnel import Endpoint, HostPort, Interface, Secret, WireGuard, Written

IKE_BACKEND: Final = "strongswan"
"""`TunnelState.backend`, and the word for it in status."""
NAT_T_PORT: Final = 4500
"""UDP: IKE and ESP together (RFC 3948, RFC 7296 section 2.23), from the first message on."""


class IkeVersion(IntEnum):
    """IKEv1 (RFC 2409) or IKEv2 (RFC 7296)."""

    V1 = 1
    V2 = 2


class Method(StrEnum):
    """How one side shows who it is, by the words of our files."""

    PSK = "psk"
    CERTIFICATE = "certificate"
    EAP_MSCHAPV2 = "eap-mschapv2"
    EAP_TLS = "eap-tls"
    EAP_TTLS = "eap-ttls"
    EAP_PEAP = "eap-peap"
    XAUTH = "xauth"


class Childless(StrEnum):
    """Whether an IKE SA may begin without a CHILD SA (RFC 6023)."""

    ALLOW = "allow"
    PREFER = "prefer"
    FORCE = "force"
    NEVER = "never"


class Revocation(StrEnum):
    """What is made of a certificate whose revocation nobody answers for: nothing is fetched outside the tunnel."""

    RELAXED = "relaxed"
    STRICT = "strict"


class Weak(StrEnum):
    """Whether tunnels may be used that work and protect badly."""

    REFUSE = "refuse"
    ALLOW = "allow"


class Ask(StrEnum):
    """How long a secret is kept that a person is asked for, by the words of our files."""

    ONCE = "once"
    """In the daemon's memory, until the gateway refuses it."""
    EACH_TIME = "each time"
    """For one attempt: a one-time password."""


@dataclass(frozen=True, slots=True)
class Token:
    """A key that stays where it is: in a PKCS#11 token (``module``), or in a TPM 2.0 (no module).

    ``handle`` is the object's CKA_ID, or the TPM's handle, in hexadecimal digits.
    """

    handle: str
    module: str | None = None
    slot: int | None = None
    pin: Secret | None = None
    ask: Ask | None = None
    """The PIN is somebody's to give."""


@dataclass(frozen=True, slots=True)
class Locked:
    """A private key as its file has it, encrypted by a password that is somebody's to give (always `Ask.ONCE`).
    ``opened``: the key, when he has.
    """

    pem: Secret
    opened: Secret | None = None


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate, its chain behind it (PEM), and its key. ``expires_wall``: end of validity, seconds (epoch)."""

    chain: tuple[str, ...]
    key: Secret | Token | Locked
    expires_wall: float | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """One authentication round of ours (RFC 4739). ``identity`` is our IKE identity, ``user`` that of EAP or XAuth."""

    method: Method
    identity: str | None = None
    user: str | None = None
    secret: Secret | None = None
    credential: Credential | None = None
    ask: Ask | None = None
    """The secret is somebody's to give (`signin`)."""

    @property
    def expires_wall(self) -> float | None:
        """When its certificate ends, seconds (epoch)."""
        return self.credential.expires_wall if self.credential is not None else None


@dataclass(frozen=True, slots=True)
class Server:
    """Whom we expect: its identity, and by whose word (PEM) it is believed; with a PSK nobody's."""

    method: Method
    identity: str
    authorities: tuple[str, ...] = ()
    revocation: Revocation = Revocation.RELAXED
    crls: tuple[bytes, ...] = ()
    expires_wall: float | None = None
    """End of validity of the authority that ends first."""


@dataclass(frozen=True, slots=True)
class Ppk:
    """A post-quantum preshared key (RFC 8784); ``required``: without it there is no tunnel."""

    identity: str
    secret: Secret
    required: bool = True


@dataclass(frozen=True, slots=True)
class Timing:
    """When keys are renewed and the other side is asked whether it lives, seconds; ``reauth_s`` 0 means never."""

    rekey_s: int = 14400
    child_rekey_s: int = 3600
    reauth_s: int = 0
    dpd_s: int = 10


@dataclass(frozen=True, slots=True)
class IPsec:
    """A tunnel that an IKE file describes. ``source`` is the file; ``mtu`` bytes or None for the default.

    ``gateways`` are tried in their order; ``endpoint`` is the one that is used now, which `core.endpoints` has chosen,
    and is in no file. ``addresses``, ``dns`` and ``search`` are what the file says, and behind `core.endpoints` what
    the gateway gave where the file says nothing. ``families`` (4, 6) are those of which an address is asked for.
    """

    name: str
    source: str
    gateways: tuple[Endpoint | HostPort, ...]
    rounds: tuple[Round, ...]
    server: Server
    version: IkeVersion = IkeVersion.V2
    aggressive: bool = False
    proposals: tuple[str, ...] = ()
    esp_proposals: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    families: tuple[int, ...] = (4, 6)
    addresses: tuple[Interface, ...] = ()
    mtu: int | None = None
    dns: tuple[Address, ...] = ()
    search: tuple[str, ...] = ()
    mobike: bool = True
    fragmentation: bool = True
    childless: Childless = Childless.ALLOW
    timing: Timing = Timing()
    ppk: Ppk | None = None
    weak: tuple[str, ...] = ()
    """What of it a policy had to allow, in words."""
    written: tuple[Written, ...] = field(default=(), compare=False, repr=False)
    endpoint: Endpoint | None = None

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where IKE and ESP go."""
        return (self.endpoint,) if self.endpoint is not None else ()

    @property
    def hosts(self) -> tuple[str, ...]:
        """The gateways' names, each once."""
        return tuple(dict.fromkeys(gateway.host for gateway in self.gateways if isinstance(gateway, HostPort)))

    @property
    def named(self) -> tuple[tuple[HostPort, Endpoint | None], ...]:
        """The gateways that are known by name, each with the endpoint that is used now."""
        return tuple((gateway, self.endpoint) for gateway in self.gateways if isinstance(gateway, HostPort))

    @property
    def prefixes(self) -> tuple[Network, ...]:
        """What the tunnel carries: the remote traffic selectors."""
        return self.networks

    def carries(self, address: Address) -> bool:
        """Whether packets to an address go into the tunnel."""
        return any(address.version == prefix.version and address in prefix for prefix in self.prefixes)

    def reaches(self, address: Address) -> bool:
        """Whether the tunnel carries packets to an address, and has one of its family to send them from."""
        return address.version in {interface.version for interface in self.addresses} and self.carries(address)

    def digest(self) -> str:
        """A short digest of all that charon is given, endpoint, addresses and gateways excepted.

        Its name is in it: one and the same certificate may open several gateways' doors, and their links are not one.
        """
        given = (
            self.name,
            self.version,
            self.aggressive,
            [_round(each) for each in self.rounds],
            (self.server.method, self.server.identity, self.server.authorities, self.server.revocation),
            self.server.crls,
            (self.proposals, self.esp_proposals, tuple(map(str, self.networks)), self.families),
            (self.mobike, self.fragmentation, self.childless),
            (self.timing.rekey_s, self.timing.child_rekey_s, self.timing.reauth_s, self.timing.dpd_s),
            (self.ppk.identity, self.ppk.secret.value, self.ppk.required) if self.ppk is not None else (),
        )
        return hashlib.blake2b(repr(given).encode(), digest_size=16).hexdigest()


def _round(each: Round) -> tuple[object, ...]:
    credential = each.credential
    if credential is None:
        held: tuple[object, ...] = ()
    elif isinstance(credential.key, Token):
        token = credential.key
        pin = token.ask or (token.pin.value if token.pin is not None else "")
        held = (credential.chain, token.handle, token.module, token.slot, pin)
    else:
        key = credential.key.pem if isinstance(credential.key, Locked) else credential.key
        held = (credential.chain, key.value)
    # What a person gives changes nothing of what the tunnel is.
    secret = each.ask or (each.secret.value if each.secret is not None else "")
    return (each.method, each.identity, each.user, secret, held)


class Lease(Enum):
    """Whether the SA by which a gateway gave something stands."""

    HELD = "held"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Given:
    """What a gateway gave us with its SA: addresses of ours (RFC 7296 section 2.19), name servers.

    ``lease``: whether that SA stands, or was the last one; until the next one the machine keeps what it had.
    """

    addresses: tuple[Interface, ...] = ()
    dns: tuple[Address, ...] = ()
    lease: Lease = Lease.HELD


@dataclass(frozen=True, slots=True)
class Said:
    """Why there is no SA, as charon says it: a code of ours, the text, what to do."""

    code: str
    text: str
    hint: str = ""

    @property
    def waits(self) -> bool:
        """Whether there will be none before somebody signs in: until then nothing is tried."""
        return self.code in {SIGN_IN_WANTED, SIGN_IN_REFUSED}


SIGN_IN_WANTED: Final = "sign-in-wanted"
SIGN_IN_REFUSED: Final = "sign-in-refused"

TunnelSpec = WireGuard | IPsec
"""The closed union of tunnel kinds: a kill switch loads no unknown code."""


@dataclass(frozen=True, slots=True)
class Called:
    """What a tunnel's file calls its parts, for whoever shall find or change them: keys, and what to write."""

    networks: str
    gateway: str
    everything: str
    resolvers: str


_WG_QUICK: Final = Called(
    "AllowedIPs", "Endpoint", "AllowedIPs = 0.0.0.0/0, ::/0", "a line DNS = ADDRESS to the [Interface] section"
)
_OUR_TOML: Final = Called("networks", "gateways", 'networks = ["0.0.0.0/0", "::/0"]', "dns to the [tunnel] section")


def called(spec: TunnelSpec) -> Called:
    """The words of a tunnel's file."""
    return _OUR_TOML if isinstance(spec, IPsec) else _WG_QUICK


def restless(spec: TunnelSpec) -> str:
    """Why a tunnel cannot rest, in words; "" where it can."""
    if isinstance(spec, WireGuard) and any(peer.keepalive_s for peer in spec.peers):
        return "its file has PersistentKeepalive, which never rests"
    return ""


def backend_of(spec: TunnelSpec) -> str:
    """The word in status for what will carry a tunnel."""
    return IKE_BACKEND if isinstance(spec, IPsec) else "wireguard"

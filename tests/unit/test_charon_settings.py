# SPDX-License-Identifier: GPL-3.0-or-later
"""What a charon of ours is told: its settings as a golden file, each method's requests word for word."""

import os
import stat
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any, Final

import pytest
from vici.protocol import Message

from aovpnd import names
from aovpnd.backends.charon import Place, children_of, modules_of, name_of, requests, settings
from aovpnd.backends.strongswan import _CONNECTION
from aovpnd.ipsec import Credential, IkeVersion, IPsec, Method, Ppk, Revocation, Round, Server, Timing, Token
from aovpnd.tunnel import Endpoint, Secret

GOLDEN: Final = Path(__file__).parent / "golden" / "strongswan.conf"
PLACE: Final = Place(Path("/run/aovpnd"), "aovpn0")
GATEWAY: Final = Endpoint(ip_address("203.0.113.2"), 4500)
SECRET: Final = Secret("s3cret of the tunnel")
PEM: Final = "-----BEGIN CERTIFICATE-----"
OURS: Final = Credential((PEM + "laptop", PEM + "between"), Secret("-----BEGIN PRIVATE KEY-----"))
BY_CERTIFICATE: Final = Server(Method.CERTIFICATE, "vpn.example.com", (PEM + "ca",))
PSK: Final = IPsec(
    "office",
    "office.toml",
    gateways=(GATEWAY,),
    rounds=(Round(Method.PSK, "laptop.example.com", secret=SECRET),),
    server=Server(Method.PSK, "vpn.example.com"),
    networks=(ip_network("0.0.0.0/0"), ip_network("::/0")),
    endpoint=GATEWAY,
)
CHILD: Final = {
    "mode": "tunnel",
    "remote_ts": ["0.0.0.0/0", "::/0"],
    "rekey_time": "3600s",
    "start_action": "none",
    "dpd_action": "clear",
    "close_action": "none",
    "updown": "env -0 >/run/aovpnd/charon/aovpn0/own/given.$PLUTO_UNIQUEID",
}
CONNECTION: Final = {
    "version": "2",
    "remote_addrs": ["203.0.113.2"],
    "remote_port": "4500",
    "aggressive": "no",
    "encap": "yes",
    "mobike": "yes",
    "fragmentation": "yes",
    "childless": "allow",
    "dpd_delay": "10s",
    "dpd_timeout": "30s",
    "keyingtries": "1",
    "rekey_time": "14400s",
    "reauth_time": "0s",
    "unique": "never",
    "vips": ["0.0.0.0", "::"],
    "remote-1": {"auth": "psk", "id": "vpn.example.com"},
    "local-1": {"auth": "psk", "id": "laptop.example.com"},
}
SERVER: Final = {"auth": "pubkey", "id": "vpn.example.com", "cacerts": [PEM + "ca"]}


def test_settings() -> None:
    """The whole file, for a kernel without XFRM; where the kernel does ESP, charon has no device of its own."""
    ours, theirs = settings("aovpn0", PLACE, kernel=False), settings("aovpn0", PLACE, kernel=True)

    assert ours == GOLDEN.read_text(encoding="utf-8").partition("\n")[2]  # behind the line with its licence
    assert " kernel-libipsec kernel-netlink " in ours
    assert " kernel-libipsec kernel-netlink " not in theirs
    assert "interfaces_ignore = aovpn0,aovpn1," in theirs
    assert "interfaces_ignore = aovpn1,aovpn2," in ours
    assert f"fwmark = {names.FWMARK:#x}\n" in ours


def test_places(tmp_path: Path) -> None:
    """What we write is out of charon's reach, whose directory alone is its own, whatever the umask."""
    place, before = Place(tmp_path, "aovpn3"), os.umask(0o077)
    try:
        place.make()
        place.write_settings("# nothing")
        place.make()
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (place.all, place.directory, place.settings)}

    assert modes == {place.all: 0o710, place.directory: 0o710, place.settings: 0o640}
    assert {place.socket.parent, place.log.parent, place.given.parent} == {place.own}
    Path(f"{place.given}.7").touch()
    assert {number: path.name for number, path in place.all_given().items()} == {7: "given.7"}
    assert {place.settings.parent, place.stand_in.parent} == {place.directory} != {place.own}


def told(spec: IPsec, interface: int | None = None) -> list[tuple[str, dict[str, Any]]]:
    """The requests, which must be such as the library can send."""
    found = [(command, dict(message)) for command, message in requests(spec, PLACE, interface)]
    for _command, message in found:
        Message.serialize(message)
    return found


def connection(spec: IPsec, interface: int | None = None) -> dict[str, Any]:
    """What it is told last, the connection."""
    command, message = told(spec, interface)[-1]
    ((name, made),) = message.items()
    assert (command, name) == ("load-conn", name_of(spec))
    return dict(made)


def test_psk() -> None:
    """A secret, and a connection that has all it needs and no secret."""
    owners = ["laptop.example.com", "vpn.example.com"]
    name = name_of(PSK)

    assert name == f"{PSK.digest()}@203.0.113.2@4500"
    assert told(PSK) == [
        ("load-shared", {"id": "ike-1", "type": "IKE", "data": SECRET.value, "owners": owners}),
        ("load-conn", {name: {**CONNECTION, "children": {name: CHILD}}}),
    ]


EAP: Final = {"id": "ike-1", "type": "EAP", "data": SECRET.value, "owners": ["alice"]}
KEY: Final = ("load-key", {"type": "any", "data": "-----BEGIN PRIVATE KEY-----"})
CERTS: Final = [PEM + "laptop", PEM + "between"]


@pytest.mark.parametrize(
    ("each", "loaded", "local"),
    [
        (Round(Method.CERTIFICATE, "C=DE, CN=x", credential=OURS), [KEY], {"auth": "pubkey", "id": "C=DE, CN=x"}),
        (Round(Method.EAP_TLS, user="alice", credential=OURS), [KEY], {"auth": "eap-tls", "eap_id": "alice"}),
        (
            Round(Method.EAP_MSCHAPV2, user="alice", secret=SECRET),
            [("load-shared", EAP)],
            {"auth": "eap-mschapv2", "eap_id": "alice"},
        ),
        (
            Round(Method.EAP_TTLS, "laptop", "alice", SECRET),
            [("load-shared", EAP)],
            {"auth": "eap-ttls", "id": "laptop", "eap_id": "alice"},
        ),
        (
            Round(Method.EAP_PEAP, user="alice", secret=SECRET),
            [("load-shared", EAP)],
            {"auth": "eap-peap", "eap_id": "alice"},
        ),
        (
            Round(Method.XAUTH, user="alice", secret=SECRET),
            [("load-shared", {**EAP, "type": "XAUTH"})],
            {"auth": "xauth", "xauth_id": "alice"},
        ),
    ],
    ids=lambda value: value.method.value if isinstance(value, Round) else "",
)
def test_methods(each: Round, loaded: list[object], local: dict[str, Any]) -> None:
    """Its secrets first, and in the connection who we are, with our certificates where there are any."""
    spec = replace(PSK, rounds=(each,), server=BY_CERTIFICATE)
    certs = {"certs": CERTS} if each.credential is not None else {}

    assert told(spec)[:-1] == loaded
    assert connection(spec)["local-1"] == {**local, **certs}
    assert connection(spec)["remote-1"] == SERVER


def test_rounds() -> None:
    """Several rounds, in their order; each brings what it needs."""
    spec = replace(
        PSK,
        rounds=(Round(Method.CERTIFICATE, credential=OURS), Round(Method.EAP_MSCHAPV2, user="alice", secret=SECRET)),
    )
    made = connection(spec)

    assert [command for command, _ in told(spec)] == ["load-key", "load-shared", "load-conn"]
    assert told(replace(spec, rounds=(*spec.rounds, spec.rounds[1])))[2][1]["id"] != told(spec)[1][1]["id"]
    assert (made["local-1"]["auth"], made["local-2"]["auth"]) == ("pubkey", "eap-mschapv2")
    assert "local-3" not in made


@pytest.mark.parametrize(
    ("token", "request_"),
    [
        (Token("81010001"), {"handle": "81010001"}),
        (
            Token("beef", "/usr/lib/x.so", 0, Secret("1234")),
            {"handle": "beef", "slot": "0", "module": "token1", "pin": "1234"},
        ),
    ],
    ids=["tpm", "token"],
)
def test_tokens(token: Token, request_: dict[str, Any]) -> None:
    """A key that stays where it is: charon is told where, slot 0 included."""
    spec = replace(PSK, rounds=(Round(Method.CERTIFICATE, credential=replace(OURS, key=token)),))
    assert told(spec)[0] == ("load-token", request_)


def test_modules_of_tokens(tmp_path: Path) -> None:
    """A token is asked for by the name that its module has in the settings, where that is loaded for its keys alone; a
    charon that was started without it has to be started anew.
    """
    place, modules = Place(tmp_path, "aovpn0"), ("/usr/lib/x.so", "/usr/lib/y.so")
    keys = [Token(handle, f"/usr/lib/{module}.so", pin=SECRET) for handle, module in (("aa", "x"), ("bb", "y"))]
    rounds = (Round(Method.CERTIFICATE, credential=replace(OURS, key=key)) for key in (*keys, keys[0]))
    spec = replace(PSK, rounds=tuple(rounds))
    written = settings("aovpn0", place, modules, kernel=True)
    assert not place.reads(modules)
    place.make()
    place.write_settings(written)

    assert modules_of(spec) == modules
    assert [each["module"] for command, each in told(spec) if command == "load-token"] == ["token1", "token2", "token1"]
    assert "token2 {\n          path = /usr/lib/y.so\n          load_certs = no\n        }" in written
    assert (place.reads(modules), place.reads(()), place.reads(modules[1:])) == (True, True, False)


def test_revocation_and_ppk() -> None:
    """Lists before all else; strict where it is asked for; a PPK, and whether there is a tunnel without."""
    server = replace(BY_CERTIFICATE, revocation=Revocation.STRICT, crls=(b"\x30\x00", b"\x30\x01"))
    spec = replace(PSK, server=server, ppk=Ppk("ppk1", Secret("quantum"), required=False))
    made = connection(spec)

    assert told(spec)[:2] == [
        ("load-cert", {"type": "X509_CRL", "flag": "NONE", "data": data}) for data in (b"\x30\x00", b"\x30\x01")
    ]
    assert told(spec)[3] == ("load-shared", {"id": "ike-ppk", "type": "PPK", "data": "quantum", "owners": ["ppk1"]})
    assert made["remote-1"] == {**SERVER, "revocation": "strict"}
    assert (made["ppk_id"], made["ppk_required"]) == ("ppk1", "no")


def test_every_setting() -> None:
    """None of the file's settings is lost on the way."""
    spec = replace(
        PSK,
        proposals=("aes256-sha256-x25519",),
        esp_proposals=("aes256gcm16",),
        mobike=False,
        fragmentation=False,
        addresses=(ip_interface("10.8.0.2/32"),),
        families=(4,),
        timing=Timing(60, 30, 3600, 2),
        endpoint=Endpoint(ip_address("2001:db8::2"), 4501),
    )
    made = connection(spec)
    child = made["children"][name_of(spec)]

    assert made["proposals"] == ["aes256-sha256-x25519"]
    assert child["esp_proposals"] == ["aes256gcm16"]
    assert (made["mobike"], made["fragmentation"]) == ("no", "no")
    assert (made["rekey_time"], made["reauth_time"], made["dpd_delay"], made["dpd_timeout"]) == (
        *("60s", "3600s", "2s", "6s"),
    )
    assert child["rekey_time"] == "30s"
    assert (made["remote_addrs"], made["remote_port"]) == (["2001:db8::2"], "4501")
    assert connection(replace(PSK, families=(4,)))["vips"] == ["0.0.0.0"]
    assert connection(replace(PSK, families=(6,)))["vips"] == ["::"]


def test_ikev1() -> None:
    """A CHILD SA for each network (RFC 2409), the IPv6 one from the IPv6 address."""
    spec = replace(PSK, version=IkeVersion.V1, aggressive=True)
    made = connection(spec)

    assert (made["version"], made["aggressive"]) == ("1", "yes")
    assert tuple(made["children"]) == children_of(spec)
    assert [(child["remote_ts"], child.get("local_ts")) for child in made["children"].values()] == [
        (["0.0.0.0/0"], None),
        (["::/0"], ["::/0"]),
    ]


def test_interface() -> None:
    """Where the kernel does ESP: by our XFRM interface, marked as ours."""
    child = connection(PSK, 0x616F0001)["children"][name_of(PSK)]
    assert child == {
        **CHILD,
        "if_id_in": str(0x616F0001),
        "if_id_out": str(0x616F0001),
        "set_mark_out": f"{names.FWMARK:#x}/{names.FWMARK_MASK:#x}",
    }


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({"mtu": 1300, "dns": (ip_address("10.0.0.1"),)}, True),
        ({"name": "elsewhere"}, False),
        ({"endpoint": Endpoint(ip_address("203.0.113.9"), 4500)}, False),
        ({"rounds": (Round(Method.PSK, "laptop.example.com", secret=Secret("other")),)}, False),
        ({"server": Server(Method.PSK, "other.example.com")}, False),
        ({"networks": (ip_network("10.0.0.0/8"),)}, False),
        ({"timing": Timing(dpd_s=11)}, False),
    ],
)
def test_names(other: dict[str, Any], *, same: bool) -> None:
    """Another name, by which charon is told anew, for whatever it would be told otherwise; it holds no secret."""
    assert (name_of(replace(PSK, **other)) == name_of(PSK)) == same
    assert SECRET.value not in name_of(PSK)


def test_secrets_stay_where_they_belong() -> None:
    """In requests that are for secrets, and nowhere else: not in connections, settings, or what Python prints."""
    spec = replace(
        PSK,
        rounds=(
            Round(Method.CERTIFICATE, credential=replace(OURS, key=Secret("KEYKEYKEY"))),
            Round(Method.EAP_TTLS, user="alice", secret=Secret("PWPWPW")),
        ),
        ppk=Ppk("ppk1", Secret("PPKPPK")),
    )
    hidden = ("KEYKEYKEY", "PWPWPW", "PPKPPK")

    assert [word for word in hidden if word in str(connection(spec))] == []
    assert [word for word in hidden if word in repr(spec)] == []
    assert [word for word in hidden if word in settings("aovpn0", PLACE, kernel=False)] == []
    assert {command for command, message in told(spec) if any(word in str(message) for word in hidden)} == {
        *("load-key", "load-shared")
    }


@pytest.mark.parametrize("text", ["plain text", "0x00ff", "0sAAAA", "ünïcode", " spaces "])
def test_a_secret_is_taken_as_it_is(text: str) -> None:
    """aovpnd-ike(5): 0x and 0s before it mean nothing."""
    spec = replace(PSK, rounds=(Round(Method.PSK, secret=Secret(text)),))
    assert told(spec)[0][1]["data"] == text


def test_name_is_read_back() -> None:
    """Also that of a gateway whose name was not found yet: such a link is configured, and only has nowhere to go."""
    nowhere = replace(PSK, endpoint=None)
    there = _CONNECTION.fullmatch(name_of(PSK))
    assert there is not None
    assert there.groups() == (PSK.digest(), "203.0.113.2", "4500")
    assert connection(nowhere)["remote_addrs"] == []
    without = _CONNECTION.fullmatch(name_of(nowhere))
    assert without is not None
    assert without.groups() == (PSK.digest(), None, None)

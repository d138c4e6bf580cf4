# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of a tunnel is said in the words of its own file: an IKE tunnel has no AllowedIPs and no [Interface]."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, Final

import pytest

from aovpnd import destinations
from aovpnd.core.answers import answer
from aovpnd.core.decide import decide
from aovpnd.core.picture import Picture
from aovpnd.core.plan import diff
from aovpnd.gateways import Gateways, Left, Why
from aovpnd.ipsec import IPsec, Method, Round, Server, TunnelSpec
from aovpnd.model import Config, Intent, Problem
from aovpnd.orders import EnsureTunnel, Explain
from aovpnd.tunnel import Endpoint, Secret, Written
from tests.unit.small_world import WORK
from tests.unit.test_decide import HOME_NET
from tests.unit.world import Laptop

GATEWAY: Final = Endpoint(ip_address("203.0.113.2"), 4500)
FILE: Final = "/etc/aovpnd/tunnels/office.toml"
OFFICE: Final = IPsec(
    "office",
    FILE,
    gateways=(GATEWAY,),
    rounds=(Round(Method.PSK, secret=Secret("psk")),),
    server=Server(Method.PSK, "vpn.example.com"),
    networks=(ip_network("10.0.0.0/8"), ip_network("fd00::/8")),
    addresses=(ip_interface("10.8.0.2/32"), ip_interface("fd00::2/128")),
    written=(
        Written("gateways", "203.0.113.2", 2),
        Written("networks", "10.0.0.0/8", 9),
        Written("dns", "10.8.0.1", 10),
    ),
)
NARROW: Final = replace(WORK, peers=(replace(WORK.peers[0], allowed=(ip_network("10.0.0.0/8"),)),))
OTHERS_WORDS: Final = {
    "wireguard": ("networks =", "[tunnel]", "gateways"),
    "ike": ("AllowedIPs", "[Interface]", "Endpoint", "WireGuard", "DNS ="),
}


def problems(spec: TunnelSpec, intent: Intent = Intent(), **changed: Any) -> dict[str, Problem]:  # noqa: B008 - frozen
    """What is wrong, by its codes."""
    other = replace(WORK, name="other")
    desired = decide(Config((spec, other), prefer=(spec.name, "other")), intent, replace(HOME_NET, **changed))
    return {problem.code: problem for problem in desired.problems}


def explained(spec: TunnelSpec, to: str) -> dict[str, Any]:
    """What becomes of a packet while the tunnel is not up."""
    machine = Laptop(Config((spec,)), fails={EnsureTunnel})
    machine.join("home")
    desired = machine.settle()
    seen = Picture(machine.config, machine.intent, machine.snapshot, desired, diff(desired, machine.snapshot))
    return dict(answer(Explain(destinations.parse(to)), seen).data or {})


@pytest.mark.parametrize(("spec", "kind"), [(NARROW, "wireguard"), (OFFICE, "ike")])
def test_narrow(spec: TunnelSpec, kind: str) -> None:
    """How it would carry everything."""
    words = {"wireguard": "AllowedIPs = 0.0.0.0/0, ::/0 sends", "ike": 'networks = ["0.0.0.0/0", "::/0"] sends'}
    assert problems(spec)["tunnel-is-narrow"].hint.startswith(words[kind])
    assert words[kind] in explained(spec, "198.51.100.1")["hint"]


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        (replace(NARROW, dns=()), "add a line DNS = ADDRESS to the [Interface] section of its file"),
        (OFFICE, "its gateway gives none either: add dns to the [tunnel] section of its file"),
    ],
    ids=["wireguard", "ike"],
)
def test_no_resolvers(spec: TunnelSpec, hint: str) -> None:
    """Where to add one."""
    found = problems(spec, resolvers=(ip_address("192.168.1.1"),))
    assert found["no-dns"].hint == hint


@pytest.mark.parametrize(("spec", "where"), [(NARROW, "AllowedIPs"), (OFFICE, "networks")], ids=["wireguard", "ike"])
def test_resolvers_outside(spec: TunnelSpec, where: str) -> None:
    """Where to let them in."""
    found = problems(replace(spec, dns=(ip_address("9.9.9.9"),)))
    assert found["dns-outside"].hint == f"add them to {where}, or correct the DNS servers in its file"


@pytest.mark.parametrize(("spec", "kind"), [(NARROW, "wireguard"), (OFFICE, "ike")])
def test_left(spec: TunnelSpec, kind: str) -> None:
    """Why it may be silent: WireGuard answers no stranger, charon does."""
    intent = Intent(gateways=Gateways("other", (Left(spec.name, Why.SILENT, 0, 0),)))
    hint = problems(spec, intent)["gateway-silent"].hint

    assert ("WireGuard answers" in hint) == (kind == "wireguard")
    assert "filters UDP" in hint
    assert hint.endswith("; it is tried again by itself")


def test_where_it_is_written() -> None:
    """The lines of the IKE tunnel's file: of the network, of the gateway."""
    networks = [{"file": FILE, "line": 9, "key": "networks", "value": "10.0.0.0/8"}]
    gateways = [{"file": FILE, "line": 2, "key": "gateways", "value": "203.0.113.2"}]

    assert explained(OFFICE, "198.51.100.1")["origins"] == networks
    assert explained(replace(OFFICE, endpoint=GATEWAY), "203.0.113.2")["origins"] == gateways


@pytest.mark.parametrize(("spec", "kind"), [(NARROW, "wireguard"), (OFFICE, "ike")])
def test_no_words_of_the_other_kind(spec: TunnelSpec, kind: str) -> None:
    """In nothing that is said while it is as it is here."""
    intent = Intent(gateways=Gateways(spec.name, (Left(spec.name, Why.SILENT, 0, 0),)))
    outside = replace(spec, dns=(ip_address("9.9.9.9"),))
    told = [
        p for each in (spec, outside) for p in problems(each, intent, resolvers=(ip_address("192.168.1.1"),)).values()
    ]
    said = " ".join(f"{problem.text} {problem.hint}" for problem in told)
    said += " ".join(str(explained(spec, to)) for to in ("198.51.100.1", "10.1.1.1", "203.0.113.2", "192.168.1.9"))

    assert [word for word in OTHERS_WORDS[kind] if word in said] == []

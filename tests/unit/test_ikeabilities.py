# SPDX-License-Identifier: GPL-3.0-or-later
"""What the charon that is installed cannot do is told before anything is tried (backends/ikeabilities.py)."""

from dataclasses import replace
from ipaddress import ip_address
from typing import Final

import pytest

from aovpnd.backends.ikeabilities import missing, without_proposals
from aovpnd.ipsec import Credential, IPsec, Method, Round, Server, Token
from aovpnd.tunnel import Endpoint, Secret

PSK: Final = IPsec(
    "office",
    "office.toml",
    gateways=(Endpoint(ip_address("203.0.113.2"), 4500),),
    rounds=(Round(Method.PSK, secret=Secret("x")),),
    server=Server(Method.PSK, "vpn.example.com"),
)
OLD: Final = frozenset({"ECP_256", "CURVE_25519"})


@pytest.mark.parametrize(
    ("key", "plugin"), [(Token("beef", "/usr/lib/x.so"), "pkcs11"), (Token("81010001"), "tpm")], ids=["token", "tpm"]
)
def test_a_plugin_for_tokens(key: Token, plugin: str) -> None:
    """It is missed before the token is, and only where there is one."""
    spec = replace(PSK, rounds=(Round(Method.CERTIFICATE, credential=Credential(("PEM",), key)),))
    said = missing(spec, frozenset({"pkcs11", "tpm"} - {plugin}), lambda: OLD)

    assert said is not None
    assert (said.code, said.text) == ("ike-plugin-missing", f"charon has no plugin {plugin}")
    assert "libstrongswan-extra-plugins" in said.hint
    assert missing(spec, frozenset({plugin}), lambda: OLD) is None
    assert missing(PSK, frozenset(), lambda: OLD) is None


@pytest.mark.parametrize(
    "given",
    [
        replace(PSK, proposals=("aes256-sha256-x25519", "aes256gcm16-prfsha384-x25519-ke1_mlkem768")),
        replace(PSK, proposals=("aes256gcm16-prfsha384-mlkem768",)),
        replace(PSK, esp_proposals=("aes256gcm16-x25519-ke1_mlkem768",)),
    ],
    ids=["beside", "alone", "esp"],
)
def test_ml_kem(given: IPsec) -> None:
    """One of several proposals is enough; each size is a key exchange of its own."""
    said = missing(given, frozenset(), lambda: OLD | {"ML_KEM_512"})

    assert said is not None
    assert (said.code, said.text) == ("ike-algorithm-missing", "charon has no mlkem768")
    assert missing(given, frozenset(), lambda: OLD | {"ML_KEM_768"}) is None


def test_without_proposals() -> None:
    """They are taken out of the connection and its children, and of nothing else."""
    told = {
        "home": {"version": "2", "proposals": ["x"], "children": {"net": {"esp_proposals": ["y"], "mode": "tunnel"}}}
    }

    stripped = {"home": {"version": "2", "children": {"net": {"mode": "tunnel"}}}}
    assert without_proposals("load-conn", told) == ("load-conn", stripped)
    assert without_proposals("load-key", told) == ("load-key", told)

# SPDX-License-Identifier: GPL-3.0-or-later
"""How charon is told of keys in tokens (backends/iketokens.py), and how often a token is asked."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

from aovpnd.backends import iketokens
from aovpnd.backends.ikememory import Memory
from aovpnd.errors import ToolError
from aovpnd.ipsec import Credential, IPsec, Method, Round, Server, Token
from aovpnd.tunnel import Endpoint, Secret

if TYPE_CHECKING:
    from aovpnd.backends.vici import Charon

KEY: Final = Token("0b", "/usr/lib/x.so", pin=Secret("1234"))
SPEC: Final = IPsec(
    "office",
    "office.toml",
    gateways=(Endpoint(ip_address("203.0.113.2"), 4500),),
    rounds=(Round(Method.CERTIFICATE, credential=Credential(("PEM",), KEY)),),
    server=Server(Method.PSK, "vpn.example.com"),
)
REFUSES: Final = "09[CFG] login to 'token1':0 failed: PIN_INCORRECT\n"
ABSENT: Final = "09[CFG] no PKCS#11 module found having a keyid 0b\n"


@dataclass(slots=True)
class FakeCharon:
    """A charon with a token, or without; as much of it as is asked."""

    token: bool = False
    takes: bool = True
    asked: int = 0
    told: list[str] = field(default_factory=list)

    def load(self, requests: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """As `Charon.load`."""
        self.told = [command for command, _ in requests]
        self.asked += "load-token" in self.told
        if not self.takes or ("load-token" in self.told and not self.token):
            raise ToolError("charon refuses: loading private key from token failed")


def load(charon: FakeCharon, memory: Memory, log: str = "", spec: IPsec = SPEC) -> None:
    """Tell charon what ``spec`` is."""
    told: list[tuple[str, Mapping[str, Any]]] = [("load-conn", {})]
    if spec.rounds[0].credential is not None:
        told.insert(0, ("load-token", {}))
    iketokens.load(spec, cast("Charon", charon), memory, lambda: told, lambda: log)


def test_a_token_is_found_as_soon_as_it_is_there() -> None:
    """Without it charon knows all the rest, and status says what is missing; it is asked for again each time."""
    charon, memory = FakeCharon(), Memory()
    load(charon, memory, ABSENT)
    assert (charon.told, iketokens.lacking(SPEC, memory)) == (["load-conn"], iketokens.MISSING)

    load(charon, memory, ABSENT)
    charon.token = True
    load(charon, memory, ABSENT)
    assert (charon.told, charon.asked, iketokens.lacking(SPEC, memory)) == (["load-token", "load-conn"], 3, None)


def test_a_refused_pin_is_shown_once() -> None:
    """However often charon is told; another PIN is another tunnel, and is shown."""
    charon, memory = FakeCharon(), Memory()
    for _ in range(5):
        load(charon, memory, REFUSES)
    assert (charon.asked, charon.told) == (1, ["load-conn"])
    assert iketokens.lacking(SPEC, memory) is iketokens.PIN_REFUSED

    key = replace(KEY, pin=Secret("4321"))
    other = replace(SPEC, rounds=(Round(Method.CERTIFICATE, credential=Credential(("PEM",), key)),))
    assert iketokens.lacking(other, memory) is None
    charon.token = True
    load(charon, memory, spec=other)
    assert (charon.asked, iketokens.lacking(other, memory)) == (2, None)


def test_what_has_no_token_fails_as_it_does() -> None:
    """It is told once; and so is a tunnel with a token of which charon takes nothing."""
    charon = FakeCharon(takes=False)
    for spec in (replace(SPEC, rounds=(Round(Method.PSK, secret=Secret("x")),)), SPEC):
        with pytest.raises(ToolError):
            load(charon, Memory(), spec=spec)

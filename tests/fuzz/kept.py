# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that the program keeps for itself, when disks, crashes or people have been at them: STATE and RUNTIME."""

import json
import math
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from aovpnd.adapters import dns_file, publish, resolvers
from aovpnd.adapters.state import ADDRESSES_FILE, BUDGET_FILE, MOST_ADDRESSES, MOST_HOSTS, State
from aovpnd.backends import ikegiven
from aovpnd.clock import Clock
from aovpnd.core import intent as memory
from aovpnd.core.decide import decide
from aovpnd.dns import Dns
from aovpnd.ipsec import Lease
from aovpnd.model import Config, Intent
from aovpnd.names import PATH_FILE, RESOLV_CONF_MARK, REST_FILE
from aovpnd.orders import AllowTemporary, CancelTemporary, Refusal
from aovpnd.resolvconf import LARGEST, ResolvConf
from aovpnd.tunnel import unfit
from tests.fuzz import judge
from tests.fuzz.mutate import Mutator
from tests.fuzz.places import place, put
from tests.fuzz.target import Target
from tests.unit.small_world import BASES, Situation

NOW: Final = Clock(90_000.0, 1_700_000_000.0)
_WORLD: Final = Situation("no tunnel", BASES[0].lan, "none", "private", "absent", "none", "none", "none").world()
_SNAPSHOT: Final = _WORLD.snapshot


# -- the budget -------------------------------------------------------------------------------------------------------
def _budget(case: Any) -> str:
    """Whatever the file says: no more than three windows an hour, and what cannot be read counts as used up."""
    content = case if isinstance(case, bytes) else json.dumps(case).encode()
    base = place("state")
    put(base / BUDGET_FILE, content)
    put(base / ADDRESSES_FILE, None)
    intent = State(base, base).recall(NOW)
    assert all(map(math.isfinite, intent.used))
    assert len(intent.used) <= 4096
    opened = 0
    for _ in range(4):
        intent, answer = memory.update(Config(), intent, _SNAPSHOT, AllowTemporary(60))
        opened += not isinstance(answer, Refusal)
        intent = memory.update(Config(), intent, _SNAPSHOT, _CANCEL)[0]
    assert opened <= 3
    assert opened == 0 or _is_honest(content)
    decide(Config(), memory.settle(Config(), intent, _SNAPSHOT), _SNAPSHOT)
    return f"{len(intent.used)} used, {opened} more"


def _is_honest(content: bytes) -> bool:
    """Whether it is a document at all: nothing else may open anything."""
    try:
        return isinstance(json.loads(content)["grants"], list)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


_CANCEL: Final = CancelTemporary()


# -- addresses of names -----------------------------------------------------------------------------------------------
def _addresses(case: Any) -> str:
    """Whatever the file says: bounded, host names and addresses that a gateway can have."""
    content = case if isinstance(case, bytes) else json.dumps(case).encode()
    base = place("state")
    put(base / BUDGET_FILE, None)
    put(base / ADDRESSES_FILE, content)
    hosts = State(base, base).recall(NOW).hosts
    assert len(hosts) <= MOST_HOSTS
    for host in hosts:
        judge.told(host.name, longest=253)
        assert 0 < len(host.good) <= MOST_ADDRESSES
        assert all(unfit(addr) is None for addr in host.good)
    return f"{len(hosts)} hosts {sorted({len(host.good) for host in hosts})}"


# -- resolv.conf ------------------------------------------------------------------------------------------------------
_OURS: Final = Dns(9, "aovpn0", (ip_address("10.64.0.1"),))
_THEIRS: Final = "nameserver 192.168.1.1\nsearch home.arpa\noptions edns0\n"


def _resolv_conf(case: tuple[bytes, bytes | str]) -> str:
    """Whatever stands in resolv.conf and in what was kept of it: ours is put and given back, or refused."""
    there, saved = case
    base = place("resolv")
    file = ResolvConf(put(base / "resolv.conf", there, 0o644), put(base / "saved", saved))
    kept = file.kept()
    assert kept is None or len(kept.text) <= LARGEST
    users = file.users()
    found = resolvers.resolvers(users, (ip_address("10.64.0.1"),), base / "run")
    assert len(found) <= 16
    assert not any(address.is_loopback or address.is_multicast or address.is_unspecified for address in found)
    words = [str(kept.kind) if kept else "nothing kept", str(len(found))]
    try:
        file.put(dns_file.render(_OURS))
        assert file.read().startswith(RESOLV_CONF_MARK)
        file.give_back()
        assert not file.read().startswith(RESOLV_CONF_MARK) or there.startswith(RESOLV_CONF_MARK.encode())
    except OSError as error:
        words.append(type(error).__name__)
    (base / "resolv.conf").unlink(missing_ok=True)
    return " ".join(words)


def _saved(kind: str, text: str, mode: Any = 0o644) -> bytes:
    return json.dumps({"kind": kind, "text": text, "mode": mode}).encode()


def _runtime(name: str, content: bytes) -> publish.Runtime:
    """The runtime directory, as the next daemon finds it with that file."""
    runtime = object.__new__(publish.Runtime)
    runtime.directory = place("runtime")
    put(runtime.directory / name, content)
    return runtime


# -- the path that was proved ---------------------------------------------------------------------------------------
def _proved(content: bytes) -> str:
    """A fingerprint is compared and never shown; a file that is none proves nothing."""
    runtime = _runtime(PATH_FILE, content)
    proved = runtime.proved()
    assert len(proved) <= 64, "a fingerprint has 32 letters"
    intent = memory.settle(_WORLD.config, Intent(proved=proved), _SNAPSHOT)
    assert intent.provoked is None
    return "none" if not proved else "some"


# -- a rest -----------------------------------------------------------------------------------------------------------
def _rest(content: bytes) -> str:
    """A fingerprint and a number, or nothing; then the file goes. Without a tunnel no rest goes on."""
    runtime = _runtime(REST_FILE, content)
    rested = runtime.rested()
    assert (runtime.directory / REST_FILE).exists() is (rested is not None)
    assert rested is None or len(rested.path) <= 88
    intent = memory.settle(_WORLD.config, Intent(rested=rested), _SNAPSHOT)
    assert (intent.rest, intent.rested) == (None, None)
    return "none" if rested is None else "some"


def _given(content: bytes) -> str:
    """What a gateway gave, or nothing."""
    put(path := place("charon") / "kept", content)
    found = ikegiven.kept(path)
    assert found is None or found[1].lease is Lease.OVER
    return "none" if found is None else f"{len(found[1].addresses)} {len(found[1].dns)}"


_BUDGETS: Final = tuple(
    {"boot_id": boot_id, "grants": [{"boot": 89_000.0, "wall": 1_699_999_000.0}] * 2}
    for boot_id in ("x", Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
)
_ADDRESSES: Final = {"good": {"vpn.example.org": ["192.0.2.1", "2001:db8::1"], "b.example": ["192.0.2.9"]}}
_JSON: Final = (*'{}[],:"', "null", "true", "1e400", "-1e400", "NaN", "Infinity", "1e-400", "\\ud800", "boot", "wall")
_JSON_WORDS: Final = (*_JSON, '"good"', '"grants"', '"text"', '"kind"', '"mode"', "[" * 2000, '{"a":' * 1500, "9" * 400)

TARGETS: Final = (
    Target(
        "budget",
        "STATE/temporary-access.json",
        (*_BUDGETS, json.dumps(_BUDGETS[0]).encode(), b"{}", b""),
        _budget,
        Mutator(_JSON_WORDS),
        slice=400,
    ),
    Target(
        "addresses",
        "STATE/addresses.json",
        (_ADDRESSES, json.dumps(_ADDRESSES).encode(), b""),
        _addresses,
        Mutator(_JSON_WORDS),
    ),
    Target(
        "resolv-conf",
        "/etc/resolv.conf, and what was kept of it",
        (
            (_THEIRS.encode(), b""),
            ((RESOLV_CONF_MARK + _THEIRS).encode(), _saved("file", _THEIRS)),
            (b"", _saved("link", "../run/systemd/resolve/stub-resolv.conf")),
            (b"nameserver fe80::1%wlan0\nnameserver 127.0.0.53\n", _saved("absent", "")),
        ),
        _resolv_conf,
        Mutator((*_JSON_WORDS, "nameserver", "127.0.0.53", "fe80::1%x", RESOLV_CONF_MARK)),
        slice=500,
    ),
    Target("rest", "RUNTIME/rest", (b"0123456789abcdef0123456789abcdef 12345\n", b""), _rest, slice=1000),
    Target(
        "given-to-a-rest",
        "RUNTIME/charon/LINK/kept",
        (b'{"digest": "0123", "addresses": ["10.64.0.2/32", "fd64::2/128"], "dns": ["10.64.0.1"]}', b""),
        _given,
        Mutator(_JSON_WORDS),
        slice=1000,
    ),
    Target("proved-path", "RUNTIME/path", (b"0123456789abcdef0123456789abcdef", b""), _proved, slice=1000),
)

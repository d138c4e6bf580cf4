# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of gateways on disk: kept for the next start, and believed only when they can be what we wrote."""

import json
import stat
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aovpnd.adapters.clocks import clock
from aovpnd.adapters.state import ADDRESSES_FILE, BUDGET_FILE, MOST_HOSTS, State
from aovpnd.inquiries import Host
from aovpnd.model import Block

GATEWAY, OTHER = ip_address("192.0.2.1"), ip_address("2001:db8:e::1")
VPN = Host("vpn.example.org", (GATEWAY, OTHER), answered=(GATEWAY,), network="café", attempts=3, said="no")


@pytest.fixture
def state(tmp_path: Path) -> State:
    """Directories that are not there yet."""
    return State(tmp_path / "etc", tmp_path / "state")


def _write(state: State, text: str) -> None:
    state.state_dir.mkdir(exist_ok=True)
    (state.state_dir / ADDRESSES_FILE).write_text(text, encoding="utf-8")


def test_kept_and_recalled(state: State) -> None:
    """What worked comes back, and nothing of the network that it was asked in; for root alone to read."""
    state.keep_addresses((VPN, Host("never.example.org", answered=(OTHER,))))

    assert state.recall(clock()).hosts == (Host("vpn.example.org", (GATEWAY, OTHER)),)
    assert stat.S_IMODE((state.state_dir / ADDRESSES_FILE).stat().st_mode) == 0o600


def test_written_only_when_it_changes(state: State) -> None:
    """A tunnel that stays connected writes nothing; other tunnels' addresses stay."""
    state.keep_addresses((VPN,))
    before = (state.state_dir / ADDRESSES_FILE).stat().st_ino
    state.keep_addresses((VPN,))
    assert (state.state_dir / ADDRESSES_FILE).stat().st_ino == before
    state.keep_addresses((Host("b.example.org", (OTHER,)),))

    assert {host.name for host in state.recall(clock()).hosts} == {"vpn.example.org", "b.example.org"}


def test_bounded(state: State) -> None:
    """However many gateways there were, the file stays small, and the newest are in it."""
    for number in range(MOST_HOSTS + 5):
        state.keep_addresses((Host(f"vpn{number}.example.org", (GATEWAY,)),))
    kept = [host.name for host in state.recall(clock()).hosts]

    assert len(kept) == MOST_HOSTS
    assert kept[0] == f"vpn{MOST_HOSTS + 4}.example.org"


BAD = {
    "empty": "",
    "no JSON": "{",
    "another shape": "[]",
    "no list": '{"good": {"vpn.example.org": "192.0.2.1"}}',
    "no dictionary": '{"good": ["vpn.example.org"]}',
    "no address": '{"good": {"vpn.example.org": ["example"]}}',
    "a number": '{"good": {"vpn.example.org": [3221225985]}}',
    "none": '{"good": {"vpn.example.org": []}}',
    "too many": '{"good": {"vpn.example.org": ["192.0.2.1", "192.0.2.2", "192.0.2.3"]}}',
    "loopback": '{"good": {"vpn.example.org": ["127.0.0.1"]}}',
    "mapped": '{"good": {"vpn.example.org": ["::ffff:192.0.2.1"]}}',
    "a zone": '{"good": {"vpn.example.org": ["2001:db8::1%wlan0"]}}',
    "no host": '{"good": {"vpn.example.org\\n": ["192.0.2.1"]}}',
    "an address for a host": '{"good": {"192.0.2.1": ["192.0.2.1"]}}',
    "deep": '{"good":' + "[" * 60000,
    "too many hosts": json.dumps({"good": {f"a{n}.example.org": ["192.0.2.1"] for n in range(MOST_HOSTS + 1)}}),
}


@pytest.mark.parametrize("name", BAD)
def test_hostile_file(state: State, name: str) -> None:
    """A file that is not just as we write it is as good as none; it can be written over."""
    _write(state, BAD[name])

    assert state.recall(clock()).hosts == ()
    assert state.recall(clock()).block is Block.ON
    state.keep_addresses((VPN,))
    assert state.recall(clock()).hosts == (Host("vpn.example.org", (GATEWAY, OTHER)),)


@given(st.text())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text(state: State, text: str) -> None:
    """Whatever stands there, the daemon starts."""
    _write(state, "".join(letter for letter in text if not 0xD800 <= ord(letter) < 0xE000))

    assert state.recall(clock()).hosts == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{broken",
        "[]",
        "null",
        '{"grants": []}',
        '{"boot_id": 1}',
        '{"boot_id": "x", "grants": 3}',
        '{"boot_id": "x", "grants": [{"boot": 1}]}',
        '{"boot_id": "", "grants": [{"boot": "x"}]}',
    ],
)
def test_damaged_budget_is_used_up(state: State, text: str) -> None:
    """Whoever damages the file gets no window for it, and it is known to be unread; without one there was none yet."""
    now = clock()
    assert (state.recall(now).used, state.recall(now).unread_at) == ((), None)
    state.state_dir.mkdir(exist_ok=True)
    (state.state_dir / BUDGET_FILE).write_text(text, encoding="utf-8")

    assert (state.recall(now).used, state.recall(now).unread_at) == ((now.boot,) * 3, now.boot)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The network's resolvers: resolv.conf(5) as it is found in the wild, and what network managers write down."""

from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aovpnd.adapters.resolvers import NETWORK_MANAGER, NETWORKD, UPSTREAM, parse, resolvers

STUB = "nameserver 127.0.0.53\n"


def write(run: Path, name: str, text: str) -> None:
    """A file below a /run."""
    path = run / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nameserver 192.0.2.1\nnameserver 2001:db8::1\n", ("192.0.2.1", "2001:db8::1")),
        ("# nameserver 192.0.2.9\n; nameserver 192.0.2.8\nsearch nameserver\noptions ndots:1\n", ()),
        ("  nameserver\t192.0.2.1 # the router\n", ("192.0.2.1",)),
        ("nameserver fe80::1%wlan0\n", ("fe80::1",)),
        ("nameserver\nnameserver example.net\nnameserver 192.0.2.300\nnameserver 192.0.2.1", ("192.0.2.1",)),
        ("Nameserver 192.0.2.1\n", ()),
        ("", ()),
    ],
)
def test_lines(text: str, expected: tuple[str, ...]) -> None:
    """What resolv.conf(5) calls a nameserver, and nothing else."""
    assert parse(text) == tuple(map(ip_address, expected))


def test_stub_leads_to_the_real_ones(tmp_path: Path) -> None:
    """systemd-resolved's stub is on this host: the network's resolvers are in its list of all, without ours."""
    write(tmp_path, UPSTREAM, "nameserver 10.64.0.1\nnameserver 192.0.2.1\nnameserver 192.0.2.1\nnameserver fd64::1\n")

    found = resolvers(STUB, (ip_address("10.64.0.1"), ip_address("fd64::1")), tmp_path)

    assert found == (ip_address("192.0.2.1"),)


def test_network_managers_know_better(tmp_path: Path) -> None:
    """Where a network manager wrote down what its lease gave, that counts, also when the tunnel's server has the same
    address.
    """
    same = ip_address("192.0.2.1")
    write(tmp_path, UPSTREAM, "nameserver 192.0.2.9\nnameserver 192.0.2.1\n")
    write(tmp_path, f"{NETWORKD}/10", "# private\nADMIN_STATE=configured\nDNS=192.0.2.7\n")
    write(tmp_path, f"{NETWORKD}/2", "DNS=192.0.2.1 fe80::1%wlan0 9.9.9.9#dns.example nonsense\nNTP=192.0.2.5\n")
    write(tmp_path, f"{NETWORKD}/.2.new", "DNS=192.0.2.66\n")

    found = resolvers(STUB, (same,), tmp_path)

    assert found == tuple(map(ip_address, ("192.0.2.1", "fe80::1", "9.9.9.9", "192.0.2.7")))
    write(tmp_path, NETWORK_MANAGER, "nameserver 192.0.2.3\n")
    assert resolvers(STUB, (same,), tmp_path) == (*found, ip_address("192.0.2.3"))


def test_other_stub_hides_them(tmp_path: Path) -> None:
    """Behind a local resolver of another kind they are not known."""
    assert resolvers("nameserver ::1\n", (), tmp_path / "missing") == ()


def test_what_is_no_resolver(tmp_path: Path) -> None:
    """Unspecified and multicast addresses are left out, and a mischievously long list is cut."""
    many = "".join(f"nameserver 192.0.2.{number}\n" for number in range(200))

    found = resolvers("nameserver 0.0.0.0\nnameserver ff02::1\nnameserver ::\n" + many, (), tmp_path)

    assert found == tuple(ip_address(f"192.0.2.{number}") for number in range(16))


@given(st.text(max_size=300) | st.from_regex(r"(nameserver [0-9a-f:.%]{1,20}\n){1,5}"), st.binary(max_size=300))
def test_no_text_does_harm(tmp_path_factory: pytest.TempPathFactory, text: str, data: bytes) -> None:
    """It never fails, and never names a resolver of this host."""
    run = tmp_path_factory.getbasetemp() / "run"
    write(run, f"{NETWORKD}/2", "")
    (run / NETWORKD / "2").write_bytes(b"DNS=" + data)

    assert not any(address.is_loopback for address in resolvers(text + STUB, (), run))

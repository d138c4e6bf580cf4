# SPDX-License-Identifier: GPL-3.0-or-later
"""resolv.conf(5) as it is found in the wild, and as nobody should write it."""

from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aovpnd.adapters.resolvers import parse, resolvers


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
    """systemd-resolved's stub is on this host: the network's resolvers are in the other file."""
    ours, upstream = tmp_path / "ours", tmp_path / "upstream"
    ours.write_text("nameserver 127.0.0.53\n", encoding="utf-8")
    upstream.write_text("nameserver 192.0.2.1\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n", encoding="utf-8")

    assert resolvers(ours, upstream) == (ip_address("192.0.2.1"), ip_address("2001:db8::1"))


def test_other_stub_hides_them(tmp_path: Path) -> None:
    """Behind a local resolver of another kind they are not known."""
    ours = tmp_path / "ours"
    ours.write_text("nameserver ::1\n", encoding="utf-8")

    assert resolvers(ours, tmp_path / "missing") == ()


def test_no_file_no_resolvers(tmp_path: Path) -> None:
    """A missing file, a directory, or a link to nowhere is no error."""
    (tmp_path / "link").symlink_to("nowhere")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "link"):
        assert resolvers(path, path) == ()


def test_what_is_no_resolver(tmp_path: Path) -> None:
    """Unspecified and multicast addresses are left out, and a mischievously long list is cut."""
    ours = tmp_path / "ours"
    many = "".join(f"nameserver 192.0.2.{number}\n" for number in range(200))
    ours.write_text("nameserver 0.0.0.0\nnameserver ff02::1\nnameserver ::\n" + many, encoding="utf-8")

    assert resolvers(ours, ours) == tuple(ip_address(f"192.0.2.{number}") for number in range(16))


@given(st.binary(max_size=300))
def test_no_bytes_do_harm(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """It never fails."""
    path = tmp_path_factory.getbasetemp() / "resolv.conf"
    path.write_bytes(data)

    resolvers(path, path)

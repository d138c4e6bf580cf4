# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of tunnels: how they are written, which of several layers wins, and that one which cannot be read is never no
filter.
"""

from ipaddress import ip_network
from pathlib import Path
from typing import Final

import pytest

from aovpnd.filters import Direction, Filter
from aovpnd.model import Config, Origin, Severity
from aovpnd.ruleset import L4, Ports
from tests.unit.test_config_settings import Files
from tests.unit.test_config_tunnels import SMALLEST

HTTPS: Final = '[[filter]]\ntunnel = "work"\naddresses = "10.0.0.0/8"\nprotocol = "tcp"\nports = [443, "8000-8100"]\n'
MADE: Final = Filter(Direction.OUT, (ip_network("10.0.0.0/8"),), (L4.TCP,), (443, Ports(8000, 8100)))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Two tunnels, and no setting."""
    made = Files(tmp_path)
    for name in ("home", "work"):
        made.write(f"etc/tunnels/{name}.conf", SMALLEST).chmod(0o600)
    return made


def used(found: Config) -> list[str]:
    """The tunnels that may carry anything."""
    return [spec.name for spec in found.tunnels]


def test_a_filter_is_read(files: Files) -> None:
    """It reaches its tunnel, typed, with where it stands; other tunnels stay without any."""
    files.write("etc/aovpnd.toml", f"[lan]\nallow = true\n{HTTPS}")
    found = files.load()

    assert (found.problems, found.broken, used(found)) == ((), frozenset(), ["home", "work"])
    assert (found.filters_of("work"), found.filters_of("home")) == ((MADE,), ())
    where = Origin("filter.work", "out tcp 10.0.0.0/8 port 443, 8000-8100", f"{files.etc}/aovpnd.toml", 3)
    assert where in found.origins
    assert "filter.work" not in found.locked


def test_every_form(files: Files) -> None:
    """One value or a list; what overlaps or touches is joined, for nft takes no set in which something is twice."""
    files.write(
        "etc/aovpnd.toml",
        '[[filter]]\ntunnel = ["work", "home"]\ndirection = "in"\nprotocol = ["tcp", "udp"]\n'
        'ports = ["20-25", 22, "26", 80, "70-75", "75-79", 82]\n'
        '[[filter]]\ntunnel = "work"\naddresses = ["10.1.0.0/16", "0.0.0.0/0", "fd00::6/127", "fd00::7"]\n'
        '[[filter]]\ntunnel = "work"\nprotocol = ["icmp", "icmpv6"]\n',
    )
    found = files.load()

    assert found.problems == ()
    knock = Filter(Direction.IN, (), (L4.TCP, L4.UDP), (Ports(20, 26), Ports(70, 80), 82))
    assert found.filters_of("home") == (knock,)
    everybody = Filter(Direction.OUT, (ip_network("0.0.0.0/0"), ip_network("fd00::6/127")))
    assert found.filters_of("work") == (knock, everybody, Filter(Direction.OUT, (), (L4.ICMP, L4.ICMPV6)))


def test_layers(files: Files) -> None:
    """Of several files with filters for a tunnel the strongest says all of them; a policy locks them; a file that has
    none for a tunnel leaves it alone.
    """
    files.write("etc/aovpnd.toml", HTTPS + HTTPS.replace("10.", "11."))
    files.write("etc/conf.d/a.toml", HTTPS.replace("10.", "12."))
    files.write("etc/conf.d/b.toml", HTTPS.replace("work", "home"))
    assert [each.addresses for each in files.load().filters_of("work")] == [(ip_network("12.0.0.0/8"),)]

    files.write("etc/policy.d/p.toml", HTTPS.replace("10.", "13."))
    found = files.load()

    assert [each.addresses for each in found.filters_of("work")] == [(ip_network("13.0.0.0/8"),)]
    assert found.filters_of("home") == (MADE,)
    assert found.locked == {"filter.work"}
    assert found.problems == ()


T: Final = '[[filter]]\ntunnel = "work"\n'
_SEVERAL: Final = "write [[filter]] on a line of its own"
_PORT: Final = 'write it like ports = [443, "8000-8100"]'
WRONG: Final = {
    "no tunnel": ('[[filter]]\nprotocol = "tcp"\n', 1, "filter.tunnel: is missing"),
    "tunnel": ('[[filter]]\ntunnel = "a b"\nprotocol = "tcp"\n', 2, "filter.tunnel: 'a b' is no tunnel name"),
    "no tunnels": ('[[filter]]\ntunnel = []\nprotocol = "tcp"\n', 2, "filter.tunnel: an empty list names nothing"),
    "everything": (T, 1, "filter.addresses: is missing: it would name everything (addresses = "),
    "direction": (f'{T}direction = "both"\n', 3, 'filter.direction: \'both\' is no direction (write "out" or "in")'),
    "address": (f'{T}addresses = "vpn.example"\n', 3, "filter.addresses: 'vpn.example' is no network"),
    "zone": (f'{T}addresses = "fe80::1%wlan0"\n', 3, "filter.addresses: 'fe80::1%wlan0' is no network"),
    "netmask": (f'{T}addresses = "10.0.0.0/255.0.0.0"\n', 3, "filter.addresses: '10.0.0.0/255.0.0.0' is no network"),
    "host bits": (f'{T}addresses = "10.0.0.7/8"\n', 3, "has bits behind its prefix (write 10.0.0.0/8 for the network"),
    "no addresses": (f"{T}addresses = []\n", 3, "filter.addresses: an empty list names nothing"),
    "number": (f"{T}addresses = 7\n", 3, "filter.addresses: must be a text, not a number"),
    "protocol": (f'{T}protocol = "http"\n', 3, "'http' is no protocol that a filter can name (there are: tcp, udp, "),
    "portless": (f'{T}protocol = "icmp"\nports = 53\n', 3, "filter.protocol: only TCP and UDP have ports"),
    "ports alone": (f'{T}addresses = "10.0.0.0/8"\nports = 53\n', 1, "filter.protocol: only TCP and UDP have ports"),
    "family": (f'{T}addresses = "10.0.0.0/8"\nprotocol = "icmpv6"\n', 4, "none of the addresses has that protocol"),
    "other family": (f'{T}addresses = "fd00::/8"\nprotocol = ["tcp", "icmp"]\n', 4, "icmp is of IPv4, icmpv6 of IPv6"),
    "port 0": (f'{T}protocol = "tcp"\nports = 0\n', 4, f"filter.ports: 0 is out of range ({_PORT})"),
    "port yes": (f'{T}protocol = "tcp"\nports = true\n', 4, "filter.ports: must be a whole number, not true or false"),
    "port float": (f'{T}protocol = "tcp"\nports = 1.5\n', 4, f"filter.ports: must be ports, not a number ({_PORT})"),
    "port text": (f'{T}protocol = "tcp"\nports = "http"\n', 4, f"filter.ports: must be ports, not 'http' ({_PORT})"),
    "backwards": (f'{T}protocol = "tcp"\nports = "90-80"\n', 4, "'90-80' is no range of ports from 1 to 65535"),
    "too high": (f'{T}protocol = "tcp"\nports = "1-65536"\n', 4, "'1-65536' is no range of ports from 1 to 65535"),
    "twice": (f'{T}protocol = "tcp"\nports = [80, 80]\n', 4, "something stands twice in the list"),
    "many": (f'{T}protocol = "tcp"\nports = {[*range(1, 66)]}\n', 4, "a list of 65 is too long"),
    "key": (f'{T}adresses = "10.0.0.0/8"\n', 3, "'adresses' is no key of [[filter]] (did you mean addresses?)"),
    "strange key": (f"{T}policy = 1\n", 3, "(there are: tunnel, direction, addresses, protocol, ports)"),
    "key of a key": (f"{T}ports.first = 1\n", 3, "'ports.first' is no key of [[filter]]"),
    "one table": ('[filter]\ntunnel = "work"\n', 1, f"filter: is a list of tables ({_SEVERAL})"),
    "named table": ("[filter.work]\n", 1, f"filter: is a list of tables ({_SEVERAL})"),
    "inline": ('filter = [{tunnel = "work"}]\n', 1, f"filter: is a list of tables ({_SEVERAL})"),
    "a value": ("filter = false\n", 1, f"filter: is a list of tables ({_SEVERAL})"),
    "too many": (HTTPS * 65, 321, "filter: there are more than 64"),
}
"""What is wrong: the line where it is, and what is said of it."""


@pytest.mark.parametrize("name", WRONG)
def test_a_filter_that_cannot_be_read_is_never_no_filter(files: Files, name: str) -> None:
    """It is told with file, line and key; and until it is mended, no tunnel is used."""
    text, line, said = WRONG[name]
    files.write("etc/conf.d/f.toml", text)
    found = files.load()

    assert f"etc/conf.d/f.toml:{line}: " in files.check()[0]
    assert said in files.check()[0]
    assert files.check("etc/conf.d/f.toml")[:1] == files.check()[:1]
    assert used(found) == []
    assert found.broken == {"home", "work"}
    shut = [problem for problem in found.problems if problem.code == "filters-unread"]
    assert [problem.severity for problem in shut] == [Severity.ERROR] * 2
    assert shut[0].text.startswith("tunnel home: it is not used, because it has no filter")


def test_a_filter_that_can_no_longer_be_read(files: Files) -> None:
    """The tunnel keeps its last good filters; one that had none may have got one, and is not used."""
    files.write("etc/policy.d/p.toml", HTTPS)
    good = files.load()
    files.write("etc/policy.d/p.toml", HTTPS.replace("tcp", "tpc"))
    found = files.load(good)

    assert used(found) == ["work"]
    assert found.broken == {"home"}
    assert found.filters == good.filters
    assert found.locked == good.locked
    assert found.origins == good.origins
    assert files.load(found).filters == good.filters
    assert used(files.load()) == []

    files.write("etc/policy.d/p.toml", HTTPS)
    assert files.load(found) == good


UNREADABLE: Final = {
    "no TOML": ("etc/aovpnd.toml", f"{HTTPS}]", True),
    "escaped": ("etc/aovpnd.toml", '[["\\u0066ilter"]]\ntunnel = work\n', True),
    "another name": ("etc/aovpnd.toml", HTTPS.replace("filter", "rule"), True),
    "nearly the name": ("etc/aovpnd.toml", '[fliter]\ntunnel = "work"\n', True),
    "no name": ("etc/aovpnd.toml", 'tunnel.work.protocol = "tcp"\n', True),
    "nearly, and no TOML": ("etc/aovpnd.toml", '[filtre\ntunnel = "work"\n', True),
    "another name, and no TOML": ("etc/aovpnd.toml", "[[rule]]\ntunnel = work\n", True),
    "no name, and no TOML": ("etc/aovpnd.toml", "tunnel.work.ports = 80 90\n", True),
    "a policy as it was": ("etc/policy.d/p.toml", '[tunnel]\nprefer = "work"\nprefered = "home"\n', False),
    "in a comment": ("etc/aovpnd.toml", " # [[filter]] \\\n[lan\nallow = true\n", False),
    "behind another line": ("etc/aovpnd.toml", "[lan\r\n[[filter]]\r\n", True),
    "not of filters": ("etc/aovpnd.toml", "[lan\nallow = true\n", False),
    "another setting": ("etc/aovpnd.toml", "[lan]\nallow = 1\n", False),
    "a user's": ("state/choice.toml", HTTPS, False),
    "a user's, no TOML": ("state/choice.toml", f"{HTTPS}]", False),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_files_that_cannot_be_read(files: Files, name: str) -> None:
    """What may hold a filter shuts; what cannot hold any does not, nor what users choose, who have no filters."""
    file, text, may_hold = UNREADABLE[name]
    files.write(file, text)
    found = files.load()

    assert used(found) == ([] if may_hold else ["home", "work"])
    assert any(problem.severity is Severity.ERROR for problem in found.problems)


def test_files_that_others_can_write(files: Files) -> None:
    """Neither a file nor a directory that may not be trusted is read, and then nobody knows what is in it."""
    files.write("etc/aovpnd.toml", "[lan]\nallow = true\n").chmod(0o666)
    assert used(files.load()) == []

    (files.etc / "aovpnd.toml").chmod(0o644)
    assert used(files.load()) == ["home", "work"]
    (files.etc / "policy.d").mkdir()
    (files.etc / "policy.d").chmod(0o777)
    assert used(files.load()) == []


def test_another_broken_setting_leaves_filters_in_force(files: Files) -> None:
    """They only tighten, so they are read by themselves; the settings stay as they were."""
    files.write("etc/aovpnd.toml", "[lan]\nallow = true\n")
    good = files.load()
    files.write("etc/aovpnd.toml", f"[lan]\nallow = 1\n{HTTPS}")
    found = files.load(good)

    assert found.filters_of("work") == (MADE,)
    assert (found.lan, used(found)) == (good.lan, ["home", "work"])
    assert [origin.key for origin in found.origins if origin not in good.origins] == ["filter.work"]


def test_a_filter_for_nobody(files: Files) -> None:
    """A name that was written wrongly leaves a tunnel without its filter: those without any are not used."""
    files.write("etc/aovpnd.toml", HTTPS + HTTPS.replace("work", "hmoe"))
    found = files.load()

    assert used(found) == ["work"]
    assert found.broken == {"home"}
    hint = "there are: home, work; tunnels without a filter of their own stay closed"
    assert files.check() == [f"etc/aovpnd.toml:6: filter.tunnel: there is no tunnel called 'hmoe' ({hint})"]
    assert files.problems(found)[0] == "etc/aovpnd.toml:6: filter.tunnel: there is no tunnel called 'hmoe'"


def test_a_filter_for_a_broken_tunnel(files: Files) -> None:
    """Its file is there, so its name is known."""
    files.write("etc/aovpnd.toml", HTTPS)
    good = files.load()
    files.write("etc/tunnels/work.conf", "[Interface\n")

    assert used(files.load()) == ["home"]
    kept = files.load(good)
    assert (used(kept), kept.filters) == (["home", "work"], good.filters)
    (files.etc / "tunnels").chmod(0o777)
    assert (used(files.load(good)), files.load(good).filters) == (["home", "work"], good.filters)

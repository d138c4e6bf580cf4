# SPDX-License-Identifier: GPL-3.0-or-later
"""The setting that keeps networks out of the tunnel."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from aovpnd import config
from aovpnd.model import Origin
from tests.unit.test_config_settings import Files
from tests.unit.test_config_tunnels import SMALLEST


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Empty directories."""
    return Files(tmp_path)


def test_excluded_networks(files: Files) -> None:
    """Joined where they touch, as one value; a policy may say that there are none; and where a file cannot be read,
    they are what they were, or none.
    """
    files.write("etc/aovpnd.toml", '[exclude]\nnetworks = ["203.0.113.128/25", "2001:db8::/32", "203.0.113.0/25"]\n')
    both = tuple(map(ip_network, ("203.0.113.0/24", "2001:db8::/32")))
    first = files.load()
    assert first.exclude == both
    written = "203.0.113.128/25, 2001:db8::/32, 203.0.113.0/25"
    assert Origin("exclude.networks", written, str(files.etc / "aovpnd.toml"), 2) in first.origins

    files.write("etc/conf.d/c.toml", "nonsense")
    assert config.reload(first, files.etc, files.state, files.vendor).exclude == both
    assert files.load().exclude == ()

    (files.etc / "conf.d/c.toml").unlink()
    choice = files.write("state/choice.toml", "exclude.networks = '198.18.0.0/15'\n")
    assert any("users cannot choose this" in problem.text for problem in files.load().problems)
    choice.unlink()
    files.write("etc/policy.d/p.toml", "[exclude]\nnetworks = []\n")
    found = files.load()
    assert (found.exclude, "exclude.networks" in found.locked) == ((), True)


def test_excluded_from_one_tunnel(files: Files) -> None:
    """Of several files the strongest says all of a tunnel's; a policy on all tunnels leaves none but a policy's; and
    where a file cannot be read, they are what they were, or none.
    """
    files.write("etc/tunnels/home.conf", SMALLEST).chmod(0o600)
    files.write(
        "etc/aovpnd.toml",
        '[[exclude_from]]\ntunnel = "home"\nnetworks = ["203.0.113.128/25", "203.0.113.0/25"]\n'
        '[[exclude_from]]\ntunnel = "work"\nnetworks = "2001:db8::/32"\n',
    )
    one, other = map(ip_network, ("203.0.113.0/24", "2001:db8::/32"))
    first = files.load()
    assert (first.exclude_from, first.exclude) == ((("home", (one,)), ("work", (other,))), ())
    assert Origin("exclude_from.home", str(one), str(files.etc / "aovpnd.toml"), 1) in first.origins
    assert ["there is no tunnel called 'work'" in problem.text for problem in first.problems] == [True]
    assert len(files.check()) == 1

    nonsense = files.write("etc/conf.d/c.toml", "nonsense")
    kept = config.reload(first, files.etc, files.state, files.vendor)
    assert (kept.exclude_from, kept.origins[-2:]) == (first.exclude_from, first.origins[-2:])
    assert files.load().exclude_from == ()
    nonsense.unlink()

    choice = files.write("state/choice.toml", '[[exclude_from]]\ntunnel = "home"\nnetworks = []\n')
    assert any("users cannot choose this" in problem.text for problem in files.load().problems)
    choice.unlink()
    files.write("etc/policy.d/p.toml", '[[exclude_from]]\ntunnel = "home"\nnetworks = []\n')
    found = files.load()
    assert found.exclude_from == (("work", (other,)),)
    assert found.locked == {"exclude_from.home"}
    files.write("etc/policy.d/p.toml", "[exclude]\nnetworks = []\n")
    assert files.load().exclude_from == ()
    files.write("etc/policy.d/q.toml", '[[exclude_from]]\ntunnel = "home"\nnetworks = "198.18.0.0/15"\n')
    assert files.load().exclude_from == (("home", (ip_network("198.18.0.0/15"),)),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('tunnel = "home"', "1: exclude_from.networks: is missing"),
        ('networks = "10.0.0.0/8"', "1: exclude_from.tunnel: is missing"),
        (
            'tunnel = "home"\nnetworks = "::/0"',
            "3: exclude_from.networks: '::/0' is too much to be left out of the tunnel",
        ),
        (
            'tunnel = "home"\nnetworks = []\n[[exclude_from]]\ntunnel = "home"\nnetworks = []',
            "5: exclude_from.tunnel: 'home' is named by another table as well",
        ),
        ('tunnel = "home"\nnetwork = []', "3: 'network' is no key of [[exclude_from]] (did you mean networks?)"),
    ],
)
def test_lists_that_say_nothing(files: Files, text: str, expected: str) -> None:
    """One fault, one message, and nothing is kept out of anything."""
    files.write("etc/tunnels/home.conf", SMALLEST).chmod(0o600)
    files.write("etc/aovpnd.toml", f"[[exclude_from]]\n{text}\n")

    assert any(line.startswith(f"etc/aovpnd.toml:{expected}") for line in files.check()), files.check()
    assert files.load().exclude_from == ()


@pytest.mark.parametrize(
    ("network", "is_fit"),
    [("10.0.0.0/8", True), ("10.0.0.0/7", False), ("2001::/16", True), ("2000::/15", False), ("0.0.0.0/0", False)],
)
def test_how_much_may_be_excluded(files: Files, network: str, is_fit: bool) -> None:
    """An exception, and not the rule."""
    files.write("etc/aovpnd.toml", f"exclude.networks = '{network}'\n")
    found = files.load()

    assert found.exclude == ((ip_network(network),) if is_fit else ())
    assert (found.problems == ()) is is_fit

# SPDX-License-Identifier: GPL-3.0-or-later
"""The setting that keeps networks out of the tunnel."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from aovpnd import config
from aovpnd.model import Origin
from tests.unit.test_config_settings import Files


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

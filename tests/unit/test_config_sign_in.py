# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of sign-ins in the settings: how they are written, which of several files wins, and what is no page."""

from ipaddress import ip_address
from pathlib import Path
from typing import Final

import pytest

from aovpnd.config import check
from aovpnd.model import Origin, Severity
from aovpnd.pages import Check, Page, Scheme
from tests.unit.test_config_settings import Files
from tests.unit.test_config_tunnels import SMALLEST

WORK: Final = '[[sign_in]]\ntunnel = "work"\ncheck = "http://10.8.0.1/"\n'
PAGE: Final = Page(Scheme.HTTP, ip_address("10.8.0.1"), 80)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Two tunnels and no setting."""
    made = Files(tmp_path)
    for name in ("home", "work"):
        made.write(f"etc/tunnels/{name}.conf", SMALLEST).chmod(0o600)
    return made


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("http://10.8.0.1/", PAGE),
        ("HTTP://10.8.0.1", PAGE),
        ("https://Portal.Example.com/a?b=c", Page(Scheme.HTTPS, "portal.example.com", 443, "/a?b=c")),
        ("http://[fd00::1]:8080?x", Page(Scheme.HTTP, ip_address("fd00::1"), 8080, "/?x")),
        ("https://büro.example/", Page(Scheme.HTTPS, "xn--bro-hoa.example", 443)),
    ],
)
def test_a_check_is_read(files: Files, url: str, page: Page) -> None:
    """A page of http or https, by address or by name, and where it stands."""
    files.write("etc/aovpnd.toml", f"[lan]\nallow = true\n{WORK}".replace("http://10.8.0.1/", url))
    found = files.load()

    assert (found.problems, found.sign_in) == ((), (Check("work", page),))
    assert Origin("sign_in.work", str(page), f"{files.etc}/aovpnd.toml", 3) in found.origins
    assert "sign_in.work" not in found.locked


def test_layers(files: Files) -> None:
    """Of several files that speak of a tunnel the strongest wins; a policy locks it, users choose none."""
    files.write("etc/aovpnd.toml", WORK + WORK.replace("work", "home"))
    files.write("etc/conf.d/a.toml", WORK.replace("10.8.0.1", "10.8.0.2"))
    other = Page(Scheme.HTTP, ip_address("10.8.0.2"), 80)
    assert files.load().sign_in == (Check("home", PAGE), Check("work", other))

    files.write("etc/policy.d/p.toml", WORK)
    found = files.load()
    assert found.sign_in == (Check("home", PAGE), Check("work", PAGE))
    assert found.locked == {"sign_in.work"}

    files.write("state/choice.toml", WORK)
    assert any("users cannot choose this" in problem.text for problem in files.load().problems)


def _with(url: str) -> str:
    return f'[[sign_in]]\ntunnel = "work"\ncheck = "{url}"\n'


WRONG: Final = {
    "no tunnel": ('[[sign_in]]\ncheck = "http://10.8.0.1/"\n', 1, "sign_in.tunnel: is missing"),
    "no check": ('[[sign_in]]\ntunnel = "work"\n', 1, "sign_in.check: is missing"),
    "no name": ('[[sign_in]]\ntunnel = "a b"\ncheck = "http://10.8.0.1/"\n', 2, "'a b' is no tunnel name"),
    "twice": (WORK + WORK, 5, "sign_in.tunnel: 'work' is named by another table as well"),
    "ftp": (_with("ftp://10.8.0.1/"), 3, "sign_in.check: 'ftp://10.8.0.1/' is no URL of http or https"),
    "no scheme": (_with("10.8.0.1"), 3, "is no URL of http or https"),
    "no host": (_with("http:///x"), 3, "is no URL of http or https"),
    "port alone": (_with("http://:80/"), 3, "'' is neither a host name nor an address"),
    "relative": (_with("/x"), 3, "is no URL of http or https"),
    "blank": (_with("http://10.8.0.1/a b"), 3, "is no URL of http or https"),
    "line end": (_with("http://10.8.0.1/a\\nHost: b"), 3, "is no URL of http or https"),
    "tab": (_with("http://10.8.0.1/a\\tb"), 3, "is no URL of http or https"),
    "other script": (_with("http://10.8.0.1/ä"), 3, "has something in it that no URL has"),
    "user": (_with("http://me@10.8.0.1/"), 3, "has a user or a password in it"),
    "password": (_with("http://me:it@10.8.0.1/"), 3, "has a user or a password in it"),
    "fragment": (_with("http://10.8.0.1/#a"), 3, "has a fragment (#), which is never asked for"),
    "too long": (_with("http://10.8.0.1/" + "a/" * 256), 3, "is longer than a check may be"),
    "port": (_with("http://10.8.0.1:0/"), 3, "0 is no port"),
    "large port": (_with("http://10.8.0.1:65536/"), 3, "is no URL"),
    "brackets": (_with("http://[fd00::1/"), 3, "is no URL"),
    "zone": (_with("http://[fe80::1%25eth0]/"), 3, "is neither a host name nor an address"),
    "ourselves": (_with("http://127.0.0.1/"), 3, "'127.0.0.1' is a loopback address: no page behind a gateway"),
    "ourselves by name": (_with("http://localhost/"), 3, "'localhost' is this machine itself"),
    "old notation": (_with("http://10.1/"), 3, "'10.1' is no address"),
    "part of a name": (_with("http://portal/"), 3, "'portal' is only the first part of a name"),
    "backslash": (_with("http://10.8.0.1\\\\@b.example/"), 3, "has a user or a password in it"),
    "list": ('[[sign_in]]\ntunnel = "work"\ncheck = ["http://10.8.0.1/"]\n', 3, "must be a text, not a list"),
    "table": ('[sign_in]\ntunnel = "work"\n', 1, "sign_in: is a list of tables"),
    "misspelt": (WORK + 'chekc = "http://10.8.0.1/"\n', 4, "'chekc' is no key of [[sign_in]]"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong(files: Files, name: str) -> None:
    """File, line, key and reason, the same from the daemon and from `check`; what was good is kept."""
    text, line, reason = WRONG[name]
    files.write("etc/aovpnd.toml", WORK)
    good = files.load()
    files.write("etc/aovpnd.toml", text)
    found = files.load(good)

    texts = [problem.text for problem in found.problems]
    assert any(said.startswith(f"{files.etc}/aovpnd.toml:{line}: ") and reason in said for said in texts), texts
    assert found.sign_in == good.sign_in == (Check("work", PAGE),)
    assert Origin("sign_in.work", "http://10.8.0.1/", f"{files.etc}/aovpnd.toml", 1) in found.origins
    assert [spec.name for spec in found.tunnels] == ["home", "work"]
    assert files.load().sign_in == ()
    told = check([], files.etc, files.state, files.vendor)
    assert any(reason in finding.text and finding.severity is Severity.ERROR for finding in told)


def test_a_tunnel_that_is_not_there(files: Files) -> None:
    """A warning, from the daemon and from `check`; the rest holds."""
    files.write("etc/aovpnd.toml", WORK + WORK.replace("work", "wrok"))
    found = files.load()

    (problem,) = found.problems
    assert problem.severity is Severity.WARNING
    assert problem.text.endswith("aovpnd.toml:4: sign_in.tunnel: there is no tunnel called 'wrok'")
    assert problem.hint == "there are: home, work"
    assert len(found.sign_in) == 2
    assert [problem.text] == [finding.text for finding in check([], files.etc, files.state, files.vendor)]

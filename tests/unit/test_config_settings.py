# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings: where each value comes from, who wins, what is refused, and what holds while the files are broken."""

import re
from dataclasses import replace
from ipaddress import IPv6Address, ip_address
from pathlib import Path

import pytest

from aovpnd import config, passwd
from aovpnd.config import settings
from aovpnd.core.view import preferred
from aovpnd.doors import Openers, WhileConnected
from aovpnd.inquiries import EndpointPolicy, Pinned
from aovpnd.model import Config, Enabled, Intent, Lan, Origin, TemporaryAccessPolicy
from aovpnd.tunnel import Endpoint
from tests.unit.imports import ROOT
from tests.unit.test_config_tunnels import SMALLEST


class Files:
    """A configuration in a directory of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.etc, self.state, self.vendor = home / "etc", home / "state", home / "vendor"

    def write(self, name: str, text: str) -> Path:
        """One file, as an administrator leaves it."""
        path = self.home / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        path.chmod(0o644)
        return path

    def load(self, previous: Config | None = None) -> Config:
        """As the daemon does."""
        return config.reload(previous, self.etc, self.state, self.vendor)

    def check(self, *names: str) -> list[str]:
        """As `aovpnctl check` does, with the home directory left out."""
        found = config.check([self.home / name for name in names], self.etc, self.state, self.vendor)
        return [str(finding).replace(f"{self.home}/", "") for finding in found]

    def problems(self, found: Config) -> list[str]:
        """The texts of all problems, with the home directory left out."""
        return [problem.text.replace(f"{self.home}/", "") for problem in found.problems]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """An empty configuration, in which not even the directories exist."""
    return Files(tmp_path)


def _origins(found: Config, home: Path) -> dict[str, tuple[str, str, int | None]]:
    return {origin.key: (origin.value, origin.file.replace(f"{home}/", ""), origin.line) for origin in found.origins}


def test_nothing_is_a_configuration(files: Files) -> None:
    """Without any file there are no tunnels, no problems, and the built-in values."""
    found = files.load()

    assert found == Config(origins=found.origins)
    assert _origins(found, files.home) == {
        "tunnel.prefer": ("", "built-in", None),
        "tunnel.ethernet": ("", "built-in", None),
        "tunnel.wifi": ("", "built-in", None),
        "tunnel.mobile": ("", "built-in", None),
        "tunnel.device": ("", "built-in", None),
        "tunnel.companions": ("", "built-in", None),
        "tunnel.on_demand": ("", "built-in", None),
        "tunnel.rest_after": ("5min", "built-in", None),
        "temporary_access.enabled": ("true", "built-in", None),
        "temporary_access.duration": ("3min", "built-in", None),
        "temporary_access.max": ("1h", "built-in", None),
        "temporary_access.per_hour": ("3", "built-in", None),
        "temporary_access.while_connected": ("refuse", "built-in", None),
        "lan.allow": ("false", "built-in", None),
        "exclude.networks": ("", "built-in", None),
        "health.probe": ("", "built-in", None),
        "endpoint.resolver": ("", "built-in", None),
        "endpoint.dnssec": ("false", "built-in", None),
        "dbus.open": ("true", "built-in", None),
        "ike.allow_weak": ("false", "built-in", None),
    }
    assert config.load(files.etc, files.state, files.vendor) == found


def test_every_key_is_read(files: Files) -> None:
    """Each setting reaches its place, typed."""
    files.write(
        "etc/aovpnd.toml",
        '\ufeff[tunnel]\r\nprefer = "home"\r\n[temporary_access]\r\nenabled = false\r\nduration = 90\r\n'
        'max = "10min"\r\nper_hour = 1\r\nwhile_connected = "pause"\r\n[lan]\r\nallow = true\r\n'
        '[endpoint]\r\nresolver = "tls://[2620:fe::fe]#DNS.quad9.net"\r\ndnssec = false\r\n[dbus]\r\nopen = false\r\n',
    )
    found = files.load()

    assert found.problems == ()
    assert found.endpoint == EndpointPolicy(Pinned(ip_address("2620:fe::fe"), "dns.quad9.net"))
    assert (found.prefer, found.lan, found.openers) == (("home",), Lan.ALLOW, Openers.ROOT)
    assert found.temporary_access == TemporaryAccessPolicy(Enabled.NO, 90, 600, 1, WhileConnected.PAUSE)
    assert Origin("temporary_access.max", "10min", str(files.etc / "aovpnd.toml"), 6) in found.origins


def test_layers(files: Files) -> None:
    """From weak to strong: vendor, aovpnd.toml, conf.d in the order of names, the user's choice, policy.d; hidden files
    and other suffixes are not read.
    """
    order = (
        "vendor/aovpnd.toml",
        "etc/aovpnd.toml",
        "etc/conf.d/10-a.toml",
        "etc/conf.d/9-b.toml",
        "state/choice.toml",
        "etc/policy.d/10.toml",
        "etc/policy.d/20.toml",
    )
    seen = []
    for number, name in enumerate(order):
        files.write(name, f'\n[tunnel]\nprefer = "t{number}"\n')
        seen.append(_origins(files.load(), files.home)["tunnel.prefer"])
    files.write("etc/policy.d/.30.toml", "[broken")
    files.write("etc/policy.d/30.toml.bak", "[broken")

    assert seen == [(f"t{number}", name, 3) for number, name in enumerate(order)]
    assert files.load().problems == ()


def test_policy_locks_only_what_it_sets(files: Files) -> None:
    """A policy overrules one value and leaves the others to the weaker layers."""
    files.write("etc/aovpnd.toml", "[temporary_access]\nenabled = true\nper_hour = 2\n")
    files.write("etc/policy.d/p.toml", "temporary_access.enabled = false\n")

    assert files.load().temporary_access == TemporaryAccessPolicy(enabled=Enabled.NO, per_hour=2)


TLS = 'write it like "tls://9.9.9.9#dns.quad9.net" or "tls://[2620:fe::fe]#dns.quad9.net"'
USERS_CANNOT = "lan.allow: users cannot choose this (remove the line; administrators set it in aovpnd.toml)"


def test_an_order_of_tunnels(files: Files) -> None:
    """One name is an order of one; a user's choice stands beside the order and does not change it."""
    files.write("etc/aovpnd.toml", '[tunnel]\nprefer = ["office", "home"]\n[health]\nprobe = "[2001:db8::1]:443"\n')
    alone = files.load()
    files.write("state/choice.toml", '[tunnel]\nprefer = "home"\n')
    beside = files.load()

    assert (alone.prefer, alone.chosen) == (("office", "home"), None)
    assert (beside.prefer, beside.chosen) == (("office", "home"), "home")
    assert alone.probe == (Endpoint(IPv6Address("2001:db8::1"), 443),)
    assert _origins(alone, files.home)["tunnel.prefer"] == ("office, home", "etc/aovpnd.toml", 2)
    assert _origins(beside, files.home)["tunnel.prefer"] == ("home", "state/choice.toml", 2)


def test_kinds_of_uplinks(files: Files) -> None:
    """Each may have an order of its own, and a user none."""
    files.write("etc/aovpnd.toml", '[tunnel]\nprefer = "office"\nmobile = ["slim", "office"]\nwifi = "home"\n')
    found = files.load()
    files.write("state/choice.toml", '[tunnel]\nmobile = "home"\n')

    assert (found.prefer, found.by_kind) == (("office",), (("wifi", ("home",)), ("mobile", ("slim", "office"))))
    assert preferred(found, Intent(uplink_kind="mobile")) == ("tunnel.mobile", ("slim", "office"))
    for kind in ("ethernet", ""):
        assert preferred(found, Intent(uplink_kind=kind)) == ("tunnel.prefer", ("office",))
    assert any("users cannot choose this" in line for line in files.check()), files.check()


def test_device(files: Files) -> None:
    """While nobody is logged in: an order, or none at all, which is another thing than not to say so."""
    files.write("etc/aovpnd.toml", '[tunnel]\ndevice = ["slim", "office"]\n')
    ordered = files.load()
    files.write("etc/aovpnd.toml", "[tunnel]\ndevice = []\n")
    none = files.load()
    files.write("etc/aovpnd.toml", "[tunnel]\ndevice = 5\n")

    assert (ordered.device, none.device, Config().device) == (("slim", "office"), (), None)
    assert any("etc/aovpnd.toml:2: tunnel.device" in line for line in files.check()), files.check()


def test_users_choose_a_tunnel_and_nothing_else(files: Files) -> None:
    """The file that `aovpnctl` writes cannot grant what administrators grant."""
    files.write("state/choice.toml", '[tunnel]\nprefer = "a"\n[lan]\nallow = true\n')

    assert files.check() == [f"state/choice.toml:4: {USERS_CANNOT}"]
    assert files.load().lan is Lan.BLOCK


SPAN = "from 1s to 1h"
NO_TARGET = 'is no address with a port (write ADDRESS:PORT, "192.0.2.1:443" or "[2001:db8::1]:443")'
BAD = {
    "[tunnel": (
        "1: is not TOML: Expected ']' at the end of a table declaration "
        '(a value is written like key = "text"; see aovpnd.conf(5))'
    ),
    "[tunnel]\nprefer = home": (
        '2: is not TOML: Invalid value (a value is written like key = "text"; see aovpnd.conf(5))'
    ),
    '[tunnel]\nprefer = "a"\nprefer = "b"': (
        '3: is not TOML: Cannot overwrite a value (a value is written like key = "text"; see aovpnd.conf(5))'
    ),
    '\n\nx = "\n': (
        "3: is not TOML: Illegal character '\\n' (a value is written like key = \"text\"; see aovpnd.conf(5))"
    ),
    f"x = 0x{'f' * 900}\nx = 1": (
        '2: is not TOML: Cannot overwrite a value (a value is written like key = "text"; see aovpnd.conf(5))'
    ),
    f"x = {'[' * 990}": "is nested too deeply (no setting needs that)",
    f"x{'.x' * 490} = 1\nx = 2": (
        '2: is not TOML: Cannot overwrite a value (a value is written like key = "text"; see aovpnd.conf(5))'
    ),
    f"\nx{'.x' * 500} = 1": "2: the line is longer than 1000 characters (is it the right file?)",
    "x = [\n" + "1,\n" * 17 + "]": "1: a value has more than 16 lines (no setting needs that)",
    "prefer = 'a'": "1: 'prefer' stands in no table (write [tunnel] above it)",
    "[tunel]": "1: 'tunel' is no setting (did you mean [tunnel]?)",
    "[nothing]": (
        "1: 'nothing' is no setting (there are: [dbus], [endpoint], [exclude], [health], [ike], [lan], "
        "[temporary_access], [tunnel], [[filter]], [[user]], [[sign_in]], [[exclude_from]])"
    ),
    "[[users]]": "1: 'users' is no setting (did you mean [[user]]?)",
    "tunnel = 3": "1: 'tunnel' is a table, not a value (write [tunnel] on a line of its own)",
    "[endpoint]\nresolver = '9.9.9.9'": f"2: endpoint.resolver: '9.9.9.9' is no resolver ({TLS})",
    "[endpoint]\nresolver = 'tls://9.9.9.9'": f"2: endpoint.resolver: 'tls://9.9.9.9' is no resolver ({TLS})",
    "[endpoint]\nresolver = 'tls://dns.quad9.net#dns.quad9.net'": (
        f"2: endpoint.resolver: 'tls://dns.quad9.net#dns.quad9.net' is no resolver ({TLS})"
    ),
    "[endpoint]\nresolver = 'tls://9.9.9#dns.quad9.net'": (
        f"2: endpoint.resolver: 'tls://9.9.9#dns.quad9.net' has no address ({TLS})"
    ),
    "[endpoint]\nresolver = 'tls://127.0.0.1#dns.quad9.net'": (
        f"2: endpoint.resolver: '127.0.0.1' is a loopback address: no resolver can be there ({TLS})"
    ),
    "[endpoint]\nresolver = 'tls://9.9.9.9#9.9.9.9'": (
        "2: endpoint.resolver: '9.9.9.9' is no address (write it like 192.0.2.1 or [2001:db8::1])"
    ),
    "[endpoint]\nresolver = 9": "2: endpoint.resolver: must be a text, not a number (put it in double quotes)",
    "[endpoint]\ndnssec = true": (
        '2: endpoint.dnssec: answers cannot be validated by this version (resolver = "tls://..." asks a resolver that '
        "you trust, which validates them)"
    ),
    "[[lan]]\nallow = true": "1: 'lan' is a table, not a value (write [lan] on a line of its own)",
    "[lan]\nalow = true": "2: 'lan.alow' is no setting (did you mean lan.allow?)",
    "[lan]\nzebra = true": "2: 'lan.zebra' is no setting (there are: lan.allow)",
    "'lan.allow' = true": "1: 'lan.allow' is no setting (did you mean lan.allow?)",
    "[lan.allow]": "1: lan.allow: must be true or false, not a table (write true or false, without quotes)",
    "lan.allow.x = 1": "1: 'lan.allow.x' is no setting (did you mean lan.allow?)",
    "[lan]\nallow = {}": "2: lan.allow: must be true or false, not a table (write true or false, without quotes)",
    "[lan]\nallow = 'true'": "2: lan.allow: must be true or false, not a text (write true or false, without quotes)",
    "[lan]\nallow = 1": "2: lan.allow: must be true or false, not a number (write true or false, without quotes)",
    "[exclude]\nnetworks = '10.0.0.1/8'": (
        "2: exclude.networks: '10.0.0.1/8' has bits behind its prefix (write 10.0.0.0/8 for the network, or the "
        "address without a prefix)"
    ),
    "[exclude]\nnetworks = ['all']": (
        "2: exclude.networks: 'all' is no network (write it like 10.0.0.0/8, 10.0.0.7 or fd00::/8)"
    ),
    "[exclude]\nnetworks = '0.0.0.0/0'": (
        "2: exclude.networks: '0.0.0.0/0' is too much to be left out of the tunnel (at most a /8 of IPv4)"
    ),
    "[exclude]\nnetworks = '2000::/3'": (
        "2: exclude.networks: '2000::/3' is too much to be left out of the tunnel (at most a /16 of IPv6)"
    ),
    **{
        f"[exclude]\nnetworks = '{net}'": (
            f"2: exclude.networks: '{net}' is nowhere that a router leads to (name networks of others)"
        )
        for net in (
            *("127.0.0.0/8", "224.0.0.0/8", "169.254.0.0/16", "0.0.0.0/8", "255.255.255.255"),
            *("fe80::/16", "ff02::/16", "::1", "::"),
        )
    },
    f"[exclude]\nnetworks = {['10.0.0.0/8'] * 2}": (
        "2: exclude.networks: something stands twice in the list (remove one of them)"
    ),
    f"[exclude]\nnetworks = {['::7'] * 65}": "2: exclude.networks: a list of 65 is too long (at most 64)",
    "[tunnel]\nprefer = true": "2: tunnel.prefer: must be a text, not true or false (put it in double quotes)",
    "[tunnel]\nprefer = [1]": "2: tunnel.prefer: must be a text, not a number (put it in double quotes)",
    "[tunnel]\nprefer = []": "2: tunnel.prefer: an empty list says nothing (remove the line for the built-in value)",
    "[tunnel]\nprefer = ['a', 'a']": "2: tunnel.prefer: something stands twice in the list (remove one of them)",
    "[health]\nprobe = '192.0.2.1'": f"2: health.probe: '192.0.2.1' {NO_TARGET}",
    "[health]\nprobe = '2001:db8::1:443'": f"2: health.probe: '2001:db8::1:443' {NO_TARGET}",
    "[health]\nprobe = 'example.com:443'": f"2: health.probe: 'example.com:443' {NO_TARGET}",
    "[health]\nprobe = '192.0.2.1:65536'": f"2: health.probe: '192.0.2.1:65536' {NO_TARGET}",
    "[health]\nprobe = ['[::1]:443']": (
        "2: health.probe: '[::1]:443' cannot be reached through a tunnel (name a server on the other side)"
    ),
    "[tunnel]\nprefer = 2026-01-01": "2: tunnel.prefer: must be a text, not a date or time (put it in double quotes)",
    "[tunnel]\nprefer = ''": "2: tunnel.prefer: '' is no tunnel name (letters, digits, - and _, at most 32)",
    '[tunnel]\nprefer = "a\\nb"': ("2: tunnel.prefer: 'a?b' is no tunnel name (letters, digits, - and _, at most 32)"),
    "[tunnel]\nprefer = '''\na\n'''": (
        "2: tunnel.prefer: 'a?' is no tunnel name (letters, digits, - and _, at most 32)"
    ),
    f"[tunnel]\nprefer = '{'a-' * 17}'": (
        f"2: tunnel.prefer: '{'a-' * 17}' is no tunnel name (letters, digits, - and _, at most 32)"
    ),
    "[temporary_access]\nenabled = 'no'": (
        "2: temporary_access.enabled: must be true or false, not a text (write true or false, without quotes)"
    ),
    "[temporary_access]\nduration = 3.5": (
        '2: temporary_access.duration: must be a span of time, not a number (write it like "3min", "1h 30s" or 90)'
    ),
    "[temporary_access]\nduration = true": (
        '2: temporary_access.duration: must be a span of time, not true or false (write it like "3min", "1h 30s" or 90)'
    ),
    "[temporary_access]\nduration = 'soon'": (
        "2: temporary_access.duration: 'soon' is no span of time; write it like 90, 3min or 1h 30s (from 1s to 1h)"
    ),
    "[temporary_access]\nduration = -90": (
        "2: temporary_access.duration: '-90' is no span of time; write it like 90, 3min or 1h 30s (from 1s to 1h)"
    ),
    "[temporary_access]\nduration = 0": f"2: temporary_access.duration: '0' is no time at all ({SPAN})",
    "[temporary_access]\nmax = '2h'": f"2: temporary_access.max: '2h' is too long: at most 1h ({SPAN})",
    "[temporary_access]\nmax = 3601": f"2: temporary_access.max: '3601' is too long: at most 1h ({SPAN})",
    "[temporary_access]\nper_hour = 4": (
        "2: temporary_access.per_hour: 4 is out of range "
        "(from 1 to 3; enabled = false forbids temporary access altogether)"
    ),
    "[temporary_access]\nper_hour = 0": (
        "2: temporary_access.per_hour: 0 is out of range "
        "(from 1 to 3; enabled = false forbids temporary access altogether)"
    ),
    f"[temporary_access]\nper_hour = {'9' * 99}": (
        "2: temporary_access.per_hour: the number is out of range "
        "(from 1 to 3; enabled = false forbids temporary access altogether)"
    ),
    "[temporary_access]\nper_hour = '3'": (
        "2: temporary_access.per_hour: must be a whole number, not a text (from 1 to 3)"
    ),
    "[temporary_access]\nper_hour = true": (
        "2: temporary_access.per_hour: must be a whole number, not true or false (from 1 to 3)"
    ),
    "[temporary_access]\nwhile_connected = 'allow'": (
        '2: temporary_access.while_connected: \'allow\' is not known (write "refuse" or "pause")'
    ),
    "[temporary_access]\nmax = '1min'\nduration = '2min'": (
        "3: temporary_access.duration: 2min is more than temporary_access.max, 1min in etc/aovpnd.toml:2 "
        "(make duration shorter, or max longer)"
    ),
}


@pytest.mark.parametrize(("text", "expected"), BAD.items(), ids=[str(number) for number in range(len(BAD))])
def test_bad_settings(files: Files, text: str, expected: str) -> None:
    """One fault, one message; the same from `check` of the whole, `check` of the file, and the daemon; and closed."""
    files.write("etc/aovpnd.toml", text)
    told = f"etc/aovpnd.toml:{expected}" if expected[0].isdigit() else f"etc/aovpnd.toml: {expected}"
    found = files.load()

    assert files.check() == [told]
    assert files.check("etc/aovpnd.toml") == [told]
    assert f"{files.problems(found)[0]} ({found.problems[0].hint})".removesuffix(" ()") == told
    assert found.temporary_access.enabled is Enabled.NO


def test_a_word_like_a_key_is_not_shown(files: Files) -> None:
    """Who pastes a key into the wrong file does not read it in the journal."""
    key = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
    files.write("etc/aovpnd.toml", f"'{key}' = 1\n[tunnel]\nprefer = '{key}'\n[lan.'{key}']\n")
    files.write("etc/conf.d/a.toml", f"[['{key}']]\n[['{key}'.x]]\n['{key}']\n")
    files.write("etc/conf.d/b.toml", f"x = {key}\n")
    told = "\n".join(files.check())

    assert told.count("(hidden)") == 3
    assert "a name is given twice, or out of place" in told
    assert [start for start in range(len(key) - 8) if key[start : start + 8] in told] == []


def test_rubbish_is_not_told_in_full(files: Files) -> None:
    """Twenty faults and a last word: status does not grow with the file."""
    files.write("etc/aovpnd.toml", "".join(f"x{number} = 1\n" for number in range(100)))
    told = files.check()

    assert len(told) == 21
    assert told[20] == "etc/aovpnd.toml:21: there are more faults (mend those first)"


def test_built_in_duration_follows_a_shorter_maximum(files: Files) -> None:
    """Who sets only the maximum need not set the default as well; the origin says where it comes from."""
    files.write("etc/conf.d/a.toml", "[temporary_access]\nmax = '1min'\n")
    found = files.load()

    assert (found.temporary_access.duration_s, found.problems) == (60, ())
    assert _origins(found, files.home)["temporary_access.duration"] == ("1min", "etc/conf.d/a.toml", 2)


def test_policy_is_not_broken_by_what_it_overrules(files: Files) -> None:
    """A duration above the policy's maximum is a warning, and the maximum holds."""
    files.write("etc/aovpnd.toml", "temporary_access.duration = '5min'\n")
    files.write("etc/policy.d/p.toml", "temporary_access.max = '1min'\n")
    found = files.load()

    assert (found.temporary_access.duration_s, found.temporary_access.max_s) == (60, 60)
    assert files.check() == [
        (
            "etc/aovpnd.toml:1: temporary_access.duration: 5min is more than temporary_access.max, "
            "1min in etc/policy.d/p.toml:1 (1min is used)"
        )
    ]
    assert [problem.code for problem in found.problems] == ["config-overruled"]


def test_policy_that_contradicts_itself_is_broken(files: Files) -> None:
    """Two values of policies cannot overrule each other."""
    files.write("etc/policy.d/p.toml", "temporary_access.max = '1min'\ntemporary_access.duration = '2min'\n")

    assert files.load().temporary_access.enabled is Enabled.NO


def test_value_of_another_type_is_our_own_fault() -> None:
    """A parser in the table that returned the wrong type would be seen at once."""
    wrong = settings.Setting("temporary_access.max", ("1h",), "1h", "x.toml", 1, settings.Layer.ADMIN)

    with pytest.raises(TypeError, match="has a value of the wrong type"):
        settings.merge([wrong])


@pytest.mark.parametrize("name", ["etc/aovpnd.toml", "etc/policy.d/p.toml", "state/choice.toml", "vendor/aovpnd.toml"])
def test_broken_settings_keep_the_last_good_ones(files: Files, name: str) -> None:
    """Whichever file breaks, nothing changes, and status says so; mended, the new values hold."""
    files.write("etc/conf.d/c.toml", "temporary_access.per_hour = 2\n")
    before = files.load()
    files.write(name, "[temporary_access]\nenabled = maybe\n")
    files.write("etc/conf.d/c.toml", "temporary_access.per_hour = 1\n")
    during = files.load(before)
    again = files.load(during)
    files.write(name, "")
    after = files.load(again)

    assert replace(during, problems=()) == before
    assert [problem.code for problem in during.problems] == ["config-invalid", "config-kept"]
    assert files.problems(during)[1] == "settings: the last good ones are in force"
    assert again == during
    assert after.temporary_access.per_hour == 1
    assert after.problems == ()


def test_settings_that_were_never_good_are_the_tightest(files: Files) -> None:
    """What cannot be read may have forbidden something, so nothing is allowed that a file could forbid."""
    files.write("etc/aovpnd.toml", "[lan]\nallow = true\n[temporary_access]\nenabled = true\n")
    files.write("etc/policy.d/p.toml", "[lan]\nallow = false oops\n")
    found = files.load()

    assert (found.lan, found.temporary_access.enabled, found.prefer) == (Lan.BLOCK, Enabled.NO, ())
    assert _origins(found, files.home)["temporary_access.enabled"] == ("false", "built-in", None)
    assert [problem.code for problem in found.problems] == ["config-invalid", "config-closed"]
    assert found.problems[1].hint == "aovpnctl check says what to do"


def test_default_file_says_the_defaults(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """etc/aovpnd/aovpnd.toml changes nothing as it is; with its lines uncommented it sets every key to its default."""
    monkeypatch.setattr(passwd, "users", lambda: {"alice": 1000})
    text = (ROOT / "etc/aovpnd/aovpnd.toml").read_text(encoding="utf-8")
    files.write("etc/aovpnd.toml", text)
    as_is = files.load()
    for name in ("home", "office"):
        files.write(f"etc/tunnels/{name}.conf", SMALLEST).chmod(0o600)
    files.write("etc/aovpnd.toml", re.sub(r"(?m)^#(?=\w+ = |\[\[)", "", text))
    uncommented = files.load()
    without = {key for key, known in settings.KEYS.items() if not known.built_in}  # there the file shows an example
    without |= {"filter.home", "user.alice", "sign_in.office", "exclude_from.home"}
    values = {origin.key: origin.value for origin in uncommented.origins if origin.key not in without}

    assert as_is == Config(origins=as_is.origins)
    assert {origin.file for origin in as_is.origins} == {"built-in"}
    assert uncommented.problems == ()
    assert {origin.file for origin in uncommented.origins} == {str(files.etc / "aovpnd.toml")}
    assert str(uncommented.filters_of("home")[0]) == "out tcp 10.0.0.0/8 port 443, 8000-8100"
    assert values == {key: known.built_in for key, known in settings.KEYS.items() if key not in without}


def test_manual_page_knows_every_key() -> None:
    """aovpnd.conf(5) has a heading for each setting and a row for each key of a tunnel file."""
    from aovpnd.config import wgquick

    manual = (ROOT / "docs/man/aovpnd.conf.5.md").read_text(encoding="utf-8")

    assert [key for key in settings.KEYS if f"**{key.partition('.')[2]}** =" not in manual] == []
    assert [key for keys in wgquick.KEYS.values() for key in keys if f"**{key}**" not in manual] == []


def test_on_demand(files: Files) -> None:
    """Which tunnels rest, and after how long; by default none does. What cannot be is refused."""
    assert (files.load().on_demand, files.load().rest_after_s) == ((), 300)
    files.write("etc/aovpnd.toml", '[tunnel]\non_demand = "home"\nrest_after = "90s"\n')
    assert (files.load().on_demand, files.load().rest_after_s) == (("home",), 90)
    for span in ('"4s"', '"25h"', '"never"', "true"):
        files.write("etc/aovpnd.toml", f"[tunnel]\nrest_after = {span}\n")
        assert len(files.check("etc/aovpnd.toml")) == 1
        assert "tunnel.rest_after" in files.check("etc/aovpnd.toml")[0]


def test_contradiction_is_refused(files: Files) -> None:
    """A keepalive never rests: check says where both stand. Without one there is nothing to say, and a tunnel that is
    not there is named.
    """
    path = files.write("etc/tunnels/home.conf", SMALLEST + "PersistentKeepalive = 25\n")
    path.chmod(0o600)
    files.write("etc/aovpnd.toml", '[tunnel]\nprefer = "home"\non_demand = ["home"]\n')
    (told,) = files.check()
    assert told.startswith("etc/aovpnd.toml:3: tunnel.on_demand: home cannot rest")
    path = files.write("etc/tunnels/home.conf", SMALLEST)
    path.chmod(0o600)
    assert files.check() == []
    files.write("etc/aovpnd.toml", '[tunnel]\non_demand = ["gone"]\n')
    assert ["'gone'" in told for told in files.check()] == [True]


def test_broken_settings_keep_who_rests(files: Files) -> None:
    """The last good settings hold as a whole."""
    files.write("etc/aovpnd.toml", '[tunnel]\non_demand = "home"\nrest_after = "90s"\n')
    good = files.load()
    files.write("etc/aovpnd.toml", "[tunnel\n")
    kept = files.load(good)
    assert (kept.on_demand, kept.rest_after_s) == (("home",), 90)

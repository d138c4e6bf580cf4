# SPDX-License-Identifier: GPL-3.0-or-later
"""What an administrator or user wrote: tunnel files and their import, settings, and the directory as a whole."""

import tomllib
from contextlib import AbstractContextManager
from typing import Final
from unittest.mock import patch

from aovpnd.config import filters, load, settings, toml, tunnels, users
from aovpnd.config.findings import Finding
from aovpnd.config.settings import Layer
from aovpnd.core.view import order
from aovpnd.errors import ConfigError
from aovpnd.importers import wgquick as importer
from aovpnd.model import Config, Enabled, Intent, Lan, Severity
from aovpnd.tunnel import TUNNEL_NAME
from tests.fuzz import judge
from tests.fuzz.mutate import Mutator
from tests.fuzz.places import place, put
from tests.fuzz.target import Target, words
from tests.unit.test_config_fuzz import WORDS
from tests.unit.test_config_tunnels import FULLEST, PRESHARED, PRIVATE, PUBLIC, SMALLEST
from tests.unit.test_import import PROVIDER

NAMED: Final = SMALLEST.replace("192.0.2.1:51820", "vpn.example.org:51820")
INTERNATIONAL: Final = SMALLEST.replace("192.0.2.1:51820", "büro.straße.example:51820")
TUNNEL_FILES: Final = (SMALLEST, FULLEST, PROVIDER, NAMED, INTERNATIONAL)
_TUNNEL_WORDS: Final = (
    *WORDS,
    *words(PROVIDER),
    "a.",
    "..",
    "ß.example",
    "xn--zca.example",
    "ǅ.example",
    "a。b.example",
)


def no_process() -> AbstractContextManager[object]:
    """A hundred thousand times `wg pubkey` would only measure the kernel's fork."""
    return patch.object(tunnels, "_public_key", lambda _: PUBLIC)


def findings(found: list[Finding] | tuple[Finding, ...], source: str) -> str:
    """All findings read as they should and name their place; the outcome is the first one."""
    for finding in found:
        judge.told(str(finding))
        judge.hides(str(finding), PRIVATE[:-1], PRESHARED[:-1])
        judge.quotes_no_run(str(finding), source)
        assert finding.file
        assert finding.line is None or 1 <= finding.line <= source.count("\n") + 1
    errors = [finding for finding in found if finding.severity is Severity.ERROR]
    assert len(errors) <= 21
    if not errors:
        return judge.outcome("ok", " ".join(sorted({finding.code for finding in found})))
    return judge.outcome("refused", errors[0].reason)


# -- tunnel files -----------------------------------------------------------------------------------------------------
def _tunnel(text: str) -> str:
    try:
        spec, found = tunnels.parse(text, "home", "home.conf")
    except ConfigError as error:
        return judge.error(error)
    outcome = findings(found, text)
    assert (spec is None) is outcome.startswith("refused")
    if spec is not None:
        judge.hides(repr(spec), PRIVATE[:-1], PRESHARED[:-1])
        assert all(len(peer.public_key) == 44 for peer in spec.peers)
        assert spec.addresses
        assert all(name.isascii() for name in (*spec.hosts, *spec.search))
        outcome += f" {len(spec.peers)} {bool(spec.hosts)} {bool(spec.dns)} {spec.mtu is None}"
    return outcome


def _imported(text: str) -> str:
    """What passes is imported: our file means the same to us as theirs, and shows no command and no key."""
    try:
        spec, _ = tunnels.parse(text.removeprefix("\ufeff"), "home", "home.conf")
    except ConfigError as error:
        return judge.error(error)
    if spec is None:
        return "refused"
    made = importer.convert(text, spec)
    again, said = tunnels.parse(made.text, "home", "home.conf")
    assert again == spec, "the imported file means something else"
    assert not [finding for finding in said if "commands" in finding.reason and "#!" not in finding.reason]
    for shown in (*map(str, made.lines), *made.notes):
        judge.told(shown)
        judge.hides(shown, PRIVATE, PRESHARED)
    fates = sorted({f"{line.key} {line.fate}" for line in made.lines})
    return judge.outcome("ok", f"{len(made.notes)} {' '.join(fates)}")


def _name(text: str) -> str:
    name = importer.name_of(text)
    assert not name or TUNNEL_NAME.fullmatch(name)
    return "none" if not name else "whole" if name == text else "cut"


# -- settings ---------------------------------------------------------------------------------------------------------
SETTINGS: Final = """\
# what we want
[tunnel]
prefer = ["work", "home"]

[temporary_access]
enabled = true
duration = "3min"
max = 600
per_hour = 2
while_connected = "pause"

[lan]
allow = true

[health]
probe = ["192.0.2.7:443", "[2001:db8::7]:53"]

[endpoint]
resolver = "tls://[2620:fe::fe]#dns.quad9.net"
dnssec = false
"""
DOTTED: Final = (
    'tunnel.prefer = "home"\ntemporary_access = { enabled = false, max = "1h" }\nlan."allow" = false\n'
    "[endpoint]\nresolver = '''\n'''\n"
)
STRANGE: Final = "a = [[[[1, 2], [3]], {b = 1}]]\n[[x.y]]\nz = 1979-05-27T07:32:00Z\n[[x.y]]\nz = 0x_f\n"
TOML: Final = (
    *(
        "[",
        "]",
        "[[",
        "]]",
        '"""',
        "'''",
        "=",
        ".",
        "#",
        "{",
        "}",
        ",",
        "true",
        "false",
        "\\u0000",
        "\\ud800",
        '"',
        "'",
    ),
    *("\\", "\\x", "0o7", "0x", "1e5", "inf", "nan", "-inf", "1979-05-27", "07:32:00", "[temporary_access]", "[lan]"),
    *words(SETTINGS),
    *words(DOTTED),
)


def _within_limits(config: Config | settings.Settings) -> None:
    access = config.temporary_access
    assert 1 <= access.duration_s <= access.max_s <= settings.MAX_S
    assert 1 <= access.per_hour <= settings.MAX_PER_HOUR


def _settings(text: str) -> str:
    layer = Layer.ADMIN
    try:
        entries = toml.parse(text, "aovpnd.toml")
    except ConfigError as error:
        judge.quotes_no_run(str(error), text)
        return judge.error(error)
    lists = (filters.FORM, users.FORM)
    others = [entry for entry in entries if not any(form.is_of(entry) for form in lists)]
    read, found = settings.read(others, "aovpnd.toml", layer)
    ruled, amiss = filters.read(entries, "aovpnd.toml", layer)
    people, strange = users.read(entries, "aovpnd.toml", layer, lambda: {"alice": 1000, "aovpnd-wg-go": 990})
    outcome = findings([*found, *amiss, *strange][:21], text)
    if outcome.startswith("refused"):
        return outcome
    merged, contradictions = settings.merge(read)
    findings(contradictions, text)
    _within_limits(merged)
    for origin in (*merged.origins, *filters.merge(ruled).origins, *users.merge(people).origins):
        judge.told(f"{origin.file}: {origin.key} = {origin.value}", longest=2000)
    named = (" ".join((one.filter.direction, *one.filter.protocols)) for one in ruled)
    kept = (str(one.user) for one in people)
    return judge.outcome("ok", " ".join([*sorted(setting.key for setting in read), *named, *kept]))


_POLICY: Final = '[temporary_access]\nenabled = false\n[lan]\nallow = false\n[tunnel]\nprefer = "work"\n'
_FILTER: Final = """[[filter]]
tunnel = ["home"]
direction = "in"
addresses = ["10.0.0.0/8", "fd00::7"]
protocol = ["tcp", "udp"]
ports = [443, "8000-8100"]
[[filter]]
tunnel = "home"
protocol = "icmpv6"
"""
_USER: Final = """[[user]]
name = ["alice", 1001]
only = "work"
when = "logged-in"
[[user]]
name = "bob"
never = ["work", "home"]
"""
_CHOICE: Final = '[tunnel]\nprefer = "home"\n'
_GENEROUS: Final = "[lan]\nallow = true\n[temporary_access]\nenabled = true\nmax = 3600\n"


def _directory(case: tuple[str, str, bytes]) -> str:
    """A whole configuration of which a policy, a user's choice or a tunnel is damaged. A policy that cannot be read
    leaves the tightest settings; one that can be is obeyed; a tunnel that cannot be read is not replaced by another.
    """
    policy, choice, tunnel = case
    base = place("configuration")
    config_dir, state_dir = base / "etc", base / "state"
    put(config_dir / "aovpnd.toml", _GENEROUS, 0o644)
    put(config_dir / "policy.d" / "10.toml", policy, 0o644)
    put(state_dir / "choice.toml", choice, 0o644)
    put(config_dir / "tunnels" / "home.conf", tunnel)
    config = load(config_dir, state_dir, base / "nothing")
    for problem in config.problems:
        judge.told(problem.text, longest=1500)
        judge.told(problem.hint)
        judge.hides(problem.text, PRIVATE[:-1], PRESHARED[:-1])
    _within_limits_or_closed(config)
    broken = {problem.code for problem in config.problems if problem.severity is Severity.ERROR}
    closed = any(problem.code == "config-closed" for problem in config.problems)
    if policy == _POLICY and choice == _CHOICE:
        assert not closed
        assert config.temporary_access.enabled is Enabled.NO
        assert config.lan is Lan.BLOCK
    if closed:
        assert config.lan is Lan.BLOCK
        assert config.temporary_access.enabled is Enabled.NO
    lines = [line for line in policy.split("\n") if not line.lstrip().startswith("#")]
    if "filter" in "\n".join(lines) and not _is_toml(policy):
        assert not config.tunnels
    if any(problem.code == "filters-unread" for problem in config.problems):
        assert all(config.filters_of(spec.name) for spec in config.tunnels)
    if config.broken:
        assert not order(config, Intent()) or config.prefer
    return judge.outcome(
        "closed" if closed else "read", f"{len(config.tunnels)} {sorted(config.broken)} {sorted(broken)}"
    )


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except ValueError:
        return False
    return True


def _within_limits_or_closed(config: Config) -> None:
    if config.temporary_access.enabled is Enabled.YES:
        _within_limits(config)


_DIRECTORY: Final = Mutator((*TOML, *_TUNNEL_WORDS))

TARGETS: Final = (
    Target("tunnel-file", "wg-quick file as configuration", TUNNEL_FILES, _tunnel, Mutator(_TUNNEL_WORDS), no_process),
    Target(
        "import",
        "wg-quick file as `aovpnctl import` takes it",
        TUNNEL_FILES,
        _imported,
        Mutator(_TUNNEL_WORDS),
        no_process,
    ),
    Target(
        "tunnel-name",
        "file name as name of a tunnel",
        ("home", "My VPN (1)", "é", "-"),
        _name,
        Mutator(surrogates=True),
    ),
    Target("settings", "aovpnd.toml", (SETTINGS, DOTTED, STRANGE, _FILTER, _USER), _settings, Mutator(TOML)),
    Target(
        "configuration",
        "policy.d, the user's choice and a tunnel, as files",
        (
            (_POLICY, _CHOICE, SMALLEST.encode()),
            (SETTINGS, _CHOICE, FULLEST.encode()),
            ("", "", b""),
            (_POLICY + _FILTER + _USER, _CHOICE, SMALLEST.encode()),
        ),
        _directory,
        _DIRECTORY,
        no_process,
        slice=800,
    ),
)

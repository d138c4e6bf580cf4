# SPDX-License-Identifier: GPL-3.0-or-later
"""All files to one `Config`, and what to do when some of them are broken.

A broken file never takes away what worked: a tunnel keeps its last good version, the settings keep theirs as a whole.
Settings that were never good are the tightest there are, because what cannot be read may have forbidden something.
Filters are read beside the settings: where any of them cannot be read, a tunnel that has none in force is not used.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, assert_never

from aovpnd import names, passwd
from aovpnd.config import excluding, files, filters, naming, settings, sign_in, toml, tunnels, users
from aovpnd.config.filters import Filters, Ruled
from aovpnd.config.findings import WEAK, Finding, finding_of, printable_path
from aovpnd.config.settings import Layer, Setting, Settings
from aovpnd.doors import Openers
from aovpnd.errors import ConfigError, ToolError
from aovpnd.ipsec import IPsec, TunnelSpec, Weak
from aovpnd.model import Config, Enabled, Lan, Origin, Problem, Severity, TemporaryAccessPolicy

SETTINGS_FILE: Final = "aovpnd.toml"
DROP_INS: Final = "conf.d"
POLICIES: Final = "policy.d"
CHOICE_FILE: Final = "choice.toml"

KEPT: Final = "config-kept"
"""The code of the problem that says that an older configuration is in force."""
UNFILTERED: Final = "filters-unread"
"""The code of the problem that says that a tunnel is not used, because nobody knows what may go through it."""
_LISTS: Final = (filters.FORM, users.FORM, sign_in.FORM, excluding.FORM)

_TIGHTEST: Final = Settings(
    temporary_access=TemporaryAccessPolicy(enabled=Enabled.NO),
    lan=Lan.BLOCK,
    openers=Openers.ROOT,
    origins=tuple(
        Origin(
            key, {"temporary_access.enabled": "false", "dbus.open": "false"}.get(key, known.built_in), settings.BUILT_IN
        )
        for key, known in settings.KEYS.items()
    ),
)


@dataclass(frozen=True, slots=True)
class Directories:
    """Where the files are."""

    config: Path
    state: Path
    vendor: Path


@dataclass(frozen=True, slots=True)
class _Tunnels:
    """What the tunnel files said: ``broken``: the names whose file is there, and cannot be used."""

    good: tuple[TunnelSpec, ...]
    broken: frozenset[str]
    readable: bool
    findings: tuple[Finding, ...]


@dataclass(slots=True)
class _Collected:
    """What the settings files of all layers say, from weak to strong; lives as long as their reading.

    ``unread``: something may be a filter, and cannot be read.
    """

    settings: list[Setting] = field(default_factory=list)
    filters: list[Ruled] = field(default_factory=list)
    people: list[users.Ruled] = field(default_factory=list)
    checked: list[sign_in.Checked] = field(default_factory=list)
    excluded: list[excluding.Listed] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    unread: bool = False


def load(config_dir: Path, state_dir: Path, vendor_dir: Path) -> Config:
    """Read everything. Never raises: what is wrong is in ``Config.problems``, and leaves the machine more closed.

    Directories and files that are not there are no error: an empty configuration blocks.
    """
    return reload(None, config_dir, state_dir, vendor_dir)


def reload(previous: Config | None, config_dir: Path, state_dir: Path, vendor_dir: Path) -> Config:
    """As `load`; what is broken now stays as it was in ``previous``, and a problem says so."""
    where = Directories(config_dir, state_dir, vendor_dir)
    found, collected = _read_settings(where)
    effective, told = _settings_in_force(found, previous)
    read_tunnels = _read_tunnels(where, effective.weak)
    kept = _kept_tunnels(read_tunnels, previous, effective.weak)
    held, strays = _filters_in_force(collected, read_tunnels, kept, previous)
    people = users.kept(previous) if collected.unread else users.merge(collected.people)
    checks = sign_in.kept(previous) if found is None else sign_in.merge(collected.checked)
    beside = excluding.kept(previous) if found is None else excluding.merge(collected.excluded, effective.locked)
    known = _names(read_tunnels) | {spec.name for spec in kept}
    strays += (
        *sign_in.strays(collected.checked, known),
        *excluding.strays(collected.excluded, known, effective.locked),
    )
    problems = [finding.problem() for finding in (*collected.findings, *strays, *read_tunnels.findings)]
    problems += told
    problems += (_kept(f"tunnel {spec.name}: the last good version of {spec.source} is in force") for spec in kept)
    specs = {spec.name: spec for spec in (*read_tunnels.good, *kept)}
    shut = frozenset(specs) - held.tunnels if held.closed else frozenset[str]()
    problems += map(_shut, sorted(shut))
    return Config(
        tunnels=tuple(spec for name, spec in sorted(specs.items()) if name not in shut),
        prefer=effective.prefer,
        by_kind=effective.by_kind,
        device=effective.device,
        companions=effective.companions,
        on_demand=effective.on_demand,
        rest_after_s=effective.rest_after_s,
        chosen=effective.chosen,
        probe=effective.probe,
        temporary_access=effective.temporary_access,
        lan=effective.lan,
        exclude=effective.exclude,
        exclude_from=beside.by_tunnel,
        openers=effective.openers,
        endpoint=effective.endpoint,
        filters=held.by_tunnel,
        users=people.users,
        sign_in=checks.checks,
        origins=(*effective.origins, *held.origins, *people.origins, *checks.origins, *beside.origins),
        locked=effective.locked | held.locked | people.locked | checks.locked | beside.locked,
        broken=_unusable(read_tunnels, kept, previous) | shut,
        problems=tuple(problems),
    )


def check(paths: Sequence[Path], config_dir: Path, state_dir: Path, vendor_dir: Path) -> tuple[Finding, ...]:
    """Everything there is to say about some files (``NAME.conf`` or ``*.toml``), or without any about the whole.

    Changes nothing and needs no daemon; a file that this user may not read is a finding. Valid when no finding is an
    ERROR. ``Finding`` has file, line, key, reason, hint, severity and code; ``str()`` is one line for a person.
    """
    where = Directories(config_dir, state_dir, vendor_dir)
    found, collected = _read_settings(where)
    findings, weak = collected.findings, (found or _TIGHTEST).weak
    if paths:
        return tuple(finding for path in paths for finding in _check_file(path, config_dir, weak))
    read_tunnels = _read_tunnels(where, weak)
    findings += read_tunnels.findings
    known = _names(read_tunnels)
    if read_tunnels.readable:
        findings += filters.strays(collected.filters, known)
        findings += users.strays(collected.people, known)
        findings += sign_in.strays(collected.checked, known)
        findings += excluding.strays(collected.excluded, known, (found or _TIGHTEST).locked)
    if found is not None and read_tunnels.readable:
        findings += naming.findings(found, known, read_tunnels.good)
    return tuple(findings)


# -- settings ---------------------------------------------------------------------------------------------------------
def _read_settings(where: Directories) -> tuple[Settings | None, _Collected]:
    """The effective settings, or None when any file is broken: half a policy is none."""
    collected = _Collected()
    for layer, path in _settings_files(where, collected):
        _read_settings_file(path, layer, collected)
    if _is_broken(collected.findings):
        return None, collected
    merged, contradictions = settings.merge(collected.settings)
    collected.findings += contradictions
    return (None if _is_broken(contradictions) else merged), collected


def _settings_files(where: Directories, collected: _Collected) -> list[tuple[Layer, Path]]:
    """All files, from weak to strong."""
    return [
        (Layer.VENDOR, where.vendor / SETTINGS_FILE),
        (Layer.ADMIN, where.config / SETTINGS_FILE),
        *((Layer.DROP_IN, path) for path in _listed(where.config / DROP_INS, collected)),
        (Layer.CHOICE, where.state / CHOICE_FILE),
        *((Layer.POLICY, path) for path in _listed(where.config / POLICIES, collected)),
    ]


def _listed(directory: Path, collected: _Collected) -> tuple[Path, ...]:
    try:
        return files.names_in(directory, ".toml")
    except ConfigError as error:
        collected.findings.append(finding_of(error))
        collected.unread = True
        return ()


def _read_settings_file(path: Path, layer: Layer, collected: _Collected) -> None:
    shown = printable_path(path)
    may_filter = layer is not Layer.CHOICE  # what users choose never says what may go through a tunnel
    text: str | None = None
    try:
        text = files.read(path, files.Holds.SETTINGS)
        entries = toml.parse(text, shown) if text is not None else ()
    except ConfigError as error:
        collected.findings.append(finding_of(error))
        collected.unread |= may_filter and (text is None or filters.may_hold(text))
        return
    others = tuple(entry for entry in entries if not any(form.is_of(entry) for form in _LISTS))
    found, wrong = settings.read(others, shown, layer)
    ruled, amiss = filters.read(entries, shown, layer)
    people, strange = users.read(entries, shown, layer, passwd.users)
    checked, unfit = sign_in.read(entries, shown, layer)
    collected.settings += found
    collected.filters += ruled
    collected.people += people
    excluded, wide = excluding.read(entries, shown, layer)
    collected.checked += checked
    collected.excluded += excluded
    collected.findings += (*wrong, *amiss, *strange, *unfit, *wide)
    amiss += [finding for finding in strange if finding.severity is Severity.ERROR]
    collected.unread |= may_filter and (bool(amiss) or (bool(wrong) and any(map(filters.may_be_meant, others))))


def _settings_in_force(found: Settings | None, previous: Config | None) -> tuple[Settings, list[Problem]]:
    if found is not None:
        return found, []
    if previous is not None:
        kept = Settings(
            prefer=previous.prefer,
            by_kind=previous.by_kind,
            device=previous.device,
            companions=previous.companions,
            on_demand=previous.on_demand,
            rest_after_s=previous.rest_after_s,
            chosen=previous.chosen,
            probe=previous.probe,
            temporary_access=previous.temporary_access,
            lan=previous.lan,
            exclude=previous.exclude,
            openers=previous.openers,
            endpoint=previous.endpoint,
            weak=_weak_of(previous),
            origins=tuple(origin for origin in previous.origins if _is_plain(origin.key)),
            locked=frozenset(filter(_is_plain, previous.locked)),
        )
        return kept, [_kept("settings: the last good ones are in force")]
    text = "settings: temporary access and the local network stay closed until the files can be read"
    return _TIGHTEST, [Problem(names.CONFIG_CLOSED, Severity.WARNING, text, "aovpnctl check says what to do")]


def _is_plain(key: str) -> bool:
    """Whether a key is a setting, and no list's."""
    return key.partition(".")[0] not in {form.name for form in _LISTS}


def _kept(text: str) -> Problem:
    return Problem(KEPT, Severity.WARNING, text, "mend the file, then: systemctl reload aovpnd")


def _weak_of(config: Config) -> Weak:
    """What a configuration's settings said of weak tunnels: nobody but its origins remembers."""
    written = next((origin.value for origin in config.origins if origin.key == settings.ALLOW_WEAK), "false")
    return Weak.ALLOW if written == "true" else Weak.REFUSE


# -- filters ----------------------------------------------------------------------------------------------------------
def _filters_in_force(
    collected: _Collected, now: _Tunnels, kept: list[TunnelSpec], previous: Config | None
) -> tuple[Filters, list[Finding]]:
    """The filters that hold, and those that are for nobody."""
    strays = filters.strays(collected.filters, _names(now) | {spec.name for spec in kept})
    if collected.unread:
        return filters.kept(previous), strays
    return filters.merge(collected.filters, closed=bool(strays)), strays


def _names(found: _Tunnels) -> frozenset[str]:
    """Of all tunnels that have a file, good or not."""
    return found.broken | {spec.name for spec in found.good}


def _shut(name: str) -> Problem:
    text = f"tunnel {name}: it is not used, because it has no filter and one that cannot be used may be meant for it"
    return Problem(UNFILTERED, Severity.ERROR, text, "mend the filter; aovpnctl check says where")


# -- tunnels ----------------------------------------------------------------------------------------------------------
def _read_tunnels(where: Directories, weak: Weak) -> _Tunnels:
    try:
        paths = files.names_in(where.config / names.TUNNELS, tunnels.SUFFIX, tunnels.IKE_SUFFIX)
    except ConfigError as error:
        return _Tunnels((), frozenset({names.TUNNELS}), readable=False, findings=(finding_of(error),))
    good: list[TunnelSpec] = []
    broken: set[str] = set()
    findings: list[Finding] = []
    held = Counter(map(tunnels.name_of, paths))
    for path in paths:
        name = tunnels.name_of(path)
        spec, said = _read_tunnel(path, where.config, weak)
        findings += said
        if held[name] > 1:
            hint = "a name is one tunnel's: remove or rename one of the two files"
            findings.append(Finding(printable_path(path), "there is another file with this name", hint))
            spec = None
        if spec is not None:
            good.append(spec)
        else:
            broken.add(printable_path(name))
    return _Tunnels(tuple(good), frozenset(broken), readable=True, findings=tuple(findings))


def _unusable(now: _Tunnels, kept: list[TunnelSpec], previous: Config | None) -> frozenset[str]:
    """Tunnels whose files cannot be used; where nobody may say which there are, as before, or the directory's name."""
    if previous is not None and not now.readable:
        return previous.broken
    return now.broken - {spec.name for spec in kept}


def _read_tunnel(path: Path, base: Path, weak: Weak) -> tuple[TunnelSpec | None, list[Finding]]:
    try:
        spec, findings = tunnels.read(path, base)
    except ConfigError as error:
        return None, [finding_of(error)]
    except ToolError as error:
        return None, [Finding(printable_path(path), error.text, error.hint, code=error.code)]
    match weak:
        case Weak.ALLOW:
            return spec, [finding for finding in findings if finding.code != WEAK]
        case Weak.REFUSE:
            return (None if _is_weak(spec) else spec), findings
        case _:
            assert_never(weak)


def _is_weak(spec: TunnelSpec | None) -> bool:
    return isinstance(spec, IPsec) and bool(spec.weak)


def _kept_tunnels(now: _Tunnels, previous: Config | None, weak: Weak) -> list[TunnelSpec]:
    """Tunnels whose file is there and broken, as they were; a file that was removed removes its tunnel, and settings
    that allow nothing weak any more remove what is.
    """
    if previous is None:
        return []
    kept = [spec for spec in previous.tunnels if not now.readable or spec.name in now.broken]
    return [spec for spec in kept if weak is Weak.ALLOW or not _is_weak(spec)]


# -- single files -----------------------------------------------------------------------------------------------------
def _check_file(path: Path, base: Path, weak: Weak) -> list[Finding]:
    shown = printable_path(path)
    if not path.exists() and not path.is_symlink():
        return [Finding(shown, "there is no such file")]
    match path.suffix:
        case tunnels.SUFFIX:
            return _read_tunnel(path, base, weak)[1]
        case tunnels.IKE_SUFFIX if path.parent.name == names.TUNNELS or _describes_tunnel(path):
            return _read_tunnel(path, base, weak)[1]
        case ".toml":
            collected = _Collected()
            layer = {POLICIES: Layer.POLICY, DROP_INS: Layer.DROP_IN}.get(path.parent.name, Layer.ADMIN)
            if path.name == CHOICE_FILE:
                layer = Layer.CHOICE
            _read_settings_file(path, layer, collected)
            findings = collected.findings
            return findings if _is_broken(findings) else [*findings, *settings.merge(collected.settings)[1]]
        case _:
            hint = "rename it"
            return [Finding(shown, "is neither a tunnel (NAME.conf, NAME.toml) nor settings (NAME.toml)", hint)]


def _describes_tunnel(path: Path) -> bool:
    """Whether a file that is not yet where tunnels are is meant for there."""
    try:
        entries = toml.parse(files.read(path, files.Holds.SETTINGS) or "", printable_path(path))
    except ConfigError:
        return False
    return any(entry.path[:2] in {("ike", "gateways"), ("ike", "auth"), ("ike", "server")} for entry in entries)


def _is_broken(findings: Iterable[Finding]) -> bool:
    return any(finding.severity is Severity.ERROR for finding in findings)

# SPDX-License-Identifier: GPL-3.0-or-later
"""All files to one `Config`, and what to do when some of them are broken.

A broken file never takes away what worked: a tunnel keeps its last good version, the settings keep theirs as a whole.
Settings that were never good are the tightest there are, because what cannot be read may have forbidden something.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never

from aovpnd import names
from aovpnd.config import files, settings, toml, tunnels
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
    """What the tunnel files said: ``broken`` are the names whose file is there and cannot be used."""

    good: tuple[TunnelSpec, ...]
    broken: frozenset[str]
    readable: bool
    findings: tuple[Finding, ...]


def load(config_dir: Path, state_dir: Path, vendor_dir: Path) -> Config:
    """Read everything. Never raises: what is wrong is in ``Config.problems``, and leaves the machine more closed.

    Directories and files that are not there are no error: an empty configuration blocks.
    """
    return reload(None, config_dir, state_dir, vendor_dir)


def reload(previous: Config | None, config_dir: Path, state_dir: Path, vendor_dir: Path) -> Config:
    """As `load`; what is broken now stays as it was in ``previous``, and a problem says so."""
    where = Directories(config_dir, state_dir, vendor_dir)
    found, settings_findings = _read_settings(where)
    effective, told = _settings_in_force(found, previous)
    read_tunnels = _read_tunnels(where, effective.weak)
    problems = [finding.problem() for finding in (*settings_findings, *read_tunnels.findings)]
    kept = _kept_tunnels(read_tunnels, previous, effective.weak)
    problems += told
    problems += (_kept(f"tunnel {spec.name}: the last good version of {spec.source} is in force") for spec in kept)
    return Config(
        tunnels=tuple(sorted((*read_tunnels.good, *kept), key=lambda spec: spec.name)),
        prefer=effective.prefer,
        by_kind=effective.by_kind,
        chosen=effective.chosen,
        probe=effective.probe,
        temporary_access=effective.temporary_access,
        lan=effective.lan,
        openers=effective.openers,
        endpoint=effective.endpoint,
        origins=effective.origins,
        locked=effective.locked,
        broken=read_tunnels.broken - {spec.name for spec in kept},
        problems=tuple(problems),
    )


def check(paths: Sequence[Path], config_dir: Path, state_dir: Path, vendor_dir: Path) -> tuple[Finding, ...]:
    """Everything there is to say about some files (``NAME.conf`` or ``*.toml``), or without any about the whole.

    Changes nothing and needs no daemon; a file that this user may not read is a finding. Valid when no finding is an
    ERROR. ``Finding`` has file, line, key, reason, hint, severity and code; ``str()`` is one line for a person.
    """
    where = Directories(config_dir, state_dir, vendor_dir)
    found, findings = _read_settings(where)
    weak = (found or _TIGHTEST).weak
    if paths:
        return tuple(finding for path in paths for finding in _check_file(path, config_dir, weak))
    read_tunnels = _read_tunnels(where, weak)
    findings += read_tunnels.findings
    if found is not None and read_tunnels.readable:
        known = {spec.name for spec in read_tunnels.good} | read_tunnels.broken
        hint = f"there are: {', '.join(sorted(known)) or 'none'}"
        for origin, name in _wanted(found):
            if name not in known:
                reason = f"there is no tunnel called '{name}'"
                findings.append(Finding(origin.file, reason, hint, origin.line, origin.key))
    return tuple(findings)


def _wanted(found: Settings) -> Iterator[tuple[Origin, str]]:
    """The names of tunnels in the settings, and where they stand."""
    named = found.chosen is not None and names.PREFER not in found.locked
    orders = {names.PREFER: (found.chosen or "",) if named else found.prefer}
    orders |= {f"tunnel.{kind}": order for kind, order in found.by_kind}
    for origin in found.origins:
        for name in orders.get(origin.key, ()):
            yield origin, name


# -- settings ---------------------------------------------------------------------------------------------------------
def _read_settings(where: Directories) -> tuple[Settings | None, list[Finding]]:
    """The effective settings, or None when any file is broken: half a policy is none."""
    findings: list[Finding] = []
    collected: list[Setting] = []
    for layer, path in _settings_files(where, findings):
        collected += _read_settings_file(path, layer, findings)
    if _is_broken(findings):
        return None, findings
    merged, contradictions = settings.merge(collected)
    findings += contradictions
    return (None if _is_broken(contradictions) else merged), findings


def _settings_files(where: Directories, findings: list[Finding]) -> list[tuple[Layer, Path]]:
    """All files, from weak to strong."""
    return [
        (Layer.VENDOR, where.vendor / SETTINGS_FILE),
        (Layer.ADMIN, where.config / SETTINGS_FILE),
        *((Layer.DROP_IN, path) for path in _listed(where.config / DROP_INS, findings)),
        (Layer.CHOICE, where.state / CHOICE_FILE),
        *((Layer.POLICY, path) for path in _listed(where.config / POLICIES, findings)),
    ]


def _listed(directory: Path, findings: list[Finding]) -> tuple[Path, ...]:
    try:
        return files.names_in(directory, ".toml")
    except ConfigError as error:
        findings.append(finding_of(error))
        return ()


def _read_settings_file(path: Path, layer: Layer, findings: list[Finding]) -> list[Setting]:
    shown = printable_path(path)
    try:
        text = files.read(path, files.Holds.SETTINGS)
        entries = toml.parse(text, shown) if text is not None else ()
    except ConfigError as error:
        findings.append(finding_of(error))
        return []
    found, wrong = settings.read(entries, shown, layer)
    findings += wrong
    return found


def _settings_in_force(found: Settings | None, previous: Config | None) -> tuple[Settings, list[Problem]]:
    if found is not None:
        return found, []
    if previous is not None:
        kept = Settings(
            prefer=previous.prefer,
            by_kind=previous.by_kind,
            chosen=previous.chosen,
            probe=previous.probe,
            temporary_access=previous.temporary_access,
            lan=previous.lan,
            openers=previous.openers,
            endpoint=previous.endpoint,
            weak=_weak_of(previous),
            origins=previous.origins,
            locked=previous.locked,
        )
        return kept, [_kept("settings: the last good ones are in force")]
    text = "settings: temporary access and the local network stay closed until the files can be read"
    return _TIGHTEST, [Problem(names.CONFIG_CLOSED, Severity.WARNING, text, "aovpnctl check says what to do")]


def _kept(text: str) -> Problem:
    return Problem(KEPT, Severity.WARNING, text, "mend the file, then: systemctl reload aovpnd")


def _weak_of(config: Config) -> Weak:
    """What a configuration's settings said of weak tunnels: nobody but its origins remembers."""
    written = next((origin.value for origin in config.origins if origin.key == settings.ALLOW_WEAK), "false")
    return Weak.ALLOW if written == "true" else Weak.REFUSE


# -- tunnels ----------------------------------------------------------------------------------------------------------
def _read_tunnels(where: Directories, weak: Weak) -> _Tunnels:
    try:
        paths = files.names_in(where.config / names.TUNNELS, tunnels.SUFFIX, tunnels.IKE_SUFFIX)
    except ConfigError as error:
        return _Tunnels((), frozenset(), readable=False, findings=(finding_of(error),))
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
            findings: list[Finding] = []
            layer = {POLICIES: Layer.POLICY, DROP_INS: Layer.DROP_IN}.get(path.parent.name, Layer.ADMIN)
            if path.name == CHOICE_FILE:
                layer = Layer.CHOICE
            found = _read_settings_file(path, layer, findings)
            return findings if _is_broken(findings) else [*findings, *settings.merge(found)[1]]
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

# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl import FILE``: somebody's profile becomes a tunnel of ours, a wg-quick file (`import_wgquick`), or a file
of our own for IKE with those that it names (`import_ike`).

Nothing in the file is run or obeyed, and no key is shown. What is written appears whole or not at all, and is root's
alone from its first byte on, or encrypted (`encrypting`). Then a running daemon is asked to read it, or an installed
one is started.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from aovpnd import names, regular
from aovpnd.config import files, tunnels
from aovpnd.config.findings import Finding, finding_of, printable_path
from aovpnd.ctl import import_ike, import_wgquick
from aovpnd.ctl.arguments import Arguments, UsageError
from aovpnd.ctl.asking import ask
from aovpnd.ctl.check import document
from aovpnd.ctl.placing import Kept, Place
from aovpnd.ctl.remote import remind
from aovpnd.ctl.starting import reread_units, start
from aovpnd.ctl.terminal import BOLD, Style, complain, plain, style
from aovpnd.errors import AovpndError, CommandRefused, ConfigError, DaemonUnreachable
from aovpnd.importers import wgquick
from aovpnd.importers.bundle import Bundle
from aovpnd.model import Severity
from aovpnd.tunnel import TUNNEL_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

DONE, FAILED = 0, 1
STDIN = "-"


class Profile(Protocol):
    """What somebody's file has become, and not yet written."""

    def judge(self, place: Place, config_dir: str) -> None:
        """`CommandRefused` where something is there already that may not be replaced. Writes nothing."""

    def keep(self, place: Place, config_dir: str, *, encrypt: bool) -> Kept:
        """Put it there."""

    def lines(self, to: Style) -> list[str]:
        """What became of it, for a person."""

    def notes(self, source: str, *, sealed: bool) -> list[str]:
        """What else there is to know; ``source``: its file ("": standard input), by which secrets stand in clear."""

    def document(self) -> Mapping[str, object]:
        """What became of it, for programs."""


def run(arguments: Arguments) -> int:
    """Import one file. Exit status 1 when it is no tunnel, cannot be written, or the daemon could not read it."""
    source = arguments.argument
    if source is None:
        raise UsageError("import which file? (NAME.conf of wg-quick, NAME.toml of IKE, or - for standard input)")
    name, suffix = _name(source, arguments), tunnels.IKE_SUFFIX if _is_ike(source) else tunnels.SUFFIX
    directory = Path(arguments.config_dir) / names.TUNNELS
    place = Place(directory, f"{name}{suffix}", f"a tunnel {name}", arguments.has("--replace"))
    shown = "standard input" if source == STDIN else printable_path(source)
    try:
        profile, findings = _convert(source, name, shown, Path(arguments.config_dir))
    except ConfigError as error:
        profile, findings = None, [finding_of(error)]
    if profile is None:
        return _refuse(findings, arguments)
    after, status = "nothing was written", DONE
    kept, reloaded, dry = Kept(), False, arguments.has("--dry-run")
    _judge_name(place, name)
    profile.judge(place, arguments.config_dir)
    if not dry:
        kept = profile.keep(place, arguments.config_dir, encrypt=arguments.has("--encrypt"))
        after, reloaded, status = _reload(arguments, name, kept)
    notes = profile.notes("" if source == STDIN else shown, sealed=kept.sealed)
    if kept.left:
        notes.append(f"no tunnel names these any more: rm {' '.join(map(printable_path, kept.left))}")
    if arguments.has("--encrypt") and not dry and not kept.sealed:
        notes.append("no secret came with it that could be encrypted")
    if arguments.json:
        written = {"name": name, "file": str(place.path), "written": not dry, "reloaded": reloaded}
        answer = {"ok": True, "text": after, **written, **profile.document(), "notes": notes}
        answer |= {"encrypted": kept.sealed}
        print(json.dumps(answer, indent=2))
    else:
        to = style(sys.stdout)
        print("\n".join([to.paint(f"{name}: {plain(place.path)}", BOLD), *profile.lines(to)]))
        print("\n".join([*(f"Note: {plain(note)}" for note in notes), plain(after)]))
    return status


def _is_ike(source: str) -> bool:
    return source.lower().endswith(tunnels.IKE_SUFFIX)


def _name(source: str, arguments: Arguments) -> str:
    given = arguments.value("--name")
    if given is not None:
        if TUNNEL_NAME.fullmatch(given) is None:
            raise UsageError(f"--name: {given!r} cannot be the name of a tunnel (letters, digits, - and _, at most 32)")
        return given
    stem = Path(source).stem if _is_ike(source) else Path(source).name.removesuffix(tunnels.SUFFIX)
    name = "" if source == STDIN else wgquick.name_of(stem)
    if not name:
        raise UsageError("what shall the tunnel be called? (--name NAME)")
    return name


def _judge_name(place: Place, name: str) -> None:
    """A name is one tunnel's, of whatever kind."""
    kinds = {tunnels.SUFFIX, tunnels.IKE_SUFFIX} - {place.path.suffix}
    for other in (place.path.with_suffix(suffix) for suffix in kinds):
        if os.path.lexists(other):
            hint = f"--name NAME gives this one another name; or first: rm {other}"
            reason = f"there is a tunnel {name} of another kind: {printable_path(other)}"
            raise CommandRefused(reason, hint=hint, code="exists")


# -- theirs -----------------------------------------------------------------------------------------------------------
def _read(source: str, shown: str, home: int | None = None) -> str:
    """The text of somebody's file, in the open directory ``home`` where there is one: whoever's it is, it must be a
    plain one, and of a sane size.
    """
    most = files.LARGEST[files.Holds.SETTINGS if _is_ike(source) else files.Holds.KEYS]
    if source == STDIN:
        return files.decoded(sys.stdin.buffer.read(most + 1), shown, most)
    try:
        with regular.opened(source, directory=home) as file:
            return files.decoded(file.read(most + 1), shown, most)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.EINVAL:
            hint = "to read from a pipe: aovpnctl import -"
            raise ConfigError("is not a regular file", file=shown, hint=hint) from None
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "this is no path"
        raise ConfigError(f"cannot be read: {reason}", file=shown) from None


def _convert(source: str, name: str, shown: str, config_dir: Path) -> tuple[Profile | None, list[Finding]]:
    if not _is_ike(source):
        return import_wgquick.convert(_read(source, shown), name, shown)
    with Bundle(Path(source).parent, config_dir, shown) as store:
        return import_ike.convert(_read(Path(source).name, shown, store.home), name, shown, store)


def _refuse(findings: list[Finding], arguments: Arguments) -> int:
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if arguments.json:
        text = "this is no tunnel of ours; nothing was written"
        answer = {"ok": False, "code": "config-invalid", "text": text, "findings": list(map(document, errors))}
        print(json.dumps(answer, indent=2))
    else:
        for finding in errors:
            complain(str(finding))
        complain("nothing was written")
    return FAILED


# -- the daemon -------------------------------------------------------------------------------------------------------
def _reload(arguments: Arguments, name: str, kept: Kept) -> tuple[str, bool, int]:
    """Have the daemon read it, by a start anew if need be: what to say, whether it did, and the exit status."""
    if kept.units:
        try:
            reread_units()
        except CommandRefused as error:
            return f"The tunnel is written, but {error}", False, FAILED
    if kept.sealed:
        return _start(arguments, anew=True)
    try:
        ask(arguments.runtime_dir, "reload")
    except DaemonUnreachable:
        return _start(arguments, anew=False)
    except AovpndError as error:
        return f"The tunnel is written, but the daemon did not read it: {error}", False, FAILED
    return f"The daemon has read it. To connect by it: aovpnctl connect {name}", True, DONE


def _start(arguments: Arguments, *, anew: bool) -> tuple[str, bool, int]:
    try:
        started = start(str(Path(arguments.config_dir)), str(Path(arguments.runtime_dir)), anew=anew)
    except CommandRefused as error:
        return f"The tunnel is written, but {error}", False, FAILED
    if started:
        remind(arguments.runtime_dir)
        return "The daemon has started, and reads it: nothing leaves outside the tunnel any more.", True, DONE
    if anew:
        return "The daemon reads the tunnel when it starts: systemctl restart aovpnd", False, DONE
    return "The daemon is not running; it reads the tunnel when it starts: systemctl start aovpnd", False, DONE

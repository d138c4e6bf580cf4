# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl import FILE``: another program's profile becomes a tunnel of ours, with a report, line by line.

Nothing in the file is run or obeyed, and no key is shown. What is written appears whole or not at all, and is root's
alone from its first byte on, or encrypted (`encrypting`). Then a running daemon is asked to read it, or an installed
one is started.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from aovpnd import names
from aovpnd.config import files, tunnels
from aovpnd.config.findings import Finding, finding_of, printable_path
from aovpnd.ctl import encrypting
from aovpnd.ctl.arguments import Arguments, UsageError
from aovpnd.ctl.asking import ask
from aovpnd.ctl.check import document
from aovpnd.ctl.remote import remind
from aovpnd.ctl.starting import reread_units, start
from aovpnd.ctl.terminal import BOLD, RED, YELLOW, Style, complain, plain, style
from aovpnd.errors import AovpndError, CommandRefused, ConfigError, DaemonUnreachable, StateError
from aovpnd.importers import wgquick
from aovpnd.importers.wgquick import Fate, Imported
from aovpnd.model import Severity
from aovpnd.tunnel import TUNNEL_NAME

DONE, FAILED = 0, 1
STDIN = "-"
FILE_MODE, DIRECTORY_MODE = 0o600, 0o700
COLOURS = {Fate.NARROWED: YELLOW, Fate.REFUSED: RED}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tunnel goes, and what it may take the place of."""

    directory: Path
    name: str
    replaces: bool

    @property
    def file(self) -> str:
        """The file's name."""
        return f"{self.name}{tunnels.SUFFIX}"

    @property
    def path(self) -> Path:
        """The whole path."""
        return self.directory / self.file


def run(arguments: Arguments) -> int:
    """Import one file. Exit status 1 when it is no tunnel, cannot be written, or the daemon could not read it."""
    source = arguments.argument
    if source is None:
        raise UsageError("import which file? (a wg-quick file, or - for standard input)")
    place = Place(Path(arguments.config_dir) / names.TUNNELS, _name(source, arguments), arguments.has("--replace"))
    shown = "standard input" if source == STDIN else printable_path(source)
    try:
        imported, findings = _convert(_read(source, shown), place.name, shown)
    except ConfigError as error:
        imported, findings = None, [finding_of(error)]
    if imported is None:
        return _refuse(findings, arguments)
    encrypted, after, status = arguments.has("--encrypt"), "nothing was written", DONE
    reloaded, dry = False, arguments.has("--dry-run")
    if not dry:
        _keep(place, imported.text, arguments)
        after, reloaded, status = _reload(arguments, place.name, anew=encrypted)
        if encrypted and source != STDIN:
            note = f"in clear it still stands in {shown}: when the tunnel works, shred -u that"
            imported = replace(imported, notes=(*imported.notes, note))
    if arguments.json:
        answer = _document(place, imported, after, reloaded=reloaded, dry=dry) | {"encrypted": encrypted and not dry}
        print(json.dumps(answer, indent=2))
    else:
        print("\n".join(report(place, imported, style(sys.stdout))))
        print(plain(after))
    return status


def _name(source: str, arguments: Arguments) -> str:
    given = arguments.value("--name")
    if given is not None:
        if TUNNEL_NAME.fullmatch(given) is None:
            raise UsageError(f"--name: {given!r} cannot be the name of a tunnel (letters, digits, - and _, at most 32)")
        return given
    name = "" if source == STDIN else wgquick.name_of(Path(source).name.removesuffix(tunnels.SUFFIX))
    if not name:
        raise UsageError("what shall the tunnel be called? (--name NAME)")
    return name


# -- theirs -----------------------------------------------------------------------------------------------------------
def _read(source: str, shown: str) -> str:
    """The text of somebody's file: whoever's it is, it must be a plain one, and of a sane size."""
    most = files.LARGEST[files.Holds.KEYS]
    if source == STDIN:
        return files.decoded(sys.stdin.buffer.read(most + 1), shown, most)
    try:
        # No waiting for the other end of a pipe, and no terminal becomes ours.
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "this is no path"
        raise ConfigError(f"cannot be read: {reason}", file=shown) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ConfigError("is not a regular file", file=shown, hint="to read from a pipe: aovpnctl import -")
        with open(descriptor, "rb", closefd=False) as file:
            return files.decoded(file.read(most + 1), shown, most)
    finally:
        os.close(descriptor)


def _convert(text: str, name: str, shown: str) -> tuple[Imported | None, list[Finding]]:
    """Our file of theirs, or what is wrong with it. What is written means the same as what was read."""
    spec, findings = tunnels.parse(text, name, shown)
    if spec is None:
        return None, findings
    imported = wgquick.convert(text, spec)
    again, complaints = tunnels.parse(imported.text, name, shown)
    if again != spec:
        reason = "what would be written does not mean the same as what was read"
        return None, [*complaints, Finding(shown, reason, "write one plain KEY = VALUE per line; report this")]
    return imported, findings


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


# -- ours -------------------------------------------------------------------------------------------------------------
def _keep(place: Place, text: str, arguments: Arguments) -> None:
    """Put the tunnel there, in clear or encrypted; then the daemon has to be started anew."""
    if not arguments.has("--encrypt"):
        _write(place, lambda new, directory: _new_file(text, new, directory))
        if encrypting.forget(place.file):
            reread_units()
        return
    os.close(_opened(place))  # who may not write here is told so, and not by systemd-creds
    if os.path.lexists(place.path) and not place.replaces:
        raise _exists(place)
    encrypting.seal(place.file, text, arguments.config_dir)
    _write(place, lambda new, directory: os.symlink(encrypting.target(place.file), new, dir_fd=directory))
    reread_units()


def _write(place: Place, make: Callable[[str, int], None]) -> None:
    """Put what ``make`` makes there, whole. `CommandRefused` when there is one already, `StateError` when it cannot be
    written.
    """
    shown = printable_path(place.path)
    directory = _opened(place)
    new = f".{place.file}.{secrets.token_hex(8)}"
    try:
        try:
            make(new, directory)
            if place.replaces:
                os.rename(new, place.file, src_dir_fd=directory, dst_dir_fd=directory)
            else:
                # Unlike rename(2), link(2) never takes the place of anything, not even of a link.
                os.link(new, place.file, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
        finally:
            _forget(new, directory)
        os.fsync(directory)
    except FileExistsError:
        raise _exists(place) from None
    except PermissionError:
        raise CommandRefused("only root may import tunnels", hint="try sudo", code="not-authorised") from None
    except OSError as error:
        raise StateError(f"{shown}: {error.strerror or error}", hint="is the file system full or read-only?") from None
    finally:
        os.close(directory)


def _opened(place: Place) -> int:
    """The directory of tunnels, open. `CommandRefused` for whoever is not root, `StateError` where it cannot be."""
    try:
        return _directory(place.directory)
    except PermissionError:
        raise CommandRefused("only root may import tunnels", hint="try sudo", code="not-authorised") from None
    except OSError as error:
        raise StateError(f"{printable_path(place.directory)}: {error.strerror or error}") from None


def _new_file(text: str, new: str, directory: int) -> None:
    """Hidden, so that nobody reads it before it is whole; root's alone from its first byte on."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(new, flags, FILE_MODE, dir_fd=directory)
    with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
        os.fchmod(descriptor, FILE_MODE)  # whatever the umask
        file.write(text)
        file.flush()
        os.fsync(descriptor)


def _exists(place: Place) -> CommandRefused:
    hint = "--replace takes its place; --name NAME gives this one another name"
    shown = printable_path(place.path)
    return CommandRefused(f"there is a tunnel {place.name} already: {shown}", hint=hint, code="exists")


def _directory(path: Path) -> int:
    """Open the directory of tunnels, made where there is none; nobody else may be able to change what is in it."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if status.st_uid not in {0, os.geteuid()} or stat.S_IMODE(status.st_mode) & 0o022:
        os.close(descriptor)
        shown = printable_path(path)
        raise StateError(f"{shown} can be changed by others", hint=f"chown root {shown}; chmod 0700 {shown}")
    return descriptor


def _forget(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return  # it was renamed: it is the tunnel now


# -- the daemon -------------------------------------------------------------------------------------------------------
def _reload(arguments: Arguments, name: str, *, anew: bool) -> tuple[str, bool, int]:
    """Have the daemon read it, by a start ``anew`` if need be: what to say, whether it did, and the exit status."""
    if anew:
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


# -- the report -------------------------------------------------------------------------------------------------------
def report(place: Place, imported: Imported, to: Style) -> list[str]:
    """What became of the file, line by line, for a person."""
    shown = [to.paint(f"{place.name}: {plain(place.path)}", BOLD)]
    width = len(str(imported.lines[-1].number)) if imported.lines else 1
    for line in imported.lines:
        fate = f"{line.fate:<8}"
        fate = to.paint(fate, COLOURS[line.fate]) if line.fate in COLOURS else fate
        shown.append(f"  line {line.number:>{width}}  {fate}  {line.key} = {plain(line.value)}")
        if line.why:
            shown += to.fold(f"({plain(line.why)})", " " * (width + 19), " " * (width + 19))
    return [*shown, *(f"Note: {plain(note)}" for note in imported.notes)]


def _document(place: Place, imported: Imported, after: str, *, reloaded: bool, dry: bool) -> dict[str, object]:
    return {
        "ok": True,
        "text": after,
        "name": place.name,
        "file": str(place.path),
        "written": not dry,
        "reloaded": reloaded,
        "lines": [
            {"line": line.number, "key": line.key, "value": line.value, "fate": line.fate.value, "why": line.why}
            for line in imported.lines
        ],
        "notes": list(imported.notes),
    }

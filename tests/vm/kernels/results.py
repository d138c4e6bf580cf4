# SPDX-License-Identifier: GPL-3.0-or-later
"""What every file came to, kept between runs, and the page that says it."""

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final, Self

from tests.lab.product import CHECKOUT
from tests.vm.kernels.core import CORE, path_of

_PROGRAM: Final = ("aovpnd", "etc", "systemd")
"""A result is one of these directories' state."""
_HEAD: Final = """<!-- SPDX-License-Identifier: GPL-3.0-or-later -->
# The leak suite on kernels that do WireGuard and ESP themselves

`make test-vm-kernel` writes this page. The suite of `tests/netns` runs here inside booted Debians, with the same lab of
namespaces, the same senders and the same recorders as everywhere else; but the laptop's tunnels are the kernel's:
WireGuard links, or ESP behind XFRM interfaces with the machine's own strongSwan. (The gateways remain wireguard-go and
kernel-libipsec, which speak the same protocols.) A run fails when wireguard-go was started for a link of ours, or when
no tunnel of the kernel's was seen; the machine's charon has no kernel-libipsec to fall back to. QEMU translates; the
lab's deadlines are stretched by one factor (`AOVPND_LAB_SLOW`), what the program itself waits for is not. A file
that is not in a table has not run there yet, one whose failures end in parentheses was broken off.

"""
_SUITE: Final = re.compile(r"## (\w+): Linux (.+)")
_ROW: Final = re.compile(
    r"\| (\w+) \| `(\w+)` \| (\d+) \| (\d+) \| (\d+) \| ([\w ,—]+) \| ([\d.]+) \| `([0-9a-f]+\+?|unknown)` \|"
)
_SEEN: Final = re.compile(r"(\w+) after (\d+)")
_FAILURES: Final = re.compile(r"\* (\w+), `(\w+)`: (.+)")


@dataclass(frozen=True, slots=True)
class Key:
    """One file, on one suite's kernel, with one kind of tunnel."""

    suite: str
    kind: str
    file: str

    def __str__(self) -> str:
        return f"{self.suite} {self.kind} {self.file}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What it came to."""

    commit: str
    """Of the checkout, in short; with a + when its files were others."""
    release: str
    """Of the kernel."""
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    failures: tuple[str, ...] = ()
    """The names of the tests that failed, or what kept all of them from running."""
    seen: Mapping[str, int] = field(default_factory=dict)
    """Kinds of the kernel's tunnel links, and after how many tests they were seen."""

    @property
    def good(self) -> bool:
        """Whether nothing failed, something ran, and by the kernel's own tunnels."""
        return not self.failures and self.passed > 0 and bool(self.seen)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped in {self.seconds:.0f} s"


@dataclass(slots=True)
class Results:
    """All outcomes, in a file."""

    path: Path
    _all: dict[Key, Outcome]

    @classmethod
    def open(cls, path: Path, page: Path | None = None) -> Self:
        """Read the file, if there is one, and of an earlier ``page`` what the file does not have: a cache is one
        machine's, the page goes with the checkout.
        """
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        told = read(page.read_text(encoding="utf-8")) if page is not None and page.exists() else {}
        return cls(path, {**told, **{Key(**one["key"]): _outcome(one["outcome"]) for one in kept}})

    def keep(self, key: Key, outcome: Outcome) -> None:
        """Take a new one in the place of what was there."""
        # Another run may have written meanwhile.
        self._all = {**self._all, **type(self).open(self.path)._all, key: outcome}  # noqa: SLF001  our own
        kept = [{"key": asdict(key), "outcome": asdict(outcome)} for key, outcome in self._all.items()]
        aside = self.path.with_suffix(".new")
        aside.write_text(json.dumps(kept, indent=1), encoding="utf-8")
        aside.rename(self.path)

    def good(self, key: Key) -> bool:
        """Whether the last run of it was good."""
        return key in self._all and self._all[key].good

    def holds(self, key: Key) -> bool:
        """Whether it was good, and program and file are as they were then."""
        return self.good(key) and unchanged(self._all[key].commit, (*_PROGRAM, path_of(key.file)))

    def page(self) -> str:
        """Everything as docs/kernels.md."""
        suites = sorted({key.suite for key in self._all})
        return _HEAD + "\n".join(_table(suite, self._all) for suite in suites)


def read(page: str) -> dict[Key, Outcome]:
    """What a page tells of its files."""
    found: dict[Key, Outcome] = {}
    suite = release = ""
    for line in page.splitlines():
        if head := _SUITE.fullmatch(line):
            suite, release = head.groups()
        elif row := _ROW.fullmatch(line):
            kind, file, passed, failed, skipped, seen, minutes, made = row.groups()
            links = {link: int(number) for link, number in _SEEN.findall(seen)}
            counts = (int(passed), int(failed), int(skipped), float(minutes) * 60)
            found[Key(suite, kind, file)] = Outcome(made, release, *counts, seen=links)
        elif failures := _FAILURES.fullmatch(line):
            kind, file, names = failures.groups()
            key = Key(suite, kind, file)
            found[key] = replace(found[key], failures=tuple(names.split(", ")))
    return found


def _outcome(kept: dict[str, object]) -> Outcome:
    return Outcome(**{**kept, "failures": tuple(kept["failures"])})  # type: ignore[arg-type]  # our own file


def _table(suite: str, everything: Mapping[Key, Outcome]) -> str:
    """One suite's part of the page."""
    rows = [
        (key, everything[key])
        for kind, files in CORE.items()
        for file in files
        if (key := Key(suite, kind, file)) in everything
    ]
    releases = " and ".join(dict.fromkeys(part for _, outcome in rows for part in outcome.release.split(" and ")))
    lines = [f"## {suite}: Linux {releases}", ""]
    lines += ["| tunnel | file | passed | failed | skipped | tunnels seen | minutes | commit |"]
    lines += ["|---|---|---:|---:|---:|---|---:|---|"]
    for key, outcome in rows:
        seen = ", ".join(f"{kind} after {number}" for kind, number in outcome.seen.items())
        counts = f"{outcome.passed} | {outcome.failed} | {outcome.skipped}"
        minutes = f"{outcome.seconds / 60:.1f}"
        lines.append(f"| {key.kind} | `{key.file}` | {counts} | {seen or '—'} | {minutes} | `{outcome.commit}` |")
    for kind in CORE:
        mine = [outcome for key, outcome in rows if key.kind == kind]
        sums = " | ".join(str(sum(getattr(one, what) for one in mine)) for what in ("passed", "failed", "skipped"))
        lines.append(f"| **{kind}** | {len(mine)} of {len(CORE[kind])} files | {sums} | | | |")
    failed = [f"* {key.kind}, `{key.file}`: {', '.join(outcome.failures)}" for key, outcome in rows if outcome.failures]
    if failed:
        lines += ["", "Failed:", "", *failed]
    return "\n".join([*lines, ""])


def commit() -> str:
    """The commit of the checkout, in short, with a + when files that a run reads differ from it."""
    changed = _git("status", "--short", *_PROGRAM, "tests/lab", "tests/netns", "tests/vm/kernels")
    return (_git("rev-parse", "--short=12", "HEAD") or "unknown") + ("+" if changed else "")


def unchanged(since: str, paths: tuple[str, ...]) -> bool:
    """Whether these files are those of a commit that `commit` has named."""
    return not since.endswith("+") and _git("diff", "--name-only", since, "--", *paths) == ""


def _git(*words: str) -> str:
    # The tree may belong to another user than root, who runs this. What fails says so, and that counts as a change.
    command = ["git", "-c", f"safe.directory={CHECKOUT}", "-C", str(CHECKOUT), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip()

# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl check [FILE]``: what is wrong with the configuration; works without a daemon, and changes nothing."""

from __future__ import annotations

import sys
from pathlib import Path

from aovpnd import names
from aovpnd.config import Finding, check
from aovpnd.ctl.arguments import Arguments
from aovpnd.ctl.readable import require_readable
from aovpnd.ctl.terminal import plain
from aovpnd.model import Severity

DONE, FAILED = 0, 1


def run(arguments: Arguments) -> int:
    """Check one file, or all that the daemon would read. Exit status 1 when the daemon could not use something."""
    if arguments.argument is None:
        require_readable(arguments)
    paths = [Path(arguments.argument)] if arguments.argument is not None else []
    findings = check(paths, Path(arguments.config_dir), Path(arguments.state_dir), Path(names.VENDOR_DIR))
    valid = all(finding.severity is not Severity.ERROR for finding in findings)
    if arguments.json:
        import json

        print(json.dumps({"ok": valid, "findings": [document(finding) for finding in findings]}, indent=2))
    else:
        for finding in findings:
            word = "" if finding.severity is Severity.ERROR else f"{finding.severity}: "
            print(plain(f"{word}{finding}"), file=sys.stdout if not word else sys.stderr)
        if valid:
            print(f"{plain(paths[0]) if paths else 'the configuration'} is in order")
    return DONE if valid else FAILED


def document(finding: Finding) -> dict[str, object]:
    """One finding for programs."""
    return {
        "file": finding.file,
        "line": finding.line,
        "key": finding.key,
        "severity": finding.severity.value,
        "code": finding.code,
        "text": finding.reason,
        "hint": finding.hint,
    }

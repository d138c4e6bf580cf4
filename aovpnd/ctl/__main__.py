# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl``: read the command line, run the command, answer with an exit status. See aovpnctl(8).

0 done · 1 refused or failed · 2 wrong usage · 3 daemon not reachable
"""

from __future__ import annotations

import os
import sys

from aovpnd.ctl.arguments import Arguments, HelpWanted, UsageError, parse
from aovpnd.ctl.terminal import complain
from aovpnd.errors import AovpndError, DaemonUnreachable

DONE, FAILED, WRONG_USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130


def main(words: list[str] | None = None) -> int:
    """Run one command; the exit status."""
    if sys.stdout is None:  # closed: no file that we open may come to be it, and writing to it fails (EBADF)
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # a terminal without UTF-8
    try:
        status = _answer(sys.argv[1:] if words is None else words)
        sys.stdout.flush()
    except BrokenPipeError:  # `aovpnctl status | head -1`: whoever reads has read enough
        _forget_the_rest()
        return DONE
    except OSError as error:  # what else can fail is told by `AovpndError`
        _forget_the_rest()
        complain(f"{error.filename or 'standard output'}: {error.strerror or error}")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _answer(words: list[str]) -> int:
    """The exit status, when all is said."""
    try:
        arguments = parse(words)
    except HelpWanted as help_text:
        print(help_text)
        return DONE
    except UsageError as error:
        complain(str(error))
        return WRONG_USAGE
    try:
        return run(arguments)
    except UsageError as error:
        complain(str(error))
        return WRONG_USAGE
    except AovpndError as error:
        report(error, arguments)
        return UNREACHABLE if isinstance(error, DaemonUnreachable) else FAILED


def _forget_the_rest() -> None:
    """What could not be written is not tried again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(arguments: Arguments) -> int:
    """Run the command, importing only what it needs."""
    match arguments.command:
        case "status":
            from aovpnd.ctl import status

            return status.run(arguments)
        case "tunnels":
            from aovpnd.ctl import tunnels

            return tunnels.run(arguments)
        case "wait":
            from aovpnd.ctl import wait

            return wait.run(arguments)
        case "check":
            from aovpnd.ctl import check

            return check.run(arguments)
        case "explain":
            from aovpnd.ctl import explain

            return explain.run(arguments)
        case "doctor":
            from aovpnd.ctl import doctor

            return doctor.run(arguments)
        case "import":
            from aovpnd.ctl import import_

            return import_.run(arguments)
        case "export":
            from aovpnd.ctl import export

            return export.run(arguments)
        case "sign-in":
            from aovpnd.ctl import signing

            return signing.run(arguments)
        case "policy":
            from aovpnd.ctl import policy

            return policy.run(arguments)
        case "unblock" if arguments.has("--offline"):
            from aovpnd.ctl import offline

            return offline.run(arguments)
        case _:
            from aovpnd.ctl import orders

            return orders.run(arguments)


def report(error: AovpndError, arguments: Arguments) -> None:
    """Say why nothing was done."""
    if arguments.json:
        import json

        print(json.dumps({"ok": False, "code": error.code, "text": error.text, "hint": error.hint}))
    else:
        complain(str(error))


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: GPL-3.0-or-later
"""The error tree, by whose fault it is.

::

    AovpndError                 anything that aovpnd raises on purpose; carries text and hint
    ├── ConfigError             what somebody wrote is wrong: file, line, key, what to do
    ├── CommandRefused          a command cannot be carried out now: code, why, what to do
    ├── SystemFault             the system did not do what we asked
    │   ├── NftError            libnftables or the kernel refused a ruleset
    │   ├── NetlinkError        a link, address, route or rule could not be read or changed
    │   ├── ToolError           a helper program (wg, wireguard-go, systemctl) failed
    │   └── StateError          a file under STATE or RUNTIME could not be read or written
    ├── AlreadyRunning          another daemon or guard holds the lock
    └── DaemonUnreachable       no daemon answers (aovpnctl's exit code 3)

A message says what is wrong; the hint, shown in parentheses, says what to do. Neither ever holds a key.
"""


class AovpndError(Exception):
    """Base of all our errors: ``str(error)`` is one line for a person.

    ``text`` says what is wrong, ``hint`` what to do about it (may be empty), ``code`` is a stable word for programs.
    """

    code = "error"

    def __init__(self, text: str, *, hint: str = "", code: str | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.hint = hint
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{self.text} ({self.hint})" if self.hint else self.text


class ConfigError(AovpndError):
    """Something that an administrator or user wrote is wrong; the last good configuration stays in force.

    ``file``, ``line`` (from 1, or None) and ``key`` (or None) say where.
    """

    code = "config-invalid"

    def __init__(
        self, text: str, *, file: str, line: int | None = None, key: str | None = None, hint: str = ""
    ) -> None:
        where = f"{file}:{line}" if line is not None else file
        super().__init__(f"{where}: {key}: {text}" if key else f"{where}: {text}", hint=hint)
        self.reason = text
        self.file = file
        self.line = line
        self.key = key


class CommandRefused(AovpndError):
    """The command was understood and cannot be carried out now; nothing was changed."""

    code = "refused"


class SystemFault(AovpndError):
    """The kernel or a helper did not do what was asked; the block stays as it is and the action is tried again."""

    code = "system-fault"


class NftError(SystemFault):
    """libnftables refused a text, or a table is not there."""

    code = "nft-failed"


class NetlinkError(SystemFault):
    """Links, addresses, routes or rules could not be read or changed."""

    code = "netlink-failed"


class ToolError(SystemFault):
    """A helper program failed; its output is quoted without keys."""

    code = "tool-failed"


class StateError(SystemFault):
    """A file of ours could not be read or written."""

    code = "state-failed"


class AlreadyRunning(AovpndError):
    """Another process holds the lock that only one may hold."""

    code = "already-running"


class DaemonUnreachable(AovpndError):
    """No daemon answers on the control socket."""

    code = "daemon-unreachable"

# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: one table says every command, option and help text. argparse would double the time of `status`."""

from __future__ import annotations

import os

from aovpnd import __version__, names

PROGRAM = "aovpnctl"

VALUE, FLAG = "value", "flag"

COMMON = {
    "--json": (FLAG, "", "answer as JSON, for programs"),
    "--runtime-dir": (VALUE, "DIR", f"where the daemon publishes (default: {names.RUNTIME_DIR})"),
    "--help": (FLAG, "", "show this help"),
}
"""Options that every command has: kind, word for the value, help."""
CONFIG_DIR = (VALUE, "DIR", f"where the configuration is (default: {names.CONFIG_DIR})")
STATE_DIR = (VALUE, "DIR", f"where the daemon keeps its state (default: {names.STATE_DIR})")

COMMANDS: dict[str, tuple[str, str, dict[str, tuple[str, str, str]]]] = {
    "status": (
        "",
        "show network, tunnel, time left and problems",
        {"--watch": (FLAG, "", "keep showing it until Ctrl-C")},
    ),
    "allow-temp": (
        "[DURATION]",
        "open the whole machine for a while (3min, 1h 30s, 90)",
        {
            "--reason": (VALUE, "TEXT", "why, for the journal and for status"),
            "--cancel": (FLAG, "", "end the temporary access now"),
        },
    ),
    "connect": ("[NAME]", "connect, by the tunnel NAME or the preferred one", {}),
    "disconnect": ("", "take the tunnel down; the block stays", {}),
    "tunnels": ("", "list the tunnels", {}),
    "check": ("[FILE]", "check the configuration, or one file", {"--config-dir": CONFIG_DIR, "--state-dir": STATE_DIR}),
    "policy": (
        "",
        "show every setting and where it comes from",
        {"--config-dir": CONFIG_DIR, "--state-dir": STATE_DIR},
    ),
    "import": (
        "FILE",
        "make a tunnel of a wg-quick or IKE file (-: stdin)",
        {
            "--name": (VALUE, "NAME", "what to call it (default: as the file)"),
            "--replace": (FLAG, "", "take the place of a tunnel of that name"),
            "--encrypt": (FLAG, "", "keep it encrypted, by the TPM or the machine's key"),
            "--dry-run": (FLAG, "", "only say what would become of the file"),
            "--config-dir": CONFIG_DIR,
        },
    ),
    "export": ("NAME", "write out a tunnel's file, keys and all", {"--config-dir": CONFIG_DIR}),
    "sign-in": (
        "[NAME]",
        "give what a tunnel asks for, or sign in by browser",
        {
            "--stdin": (FLAG, "", "read them from standard input, one a line"),
            "--agent": (FLAG, "", "let systemd ask (console, splash), whenever due"),
            "--timeout": (VALUE, "SPAN", "how long it may take (default: 30s, browser: 10min)"),
        },
    ),
    "explain": (
        "[DESTINATION]",
        "would it leave, and why (203.0.113.80:443/tcp)",
        {},
    ),
    "doctor": (
        "",
        "look at the whole machine, and say what to do",
        {"--config-dir": CONFIG_DIR, "--state-dir": STATE_DIR},
    ),
    "unblock": (
        "",
        "take the block off for good",
        {
            "--offline": (FLAG, "", "without the daemon: remove what it loaded, by hand"),
            "--config-dir": CONFIG_DIR,
            "--state-dir": STATE_DIR,
        },
    ),
    "block": ("", "put the block on", {}),
    "confirm": ("", "let a block stay that would undo itself", {"--state-dir": STATE_DIR}),
    "wait": (
        "",
        "wait until nothing can leave, or the tunnel carries",
        {
            "--protected": (FLAG, "", "until nothing can leave outside the tunnel"),
            "--connected": (FLAG, "", "until the tunnel carries, too"),
            "--timeout": (VALUE, "SPAN", "give up after this long (default: never)"),
        },
    ),
}
"""Every command: its argument, what it does, its own options."""
EITHER = {"wait": "--protected|--connected"}
"""Options of which a command needs one, as its usage shows them."""


class UsageError(Exception):
    """The command line cannot be understood; ``str(error)`` says why and what to do."""


class HelpWanted(Exception):
    """Somebody asked for help, or for the version; ``str(error)`` is it."""


class Arguments:
    """A command line, understood. ``argument`` is the one after the command, or None."""

    __slots__ = ("_options", "argument", "command")

    def __init__(self, command: str, argument: str | None, options: dict[str, str]) -> None:
        self.command = command
        self.argument = argument
        self._options = options

    def has(self, option: str) -> bool:
        """Whether an option was given."""
        return option in self._options

    def value(self, option: str) -> str | None:
        """The value of an option, or None."""
        return self._options.get(option)

    @property
    def json(self) -> bool:
        """Whether programs are to read the answer."""
        return "--json" in self._options

    @property
    def runtime_dir(self) -> str:
        """Where the daemon publishes: the option, else the environment, else the usual place."""
        return self._options.get("--runtime-dir") or os.environ.get(names.RUNTIME_DIR_VARIABLE, "") or names.RUNTIME_DIR

    @property
    def config_dir(self) -> str:
        """Where the configuration is."""
        return self._options.get("--config-dir") or names.CONFIG_DIR

    @property
    def state_dir(self) -> str:
        """Where the daemon keeps its state."""
        return self._options.get("--state-dir") or names.STATE_DIR


def parse(words: list[str]) -> Arguments:
    """Read the words after the program's name. `UsageError` for what is wrong, `HelpWanted` for help."""
    command, rest, options = "", [], {}
    todo = list(words)
    while todo:
        word = todo.pop(0)
        if word == "--":
            rest += todo
            break
        if word == "--version":
            raise HelpWanted(f"{PROGRAM} {__version__}")
        if word == "-h":
            word = "--help"
        if not word.startswith("-") or word == "-":
            rest.append(word)
            if not command:
                command = rest.pop()
                if command not in COMMANDS:
                    raise UsageError(f"there is no command {word!r} (there are: {', '.join(COMMANDS)})")
            continue
        name, value = _option(word, todo, command)
        options[name] = value
    if "--help" in options:
        raise HelpWanted(help_text(command))
    _judge(command, rest, options)
    return Arguments(command, rest[0] if rest else None, options)


def _option(word: str, todo: list[str], command: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    known = COMMON if not command else COMMON | COMMANDS[command][2]
    if name not in known:
        owners = [other for other, (_, _, own) in COMMANDS.items() if name in own]
        hint = f"it belongs to: {', '.join(owners)}" if owners else f"see {PROGRAM} {command or ''}".strip() + " --help"
        raise UsageError(f"there is no option {name!r} {'here' if owners else ''}".rstrip() + f" ({hint})")
    kind, metavar, _ = known[name]
    if kind == FLAG:
        if equals:
            raise UsageError(f"{name} takes no value")
        return name, ""
    if not equals:
        if not todo or todo[0].startswith("--"):
            raise UsageError(f"{name} needs a value ({name}={metavar})")
        value = todo.pop(0)
    if not value:
        raise UsageError(f"{name} needs a value ({name}={metavar})")
    return name, value


def _judge(command: str, rest: list[str], options: dict[str, str]) -> None:
    """What no option can say of itself."""
    if not command:
        raise UsageError(f"which command? ({', '.join(COMMANDS)}; see {PROGRAM} --help)")
    takes = COMMANDS[command][0]
    if len(rest) > bool(takes):
        raise UsageError(f"{command} takes {f'one {takes}' if takes else 'no argument'}, not {rest[-1]!r}")
    if "--cancel" in options and (rest or "--reason" in options):
        raise UsageError("--cancel ends the temporary access; it goes with no DURATION and no --reason")
    if command == "sign-in" and "--stdin" in options and "--agent" in options:
        raise UsageError("either --stdin or --agent: who is to be asked?")
    if command == "wait" and ("--protected" in options) == ("--connected" in options):
        raise UsageError(f"wait for what? ({PROGRAM} wait --protected, or {PROGRAM} wait --connected)")


# -- help -------------------------------------------------------------------------------------------------------------
def help_text(command: str) -> str:
    """What ``--help`` shows, for one command or for all."""
    if not command:
        lines = [f"usage: {PROGRAM} COMMAND [OPTION...]", "", "commands:"]
        lines += _columns([(f"{name} {takes}".rstrip(), what) for name, (takes, what, _) in COMMANDS.items()])
        options = COMMON | {"--version": (FLAG, "", "show the version")}
    else:
        takes, what, own = COMMANDS[command]
        usage = ("usage:", PROGRAM, command, takes, EITHER.get(command), "[OPTION...]")
        lines = [" ".join(filter(None, usage)), "", f"  {what}"]
        options = own | COMMON
    lines += ["", "options:"]
    lines += _columns([(f"{name} {metavar}".rstrip(), what) for name, (_, metavar, what) in options.items()])
    if not command:
        lines += ["", "exit status: 0 done, 1 refused or failed, 2 wrong usage, 3 no daemon"]
    return "\n".join(lines)


def _columns(rows: list[tuple[str, str]]) -> list[str]:
    width = max(len(left) for left, _ in rows)
    return [f"  {left:<{width}}  {right}" for left, right in rows]

# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl explain [[USER@]DESTINATION]``: would it leave, by which permit and rule, from which file and line.

Without a destination: what the daemon saw, what it wants, and what is still to be done. The daemon answers; nothing is
looked up here, names least of all.
"""

from __future__ import annotations

import sys

from aovpnd import destinations
from aovpnd.ctl.arguments import Arguments, UsageError
from aovpnd.ctl.asking import ask
from aovpnd.ctl.orders import sentence
from aovpnd.ctl.terminal import BOLD, GREEN, RED, Style, plain, style
from aovpnd.errors import AovpndError
from aovpnd.shape import EXPLAINED, OVERVIEW, fits, is_shallow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DONE = 0


def run(arguments: Arguments) -> int:
    """Ask and show. Exit status 0 whatever becomes of the packet: the question was answered."""
    where = arguments.argument
    if where is not None:
        where = _of_whom(where)
        try:
            destinations.parse(where)
        except destinations.DestinationError as error:
            raise UsageError(f"{error} ({error.hint})") from error
    answer = ask(arguments.runtime_dir, "explain", destination=where)
    if where is not None and where != arguments.argument:  # the daemon knows users by their numbers, people do not
        number, name = (text.partition("@")[0] for text in (where, str(arguments.argument)))
        answer["text"] = answer["text"].replace(f"{number}@", f"{name}@", 1)
    if not fits(answer["data"], OVERVIEW if where is None else EXPLAINED) or not is_shallow(answer["data"]):
        hint = "aovpnctl and aovpnd must be of the same release"
        raise AovpndError("the daemon's answer cannot be understood", hint=hint)
    if arguments.json:
        import json

        print(json.dumps({"ok": True, "text": answer["text"], **answer["data"]}, indent=2))
    else:
        to = style(sys.stdout)
        print("\n".join(overview(answer, to) if where is None else explained(answer, to)))
    return DONE


def _of_whom(where: str) -> str:
    """A user's name before the @ as his number, by which the daemon knows him."""
    name, at, address = where.partition("@")
    if not at or name.isdecimal():
        return where
    from aovpnd import passwd

    found = passwd.users().get(name)
    if found is None:
        raise UsageError(f"{name[:40]!a} is no user of this machine (id -u NAME says the number of one)")
    return f"{found}@{address}"


def explained(answer: dict[str, Any], to: Style) -> list[str]:
    """The sentence, and below it the way that the packet went."""
    data = answer["data"]
    shown = [to.paint(line, BOLD, GREEN if data["passes"] else RED) for line in to.fold(sentence(answer))]
    if data["hint"]:
        shown += to.fold(f"({plain(data['hint'])})")
    if data["permit"]:
        shown.append(f"Permit: {plain(data['permit'])} ({plain(data['specification'])})")
    shown += [f"From: {line}" for line in map(_origin, data["origins"])]
    if data["source"]:
        shown.append(f"Sent from: {plain(data['source'])}")
    shown.append("The way it goes:")
    for stage in data["stages"]:
        shown += to.fold(f"{plain(stage['where'])}: {plain(stage['why'])}: {plain(stage['verdict'])}", "  ", "    ")
        shown += to.fold(plain(stage["rule"]), "    ", "      ")
    return shown


def _origin(origin: dict[str, Any]) -> str:
    where = f"{plain(origin['file'])}:{origin['line']}" if origin["line"] is not None else plain(origin["file"])
    return f"{where}: {plain(origin['key'])} = {plain(origin['value'])}"


def overview(answer: dict[str, Any], to: Style) -> list[str]:
    """Everything, in the order in which the daemon thinks."""
    data = answer["data"]
    shown = [to.paint(plain(answer["text"]), BOLD)]
    for title, part in (("Seen", "snapshot"), ("Wanted", "intent"), ("To be", "desired")):
        shown += ["", to.paint(f"{title}:", BOLD), *_tree(data[part], "  ")]
    shown += [
        "",
        to.paint("Still to be done:", BOLD),
        *(f"  {plain(action)}" for action in data["actions"] or ["nothing"]),
    ]
    if data["failures"]:
        shown += ["", to.paint("Failed, and tried again:", BOLD), *_tree(data["failures"], "  ")]
    return shown


def _tree(value: Any, indent: str) -> list[str]:  # noqa: ANN401 - JSON
    """Keys and values, one to a line, with the underscores of programs taken out."""
    if isinstance(value, list):
        return [line for item in value for line in _item(item, indent)]
    shown = []
    for key, inner in value.items():
        name = plain(key).replace("_", " ")
        if isinstance(inner, dict) or (isinstance(inner, list) and inner):
            shown += [f"{indent}{name}:", *_tree(inner, f"{indent}  ")]
        else:
            shown.append(f"{indent}{name}: {_scalar(inner)}")
    return shown


def _item(item: Any, indent: str) -> list[str]:  # noqa: ANN401 - JSON
    if isinstance(item, dict):
        return [f"{indent}{', '.join(f'{plain(key)} {_scalar(inner)}' for key, inner in item.items())}"]
    return [f"{indent}{_scalar(item)}"]


def _scalar(value: Any) -> str:  # noqa: ANN401 - JSON
    match value:
        case None | [] | "":
            return "none"
        case True:
            return "yes"
        case False:
            return "no"
        case list():
            return " ".join(map(_scalar, value))
        case _:
            return plain(value)

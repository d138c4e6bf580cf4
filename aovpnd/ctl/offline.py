# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl unblock --offline``: the way out when there is no daemon to ask, or none that works.

It needs root, the standard library, nft(8) and ip(8), and neither bus, daemon nor any other package. It takes away what
the daemon and the guard put on the system, piece by piece, and says of each piece what became of it: one that cannot be
removed does not keep the others. The tunnel's link stays; without our routes, rules and name servers nothing depends on
it.

The order: first the mark that keeps a restarted daemon from blocking again, then the guard, whose tables nobody else
can remove, then tables, then routing, then names.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
from pathlib import Path

from aovpnd import names
from aovpnd.ctl.arguments import Arguments
from aovpnd.ctl.calling import SYSTEMCTL, SYSTEMD, call
from aovpnd.ctl.reading import is_running
from aovpnd.ctl.terminal import plain
from aovpnd.errors import CommandRefused
from aovpnd.lock import holder
from aovpnd.resolvconf import ResolvConf

DONE, FAILED = 0, 1
NFT, IP = "/usr/sbin/nft", "/usr/sbin/ip"
RESOLVECTL, RESOLVCONF = "/usr/bin/resolvectl", "/usr/sbin/resolvconf"
RECORDS = tuple(f"/run/resolvconf/{place}" for place in ("keys", "interfaces", "interface"))
"""Where resolvconf(8) keeps its records, by version."""
PATIENCE_S = 10.0
"""How long one program, or the death of the guard, may take."""
TABLES = (
    ("inet", names.TABLE),
    ("netdev", names.EARLY_TABLE),
    ("inet", names.GUARD_TABLE),
    ("netdev", names.GUARD_TABLE),
)
RULES = (
    (names.RULE_PRIORITY, ("lookup", str(names.ROUTE_TABLE))),
    (names.SHUT_PRIORITY, ("type", "unreachable")),
)
"""Priority and action of our rules, per family; see `adapters.netlink`."""
MOST_COPIES = 8
"""How often one rule is looked for: somebody may have doubled it."""
MOST_LANE_RULES = 1024
"""The same of rules that lead to one table: a user has one each, a link and an address as well."""

NOT_THERE = "was not there"
ABSENT = ("No such file or directory", "does not exist", "Address family not supported")
"""How nft(8) and ip(8) say that there is nothing to remove, in the C locale; the last without IPv6 in the kernel."""


TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Step = tuple[str, Callable[..., str], tuple[Any, ...]]
    """What is removed, how, and of what."""


class StepFailed(Exception):
    """A piece could not be removed; ``str(error)`` says why."""


def run(arguments: Arguments) -> int:
    """Remove everything of ours; exit status 1 when something is left."""
    if os.geteuid() != 0:
        raise CommandRefused("only root may do this", hint="try sudo", code="not-authorised")
    if is_running(arguments.runtime_dir):
        hint = "ask it: aovpnctl unblock; if it does not answer: systemctl stop aovpnd, then this again"
        raise CommandRefused("the daemon is running, and would put the block back at once", hint=hint, code="running")
    report = [_perform(step) for step in _steps(arguments)]
    failed = [what for what, _, fine in report if not fine]
    if arguments.json:
        import json

        steps = [{"what": what, "result": result, "ok": fine} for what, result, fine in report]
        print(json.dumps({"ok": not failed, "steps": steps}, indent=2))
    else:
        for what, result, _ in report:
            print(plain(f"{what}: {result}"))
        if failed:
            print("The block may still be in place: see what failed above.")
        else:
            print("The block is off for good. To put it on: systemctl start aovpnd, then aovpnctl block")
    return FAILED if failed else DONE


def _steps(arguments: Arguments) -> list[Step]:
    marker = os.path.join(arguments.config_dir, names.UNBLOCKED_MARKER)
    lock = os.path.join(arguments.runtime_dir, names.GUARD_LOCK_FILE)
    steps: list[Step] = [(marker, write_marker, (marker,)), ("guard", stop_guard, (lock,))]
    steps += [(f"table {family} {table}", remove_table, (family, table)) for family, table in TABLES]
    for version in ("4", "6"):
        steps += [(f"IPv{version} rule {rule[0]}", remove_rule, (version, *rule)) for rule in RULES]
        steps += [(f"IPv{version} rules of charon's look-ups", remove_looks, (version,))]
        lanes = _lanes(version)
        steps += [(f"IPv{version} rules to table {table}", remove_lane, (version, table)) for table in lanes]
        steps += [
            (f"IPv{version} routes of table {table}", remove_routes, (version, table))
            for table in (str(names.ROUTE_TABLE), *lanes)
        ]
    kept = os.path.join(arguments.state_dir, names.RESOLV_CONF_SAVED)
    links = _links()
    resolved = links if os.path.exists(RESOLVECTL) else []
    return [
        *steps,
        *((f"link {link}", leave, (link,)) for link in links),
        *((f"names of link {link} in systemd-resolved", revert_link, (link,)) for link in resolved),
        *((f"record {record} in resolvconf", remove_record, (record,)) for record in _records()),
        (names.RESOLV_CONF, give_back, (names.RESOLV_CONF, kept)),
    ]


def _lanes(version: str) -> list[str]:
    """The tables of users' own to which rules lead."""
    shown = _call(IP, f"-{version}", "rule", "show", "pref", str(names.LANE_PRIORITY)).stdout
    found = {int(word) for word in re.findall(r" lookup (\d{1,9})\b", shown)}
    return [str(table) for table in names.LANE_TABLES if table in found]


def _links() -> list[str]:
    """The tunnels' links."""
    try:
        found = os.listdir("/sys/class/net")
    except OSError:
        return []
    return sorted(link for link in found if re.fullmatch(rf"{names.LINK_PREFIX}\d{{1,3}}", link))


def _records() -> list[str]:
    """Our records in resolvconf."""
    suffix = names.RESOLVCONF_RECORD.format(link="")
    places = [place for place in RECORDS if os.path.isdir(place)] if os.path.exists(RESOLVCONF) else []
    return sorted(record for place in places for record in os.listdir(place) if record.endswith(suffix))


def _perform(step: Step) -> tuple[str, str, bool]:
    """What, what became of it, and whether that is fine."""
    what, remove, of = step
    try:
        return what, remove(*of), True
    except StepFailed as error:
        return what, f"FAILED: {error}", False
    except OSError as error:
        return what, f"FAILED: {error.strerror or error}", False


# -- the pieces: each says what it did, and may be called again -------------------------------------------------------
def write_marker(path: str) -> str:
    """Keep the block off across restarts, as the daemon itself would."""
    if os.path.exists(path):
        return "is there already"
    os.makedirs(os.path.dirname(path) or ".", mode=0o755, exist_ok=True)
    with open(path, "w", encoding="ascii") as file:
        file.write("The block is off. To put it on: aovpnctl block\n")
    return "written"


def stop_guard(lock: str) -> str:
    """End the process that holds the guard's lock; its tables go with it."""
    ran = holder(lock)
    if os.path.isdir(SYSTEMD):
        _call(SYSTEMCTL, "stop", names.GUARD_UNIT)  # else it would be started again at once
    pid = holder(lock)
    if pid is None:
        return "did not run" if ran is None else f"stopped (pid {ran})"
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return "has gone"
    try:
        if holder(lock) != pid:  # the number may have been given to another process meanwhile
            raise StepFailed(f"the process that holds {lock} keeps changing (try again)")
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(process, number)
            if select.select([process], [], [], PATIENCE_S)[0]:
                return f"stopped (pid {pid})"
    finally:
        os.close(process)
    raise StepFailed(f"pid {pid} does not end")


def remove_table(family: str, table: str) -> str:
    """Delete one of our tables with all that is in it."""
    return _removed(_call(NFT, "delete", "table", family, table))


def remove_rule(version: str, priority: int, action: tuple[str, ...]) -> str:
    """Delete our rule at a priority, and every copy of it; never somebody else's."""
    mark = f"{names.FWMARK:#x}/{names.FWMARK_MASK:#x}"
    command = (IP, f"-{version}", "rule", "delete", "pref", str(priority), "not", "fwmark", mark, *action)
    return _until_gone(command, MOST_COPIES)


def remove_lane(version: str, table: str) -> str:
    """Delete the rules that lead to a table that some users have to themselves."""
    command = (IP, f"-{version}", "rule", "delete", "pref", str(names.LANE_PRIORITY), "lookup", table)
    return _until_gone(command, MOST_LANE_RULES)


def remove_looks(version: str) -> str:
    """Delete the rules by which charon finds its gateway and nobody else, and the one that they need."""
    result = NOT_THERE
    for priority in (names.LOOK_PRIORITY, names.NO_LOOK_PRIORITY, names.CHARON_PRIORITY - 1):
        shown = _call(IP, f"-{version}", "rule", "show", "pref", str(priority)).stdout
        for mark in re.findall(rf" fwmark ({names.FWMARK >> 24:#x}[0-9a-f]{{6}}(?:/{names.FWMARK_MASK:#x})?) ", shown):
            command = (IP, f"-{version}", "rule", "delete", "pref", str(priority), "fwmark", mark)
            if (again := _until_gone(command, MOST_COPIES)) != NOT_THERE:
                result = again
    return result


def _until_gone(command: tuple[str, ...], most: int) -> str:
    """Remove one after the other, until there is none."""
    result = NOT_THERE
    for _ in range(most):
        if (again := _removed(_call(*command))) == NOT_THERE:
            break
        result = again
    return result


def remove_routes(version: str, table: str) -> str:
    """Empty a route table of ours."""
    shown = _call(IP, f"-{version}", "route", "show", "table", table)
    if not shown.stdout.strip():
        return NOT_THERE
    return _removed(_call(IP, f"-{version}", "route", "flush", "table", table))


def leave(link: str) -> str:
    """Say that a tunnel's link is still there; what made it, charon or wireguard-go, may be there as well."""
    return f"stays, with no route to it (to take it away: ip link delete dev {link})"


def revert_link(link: str) -> str:
    """Let systemd-resolved forget what it was told of a link, and what it was answered over it."""
    result = _removed(_call(RESOLVECTL, "revert", link))
    _call(RESOLVECTL, "flush-caches")
    return result


def remove_record(record: str) -> str:
    """Delete our record."""
    return _removed(_call(RESOLVCONF, "-f", "-d", record))


def give_back(path: str, kept: str) -> str:
    """Put back the resolv.conf(5) that was there before ours; one that is not ours stays."""
    return "given back" if ResolvConf(Path(path), Path(kept)).give_back() else "was not ours"


def _removed(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode == 0:
        return "removed"
    if any(word in done.stderr for word in ABSENT):
        return NOT_THERE
    raise StepFailed(f"{os.path.basename(done.args[0])}: {' '.join(done.stderr.split())[:200]}")


def _call(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return call(*command, patience_s=PATIENCE_S)
    except subprocess.TimeoutExpired:
        raise StepFailed(f"{os.path.basename(command[0])} does not end") from None

# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be said of the block itself, of our programs, and of what closes the network at boot. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aovpnd import names
from aovpnd.ctl.doctor.facts import Area, Facts, Finding, Manager, Mark, Running, Table, Verdict
from aovpnd.links import Side, sides
from aovpnd.rollback import told

if TYPE_CHECKING:
    from collections.abc import Iterator

WITHOUT_TUNNEL = frozenset({"blocked", "offline", "connecting"})
DYNAMIC = Table("inet", names.TABLE)
GUARDS = (Table("inet", names.GUARD_TABLE), Table("netdev", names.GUARD_TABLE))
COPIES = (Table("inet", names.COPY_TABLE), Table("netdev", names.COPY_TABLE))
HOOKS = ("input", "forward", "output", "postrouting")
OPEN_PHASES = frozenset({"temporary-access", "unblocked"})
"""In which traffic may fall through to the main route table."""
LOCKDOWN_UNIT = "aovpnd-lockdown.service"
BLOCKED_UNIT = "aovpnd-blocked.service"
OURS = (LOCKDOWN_UNIT, BLOCKED_UNIT, names.UNIT, names.GUARD_UNIT, names.BUS_UNIT)
"""Units whose state matters."""
PROGRAMS = (("aovpnd", names.UNIT), ("aovpnd-guard", names.GUARD_UNIT), ("aovpnd-bus", names.BUS_UNIT))
SLACK_S = 2.0
"""By how much a start may seem to precede the files that it was of: the kernel counts in ticks."""
_UNBLOCK = "to put it on: sudo aovpnctl block"


def _say(area: Area, verdict: Verdict, code: str, text: str, hint: str = "") -> Finding:
    return Finding(code, area, verdict, text, hint)


# -- the block --------------------------------------------------------------------------------------------------------
def block(facts: Facts) -> Iterator[Finding]:
    """Is it loaded, whole, and on every link?"""
    if facts.mark is Mark.THERE:
        yield _say(Area.BLOCK, Verdict.WARNING, "unblocked", "an administrator has taken the block off", _UNBLOCK)
        return
    yield from _phase(facts)
    found = [*_tables(facts), *_egress(facts), *_routing(facts)]
    if facts.tables is not None and not facts.tables & {DYNAMIC, *GUARDS} and not _our_rules(facts):
        text = "nothing of ours is loaded: this machine is open"
        yield _say(Area.BLOCK, Verdict.ERROR, "not-blocked", text, _start(facts))
        return
    yield from found
    if not found and facts.tables is not None:
        text = f"the block is loaded: table inet {names.TABLE}, the guard's tables, routing"
        yield _say(Area.BLOCK, Verdict.OK, "block", text)


def _phase(facts: Facts) -> Iterator[Finding]:
    """What is meant so, and may be what somebody wonders about."""
    if facts.daemon.window_s is not None:
        text = f"temporary access is open for another {facts.daemon.window_s} s"
        yield _say(Area.BLOCK, Verdict.INFO, "window-open", text, "to close it: aovpnctl allow-temp --cancel")
    elif facts.daemon.phase in WITHOUT_TUNNEL:
        text = f"the tunnel is not connected ({facts.daemon.phase}): nothing gets out"
        yield _say(Area.BLOCK, Verdict.INFO, "not-connected", text, "aovpnctl status says why")


def _start(facts: Facts) -> str:
    if facts.manager is Manager.SYSTEMD:
        return "systemctl start aovpnd; why it does not: journalctl -u aovpnd"
    return "start aovpnd as root; it says why it cannot"


def _tables(facts: Facts) -> Iterator[Finding]:
    if facts.tables is None:
        return
    if DYNAMIC not in facts.tables:
        text = f"table inet {names.TABLE} is not loaded; the guard keeps the network shut without it"
        yield _say(Area.BLOCK, Verdict.ERROR, "table-missing", text, _start(facts))
    elif facts.closed is not None and (open_hooks := [hook for hook in HOOKS if hook not in facts.closed]):
        text = f"table inet {names.TABLE} does not close {', '.join(open_hooks)}: somebody has changed it"
        hint = "a running daemon loads it again at once: systemctl restart aovpnd"
        yield _say(Area.BLOCK, Verdict.ERROR, "table-changed", text, hint)
    if lost := [table for table in GUARDS if table not in facts.tables]:
        text = f"the guard's tables are not loaded ({_shown(lost)}); raw sockets and guests are not held"
        hint = "systemctl start aovpnd-guard; why it does not: journalctl -u aovpnd-guard"
        yield _say(Area.BLOCK, Verdict.ERROR, "guard-tables-missing", text, hint)
    if facts.daemon.state is Running.RUNNING and (lost := [table for table in COPIES if table not in facts.tables]):
        text = f"the daemon's copies of the guard's tables are not loaded ({_shown(lost)})"
        hint = "they hold while the guard is being restarted; the daemon's log says why: journalctl -u aovpnd"
        yield _say(Area.BLOCK, Verdict.WARNING, "copies-missing", text, hint)


def _shown(tables: list[Table]) -> str:
    return ", ".join(f"{table.family} {table.name}" for table in tables)


def _egress(facts: Facts) -> Iterator[Finding]:
    """Outside links without a chain of the guard: packet sockets would get out there."""
    if facts.egress is None or facts.links is None:
        return
    side = sides(facts.links)
    bare = [x.name for x in facts.links if side[x.index] is Side.OUTSIDE and x.name not in facts.egress]
    if bare:
        text = f"the guard has no egress chain on {', '.join(bare)}: packet sockets could send there"
        hint = "look again in a moment; then see journalctl -u aovpnd-guard"
        yield _say(Area.BLOCK, Verdict.WARNING, "link-unguarded", text, hint)


def _our_rules(facts: Facts) -> frozenset[int]:
    """Families that have our rule."""
    return frozenset(
        rule.family
        for rule in facts.rules or ()
        if rule.priority == names.RULE_PRIORITY and rule.table == str(names.ROUTE_TABLE)
    )


def _routing(facts: Facts) -> Iterator[Finding]:
    if facts.rules is None:
        return
    there = _our_rules(facts)
    if lost := [family for family in facts.families if family not in there]:
        text = (
            f"our routing rule is missing ({_versions(lost)}); packets take the way of the main table and are refused"
        )
        hint = "another program removes it; a running daemon puts it back: see the neighbours below"
        yield _say(Area.BLOCK, Verdict.WARNING, "rule-missing", text, hint)
    elif lost := _not_shut(facts):
        text = f"route table {names.ROUTE_TABLE} does not end in unreachable ({_versions(lost)})"
        hint = "another program removes our routes; a running daemon puts them back: see the neighbours below"
        yield _say(Area.BLOCK, Verdict.WARNING, "routes-missing", text, hint)
    own = {str(table) for table in names.LANE_TABLES}
    ahead = [rule for rule in facts.rules if 0 < rule.priority < names.RULE_PRIORITY and rule.table not in own]
    if ahead:
        rules = ", ".join(f"{rule.priority}: {rule.shown}" for rule in ahead[:4])
        text = f"other programs' routing rules stand before ours ({rules}); what they lead past the tunnel is refused"
        hint = f"see ip rule and ip -6 rule; they should come behind priority {names.SHUT_PRIORITY}"
        yield _say(Area.BLOCK, Verdict.WARNING, "rule-ahead", text, hint)


def _not_shut(facts: Facts) -> list[int]:
    if facts.shut is None or facts.daemon.phase in OPEN_PHASES:
        return []
    return [family for family in facts.families if family not in facts.shut]


def _versions(families: list[int]) -> str:
    return ", ".join(f"IPv{family}" for family in families)


# -- the programs -----------------------------------------------------------------------------------------------------
def programs(facts: Facts) -> Iterator[Finding]:
    """Do they run, and are they of one version?"""
    found = [*_daemon(facts), *_others(facts), *_outdated(facts), *_rolled_back(facts), *_told(facts)]
    yield from found
    if facts.missing_programs:
        text = f"missing: {', '.join(facts.missing_programs)}"
        hint = "apt install nftables python3-nftables wireguard-tools iproute2"
        yield _say(Area.PROGRAMS, Verdict.ERROR, "program-missing", text, hint)
    elif not found:
        text = f"daemon, guard and bus run, and are of version {facts.version}"
        yield _say(Area.PROGRAMS, Verdict.OK, "programs", text)


def _daemon(facts: Facts) -> Iterator[Finding]:
    daemon = facts.daemon
    if daemon.state is Running.ABSENT:
        text = "the daemon does not run; the block remains as it was loaded"
        yield _say(Area.PROGRAMS, Verdict.ERROR, "daemon-not-running", text, _start(facts))
    elif daemon.state is Running.STARTING:
        text = "the daemon is starting, or cannot write its status"
        hint = "look again in a moment; then see: df /run, and journalctl -u aovpnd"
        yield _say(Area.PROGRAMS, Verdict.WARNING, "daemon-starting", text, hint)
    elif daemon.state is Running.UNREADABLE:
        hint = "systemctl restart aovpnd; the block stays meanwhile"
        yield _say(Area.PROGRAMS, Verdict.ERROR, "status-unreadable", daemon.why, hint)
    elif daemon.version != facts.version:
        text = f"the daemon is of version {daemon.version}, the programs on the disk of {facts.version}"
        hint = "systemctl restart aovpnd; the block stays meanwhile"
        yield _say(Area.PROGRAMS, Verdict.WARNING, "daemon-version", text, hint)


def _others(facts: Facts) -> Iterator[Finding]:
    if facts.mark is Mark.ABSENT and not facts.runs("aovpnd-guard"):
        text = "the guard does not run: nothing holds when somebody flushes the ruleset"
        hint = "systemctl start aovpnd-guard; without systemd the daemon starts it"
        yield _say(Area.PROGRAMS, Verdict.ERROR, "guard-not-running", text, hint)
    if not facts.runs("aovpnd-bus"):
        text = "aovpnd-bus does not run: only root can give commands"
        verdict = Verdict.WARNING if names.BUS_UNIT in facts.enabled else Verdict.INFO
        yield _say(Area.PROGRAMS, verdict, "bus-not-running", text, "systemctl enable --now aovpnd-bus")


def _outdated(facts: Facts) -> Iterator[Finding]:
    units = dict(PROGRAMS)
    for process in facts.processes:
        if process.program in units and process.started + SLACK_S < facts.replaced_at:
            text = (
                f"{process.program} (pid {process.pid}) was started before its files were replaced: it is the old one"
            )
            hint = f"systemctl restart {units[process.program]}; the block stays meanwhile"
            yield _say(Area.PROGRAMS, Verdict.WARNING, "program-outdated", text, hint)


def _rolled_back(facts: Facts) -> Iterator[Finding]:
    if facts.rolled_back is not None:
        yield _say(Area.PROGRAMS, Verdict.WARNING, "rolled-back", *told(facts.rolled_back))


def _told(facts: Facts) -> Iterator[Finding]:
    """What the daemon knows itself; where we have said the same, it is said once."""
    for problem in facts.daemon.problems:
        verdict = Verdict(problem.severity) if problem.severity in {"info", "warning", "error"} else Verdict.WARNING
        yield _say(Area.PROGRAMS, verdict, problem.code, problem.text, problem.hint)


# -- the boot ---------------------------------------------------------------------------------------------------------
def boot(facts: Facts) -> Iterator[Finding]:
    """What closes the network before there is one."""
    if facts.manager is Manager.OTHER:
        text = "systemd has not booted this machine: nothing of ours closes the network at boot"
        hint = "start aovpnd before the network comes up, by whatever starts programs here"
        yield _say(Area.BOOT, Verdict.WARNING, "no-systemd", text, hint)
        return
    found = [*_files(facts), *_enabled(facts), *_units(facts)]
    yield from found
    if not found:
        yield _say(Area.BOOT, Verdict.OK, "boot", "the network is closed from the first moment of a boot on")


def _files(facts: Facts) -> Iterator[Finding]:
    if facts.missing_files:
        text = f"not there: {', '.join(facts.missing_files)}; the network may be open until the daemon starts"
        yield _say(Area.BOOT, Verdict.WARNING, "boot-files-missing", text, "install aovpnd again")


def _enabled(facts: Facts) -> Iterator[Finding]:
    for unit, why in (
        (LOCKDOWN_UNIT, "at boot the network is open until the daemon starts"),
        (names.UNIT, "the daemon is not started at boot"),
    ):
        if unit not in facts.enabled:
            text = f"{unit} is not enabled: {why}"
            yield _say(Area.BOOT, Verdict.WARNING, "not-enabled", text, f"systemctl enable {unit}")


def _units(facts: Facts) -> Iterator[Finding]:
    for unit in facts.units or ():
        if unit.name not in OURS:
            continue
        if unit.load == "masked":
            text, hint = f"{unit.name} is masked: it cannot start", f"systemctl unmask {unit.name}"
            yield _say(Area.BOOT, Verdict.ERROR, "unit-masked", text, hint)
        elif unit.active == "failed":
            text, hint = f"{unit.name} has failed", f"journalctl -u {unit.name}"
            yield _say(Area.BOOT, Verdict.ERROR, "unit-failed", text, hint)

# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl doctor``: every judgement with and without its cause, and what is shown of it."""

import re
from dataclasses import replace
from typing import Any, Final

import pytest

from aovpnd import names
from aovpnd.ctl.doctor.facts import (
    Area,
    Checked,
    Clock,
    Configuration,
    Daemon,
    Facts,
    Finding,
    Firewalls,
    Kernel,
    Manager,
    Mark,
    Names,
    Networkd,
    NetworkManager,
    Process,
    Rule,
    Running,
    Table,
    Told,
    Unit,
    Verdict,
    Will,
    Writer,
)
from aovpnd.ctl.doctor.judge import judge
from aovpnd.ctl.doctor.machine import NEEDED, RP_FILTER, SYSCTLS
from aovpnd.ctl.doctor.neighbours import NEIGHBOURS, VPNS, asked_of_systemd
from aovpnd.ctl.doctor.tell import document, is_well, lines
from aovpnd.ctl.terminal import PLAIN, Style
from aovpnd.links import Link
from aovpnd.rollback import Outcome, RolledBack
from tests.unit.imports import ROOT

NOW: Final = 1_770_000_000.0
DYNAMIC: Final = Table("inet", "aovpnd")
TABLES: Final = frozenset(
    {DYNAMIC, *(Table(family, f"aovpnd_{name}") for family in ("inet", "netdev") for name in ("guard", "copy"))}
)
LINKS: Final = (
    Link(1, "lo", arphrd=772),
    Link(2, "wlan0"),
    Link(3, "aovpn0", "wireguard", 65534),
    Link(4, "docker0", "bridge"),
)
RULES: Final = tuple(Rule(family, 10, "24943", "lookup 24943") for family in (4, 6))
OPTIONS: Final = frozenset({*NEEDED, "CONFIG_INET_DIAG_DESTROY"})
OURS: Final = tuple(Process(name, 100, NOW - 100) for name in ("aovpnd", "aovpnd-guard", "aovpnd-bus"))
CONNECTED: Final = Daemon(Running.RUNNING, "1.0.0", "connected", ("systemd-resolved",))
KERNEL: Final = Kernel("6.12.1", OPTIONS, "loaded")
IKE: Final = Configuration(tunnels=("office",), ike=("office",))
LACKS: Final = ("charon-systemd", "libcharon-extra-plugins")
WELL: Final = Facts(
    version="1.0.0",
    replaced_at=NOW - 5000,
    daemon=CONNECTED,
    manager=Manager.SYSTEMD,
    kernel=KERNEL,
    clock=Clock(NOW, NOW - 600, NOW + 3600),
    names=Names(Writer.RESOLVED, "../run/systemd/resolve/stub-resolv.conf", ("127.0.0.53",)),
    processes=OURS,
    sysctls=tuple((path, dict(names.SYSCTLS).get(path, 1)) for path in SYSCTLS),
    tables=TABLES,
    closed=frozenset({"input", "forward", "output", "postrouting"}),
    egress=frozenset({"wlan0"}),
    links=LINKS,
    rules=RULES,
    shut=(4, 6),
    units=(Unit("aovpnd.service"), Unit("systemd-resolved.service")),
    enabled=frozenset({"aovpnd.service", "aovpnd-lockdown.service", "aovpnd-bus.service"}),
    configuration=Configuration(),
)
"""A machine on which nothing is to be done."""
FILE: Final = replace(CONNECTED, carries=("resolv.conf",))
ABSENT: Final = Daemon(Running.ABSENT)


def _units(*found: str) -> tuple[Unit, ...]:
    return (*(WELL.units or ()), *(Unit(name) for name in found))


def _set(**changed: int) -> tuple[tuple[str, int | None], ...]:
    values = dict(WELL.sysctls) | {f"net/ipv4/conf/all/{name}": value for name, value in changed.items()}
    return tuple(values.items())


def _runs(*programs: str) -> tuple[Process, ...]:
    return (*OURS, *(Process(name, 200, NOW - 100) for name in programs))


NM: Final = _runs("NetworkManager")
NETWORKD: Final = _runs("systemd-network")
CASES: Final[dict[str, tuple[Verdict, dict[str, Any]]]] = {
    # code (and which case of it): what is said about it, and how such a machine differs from one that is well
    "unblocked": (Verdict.WARNING, {"mark": Mark.THERE}),
    "not-blocked": (Verdict.ERROR, {"tables": frozenset(), "rules": ()}),
    "table-missing": (Verdict.ERROR, {"tables": TABLES - {DYNAMIC}}),
    "table-changed": (Verdict.ERROR, {"closed": frozenset({"input", "forward", "postrouting"})}),
    "guard-tables-missing": (Verdict.ERROR, {"tables": TABLES - {Table("netdev", "aovpnd_guard")}}),
    "copies-missing": (Verdict.WARNING, {"tables": TABLES - {Table("inet", "aovpnd_copy")}}),
    "link-unguarded": (Verdict.WARNING, {"links": (*LINKS, Link(9, "usb0"))}),
    "rule-missing": (Verdict.WARNING, {"rules": RULES[:1]}),
    "routes-missing": (Verdict.WARNING, {"shut": (4,)}),
    "rule-ahead": (Verdict.WARNING, {"rules": (*RULES, Rule(4, 5, "77", "lookup 77"))}),
    "window-open": (Verdict.INFO, {"daemon": replace(CONNECTED, phase="temporary-access", window_s=90)}),
    "window-open, its daemon dead": (Verdict.INFO, {"daemon": Daemon(Running.ABSENT, window_s=90)}),
    "not-connected": (Verdict.INFO, {"daemon": replace(CONNECTED, phase="offline")}),
    "daemon-not-running": (Verdict.ERROR, {"daemon": ABSENT}),
    "daemon-starting": (Verdict.WARNING, {"daemon": Daemon(Running.STARTING)}),
    "status-unreadable": (Verdict.ERROR, {"daemon": Daemon(Running.UNREADABLE, why="it cannot be understood")}),
    "daemon-version": (Verdict.WARNING, {"daemon": replace(CONNECTED, version="0.9.0")}),
    "guard-not-running": (Verdict.ERROR, {"processes": (OURS[0], OURS[2])}),
    "bus-not-running": (Verdict.WARNING, {"processes": OURS[:2]}),
    "bus-not-running, nor wanted": (
        Verdict.INFO,
        {"processes": OURS[:2], "enabled": WELL.enabled - {"aovpnd-bus.service"}},
    ),
    "program-outdated": (Verdict.WARNING, {"replaced_at": NOW - 50}),
    "gateway-silent": (
        Verdict.WARNING,
        {"daemon": replace(CONNECTED, problems=(Told("gateway-silent", "warning", "it is silent", "wait"),))},
    ),
    "odd": (
        Verdict.WARNING,
        {"daemon": replace(CONNECTED, problems=(Told("odd", "fatal", "of a later version", ""),))},
    ),
    "rolled-back": (Verdict.WARNING, {"rolled_back": RolledBack("2.0-1", "1.0-1", Outcome.CONNECTED)}),
    "rolled-back, in vain": (Verdict.WARNING, {"rolled_back": RolledBack("2.0-1", "1.0-1", Outcome.IN_VAIN)}),
    "rolled-back, not even that": (Verdict.WARNING, {"rolled_back": RolledBack("2.0-1", "1.0-1", Outcome.FAILED)}),
    "program-missing": (Verdict.ERROR, {"missing_programs": ("nft",)}),
    "no-systemd": (Verdict.WARNING, {"manager": Manager.OTHER}),
    "boot-files-missing": (Verdict.WARNING, {"missing_files": ("/usr/lib/aovpnd/lockdown.nft",)}),
    "not-enabled": (Verdict.WARNING, {"enabled": WELL.enabled - {"aovpnd-lockdown.service"}}),
    "not-enabled, the daemon": (Verdict.WARNING, {"enabled": WELL.enabled - {"aovpnd.service"}}),
    "unit-masked": (Verdict.ERROR, {"units": (Unit("aovpnd-guard.service", load="masked"),)}),
    "unit-failed": (Verdict.ERROR, {"units": (Unit("aovpnd-lockdown.service", active="failed"),)}),
    "kernel-old": (Verdict.ERROR, {"kernel": replace(KERNEL, release="5.15.0-1-amd64")}),
    "modules-gone": (Verdict.WARNING, {"kernel": replace(KERNEL, modules="gone")}),
    "kernel-lacks": (Verdict.ERROR, {"kernel": replace(KERNEL, options=OPTIONS - {"CONFIG_NETFILTER_EGRESS"})}),
    "sockets-stay": (Verdict.INFO, {"kernel": replace(KERNEL, options=OPTIONS - {"CONFIG_INET_DIAG_DESTROY"})}),
    "no-wireguard": (Verdict.ERROR, {"kernel": replace(KERNEL, wireguard="")}),
    "no-tun": (Verdict.ERROR, {"kernel": replace(KERNEL, wireguard="program", tun=False)}),
    "no-strongswan": (Verdict.ERROR, {"kernel": replace(KERNEL, strongswan=LACKS), "configuration": IKE}),
    "no-strongswan, but for a plugin": (
        Verdict.WARNING,
        {"kernel": replace(KERNEL, strongswan=LACKS[1:]), "configuration": IKE},
    ),
    "no-tun, for charon": (Verdict.WARNING, {"kernel": replace(KERNEL, tun=False), "configuration": IKE}),
    "wireguard-go": (Verdict.INFO, {"kernel": replace(KERNEL, wireguard="program")}),
    "rp-filter": (Verdict.ERROR, {"sysctls": _set(rp_filter=1, src_valid_mark=0)}),
    "sysctl": (Verdict.WARNING, {"sysctls": _set(arp_ignore=0)}),
    "redirects": (Verdict.WARNING, {"tables": TABLES - {DYNAMIC}}),
    "configuration": (Verdict.ERROR, {"configuration": Configuration((Checked("error", "a.conf:1: no", "mend"),))}),
    "configuration, a remark": (
        Verdict.WARNING,
        {"configuration": Configuration((Checked("warning", "a.conf:1: not used", ""),))},
    ),
    "no-tunnel": (Verdict.ERROR, {"configuration": Configuration(tunnels=())}),
    "no-resolv-conf": (Verdict.WARNING, {"names": Names(Writer.NOBODY, "/nowhere")}),
    "names-fight": (Verdict.WARNING, {"daemon": FILE, "names": Names(Writer.DHCPCD)}),
    "names-stale": (Verdict.WARNING, {"daemon": ABSENT, "names": Names(Writer.OURS)}),
    "names-writers": (
        Verdict.WARNING,
        {"processes": _runs("NetworkManager", "dhcpcd"), "names": Names(Writer.DHCPCD), "daemon": CONNECTED},
    ),
    "resolved-bypassed": (Verdict.INFO, {"names": Names(Writer.SOMEBODY, "", ("192.0.2.1",))}),
    "local-resolver": (Verdict.INFO, {"names": Names(Writer.SOMEBODY, "", ("127.0.0.1", "::1%lo")), "units": ()}),
    "clock-behind": (Verdict.ERROR, {"clock": Clock(NOW - 40 * 86400, NOW)}),
    "clock-ahead": (Verdict.WARNING, {"clock": Clock(NOW + 2e9, NOW)}),
    "hardware-clock": (Verdict.WARNING, {"clock": Clock(NOW, NOW, 0.0)}),
    "tunnel-managed": (Verdict.WARNING, {"processes": NM, "network_manager": NetworkManager("connected")}),
    "neighbour-connectivity": (
        Verdict.INFO,
        {"processes": NM, "network_manager": NetworkManager("unmanaged", "limited")},
    ),
    "vpn-autoconnects": (Verdict.WARNING, {"network_manager": NetworkManager(profiles=("office",))}),
    "neighbour-networkd-foreign": (Verdict.INFO, {"processes": NETWORKD}),
    "tunnel-claimed": (
        Verdict.WARNING,
        {"processes": NETWORKD, "networkd": Networkd(claiming=("/etc/systemd/network/all.network",))},
    ),
    "flush-at-boot": (
        Verdict.WARNING,
        {"firewalls": Firewalls(Will.REMOVES), "enabled": WELL.enabled | {"nftables.service"}},
    ),
    "output-dropped": (Verdict.WARNING, {"firewalls": Firewalls(dropping=("/etc/default/ufw",))}),
    "foreign-tunnel": (Verdict.WARNING, {"links": (*LINKS, Link(7, "wg0", "wireguard", 65534)), "egress": None}),
    "foreign-tunnel, in user space": (
        Verdict.WARNING,
        {"links": (*LINKS, Link(7, "tun0", "tun", 65534)), "egress": None},
    ),
    "neighbour-printers": (Verdict.INFO, {"printers": ("Office",)}),
    **{
        f"neighbour-{one.code}": (Verdict.INFO, {"units": _units(one.units[0].replace("@", "@x.service"))})
        for one in NEIGHBOURS
        if one.units
    },
    **{
        f"neighbour-{one.code}, by its process": (Verdict.INFO, {"processes": _runs(one.programs[0])})
        for one in NEIGHBOURS
        if one.programs
    },
    "neighbour-resolvconf, by what it writes": (Verdict.INFO, {"names": Names(Writer.RESOLVCONF)}),
    **{
        f"vpn-beside, {name} ({unit})": (
            Verdict.WARNING,
            {"enabled": WELL.enabled | {unit.replace("@", "@office.service")}},
        )
        for name, unit, _ in VPNS
    },
}
UNLIKE: Final[dict[str, dict[str, Any]]] = {
    # what looks like a cause and is none
    "not-blocked": {"tables": None, "closed": None, "egress": None},
    "copies-missing": {"daemon": ABSENT, "tables": TABLES - {Table("inet", "aovpnd_copy")}},
    "routes-missing": {"shut": (), "daemon": replace(CONNECTED, phase="temporary-access")},
    "rule-missing": {"rules": None},
    "rule-ahead": {"rules": (*RULES, Rule(4, 0, "local", "lookup local"), Rule(4, 5210, "52", "lookup 52"))},
    "guard-not-running": {"mark": Mark.THERE, "processes": OURS[:1]},
    "kernel-lacks": {"kernel": replace(KERNEL, options=None)},
    "kernel-old": {"kernel": replace(KERNEL, release="strange")},
    "no-tun": {"kernel": replace(KERNEL, tun=False)},
    "no-strongswan": {"kernel": replace(KERNEL, strongswan=LACKS)},
    "no-wireguard": {"kernel": replace(KERNEL, wireguard=""), "configuration": IKE},
    "rp-filter": {"sysctls": _set(rp_filter=1, src_valid_mark=1)},
    "sysctl": {"sysctls": tuple((path, None) for path in SYSCTLS)},
    "redirects": {"tables": None},
    "not-connected": {"daemon": replace(CONNECTED, phase="")},
    "window-open": {"daemon": replace(CONNECTED, window_s=None)},
    "configuration": {"configuration": None},
    "names-fight": {"daemon": FILE, "names": Names(Writer.OURS)},
    "names-writers": {"processes": _runs("NetworkManager", "dhcpcd")},
    "local-resolver": {"names": Names(Writer.SOMEBODY, "", ("127.0.0.1", "192.0.2.1", "x")), "units": ()},
    "clock-behind": {"clock": Clock(NOW, NOW + 3600)},
    "clock-ahead": {"clock": Clock(NOW + 300 * 86400, NOW)},
    "hardware-clock": {"clock": Clock(NOW, NOW, NOW + 50_000)},
    "tunnel-managed": {"processes": NM, "network_manager": NetworkManager("connected (externally)")},
    "vpn-autoconnects": {"network_manager": NetworkManager(profiles=None)},
    "neighbour-networkd-foreign": {"processes": NETWORKD, "networkd": Networkd(Will.KEEPS, Will.KEEPS)},
    "tunnel-claimed": {"networkd": Networkd(claiming=("/etc/systemd/network/all.network",))},
    "flush-at-boot": {"firewalls": Firewalls(Will.REMOVES)},
    "foreign-tunnel": {
        "links": (*LINKS, Link(7, "vnet0", "tun"), Link(8, "sit0", "sit", 776), Link(9, "ipsec0", "tun", 65534)),
        "configuration": IKE,
        "egress": None,
    },
    "neighbour-printers": {"printers": ("Office",), "configuration": Configuration(lan="allow")},
    "neighbour-nspawn": {"units": (Unit("systemd-nspawn@guest.service", "loaded", "inactive"),)},
    "neighbour-docker": {"units": (Unit("docker.service", "not-found", "inactive"),)},
    "vpn-beside": {
        "enabled": WELL.enabled | {"wg-quick.target"},
        "processes": (*OURS, Process("charon-systemd", 200, NOW)),
    },
}


def found(facts: Facts) -> dict[str, Finding]:
    """The findings by their codes."""
    return {finding.code: finding for finding in judge(facts)}


def test_nothing_to_do_where_all_is_well() -> None:
    """Every area but that of the neighbours says that it is well, and nobody but the resolver is met."""
    said = judge(WELL)

    assert is_well(said)
    well = {finding.area for finding in said if finding.verdict is Verdict.OK}
    assert well == set(Area) - {Area.NEIGHBOURS}
    assert {finding.code for finding in said if finding.verdict is not Verdict.OK} == {"neighbour-resolved"}


@pytest.mark.parametrize("case", CASES)
def test_cause_is_found(case: str) -> None:
    """With its cause each finding is there, says so as it should, and decides whether there is something to do; a
    warning and an error always say what to do.
    """
    verdict, changed = CASES[case]
    code = case.partition(",")[0]
    without, facts = found(WELL).get(code), replace(WELL, **changed)
    finding = found(facts)[code]

    assert finding.verdict is verdict
    assert finding.hint or verdict is Verdict.INFO or case in {"odd", "configuration, a remark"}
    assert without is None or without.verdict is Verdict.OK or code == "neighbour-resolved"
    if verdict in {Verdict.WARNING, Verdict.ERROR}:
        assert not is_well(judge(facts))
        area = [other for other in judge(facts) if other.area is finding.area and other.area is not Area.NEIGHBOURS]
        assert not any(other.verdict is Verdict.OK for other in area), "it says that all is well beside it"


@pytest.mark.parametrize("code", UNLIKE)
def test_what_looks_like_a_cause_is_none(code: str) -> None:
    """What could not be seen, and what only resembles the cause, is not complained of."""
    finding = found(replace(WELL, **UNLIKE[code])).get(code)

    assert finding is None or finding.verdict is Verdict.OK


def test_every_judgement_has_a_case() -> None:
    """A code that the source knows and no case here does is one that nobody has tried."""
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "aovpnd" / "ctl" / "doctor").glob("*.py"))
    known = set(re.findall(r'(?:Verdict\.\w+|verdict), "([a-z-]+)"', sources))
    known |= set(re.findall(r'_warn\("([a-z-]+)"', sources))
    known |= {f"neighbour-{code}" for code in re.findall(r'_note\("([a-z-]+)"', sources)}
    known |= {f"neighbour-{code}" for code in re.findall(r'Neighbour\(\s*"([a-z-]+)"', sources)}
    well = {finding.code for finding in judge(WELL)}

    assert len(known) > 50
    assert known - {case.partition(",")[0] for case in CASES} - well == set()


def test_nothing_is_said_to_be_well_that_was_not_seen() -> None:
    """An ordinary user who sees neither tables nor configuration hears nothing about them."""
    unseen = replace(WELL, tables=None, closed=None, egress=None, configuration=None, units=None, unseen=("tables",))
    said = found(unseen)

    assert is_well(said.values())
    assert not {"block", "configuration"} & set(said)
    assert lines(unseen, judge(unseen), PLAIN)[-1] == "Everything that could be seen is well."


def test_said_once() -> None:
    """What the daemon tells and we have found as well is said once; of two units each is named."""
    told = replace(CONNECTED, problems=(Told("rule-ahead", "warning", "the same", "x"),))
    twice = replace(WELL, rules=(*RULES, Rule(4, 5, "77", "lookup 77")), daemon=told)
    both = replace(WELL, enabled=frozenset({"aovpnd-bus.service"}))

    assert [finding.code for finding in judge(twice)].count("rule-ahead") == 1
    assert [finding.code for finding in judge(both)].count("not-enabled") == 2


def test_units_are_asked_for_by_patterns() -> None:
    """Instances of a template are found by a pattern; each unit is asked for once."""
    asked = asked_of_systemd()

    assert "wg-quick@*" in asked
    assert "NetworkManager.service" in asked
    assert len(asked) == len(set(asked))


def test_shown_to_a_person() -> None:
    """By area, with a sum at the end; nothing that a stranger wrote is obeyed by the terminal."""
    facts = replace(WELL, links=(*LINKS, Link(7, "wg\x1b[2J", "wireguard", 65534)), egress=None, unseen=("a\nb",))
    shown = lines(facts, judge(facts), Style(colour=False, width=80))

    assert all(line.isprintable() for line in shown)
    assert all(len(line) <= 80 or " " not in line.strip() for line in shown)
    assert shown[0] == "Block:"
    assert "  warning: there are other tunnels' links (wg\\x1b[2J): nothing leaves by them" in "\n".join(shown)
    assert shown[-1] == "1 thing to do."
    assert "\x1b[1;33mwarning\x1b[0m" in "\n".join(lines(facts, judge(facts), Style(colour=True, width=80)))


def test_shown_to_programs() -> None:
    """The keys that aovpnctl(8) promises, and no text that is endless."""
    facts = replace(WELL, configuration=Configuration((Checked("error", "x" * 5000, ""),)), unseen=("y\x07",))
    told = document(facts, judge(facts))

    assert set(told) == {"schema", "ok", "version", "findings", "unseen"}
    assert (told["schema"], told["ok"], told["version"], told["unseen"]) == (1, False, "1.0.0", ["y\\x07"])
    entries = told["findings"]
    assert isinstance(entries, list)
    assert all(set(entry) == {"code", "area", "severity", "text", "hint"} for entry in entries)
    assert max(len(entry["text"]) for entry in entries) == 1001
    assert {entry["severity"] for entry in entries} <= {"ok", "info", "warning", "error"}


def test_strict_reverse_path_alone_is_fine() -> None:
    """What decides is whether the look-up sees the mark."""
    assert dict(WELL.sysctls)[RP_FILTER] == 1
    assert "rp-filter" not in found(WELL)

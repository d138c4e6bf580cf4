# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be said of kernel, configuration, names and clock. Pure."""

from __future__ import annotations

import re
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING

from aovpnd import names
from aovpnd.ctl.doctor.block import DYNAMIC
from aovpnd.ctl.doctor.facts import Area, Facts, Finding, Mark, Running, Verdict, Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

EGRESS_SINCE = (5, 16)
"""The first Linux with an egress hook, which the guard needs; tables with an owner are older (5.12)."""
NEEDED = {
    "CONFIG_NF_TABLES": "nftables",
    "CONFIG_NF_TABLES_INET": "tables of family inet",
    "CONFIG_NF_TABLES_NETDEV": "tables of family netdev",
    "CONFIG_NETFILTER_EGRESS": "the egress hook",
    "CONFIG_NF_CONNTRACK": "connection tracking",
    "CONFIG_IP_MULTIPLE_TABLES": "routing rules",
}
CLOSES_SOCKETS = "CONFIG_INET_DIAG_DESTROY"
RP_FILTER, MARKED = "net/ipv4/conf/all/rp_filter", "net/ipv4/conf/all/src_valid_mark"
STRICT = 1
REDIRECTS = ("net/ipv4/conf/all/accept_redirects", "net/ipv6/conf/all/accept_redirects")
SYSCTLS = (*(path for path, _ in names.SYSCTLS), RP_FILTER, *REDIRECTS)
DAY_S = 86400.0
MOST_AHEAD_S = 3 * 366 * DAY_S
"""A clock that is so far ahead of every file of the machine is wrong, or the machine was never used meanwhile."""
MOST_RTC_S = 1.5 * DAY_S
"""A hardware clock may run in local time."""
WRITERS = (
    ("NetworkManager", "NetworkManager.service"),
    ("dhcpcd", "dhcpcd.service"),
    ("dhclient", "dhclient.service"),
)
"""Who writes resolv.conf(5) by himself, where nothing else is in between."""
MOST_FAULTS = 20


def _say(area: Area, verdict: Verdict, code: str, text: str, hint: str = "") -> Finding:
    return Finding(code, area, verdict, text, hint)


# -- the kernel -------------------------------------------------------------------------------------------------------
def kernel(facts: Facts) -> Iterator[Finding]:
    """What it can do, and how it is set."""
    found = [*_version(facts), *_options(facts), *_wireguard(facts), *_strongswan(facts), *_sysctls(facts)]
    yield from found
    if all(finding.verdict is Verdict.INFO for finding in found):
        text = f"Linux {facts.kernel.release} has what is needed, and is set as it should be"
        yield _say(Area.KERNEL, Verdict.OK, "kernel", text)


def _version(facts: Facts) -> Iterator[Finding]:
    match = re.match(r"(\d{1,3})\.(\d{1,4})", facts.kernel.release)
    if match and (int(match[1]), int(match[2])) < EGRESS_SINCE:
        text = f"Linux {facts.kernel.release} is too old: the guard needs the egress hook of 5.16"
        yield _say(Area.KERNEL, Verdict.ERROR, "kernel-old", text, "a newer kernel: Debian 12 and 13 have one")
    if facts.kernel.modules == "gone":
        text = f"the modules of the running kernel ({facts.kernel.release}) are not on the disk any more"
        hint = "it was upgraded; what is not loaded yet cannot be loaded: reboot"
        yield _say(Area.KERNEL, Verdict.WARNING, "modules-gone", text, hint)


def _options(facts: Facts) -> Iterator[Finding]:
    options = facts.kernel.options
    if options is None:
        return
    if lacks := [what for option, what in NEEDED.items() if option not in options]:
        text = f"the kernel was built without {', '.join(lacks)}"
        yield _say(Area.KERNEL, Verdict.ERROR, "kernel-lacks", text, "a distribution's own kernel has it")
    if CLOSES_SOCKETS not in options:
        text = "the kernel cannot close old connections: programs wait until they notice that they are blocked"
        yield _say(Area.KERNEL, Verdict.INFO, "sockets-stay", text, "nothing of them leaves")


def _wireguard(facts: Facts) -> Iterator[Finding]:
    read = facts.configuration
    if read is not None and read.tunnels and set(read.tunnels) == set(read.ike):
        return  # nobody needs it
    match facts.kernel.wireguard:
        case "":
            text = "there is no WireGuard: neither in the kernel nor as wireguard-go"
            yield _say(Area.KERNEL, Verdict.ERROR, "no-wireguard", text, "apt install wireguard-go")
        case "program" if not facts.kernel.tun:
            text = "wireguard-go needs /dev/net/tun, which is not there"
            yield _say(Area.KERNEL, Verdict.ERROR, "no-tun", text, "modprobe tun")
        case "program":
            text = "the kernel has no WireGuard; tunnels run in wireguard-go, which is slower"
            yield _say(Area.KERNEL, Verdict.INFO, "wireguard-go", text)
        case _:
            return


def _strongswan(facts: Facts) -> Iterator[Finding]:
    """What an IKE tunnel needs; without charon it needs it all, and without a plugin perhaps nothing more."""
    read, lacks = facts.configuration, facts.kernel.strongswan
    if read is None or not read.ike:
        return
    if lacks:
        text = f"IKE tunnels ({', '.join(read.ike)}) need packages of strongSwan that are not there: {', '.join(lacks)}"
        verdict = Verdict.ERROR if "charon-systemd" in lacks else Verdict.WARNING
        yield _say(Area.KERNEL, verdict, "no-strongswan", text, f"apt install {' '.join(lacks)}")
    if not facts.kernel.tun:
        text = "charon needs /dev/net/tun where the kernel has no XFRM interfaces, and it is not there"
        yield _say(Area.KERNEL, Verdict.WARNING, "no-tun", text, "modprobe tun")


def _sysctls(facts: Facts) -> Iterator[Finding]:
    value = dict(facts.sysctls)
    if value.get(RP_FILTER) == STRICT and value.get(MARKED) == 0:
        text = "strict rp_filter without src_valid_mark: the gateway's answers are dropped"
        hint = f"a running daemon sets it; by hand: sysctl -w {_dotted(MARKED)}=1"
        yield _say(Area.KERNEL, Verdict.ERROR, "rp-filter", text, hint)
    wrong = [(path, want) for path, want in names.SYSCTLS if value.get(path) not in {None, want}]
    if wrong:
        shown = ", ".join(f"{_dotted(path)} is {value[path]}, not {want}" for path, want in wrong)
        hint = "a running daemon sets it; another program, or a file in /etc/sysctl.d, sets it back"
        yield _say(Area.KERNEL, Verdict.WARNING, "sysctl", shown, hint)
    taken = [path for path in REDIRECTS if value.get(path) == 1]
    if taken and facts.mark is Mark.ABSENT and facts.tables is not None and DYNAMIC not in facts.tables:
        text = f"ICMP redirects are taken ({', '.join(map(_dotted, taken))}), and no table of ours drops them"
        hint = "a neighbour could lead packets astray; start the daemon, or set them to 0"
        yield _say(Area.KERNEL, Verdict.WARNING, "redirects", text, hint)


def _dotted(path: str) -> str:
    return path.replace("/", ".")


# -- the configuration ------------------------------------------------------------------------------------------------
def configuration(facts: Facts) -> Iterator[Finding]:
    """What `check` says, and whether there is a tunnel at all."""
    read = facts.configuration
    if read is None:
        return
    for fault in read.findings[:MOST_FAULTS]:
        verdict = Verdict.ERROR if fault.severity == "error" else Verdict.WARNING
        yield _say(Area.CONFIGURATION, verdict, "configuration", fault.text, fault.hint)
    if not read.tunnels:
        text = "there is no tunnel that could be used: nothing gets out"
        yield _say(Area.CONFIGURATION, Verdict.ERROR, "no-tunnel", text, "sudo aovpnctl import FILE")
    elif not read.findings:
        text = f"the configuration is in order; tunnels: {', '.join(read.tunnels)}"
        yield _say(Area.CONFIGURATION, Verdict.OK, "configuration", text)


# -- names ------------------------------------------------------------------------------------------------------------
def name_service(facts: Facts) -> Iterator[Finding]:
    """Who is asked for names, by what, and who else writes there."""
    found = [*_file(facts), *_writers(facts), *_resolvers(facts)]
    if not any(finding.verdict is Verdict.WARNING for finding in found):
        carries = f"names are asked of the tunnel's servers, by {', '.join(facts.daemon.carries)}"
        text = (
            carries
            if facts.daemon.carries
            else f"names are asked as {names.RESOLV_CONF} says, which {facts.names.writer.value} has written"
        )
        yield _say(Area.NAMES, Verdict.OK, "names", text)
    yield from found


def _file(facts: Facts) -> Iterator[Finding]:
    where, daemon = facts.names, facts.daemon
    if where.writer is Writer.NOBODY:
        leads = f" (it leads to {where.leads_to})" if where.leads_to else ""
        text = f"there is no {names.RESOLV_CONF}, or it is empty{leads}: programs ask nobody for names"
        hint = "whoever manages names here should write it; with systemd-resolved it leads to its stub-resolv.conf"
        yield _say(Area.NAMES, Verdict.WARNING, "no-resolv-conf", text, hint)
    elif "resolv.conf" in daemon.carries and where.writer is not Writer.OURS:
        text = f"{where.writer.value} has written {names.RESOLV_CONF} over ours"
        hint = "the daemon puts its own back; while both go on, names fail now and then: see who else writes there"
        yield _say(Area.NAMES, Verdict.WARNING, "names-fight", text, hint)
    elif where.writer is Writer.OURS and daemon.state is not Running.RUNNING:
        text = f"{names.RESOLV_CONF} names the tunnel's servers, and no daemon runs"
        hint = "start it; or take the block off: sudo aovpnctl unblock --offline gives the file back"
        yield _say(Area.NAMES, Verdict.WARNING, "names-stale", text, hint)


def _writers(facts: Facts) -> Iterator[Finding]:
    if facts.names.writer in {Writer.RESOLVED, Writer.RESOLVCONF}:
        return
    writers = [program for program, unit in WRITERS if facts.runs(program) or facts.active(unit)]
    if len(writers) > 1:
        text = f"{' and '.join(writers)} each write {names.RESOLV_CONF}"
        hint = "let one of them, or put systemd-resolved or resolvconf in between"
        yield _say(Area.NAMES, Verdict.WARNING, "names-writers", text, hint)


def _resolvers(facts: Facts) -> Iterator[Finding]:
    where = facts.names
    if facts.active("systemd-resolved.service") and where.writer is not Writer.RESOLVED:
        text = f"systemd-resolved runs, but {names.RESOLV_CONF} does not lead to it; aovpnd tells both"
        hint = f"ln -sf ../run/systemd/resolve/stub-resolv.conf {names.RESOLV_CONF}, unless it is meant so"
        yield _say(Area.NAMES, Verdict.INFO, "resolved-bypassed", text, hint)
    elif where.writer not in {Writer.RESOLVED, Writer.OURS} and where.servers and all(map(_is_here, where.servers)):
        text = f"a resolver of this machine is asked ({', '.join(where.servers)}): it asks servers of its own choice"
        hint = "what it sends leaves through the tunnel or not at all; names of the tunnel's domains it may not know"
        yield _say(Area.NAMES, Verdict.INFO, "local-resolver", text, hint)


def _is_here(server: str) -> bool:
    try:
        return ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return False


# -- the clock --------------------------------------------------------------------------------------------------------
def clock(facts: Facts) -> Iterator[Finding]:
    """A WireGuard gateway takes a first message whose time is not after the last one's for a replay."""
    seen = facts.clock
    if seen.now < seen.newest - DAY_S:
        text = f"the clock says {_day(seen.now)}, but this machine has files of {_day(seen.newest)}: it has gone back"
        hint = "the gateway stays silent until it is right: sudo date -s 'YYYY-MM-DD HH:MM'"
        yield _say(Area.CLOCK, Verdict.ERROR, "clock-behind", text, hint)
    elif seen.now > seen.newest + MOST_AHEAD_S:
        text = f"the clock says {_day(seen.now)}, and the newest file of this machine is of {_day(seen.newest)}"
        hint = (
            "certificates have expired by that clock, and a gateway that has seen it stays silent when it is set back"
        )
        yield _say(Area.CLOCK, Verdict.WARNING, "clock-ahead", text, hint)
    elif seen.rtc is not None and abs(seen.rtc - seen.now) > MOST_RTC_S:
        text = f"the hardware clock says {_day(seen.rtc)}, the system {_day(seen.now)}: the next boot begins there"
        yield _say(Area.CLOCK, Verdict.WARNING, "hardware-clock", text, "sudo hwclock --systohc; is its battery empty?")
    else:
        yield _say(Area.CLOCK, Verdict.OK, "clock", "the clock is plausible")


def _day(unix: float) -> str:
    try:
        return time.strftime("%Y-%m-%d", time.gmtime(unix))
    except (ValueError, OverflowError, OSError):
        return f"{unix:.0f} s after 1970"

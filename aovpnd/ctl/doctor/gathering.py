# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that the doctor looks at, read once, as one value. It judges nothing, and it does not fail."""

from __future__ import annotations

import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aovpnd import __version__, names, rollback
from aovpnd.config import check, load
from aovpnd.ctl import reading
from aovpnd.ctl.doctor import parse
from aovpnd.ctl.doctor.block import DYNAMIC, GUARDS, OURS
from aovpnd.ctl.doctor.facts import (
    Checked,
    Clock,
    Configuration,
    Daemon,
    Facts,
    Firewalls,
    Kernel,
    Manager,
    Mark,
    Names,
    Networkd,
    NetworkManager,
    Process,
    Running,
    Told,
    Unit,
)
from aovpnd.ctl.doctor.looking import Looking
from aovpnd.ctl.doctor.machine import SYSCTLS
from aovpnd.ctl.doctor.neighbours import asked_of_systemd
from aovpnd.errors import StateError
from aovpnd.ipsec import IPsec
from aovpnd.model import Lan

if TYPE_CHECKING:
    from collections.abc import Iterator

LINK = f"{names.LINK_PREFIX}0"
"""The link that other people's files are tried with."""
NEEDED_PROGRAMS = ("nft", "wg", "ip")
UNIT_DIRECTORIES = tuple(f"{place}/systemd/system" for place in ("/etc", "/usr/local/lib", "/usr/lib", "/lib"))
RULE_DIRECTORIES = tuple(f"{place}/udev/rules.d" for place in ("/etc", "/usr/local/lib", "/usr/lib", "/lib"))
EGRESS_RULE = "82-aovpnd-egress.rules"
MODULES_LARGEST = 1 << 23
"""Bytes of a list of modules; a distribution's has half a megabyte."""
DATED = ("/var/lib/systemd/timesync/clock", "/var/lib/dpkg/status", "/var/lib/rpm/rpmdb.sqlite", "/etc/machine-id")
"""Files that are written while a machine is used."""
BUS = "aovpnd-bus"
GUARDED = frozenset({"aovpnd", "aovpnd-guard", BUS})
FIRST_PERSON = 1000
"""Programs of ours count only as those of a system's user, and this is the first uid of a person: everybody can give a
process a name."""
_PLUGINS = "/usr/lib/ipsec/plugins"
_STRONGSWAN = {
    "charon-systemd": "/usr/sbin/charon-systemd",
    "libstrongswan-standard-plugins": f"{_PLUGINS}/libstrongswan-openssl.so",
    "libcharon-extra-plugins": f"{_PLUGINS}/libstrongswan-kernel-libipsec.so",
    "libcharon-extauth-plugins": f"{_PLUGINS}/libstrongswan-eap-mschapv2.so",
}
"""A file of each package."""


def gather(runtime_dir: str, config_dir: str, state_dir: str, look: Looking | None = None) -> Facts:
    """Look at this machine. Takes a fraction of a second; some seconds where something hangs, and never for ever."""
    look = look or Looking()
    root = os.geteuid() == 0
    if not root:
        look.unseen["tables of nftables: only root may list them"] = None
    daemon = _daemon(runtime_dir)
    manager = Manager.SYSTEMD if look.exists("/run/systemd/system") else Manager.OTHER
    processes = tuple(_processes(look))
    tables = _listing(look, "tables") if root else None
    there = parse.tables(tables) if tables is not None else None
    dynamic = _listing(look, "table", DYNAMIC.family, DYNAMIC.name) if there and DYNAMIC in there else None
    guard = _listing(look, "table", GUARDS[1].family, GUARDS[1].name) if there and GUARDS[1] in there else None
    families = (4, 6) if look.exists("/proc/sys/net/ipv6") else (4,)
    links = look.output("ip", "-json", "-details", "link", "show")
    has_manager = any(process.program == "NetworkManager" for process in processes)
    return Facts(
        version=__version__,
        replaced_at=_replaced_at(),
        daemon=daemon,
        manager=manager,
        kernel=_kernel(look),
        clock=_clock(look, state_dir),
        names=_names(look),
        mark=Mark.THERE if os.path.exists(os.path.join(config_dir, names.UNBLOCKED_MARKER)) else Mark.ABSENT,
        families=families,
        processes=processes,
        missing_programs=_missing(look),
        sysctls=tuple((path, parse.number(look.text(f"/proc/sys/{path}", 64) or "")) for path in SYSCTLS),
        tables=there,
        closed=parse.closed(dynamic) if dynamic is not None else None,
        egress=parse.egress(guard) if guard is not None else None,
        links=parse.links(links) if links is not None else None,
        rules=_rules(look, families),
        shut=_shut(look, families),
        units=_units(look) if manager is Manager.SYSTEMD else None,
        enabled=frozenset(_enabled(look)),
        missing_files=tuple(_missing_files(look)),
        rolled_back=rollback.parse(look.text(names.ROLLED_BACK, rollback.LARGEST) or ""),
        configuration=_configuration(look, config_dir, state_dir),
        network_manager=_network_manager(look, has_manager),
        networkd=_networkd(look),
        firewalls=_firewalls(look),
        printers=_printers(look),
        unseen=tuple(look.unseen),
    )


# -- ours -------------------------------------------------------------------------------------------------------------
def _daemon(runtime_dir: str) -> Daemon:
    try:
        found = reading.read(runtime_dir)
    except StateError as error:
        return Daemon(Running.UNREADABLE, why=str(error))
    document: dict[str, Any] = found.document
    access = document["temporary_access"]
    window_s = int(access["remaining_s"]) if access is not None else None
    if found.daemon != reading.RUNNING:
        return Daemon(Running.ABSENT if found.daemon == reading.ABSENT else Running.STARTING, window_s=window_s)
    told = tuple(Told(*(str(one[key]) for key in ("code", "severity", "text", "hint"))) for one in document["problems"])
    carries = tuple(map(str, document["dns"]["by"])) if document["dns"] else ()
    return Daemon(Running.RUNNING, str(document["version"]), str(document["phase"] or ""), carries, told, window_s)


def _replaced_at() -> float:
    """When our own files were put where they are: a package's carry the time of its making, so their inode's counts."""
    return max(Path(path).stat().st_ctime for path in (names.__file__, reading.__file__))


def _processes(look: Looking) -> Iterator[Process]:
    """Those of this machine, and none of its guests', nor those of another network; aovpnd-bus has none at all."""
    booted_at = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    ticks = os.sysconf("SC_CLK_TCK")
    network = look.link("/proc/self/ns/net")
    for name in look.listed("/proc"):
        if not name.isascii() or not name.isdigit():
            continue
        # An ordinary user may not read the links of others' processes; how deep they are, everybody may.
        if parse.is_nested(look.text(f"/proc/{name}/status", 8192) or ""):
            continue
        elsewhere = look.link(f"/proc/{name}/ns/net") not in {"", network}  # first: who ends meanwhile has no link
        found = parse.process(int(name), look.text(f"/proc/{name}/stat", 4096) or "", booted_at, ticks)
        if found is not None and found.program.startswith("python"):
            found = parse.script(found, look.text(f"/proc/{name}/cmdline", 4096) or "")
        if found is None:
            continue
        if found.program in GUARDED and not _is_systems(look, f"/proc/{name}"):
            continue
        if not elsewhere or found.program == BUS:
            yield found


def _is_systems(look: Looking, path: str) -> bool:
    try:
        return look.place(path).stat().st_uid < FIRST_PERSON
    except OSError:
        return False


def _missing(look: Looking) -> tuple[str, ...]:
    programs = [name for name in NEEDED_PROGRAMS if look.program(name) is None]
    return tuple(programs if find_spec("nftables") else [*programs, "python3-nftables"])


def _listing(look: Looking, *what: str) -> str | None:
    return look.output("nft", "list", *what)


def _rules(look: Looking, families: tuple[int, ...]) -> tuple[Any, ...] | None:
    found = [parse.rules(family, look.output("ip", "-json", f"-{family}", "rule", "show") or "") for family in families]
    return None if None in found else tuple(rule for rules in found for rule in rules or ())


def _shut(look: Looking, families: tuple[int, ...]) -> tuple[int, ...] | None:
    words = ("route", "show", "table", "all", "type", "unreachable")
    shown = {family: look.output("ip", "-json", f"-{family}", *words) for family in families}
    if None in shown.values():
        return None
    return tuple(family for family, text in shown.items() if parse.is_shut(text or ""))


def _missing_files(look: Looking) -> Iterator[str]:
    wanted: list[tuple[str, tuple[str, ...]]] = [
        *((file, (names.VENDOR_DIR,)) for file in ("lockdown.nft", "egress.nft")),
        *((unit, UNIT_DIRECTORIES) for unit in OURS[:4]),
        (EGRESS_RULE, RULE_DIRECTORIES),
    ]
    for file, directories in wanted:
        first = next((path for place in directories if look.lies(path := f"{place}/{file}")), None)
        if first is None or not look.exists(first):
            yield f"{directories[-1]}/{file}" if first is None else f"{first} (masked)"


def _enabled(look: Looking) -> Iterator[str]:
    """What something wants at boot. /etc is the administrator's; what vendors want is part of a unit itself."""
    for directory in look.listed("/etc/systemd/system"):
        if directory.endswith((".wants", ".requires", ".upholds")):
            for unit in look.listed(f"/etc/systemd/system/{directory}"):
                if look.link(f"/etc/systemd/system/{unit}") != os.devnull:  # masked: nobody starts it
                    yield unit


def _units(look: Looking) -> tuple[Unit, ...] | None:
    shown = look.output(
        "systemctl",
        "show",
        "--property=Id,LoadState,ActiveState,UnitFileState",
        *OURS,
        *asked_of_systemd(),
    )
    return None if shown is None else parse.units(shown)


# -- the machine ------------------------------------------------------------------------------------------------------
def _kernel(look: Looking) -> Kernel:
    release = os.uname().release
    text = look.text(f"/boot/config-{release}") or look.gunzipped("/proc/config.gz")
    modules = f"/lib/modules/{release}"
    is_there = look.exists(modules)
    needs_none = look.exists("/run/systemd/container") or not look.text("/proc/modules", 4096)
    listed = "".join(
        look.text(f"{modules}/{file}", MODULES_LARGEST) or "" for file in ("modules.dep", "modules.builtin")
    )
    if look.exists("/sys/module/wireguard"):
        wireguard = "loaded"
    elif "/wireguard.ko" in listed:
        wireguard = "module"
    else:
        wireguard = "program" if look.program("wireguard-go") else ""
    return Kernel(
        release=release,
        options=parse.options(text) or None,
        wireguard=wireguard,
        strongswan=tuple(package for package, file in _STRONGSWAN.items() if not look.exists(file)),
        modules="there" if is_there else "none" if needs_none else "gone",
        tun=look.exists("/dev/net/tun"),
    )


def _configuration(look: Looking, config_dir: str, state_dir: str) -> Configuration | None:
    tunnels = os.path.join(config_dir, names.TUNNELS)
    for place in (config_dir, tunnels, state_dir, *(f"{tunnels}/{name}" for name in look.listed(tunnels))):
        if os.path.exists(place) and not os.access(place, os.R_OK | (os.X_OK if os.path.isdir(place) else 0)):
            look.unseen[f"{place}: only root may read it"] = None
            return None
    where = Path(config_dir), Path(state_dir), Path(names.VENDOR_DIR)
    findings = check((), *where)
    read = load(*where)
    return Configuration(
        findings=tuple(Checked(finding.severity.value, finding.text, finding.hint) for finding in findings),
        tunnels=tuple(spec.name for spec in read.tunnels),
        ike=tuple(spec.name for spec in read.tunnels if isinstance(spec, IPsec)),
        lan="block" if read.lan is Lan.BLOCK else "allow",
    )


def _names(look: Looking) -> Names:
    text = look.text(names.RESOLV_CONF, 1 << 16) or ""
    leads_to = look.link(names.RESOLV_CONF)
    return Names(parse.writer(text, leads_to), leads_to, parse.servers(text))


def _clock(look: Looking, state_dir: str) -> Clock:
    kept = (
        [path for name in look.listed(state_dir) if look.changed(path := f"{state_dir}/{name}")]
        if os.access(state_dir, os.R_OK | os.X_OK)
        else []
    )
    newest = max(map(look.changed, (*DATED, *kept, names.__file__)))
    rtc = parse.number(look.text("/sys/class/rtc/rtc0/since_epoch", 64) or "")
    return Clock(now=time.time(), newest=newest, rtc=rtc)


# -- neighbours -------------------------------------------------------------------------------------------------------
def _network_manager(look: Looking, runs: bool) -> NetworkManager:  # noqa: FBT001 - what is read, not what may leave
    unseen = len(look.unseen)
    places = ("/etc/NetworkManager/system-connections", "/run/NetworkManager/system-connections")
    texts = [text for place in places for _, text in look.texts(place, ".nmconnection")]
    found = [name for text in texts if (name := parse.autoconnects(text)) is not None]
    profiles = tuple(found) if found or len(look.unseen) == unseen else None
    if not runs:
        return NetworkManager(profiles=())
    devices = dict(parse.fields(look.output("nmcli", "--terse", "--fields=DEVICE,STATE", "device") or ""))
    general = look.output("nmcli", "--terse", "--fields=CONNECTIVITY", "general") or ""
    tunnel = next((state for name, state in devices.items() if name.startswith(names.LINK_PREFIX)), "")
    return NetworkManager(tunnel, general.strip()[: parse.LONGEST], profiles)


def _networkd(look: Looking) -> Networkd:
    drop_ins = [
        text
        for top in ("/usr/lib", "/etc", "/run")
        for _, text in look.texts(f"{top}/systemd/networkd.conf.d", ".conf")
    ]
    texts = (look.text("/etc/systemd/networkd.conf") or "", *drop_ins)
    claiming = [
        path
        for top in ("/etc", "/run", "/usr/lib")
        for path, text in look.texts(f"{top}/systemd/network", ".network")
        if parse.claims(text, LINK)
    ]
    rules, routes = (parse.will(texts, key) for key in ("ManageForeignRoutingPolicyRules", "ManageForeignRoutes"))
    return Networkd(rules, routes, tuple(claiming))


def _firewalls(look: Looking) -> Firewalls:
    saved = ["/etc/iptables/rules.v4", "/etc/iptables/rules.v6"]
    ufw = {key: value for _, key, value in parse.settings(look.text("/etc/ufw/ufw.conf") or "")}
    if ufw.get("ENABLED", "").strip("\"'").lower() == "yes":
        saved.append("/etc/default/ufw")
    dropping = tuple(path for path in saved if parse.drops_output(look.text(path) or ""))
    return Firewalls(parse.flushes(look.text("/etc/nftables.conf") or ""), dropping)


def _printers(look: Looking) -> tuple[str, ...] | None:
    text = look.text("/etc/cups/printers.conf")
    return None if text is None else parse.printers(text)

# SPDX-License-Identifier: GPL-3.0-or-later
"""How the doctor reads a machine: texts of programs and files as values, and a small machine made of files."""

import gzip
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from aovpnd import names, regular
from aovpnd.ctl.__main__ import main
from aovpnd.ctl.doctor import gathering, looking, parse
from aovpnd.ctl.doctor.facts import Kernel, Manager, Mark, Process, Rule, Running, Table, Unit, Will, Writer
from aovpnd.ctl.doctor.gathering import gather
from aovpnd.ctl.doctor.looking import Looking, call
from aovpnd.links import Link
from tests.unit import scenes
from tests.unit.fake_daemon import fake_daemon

GUARD: Final = """table netdev aovpnd_guard { # progname aovpnd-guard
	flags owner
	chain link_2 {
		type filter hook egress device "wlan0" priority filter; policy drop;
	}
	chain link_3 {
		type filter hook egress devices = { "eth0", usb0 } priority filter; policy drop;
	}
}
"""
TABLE: Final = """table inet aovpnd {
	chain input {
		type filter hook input priority filter; policy drop;
	}
	chain output {
		type filter hook output priority filter; policy accept;
	}
	chain postrouting {
		type filter hook postrouting priority srcnat + 200; policy drop;
	}
}
"""
LINKS: Final = json.dumps(
    [
        {"ifindex": 1, "ifname": "lo", "flags": ["LOOPBACK", "UP"], "link_type": "loopback"},
        {"ifindex": 3, "ifname": "veth1", "flags": [], "link_type": "ether", "master": "docker0",
         "linkinfo": {"info_kind": "veth", "info_slave_kind": "bridge"}},
        {"ifindex": 2, "ifname": "docker0", "flags": ["UP"], "link_type": "ether", "linkinfo": {"info_kind": "bridge"}},
        {"ifindex": 4, "ifname": "wg0", "flags": ["UP"], "link_type": "none", "linkinfo": {"info_kind": "wireguard"}},
        {"ifname": "no index"}, "nonsense", {"ifindex": "5", "ifname": "x"},
    ]
)  # fmt: skip
RULES: Final = json.dumps(
    [
        {"priority": 0, "src": "all", "table": "local"},
        {"priority": 10, "not": None, "src": "all", "fwmark": "0x2a000000", "fwmask": "0x3f000000", "table": "24943"},
        {"priority": 11, "src": "all", "action": "unreachable"},
        {"no": "priority"},
    ]
)
SHUT: Final = [{"type": "unreachable", "dst": "default", "table": "24943", "metric": names.CLOSED_METRIC}]


def test_nft() -> None:
    """Tables, hooks that drop by default, and links of egress chains, in both forms of nft."""
    assert parse.tables("table inet aovpnd\ntable netdev x-1 # comment\nnonsense\n") == {
        Table("inet", "aovpnd"),
        Table("netdev", "x-1"),
    }
    assert parse.closed(TABLE) == {"input", "postrouting"}
    assert parse.egress(GUARD) == {"wlan0", "eth0", "usb0"}


def test_ip() -> None:
    """Links with their masters, rules, and whether our table is shut; None for what is no answer at all."""
    assert parse.links(LINKS) == (
        Link(1, "lo", arphrd=772),
        Link(3, "veth1", "veth", master=2, up=False),
        Link(2, "docker0", "bridge"),
        Link(4, "wg0", "wireguard", 65534),
    )
    assert parse.rules(6, RULES) == (
        Rule(6, 0, "local", "lookup local"),
        Rule(6, 10, "24943", "lookup 24943"),
        Rule(6, 11, "", "unreachable"),
    )
    assert parse.is_shut(json.dumps(SHUT))
    assert not parse.is_shut(json.dumps([{**SHUT[0], "table": "main"}]))
    for nothing in ("", "[]", "{}", "[1]", "nonsense", "[" * 100_000):
        assert (parse.links(nothing), parse.rules(4, nothing), parse.is_shut(nothing)) == (None, None, False)


def test_units() -> None:
    """Blocks of systemctl show; what has no name is left out."""
    text = "Id=a.service\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\n\nLoadState=x\n\nId=b.service\n"

    assert parse.units(text) == (Unit("a.service", "loaded", "active", "enabled"), Unit("b.service", "", "", ""))


@pytest.mark.parametrize(
    ("texts", "will"),
    [
        ((), Will.REMOVES),
        (("[Network]\nManageForeignRoutes=no\n",), Will.KEEPS),
        (("[Network]\n#ManageForeignRoutes=no\n",), Will.REMOVES),
        (("[Other]\nManageForeignRoutes=no\n",), Will.REMOVES),
        (("[Network]\nManageForeignRoutes = off\n", "[Network]\nManageForeignRoutes=yes\n"), Will.REMOVES),
        (("[Network]\nManageForeignRoutes=no\n", "[Network]\nManageForeignRoutes=perhaps\n"), Will.KEEPS),
    ],
)
def test_what_networkd_does(texts: tuple[str, ...], will: Will) -> None:
    """The last file that says something that systemd understands wins."""
    assert parse.will(texts, "ManageForeignRoutes") is will


@pytest.mark.parametrize(
    ("match", "claims"),
    [
        ("Name=*", True),
        ("Name=en* aovpn?", True),
        ("Name=wlan0", False),
        ("Name=!lo", True),
        ("Name=!aovpn*", False),
        ("Name=*\nType=ether", False),
        ("Type=ether", False),
        ("Name=" + "*" * 50, False),
    ],
)
def test_what_networkd_claims(match: str, claims: bool) -> None:
    """A file takes our link when its names do and nothing else narrows them."""
    assert parse.claims(f"[Match]\n{match}\n[Network]\nDHCP=yes\n", "aovpn0") is claims


def test_profiles() -> None:
    """VPNs that connect by themselves, and nothing else."""
    assert parse.autoconnects("[connection]\nid=office\ntype=wireguard\n") == "office"
    assert parse.autoconnects("[connection]\nid=office\ntype=vpn\nautoconnect=false\n") is None
    assert parse.autoconnects("[connection]\nid=home\ntype=wifi\n") is None


def test_firewalls() -> None:
    """A flush that stands alone on its line; an output chain that drops."""
    assert parse.flushes("#!/usr/sbin/nft -f\n\nflush ruleset\n") is Will.REMOVES
    assert parse.flushes("  flush ruleset; # all\n") is Will.REMOVES
    assert parse.flushes("# flush ruleset\nflush ruleset inet\n") is Will.KEEPS
    assert parse.drops_output("*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT DROP [0:0]\nCOMMIT\n")
    assert not parse.drops_output("*nat\n:OUTPUT DROP [0:0]\n*filter\n:OUTPUT ACCEPT [0:0]\n")
    assert parse.drops_output('DEFAULT_INPUT_POLICY="DROP"\nDEFAULT_OUTPUT_POLICY="REJECT"\n')
    assert not parse.drops_output('DEFAULT_OUTPUT_POLICY="ACCEPT"\n')


def test_printers() -> None:
    """Names alone: an address may carry a password. One on a cable is none of the network's."""
    text = (
        "<DefaultPrinter Office>\nDeviceURI ipp://user:secret@192.168.1.9/ipp\n</DefaultPrinter>\n"
        "<Printer Desk>\nDeviceURI usb://HP/1\n</Printer>\nDeviceURI ipp://nobody\n"
        "<Printer Hall>\n  DeviceURI dnssd://Hall._ipp._tcp.local/\n</Printer>\n"
    )

    assert parse.printers(text) == ("Office", "Hall")


@pytest.mark.parametrize(
    ("text", "leads_to", "writer"),
    [
        (names.RESOLV_CONF_MARK + "nameserver 10.2.0.1\n", "", Writer.OURS),
        ("# anything\n", "../run/systemd/resolve/stub-resolv.conf", Writer.RESOLVED),
        ("nameserver 1.1.1.1\n", "/run/resolvconf/resolv.conf", Writer.RESOLVCONF),
        ("", "/run/NetworkManager/resolv.conf", Writer.NETWORK_MANAGER),
        ("# Generated by NetworkManager\nnameserver 192.0.2.1\n", "", Writer.NETWORK_MANAGER),
        ("# Generated by dhcpcd from eth0\n", "", Writer.DHCPCD),
        ("# Generated by resolvconf\n", "", Writer.RESOLVCONF),
        ("nameserver 192.0.2.1\n# Generated by dhcpcd\n", "", Writer.DHCPCD),
        ("nameserver 192.0.2.1\n", "", Writer.SOMEBODY),
        ("", "", Writer.NOBODY),
    ],
)
def test_whose_resolv_conf(text: str, leads_to: str, writer: Writer) -> None:
    """By our mark, by where it leads, by what it says of itself."""
    assert parse.writer(text, leads_to) is writer


def test_small_texts() -> None:
    """Servers, processes, numbers, fields of nmcli, a kernel's configuration."""
    assert parse.servers("nameserver 192.0.2.1 x\nnameserver\noptions edns0\n") == ("192.0.2.1",)
    stat = "77 (a) b) S " + " ".join(["0"] * 18) + " 250 0"
    assert parse.process(77, stat, 1000.0, 100) == Process("a) b", 77, 1002.5)
    assert parse.process(77, "77 (x", 1000.0, 100) is None
    guard = Process("python3", 7, 1.0)
    assert parse.script(guard, "python3\0-I\0-m\0aovpnd.guard\0").program == "aovpnd-guard"
    assert parse.script(guard, "python3\0/usr/sbin/firewalld\0").program == "firewalld"
    assert parse.script(guard, "python3\0").program == "python3"
    assert [parse.number(text) for text in ("1\n", "-1", "", "1 2", "²", "9" * 30)] == [1, -1, None, None, None, None]
    assert parse.fields("wlan0:connected\na\\:b:unmanaged\n") == (("wlan0", "connected"), ("a:b", "unmanaged"))
    assert parse.options("CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D=1\n") == {"CONFIG_A", "CONFIG_B"}


# ── programs ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def test_programs_have_a_deadline_and_a_length(tmp_path: Path) -> None:
    """One that hangs, prints without end, fails, or is not there costs its deadline at most, and leaves no process."""
    for name, text in {
        "hang": "exec sleep 600",
        "pour": "exec yes",
        "fail": "echo x; exit 3",
        "good": "echo ä",
    }.items():
        _program(tmp_path / name, text)
    before = time.monotonic()

    assert call((str(tmp_path / "hang"),), 0.2) is None
    assert call((str(tmp_path / "pour"),), 5.0, 4096) is None
    assert call((str(tmp_path / "fail"),), 5.0) is None
    assert call((str(tmp_path / "nothing"),), 5.0) is None
    assert call((str(tmp_path / "good"),), 5.0) == "ä\n"
    assert time.monotonic() - before < 5.0


def test_all_together_have_a_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where everything hangs, most of it is not even asked."""
    monkeypatch.setattr(looking, "TOGETHER_S", 0.0)
    _program(tmp_path / "usr/bin/good", "echo x")
    look = Looking(tmp_path)

    assert look.output("good") is None
    assert list(look.unseen) == ["good: it failed, or took too long"]


def test_programs_get_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the user's PATH nor anything else of his environment reaches what root runs."""
    monkeypatch.setenv("SECRET", "x")
    _program(tmp_path / "show", "exec env")
    shown = call((str(tmp_path / "show"),), 5.0) or ""

    assert "SECRET" not in shown
    assert "PATH=/usr/sbin:/usr/bin:/sbin:/bin\n" in shown


# ── a machine made of files ──────────────────────────────────────────────────────────────────────────────────────────


def _machine(base: Path) -> Looking:
    """Debian with NetworkManager and nftables.service, whose nft and ip say what was prepared."""
    files = {
        "etc/nftables.conf": "flush ruleset\n",
        "etc/NetworkManager/system-connections/o.nmconnection": "[connection]\nid=office\ntype=vpn\n",
        "etc/cups/printers.conf": "<Printer Hall>\nDeviceURI ipp://x/\n</Printer>\n",
        "etc/ufw/ufw.conf": "ENABLED=yes\n",
        "etc/default/ufw": 'DEFAULT_OUTPUT_POLICY="DROP"\n',
        "etc/systemd/network/all.network": "[Match]\nName=*\n",
        "etc/systemd/networkd.conf.d/x.conf": "[Network]\nManageForeignRoutes=no\n",
        "usr/lib/aovpnd/lockdown.nft": "x",
        "usr/lib/systemd/system/aovpnd.service": "x",
        "usr/lib/udev/rules.d/82-aovpnd-egress.rules": "x",
        "proc/sys/net/ipv4/conf/all/arp_ignore": "2\n",
        "proc/sys/net/ipv6/x": "",
        "proc/modules": "x 1 0 - Live 0x0\n",
        "proc/77/stat": "77 (NetworkManager) S " + " ".join(["0"] * 18) + " 250 0",
        "sys/class/rtc/rtc0/since_epoch": "1700000000\n",
        "run/systemd/system/x": "",
    }
    for path, text in files.items():
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        (base / path).write_text(text, encoding="utf-8")
    (base / "proc/config.gz").write_bytes(gzip.compress(b"CONFIG_NF_TABLES=y\n"))
    (base / "etc/resolv.conf").symlink_to("/run/systemd/resolve/stub-resolv.conf")
    (base / "etc/udev/rules.d").mkdir(parents=True)
    (base / "etc/udev/rules.d/82-aovpnd-egress.rules").symlink_to("/dev/null")
    (base / "etc/systemd/system/multi-user.target.wants").mkdir(parents=True)
    (base / "etc/systemd/system/multi-user.target.wants/wg-quick@office.service").symlink_to("/x")
    (base / "etc/systemd/system/multi-user.target.wants/masked.service").symlink_to("/x")
    (base / "etc/systemd/system/masked.service").symlink_to("/dev/null")
    said = {"link": LINKS, "rule": RULES, "route": json.dumps(SHUT)}
    cases = "".join(f"*\\ {word}\\ *) echo '{text}';;\n" for word, text in said.items())
    _program(base / "usr/sbin/ip", f'case " $* " in\n{cases}esac')
    _program(
        base / "usr/sbin/nft",
        f"""case "$*" in "list tables") echo 'table inet aovpnd'
echo 'table netdev aovpnd_guard';; *netdev*) cat <<'X'\n{GUARD}X\n;; *) cat <<'X'\n{TABLE}X\n;; esac""",
    )
    _program(
        base / "usr/bin/nmcli", 'case "$*" in *general) echo limited;; *) echo "aovpn0:connected (externally)";; esac'
    )
    _program(base / "usr/bin/systemctl", "printf 'Id=aovpnd.service\\nLoadState=loaded\\nActiveState=failed\\n'")
    return Looking(base)


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root, as far as the doctor asks."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.mark.usefixtures("as_root")
def test_machine_is_read(tmp_path: Path) -> None:
    """Everything by which something is judged reaches the facts."""
    etc = tmp_path / "configuration"
    (etc / "tunnels").mkdir(parents=True)
    (etc / "tunnels" / "broken.conf").write_text("nonsense\n", encoding="utf-8")
    (etc / "unblocked").touch()
    look = _machine(tmp_path / "machine")
    with fake_daemon(tmp_path) as daemon:
        daemon.publish(scenes.CONNECTED)
        facts = gather(str(tmp_path), str(etc), str(tmp_path / "state"), look)

    assert facts.daemon.state is Running.RUNNING
    assert facts.daemon.phase == "connected"
    assert facts.manager is Manager.SYSTEMD
    assert facts.mark is Mark.THERE
    assert facts.families == (4, 6)
    assert facts.tables == frozenset({Table("inet", "aovpnd"), Table("netdev", "aovpnd_guard")})
    assert facts.closed == frozenset({"input", "postrouting"})
    assert facts.egress == frozenset({"wlan0", "eth0", "usb0"})
    assert facts.links is not None
    assert len(facts.links) == 4
    assert facts.rules is not None
    assert len(facts.rules) == 6
    assert facts.shut == (4, 6)
    kernel = Kernel(os.uname().release, frozenset({"CONFIG_NF_TABLES"}), "", "gone", tun=False)
    assert replace(facts.kernel, strongswan=()) == kernel
    assert facts.kernel.strongswan[:2] == ("charon-systemd", "libstrongswan-standard-plugins")
    assert dict(facts.sysctls)["net/ipv4/conf/all/arp_ignore"] == 2
    assert facts.configuration is not None
    assert facts.configuration.tunnels == ()
    assert facts.configuration.findings
    assert (facts.names.writer, facts.names.servers) == (Writer.RESOLVED, ())
    assert facts.clock.rtc == 1_700_000_000
    assert facts.runs("NetworkManager")
    assert facts.network_manager.tunnel == "connected (externally)"
    assert facts.network_manager.connectivity == "limited"
    assert facts.network_manager.profiles == ("office",)
    assert (facts.networkd.rules, facts.networkd.routes) == (Will.REMOVES, Will.KEEPS)
    assert facts.networkd.claiming == ("/etc/systemd/network/all.network",)
    assert facts.firewalls.nftables is Will.REMOVES
    assert facts.firewalls.dropping == ("/etc/default/ufw",)
    assert facts.printers == ("Hall",)
    assert facts.enabled == {"wg-quick@office.service"}
    assert facts.units == (Unit("aovpnd.service", "loaded", "failed", ""),)
    assert "wg" in facts.missing_programs
    assert facts.missing_files == (
        "/usr/lib/aovpnd/egress.nft",
        "/lib/systemd/system/aovpnd-lockdown.service",
        "/lib/systemd/system/aovpnd-blocked.service",
        "/lib/systemd/system/aovpnd-guard.service",
        "/etc/udev/rules.d/82-aovpnd-egress.rules (masked)",
    )
    assert facts.unseen == ()


@pytest.mark.usefixtures("as_root")
def test_empty_machine_is_read(tmp_path: Path) -> None:
    """Nothing there at all: nothing fails, and what could not be asked is said."""
    facts = gather(str(tmp_path / "r"), str(tmp_path / "c"), str(tmp_path / "s"), Looking(tmp_path / "m"))

    assert facts.daemon.state is Running.ABSENT
    assert (facts.tables, facts.links, facts.rules, facts.shut, facts.units) == (None, None, None, None, None)
    assert facts.families == (4,)
    assert facts.kernel.modules == "none"
    assert all("the program is not there" in text for text in facts.unseen)


def test_users_see_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user is asked for no table, and hears what only root may read."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "access", lambda path, mode: "configuration" not in str(path) and bool(mode))
    (tmp_path / "configuration").mkdir()
    real = regular.read

    def read(path: Path, most: int) -> bytes:
        if path.name == "printers.conf":
            raise PermissionError
        return real(path, most)

    monkeypatch.setattr(regular, "read", read)
    facts = gather(str(tmp_path), str(tmp_path / "configuration"), str(tmp_path), _machine(tmp_path / "machine"))

    assert (facts.tables, facts.printers, facts.configuration) == (None, None, None)
    assert "tables of nftables: only root may list them" in facts.unseen
    assert "/etc/cups/printers.conf: only root may read it" in facts.unseen
    assert f"{tmp_path}/configuration: only root may read it" in facts.unseen


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Somebody has put a named pipe in the place of a file."""
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc/resolv.conf")

    assert Looking(tmp_path).text("/etc/resolv.conf") == ""
    assert Looking(tmp_path).gunzipped("/etc/resolv.conf") == ""
    assert (tmp_path / "etc/x.gz").write_bytes(b"no gzip") == 7
    assert Looking(tmp_path).gunzipped("/etc/x.gz") == ""


def test_open_window_is_seen(tmp_path: Path) -> None:
    """How long temporary access stays open, as status counts it."""
    with fake_daemon(tmp_path) as daemon:
        daemon.publish(scenes.TEMPORARY_ACCESS)
        found = gather(str(tmp_path), str(tmp_path), str(tmp_path), Looking(tmp_path / "m")).daemon

    assert found.phase == "temporary-access"
    assert found.window_s is not None
    assert found.window_s > 0


def test_unreadable_status_is_a_finding(tmp_path: Path) -> None:
    """What the daemon published cannot be understood: it is said, and everything else as well."""
    with fake_daemon(tmp_path):
        (tmp_path / "status.json").write_text("nonsense", encoding="utf-8")
        facts = gather(str(tmp_path), str(tmp_path), str(tmp_path), Looking(tmp_path / "m"))

    assert facts.daemon.state is Running.UNREADABLE
    assert "cannot be understood" in facts.daemon.why


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ends with what it found, for people and for programs alike; without a daemon there is something."""
    monkeypatch.delenv("AOVPND_RUNTIME_DIR", raising=False)
    where = [f"--{name}-dir={tmp_path}" for name in ("runtime", "config", "state")]

    assert main(["doctor", *where]) == 1
    shown = capsys.readouterr()
    assert "error: the daemon does not run" in shown.out
    assert main(["doctor", "--json", *where]) == 1
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert "daemon-not-running" in {one["code"] for one in told["findings"]}


@pytest.mark.parametrize(
    ("file", "text", "where"),
    [
        ("sys/module/wireguard/version", "1.0", "loaded"),
        (f"lib/modules/{os.uname().release}/modules.dep", "kernel/drivers/net/wireguard/wireguard.ko.xz: x", "module"),
        (f"lib/modules/{os.uname().release}/modules.builtin", "kernel/drivers/net/wireguard/wireguard.ko", "module"),
        ("usr/bin/wireguard-go", "", "program"),
        ("usr/bin/nothing", "", ""),
    ],
)
def test_where_wireguard_is(tmp_path: Path, file: str, text: str, where: str) -> None:
    """Loaded or built in, a module of the running kernel, a program, or nowhere."""
    _program(tmp_path / file, text)

    assert gather(str(tmp_path), str(tmp_path / "c"), str(tmp_path / "s"), Looking(tmp_path)).kernel.wireguard == where


@pytest.mark.parametrize(("state", "runs"), [("S", True), ("R", True), ("Z", False), ("X", False)])
def test_who_has_ended_is_no_process(tmp_path: Path, state: str, runs: bool) -> None:
    """Of one that has, nothing says any more in which network it was."""
    (tmp_path / "proc/77").mkdir(parents=True)
    (tmp_path / "proc/77/stat").write_text(f"77 (dhcpcd) {state} " + " ".join(["0"] * 18) + " 250 0", encoding="utf-8")

    assert gather(str(tmp_path), str(tmp_path / "c"), str(tmp_path / "s"), Looking(tmp_path)).runs("dhcpcd") is runs


@pytest.mark.parametrize(("numbers", "runs"), [("77", True), ("77\t12", False), ("77\t12\t3", False), ("", True)])
def test_guests_processes_are_not_ours(tmp_path: Path, numbers: str, runs: bool) -> None:
    """As an ordinary user, too, who may not read in which namespaces they are."""
    (tmp_path / "proc/77").mkdir(parents=True)
    (tmp_path / "proc/77/stat").write_text("77 (dhcpcd) S " + " ".join(["0"] * 18) + " 250 0", encoding="utf-8")
    (tmp_path / "proc/77/status").write_text(f"Name:\tdhcpcd\nNSpid:\t{numbers}\nVmPeak:\t7 kB\n", encoding="utf-8")

    assert gather(str(tmp_path), str(tmp_path / "c"), str(tmp_path / "s"), Looking(tmp_path)).runs("dhcpcd") is runs


def test_everybody_can_name_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of a person's that is called like ours is none of ours."""
    (tmp_path / "proc/88").mkdir(parents=True)
    stat = "88 (aovpnd-guard) S " + " ".join(["0"] * 18) + " 250 0"
    (tmp_path / "proc/88/stat").write_text(stat, encoding="utf-8")
    where = (str(tmp_path), str(tmp_path / "c"), str(tmp_path / "s"), Looking(tmp_path))

    monkeypatch.setattr(gathering, "FIRST_PERSON", os.getuid() + 1)
    assert gather(*where).runs("aovpnd-guard")
    monkeypatch.setattr(gathering, "FIRST_PERSON", os.getuid())
    assert not gather(*where).runs("aovpnd-guard")

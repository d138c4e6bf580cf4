# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes the daemon call: what a person or another program does. Each returns what a refused command said."""

import os
import signal

from aovpnd import names
from tests.faults.stage import LINK, Stage


def flush(stage: Stage) -> str:
    """Somebody flushes the ruleset."""
    stage.laptop.lab.host.run("nft", "flush", "ruleset")
    return ""


def flush_routes(stage: Stage) -> str:
    """Somebody removes our routes."""
    stage.laptop.lab.host.run("ip", "route", "flush", "table", str(names.ROUTE_TABLE), check=False)
    stage.laptop.lab.host.run("ip", "-6", "route", "flush", "table", str(names.ROUTE_TABLE), check=False)
    return ""


def delete_rules(stage: Stage) -> str:
    """Somebody removes our rules."""
    for family in ("-4", "-6"):
        stage.laptop.lab.host.run("ip", family, "rule", "del", "priority", str(names.RULE_PRIORITY), check=False)
    return ""


def wake(stage: Stage) -> str:
    """An address comes and goes: look again."""
    stage.fresh += 1
    address = f"127.9.{stage.fresh // 250}.{stage.fresh % 250}/32"
    stage.laptop.lab.host.ip(f"addr add {address} dev lo")
    stage.laptop.lab.host.ip(f"addr del {address} dev lo")
    return ""


def sysctl(stage: Stage) -> str:
    """Somebody sets a key back."""
    stage.laptop.lab.host.sysctl(ipv4__conf__all__src_valid_mark=0)
    return wake(stage)


def reload(stage: Stage) -> str:
    """Somebody reloads the configuration."""
    pid = stage.laptop.daemon_pid()
    if pid is not None:
        os.kill(pid, signal.SIGHUP)
    return ""


def _change_tunnel(stage: Stage, *command: str) -> str:
    """Do something to the tunnel's link; where there is none, have it made."""
    lab = stage.laptop.lab
    if "aovpn0" not in lab.host.links():
        return stage.ctl("connect")
    lab.host.run(*command, check=False)
    return ""


def new_tunnel(stage: Stage) -> str:
    """The tunnel has to be made anew: where there is one, it loses its link."""
    return _change_tunnel(stage, "ip", "link", "del", "aovpn0")


def other_mtu(stage: Stage) -> str:
    """Somebody changes the tunnel's link, or it has to be made."""
    return _change_tunnel(stage, "ip", "link", "set", "aovpn0", "mtu", "1300")


def other_address(stage: Stage) -> str:
    """Somebody takes the tunnel's addresses, or it has to be made."""
    return _change_tunnel(stage, "ip", "addr", "flush", "dev", "aovpn0")


def link_down(stage: Stage) -> str:
    """Somebody sets the tunnel's link down, or it has to be made."""
    return _change_tunnel(stage, "ip", "link", "set", "aovpn0", "down")


def kill_guard(stage: Stage) -> str:
    """The guard dies, and has to be started again."""
    pid = stage.laptop.guard_pid()
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    return ""


def ask_window(stage: Stage) -> str:
    """Ask for a window that must not open."""
    return stage.ctl("allow-temp", "2s")


def choose(stage: Stage) -> str:
    """Name the tunnel, which is kept."""
    return stage.ctl("connect", "tunnel")


def names_overwritten(stage: Stage) -> str:
    """Somebody writes resolv.conf in place."""
    stage.laptop.lab.host.path("/etc/resolv.conf").write_text("nameserver 192.0.2.53\n", encoding="utf-8")
    return ""


def news(stage: Stage) -> str:
    """Something that status has to tell: a setting that nobody knows, for as long as it stands there."""
    stage.fresh += 1
    stage.laptop.lab.write_config(f"[lan]\nunknown{stage.fresh} = true\n", "conf.d/news.toml")
    return reload(stage)


def roam(stage: Stage) -> str:
    """The network goes and comes: connections of programs are closed."""
    stage.laptop.world.flap(LINK)
    return ""

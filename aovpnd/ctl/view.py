# SPDX-License-Identifier: GPL-3.0-or-later
"""The status in words for a person, in the shape that people know from other clients. A function of what was read."""

from __future__ import annotations

import time

from aovpnd.ctl.reading import RUNNING, Reading
from aovpnd.ctl.terminal import BOLD, GREEN, RED, YELLOW, Style, ago, countdown, plain, size
from aovpnd.shape import moment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

INTERNET = {
    "connected": "through the tunnel only",
    "connecting": "blocked until the tunnel is up",
    "resting": "through the tunnel only, which connects when something is sent",
    "offline": "no network; blocked until the tunnel is up",
    "blocked": "blocked",
    "unblocked": "open, nothing is protected (to put the block on: aovpnctl block)",
}
WAY_OUT = "(to connect: aovpnctl connect; to get online for a while without: aovpnctl allow-temp)"
KINDS = {"wifi": "Wi-Fi", "ethernet": "wired connection", "mobile": "mobile network"}
SEVERITIES = {"error": RED, "warning": YELLOW}


def lines(reading: Reading, to: Style) -> list[str]:
    """The status for a person."""
    document = reading.document
    if reading.daemon != RUNNING:
        return _without_daemon(document, to)
    phase = document["phase"]
    shown = [f"VPN: {_vpn(document, to)}", f"Current network: {_network(document['uplinks'])}"]
    shown += _tunnel(chosen(document)) + [line for tunnel in document["tunnels"] for line in _companion(tunnel)]
    if document["temporary_access"] is not None:
        shown += ["", *_access(document["temporary_access"], to)]
    elif phase in INTERNET:
        open_to_all = phase == "unblocked"
        internet = to.fold(f"Internet: {INTERNET[phase]}")
        shown += [to.paint(line, BOLD, RED) for line in internet] if open_to_all else internet
        if phase == "blocked" and not document["problems"]:
            shown += to.fold(WAY_OUT)
        if not document["protected"] and not open_to_all:
            shown.append(to.paint("Block: not in place as it should be", BOLD, RED))
    return shown + _problems(document["problems"], to)


def _without_daemon(document: dict[str, Any], to: Style) -> list[str]:
    problem = document["problems"][0]
    shown = [f"VPN: {to.paint(problem['text'], BOLD, RED)}", f"({problem['hint']})"]
    access = document["temporary_access"]
    if access is not None:
        left = countdown(access["remaining_s"])
        shown += ["", *to.fold(f"Temporary internet access may still be open; it closes by itself in {left}.")]
    return shown


def chosen(document: dict[str, Any]) -> dict[str, Any] | None:
    """The tunnel that is up or coming up."""
    return next((tunnel for tunnel in document["tunnels"] if tunnel["role"] == "chosen"), None)


def _vpn(document: dict[str, Any], to: Style) -> str:
    tunnel = chosen(document)
    if document["phase"] == "connected":
        return to.paint("Connected", BOLD, GREEN)
    if document["phase"] == "resting":
        return to.paint("Resting", BOLD, GREEN)
    if tunnel is None or document["phase"] in {"offline", "unblocked"}:
        return to.paint("Disconnected", BOLD, RED)
    return to.paint("Paused" if tunnel["state"] == "connected" else "Connecting", BOLD, YELLOW)


def _network(uplinks: list[dict[str, Any]]) -> str:
    return ", ".join(map(network_name, uplinks)) or "none"


def network_name(uplink: dict[str, Any]) -> str:
    """``Wi-Fi "CoffeeShop" (wlan0)``; the name is whatever the network calls itself."""
    kind = KINDS.get(uplink["kind"], plain(uplink["kind"]))
    name = f' "{plain(uplink["name"])}"' if uplink["name"] else ""
    return f"{kind}{name} ({plain(uplink['link'])})"


def _tunnel(tunnel: dict[str, Any] | None) -> list[str]:
    if tunnel is None:
        return []
    where = f", {plain(tunnel['endpoint'])}" if tunnel["endpoint"] else ""
    shown = [f"Tunnel: {plain(tunnel['name'])}{where}"]
    if tunnel["_since_boot"] is not None:
        shown.append(f"Connected for: {_span_since(tunnel['_since_boot'])}")
    if tunnel["_handshake_wall"]:
        shown.append(f"Last handshake: {ago(time.time() - tunnel['_handshake_wall'])}")
        shown.append(f"Transferred: {size(tunnel['rx_bytes'] or 0)} received, {size(tunnel['tx_bytes'] or 0)} sent")
    return shown


def _companion(tunnel: dict[str, Any]) -> list[str]:
    """One line for each tunnel that stands beside the one that carries."""
    if tunnel["role"] != "companion":
        return []
    where = f", {plain(tunnel['endpoint'])}" if tunnel["endpoint"] else ""
    since = tunnel["_since_boot"]
    state = plain(tunnel["state"]) if since is None else f"connected for {_span_since(since)}"
    whose = f", for {plain(', '.join(tunnel['users']))} alone" if tunnel["users"] else ""
    return [f"Beside it: {plain(tunnel['name'])}{where}, {state}{whose}"]


def _span_since(boot: float) -> str:
    return countdown(int(time.clock_gettime(time.CLOCK_BOOTTIME) - boot))


def _access(access: dict[str, Any], to: Style) -> list[str]:
    by = f", by {plain(access['link'])}" if access.get("link") else ""
    whose = f"For the whole machine{by}, granted to {plain(access['granted_to'])}"
    whose += f": {plain(access['reason'])}" if access["reason"] else ""
    return [
        to.paint("Temporary internet access active.", BOLD, YELLOW),
        *to.fold(whose),
        "",
        f"Internet connection left: {to.paint(countdown(access['remaining_s']), BOLD)}",
    ]


def _problems(problems: list[dict[str, Any]], to: Style) -> list[str]:
    if not problems:
        return []
    shown = ["", "Problems:"]
    for problem in problems:
        word = plain(problem["severity"])
        hint = f" ({plain(problem['hint'])})" if problem["hint"] else ""
        when = f", {ago(time.time() - problem['_at_wall'])}" if "_at_wall" in problem else until(problem)
        first, *rest = to.fold(f"{word}: {plain(problem['text'])}{when}{hint}", "  ", "    ")
        shown.append(first.replace(word, to.paint(word, BOLD, SEVERITIES[word]), 1) if word in SEVERITIES else first)
        shown += rest
    return shown


def until(problem: dict[str, Any]) -> str:
    """How long until something comes of a problem by itself."""
    if not moment(problem.get("_until_boot")):
        return ""
    return f", in {countdown(round(problem['_until_boot'] - time.clock_gettime(time.CLOCK_BOOTTIME)))}"

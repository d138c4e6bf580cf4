# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl explain``: what a person reads, what a program reads, and what is never asked of the daemon."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aovpnd import destinations
from aovpnd.core.answers import answer
from aovpnd.ctl.__main__ import main
from aovpnd.orders import Answer, Explain
from tests.unit.fake_daemon import FakeDaemon, fake_daemon
from tests.unit.test_explain import PUBLIC, connected, locked_lan, open_for_alice, picture


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    """A daemon where aovpnctl looks for it."""
    monkeypatch.setenv("AOVPND_RUNTIME_DIR", str(tmp_path))
    with fake_daemon(tmp_path) as running:
        yield running


TUNNEL = f"""\
{PUBLIC}:443/tcp leaves through the tunnel office (aovpn0)
(outside, nothing of it is seen but the tunnel's own packets to 192.0.2.1:51820 or [2001:db8:e::1]:51820)
Permit: Tunnel (docs/security.md)
From: /etc/aovpnd/tunnels/office.conf:7: AllowedIPs = 0.0.0.0/0
From: /etc/aovpnd/tunnels/office.conf:8: Endpoint = 192.0.2.1:51820
From: /etc/aovpnd/tunnels/office.conf:11: Endpoint = [2001:db8:e::1]:51820
The way it goes:
  routing: our route table: by a link
    0.0.0.0/0 dev aovpn0 metric 50
  output: the verified tunnel: index and name and kind: accepted
    chain output, rule 2: oif 50 meta l4proto tcp meta oifkind "wireguard" oifname "aovpn0" accept
  last look: the stamp is ours to give: clear it on everything first: goes on
    chain postrouting, rule 1: meta mark set meta mark & 0xbfffffff | 0x00000000
  last look: the verified tunnel: index and name and kind: accepted
    chain postrouting, rule 3: oif 50 meta l4proto tcp meta oifkind "wireguard" oifname "aovpn0" accept
  guard: tunnels; their outer packets come by here too: accepted
    chain postrouting, rule 3: meta oifkind "wireguard" oifname "aovpn*" accept
"""


def test_tunnel_in_words(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    """The sentence, what to know, the permit, the lines of the file, and the whole way."""
    daemon.answer = answer(Explain(destinations.parse(PUBLIC)), picture(connected()))

    assert main(["explain", PUBLIC]) == 0
    assert capsys.readouterr().out == TUNNEL
    assert daemon.asked == [Explain(destinations.parse(PUBLIC))]


def test_refusal_in_words(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    """A refusal is an answer: exit status 0."""
    daemon.answer = answer(Explain(destinations.parse("192.168.1.255:9/udp")), picture(locked_lan()))

    assert main(["explain", "192.168.1.255:9/udp"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[:3] == [
        "192.168.1.255:9/udp is refused at once: the local network of wlan0 stays closed",
        "(a policy keeps it so)",
        "From: /etc/aovpnd/policy.d/corp.toml:4: lan.allow = false",
    ]
    assert shown[-2].endswith(": refused")


def test_a_user_is_called_by_name(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    """The daemon is asked by number, and so is whoever has none; a person reads what he wrote."""
    asked = Explain(destinations.parse(f"1@{PUBLIC}"))  # of every Debian
    daemon.answer = answer(asked, picture(connected()))

    for written in ("daemon", "1"):
        assert main(["explain", f"{written}@{PUBLIC}"]) == 0
        assert capsys.readouterr().out.startswith(f"{written}@{PUBLIC}:443/tcp leaves")
    assert daemon.asked == [asked, asked]
    assert main(["explain", f"nobody-here@{PUBLIC}"]) != 0
    assert "no user of this machine" in capsys.readouterr().err


def test_window_says_until_when(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    """By the clock on the wall, with what is left."""
    said = answer(Explain(destinations.parse(PUBLIC)), picture(open_for_alice()))
    daemon.answer = Answer(said.text, time.clock_gettime(time.CLOCK_BOOTTIME) + 60, said.data)
    ends = {time.strftime("%H:%M:%S", time.localtime(time.time() + 60 + late)) for late in range(-1, 3)}

    assert main(["explain", PUBLIC]) == 0
    first = capsys.readouterr().out.partition("\n")[0]
    start = f"{PUBLIC}:443/tcp leaves by wlan0 as temporary access (granted to alice) until "
    assert first.removeprefix(start)[:8] in ends


def test_json(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    """All of it, with stable keys."""
    daemon.answer = answer(Explain(destinations.parse(PUBLIC)), picture(connected()))

    assert main(["explain", PUBLIC, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {
        *("ok", "text", "destination", "passes", "fate", "permit", "link", "source", "hint", "specification"),
        *("origins", "stages"),
    }
    assert (document["ok"], document["passes"], document["fate"]) == (True, True, "tunnel")


def test_everything(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a destination: seen, wanted, to be, still to be done."""
    daemon.answer = answer(Explain(), picture(connected()))

    assert main(["explain"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "connected: everything is as it should be"
    assert [line for line in shown if line and not line.startswith(" ")][1:] == [
        "Seen:",
        "Wanted:",
        "To be:",
        "Still to be done:",
    ]
    assert "    index 2, name wlan0, kind none, up yes, carrier yes" in shown
    assert shown[-1] == "  nothing"
    assert main(["explain", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["phase"] == "connected"


def test_failures_are_shown(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    """What is tried again, and nothing in it that a terminal obeys."""
    said = answer(Explain(), picture(connected()))
    assert said.data is not None
    failure = {"action": "LoadRuleset", "attempts": 2, "text": "\x1b[2J", "hint": ""}
    daemon.answer = Answer(said.text, None, {**said.data, "failures": [failure], "actions": ["load\nruleset"]})

    assert main(["explain"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert shown.endswith(
        "Still to be done:\n  load\\nruleset\n\nFailed, and tried again:\n"
        "  action LoadRuleset, attempts 2, text \\x1b[2J, hint none\n"
    )


def test_names_are_never_asked_for(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage, with what to do; neither the daemon nor a resolver hears of it."""
    assert main(["explain", "www.example.com"]) == 2
    assert capsys.readouterr().err == (
        "aovpnctl: 'www.example.com' is a name, and explain asks nobody for its address (give an address; the names "
        "are the resolver's: getent ahosts www.example.com)\n"
    )
    assert daemon.asked == []


def test_answer_of_another_release(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    """A daemon that answers without data is told apart from one that explains."""
    daemon.answer = Answer("done")

    assert main(["explain"]) == 1
    assert "the daemon's answer cannot be understood" in capsys.readouterr().err

# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl status``: what a person sees in each phase, letter by letter, and what a program reads."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aovpnd import __version__, absence
from aovpnd.ctl import watch
from aovpnd.ctl.__main__ import main
from aovpnd.ctl.asking import ask
from aovpnd.ctl.reading import ABSENT, RUNNING, STARTING, Reading, loads, read
from aovpnd.ctl.terminal import PLAIN, Style, ago, countdown, plain, size
from aovpnd.ctl.view import lines
from aovpnd.errors import DaemonUnreachable, StateError
from aovpnd.model import Problem, Severity
from tests.unit import scenes
from tests.unit.fake_daemon import fake_daemon
from tests.unit.scenes import NOW

DEADLINE_S: Final = 20.0
TEXTS: Final = {
    "blocked": """\
VPN: Disconnected
Current network: Wi-Fi (wlan0)
Internet: blocked

Problems:
  warning: no tunnel is configured, so everything stays blocked (put a wg-quick file into the tunnels directory and \
run: aovpnctl connect; until then: aovpnctl allow-temp)""",
    "disconnected": """\
VPN: Disconnected
Current network: Wi-Fi (wlan0)
Internet: blocked
(to connect: aovpnctl connect; to get online for a while without: aovpnctl allow-temp)""",
    "offline": """\
VPN: Disconnected
Current network: none
Tunnel: home, 203.0.113.1:51820
Internet: no network; blocked until the tunnel is up""",
    "connecting": """\
VPN: Connecting
Current network: Wi-Fi (wlan0)
Tunnel: home, 203.0.113.1:51820
Internet: blocked until the tunnel is up

Problems:
  warning: the gateway of home (203.0.113.1:51820) does not answer (a portal may be in the way: aovpnctl allow-temp; \
otherwise check the keys and the gateway)""",
    "connected": """\
VPN: Connected
Current network: Wi-Fi (wlan0)
Tunnel: home, 203.0.113.1:51820
Connected for: 01:06:40
Last handshake: 45 s ago
Transferred: 1.2 MiB received, 340.0 KiB sent
Internet: through the tunnel only""",
    "resting": """\
VPN: Resting
Current network: Wi-Fi (wlan0)
Tunnel: home, 203.0.113.1:51820
Internet: through the tunnel only, which connects when something is sent""",
    "temporary-access": """\
VPN: Disconnected
Current network: Wi-Fi (wlan0)

Temporary internet access active.
For the whole machine, by wlan0, granted to alice: hotel portal

Internet connection left: 00:02:56""",
    "unblocked": """\
VPN: Disconnected
Current network: Wi-Fi (wlan0)
Internet: open, nothing is protected (to put the block on: aovpnctl block)""",
}


@pytest.fixture
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clocks stand still where the scenes are."""
    monkeypatch.setattr(time, "clock_gettime", lambda _: scenes.NOW.boot)
    monkeypatch.setattr(time, "time", lambda: scenes.NOW.wall)


def _shown(scene: str, to: Style = PLAIN, **changed: Any) -> str:
    return "\n".join(lines(Reading(RUNNING, scenes.SCENES[scene].document() | changed), to))


# ── for a person ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("_still")
@pytest.mark.parametrize("scene", TEXTS)
def test_text_of_each_phase(scene: str) -> None:
    """The shape that people know: the first two lines, and the countdown."""
    assert _shown(scene) == TEXTS[scene]


@pytest.mark.usefixtures("_still")
def test_pause_is_no_disconnection() -> None:
    """A window that was opened while the tunnel was up says so."""
    document = scenes.CONNECTED.document()
    access = scenes.TEMPORARY_ACCESS.document()["temporary_access"]
    paused = document | {"phase": "temporary-access", "temporary_access": access}

    assert "\n".join(lines(Reading(RUNNING, paused), PLAIN)).startswith("VPN: Paused\n")


def test_block_that_is_not_in_place_is_said() -> None:
    """While the ruleset is not what it should be, nobody reads that all is well."""
    assert "Block: not in place as it should be" in _shown("blocked", protected=False)
    assert "Block:" not in _shown("unblocked")


@pytest.mark.usefixtures("_still")
def test_colours() -> None:
    """State, window and severity are coloured, and the text without the colours is the same."""
    colour = Style(colour=True, width=None)

    assert _shown("connected", colour).startswith("VPN: \033[1;32mConnected\033[0m\n")
    assert "\n\033[1;33mTemporary internet access active.\033[0m\n" in _shown("temporary-access", colour)
    assert "\n  \033[1;33mwarning\033[0m: the gateway" in _shown("connecting", colour)
    assert "\n\033[1;31mInternet: open, nothing is protected" in _shown("unblocked", colour)
    for scene in TEXTS:
        assert re.sub(r"\033\[[\d;]*m", "", _shown(scene, colour)) == TEXTS[scene]


def test_long_lines_are_folded_at_words() -> None:
    """At a terminal no word is torn, and what follows is indented."""
    shown = _shown("connecting", Style(colour=False, width=40)).splitlines()

    assert shown[-5:] == [
        "  warning: the gateway of home",
        "    (203.0.113.1:51820) does not answer",
        "    (a portal may be in the way:",
        "    aovpnctl allow-temp; otherwise check",
        "    the keys and the gateway)",
    ]


NASTY: Final = '\x1b]0;owned\x07\x1b[2J"\u202eevil\nVPN: Connected\x9b'


@pytest.mark.usefixtures("_still")
def test_strangers_cannot_speak_to_the_terminal() -> None:
    """Names of networks, reasons and problems are shown on one line, with nothing in them that a terminal obeys."""
    uplink = {"name": NASTY, "link": NASTY, "kind": NASTY, "trusted": False, "portal": None}
    access = scenes.TEMPORARY_ACCESS.document()["temporary_access"] | {"reason": NASTY, "granted_to": NASTY}
    problem = {"code": "x", "severity": "warning", "text": NASTY, "hint": NASTY}
    shown = _shown("temporary-access", uplinks=[uplink], temporary_access=access, problems=[problem])

    assert len(shown.splitlines()) == len(TEXTS["temporary-access"].splitlines()) + 3
    assert all(line.isprintable() for line in shown.splitlines())
    assert r"\x1b]0;owned\x07" in shown


@given(st.text())
def test_plain_text_is_printable(text: str) -> None:
    """Whatever it was; and what was printable stays as it is."""
    assert plain(text).isprintable()
    assert not text.isprintable() or plain(text) == text


def test_spans_and_sizes() -> None:
    """As people write them."""
    assert [countdown(s) for s in (-1, 0, 176, 3600, 360_000)] == [
        "00:00:00",
        "00:00:00",
        "00:02:56",
        "01:00:00",
        "100:00:00",
    ]
    assert [ago(s) for s in (-3, 45.9, 119, 120, 7200, 172_800)] == [
        "0 s ago",
        "45 s ago",
        "119 s ago",
        "2 min ago",
        "2 h ago",
        "2 d ago",
    ]
    assert [size(n) for n in (0, 1023, 1024, 1 << 20, 3 << 30, 1 << 50)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.0 MiB",
        "3.0 GiB",
        "1024.0 TiB",
    ]


# ── what is read ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody holds the lock: the words that the contract has, exit status 3."""
    assert main(["status", "--runtime-dir", str(tmp_path / "absent")]) == 3
    assert capsys.readouterr().out == (
        "VPN: daemon not running; the block remains as loaded\n(to start it: systemctl start aovpnd)\n"
    )


def test_no_daemon_and_no_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An administrator took the block off: nothing "remains", and nobody may think so."""
    marker = tmp_path / "unblocked"
    marker.touch()
    monkeypatch.setattr(absence, "MARKER", str(marker))

    problem = read(str(tmp_path / "absent")).document["problems"][0]
    assert problem["text"] == "daemon not running, and the block is off: nothing is protected"
    with pytest.raises(DaemonUnreachable, match="the block is off"):
        ask(str(tmp_path / "absent"), "block")


def test_no_daemon_and_no_tunnel_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Freshly installed: no block could remain. Once a daemon has run, or there is a tunnel, one may."""
    tunnels, lock = tmp_path / "tunnels", tmp_path / "lock"
    monkeypatch.setattr(absence, "TUNNELS", str(tunnels))
    monkeypatch.setattr(absence, "LOCK", str(lock))
    begun = ("daemon not running; the block remains as loaded", "to start it: systemctl start aovpnd")

    assert absence.without_daemon() == begun, "not installed"
    tunnels.mkdir()
    assert absence.without_daemon() == (
        "daemon not running: there is no tunnel yet, and nothing is protected",
        "sudo aovpnctl import FILE",
    )
    lock.touch()
    assert absence.without_daemon() == begun
    lock.unlink()
    (tunnels / "home.conf").touch()
    assert absence.without_daemon() == begun


def test_no_daemon_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same keys, the phase null, and nobody vouches for protection."""
    assert main(["status", "--json", "--runtime-dir", str(tmp_path)]) == 3
    assert json.loads(capsys.readouterr().out) == {
        "schema": 1,
        "protected": False,
        "phase": None,
        "uplinks": [],
        "tunnels": [],
        "temporary_access": None,
        "block": {
            "guarded": None,
            "managed_by": None,
            "user_may_unblock": False,
            "confirmed": None,
            "undone_in_s": None,
        },
        "dns": None,
        "problems": [
            {
                "code": "daemon-not-running",
                "severity": "error",
                "text": "daemon not running; the block remains as loaded",
                "hint": "to start it: systemctl start aovpnd",
            }
        ],
        "version": __version__,
    }


def test_window_of_a_dead_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The kernel keeps a window open to its end; who reads meanwhile is told, and not told any more afterwards."""
    with fake_daemon(tmp_path) as daemon:
        daemon.publish(scenes.TEMPORARY_ACCESS)

    assert main(["status", "--runtime-dir", str(tmp_path)]) == 3
    assert "Temporary internet access may still be open; it closes by itself in 00:02:5" in capsys.readouterr().out
    file = tmp_path / "status.json"
    file.write_text(file.read_text().replace('"_expires_boot": ', '"_expires_boot": 1e-9, "_": '))
    assert read(str(tmp_path)).document["temporary_access"] is None


def test_daemon_that_is_starting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It holds the lock and has said nothing yet; what an earlier boot said is not believed."""
    with fake_daemon(tmp_path):
        assert read(str(tmp_path)).daemon == STARTING
        (tmp_path / "status.json").write_text(
            json.dumps(scenes.CONNECTED.document() | {"_boot_id": "00000000-0000-0000-0000-000000000000"})
        )
        assert read(str(tmp_path)).daemon == STARTING
        assert main(["status", "--runtime-dir", str(tmp_path)]) == 3
    assert capsys.readouterr().out.startswith(
        "VPN: the daemon is starting, or cannot write its status; the block remains as loaded\n"
    )
    assert read(str(tmp_path)).daemon == ABSENT


def test_json_is_what_was_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the keys that are for the reader alone, with the time left as it is now."""
    with fake_daemon(tmp_path) as daemon:
        daemon.publish(scenes.TEMPORARY_ACCESS)
        assert main(["--json", "status", f"--runtime-dir={tmp_path}"]) == 0
    document = json.loads(capsys.readouterr().out)

    assert document["temporary_access"].pop("remaining_s") in range(150, 177)
    assert set(document["temporary_access"]) == {"expires_at", "scope", "link", "reason", "granted_to"}
    assert not [key for key in document if key.startswith("_")]


def test_time_left_is_computed_when_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file, read at several moments: it never shows 0 while any time is left, and never less than 0."""
    with fake_daemon(tmp_path) as daemon:
        daemon.publish(scenes.TEMPORARY_ACCESS)
        deadline = json.loads((tmp_path / "status.json").read_text())["temporary_access"]["_expires_boot"]
        for left, shown in ((176.0, 176), (175.01, 176), (0.25, 1), (0.0, 0), (-1.9, 0)):
            monkeypatch.setattr(time, "clock_gettime", lambda _, left=left: deadline - left)
            assert main(["status", "--json", "--runtime-dir", str(tmp_path)]) == 0
            assert json.loads(capsys.readouterr().out)["temporary_access"]["remaining_s"] == shown


def test_a_daemon_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has not said that its window is over: the kernel has closed it at its time, and whoever reads knows that."""
    with fake_daemon(tmp_path) as daemon:
        daemon.publish(scenes.TEMPORARY_ACCESS)
        deadline = json.loads((tmp_path / "status.json").read_text())["temporary_access"]["_expires_boot"]
        monkeypatch.setattr(time, "clock_gettime", lambda _: deadline + 2.1)
        reading = read(str(tmp_path))

    assert (reading.document["phase"], reading.document["temporary_access"]) == (None, None)
    assert reading.document["protected"] is False
    assert [problem["code"] for problem in reading.document["problems"]] == ["daemon-silent"]
    shown = lines(reading, Style(colour=False, width=None))
    assert "Temporary internet access active." not in shown
    assert any("the kernel has closed it" in line for line in shown)


def test_when_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what happened once, it is said how long ago; the time runs on while nothing is published."""
    changed = Problem("ruleset-changed", Severity.WARNING, "nft[9] changed our table", "leave it alone", NOW.boot - 60)
    scene = replace(scenes.CONNECTED, desired=replace(scenes.CONNECTED.desired, problems=(changed,)))
    with fake_daemon(tmp_path) as daemon:
        daemon.publish(scene)
        document = json.loads((tmp_path / "status.json").read_text())
        at = document["problems"][0]["_at_wall"]
        monkeypatch.setattr(time, "time", lambda: at + 130.0)
        reading = read(str(tmp_path))
        shown = lines(reading, Style(colour=False, width=None))

    assert "  warning: nft[9] changed our table, 2 min ago (leave it alone)" in shown
    assert set(reading.public()["problems"][0]) == {"code", "severity", "text", "hint"}


def test_counters_come_from_sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They move without the daemon, and count from when the tunnel was connected: the link may have carried another one
    before, or be a new one whose counters begin anew. When the link has gone, what was published last is shown.
    """
    statistics = tmp_path / "net" / "aovpn0" / "statistics"
    statistics.mkdir(parents=True)
    (statistics / "rx_bytes").write_text("7096\n")
    (statistics / "tx_bytes").write_text("900\n")
    with fake_daemon(tmp_path / "run") as daemon:
        daemon.publish(scenes.CONNECTED)
        found = {}
        for sysfs in (tmp_path / "net", tmp_path / "absent"):
            monkeypatch.setattr("aovpnd.ctl.reading.SYSFS", str(sysfs))
            tunnel = read(str(tmp_path / "run")).document["tunnels"][0]
            found[sysfs.name] = (tunnel["rx_bytes"], tunnel["tx_bytes"])

    assert found == {"net": (4096, 0), "absent": (1_258_291, 348_160)}


@pytest.mark.parametrize("since", [None, [], [1], [1, 2, 3], [1, "2"], {}, "ab", 7])
def test_counters_that_begin_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, since: object) -> None:
    """What was published of them is shown as it is."""
    monkeypatch.setattr("aovpnd.ctl.reading.SYSFS", str(tmp_path / "net"))
    statistics = tmp_path / "net" / "aovpn0" / "statistics"
    statistics.mkdir(parents=True)
    for counter in ("rx_bytes", "tx_bytes"):
        (statistics / counter).write_text("7096\n")
    with fake_daemon(tmp_path / "run") as daemon:
        document = scenes.CONNECTED.document()
        document["tunnels"][0]["_counted_from"] = since
        daemon.runtime.publish(document)
        tunnel = read(str(tmp_path / "run")).document["tunnels"][0]

    assert (tunnel["rx_bytes"], tunnel["tx_bytes"]) == (1_258_291, 348_160)


@pytest.mark.parametrize("text", ["", "[", "[]", "{} {}", "nonsense", "[" * 100_000, '{"schema": NaN}'])
def test_broken_file_is_said(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody wrote there: one line, exit status 1, no traceback."""
    with fake_daemon(tmp_path):
        (tmp_path / "status.json").write_text(text)
        assert main(["status", "--runtime-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"aovpnctl: {tmp_path}/status.json cannot be understood (restart aovpnd)\n"


def test_other_schema_is_said(tmp_path: Path) -> None:
    """A reader of another release does not guess."""
    with fake_daemon(tmp_path) as daemon:
        daemon.runtime.publish({"schema": 2})
        with pytest.raises(StateError, match="another schema"):
            read(str(tmp_path))


JSON: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(JSON, st.booleans())
def test_quick_reader_reads_json(value: object, ascii_only: bool) -> None:
    """The scanner that is used without the json module understands all that the json module writes."""
    assert loads(f" \n{json.dumps(value, ensure_ascii=ascii_only)}\n") == value


@given(st.text(max_size=20))
def test_quick_reader_refuses_what_json_refuses(text: str) -> None:
    """Neither more nor less (but for NaN and Infinity, which are not JSON)."""
    try:
        expected = json.loads(text, parse_constant=_no_constant)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011 - any message
            loads(text)
    else:
        assert loads(text) == expected


def _no_constant(word: str) -> None:
    raise ValueError(word)


# ── --watch ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _watch(place: Path, stdout: int, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "aovpnd.ctl", "status", "--watch", "--runtime-dir", str(place), *options]
    # A shell's background job has the interrupt key switched off, and so would the program that it starts.
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, env={**os.environ, "TERM": "xterm"})
    finally:
        signal.signal(signal.SIGINT, heard)


def _until(stream: int, wanted: bytes) -> bytes:
    """What a stream gives up to some bytes; fails after `DEADLINE_S`."""
    seen, deadline = b"", time.monotonic() + DEADLINE_S
    while wanted not in seen:
        ready, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"no {wanted!r} in {seen!r}"
        seen += os.read(stream, 65536)
    return seen


def test_watch_in_a_pipe_is_lines(tmp_path: Path) -> None:
    """One line per change and second of a countdown; the interrupt key is no failure."""
    with fake_daemon(tmp_path) as daemon:
        daemon.publish(scenes.TEMPORARY_ACCESS)
        read_end, write_end = os.pipe()
        with _watch(tmp_path, write_end) as process:
            os.close(write_end)
            _until(read_end, b"temporary-access \xc2\xb7 Wi-Fi (wlan0) \xc2\xb7 00:02:55 left\n")
            _until(read_end, b"00:02:54 left\n")
            daemon.publish(scenes.CONNECTED)
            _until(read_end, b"connected \xc2\xb7 Wi-Fi (wlan0) \xc2\xb7 home connected\n")
            process.send_signal(2)
            assert (process.wait(DEADLINE_S), process.stderr.read() if process.stderr else b"") == (0, b"")
        os.close(read_end)


def test_watch_ends_with_its_reader(tmp_path: Path) -> None:
    """`| head -1` ends it although there is no news to fail on."""
    with fake_daemon(tmp_path) as daemon:
        daemon.publish(scenes.BLOCKED)
        read_end, write_end = os.pipe()
        with _watch(tmp_path, write_end, "--json") as process:
            os.close(write_end)
            line = _until(read_end, b"\n")
            os.close(read_end)
            assert (process.wait(DEADLINE_S), process.stderr.read() if process.stderr else b"") == (0, b"")
    assert json.loads(line)["phase"] == "blocked"


def test_watch_on_a_terminal_draws_and_cleans_up(tmp_path: Path) -> None:
    """On a screen of its own, which it leaves as it was, also when the daemon dies meanwhile."""
    main_end, terminal = pty.openpty()
    with fake_daemon(tmp_path) as daemon:
        daemon.publish(scenes.CONNECTED)
        process = _watch(tmp_path, terminal)
        os.close(terminal)
        seen = _until(main_end, b"Internet: through the tunnel only")
    seen += _until(main_end, b"daemon not running")
    process.send_signal(15)
    seen += _until(main_end, b"\x1b[?1049l")
    with process:
        assert process.wait(DEADLINE_S) == 0
    os.close(main_end)

    assert seen.startswith(b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[HVPN: \x1b[1;32mConnected\x1b[0m\x1b[K\r")
    assert seen.endswith(b"\x1b[?7h\x1b[?25h\x1b[?1049l")


@pytest.mark.usefixtures("_still")
def test_picture_fits_the_window() -> None:
    """A window that is too small shows the beginning, and that there is more."""
    picture = watch.picture(Reading(RUNNING, scenes.CONNECTED.document()), PLAIN, 3)

    assert picture == "\033[HVPN: Connected\033[K\r\nCurrent network: Wi-Fi (wlan0)\033[K\r\n…\033[K\033[J"


def test_countdown_ticks_with_its_own_seconds() -> None:
    """The next look is when the number changes, whatever the time of day."""
    with_access = Reading(RUNNING, scenes.TEMPORARY_ACCESS.document())
    without = Reading(RUNNING, scenes.CONNECTED.document())

    assert watch.until_next_second(with_access, 5000.25) == pytest.approx(0.755)
    assert watch.until_next_second(without, 5000.25) == 1.0

# SPDX-License-Identifier: GPL-3.0-or-later
"""What damaged input once did at the borders of the program, one test for each: found by `make fuzz`."""

import asyncio
import json
import logging
import os
import struct
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

from aovpnd import __main__ as daemon
from aovpnd import destinations, lock, nftlib, rtnl, status
from aovpnd.adapters import process, routeget, systemd
from aovpnd.adapters.egress import EgressCopies
from aovpnd.adapters.probe import is_answer
from aovpnd.adapters.publish import Runtime
from aovpnd.adapters.state import BUDGET_FILE, State
from aovpnd.bus import networks, published, translate
from aovpnd.bus.calls import BusError, Reply, uid_of
from aovpnd.clock import Clock
from aovpnd.config import settings, toml
from aovpnd.config.settings import Layer
from aovpnd.core import intent as memory
from aovpnd.ctl import asking, reading
from aovpnd.ctl import bus as ctl_bus
from aovpnd.destinations import DestinationError
from aovpnd.errors import AovpndError, CommandRefused, NetlinkError, StateError, SystemFault
from aovpnd.importers import wgquick
from aovpnd.logs import one_line
from aovpnd.messages import without_keys
from aovpnd.model import Config, Copies
from aovpnd.names import STATUS_FILE
from aovpnd.options import Parser
from aovpnd.orders import AllowTemporary, Refusal
from aovpnd.resolvconf import ResolvConf
from tests.unit import scenes
from tests.unit.small_world import BASES
from tests.unit.test_config_tunnels import PRIVATE
from tests.unit.test_import import PROVIDER, spec_of

NOW: Final = Clock(90_000.0, 1_700_000_000.0)
SNAPSHOT: Final = replace(BASES[2].world().snapshot, now=NOW)
DEEP: Final = b"[" * 60_000


# -- files of our own -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(DEEP, id="deep"),
        pytest.param(b'{"boot_id": "", "grants": ""}', id="no list"),
        pytest.param(b'{"boot_id": "", "grants": [{"boot": 1e400, "wall": 1e400}]}', id="infinite"),
        pytest.param(
            b'{"boot_id": "", "grants": [{"boot": 0, "wall": NaN}, {"boot": 0, "wall": NaN}]}', id="not a number"
        ),
        pytest.param(b'{"boot_id": "", "grants": [{"boot": "1", "wall": 1%s}]}' % (b"0" * 400), id="a text, too large"),
    ],
)
def test_budget_that_cannot_be_read_is_used_up(content: bytes, tmp_path: Path) -> None:
    """A budget of NaN was a full one, since no comparison finds it in the last hour; the others ended the daemon."""
    (tmp_path / BUDGET_FILE).write_bytes(content)
    intent = State(tmp_path, tmp_path).recall(NOW)

    _, answer = memory.update(Config(), intent, SNAPSHOT, AllowTemporary(60))

    assert isinstance(answer, Refusal)
    assert answer.code == "budget"


def test_window_of_the_future_is_one_of_now(tmp_path: Path) -> None:
    """A clock that lied once does not use the budget up until it is right."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    grants = [{"boot": 1e12, "wall": 1e12}] * 3
    (tmp_path / BUDGET_FILE).write_text(json.dumps({"boot_id": boot_id, "grants": grants}), encoding="ascii")

    assert State(tmp_path, tmp_path).recall(NOW).used == (NOW.boot,) * 3


def test_resolv_conf_that_was_kept_is_nested(tmp_path: Path) -> None:
    """What nobody can read is as good as not kept; it ended the daemon, and `unblock --offline`."""
    (tmp_path / "kept").write_bytes(DEEP)

    assert ResolvConf(tmp_path / "resolv.conf", tmp_path / "kept").kept() is None


def test_fingerprint_is_short(tmp_path: Path) -> None:
    """Of a file that is none, no more is read than a fingerprint has."""
    runtime = Runtime(tmp_path / "run")
    (tmp_path / "run" / "path").write_bytes(b"a" * 100_000)

    assert len(runtime.proved()) == 64
    runtime.close()


# -- the kernel -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("code", [-(2**31), 2**31 - 1, 7, -5000])
def test_error_code_is_one(code: int) -> None:
    """A number that is no errno is EPROTO; os.strerror takes no others."""
    found = rtnl.error_code(struct.pack("=i", code))

    assert os.strerror(found) == "Protocol error"


def test_route_with_half_an_address() -> None:
    """A declared error, not a ValueError."""
    head = struct.pack("=BBBBBBBBI", 2, 32, 0, 0, 254, 0, 0, 1, 0)
    payload = head + rtnl.attribute(4, struct.pack("=I", 3)) + rtnl.attribute(7, b"\xc0\xa8\x01")

    with pytest.raises(NetlinkError):
        routeget.parse(payload)


PROC: Final = {
    "/proc/locks": b"1: FLOCK\n\xc2\xb2 x\n",
    "/proc/self/net/netlink": b"sk Eth Pid\n1\n2 x y z\n3 12 \xc2\xb2 4711\n",
    "/proc/self/status": b"CapEff:\n",
}


@pytest.fixture
def proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Files of /proc as no kernel of today writes them."""
    read_text, real = Path.read_text, open
    for number, content in enumerate(PROC.values()):
        (tmp_path / str(number)).write_bytes(content)
    places = {name: tmp_path / str(number) for number, name in enumerate(PROC)}

    def opened(name: Any, *arguments: Any, **options: Any) -> Any:
        return real(places.get(str(name), name), *arguments, **options)

    monkeypatch.setattr("builtins.open", opened)
    monkeypatch.setattr(Path, "read_text", lambda at, *a, **o: read_text(places.get(str(at), Path(at)), *a, **o))


@pytest.mark.usefixtures("proc")
def test_proc_is_read_with_care(tmp_path: Path) -> None:
    """Short lines, and letters that are no ASCII."""
    (tmp_path / "lock").write_text("1", encoding="ascii")

    assert lock.holder(tmp_path / "lock") is None
    assert nftlib.own_ports() == frozenset()
    with pytest.raises(SystemFault, match="CAP_NET_ADMIN"):
        daemon._require_power()  # noqa: SLF001 - nobody else asks


@pytest.mark.parametrize(
    ("user", "uid"),
    [
        ("1000", 1000),
        ("0", None),
        ("4294967295", None),
        ("9" * 5000, None),
        ("-1", None),
        ("x", None),
        ("\u0661", None),
    ],
)
def test_user_of_the_bus(user: str, uid: int | None) -> None:
    """Root is no user of the bus' side, nor is a number that is no uid: SO_PEERCRED would never say it."""
    assert daemon._uid_of(user) == uid  # noqa: SLF001 - nobody else asks


def test_chain_of_no_link() -> None:
    """A listing with a number that is none is one chain less, not an error of Python's."""
    early = f'chain link_{"9" * 5000} {{\n type filter hook egress device "x" priority 0;\n}}'
    nft: Any = SimpleNamespace(list_table=lambda *_: early)

    assert EgressCopies(nft).observe(()) is Copies.STALE


# -- programs and networks --------------------------------------------------------------------------------------------
def test_answer_shorter_than_a_header() -> None:
    """No answer, whatever was asked."""
    assert not is_answer(b"", b"")
    assert not is_answer(b"ab", b"ab\x80")


@pytest.mark.parametrize("text", ["\u00b2", "9" * 5000, "9" * 320, "-1", "1.5", "", "0"])
def test_watchdog_that_is_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever WATCHDOG_USEC says, the daemon starts."""
    monkeypatch.setenv("WATCHDOG_USEC", text)

    assert systemd.watchdog_s() is None


def test_watchdog_in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watchdog of a microsecond does not keep the loop busy."""
    monkeypatch.setenv("WATCHDOG_USEC", "1")

    assert systemd.watchdog_s() == systemd.LEAST_WATCHDOG_S


# -- messages ---------------------------------------------------------------------------------------------------------
def test_complaint_is_one_printable_line() -> None:
    """What a program says on stderr goes to status, log and terminal."""
    shown = process.without_keys(b"Error: \x1b[2Jx\x00\xe2\x80\xae\n y")

    assert shown == r"Error: \x1b[2Jx\x00\u202e y"


@pytest.mark.parametrize("cut", [16, 20, 30, 43, 44])
def test_part_of_a_key_is_hidden(cut: int) -> None:
    """Somebody who copied a key without its end has still copied a key."""
    assert PRIVATE[:cut] not in without_keys(f"x {PRIVATE[:cut]} y")
    assert PRIVATE[-cut:] not in without_keys(f"x {PRIVATE[-cut:]} y")
    assert without_keys("PersistentKeepalive /usr/share/wireguard/up") == "PersistentKeepalive /usr/share/wireguard/up"


def test_imported_command_with_part_of_a_key() -> None:
    """The report of an import quotes commands, and not the keys in them."""
    text = PROVIDER.replace("PreUp = touch /tmp/ran", f"PreUp = echo {PRIVATE[:30]}")
    report = "".join(map(str, wgquick.convert(text, spec_of(text)).lines))

    assert "echo (hidden)" in report
    assert PRIVATE[:16] not in report


def test_key_in_place_of_a_span() -> None:
    """A key that somebody pasted into the settings is not told to everybody who may read the status."""
    entries = toml.parse(f'[temporary_access]\nduration = "{PRIVATE}"\n', "aovpnd.toml")
    _, (finding,) = settings.read(entries, "aovpnd.toml", Layer.ADMIN)

    assert finding.text == "aovpnd.toml:2: temporary_access.duration: (hidden) is no span of time"


def test_log_is_one_line() -> None:
    """Of all three processes."""
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s: %s", ("a\nb", "\x1b[2J"), None)

    assert one_line(record)
    assert (record.getMessage(), record.args) == (r"a\nb: \x1b[2J", ())


def test_wrong_usage_is_quoted_with_care(capsys: pytest.CaptureFixture[str]) -> None:
    """What argparse complains of may have come from a file name."""
    with pytest.raises(SystemExit) as ended:
        Parser(prog="x").parse_args(["\x1b[2J\udcff"])

    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("x: error: unrecognized arguments: \\x1b[2J\\udcff\n")


def test_destination_that_is_quoted_at_length() -> None:
    """Letters that are spelt out do not make a message of a thousand."""
    with pytest.raises(DestinationError) as refused:
        destinations.parse("203.0.113.80:" + "\U0001f600" * 500)

    assert len(str(refused.value)) < 160


# -- between the processes --------------------------------------------------------------------------------------------
SPELT: Final = b'{"v": 1, "ok": true, "text": "\\ud800\\u0000", "expires_at": %s, "data": %s}\n'
STRANGE: Final = {
    "nested": (b"null", b"[" * 60_000),
    "infinite": (b"1e400", b"null"),
    "not a number": (b"NaN", b"null"),
    "beyond all clocks": (b"1" + b"0" * 300, b"null"),
    "before all clocks": (b"-1e9", b"null"),
    "a text": (b'"soon"', b"null"),
}


@pytest.mark.parametrize("case", STRANGE)
def test_answer_that_nobody_understands(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both readers of the daemon's answers say so, instead of what Python says."""
    line = SPELT % STRANGE[case]
    monkeypatch.setattr(asking, "_is_ours", lambda _: True)
    monkeypatch.setattr(asking, "_exchange", lambda *_: line)

    with pytest.raises(AovpndError, match="cannot be understood"):
        asking.ask("/nowhere", "connect")
    with pytest.raises(CommandRefused, match="cannot be understood"):
        translate.answer("Connect", line)


def test_answer_in_letters_that_the_bus_does_not_take() -> None:
    """A lone surrogate and NUL, which JSON has and D-Bus has not, are spelt out."""
    assert translate.answer("Connect", SPELT % (b"null", b"null")) == (r"\ud800\x00",)


@pytest.mark.parametrize("data", ["[" * 60_000, "nothing", ""])
def test_explanation_from_the_bus(data: str) -> None:
    """What is no JSON is an answer that cannot be understood."""
    with pytest.raises(AovpndError, match="cannot be understood"):
        ctl_bus._answered("yes", 0, data)  # noqa: SLF001 - the end of the call, without a bus


@pytest.mark.parametrize(
    "change",
    [
        {"tunnels": [{"role": "chosen"}]},
        {"tunnels": {"name": "x"}},
        {"temporary_access": {"granted_to": "x", "reason": None, "_expires_boot": float("1e300")}},
        {"temporary_access": {"granted_to": "x", "reason": None, "_expires_boot": -1.0}},
        {"temporary_access": []},
        {"phase": "connected\udc00"},
        {"problems": [None]},
        {"uplinks": None},
        {"more": json.loads("[" * 100 + "]" * 100)},
    ],
)
def test_status_of_another_shape(change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Aovpnctl says that it cannot be understood; aovpnd-bus shows nothing of it, and lives on."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    document = {**scenes.TEMPORARY_ACCESS.document(), "_boot_id": boot_id, **change}
    (tmp_path / STATUS_FILE).write_text(json.dumps(document), encoding="ascii")
    monkeypatch.setattr(reading, "is_running", lambda _: True)

    with pytest.raises(StateError):
        reading.read(str(tmp_path))
    assert published.read(tmp_path) is None


def test_link_that_no_file_is_named_after() -> None:
    """Counters of a link with a NUL in its name: none."""
    assert reading._counters({"link": "a\0b"}) == {}  # noqa: SLF001 - what `read` asks


@pytest.mark.parametrize("seconds", [2.0**63, -(2.0**63), 1e300])
def test_time_that_no_calendar_has(seconds: float) -> None:
    """What a tunnel says of its last handshake is shown as well as it can be; it kept the status from being written."""
    assert status.rfc3339(seconds) in {"9999-12-31T23:59:59Z", "1970-01-01T00:00:00Z"}


class Answering:
    """A bus on which every call is answered so."""

    def __init__(self, *values: object) -> None:
        self._values = values

    async def call(self, *_: object, **__: object) -> Reply:
        """The answer."""
        return Reply(self._values)


@pytest.mark.parametrize("values", [(), (0, 0), (False,), (-1,), (2**32 - 1,), ("0",), (None,)])
def test_bus_that_does_not_say_who(values: tuple[object, ...]) -> None:
    """Whoever has no uid is nobody; False is no root."""
    bus: Any = Answering(*values)

    with pytest.raises(BusError):
        asyncio.run(uid_of(bus, ":1.7"))


@pytest.mark.parametrize("values", [(), ([],), (["x", "/a b", 7],), ("/1",)])
def test_networks_that_are_none(values: tuple[object, ...]) -> None:
    """GDBus does not answer a call to what is no object path; so nobody is called there."""
    bus: Any = Answering(*values)

    assert asyncio.run(networks.names(bus)) == {}


@pytest.mark.parametrize("ssid", [["a"], [256], [-1], [1.5], "name", [None], [[1]]])
def test_name_of_a_network_that_is_none(ssid: object) -> None:
    """An SSID is bytes."""
    assert networks.spell(ssid) == ""

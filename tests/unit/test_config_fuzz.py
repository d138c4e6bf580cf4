# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever stands in a file: the parsers end in a value or in findings, and nothing strange gets through them."""

import contextlib
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st

from aovpnd.config import files, toml, tunnels, wgquick
from aovpnd.config import settings as known
from aovpnd.config.findings import Finding
from aovpnd.config.settings import Layer
from aovpnd.doors import WhileConnected
from aovpnd.errors import ConfigError
from aovpnd.model import Enabled, Lan, Severity
from aovpnd.tunnel import TUNNEL_NAME, WireGuard
from tests.unit.test_config_tunnels import FULLEST, GATEWAY, PRESHARED, PRIVATE, PUBLIC, SECOND, SECRETS, SMALLEST

# fmt: off
WORDS: Final = (
    "[Interface]", "[Peer]", "[peer] # x", "[", "]", "=", ",", "#", "#! ", "\r",
    "\n", "\x00", "\x1b[2J", "\x0b", "\x85",
    "\u2028", "\u202e", "\ufeff", " ", "\t", "é", "PrivateKey", "Address", "AllowedIPs", "Endpoint", "PostUp", "MTU",
    "DNS", "Table", "ListenPort", "PublicKey", "PresharedKey", "PersistentKeepalive", "SaveConfig", "privatekey",
    "0.0.0.0/0", "::/0", "10.0.0.2", "fd00::2/128", "192.0.2.1:51820", "[2001:db8::1]:1", "off", "1420", "0", "-1",
    "99999999999999999999", "$(reboot)", "`id`", '";', "'", "%i", "\\", "../..", "%eth0", "٣", "corp.example", "~.",
    PRIVATE, PRESHARED, GATEWAY, SECOND, PRIVATE[:20],
)
# fmt: on
GOOD: Final = (SMALLEST, FULLEST.removeprefix("\ufeff"))
LINES: Final = (*GOOD[0].splitlines(), *GOOD[1].splitlines(), "PostUp = reboot", "Table = off", "#! PostUp = x")
TEXTS: Final = (
    st.lists(st.sampled_from(WORDS) | st.text(max_size=8), max_size=30).map("".join)
    | st.lists(st.sampled_from(LINES), max_size=24).map("\n".join)
    | st.text()
)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A good file in which some places were overwritten: near enough to good to get far."""
    text = draw(st.sampled_from(GOOD))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(text)))
        end = start + draw(st.sampled_from((0, 0, 0, 1, 2, 9, 50)))
        text = text[:start] + draw(st.sampled_from(WORDS) | st.text(max_size=3)) + text[end:]
    return text


@pytest.fixture(autouse=True)
def _quick_public_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of `wg pubkey` would only measure the kernel's fork."""
    monkeypatch.setattr(tunnels, "_public_key", lambda _: PUBLIC)


Test = Callable[[str], None]


def _often(examples: int) -> Callable[[Test], Test]:
    return settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_often(400)
@given(TEXTS | damaged())
def test_any_tunnel_file_has_an_outcome(text: str) -> None:
    """See `_judge_tunnel`."""
    _judge_tunnel(text)


@pytest.mark.slow
@_often(10_000)
@given(TEXTS | damaged())
def test_any_of_ten_thousand_tunnel_files_has_an_outcome(text: str) -> None:
    """See `_judge_tunnel`."""
    _judge_tunnel(text)


def _judge_tunnel(text: str) -> None:
    """Either a tunnel in which every text is of the plainest kind, or at least one error; messages are one printable
    line each and show no key.
    """
    spec, findings = tunnels.parse(text, "home", "home.conf")
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]

    assert (spec is None) == bool(errors)
    _judge_messages(findings)
    if spec is not None:
        _judge_spec(spec)


def _judge_messages(findings: list[Finding]) -> None:
    for finding in findings:
        told = str(finding)
        assert told.isprintable()
        assert len(told) < 400
        assert finding.line is None or finding.line >= 1
        for secret in SECRETS:
            assert [start for start in range(len(secret) - 15) if secret[start : start + 16] in told] == []


KEY: Final = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")


def _judge_spec(spec: WireGuard) -> None:
    assert KEY.fullmatch(spec.private_key.value)
    assert spec.addresses
    assert spec.endpoints or spec.hosts
    assert spec.mtu is None or 576 <= spec.mtu <= 65535
    assert spec.listen_port is None or 1 <= spec.listen_port <= 65535
    assert all(re.fullmatch(r"~\.|~?[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}", name) for name in spec.search)
    assert len({peer.public_key for peer in spec.peers}) == len(spec.peers)
    for peer in spec.peers:
        assert KEY.fullmatch(peer.public_key)
        assert peer.preshared_key is None or KEY.fullmatch(peer.preshared_key.value)
        assert peer.allowed
        assert 0 <= peer.keepalive_s <= 65535
    for endpoint in spec.endpoints:
        assert 1 <= endpoint.port <= 65535
        assert not any((endpoint.addr.is_loopback, endpoint.addr.is_multicast, endpoint.addr.is_unspecified))


@pytest.mark.parametrize("good", GOOD, ids=["smallest", "fullest"])
def test_damaged_files_get_far(good: str) -> None:
    """The damage leaves some files good, or the tests above would only ever see errors."""
    kept = good.replace("PrivateKey", "privatekey").strip()

    def is_good_and_changed(text: str) -> bool:
        same = text.replace("PrivateKey", "privatekey").strip() == kept
        return not same and kept[:30] in text.replace("PrivateKey", "privatekey") and _spec(text) is not None

    assert find(damaged(), is_good_and_changed, settings=settings(max_examples=100_000, database=None))


def _spec(text: str) -> WireGuard | None:
    return tunnels.parse(text, "home", "home.conf")[0]


@_often(300)
@given(TEXTS | damaged())
def test_border_lets_only_plain_lines_through(text: str) -> None:
    """What wgconfig gets to see is sections and ``Key = value`` in printable ASCII, known keys, no commands, no
    comments; read again it is the same.
    """
    blocks, _ = wgquick.parse(text, "home.conf")
    plain = wgquick.canonical(blocks)
    honoured = {key for keys in wgquick.KEYS.values() for key, takes in keys.items() if takes.name in {"ONE", "LIST"}}

    for line in plain.split("\n")[:-1]:
        head = re.fullmatch(r"\[(Interface|Peer)\]", line)
        entry = re.fullmatch(r"([A-Za-z]+) = [!-~]([ -~\t]*[!-~])?", line)
        assert head or (entry and entry[1] in honoured), repr(line)
        assert not {"#", ","} & set(line)
    assert wgquick.canonical(wgquick.parse(plain, "home.conf")[0]) == plain


@_often(200)
@given(st.binary(max_size=200) | st.text().map(str.encode) | st.text().map(lambda text: text.encode("utf-16")))
def test_any_bytes_are_text_or_refused(tmp_path: Path, content: bytes) -> None:
    """A file is text without a byte order mark, or a message with the line that is not."""
    path = tmp_path / "home.conf"
    path.write_bytes(content)
    path.chmod(0o600)
    lines = content.count(b"\n") + 1
    line: int | None = 1
    try:
        text = files.read(path, files.Holds.KEYS)
    except ConfigError as error:
        text, line = "", error.line

    assert text is not None
    assert text.encode() in {content, content.removeprefix(b"\xef\xbb\xbf"), b""}
    assert line is not None
    assert 1 <= line <= lines


# -- TOML -------------------------------------------------------------------------------------------------------------
NAMES: Final = st.sampled_from(
    ("a", "b", '"x y"', "'[q]'", '"a.b"', "tunnel", "prefer", "lan", "allow", "temporary_access", "max", "duration")
)
# fmt: off
VALUES: Final = st.sampled_from(
    (
        "1", "-3", "true", "'x'", '"home"', '"3min"', '"2h"', '""', "[]", "[1, 2]", "{}", "{a = 1, b.c = 2}",
        "[\n 1, # ]\n]",
        '"""\n[no]\nkey = 1\n"""', "'''\n# \"\"\"\n'''", "1979-05-27", "3.5", "inf",
        '"\\n"', '"""a\\\n  b"""', "[[1],\n[2]]",
    )
)
# fmt: on
STATEMENTS: Final = (
    st.tuples(st.lists(NAMES, min_size=1, max_size=3).map(".".join), VALUES).map(" = ".join)
    | st.lists(NAMES, min_size=1, max_size=3).map(lambda parts: f"  [ {'.'.join(parts)} ] # head")
    | st.sampled_from(("", "# comment = 1", "[[t]]", "\t"))
)
DOCUMENTS: Final = st.lists(STATEMENTS, max_size=8).map("\n".join)


@_often(400)
@given(DOCUMENTS)
def test_lines_and_values_together_are_the_document(text: str) -> None:
    """Put together again, the values are what tomllib read; and each stands in the line that begins with its name."""
    try:
        expected = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        with pytest.raises(ConfigError, match="is not TOML"):
            toml.parse(text, "x.toml")
        return
    found = toml.parse(text, "x.toml")
    lines = text.split("\n")

    if "[[t]]" not in text:
        again: dict[str, object] = {}
        for entry in found:
            _put(again, entry.path, entry.value)
        assert again == expected
    for entry in found:
        assert entry.path[-1] in lines[entry.line - 1]
    assert [entry.line for entry in found] == sorted(entry.line for entry in found)


def _put(tree: dict[str, object], path: tuple[str, ...], value: object) -> None:
    for part in path[:-1]:
        below = tree.setdefault(part, {})
        assert isinstance(below, dict)
        tree = below
    if value == {}:
        tree.setdefault(path[-1], {})
    else:
        assert path[-1] not in tree
        tree[path[-1]] = value


@_often(400)
@given(DOCUMENTS | st.text() | st.text("[]{}=.'\"\n#ax1\\"))
def test_any_settings_file_has_an_outcome(text: str) -> None:
    """See `_judge_settings`."""
    _judge_settings(text)


@pytest.mark.slow
@_often(10_000)
@given(DOCUMENTS | st.text() | st.text("[]{}=.'\"\n#ax1\\"))
def test_any_of_ten_thousand_settings_files_has_an_outcome(text: str) -> None:
    """See `_judge_settings`."""
    _judge_settings(text)


def _judge_settings(text: str) -> None:
    """Either settings within their bounds, or messages of one printable line."""
    found: list[known.Setting] = []
    with contextlib.suppress(ConfigError):
        found, findings = known.read(toml.parse(text, "x.toml"), "x.toml", Layer.ADMIN)
        merged, contradictions = known.merge(found)
        _judge_messages(findings + contradictions)
        access = merged.temporary_access
        assert all(map(TUNNEL_NAME.fullmatch, merged.prefer))
        assert 1 <= access.duration_s <= access.max_s <= 3600
        assert 1 <= access.per_hour <= 3
        assert (access.enabled in Enabled, access.while_connected in WhileConnected, merged.lan in Lan) == (True,) * 3

# SPDX-License-Identifier: GPL-3.0-or-later
"""Connected, lost, idle: what the counters of a tunnel mean, and when it is looked at and shaken again."""

from dataclasses import replace
from typing import Final

import pytest

from aovpnd.clock import Clock
from aovpnd.core import health
from aovpnd.gateways import Heard, Provoked
from aovpnd.model import Intent, PeerState, TunnelState
from tests.unit.small_world import AOVPN, CLOCK, NOW, WORK, state_of
from tests.unit.test_decide import PATH, SHOOK

SHAKEN_AT: Final = 1_699_999_990
HEARD: Final = Heard(NOW - 35, 5000, 7000, SHAKEN_AT)


def tunnel(
    *, rx: int = 5000, tx: int = 7000, shaken_at: int | None = SHAKEN_AT, keepalive_s: int = 0, put: int = 0
) -> TunnelState:
    """The tunnel's link with these counters at one peer."""
    return replace(
        state_of(WORK), peers=(PeerState("work-peer0", None, shaken_at, rx, tx, keepalive_s),), put_bytes=put
    )


@pytest.mark.parametrize(
    ("state", "heard", "lost"),
    [
        pytest.param(tunnel(tx=7001), HEARD, True, id="data out, nothing back for 35 s"),
        pytest.param(tunnel(tx=7001), replace(HEARD, at=NOW - 34.9), False, id="not long enough"),
        pytest.param(tunnel(tx=7001, rx=5001), HEARD, False, id="data back"),
        pytest.param(tunnel(tx=7001, shaken_at=SHAKEN_AT + 9), HEARD, False, id="a new handshake"),
        pytest.param(tunnel(), HEARD, False, id="idle is not lost"),
        pytest.param(tunnel(tx=7001), None, False, id="never listened"),
        pytest.param(tunnel(tx=7064, keepalive_s=25), HEARD, False, id="keepalives alone: two in 35 s"),
        pytest.param(tunnel(tx=7065, keepalive_s=25), HEARD, True, id="more than keepalives"),
        pytest.param(tunnel(put=513), HEARD, True, id="put in, and never sent"),
        pytest.param(tunnel(put=512), HEARD, False, id="as much as the kernel says by itself"),
        pytest.param(tunnel(put=9000, rx=5001), HEARD, False, id="put in and never sent, but data back"),
        pytest.param(tunnel(tx=6000, put=9000), HEARD, False, id="the counters were set anew"),
    ],
)
def test_lost(state: TunnelState, heard: Heard | None, *, lost: bool) -> None:
    """Lost is when data goes out, and for long enough nothing comes back, not even a handshake."""
    assert health.is_lost(Intent(heard=heard), state, CLOCK) is lost
    assert health.is_connected(replace(SHOOK, heard=heard), state, PATH, CLOCK) is not lost


@pytest.mark.parametrize(
    ("state", "moved"),
    [
        pytest.param(tunnel(tx=7001), False, id="data out: the clock runs"),
        pytest.param(tunnel(tx=7001, rx=5001), True, id="it spoke"),
        pytest.param(tunnel(shaken_at=SHAKEN_AT + 9), True, id="it shook hands"),
        pytest.param(tunnel(), True, id="nobody spoke"),
    ],
)
def test_listening(state: TunnelState, *, moved: bool) -> None:
    """The moment that silence is counted from moves on while there is nothing to complain of."""
    heard = health.listen(HEARD, state, CLOCK)

    assert heard == (Heard(NOW, state.rx_bytes, state.tx_bytes, state.handshake_wall) if moved else HEARD)
    assert health.listen(None, state, CLOCK).at == NOW


def test_connected_needs_everything() -> None:
    """A link that is ours and up, a path, a handshake, and that it was provoked over just this path."""
    state = tunnel()
    assert health.is_connected(SHOOK, state, PATH, CLOCK)

    assert not health.is_connected(SHOOK, None, PATH, CLOCK)
    assert not health.is_connected(SHOOK, state, None, CLOCK)
    assert not health.is_connected(SHOOK, replace(state, link=replace(AOVPN, up=False)), PATH, CLOCK)
    assert not health.is_connected(SHOOK, tunnel(shaken_at=None), PATH, CLOCK)
    assert not health.is_connected(Intent(), state, PATH, CLOCK)
    assert not health.is_connected(SHOOK, state, replace(PATH, link=10), CLOCK)
    assert not health.is_connected(SHOOK, state, replace(PATH, networks=("2 2 192.168.1.1",)), CLOCK)


SILENT: Final = tunnel(shaken_at=None)


@pytest.mark.parametrize(
    ("attempts", "age_s", "provoked"),
    [(1, 1.9, False), (1, 2, True), (2, 2.9, False), (2, 3, True), (3, 5, True), (7, 59, False), (9, 60, True)],
)
def test_retries_on_one_path(attempts: int, age_s: float, *, provoked: bool) -> None:
    """Provoked anew after 2, 3, 5, 10, 20, 40 and then every 60 s."""
    intent = Intent(provoked=Provoked(PATH, NOW - age_s, attempts))

    assert health.must_provoke(intent, SILENT, PATH, CLOCK) is provoked


def test_a_new_path_is_provoked_at_once() -> None:
    """Nothing proves a path but a handshake over it, so a change does not wait."""
    assert health.must_provoke(Intent(), SILENT, PATH, CLOCK)
    assert health.must_provoke(replace(SHOOK, provoked=Provoked(replace(PATH, link=3), NOW)), tunnel(), PATH, CLOCK)
    assert not health.must_provoke(SHOOK, tunnel(), PATH, CLOCK)
    assert not health.must_provoke(Intent(), SILENT, None, CLOCK)
    assert health.retry_at(Intent()) == 0


@pytest.mark.parametrize(
    ("intent", "state", "look_in_s"),
    [
        pytest.param(Intent(), SILENT, 0.02, id="not provoked yet"),
        pytest.param(Intent(provoked=Provoked(PATH, NOW)), SILENT, 0.02, id="just provoked"),
        pytest.param(Intent(provoked=Provoked(PATH, NOW - 4, 4)), SILENT, 1.0, id="less and less often"),
        pytest.param(Intent(provoked=Provoked(PATH, NOW - 29, 7)), SILENT, 5.0, id="never less than every 5 s"),
        pytest.param(Intent(provoked=Provoked(PATH, NOW - 9, 4)), SILENT, 1.0, id="when it is provoked anew"),
        pytest.param(Intent(provoked=Provoked(PATH, NOW - 999)), SILENT, 0.02, id="overdue"),
        pytest.param(SHOOK, tunnel(), 30, id="connected, never listened"),
        pytest.param(replace(SHOOK, heard=replace(HEARD, at=NOW)), tunnel(), 30, id="connected and idle"),
        pytest.param(replace(SHOOK, sent_at=NOW), tunnel(tx=7001), 5, id="connected and busy"),
        pytest.param(replace(SHOOK, heard=replace(HEARD, at=NOW - 5)), tunnel(tx=7001), 5, id="data out, no answer"),
        pytest.param(replace(SHOOK, heard=replace(HEARD, at=NOW - 33)), tunnel(tx=7001), 2, id="it will be lost"),
        pytest.param(replace(SHOOK, returned=replace(HEARD, at=NOW - 3)), tunnel(tx=9000), 2, id="it will be asked"),
    ],
)
def test_next_look(intent: Intent, state: TunnelState, look_in_s: float) -> None:
    """Soon while something is expected, seldom otherwise."""
    assert health.next_look(intent, state, PATH, CLOCK) == pytest.approx(NOW + look_in_s)


def test_wall_clock_alone_proves_nothing() -> None:
    """A wall clock that is set back or forward loses no connection: silence is measured on the other clock."""
    for wall in (0.0, 4e9):
        assert health.is_connected(SHOOK, tunnel(), PATH, Clock(NOW, wall))

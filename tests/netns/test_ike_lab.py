# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's IKE gateway is tested before it may judge: charon and swanctl by hand reach it in every way it knows."""

from collections.abc import Iterator

import pytest

from tests.lab import plan
from tests.lab.frames import Kind
from tests.lab.ike import Way
from tests.lab.ike_client import PlainIke
from tests.lab.senders import new_token
from tests.lab.world import World

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """One world for this file, its laptop at home."""
    with World.build(ike=True) as built:
        built.roam("home", ipv6=True)
        yield built


@pytest.fixture(scope="module")
def plain(world: World) -> PlainIke:
    """An ordinary client, without a kill switch."""
    return PlainIke.start(world.laptop, world.ike)


@pytest.mark.parametrize("way", Way)
def test_every_way_carries_both_families(world: World, plain: PlainIke, way: Way) -> None:
    """It comes up and gives addresses and resolvers; pages go through the tunnel, IPv6 too, in ESP and nothing else."""
    with world.record(ike=plan.IKE_GATEWAYS) as recorder:
        plain.up(way)
        seen = [world.laptop.curl(f"http://{web}/ip").stdout.strip() for web in (plan.WEB4, f"[{plan.WEB6}]")]
        given = plain.resolvers()
        (sa,) = world.ike.sas()
        plain.down(way)
    recording = recorder.recording(new_token())
    counts = recording.counts()

    assert seen == [str(plan.GATEWAY4), str(plan.GATEWAY6)]
    assert set(given) == {str(world.ike.pool.inside4), str(world.ike.pool.inside6)}
    assert (sa.connection, sa.version, sa.state, sa.remote) == (way, way.version, "ESTABLISHED", way.identity)
    assert {*sa.vips} <= {*map(str, world.ike.pool.addresses)}
    assert len(sa.vips) == 2
    assert counts[Kind.IKE] >= 3
    assert counts[Kind.UDP_ESP] >= 10
    assert not recording.clear(), recording.describe()

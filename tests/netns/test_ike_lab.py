# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's IKE gateway is tested before it may judge: charon and swanctl by hand reach it in every way it knows."""

import os
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab import charon, plan
from tests.lab.frames import Frame, Kind
from tests.lab.ike import IkeGateway, Way
from tests.lab.ike_client import PlainIke, account, install
from tests.lab.process import LabError, wait_for
from tests.lab.record import Recording
from tests.lab.senders import new_token
from tests.lab.world import World

pytestmark = pytest.mark.root
_PAGE = f"http://{plan.WEB4}/ip"
_BOTH = (_PAGE, f"http://[{plan.WEB6}]/ip")
_SOCKET = "/run/plain-ike/charon.vici"
_THROUGH = [str(plan.GATEWAY4), str(plan.GATEWAY6)]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """One world for this file, its laptop at home."""
    with World.build(ike=True) as built:
        built.roam("home", ipv6=True)
        yield built


@pytest.fixture
def gateway(world: World) -> Iterator[IkeGateway]:
    """The gateway, which is given back as it was."""
    yield world.ike
    world.ike.resume() if world.ike.charon.running else world.ike.on()


@pytest.fixture(scope="module")
def client(world: World) -> PlainIke:
    """An ordinary client, without a kill switch."""
    return PlainIke.start(world.laptop, world.ike)


@pytest.fixture
def plain(world: World, client: PlainIke) -> Iterator[PlainIke]:
    """The client, of which nothing is left for the next test."""
    yield client
    charon.flush(world.laptop.host, _SOCKET)


def _pages(world: World, *urls: str) -> list[str]:
    return [world.laptop.curl(url, timeout_s=1).stdout.strip() for url in urls or _BOTH]


def _clear(recording: Recording, trip: "Trip") -> tuple[Frame, ...]:
    """What left in clear, but for the kernel's own reports of multicast groups: nothing here keeps them."""
    return tuple(frame for frame in recording.clear(trip.start, trip.end) if "icmpv6 type 143" not in frame.what)


@dataclass(frozen=True, slots=True)
class Trip:
    """What was seen of one way: pages, resolvers, the gateway's SAs, when it began and ended."""

    pages: list[str]
    resolvers: set[str]
    sas: tuple[charon.Sa, ...]
    start: float
    end: float


@pytest.fixture(scope="module")
def trips(world: World, client: PlainIke) -> tuple[dict[tuple[Way, int], Trip | LabError], Recording]:
    """Every way to the gateway's IPv4 address, one to its IPv6 address; all of it in one recording."""
    found: dict[tuple[Way, int], Trip | LabError] = {}
    with world.record(ike=plan.IKE_GATEWAYS) as recorder:
        for address, ways in ((plan.GATEWAY4, tuple(Way)), (plan.GATEWAY6, (Way.PSK,))):
            client.write(str(address))
            client.charon.load()
            for way in ways:
                try:
                    found[way, address.version] = _trip(world, client, way)
                except LabError as error:
                    found[way, address.version] = error
    client.write(str(plan.GATEWAY4))
    client.charon.load()
    return found, recorder.recording(new_token())


def _trip(world: World, plain: PlainIke, way: Way) -> Trip:
    start = time.time()
    plain.up(way)
    seen, given, sas = _pages(world), set(plain.resolvers()), world.ike.sas()
    plain.down(way)
    return Trip(seen, given, sas, start, time.time())


@pytest.mark.parametrize(("way", "version"), [*((way, 4) for way in Way), (Way.PSK, 6)])
def test_every_way_carries_both_families(
    world: World, trips: tuple[dict[tuple[Way, int], Trip | LabError], Recording], way: Way, version: int
) -> None:
    """It comes up and gives addresses and resolvers; pages go through the tunnel, IPv6 too, in ESP and nothing else,
    to the gateway's address of that version.
    """
    trip, recording = trips[0][way, version], trips[1]
    if isinstance(trip, LabError):
        raise trip
    (sa,) = trip.sas
    counts = recording.counts(trip.start, trip.end)
    outer = {frame.what.split()[2] for frame in recording.between(trip.start, trip.end) if frame.kind is Kind.UDP_ESP}

    assert trip.pages == _THROUGH
    assert trip.resolvers == {str(world.ike.pool.inside4), str(world.ike.pool.inside6)}
    assert (sa.connection, sa.version, sa.state, sa.remote) == (way, way.version, "ESTABLISHED", way.identity)
    assert {*sa.vips} <= {*map(str, world.ike.pool.addresses)}
    assert len(sa.vips) == 2
    assert counts[Kind.IKE] >= 3
    assert counts[Kind.UDP_ESP] >= 10
    assert outer == {str(plan.GATEWAY4 if version == 4 else plan.GATEWAY6)}
    assert not _clear(recording, trip), recording.describe()


def test_laptop_has_a_charon_that_signals_reach(world: World) -> None:
    """The program is charon itself, in the laptop's network, with its socket where its settings say, and ends when it
    is asked to.
    """
    place = "/run/aovpnd/charon/lab0"
    world.laptop.host.path(place).mkdir(parents=True)
    settings = f"charon-systemd {{\n plugins {{\n vici {{\n socket = unix://{place}/vici\n }}\n }}\n }}\n"
    world.laptop.host.path(f"{place}/strongswan.conf").write_text(settings)
    environment = {"STRONGSWAN_CONF": f"{place}/strongswan.conf"}
    program = world.laptop.host.spawn("/usr/sbin/charon-systemd", env=environment, log="lab0")
    wait_for("its socket", world.laptop.host.path(f"{place}/vici").is_socket)

    assert Path(f"/proc/{program.pid}/comm").read_text().strip() == "charon-systemd"
    assert program.pid in world.laptop.host.pids_of("charon-systemd")
    assert charon.sas(world.laptop.host, f"{place}/vici") == ()
    program.terminate()
    assert program.wait(5) == 0


@pytest.mark.parametrize(
    ("certificate", "complaint"),
    [
        ("gateway-expired", "subject certificate invalid"),
        ("gateway-misnamed", "no trusted"),
        ("gateway-unknown", "no trusted"),
    ],
)
def test_bad_certificate_of_the_gateway_is_refused(
    plain: PlainIke, gateway: IkeGateway, certificate: str, complaint: str
) -> None:
    """A client that is told whom to believe does not connect, and says why."""
    before = len(plain.charon.log())
    gateway.certify(certificate)
    try:
        with pytest.raises(LabError):
            plain.up(Way.CERTIFICATE)
    finally:
        gateway.certify("gateway")

    assert complaint in plain.charon.log()[before:]


@pytest.mark.parametrize("certificate", ["laptop-expired", "laptop-unknown", "laptop-ending"])
def test_certificate_of_the_laptop_is_judged(plain: PlainIke, certificate: str) -> None:
    """The gateway refuses one that has ended, or that another authority signed, and takes one that is about to end."""
    plain.write(str(plan.GATEWAY4), certificate=certificate)
    plain.charon.load()
    try:
        if certificate == "laptop-ending":
            plain.up(Way.CERTIFICATE)
        else:
            with pytest.raises(LabError):
                plain.up(Way.CERTIFICATE)
    finally:
        plain.write(str(plan.GATEWAY4))
        plain.charon.load()

    assert plain.charon.established() == (1 if certificate == "laptop-ending" else 0)


@pytest.mark.parametrize("way", [Way.PSK, Way.PPK, Way.V1_AGGRESSIVE, Way.V1_HYBRID])
def test_secrets_that_were_rotated_are_refused(plain: PlainIke, gateway: IkeGateway, way: Way) -> None:
    """Who has the old ones does not come in; who has the right ones does."""
    old = gateway.psk, gateway.password, gateway.ppk
    gateway.rotate()
    with pytest.raises(LabError):
        plain.up(way)
    gateway.psk, gateway.password, gateway.ppk = old
    gateway.load()
    plain.up(way)


def test_gateway_is_lost_and_found(world: World, plain: PlainIke, gateway: IkeGateway) -> None:
    """With a dead exit nothing comes back; deleting is told to the laptop; restarted, it knows nobody."""
    plain.up(Way.PSK)
    assert gateway.established() == gateway.established(Way.PSK) == 1
    gateway.shut_exit(dead=True)
    assert _pages(world, _PAGE) == [""]
    gateway.shut_exit(dead=False)
    assert _pages(world) == _THROUGH
    gateway.terminate()
    wait_for("the laptop to hear of it", lambda: not plain.charon.sas())
    plain.up(Way.PSK)
    gateway.restart()

    assert gateway.sas() == ()
    charon.flush(world.laptop.host, _SOCKET)
    wait_for("the laptop's SAs to go", lambda: not plain.charon.sas())


def test_gateway_answers_only_when_it_can(world: World, plain: PlainIke, gateway: IkeGateway) -> None:
    """Hanging or filtered it does not answer; afterwards it does."""
    for silent, loud in (
        (gateway.hang, gateway.resume),
        (lambda: gateway.filter_udp(filtered=True), lambda: gateway.filter_udp(filtered=False)),
    ):
        silent()
        with pytest.raises(LabError):
            plain.up(Way.PSK, timeout_s=1)
        loud()
        charon.flush(world.laptop.host, _SOCKET)
    plain.up(Way.PSK)

    assert gateway.established() == 1


def test_gateway_gives_less_than_is_asked_for(world: World, plain: PlainIke, gateway: IkeGateway) -> None:
    """It narrows what the laptop asks for (RFC 7296 section 2.9): the web is behind it, not the rest."""
    gateway.networks = ("203.0.113.0/24", "2001:db8::/32")
    gateway.load()
    try:
        plain.up(Way.PSK)
    finally:
        gateway.networks = ("0.0.0.0/0", "::/0")
        gateway.load()

    assert _pages(world) == _THROUGH
    assert "dev ipsec0" in world.laptop.host.ip(f"route get {plan.WEB4}")
    assert "dev wlan0" in world.laptop.host.ip(f"route get {plan.CAFE.wan4}")


def test_keys_are_renewed_under_way(world: World, plain: PlainIke, gateway: IkeGateway) -> None:
    """The gateway renews the CHILD SA, then the IKE SA; the tunnel carries behind each, with the same addresses."""
    plain.up(Way.PSK)
    (first,) = gateway.sas()
    gateway.rekey(child=True)
    wait_for(
        "a new CHILD SA", lambda: not {*first.children} & {number for sa in gateway.sas() for number in sa.children}
    )
    carried = _pages(world)
    gateway.rekey()
    wait_for("a new IKE SA", lambda: gateway.established() == 1 and gateway.sas()[0].unique != first.unique)

    assert carried == _pages(world) == _THROUGH
    assert gateway.sas()[0].vips == first.vips


def test_sa_follows_the_laptop(world: World, plain: PlainIke, gateway: IkeGateway) -> None:
    """MOBIKE: from one link to the other, and to another address, with the same IKE SA."""
    world.plug("home", link="eth0")
    plain.up(Way.CERTIFICATE)
    (before,) = gateway.sas()
    world.unplug("eth0")
    wait_for("the way by wlan0", lambda: _pages(world, _PAGE) == _THROUGH[:1])
    (after,) = gateway.sas()

    assert (after.unique, after.vips) == (before.unique, before.vips)


def test_killed_charon_means_plain_text(world: World, plain: PlainIke) -> None:
    """Positive control: without a kill switch, what went through the tunnel goes in clear when charon is killed."""
    plain.up(Way.PSK)
    with world.record(ike=plan.IKE_GATEWAYS) as recorder:
        for pid in world.laptop.host.pids_of("charon-systemd"):
            os.kill(pid, 9)
        wait_for("a page", lambda: _pages(world, _PAGE) == [plan.HOME.wan4])
    plain.charon.start()

    assert recorder.recording(new_token()).clear()


def test_another_gateway_has_the_same_secrets(world: World, plain: PlainIke) -> None:
    """The laptop's files are good for it, too."""
    other = world.another_ike_gateway()
    plain.write(str(other.place.wan4))
    plain.charon.load()
    plain.up(Way.EAP_TLS)

    assert _pages(world) == [str(other.place.wan4), str(other.place.wan6)]
    assert set(plain.resolvers()) == {str(other.pool.inside4), str(other.pool.inside6)}


@pytest.mark.parametrize("way", Way)
def test_account_names_only_files_that_are_there(world: World, way: Way) -> None:
    """NAME.toml is TOML, and what it names root alone can read."""
    place = world.laptop.host.path(str(install(world.laptop, account(world.ike, way), name=f"to-{way}")))
    table = tomllib.loads(place.read_text())
    named = [
        value
        for part in (*table["ike"]["auth"], table["ike"]["server"], table["ike"].get("ppk", {}))
        for value in part.values()
    ]
    files = [
        value for value in (*named, *table["ike"]["server"].get("authorities", [])) if str(value).startswith("keys/")
    ]

    assert table["ike"]["version"] == way.version
    assert {(world.laptop.host.path("/etc/aovpnd") / file).stat().st_mode & 0o777 for file in files} == {0o600}

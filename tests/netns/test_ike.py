# SPDX-License-Identifier: GPL-3.0-or-later
"""IKE tunnels under the kill switch, with real charon at both ends: every way to authenticate, every way to fail.

Senders of all kinds are on the laptop and a recorder on the far side; the senders were seen, unprotected, before the
first test (`Protected.positive_control`).
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pytest

from aovpnd import names
from tests.lab import plan
from tests.lab.frames import Kind
from tests.lab.ike import USER, IkeGateway, Way
from tests.lab.ike_client import Account, account, install
from tests.lab.process import LabError, wait_for
from tests.netns.protected import WAY, Protected, Watch

pytestmark = pytest.mark.root

WEAK: Final = frozenset({Way.V1_MAIN, Way.V1_AGGRESSIVE, Way.V1_HYBRID})
_ALLOW_WEAK: Final = "[ike]\nallow_weak = true\n"
_UP_S: Final = 30.0
LISTED: Final = "listed"
NOBODY: Final = plan.PLACES[-1].wan4
"""Where a gateway might stand, and none does in this world."""


# -- every failure -----------------------------------------------------------------------------------------------------
def _other(way: Way, file: str, **settings: Any) -> Callable[[IkeGateway], Account]:
    """An account one file of which, a secret, is not the gateway's."""

    def make(gateway: IkeGateway) -> Account:
        made = account(gateway, way, **settings)
        return replace(
            made,
            files={**made.files, f"wrong-{file}": "not the gateway's"},
            text=made.text.replace(f"keys/{file}", f"keys/wrong-{file}"),
        )

    return make


def _as(way: Way, **settings: Any) -> Callable[[IkeGateway], Account]:
    return lambda gateway: account(gateway, way, **settings)


def _peap(gateway: IkeGateway) -> Account:
    """Debian 12 packages no EAP-PEAP."""
    made = account(gateway, Way.EAP_TTLS)
    return replace(made, text=made.text.replace('"eap-ttls"', '"eap-peap"'))


def _listed(*revoked: str, ended: bool = False) -> Callable[[IkeGateway], Account]:
    """Whoever is on no list of those who are not to be believed, one that has not ended, is not believed either."""

    def make(gateway: IkeGateway) -> Account:
        made = account(gateway, Way.EAP_MSCHAPV2)
        listed = '[ike.server]\nrevocation = "strict"\ncrls = ["keys/ca-{}.crl"]\n'.format("-".join(revoked))
        files = {f"ca-{'-'.join(revoked)}.crl": gateway.pki.revocation_list(*revoked, ended=ended)}
        return replace(made, text=made.text.replace("[ike.server]\n", listed), files={**made.files, **files})

    return make


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that is wrong: the laptop's account, or what the gateway does (and no longer does); the code by which
    status tells it, a part of the text, one of the hint.
    """

    account: Callable[[IkeGateway], Account]
    code: str
    text: str
    hint: str
    breaks: Callable[[IkeGateway], None] = lambda _gateway: None
    mends: Callable[[IkeGateway], None] = lambda _gateway: None


FAILURES: Final = {
    "wrong-psk": Failure(
        _other(Way.PSK, "psk.psk"), "ike-key-refused", "refuses our preshared key", "compare secret_file"
    ),
    "wrong-password": Failure(
        _other(Way.EAP_MSCHAPV2, USER), "ike-user-refused", "refuses the user or the password", "password_file"
    ),
    "wrong-password-ttls": Failure(
        _other(Way.EAP_TTLS, USER), "ike-user-refused", "refuses the user or the password", "password_file"
    ),
    "wrong-password-v1": Failure(
        _other(Way.V1_HYBRID, USER), "ike-user-refused", "refuses the user or the password", "password_file"
    ),
    "wrong-identity-psk": Failure(
        _as(Way.PSK, server="other.lab"), "ike-key-refused", "the name that we call it by", "identity of [ike.server]"
    ),
    "wrong-identity": Failure(
        _as(Way.CERTIFICATE, server="other.lab"),
        "ike-refused",
        "is not called what we call it",
        "identity of [ike.server]",
    ),
    "gateway-misnamed": Failure(
        _as(Way.EAP_TLS),
        "ike-identity-differs",
        f"no certificate for '{plan.IKE_NAME}'",
        "identity of [ike.server]",
        lambda gateway: gateway.certify("gateway-misnamed"),
        lambda gateway: gateway.certify("gateway"),
    ),
    "unknown-authority": Failure(
        _as(Way.CERTIFICATE, authority="stranger"), "ike-server-untrusted", "nobody whom we believe", "authorities"
    ),
    "gateway-expired": Failure(
        _as(Way.EAP_MSCHAPV2),
        "ike-server-expired",
        "is not valid today",
        "clock",
        lambda gateway: gateway.certify("gateway-expired"),
        lambda gateway: gateway.certify("gateway"),
    ),
    "laptop-expired": Failure(
        _as(Way.CERTIFICATE, certificate="laptop-expired"), "certificate-expired", "has ended", "for a new one"
    ),
    "laptop-unknown": Failure(
        _as(Way.CERTIFICATE, certificate="laptop-unknown"), "ike-refused", "does not believe", "compare identity"
    ),
    "unreachable": Failure(
        _as(Way.PSK, gateways=(str(NOBODY),)), "no-handshake", "does not answer", "check the keys and the gateway"
    ),
    "no-proposal": Failure(
        _as(Way.PSK, settings={"proposals": ["aes256-sha384-ecp384"]}),
        "ike-no-proposal",
        "none of the algorithms",
        "esp_proposals",
        lambda gateway: gateway.insist("aes128-sha256-modp4096"),
        lambda gateway: gateway.insist("default"),
    ),
    "gateway-revoked": Failure(_listed("gateway"), "ike-server-revoked", "was revoked", "whoever runs the gateway"),
    "list-ended": Failure(_listed("laptop", ended=True), "ike-server-unlisted", "no list says", "crls of [ike.server]"),
    "no-ml-kem": Failure(
        _as(Way.PSK, settings={"proposals": ["aes256gcm16-prfsha384-x25519-ke1_mlkem768"]}),
        "ike-algorithm-missing",
        "charon has no mlkem768",
        "from 6.0 on",
    ),
    "no-plugin": Failure(_peap, "ike-plugin-missing", "charon has no plugin eap-peap", "apt install"),
}


_ALL_ONLY: Final = frozenset(
    {"wrong-password-ttls", "wrong-password-v1", "wrong-identity-psk", "laptop-unknown", "list-ended", "no-ml-kem"}
)
TRIED: Final = {name: each for name, each in FAILURES.items() if WAY is not None or name not in _ALL_ONLY}
"""Those of this run: ``make test-ike`` tries all of them."""


@pytest.fixture(scope="module")
def laptop() -> Iterator[Protected]:
    """One world for this file, its laptop at home: a tunnel for each way, named as it is."""
    with Protected.build(links=("wlan0",), way=Way.PSK, tunnel=False, start=False) as built:
        built.lab.write_config(f'{_ALLOW_WEAK}[tunnel]\nprefer = ["{Way.PSK}"]\n')
        for way in Way:
            install(built.lab, account(built.world.ike, way, families=(4, 6)), way)
        for name, failure in TRIED.items():
            install(built.lab, failure.account(built.world.ike), name)
        install(built.lab, _listed("laptop-unknown")(built.world.ike), LISTED)
        built.lab.start_daemon()
        built.lab.ctl("disconnect")
        built.world.roam("home", ipv6=True)
        yield built


# -- every way ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Trip:
    """What was seen of one way. ``connection``: the gateway's newest; ``named``: whether a name was found."""

    status: dict[str, Any]
    conf: str
    named: bool
    connection: str
    seconds: float
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Trips:
    """Every way after the other, under one watch."""

    watch: Watch
    found: dict[Way, Trip | LabError] = field(default_factory=dict)


@pytest.fixture(scope="module")
def trips(laptop: Protected) -> Trips:
    """Blocked, connected in one way, blocked, connected in the next; all of it under one recorder."""
    with laptop.watch() as watch:
        made = Trips(watch)
        for way in Way:
            try:
                made.found[way] = _trip(laptop, watch, way)
            except LabError as error:
                made.found[way] = LabError(f"{error}; status: {laptop.problems()}\n{laptop.said()}")
            laptop.lab.ctl("disconnect")
    return made


def _trip(laptop: Protected, watch: Watch, way: Way) -> Trip:
    start, began = time.time(), time.monotonic()
    laptop.lab.ctl("connect", way, check=False)
    wait_for(f"{way} to carry", laptop.works, deadline_s=_UP_S, poll_s=0.05)
    seconds = time.monotonic() - began
    watch.everybody_tries()
    return Trip(
        laptop.lab.status(),
        laptop.lab.host.out("cat", names.RESOLV_CONF),
        str(plan.WEB4) in laptop.lab.host.run("getent", "ahosts", plan.WEB_NAME, check=False, uid=plan.USER).stdout,
        max(laptop.world.ike.sas(), key=lambda sa: sa.unique).connection,
        seconds,
        start,
        time.time(),
    )


def _codes(trip: Trip) -> set[str]:
    return {problem["code"] for problem in trip.status["problems"]}


@pytest.mark.parametrize("way", Way)
def test_every_way_carries(laptop: Protected, trips: Trips, way: Way) -> None:
    """It comes up, and both families reach the internet from the gateway's address (`Protected.works`); the gateway's
    resolvers are asked; outside there is IKE and ESP and nothing in clear.
    """
    trip, pool = trips.found[way], laptop.world.ike.pool
    if isinstance(trip, LabError):
        raise trip
    (tunnel,) = (tunnel for tunnel in trip.status["tunnels"] if tunnel["name"] == way)
    counts = trips.watch.recording.counts(trip.start, trip.end)
    print(f"{way}: carries {trip.seconds:.2f} s after it is asked for")

    trips.watch.assert_silence(trip.start, trip.end)
    assert trip.connection == way
    assert (tunnel["backend"], tunnel["state"]) == ("strongswan", "connected")
    assert trip.conf == f"{names.RESOLV_CONF_MARK}nameserver {pool.inside4}\nnameserver {pool.inside6}\n"
    assert trip.named
    # Nine tunnels within half a minute look like a fight over their links.
    assert _codes(trip) - {"fight"} == ({"tunnel-is-weak"} if way in WEAK else set())
    assert counts[Kind.IKE] >= 3
    assert counts[Kind.UDP_ESP] > 20


@dataclass(frozen=True, slots=True)
class Told:
    """What status said of a failure, and how much the daemon logged meanwhile."""

    phase: str
    problem: dict[str, str]
    seconds: float
    lines: int
    start: float
    end: float


@pytest.fixture(scope="module")
def failures(laptop: Protected) -> tuple[Watch, dict[str, Told | LabError]]:
    """Every failure after the other, all of it under one recorder."""
    found: dict[str, Told | LabError] = {}
    with laptop.watch() as watch:
        for name, failure in TRIED.items():
            failure.breaks(laptop.world.ike)
            try:
                found[name] = _told(laptop, watch, name, failure.code)
            except LabError as error:
                found[name] = LabError(f"{error}; status: {laptop.problems()}\n{laptop.said()}")
            finally:
                failure.mends(laptop.world.ike)
                laptop.lab.ctl("disconnect")
    return watch, found


def _told(laptop: Protected, watch: Watch, name: str, code: str) -> Told:
    start, began, mark = time.time(), time.monotonic(), len(laptop.lab.daemon_log())
    laptop.lab.ctl("connect", name, check=False)
    wait_for(f"{code} in status", lambda: code in laptop.problems(), deadline_s=_UP_S, poll_s=0.05)
    seconds = time.monotonic() - began
    watch.everybody_tries()
    status = laptop.lab.status()
    problem: dict[str, str] = next((problem for problem in status["problems"] if problem["code"] == code), {})
    return Told(status["phase"], problem, seconds, laptop.log_since(mark).count("\n"), start, time.time())


@pytest.mark.parametrize("name", TRIED)
def test_every_failure_is_told(failures: tuple[Watch, dict[str, Told | LabError]], name: str) -> None:
    """Each has a code, a text and a hint of its own, which stand while it lasts; meanwhile nothing leaves in clear, and
    nothing is repeated for ever in the log.
    """
    watch, told, failure = failures[0], failures[1][name], FAILURES[name]
    if isinstance(told, LabError):
        raise told
    print(f"{name}: told after {told.seconds:.2f} s, {told.lines} lines in the log: {told.problem}")

    watch.assert_silence(told.start, told.end)
    assert told.phase == "connecting"
    assert failure.text in told.problem["text"]
    assert failure.hint in told.problem["hint"]
    assert told.lines < 25


def test_a_list_that_does_not_name_the_gateway(laptop: Protected) -> None:
    """Where ``revocation = "strict"`` has its list, the gateway is believed; what it costs on the way is nothing: the
    list is a file.
    """
    with laptop.nothing_leaves() as watch:
        laptop.lab.ctl("connect", LISTED)
        watch.until("the tunnel", laptop.works)
    laptop.lab.ctl("disconnect")

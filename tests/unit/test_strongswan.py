# SPDX-License-Identifier: GPL-3.0-or-later
"""What the strongSwan backend makes of what it is told: which SA lives, what it has carried, who its resolvers are."""

import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aovpnd.adapters.netlink import Netlink
from aovpnd.backends.charon import Place, children_of, name_of
from aovpnd.backends.ikegiven import servers_in
from aovpnd.backends.ikememory import Memory
from aovpnd.backends.ikesas import alive, complete
from aovpnd.backends.strongswan import StrongSwanBackend
from aovpnd.backends.vici import Charon, Child, Sa
from aovpnd.errors import ToolError
from aovpnd.gateways import Path as WirePath
from aovpnd.ipsec import Given, IkeVersion, Lease
from aovpnd.links import ARPHRD_NONE, Link
from tests.unit.test_charon_settings import PSK


def child(number: int, *, installed: bool = True, rx: int = 0, tx: int = 0) -> Child:
    """A CHILD SA."""
    return Child(number, installed, 1, rx, tx)


def sa(number: int, *children: Child, established: bool = True) -> Sa:
    """An IKE SA."""
    return Sa("office", number, established, None, None, (), children)


# -- which lives -------------------------------------------------------------------------------------------------------
def testalive() -> None:
    """The newest that is established, and of its CHILD SAs the newest that carries."""
    old, new = sa(1, child(7)), sa(2, child(3), child(4), child(5, installed=False))

    assert alive(()) == (None, None)
    assert alive((sa(1, child(1), established=False),)) == (None, None)
    assert alive((old, new)) == (new, child(4))
    assert alive((old, sa(2, child(9), established=False))) == (old, child(7))
    assert alive((old, sa(3))) == (sa(3), None)
    assert alive((sa(3, child(5, installed=False)),))[1] is None


def test_age_in_whole_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CHILD SA was made at one moment, however its age and the clock are rounded; a clock that is set moves it."""
    memory, seen = Memory(), []
    for now, age in ((1000.9, 10), (1001.1, 10), (1001.9, 11), (1002.0, 12), (9002.0, 13)):
        monkeypatch.setattr("aovpnd.backends.ikememory.time.time", lambda now=now: now)
        seen.append(memory.shaken_at(replace(child(4), age_s=age)))
    assert seen == [990, 990, 990, 990, 8989]
    assert memory.shaken_at(replace(child(5), age_s=0)) == 9002


def test_the_last_gift_stays() -> None:
    """Between two SAs, and said to be of the last one; another tunnel on the same link never had it."""
    memory, gift = Memory(), Given((ip_interface("10.0.0.2/32"),), (ip_address("10.0.0.1"),))

    assert memory.last("corp", None) is None
    assert memory.last("corp", gift) == gift
    assert memory.last("corp", None) == replace(gift, lease=Lease.OVER)
    assert memory.last("home", None) is None
    assert memory.last("corp", gift) == gift


# -- what it has carried -----------------------------------------------------------------------------------------------
def test_bytes_outlive_their_sa() -> None:
    """A CHILD SA takes its count along when it is renewed; what it carried has been carried."""
    memory = Memory()

    assert memory.bytes_of(()) == (0, 0)
    assert memory.bytes_of([sa(1, child(1, rx=10, tx=20))]) == (10, 20)
    assert memory.bytes_of([sa(1, child(1, rx=15, tx=25), child(2, rx=1, tx=2))]) == (16, 27)
    assert memory.bytes_of([sa(1, child(2, rx=3, tx=4))]) == (18, 29)
    assert memory.bytes_of([]) == (18, 29)


@given(st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(0, 1 << 40)), max_size=100))
def test_bytes_over_many_renewals(carried: list[tuple[int, int]]) -> None:
    """After whatever number of renewals the sum is right, never falls, and is kept in little."""
    memory = Memory()
    last = (0, 0)
    for number, (rx, tx) in enumerate(carried, 1):
        found = memory.bytes_of([sa(1, child(number, rx=rx, tx=tx))])
        assert found >= last
        last = found
    assert last == (sum(rx for rx, _ in carried), sum(tx for _, tx in carried))
    assert len(memory.counts) <= 32


# -- resolvers ---------------------------------------------------------------------------------------------------------
def given_in(path: Path, *variables: str) -> Path:
    """What charon's program writes down."""
    path.write_bytes(b"".join(variable.encode() + b"\0" for variable in variables))
    return path


def test_servers(tmp_path: Path) -> None:
    """IPv4 before IPv6, in charon's order; nothing else of the environment counts."""
    path = given_in(
        tmp_path / "given.1",
        *("PATH=/bin", "PLUTO_VERB=up-client-v6", "PLUTO_DNS6_1=fd00::1", "PLUTO_DNS4_2=10.0.0.2"),
        *("PLUTO_DNS4_1=10.0.0.1", "PLUTO_DNS4_9=10.0.0.9", "PLUTO_DNS4_3=$(reboot)", "NOTHING", "=x"),
    )
    assert servers_in(path) == tuple(map(ip_address, ("10.0.0.1", "10.0.0.2", "fd00::1")))


@pytest.mark.parametrize("variables", [(), ("PLUTO_VERB=down-client",), ("PLUTO_DNS4_1=10.0.0.1",), ("\x00\xff",)])
def test_nothing_given(tmp_path: Path, variables: tuple[str, ...]) -> None:
    """A file that is not yet written, or about an SA that went, says nothing; one about an SA says at least: none."""
    assert servers_in(tmp_path / "absent") is None
    assert servers_in(given_in(tmp_path / "given.1", *variables)) is None
    assert servers_in(given_in(tmp_path / "given.1", "PLUTO_VERB=up-host")) == ()


def test_servers_of_an_sa(tmp_path: Path) -> None:
    """Each IKE SA has a file of its own, where charon can write; one with new keys has what the one before was given,
    and files that nobody wrote for us are no SA's.
    """
    place = Place(tmp_path, "aovpn0")
    place.make()
    assert place.all_given() == {}
    for number, server in (("2", "10.0.0.2"), ("10", "10.0.0.10"), ("x", "10.0.0.1"), ("²", "10.0.0.3")):
        given_in(Path(f"{place.given}.{number}"), "PLUTO_VERB=up-host", f"PLUTO_DNS4_1={server}")
    Path(f"{place.given}.11").write_bytes(b"")

    assert place.all_given() == {number: Path(f"{place.given}.{number}") for number in (2, 10, 11)}
    backend = StrongSwanBackend(tmp_path, Netlink(), tmp_path)
    found = [backend._servers("aovpn0", number) for number in (1, 2, 9, 10, 12)]  # noqa: SLF001 - what an SA was given
    assert [server and str(server[0]) for server in found] == [None, "10.0.0.2", "10.0.0.2", "10.0.0.10", "10.0.0.10"]


def test_a_place_that_was_taken(tmp_path: Path) -> None:
    """Whoever is charon's user may put there what he likes, a pipe, a link, a huge file: nobody waits for it."""
    target = given_in(tmp_path / "target", "PLUTO_VERB=up-host")
    (tmp_path / "link").symlink_to(target)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"PLUTO_VERB=up-host\0" + b"x" * (1 << 20))

    assert [servers_in(tmp_path / name) for name in ("link", "pipe", "large")] == [None, None, ()]


# -- a new path --------------------------------------------------------------------------------------------------------
@dataclass
class Asked:
    """A charon with one SA, which does nothing that it is asked for."""

    asked: list[str] = field(default_factory=list)

    def sas(self) -> tuple[Sa, ...]:
        """One IKE SA with one CHILD SA."""
        return (replace(sa(1, child(4)), name=name_of(PSK)),)

    def plugins(self) -> frozenset[str]:
        """All that are needed."""
        return frozenset()

    def key_exchanges(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def rekey(self, what: Child) -> None:
        """Noted."""
        self.asked.append(f"rekey {what.number}")

    def terminate(self, what: Sa) -> None:
        """Noted."""
        self.asked.append(f"terminate {what.number}")

    def initiate(self, name: str, children: tuple[str, ...]) -> None:
        """Noted."""
        assert (name, children) == (name_of(PSK), (name_of(PSK),))
        self.asked.append("initiate")


def test_each_path_is_proved_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A move that has just been made proves nothing of the path after it; one that is not answered ends the SA."""
    backend, charon, now = StrongSwanBackend(tmp_path, Netlink(), tmp_path), Asked(), [100.0]
    monkeypatch.setattr("aovpnd.backends.strongswan.time.monotonic", lambda: now[0])
    home, cafe = (WirePath("office", "", (), 5, (network,)).fingerprint() for network in ("home", "cafe"))
    for moment, path in ((100.0, home), (101.0, cafe), (102.0, cafe), (105.0, cafe)):
        now[0] = moment
        backend._provoke("aovpn0", PSK, cast("Charon", charon), path)  # noqa: SLF001 - what it asks charon for

    assert charon.asked == ["rekey 4", "rekey 4", "terminate 1", "initiate"]
    assert backend._remembered("aovpn0").floor == 4  # noqa: SLF001


def test_a_rest_ends_the_sa_and_keeps_what_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its CHILD SAs prove nothing any more; addresses and name servers outlive the daemon. What waits in vain for a
    second attempt is dropped, and only then.
    """
    dropped: list[int] = []
    monkeypatch.setattr("aovpnd.backends.strongswan.wait", lambda _condition, _deadline_s: True)
    monkeypatch.setattr("aovpnd.backends.strongswan.find", lambda name: Link(7, name, "xfrm", ARPHRD_NONE))
    monkeypatch.setattr("aovpnd.backends.plug.drop", dropped.append)
    now = [100.0]
    monkeypatch.setattr("aovpnd.backends.strongswan.time.monotonic", lambda: now[0])
    backend, charon = StrongSwanBackend(tmp_path, Netlink(), tmp_path), Asked()
    gift = Given((ip_interface("10.64.0.2/32"),), (ip_address("10.64.0.1"),))
    memory = backend._remembered("aovpn0")  # noqa: SLF001 - what is kept
    memory.last(PSK.digest(), gift)
    backend._rest("aovpn0", PSK, cast("Charon", charon), "home")  # noqa: SLF001
    assert (charon.asked, memory.floor, memory.path) == (["terminate 1"], 4, "home")
    after = StrongSwanBackend(tmp_path, Netlink(), tmp_path)._remembered("aovpn0")  # noqa: SLF001
    assert after.last(PSK.digest(), None) == replace(gift, lease=Lease.OVER)
    monkeypatch.setattr(charon, "sas", lambda: ())
    for moment in (101.0, 110.0):
        now[0] = moment
        backend._provoke("aovpn0", PSK, cast("Charon", charon), "home")  # noqa: SLF001
        assert dropped == ([7] if moment == 110.0 else [])
    assert charon.asked == ["terminate 1", "initiate", "initiate"]


def test_a_charon_that_refuses_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the third time without one that went well in between; each refusal is told."""
    backend = StrongSwanBackend(tmp_path, Netlink(), tmp_path)
    link = Link(7, "aovpn0", "tun", ARPHRD_NONE)
    removed: list[Link] = []
    rounds: list[int] = []
    monkeypatch.setattr(backend, "remove", removed.append)
    for number, refuses in enumerate((True, True, False, True, True, True), 1):
        with suppress(ToolError), backend._replaced_if_it_refuses(link):  # noqa: SLF001 - what it does about charon
            rounds.append(number)
            if refuses:
                raise ToolError("charon refuses")
            rounds.append(number)
        assert removed == ([link] if number == 6 else [])

    assert rounds == [1, 2, 3, 3, 4, 5, 6]


# -- a CHILD SA for each family ----------------------------------------------------------------------------------------
V1 = replace(PSK, version=IkeVersion.V1, networks=(ip_network("0.0.0.0/0"), ip_network("::/0")))


@dataclass
class Late:
    """A charon that sees an address of its link only after so many attempts: no CHILD SA is made of it before."""

    sees_at: dict[str, int]
    asked: list[tuple[str, ...]] = field(default_factory=list)
    made: set[str] = field(default_factory=set)
    busy: bool = False
    stands: bool = True

    def plugins(self) -> frozenset[str]:
        """All that are needed."""
        return frozenset()

    def key_exchanges(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def sas(self) -> tuple[Sa, ...]:
        """One IKE SA with what was made, while it ``stands``."""
        if not self.stands:
            return ()
        return (replace(sa(1, *(Child(1, True, 0, 0, 0, name) for name in sorted(self.made))), busy=self.busy),)

    def initiate(self, _name: str, children: tuple[str, ...]) -> None:
        """What can be made is made."""
        self.asked.append(children)
        self.made |= {name for name in children if self.sees_at[name] <= len(self.asked)}


def test_an_attempt_begins_one_ike_sa(tmp_path: Path) -> None:
    """A second CHILD SA asked for at once would begin a second IKE SA, and show a password that was just refused."""
    backend = StrongSwanBackend(tmp_path, Netlink(), tmp_path)
    charon = Late(dict.fromkeys(children_of(V1), 9), stands=False)
    backend._provoke("aovpn0", V1, cast("Charon", charon), "home")  # noqa: SLF001 - what it asks charon for

    assert charon.asked == [children_of(V1)[:1]]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for."""
    monkeypatch.setattr("aovpnd.backends.ikesas.wait", lambda condition, _deadline_s: condition())


@pytest.mark.usefixtures("at_once")
def test_what_charon_did_not_make_is_asked_for_again() -> None:
    """Of two CHILD SAs the one that is there is not asked for; the other is, until it is there."""
    four, six = children_of(V1)
    charon = Late({four: 1, six: 3})

    complete(cast("Charon", charon), V1)

    assert charon.asked == [(four, six), (six,), (six,)]
    assert charon.made == {four, six}


@pytest.mark.usefixtures("at_once")
def test_a_gateway_that_never_makes_it_is_not_asked_for_ever() -> None:
    """One that gives no IPv6 costs a few attempts; while an exchange is under way no second one is begun."""
    four, six = children_of(V1)
    charon, slow = Late({four: 1, six: 1000}), Late({four: 1, six: 1}, busy=True)

    complete(cast("Charon", charon), V1)
    complete(cast("Charon", slow), V1)

    assert charon.asked == [(four, six), (six,), (six,), (six,)]
    assert slow.asked == []

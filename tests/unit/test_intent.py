# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory: what people may ask for and how often, what ends it, and what is taken over after a restart."""

from dataclasses import replace
from ipaddress import ip_address
from typing import Final

import pytest

from aovpnd.core import intent as memory
from aovpnd.core.decide import decide
from aovpnd.doors import Door, Openers, WhileConnected
from aovpnd.gateways import Provoked
from aovpnd.model import (
    Block,
    Config,
    Enabled,
    Grant,
    GrantKind,
    Intent,
    LinkWish,
    Phase,
    Problem,
    Severity,
    Snapshot,
    TemporaryAccessPolicy,
    TunnelWish,
    Wish,
)
from aovpnd.orders import (
    AllowTemporary,
    Answer,
    CancelTemporary,
    Command,
    Connect,
    Disconnect,
    EnsureGuard,
    EnsureTunnel,
    LoadRuleset,
    NameNetworks,
    PrepareSleep,
    Refusal,
    Reload,
    SetBlock,
    Woke,
)
from aovpnd.repairs import Failure
from aovpnd.routes import Route
from aovpnd.tunnel import Endpoint
from tests.unit.small_world import AOVPN, DEFAULT4, HOME, NOW, WORK, state_of
from tests.unit.test_decide import HOME_NET, NETWORK, NO_NET, ONE, PATH, SHAKEN, SHOOK, TWO, UP

ELSEWHERE: Final = replace(PATH, networks=("3 1 10.0.0.1",))
PAUSE: Final = TemporaryAccessPolicy(while_connected=WhileConnected.PAUSE)


def at(snapshot: Snapshot, boot: float) -> Snapshot:
    """The same at another moment; the wall clock goes along."""
    return replace(snapshot, now=replace(snapshot.now, boot=boot, wall=snapshot.now.wall + boot - snapshot.now.boot))


def granted(config: Config, intent: Intent, snapshot: Snapshot, seconds: int | None = 180) -> Intent:
    """The memory after a grant that must be given."""
    new, answer = memory.update(config, intent, snapshot, AllowTemporary(seconds))
    assert isinstance(answer, Answer), answer
    return new


def refused(config: Config, intent: Intent, snapshot: Snapshot, command: Command) -> str:
    """Why a command is refused; the memory stays as it was."""
    new, answer = memory.update(config, intent, snapshot, command)
    assert isinstance(answer, Refusal), answer
    assert new == intent
    assert answer.text
    return answer.code


# -- temporary access --------------------------------------------------------------------------------------------------
def test_grant_is_bound() -> None:
    """A grant knows its link, its network, its deadline and for whom it is."""
    command = AllowTemporary(60, "hotel portal", "alice")
    new, answer = memory.update(Config(), Intent(), HOME_NET, command)

    assert new.grant == Grant(GrantKind.ACCESS, 2, "wlan0", NETWORK, NOW, NOW + 60, "alice", "hotel portal")
    assert new.used == (NOW,)
    assert answer == Answer("temporary access is open", NOW + 60)


def test_grant_is_for_the_best_uplink() -> None:
    """Of several uplinks, the one that main's best default route takes is opened, and no other."""
    both = replace(HOME_NET, main=(*HOME_NET.main, Route(DEFAULT4, 3, ip_address("10.0.0.1"), 100)))
    grant = granted(Config(), Intent(), both).grant

    assert grant is not None
    assert (grant.link, grant.link_name) == (3, "eth0")


def test_long_reasons_are_cut() -> None:
    """A reason is for the log, not a place to store things."""
    new, _ = memory.update(Config(), Intent(), HOME_NET, AllowTemporary(60, "x" * 10_000))

    assert new.grant is not None
    assert new.grant.reason == "x" * 200


@pytest.mark.parametrize(
    ("seconds", "code"), [(-1, "too-long"), (0, "too-long"), (3601, "too-long"), (10**12, "too-long")]
)
def test_bounds_are_refused_and_never_clamped(seconds: int, code: str) -> None:
    """What policy does not permit is refused with the bounds, not quietly made shorter."""
    assert refused(Config(), Intent(), HOME_NET, AllowTemporary(seconds)) == code


@pytest.mark.parametrize(("seconds", "ends"), [(None, 180), (1, 1), (3600, 3600)])
def test_bounds_are_included(seconds: int | None, ends: int) -> None:
    """The default is policy's, and both bounds are permitted."""
    grant = granted(Config(), Intent(), HOME_NET, seconds).grant

    assert grant is not None
    assert grant.expires_at == NOW + ends


def test_default_beyond_the_bound_is_refused() -> None:
    """A policy whose default is longer than its maximum permits what the maximum says."""
    config = Config(temporary_access=TemporaryAccessPolicy(duration_s=7200))

    assert refused(config, Intent(), HOME_NET, AllowTemporary()) == "too-long"


@pytest.mark.parametrize(
    ("config", "intent", "snapshot", "code"),
    [
        pytest.param(Config(), Intent(block=Block.OFF), HOME_NET, "not-blocked", id="unblocked"),
        pytest.param(
            Config(temporary_access=TemporaryAccessPolicy(enabled=Enabled.NO)),
            Intent(),
            HOME_NET,
            "policy",
            id="policy",
        ),
        pytest.param(Config(), Intent(), NO_NET, "no-uplink", id="no network"),
        pytest.param(
            Config(),
            Intent(failures=(Failure("LoadRuleset", 1, NOW + 1, "no nftables"),)),
            replace(HOME_NET, ruleset=None, table_present=False),
            "not-filtering",
            id="no ruleset",
        ),
        pytest.param(ONE, SHOOK, SHAKEN, "connected", id="connected"),
    ],
)
def test_what_is_refused(config: Config, intent: Intent, snapshot: Snapshot, code: str) -> None:
    """There must be something to open and a ruleset to close it again, policy must permit it, and a tunnel that is up
    is better than a hole.
    """
    assert refused(config, intent, snapshot, AllowTemporary(60)) == code


def test_a_window_is_not_extended() -> None:
    """A second request while a window is open neither adds to it nor costs anything."""
    intent = granted(Config(), Intent(), HOME_NET)

    assert refused(Config(), intent, at(HOME_NET, NOW + 100), AllowTemporary(3600)) == "already"


def test_budget_slides() -> None:
    """Three in any hour; the fourth must wait until the first is an hour old; cancelling gives nothing back."""
    intent = Intent()
    for number in range(3):
        intent = granted(Config(), intent, at(HOME_NET, NOW + 100 * number))
        intent, answer = memory.update(Config(), intent, at(HOME_NET, NOW + 100 * number), CancelTemporary())
        assert isinstance(answer, Answer)
        assert intent.grant is None

    fourth = AllowTemporary(60)
    _, answer = memory.update(Config(), intent, at(HOME_NET, NOW + 300), fourth)
    assert answer == Refusal("budget", "3 times an hour is all that is permitted", "again in 56 min")
    assert refused(Config(), intent, at(HOME_NET, NOW + 3599.9), fourth) == "budget"

    intent = granted(Config(), intent, at(HOME_NET, NOW + 3600))
    assert intent.used == (NOW + 100, NOW + 200, NOW + 3600)


def test_budget_of_an_earlier_boot_counts() -> None:
    """Grants before a reboot are remembered as times before zero."""
    intent = Intent(used=(-3000.0, -2000.0, -10.0))

    assert refused(Config(), intent, at(HOME_NET, 100.0), AllowTemporary(60)) == "budget"
    assert granted(Config(), intent, at(HOME_NET, 601.0)).used == (-2000.0, -10.0, 601.0)


def test_a_window_on_a_link_that_carries_nothing() -> None:
    """A cable with a better metric is plugged in: the window holds for the other link, and status says so."""
    intent = granted(Config(), Intent(), HOME_NET, 60)
    cable = Route(DEFAULT4, 3, ip_address("10.0.0.1"), 100)
    both = replace(HOME_NET, main=(*HOME_NET.main, cable))
    codes = [problem.code for problem in decide(Config(), intent, HOME_NET).problems]
    said = {problem.code: problem.text for problem in decide(Config(), intent, both).problems}

    assert decide(Config(), intent, both).phase is Phase.TEMPORARY_ACCESS
    assert "access-elsewhere" not in codes
    assert said["access-elsewhere"] == "temporary access holds for wlan0 alone, and traffic goes by eth0 now"


def test_a_record_that_cannot_be_read() -> None:
    """It counts as used up for an hour, whatever policy permits, and everybody is told why."""
    config = Config(temporary_access=TemporaryAccessPolicy(per_hour=10))
    intent = Intent(used=(NOW,) * 3, unread_at=NOW)
    hint = "sooner, as root: remove /var/lib/aovpnd/temporary-access.json and restart aovpnd"
    text = "the record of earlier temporary access cannot be read, so it counts as used up for an hour"
    _, answer = memory.update(config, intent, at(HOME_NET, NOW + 600), AllowTemporary(60))

    assert answer == Refusal("budget", text, f"again in 51 min; {hint}")
    assert Problem("budget-unread", Severity.WARNING, text, hint) in decide(config, intent, HOME_NET).problems
    assert memory.settle(config, intent, at(HOME_NET, NOW + 3599)).unread_at == NOW
    later = memory.settle(config, intent, at(HOME_NET, NOW + 3600))
    assert granted(config, later, at(HOME_NET, NOW + 3600)).used == (NOW + 3600,)


def test_a_budget_of_nothing() -> None:
    """Policy may permit none at all, which no waiting changes."""
    config = Config(temporary_access=TemporaryAccessPolicy(per_hour=0))

    assert refused(config, Intent(), HOME_NET, AllowTemporary(60)) == "policy"


def test_a_budget_that_was_cut() -> None:
    """Whoever has used more than policy now permits waits until enough of it is an hour old."""
    config = Config(temporary_access=TemporaryAccessPolicy(per_hour=1))
    intent = Intent(used=(NOW - 3000, NOW - 60))

    _, answer = memory.update(config, intent, HOME_NET, AllowTemporary(60))
    assert answer == Refusal("budget", "1 times an hour is all that is permitted", "again in 60 min")


def test_pause_where_policy_permits_one() -> None:
    """While connected, a grant is a pause, and unlike a grant to get online it survives the tunnel's success."""
    config = replace(ONE, temporary_access=PAUSE)
    intent = granted(config, SHOOK, SHAKEN)

    assert intent.grant is not None
    assert intent.grant.kind is GrantKind.PAUSE
    assert memory.settle(config, intent, SHAKEN).grant == intent.grant


# -- what ends a grant -------------------------------------------------------------------------------------------------
GRANTED: Final = granted(ONE, Intent(), UP)
OTHER_CARRIER: Final = replace(UP, links=tuple(replace(link, carrier_ups=2) for link in UP.links))


@pytest.mark.parametrize(
    ("intent", "snapshot", "lives"),
    [
        pytest.param(GRANTED, UP, True, id="nothing changes"),
        pytest.param(GRANTED, at(UP, NOW + 179.999), True, id="just before its deadline"),
        pytest.param(GRANTED, at(UP, NOW + 180), False, id="its deadline"),
        pytest.param(GRANTED, OTHER_CARRIER, False, id="the carrier was lost"),
        pytest.param(GRANTED, replace(UP, main=()), False, id="no default route"),
        pytest.param(
            GRANTED,
            replace(UP, main=(Route(DEFAULT4, 2, ip_address("192.168.1.254")),)),
            False,
            id="another gateway",
        ),
        pytest.param(
            GRANTED,
            replace(UP, main=(*UP.main, Route(DEFAULT4, 3, ip_address("10.0.0.1"), 100))),
            True,
            id="another uplink beside it",
        ),
        pytest.param(replace(GRANTED, provoked=SHOOK.provoked), SHAKEN, False, id="the tunnel is up"),
        pytest.param(replace(GRANTED, block=Block.OFF), UP, True, id="unblocked"),
    ],
)
def test_what_ends_a_grant(intent: Intent, snapshot: Snapshot, *, lives: bool) -> None:
    """Time, roaming, and the success of the tunnel that it was asked for end a grant for good."""
    assert (memory.settle(ONE, intent, snapshot).grant is not None) is lives


def test_a_dead_grant_stays_dead() -> None:
    """Coming back to the network that a grant was for does not open it again."""
    away = memory.settle(ONE, GRANTED, OTHER_CARRIER)

    assert memory.settle(ONE, away, UP).grant is None


def test_taking_the_block_off_ends_it() -> None:
    """Whoever unblocks and blocks again gets a block, not an old window."""
    intent, _ = memory.update(ONE, GRANTED, UP, SetBlock(Block.OFF))

    assert intent.grant is None
    assert memory.update(ONE, intent, UP, SetBlock(Block.ON))[0] == replace(intent, block=Block.ON)


def test_cancel_without_a_grant() -> None:
    """Cancelling nothing is done, and says so."""
    intent, answer = memory.update(Config(), Intent(), HOME_NET, CancelTemporary())

    assert intent == Intent()
    assert answer == Answer("there was no temporary access")


# -- the other commands ------------------------------------------------------------------------------------------------
def test_connect_and_disconnect() -> None:
    """Disconnecting keeps the choice; connecting without a name takes it up again."""
    intent, _ = memory.update(TWO, Intent(), HOME_NET, Connect("home"))
    assert intent == Intent(chosen="home")

    intent, answer = memory.update(TWO, intent, HOME_NET, Disconnect())
    assert intent == Intent(chosen="home", wish=Wish.DISCONNECT)
    assert isinstance(answer, Answer)
    assert "the block stays" in answer.text

    intent, answer = memory.update(TWO, intent, HOME_NET, Connect())
    assert intent == Intent(chosen="home")
    assert answer == Answer("connecting by home")


def test_nobody_connects_otherwise_than_policy_says() -> None:
    """What policy.d prefers is the tunnel, also for who had chosen another before."""
    ruled = replace(TWO, prefer=("work",), locked=frozenset({"tunnel.prefer"}))

    intent, answer = memory.update(ruled, Intent(), HOME_NET, Connect("home"))
    assert intent == Intent()
    assert answer == Refusal("policy", "policy says that the tunnel is work", "aovpnctl connect")

    _, answer = memory.update(ruled, Intent(chosen="home"), HOME_NET, Connect())
    assert answer == Answer("connecting by work")


def test_a_broken_file_does_not_make_another_the_only_one() -> None:
    """Which gateway is meant is not clear then, so there is none."""
    one = Config(tunnels=TWO.tunnels[:1], broken=frozenset({"office"}))

    _, answer = memory.update(one, Intent(), HOME_NET, Connect())

    assert isinstance(answer, Refusal)
    assert answer.code == "tunnel-not-chosen"


@pytest.mark.parametrize(
    ("config", "command", "refusal"),
    [
        pytest.param(
            TWO,
            Connect("gone"),
            Refusal("tunnel-unknown", "there is no tunnel called gone", "there are: work, home"),
            id="unknown",
        ),
        pytest.param(
            Config(),
            Connect("gone"),
            Refusal("tunnel-unknown", "there is no tunnel called gone", "none is configured"),
            id="unknown, none there",
        ),
        pytest.param(
            TWO,
            Connect(),
            Refusal("tunnel-not-chosen", "no tunnel to connect", "aovpnctl connect NAME, with one of: work, home"),
            id="which one",
        ),
        pytest.param(
            Config(),
            Connect(),
            Refusal("tunnel-not-chosen", "no tunnel to connect", "put a wg-quick file into the tunnels directory"),
            id="none there",
        ),
    ],
)
def test_what_cannot_be_connected(config: Config, command: Connect, refusal: Refusal) -> None:
    """The hint says what there is."""
    assert memory.update(config, Intent(), HOME_NET, command) == (Intent(), refusal)


def test_reload_changes_no_memory() -> None:
    """The configuration is the loop's business."""
    assert memory.update(ONE, SHOOK, SHAKEN, Reload()) == (SHOOK, Answer("configuration read again"))


# -- what only the desktop's services know ----------------------------------------------------------------------------
def test_sleep_closes_the_window_and_keeps_the_rest() -> None:
    """Before the machine sleeps the window is closed for good; what it cost stays counted."""
    open_window = granted(Config(), Intent(), HOME_NET)
    new, answer = memory.update(Config(), open_window, HOME_NET, PrepareSleep())

    assert new == replace(open_window, grant=None)
    assert answer == Answer("nothing is left open")
    assert memory.kept(new) == memory.kept(open_window)


def test_waking_changes_nothing() -> None:
    """It only means: look again."""
    open_window = granted(Config(), Intent(), HOME_NET)

    assert memory.update(Config(), open_window, HOME_NET, Woke()) == (open_window, Answer("looked again"))


def test_names_of_networks_are_shown_and_change_nothing() -> None:
    """A name tells people where they are; the last report replaces the ones before, and decides nothing."""
    named, answer = memory.update(Config(), Intent(), HOME_NET, NameNetworks((("wlan0", "CoffeeShop"),)))

    assert named == replace(Intent(), network_names=(("wlan0", "CoffeeShop"),))
    assert answer == Answer("names taken down")
    assert (named.network_name("wlan0"), named.network_name("eth0")) == ("CoffeeShop", None)
    assert decide(Config(), named, HOME_NET) == decide(Config(), Intent(), HOME_NET)
    assert memory.update(Config(), named, HOME_NET, NameNetworks(()))[0] == Intent()


# -- looking at the world ----------------------------------------------------------------------------------------------
def test_culprit_is_remembered() -> None:
    """Who removed our table is remembered, with the time."""
    seen = memory.settle(Config(), Intent(), replace(HOME_NET, culprit="nft[77]"))

    assert (seen.removed_by, seen.removed_at) == ("nft[77]", NOW)
    assert memory.settle(Config(), seen, at(HOME_NET, NOW + 9)).removed_by == "nft[77]"


@pytest.mark.parametrize(
    ("age_s", "link_up", "proved", "adopted"),
    [
        pytest.param(10, True, PATH.fingerprint(), True, id="a fresh session"),
        pytest.param(179, True, PATH.fingerprint(), True, id="just fresh enough"),
        pytest.param(180, True, PATH.fingerprint(), False, id="too old to prove anything"),
        pytest.param(-1, True, PATH.fingerprint(), False, id="in the future: the wall clock was set"),
        pytest.param(10, False, PATH.fingerprint(), False, id="its link is down"),
        pytest.param(10, True, ELSEWHERE.fingerprint(), False, id="over another path"),
        pytest.param(10, True, "", False, id="over who knows what"),
    ],
)
def test_adoption_after_a_restart(age_s: int, *, link_up: bool, proved: str, adopted: bool) -> None:
    """A tunnel of ours that shook hands a moment ago over this very path is taken over without a new handshake;
    anything else is not: the daemon may have died while the laptop was on its way to another network.
    """
    state = state_of(WORK, replace(AOVPN, up=link_up), int(HOME_NET.now.wall) - age_s)
    snapshot = replace(HOME_NET, links=(*HOME_NET.links, state.link), tunnels=(state,))
    seen = memory.settle(ONE, Intent(proved=proved), snapshot)

    assert (seen.provoked == Provoked(PATH, NOW, 0)) is adopted
    assert (seen.connected_at == NOW) is adopted


def test_adoption_only_after_a_restart() -> None:
    """A path that we have provoked is not adopted for another one: only a new handshake proves it."""
    intent = Intent(provoked=Provoked(ELSEWHERE, NOW - 50), proved=PATH.fingerprint())

    assert memory.settle(ONE, intent, SHAKEN).provoked == intent.provoked
    assert memory.settle(ONE, intent, SHAKEN).connected_at is None


def test_no_adoption_of_anything_else() -> None:
    """Without an uplink, or by a link that has another key, nothing is adopted."""
    before = Intent(proved=PATH.fingerprint())
    assert memory.settle(ONE, before, replace(SHAKEN, main=())).provoked is None
    assert memory.settle(ONE, before, replace(SHAKEN, tunnels=(state_of(HOME, AOVPN, 1_699_999_990),))).provoked is None
    assert memory.settle(ONE, before, UP).provoked is None


def test_connected_since() -> None:
    """The moment of connecting is kept while connected, and forgotten with it."""
    first = memory.settle(ONE, SHOOK, SHAKEN)
    second = memory.settle(ONE, first, at(SHAKEN, NOW + 50))
    lost = memory.settle(ONE, second, at(replace(SHAKEN, main=()), NOW + 60))

    assert (first.connected_at, second.connected_at, lost.connected_at) == (NOW, NOW, None)


def test_what_was_heard_goes_with_the_link() -> None:
    """Counters belong to a link; a new one starts anew."""
    seen = memory.settle(ONE, SHOOK, SHAKEN)

    assert seen.heard is not None
    assert memory.settle(ONE, seen, HOME_NET).heard is None


def test_old_uses_are_forgotten() -> None:
    """Only the last hour's count."""
    assert memory.settle(Config(), Intent(used=(NOW - 3600, NOW - 3599)), HOME_NET).used == (NOW - 3599,)


# -- after an action ---------------------------------------------------------------------------------------------------
SHAKE: Final = EnsureTunnel(TunnelWish(WORK, "aovpn0", LinkWish.UP, PATH))
LOAD: Final = LoadRuleset(None)


def test_provoking_is_counted_per_path() -> None:
    """Attempts on one path add up, and a new path starts at one."""
    once = memory.performed(Intent(), SHAKE, NOW)
    twice = memory.performed(once, SHAKE, NOW + 10)
    moved = replace(PATH, endpoints=(Endpoint(ip_address("192.0.2.9"), 51820),))
    elsewhere = memory.performed(twice, replace(SHAKE, wish=replace(SHAKE.wish, path=moved)), NOW + 20)

    assert once.provoked == Provoked(PATH, NOW, 1)
    assert twice.provoked == Provoked(PATH, NOW + 10, 2)
    assert elsewhere.provoked == Provoked(moved, NOW + 20, 1)
    mended = memory.performed(twice, replace(SHAKE, wish=replace(SHAKE.wish, path=None)), NOW + 30)
    assert mended.provoked == twice.provoked


def test_failures_back_off() -> None:
    """The same action fails later and later, a ruleset never later than two seconds, and a success forgets."""
    intent = Intent()
    waits = []
    for _ in range(12):
        intent = memory.failed(intent, SHAKE, NOW, "no", "hint")
        waits.append(round(intent.failures[0].retry_at - NOW, 1))

    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0, 30.0, 30.0]
    assert intent.failures == (Failure("EnsureTunnel", 12, NOW + 30, "no", "hint"),)

    for _ in range(30):
        intent = memory.failed(intent, LOAD, NOW, "no", "")
    assert [failure.retry_at - NOW for failure in intent.failures] == [30.0, 2.0]
    assert [f.action for f in memory.performed(intent, SHAKE, NOW).failures] == ["LoadRuleset"]


def test_failures_of_what_nobody_wants_are_forgotten() -> None:
    """A failure is a problem only while its action is still wanted."""
    intent = memory.failed(memory.failed(Intent(), SHAKE, NOW, "no", ""), LOAD, NOW, "no", "")

    assert [f.action for f in memory.forget(intent, (LOAD,)).failures] == ["LoadRuleset"]
    assert memory.forget(intent, (EnsureGuard(HOME_NET.guard),)).failures == ()


@pytest.mark.parametrize("openers", Openers)
@pytest.mark.parametrize("door", Door)
def test_root_alone_may_open_where_the_configuration_says_so(openers: Openers, door: Door) -> None:
    """Then whatever comes over D-Bus opens nothing, by whomever it was authorised; it closes, connects and disconnects
    as ever, and root opens over the control socket as ever.
    """
    config = replace(ONE, openers=openers)
    opening: tuple[Command, ...] = (AllowTemporary(60, "", "alice", door), SetBlock(Block.OFF, door))
    tightening: tuple[Command, ...] = (SetBlock(Block.ON, door), CancelTemporary(), Disconnect(), Connect(), Reload())
    refused = openers is Openers.ROOT and door is Door.BUS
    for command in opening:
        before = Intent()
        after, answer = memory.update(config, before, HOME_NET, command)
        assert isinstance(answer, Refusal) is refused, command
        if refused:
            assert (after, answer) == (
                before,
                Refusal("root-only", "the configuration lets root alone open the network", "[dbus] open"),
            )
    for command in tightening:
        assert isinstance(memory.update(config, Intent(), HOME_NET, command)[1], Answer)

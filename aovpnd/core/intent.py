# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory: how `Intent` changes, and by what. Everything else is derived.

* ``update``: a command, answered by an `Answer` or a `Refusal`
* ``settle``: what looking at the world alone changes
* ``performed``, ``failed``, ``forget``: what became of an action
* ``learn``: what a question was answered with
"""

from dataclasses import replace
from typing import Final, assert_never

from aovpnd import names
from aovpnd.clock import Clock
from aovpnd.confirmation import Standing
from aovpnd.core import (
    browser,
    companions,
    confirming,
    endpoints,
    failover,
    fights,
    health,
    lookups,
    mtu,
    plan,
    problems,
    rest,
    sleep,
    sockets,
    told,
)
from aovpnd.core.uplinks import uplinks
from aovpnd.core.view import View, as_made, choose, is_configured, order, preferred, view
from aovpnd.doors import Door, Openers, WhileConnected
from aovpnd.gateways import Gateways, Provoked, Role
from aovpnd.inquiries import (
    Finding,
    LookedUp,
    Measured,
    MeasurePath,
    ProbeTunnel,
    Reached,
    Unanswered,
    Visited,
    VisitPage,
)
from aovpnd.links import uplink_kind
from aovpnd.model import (
    Block,
    Config,
    Enabled,
    Grant,
    GrantKind,
    Intent,
    Phase,
    Snapshot,
    Wish,
)
from aovpnd.orders import (
    Action,
    AllowTemporary,
    Answer,
    CancelTemporary,
    CloseSockets,
    Command,
    Confirm,
    Connect,
    Disconnect,
    EnsureTunnel,
    NameNetworks,
    PrepareSleep,
    Refusal,
    Reload,
    SetBlock,
    SignedIn,
    Woke,
)
from aovpnd.resting import Shake

HOUR_S: Final = 3600.0
REASON_LENGTH: Final = 200
"""Characters of a reason that are kept."""


# -- commands ----------------------------------------------------------------------------------------------------------
def update(config: Config, intent: Intent, snapshot: Snapshot, command: Command) -> tuple[Intent, Answer | Refusal]:
    """Carry out ``command`` in the memory; a `Refusal` leaves it as it was."""
    match command:
        case AllowTemporary(by=Door.BUS) | SetBlock(Block.OFF, by=Door.BUS) if config.openers is Openers.ROOT:
            return intent, Refusal("root-only", "the configuration lets root alone open the network", "[dbus] open")
        case AllowTemporary():
            return _allow(config, intent, snapshot, command)
        case CancelTemporary():
            text = "temporary access ended" if intent.grant is not None else "there was no temporary access"
            return replace(intent, grant=None), Answer(text)
        case Connect(name):
            return _connect(config, intent, name)
        case Disconnect():
            text = "disconnected; the block stays (to get online without the tunnel for a while: aovpnctl allow-temp)"
            return replace(intent, wish=Wish.DISCONNECT), Answer(text)
        case SetBlock(block):
            return _set_block(config, intent, snapshot, block)
        case Confirm():
            return confirming.confirm(intent)
        case Reload():
            return intent, Answer("configuration read again")
        case PrepareSleep() | Woke() | NameNetworks() | SignedIn():
            return told.hear(config, intent, snapshot, command)
        case _:
            assert_never(command)


def _set_block(config: Config, intent: Intent, snapshot: Snapshot, block: Block) -> tuple[Intent, Answer]:
    intent = replace(intent, block=block, undone_at=None)
    if block is Block.OFF:
        return replace(intent, grant=None), Answer("the block is off for good (to put it on: aovpnctl block)")
    intent = confirming.settle(config, intent, snapshot)
    return intent, confirming.blocked(intent)


def _connect(config: Config, intent: Intent, name: str | None) -> tuple[Intent, Answer | Refusal]:
    known = ", ".join(spec.name for spec in config.tunnels)
    if name is not None and config.tunnel(name) is None:
        return intent, Refusal(
            "tunnel-unknown",
            f"there is no tunnel called {name}",
            f"there are: {known}" if known else "none is configured",
        )
    key, wanted_here = preferred(config, intent)
    if name is not None and key in config.locked and (name,) != wanted_here:
        said = ", then ".join(wanted_here)
        return intent, Refusal("policy", f"policy says that the tunnel is {said}", "aovpnctl connect")
    if name is not None and key == names.DEVICE and name not in wanted_here:
        carries = f"the tunnel is {', then '.join(wanted_here)}" if wanted_here else "there is no tunnel"
        return intent, Refusal("nobody-logged-in", f"while nobody is logged in {carries}", f"log in, or change {key}")
    wanted = replace(intent, wish=Wish.CONNECT, chosen=name, rest=None)
    if name is None and not order(config, wanted):  # there is no order to go back to
        wanted = replace(wanted, chosen=intent.chosen)
    if wanted.chosen != intent.chosen or intent.wish is Wish.DISCONNECT:
        # Whoever asks gets the first of the order, whatever was found out before.
        wanted = replace(wanted, gateways=replace(intent.gateways, carrier=None, left=(), trial=None))
        if intent.provoked is not None and intent.provoked.attempts:  # not connected: it begins anew, at once
            wanted = replace(wanted, provoked=None)
    elif name is None:  # the better ones are worth a trial now, beside the one that carries
        soon = tuple(replace(left, retry_at=0.0) for left in intent.gateways.left)
        wanted = replace(wanted, gateways=replace(intent.gateways, left=soon))
    spec = choose(config, wanted)
    if spec is None:
        hint = (
            f"aovpnctl connect NAME, with one of: {known}"
            if known
            else "put a wg-quick file into the tunnels directory"
        )
        return intent, Refusal("tunnel-not-chosen", "no tunnel to connect", hint)
    return wanted, Answer(f"connecting by {spec.name}")


def _allow(
    config: Config, intent: Intent, snapshot: Snapshot, command: AllowTemporary
) -> tuple[Intent, Answer | Refusal]:
    policy, now = config.temporary_access, snapshot.now.boot
    seen = view(config, intent, snapshot)
    duration = policy.duration_s if command.duration_s is None else command.duration_s
    used = _this_hour(intent, now)
    refusal = None
    if seen.phase is Phase.UNBLOCKED:
        refusal = Refusal("not-blocked", "the block is off, there is nothing to open", "to put it on: aovpnctl block")
    elif policy.enabled is Enabled.NO or policy.per_hour == 0:
        refusal = Refusal("policy", "the configuration does not permit temporary access", "[temporary_access] enabled")
    elif not 0 < duration <= policy.max_s:
        refusal = Refusal("too-long", f"{duration} s is not between 1 s and {policy.max_s} s", "ask for less")
    elif seen.sealed:
        text = "the ruleset cannot be loaded, so nothing may be opened"
        refusal = Refusal("not-filtering", text, "for the reason: aovpnctl status")
    elif not seen.uplinks:
        refusal = Refusal("no-uplink", "there is no network to open", "connect to a network first")
    elif seen.phase is Phase.CONNECTED and policy.while_connected is WhileConnected.REFUSE:
        refusal = Refusal(
            "connected",
            "the tunnel is up, so the internet is already there",
            'to pause it: [temporary_access] while_connected = "pause"',
        )
    elif seen.grant is None and intent.unread_at is not None:
        wait = int(intent.unread_at + HOUR_S - now) + 1
        refusal = Refusal("budget", problems.UNREAD, f"again in {wait // 60 + 1} min; {problems.MEND_RECORD}")
    elif seen.grant is None and len(used) >= policy.per_hour:
        wait = int(used[-policy.per_hour] + HOUR_S - now) + 1
        refusal = Refusal(
            "budget", f"{policy.per_hour} times an hour is all that is permitted", f"again in {wait // 60 + 1} min"
        )
    if refusal is not None:
        return intent, refusal
    return _grant(intent, seen, command, duration, snapshot.now)


def _grant(
    intent: Intent, seen: View, command: AllowTemporary, duration: int, now: Clock
) -> tuple[Intent, Answer | Refusal]:
    uplink = seen.uplinks[0]
    used = _this_hour(intent, now.boot)
    if seen.grant is not None:  # one window at a time: a second request neither adds to it nor costs anything
        left = int(seen.grant.expires_at - now.boot)
        return intent, Refusal(
            "already",
            f"temporary access is already open for another {left} s",
            "to end it: aovpnctl allow-temp --cancel",
        )
    grant = Grant(
        kind=GrantKind.PAUSE if seen.phase is Phase.CONNECTED else GrantKind.ACCESS,
        link=uplink.link.index,
        link_name=uplink.link.name,
        network=uplink.network,
        granted_at=now.boot,
        expires_at=now.boot + duration,
        granted_to=command.user,
        reason=command.reason[:REASON_LENGTH],
    )
    return replace(intent, grant=grant, used=(*used, now.boot)), Answer("temporary access is open", grant.expires_at)


def _this_hour(intent: Intent, now: float) -> tuple[float, ...]:
    return tuple(at for at in intent.used if now - at < HOUR_S)


def kept(intent: Intent) -> tuple[object, ...]:
    """What of the memory must be on disk before a command that changes it is carried out."""
    return intent.used, intent.chosen, intent.confirmation.standing is Standing.GIVEN


# -- looking at the world ----------------------------------------------------------------------------------------------
def settle(config: Config, intent: Intent, snapshot: Snapshot) -> Intent:
    """What the world itself ends or begins; called once at the start of every pass."""
    intent = confirming.settle(config, intent, snapshot)
    unread = intent.unread_at is not None and snapshot.now.boot - intent.unread_at < HOUR_S
    intent = replace(intent, unread_at=intent.unread_at if unread else None)
    intent = sleep.settle(replace(intent, used=_this_hour(intent, snapshot.now.boot)), snapshot.now)
    if snapshot.culprit is not None:
        intent = replace(intent, removed_by=snapshot.culprit, removed_at=snapshot.now.boot)
    intent = _here(config, _take_over(config, intent, snapshot), snapshot)
    seen, before = view(config, intent, snapshot), (intent.rest, intent.provoked)
    intent = rest.settle(config, intent, seen, snapshot.now)
    if (intent.rest, intent.provoked) != before:
        seen = view(config, intent, snapshot)
    intent = _listen(companions.settle(intent, seen, snapshot.now), seen, snapshot.now)
    connected = intent.rest is None and health.is_connected(intent, seen.state, seen.path, snapshot.now)
    intent = _connected(intent, seen, snapshot.now.boot) if connected else replace(intent, connected_at=None)
    intent = sleep.shaken(intent, seen, connected=connected)
    if connected and intent.provoked is not None:
        intent = replace(intent, provoked=replace(intent.provoked, attempts=0))
    intent = replace(intent, path_mtu=mtu.settle(intent, snapshot, seen.spec, seen.state, seen.path))
    intent = replace(intent, visit=browser.settle(config, intent, seen, snapshot.now))
    intent = _look_up(config, intent, seen, snapshot, connected=connected)
    intent = sockets.forget(replace(intent, grant=_surviving(seen, connected=connected)), seen.phase)
    gateways = _gateways(intent, view(config, intent, snapshot), snapshot)
    if gateways.carrier != intent.gateways.carrier:  # what was doubted of this path was found out in another time
        intent = replace(intent, doubt=None, hosts=endpoints.afresh(intent.hosts))
    return replace(intent, gateways=gateways)


def _here(config: Config, intent: Intent, snapshot: Snapshot) -> Intent:
    """Another kind of uplink, or nobody logged in, may have an order of its own, which then begins with its first;
    without an uplink the kind of the last one stays, so that nothing is made anew for a moment without one.
    """
    found = uplinks(snapshot)
    kind = uplink_kind(found[0].link) if found else intent.uplink_kind
    here = replace(intent, uplink_kind=kind, logins=snapshot.logins)
    if preferred(config, here)[1] == preferred(config, intent)[1]:
        return here
    return replace(here, gateways=replace(intent.gateways, carrier=None, left=(), trial=None))


def _connected(intent: Intent, seen: View, now: float) -> Intent:
    """Since when, and what the link's counters were then: it may have carried another tunnel before."""
    if intent.connected_at is not None or seen.state is None:
        return intent
    return replace(intent, connected_at=now, counted_from=(seen.state.got_bytes, seen.state.put_bytes))


def _gateways(intent: Intent, seen: View, snapshot: Snapshot) -> Gateways:
    """Remember the link as it was verified, and let fail-over look."""
    made = intent.gateways.made
    if seen.spec is not None and seen.state is not None and is_configured(seen.spec, seen.state, snapshot):
        made = as_made(seen.state, seen.filters, seen.use)
    elif seen.state is None:
        made = None
    return failover.settle(replace(intent.gateways, made=made), intent, seen, snapshot.now)


def _look_up(config: Config, intent: Intent, seen: View, snapshot: Snapshot, *, connected: bool) -> Intent:
    """Whose turn it is of gateways' addresses, and whether a name has to be looked up."""
    if seen.spec is not None and seen.reach is not None and intent.rest is None:
        if connected:
            hosts = endpoints.succeed(intent.hosts, seen.spec, seen.reach)
        else:
            hosts = endpoints.turn(intent, seen.spec, seen.path, seen.reach, snapshot.now.boot)
        intent = replace(intent, hosts=hosts)
    intent = replace(intent, hosts=companions.hosts(intent, seen, snapshot.now))
    return lookups.settle(config, intent, companions.asking(config, intent, seen, snapshot.now), snapshot, seen.uplinks)


def _surviving(seen: View, *, connected: bool) -> Grant | None:
    """A grant ends for good by time, by roaming, and by the success of the tunnel that it was asked for."""
    if seen.grant is not None and seen.grant.kind is GrantKind.ACCESS and connected:
        return None
    return seen.grant


def _take_over(config: Config, intent: Intent, snapshot: Snapshot) -> Intent:
    """After a restart, go on with the tunnel of the order that the daemon before us was connected by."""
    if intent.provoked is not None or not intent.proved:
        return intent
    for spec in order(config, intent):
        carried_on = replace(intent, gateways=replace(intent.gateways, carrier=spec.name))
        adopted = _adopt(carried_on, view(config, carried_on, snapshot), snapshot.now)
        if adopted.provoked is not None:
            return adopted
    return intent


def _adopt(intent: Intent, seen: View, now: Clock) -> Intent:
    """After a restart, a tunnel of ours that shook hands a moment ago, over this very path, is taken over as it is."""
    if intent.provoked is not None or seen.state is None or seen.path is None or seen.state.handshake_wall is None:
        return intent
    if intent.proved != seen.path.fingerprint():
        return intent
    fresh = 0 <= now.wall - seen.state.handshake_wall < health.FRESH_SESSION_S
    return replace(intent, provoked=Provoked(seen.path, now.boot)) if fresh and seen.state.link.up else intent


def _listen(intent: Intent, seen: View, now: Clock) -> Intent:
    doubt = intent.doubt
    if doubt is not None and doubt.at is None:
        doubt = replace(doubt, at=now.boot)
    if seen.state is None:
        return replace(intent, heard=None, returned=None, doubt=doubt)
    if intent.returned is not None and health.has_data_come(intent.returned, seen.state, now):
        doubt = None
        intent = replace(intent, data_at=now.boot)
    heard, returned = intent.heard, intent.returned
    if heard is not None and health.has_sent(heard, seen.state, now):
        intent = replace(intent, sent_at=now.boot)
    return replace(
        intent,
        heard=health.listen(heard, seen.state, now),
        returned=health.listen_for_data(returned, seen.state, now),
        doubt=doubt,
    )


# -- after an action ---------------------------------------------------------------------------------------------------
def performed(intent: Intent, action: Action, now: float) -> Intent:
    """The memory after ``action`` succeeded at ``now`` (CLOCK_BOOTTIME)."""
    repairs = fights.repaired(intent, action, now)
    intent = replace(intent, failures=plan.succeeded(intent.failures, action), repairs=repairs)
    if isinstance(action, CloseSockets):
        return replace(intent, swept=action.sweep.why)
    if isinstance(action, EnsureTunnel) and action.wish.role is not Role.CARRIES:
        return companions.performed(intent, action, now) if action.wish.role is Role.COMPANION else intent
    if isinstance(action, EnsureTunnel) and action.wish.path is not None and action.wish.shake is Shake.WANTED:
        return rest.performed(intent, action)
    if isinstance(action, EnsureTunnel) and action.wish.path is not None:
        provoked = health.provoked(intent.provoked, action.wish.path, now)
        if intent.provoked is not None and intent.provoked.path.tunnel != action.wish.path.tunnel:
            intent = replace(intent, connected_at=None)  # it may answer before anybody looks again
        return replace(intent, provoked=provoked, heard=None, returned=None)
    return intent


def forget(intent: Intent, wanted: tuple[Action, ...]) -> Intent:
    """The memory without the failures of what is no longer wanted."""
    kinds = {plan.name_of(action) for action in wanted}
    return replace(intent, failures=tuple(failure for failure in intent.failures if failure.action in kinds))


def failed(intent: Intent, action: Action, now: float, text: str, hint: str) -> Intent:
    """The memory after ``action`` failed at ``now``: it is tried again later, and nothing loosens meanwhile."""
    return replace(intent, failures=plan.failed(intent.failures, action, now, text, hint))


# -- after an inquiry --------------------------------------------------------------------------------------------------
def learn(intent: Intent, finding: Finding) -> Intent:
    """The memory after a question was answered, or was not."""
    match finding:
        case Reached(inquiry):
            return replace(intent, doubt=health.doubted(intent, inquiry.path, unanswered=0, answered=1))
        case Unanswered(ProbeTunnel() as inquiry):
            if browser.wanted(intent, inquiry.path) is not None:
                return intent  # nothing behind the gateway answers whoever has not signed in
            return replace(intent, doubt=health.doubted(intent, inquiry.path, unanswered=1, answered=0))
        case Visited(inquiry) | Unanswered(VisitPage() as inquiry):
            return browser.learn(intent, inquiry, finding)
        case Measured(inquiry, size):
            return replace(intent, path_mtu=mtu.learn(intent.path_mtu, inquiry, size))
        case Unanswered(MeasurePath() as inquiry):
            return replace(intent, path_mtu=mtu.learn(intent.path_mtu, inquiry, None))
        case LookedUp() | Unanswered():
            return lookups.learn(intent, finding)
        case _:
            assert_never(finding)

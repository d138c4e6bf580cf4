# SPDX-License-Identifier: GPL-3.0-or-later
"""A first block undoes itself where it may have cut somebody off, and no other ever does."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import pytest

from aovpnd import names
from aovpnd.clock import Clock
from aovpnd.confirmation import (
    CONFIRM_WITHIN_S,
    GIVEN,
    NEEDLESS,
    NEVER,
    Confirmation,
    Logins,
    Standing,
    awaited,
    parse,
    spell,
)
from aovpnd.core import intent as memory
from aovpnd.core.decide import decide
from aovpnd.model import Block, Config, GuardState, Intent, Phase, Problem, Severity, Snapshot
from aovpnd.orders import CloseSockets, Confirm, KeepConfirmation, LoadRuleset, MarkUnblocked, SetBlock
from aovpnd.routes import Routing
from tests.unit import spec_confirming as spec
from tests.unit.small_world import CLOCK, NOW, WORK
from tests.unit.world import Laptop

BOOT: Final = "0a1b2c3d-0a1b-2c3d-4e5f-0a1b2c3d4e5f"
ONE: Final = Config((WORK,))
MANDATORY: Final = replace(ONE, locked=frozenset({"lan.allow"}))
UNREADABLE: Final = replace(ONE, problems=(Problem(names.CONFIG_CLOSED, Severity.WARNING, "nothing can be read"),))
BROKEN_TUNNEL: Final = replace(ONE, problems=(Problem("config-invalid", Severity.ERROR, "home.conf is broken"),))


def remote(config: Config = ONE) -> Laptop:
    """A laptop that was never blocked, on which somebody is logged in over the network."""
    machine = Laptop(config, Intent(confirmation=NEVER))
    machine.snapshot = replace(machine.snapshot, confirmation=NEVER, logins=Logins.REMOTE)
    machine.join("home")
    return machine


def later(machine: Laptop) -> None:
    """An hour passes."""
    machine.tick(3600.0)
    machine.settle()


def blocks(machine: Laptop) -> bool:
    """Whether a table of ours is loaded."""
    return machine.snapshot.ruleset is not None


def codes(machine: Laptop) -> list[str]:
    """The problems that status shows of this."""
    found = decide(machine.config, machine.intent, machine.snapshot).problems
    return [problem.code for problem in found if problem.code.startswith("block-")]


# -- what undoes itself ------------------------------------------------------------------------------------------------
def test_first_block_undoes_itself() -> None:
    """After a minute, to the moment, as if an administrator had taken it off; status says both, with what to do."""
    machine = remote()
    machine.settle()
    said = decide(machine.config, machine.intent, machine.snapshot)
    problem = next(problem for problem in said.problems if problem.code == "block-unconfirmed")
    assert (problem.severity, problem.until) == (Severity.WARNING, NOW + CONFIRM_WITHIN_S)
    assert "aovpnctl confirm" in problem.hint
    assert blocks(machine)

    machine.wait(CONFIRM_WITHIN_S - 0.1)
    assert (blocks(machine), machine.snapshot.unblocked) == (True, False)
    machine.wait(0.1)

    assert (machine.phase, machine.snapshot.unblocked) == (Phase.UNBLOCKED, True)
    assert not blocks(machine)
    assert machine.snapshot.routing == Routing((), (), machine.snapshot.routing.sysctls)
    assert machine.snapshot.confirmation == NEVER
    assert codes(machine) == ["block-undone"]
    machine.restart(reboot=True)
    machine.settle()
    assert machine.phase is Phase.UNBLOCKED, "and stays off"


def test_the_moment_wakes_the_loop() -> None:
    """Where nothing else moves, the end of the minute is what the daemon wakes for."""
    silent = Snapshot(CLOCK, guard=GuardState.HELD, table_present=True)
    waits = Intent(confirmation=Confirmation(Standing.AWAITED, NOW + 7.5))

    assert decide(Config(), waits, silent).wake_at == NOW + 7.5
    assert decide(Config(), Intent(), silent).wake_at is None


def test_connections_are_not_closed_meanwhile() -> None:
    """Who was cut off finds his connection again; once the block stands for good, old ones are closed as ever."""
    undone, kept = remote(), remote()
    for machine in (undone, kept):
        machine.wait(30.0)
        assert not any(isinstance(action, CloseSockets) for action in machine.done)

    undone.wait(60.0)
    kept.settle(Confirm())

    assert not any(isinstance(action, CloseSockets) for action in undone.done)
    assert any(isinstance(action, CloseSockets) for action in kept.done)


def test_confirmed_once_it_never_undoes_itself() -> None:
    """Within the minute, or before there was any block; nor does any later one."""
    in_time, in_advance = remote(), remote()
    in_time.wait(59.0)
    in_advance.look(Confirm())

    for machine in (in_time, in_advance):
        machine.settle(Confirm())
        assert machine.snapshot.confirmation == GIVEN
        later(machine)
        machine.settle(SetBlock(Block.OFF))
        machine.wait(1.0)
        machine.settle(SetBlock(Block.ON))
        later(machine)
        machine.restart(reboot=True)
        machine.snapshot = replace(machine.snapshot, logins=Logins.REMOTE)
        later(machine)
        assert (blocks(machine), codes(machine)) == (True, [])


def test_confirm_says_what_it_did() -> None:
    """It is idempotent, and says whether it was needed."""
    texts = []
    for standing in Standing:
        intent, answer = memory.update(ONE, Intent(confirmation=Confirmation(standing)), Snapshot(CLOCK), Confirm())
        assert intent.confirmation == GIVEN
        texts.append(getattr(answer, "text", ""))

    assert texts == [
        "confirmed: the first block will stay, whoever is logged in over the network",
        "confirmed: the block stays",
        *["there was nothing to confirm: the block does not undo itself"] * 2,
    ]


def test_block_by_command_undoes_itself_as_well() -> None:
    """The first one may come by `aovpnctl block`, after one that was undone; its answer has the moment."""
    machine = remote()
    machine.wait(90.0)
    assert machine.phase is Phase.UNBLOCKED
    again = machine.snapshot.now.boot

    machine.look(SetBlock(Block.ON))
    answer = machine.last_answer
    machine.settle()

    assert answer is not None
    assert "aovpnctl confirm" in answer.text
    assert getattr(answer, "expires_at", None) == again + CONFIRM_WITHIN_S
    assert (blocks(machine), codes(machine)) == (True, ["block-unconfirmed"])
    machine.wait(61.0)
    assert (blocks(machine), codes(machine)) == (False, ["block-undone"])
    machine.snapshot = replace(machine.snapshot, logins=Logins.LOCAL)
    machine.settle(SetBlock(Block.ON))
    later(machine)
    assert (blocks(machine), codes(machine)) == (True, [])


def test_unblock_within_the_minute() -> None:
    """It is an administrator's, and no undoing: nothing is confirmed by it, and nothing said of it."""
    machine = remote()
    machine.settle()
    machine.settle(SetBlock(Block.OFF))
    machine.wait(90.0)

    assert (machine.phase, machine.snapshot.confirmation, codes(machine)) == (Phase.UNBLOCKED, NEVER, [])


# -- what does not -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("why", ["nobody is there", "policy", "settings that nobody can read", "early boot", "routing"])
def test_it_stays(why: str) -> None:
    """Nobody whom it could cut off, a mandatory policy, or one that may be, or a block that stands already: it stays,
    and needs nobody's word, who comes later notwithstanding.
    """
    machine = remote({"policy": MANDATORY, "settings that nobody can read": UNREADABLE}.get(why, ONE))
    match why:
        case "nobody is there":
            machine.snapshot = replace(machine.snapshot, logins=Logins.LOCAL)
        case "early boot":
            machine.snapshot = replace(machine.snapshot, table_present=True)
        case "routing":
            machine.snapshot = replace(machine.snapshot, routing=Routing((4, 6), ()))
        case _:
            pass
    machine.settle()
    machine.snapshot = replace(machine.snapshot, logins=Logins.REMOTE)
    machine.config = ONE
    machine.restart()
    later(machine)

    assert (blocks(machine), machine.snapshot.confirmation) == (True, NEEDLESS)


def test_broken_tunnel_file_does_not_shut_out() -> None:
    """A file that is wrong is no policy."""
    machine = remote(BROKEN_TUNNEL)
    machine.wait(61.0)

    assert machine.phase is Phase.UNBLOCKED


def test_policy_comes_within_the_minute() -> None:
    """From then on the block is not the machine's own to take off."""
    machine = remote()
    machine.settle()
    machine.config = MANDATORY
    later(machine)

    assert (blocks(machine), machine.snapshot.confirmation) == (True, NEEDLESS)


# -- the daemon dies ---------------------------------------------------------------------------------------------------
def test_killed_after_every_action() -> None:
    """Wherever in the minute, in its beginning or its end the daemon is killed: the block undoes itself, once, and not
    before its time.
    """
    for passes, actions in itertools.product(range(4), range(6)):
        machine = remote()
        for _ in range(passes):
            machine.look()
        machine.look(stop_after=actions)
        machine.restart()
        machine.settle()
        began = isinstance(machine.done[0], KeepConfirmation) and machine.snapshot.confirmation.until == NOW + 60
        assert began, (passes, actions)
        machine.tick(59.9)
        machine.settle()
        assert blocks(machine), (passes, actions)
        machine.tick(0.1)
        machine.look(stop_after=actions)
        machine.restart()
        machine.settle()
        assert machine.phase is Phase.UNBLOCKED, (passes, actions)
        assert (not blocks(machine), machine.snapshot.unblocked) == (True, True), (passes, actions)
        assert machine.snapshot.confirmation == NEVER, (passes, actions)


@pytest.mark.parametrize("reboot", [False, True])
def test_nobody_runs_the_daemon_when_the_time_comes(*, reboot: bool) -> None:
    """The block stands as long as there is no daemon, and longer than a boot; the next daemon undoes it."""
    machine = remote()
    machine.settle()
    machine.tick(5.0 if reboot else 7200.0)
    assert blocks(machine)
    machine.restart(reboot=reboot)
    machine.snapshot = replace(machine.snapshot, table_present=True)  # early boot's
    machine.settle()

    assert (machine.phase, machine.snapshot.unblocked) == (Phase.UNBLOCKED, True)


def test_disk_that_takes_nothing() -> None:
    """The block goes up all the same, and undoes itself; after a crash nobody knows of its minute, and it stays."""
    for crash in (False, True):
        machine = remote()
        machine.fails = {KeepConfirmation}
        machine.settle()
        assert blocks(machine)
        if crash:
            machine.restart()
            machine.snapshot = replace(machine.snapshot, table_present=True)
        machine.wait(90.0)

        assert blocks(machine) is crash


def test_undoing_that_fails_is_tried_again() -> None:
    """The table that cannot be removed stays, and what is remembered does not run ahead of it."""
    machine = remote()
    machine.settle()
    machine.fails = {LoadRuleset}
    machine.wait(61.0)
    assert (blocks(machine), machine.snapshot.confirmation.standing) == (True, Standing.AWAITED)
    assert not machine.snapshot.unblocked
    machine.fails = set()
    machine.wait(5.0)

    assert (machine.phase, machine.snapshot.confirmation) == (Phase.UNBLOCKED, NEVER)
    assert not blocks(machine)
    last = [type(action) for action in machine.done if isinstance(action, KeepConfirmation | MarkUnblocked)][-2:]
    assert last == [MarkUnblocked, KeepConfirmation]


# -- exhaustively ------------------------------------------------------------------------------------------------------
def _cases() -> Iterator[tuple[Config, Intent, Snapshot]]:
    """Every combination of what it could depend on, and a few of what it must not."""
    confirmations = (
        *(NEVER, GIVEN, NEEDLESS),
        *(Confirmation(Standing.AWAITED, until) for until in (0.0, NOW, NOW + 0.001, NOW + 60)),
    )
    for config, block, confirmation, logins, present, rules, wall in itertools.product(
        (ONE, Config(), MANDATORY, UNREADABLE, BROKEN_TUNNEL),
        Block,
        confirmations,
        Logins,
        (False, True),
        (Routing((), ()), Routing((4,), ())),
        (0.0, 4e9),
    ):
        snapshot = Snapshot(Clock(NOW, wall), logins=logins, table_present=present, routing=rules)
        yield config, Intent(block=block, confirmation=confirmation), snapshot


def test_what_opens() -> None:
    """In every combination the block comes off just where the page says that it does, and goes up everywhere else."""
    opened = 0
    for config, intent, snapshot in _cases():
        after = memory.settle(config, intent, snapshot)
        expected = spec.undoes_itself(config, intent, NOW)

        assert (after.block is Block.OFF) is (intent.block is Block.OFF or expected), (intent, snapshot)
        if after.confirmation.standing is Standing.AWAITED and intent.confirmation.standing is not Standing.AWAITED:
            assert spec.may_be_cut_off(config, intent, snapshot), (intent, snapshot)
            assert after.confirmation.until == NOW + CONFIRM_WITHIN_S
        elif spec.may_be_cut_off(config, intent, snapshot):
            pytest.fail(f"somebody is shut out for good: {intent} {snapshot}")
        opened += expected
    assert opened > 0


# -- on the disk -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("confirmation", [GIVEN, NEEDLESS, awaited(NOW), awaited(0.12345)])
def test_kept(confirmation: Confirmation) -> None:
    """What is written is read back, to the millisecond."""
    assert parse(spell(confirmation, BOOT), BOOT, NOW) == confirmation


def test_minute_of_another_boot() -> None:
    """Its clock says nothing here, and nobody confirmed in it: it is over."""
    assert parse(spell(awaited(NOW), BOOT), BOOT.replace("0", "1"), 1.0) == Confirmation(Standing.AWAITED, 0.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "never\n",
        "given",
        "awaited\n",
        f"awaited until 1.000 in boot {BOOT}",
        f"awaited until nan in boot {BOOT}\n",
        f"awaited until -1.000 in boot {BOOT}\n",
        f"awaited until 99999.000 in boot {BOOT}\n",
        f"awaited until 1.000 in boot {BOOT}\nawaited until 1.000 in boot {BOOT}\n",
        "awaited until \u0661.000 in boot \n",
    ],
)
def test_garbage_undoes_nothing(text: str) -> None:
    """Whatever stands there that we have not written, and a time that is further off than any can be."""
    assert parse(text, BOOT, NOW) == NEEDLESS

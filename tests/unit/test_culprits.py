# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is named for having altered our table, and who is not."""

from dataclasses import replace

from tests.unit.test_daemon import Stage, play, until


def test_flush_is_healed_and_the_culprit_named() -> None:
    """A foreign flush takes the ordinary path, and the journal and status say who it was."""

    async def scene(stage: Stage) -> None:
        await stage.settled()
        stage.world.snapshot = replace(stage.world.snapshot, ruleset=None, table_present=False)
        stage.daemon.changed_by("nft[23515]")
        await until(lambda: stage.world.snapshot.table_present)
        desired = await stage.settled()
        assert any("nft[23515]" in problem.text for problem in desired.problems)

    play(scene)


def test_culprit_is_named_who_struck_while_we_looked() -> None:
    """A pass that began for another reason sees the table gone before the loop has heard of the change."""

    async def scene(stage: Stage) -> None:
        await stage.settled()

        def hear() -> None:
            if stage.world.snapshot.ruleset is None:
                stage.daemon.changed_by("nft[23515]")

        stage.daemon.hear = hear
        stage.world.snapshot = replace(stage.world.snapshot, ruleset=None, table_present=False)
        stage.daemon.links_changed()
        await until(lambda: stage.world.snapshot.table_present)
        desired = await stage.settled()
        assert any("nft[23515]" in problem.text for problem in desired.problems)

    play(scene)


def test_culprit_is_named_who_struck_behind_our_look() -> None:
    """A pass that has just seen the table whole hears of its removal: the next one, which sees it, knows by whom."""

    async def scene(stage: Stage) -> None:
        await stage.settled()

        def hear() -> None:
            stage.daemon.hear = lambda: None
            stage.world.snapshot = replace(stage.world.snapshot, ruleset=None, table_present=False)
            stage.daemon.changed_by("nft[23515]")

        stage.daemon.hear = hear
        stage.daemon.links_changed()
        await until(lambda: stage.daemon.hear is not hear and stage.world.snapshot.table_present)
        desired = await stage.settled()
        assert any("nft[23515]" in problem.text for problem in desired.problems)

    play(scene)


def test_nobody_is_blamed_who_changed_nothing() -> None:
    """Who touched our table and left it as it was is not named for what another does later."""

    async def scene(stage: Stage) -> None:
        await stage.settled()
        stage.daemon.changed_by("nft[1]")
        await stage.settled()
        stage.world.snapshot = replace(stage.world.snapshot, ruleset=None, table_present=False)
        desired = await stage.settled()
        assert not any("nft[1]" in problem.text for problem in desired.problems)

    play(scene)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Signing in over the bus: what is typed comes beside the message, and is nowhere else."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import pytest

from aovpnd.orders import Answer, SignedIn
from aovpnd.tunnel import Secret
from tests.bus.stage import AS_ROOT, DEADLINE_S, Caller, Stage, stage
from tests.bus.test_ctl import ctl
from tests.lab.process import wait_for
from tests.unit.test_signin import ONCE, PASSWORD

HOME: Final = replace(ONCE, name="home")
GIVEN: Final = f'{{"1": "{PASSWORD}"}}'


@pytest.fixture(scope="module")
def scene() -> Iterator[Stage]:
    """One stage for this file."""
    with stage() as built:
        yield built


@pytest.fixture(autouse=True)
def fresh(scene: Stage) -> None:
    """A tunnel that waits for a password."""
    scene.daemon.desk.expect(())
    scene.daemon.desk.expect((HOME,))
    scene.daemon.desk.fetch(HOME)
    scene.forget()
    scene.daemon.answer = Answer("signing in to home", data={"tried": True})


@pytest.fixture(scope="module")
def user(scene: Stage) -> Caller:
    """An ordinary user on the bus."""
    return scene.caller()


@pytest.mark.skipif(not AS_ROOT, reason="needs a user who is not the owner of the control socket")
def test_a_user_signs_in(scene: Stage, tmp_path: object) -> None:
    """With `aovpnctl sign-in`, without sudo; the daemon has what he typed, and polkit was asked twice."""
    del tmp_path
    with (scene.directory / "typed").open("w+b") as typed:
        typed.write(f"{PASSWORD}\n".encode())
        typed.seek(0)
        done = ctl(scene, "sign-in", "--stdin", stdin=typed.fileno())
    assert (done.returncode, done.stdout, done.stderr) == (0, "signed in: the tunnel home is up\n", "")
    assert scene.daemon.asked == [SignedIn("home")]
    assert scene.daemon.desk.fetch(HOME) == {1: Secret(PASSWORD)}
    assert [asked.action for asked in scene.authority.asked[-2:]] == ["org.aovpnd1.sign-in"] * 2


@pytest.mark.skipif(not AS_ROOT, reason="needs a user who is not the owner of the control socket")
def test_from_afar_he_is_not_asked(scene: Stage) -> None:
    """Whoever may not is told before he types anything."""
    scene.authority.minds.others = "remote"
    done = ctl(scene, "sign-in", "--stdin", stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (
        1,
        "aovpnctl: polkit says no: this is for whoever sits at this machine (try sudo)\n",
    )
    assert scene.daemon.asked == []


@pytest.mark.parametrize(
    "odd",
    [{"sealed": False}, {"written": ""}, {"written": "x" * 5000}, {"written": "no JSON"}, {"arguments": ["home", 1]}],
)
def test_what_is_no_sealed_answer(scene: Stage, user: Caller, odd: dict[str, object]) -> None:
    """It is refused, with not a word of it, and nobody is asked."""
    order = {"method": "SignIn", "signature": "(sh)", "arguments": ["home", 0], "written": GIVEN} | odd
    user.tell(**order)
    said = user.answer()
    assert said["error"] == "org.aovpnd1.Error.BadRequest"
    assert PASSWORD not in said["text"]
    assert scene.daemon.asked == []
    assert scene.daemon.desk.questions() != []


def test_many_descriptors_are_not_kept(scene: Stage, user: Caller) -> None:
    """A call with more than one is refused as it is read; of a hundred calls, none stays open here."""
    before = scene.descriptors()
    order = {"method": "SignIn", "signature": "(sh)", "arguments": ["home", 0], "written": GIVEN}
    user.tell(**order, descriptors=8, count=100)
    assert user.answer()["error"] == "org.aovpnd1.Error.BadRequest"
    assert [user.code("SignIn", "(sh)", "nobody", 0) for _ in range(8)] == ["NothingAsked"] * 8
    wait_for("them to be closed", lambda: scene.descriptors() <= before, deadline_s=DEADLINE_S)


def test_the_answer_is_taken_once(scene: Stage, user: Caller) -> None:
    """A second one is no longer asked for; a wrong place is none."""
    order = {"method": "SignIn", "signature": "(sh)", "arguments": ["home", 0]}
    user.tell(**order, written='{"2": "x"}')
    assert user.answer()["error"] == "org.aovpnd1.Error.AnswersDiffer"
    user.tell(**order, written=GIVEN)
    assert user.answer() == {"values": ["signing in to home", '{"tried": true}']}
    user.tell(**order, written=GIVEN)
    assert user.answer()["error"] == "org.aovpnd1.Error.AnswersDiffer"
    assert scene.daemon.asked == [SignedIn("home")]

# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes beside the bus: only what is sealed is read, and nobody prints it."""

import fcntl
import json
import os
from pathlib import Path

import pytest

from aovpnd.bus import sealed, translate
from aovpnd.bus.calls import Call
from aovpnd.control import LINE_LIMIT
from aovpnd.errors import CommandRefused
from aovpnd.shape import LONGEST_ANSWER
from aovpnd.signin import MOST_ANSWERS


@pytest.mark.parametrize("given", ["a word", '["a word"]', '{"1": ["a word"]}', '"a word"', "[" * 4000])
def test_answers_that_are_no_table_of_texts_are_refused(given: str) -> None:
    """Without a word of them."""
    with pytest.raises(CommandRefused, match="no table of texts") as refused:
        translate.request(Call(":1.5", "SignIn", ("home", sealed.Sealed(given))))
    assert "a word" not in str(refused.value)


def test_call_shows_no_secret() -> None:
    """Whoever prints one."""
    assert "a word" not in repr(Call(":1.5", "SignIn", ("home", sealed.Sealed("a word"))))


@pytest.mark.parametrize(
    ("written", "seals", "taken"),
    [
        (b"a word", sealed.SEALS, True),
        (b"x" * sealed.LIMIT, sealed.SEALS, True),
        (b"x" * (sealed.LIMIT + 1), sealed.SEALS, False),
        (b"", sealed.SEALS, False),
        (b"\xff", sealed.SEALS, False),
        (b"a word", 0, False),
        (b"a word", sealed.SEALS & ~fcntl.F_SEAL_WRITE, False),
        (b"a word", sealed.SEALS & ~fcntl.F_SEAL_SHRINK, False),
    ],
)
def test_only_sealed_texts_are_read(written: bytes, seals: int, taken: bool) -> None:
    """What somebody may change, or cut, while it is looked at is not looked at; nor is what has no end."""
    descriptor = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.write(descriptor, written)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        if taken:
            assert sealed.read(descriptor) == sealed.Sealed(written.decode())
            return
        with pytest.raises(CommandRefused, match=r"no sealed text|too long"):
            sealed.read(descriptor)
    finally:
        os.close(descriptor)


def test_longest_answers() -> None:
    """As many as a tunnel can ask for, of characters that JSON spells longest, as our programs write them."""
    answers = {str(place): "\U0001f511" * LONGEST_ANSWER for place in range(1, MOST_ANSWERS + 1)}
    line = json.dumps({"v": 1, "command": "sign-in", "name": "n" * 64, "answers": answers, "by": "x" * 300})

    assert len(json.dumps(answers)) <= sealed.LIMIT
    assert len(line) < LINE_LIMIT


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    """Nothing but a file of memory has seals: no pipe, no file, no socket is read from."""
    ours, theirs = os.pipe()
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    for descriptor in (ours, theirs, file):
        with pytest.raises(CommandRefused, match="no sealed text"):
            sealed.read(descriptor)
        os.close(descriptor)

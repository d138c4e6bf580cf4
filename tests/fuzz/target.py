# SPDX-License-Identifier: GPL-3.0-or-later
"""What a target is: one border, good inputs for it, and a judge that lets a case in and says what came of it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from tests.fuzz.mutate import Mutator


class Mutate(Protocol):
    """Makes a damaged case of a good one; ``others`` are there to be crossed with."""

    def __call__(self, rng: Random, case: Any, others: list[Any]) -> Any:
        """The same `Random` state and arguments, the same case."""


@dataclass(frozen=True, slots=True)
class Target:
    """One border.

    ``judge`` hands a case to the product and returns a word for what came of it ("ok", the name of a declared error
    with a hint of where); whatever it raises is a finding. ``prepare`` holds while cases are judged. ``slice`` is how
    many cases a run of the test suite tries.
    """

    name: str
    border: str
    seeds: tuple[Any, ...]
    judge: Callable[[Any], str]
    mutate: Mutate = field(default_factory=Mutator)
    prepare: Callable[[], AbstractContextManager[object]] = nullcontext
    slice: int = 2000


def words(text: str) -> Iterator[str]:
    """The words of a text, for dictionaries."""
    return (word for word in text.replace("\t", " ").replace("\n", " ").split(" ") if word)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Damage: a case of bytes, text, numbers, lists and tables becomes another one, near enough to a good one to get far.

A tuple keeps its shape, and what stands in it keeps its type: it stands for the arguments of a function, or for what a
library has held to its type already. Lists and tables come from strangers, and anything may become of what is in them.
"""

from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Final

LONGEST: Final = 8192
"""Letters or bytes; borders that take more have a seed or a test of their own for it."""
_DEEPEST: Final = 3000
"""Brackets in one another: more than Python's recursion takes."""

HOSTILE: Final = (
    *("\x00", "\x1b[2J", "\x1b]0;x\x07", "\x07", "\x08", "\x0b", "\x0c", "\x7f", "\x85", "\xa0", "\r", "\n", "\t"),
    *("\u2028", "\u202e", "\u2066", "\u200b", "\ufeff", "\ufffd", "é", "µ", "٣", "²", "Ⅷ", "١٢", "ß", "İ", "ſ"),
    *("𝟛", "😀", "a\u0301", "xn--", "%", "%s", "%n", "{}", "{0}", "$(id)", "`id`", ";", '"', "'", "\\", "/", "../"),
    *("0", "-1", "+1", "0x10", "1_0", "1e9", "1e400", "inf", "nan", "NaN", "Infinity", "-0", "00", "4294967296"),
    *("18446744073709551616", "9" * 30, "9" * 5000, " ", ",", "=", "[", "]", "{", "}", ":", "#", "~", "@", "."),
)
"""Pieces of text that somebody has regretted to have met."""
SURROGATES: Final = ("\ud800", "\udcff")
"""What Python makes of arguments and file names that are no UTF-8, and of JSON's ``\\ud800``."""
_NUMBERS: Final = (0, 1, -1, 2, 3, 7, 8, 15, 16, 31, 32, 127, 128, 255, 256, 4095, 4096, 32767, 65535, 65536)
_LARGE: Final = (2**31 - 1, 2**31, -(2**31), 2**32 - 1, 2**32, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30, 10**400)
_FLOATS: Final = (0.5, -0.0, 1e-300, 1e19, 1e300, float("inf"), float("-inf"), float("nan"))


def leaf(rng: Random) -> Any:
    """A value that nobody asked for."""
    match rng.randrange(8):
        case 0:
            return None
        case 1:
            return rng.random() < 0.5
        case 2:
            return rng.choice(_NUMBERS)
        case 3:
            return rng.choice(_LARGE)
        case 4:
            return rng.choice(_FLOATS)
        case 5:
            return rng.choice((*HOSTILE, *SURROGATES, ""))
        case 6:
            return rng.choice(([], {}, [[]], [None], {"": ""}, [0] * 300))
        case _:
            return _nested(rng)


def _nested(rng: Random) -> Any:
    value: Any = []
    for _ in range(rng.choice((3, 30))):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


class Mutator:
    """Damages whatever it is given; ``dictionary`` holds the words of the border's language."""

    def __init__(self, dictionary: Iterable[str | bytes] = (), *, surrogates: bool = False) -> None:
        """``surrogates``: the border can be reached by text that is no UTF-8."""
        told = tuple(dictionary)
        self._words = tuple(w.decode("utf-8", "replace") if isinstance(w, bytes) else w for w in told)
        self._bytes = tuple(w.encode("utf-8", "replace") if isinstance(w, str) else w for w in told)
        self._hostile = HOSTILE + SURROGATES if surrogates else HOSTILE
        self._surrogates = surrogates

    def __call__(self, rng: Random, case: Any, others: list[Any]) -> Any:
        """One to six pieces of damage."""
        count = 1
        while count < 6 and rng.random() < 0.45:
            count += 1
        for _ in range(count):
            case = self._damaged(rng, case, others)
        return case

    def _damaged(self, rng: Random, case: Any, others: list[Any]) -> Any:
        match case:
            case str():
                return self.text(rng, case, _alike(rng, others, str))[:LONGEST]
            case bytes():
                return self.blob(rng, case, _alike(rng, others, bytes))[:LONGEST]
            case tuple():
                return self._fixed(rng, case, others)
            case list() | dict():
                return self._free(rng, case, others)
            case bool():
                return not case
            case int():
                return rng.choice((*_NUMBERS, *_LARGE, case + 1, case - 1, -case))
            case float():
                return rng.choice((*_FLOATS, case + 1, case - 1, -case, case * 1e6))
            case _:
                return case

    # -- shapes -------------------------------------------------------------------------------------------------------
    def _fixed(self, rng: Random, case: tuple[Any, ...], others: list[Any]) -> tuple[Any, ...]:
        if not case:
            return case
        place = rng.randrange(len(case))
        inner = [other[place] for other in others if isinstance(other, tuple) and len(other) == len(case)]
        old, new = case[place], self._damaged(rng, case[place], inner)
        if isinstance(old, list) and not isinstance(new, list):
            new = [new]
        elif isinstance(old, dict) and not isinstance(new, dict):
            new = {"": new}
        return (*case[:place], new, *case[place + 1 :])

    def _free(self, rng: Random, case: Any, others: list[Any]) -> Any:
        copy = dict(case) if isinstance(case, dict) else list(case)
        keys: list[Any] = list(copy) if isinstance(copy, dict) else list(range(len(copy)))
        if not keys:
            return leaf(rng)
        key = rng.choice(keys)
        match rng.randrange(8):
            case 0:
                copy[key] = leaf(rng)
            case 1:
                del copy[key]
            case 2 if isinstance(copy, dict):
                copy[rng.choice((*self._words, *self._hostile))] = copy.pop(key)
            case 2 | 3:
                copy = self._doubled(rng, copy, key)
            case 4 if others and isinstance(other := rng.choice(others), type(copy)) and other:
                copy = self._crossed(rng, copy, other)
            case _:
                copy[key] = self._inside(rng, copy[key])
        return copy

    def _inside(self, rng: Random, value: Any) -> Any:
        if value is None:
            return leaf(rng)
        return self._damaged(rng, value, [])

    def _doubled(self, rng: Random, copy: Any, key: Any) -> Any:
        if isinstance(copy, dict):
            copy[rng.choice((*self._words, *self._hostile))] = copy[key]
            return copy
        copy += [copy[key]] * rng.choice((1, 2, 40, 1100))
        return copy[:4000]

    def _crossed(self, rng: Random, copy: Any, other: Any) -> Any:
        if isinstance(copy, dict):
            key = rng.choice(list(other))
            copy[key] = other[key]
            return copy
        return copy + other[rng.randrange(len(other)) :]

    # -- text ---------------------------------------------------------------------------------------------------------
    def text(self, rng: Random, text: str, other: str | None) -> str:
        """One piece of damage to a text."""
        start = rng.randrange(len(text) + 1)
        end = min(start + rng.choice((0, 0, 1, 1, 2, 4, 9, 30, 200)), len(text))
        match rng.randrange(11):
            case 0 | 1 if self._words:
                return text[:start] + rng.choice(self._words) + text[end:]
            case 2 | 3:
                return text[:start] + rng.choice(self._hostile) + text[end:]
            case 4:
                return text[:start] + text[end:]
            case 5:
                return text[:start] + text[start:end] * rng.choice((2, 3, 20, 400)) + text[end:]
            case 6:
                return self._lines(rng, text)
            case 7 if other:
                at = rng.randrange(len(other) + 1)
                return text[:start] + other[at : at + rng.choice((1, 8, 60, 4000))]
            case 8:
                return text[:start]
            case 9:
                return text[:start] + self._letter(rng) + text[start + 1 :]
            case 10 if rng.random() < 0.02:
                return text[:start] + rng.choice("[{(") * _DEEPEST + text[start:]
            case _:
                return text[:start] + text[start:end].swapcase() + text[end:]

    def _letter(self, rng: Random) -> str:
        code = rng.choice(
            (rng.randrange(32, 127), rng.randrange(0x100), rng.randrange(0x3000), rng.randrange(0x110000))
        )
        return "?" if 0xD800 <= code < 0xE000 and not self._surrogates else chr(code)

    def _lines(self, rng: Random, text: str) -> str:
        lines = text.split("\n")
        one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
        match rng.randrange(3):
            case 0:
                del lines[one]
            case 1:
                lines.insert(two, lines[one])
            case _:
                lines[one], lines[two] = lines[two], lines[one]
        return "\n".join(lines)

    # -- bytes --------------------------------------------------------------------------------------------------------
    def blob(self, rng: Random, blob: bytes, other: bytes | None) -> bytes:
        """One piece of damage to bytes."""
        start = rng.randrange(len(blob) + 1)
        end = min(start + rng.choice((0, 1, 1, 2, 4, 8, 16, 60)), len(blob))
        match rng.randrange(10):
            case 0 if blob:
                start = min(start, len(blob) - 1)
                return blob[:start] + bytes((blob[start] ^ 1 << rng.randrange(8),)) + blob[start + 1 :]
            case 1 | 2:
                return self._number(rng, blob, start)
            case 3 if self._bytes:
                return blob[:start] + rng.choice(self._bytes) + blob[end:]
            case 4:
                return blob[:start] + blob[end:]
            case 5:
                return blob[:start] + blob[start:end] * rng.choice((2, 3, 20, 400)) + blob[end:]
            case 6 if other:
                at = rng.randrange(len(other) + 1)
                return blob[:start] + other[at : at + rng.choice((1, 8, 60, 4000))]
            case 7:
                return blob[:start]
            case 8:
                return blob[:start] + rng.choice(self._hostile[:30]).encode("utf-8", "replace") + blob[end:]
            case _:
                return blob[:start] + rng.randbytes(end - start) + blob[end:]

    def _number(self, rng: Random, blob: bytes, start: int) -> bytes:
        """A number of one, two or four bytes, of either order, at a place where numbers stand."""
        width = rng.choice((1, 2, 4))
        start -= start % width
        value = rng.choice((*_NUMBERS, *_LARGE[:5], len(blob), len(blob) - start)) % (1 << 8 * width)
        order: Callable[[], Any] = lambda: rng.choice(("little", "big"))  # noqa: E731 - drawn after the value
        return blob[:start] + value.to_bytes(width, order()) + blob[start + width :]


def _alike(rng: Random, others: list[Any], kind: type) -> Any:
    other = rng.choice(others) if others else None
    return other if isinstance(other, kind) else None

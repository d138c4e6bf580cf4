# SPDX-License-Identifier: GPL-3.0-or-later
"""The fuzzer itself can fail: a planted defect of each kind is found, kept, and found again in what was kept."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.fuzz import catalogue, run, runner
from tests.fuzz.mutate import Mutator
from tests.fuzz.target import Target


def _crashes(text: str) -> str:
    return str(int(text[5:6] or 0)) if text.startswith("good") else "bad"


def _hangs(text: str) -> str:
    while "\x00" in text:
        pass
    return "ok"


def _hoards(text: str) -> str:
    if "[" in text and not _HOARD:
        _HOARD.append(bytearray(b"\1" * (run.GROWTH_KIB << 10)))
    return "ok"


def _ends(text: str) -> str:
    if text == "":
        raise SystemExit(1)
    return "ok"


_HOARD: list[bytearray] = []


@pytest.mark.parametrize(
    ("judge", "place"),
    [
        pytest.param(_crashes, "ValueError test_runner.py", id="crash"),
        pytest.param(_hangs, "HangsError test_runner.py", id="hang"),
        pytest.param(_hoards, "memory", id="memory"),
        pytest.param(_ends, "SystemExit test_runner.py", id="exit"),
    ],
)
def test_defect_is_found(judge: Callable[[str], str], place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within some hundred cases, by its place."""
    monkeypatch.setattr(run, "HANG_S", 0.1)
    monkeypatch.setattr(run, "GROWTH_KIB", 16 << 10)
    target = Target("planted", "a defect", ("good 1",), judge, Mutator(("good ", "[", "\x00")))
    try:
        result = run.try_batch(target, 0, 0, 600 if judge is not _hangs else 40)
    finally:
        _HOARD.clear()

    assert [failure.place for failure in result.failures if failure.place.startswith(place)]
    assert len(result.failures) == len({failure.place for failure in result.failures})


def test_failing_input_is_kept_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written down with all that is needed; tried again, it fails again, also where it cannot be written down."""
    target = Target("planted", "a defect", ("good 1",), _crashes, Mutator(("good ",)))
    monkeypatch.setitem(catalogue.TARGETS, "planted", target)
    failure = run.try_batch(target, 0, 3, 600).failures[0]
    path = runner.keep(tmp_path, "planted", 0, 3, failure)

    with pytest.raises(ValueError, match="invalid literal"):
        runner.again(path)

    document = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(document | {"case": "<an object>"}), encoding="utf-8")
    with pytest.raises(ValueError, match="invalid literal"):
        runner.again(path)


def test_same_seed_same_cases() -> None:
    """A batch can be drawn again; another batch, seed or target is another one."""

    def drawn(name: str, seed: int, batch: int) -> list[object]:
        seen: list[object] = []

        def judged(case: str) -> str:
            seen.append(case)
            return str(len(case))

        target = Target(name, "", ("good 1", "good 2"), judged, Mutator())
        run.try_batch(target, seed, batch, 200)
        return seen

    first = drawn("a", 1, 1)
    assert drawn("a", 1, 1) == first
    assert len({repr(drawn(*which)) for which in (("a", 1, 1), ("a", 1, 2), ("a", 2, 1), ("b", 1, 1))}) == 4
    assert len(set(map(str, first))) > 100


def test_record_goes_on(tmp_path: Path) -> None:
    """A run that was broken off, in the middle of a line, does only what is missing."""
    record = runner.Record.open(tmp_path / "record.jsonl")
    record.add(0, runner.Row("duration", 5000, 1.0, {"ok", "refused"}, 10, 0.1, set()))
    record.add(1, runner.Row("duration", 5000, 2.0, {"ok"}, 20, 0.2, {"ValueError"}))
    with record.path.open("a", encoding="utf-8") as file:
        file.write('[2, {"target": "dur')

    again = runner.Record.open(record.path)
    (row,) = again.rows()

    assert (row.cases, row.seconds, row.memory_kib, row.longest_s) == (10_000, 3.0, 20, 0.2)
    assert (row.outcomes, row.failures) == ({"ok", "refused"}, {"ValueError"})
    assert not runner.passed(again)
    assert "| duration | a span of time | 10,000 | 3 | 2 | 20 | 200 | 1 |" in runner.table(again)


def test_damage_keeps_the_shape() -> None:
    """A tuple keeps its length, and what stands in it its type: the arguments of a function stay arguments."""
    mutator, rng = Mutator(), Random(1)
    case: tuple[object, ...] = ("a", b"b", 3, [1], {"x": 2}, True)
    for _ in range(2000):
        damaged = mutator(rng, case, [case])
        assert len(damaged) == len(case)
        assert all(type(new) is type(old) for new, old in zip(damaged, case, strict=True))

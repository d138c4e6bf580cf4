# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``make test-vm-kernel`` believes of a run, and keeps: outcomes, falling back, what is run again."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab.product import CHECKOUT
from tests.vm.kernels import inside, results
from tests.vm.kernels.core import CORE, path_of
from tests.vm.kernels.results import Key, Outcome, Results

KEY = Key("trixie", "ipsec", "life")
GOOD = Outcome("0123456789ab", "6.12.0", passed=13, skipped=1, seconds=600.0, seen={"xfrm": 13})


def test_every_file_of_the_core_is_there() -> None:
    """And for each kind of tunnel it is known which links the kernel makes."""
    assert set(CORE) == set(inside.KINDS)
    for files in CORE.values():
        assert all((CHECKOUT / path_of(file)).is_file() for file in files)
        assert len(set(files)) == len(files)


@pytest.mark.parametrize(
    ("calls", "complaint"),
    [
        ("", ""),
        ("-f wg0\n-f gw0\n", ""),
        ("-f wg0\n-f aovpn0\n", "wireguard-go was started for a link of ours: -f aovpn0"),
    ],
)
def test_falling_back_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: str, complaint: str) -> None:
    """A gateway may call wireguard-go, the program under test may not."""
    called = tmp_path / "called"
    monkeypatch.setattr(inside, "_CALLED", called)
    if calls:
        called.write_text(calls, encoding="utf-8")

    assert inside.fallen_back() == complaint


@pytest.mark.parametrize(
    ("outcome", "good"),
    [
        (GOOD, True),
        (replace(GOOD, failed=1, failures=("test_home_connects",)), False),
        (replace(GOOD, seen={}), False),
        (replace(GOOD, passed=0), False),
    ],
)
def test_what_is_good(outcome: Outcome, good: bool) -> None:
    """Something ran, nothing failed, and a tunnel of the kernel's was seen."""
    assert outcome.good is good


def test_kept_and_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outcomes survive; what was good counts while its program and file are those of its commit."""
    path = tmp_path / "kernels.json"
    Results.open(path).keep(KEY, GOOD)
    Results.open(path).keep(replace(KEY, file="ike"), replace(GOOD, failed=1, failures=("test_x",)))
    monkeypatch.setattr(results, "_git", lambda *_words: "")
    kept = Results.open(path)

    assert kept.holds(KEY)
    assert not kept.holds(replace(KEY, file="ike"))
    assert not kept.holds(replace(KEY, suite="bookworm"))
    monkeypatch.setattr(results, "_git", lambda *_words: "aovpnd/names.py")
    assert not kept.holds(KEY)
    kept.keep(KEY, replace(GOOD, commit="0123456789ab+"))
    monkeypatch.setattr(results, "_git", lambda *_words: "")
    assert not kept.holds(KEY)


def test_page_tells_what_failed(tmp_path: Path) -> None:
    """A row for each file, sums for each kind of tunnel, and the names of what failed."""
    kept = Results.open(tmp_path / "kernels.json")
    kept.keep(KEY, GOOD)
    kept.keep(replace(KEY, file="ike"), replace(GOOD, passed=20, failed=1, failures=("test_x",)))

    page = kept.page()

    assert "## trixie: Linux 6.12.0" in page
    assert "| ipsec | `life` | 13 | 0 | 1 | xfrm after 13 | 10.0 | `0123456789ab` |" in page
    assert f"| **ipsec** | 2 of {len(CORE['ipsec'])} files | 33 | 1 | 2 | | | |" in page
    assert "* ipsec, `ike`: test_x" in page


def test_page_is_read_again(tmp_path: Path) -> None:
    """A machine without the cache goes on with what the page tells; what the cache has is newer."""
    path, page = tmp_path / "kernels.json", tmp_path / "kernels.md"
    other = replace(KEY, suite="bookworm", kind="wireguard", file="dns")
    bad = replace(GOOD, commit="fedcba987654+", release="6.1.0", passed=5, failed=2, failures=("test_x[a]", "test_y"))
    kept = Results.open(path)
    kept.keep(KEY, GOOD)
    kept.keep(other, replace(bad, seen={}))
    page.write_text(kept.page(), encoding="utf-8")

    assert results.read(kept.page()) == {KEY: GOOD, other: replace(bad, seen={})}
    path.unlink()
    again = Results.open(path, page)
    assert (again.good(KEY), again.good(other)) == (True, False)
    assert again.page() == kept.page()

    again.keep(other, replace(bad, failed=0, failures=(), seen={"wireguard": 5}))
    assert Results.open(path, page).good(other)
    assert again.good(KEY)
    assert "test_x" not in again.page()

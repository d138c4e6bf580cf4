# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the lab can be tested without it: apt sources, the demo's story, the senders' table."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from aovpnd import names
from tests.lab import rootdir
from tests.lab.demo.play import NO_DNS_IN_WINDOW, Played, Tally
from tests.lab.demo.report import Line, faults
from tests.lab.demo.stage import Names
from tests.lab.demo.story import STORY, Back
from tests.lab.rootdir import RootdirError, Source, debian_sources
from tests.lab.sender_kinds import BY_NAME, BY_NUMBER, FORGERS, KINDS, STAMP

_KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_DEB822: Final = f"""# the mirror
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By: {_KEYRING}

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components:
 main
 non-free
Signed-By: {_KEYRING}

Enabled: no
Types: deb
URIs: http://disabled.example/debian
Suites: bookworm
Components: main
"""
_ONE_LINE: Final = """
# deb http://comment.example/debian bookworm main
deb http://plain.example/debian/ bookworm main  # a remark
deb [arch=amd64 signed-by=/etc/apt/keyrings/vendor.gpg] https://vendor.example/debian bookworm main
deb https://vendor.example/apt bookworm stable
deb https://vendor.example/pgdg bookworm-pgdg main
deb-src http://plain.example/debian/ bookworm main
"""


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty /etc/apt of a Debian 12."""
    (tmp_path / "sources.list.d").mkdir()
    monkeypatch.setattr(rootdir, "_host_codename", lambda: "bookworm")
    return tmp_path


def test_deb822_sources_are_read(apt: Path) -> None:
    """Both stanzas with a folded field, no backports, nothing that is disabled."""
    (apt / "sources.list.d" / "debian.sources").write_text(_DEB822)

    assert debian_sources("bookworm", apt) == (
        Source("http://mirror.example/debian", "bookworm", _KEYRING),
        Source("http://mirror.example/debian", "bookworm-updates", _KEYRING),
        Source("http://mirror.example/debian-security", "bookworm-security", _KEYRING),
    )


def test_one_line_sources_are_read_and_vendors_left_out(apt: Path) -> None:
    """Debian's own line alone: no comment, no source packages, no vendor by keyring, component or suite."""
    (apt / "sources.list").write_text(_ONE_LINE)

    assert debian_sources("bookworm", apt) == (Source("http://plain.example/debian/", "bookworm", ""),)
    assert debian_sources("bookworm", apt)[0].line() == (
        f"deb [signed-by={_KEYRING}] http://plain.example/debian/ bookworm main"
    )


def test_another_release_comes_from_the_same_mirror(apt: Path) -> None:
    """A host of Debian 12 can make a Debian 13 directory."""
    (apt / "sources.list").write_text("deb http://mirror.example/debian bookworm main\n")

    assert debian_sources("trixie", apt) == (Source("http://mirror.example/debian", "trixie", ""),)


def test_no_source_is_an_error_that_says_where_it_looked(apt: Path) -> None:
    """An empty /etc/apt."""
    with pytest.raises(RootdirError, match=str(apt)):
        debian_sources("bookworm", apt)


def test_senders_have_one_number_and_one_name_each() -> None:
    """Numbers fit into the byte behind the token; 31 is the probe's."""
    assert len(BY_NUMBER) == len(BY_NAME) == len(KINDS) + len(FORGERS)
    assert all(0 <= kind.number < 256 and kind.number != 31 for kind in KINDS)
    assert all((kind.number >= 32) is kind.needs_net_raw for kind in KINDS)


def test_forgers_know_the_stamp() -> None:
    """The lab's copy of the bit is the program's."""
    assert names.STAMP == STAMP


def test_story_speaks_of_senders_that_exist() -> None:
    """What a row calls a known issue is a sender's name; what needs a window closed to DNS asks port 53 or 853."""
    assert {name for row in STORY for name in row.known} <= {kind.name for kind in KINDS}
    assert {BY_NUMBER[number].name for number in NO_DNS_IN_WINDOW} == {"dns4", "dns6", "doq4", "dnstcp4", "dot4"}


def test_story_is_a_days_worth() -> None:
    """Each row has acts on both stages, no known issue covers ordinary unicast, and from crashes all comes back."""
    ordinary = {kind.name for kind in KINDS if not kind.needs_net_raw} - {"mdns4", "mdns6"}

    assert len({row.event for row in STORY}) == len(STORY) >= 13
    assert all(row.protected and row.control for row in STORY)
    assert not {name for row in STORY for name in row.known} & ordinary
    assert all(row.back is not Back.NOTHING for row in STORY if "kill" in row.event or "flush" in row.event)


def test_demo_fails_on_a_leak_and_on_a_control_that_shows_nothing() -> None:
    """The verdict names both, and names from the wrong resolver; known issues and frames in the window are no fault,
    and are not hidden in the zero.
    """
    played = Played(STORY[0], 0.0, 1.0, None, Names.NOBODY)
    quiet, noisy = Tally(10, 0, 3, 2, ""), Tally(10, 7, 0, 0, "7 × ip:udp")

    assert faults((Line(1, played, quiet, noisy),)) == ()
    assert [text.partition(": ")[2] for text in faults((Line(1, played, noisy, quiet),))] == [
        "7 in clear: 7 × ip:udp",
        "the unprotected laptop leaked nothing, so this row proves nothing",
    ]
    told = replace(played, names=Names.NETWORK)
    assert faults((Line(1, told, quiet, noisy),)) == (
        "1 locked before any network: names were answered by network, not nobody",
    )

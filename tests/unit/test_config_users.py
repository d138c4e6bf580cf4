# SPDX-License-Identifier: GPL-3.0-or-later
"""Users in the settings: how they are written, which of several files wins, and that nobody is meant by mistake."""

from pathlib import Path
from typing import Final

import pytest

from aovpnd import passwd
from aovpnd.config import check
from aovpnd.model import Origin, Severity
from aovpnd.users import User, When
from tests.unit.test_config_settings import Files
from tests.unit.test_config_tunnels import SMALLEST

THERE: Final = {"root": 0, "alice": 1000, "bob": 1001, "backup": 34, "aovpnd-wg-go": 990, "nobody": 65534}
ALICE: Final = '[[user]]\nname = "alice"\nonly = "work"\n'


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """Two tunnels, no setting, and users of this machine."""
    monkeypatch.setattr(passwd, "users", THERE.copy)
    made = Files(tmp_path)
    for name in ("home", "work"):
        made.write(f"etc/tunnels/{name}.conf", SMALLEST).chmod(0o600)
    return made


def test_a_user_is_read(files: Files) -> None:
    """He is known by the number that the kernel knows, and where he stands is told."""
    files.write("etc/aovpnd.toml", f"[lan]\nallow = true\n{ALICE}")
    found = files.load()

    assert (found.problems, found.users) == ((), (User("alice", 1000, only="work"),))
    assert Origin("user.alice", "only work", f"{files.etc}/aovpnd.toml", 3) in found.origins
    assert "user.alice" not in found.locked


def test_every_form(files: Files) -> None:
    """One or several, by name or number; a tunnel that stands only while its user is logged in."""
    files.write(
        "etc/aovpnd.toml",
        '[[user]]\nname = ["alice", 20000]\nonly = "work"\nwhen = "logged-in"\n'
        '[[user]]\nname = "backup"\nnever = ["home", "work"]\n',
    )
    found = files.load()

    assert found.problems == ()
    assert set(found.users) == {
        User("alice", 1000, only="work", when=When.LOGGED_IN),
        User("20000", 20000, only="work", when=When.LOGGED_IN),
        User("backup", 34, never=("home", "work")),
    }


def test_layers(files: Files) -> None:
    """Of several files that speak of somebody the strongest says all of it; a policy locks him."""
    files.write("etc/aovpnd.toml", ALICE + ALICE.replace("alice", "bob"))
    files.write("etc/conf.d/a.toml", '[[user]]\nname = "alice"\nnever = "home"\n')
    assert files.load().users == (User("alice", 1000, never=("home",)), User("bob", 1001, only="work"))

    files.write("etc/policy.d/p.toml", ALICE.replace("alice", "1000").replace('"1000"', "1000").replace("work", "home"))
    found = files.load()

    assert found.users == (User("1000", 1000, only="home"), User("bob", 1001, only="work"))
    assert found.locked == {"user.1000"}


WRONG: Final = {
    "nobody": ('[[user]]\nonly = "work"\n', 1, "user.name: names nobody"),
    "no names": ('[[user]]\nname = []\nonly = "work"\n', 2, "user.name: names nobody"),
    "root": ('[[user]]\nname = "root"\nonly = "work"\n', 2, "user.name: root is kept from nothing"),
    "root by number": ('[[user]]\nname = 0\nonly = "work"\n', 2, "user.name: root is kept from nothing"),
    "ours": ('[[user]]\nname = "aovpnd-wg-go"\nonly = "work"\n', 2, "'aovpnd-wg-go' is a user of aovpnd's own"),
    "ours by number": ('[[user]]\nname = 990\nnever = "work"\n', 2, "'990' is a user of aovpnd's own"),
    "overflow": ('[[user]]\nname = "nobody"\nonly = "work"\n', 2, "'nobody' is nobody in particular"),
    "too large": ('[[user]]\nname = 4294967295\nonly = "work"\n', 2, "is nobody in particular"),
    "negative": ('[[user]]\nname = -1\nonly = "work"\n', 2, "is nobody in particular"),
    "no name": ('[[user]]\nname = "a b; drop"\nonly = "work"\n', 2, "'a b; drop' is no user's name"),
    "true": ('[[user]]\nname = true\nonly = "work"\n', 2, "must be a text, not true or false"),
    "nothing said": ('[[user]]\nname = "alice"\n', 1, "user.only: takes one of the keys only and never"),
    "both": (ALICE + 'never = "home"\n', 3, "user.only: takes one of the keys only and never"),
    "several": ('[[user]]\nname = "alice"\nonly = ["work"]\n', 3, "user.only: must be a text, not a list"),
    "none": ('[[user]]\nname = "alice"\nnever = []\n', 3, "user.never: an empty list forbids nothing"),
    "when": (ALICE + 'when = "sometimes"\n', 4, "user.when: 'sometimes' is not known"),
    "when of what": (
        '[[user]]\nname = "alice"\nnever = "home"\nwhen = "logged-in"\n',
        4,
        "user.when: is about the tunnel that somebody has to himself",
    ),
    "a table": ('[user]\nname = "alice"\n', 1, "user: is a list of tables"),
    "misspelt": (ALICE + 'onyl = "home"\n', 4, "'onyl' is no key of [[user]]"),
    "quoted number": ('[[user]]\nname = "1000"\nonly = "work"\n', 2, "this machine has no user called '1000'"),
    "two tables": (ALICE + ALICE.replace("only", "never"), 4, "user.name: 'alice' is named by another table as well"),
    "two tables, by number": (ALICE + '[[user]]\nname = 1000\nnever = "home"\n', 4, "'1000' is named by another table"),
    "twice": ('[[user]]\nname = ["bob", "bob"]\nonly = "work"\n', 2, "user.name: something stands twice in the list"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong(files: Files, name: str) -> None:
    """File, line, key and reason; and nothing is used that somebody may be kept from."""
    text, line, reason = WRONG[name]
    files.write("etc/aovpnd.toml", text)
    found = files.load()

    texts = [problem.text for problem in found.problems]
    assert any(said.startswith(f"{files.etc}/aovpnd.toml:{line}: ") and reason in said for said in texts), texts
    assert (found.tunnels, found.users) == ((), ())
    assert found.broken == {"home", "work"}


def test_what_was_good_is_kept(files: Files) -> None:
    """A mistake takes nobody's fence away."""
    files.write("etc/aovpnd.toml", ALICE)
    good = files.load()
    files.write("etc/aovpnd.toml", ALICE.replace("only", "onyl"))
    found = files.load(good)

    assert found.users == good.users
    assert found.origins == good.origins


def test_a_stranger(files: Files) -> None:
    """Who is not there is kept from nothing, and harms nobody: the rest holds, and it is told."""
    files.write("etc/aovpnd.toml", ALICE.replace('"alice"', '["zoe", "alice"]'))
    found = files.load()

    assert found.users == (User("alice", 1000, only="work"),)
    [problem] = found.problems
    assert (problem.code, problem.severity) == ("user-unknown", Severity.WARNING)
    assert "this machine has no user called 'zoe'" in problem.text


def test_a_tunnel_that_is_not_there(files: Files) -> None:
    """The check says so; in force it is as it was said: nobody but that tunnel's users may do without."""
    files.write("etc/aovpnd.toml", ALICE.replace("work", "wrok"))

    assert files.load().users == (User("alice", 1000, only="wrok"),)
    [finding] = check((), files.etc, files.state, files.vendor)
    assert (finding.severity, finding.line, finding.reason) == (Severity.WARNING, 1, "there is no tunnel called 'wrok'")


def test_one_tunnel_too_many(files: Files) -> None:
    """There are no more route tables for tunnels of users' own than sixteen; the check says which one has none."""
    for number in range(17):
        files.write(f"etc/tunnels/t{number:02}.conf", SMALLEST).chmod(0o600)
    text = "".join(f'[[user]]\nname = {2000 + number}\nonly = "t{number:02}"\n' for number in range(17))
    files.write("etc/aovpnd.toml", text)

    [finding] = check((), files.etc, files.state, files.vendor)
    assert (finding.line, finding.key) == (49, "user.only")
    assert "more than 16 tunnels that are somebody's own" in finding.reason


def test_each_stray_is_told_once(files: Files) -> None:
    """By the key that names it, however many users are meant."""
    files.write("etc/aovpnd.toml", '[[user]]\nname = ["alice", "bob"]\nnever = ["home", "wrok"]\n')

    [finding] = check((), files.etc, files.state, files.vendor)
    assert (finding.key, finding.reason) == ("user.never", "there is no tunnel called 'wrok'")


def test_users_cannot_choose(files: Files) -> None:
    """Nobody takes a fence away from himself."""
    files.write("state/choice.toml", ALICE)

    assert "users cannot choose this" in files.load().problems[0].text


def test_passwd(tmp_path: Path) -> None:
    """Lines that are none of passwd(5) name nobody; of two lines with a name the first counts."""
    file = tmp_path / "passwd"
    file.write_text(
        "alice:x:1000:1000::/home/alice:/bin/sh\nalice:x:7:7::/:/bin/sh\n\nbob:x:-1:1:::\ncarol:x:٣:1:::\nd:x:4\n"
        f"e:x:{'9' * 5000}:1:::\n+\n",
        encoding="utf-8",
    )

    assert passwd.users(file) == {"alice": 1000}
    assert passwd.users(tmp_path / "nowhere") == {}

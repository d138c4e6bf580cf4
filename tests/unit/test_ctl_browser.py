# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl sign-in`` where a browser is wanted: what is shown and opened, and when it ends."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import pytest

from aovpnd.ctl import browsing
from aovpnd.ctl.__main__ import main
from aovpnd.pages import Check, Page, Scheme, Visit
from tests.unit import scenes
from tests.unit.fake_daemon import FakeDaemon, fake_daemon

NAME: Final = "home"
URL: Final = "http://10.8.0.1/login?token=1"
CHECK: Final = Check(NAME, Page(Scheme.HTTP, ip_address("10.8.0.1"), 80))
SAID: Final = f"{NAME}: sign in with a browser, at {URL}\n"
DONE: Final = f"signed in: the gateway of {NAME} lets through\n"


def scene(visit: Visit | None) -> scenes.Scene:
    """Connected, with that known of the page."""
    return replace(scenes.CONNECTED, intent=replace(scenes.CONNECTED.intent, visit=visit))


def wanted(url: str = URL) -> scenes.Scene:
    """Connected, and a sign-in is wanted."""
    return scene(Visit(CHECK, "path", 1.0, 2.0, wanted=url, times=1))


IN: Final = scene(Visit(CHECK, "path", 1.0, 2.0, times=1))
UNKNOWN: Final = scene(Visit(CHECK, "path", 1.0, 2.0, vain=2))


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    """A daemon whose tunnel waits for a browser; nobody sits at a display."""
    monkeypatch.setenv("AOVPND_RUNTIME_DIR", str(tmp_path))
    for name in browsing.DISPLAYS:
        monkeypatch.delenv(name, raising=False)
    with fake_daemon(tmp_path) as running:
        running.publish(wanted())
        yield running


def later(daemon: FakeDaemon, *then: scenes.Scene) -> threading.Thread:
    """Publish one after the other, soon."""

    def publish() -> None:
        for each in then:
            time.sleep(0.6)
            daemon.publish(each)

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("words", [["sign-in"], ["sign-in", NAME]])
def test_shown_once_until_somebody_is_in(
    daemon: FakeDaemon, capfd: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """The URL, once, although each answer has another token; it ends when the daemon has seen that he is in."""
    thread = later(daemon, wanted(URL + "2"), UNKNOWN, wanted(URL + "3"), IN)
    assert main(words) == 0
    thread.join()
    assert capfd.readouterr() == (SAID + DONE, "")
    assert daemon.asked == []  # whoever may open a page need not be one who may sign in


def test_as_json(daemon: FakeDaemon, capfd: pytest.CaptureFixture[str]) -> None:
    """An order's keys; the URL is for a person."""
    later(daemon, IN)
    assert main(["sign-in", "--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out) == {"ok": True, "text": DONE.strip(), "expires_at": None, "remaining_s": None}
    assert err == SAID


@pytest.mark.parametrize("then", [wanted(), UNKNOWN])
def test_nobody_comes(daemon: FakeDaemon, capfd: pytest.CaptureFixture[str], then: scenes.Scene) -> None:
    """When the time is over it fails; also where nothing is known any more, which is not being in."""
    later(daemon, then)
    assert main(["sign-in", NAME, "--timeout", "2s"]) == 1
    out, err = capfd.readouterr()
    assert out == SAID
    assert "nobody has signed in to home within 2 s" in err


def test_nothing_is_wanted(daemon: FakeDaemon, capfd: pytest.CaptureFixture[str]) -> None:
    """As where no password is asked for."""
    daemon.publish(IN)
    assert main(["sign-in"]) == 1
    assert main(["sign-in", NAME]) == 1
    err = capfd.readouterr().err
    assert "no tunnel waits for anything" in err
    assert "nothing is asked for by home" in err


@pytest.mark.parametrize(
    ("uid", "environment", "opened"),
    [
        (1000, {"WAYLAND_DISPLAY": "wayland-0"}, True),
        (1000, {"DISPLAY": ":0"}, True),
        (1000, {}, False),
        (0, {"DISPLAY": ":0", "WAYLAND_DISPLAY": "wayland-0"}, False),
    ],
)
def test_opened_where_somebody_sits(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, uid: int, environment: dict[str, str], *, opened: bool
) -> None:
    """By a program with arguments, and never as root."""
    started = []
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(subprocess, "Popen", lambda words, **_: started.append(words))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    later(daemon, IN)
    assert main(["sign-in"]) == 0
    assert started == ([["/usr/bin/xdg-open", URL]] if opened else [])


def test_no_opener(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is on the screen all the same."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(browsing, "OPENER", "/nonexistent")
    monkeypatch.setenv("DISPLAY", ":0")
    later(daemon, IN)
    assert main(["sign-in"]) == 0


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "file:///etc/passwd", "-version", "http://a b/", "http://a/\x1b[2J", "http://ä/", 7, None],
)
def test_what_no_daemon_of_ours_publishes(url: object) -> None:
    """It is neither shown nor opened."""
    assert browsing.pages({"tunnels": [{"name": NAME, "sign_in_url": url}, {"name": "older"}]}) == {}
    assert browsing.pages({"tunnels": [{"name": NAME, "sign_in_url": "http://a/" + "x" * 2048}]}) == {}


def test_told_once() -> None:
    """Each page once for as long as the tunnel waits, of a gateway that makes up new ones a few; later anew."""
    told = browsing.Told()

    def news(url: str | None, known: str | None = "wanted") -> dict[str, str]:
        return told.news({"tunnels": [{"name": NAME, "sign_in": known, "sign_in_url": url}]})

    assert news(URL) == {NAME: URL}
    assert news(URL) == news(URL + "9") == news(None, None) == news(URL) == {}
    made_up = [news(f"http://10.8.0.1/{number}") for number in range(100)]
    assert len([each for each in made_up if each]) == browsing.MOST_TOLD - 1
    assert news(None, "done") == {}
    assert news(URL) == {NAME: URL}


def test_the_agent_tells_once(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """However often it looks, and it opens nothing; when somebody has been in and is out again, it tells anew."""
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(subprocess, "Popen", None)
    looks = iter([wanted(), wanted(URL + "2"), UNKNOWN, wanted(), IN, wanted(), wanted(), None])

    def pause(_: float) -> None:
        then = next(looks)
        if then is None:
            raise KeyboardInterrupt
        daemon.publish(then)

    monkeypatch.setattr(time, "sleep", pause)
    assert main(["sign-in", "--agent"]) == 130
    assert capfd.readouterr() == (SAID * 2, "")

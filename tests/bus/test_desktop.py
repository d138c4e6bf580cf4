# SPDX-License-Identifier: GPL-3.0-or-later
"""The other side of aovpnd-bus: changes of the status, sleep, the names of networks, the connectivity check."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from aovpnd.orders import Command, NameNetworks, PrepareSleep, Woke
from tests.bus.services import Login, NetworkManager, Service
from tests.bus.stage import DEADLINE_S, Stage, stage
from tests.lab.process import wait_for
from tests.unit import scenes


@pytest.fixture
def scene() -> Iterator[Stage]:
    """One stage for each test, with logind and NetworkManager."""
    with stage(login=True, manager=True) as built:
        wait_for("sleep to be held back", lambda: logind(built).held(), deadline_s=DEADLINE_S)
        yield built


def logind(scene: Stage) -> Login:
    """The stand-in."""
    assert scene.login is not None
    return scene.login


def network_manager(scene: Stage) -> NetworkManager:
    """The stand-in."""
    assert scene.manager is not None
    return scene.manager


def wait_told(scene: Stage, *commands: Command) -> None:
    """Wait until the last things that the daemon was told are these."""

    def told() -> bool:
        return tuple(scene.daemon.asked[-len(commands) :]) == commands

    wait_for(f"{commands}", told, deadline_s=DEADLINE_S, poll_s=0.01)


# ── status ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Listener(Service):
    """Somebody who hears our signals."""

    def __init__(self, scene: Stage) -> None:
        super().__init__(scene.loop, scene.bus.address, "")
        self.heard: list[tuple[str, Any]] = []

        def hear(_con: Any, _sender: str, _path: str, _iface: str, signal: str, values: Any) -> None:
            self.heard.append((signal, values.unpack()))

        def listen() -> None:
            self.connection.signal_subscribe("org.aovpnd1", None, None, "/org/aovpnd1", None, 0, hear)

        scene.loop.do(listen)
        self.driver("GetId", "()")  # the bus has taken the subscription in before it answers this


def test_changes_are_announced(scene: Stage) -> None:
    """Each change of phase is a StatusChanged and a PropertiesChanged with what changed; no change is no signal."""
    caller = scene.caller()
    wait_for("the status", lambda: phase(caller.call("Status")) == "connected", deadline_s=DEADLINE_S)
    listener = Listener(scene)
    try:
        scene.daemon.publish(scenes.TEMPORARY_ACCESS)
        wait_for("the signals", lambda: len(listener.heard) >= 2, deadline_s=DEADLINE_S)
        (properties, (interface, changed, invalidated)), status = listener.heard[:2]
        assert (properties, interface, invalidated) == ("PropertiesChanged", "org.aovpnd1.Manager", [])
        assert changed.pop("TemporaryAccessUntil") > 0
        assert changed == {"Phase": "temporary-access", "Protected": False, "Tunnel": ""}
        assert status == ("StatusChanged", ("temporary-access", False))
        del listener.heard[:]
        scene.daemon.publish(scenes.CONNECTED)
        scene.daemon.publish(scenes.CONNECTED)
        wait_for("the signals", lambda: len(listener.heard) >= 2, deadline_s=DEADLINE_S)
        assert phase(caller.call("Status")) == "connected"
        assert len(listener.heard) == 2
    finally:
        listener.close()


def phase(answer: dict[str, Any]) -> str:
    """The phase of a status."""
    return str(json.loads(answer["values"][0])["phase"]) if "values" in answer else ""


def test_status_is_what_is_published(scene: Stage) -> None:
    """As JSON, with the time left as it is now, and without what is the reader's own."""
    caller = scene.caller()
    scene.daemon.publish(scenes.TEMPORARY_ACCESS)
    wait_for("the status", lambda: phase(caller.call("Status")) == "temporary-access", deadline_s=DEADLINE_S)
    document = json.loads(caller.call("Status")["values"][0])

    assert (document["schema"], document["protected"]) == (1, False)
    assert 0 < document["temporary_access"]["remaining_s"] <= 176
    assert not [key for key in (*document, *document["temporary_access"]) if key.startswith("_")]


# ── sleep ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_window_is_closed_before_sleep(scene: Stage) -> None:
    """Logind has to wait until the daemon has answered; after waking it is held back again, and the daemon looks."""
    assert logind(scene).held() == [("sleep", "aovpnd", "Temporary internet access is closed first", "delay")]
    scene.daemon.may_answer.clear()
    logind(scene).sleep(start=True)
    wait_told(scene, PrepareSleep())
    assert len(logind(scene).held()) == 1  # the window is not closed yet
    scene.daemon.may_answer.set()
    wait_for("sleep to be let go", lambda: not logind(scene).held(), deadline_s=DEADLINE_S, poll_s=0.01)
    logind(scene).sleep(start=False)
    wait_told(scene, Woke())
    wait_for("sleep to be held back", lambda: len(logind(scene).held()) == 1, deadline_s=DEADLINE_S)


def test_sleep_does_not_wait_for_a_dead_daemon(scene: Stage) -> None:
    """Where nobody answers, whoever closes the lid is not kept waiting."""
    scene.kill()
    (scene.runtime / "control.sock").unlink()
    scene.start()
    wait_for("sleep to be held back", lambda: logind(scene).held(), deadline_s=DEADLINE_S)
    logind(scene).sleep(start=True)
    wait_for("sleep to be let go", lambda: not logind(scene).held(), deadline_s=DEADLINE_S, poll_s=0.01)


def test_logind_is_restarted(scene: Stage) -> None:
    """The new one is asked to wait as well; one that is not there disturbs nothing."""
    logind(scene).close()
    scene.login = Login(scene.loop, scene.bus.address)
    wait_for("sleep to be held back", lambda: logind(scene).held(), deadline_s=DEADLINE_S)
    logind(scene).sleep(start=True)
    wait_told(scene, PrepareSleep())


def test_logind_that_refuses_is_asked_again(scene: Stage) -> None:
    """One that has too much to do, as at boot, is not given up; and once it sleeps, nobody holds it back again."""
    logind(scene).refusing = 1
    logind(scene).sleep(start=True)
    wait_for("sleep to be let go", lambda: not logind(scene).held(), deadline_s=DEADLINE_S, poll_s=0.01)
    logind(scene).sleep(start=False)
    wait_told(scene, PrepareSleep(), Woke())
    assert not logind(scene).held()
    wait_for("sleep to be held back", lambda: logind(scene).held(), deadline_s=DEADLINE_S)


# ── networks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_names_of_networks_are_told(scene: Stage) -> None:
    """Each change of network is one report; names that nobody can print are spelt out."""
    network_manager(scene).join(b"CoffeeShop")
    wait_told(scene, NameNetworks((("wlan0", "CoffeeShop"),)))
    network_manager(scene).join(b"\x1b[2J\xff")
    wait_told(scene, NameNetworks((("wlan0", r"\x1b[2J\xff"),)))
    network_manager(scene).join(None)
    wait_told(scene, NameNetworks(()))


def test_network_manager_is_restarted(scene: Stage) -> None:
    """While it is away nobody has a name."""
    network_manager(scene).join(b"CoffeeShop")
    wait_told(scene, NameNetworks((("wlan0", "CoffeeShop"),)))
    network_manager(scene).close()
    wait_told(scene, NameNetworks(()))
    scene.start_services(polkit=False, manager=True)
    network_manager(scene).join(b"Home")
    wait_told(scene, NameNetworks((("wlan0", "Home"),)))


def test_connectivity_check_is_tamed_and_restored(scene: Stage) -> None:
    """Off while the block is on, on again when an administrator takes it off."""
    manager = network_manager(scene)
    wait_for("the check to be off", lambda: not manager.check, deadline_s=DEADLINE_S)
    scene.daemon.publish(scenes.UNBLOCKED)
    wait_for("the check to be on", lambda: manager.check, deadline_s=DEADLINE_S)
    scene.daemon.publish(scenes.BLOCKED)
    wait_for("the check to be off", lambda: not manager.check, deadline_s=DEADLINE_S)


def test_connectivity_check_survives_deaths(scene: Stage) -> None:
    """Killed, and NetworkManager restarted, in between: what we turned off is still ours to turn on."""
    wait_for("the check to be off", lambda: not network_manager(scene).check, deadline_s=DEADLINE_S)
    scene.kill()
    network_manager(scene).close()
    scene.start_services(polkit=False, manager=True)
    assert not network_manager(scene).check
    scene.daemon.publish(scenes.UNBLOCKED)
    scene.start()
    wait_for("the check to be on", lambda: network_manager(scene).check, deadline_s=DEADLINE_S)


def test_check_that_others_turned_off_stays_off() -> None:
    """What we did not turn off we do not turn on."""
    with stage(start=False) as scene:
        (scene.directory / "nm-check-off").touch()
        scene.start_services(polkit=False, manager=True)
        scene.start()
        network_manager(scene).join(b"Home")
        wait_told(scene, NameNetworks((("wlan0", "Home"),)))
        scene.daemon.publish(scenes.UNBLOCKED)
        caller = scene.caller()
        wait_for("the status", lambda: phase(caller.call("Status")) == "unblocked", deadline_s=DEADLINE_S)
        network_manager(scene).join(b"Work")
        wait_told(scene, NameNetworks((("wlan0", "Work"),)))  # the same task has looked at the check before
        assert not network_manager(scene).check

# SPDX-License-Identifier: GPL-3.0-or-later
"""Tunnels that ask a person: nothing is tried without an answer, nor again with one that was refused or has served.

Real charon at both ends, senders of all kinds on the laptop, a recorder on the far side; how often the gateway was
asked is read off the gateway's own log.
"""

import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from aovpnd import names
from tests.lab.ike import USER, Way
from tests.lab.ike_client import FAST, account, install
from tests.lab.process import wait_for
from tests.netns.protected import ORDINARY, Protected
from tests.netns.signing_in import attempts, sign_in, told

pytestmark = pytest.mark.root

ASKED: Final = {
    "eap-once": (Way.EAP_MSCHAPV2, "once"),
    "eap-each": (Way.EAP_MSCHAPV2, "each time"),
    "xauth-once": (Way.V1_MAIN, "once"),
    "xauth-each": (Way.V1_MAIN, "each time"),
}
"""Tunnels by their names: how the laptop shows itself, and for how long an answer is good."""
WRONG: Final = "Wq8zLk3tVb6nXs1c"
OPENS: Final = "Rt5mHy9cKd2pZf7w"
STILL_S: Final = 15.0
"""Longer than several of the attempts that a silent gateway would get."""


@pytest.fixture(scope="module")
def laptop() -> Iterator[Protected]:
    """One world for this file, its laptop at home, disconnected."""
    with Protected.build(links=("wlan0",), way=Way.EAP_MSCHAPV2, tunnel=False, start=False) as built:
        built.lab.write_config('[ike]\nallow_weak = true\n[tunnel]\nprefer = ["eap-once"]\n')
        for name, (way, ask) in ASKED.items():
            made = account(built.world.ike, way, families=(4, 6), settings=FAST)
            text = made.text.replace(f'password_file = "keys/{USER}"', f'password = {{ ask = "{ask}" }}')
            assert text != made.text
            files = {file: held for file, held in made.files.items() if file != USER}
            install(built.lab, replace(made, text=text, files=files), name)
        made = account(built.world.ike, Way.CERTIFICATE, families=(4, 6), settings=FAST)
        hidden = _hidden(made.files["laptop.key"])
        text = made.text.replace('key = "keys/laptop.key"', 'key = "keys/hidden.key"\npassword = { ask = "once" }')
        files = {**made.files, "hidden.key": hidden}
        del files["laptop.key"]
        install(built.lab, replace(made, text=text, files=files), "key")
        built.lab.start_daemon()
        built.lab.ctl("disconnect")
        built.world.roam("home", ipv6=True)
        yield built


def stays_quiet(laptop: Protected) -> None:
    """For a while the gateway is asked nothing, and the daemon's log says nothing."""
    asked, mark = attempts(laptop), len(laptop.lab.daemon_log())
    end = time.monotonic() + STILL_S
    wait_for("a while", lambda: time.monotonic() > end, deadline_s=2 * STILL_S, poll_s=0.5)
    assert attempts(laptop) == asked
    assert laptop.log_since(mark).count("\n") <= 2


@pytest.mark.parametrize("name", ["eap-once", "xauth-once"])
def test_asked_refused_and_signed_in(laptop: Protected, name: str) -> None:
    """Nothing is tried before somebody signs in; a wrong password is shown once and no more; the right one connects,
    and is good for a lost SA as well.
    """
    right, start = laptop.world.ike.password, attempts(laptop)
    with laptop.nothing_leaves(ORDINARY) as watch:
        laptop.lab.ctl("connect", name)
        assert USER in told(laptop, "sign-in-wanted")
        stays_quiet(laptop)
        assert attempts(laptop) == start

        wrong = sign_in(laptop, name, WRONG)
        assert (wrong.returncode, attempts(laptop) - start) == (1, 1), f"{wrong.stderr}{laptop.said()}"
        assert f"aovpnctl sign-in {name}" in wrong.stderr
        assert "refuses the user or the password" in told(laptop, "sign-in-refused")
        stays_quiet(laptop)

        done = sign_in(laptop, name, right)
        assert done.returncode == 0, f"{done.stderr}{laptop.said()}"
        watch.until("the tunnel", laptop.works)
        before = attempts(laptop)
        laptop.world.ike.restart()
        watch.until("the tunnel again", lambda: attempts(laptop) > before and laptop.works(), deadline_s=60)
    laptop.lab.ctl("disconnect")
    printed = f"{wrong.stdout}{wrong.stderr}{done.stdout}{done.stderr}{laptop.lab.daemon_log()}"
    for secret in (WRONG, right):
        assert secret not in printed
        assert not _kept(laptop, secret)


@pytest.mark.parametrize("name", ["eap-each", "xauth-each"])
def test_a_one_time_password_serves_once(laptop: Protected, name: str) -> None:
    """It connects; when charon is killed the network is closed, nothing is tried with it, and another one connects."""
    with laptop.nothing_leaves(ORDINARY) as watch:
        laptop.lab.ctl("connect", name)
        told(laptop, "sign-in-wanted")
        done = sign_in(laptop, name, laptop.world.ike.password)
        assert done.returncode == 0, f"{done.stderr}{laptop.said()}"
        watch.until("the tunnel", laptop.works)

        before = attempts(laptop)
        for pid in laptop.lab.host.pids_of("charon-systemd"):
            laptop.lab.host.run("kill", f"-{int(signal.SIGKILL)}", str(pid))
        assert "one-time password" in told(laptop, "sign-in-wanted")
        stays_quiet(laptop)
        assert (attempts(laptop), laptop.works(), laptop.protected()) == (before, False, True)

        again = sign_in(laptop, name, laptop.world.ike.password)
        assert again.returncode == 0, f"{again.stderr}{laptop.said()}"
        watch.until("the tunnel again", laptop.works)
    laptop.lab.ctl("disconnect")


def test_an_encrypted_key(laptop: Protected) -> None:
    """A wrong password is told at once, and the gateway hears of nothing; the right one opens the key and connects."""
    start = attempts(laptop)
    with laptop.nothing_leaves(ORDINARY) as watch:
        laptop.lab.ctl("connect", "key")
        assert "password of the private key" in told(laptop, "sign-in-wanted")
        wrong = sign_in(laptop, "key", WRONG)
        assert (wrong.returncode, attempts(laptop)) == (1, start)
        assert "has another password" in wrong.stderr

        done = sign_in(laptop, "key", OPENS)
        assert done.returncode == 0, f"{done.stderr}{laptop.said()}"
        watch.until("the tunnel", laptop.works)
    laptop.lab.ctl("disconnect")
    assert not _kept(laptop, OPENS)


def _hidden(key: str) -> str:
    """A private key, encrypted by `OPENS`."""
    read = load_pem_private_key(key.encode(), None)
    return read.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(OPENS.encode())).decode()


def _kept(laptop: Protected, secret: str) -> bool:
    """Whether a file of the daemon's or charon's holds a secret."""
    places = (names.RUNTIME_DIR, names.STATE_DIR, names.CONFIG_DIR)
    return laptop.lab.host.run("grep", "-rqsF", "--devices=skip", secret, *places, check=False).returncode == 0

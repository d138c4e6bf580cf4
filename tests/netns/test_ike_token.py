# SPDX-License-Identifier: GPL-3.0-or-later
"""IKE tunnels whose key is in a PKCS#11 token: real charon at both ends, SoftHSM for the token.

Tokens count the PINs that they refuse, and lock after a few: so what is asserted besides is how often one was asked,
by charon's own log.
"""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import pytest

from aovpnd import names
from tests.lab import pkcs11, plan
from tests.lab.ike import Way
from tests.lab.ike_client import FAST, account, install
from tests.lab.process import wait_for
from tests.netns.protected import ORDINARY, Protected
from tests.netns.signing_in import attempts, sign_in, told

pytestmark = pytest.mark.root

WRONG: Final = "271828"
TUNNELS: Final = {
    "token": 'pin_file = "keys/pin"',
    "wrong": 'pin_file = "keys/wrong-pin"',
    "asking": 'pin = { ask = "once" }',
}
"""Tunnels by their names, and where the PIN is from."""


@pytest.fixture(scope="module")
def laptop() -> Iterator[Protected]:
    """One world for this file, its laptop at home, disconnected, with a token that has no key."""
    with Protected.build(links=("wlan0",), way=Way.CERTIFICATE, tunnel=False, start=False) as built:
        built.lab.write_config('[tunnel]\nprefer = ["token"]\n')
        pkcs11.install(built.lab.host)
        gateways = (str(plan.GATEWAY4), f"[{plan.GATEWAY6}]")
        made = account(built.world.ike, Way.CERTIFICATE, gateways=gateways, families=(4, 6), settings=FAST)
        files = {"laptop.crt": made.files["laptop.crt"], "ca.crt": made.files["ca.crt"]}
        files |= {"pin": f"{pkcs11.PIN}\n", "wrong-pin": f"{WRONG}\n"}
        for name, pin in TUNNELS.items():
            token = f'token = {{ module = "{pkcs11.MODULE}", handle = "{pkcs11.HANDLE}", {pin} }}'
            text = made.text.replace('key = "keys/laptop.key"', token)
            assert text != made.text
            install(built.lab, replace(made, text=text, files=files), name)
        built.lab.start_daemon()
        built.lab.ctl("disconnect")
        built.world.roam("home", ipv6=True)
        yield built


def _log(laptop: Protected) -> str:
    """What the tunnel's charon says."""
    path = laptop.lab.host.path(f"{names.RUNTIME_DIR}/charon/{names.LINK_PREFIX}0/own/log")
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _asked(laptop: Protected) -> int:
    """How often the token has refused a PIN."""
    return _log(laptop).count("login to 'token1'")


def test_a_key_that_is_in_the_token_later(laptop: Protected) -> None:
    """Without its key the network stays closed and status says what is missing; with it the tunnel comes up by itself,
    both families.
    """
    with laptop.nothing_leaves(ORDINARY) as watch:
        laptop.lab.ctl("connect", "token", check=False)
        assert "token" in told(laptop, "ike-token-missing")
        assert not laptop.works()

        pkcs11.put(laptop.lab.host, laptop.world.ike.pki.text("laptop.key"))
        watch.until("the tunnel", laptop.works, deadline_s=60)
    assert laptop.problems() == {}
    assert laptop.world.ike.established(Way.CERTIFICATE) == 1
    assert pkcs11.PIN not in laptop.lab.daemon_log() + _log(laptop)
    laptop.lab.ctl("disconnect")


def test_a_wrong_pin_is_tried_once(laptop: Protected) -> None:
    """The gateway hears of nothing, the token is asked once, though the daemon looks again and again, and by another
    address; the right one in the file connects.
    """
    heard = attempts(laptop)
    with laptop.nothing_leaves(ORDINARY) as watch:
        laptop.lab.ctl("connect", "wrong", check=False)
        assert "refuses the PIN" in told(laptop, "ike-pin-refused")
        wait_for("several attempts", lambda: _log(laptop).count("vici connection") >= 2, deadline_s=60, poll_s=0.1)
        assert (_asked(laptop), laptop.works()) == (1, False)
        assert attempts(laptop) == heard

        laptop.lab.host.path("/etc/aovpnd/keys/wrong-pin").write_text(f"{pkcs11.PIN}\n", encoding="ascii")
        for pid in laptop.lab.host.pids_of("aovpnd"):
            os.kill(pid, signal.SIGHUP)
        watch.until("the tunnel", laptop.works, deadline_s=60)
    laptop.lab.ctl("disconnect")


def test_a_pin_is_asked_for(laptop: Protected) -> None:
    """Nothing is tried before somebody gives it; a wrong one is shown to the token once, the right one connects."""
    with laptop.nothing_leaves(ORDINARY) as watch:
        laptop.lab.ctl("connect", "asking", check=False)
        assert "PIN" in told(laptop, "sign-in-wanted")
        assert _asked(laptop) == 0

        wrong = sign_in(laptop, "asking", WRONG)
        assert wrong.returncode == 1
        assert _asked(laptop) == 1
        told(laptop, "sign-in-refused")

        done = sign_in(laptop, "asking", pkcs11.PIN)
        assert done.returncode == 0, f"{done.stderr}{laptop.said()}"
        watch.until("the tunnel", laptop.works)
        assert _asked(laptop) == 1
    laptop.lab.ctl("disconnect")
    assert pkcs11.PIN not in laptop.lab.daemon_log() + _log(laptop)

# SPDX-License-Identifier: GPL-3.0-or-later
"""What is published: the stable keys and what stands in them, phase by phase."""

import json
from dataclasses import replace
from typing import Any

import pytest

from aovpnd import __version__
from aovpnd.links import ARPHRD_NONE, Link, uplink_kind
from aovpnd.model import Config, GuardState, Origin, PeerState
from aovpnd.ruleset import Ruleset
from aovpnd.status import rfc3339
from tests.unit import scenes

UPLINKS = [{"name": None, "link": "wlan0", "kind": "wifi", "trusted": False, "portal": None}]
GUARDED = {
    "guarded": True,
    "managed_by": None,
    "user_may_unblock": False,
    "confirmed": True,
    "undone_in_s": None,
    "_undone_boot": None,
}
AVAILABLE = {
    "name": "work",
    "backend": "wireguard",
    "users": [],
    "role": "available",
    "link": None,
    "state": "down",
    "endpoint": "203.0.113.1:51820",
    "since": None,
    "last_handshake": None,
    "rx_bytes": None,
    "tx_bytes": None,
    "sign_in": None,
    "sign_in_url": None,
    "_since_boot": None,
    "_counted_from": [0, 0],
    "_handshake_wall": None,
}


def test_resting() -> None:
    """At rest: protected, and neither connected nor without a link; a companion beside it is not meant."""
    document = scenes.RESTING.document()
    chosen = next(tunnel for tunnel in document["tunnels"] if tunnel["name"] == "home")
    assert (document["phase"], document["protected"]) == ("resting", True)
    assert (chosen["state"], chosen["role"], chosen["link"], chosen["since"]) == ("resting", "chosen", "aovpn0", None)


def test_connected() -> None:
    """Connected: every key, with the types and units of the contract."""
    assert scenes.CONNECTED.document() == {
        "schema": 1,
        "protected": True,
        "phase": "connected",
        "uplinks": UPLINKS,
        "tunnels": [
            {
                "name": "home",
                "backend": "wireguard",
                "users": [],
                "role": "chosen",
                "link": "aovpn0",
                "state": "connected",
                "endpoint": "203.0.113.1:51820",
                "since": "2026-09-21T13:06:40Z",
                "last_handshake": "2026-09-21T14:12:35Z",
                "rx_bytes": 1_258_291,
                "tx_bytes": 348_160,
                "sign_in": None,
                "sign_in_url": None,
                "_since_boot": 1000.0,
                "_counted_from": [3000, 1000],
                "_handshake_wall": 1_789_999_955,
            },
            AVAILABLE,
        ],
        "temporary_access": None,
        "block": GUARDED,
        "dns": None,
        "problems": [],
        "version": __version__,
    }


def test_temporary_access() -> None:
    """A window: the time left, for whom and why; nobody is protected while it is open."""
    assert scenes.TEMPORARY_ACCESS.document() == {
        "schema": 1,
        "protected": False,
        "phase": "temporary-access",
        "uplinks": UPLINKS,
        "tunnels": [],
        "temporary_access": {
            "remaining_s": 176,
            "expires_at": "2026-09-21T14:16:16Z",
            "scope": "machine",
            "link": "wlan0",
            "reason": "hotel portal",
            "granted_to": "alice",
            "_expires_boot": 5176.0,
        },
        "block": GUARDED,
        "dns": None,
        "problems": [],
        "version": __version__,
    }


def test_connecting() -> None:
    """Before the first handshake: no times, and the problem with its hint."""
    document = scenes.CONNECTING.document()

    assert document["tunnels"][0] == {
        "name": "home",
        "backend": "wireguard",
        "users": [],
        "role": "chosen",
        "link": "aovpn0",
        "state": "connecting",
        "endpoint": "203.0.113.1:51820",
        "since": None,
        "last_handshake": None,
        "rx_bytes": 0,
        "tx_bytes": 60,
        "sign_in": None,
        "sign_in_url": None,
        "_since_boot": None,
        "_counted_from": [0, 0],
        "_handshake_wall": None,
    }
    assert document["problems"] == [
        {
            "code": "no-handshake",
            "severity": "warning",
            "text": "the gateway of home (203.0.113.1:51820) does not answer",
            "hint": "a portal may be in the way: aovpnctl allow-temp; otherwise check the keys and the gateway",
        }
    ]


@pytest.mark.parametrize(
    ("scene", "phase", "protected"),
    [
        ("blocked", "blocked", True),
        ("disconnected", "blocked", True),
        ("offline", "offline", True),
        ("connecting", "connecting", True),
        ("connected", "connected", True),
        ("temporary-access", "temporary-access", False),
        ("unblocked", "unblocked", False),
    ],
)
def test_protected_in_each_phase(scene: str, phase: str, protected: bool) -> None:
    """Protected is: our ruleset stands, and nothing in clear is let out on purpose."""
    document = scenes.SCENES[scene].document()

    assert (document["phase"], document["protected"]) == (phase, protected)


@pytest.mark.parametrize("loaded", [None, Ruleset("inet", "aovpnd", (), comment="an older one")])
def test_only_the_verified_ruleset_protects(loaded: Ruleset | None) -> None:
    """A ruleset that is absent, altered, or not the one that should be is no protection, whatever the phase."""
    for scene in scenes.SCENES.values():
        altered = replace(scene, snapshot=replace(scene.snapshot, ruleset=loaded))
        assert altered.document()["protected"] is False


@pytest.mark.parametrize("name", scenes.SCENES)
def test_keys_are_stable(name: str) -> None:
    """Every phase has the same keys in the same order, and JSON can say all of it."""
    document = scenes.SCENES[name].document()

    assert list(document) == [
        "schema",
        "protected",
        "phase",
        "uplinks",
        "tunnels",
        "temporary_access",
        "block",
        "dns",
        "problems",
        "version",
    ]
    assert json.loads(json.dumps(document, allow_nan=False)) == document


@pytest.mark.parametrize("name", scenes.SCENES)
def test_no_key_is_published(name: str) -> None:
    """Everybody may read the file."""
    text = json.dumps(scenes.SCENES[name].document())

    assert scenes.HOME.private_key.value not in text
    assert scenes.HOME.digest() not in text


@pytest.mark.parametrize(
    ("guard", "guarded"), [(GuardState.HELD, True), (GuardState.STARTING, False), (GuardState.MISSING, False)]
)
def test_guarded_is_held(guard: GuardState, guarded: bool) -> None:
    """A guard that is starting guards nothing yet."""
    scene = replace(scenes.BLOCKED, snapshot=replace(scenes.BLOCKED.snapshot, guard=guard))

    assert scene.document()["block"]["guarded"] is guarded


def test_managed_by_names_the_policy() -> None:
    """A value from mandatory policy names the file that an administrator has to look at."""
    origins = (
        Origin("lan.allow", "false", "built-in"),
        Origin("tunnel.prefer", "home", "/etc/aovpnd/conf.d/10-home.toml", 2),
        Origin("temporary_access.max", "10min", "/etc/aovpnd/policy.d/50-corp.toml", 3),
    )
    scene = replace(scenes.BLOCKED, config=Config(origins=origins))

    assert scene.document()["block"]["managed_by"] == "/etc/aovpnd/policy.d/50-corp.toml"


def test_other_links_of_ours_are_not_this_tunnel() -> None:
    """A link that carries another key says nothing of the chosen tunnel."""
    stranger = replace(scenes.SHAKEN, digest="other")
    scene = replace(scenes.CONNECTING, snapshot=replace(scenes.CONNECTING.snapshot, tunnels=(stranger,)))
    tunnel: dict[str, Any] = scene.document()["tunnels"][0]

    assert (tunnel["link"], tunnel["rx_bytes"], tunnel["last_handshake"]) == (None, None, None)


def test_endpoint_is_where_the_gateway_was_heard() -> None:
    """A peer that roamed is shown where it is, not where the file says."""
    roamed = replace(scenes.ENDPOINT, port=443)
    peers = (
        *scenes.SHAKEN.peers,
        PeerState("b3RoZXI=", roamed, 1_789_999_990, 0, 0),
    )
    state = replace(scenes.SHAKEN, peers=peers)
    scene = replace(scenes.CONNECTED, snapshot=replace(scenes.CONNECTED.snapshot, tunnels=(state,)))

    assert scene.document()["tunnels"][0]["endpoint"] == "203.0.113.1:443"


def test_time_that_is_over_is_none() -> None:
    """A window whose end this pass came late to see has 0 seconds left, not fewer."""
    late = replace(scenes.TEMPORARY_ACCESS.snapshot, now=replace(scenes.NOW, boot=5200.0))

    assert replace(scenes.TEMPORARY_ACCESS, snapshot=late).document()["temporary_access"]["remaining_s"] == 0


def test_networks_have_the_names_that_were_reported() -> None:
    """Each uplink shows the name that a network manager gave for its link, and no other's."""
    scene = scenes.CONNECTED
    named = replace(scene, intent=replace(scene.intent, network_names=(("eth0", "x"), ("wlan0", "CoffeeShop"))))

    assert [uplink["name"] for uplink in named.document()["uplinks"]] == ["CoffeeShop"]
    assert [uplink["name"] for uplink in scene.document()["uplinks"]] == [None]


@pytest.mark.parametrize(
    ("link", "kind"),
    [
        (Link(2, "wlp3s0"), "wifi"),
        (Link(2, "wwan0", arphrd=ARPHRD_NONE), "mobile"),
        (Link(2, "enp0s31f6"), "ethernet"),
        (Link(2, "eth0", kind="veth"), "ethernet"),
        (Link(2, "br0", kind="bridge"), "bridge"),
        (Link(2, "ppp0", arphrd=512), "other"),
    ],
)
def test_kind_of_uplink(link: Link, kind: str) -> None:
    """What a person calls the link, as far as its name and kind tell."""
    assert uplink_kind(link) == kind


def test_times_are_rfc3339_utc() -> None:
    """To the second, rounded."""
    assert [rfc3339(0), rfc3339(1_790_000_000.6)] == ["1970-01-01T00:00:00Z", "2026-09-21T14:13:21Z"]

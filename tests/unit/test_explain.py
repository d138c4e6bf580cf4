# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a packet, in words: one row per situation, and nothing said that is not so."""

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, Final

import pytest

from aovpnd import destinations
from aovpnd.core.answers import answer
from aovpnd.core.decide import decide
from aovpnd.core.explain import Fate, explain
from aovpnd.core.picture import Picture
from aovpnd.core.plan import diff
from aovpnd.destinations import Routed
from aovpnd.model import Block, Config, Copies, Grant, GrantKind, GuardState, Intent, Lan, Origin, Phase
from aovpnd.orders import AllowTemporary, Disconnect, EnsureTunnel, Explain, SetBlock
from aovpnd.repairs import Failure
from aovpnd.routes import LinkAddress, Routing
from aovpnd.tunnel import Written
from tests.unit.small_companions import few_accompanied
from tests.unit.small_users import few_divided
from tests.unit.small_world import CLOCK, DOCKER, WORK, few_situations
from tests.unit.world import Laptop

OFFICE: Final = replace(
    WORK,
    name="office",
    source="/etc/aovpnd/tunnels/office.conf",
    written=(
        Written("Address", "10.64.0.2/32", 3),
        Written("AllowedIPs", "0.0.0.0/0", 7),
        Written("AllowedIPs", "::/0", 7),
        Written("Endpoint", "192.0.2.1:51820", 8),
        Written("Endpoint", "[2001:db8:e::1]:51820", 11),
    ),
)
NARROW: Final = replace(OFFICE, peers=(replace(OFFICE.peers[0], allowed=(ip_network("10.0.0.0/8"),)),))
LAN_OFF: Final = Origin("lan.allow", "false", "built-in")
LAN_ON: Final = Origin("lan.allow", "true", "/etc/aovpnd/aovpnd.toml", 2)
ACCESS: Final = Origin("temporary_access.enabled", "true", "built-in")
ORIGINS: Final = (LAN_OFF, ACCESS)
PUBLIC: Final = "203.0.113.80"


def laptop(config: Config | None = None, *, site: str | None = "home") -> Laptop:
    """At home with a tunnel, nothing settled yet."""
    made = Laptop(config if config is not None else Config((OFFICE,), origins=ORIGINS))
    made.snapshot = replace(
        made.snapshot, addresses=(LinkAddress(DOCKER.index, ip_interface("172.17.0.1/16")),), guard=GuardState.HELD
    )
    if site is not None:
        made.join(site)
    return made


def picture(of: Laptop) -> Picture:
    """At rest."""
    desired = of.settle()
    return Picture(of.config, of.intent, of.snapshot, desired, diff(desired, of.snapshot))


def connected() -> Laptop:
    """With the tunnel up."""
    return laptop()


def blocked() -> Laptop:
    """Without any tunnel."""
    return laptop(Config(origins=ORIGINS))


def disconnected() -> Laptop:
    """The user wants no tunnel."""
    made = laptop()
    made.settle(Disconnect())
    return made


def connecting() -> Laptop:
    """The gateway does not answer."""
    made = laptop()
    made.answers = False
    return made


def without_link() -> Laptop:
    """The tunnel's link cannot be made."""
    made = laptop()
    made.fails.add(EnsureTunnel)
    return made


def nowhere() -> Laptop:
    """On no network, and without a tunnel."""
    return laptop(Config(origins=ORIGINS), site=None)


def offline() -> Laptop:
    """On no network."""
    return laptop(site=None)


def open_for_alice() -> Laptop:
    """In a window."""
    made = blocked()
    made.settle(AllowTemporary(180, "portal", "alice"))
    return made


def lan() -> Laptop:
    """The local network may be reached."""
    return laptop(Config((OFFICE,), lan=Lan.ALLOW, origins=(LAN_ON,)))


def public_lan() -> Laptop:
    """The lease calls public addresses local."""
    made = lan()
    made.snapshot = replace(made.snapshot, addresses=(LinkAddress(2, ip_interface("203.0.113.23/24")),))
    return made


def locked_lan() -> Laptop:
    """A policy keeps it shut."""
    origin = Origin("lan.allow", "false", "/etc/aovpnd/policy.d/corp.toml", 4)
    return laptop(Config((OFFICE,), origins=(origin,), locked=frozenset({"lan.allow"})))


def narrow() -> Laptop:
    """A tunnel that carries one network alone."""
    return laptop(Config((NARROW,), origins=ORIGINS))


def narrow_connecting() -> Laptop:
    """Its gateway does not answer."""
    made = narrow()
    made.answers = False
    return made


def unblocked() -> Laptop:
    """An administrator took the block off."""
    made = laptop()
    made.settle(SetBlock(Block.OFF))
    return made


ROWS: Final[tuple[tuple[Callable[[], Laptop], str, Fate, str], ...]] = (
    (connected, PUBLIC, Fate.TUNNEL, f"{PUBLIC}:443/tcp leaves through the tunnel office (aovpn0)"),
    (
        connected,
        "[2001:db8::80]:53/udp",
        Fate.TUNNEL,
        "[2001:db8::80]:53/udp leaves through the tunnel office (aovpn0)",
    ),
    (connected, f"{PUBLIC}/icmp", Fate.TUNNEL, f"{PUBLIC}/icmp leaves through the tunnel office (aovpn0)"),
    (connected, "127.0.0.53:53/udp", Fate.HERE, "127.0.0.53:53/udp stays on this machine"),
    (connected, "192.168.1.23:22", Fate.HERE, "192.168.1.23:22/tcp stays on this machine"),
    (connected, "172.17.0.2:80", Fate.GUESTS, "172.17.0.2:80/tcp goes to a guest of this machine, by docker0"),
    (
        connected,
        "172.17.0.2:53/udp",
        Fate.REFUSED,
        "172.17.0.2:53/udp is refused at once: DNS leaves by no link but the tunnel",
    ),
    (
        connected,
        "192.168.1.255:137/udp",
        Fate.REFUSED,
        "192.168.1.255:137/udp is refused at once: the local network of wlan0 stays closed",
    ),
    (
        connected,
        "[ff02::fb%wlan0]:5353/udp",
        Fate.REFUSED,
        "[ff02::fb%wlan0]:5353/udp is refused at once: the local network of wlan0 stays closed",
    ),
    (
        connected,
        "fe80::1%wlan0",
        Fate.UNROUTED,
        "[fe80::1%wlan0]:443/tcp is refused at once: the local network of wlan0 stays closed",
    ),
    (
        connected,
        "fe80::1%wlan7",
        Fate.UNROUTED,
        "[fe80::1%wlan7]:443/tcp is refused at once: no network can be reached by the link wlan7",
    ),
    (
        connected,
        "192.168.1.255:80",
        Fate.UNROUTED,
        "192.168.1.255:80/tcp is refused at once: TCP connects to one machine, and this is the address of many",
    ),
    (narrow, "10.1.2.3", Fate.TUNNEL, "10.1.2.3:443/tcp leaves through the tunnel office (aovpn0)"),
    (
        narrow,
        PUBLIC,
        Fate.UNROUTED,
        (
            f"{PUBLIC}:443/tcp is refused at once: the tunnel office does not carry it, and nothing leaves outside the "
            "tunnel"
        ),
    ),
    (
        narrow,
        "192.168.1.1",
        Fate.UNROUTED,
        "192.168.1.1:443/tcp is refused at once: the local network of wlan0 stays closed",
    ),
    (
        narrow,
        "192.0.2.1:51820/udp",
        Fate.UNROUTED,
        (
            "192.0.2.1:51820/udp is refused at once: that is the gateway of the tunnel office, where only the tunnel's "
            "own packets go"
        ),
    ),
    (
        blocked,
        PUBLIC,
        Fate.UNROUTED,
        f"{PUBLIC}:443/tcp is refused at once: there is no tunnel to go through, and nothing leaves outside one",
    ),
    (
        disconnected,
        PUBLIC,
        Fate.UNROUTED,
        f"{PUBLIC}:443/tcp is refused at once: the tunnel was disconnected, and the block stays",
    ),
    (
        connecting,
        PUBLIC,
        Fate.TUNNEL,
        f"{PUBLIC}:443/tcp goes into the tunnel office (aovpn0) and waits there: the gateway has not answered yet",
    ),
    (
        offline,
        f"{PUBLIC}/gre",
        Fate.TUNNEL,
        f"{PUBLIC}/gre goes into the tunnel office (aovpn0) and waits there: there is no network",
    ),
    (
        nowhere,
        PUBLIC,
        Fate.UNROUTED,
        f"{PUBLIC}:443/tcp is refused at once: there is no network, and without the tunnel nothing leaves",
    ),
    (
        without_link,
        PUBLIC,
        Fate.UNROUTED,
        f"{PUBLIC}:443/tcp is refused at once: the tunnel office is not up yet, and nothing leaves outside it",
    ),
    (open_for_alice, PUBLIC, Fate.ACCESS, f"{PUBLIC}:443/tcp leaves by wlan0 as temporary access (granted to alice)"),
    (
        open_for_alice,
        "192.168.1.1:53/udp",
        Fate.ACCESS,
        "192.168.1.1:53/udp leaves by wlan0 as temporary access (granted to alice)",
    ),
    (
        open_for_alice,
        "9.9.9.9:53/udp",
        Fate.REFUSED,
        (
            "9.9.9.9:53/udp is refused at once: while temporary access is open, names are asked of the lease's "
            "resolvers alone: 192.168.1.1"
        ),
    ),
    (open_for_alice, "2001:db8::1", Fate.UNROUTED, "[2001:db8::1]:443/tcp is refused at once: no route leads there"),
    (
        lan,
        "192.168.1.9:631",
        Fate.LAN,
        "192.168.1.9:631/tcp leaves by wlan0: the local network may be reached beside the tunnel",
    ),
    (
        lan,
        "192.168.1.9:53",
        Fate.REFUSED,
        "192.168.1.9:53/tcp is refused at once: DNS leaves by no link but the tunnel",
    ),
    (
        public_lan,
        "203.0.113.255:137/udp",
        Fate.REFUSED,
        (
            "203.0.113.255:137/udp is refused at once: it is on wlan0, whose network is no private one, so that it "
            "counts as the internet"
        ),
    ),
    (
        locked_lan,
        "192.168.1.255:9/udp",
        Fate.REFUSED,
        "192.168.1.255:9/udp is refused at once: the local network of wlan0 stays closed",
    ),
    (
        narrow,
        "192.168.1.1:53/udp",
        Fate.UNROUTED,
        "192.168.1.1:53/udp is refused at once: DNS leaves by no link but the tunnel",
    ),
    (
        lan,
        "[ff02::1:2%wlan0]:547/udp",
        Fate.REFUSED,
        (
            "[ff02::1:2%wlan0]:547/udp is refused at once: of multicast, the local network of wlan0 is open to "
            "discovery alone"
        ),
    ),
    (
        connected,
        "[ff02::1:2%wlan0]:547/udp",
        Fate.REFUSED,
        "[ff02::1:2%wlan0]:547/udp is refused at once: the local network of wlan0 stays closed",
    ),
    (
        narrow_connecting,
        PUBLIC,
        Fate.UNROUTED,
        (
            f"{PUBLIC}:443/tcp is refused at once: the tunnel office does not carry it, and nothing leaves outside the "
            "tunnel"
        ),
    ),
    (unblocked, PUBLIC, Fate.OPEN, f"{PUBLIC}:443/tcp leaves by wlan0 in clear: the block is off"),
    (unblocked, "2001:db8::1", Fate.UNROUTED, "[2001:db8::1]:443/tcp is refused at once: no route leads there"),
)


@pytest.mark.parametrize(("scene", "to", "fate", "text"), ROWS)
def test_what_becomes_of_it(scene: Callable[[], Laptop], to: str, fate: Fate, text: str) -> None:
    """The sentence, and whether it passes."""
    seen = picture(scene())
    said = answer(Explain(destinations.parse(to)), seen)

    assert said.text == text
    assert said.data is not None
    assert (said.data["fate"], said.data["passes"]) == (fate.value, "refused" not in text)


# -- the way it goes ---------------------------------------------------------------------------------------------------
def data_of(seen: Picture, to: str) -> dict[str, Any]:
    """What a program gets to read."""
    said = answer(Explain(destinations.parse(to)), seen)
    assert said.data is not None
    return dict(said.data)


def test_every_judge_is_named_in_order() -> None:
    """Routing, the output hook, the last look, the guard: each with the rule in nft's words, and why it is there."""
    data = data_of(picture(connected()), PUBLIC)

    assert [(stage["where"], stage["verdict"]) for stage in data["stages"]] == [
        ("routing", "by a link"),
        ("output", "accepted"),
        ("last look", "goes on"),
        ("last look", "accepted"),
        ("guard", "accepted"),
    ]
    assert data["stages"][0]["rule"] == "0.0.0.0/0 dev aovpn0 metric 50"
    assert data["stages"][1] == {
        "where": "output",
        "rule": 'chain output, rule 2: oif 50 meta l4proto tcp meta oifkind "wireguard" oifname "aovpn0" accept',
        "why": "the verified tunnel: index and name and kind",
        "verdict": "accepted",
    }
    assert (data["permit"], data["link"]) == ("Tunnel", "aovpn0")


def test_outside_the_egress_chain_speaks_last() -> None:
    """What leaves by an outside link has the stamp by then."""
    data = data_of(picture(open_for_alice()), PUBLIC)

    assert [stage["where"] for stage in data["stages"]][-3:] == ["guard", "egress", "egress"]
    assert data["stages"][-1]["why"] == "stamped by the last look of table inet aovpnd"
    assert (data["permit"], data["source"]) == ("Temporary access", "192.168.1.23")


def test_refusal_ends_with_who_refused() -> None:
    """The last stage had the last word."""
    data = data_of(picture(open_for_alice()), "9.9.9.9:53")

    assert data["stages"][-1]["verdict"] == "refused"
    assert data["stages"][-1]["why"] == "temporary access: from nobody else"
    assert data["permit"] == "Temporary access"
    assert data_of(picture(blocked()), PUBLIC)["stages"] == [
        {
            "where": "routing",
            "rule": "unreachable 0.0.0.0/0 metric 4294967294",
            "why": "our route table",
            "verdict": "nowhere: the program is told at once",
        }
    ]


def test_where_it_is_written() -> None:
    """The lines of the tunnel's file that carry it, and where its packets go; the settings that open the rest."""
    file = OFFICE.source
    carried = [(file, 7, "AllowedIPs", "0.0.0.0/0")]
    endpoints = [(file, 8, "Endpoint", "192.0.2.1:51820"), (file, 11, "Endpoint", "[2001:db8:e::1]:51820")]

    def origins(scene: Callable[[], Laptop], to: str) -> list[tuple[object, ...]]:
        return [
            tuple(o[key] for key in ("file", "line", "key", "value")) for o in data_of(picture(scene()), to)["origins"]
        ]

    assert origins(connected, PUBLIC) == carried + endpoints
    assert origins(connecting, PUBLIC) == carried + endpoints
    assert origins(connected, "192.0.2.1") == carried + endpoints
    assert origins(narrow, "192.0.2.1") == endpoints[:1]
    assert origins(narrow, PUBLIC) == [*carried, (file, 7, "AllowedIPs", "::/0")]
    assert origins(lan, "192.168.1.9") == [("/etc/aovpnd/aovpnd.toml", 2, "lan.allow", "true")]
    assert origins(locked_lan, "192.168.1.255:9/udp") == [("/etc/aovpnd/policy.d/corp.toml", 4, "lan.allow", "false")]
    assert origins(open_for_alice, PUBLIC) == [("built-in", None, "temporary_access.enabled", "true")]
    assert origins(blocked, PUBLIC) == []


def test_gateway_by_name() -> None:
    """Its address is in no line of the file: the line with the name is shown."""
    name = Written("Endpoint", "vpn.example.net:51820", 8)
    made = laptop(Config((replace(NARROW, written=(name,)),), origins=ORIGINS))
    data = data_of(picture(made), "192.0.2.1")

    assert [origin["value"] for origin in data["origins"]] == ["vpn.example.net:51820"]


def test_hints_say_what_to_do() -> None:
    """Each refusal with the way out of it; a policy has none."""
    assert data_of(picture(blocked()), PUBLIC)["hint"].endswith("aovpnctl allow-temp")
    assert data_of(picture(connected()), "192.168.1.255:9/udp")["hint"] == "[lan] allow = true opens the private ones"
    assert data_of(picture(locked_lan()), "192.168.1.255:9/udp")["hint"] == "a policy keeps it so"
    assert data_of(picture(narrow()), "192.168.1.1:53/udp")["hint"] == ""
    assert data_of(picture(connected()), "[ff02::1:2%wlan0]:547/udp")["hint"] == ""


def test_way_that_others_have_made_is_said() -> None:
    """Another program's rule, seen only in the kernel's answer: where it goes and what our rules say to that."""
    seen = picture(open_for_alice())
    by_card = Routed(3, gateway=ip_address("10.9.9.9"))
    nowhere_at_all = answer(Explain(destinations.parse(PUBLIC)), seen, Routed())
    said = answer(Explain(destinations.parse(PUBLIC)), seen, by_card)

    assert said.text == f"{PUBLIC}:443/tcp is refused at once: nothing permits it to leave by eth0"
    stages = explain(seen, destinations.parse(PUBLIC), by_card).stages
    assert stages[0].rule == f"{PUBLIC}/32 via 10.9.9.9 dev eth0 metric 0"
    assert nowhere_at_all.text == (
        f"{PUBLIC}:443/tcp is refused at once: the kernel knows no way there, by a rule or route that is not ours"
    )


def test_window_says_when_it_ends() -> None:
    """By the clock that does not stand still in suspend; other answers have no end."""
    seen = picture(open_for_alice())

    assert answer(Explain(destinations.parse(PUBLIC)), seen).expires_at == CLOCK.boot + 180
    assert answer(Explain(destinations.parse("9.9.9.9:53")), seen).expires_at is None


def test_without_our_table_the_guard_stops_it() -> None:
    """Flushed, and it could not be loaded again: nothing has the stamp."""
    seen = picture(open_for_alice())
    gone = replace(seen, snapshot=replace(seen.snapshot, ruleset=None, table_present=False))
    altered = replace(seen, snapshot=replace(seen.snapshot, ruleset=None))

    assert answer(Explain(destinations.parse(PUBLIC)), gone).text == (
        f"{PUBLIC}:443/tcp is dropped by the guard: our table is not there to permit it"
    )
    assert explain(altered, destinations.parse(PUBLIC)).fate is Fate.ACCESS, "it is judged as it is about to be"


def test_without_anything_of_ours_it_is_said() -> None:
    """Neither table nor guard: whatever routing lets through is in clear."""
    seen = picture(open_for_alice())
    bare = replace(seen.snapshot, ruleset=None, table_present=False, guard=GuardState.MISSING, copies=Copies.ABSENT)

    assert answer(Explain(destinations.parse(PUBLIC)), replace(seen, snapshot=bare)).text == (
        f"{PUBLIC}:443/tcp leaves by wlan0 in clear: neither our table nor the guard's is there"
    )


def test_old_table_that_still_stands_speaks_for_itself() -> None:
    """Its rule belongs to no permit of now; it lets the packet out all the same, and that is what is said."""
    seen = picture(connected())
    said = answer(Explain(destinations.parse(PUBLIC)), replace(seen, config=Config()))

    assert said.text == f"{PUBLIC}:443/tcp leaves by aovpn0: the verified tunnel: index and name and kind"


# -- everything --------------------------------------------------------------------------------------------------------
def test_overview_shows_what_was_seen_wanted_and_to_be() -> None:
    """Without a destination: one sentence, and everything else for programs."""
    said = answer(Explain(), picture(connected()))

    assert said.text == "connected: everything is as it should be"
    assert said.data is not None
    data: Any = json.loads(json.dumps(said.data))
    assert data["phase"] == "connected"
    assert data["actions"] == data["failures"] == []
    assert data["desired"]["permits"] == [
        *("Loopback", "Link set-up", "Handshake", "Tunnel", "Tunnel's addresses", "Host-only networks"),
    ]
    assert data["desired"]["tunnels"] == [
        {"name": "office", "file": OFFICE.source, "link": "aovpn0", "up": True, "handshake": "left alone"}
    ]
    assert (data["intent"]["chosen"], data["intent"]["named_by_the_user"]) == ("office", None)
    assert data["snapshot"]["ruleset"] == data["desired"]["ruleset"]
    assert "0.0.0.0/0 dev aovpn0 metric 50" in data["snapshot"]["routing"]["routes"]
    assert data["snapshot"]["tunnels"][0]["handshake_s_ago"] == 0.0


def test_overview_without_a_tunnel() -> None:
    """None is chosen, since there is none."""
    data: Any = answer(Explain(), picture(blocked())).data

    assert data["intent"]["chosen"] is None


def test_overview_while_something_fails() -> None:
    """What is to be done, what failed and when it is tried again, and a window that is open."""
    made = open_for_alice()
    seen = picture(made)
    failure = Failure("LoadRuleset", 2, CLOCK.boot + 1.25, "the kernel refused", "which?")
    grant = Grant(GrantKind.ACCESS, 2, "wlan0", "1 192.168.1.1", 990.0, 1060.0, "alice", "portal")
    intent = Intent(failures=(failure,), grant=grant)
    torn = replace(seen.snapshot, ruleset=None, table_present=False)
    todo = diff(seen.desired, torn)
    said = answer(Explain(), replace(seen, intent=intent, snapshot=torn, actions=todo))

    assert said.text == "temporary-access: one thing is still to be done"
    data: Any = said.data
    assert data["actions"] == ["load ruleset: temporary-access; there was none"]
    assert data["failures"][0]["again_in_s"] == 1.2
    assert data["intent"]["grant"] == {
        "kind": "access",
        "link": "wlan0",
        "ends_in_s": 60.0,
        "granted_to": "alice",
        "reason": "portal",
    }
    assert data["snapshot"]["ruleset"] is None
    more = answer(Explain(), replace(seen, snapshot=torn, actions=todo * 2))
    assert more.text == "temporary-access: 2 things are still to be done"


TO: Final = tuple(
    map(
        destinations.parse,
        f"{PUBLIC} 192.0.2.1:51820/udp 9.9.9.9:53/udp 172.17.0.9 192.168.1.1:53 10.0.0.9 255.255.255.255:67/udp "
        "2001:db8::80 [2001:db8:e::1]:51820/udp fe80::1%wlan0 [ff02::fb%wlan0]:5353/udp ::1 fd00::9".split(),
    )
)


def test_nothing_that_is_asked_fails_or_shows_a_key() -> None:
    """Whatever the situation: one printable line, JSON, and no key in it; passing means what the rules say."""
    accompanied = itertools.islice(few_accompanied(), 0, None, 5)
    for world in [s.world() for found in (few_situations(), accompanied, few_divided()) for s in found]:
        desired = decide(world.config, world.intent, world.snapshot)
        there = replace(
            world.snapshot,
            ruleset=desired.ruleset,
            table_present=desired.ruleset is not None,
            routing=desired.routing or Routing((), ()),
            guard=desired.guard,
            copies=Copies.ABSENT if desired.unblocked else Copies.CURRENT,
            unannounced=world.snapshot.unannounced,
        )
        seen = Picture(world.config, world.intent, there, desired, diff(desired, world.snapshot))
        texts = [json.dumps(answer(Explain(), seen).data)]
        for to in TO:
            said = answer(Explain(to), seen)
            what = explain(seen, to)
            texts += [said.text, json.dumps(said.data)]
            assert said.text.isprintable()
            assert what.passes is (re.search(r" is (refused|dropped)\b", said.text) is None)
            if what.fate in {Fate.OPEN, Fate.OTHER}:
                assert desired.phase is Phase.UNBLOCKED, said.text
        assert not any("-key" in text for text in texts)

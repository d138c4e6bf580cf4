# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel says: rtnetlink, sock_diag and nfnetlink messages, and listings of nft."""

import struct
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final, Self
from unittest.mock import patch

from aovpnd import names, nftlib, rtnl
from aovpnd.adapters import routeget, rtdump
from aovpnd.adapters import sockets as sock_diag
from aovpnd.adapters.egress import EgressCopies
from aovpnd.adapters.nft import Nftables
from aovpnd.destinations import Destination
from aovpnd.errors import NetlinkError, NftError
from aovpnd.guard import rules
from aovpnd.links import Side, sides
from aovpnd.render import render
from aovpnd.rtnl import attribute
from aovpnd.ruleset import Ruleset
from aovpnd.sockets import Transport
from tests.fuzz import judge
from tests.fuzz.mutate import Mutator
from tests.fuzz.target import Target, words
from tests.unit import test_rtnl as samples
from tests.unit.small_world import LO, WLAN
from tests.unit.test_routeget import GATEWAY, OIF, SOURCE, TABLE, answer
from tests.unit.test_rtnl import message, number, route

_NUMBERS: Final = tuple(
    struct.pack("=I", value) for value in (0, 1, 254, 255, 0x7FFFFFFF, 0xFFFFFFFF, 24943, 772, 65534)
)
_NAMES: Final = (
    b"wlan0\0",
    b"aovpn0\0",
    b"lo\0",
    b'a"b;{}\n\0',
    b"\xff\xfe\0",
    b"\x1b[2Jx\0",
    b"\0",
    b"a" * 40,
    b"veth\0",
    b"wireguard\0",
)
WORDS: Final = (*_NUMBERS, *_NAMES, *(attribute(kind, b"") for kind in range(0, 62, 3)), attribute(9, b"\0" * 40))


class Kernel:
    """A netlink socket that has these datagrams to give, and then nothing."""

    def __init__(self, *datagrams: bytes) -> None:
        self.datagrams = list(datagrams)

    def recvfrom(self, _: int) -> tuple[bytes, tuple[int, int]]:
        """The next one, from the kernel."""
        if not self.datagrams:
            raise BlockingIOError
        return self.datagrams.pop(0), (0, 0)

    def recv(self, _: int) -> bytes:
        """The next one."""
        return self.recvfrom(0)[0]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Whatever else is done with a socket."""
        return lambda *_: 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


# -- rtnetlink --------------------------------------------------------------------------------------------------------
def _watch(datagram: bytes) -> str:
    """Whatever comes: a set of sorts, and never nothing where a change may have been."""
    watch = rtnl.Watch()
    watch.close()
    watch._socket = Kernel(datagram)  # type: ignore[assignment]
    changes = watch.drain()
    assert changes <= frozenset(rtnl.Change)
    return " ".join(sorted(changes)) or "nothing"


def _declared(read: Callable[[bytes], object]) -> Callable[[bytes], str]:
    def judged(payload: bytes) -> str:
        try:
            return judge.outcome("ok", type(read(payload)).__name__)
        except NetlinkError as error:
            return judge.error(error)

    return judged


def _link(payload: bytes) -> str:
    """A link with any name is on some side; the guard's text for it holds none of the letters that nft obeys."""
    try:
        link = rtnl.parse_link(payload)
    except NetlinkError as error:
        return judge.error(error)
    links = (LO, WLAN, link)
    side = sides(links)[link.index]
    if link.index != 1:
        assert side is not Side.LOOPBACK
    text = rules.whole(links)
    judge_nft(text)
    assert "\0" not in text
    return f"{side} {link.kind in {'veth', 'tun', 'bridge', 'wireguard', ''}} {link.nameable}"


def judge_nft(text: str) -> None:
    """Nothing of a stranger's is in the text: its letters are those of nft, and its quotes are closed."""
    assert text.isascii()
    assert all(letter.isprintable() or letter in "\n\t" for letter in text)
    assert all(line.count('"') % 2 == 0 for line in text.splitlines())
    assert "flush ruleset" not in text


def _routes(payload: bytes) -> str:
    outcomes = [_declared(read)(payload) for family in (4, 6) for read in _readers(family)]
    return " ".join(dict.fromkeys(outcomes))


def _readers(family: int) -> tuple[Callable[[bytes], object], ...]:
    return (
        lambda raw: list(rtdump.parse_main_route(raw, family)),
        lambda raw: rtdump.parse_table_route(raw, family, names.ROUTE_TABLE),
        lambda raw: rtdump.parse_address(raw, family),
        lambda raw: rtdump.parse_rule(raw, family),
    )


def _dump(datagrams: tuple[bytes, bytes]) -> str:
    """A dump ends, whatever the kernel says: with what was read, or with an error."""
    with patch("aovpnd.rtnl.socket.socket", lambda *_: Kernel(*datagrams)):
        try:
            found = rtnl.dump_links()
        except NetlinkError as error:
            return judge.error(error)
    return f"{min(len(found), 9)} links"


def _route_get(datagram: bytes) -> str:
    with patch("aovpnd.adapters.routeget.socket.socket", lambda *_: Kernel(datagram)):
        try:
            said = routeget.look_up(_FAR)
        except NetlinkError as error:
            return judge.error(error)
    return f"{said.link is not None} {said.here} {said.source is not None} {said.gateway is not None}"


_FAR: Final = Destination(ip_address("203.0.113.80"))
_DONE: Final = message(3, number(0), flags=2, sequence=1)
LINKS: Final = b"".join(message(16, samples.LINK, flags=2, sequence=1) for _ in range(2))
ROUTES: Final = (
    route(2, 0, attribute(4, number(3)), attribute(5, bytes((192, 168, 1, 1)))),
    route(2, 24, attribute(1, bytes((10, 0, 0, 0))), attribute(4, number(3)), scope=253),
    route(10, 0, attribute(4, number(3)), attribute(5, bytes(15) + b"\1"), attribute(8, attribute(2, number(1400)))),
    route(2, 0, attribute(9, struct.pack("=HBBi", 16, 0, 0, 3) + attribute(5, bytes((10, 0, 0, 1))))),
    route(2, 0, attribute(4, number(3)), attribute(18, struct.pack("=H", 10) + bytes(16))),
    route(2, 0, attribute(15, number(names.ROUTE_TABLE)), kind=7),
    samples.ADDRESS,
    samples.OUR_RULE,
)
_GOT: Final = message(24, answer(1, OIF, GATEWAY, SOURCE, TABLE), sequence=1)


# -- sock_diag --------------------------------------------------------------------------------------------------------
_ID: Final = struct.pack(
    "!HH16s16s", 40000, 443, bytes((10, 64, 0, 2)) + bytes(12), bytes((198, 51, 100, 9)) + bytes(12)
)
DIAG: Final = struct.pack("=BBBB", 2, 1, 0, 0) + _ID + bytes(12 + 20) + attribute(15, number(names.FWMARK))


def _sockets(datagrams: tuple[bytes, bytes]) -> str:
    with patch.object(sock_diag, "_open", lambda: Kernel(*datagrams)):
        try:
            found = sock_diag.connected(Transport.TCP)
        except (NetlinkError, OSError) as error:
            return judge.outcome(type(error).__name__, str(error) if isinstance(error, NetlinkError) else "")
    return f"{min(len(found), 5)} {sorted({each.local.version for each in found})}"


# -- nftables ---------------------------------------------------------------------------------------------------------
_CHANGE: Final = message(
    10 << 8 | 15, bytes(4) + attribute(1, number(7)) + attribute(2, bytes((0, 0, 1, 2))) + attribute(3, b"nft\0")
)


_TOUCHED: Final = message(10 << 8 | 0, bytes((1, 0, 0, 0)) + attribute(1, names.TABLE.encode() + b"\0"))


def _changes(case: tuple[bytes, bytes]) -> str:
    """Who changed the table is a name of a program, which anybody gives himself; and whatever came before, a change of
    our table is heard of.
    """
    watch = object.__new__(nftlib.Watch)
    watch._reader = nftlib.ChangeReader()
    watch._socket = Kernel(*case)  # type: ignore[assignment]
    found = watch.drain()
    for change in found:
        judge.told(str(change), longest=200)
    watch._socket = Kernel(_TOUCHED + _CHANGE)  # type: ignore[assignment]
    assert any(change.touches({f"inet {names.TABLE}"}) for change in watch.drain())
    return f"{min(len(found), 5)} {sorted({change.tables is None for change in found})}"


class Paper:
    """A libnftables that lists what it is told to list."""

    def __init__(self, listing: str) -> None:
        self.listing = listing

    def list_table(self, *_: str) -> str:
        """The listing."""
        return self.listing

    def run(self, text: str) -> str:
        """Nothing is done; what would be has to be fit for it."""
        judge_nft(text)
        return ""

    def remove_table(self, *_: str) -> None:
        """Nothing is done."""


TABLE_OF_OURS: Final = render(rules.last_look((), table=names.COPY_TABLE))
LISTING: Final = (
    'table netdev aovpnd_early {\n\tchain outside {\n\t}\n\tchain link_2 {\n\t\ttype filter hook egress device "wlan0"'
    " priority filter; policy accept;\n\t\tjump outside\n\t}\n}\n"
)


def _listing(case: tuple[str, str]) -> str:
    """What nft lists is ours only when it is what was read back after loading; anything else is put right."""
    loaded, listed = case
    nft: Any = Paper(loaded)
    table = Nftables(nft)
    ruleset = Ruleset("inet", names.TABLE, ())
    try:
        table.ensure(ruleset)
    except NftError as error:
        return judge.error(error)
    nft.listing = listed
    seen = table.observe()
    assert (seen.ruleset is None) or nftlib.fingerprint(loaded) == nftlib.fingerprint(listed)
    copies = EgressCopies(nft)
    copies.ensure((LO, WLAN))
    return f"{seen.ruleset is not None} {copies.observe((LO, WLAN))}"


TARGETS: Final = (
    Target("rtnl-watch", "rtnetlink: what changed", (LINKS, _DONE, _GOT), _watch, Mutator(WORDS)),
    Target("rtnl-dump", "rtnetlink: a dump, to its end", ((LINKS, _DONE), (LINKS + _DONE, b"")), _dump, Mutator(WORDS)),
    Target("rtnl-link", "rtnetlink: a link, and the guard's rules for it", (samples.LINK,), _link, Mutator(WORDS)),
    Target("rtnl-route", "rtnetlink: a route, address or rule", ROUTES, _routes, Mutator(WORDS)),
    Target(
        "route-get", "rtnetlink: the way to a destination", (_GOT, message(2, number(0))), _route_get, Mutator(WORDS)
    ),
    Target(
        "sock-diag",
        "sock_diag: connected sockets",
        ((message(20, DIAG, sequence=1), _DONE), (message(20, DIAG) + _DONE, b"")),
        _sockets,
        Mutator(WORDS),
    ),
    Target(
        "nft-watch",
        "nfnetlink: who changed the table",
        ((_CHANGE, _CHANGE * 2), (_TOUCHED, _TOUCHED + _CHANGE)),
        _changes,
        Mutator(WORDS),
    ),
    Target(
        "nft-listing",
        "nft's listings, read back",
        ((TABLE_OF_OURS, TABLE_OF_OURS), (TABLE_OF_OURS, LISTING), (LISTING, LISTING)),
        _listing,
        Mutator((*words(TABLE_OF_OURS), *words(LISTING), "link_99999999999999999999", "link_²")),
    ),
)

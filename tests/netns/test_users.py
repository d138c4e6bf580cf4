# SPDX-License-Identifier: GPL-3.0-or-later
"""Tunnels that users have to themselves, with packets: where each user's come out, and that nobody's come out at
another's, whatever becomes of either tunnel; and nothing leaves in clear.
"""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.lab import plan
from tests.lab.enter import WORLD_DIR
from tests.lab.process import wait_for
from tests.lab.sites import Gateway
from tests.netns.protected import Protected
from tests.netns.test_companions import came_out, look_at

pytestmark = pytest.mark.root

ALICE, BOB, CAROL = 64011, 64012, 64013


def of(uid: int) -> tuple[str, str]:
    """Addresses to which this user alone sends, and where nobody answers."""
    return f"203.0.113.{100 + uid - ALICE}", f"2001:db8:113::{100 + uid - ALICE}"


SETTINGS: Final = f"""
[tunnel]
prefer = "office"
[[user]]
name = {ALICE}
only = "hers"
[[user]]
name = {BOB}
never = "office"
"""
_SENDER: Final = """
import socket, sys
link, *addresses = sys.argv[1:]
for to in addresses:
    with socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())
        for _ in range(3):
            try:
                sender.sendto(b"across", (to, 7))
            except OSError:
                pass
"""
_FLOOD: Final = """
import socket, sys, time
while True:
    for to in sys.argv[1:]:
        for link in (b"", b"aovpn0", b"aovpn1", b"aovpn2"):
            with socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM) as sender:
                try:
                    sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link)
                    sender.sendto(b"flood", (to, 7))
                except OSError:
                    pass
    time.sleep(0.01)
"""
_HOLD: Final = """
import socket, sys
with socket.create_connection((sys.argv[1], 80)) as held:
    print("held", flush=True)
    try:
        held.recv(1)
    except ConnectionAbortedError:
        print("aborted", flush=True)
"""
_KNOCK: Final = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 9), 5)
except ConnectionRefusedError:
    print("refused")
"""


_FURTHER: Final = """
import socket, sys
to, port = sys.argv[1], int(sys.argv[2])
with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_MPTCP) as held:
    held.connect((to, port))
    while True:
        held.sendall(b"x")
        held.recv(1)
"""
"""For as long as it lives. The kernel opens further paths to what addresses the other end tells."""
_BACK: Final = """
import socket, sys, threading
def answer(peer):
    while said := peer.recv(65536):
        print(len(said), flush=True)
        peer.sendall(said[:1])
with socket.socket(socket.AF_INET, socket.SOCK_STREAM, int(sys.argv[2])) as waiting:
    waiting.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    waiting.bind(("", int(sys.argv[1])))
    waiting.listen()
    print("waiting", flush=True)
    while True:
        threading.Thread(target=answer, args=(waiting.accept()[0],), daemon=True).start()
"""
_LAST: Final = """
import os, socket, sys, time
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as held:
    print("held", flush=True)
    while not os.path.exists(sys.argv[3]):
        time.sleep(0.05)
    held.setblocking(False)
    try:
        held.send(b"the last of it" * 1000)
    except OSError:
        pass
print("closed", flush=True)
"""
"""Sends its last when it is told to, and closes."""


@dataclass(slots=True)
class Divided:
    """A laptop with a tunnel for everybody, and one that alice has to herself, to gateways of their own."""

    laptop: Protected
    office: Gateway
    own: Gateway

    def seen_as(self, uid: int | None, *, family: int = 4) -> str:
        """The address from which the web server sees a user; "" when it does not."""
        host = str(plan.WEB4) if family == 4 else f"[{plan.WEB6}]"
        command = ("curl", "--silent", "--max-time", "2", f"http://{host}/ip")
        return self.laptop.lab.host.run(*command, uid=uid, check=False).stdout.strip()

    def hers(self) -> bool:
        """Whether alice, and she alone, comes out at her gateway, by both families."""
        place = self.own.place
        mine = [self.seen_as(ALICE, family=family) for family in (4, 6)]
        return mine == [str(place.wan4), str(place.wan6)]

    def both(self) -> bool:
        """Whether everybody else's carries as well."""
        return self.laptop.works() and self.hers()

    def look(self) -> None:
        """Begin to note what comes out of either tunnel."""
        for gateway in (self.office, self.own):
            look_at(gateway)

    def tunnel(self, name: str) -> dict[str, Any]:
        """What status says of one; waits for a daemon that says anything."""

        def found() -> dict[str, Any] | None:
            tunnels: list[dict[str, Any]] = self.laptop.lab.status()["tunnels"]
            return next((each for each in tunnels if each["name"] == name), None)

        return wait_for(f"the status of {name}", found, deadline_s=20) or {}


@pytest.fixture(scope="module")
def divided() -> Iterator[Divided]:
    """Both up, at home."""
    with Protected.build(tunnel=False, start=False) as laptop:
        laptop.lab.install_tunnel("office")
        gateway, conf = laptop.world.another_gateway()
        laptop.lab.install_tunnel("hers", conf)
        laptop.lab.write_config(SETTINGS)
        laptop.lab.start_daemon()
        laptop.world.roam("home", ipv6=True)
        made = Divided(laptop, laptop.world.gateway, gateway)
        wait_for("both tunnels", made.both, deadline_s=30, poll_s=0.1)
        yield made


def test_each_user_comes_out_where_he_belongs(divided: Divided) -> None:
    """Alice at her own gateway, everybody else at the office's, and bob, who may not use that, nowhere."""
    with divided.laptop.nothing_leaves() as watch:
        assert divided.both()
        assert divided.seen_as(CAROL) == divided.seen_as(None) == str(plan.GATEWAY4)
        assert [divided.seen_as(BOB, family=family) for family in (4, 6)] == ["", ""]
        watch.everybody_tries()
    found = divided.tunnel("hers")
    assert (found["role"], found["state"], found["users"]) == ("companion", "connected", [str(ALICE)])
    assert f"for {ALICE} alone" in divided.laptop.lab.ctl("status").stdout
    said = {whom: divided.laptop.lab.ctl("explain", f"{whom}@{plan.WEB4}").stdout for whom in (ALICE, BOB, CAROL)}
    assert "leaves through the tunnel hers" in said[ALICE]
    assert f"the tunnel office is not for {BOB}" in " ".join(said[BOB].split())
    assert "leaves through the tunnel office" in said[CAROL]


@pytest.mark.parametrize("strict", [1, 2])
def test_reverse_paths_are_found(divided: Divided, strict: int) -> None:
    """Answers to alice come back also where the kernel asks for the way to whoever they come from (rp_filter)."""
    host = divided.laptop.lab.host
    host.run("sysctl", "-qw", f"net.ipv4.conf.all.rp_filter={strict}")
    try:
        assert divided.both()
    finally:
        host.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0")


def test_a_socket_that_is_bound_to_a_link_gets_nowhere(divided: Divided) -> None:
    """Neither carol by alice's link, nor alice or bob by the office's, of either family; with the rules taken out, all
    of them do.
    """
    host = divided.laptop.lab.host
    links = {name: str(divided.tunnel(name)["link"]) for name in ("office", "hers")}
    tries = {CAROL: "hers", ALICE: "office", BOB: "office"}
    gateways = {"office": divided.office, "hers": divided.own}

    def try_across() -> set[int]:
        divided.look()
        for uid, name in tries.items():
            host.run("python3", "-c", _SENDER, links[name], *of(uid), uid=uid)
        assert divided.both()  # what was sent before has come out by now
        return {uid for uid, name in tries.items() if set(of(uid)) & came_out(gateways[name])}

    assert try_across() == set()
    (daemon,) = host.pids_of("aovpnd")
    try:
        host.run("kill", "-STOP", str(daemon))
        for chain in ("output", "postrouting"):
            listed = host.out("nft", "-a", "list", "chain", "inet", "aovpnd", chain).splitlines()
            handles = [line.rpartition(" ")[2] for line in listed if "skuid" in line and "mark set" not in line]
            assert len(handles) == 2
            for handle in handles:
                host.run("nft", "delete", "rule", "inet", "aovpnd", chain, "handle", handle)
        assert try_across() == set(tries)
    finally:
        host.run("kill", "-CONT", str(daemon))
        divided.laptop.lab.kill_daemon()
    # What the killed one has published may be read once more: the rules themselves have to be back.
    wait_for("the rules", lambda: host.out("nft", "list", "table", "inet", "aovpnd").count("skuid") == 6, deadline_s=40)
    wait_for("both tunnels", divided.both, deadline_s=40, poll_s=0.1)


def test_kernel_answers_by_the_tunnel_it_was_asked_by(divided: Divided) -> None:
    """Its answers have nobody's socket: who asks alice's address at her gateway is told, of both families, that nobody
    listens, and is answered a ping.
    """
    place = divided.own.place
    for address in (place.laptop4, place.laptop6):
        done = divided.own.host.run("python3", "-c", _KNOCK, str(address))
        assert done.stdout.strip() == "refused"
        divided.own.host.run("ping", "-c", "1", "-W", "5", str(address))


@pytest.mark.skipif(not Path("/proc/sys/net/mptcp").exists(), reason="this kernel speaks no MPTCP")
def test_what_the_kernel_opens_for_her_goes_nowhere_else(divided: Divided) -> None:
    """Further paths of MPTCP are opened by a socket that has no file, as root: nobody's. Of alice's connection nothing
    comes out at the office, from where the other end could tell who else she is; without the rule it does.
    """
    host, far, port = divided.laptop.lab.host, divided.laptop.world.internet, 8098
    host.run("ip", "mptcp", "limits", "set", "subflow", "2", "add_addr_accepted", "2")
    far.run("ip", "mptcp", "limits", "set", "subflow", "2", "add_addr_accepted", "2")
    far.run("ip", "mptcp", "endpoint", "add", str(plan.ECHO4), "signal")
    waiting = far.spawn("python3", "-c", _BACK, str(port), str(socket.IPPROTO_MPTCP), log="mptcp")
    wait_for("who waits", lambda: "waiting" in (far.dir / "mptcp.log").read_text())

    def opened() -> int:
        return int(next(line.split()[1] for line in host.out("nstat", "-asz", "MPTcpExtMPJoinSynTx").splitlines()[1:]))

    def further_path_comes_out() -> bool:
        divided.look()
        before = opened()
        held = host.spawn("python3", "-c", _FURTHER, str(plan.WEB4), str(port), log="further", uid=ALICE)
        try:
            wait_for("a further path", lambda: opened() > before)
            assert divided.both()  # what was sent before has come out by now
        finally:
            held.kill()
            held.wait()
        return str(plan.ECHO4) in came_out(divided.office)

    (daemon,) = host.pids_of("aovpnd")
    try:
        assert not further_path_comes_out()
        host.run("kill", "-STOP", str(daemon))
        listed = host.out("nft", "-a", "list", "chain", "inet", "aovpnd", "output").splitlines()
        for handle in [line.rpartition(" ")[2] for line in listed if "tcp flags syn" in line and "reject" in line]:
            host.run("nft", "delete", "rule", "inet", "aovpnd", "output", "handle", handle)
        assert further_path_comes_out()
    finally:
        host.run("kill", "-CONT", str(daemon))
        waiting.kill()
        waiting.wait()
        far.run("ip", "mptcp", "endpoint", "flush")
    chain = ("nft", "list", "chain", "inet", "aovpnd", "output")
    wait_for("the rules", lambda: host.out(*chain).count("tcp flags syn") == 2, deadline_s=40)
    wait_for("both tunnels", divided.both, deadline_s=40, poll_s=0.1)


def test_others_last_data_when_it_is_hers_again(divided: Divided) -> None:
    """While hers carries for everybody, carol connects by it. When it is alice's alone again, carol's connection is
    closed, and what carol's program has still to send comes out nowhere.
    """
    lab, far, port = divided.laptop.lab, divided.laptop.world.internet, 8097
    waiting = far.spawn("python3", "-c", _BACK, str(port), str(socket.IPPROTO_TCP), log="last-of-it")
    said, held, now = far.dir / "last-of-it.log", lab.host.dir / "last.log", WORLD_DIR / "now"
    try:
        wait_for("who waits", lambda: "waiting" in said.read_text())
        lab.ctl("connect", "hers")
        wait_for("hers to carry", lambda: divided.seen_as(CAROL) == str(divided.own.place.wan4), deadline_s=30)
        lab.host.spawn("python3", "-c", _LAST, str(plan.WEB4), str(port), str(now), log="last", uid=CAROL)
        wait_for("carol's connection", lambda: "held" in held.read_text())
        lab.ctl("connect", "office")
        wait_for("both tunnels", divided.both, deadline_s=30, poll_s=0.1)
        now.touch()
        wait_for("carol's program to end", lambda: "closed" in held.read_text(), deadline_s=20)
        divided.look()
        end = time.monotonic() + 4.0
        wait_for("the kernel to try again", lambda: time.monotonic() > end, deadline_s=10)
        assert said.read_text().split() == ["waiting"]
        assert str(plan.WEB4) not in came_out(divided.own)
    finally:
        now.unlink(missing_ok=True)
        waiting.kill()
        waiting.wait()
        lab.ctl("connect", "office")
    wait_for("both tunnels", divided.both, deadline_s=30, poll_s=0.1)


@contextmanager
def everybody_sends(divided: Divided) -> Iterator[None]:
    """Alice, bob and carol send to addresses of their own all the while, by both families, bound to nothing and to
    every link of ours; what came out is judged behind it: of each something where he belongs, and nothing elsewhere.
    """
    divided.look()
    host = divided.laptop.lab.host
    senders = [
        host.spawn("python3", "-c", _FLOOD, *of(uid), log=f"flood-{uid}", uid=uid) for uid in (ALICE, BOB, CAROL)
    ]
    try:
        yield
        wait_for("alice's to come out", lambda: set(of(ALICE)) <= came_out(divided.own), deadline_s=30)
        wait_for("carol's to come out", lambda: set(of(CAROL)) <= came_out(divided.office), deadline_s=30)
    finally:
        for sender in senders:
            sender.kill()
            sender.wait()
    assert came_out(divided.office) & {*of(ALICE), *of(BOB)} == set()
    assert came_out(divided.own) & {*of(BOB), *of(CAROL)} == set()


def test_hers_is_closed_while_it_is_down(divided: Divided) -> None:
    """Her link is removed ten times: no packet of hers comes out at the office, and nobody else's at hers."""
    with divided.laptop.nothing_leaves() as watch, everybody_sends(divided):
        for _ in range(10):
            link = divided.tunnel("hers")["link"]
            divided.laptop.lab.host.run("ip", "link", "del", str(link), check=False)
            wait_for("hers", divided.hers, deadline_s=30, poll_s=0.05)
        watch.until("both tunnels", divided.both, deadline_s=30)


def test_killed_and_off_the_network(divided: Divided) -> None:
    """The daemon dies, somebody removes rules and routes, of both families, the network goes: both come back."""
    host = divided.laptop.lab.host
    with divided.laptop.nothing_leaves() as watch, everybody_sends(divided):
        divided.laptop.lab.kill_daemon()
        watch.until("both tunnels after the kill", divided.both, deadline_s=40)
        for family in ("-4", "-6"):
            for _ in range(4):
                host.run("ip", family, "rule", "del", "pref", "9", check=False)
            host.run("ip", family, "route", "flush", "table", "24945")
        watch.until("both tunnels after the loss of routes", divided.both, deadline_s=40)
        divided.laptop.world.flap()
        watch.until("both tunnels on what may be another network", divided.both, deadline_s=40)


def test_after_a_flush(divided: Divided) -> None:
    """Somebody flushes the ruleset: routing leads as before, and both tunnels go on. Who binds to another's link gets
    there until the table is loaded again, a moment later.
    """
    with divided.laptop.nothing_leaves() as watch:
        divided.look()
        ping = divided.laptop.lab.host.spawn("ping", "-n", "-i", "0.05", *of(ALICE)[:1], log="ping-alice", uid=ALICE)
        try:
            divided.laptop.lab.host.run("nft", "flush", "ruleset")
            watch.until("both tunnels after the flush", divided.both, deadline_s=40)
            wait_for("alice's to come out", lambda: of(ALICE)[0] in came_out(divided.own), deadline_s=30)
        finally:
            ping.kill()
            ping.wait()
    assert of(ALICE)[0] not in came_out(divided.office)


def test_disconnected_and_in_a_window(divided: Divided) -> None:
    """Who disconnects the office's leaves alice hers; a window is open to her as to everybody."""
    lab = divided.laptop.lab
    try:
        with divided.laptop.nothing_leaves() as watch:
            lab.ctl("disconnect")
            watch.until("hers alone", divided.hers, deadline_s=30)
            assert divided.seen_as(CAROL) == ""
        lab.ctl("allow-temp", "1min")
        outside = {str(plan.GATEWAY4), str(divided.own.place.wan4), ""}
        wait_for("the window", lambda: divided.seen_as(CAROL) not in outside, deadline_s=20)
        assert divided.seen_as(ALICE) == divided.seen_as(CAROL)
        lab.ctl("allow-temp", "--cancel")
    finally:
        lab.ctl("connect")
    wait_for("both tunnels", divided.both, deadline_s=30, poll_s=0.1)


def test_nothing_of_it_stays(divided: Divided) -> None:
    """Without the settings everybody comes out at the office again; unblocked, no rule of ours is left."""
    lab = divided.laptop.lab
    _configure(divided, '[tunnel]\nprefer = "office"\n')
    wait_for("everybody", lambda: {divided.seen_as(u) for u in (ALICE, BOB, CAROL)} == {str(plan.GATEWAY4)})
    assert "24945" not in lab.host.out("ip", "rule") + lab.host.out("ip", "-6", "rule")
    for uid in (ALICE, CAROL):
        lab.host.spawn("python3", "-c", _HOLD, str(plan.WEB4), log=f"hold-{uid}", uid=uid)
    said = {uid: lab.host.dir / f"hold-{uid}.log" for uid in (ALICE, CAROL)}
    wait_for("connections by the office's", lambda: all("held" in log.read_text() for log in said.values()))
    _configure(divided, SETTINGS)
    wait_for("alice's connection to end", lambda: "aborted" in said[ALICE].read_text(), deadline_s=20)
    wait_for("both tunnels", divided.both, deadline_s=30, poll_s=0.1)
    assert "aborted" not in said[CAROL].read_text()
    lab.stop_daemon()
    done = lab.ctl("unblock", "--offline")
    assert "rules to table 24945: removed" in done.stdout
    assert "24945" not in lab.host.out("ip", "rule") + lab.host.out("ip", "-6", "rule")


def _configure(divided: Divided, settings: str) -> None:
    divided.laptop.lab.write_config(settings)
    pid = divided.laptop.daemon_pid()
    assert pid is not None
    os.kill(pid, signal.SIGHUP)

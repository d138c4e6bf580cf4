# SPDX-License-Identifier: GPL-3.0-or-later
"""Which mechanism a machine has, how they go together, and resolvconf(8)'s records."""

import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import pytest

from aovpnd import names
from aovpnd.adapters import dns as dns_adapter
from aovpnd.adapters import process
from aovpnd.adapters.dns import NameService
from aovpnd.adapters.dns_file import ResolvConfFile
from aovpnd.adapters.dns_resolvconf import Resolvconf
from aovpnd.dns import Dns, DnsState, Mechanism
from aovpnd.errors import StateError, ToolError
from aovpnd.links import ARPHRD_NONE, Link
from tests.unit.small_world import LO, SERVER4, SERVER6, WLAN

TUNNEL: Final = Link(9, "aovpn0", "tun", ARPHRD_NONE)
LINKS: Final = (LO, WLAN, TUNNEL)
DNS: Final = Dns(9, "aovpn0", (SERVER4, SERVER6), ("corp.example",))
LEASE: Final = "nameserver 192.168.1.1\n"


@dataclass(slots=True)
class Machine:
    """/etc, /run, /var/lib, and the programs that would be run."""

    place: Path
    calls: list[str] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    held: bool = False

    @property
    def conf(self) -> Path:
        """resolv.conf(5)."""
        return self.place / "etc/resolv.conf"

    @property
    def records(self) -> Path:
        """What resolvconf(8) keeps."""
        return self.place / "run/resolvconf/interfaces"

    def names(self) -> NameService:
        """A daemon that has just started."""
        return NameService(self.place / "lib", self.conf, self.place / "run")

    def run(self, name: str, *words: str, stdin: str = "", deadline_s: float = 5.0) -> str:
        """What `process.run` would do."""
        assert deadline_s <= 2.0
        self.calls.append(" ".join((name, *words)))
        if name in self.broken:
            raise ToolError(f"{name} was not done")
        match (name, *words):
            case ("resolvconf", "-a", record, *_):
                (self.records / record).write_text(stdin + "\n", encoding="utf-8")
            case ("resolvconf", "-d", record, *_):
                (self.records / record).unlink(missing_ok=True)
            case ("resolvectl", "dns" | "revert" as what, *_):
                self.held = what == "dns"
            case ("resolvectl", "status", *_):
                servers = "  DNS Servers: 10.64.0.1 fd64::1\n  DNS Domain: corp.example ~.\n" if self.held else ""
                return f"Link 9 (aovpn0)\n  Protocols: {'+' if self.held else '-'}DefaultRoute\n{servers}"
            case _:
                return ""
        if name == "resolvconf":
            found = sorted(self.records.iterdir(), key=lambda path: not path.name.endswith(".aovpnd"))
            self.conf.write_text("# resolvconf\n" + "".join(path.read_text() for path in found), encoding="utf-8")
        return ""

    def resolved(self) -> socket.socket:
        """Start systemd-resolved."""
        place = self.place / "run/systemd/resolve"
        place.mkdir(parents=True, exist_ok=True)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.bind(str(place / "io.systemd.Resolve"))
        server.listen(1)
        return server


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short name: the path of a socket has room for 107 bytes (unix(7))."""
    with tempfile.TemporaryDirectory() as short:
        yield Path(short)


@pytest.fixture
def machine(place: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """One with a plain file, and no other mechanism."""
    machine = Machine(place)
    for name in ("etc", "run", "lib"):
        (place / name).mkdir()
    machine.conf.write_text(LEASE, encoding="utf-8")
    monkeypatch.setattr(process, "run", machine.run)
    monkeypatch.setattr(dns_adapter, "NSCD", place / "run/nscd")
    monkeypatch.setattr("aovpnd.adapters.dns_resolvconf.shutil.which", lambda *_, **__: None)
    return machine


@pytest.fixture
def openresolv(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """One that has resolvconf(8), with the record of a DHCP client."""
    machine.records.mkdir(parents=True)
    (machine.records / "wlan0.dhclient").write_text(LEASE, encoding="utf-8")
    monkeypatch.setattr("aovpnd.adapters.dns_resolvconf.shutil.which", lambda *_, **__: "/usr/sbin/resolvconf")
    return machine


# -- the file ----------------------------------------------------------------------------------------------------------
def test_plain_file(machine: Machine) -> None:
    """Nobody else is there, so the file it is; the resolvers stay the lease's, whoever is asked."""
    service = machine.names()
    assert service.observe(LINKS) == DnsState((Mechanism.FILE,))
    service.ensure(DNS)

    assert service.observe(LINKS) == DnsState((Mechanism.FILE,), DNS)
    assert machine.conf.read_text().splitlines()[1:] == [
        "nameserver 10.64.0.1",
        "nameserver fd64::1",
        "search corp.example",
    ]
    assert service.resolvers() == (ip_address("192.168.1.1"),)
    assert machine.calls == []


def test_after_a_crash(machine: Machine) -> None:
    """The next daemon knows whose file it is, and whose resolvers are the lease's, before it has done anything."""
    service = machine.names()
    service.observe(LINKS)
    service.ensure(DNS)
    service = machine.names()
    state = service.observe((LO, WLAN))

    assert (state.dns, state.astray) == (None, f"{machine.conf} is not as we left it")
    assert service.resolvers() == (ip_address("192.168.1.1"),)
    service.ensure(None)
    assert machine.conf.read_text() == LEASE
    assert service.observe((LO, WLAN)) == DnsState((Mechanism.FILE,))


def test_nscd_forgets(machine: Machine) -> None:
    """Where nscd(8) keeps answers, it is told; that it does not listen is a failure like any other."""
    (machine.place / "run/nscd").touch()
    service = machine.names()
    service.observe(LINKS)
    service.ensure(DNS)
    assert machine.calls == ["nscd --invalidate=hosts"]
    machine.broken = {"nscd"}
    with pytest.raises(ToolError):
        service.ensure(None)
    assert machine.conf.read_text() == LEASE


# -- systemd-resolved --------------------------------------------------------------------------------------------------
def test_stub(machine: Machine) -> None:
    """Where resolv.conf(5) leads to the stub, the file stays; also while resolved is dead."""
    machine.conf.write_text("nameserver 127.0.0.53\n", encoding="utf-8")
    service = machine.names()
    assert service.observe(LINKS) == DnsState((Mechanism.RESOLVED,), None, "not known since the start")
    service.ensure(DNS)

    assert service.observe(LINKS) == DnsState((Mechanism.RESOLVED,), DNS)
    assert machine.conf.read_text() == "nameserver 127.0.0.53\n"
    machine.broken = {"resolvectl"}
    with pytest.raises(ToolError, match="systemd-resolved does not do what it is told"):
        service.ensure(replace(DNS, search=()))
    assert service.observe(LINKS) == DnsState((Mechanism.RESOLVED,), None, "systemd-resolved does not answer")


def test_resolved_beside_the_file(machine: Machine) -> None:
    """Programs that ask resolved by its own protocol are led as well, and the others by the file."""
    with machine.resolved():
        service = machine.names()
        service.observe(LINKS)
        service.ensure(DNS)

        assert service.observe(LINKS) == DnsState((Mechanism.RESOLVED, Mechanism.FILE), DNS)
        machine.conf.unlink()
        machine.conf.write_text(LEASE, encoding="utf-8")
        state = service.observe(LINKS)
        assert (state.dns, state.astray) == (None, f"{machine.conf} was overwritten")


def test_stub_appears(machine: Machine) -> None:
    """Somebody installs resolved, and its stub takes the place of our file: nothing of ours is left behind."""
    service = machine.names()
    service.observe(LINKS)
    service.ensure(DNS)
    machine.conf.unlink()
    machine.conf.write_text("nameserver 127.0.0.53\n", encoding="utf-8")
    with machine.resolved():
        assert service.observe(LINKS).astray
        service.ensure(DNS)

        assert service.observe(LINKS) == DnsState((Mechanism.RESOLVED,), DNS)
        assert machine.conf.read_text() == "nameserver 127.0.0.53\n"
        assert list((machine.place / "lib").iterdir()) == []


def test_one_that_is_broken_keeps_no_other(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolved hangs, and the file is given back all the same."""
    with machine.resolved():
        service = machine.names()
        service.observe(LINKS)
        service.ensure(DNS)
        machine.broken = {"resolvectl"}
        with pytest.raises(ToolError):
            service.ensure(None)
        assert machine.conf.read_text() == LEASE
        monkeypatch.setattr(ResolvConfFile, "ensure", _refuse)
        machine.broken = set()
        with pytest.raises(StateError):
            service.ensure(None)
        assert not machine.held


def _refuse(*_: object) -> None:
    raise StateError("read-only")


# -- resolvconf --------------------------------------------------------------------------------------------------------
def test_resolvconf(openresolv: Machine) -> None:
    """A record of ours, alone and first; the lease's resolvers are those of the other records."""
    service = openresolv.names()
    assert service.observe(LINKS) == DnsState((Mechanism.RESOLVCONF,))
    service.ensure(DNS)

    assert openresolv.calls == ["resolvconf -a aovpn0.aovpnd -m 0 -x", "resolvconf -u"]
    assert service.observe(LINKS) == DnsState((Mechanism.RESOLVCONF,), DNS)
    assert service.resolvers() == (ip_address("192.168.1.1"),)
    assert names.RESOLV_CONF_MARK not in openresolv.conf.read_text()
    service.ensure(None)
    assert openresolv.calls[2:] == ["resolvconf -d aovpn0.aovpnd -f"]
    assert service.observe(LINKS) == DnsState((Mechanism.RESOLVCONF,))


def test_resolvconf_has_our_record_alone(openresolv: Machine) -> None:
    """Before there is a lease, the file that resolvconf writes is of the tunnel's servers: they are never taken for the
    network's, also not by a daemon that has just started.
    """
    service = openresolv.names()
    (openresolv.records / "wlan0.dhclient").unlink()
    service.observe(LINKS)
    service.ensure(DNS)
    assert str(DNS.servers[0]) in openresolv.conf.read_text()
    assert service.resolvers() == ()
    assert openresolv.names().resolvers() == ()


def test_resolvconf_after_a_crash(openresolv: Machine) -> None:
    """A record that an earlier daemon left is found by its name, whatever its link was called."""
    (openresolv.records / "aovpn3.aovpnd").write_text("nameserver 10.64.0.1\n", encoding="utf-8")
    service = openresolv.names()
    assert service.observe(LINKS).astray == "our record in resolvconf is not as we left it"
    assert service.resolvers() == (ip_address("192.168.1.1"),)
    service.ensure(None)
    assert service.observe(LINKS) == DnsState((Mechanism.RESOLVCONF,))


def test_resolvconf_is_overruled(openresolv: Machine) -> None:
    """Our record removed, changed, or the file overwritten past resolvconf: each is seen."""
    service = openresolv.names()
    service.observe(LINKS)
    service.ensure(DNS)
    openresolv.conf.write_text("nameserver 192.0.2.66\n", encoding="utf-8")
    assert service.observe(LINKS).astray == "resolvconf's file was overwritten"
    openresolv.conf.write_text("nameserver 127.0.0.1\n", encoding="utf-8")
    assert service.observe(LINKS).astray == ""
    (openresolv.records / "aovpn0.aovpnd").write_text("nameserver 192.0.2.66\n", encoding="utf-8")
    assert service.observe(LINKS).astray == "our record in resolvconf is not as we left it"
    (openresolv.records / "aovpn0.aovpnd").unlink()
    assert service.observe(LINKS).astray == "our record in resolvconf is gone"


def test_resolvconf_fails(openresolv: Machine) -> None:
    """With a hint that says what to try."""
    openresolv.broken = {"resolvconf"}
    with pytest.raises(ToolError) as fault:
        Resolvconf(openresolv.place / "run/resolvconf").ensure(DNS)
    assert fault.value.hint == "names do not go through the tunnel; try: resolvconf -u"


def test_the_tunnel_gets_another_link(openresolv: Machine) -> None:
    """The record of the old one goes."""
    service = openresolv.names()
    service.observe(LINKS)
    service.ensure(DNS)
    service.ensure(replace(DNS, link=10, link_name="aovpn1"))

    assert sorted(path.name for path in openresolv.records.iterdir()) == ["aovpn1.aovpnd", "wlan0.dhclient"]


def test_debians_resolvconf(openresolv: Machine) -> None:
    """It sorts by names: ``tun.`` comes before every card."""
    order = openresolv.place / "etc/interface-order"
    order.touch()
    Resolvconf(openresolv.place / "run/resolvconf", order).ensure(DNS)

    assert openresolv.calls[0] == "resolvconf -a tun.aovpn0.aovpnd -m 0 -x"


@pytest.mark.parametrize("disguise", [True, False])
def test_resolvectl_in_disguise(machine: Machine, disguise: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd-resolved installs itself under the name of resolvconf; and one that never ran is in use by nobody."""
    program = machine.place / "resolvconf"
    if disguise:
        (machine.place / "resolvectl").touch()
        program.symlink_to("resolvectl")
        machine.records.mkdir(parents=True)
    else:
        program.touch()
    monkeypatch.setattr("aovpnd.adapters.dns_resolvconf.shutil.which", lambda *_, **__: str(program))

    assert machine.names().observe(LINKS).by == (Mechanism.FILE,)

# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd-resolved: what resolvectl printed (recorded from 252 and 257), and a service that hangs, dies and lies."""

from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aovpnd.adapters import dns_resolved, process
from aovpnd.adapters.dns_resolved import LinkDns, Resolved, expected, parse_status
from aovpnd.dns import Dns, Scope
from aovpnd.errors import ToolError
from aovpnd.links import ARPHRD_NONE, Link
from tests.unit.small_world import SERVER4, SERVER6

LINK: Final = Link(4, "aovpn0", "tun", ARPHRD_NONE)
OTHER: Final = Link(5, "aovpn1", "tun", ARPHRD_NONE)
DNS: Final = Dns(4, "aovpn0", (SERVER4, SERVER6))
SPLIT: Final = replace(DNS, search=("corp.example",), routes=("lab.example",), scope=Scope.DOMAINS)

DEBIAN_12: Final = """\
Link 4 (aovpn0)
Current Scopes: DNS
     Protocols: +DefaultRoute -LLMNR -mDNS -DNSOverTLS DNSSEC=no/unsupported
Current DNS Server: 10.66.0.1
   DNS Servers: 10.66.0.1 fd66::1
    DNS Domain: corp.example ~intra.example ~.
"""
DEBIAN_13: Final = """\
Link 4 (aovpn0)
    Current Scopes: none
         Protocols: +DefaultRoute -LLMNR -mDNS -DNSOverTLS DNSSEC=no/unsupported
       DNS Servers: 10.66.0.1 fd66::1
        DNS Domain: corp.example ~intra.example ~.
     Default Route: yes
"""
NOTHING_12: Final = """\
Link 4 (aovpn0)
Current Scopes: none
     Protocols: -DefaultRoute +LLMNR -mDNS -DNSOverTLS DNSSEC=no/unsupported
"""
NOTHING_13: Final = """\
Link 4 (aovpn0)
    Current Scopes: none
         Protocols: -DefaultRoute +LLMNR -mDNS -DNSOverTLS DNSSEC=no/unsupported
     Default Route: no
"""
LONG_13: Final = """\
Link 4 (aovpn0)
    Current Scopes: none
         Protocols: -DefaultRoute -LLMNR -mDNS -DNSOverTLS DNSSEC=no/unsupported
       DNS Servers: 10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5
                    fd66:1111:2222:3333:4444:5555:6666:7777
                    fd66:1111:2222:3333:4444:5555:6666:7778
        DNS Domain: a.a.a.corp.example b.b.b.b.corp.example c.c.c.c.corp.example
                    d.d.d.corp.example
     Default Route: no
"""
SERVERS: Final = (ip_address("10.66.0.1"), ip_address("fd66::1"))
FULL: Final = LinkDns(SERVERS, ("corp.example", "~intra.example", "~."), "+DefaultRoute")


# -- what it prints ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "held"),
    [
        (DEBIAN_12, FULL),
        (DEBIAN_13, FULL),
        (NOTHING_12, LinkDns()),
        (NOTHING_13, LinkDns()),
        (
            LONG_13,
            LinkDns(
                tuple(
                    map(
                        ip_address,
                        (
                            *(f"10.0.0.{number}" for number in range(1, 6)),
                            "fd66:1111:2222:3333:4444:5555:6666:7777",
                            "fd66:1111:2222:3333:4444:5555:6666:7778",
                        ),
                    )
                ),
                ("a.a.a.corp.example", "b.b.b.b.corp.example", "c.c.c.c.corp.example", "d.d.d.corp.example"),
            ),
        ),
        (DEBIAN_12.replace("corp.example", "CORP.Example"), FULL),
        (DEBIAN_12.replace("fd66::1", "fe80::1%aovpn0"), replace(FULL, servers=(SERVERS[0], ip_address("fe80::1")))),
    ],
    ids=["252", "257", "252, nothing", "257, nothing", "257, long lists", "capitals", "link-local"],
)
def test_status(text: str, held: LinkDns) -> None:
    """Servers, domains and default route, wherever the columns stand and the lines break."""
    assert parse_status(text, LINK) == held


@pytest.mark.parametrize(
    "text",
    [
        "",
        'Failed to resolve interface "aovpn0", ignoring: No such device\n',
        DEBIAN_12.replace("Link 4", "Link 5"),
        DEBIAN_12.replace("(aovpn0)", "(wlan0)"),
        DEBIAN_12.replace("fd66::1", "9.9.9.9#dns.example"),
        DEBIAN_12.replace("fd66::1", "fd66::1 " * 70),
        DEBIAN_12.replace("~intra.example", "$(reboot)"),
        DEBIAN_12.replace("+DefaultRoute ", ""),
        DEBIAN_12 + "something else\n",
        "Link 4 (aovpn0)\n" + " " * 20 + "10.66.0.1\n",
    ],
)
def test_what_is_not_understood(text: str) -> None:
    """Then nothing is known, which is not the same as nothing being there."""
    with pytest.raises(ToolError):
        parse_status(text, LINK)


@given(st.text(max_size=400) | st.from_regex(r"Link 4 \(aovpn0\)\n( {0,12}[A-Z][a-zA-Z ]{0,9}: [ -~]{0,30}\n){0,6}"))
def test_no_text_does_harm(text: str) -> None:
    """Understood or refused, and never anything else."""
    try:
        held = parse_status(text, LINK)
    except ToolError:
        return
    assert held.default_route in {"+DefaultRoute", "-DefaultRoute"}


def test_what_it_should_hold() -> None:
    """All names by the default route and ``~.``; a split without either."""
    assert expected(DNS) == LinkDns((SERVER4, SERVER6), ("~.",), "+DefaultRoute")
    assert expected(SPLIT) == LinkDns((SERVER4, SERVER6), ("corp.example", "~lab.example"), "-DefaultRoute")
    assert expected(None) == LinkDns()


# -- a service ---------------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Service:
    """A resolved that does what resolvectl asks, or does not answer."""

    run: Path
    links: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    broken: str = ""
    gone: str = ""
    """A link that is not there any more."""
    flushed: int = 0
    serial: int = 0

    def __call__(self, name: str, *words: str, stdin: str = "", deadline_s: float = 5.0) -> str:
        """What `process.run` would return."""
        assert (name, stdin) == ("resolvectl", "")
        assert 0 < deadline_s <= dns_resolved.DEADLINE_S
        self.calls.append(" ".join(words))
        if self.broken:
            raise ToolError(self.broken)
        if self.gone and self.gone in words:
            raise ToolError(
                f'resolvectl {words[0]} failed (1): Failed to resolve interface "{self.gone}": No such device'
            )
        match words:
            case ("flush-caches",):
                self.flushed += 1
            case ("status", link):
                return self._status(link)
            case ("revert", link):
                self.links.pop(link, None)
                self.touch()
            case (setting, link, *values):
                self.links.setdefault(link, {})[setting] = tuple(values)
                self.touch()
            case _:
                raise AssertionError(words)
        return ""

    def touch(self) -> None:
        """It writes its files anew."""
        self.serial += 1
        new = self.run / "resolv.conf.new"
        new.write_text(f"# {self.serial}\n", encoding="utf-8")
        new.replace(self.run / "resolv.conf")

    def _status(self, link: str) -> str:
        held = self.links.get(link, {})
        sign = "+" if held.get("default-route") == ("yes",) else "-"
        lines = [f"Link {4 if link == 'aovpn0' else 5} ({link})", f"  Protocols: {sign}DefaultRoute -LLMNR -mDNS"]
        lines += [f"  DNS Servers: {' '.join(held['dns'])}"] if "dns" in held else []
        lines += [f"  DNS Domain: {' '.join(held['domain'])}"] if held.get("domain", ("",)) != ("",) else []
        return "\n".join(lines) + "\n"


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    """In the place of the real one."""
    service = Service(tmp_path)
    service.touch()
    monkeypatch.setattr(process, "run", service)
    return service


def test_told_and_read_back(service: Service) -> None:
    """Servers last, when everything else is right; then the caches; then a look. Afterwards a pass asks nobody."""
    resolved = Resolved(service.run)
    assert resolved.observe((LINK,)) == (None, "not known since the start")
    resolved.ensure(SPLIT, (LINK,))

    assert service.calls == [
        "dnsovertls aovpn0 no",
        "llmnr aovpn0 no",
        "mdns aovpn0 no",
        "default-route aovpn0 no",
        "domain aovpn0 corp.example ~lab.example",
        "dns aovpn0 10.64.0.1 fd64::1",
        "flush-caches",
        "status aovpn0",
    ]
    service.calls.clear()
    assert resolved.observe((LINK,)) == (SPLIT, "")
    assert service.calls == []


def test_all_names(service: Service) -> None:
    """The default route, and ``~.``, which takes precedence over the default routes of others."""
    resolved = Resolved(service.run)
    resolved.ensure(DNS, (LINK,))

    assert service.links["aovpn0"]["domain"] == ("~.",)
    assert service.links["aovpn0"]["default-route"] == ("yes",)
    assert resolved.observe((LINK,)) == (DNS, "")


def test_without_domains(service: Service) -> None:
    """No domains are told as such, or those of an earlier file would stay."""
    resolved = Resolved(service.run)
    resolved.ensure(replace(DNS, scope=Scope.DOMAINS), (LINK,))

    assert "domain aovpn0 " in service.calls


def test_nothing_to_do_without_a_tunnel(service: Service) -> None:
    """Before there is a link of ours, nobody is asked anything, and a new one is found as it is."""
    resolved = Resolved(service.run)
    assert resolved.observe(()) == (None, "")
    assert service.calls == []
    assert resolved.observe((LINK,)) == (None, "")
    assert service.calls == ["status aovpn0"]


def test_given_back(service: Service) -> None:
    """In a window: the link holds nothing of ours, and what was answered through the tunnel is forgotten."""
    resolved = Resolved(service.run)
    resolved.ensure(DNS, (LINK,))
    resolved.ensure(None, (LINK,))

    assert service.links == {}
    assert service.flushed == 2
    assert resolved.observe((LINK,)) == (None, "")


def test_the_link_goes(service: Service) -> None:
    """Resolved forgets it by itself; what it was answered over it has to be forgotten as well."""
    resolved = Resolved(service.run)
    resolved.ensure(DNS, (LINK,))
    assert resolved.observe(()) == (None, "the tunnel's link has gone")
    resolved.ensure(None, ())
    assert service.flushed == 2
    assert resolved.observe(()) == (None, "")


def test_the_link_goes_while_it_is_told(service: Service) -> None:
    """The same pass has removed the link before it gives the names back: no fault, and the other link is seen to."""
    resolved = Resolved(service.run)
    resolved.ensure(DNS, (LINK, OTHER))
    service.gone = "aovpn0"
    resolved.ensure(None, (LINK, OTHER))

    assert "revert aovpn1" in service.calls
    assert service.flushed == 2
    assert resolved.observe((OTHER,)) == (None, "")


def test_another_tunnel(service: Service) -> None:
    """What was told for one link is taken back when another one counts."""
    resolved = Resolved(service.run)
    resolved.ensure(DNS, (LINK, OTHER))
    resolved.ensure(replace(DNS, link=5, link_name="aovpn1"), (LINK, OTHER))

    assert set(service.links) == {"aovpn1"}


def test_tunnels_side_by_side(service: Service) -> None:
    """Each link has its own servers and domains, and what changes at either is noticed."""
    beside = replace(SPLIT, link=5, link_name="aovpn1")
    both = replace(DNS, beside=(beside,))
    resolved = Resolved(service.run)
    resolved.ensure(both, (LINK, OTHER))

    assert resolved.observe((LINK, OTHER)) == (both, "")
    assert service.links["aovpn1"]["domain"] == ("corp.example", "~lab.example")
    assert (service.links["aovpn0"]["default-route"], service.links["aovpn1"]["default-route"]) == (("yes",), ("no",))
    service("resolvectl", "dns", "aovpn1", "192.0.2.66", deadline_s=1.0)
    assert resolved.observe((LINK, OTHER)) == (None, "somebody changed what systemd-resolved holds for aovpn1")
    resolved.ensure(both, (LINK, OTHER))
    assert resolved.observe((LINK,)) == (None, "the tunnel's link has gone")


def test_somebody_else_changes_it(service: Service) -> None:
    """It is noticed by resolved's own files, and put right."""
    resolved = Resolved(service.run)
    resolved.ensure(DNS, (LINK,))
    service("resolvectl", "dns", "aovpn0", "192.0.2.66", deadline_s=1.0)

    assert resolved.observe((LINK,)) == (None, "somebody changed what systemd-resolved holds for aovpn0")
    resolved.ensure(DNS, (LINK,))
    assert resolved.observe((LINK,)) == (DNS, "")


def test_it_is_looked_at_now_and_then(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not everything that it holds shows in files that we see."""
    resolved = Resolved(service.run)
    resolved.ensure(DNS, (LINK,))
    service.links["aovpn0"]["default-route"] = ("no",)
    assert resolved.observe((LINK,)) == (DNS, "")
    monkeypatch.setattr(dns_resolved, "LOOK_S", -1.0)

    assert "somebody changed" in resolved.observe((LINK,))[1]


def test_it_hangs(service: Service) -> None:
    """One attempt costs its deadline; later passes cost nothing, until its files say that it is back."""
    resolved = Resolved(service.run)
    resolved.ensure(DNS, (LINK,))
    service.broken = "resolvectl dns was not done after 2 s"
    service.touch()
    assert resolved.observe((LINK,)) == (None, "systemd-resolved does not answer")
    service.calls.clear()
    assert resolved.observe((LINK,)) == (None, "systemd-resolved does not answer")
    assert service.calls == []
    with pytest.raises(ToolError, match="systemd-resolved cannot be reached") as fault:
        resolved.ensure(DNS, (LINK,))
    assert fault.value.hint.startswith("names are asked for as it was told last, and this is tried again")
    assert len(service.calls) == 1

    service.broken = ""
    service.touch()
    assert resolved.observe((LINK,)) == (DNS, "")


@pytest.mark.parametrize(
    "said",
    [
        "resolvectl status was not done after 2 s",
        "resolvectl dns failed (1): sd_bus_open_system: Connection refused",
        "resolvectl dns failed (1): sd_bus_open_system: No such file or directory",
        "resolvectl revert failed (1): Failed to revert interface configuration: Connection timed out",
        "resolvectl revert failed (1): Failed to revert interface configuration: Could not activate remote peer.",
    ],
)
def test_bus_is_away(service: Service, said: str) -> None:
    """Without a bus nothing can be told, and what was told still holds: that is what is said, in the same words each
    time, and nothing of names that do not resolve.
    """
    resolved = Resolved(service.run)
    service.broken = said
    with pytest.raises(ToolError) as fault:
        resolved.ensure(DNS, (LINK,))
    assert fault.value.text == "systemd-resolved cannot be reached"
    assert "do not resolve" not in fault.value.hint
    service.broken = "resolvectl dns failed (1): Failed to set DNS configuration: Invalid argument"
    with pytest.raises(ToolError, match="does not do what it is told: resolvectl dns failed") as fault:
        resolved.ensure(DNS, (LINK,))
    assert "do not resolve" in fault.value.hint


def test_one_that_hangs_is_left_alone(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several passes in a row do not wait for it one after the other; when its files change, it is asked at once."""
    resolved = Resolved(service.run)
    monkeypatch.setattr(dns_resolved, "DEADLINE_S", 0.0)
    with pytest.raises(ToolError, match="cannot be reached"):
        resolved.ensure(DNS, (LINK,))
    monkeypatch.setattr(dns_resolved, "DEADLINE_S", 2.0)
    with pytest.raises(ToolError, match="cannot be reached"):
        resolved.ensure(DNS, (LINK,))
    assert resolved.observe((LINK, OTHER)) == (None, "systemd-resolved does not answer")
    assert service.calls == []

    service.touch()
    resolved.ensure(DNS, (LINK,))
    assert resolved.observe((LINK,)) == (DNS, "")


def test_it_is_dead_and_nothing_of_ours_is_there(service: Service) -> None:
    """Then nothing is missing: a dead resolved has no cache either."""
    resolved = Resolved(service.run)
    service.broken = "resolvectl flush-caches failed (1): no such name"

    resolved.ensure(None, ())
    assert resolved.observe(()) == (None, "")


def test_it_lies(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told and not done is a failure, whatever the exit status was."""
    resolved = Resolved(service.run)
    monkeypatch.setattr(Service, "_status", lambda *_: NOTHING_12)

    with pytest.raises(ToolError, match="holds something else than it was told"):
        resolved.ensure(DNS, (LINK,))


def test_no_time_left(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline is for all of it."""
    monkeypatch.setattr(dns_resolved, "DEADLINE_S", 0.0)

    with pytest.raises(ToolError, match="cannot be reached"):
        Resolved(service.run).ensure(DNS, (LINK,))
    assert service.calls == []

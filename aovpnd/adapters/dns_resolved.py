# SPDX-License-Identifier: GPL-3.0-or-later
"""Names by systemd-resolved, with resolvectl(1): servers, domains and default route of our link, nothing of another's.

resolved keeps what it was told through a restart and forgets it with the link. It is looked at when its own files say
that something changed, when it was restarted, and now and then; a look costs a process, so not in every pass.
"""

import re
import socket
import time
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from aovpnd.adapters import process
from aovpnd.dns import Dns, Scope
from aovpnd.errors import ToolError
from aovpnd.links import Link
from aovpnd.ruleset import Address

RUN: Final = Path("/run/systemd/resolve")
SOCKET: Final = "io.systemd.Resolve"
STUBS: Final = frozenset(map(ip_address, ("127.0.0.53", "127.0.0.54")))
"""systemd-resolved.service(8): the addresses that it answers on."""
DEADLINE_S: Final = 2.0
"""For everything that is said to it in one pass; whatever hangs here would hold up the loop."""
QUIET_S: Final = 15.0
"""One that let the deadline pass is not spoken to for so long, unless its files say that it is back: several passes in
a row, as a command causes them, shall not wait for it one after the other."""
LOOK_S: Final = 60.0
"""Look again after so long although nothing seems to have changed: not all that it holds shows in files that we see."""
_HINT: Final = "names do not resolve; for the reason: systemctl status systemd-resolved"
_AWAY: Final = (
    "names are asked for as it was told last, and this is tried again; systemctl status dbus systemd-resolved"
)
_UNREACHABLE: Final = re.compile(
    r"was not done after|does not answer|[Cc]onnection|[Cc]onnect to bus|not connected|remote peer|receive a reply"
    r"|No such file|[Aa]ctivat|not provided by"
)
"""In what resolvectl(1) says when the bus, or resolved on it, is away: it holds what it held before."""
_NO_LINK: Final = "No such device"
"""In what resolvectl(1) says of a link that is not there."""
_LONGEST: Final = 1 << 16
_MOST: Final = 64
_FIELD: Final = re.compile(r" *([A-Z][A-Za-z. ]*): (.*)")
_MORE: Final = re.compile(r" {10,}(\S.*)")
"""A list that is too long for a line goes on in the next one."""
_WORD: Final = re.compile(r"~?[A-Za-z0-9._-]{1,254}")


@dataclass(frozen=True, slots=True)
class LinkDns:
    """What resolved holds for a link. Domains as it writes them, in lower case."""

    servers: tuple[Address, ...] = ()
    domains: tuple[str, ...] = ()
    default_route: str = "-DefaultRoute"


@dataclass(slots=True)
class _Look:
    """What was seen last, when, and how resolved's files looked then."""

    signature: tuple[int, ...] = ()
    at: float = 0.0
    dns: Dns | None = None
    astray: str = ""


@dataclass(slots=True)
class Resolved:
    """The service. ``run`` is where its files are."""

    run: Path = RUN
    _last: Dns | None = None
    _look: _Look | None = None
    _looked_at: tuple[tuple[int, str], ...] = ()
    _hung: tuple[float, tuple[int, ...]] = (float("-inf"), ())
    """When it last hung, and how its files looked then."""

    def runs(self) -> bool:
        """Whether somebody listens on its socket; one that hangs still does."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
            try:
                probe.connect(str(self.run / SOCKET))
            except BlockingIOError:  # so many wait already that it must hang
                return True
            except OSError:
                return False
            return True

    def observe(self, links: tuple[Link, ...]) -> tuple[Dns | None, str]:
        """What is in force of ours, and what is astray; ``links`` are the tunnels' that are there."""
        if {dns.link for dns in _each(self._last)} - {link.index for link in links}:
            return None, "the tunnel's link has gone"  # resolved has forgotten it, but not what it was answered
        if not links:
            self._forget(None, links, "")
        elif self._look is None:
            return None, "not known since the start"  # what an earlier daemon told it, `ensure` will find out
        elif self._is_stale(self._look, links):
            self._look, self._looked_at = self._see(links), _key(links)
        return (self._look.dns, self._look.astray) if self._look is not None else (None, "")

    def ensure(self, dns: Dns | None, links: tuple[Link, ...]) -> None:
        """Make it so for the tunnels' ``links``, forget all answers, and read it back. `ToolError` when that fails."""
        until = time.monotonic() + DEADLINE_S
        try:
            self._spare()
            links = self._tell(dns, links, until)
        except ToolError as error:
            self._judge(until)
            if dns is None and not links:
                self._forget(None, links, "")  # there is nothing that it could hold of ours
                return
            self._forget(self._last, links, "systemd-resolved does not answer")
            if _UNREACHABLE.search(error.text):
                raise ToolError("systemd-resolved cannot be reached", hint=_AWAY) from error
            raise ToolError(f"systemd-resolved does not do what it is told: {error.text}", hint=_HINT) from error
        self._last = dns
        self._look, self._looked_at = self._see(links), _key(links)
        if self._look.astray or self._look.dns != dns:
            raise ToolError("systemd-resolved holds something else than it was told", hint=_HINT)

    def _forget(self, dns: Dns | None, links: tuple[Link, ...], astray: str) -> None:
        self._last = dns
        self._look, self._looked_at = _Look(self._signature(links), time.monotonic(), None, astray), _key(links)

    def _is_stale(self, look: _Look, links: tuple[Link, ...]) -> bool:
        """Whether another look may see something else. One that hangs is not looked at again for its age alone."""
        old = time.monotonic() - look.at > LOOK_S and not look.astray
        return old or look.signature != self._signature(links) or self._looked_at != _key(links)

    def _tell(self, dns: Dns | None, links: tuple[Link, ...], until: float) -> tuple[Link, ...]:
        """Returns those of ``links`` that it knows: one that was removed a moment ago is forgotten already."""
        known, told = [], {each.link for each in _each(dns)}
        for link in links:
            if link.index not in told:
                try:
                    _resolvectl(until, "revert", link.name)
                except ToolError as error:
                    if _NO_LINK not in error.text:
                        raise
                    continue
            known.append(link)
        for each in _each(dns):
            name = each.link_name
            # The tunnel hides what it carries, so its servers need no TLS; and nobody is to be asked by multicast.
            for setting in ("dnsovertls", "llmnr", "mdns"):
                _resolvectl(until, setting, name, "no")
            _resolvectl(until, "default-route", name, "yes" if each.scope is Scope.ALL else "no")
            _resolvectl(until, "domain", name, *(each.domains or ("",)))
            _resolvectl(until, "dns", name, *map(str, each.servers))
        _resolvectl(until, "flush-caches")
        return tuple(known)

    def _spare(self) -> None:
        """`ToolError` while it has only just hung."""
        at, signature = self._hung
        if time.monotonic() - at < QUIET_S and signature == self._signature(()):
            raise ToolError("systemd-resolved does not answer")

    def _judge(self, until: float) -> None:
        """What to think of it after a failure: that the time was used up says that it hangs."""
        if time.monotonic() >= until:
            self._hung = time.monotonic(), self._signature(())

    def _see(self, links: tuple[Link, ...]) -> _Look:
        """Ask what it holds for each link of ours."""
        until = time.monotonic() + DEADLINE_S
        signature, now = self._signature(links), time.monotonic()
        astray = ""
        try:
            self._spare()
            for link in links:
                held = parse_status(_resolvectl(until, "status", link.name), link)
                wanted = next((each for each in _each(self._last) if each.link == link.index), None)
                if held != expected(wanted):
                    astray = f"somebody changed what systemd-resolved holds for {link.name}"
        except ToolError:
            self._judge(until)
            astray = "systemd-resolved does not answer"
        return _Look(signature, now, None if astray else self._last, astray)

    def _signature(self, links: tuple[Link, ...]) -> tuple[int, ...]:
        """What changes when resolved is restarted, or told something: its socket and its files (those of links where we
        may see them).
        """
        names = (SOCKET, "resolv.conf", *(f"netif/{link.index}" for link in links))
        return tuple(number for name in names for number in _stamp(self.run / name))


def _each(dns: Dns | None) -> tuple[Dns, ...]:
    return dns.each if dns is not None else ()


def _key(links: tuple[Link, ...]) -> tuple[tuple[int, str], ...]:
    return tuple((link.index, link.name) for link in links)


def expected(dns: Dns | None) -> LinkDns:
    """What resolved holds when it does as it was told."""
    if dns is None:
        return LinkDns()
    default = "+DefaultRoute" if dns.scope is Scope.ALL else "-DefaultRoute"
    return LinkDns(dns.servers, dns.domains, default)


def parse_status(text: str, link: Link) -> LinkDns:
    """What ``resolvectl status LINK`` says. `ToolError` when it is not about that link, or not understood."""
    lines = text[:_LONGEST].splitlines()
    if not lines or lines[0] != f"Link {link.index} ({link.name})":
        raise ToolError(f"resolvectl says nothing of {link.name}")
    fields: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in lines[1:]:
        if found := _FIELD.fullmatch(line):
            current = fields.setdefault(found[1], [])
            current += found[2].split()
        elif (more := _MORE.fullmatch(line)) and current is not None:
            current += more[1].split()
        elif line.strip():
            raise ToolError("resolvectl says something that is not understood")
    servers, domains = fields.get("DNS Servers", []), fields.get("DNS Domain", [])
    default = [word for word in fields.get("Protocols", []) if word in {"+DefaultRoute", "-DefaultRoute"}]
    if len(servers) > _MOST or len(domains) > _MOST or len(default) != 1 or not all(map(_WORD.fullmatch, domains)):
        raise ToolError("resolvectl says something that is not understood")
    try:
        # The zone of a link-local one is the link that this is about.
        addresses = tuple(ip_address(server.removesuffix(f"%{link.name}")) for server in servers)
    except ValueError:
        raise ToolError("resolvectl names a server that is no address") from None
    return LinkDns(addresses, tuple(domain.lower() for domain in domains), default[0])


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_ino, status.st_mtime_ns)


def _resolvectl(until: float, *arguments: str) -> str:
    left = until - time.monotonic()
    if left <= 0:
        raise ToolError(f"resolvectl was not done after {DEADLINE_S:g} s")
    return process.run("resolvectl", *arguments, deadline_s=left)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Names by resolvconf(8), openresolv's or Debian's: a record of ours beside those of the DHCP clients, before them."""

import shutil
from pathlib import Path
from typing import Final

from aovpnd import names, regular
from aovpnd.adapters import process
from aovpnd.adapters.dns_file import render
from aovpnd.dns import Dns
from aovpnd.errors import ToolError
from aovpnd.ruleset import Address

RUN: Final = Path("/run/resolvconf")
PROGRAM: Final = "resolvconf"
RECORDS: Final = ("keys", "interfaces", "interface")
"""Directories of records, below RUN: openresolv's of today and of yesterday, and Debian's."""
INTERFACE_ORDER: Final = Path("/etc/resolvconf/interface-order")
"""Debian's resolvconf(8) has it, and takes names that begin with ``tun.`` before all others."""
DEADLINE_S: Final = 2.0
_LONGEST: Final = 1 << 16
_MOST: Final = 64
_HINT: Final = "names do not go through the tunnel; try: resolvconf -u"


class Resolvconf:
    """The program, and the records that it keeps below ``run``."""

    def __init__(self, run: Path = RUN, order: Path = INTERFACE_ORDER) -> None:
        self._run = run
        self._order = order
        self._last: Dns | None = None

    def is_there(self) -> bool:
        """Whether resolvconf manages this machine's resolvers: installed, in use, and not resolvectl in disguise."""
        program = shutil.which(PROGRAM, path=process.ENVIRONMENT["PATH"])
        return program is not None and Path(program).resolve().name == PROGRAM and self._run.is_dir()

    def observe(self, listed: tuple[Address, ...]) -> tuple[Dns | None, str]:
        """What is in force of ours, and what is astray; ``listed`` are the servers of resolv.conf(5) as it is now."""
        record = self._record()
        if record is None:
            return None, "our record in resolvconf is gone" if self._last is not None else ""
        if self._last is None or record.strip() != render(self._last).strip():
            return None, "our record in resolvconf is not as we left it"
        if not any(server in self._last.servers or server.is_loopback for server in listed):
            return None, "resolvconf's file was overwritten"
        return self._last, ""

    def ensure(self, dns: Dns | None) -> None:
        """Our record there, alone and first, or gone. `ToolError` when that fails."""
        try:
            if dns is not None:
                if self._last is not None and self._last.link_name != dns.link_name:
                    process.run(PROGRAM, "-d", self._name(self._last.link_name), deadline_s=DEADLINE_S)
                # -m and -x as wg-quick(8) has them: the best metric, and alone. Debian's takes no notice of them.
                name = self._name(dns.link_name)
                process.run(PROGRAM, "-a", name, "-m", "0", "-x", stdin=render(dns), deadline_s=DEADLINE_S)
                process.run(PROGRAM, "-u", deadline_s=DEADLINE_S)
            else:
                for record in self._ours():
                    process.run(PROGRAM, "-d", record.name, "-f", deadline_s=DEADLINE_S)
        except ToolError as error:
            raise ToolError(error.text, hint=_HINT) from error
        self._last = dns

    def others(self) -> str | None:
        """The records of everybody else, as one resolv.conf(5); None where resolvconf says nothing of them: it has no
        records, or is not there. Where ours is the only one, its file is ours as well, and nobody has said anything.
        """
        ours = self._ours()
        found = [path for path in self._records() if path not in ours]
        said = "\n".join(filter(None, map(_read, found[:_MOST])))
        return said or ("" if ours and self.is_there() else None)

    def _name(self, link_name: str) -> str:
        record = names.RESOLVCONF_RECORD.format(link=link_name)
        return f"tun.{record}" if self._order.exists() else record

    def _record(self) -> str | None:
        return next((_read(path) for path in self._ours()), None)

    def _ours(self) -> list[Path]:
        suffix = names.RESOLVCONF_RECORD.format(link="")
        return [path for path in self._records() if path.name.endswith(suffix)]

    def _records(self) -> list[Path]:
        for place in RECORDS:
            try:
                return sorted(path for path in (self._run / place).iterdir() if path.is_file())
            except OSError:
                continue
        return []


def _read(path: Path) -> str | None:
    try:
        return regular.read(path, _LONGEST).decode("utf-8", "replace")
    except OSError:
        return None

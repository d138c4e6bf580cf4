# SPDX-License-Identifier: GPL-3.0-or-later
"""Names by /etc/resolv.conf itself, where nobody else manages it, or whoever does writes it without asking anybody."""

import time
from collections import deque
from pathlib import Path
from typing import Final

from aovpnd.dns import Dns
from aovpnd.errors import StateError
from aovpnd.resolvconf import ResolvConf

FIGHT_TIMES, FIGHT_S = 6, 10.0
"""Overwritten so often in so many seconds, the file has another master, and he is left in peace for a while. (A network
manager writes it two or three times in a row when a network comes up.)"""
_WHY: Final = "is the file immutable (lsattr), or its file system read-only?"
_NOT_PUT: Final = f"names do not go through the tunnel; {_WHY}"
_NOT_GIVEN_BACK: Final = f"names are still led to the tunnel's servers, so none is found without it; {_WHY}"


class ResolvConfFile:
    """The file; what was there before ours is kept and comes back."""

    def __init__(self, path: Path, save: Path) -> None:
        self._conf = ResolvConf(path, save)
        self._last: Dns | None = None
        self._written: deque[float] = deque(maxlen=FIGHT_TIMES)

    def observe(self) -> tuple[Dns | None, str]:
        """What is in force of ours, and what is astray."""
        try:
            if self._conf.is_ours():
                whole = self._last is not None and self._conf.says(render(self._last))
                return (self._last, "") if whole else (None, f"{self._conf.path} is not as we left it")
            return None, f"{self._conf.path} was overwritten" if self._conf.save.exists() else ""
        except OSError as error:
            return None, f"{self._conf.path}: {error.strerror or error}"

    def ensure(self, dns: Dns | None, otherwise: str = "") -> None:
        """Ours in its place, or what was there before (``otherwise`` where nobody knows). `StateError` when that
        fails.
        """
        try:
            if dns is None:
                self._conf.give_back(otherwise)
            else:
                self._judge_fight()
                self._conf.put(render(dns), otherwise)
        except OSError as error:
            hint = _NOT_GIVEN_BACK if dns is None else _NOT_PUT
            raise StateError(f"{self._conf.path} cannot be written: {error.strerror or error}", hint=hint) from error
        self._last = dns

    def is_lost(self) -> bool:
        """Whether nobody knows what was there before."""
        return self._conf.is_lost()

    def users(self) -> str:
        """What programs would read without ours."""
        return self._conf.users()

    def now(self) -> str:
        """What programs read now; "" when there is nothing. It never fails."""
        return self._conf.read()

    def _judge_fight(self) -> None:
        """`StateError` when ours has been overwritten too often."""
        if self._conf.is_ours() or not self._conf.save.exists():
            return
        now = time.monotonic()
        if len(self._written) == FIGHT_TIMES and now - self._written[0] < FIGHT_S:
            hint = "let it leave the file alone (NetworkManager: dns=none in its [main] section)"
            raise StateError(f"another program keeps overwriting {self._conf.path}", hint=hint)
        self._written.append(now)


def render(dns: Dns) -> str:
    """As resolv.conf(5) has it. It knows no domains of their own servers, so all names go to ours."""
    search = f"search {' '.join(dns.search)}\n" if dns.search else ""
    return "".join(f"nameserver {server}\n" for server in dns.servers) + search

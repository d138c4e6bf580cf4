# SPDX-License-Identifier: GPL-3.0-or-later
"""A charon is given what a person has answered, for one attempt; what the gateway refuses is not shown to it again."""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aovpnd import signin
from aovpnd.backends import charonlog
from aovpnd.backends.charon import spent
from aovpnd.backends.ikememory import Memory
from aovpnd.backends.vici import Charon
from aovpnd.errors import ToolError
from aovpnd.ipsec import IPsec, Said
from aovpnd.signin import Desk

Requests = Callable[[IPsec], Iterable[tuple[str, Mapping[str, Any]]]]
"""What charon must be told of a tunnel."""


class People:
    """What one backend's tunnels ask people for. Lives as long as the backend."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def answer(self, memory: Memory, spec: IPsec, charon: Charon, requests: Requests) -> bool:
        """Give charon what was answered, where the tunnel asks for something; False where there is nothing to try."""
        if not signin.asked(spec):
            return True
        answers = self._desk.fetch(spec)
        if answers is None:
            memory.said, memory.asking = signin.wanted(spec), None
            return False
        memory.said, memory.asking, memory.refused = None, spec, None
        try:
            charon.load(requests(signin.answered(spec, answers)))
        except ToolError as error:  # as of a token's wrong PIN, and tokens count
            self._refuse(memory, spec, Said("", error.text))
            charon.load(requests(spec))
            return False
        return True

    def said(self, memory: Memory, logged: Said | None) -> Said | None:
        """Why there is no SA. What a person answered and the gateway refuses is forgotten, at once and once."""
        said = logged or memory.said
        if memory.asking is not None and said is not None and said.code in charonlog.REFUSALS:
            self._refuse(memory, memory.asking, said)
        return memory.refused or said

    def _refuse(self, memory: Memory, spec: IPsec, said: Said) -> None:
        self._desk.forget(spec)
        memory.asking, memory.refused = None, signin.refused(spec, said)

    @staticmethod
    def succeeded(charon: Charon, memory: Memory) -> None:
        """Have charon forget a one-time password that has served: it would show it again when it is asked anew."""
        if memory.asking is not None and (ids := spent(memory.asking)):
            with contextlib.suppress(ToolError):
                charon.unload_secrets(ids)
        memory.asking = None

# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets that people are asked for: what is asked, and the one place where answers are kept, in memory alone.

The desk stands between who answers (the control socket, in a thread each, since a key's password is slow to judge) and
who needs it (strongSwan's backend, in the worker's). What decides, `core`, learns only that somebody has signed in. An
answer belongs to a tunnel as it was when it was given: of one whose file has changed, it is forgotten.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, assert_never

from aovpnd.errors import CommandRefused
from aovpnd.ipsec import SIGN_IN_REFUSED, SIGN_IN_WANTED, Ask, IPsec, Locked, Round, Said, Token, TunnelSpec
from aovpnd.orders import Answer, SignedIn
from aovpnd.tunnel import Secret

Submit = Callable[[SignedIn], Awaitable[Answer]]
"""Has the loop try a tunnel."""


MOST_ANSWERS: Final = 4
"""As many as a tunnel can have rounds."""


@dataclass(frozen=True, slots=True)
class Questions:
    """What is asked for, and not answered yet?"""


@dataclass(frozen=True, slots=True)
class SignIn:
    """Here is what a tunnel asks for: answers by the numbers of their rounds."""

    name: str
    answers: tuple[tuple[int, Secret], ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """One secret that somebody is asked for: of which round, what it is in words, how long it is kept."""

    place: int
    words: str
    ask: Ask


def asked(spec: IPsec) -> tuple[Asked, ...]:
    """What has to be asked for before a tunnel can be tried."""
    found: list[Asked] = []
    for place, each in enumerate(spec.rounds, 1):
        token = _token(each)
        if each.ask is not None:
            kind = "password" if each.ask is Ask.ONCE else "one-time password"
            found.append(Asked(place, f"{kind} of {each.user}", each.ask))
        elif token is not None and token.ask is not None:
            found.append(Asked(place, "PIN of the token" if token.module is not None else "PIN of the TPM", token.ask))
        elif _locked(each) is not None:
            found.append(Asked(place, "password of the private key", Ask.ONCE))
    return tuple(found)


def answered(spec: IPsec, answers: Mapping[int, Secret]) -> IPsec:
    """The tunnel with what was answered in its rounds; its digest is the same."""
    rounds = (_answered(each, answers.get(place)) for place, each in enumerate(spec.rounds, 1))
    return replace(spec, rounds=tuple(rounds))


def _answered(each: Round, answer: Secret | None) -> Round:
    token = _token(each)
    if answer is None:
        return each
    if (locked := _locked(each)) is not None and each.credential is not None:
        return replace(each, credential=replace(each.credential, key=replace(locked, opened=answer)))
    if each.ask is not None:
        return replace(each, secret=answer)
    if token is None or token.ask is None or each.credential is None:
        return each
    return replace(each, credential=replace(each.credential, key=replace(token, pin=answer)))


def _token(each: Round) -> Token | None:
    key = each.credential.key if each.credential is not None else None
    return key if isinstance(key, Token) else None


def _locked(each: Round) -> Locked | None:
    key = each.credential.key if each.credential is not None else None
    return key if isinstance(key, Locked) else None


def wanted(spec: IPsec) -> Said:
    """Why a tunnel is not tried."""
    what = " and ".join(f"the {each.words}" for each in asked(spec))
    text = f"{what} is asked for by the gateway ({_gateways(spec)}), and nobody has given it"
    return Said(SIGN_IN_WANTED, text, _hint(spec))


def refused(spec: IPsec, said: Said) -> Said:
    """Why it is not tried again."""
    text = f"{said.text} ({_gateways(spec)}); it is not tried again with the same"
    return Said(SIGN_IN_REFUSED, text, _hint(spec))


def _hint(spec: IPsec) -> str:
    return f"aovpnctl sign-in {spec.name}"


def _gateways(spec: IPsec) -> str:
    return ", ".join(map(str, spec.gateways))


@dataclass(slots=True)
class _Tunnel:
    """What is known of one tunnel: ``answers`` by their rounds; ``wanted``: somebody needed one and had none."""

    spec: IPsec
    digest: str
    answers: dict[int, Secret] = field(default_factory=dict)
    wanted: bool = False

    def missing(self) -> tuple[Asked, ...]:
        return tuple(each for each in asked(self.spec) if each.place not in self.answers)


Unlock = Callable[[Locked, tuple[str, ...], Secret], Secret]
"""A private key, by its password and in front of its certificates; `CommandRefused` when it is another one."""


def _differ(name: str) -> CommandRefused:
    text = f"something else is asked for by {name} than was answered"
    return CommandRefused(text, hint=f"aovpnctl sign-in {name}", code="answers-differ")


def _cannot(*_: object) -> Secret:
    raise CommandRefused("private keys cannot be opened here", code="answers-differ")


class Desk:
    """Where answers are handed in and fetched; lives as long as the daemon. Used by several threads."""

    def __init__(self, unlock: Unlock = _cannot) -> None:
        self._unlock = unlock
        self._lock = threading.Lock()
        self._tunnels: dict[str, _Tunnel] = {}

    def expect(self, specs: Iterable[TunnelSpec]) -> None:
        """The configuration was read: what is asked for now. Answers stay where the tunnel is the same."""
        found = {spec.name: _Tunnel(spec, spec.digest()) for spec in specs if isinstance(spec, IPsec) and asked(spec)}
        with self._lock:
            for name, new in found.items():
                old = self._tunnels.get(name)
                if old is not None and old.digest == new.digest and old.spec.gateways == new.spec.gateways:
                    new.answers, new.wanted = old.answers, old.wanted
            self._tunnels = found

    # -- who answers --------------------------------------------------------------------------------------------------
    def questions(self) -> list[dict[str, object]]:
        """Everything that is missing, as JSON has it. ``wanted``: the tunnel waits for it."""
        with self._lock:
            return [
                {"tunnel": name, "place": each.place, "text": each.words, "gateway": _gateways(known.spec)}
                | {"wanted": known.wanted}
                for name, known in sorted(self._tunnels.items())
                for each in known.missing()
            ]

    def take(self, name: str, answers: Mapping[int, Secret]) -> None:
        """Keep answers, by the numbers of their rounds; of a private key's password, the key. `CommandRefused` when
        they are not those that are missing, or a key has another password.
        """
        with self._lock:
            spec = self._asking(name, answers).spec
        opened = {place: self._opened(spec, place, answer) for place, answer in answers.items()}  # which is slow
        with self._lock:
            known = self._asking(name, answers)
            if known.spec != spec:
                raise _differ(name)
            known.answers |= opened
            known.wanted = False

    def _asking(self, name: str, answers: Mapping[int, Secret]) -> _Tunnel:
        known = self._tunnels.get(name)
        if known is None:
            raise CommandRefused(f"nothing is asked for by {name}", hint="aovpnctl tunnels", code="nothing-asked")
        if answers.keys() != {each.place for each in known.missing()}:
            raise _differ(name)
        return known

    async def serve(self, submit: Submit, asks: SignIn | Questions) -> Answer:
        """Say what is missing, or keep what was answered: the loop hears only that somebody has signed in."""
        match asks:
            case Questions():
                return Answer("what is asked for", data={"questions": self.questions()})
            case SignIn(name, answers):
                await asyncio.to_thread(self.take, name, dict(answers))
                return await submit(SignedIn(name))
            case _:
                assert_never(asks)

    def _opened(self, spec: IPsec, place: int, answer: Secret) -> Secret:
        each = spec.rounds[place - 1]
        key = _locked(each)
        if key is None or each.credential is None:
            return answer
        return self._unlock(key, each.credential.chain, answer)

    # -- who needs it -------------------------------------------------------------------------------------------------
    def fetch(self, spec: IPsec) -> Mapping[int, Secret] | None:
        """The answers for one attempt, whose one-time passwords are spent with it; None where one is missing."""
        with self._lock:
            known = self._known(spec)
            if known is None:
                return None
            if known.missing():
                known.wanted = True
                return None
            answers = dict(known.answers)
            for each in asked(spec):
                if each.ask is Ask.EACH_TIME:
                    known.answers.pop(each.place, None)
            return answers

    def forget(self, spec: IPsec) -> None:
        """They were refused: which of several is not told, so all of them go."""
        with self._lock:
            known = self._known(spec)
            if known is not None:
                known.answers.clear()
                known.wanted = True

    def _known(self, spec: IPsec) -> _Tunnel | None:
        known = self._tunnels.get(spec.name)
        return known if known is not None and known.digest == spec.digest() else None

# SPDX-License-Identifier: GPL-3.0-or-later
"""Weakenings of what people are asked for: who hears an answer, and how often it is shown."""

from typing import Final

from tests.mutants.mutant import IKETOKENS, SEALED, SIGNIN, TURNS, Mutant

_DESK: Final = "aovpnd/signin.py"
_IPSEC: Final = "aovpnd/ipsec.py"
_SEALED: Final = "aovpnd/bus/sealed.py"

SIGNING: Final = (
    Mutant(
        "refused-and-shown-again",
        _DESK,
        "known.answers.clear()",
        "pass",
        "a wrong password is shown until the account is locked",
        (SIGNIN,),
    ),
    Mutant(
        "pin-again-and-again",
        "aovpnd/backends/iketokens.py",
        "    if memory.keyless != (spec.digest(), PIN_REFUSED):\n",
        "    if True:\n",
        "a token that has refused the PIN of a file is asked until it locks",
        (IKETOKENS,),
    ),
    Mutant(
        "one-time-and-again",
        _DESK,
        "known.answers.pop(each.place, None)",
        "pass",
        "a one-time password is shown twice",
        (SIGNIN,),
    ),
    Mutant(
        "answers-for-any-file",
        _DESK,
        "if old is not None and old.digest == new.digest and old.spec.gateways == new.spec.gateways:",
        "if old is not None:",
        "a password is shown to whomever the file names now",
        (SIGNIN,),
    ),
    Mutant(
        "waiting-is-trying",
        _IPSEC,
        "return self.code in {SIGN_IN_WANTED, SIGN_IN_REFUSED}",
        "return self.code == SIGN_IN_WANTED",
        "a tunnel whose password was refused is tried again for ever",
        (SIGNIN,),
    ),
    Mutant(
        "passwords-in-names",
        _IPSEC,
        "secret = each.ask or (each.secret.value",
        "secret = (each.secret.value",
        "a digest of what somebody typed is the name of charon's connection",
        (SIGNIN,),
    ),
    Mutant(
        "anything-is-sealed",
        _SEALED,
        'os.pread(descriptor, LIMIT + 1, 0) if sealed else b""',
        "os.pread(descriptor, LIMIT + 1, 0)",
        "what somebody cuts or changes meanwhile is read",
        (SEALED,),
    ),
    Mutant(
        "answers-in-the-log",
        _SEALED,
        "text: str = field(repr=False)",
        "text: str",
        "whoever prints a call prints a password",
        (SEALED,),
    ),
    Mutant(
        "many-descriptors",
        "aovpnd/bus/turns.py",
        "if size > LARGEST or descriptors > DESCRIPTORS:",
        "if size > LARGEST:",
        "calls that wait keep all the files open that a process may have",
        (TURNS,),
    ),
)

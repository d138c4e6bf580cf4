# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys that stay in a token or a TPM: charon is told of them once they are there, and shows a token no PIN twice that
it has refused.

Tokens count the PINs that they refuse, and lock after a few; what is tried again and again elsewhere is not here.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from aovpnd.backends.ikememory import Memory
from aovpnd.backends.vici import Charon
from aovpnd.errors import ToolError
from aovpnd.ipsec import IPsec, Said, Token

Requests = Iterable[tuple[str, Mapping[str, Any]]]

MISSING: Final = Said(
    "ike-token-missing",
    "the token with our key is not there, or has no such key",
    "plug it in, or correct token or tpm of [[ike.auth]]; it is looked for again with every attempt",
)
PIN_REFUSED: Final = Said(
    "ike-pin-refused",
    "the token refuses the PIN",
    "correct pin_file of [[ike.auth]]; until then the token, which counts attempts, is not asked again",
)
_REFUSED: Final = re.compile(r"login to '[^']*':\d+ failed")
"""Of strongSwan's plugin pkcs11."""


def load(spec: IPsec, charon: Charon, memory: Memory, requests: Callable[[], Requests], log: Callable[[], str]) -> None:
    """Tell charon what a tunnel is; without the keys in tokens where those are not to be had (`lacking` says so).
    `ToolError` when charon does not take the rest.
    """
    if memory.keyless != (spec.digest(), PIN_REFUSED):
        try:
            charon.load(requests())
        except ToolError:
            if not _has_token(spec):
                raise
            memory.keyless = spec.digest(), PIN_REFUSED if _REFUSED.search(log()) else MISSING
        else:
            memory.keyless = None
            return
    charon.load(request for request in requests() if request[0] != "load-token")


def lacking(spec: IPsec, memory: Memory) -> Said | None:
    """Why charon has no key of this tunnel's."""
    return memory.keyless[1] if memory.keyless is not None and memory.keyless[0] == spec.digest() else None


def _has_token(spec: IPsec) -> bool:
    return any(each.credential is not None and isinstance(each.credential.key, Token) for each in spec.rounds)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is logged in, and is somebody over the network? systemd-logind knows: sd-login(3), by libsystemd, through
ctypes, because Debian's Python binding has not this part of it.

It is asked because nobody unprivileged can make it say so: a session is made by PAM, as root, for a person who has
shown who he is, with the address that he comes from (pam_systemd(8)). Who merely connects to sshd's port has none,
utmp(5) has records that any user's terminal may write, and the environment (SSH_CONNECTION) is the caller's own. Nobody
is logged in over the network where there is no answer: then the block stays.
"""

import ctypes
from typing import Final

from aovpnd.confirmation import Logins

_LIBRARY: Final = "libsystemd.so.0"
_PERSONS: Final = b"user"
"""How the classes of sessions begin that are a person's: neither a greeter's nor a timer's."""
_LEFT: Final = b"closing"
"""The state of a session that a person has left, and in which a program still runs."""


def logins() -> tuple[Logins, frozenset[int]]:
    """Whether anybody is, and who (uids). Reads some files in /run/systemd, and waits for nobody."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:  # a system without systemd
        return Logins.LOCAL, frozenset()
    people = [session for session in _sessions(library) if _is_persons(library, session)]
    uids = frozenset(uid for session in people if (uid := _uid(library, session)) is not None)
    if any(library.sd_session_is_remote(session) > 0 for session in people):
        return Logins.REMOTE, uids
    return Logins.LOCAL if people else Logins.NOBODY, uids


def _sessions(library: ctypes.CDLL) -> list[bytes]:
    """The identifiers of all sessions; none when logind has not said of any."""
    found = ctypes.POINTER(ctypes.c_void_p)()
    count = library.sd_get_sessions(ctypes.byref(found))
    if count <= 0:
        return []
    sessions = [_taken(ctypes.c_void_p(found[number])) for number in range(count)]
    _free(found)
    return sessions


def _is_persons(library: ctypes.CDLL, session: bytes) -> bool:
    """Whether it is a person's, who is still there. A session may end while it is asked about."""
    kind, state = _word(library.sd_session_get_class, session), _word(library.sd_session_get_state, session)
    return kind.startswith(_PERSONS) and state not in {b"", _LEFT}


def _uid(library: ctypes.CDLL, session: bytes) -> int | None:
    """Whose it is."""
    uid = ctypes.c_uint32()
    return uid.value if library.sd_session_get_uid(session, ctypes.byref(uid)) >= 0 else None


def _word(ask: "ctypes._NamedFuncPointer", session: bytes) -> bytes:
    word = ctypes.c_void_p()
    return _taken(word) if ask(session, ctypes.byref(word)) >= 0 else b""


def _taken(memory: ctypes.c_void_p) -> bytes:
    """The text that the library gave us, which is ours to free."""
    text = ctypes.cast(memory, ctypes.c_char_p).value or b""
    _free(memory)
    return text


def _free(memory: "ctypes.c_void_p | ctypes._Pointer[ctypes.c_void_p]") -> None:
    ctypes.CDLL(None).free(memory)

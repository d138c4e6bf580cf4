# SPDX-License-Identifier: GPL-3.0-or-later
"""``[[ike.auth]]``: how we show who we are, round by round, with what each method needs and nothing else."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aovpnd.config import credentials, ike_values
from aovpnd.config.credentials import Store
from aovpnd.config.findings import UnfitError
from aovpnd.config.ike_tables import AUTH, Reader, Table, Tables
from aovpnd.ipsec import Ask, Credential, IkeVersion, Locked, Method, Round, Token
from aovpnd.tunnel import Secret

if TYPE_CHECKING:
    from aovpnd.config.certificates import Certificate, Key

_HELD: Final = frozenset({"certificate", "key", "pkcs12", "password_file", "password"})
_NAMED: Final = frozenset({"user", "password_file", "password"})
_USES: Final = {
    Method.PSK: frozenset({"secret_file"}),
    Method.CERTIFICATE: _HELD,
    Method.EAP_TLS: _HELD | {"user"},
    Method.EAP_MSCHAPV2: _NAMED,
    Method.EAP_TTLS: _NAMED,
    Method.EAP_PEAP: _NAMED,
    Method.XAUTH: _NAMED,
}
"""Which keys each method has a use for."""
_CERTIFIED: Final = frozenset({Method.CERTIFICATE, Method.EAP_TLS})
_EAP: Final = frozenset({Method.EAP_MSCHAPV2, Method.EAP_TLS, Method.EAP_TTLS, Method.EAP_PEAP})


@dataclass(frozen=True, slots=True)
class _At:
    """Where a round is read: ``identity`` is ours, of the table ``ike``."""

    reader: Reader
    store: Store
    ike: Table
    identity: str | None
    reauth_s: int = 0


def read(reader: Reader, store: Store, tables: Tables, version: IkeVersion) -> tuple[Round, ...]:
    """The rounds that can be used; what is wrong with the others is told."""
    if not tables.rounds and not any(finding.key == AUTH for finding in reader.all):
        reader.fault(tables.ike.line, "is missing", "write [[ike.auth]] and below it a method", AUTH)
    identity = reader.typed(tables.ike, "identity", ike_values.identity)
    at = _At(reader, store, tables.ike, identity, _reauth_s(tables.ike))
    found = [_round(at, table) for table in tables.rounds]
    for number, (table, each) in enumerate(zip(tables.rounds, found, strict=True)):
        if each is not None:
            before = [other.method for other in found[:number] if other is not None]
            _in_order(reader, table, each.method, before, version)
    return tuple(each for each in found if each is not None)


def _reauth_s(ike: Table) -> int:
    """What is wrong with it, whoever reads it for good says."""
    entry = ike.values.get("reauth")
    try:
        return ike_values.span_or_never(entry.value) if entry is not None else 0
    except UnfitError:
        return 0


def _round(at: _At, table: Table) -> Round | None:
    method = at.reader.typed(table, "method", ike_values.method)
    if "method" not in table.values:
        known = ", ".join(f'"{word.value}"' for word in Method)
        at.reader.wrong(table, "method", "is missing", f"there are: {known}")
    if method is None:
        return None
    for name in sorted(table.values.keys() - _USES[method] - {"method"}):
        at.reader.wrong(table, name, f'has no use with method = "{method}"', "remove the line")
    for inner in (table.token, table.tpm):
        if inner is not None and method not in _CERTIFIED:
            at.reader.fault(inner.line, f'has no use with method = "{method}"', "remove the line", inner.name)
    if method is Method.PSK:
        return Round(method, at.identity, secret=_needed(at, table, "secret_file"))
    user = at.reader.typed(table, "user", ike_values.user)
    if method in _CERTIFIED:
        return Round(method, at.identity, user, credential=_credential(at, table))
    if "user" not in table.values:
        at.reader.wrong(table, "user", "is missing", 'write user = "NAME"')
    if "password" in table.values:
        return Round(method, at.identity, user, ask=_ask(at, table, "password", "password_file"))
    secret = _needed(at, table, "password_file")
    return Round(method, at.identity, user, secret)


def _ask(at: _At, table: Table, name: str, file: str, parse: Callable[[object], Ask] = ike_values.ask) -> Ask | None:
    """How a person is asked for what otherwise a file holds."""
    if file in table.values:
        at.reader.wrong(
            table, name, f"stands beside {file}", "a secret is in a file or asked for: remove one of the two"
        )
    found = at.reader.typed(table, name, parse)
    if found is Ask.EACH_TIME and at.reauth_s:
        reason = "a one-time password serves one time, and reauth takes another each time"
        at.reader.wrong(table, name, reason, "remove reauth from [ike]")
    return found


def _needed(at: _At, table: Table, name: str) -> Secret | None:
    if name not in table.values:
        at.reader.wrong(table, name, "is missing", "a file that holds it, which root alone can read")
    return at.reader.typed(table, name, at.store.secret)


# -- certificates and keys --------------------------------------------------------------------------------------------
def _credential(at: _At, table: Table) -> Credential | None:
    chain, key = _container(at, table) if "pkcs12" in table.values else _pair(at, table)
    if not chain or key is None:
        return None
    try:
        credentials.agree(chain, None if isinstance(key, Token | Locked) else key)
    except UnfitError as error:
        place = next((name for name in ("key", "pkcs12") if name in table.values), "certificate")
        at.reader.wrong(table, place, error.reason, error.hint)
    if at.identity is not None and not credentials.confirms(chain[0], at.identity):
        # Charon would send the subject instead, in silence.
        hint = "write one of its alternative names or its subject; without the line the subject is used"
        at.reader.wrong(at.ike, "identity", "does not stand in the certificate", hint)
    held = key if isinstance(key, Token | Locked) else Secret(key.pem)
    # An authority's own certificate is nothing to send; charon would trust it.
    sent = [chain[0], *(each for each in chain[1:] if each.holder != each.issuer)]
    return Credential(tuple(each.pem for each in sent), held, credentials.ends(sent))


def _container(at: _At, table: Table) -> "tuple[tuple[Certificate, ...], Key | None]":
    for name in ("certificate", "key"):
        if name in table.values:
            at.reader.wrong(table, name, "stands beside pkcs12, which holds one", "remove one of the two")
    for inner in (table.token, table.tpm):
        if inner is not None:
            at.reader.fault(inner.line, "stands beside pkcs12, which holds a key", "remove one of the two", inner.name)
    if "password" in table.values:
        reason = "what is in a PKCS#12 file cannot be judged before it is open"
        at.reader.wrong(table, "password", reason, "write password_file; or certificate and key, each in a file")
        return (), None
    password = _needed(at, table, "password_file")
    if password is None:
        return (), None
    found = at.reader.typed(table, "pkcs12", lambda value: at.store.container(value, password))
    return found if found is not None else ((), None)


def _pair(at: _At, table: Table) -> "tuple[tuple[Certificate, ...], Key | Token | Locked | None]":
    if "certificate" not in table.values:
        at.reader.wrong(table, "certificate", "is missing", "write certificate and key, or pkcs12")
    chain = at.reader.typed(table, "certificate", at.store.chain) or ()
    inner = [each for each in (table.token, table.tpm) if each is not None]
    ways = [*(["key"] if "key" in table.values else []), *(each.name for each in inner)]
    if len(ways) > 1:
        reason = f"stands beside {ways[0].rpartition('.')[2]}, and the key is in one place"
        at.reader.fault(inner[-1].line, reason, "keep the one where it is", inner[-1].name)
        return chain, None
    if "password_file" in table.values and ways != ["key"]:
        at.reader.wrong(table, "password_file", "has no use without key or pkcs12", "the PIN of a token is in pin_file")
    if "password" in table.values and ways != ["key"]:
        at.reader.wrong(table, "password", "has no use without key", "the PIN of a token is pin")
    if table.token is not None:
        return chain, _token(at, table.token)
    if table.tpm is not None:
        return chain, _tpm(at, table.tpm)
    if not ways:
        at.reader.wrong(table, "key", "is missing", "write key, pkcs12, token or tpm")
        return chain, None
    if "password" in table.values:
        asked = _ask(at, table, "password", "password_file", ike_values.ask_once)
        return chain, at.reader.typed(table, "key", at.store.locked) if asked is not None else None
    password = at.reader.typed(table, "password_file", at.store.secret)
    if "password_file" in table.values and password is None:
        return chain, None
    return chain, at.reader.typed(table, "key", lambda value: at.store.key(value, password))


def _token(at: _At, table: Table) -> Token | None:
    for name in ("module", "handle"):
        if name not in table.values:
            at.reader.wrong(table, name, "is missing", 'token = { module = "/usr/lib/....so", handle = "..." }')
    module = at.reader.typed(table, "module", at.store.module)
    handle = at.reader.typed(table, "handle", ike_values.handle)
    slot = at.reader.typed(table, "slot", ike_values.slot)
    pin, ask = _pin(at, table)
    if module is None or handle is None:
        return None
    if not {"pin", "pin_file"} & set(table.values):
        at.reader.wrong(table, "pin_file", "is missing", 'charon logs in to every token; or pin = { ask = "once" }')
    return Token(handle, module, slot, pin, ask)


def _tpm(at: _At, table: Table) -> Token | None:
    if "handle" not in table.values:
        at.reader.wrong(table, "handle", "is missing", 'tpm = { handle = "81010001" }')
    handle = at.reader.typed(table, "handle", ike_values.tpm_handle)
    pin, ask = _pin(at, table)
    return Token(handle, pin=pin, ask=ask) if handle is not None else None


def _pin(at: _At, table: Table) -> tuple[Secret | None, Ask | None]:
    if "pin" in table.values:
        return None, _ask(at, table, "pin", "pin_file", ike_values.ask_once)
    return at.reader.typed(table, "pin_file", at.store.secret), None


# -- rounds together --------------------------------------------------------------------------------------------------
def _in_order(reader: Reader, table: Table, method: Method, before: list[Method], version: IkeVersion) -> None:
    """Whether a round may stand behind the others."""
    if version is IkeVersion.V2:
        if method is Method.XAUTH:
            reader.wrong(table, "method", "XAuth is of IKEv1", 'use "eap-mschapv2", or version = 1 (weak)')
        elif method is Method.PSK and Method.PSK in before:
            reader.wrong(table, "method", "there is a PSK in a round before", "one is all that charon can tell apart")
    elif method in _EAP:
        reader.wrong(table, "method", "EAP is of IKEv2", 'use version = 2, or "xauth"')
    elif before and (method is not Method.XAUTH or len(before) > 1 or Method.XAUTH in before):
        reader.wrong(table, "method", "IKEv1 has one round, and XAuth behind it", "remove this one")

# SPDX-License-Identifier: GPL-3.0-or-later
"""What the charon that is installed can do of what a tunnel needs: plugins, and key exchanges."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from aovpnd.ipsec import IPsec, Method, Said, Token

_METHODS: Final = {
    Method.EAP_MSCHAPV2: ("eap-mschapv2", "libcharon-extauth-plugins"),
    Method.EAP_TLS: ("eap-tls", "libcharon-extra-plugins"),
    Method.EAP_TTLS: ("eap-ttls", "libcharon-extra-plugins"),
    Method.EAP_PEAP: ("eap-peap", "libcharon-extra-plugins"),
    Method.XAUTH: ("xauth-generic", "libcharon-extauth-plugins"),
}
"""The plugins of those methods that are not charon's own, and Debian's packages of them."""
_OF_TOKENS: Final = "libstrongswan-extra-plugins"
_KEM: Final = "mlkem"
_PROPOSALS: Final = frozenset({"proposals", "esp_proposals"})


def missing(spec: IPsec, plugins: frozenset[str], exchanges: Callable[[], frozenset[str]]) -> Said | None:
    """What charon cannot do of what a tunnel needs, with these plugins and key exchanges (by its names for them)."""
    for each in spec.rounds:
        needs = [_METHODS[each.method]] if each.method in _METHODS else []
        if each.credential is not None and isinstance(each.credential.key, Token):
            needs.append(("pkcs11" if each.credential.key.module is not None else "tpm", _OF_TOKENS))
        for plugin, package in needs:
            if plugin not in plugins:
                hint = f"apt install {package}, if it has {plugin}; otherwise another method of [[ike.auth]]"
                return Said("ike-plugin-missing", f"charon has no plugin {plugin}", hint)
    for word in _kems(spec):
        if f"ML_KEM_{word.removeprefix(_KEM)}" not in exchanges():
            hint = "strongSwan has it from 6.0 on (plugin ml); otherwise take it out of proposals and esp_proposals"
            return Said("ike-algorithm-missing", f"charon has no {word}", hint)
    return None


def _kems(spec: IPsec) -> Iterable[str]:
    """The words of ML-KEM (FIPS 203) in its proposals; other words every charon knows."""
    for proposal in (*spec.proposals, *spec.esp_proposals):
        yield from (word.rpartition("_")[2] for word in proposal.split("-") if _KEM in word)


def without_proposals(command: str, message: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """A request as charon takes it that does not know all algorithms: the connection stands, to be told of, and is not
    to be begun.
    """
    return command, _without_proposals(message) if command == "load-conn" else message


def _without_proposals(message: Mapping[str, Any]) -> dict[str, Any]:
    kept = ((key, value) for key, value in message.items() if key not in _PROPOSALS)
    return {key: _without_proposals(value) if isinstance(value, Mapping) else value for key, value in kept}

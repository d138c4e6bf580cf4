# SPDX-License-Identifier: GPL-3.0-or-later
"""What a JSON document has to look like before its parts are used: what one process of ours publishes, another one may
read that is of another release, and disks and people may have been at it in between.

A leaf without imports: `aovpnctl status` reads with it.
"""

LARGEST = 1e18
"""Of any count or time."""
LATEST_S = 1e11
"""Of a time that is shown: three thousand years."""
DEEPEST = 16
"""Lists and tables in one another; ours have half as many."""


def number(value: object) -> bool:
    """A number that can be a time or a count: neither NaN nor beyond all clocks."""
    return type(value) in (int, float) and -LARGEST < value < LARGEST  # type: ignore[operator]


def moment(value: object) -> bool:
    """A time in seconds on a clock that can be shown."""
    return number(value) and 0 <= value < LATEST_S  # type: ignore[operator]


LONGEST_ANSWER = 512
"""Characters of what somebody types when he signs in."""


def typed(value: object) -> bool:
    """One printable line, and not an endless one: what somebody types when he signs in."""
    return word(value) and 0 < len(value) <= LONGEST_ANSWER  # type: ignore[arg-type]


def word(value: object) -> bool:
    """A text that can be shown as it is, and that D-Bus takes."""
    return type(value) is str and value.isprintable()


UPLINK = {"name": (str, None), "link": str, "kind": str}
TUNNEL = {
    "name": word,
    "role": str,
    "users": [str],
    "state": str,
    "link": (str, None),
    "endpoint": (str, None),
    "rx_bytes": (number, None),
    "tx_bytes": (number, None),
    "_since_boot": (number, None),
    "_handshake_wall": (number, None),
}
ACCESS = {"granted_to": str, "reason": (str, None), "_expires_boot": moment}
PROBLEM = {"severity": str, "text": str, "hint": str}
STATUS = {
    "phase": word,
    "protected": bool,
    "uplinks": [UPLINK],
    "tunnels": [TUNNEL],
    "temporary_access": (ACCESS, None),
    "block": dict,
    "problems": [PROBLEM],
}
"""The parts of RUNTIME/status.json that its readers use; there may be others."""
STAGE = {"where": str, "rule": str, "why": str, "verdict": str}
ORIGIN = {"file": str, "line": (int, None), "key": str, "value": str}
EXPLAINED = {
    "passes": bool,
    "hint": str,
    "permit": (str, None),
    "specification": str,
    "source": (str, None),
    "origins": [ORIGIN],
    "stages": [STAGE],
}
"""What the daemon answers when it is asked about a destination."""
OVERVIEW = {"snapshot": dict, "intent": dict, "desired": dict, "actions": list, "failures": list}
"""What it answers without one."""


def fits(value: object, shape: object) -> bool:
    """Whether a value has a shape: a type, exactly; None; several, of which one; a list of one shape; a table with at
    least these keys; or a function that says so.
    """
    match shape:
        case None:
            return value is None
        case type():
            return type(value) is shape
        case tuple():
            return any(fits(value, inner) for inner in shape)
        case list():
            return type(value) is list and all(fits(item, shape[0]) for item in value)
        case dict():
            return type(value) is dict and all(key in value and fits(value[key], shape[key]) for key in shape)
        case _:
            return bool(shape(value))  # type: ignore[operator]


def is_shallow(value: object, most: int = DEEPEST) -> bool:
    """Whether a document is not nested deeper than ``most``."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return most > 0 and all(is_shallow(item, most - 1) for item in inner if isinstance(item, dict | list))

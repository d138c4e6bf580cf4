# SPDX-License-Identifier: GPL-3.0-or-later
"""The status file, as those read it who may be older, younger or later than whoever wrote it."""

import json
from typing import Any, Final
from unittest.mock import patch

from aovpnd.bus import published, translate
from aovpnd.ctl import reading, tunnels, view, watch
from aovpnd.ctl.terminal import PLAIN, Style
from aovpnd.errors import AovpndError, StateError
from aovpnd.names import STATUS_FILE
from tests.fuzz import judge
from tests.fuzz.mutate import Mutator
from tests.fuzz.places import place, put
from tests.fuzz.target import Target
from tests.unit import scenes

_BOOT: Final = "0c0ffee0-0000-4000-8000-000000000000"
_SCENES: Final = (scenes.BLOCKED, scenes.CONNECTING, scenes.CONNECTED, scenes.TEMPORARY_ACCESS, scenes.OFFLINE)
DOCUMENTS: Final = tuple({**scene.document(), "_boot_id": _BOOT} for scene in _SCENES)
_WORDS: Final = (
    *dict.fromkeys(key for document in DOCUMENTS for key in document),
    *(
        "chosen",
        "connected",
        "blocked",
        "role",
        "link",
        "../../x",
        "\x1b[2J",
        "_expires_boot",
        "_since_boot",
        "remaining_s",
    ),
)


def _by_ctl(case: Any) -> str:
    """Aovpnctl shows it, each line of it printable, or says that it cannot be understood."""
    content = case if isinstance(case, bytes) else json.dumps(case).encode()
    base = place("runtime")
    put(base / STATUS_FILE, content)
    boot_id = put(base / "boot_id", _BOOT)
    running = len(content) % 4 != 0
    with patch.object(reading, "is_running", lambda _: running), patch.object(reading, "BOOT_ID", str(boot_id)):
        try:
            found = reading.read(str(base))
        except StateError as error:
            return judge.error(error)
    shown = view.lines(found, Style(colour=False, width=80)) + tunnels.table(found.public()["tunnels"], PLAIN)
    shown += [watch.text_line(found)[0], *watch.json_line(found)]
    watch.until_next_second(found, 5000.0)
    for line in shown:
        judge.told(line, longest=2_000_000)
    return f"{found.daemon} {min(len(shown), 40)}"


def _by_bus(case: Any) -> str:
    """aovpnd-bus shows it as properties of the right types, or nothing."""
    content = case if isinstance(case, bytes) else json.dumps(case).encode()
    base = place("runtime")
    put(base / STATUS_FILE, content)
    document = published.read(base)
    state = translate.state(document)
    for value in state.properties().values():
        assert isinstance(value, str | bool) or 0 <= value < 2**64  # type: ignore[operator]
        if isinstance(value, str):
            value.encode("utf-8")
            assert "\0" not in value
    try:
        public = translate.public(document, 5000.0)
    except AovpndError as error:
        return judge.error(error)
    assert "_" not in {key[0] for key in json.loads(public) if key}
    return f"{state.phase[:20]} {state.protected}"


_RAW: Final = tuple(json.dumps(document).encode() for document in DOCUMENTS[:2])
TARGETS: Final = (
    Target(
        "status-ctl", "status.json, as aovpnctl reads it", (*DOCUMENTS, *_RAW), _by_ctl, Mutator(_WORDS), slice=1000
    ),
    Target(
        "status-bus", "status.json, as aovpnd-bus reads it", (*DOCUMENTS, *_RAW), _by_bus, Mutator(_WORDS), slice=1000
    ),
)

# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl export NAME``: a tunnel's file as it is, keys and all, to standard output. For root; asks no daemon."""

from __future__ import annotations

import sys
from pathlib import Path

from aovpnd import names
from aovpnd.config import files
from aovpnd.config.findings import printable_path
from aovpnd.config.tunnels import IKE_SUFFIX, SUFFIX
from aovpnd.ctl.arguments import Arguments, UsageError
from aovpnd.ctl.terminal import complain
from aovpnd.errors import CommandRefused
from aovpnd.tunnel import TUNNEL_NAME

DONE = 0


def run(arguments: Arguments) -> int:
    """Write it out. `ConfigError` when it cannot be read or may not be trusted."""
    name = arguments.argument
    if name is None or TUNNEL_NAME.fullmatch(name) is None:
        raise UsageError("export which tunnel? (aovpnctl tunnels lists them)")
    path = Path(arguments.config_dir) / names.TUNNELS / f"{name}{SUFFIX}"
    holds = files.Holds.KEYS
    text = files.read(path, holds)
    if text is None:
        path, holds = path.with_suffix(IKE_SUFFIX), files.Holds.SETTINGS
        text = files.read(path, holds)
    if text is None:
        hint = "aovpnctl tunnels lists them"
        raise CommandRefused(f"there is no tunnel called {name}", hint=hint, code="tunnel-unknown")
    if arguments.json:
        import json

        print(json.dumps({"ok": True, "name": name, "file": printable_path(path), "text": text}))
        return DONE
    if sys.stdout.isatty() and holds is files.Holds.KEYS:
        complain(f"what follows holds the keys of {name}: whoever has them is you")
    sys.stdout.write(text)
    return DONE

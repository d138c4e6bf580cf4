# SPDX-License-Identifier: GPL-3.0-or-later
"""Early boot and the daemon say the same thing, because one compiler wrote both."""

from pathlib import Path

import pytest

from aovpnd.static_files import static_files

SYSTEMD = Path(__file__).resolve().parents[2] / "systemd"


@pytest.mark.parametrize("name", ["lockdown.nft", "egress.nft"])
def test_shipped_file_is_the_compilers_output(name: str) -> None:
    """What boots is what was tested (``tools/static-files`` writes it anew)."""
    assert (SYSTEMD / name).read_text(encoding="utf-8") == static_files()[name]


def test_lockdown_opens_nothing_that_needs_a_tunnel() -> None:
    """Before the daemon there is no endpoint, no mark of ours that passes, and no timed element."""
    text = static_files()["lockdown.nft"]

    assert "0x2a000000" not in text
    assert "elements" not in text

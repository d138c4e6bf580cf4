# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal as it is written by the real journald: ids, fields, and help texts."""

import json
from typing import Any

import pytest

from aovpnd import names
from aovpnd.messages import Message
from tests.container.booted import Booted
from tests.lab.process import wait_for

pytestmark = [pytest.mark.container, pytest.mark.root, pytest.mark.slow]


def entries(laptop: Booted, message: Message) -> list[dict[str, Any]]:
    """Every line of one kind since the boot, by its id alone."""
    told = laptop.system.check(
        "journalctl", "--boot", "--quiet", "--no-pager", "--output=json", f"MESSAGE_ID={message.value}"
    )
    return [json.loads(line) for line in told.splitlines()]


def test_events_are_found_by_their_id(laptop: Booted) -> None:
    """The start, the tunnel, and a foreign flush with who did it; the text is one line, without its arguments."""
    laptop.system.check("nft", "flush", "ruleset")
    found = wait_for("the flush in the journal", lambda: entries(laptop, Message.RULESET_RESTORED))
    laptop.wait_works()
    up = entries(laptop, Message.TUNNEL_UP)[-1]

    assert found[-1]["AOVPND_CULPRIT"].startswith("nft[")
    assert found[-1]["PRIORITY"] == "4"
    assert found[-1]["AOVPND_CULPRIT"] in found[-1]["AOVPND_REASON"]
    assert entries(laptop, Message.STARTED)[-1]["_SYSTEMD_UNIT"] == names.UNIT
    assert (up["AOVPND_PHASE"], up["AOVPND_TUNNEL"]) == ("connected", laptop.status()["tunnels"][0]["name"])
    assert "is up" in up["MESSAGE"]
    assert "CODE_ARGS" not in up


def test_help_texts(laptop: Booted) -> None:
    """``journalctl -x`` explains each of ours, with the fields filled in."""
    laptop.system.check("journalctl", "--update-catalog")
    known = laptop.system.check("journalctl", "--list-catalog", "--no-pager")
    told = laptop.system.check(
        "journalctl", "--boot", "--quiet", "--no-pager", "-x", f"MESSAGE_ID={Message.TUNNEL_UP.value}"
    )

    assert {message.value for message in Message} <= {line.split()[0] for line in known.splitlines()}
    assert "░░ Subject: The tunnel" in told
    assert "@AOVPND_TUNNEL@" not in told

# SPDX-License-Identifier: GPL-3.0-or-later
"""Booted Debian machines under QEMU: what namespaces cannot show (boot order, udev, hot-plug, kernel WireGuard)."""

import os
from typing import Final

FULL: Final = os.environ.get("AOVPND_VM") == "all"
"""Whether the long runs are wanted as well: make test-vm."""

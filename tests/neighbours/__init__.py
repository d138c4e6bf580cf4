# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs of docs/neighbours.md, as Debian packages them, beside the installed product in booted containers."""

import os
from typing import Final

FULL: Final = os.environ.get("AOVPND_NEIGHBOURS") == "all"
"""Whether this is ``make test-neighbours``, which has root directories with all of them."""

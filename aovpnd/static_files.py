# SPDX-License-Identifier: GPL-3.0-or-later
"""What early boot loads before there is any Python: the compilers' own output, as files below `names.VENDOR_DIR`.

A test compares the files that are shipped with this; ``tools/static-files`` writes them.
"""

from aovpnd.core.firewall import compile as compile_permits
from aovpnd.core.permits import Facts, permits
from aovpnd.guard.rules import early_egress
from aovpnd.model import Phase
from aovpnd.render import render

_HEAD = """\
# SPDX-License-Identifier: GPL-3.0-or-later
# Written by tools/static-files from the compiler that the daemon uses; do not edit.
"""


def static_files() -> dict[str, str]:
    """File name to text: ``lockdown.nft`` is the phase ``blocked``, ``egress.nft`` the guard's egress chain."""
    return {
        "lockdown.nft": _HEAD + render(compile_permits(permits(Phase.BLOCKED, Facts()))),
        "egress.nft": _HEAD + early_egress(),
    }

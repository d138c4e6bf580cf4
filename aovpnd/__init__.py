# SPDX-License-Identifier: GPL-3.0-or-later
"""Always-on VPN daemon: nothing leaves the machine outside the tunnel. Start reading in docs/architecture.md."""

__version__ = "0.1.0"

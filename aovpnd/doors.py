# SPDX-License-Identifier: GPL-3.0-or-later
"""By which door a command came, whom the configuration lets open the network (docs/decisions/0029), and when."""

from enum import StrEnum


class Door(StrEnum):
    """How a command came: from root over the control socket, or from aovpnd-bus, which says that polkit permits it."""

    SOCKET = "socket"
    BUS = "bus"


class Openers(StrEnum):
    """Who may have the network opened: also whoever polkit authorises, as aovpnd-bus says, or root alone."""

    AUTHORISED = "authorised"
    ROOT = "root"


class WhileConnected(StrEnum):
    """What ``allow-temp`` means while the tunnel is up."""

    REFUSE = "refuse"
    PAUSE = "pause"

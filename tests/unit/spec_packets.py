# SPDX-License-Identifier: GPL-3.0-or-later
"""Words of the page for packets, whatever the situation: a part of `spec`."""

from aovpnd.ruleset import L4, Device
from aovpnd.trace import Packet


def is_loopback(device: Device | None) -> bool:
    """The link with index 1 and name ``lo``."""
    return device is not None and (device.index, device.name) == (1, "lo")


def is_dns(packet: Packet) -> bool:
    """To the ports of DNS, and of DNS over TLS."""
    return packet.l4 in {L4.TCP, L4.UDP} and packet.dport in {53, 853}

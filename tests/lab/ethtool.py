# SPDX-License-Identifier: GPL-3.0-or-later
"""Switch a link's offloads off, so that what is recorded are frames as a real card sends them."""

import sys

from tests.lab.host import Host

_PROGRAM = """
import ctypes, fcntl, socket, struct, sys
for command in (0x17, 0x1F, 0x24):  # ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGSO of linux/ethtool.h
    value = ctypes.create_string_buffer(struct.pack("II", command, 0))
    request = struct.pack("16sP8x", sys.argv[1].encode(), ctypes.addressof(value))
    fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8946, request)  # SIOCETHTOOL
"""


def software_segmentation(host: Host, link: str) -> None:
    """Make the kernel cut and checksum packets itself before a link gets them."""
    host.run(sys.executable, "-I", "-S", "-c", _PROGRAM, link)

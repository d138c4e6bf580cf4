#!/usr/bin/python3 -IS
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the frames of data that a link hears to a pcap file: ``sniffer LINK FILE``, until the link goes.

FILE is there when every such frame from then on is written. The link is the one of mac80211_hwsim that hears all radios
(IEEE 802.11 behind a radiotap header); beacons and what else manages a network are left out.
"""

import socket
import struct
import sys
import time
from pathlib import Path

IEEE802_11_RADIO = 127
"""LINKTYPE_IEEE802_11_RADIOTAP."""
_DATA = 2
_ETH_P_ALL = 3
_SO_RCVBUFFORCE = 33


def main(link: str, path: str) -> None:
    """Record."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as air:
        air.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 32 << 20)
        air.bind((link, _ETH_P_ALL))
        record(air, Path(path))


def record(air: socket.socket, path: Path) -> None:
    """Write what comes."""
    with path.open("wb", buffering=0) as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65536, IEEE802_11_RADIO))
        while True:
            frame = air.recv(65536)
            (head,) = struct.unpack_from("<H", frame, 2)
            if len(frame) <= head or (frame[head] >> 2) & 3 != _DATA:
                continue
            seconds = time.time()
            head = struct.pack("<IIII", int(seconds), int(seconds % 1 * 1e6), len(frame), len(frame))
            file.write(head + frame)


if __name__ == "__main__":
    main(*sys.argv[1:])

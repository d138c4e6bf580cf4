#!/usr/bin/python3 -I
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure something into PCR 7 before the system starts, as another firmware would: TPM2_PCR_Extend (TPM 2.0 library,
part 3, 22.2), authorised by an empty password.
"""

import struct
import sys
from pathlib import Path

PCR = 7
"""The state of Secure Boot; systemd-creds binds to it (``--tpm2-pcrs=``)."""
_SESSIONS, _EXTEND, _PASSWORD, _SHA256 = 0x8002, 0x182, 0x40000009, 0x000B


def main() -> int:
    """Extend it, and say on standard error what went wrong."""
    password = struct.pack(">IHBH", _PASSWORD, 0, 0, 0)
    body = (
        struct.pack(">II", PCR, len(password))
        + password
        + struct.pack(">IH", 1, _SHA256)
        + b"another firmware".ljust(32)
    )
    with Path("/dev/tpm0").open("r+b", buffering=0) as tpm:
        tpm.write(struct.pack(">HII", _SESSIONS, 10 + len(body), _EXTEND) + body)
        answer = tpm.read(4096)
    code = struct.unpack_from(">I", answer, 6)[0]
    if code:
        print(f"TPM2_PCR_Extend: {code:#x}", file=sys.stderr)
    return 1 if code else 0


if __name__ == "__main__":
    sys.exit(main())

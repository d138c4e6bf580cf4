# SPDX-License-Identifier: GPL-3.0-or-later
"""A TPM that is no hardware, and the firmware that measures what it starts: swtpm(8) and OVMF."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lab.process import stop, wait_for

_FIRMWARE: Final = Path("/usr/share/OVMF")
_CODE, _VARIABLES = "OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"


@dataclass(frozen=True, slots=True)
class Tpm:
    """A machine's TPM 2.0; ``state`` is a directory with what it remembers without power."""

    state: Path

    def clear(self) -> None:
        """As by the firmware's menu, or a new main board: another seed, and nothing that was bound to it fits."""
        shutil.rmtree(self.state)
        self.state.mkdir()

    @contextmanager
    def powered(self, directory: Path) -> Iterator[list[str]]:
        """QEMU's arguments for it and the firmware, for one run of a machine whose files are in ``directory``."""
        door, variables = directory / "tpm", directory / _VARIABLES
        shutil.copyfile(_FIRMWARE / _VARIABLES, variables)
        with (directory / "swtpm.log").open("wb") as log:
            words = (
                "swtpm",
                "socket",
                "--tpm2",
                "--tpmstate",
                f"dir={self.state}",
                "--ctrl",
                f"type=unixio,path={door}",
            )
            program = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_for("the TPM", door.exists)
            yield [
                *("-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={_FIRMWARE / _CODE}"),
                *("-drive", f"if=pflash,format=raw,unit=1,file={variables}"),
                *("-chardev", f"socket,id=tpm,path={door}"),
                *("-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-tis,tpmdev=tpm0"),
            ]
        finally:
            stop(program)

# SPDX-License-Identifier: GPL-3.0-or-later
"""One booted machine that runs files of the suite, one after the other, each in a lab of its own."""

import json
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.lab.tree import Directory, Entry, text
from tests.vm.images import LAB, image
from tests.vm.kernels import inside
from tests.vm.kernels.disks import CHECKOUT_LABEL, LAB_LABEL, ROOTS, TREE, checkout_disk, lab_disk, machine_root
from tests.vm.kernels.results import Outcome, commit
from tests.vm.machine import Machine, MachineError
from tests.vm.translator import translator

SLOW: Final = 12.0
"""How many times slower than the machines that the lab's deadlines are made for, where QEMU translates."""
MEMORY_MIB: Final = 2048
_LOG, _COUNTED = "/var/log/suite.log", "/var/log/suite.json"
_POLL_S: Final = 20.0
NOTHING: Final[Mapping[str, str]] = {}
_BOOT_S: Final = 600.0
_READY: Final = f"""
mount -o ro -L {LAB_LABEL} {ROOTS}
mount -o ro -L {CHECKOUT_LABEL} {TREE}
modprobe tun # its device node; all other modules come when they are asked for
"""
_TARGET: Final = "lab.target"
_KERNEL: Final = f"lsm=capability audit=0 systemd.unit={_TARGET}"
"""Of the system the first process alone: its units are the business of other tests, and take minutes here."""
_UNIT: Final = "[Unit]\nDescription=Nothing but the lab\nDefaultDependencies=no\nAllowIsolate=yes\n"


class Booted:
    """A machine that is ready to run files. A context manager; leaving it cuts the power."""

    def __init__(self, suite: str, directory: Path) -> None:
        directory.mkdir(parents=True)
        self._commit = commit()
        root = machine_root(suite)
        self._machine = Machine(
            image(suite, LAB),
            directory,
            enter=(),
            cards=(),
            overlay=_furniture(root),
            memory=MEMORY_MIB,
            kernel=_KERNEL,
            program=translator(),
            more_disks=(lab_disk(suite), checkout_disk(suite, directory / "checkout.raw")),
        )
        try:
            self._machine.start()
            self.release = self._machine.wait_agent(_BOOT_S)
            self._machine.wait("the first process", "mountpoint", "-q", "/sys/fs/cgroup", seconds=_BOOT_S)
            self._machine.check("sh", "-ec", _READY, seconds=_BOOT_S)
        except BaseException:
            self._machine.cut_power()
            raise

    def run(
        self, file: str, kind: str, words: tuple[str, ...], seconds: float, variables: Mapping[str, str] = NOTHING
    ) -> Outcome:
        """Run one file to its end, and print what pytest prints. MachineError when the machine itself breaks.

        ``variables``: of the environment, which the file knows.
        """
        command = ("sh", "-c", f'cd {TREE} && exec "$@" >{_LOG} 2>&1', "sh", *_command(file, kind, words, variables))
        began = time.monotonic()
        codes: list[int | None] = []
        self._machine.check("rm", "-f", _LOG, _COUNTED)
        running = threading.Thread(target=lambda: codes.append(self._code(command, seconds)))
        running.start()
        told = 0
        while True:
            running.join(_POLL_S)
            over = not running.is_alive()
            told += self._tell(told)
            if over:
                break
        return self._outcome(codes, time.monotonic() - began)

    def _code(self, command: tuple[str, ...], seconds: float) -> int | None:
        try:
            return self._machine.run(*command, seconds=seconds).code
        except MachineError as error:
            print(error, file=sys.stderr)
            return None

    def _tell(self, told: int) -> int:
        """Print what was printed since; returns its length in bytes."""
        more = self._machine.run("tail", "-c", f"+{told + 1}", _LOG).out
        print(more, end="", flush=True)
        return len(more.encode())

    def _outcome(self, codes: list[int | None], took: float) -> Outcome:
        counted = json.loads(self._machine.run("cat", _COUNTED).out or "{}")
        failures, seen = counted.get("failures", []), counted.get("seen", {})
        failed = len(failures)
        if codes == [None]:
            failures.append("(the time was up)")
        elif codes != [0] and not failures:
            failures.append(f"(pytest ended with {codes[0]}, having seen {seen or 'no tunnel of the kernel'})")
        passed, skipped = counted.get("passed", 0), counted.get("skipped", 0)
        return Outcome(self._commit, self.release, passed, failed, skipped, took, tuple(failures), seen)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._machine.cut_power()


def _command(file: str, kind: str, words: tuple[str, ...], more: Mapping[str, str]) -> tuple[str, ...]:
    """The words that run pytest in the lab, in the machine."""
    python = f"{TREE}/.venv/bin/python3"
    variables = {
        "PATH": f"{TREE}/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",  # a trial is told when it is over
        "HYPOTHESIS_STORAGE_DIRECTORY": "/var/cache/hypothesis",
        "AOVPND_LAB_SLOW": f"{SLOW:g}",
        inside.REPORT: _COUNTED,
        inside.WANTED: inside.KINDS[kind],
        **({"AOVPND_BACKEND": "strongswan"} if kind == "ipsec" else {}),
        **more,
    }
    return (
        "env",
        "-i",
        *(f"{name}={value}" for name, value in variables.items()),
        *(python, "-m", "tests.lab.enter", "--", python, "-m", "pytest", "-p", "tests.vm.kernels.inside"),
        *("-v", "--tb=short", "--durations=6", "-o", "cache_dir=/var/cache/pytest"),
        *("-o", "faulthandler_timeout=0", file, *words),
    )


def _furniture(root: Path) -> dict[str, Entry]:
    """What this machine has besides: its disks, and what shows how a tunnel was made."""
    return {
        f"/etc/systemd/system/{_TARGET}": text(_UNIT),
        ROOTS: Directory(),
        TREE: Directory(),
        **inside.files(root),
    }

# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian under QEMU, recorded from its first instruction, with an agent inside that runs commands.

The machine starts stopped, so that recorders and counters stand before the first instruction; :meth:`Machine.start`
lets it run. Its disk is a throw-away layer over the cached one, or a :func:`layer` that outlives it, as a disk does a
power cut. A machine that has switched itself off stays as it is, paused, until it is left: what it sent can be read.
KVM is used only where the processor really has it (a nested /dev/kvm may exist and be unusable); otherwise QEMU
translates, which is about ten times slower.
"""

import itertools
import json
import os
import queue
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.lab.tree import Entry, Symlink, Tree, copied, text
from tests.vm.archive import cpio
from tests.vm.compiled import compiled
from tests.vm.images import Image
from tests.vm.tpm import Tpm

_AGENT: Final = Path(__file__).with_name("guest") / "agent.py"
_KERNEL_ARGUMENTS: Final = (
    "console=ttyS0 quiet loglevel=4 mitigations=off nokaslr no_timer_check clocksource=hpet random.trust_cpu=on "
    "cryptomgr.notests systemd.show_status=0 rcupdate.rcu_expedited=1 8250.nr_uarts=1 "
    "systemd.gpt_auto=0"
)
"""A quick boot, the network untouched. The clock is the HPET: a TSC that was measured while QEMU waited for a
processor makes it run twice as fast, or ten times, and every time-out with it. ``lsm=`` leaves bpf out, which trixie
would compile for seconds.
"""
_LPC: Final = "/sys/bus/pci/devices/0000:00:1f.0/config"
_PMBASE, _PM_PORTS = 0x40, r"\001\006\000\000\200"
"""PMBASE and ACPI_CNTL of the ICH9's bridge: ports from 0x600 on, and enabled."""
_NO_LSM: Final = "lsm=capability audit=0"
SWAP: Final = "/dev/vdb"
"""The device of a ``swap`` inside."""
_RESUME: Final = f"resume={SWAP} machine_swap={SWAP.removeprefix('/dev/')}"
"""For systemd, and for the first program, which finds it in its environment."""
_MASKED: Final = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty-static.service",
    "getty@tty1.service",
    "kmod-static-nodes.service",
    "ldconfig.service",
    "modprobe@configfs.service",
    "modprobe@dm_mod.service",
    "modprobe@drm.service",
    "modprobe@efi_pstore.service",
    "modprobe@fuse.service",
    "modprobe@loop.service",
    "proc-sys-fs-binfmt_misc.automount",
    "serial-getty@ttyS0.service",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-journal-flush.service",
    "systemd-pcrphase.service",
    "systemd-pstore.service",
    "systemd-repart.service",
    "systemd-timesyncd.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-update-done.service",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
)
"""Housekeeping that no test looks at."""
_NO_DRIVER: Final = (
    "kvm kvm_amd kvm_intel bochs qxl drm psmouse ahci libata parport_pc pcspkr i2c_i801 iTCO_wdt joydev evbug"
)


class MachineError(Exception):
    """The machine, its monitor or its agent failed; the text holds what is known, the console's end among it."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a command in the machine left. ``code`` is None when its time ran out."""

    code: int | None
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Card:
    """A network card; QEMU makes the tap device ``tap`` in its own namespace, and records what the machine sends."""

    name: str
    tap: str
    mac: str


def layer(image: Image, path: Path) -> Path:
    """Make an empty layer over an image's disk, for a machine that is started more than once; return its path.

    What a machine has not flushed is lost with its power, as on a disk.
    """
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(image.disk), str(path)], check=True
    )
    return path


class Machine:
    """One run of a machine. A context manager: leaving it ends QEMU as a power cut would."""

    def __init__(
        self,
        image: Image,
        directory: Path,
        *,
        enter: Sequence[str],
        cards: Sequence[Card],
        overlay: Tree,
        memory: int = 512,
        clock: str = "utc",
        kernel: str = "",
        disk: Path | None = None,
        more_disks: Sequence[Path] = (),
        swap: Path | None = None,
        tpm: Tpm | None = None,
        program: Sequence[str] = ("qemu-system-x86_64",),
    ) -> None:
        """Start QEMU, stopped, through the command prefix ``enter`` (which places it in a network namespace).

        ``directory`` takes recordings, console and sockets; it must be short (socket paths end at 107 bytes) and empty.
        ``overlay`` is laid over the root file system; executable files below /early start before systemd. ``memory`` is
        in MiB. ``clock`` is what the hardware clock says at power-on, in QEMU's words; ``kernel`` is said to the
        kernel besides, in the place of what it does without. ``disk`` is a `layer` instead of one that is thrown away;
        ``more_disks`` can be read only, and are found by the labels of their file systems. A machine that hibernated on
        a ``swap`` goes on from there (:meth:`wait_resumed`). With a ``tpm`` the firmware is one that measures into it.
        ``program`` is the QEMU that runs it.
        """
        self.directory = directory
        self._answers: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._hello: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._numbers = itertools.count(1)
        self._reader: threading.Thread | None = None
        boot = directory / "boot.cpio"
        laid = {**_base_overlay(), **compiled(image.root, overlay), **overlay}
        boot.write_bytes(image.boot + cpio({f"/overlay{path}": entry for path, entry in laid.items()}))
        self._open = ExitStack()
        self._listeners = [self._listen(name) for name in ("monitor", "agent")]
        said = f"{kernel or _NO_LSM} {_RESUME if swap else ''}"
        arguments = [*program, *self._arguments(image, boot, memory, said, disk), "-rtc", f"base={clock}"]
        if swap is not None:
            arguments += [
                *("-drive", f"file={swap},format=raw,if=none,id=swap,cache=unsafe"),
                *("-device", "virtio-blk-pci,drive=swap"),
            ]
        if tpm is not None:
            arguments += self._open.enter_context(tpm.powered(directory))
        for number, more in enumerate(more_disks):
            arguments += [
                *("-drive", f"file={more},format=raw,if=none,id=more{number},readonly=on,cache=unsafe"),
                *("-device", f"virtio-blk-pci,drive=more{number}"),
            ]
        for card in cards:
            arguments += [
                *("-netdev", f"tap,id={card.name},ifname={card.tap},script=no,downscript=no,vnet_hdr=off"),
                *(
                    "-object",
                    f"filter-dump,id=record-{card.name},netdev={card.name},queue=rx,file={self.recording(card)}",
                ),
                *("-device", f"virtio-net-pci,id=card-{card.name},netdev={card.name},mac={card.mac},romfile="),
            ]
        with (directory / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen([*enter, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self._connect()
            self._receive()
            self.monitor("qmp_capabilities")
        except BaseException:
            self.cut_power()
            raise
        self._reader = threading.Thread(target=self._read_agent, daemon=True)
        self._reader.start()

    def _arguments(self, image: Image, boot: Path, memory: int, kernel: str, layer: Path | None) -> list[str]:
        """QEMU's command line but for its name and the cards."""
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii")
        hardware = os.access("/dev/kvm", os.R_OK | os.W_OK) and (" vmx" in flags or " svm" in flags)
        # One processor: with two, QEMU 7.2 now and then runs half-patched kernel text (int3 in a static key), a panic.
        # With five-level paging trixie's kernel hangs before its first message under translation.
        disk = f"file={layer},format=qcow2" if layer else f"file={image.disk},format=raw,snapshot=on,cache=unsafe"
        accelerator, processor = ("kvm", "host") if hardware else ("tcg", "max,-la57,-svm")
        return [
            *("-S", "-nodefaults", "-no-user-config", "-display", "none"),
            *("-no-reboot", "-no-shutdown"),
            *("-machine", "q35", "-accel", accelerator, "-cpu", processor, "-smp", "1", "-m", str(memory)),
            *(
                "-kernel",
                str(image.kernel),
                "-initrd",
                str(boot),
                "-append",
                f"{_KERNEL_ARGUMENTS} {kernel}",
            ),
            *(
                "-drive",
                f"{disk},if=none,id=disk",
                "-device",
                "virtio-blk-pci,drive=disk",
            ),
            *("-chardev", f"file,id=console,path={self.directory / 'console.log'}", "-serial", "chardev:console"),
            *(
                "-chardev",
                f"socket,id=monitor,path={self.directory / 'monitor'}",
                "-mon",
                "chardev=monitor,mode=control",
            ),
            *("-chardev", f"socket,id=agent,path={self.directory / 'agent'}"),
            *("-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,nr=1,name=agent"),
            *("-device", "virtio-rng-pci", "-device", "pcie-root-port,id=port1,chassis=1,slot=1"),
        ]

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Let the first instruction run."""
        self.monitor("cont")

    def pause(self) -> None:
        """Stop the processors: nothing more is sent, and all that was sent is in the recordings and counters."""
        self.monitor("stop")

    def state(self) -> str:
        """QEMU's word for it: ``running``, ``paused``, ``suspended``, ``shutdown`` (it has switched itself off)."""
        return str(self.monitor("query-status")["status"])

    def wait_state(self, state: str, seconds: float = 180) -> None:
        """Wait until the machine is in a :meth:`state`; MachineError when it is not in time."""
        deadline = time.monotonic() + seconds
        while (now := self.state()) != state:
            if time.monotonic() > deadline:
                raise MachineError(f"not {state} within {seconds} s, but {now}; the console's end:\n{self.console()}")
            time.sleep(0.1)

    def wake(self, seconds: float = 180) -> None:
        """Wake it from sleep. Its firmware, SeaBIOS, says at power-on where the power management's ports are, and after
        sleep it does not (QEMU 7.2): all that Linux reads there is ones, and the next sleep would be over at once. So
        somebody has to be a better firmware.
        """
        self.monitor("system_wakeup")
        self.wait_state("running", seconds)
        self.check("sh", "-c", f"printf '{_PM_PORTS}' | dd of={_LPC} bs=1 seek={_PMBASE} conv=notrunc status=none")

    def cut_power(self) -> None:
        """End QEMU at once. May be called twice."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._reader is not None:
            self._reader.join()
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut_power()

    def recording(self, card: Card) -> Path:
        """The capture file of all that the machine sent through ``card`` since power-on."""
        return self.directory / f"{card.name}.pcap"

    def console(self, lines: int = 30) -> str:
        """The end of what the kernel and the first programs said."""
        path = self.directory / "console.log"
        return (
            "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]) if path.exists() else ""
        )

    # -- hardware -----------------------------------------------------------------------------------------------------

    def add_netdev(self, card: Card) -> None:
        """Make the tap and its recorder; the machine sees nothing yet. :meth:`plug` puts the card in."""
        self.monitor(
            "netdev_add", type="tap", id=card.name, ifname=card.tap, script="no", downscript="no", vnet_hdr=False
        )
        self.monitor(
            "object-add",
            **{
                "qom-type": "filter-dump",
                "id": f"record-{card.name}",
                "netdev": card.name,
                "queue": "rx",
                "file": str(self.recording(card)),
            },
        )

    def plug(self, card: Card) -> None:
        """Plug the card into the running machine, as a USB or Thunderbolt card is."""
        self.monitor(
            "device_add",
            driver="virtio-net-pci",
            id=f"card-{card.name}",
            netdev=card.name,
            mac=card.mac,
            bus="port1",
            romfile="",
        )

    def monitor(self, command: str, **arguments: object) -> Any:
        """Run one QMP command and return its answer; MachineError when QEMU refuses it."""
        request: dict[str, object] = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        self._monitor.write((json.dumps(request) + "\n").encode())
        while True:
            message = self._receive()
            if "return" in message:
                return message["return"]
            if "error" in message:
                raise MachineError(f"{command}: {message['error']}")

    def _receive(self) -> dict[str, Any]:
        try:
            line = self._monitor.readline()
        except ConnectionResetError:
            line = b""
        if not line:
            raise MachineError(f"QEMU is gone: {(self.directory / 'qemu.log').read_text(errors='replace')}")
        message: dict[str, Any] = json.loads(line)
        return message

    # -- commands inside ----------------------------------------------------------------------------------------------

    def wait_agent(self, seconds: float = 180) -> str:
        """Wait until the agent inside speaks, long before the service manager is done; return the kernel's release."""
        try:
            return self._hello.get(timeout=seconds)
        except queue.Empty:
            raise MachineError(f"no agent within {seconds} s; the console's end:\n{self.console()}") from None

    def wait_resumed(self, seconds: float = 180) -> None:
        """Wait until the agent that hibernated with the machine answers; MachineError where another one has begun."""
        waking = threading.Thread(target=self.run, args=("true",), kwargs={"seconds": seconds}, daemon=True)
        waking.start()
        deadline = time.monotonic() + seconds
        while waking.is_alive():
            waking.join(0.1)
            if not self._hello.empty() or time.monotonic() > deadline:
                raise MachineError(f"it did not go on where it was; the console's end:\n{self.console()}")

    def run(self, *argv: str, stdin: str | None = None, seconds: float = 180) -> Result:
        """Run a command to its end inside and return what it left, whatever its exit code."""
        number = next(self._numbers)
        answer = self._answers[number] = queue.SimpleQueue()
        request = {"id": number, "argv": argv, "stdin": stdin, "timeout": seconds}
        self._agent.sendall((json.dumps(request) + "\n").encode())
        try:
            got = answer.get(timeout=seconds + 20)
        except queue.Empty:
            raise MachineError(f"no answer to {shlex.join(argv)}; the console's end:\n{self.console()}") from None
        finally:
            del self._answers[number]
        return Result(got["code"], got["out"], got["err"])

    def check(self, *argv: str, stdin: str | None = None, seconds: float = 180) -> str:
        """Run a command inside and return its output; MachineError unless it ends with exit code 0."""
        result = self.run(*argv, stdin=stdin, seconds=seconds)
        if result.code != 0:
            raise MachineError(f"{shlex.join(argv)}: exit code {result.code}\n{result.out}{result.err}")
        return result.out

    def wait(self, what: str, *argv: str, seconds: float = 180) -> str:
        """Repeat a command inside until it ends with exit code 0; return its output. ``what`` is for the error."""
        deadline = time.monotonic() + seconds
        while True:
            result = self.run(*argv, seconds=seconds)
            if result.code == 0:
                return result.out
            if time.monotonic() > deadline:
                left = f"exit code {result.code}\n{result.out}{result.err}"
                raise MachineError(f"not within {seconds} s: {what} ({shlex.join(argv)}: {left})")
            time.sleep(0.2)

    def _listen(self, name: str) -> socket.socket:
        listener = self._open.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(self.directory / name))
        listener.listen(1)
        listener.settimeout(10)
        return listener

    def _connect(self) -> None:
        """Take QEMU's two connections: it calls us, so there is nothing to wait for."""
        try:
            monitor, agent = (self._open.enter_context(listener.accept()[0]) for listener in self._listeners)
        except TimeoutError:
            raise MachineError(
                f"QEMU did not start: {(self.directory / 'qemu.log').read_text(errors='replace')}"
            ) from None
        self._monitor = self._open.enter_context(monitor.makefile("rwb", buffering=0))
        self._agent = agent

    def _read_agent(self) -> None:
        """Hand every answer to who waits for it; ends with QEMU."""
        with self._agent.makefile("rb") as lines:
            for line in lines:
                message: Mapping[str, Any] = json.loads(line)
                if "hello" in message:
                    self._hello.put(message["hello"])
                elif waiting := self._answers.get(message["id"]):
                    waiting.put(dict(message))


def _base_overlay() -> dict[str, Entry]:
    """What every machine gets: the agent, and a system that boots quickly and has a name."""
    tree: dict[str, Entry] = {
        "/early/agent": copied(_AGENT, 0o755),
        "/etc/fstab": text(""),
        "/etc/hostname": text("laptop\n"),
        "/etc/hosts": text("127.0.0.1 localhost laptop\n::1 localhost\n"),
        "/etc/machine-id": text("0123456789abcdef0123456789abcdef\n"),
        "/etc/modprobe.d/machine.conf": text("".join(f"blacklist {name}\n" for name in _NO_DRIVER.split())),
        "/etc/systemd/journald.conf.d/machine.conf": text("[Journal]\nStorage=volatile\nForwardToConsole=no\n"),
    }
    return tree | {f"/etc/systemd/system/{unit}": Symlink("/dev/null") for unit in _MASKED}

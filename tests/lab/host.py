# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated machine: a network namespace, and a mount namespace with its own /run, /etc, /var/lib and /sys.

Process ids are the world's, so a test may signal what it finds. Files under `WORLD_DIR` have the same path inside and
outside a machine; all others of the machine are reached through `Host.path`.
"""

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.enter import WORLD_DIR, require_private_world
from tests.lab.process import LabError, run, wait_for
from tests.lab.rootdir import lab_root

_CHECKOUT = Path(__file__).resolve().parents[2]
_ROOT = "/run/lab-root"
_FURNISH = f"""
set -e
ip link set lo up
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p "$DIR/run/netns" "$DIR/run/lock" "$DIR/run/aovpnd-lab" "$DIR{_ROOT}"
for place in etc var/lib; do
  mkdir -p "$DIR/upper/$place" "$DIR/work/$place"
  mount -t overlay -o "lowerdir=/$place,upperdir=$DIR/upper/$place,workdir=$DIR/work/$place" overlay "/$place"
done
rm -f /etc/resolv.conf; : >/etc/resolv.conf
mount --rbind {WORLD_DIR} "$DIR/run/aovpnd-lab"
mount --rbind "$DIR/run" /run
mount --bind "$ROOT" {_ROOT}
for place in dev proc sys; do mount --rbind "/$place" "{_ROOT}/$place"; done
mount --bind /run "{_ROOT}/run"
mount --bind {WORLD_DIR} "{_ROOT}{WORLD_DIR}"
mkdir "$DIR/run/machine-etc"
mount --bind /etc "{_ROOT}/run/machine-etc"
mount --bind /etc/resolv.conf "{_ROOT}/etc/resolv.conf"
for place in tmp var/tmp; do mount -t tmpfs tmpfs "{_ROOT}/$place"; done
echo ready
exec sleep infinity
"""
"""What the first process of a machine does: private mounts, and the root directory that services run from.

/etc and /var/lib are overlays: what a daemon or a test writes there stays in the machine. Programs of the root
directory find the machine's /etc at /run/machine-etc.
"""


@dataclass(slots=True)
class Host:
    """A simulated machine, made by `Host.boot`; `close` ends everything that runs in it."""

    name: str
    dir: Path
    holder: subprocess.Popen[bytes]
    netns: int
    _spawned: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @classmethod
    def boot(cls, name: str, world_dir: Path) -> Self:
        """Make a machine whose files are in ``world_dir / name``; returns when its mounts are in place."""
        require_private_world()
        directory = world_dir / name
        directory.mkdir(parents=True)
        environment = {**os.environ, "DIR": str(directory), "ROOT": str(lab_root())}
        holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--uts", "--propagation", "private", "--", "sh", "-c", _FURNISH],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the lab, which then closes the machine
        )
        if holder.stdout is None or holder.stdout.readline() != b"ready\n":
            complaint = holder.communicate()[1].decode()
            raise LabError(f"{name} did not come up: {complaint.strip()}")
        netns = Path(f"/proc/{holder.pid}/ns/net").stat().st_ino
        label = f"{world_dir.name}-{name}"
        run(("ip", "netns", "attach", label, str(holder.pid)))
        host = cls(name, directory, holder, netns)
        host.run("hostname", name)
        return host

    # -- running programs ---------------------------------------------------------------------------------------------

    def prefix(self, uid: int | None = None, *, net_raw: bool = False, chroot: bool = False) -> list[str]:
        """What to put before a command so that it runs in this machine.

        ``uid``: as that user, with no capability but CAP_NET_RAW when ``net_raw``. ``chroot``: a program of the lab's
        root directory instead of the host's.
        """
        pid = self.holder.pid
        words = ["nsenter", f"--net=/proc/{pid}/ns/net", f"--mount=/proc/{pid}/ns/mnt", f"--uts=/proc/{pid}/ns/uts"]
        words += [f"--wd={_CHECKOUT}", "--"]
        if chroot:
            words += ["chroot", _ROOT]
        if uid is not None:
            words += ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
            caps = "-all,+net_raw" if net_raw else "-all"
            words += [f"--inh-caps={caps}", f"--ambient-caps={caps}", "--"]
        return words

    def run(
        self,
        *command: str,
        check: bool = True,
        stdin: str | None = None,
        timeout_s: float = 30.0,
        uid: int | None = None,
        chroot: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in this machine to its end; LabError when it fails and ``check``."""
        return run([*self.prefix(uid, chroot=chroot), *command], check=check, stdin=stdin, timeout_s=timeout_s)

    def out(self, *command: str) -> str:
        """Run a program that must succeed and return what it printed."""
        return self.run(*command).stdout

    def ip(self, words: str) -> str:
        """``ip WORDS``."""
        return self.out("ip", *shlex.split(words))

    def nft(self, text: str) -> None:
        """Load an nft text."""
        self.run("nft", "-f", "-", stdin=text)

    def sysctl(self, **values: int | str) -> None:
        """Set sysctls below net/, with two underscores for each slash: ``sysctl(ipv4__ip_forward=1)``."""
        script = "".join(f"echo {value} >/proc/sys/net/{key.replace('__', '/')}\n" for key, value in values.items())
        self.run("sh", "-ec", script)

    def spawn(
        self,
        *command: str,
        log: str | None = None,
        uid: int | None = None,
        net_raw: bool = False,
        chroot: bool = False,
        env: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        stdout: int | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program in this machine; its pid is the Popen's, its output goes to ``log`` (or its name) + .log."""
        with (self.dir / f"{log or Path(command[0]).name}.log").open("ab") as output:
            process = subprocess.Popen(
                [*self.prefix(uid, net_raw=net_raw, chroot=chroot), *command],
                env={**os.environ, **(env or {})},
                stdin=stdin,
                stdout=output if stdout is None else stdout,
                stderr=output,
                start_new_session=True,
            )
        self._spawned = [*(each for each in self._spawned if each.returncode is None or _has_pipe(each)), process]
        return process

    # -- looking ------------------------------------------------------------------------------------------------------

    def path(self, inside: str) -> Path:
        """The path by which a file of this machine is reached from outside."""
        return Path(f"/proc/{self.holder.pid}/root") / inside.lstrip("/")

    def pids(self) -> set[int]:
        """Every process whose network namespace is this machine's, daemons included."""
        found = set()
        for entry in os.listdir("/proc"):  # noqa: PTH208  it is called often
            if entry.isdecimal():
                try:
                    inode = os.stat(f"/proc/{entry}/ns/net").st_ino  # noqa: PTH116  likewise
                except OSError:
                    continue
                if inode == self.netns:
                    found.add(int(entry))
        return found

    def pids_of(self, *programs: str) -> tuple[int, ...]:
        """The processes of this machine that run one of these, judged by the base names of their first four words.

        A module counts as the program of its name: ``python3 -m aovpnd.guard`` is aovpnd-guard. A child that has not
        executed its own program yet carries its parent's words (proc(5)), and is not counted.
        """
        found: dict[int, bytes] = {}
        for pid in self.pids():
            try:
                said = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            words = {os.path.basename(word.decode(errors="replace")) for word in said.split(b"\0")[:4]}  # noqa: PTH119
            if set(programs) & (words | {word.replace(".", "-") for word in words}):
                found[pid] = said
        return tuple(sorted(pid for pid, said in found.items() if found.get(_parent(pid) or 0) != said))

    def links(self) -> tuple[str, ...]:
        """The names of its links."""
        return tuple(sorted(entry.name for entry in self.path("/sys/class/net").iterdir()))

    # -- the end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Kill whatever runs in this machine and give its namespaces back; may be called twice."""

        def empty() -> bool:
            rest = {pid for pid in self.pids() if _alive(pid)}
            for pid in rest:
                _kill(pid)
            return not rest

        wait_for(f"the processes of {self.name} to end", empty)
        run(("ip", "netns", "delete", f"{self.dir.parent.name}-{self.name}"), check=False)
        for process in (self.holder, *self._spawned):
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _has_pipe(process: subprocess.Popen[bytes]) -> bool:
    return process.stdout is not None and not process.stdout.closed


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _stat(pid: int) -> list[str]:
    """What proc_pid_stat(5) says of a process after its name, from the state on; nothing once it has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _alive(pid: int) -> bool:
    """Whether a process still runs; a zombie holds nothing any more."""
    return _stat(pid)[:1] not in ([], ["Z"])


def _parent(pid: int) -> int | None:
    """Who has started a process, None once it has gone."""
    stat = _stat(pid)
    return int(stat[1]) if stat else None


def new_world_dir() -> Path:
    """Make a directory for one world's files."""
    require_private_world()
    number = 1
    while True:
        place = WORLD_DIR / f"w{number}"
        try:
            place.mkdir()
        except FileExistsError:
            number += 1
        else:
            return place

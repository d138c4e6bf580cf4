# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian that really boots: systemd, D-Bus, polkit, logind, resolved and NetworkManager in a container.

``systemd-nspawn`` boots it in the network namespace of a simulated machine (`host.Host`), so that the lab's links,
senders and recorders work with it as they do with that machine::

    with World.build() as world, Container.boot(world.laptop.host, "trixie", files) as laptop:
        laptop.wait_booted()
        laptop.check("systemctl", "start", "aovpnd.service")

Everything that it needs lies in a Debian root directory of its own, nspawn included: the Debian package
systemd-container would enable a target and bring services onto this machine (docs/decisions/0021). Nothing is
registered anywhere; the kernel is this machine's, and there is no udev. ``python -m tests.lab.container`` makes the
root directories and prints where they are.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.lab.enter import require_private_world
from tests.lab.host import Host
from tests.lab.process import LabError, run, wait_for
from tests.lab.product import debian_packages
from tests.lab.rootdir import RootdirError, rootdir
from tests.lab.tree import Symlink, Tree, text, unpack

SUITES: Final = ("bookworm", "trixie")
"""Debian 12 (systemd 252, polkit 122, NetworkManager 1.42) and Debian 13 (257, 126, 1.52)."""
PACKAGES: Final = (
    *("charon-systemd", "libcharon-extauth-plugins", "libcharon-extra-plugins", "libstrongswan-standard-plugins"),
    "dbus",
    "iputils-ping",
    "libnss-resolve",
    "libpam-systemd",
    "login",
    "network-manager",
    "passwd",
    "pkexec",
    "polkitd",
    "procps",  # kill, for ExecReload=
    "systemd",
    "systemd-container",  # nspawn itself
    "systemd-resolved",
    "systemd-sysv",
)
"""What is there beside the product's own dependencies."""

_CGROUPS: Final = Path("/sys/fs/cgroup")
_CGROUP_NAME: Final = "aovpnd-lab-"
_SYSTEMD_NAMES: Final = frozenset({"systemd", "init"})
_ENVIRONMENT: Final = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL=C.UTF-8",
    "SYSTEMD_PAGER=",
)
_MASKED: Final = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "strongswan.service",  # the machine's own charon, which installing it enables
    "systemd-networkd-wait-online.service",
    "systemd-tmpfiles-clean.timer",
)
"""Housekeeping that no test looks at."""
_BOOT_ID_UNIT: Final = """[Unit]
Description=One boot id for all
DefaultDependencies=no
Before=systemd-journald.service sysinit.target
[Service]
Type=oneshot
ExecStart=-umount /proc/sys/kernel/random/boot_id
ExecStart=-umount /proc/sys/kernel/random/boot_id
[Install]
WantedBy=sysinit.target
"""
"""nspawn mounts an invented boot id into its /proc. A unit with ProtectProc= gets a fresh /proc with the real one, as
everybody has on a real machine, and would live in another boot than the rest."""
_UNITS: Final = "/etc/systemd/system"
_FURNITURE: Final[Tree] = {
    f"{_UNITS}/lab-boot-id.service": text(_BOOT_ID_UNIT),
    f"{_UNITS}/sysinit.target.wants/lab-boot-id.service": Symlink(f"{_UNITS}/lab-boot-id.service"),
    "/etc/hostname": text("laptop\n"),
    "/etc/machine-id": text("0123456789abcdef0123456789abcdef\n"),  # not the first boot of this system
    **{f"{_UNITS}/{unit}": Symlink("/dev/null") for unit in _MASKED},
}
_UPDATED: Final[Tree] = {"/etc/.updated": text(""), "/var/.updated": text("")}
"""Written last: nothing has changed since, so nothing (ldconfig, hwdb, …) is brought up to date at boot."""
_NSPAWN: Final = (
    "--quiet",
    "--boot",
    "--register=no",  # there may be no machined to register with
    "--keep-unit",
    "--console=pipe",
    "--link-journal=no",
    "--resolv-conf=off",
    "--timezone=off",
    "--capability=CAP_NET_ADMIN,CAP_NET_RAW,CAP_SYS_ADMIN",
    "--bind=/dev/net/tun",
    "--system-call-filter=@keyring bpf",  # DeviceAllow= and IPAddressDeny= of units are BPF programs
)
_NSPAWN_ENVIRONMENT: Final = {
    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",  # /proc/sys/net: this machine's own is another
}
_LAYERS: Final[dict[tuple[Path, int], Path]] = {}


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who can log in."""

    name: str
    uid: int
    password: str
    administrator: bool = False
    """In the group sudo, which Debian's polkit takes for administrators."""


ALICE: Final = Account("alice", 1000, "correct-horse")
BOB: Final = Account("bob", 1001, "battery-staple")
ADMIN: Final = Account("admin", 1002, "paper-clip", administrator=True)
ACCOUNTS: Final = (ALICE, BOB, ADMIN)


def image(suite: str) -> Path:
    """Return the root directory of a suite; make it when it is not cached. Needs root. Raises RootdirError."""
    return rootdir(suite, {*PACKAGES, *debian_packages()})


def cannot_run() -> str | None:
    """Say why containers cannot run here; None when they can."""
    command = [
        *program(image(SUITES[0]), "systemd-nspawn"),
        "--quiet",
        "--register=no",
        "--keep-unit",
        "--volatile=yes",
    ]
    command += ["--private-network", "--console=pipe", f"--directory={image(SUITES[0])}", "/usr/bin/true"]
    with _cgroup("try") as cgroup:
        done = run(_in_cgroup(cgroup, command), check=False, env={**os.environ, **_NSPAWN_ENVIRONMENT})
    return (done.stderr.strip() or f"exit code {done.returncode}") if done.returncode else None


@dataclass(slots=True)
class Container:
    """A running container, made by `boot`; `close`, or the end of its ``with``, is a power cut."""

    suite: str
    host: Host
    """The machine whose network it has."""
    leader: int
    """Its systemd, by this world's process ids."""
    _nspawn: subprocess.Popen[bytes]
    disk: Path
    """Where what it writes is kept, for another `boot`."""
    _stack: contextlib.ExitStack

    @classmethod
    def boot(cls, host: Host, suite: str, files: Tree, disk: Path | None = None, *, root: Path | None = None) -> Self:
        """Boot a suite with ``files`` laid over it, in the network of ``host``; returns when its systemd has started.

        ``disk``: that of a closed container which was booted with the same files; what it has written is there.
        ``root``: a root directory of that suite with other packages (`rootdir.rootdir`) in place of `image`.
        What an earlier container left in that network (links, addresses, rulesets) is still there. LabError when
        nspawn does not get that far.
        """
        require_private_world()
        number = sum(1 for _ in host.dir.glob("container*")) + 1
        directory = host.dir / f"container{number}"
        with contextlib.ExitStack() as stack:
            base = root or image(suite)
            lower = _layer(base, files, host.dir.parent)
            mounted = stack.enter_context(_overlay(directory, (lower, base), disk))
            cgroup = stack.enter_context(_cgroup(f"{host.dir.parent.name}-{number}"))
            command = [
                *program(image(suite), "systemd-nspawn"),
                *_NSPAWN,
                f"--directory={mounted}",
                f"--hostname={host.name}",
            ]
            # Every name once: what is mounted for one that was killed stays until the world ends.
            command += [f"--machine={host.dir.parent.name}-{host.name}-{number}"]
            command += [f"--network-namespace-path=/run/netns/{host.dir.parent.name}-{host.name}"]
            with (directory / "console.log").open("wb") as console:
                nspawn = subprocess.Popen(
                    _in_cgroup(cgroup, command),
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=console,
                    env={**os.environ, **_NSPAWN_ENVIRONMENT},
                    start_new_session=True,  # Ctrl-C is for the lab, which then closes the container
                )
            stack.callback(_end, nspawn)
            leader = wait_for(f"the {suite} container's systemd", lambda: _leader(nspawn), deadline_s=20)
            if leader < 0:
                console_text = (directory / "console.log").read_text(encoding="utf-8", errors="replace")
                raise LabError(f"the {suite} container did not start: {console_text.strip()[-800:]}")
            return cls(suite, host, leader, nspawn, disk or directory, stack.pop_all())
        raise AssertionError("unreachable")

    def wait_booted(self, *, deadline_s: float = 60.0) -> None:
        """Wait for the end of the boot."""
        words = ("systemctl", "is-active", "--quiet", "multi-user.target")
        try:
            wait_for("the end of the boot", lambda: self.run(*words).returncode == 0, deadline_s=deadline_s)
        except LabError as error:
            jobs = self.run("systemctl", "list-jobs").stdout
            raise LabError(f"{error}\n{jobs}") from None

    # -- running programs ---------------------------------------------------------------------------------------------

    def prefix(self) -> list[str]:
        """What to put before a command so that root runs it in the container, outside of its units and sessions."""
        namespaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
        return ["nsenter", f"--target={self.leader}", *namespaces, "--", "env", "-i", *_ENVIRONMENT]

    def run(self, *command: str, stdin: str | None = None, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; its exit status is the caller's business."""
        return run([*self.prefix(), *command], check=False, stdin=stdin, timeout_s=timeout_s)

    def check(self, *command: str, stdin: str | None = None, timeout_s: float = 60.0) -> str:
        """Run a program that must succeed and return what it printed; LabError with its complaint otherwise."""
        return run([*self.prefix(), *command], stdin=stdin, timeout_s=timeout_s).stdout

    def shell(self, script: str) -> str:
        """Run a few lines of sh(1), which must succeed."""
        return self.check("sh", "-ec", script)

    def spawn(self, *command: str, log: str | None = None, stdout: int | None = None) -> subprocess.Popen[bytes]:
        """Start a program; its output goes to a log of the machine (`Host.spawn`), or to ``stdout``."""
        with (self.host.dir / f"{log or Path(command[0]).name}.log").open("ab") as output:
            process = subprocess.Popen(
                [*self.prefix(), *command],
                stdin=subprocess.DEVNULL,
                stdout=output if stdout is None else stdout,
                stderr=output,
                start_new_session=True,
            )
        self._stack.callback(_end, process)
        return process

    # -- files, units, journal ----------------------------------------------------------------------------------------

    def path(self, inside: str) -> Path:
        """The path by which a file of the container is reached from outside; links in it lead outside, mind."""
        return Path(f"/proc/{self.leader}/root") / inside.lstrip("/")

    def write(self, inside: str, content: str, mode: int = 0o644) -> None:
        """Write a file of the container, its directory too."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode)
        path.chmod(mode)
        path.write_text(content, encoding="utf-8")

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit, as ``systemctl show`` has them."""
        listing = self.check("systemctl", "show", f"--property={','.join(properties)}", unit)
        return dict(line.split("=", 1) for line in listing.splitlines() if "=" in line)

    def active(self, unit: str) -> bool:
        """Whether a unit is active."""
        return self.run("systemctl", "is-active", "--quiet", unit).returncode == 0

    def main_pid(self, unit: str) -> int:
        """The main process of a unit by the container's ids, 0 while there is none."""
        return int(self.show(unit, "MainPID")["MainPID"])

    def kill(self, unit: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the main process of a unit, which must have one."""
        pid = self.main_pid(unit)
        if not pid:
            raise LabError(f"{unit} has no process")
        self.check("kill", f"-{number.value}", str(pid))

    def journal(self, *units: str, options: tuple[str, ...] = ("--output=cat",)) -> str:
        """What some units, or all, have said since the boot."""
        words = [f"--unit={unit}" for unit in units]
        return self.check("journalctl", "--boot", "--no-pager", "--quiet", *options, *words)

    # -- the end ------------------------------------------------------------------------------------------------------

    def power_off(self, *, deadline_s: float = 60.0) -> None:
        """Shut down in order."""
        os.kill(self.leader, signal.SIGRTMIN + 4)
        wait_for("the shutdown", lambda: self._nspawn.poll() is not None, deadline_s=deadline_s)

    def close(self) -> None:
        """Cut the power and give everything back; may be called twice."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.leader, signal.SIGKILL)  # and with it everything inside; nspawn alone would leave it running
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# -- nspawn ------------------------------------------------------------------------------------------------------------


def program(root: Path, name: str) -> list[str]:
    """How to run a program of systemd out of a root directory, on this machine: by its own loader and libraries."""
    loader = next((root / "usr" / "lib").glob("*/ld-linux*.so.*"))
    libraries = f"{loader.parent}:{loader.parent}/systemd"
    return [str(loader), "--library-path", libraries, str(root / "usr/bin" / name)]


def _leader(nspawn: subprocess.Popen[bytes]) -> int:
    """The container's first process once it is systemd; 0 while it is not, -1 when nspawn has ended."""
    if nspawn.poll() is not None:
        return -1
    for child in Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children").read_text(encoding="ascii").split():
        with contextlib.suppress(OSError):
            status = dict(
                line.split(":\t", 1) for line in Path(f"/proc/{child}/status").read_text("utf-8").splitlines()
            )
            if status["NSpid"].split()[-1] == "1" and status["Name"] in _SYSTEMD_NAMES:
                return int(child)
    return 0


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for what has lost its container; kill what does not notice."""
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


# -- its files ---------------------------------------------------------------------------------------------------------


def _layer(base: Path, files: Tree, world_dir: Path) -> Path:
    """A directory with ``files``, byte-compiled programs and the accounts, to be laid over a root directory.

    As a package's post-installation script leaves a system. Made once per root and tree in this private world.
    """
    key = (base, hash(frozenset(files.items())))
    if key not in _LAYERS or not _LAYERS[key].is_dir():
        directory = world_dir.parent / f"layer-{base.name}-{len(_LAYERS)}"
        with _overlay(directory, (base,)) as root:
            unpack({**_FURNITURE, **files}, root)
            packages = root / "usr/lib/python3/dist-packages"
            ours = [f"/{path.relative_to(root)}" for path in packages.glob("aovpnd")]
            if ours:
                run(("chroot", str(root), "python3", "-m", "compileall", "-q", *ours))
            run(("chroot", str(root), "systemd-sysusers"))
            for account in ACCOUNTS:
                secret = run(("openssl", "passwd", "-6", "-stdin"), stdin=account.password).stdout.strip()
                groups = ["--groups=sudo"] if account.administrator else []
                words = ("useradd", "--create-home", f"--uid={account.uid}", "--shell=/bin/bash", *groups)
                run(("chroot", str(root), *words, f"--password={secret}", account.name))
            unpack(_UPDATED, root)
        _LAYERS[key] = directory / "upper"
    return _LAYERS[key]


@contextlib.contextmanager
def _overlay(directory: Path, lower: tuple[Path, ...], disk: Path | None = None) -> Iterator[Path]:
    """Mount ``directory/root``: ``lower``, the topmost first, below what is written into ``directory/upper``, or into
    that of another ``disk``.
    """
    disk = disk or directory
    root, upper, work = directory / "root", disk / "upper", disk / "work"
    for path in (root, upper, work):
        path.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={':'.join(map(str, lower))},upperdir={upper},workdir={work}"
    run(("mount", "-t", "overlay", "-o", options, "overlay", str(root)))
    try:
        yield root
    finally:
        run(("umount", "--lazy", str(root)))


# -- its control group -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _cgroup(name: str) -> Iterator[Path]:
    """A control group below our own, for nspawn to divide; those of worlds that were killed are removed as well."""
    own = next(
        line.removeprefix("0::/") for line in Path("/proc/self/cgroup").read_text("ascii").splitlines() if "0::" in line
    )
    parent = _CGROUPS / own
    for stale in parent.glob(f"{_CGROUP_NAME}*"):
        _remove_cgroup(stale)
    cgroup = parent / f"{_CGROUP_NAME}{os.getpid()}-{os.stat('/proc/self/ns/pid').st_ino}-{name}"  # noqa: PTH116
    cgroup.mkdir()
    try:
        yield cgroup
    finally:
        wait_for("the container's control group to empty", lambda: _remove_cgroup(cgroup), deadline_s=10)


def _remove_cgroup(cgroup: Path) -> bool:
    """Remove a group with those below it; False while somebody is in one of them."""
    for directory, _, _ in os.walk(cgroup, topdown=False):
        with contextlib.suppress(FileNotFoundError):
            try:
                Path(directory).rmdir()
            except OSError:
                return False
    return True


def _in_cgroup(cgroup: Path, command: list[str]) -> list[str]:
    """Make ``command`` start inside a control group."""
    return ["sh", "-c", 'mkdir -p "$0" && echo $$ >"$0/cgroup.procs" && exec "$@"', str(cgroup), *command]


def main() -> int:
    """Make the root directories of all suites and print where they are."""
    try:
        for suite in SUITES:
            print(image(suite))
    except RootdirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

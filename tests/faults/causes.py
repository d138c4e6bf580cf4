# SPDX-License-Identifier: GPL-3.0-or-later
"""Why calls fail: real causes where there are any, and system calls that are refused elsewhere."""

import errno
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from tests.faults.cell import Fault, Way
from tests.faults.provocations import reload, wake
from tests.faults.stage import Stage
from tests.lab.process import wait_for
from tests.lab.refuse import Rule

DAEMON: Final = r"bin/aovpnd( |$)"
GUARD: Final = r"aovpnd\.guard"
ERRNO: Final = {
    Way.MISSING: errno.ENOENT,
    Way.EPERM: errno.EPERM,
    Way.EACCES: errno.EACCES,
    Way.EBUSY: errno.EBUSY,
    Way.ENOSPC: errno.ENOSPC,
    Way.EIO: errno.EIO,
    Way.EROFS: errno.EROFS,
    Way.EMFILE: errno.EMFILE,
}
_SLOW_S: Final = 1.5


# -- how calls fail ----------------------------------------------------------------------------------------------------
def refused(*rules: Rule) -> Fault:
    """System calls that are refused, or held up."""
    return lambda stage: stage.refusing(*rules)


def netlink(protocol: int, kinds: tuple[int, ...], way: Way, program: str = DAEMON) -> Fault:
    """Messages to the kernel of these kinds."""
    error = ERRNO.get(way, 0)
    delay = _SLOW_S if way is Way.TIMEOUT else 0.0
    return refused(Rule("send", netlink=protocol, kinds=kinds, program=program, error=error, delay_s=delay))


def file(call: str, path: str, way: Way, *, writes: bool = False, program: str = DAEMON) -> Fault:
    """A file, by its path."""
    return refused(Rule(call, path=path, writes=writes, error=ERRNO[way], program=program))


def started(path: str, way: Way) -> Fault:
    """A program that cannot be started, whoever tries."""
    return refused(Rule("execve", path=path, error=ERRNO[way]))


def fake(place: str, text: str) -> Fault:
    """Another program in the place of one."""
    return lambda stage: stage.over(place, f"#!/bin/sh\n{text}\n")


@contextmanager
def without_news(inner: Fault, stage: Stage) -> Iterator[None]:
    """Take the news back at the end."""
    try:
        with inner(stage):
            yield
    finally:
        stage.laptop.lab.host.path("/etc/aovpnd/conf.d/news.toml").unlink(missing_ok=True)
        reload(stage)


def telling(inner: Fault) -> Fault:
    """While there is news to tell."""
    return lambda stage: without_news(inner, stage)


# -- faults with a life of their own -----------------------------------------------------------------------------------
@contextmanager
def then_reload(inner: Fault, stage: Stage) -> Iterator[None]:
    """The cause of what is read only on demand goes when it is read again."""
    try:
        with inner(stage):
            yield
    finally:
        reload(stage)


def read_again(inner: Fault) -> Fault:
    """Until it is read again."""
    return lambda stage: then_reload(inner, stage)


@contextmanager
def full(place: str, stage: Stage) -> Iterator[None]:
    """A file system without room."""
    filler = f"{place}/.filler"
    stage.laptop.lab.host.run("sh", "-c", f"cat /dev/zero >{filler} 2>/dev/null", check=False)
    try:
        yield
    finally:
        stage.laptop.lab.host.path(filler).unlink()


@contextmanager
def read_only(place: str, stage: Stage) -> Iterator[None]:
    """A file system that was mounted anew, for reading alone."""
    host = stage.laptop.lab.host
    host.run("mount", "-o", "remount,ro", place)
    try:
        yield
    finally:
        host.run("mount", "-o", "remount,rw", place)


@contextmanager
def read_only_over(place: str, stage: Stage) -> Iterator[None]:
    """A place that is mounted over itself, so that it cannot be written there."""
    host = stage.laptop.lab.host
    host.run("mount", "--bind", place, place)
    host.run("mount", "-o", "remount,bind,ro", place)
    try:
        yield
    finally:
        host.run("umount", "-l", place)


@contextmanager
def text_in(file: str, text: bytes, stage: Stage) -> Iterator[None]:
    """A file with something else in it."""
    path = stage.laptop.lab.host.path(file)
    before = path.read_bytes() if path.exists() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)
    try:
        yield
    finally:
        path.unlink()
        if before is not None:
            path.touch(0o600)
            path.write_bytes(before)


@contextmanager
def pipe_in_place(file: str, stage: Stage) -> Iterator[None]:
    """A named pipe, at whose other end nobody is."""
    path = stage.laptop.lab.host.path(file)
    kept = path.with_name(f".{path.name}.kept")
    if path.exists():
        path.rename(kept)
    os.mkfifo(path)
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            path.unlink()
        if kept.exists():
            kept.rename(path)


@contextmanager
def frozen(program: str, stage: Stage) -> Iterator[None]:
    """A process that does not answer."""
    pids = stage.laptop.lab.host.pids_of(program)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def no_descriptors(stage: Stage) -> Iterator[None]:
    """The daemon may open nothing more (RLIMIT_NOFILE)."""
    pid = stage.laptop.daemon_pid()
    if pid is None:
        yield
        return
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@contextmanager
def resolvconf(text: str, stage: Stage) -> Iterator[None]:
    """Names are managed by a program of ours that is called resolvconf."""
    host = stage.laptop.lab.host
    stage.fresh += 1
    place = host.dir / f"sbin-{stage.fresh}"
    place.mkdir()
    (place / "resolvconf").write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    (place / "resolvconf").chmod(0o755)
    host.run("mkdir", "-p", "/run/resolvconf/keys")
    host.run("mount", "--bind", str(place), "/usr/local/sbin")
    try:
        yield
    finally:
        host.run("umount", "-l", "/usr/local/sbin")
        host.run("rm", "-rf", "/run/resolvconf")
        wake(stage)


@contextmanager
def resolved(text: str, stage: Stage) -> Iterator[None]:
    """Somebody listens on systemd-resolved's socket, and resolvectl(1) is this text; "" when there is none."""
    host = stage.laptop.lab.host
    stage.fresh += 1
    place = host.dir / f"sbin-{stage.fresh}"
    place.mkdir()
    if text:
        (place / "resolvectl").write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (place / "resolvectl").chmod(0o755)
    host.run("mkdir", "-p", "/run/systemd/resolve")
    host.run("mount", "--bind", str(place), "/usr/local/sbin")
    code = (
        "import socket,time; s=socket.socket(socket.AF_UNIX); "
        "s.bind('/run/systemd/resolve/io.systemd.Resolve'); s.listen(512); time.sleep(600)"
    )
    listener = host.spawn(sys.executable, "-c", code, log="resolved")
    wait_for("the socket", lambda: host.path("/run/systemd/resolve/io.systemd.Resolve").exists())
    try:
        yield
    finally:
        listener.kill()
        listener.wait()
        host.run("rm", "-rf", "/run/systemd/resolve")
        host.run("umount", "-l", "/usr/local/sbin")
        wake(stage)

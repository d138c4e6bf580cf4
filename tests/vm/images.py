# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel, boot archive and disk of a small Debian, made once per suite and cached; nothing of aovpnd is in them.

Neither loop devices nor mounts are needed: ``mmdebstrap`` makes a directory, ``mke2fs -d`` makes it a file system. What
a test adds travels in a second boot archive and is laid over the root file system at every boot, so the cache depends
on packages alone. ``python -m tests.vm.images [--all] [SUITE...]`` makes the images and prints where they are.
"""

import fcntl
import hashlib
import lzma
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lab.product import debian_packages
from tests.lab.rootdir import CACHE, RootdirError, rootdir
from tests.lab.tree import Entry, Symlink, copied, text
from tests.vm.archive import cpio

SUITES: Final = ("bookworm", "trixie")
"""Debian 12 (kernel 6.1, nft 1.0, systemd 252) and Debian 13 (kernel 6.12, nft 1.1, systemd 257)."""
PACKAGES: Final = (
    "apparmor",
    "busybox-static",  # the first program's tools
    "charon-systemd",
    "iproute2",
    "iputils-ping",
    "kmod",
    "libcharon-extra-plugins",
    "libstrongswan-standard-plugins",
    "nftables",
    "procps",  # kill, for ExecReload=
    "python3",
    "python3-cryptography",
    "python3-nftables",
    "python3-pyroute2",
    "python3-systemd",
    "systemd",
    "systemd-sysv",
    "udev",
    "wireguard-go",
    "wireguard-tools",
)
"""The network manager is systemd-networkd, which comes with systemd."""
KERNEL: Final = "linux-image-cloud-amd64"
"""The kernel of an image whose packages name no other: small, and quick to boot."""
_KERNELS: Final = "linux-image-"
LIFE: Final = (*debian_packages(), "dbus", "network-manager", "polkitd")
"""What a laptop has beside that its package can be installed on: `tests/vm/lives`, `make week`, `make bench-vm`."""
UPLINKS: Final = (
    *("linux-image-amd64", "hostapd", "iw", "wpasupplicant"),  # mac80211_hwsim: radios that are no hardware
    *("ppp", "pppoe"),
    *LIFE,
)
"""The kernel with every driver, and the programs of both ends of a link: `test_wifi`, `test_uplinks`."""
TPM: Final = (
    *("libtss2-esys-3.0.2-0", "libtss2-mu0", "libtss2-rc0", "libtss2-tcti-device0"),
    *("libstrongswan-extra-plugins", "tpm-udev", "tpm2-tools"),
)
"""What Debian 12's systemd speaks with a TPM by, and what charon does: `test_tpm`."""
LAB: Final = (
    *debian_packages(),
    *debian_packages("the lab"),
    *("libcharon-extauth-plugins", "libstrongswan-extra-plugins"),
)
"""What the lab needs to run inside a machine: `tests/vm/kernels`."""
MORE: Final[tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]] = (
    (LIFE, SUITES),
    (UPLINKS, SUITES[-1:]),
    (TPM, SUITES[:1]),
)
"""The sets of packages of the long runs, each with its suites: `make test-vm` has them beside the plain images."""
RECIPE: Final = "1"
"""Part of the cache key: raise it when the way an image is made changes."""

_DISK_SIZE: Final = "3G"
_BOOT_MODULES: Final = ("virtio_pci", "virtio_blk", "virtio_console", "crc32c_generic", "ext4")
_APPLETS: Final = ("sh", "mount", "insmod", "usleep", "cp", "sync", "chroot", "switch_root")
_INIT: Final = Path(__file__).with_name("guest") / "init"


class ImageError(Exception):
    """An image could not be made; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Image:
    """What QEMU needs for one suite. The disk is a base that nobody writes to."""

    suite: str
    kernel: Path
    boot: bytes
    disk: Path
    root: Path
    """The root directory that the disk was made of."""


def image(suite: str, more: tuple[str, ...] = ()) -> Image:
    """Return the image of ``suite``, with ``more`` packages; make it when it is not cached. Needs root.

    A kernel among ``more`` is there in the place of `KERNEL`.
    Several processes may ask at once. Raises ImageError or RootdirError.
    """
    if "INITRD" not in os.environ:
        os.environ["INITRD"] = (
            "No"  # kernel packages build no initramfs of their own: half a minute saved, never booted
        )
    kernel = () if any(name.startswith(_KERNELS) for name in more) else (KERNEL,)
    root = rootdir(suite, (*PACKAGES, *kernel, *more))
    key = hashlib.sha256(f"{RECIPE}\n{root.name}\n{_DISK_SIZE}".encode()).hexdigest()[:12]
    place = CACHE / "machines" / f"{suite}-{key}"
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.with_name(f".{place.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not place.is_dir():
                _build(suite, root, place)
    return Image(suite, place / "vmlinuz", _boot_archive(root), place / "disk.raw", root)


def _build(suite: str, root: Path, place: Path) -> None:
    """Make kernel and disk aside and rename them into their place; what a killed run left is removed."""
    started = time.monotonic()
    print(f"building the Debian {suite} machine (once; a few seconds) ...", file=sys.stderr, flush=True)
    for stale in place.parent.glob(f".{place.name}.new*"):
        shutil.rmtree(stale)
    aside = place.with_name(f".{place.name}.new{os.getpid()}")
    aside.mkdir()
    try:
        shutil.copyfile(_only(root / "boot", "vmlinuz-*"), aside / "vmlinuz")
        disk = aside / "disk.raw"
        with disk.open("wb") as file:
            file.truncate(3 << 30)
        subprocess.run(
            [
                "mke2fs",
                "-q",
                "-F",
                "-t",
                "ext4",
                "-L",
                "root",
                "-E",
                "lazy_itable_init=1",
                "-d",
                str(root),
                str(disk),
                _DISK_SIZE,
            ],
            check=True,
        )
        aside.rename(place)
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise ImageError(
            f"the Debian {suite} machine could not be made: {error} (are e2fsprogs installed and 4 GB free?)"
        ) from error
    print(f"... {place} ({time.monotonic() - started:.0f} s)", file=sys.stderr, flush=True)


def _boot_archive(root: Path) -> bytes:
    """The first program, its tools and the modules without which there is no root file system."""
    modules = _modules(root)
    tree: dict[str, Entry] = {
        "/init": copied(_INIT, 0o755),
        "/bin/busybox": copied(root / "bin/busybox", 0o755),
        "/modules/list": text("".join(f"{name}\n" for name in modules)),
        "/dev/.keep": text(""),
        "/sys/.keep": text(""),
        "/system/.keep": text(""),
    }
    tree |= {f"/bin/{applet}": Symlink("busybox") for applet in _APPLETS}
    tree |= {f"/modules/{name}": module for name, module in modules.items()}
    return cpio(tree)


def _modules(root: Path) -> dict[str, Entry]:
    """Modules of _BOOT_MODULES with what they depend on, in loading order; those inside the kernel are left out."""
    base = _only(root / "usr/lib/modules", "*")
    depends: dict[str, list[str]] = {}
    for line in (base / "modules.dep").read_text(encoding="ascii").splitlines():
        path, _, others = line.partition(":")
        depends[path] = others.split()
    by_name = {Path(path).name.partition(".")[0].replace("-", "_"): path for path in depends}
    found: dict[str, Entry] = {}
    for wanted in _BOOT_MODULES:
        if wanted not in by_name:
            continue
        for path in (*reversed(depends[by_name[wanted]]), by_name[wanted]):  # depmod lists the deepest last
            module = copied(base / path)
            plain = lzma.decompress(module.data) if path.endswith(".xz") else module.data
            found.setdefault(Path(path).name.removesuffix(".xz"), type(module)(plain))
    return found


def _only(directory: Path, pattern: str) -> Path:
    """The one entry that matches; ImageError when there is none or a choice."""
    match list(directory.glob(pattern)):
        case [path]:
            return path
        case other:
            raise ImageError(f"expected one {pattern} in {directory}, found {len(other)}")


def main(arguments: list[str]) -> int:
    """Make the images of the named suites, or of all, and print where the disks are; ``--all``: those of `MORE` too."""
    sets = (((), SUITES), *(MORE if "--all" in arguments else ()))
    try:
        for suite in [name for name in arguments if name != "--all"] or SUITES:
            for more in (packages for packages, suites in sets if suite in suites):
                print(image(suite, more).disk)
    except (ImageError, RootdirError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

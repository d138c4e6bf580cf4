# SPDX-License-Identifier: GPL-3.0-or-later
"""Root directories with the neighbours in them: ``python -m tests.neighbours.roots`` makes all, and prints where."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Final

from tests.lab.container import PACKAGES, SUITES
from tests.lab.product import debian_packages
from tests.lab.rootdir import RootdirError, rootdir

_BARE: Final = frozenset(PACKAGES) - {"libnss-resolve", "network-manager", "systemd-resolved"}
"""Debian without the programs that manage its networks and names; systemd-resolved is resolvconf as well."""
_WITH_RESOLVED: Final = frozenset(PACKAGES)


class Root(StrEnum):
    """Which Debian: what is in it that no other has."""

    RESOLVCONF = "ifupdown with dhclient, and Debian's resolvconf"
    OPENRESOLV = "dhcpcd, and openresolv"
    PLAIN = "ifupdown with dhcpcd, and nobody beside them for resolv.conf"
    GUESTS = "Docker, Podman, LXC and libvirt"
    TUNNELS = "OpenVPN, Avahi"


_ADDED: Final = {
    Root.RESOLVCONF: _BARE | {"ifupdown", "isc-dhcp-client", "resolvconf"},
    Root.OPENRESOLV: _BARE | {"dhcpcd", "openresolv"},
    Root.PLAIN: _BARE | {"dhcpcd-base", "ifupdown"},
    Root.GUESTS: _WITH_RESOLVED
    | {
        *("busybox-static", "ca-certificates", "curl", "dnsmasq-base"),
        *("docker-cli", "docker.io", "iptables"),
        *("libvirt-clients", "libvirt-daemon-system"),
        *("lxc", "uidmap"),
        *("crun", "fuse-overlayfs", "netavark", "passt", "podman", "slirp4netns"),
    },
    Root.TUNNELS: _WITH_RESOLVED | {"avahi-daemon", "avahi-utils", "curl", "openvpn", "strongswan-swanctl"},
}
NEWEST: Final = SUITES[-1]
_LARGE: Final = frozenset({Root.GUESTS, Root.TUNNELS})
"""Made of the newest suite alone."""


def root(kind: Root, suite: str = NEWEST) -> Path:
    """Return the root directory of a kind; make it when it is not cached. Needs root. Raises RootdirError."""
    return rootdir(suite, {*_ADDED[kind], *debian_packages()})


def main() -> int:
    """Make all of them."""
    try:
        for kind in Root:
            for suite in (NEWEST,) if kind in _LARGE else SUITES:
                print(root(kind, suite))
    except RootdirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: GPL-3.0-or-later
"""NetworkManager's profiles, for laptops that are whole systems: nm-settings-keyfile(5)."""

from typing import Final

from tests.lab.tree import Tree, text

PROFILES: Final = "/etc/NetworkManager/system-connections"
_UPLINK: Final = """[connection]
id={link}
type=ethernet
interface-name={link}
[ipv4]
method=auto
route-metric={metric}
[ipv6]
method=auto
{ipv6}route-metric={metric}
"""


def uplink(link: str, metric: int, *, ipv6: str = "") -> Tree:
    """The profile of a card whose network says everything; ``ipv6``: more lines of that section, each with its end."""
    return profile(link, _UPLINK.format(link=link, metric=metric, ipv6=ipv6))


def profile(name: str, content: str) -> Tree:
    """A profile, where NetworkManager looks for it, root's alone: it ignores others."""
    return {f"{PROFILES}/{name}.nmconnection": text(content, 0o600)}

# SPDX-License-Identifier: GPL-3.0-or-later
"""Every name and number that aovpnd puts on the system, and nothing else.

Whoever finds one of these in ``nft list tables``, ``ip rule`` or ``ip link`` can search for it here and learn who owns
it. Nothing is imported, not even typing: `aovpnctl status` reads this, and typing takes longer to load than Python
itself.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# -- nftables ---------------------------------------------------------------------------------------------------------
TABLE: Final = "aovpnd"
"""``table inet aovpnd``: the dynamic table. The daemon (or, at boot, ``lockdown.nft``) loads it whole; it decides."""
GUARD_TABLE: Final = "aovpnd_guard"
"""``table inet`` and ``table netdev aovpnd_guard``: static, owned by the guard's socket; they enforce the stamp."""
EARLY_TABLE: Final = "aovpnd_early"
"""``table netdev aovpnd_early``: the guard's egress chain, attached per link by the udev rule; plain, so it outlives
the guard."""
COPY_TABLE: Final = "aovpnd_copy"
"""``table inet`` and ``table netdev aovpnd_copy``: the guard's tables once more, owned by the daemon's socket, so that
they stand through a flush while the guard is being restarted."""
GRANT_SET: Final = "temporary_access"
"""Set of link indexes that a grant opens; its elements carry a kernel timeout (facts T12)."""
LOOK_UP_SET: Final = "look_up"
"""Set of link indexes by which a look-up of ours may ask now; its elements carry a kernel timeout as well."""
INSIDE_SET: Final = "inside"
"""The guard's set of host-only links, by index and name."""
OUTSIDE_CHAIN: Final = "outside"
"""The regular chain that egress base chains jump to in early boot: the stamp does not count, since nobody needs it."""
ROUTED_CHAIN: Final = "routed"
"""The one that they jump to otherwise: the stamp counts with a route."""
PORT_CHAIN: Final = "port"
"""The same for ports of a bond or team, to which packets come without their route: the stamp counts."""
LAYERS: Final = ("vlan", "ppp")
"""Kinds of links that send by an Ethernet link what they have put something around. Where there are some, their names
follow the chain's: ``routed_vlan``, ``routed_ppp``, ``routed_vlan_ppp``."""
LINK_CHAIN_PREFIX: Final = "link_"
"""An egress base chain is called ``link_IFINDEX``."""

PRIORITY_PREROUTING: Final = -300
PRIORITY_FILTER: Final = 0
PRIORITY_UNSTAMP: Final = 299
"""The guard's first postrouting chain: takes the stamp from everything before the last look gives it."""
PRIORITY_LAST_LOOK: Final = 300
"""The dynamic table's postrouting chain: after source NAT (100), so that it judges what really leaves (facts T6)."""
PRIORITY_GUARD: Final = 400
"""The guard's postrouting chain: after the stamp was given or refused."""

# -- packet marks -----------------------------------------------------------------------------------------------------
STAMP: Final = 0x40000000
"""The one mark bit that the last look sets on what may leave by an outside link, and clears on everything else."""
FWMARK: Final = 0x2A000000
"""What the tunnel's own outer packets carry (WireGuard's ``FwMark``, strongSwan's ``fwmark``)."""
FWMARK_MASK: Final = 0x3F000000
"""The bits of a mark that FWMARK is compared under; the rest belongs to others."""

# -- routing ----------------------------------------------------------------------------------------------------------
ROUTE_TABLE: Final = 24943
"""Our route table, T in docs/security.md: 0x616f, ``ao``."""
RULE_PRIORITY: Final = 10
"""Right behind ``local`` (0) and before everybody else's rules, main's (32766) included (facts T9)."""
LANE_TABLES: Final = range(24945, 24961)
"""Those of tunnels that users have to themselves, one each."""
LANE_PRIORITY: Final = 9
"""The rules that lead there: ``uidrange UID-UID``, ``oif LINK`` and ``from ADDRESS``, each ``lookup TABLE``."""
CHARON_TABLE: Final = 24944
"""What charon's kernel-libipsec insists on writing goes there; the rule that leads there stands behind all others."""
CHARON_PRIORITY: Final = 40000
SHUT_PRIORITY: Final = 11
"""Behind it, while nothing may fall through to main: ``not fwmark FWMARK/FWMARK_MASK unreachable``."""
LOOK_PRIORITY: Final = 12
"""``fwmark MARK to GATEWAY lookup main``: the only way that charon finds, whose look-ups have that mark."""
NO_LOOK_PRIORITY: Final = 13
"""Behind it: ``fwmark MARK unreachable``."""
CLOSED_METRIC: Final = 4294967294
"""Metric of the ``unreachable default`` that stands behind the tunnel's default for good; the worst but one that the
kernel takes."""
TUNNEL_METRIC: Final = 50
"""Metric of every other route in our table."""

# -- links ------------------------------------------------------------------------------------------------------------
LINK_PREFIX: Final = "aovpn"
"""Our tunnel links are ``aovpn0``, ``aovpn1``, …"""
XFRM: Final = "xfrm"
"""The kind of link whose packets the kernel's own ESP transforms (an XFRM interface)."""
TUNNEL_KINDS: Final = ("wireguard", XFRM, "tun")
"""Link kinds (IFLA_INFO_KIND) that a tunnel of ours can have."""

CONFIG_CLOSED: Final = "config-closed"
"""The code of the problem that says that the tightest settings are in force, since none could ever be read."""
PREFER: Final = "tunnel.prefer"
"""The key of the order that is in force where no kind of uplink has one of its own."""
DEVICE: Final = "tunnel.device"
"""That of the order that is in force while nobody is logged in."""
COMPANIONS: Final = "tunnel.companions"
"""That of the tunnels that stand beside whichever carries."""
ON_DEMAND: Final = "tunnel.on_demand"
"""That of the tunnels that rest while nobody sends."""
EXCLUDE_FROM: Final = "exclude_from"
"""The tables of networks that are kept out of one tunnel, and the beginning of their keys."""

# -- files ------------------------------------------------------------------------------------------------------------
VENDOR_DIR: Final = "/usr/lib/aovpnd"
CONFIG_DIR: Final = "/etc/aovpnd"
STATE_DIR: Final = "/var/lib/aovpnd"
RUNTIME_DIR: Final = "/run/aovpnd"
RUNTIME_DIR_VARIABLE: Final = "AOVPND_RUNTIME_DIR"
"""Environment variable by which ``aovpnctl`` finds a daemon elsewhere."""
CREDENTIALS_DIR: Final = "/run/credentials/aovpnd.service"
"""systemd.exec(5), LoadCredentialEncrypted=: where the service manager decrypts tunnel files to, for the daemon alone.
A link in CONFIG_DIR/tunnels may lead there."""
TUNNELS: Final = "tunnels"
"""CONFIG_DIR/tunnels: a file for each."""
UNBLOCKED_MARKER: Final = "unblocked"
"""CONFIG_DIR/unblocked: present while an administrator has taken the block off for good."""
CONFIRMATION_FILE: Final = "confirmation"
"""STATE/confirmation: what became of this machine's first block (`confirmation`)."""
STATUS_FILE: Final = "status.json"
LOCK_FILE: Final = "lock"
"""Readers ask whether it is held (`vouch`): then a daemon runs. Each daemon replaces the file."""
DAEMON_LOCK_FILE: Final = "daemon.lock"
"""Root's alone: keeps a second daemon out."""
REST_FILE: Final = "rest"
"""While the tunnel rests: over which path, and what its link had counted, for the daemon that comes next."""
PATH_FILE: Final = "path"
"""Fingerprint of the path over which the tunnel last proved itself, for the daemon that comes next."""
RESOLV_CONF: Final = "/etc/resolv.conf"
RESOLV_CONF_MARK: Final = "# aovpnd: names are asked of the tunnel. The file that was here is kept, and comes back.\n"
"""First line of a resolv.conf(5) that is ours."""
RESOLV_CONF_SAVED: Final = "resolv.conf.saved"
"""STATE/resolv.conf.saved: what stood at RESOLV_CONF before ours; is there just as long as ours is."""
RESOLVCONF_RECORD: Final = "{link}.aovpnd"
"""Our record in resolvconf(8)."""
CONTROL_SOCKET: Final = "control.sock"
ROLLED_BACK: Final = "/var/lib/aovpnd-previous/rolled-back"
"""Present while a version that broke the tunnel has been replaced by the one before (`rollback`)."""
KEPT_PACKAGE: Final = "/var/lib/aovpnd-previous/aovpnd.deb"
"""That one."""
PIN_FILE: Final = "/etc/apt/preferences.d/aovpnd-rolled-back.pref"
"""Keeps apt from the one that broke it."""
USERS_FILE: Final = "/etc/passwd"
"""passwd(5): where systemd-sysusers(8) puts the users that it makes."""
GUARD_LOCK_FILE: Final = "guard/lock"
"""In a directory of its own, which belongs to the user that the guard runs as under systemd."""

# -- sysctls ----------------------------------------------------------------------------------------------------------
SYSCTLS: Final = (
    ("net/ipv4/conf/all/arp_ignore", 2),
    ("net/ipv4/conf/all/src_valid_mark", 1),
    ("net/ipv4/conf/all/ignore_routes_with_linkdown", 1),
    ("net/ipv4/icmp_ratelimit", 0),
    ("net/ipv6/icmp/ratelimit", 0),
)
"""What we need of /proc/sys: no ARP answer for the tunnel's address (X41 MLLVD-CR-24-03), and reverse-path look-ups
that see the mark, or strict rp_filter kills the handshake's answer, and no packets to an uplink without a carrier: its
routes stay until a network manager takes them away, which may take seconds, while another uplink could carry. And
errors of ICMP to one address as often as there are any: a guest who is refused has to be told each time. To outside
links none leave, and the kernel's bound on all of them together stays (icmp_msgs_per_sec)."""

# -- D-Bus ------------------------------------------------------------------------------------------------------------
BUS_NAME: Final = "org.aovpnd1"
"""On the system bus; interface ``org.aovpnd1.Manager``, errors ``org.aovpnd1.Error.*``, polkit actions
``org.aovpnd1.*``."""
BUS_PATH: Final = "/org/aovpnd1"
BUS_USER: Final = "aovpnd-bus"
"""The user that aovpnd-bus runs as, who alone may own the name; the daemon takes other people's commands from it."""

# -- units ------------------------------------------------------------------------------------------------------------
UNIT: Final = "aovpnd.service"
BUS_UNIT: Final = "aovpnd-bus.service"
GUARD_UNIT: Final = "aovpnd-guard.service"
WIREGUARD_GO_UNIT: Final = "aovpnd-wireguard-go@{link}.service"
CHARON_UNIT: Final = "aovpnd-charon@{link}.service"

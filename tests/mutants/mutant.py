# SPDX-License-Identifier: GPL-3.0-or-later
"""What a weakening is: what is changed where, why that would be dangerous, and which tests are asked first.

Every ``old`` text stands in its file exactly once; one that no longer does is an error of the list, not a caught
mutant. T numbers are the traps of docs/facts.md, the others published attacks and audit findings.
"""

from dataclasses import dataclass
from typing import Final

BESIDE: Final = "tests/unit/test_beside.py"
COMPANIONS: Final = "tests/unit/test_companions.py"
CONFIG_BESIDE: Final = "tests/unit/test_config_beside.py"
CONFIRMING: Final = "tests/unit/test_confirming.py"
NO_LEAK: Final = "tests/unit/test_no_leak.py"
DECIDE: Final = "tests/unit/test_decide.py"
INTENT: Final = "tests/unit/test_intent.py"
MTU: Final = "tests/unit/test_mtu.py"
PLAN: Final = "tests/unit/test_plan.py"
ENDPOINTS: Final = "tests/unit/test_endpoints.py"
CORE_IKE: Final = "tests/unit/test_core_ike.py"
CORE_ESP: Final = "tests/unit/test_core_esp.py"
HEALTH: Final = "tests/unit/test_health.py"
FAILOVER: Final = "tests/unit/test_failover.py"
FAILOVER_WAYS: Final = "tests/unit/test_failover_ways.py"
RULESET: Final = "tests/unit/test_ruleset.py"
EGRESS: Final = "tests/unit/test_egress.py"
FIREWALL: Final = "tests/unit/test_firewall.py"
FILTERS: Final = "tests/unit/test_filters.py"
CONFIG_FILTERS: Final = "tests/unit/test_config_filters.py"
CONVERGENCE: Final = "tests/unit/test_convergence.py"
OVER_TIME: Final = "tests/unit/test_over_time.py"
STATIC_FILES: Final = "tests/unit/test_static_files.py"
SOCKETS: Final = "tests/unit/test_sockets.py"
BUS: Final = "tests/unit/test_bus.py"
SEALED: Final = "tests/unit/test_sealed.py"
TURNS: Final = "tests/unit/test_turns.py"
CONTROL: Final = "tests/unit/test_control.py"
FIGHTS: Final = "tests/unit/test_fights.py"
NFTLIB: Final = "tests/unit/test_nftlib.py"
SLEEP: Final = "tests/unit/test_sleep.py"
UPLINKS: Final = "tests/unit/test_uplinks.py"
QUEUES: Final = "tests/unit/test_queues.py"
SIGNIN: Final = "tests/unit/test_signin.py"
IKESAS: Final = "tests/unit/test_ikesas.py"
XFRM: Final = "tests/unit/test_xfrm.py"
IKETOKENS: Final = "tests/unit/test_iketokens.py"
STRONGSWAN: Final = "tests/unit/test_strongswan.py"
USERS: Final = "tests/unit/test_users.py"
BROWSER: Final = "tests/unit/test_browser.py"
PAGE: Final = "tests/unit/test_page.py"
CTL_BROWSER: Final = "tests/unit/test_ctl_browser.py"
REST: Final = "tests/unit/test_rest.py"
RTNL: Final = "tests/unit/test_rtnl.py"
CONFIG_USERS: Final = "tests/unit/test_config_users.py"
KERNEL: Final = "tests/netns/test_kernel_agrees.py"
JUDGE: Final = "tests/netns/test_judge.py"
LAB: Final = frozenset({KERNEL, JUDGE})
"""What runs in the lab alone."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One weakening. ``asked`` are the test files that should notice, the likeliest first."""

    name: str
    file: str
    old: str
    new: str
    danger: str
    asked: tuple[str, ...]

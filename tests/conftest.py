# SPDX-License-Identifier: GPL-3.0-or-later
"""Three workers (``make test``): the lab, the containers, and what only computes and steps aside for them.

The lab's tests run one after the other, as they are written: many worlds at once would wait for each other. Beside
them a second processor has little to do, which the containers use, whose time is that of whole Debians that start and
stop, and at a low priority the unit tests. Whoever is through with those has the rest of the lab's.
"""

import os

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

_COMPUTE = ("tests/unit/", "tests/fuzz/")
_LATER = tuple(f"tests/unit/test_{name}" for name in ("no_leak", "over_time", "convergence", "coverage"))
_MACHINES = (
    *("tests/container/", "tests/bus/", "tests/neighbours/"),
    *(f"tests/netns/test_{name}" for name in ("ike", "soak_ike")),
)
_SPARE = (
    *(
        f"tests/netns/test_{name}"
        for name in (
            "access",
            "browser",
            "companions",
            "failover",
            "mtu",
            "names",
            "network",
            "on_demand",
            "soak_slice",
        )
    ),
    "tests/vm/",
)
_ASIDE = 15

# A machine that is busy is no fault of the test.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


class _Scopes(LoadScopeScheduling):  # type: ignore[misc]  # a library without types
    """Everything that computes goes to one worker, containers, buses and charons to another, which has the time,
    everything else to a third. What computes longest, virtual machines and some of the lab's are for whoever is through
    first, file by file: nobody waits at the end.
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith((*_LATER, *_SPARE)):
            return nodeid.partition("::")[0]
        if nodeid.startswith(_COMPUTE):
            return "compute"
        return "machines" if nodeid.startswith(_MACHINES) else "lab"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Say how tests are dealt out."""
    return _Scopes(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Step aside with what only computes, and back, which root may do: the lab's tests are root's."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    own = _ASIDE if item.nodeid.startswith(_COMPUTE) else 0
    if os.getpriority(os.PRIO_PROCESS, 0) != own and (own or os.geteuid() == 0):
        os.setpriority(os.PRIO_PROCESS, 0, own)

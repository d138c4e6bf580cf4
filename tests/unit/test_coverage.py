# SPDX-License-Identifier: GPL-3.0-or-later
"""The pure core has no line and no branch that the quick unit tests do not take."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.imports import ROOT

COVERAGE = Path(sys.executable).with_name("coverage")
MUST_BE_FULL = "aovpnd/core/*,aovpnd/ruleset.py,aovpnd/trace.py"
LEFT_OUT = (
    *("no_leak", "convergence", "over_time"),
    *("config_*", "ctl_c*", "ctl_status", "bus", "import*", "linters", "house", "documents", "mutants", "lab_sources"),
    *("dns_resolved", "durations", "filewatch", "lookup", "name_service", "pathmtu", "probe", "product", "publish"),
    *(
        "resolvconf",
        "resolvers",
        "routeget",
        "rtnl",
        "state",
        "wgtool",
        "audit_record",
        "bench_*",
        "charon*",
        "clockfile",
    ),
    *("ctl_explain", "deb", "doctor*", "guard_life", "install", "known_attacks", "man", "nftlib", "no_shell", "queues"),
    *("regular", "rollback", "strongswan", "userspace", "vici"),
)
"""The first three go through whole worlds, which takes ten minutes under a tracer: every branch is to be taken by a row
that says what it is for. The rest has nothing to do with decisions.
"""


@pytest.mark.slow
@pytest.mark.skipif("AOVPND_COVERAGE" not in os.environ, reason="takes six minutes under a tracer: make coverage")
def test_core_is_covered_in_full(tmp_path: Path) -> None:
    """Branch coverage of what decides is complete: a decision that no test takes is one that nobody has checked."""
    environment = {**os.environ, "COVERAGE_FILE": str(tmp_path / "coverage")}
    environment.pop("PYTEST_ADDOPTS", None)  # the outer run's cache is not the inner one's
    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", "tests/unit"]
    tests += [f"--ignore-glob=tests/unit/test_{name}.py" for name in LEFT_OUT]
    ran = subprocess.run(
        [COVERAGE, "run", *tests], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )

    # Tests that fail (1) fail by themselves; here it counts that they ran.
    assert ran.returncode in {0, 1}, ran.stdout[-4000:]

    report = subprocess.run(
        [COVERAGE, "report", f"--include={MUST_BE_FULL}", "--fail-under=100"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert report.returncode == 0, report.stdout

# SPDX-License-Identifier: GPL-3.0-or-later
"""Weakenings of who is asked for names, and of how resolv.conf(5) is taken and given back."""

from typing import Final

from tests.mutants.mutant import PLAN, Mutant

_DNS: Final = "aovpnd/core/dns.py"
_PLAN: Final = "aovpnd/core/plan.py"
_RESOLV_CONF: Final = "aovpnd/resolvconf.py"
_FILE: Final = "aovpnd/adapters/dns_file.py"
_RESOLVED: Final = "aovpnd/adapters/dns_resolved.py"
_NAMES: Final = "aovpnd/adapters/dns.py"
_RESOLVERS: Final = "aovpnd/adapters/resolvers.py"

CORE_DNS: Final = "tests/unit/test_core_dns.py"
RESOLV_CONF: Final = "tests/unit/test_resolvconf.py"
RESOLVED: Final = "tests/unit/test_dns_resolved.py"
NAME_SERVICE: Final = "tests/unit/test_name_service.py"
RESOLVERS: Final = "tests/unit/test_resolvers.py"

NAMING: Final = (
    Mutant(
        "names-through-a-window",
        _DNS,
        " or now.grant is not None or now.sealed:",
        " or now.sealed:",
        "in a window the tunnel's servers are asked, who know no portal",
        (CORE_DNS,),
    ),
    Mutant(
        "names-before-the-link-is-up",
        _DNS,
        "state is None or not state.link.up or",
        "state is None or",
        "programs ask servers that nobody can reach yet",
        (CORE_DNS,),
    ),
    Mutant(
        "servers-outside-the-tunnel",
        _DNS,
        "if s.is_loopback or spec.carries(s)))[:MOST]",
        "))[:MOST]",
        "names are asked of a server that the tunnel does not carry",
        (CORE_DNS,),
    ),
    Mutant(
        "split-takes-all-names",
        _DNS,
        "Scope.DOMAINS if (search or routes) and not everything else Scope.ALL",
        "Scope.ALL",
        "a company learns every name that its people look up at home",
        (CORE_DNS,),
    ),
    Mutant(
        "what-is-astray-stays",
        _PLAN,
        "if desired.dns != snapshot.dns.dns or snapshot.dns.astray:",
        "if desired.dns != snapshot.dns.dns:",
        "what an earlier daemon left is never given back",
        (CORE_DNS, PLAN),
    ),
    Mutant(
        "ours-taken-for-the-leases",
        _RESOLVERS,
        "if address not in own)",
        ")",
        "a window opens port 53 to the tunnel's server, in clear",
        (RESOLVERS,),
    ),
    Mutant(
        "ours-kept-as-the-users",
        _RESOLV_CONF,
        "        if not self.is_ours():\n            self._keep(self.found())\n",
        "        self._keep(self.found())\n",
        "our own file is kept in the place of the user's",
        (RESOLV_CONF,),
    ),
    Mutant(
        "written-before-it-is-kept",
        _RESOLV_CONF,
        "        if not self.is_ours():\n            self._keep(self.found())\n        if self.found() != ours:\n"
        "            self._write(ours)\n",
        "        found = self.found()\n        if not self.is_ours():\n            self._write(ours)\n"
        "            self._keep(found)\n        if self.found() != ours:\n            self._write(ours)\n",
        "a crash between the two loses the user's file",
        (RESOLV_CONF,),
    ),
    Mutant(
        "newer-file-overwritten",
        _RESOLV_CONF,
        "        if own:\n            self._write(self.kept()",
        "        if own or self.kept():\n            self._write(self.kept()",
        "the resolvers of a network that was left hours ago come back",
        (RESOLV_CONF,),
    ),
    Mutant(
        "empty-file-is-nobodys",
        _RESOLV_CONF,
        "found.is_marked or (found.kind is Kind.FILE and not found.text and self.kept() not in (None, found))",
        "found.is_marked",
        "killed while writing in place: the empty file is taken for the user's",
        (RESOLV_CONF,),
    ),
    Mutant(
        "fight-for-ever",
        _FILE,
        "                self._judge_fight()\n",
        "",
        "two programs overwrite each other's file without a pause",
        (RESOLV_CONF,),
    ),
    Mutant(
        "caches-kept",
        _RESOLVED,
        '        _resolvectl(until, "flush-caches")\n',
        "",
        "what a portal answered is believed in the tunnel",
        (RESOLVED,),
    ),
    Mutant(
        "resolved-is-believed",
        _RESOLVED,
        "        if self._look.astray or self._look.dns != dns:\n",
        "        if False:\n",
        "told is taken for done",
        (RESOLVED,),
    ),
    Mutant(
        "another-links-status",
        _RESOLVED,
        'if not lines or lines[0] != f"Link {link.index} ({link.name})":',
        "if not lines:",
        "what resolved holds for wlan0 is taken for the tunnel's",
        (RESOLVED,),
    ),
    Mutant(
        "one-failure-keeps-all",
        _NAMES,
        "            except SystemFault as fault:  # one that is broken is no reason to leave the others as they are\n"
        "                faults.append(fault)\n",
        "            except SystemFault:\n                raise\n",
        "resolved hangs, and the file is not given back either",
        (NAME_SERVICE,),
    ),
)

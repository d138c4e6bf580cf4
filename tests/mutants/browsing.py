# SPDX-License-Identifier: GPL-3.0-or-later
"""Weakenings of sign-ins with a browser: a question that goes elsewhere, or is asked when nobody should be, and a page
that nobody should be sent to.
"""

from typing import Final

from tests.mutants.mutant import BROWSER, CTL_BROWSER, PAGE, Mutant

_CORE: Final = "aovpnd/core/browser.py"
_PAGE: Final = "aovpnd/adapters/page.py"
_CTL: Final = "aovpnd/ctl/browsing.py"

BROWSING: Final = (
    Mutant(
        "asks-outside-the-tunnel",
        "aovpnd/adapters/bound.py",
        '    new.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link_name.encode() + b"\\0")\n',
        "",
        "probes and questions go by whichever link routing says, and whoever is there answers them",
        (PAGE,),
    ),
    Mutant(
        "asks-whoever-took-the-name",
        "aovpnd/adapters/bound.py",
        "    if socket.if_nametoindex(link_name) != link:",
        "    if socket.if_nametoindex(link_name) != link and False:",
        "a link that has taken the tunnel's name is asked, in clear",
        (PAGE,),
    ),
    Mutant(
        "asks-at-rest",
        _CORE,
        "if now.phase is not Phase.CONNECTED or now.spec",
        "if now.phase not in {Phase.CONNECTED, Phase.RESTING} or now.spec",
        "what is on demand never rests, and tells its gateway all day where the laptop is",
        (BROWSER,),
    ),
    Mutant(
        "asks-when-idle",
        _CORE,
        "    return is_used(state, visit.tx_bytes, now.boot - visit.at)",
        "    return True",
        "an idle laptop asks for a page for ever",
        (BROWSER,),
    ),
    Mutant(
        "asks-past-filters",
        _CORE,
        "    if may_ask(spec, filters, page.endpoint):\n",
        "    if spec is not None:\n",
        "a question of ours goes where the filters let nothing out",
        (BROWSER,),
    ),
    Mutant(
        "waiting-is-a-dead-end",
        "aovpnd/core/decide.py",
        "    if browser.explains(config, intent, now, snapshot.now):\n        return ()\n",
        "",
        "a tunnel that waits for its user is left for another one before he has found his browser",
        (BROWSER,),
    ),
    Mutant(
        "silence-is-signed-in",
        _CORE,
        "        visit = replace(visit, wanted=None, times=0)",
        "        visit = replace(visit, wanted=None, times=1)",
        "somebody is told that he is in, because nobody answers",
        (BROWSER,),
    ),
    Mutant(
        "opens-anything",
        _PAGE,
        "    fit = parts.scheme in set(Scheme) and bool(parts.hostname)",
        "    fit = bool(parts.scheme)",
        "a gateway has files and programs opened on the desktop",
        (PAGE,),
    ),
    Mutant(
        "opens-as-root",
        _CTL,
        "if os.geteuid() == 0 or not any(",
        "if not any(",
        "a browser of root's shows what a stranger wrote",
        (CTL_BROWSER,),
    ),
    Mutant(
        "foreign-certificates-count",
        _PAGE,
        "        context = ssl.create_default_context()\n",
        "        context = ssl._create_unverified_context()\n",
        "whoever stands behind the gateway sends people to a page of his",
        (PAGE,),
    ),
    Mutant(
        "a-drip-never-ends",
        _PAGE,
        "    left = until - time.monotonic()\n",
        "    left = min(until, DEADLINE_S)\n",
        "a byte now and then holds a thread for hours, and four of them all questions",
        (PAGE,),
    ),
)

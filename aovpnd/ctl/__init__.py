# SPDX-License-Identifier: GPL-3.0-or-later
"""aovpnctl: what people and programs ask of the daemon, and what they are shown.

`arguments` reads the command line, `__main__` picks the command, `terminal` writes for a person. `reading` reads what
the daemon publishes, `view` has words for it; `status`, `watch`, `tunnels` and `wait` show it without waking anybody.
`asking` puts a command to the daemon over the control socket; `orders` has those commands. `check` and `offline` work
without a daemon.

A status bar may run `aovpnctl status` every second, so what that imports is counted in milliseconds: no re, json,
typing, dataclasses or pathlib there (tests/unit/test_ctl_cost.py holds the list).
"""

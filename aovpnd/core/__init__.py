# SPDX-License-Identifier: GPL-3.0-or-later
"""The pure core: what should be, given what is.

    decide(config, intent, snapshot) -> Desired        what should be, whole
    diff(desired, snapshot)          -> actions        what to do about it, in order
    settle / update                  -> Intent         the little that must be remembered

Rule 1: nothing in here does anything. No I/O, no clock, no logging, no third-party import; the same arguments give the
same answer, for ever. A clock is a field of `Snapshot`.

Rule 2: it does not matter how we arrived. A lost message, a foreign flush, a crash and a restart are only different
snapshots. There is no state but `Intent`, and the phase is derived anew each time.

Rule 3: only `permits.py` says what may leave, and only `firewall.py` turns that into rules. docs/security.md is their
specification; a second reading of it (tests/unit/spec.py) is held against them in every combination of a small model.

Start reading at `decide.py`.
"""

# SPDX-License-Identifier: GPL-3.0-or-later
"""A replayed week of a booted laptop: networks, sleep, captive portals, reboots and an upgrade (``make week``)."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""The soak: hundreds of transitions, kills and flushes under a flood of packets (``make soak``)."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""``make demo``: a laptop's day, protected by aovpnd and, at the same time in a second world, not."""

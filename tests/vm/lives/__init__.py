# SPDX-License-Identifier: GPL-3.0-or-later
"""Lives of booted laptops, many times (``make test-vm``): boots, broken boots, ends, upgrades, sleep, power cuts."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""The leak suite inside booted Debians, whose kernels do WireGuard and ESP themselves: ``make test-vm-kernel``."""

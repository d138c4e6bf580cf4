# SPDX-License-Identifier: GPL-3.0-or-later
"""Booted Debian machines under QEMU: what namespaces cannot show (boot order, udev, hot-plug, kernel WireGuard)."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers that boot a whole Debian 12 or 13: the product as installed, among the real services."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests, and the lab that they share with the demo."""

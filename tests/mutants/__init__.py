# SPDX-License-Identifier: GPL-3.0-or-later
"""Weakenings of our own making: each must make a test fail, or the tests are no good."""

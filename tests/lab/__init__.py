# SPDX-License-Identifier: GPL-3.0-or-later
"""The world that the demo and the tests share: see README.md beside this file."""

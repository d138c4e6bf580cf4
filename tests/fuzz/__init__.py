# SPDX-License-Identifier: GPL-3.0-or-later
"""Every border of the program under damaged input: see README.md beside this file."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""Published attacks and leak classes, each as an attack on a laptop in the lab; see README.md."""

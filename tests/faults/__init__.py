# SPDX-License-Identifier: GPL-3.0-or-later
"""Every call to the outside that the daemon makes, failing in every way that it can; see README.md."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""One file per outside thing: each observes, ensures or watches; none decides."""

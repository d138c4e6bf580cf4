# SPDX-License-Identifier: GPL-3.0-or-later
"""What observe, ensure and remove mean for one kind of tunnel; one file each."""

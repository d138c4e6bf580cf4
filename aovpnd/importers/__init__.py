# SPDX-License-Identifier: GPL-3.0-or-later
"""Other systems' profiles into our own files, each with a report of what was kept, narrowed and refused.

Pure: text in, text and report out. Reading and writing files is `aovpnctl import`'s business; whether a file is a
tunnel at all, `aovpnd.config` says.
"""

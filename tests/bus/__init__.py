# SPDX-License-Identifier: GPL-3.0-or-later
"""The real ``aovpnd-bus`` on a private bus, between stand-ins for polkit, logind and NetworkManager and a daemon that
does nothing. Needs no root; as root the callers are users of their own.
"""

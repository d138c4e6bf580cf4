# SPDX-License-Identifier: GPL-3.0-or-later
"""aovpnd-guard: the tiny second process that holds static tables which nobody else can flush.

It knows no policy. It drops what carries no stamp, attaches that to every outside link, and changes for no other reason
than a change in the list of links. Its tables carry the flag ``owner``: other programs' ``nft flush ruleset`` passes
them by, and they go when this process goes; the daemon's own table then still stands.
"""

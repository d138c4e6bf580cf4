# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnd-bus``: the daemon's side of D-Bus, in a process of its own, without any privilege.

It serves ``org.aovpnd1`` and asks polkit who may do what; it tells the daemon of sleep (logind) and of the names of
networks (NetworkManager). The daemon needs none of it: killed, stuck or never started, this process changes no packet.

`access` and `translate` decide, and are pure; `calls` are the values; `dbus` alone knows pydbus and GLib.
"""

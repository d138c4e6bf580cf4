# SPDX-License-Identifier: GPL-3.0-or-later
"""``org.aovpnd1.Manager`` as programs see it: the introspection data, and nothing else.

Calls that want no answer (NO_REPLY_EXPECTED of the D-Bus specification) are not carried out: see `turns`. A connection
may have eight calls in hand, and an argument less than 8 kB; more is ``org.aovpnd1.Error.Busy``, or ``BadRequest``.
"""

from typing import Final

from aovpnd import names

INTERFACE: Final = f"{names.BUS_NAME}.Manager"

XML: Final = f"""
<node>
  <interface name="{INTERFACE}">
    <!-- Open the whole machine for a while. 0 seconds: as policy has it. Returns a sentence, and the end on
         CLOCK_BOOTTIME in microseconds. polkit: org.aovpnd1.allow-temp -->
    <method name="AllowTemporaryAccess">
      <arg name="seconds" type="u" direction="in"/>
      <arg name="reason" type="s" direction="in"/>
      <arg name="text" type="s" direction="out"/>
      <arg name="until_usec" type="t" direction="out"/>
    </method>
    <!-- End it now. polkit: org.aovpnd1.connect -->
    <method name="CancelTemporaryAccess">
      <arg name="text" type="s" direction="out"/>
    </method>
    <!-- Open a window to sign in to a captive portal. This version has no narrower window than the whole machine, so
         it is AllowTemporaryAccess under another reason. polkit: org.aovpnd1.portal, and org.aovpnd1.allow-temp -->
    <method name="OpenPortal">
      <arg name="seconds" type="u" direction="in"/>
      <arg name="text" type="s" direction="out"/>
      <arg name="until_usec" type="t" direction="out"/>
    </method>
    <!-- Connect, by the tunnel of that name; "" is the preferred one. polkit: org.aovpnd1.connect -->
    <method name="Connect">
      <arg name="tunnel" type="s" direction="in"/>
      <arg name="text" type="s" direction="out"/>
    </method>
    <!-- Would a packet to that destination leave, by which permit and rule? "" explains the state. Returns a sentence,
         the end of what it depends on (CLOCK_BOOTTIME, microseconds, or 0), and the explanation as JSON, with the keys
         of aovpnctl(8). polkit: org.aovpnd1.connect -->
    <method name="Explain">
      <arg name="destination" type="s" direction="in"/>
      <arg name="text" type="s" direction="out"/>
      <arg name="until_usec" type="t" direction="out"/>
      <arg name="json" type="s" direction="out"/>
    </method>
    <!-- Take the tunnel down; the block stays. polkit: org.aovpnd1.disconnect -->
    <method name="Disconnect">
      <arg name="text" type="s" direction="out"/>
    </method>
    <!-- Put the block on. polkit: org.aovpnd1.unblock -->
    <method name="Block">
      <arg name="text" type="s" direction="out"/>
    </method>
    <!-- Take the block off for good. polkit: org.aovpnd1.unblock -->
    <method name="Unblock">
      <arg name="text" type="s" direction="out"/>
    </method>
    <!-- Let the first block of this machine stay, on or yet to come, which would undo itself where somebody is logged
         in over the network. polkit: org.aovpnd1.unblock -->
    <method name="Confirm">
      <arg name="text" type="s" direction="out"/>
    </method>
    <!-- Read the configuration again, as after an import. polkit: org.aovpnd1.import -->
    <method name="Reload">
      <arg name="text" type="s" direction="out"/>
    </method>
    <!-- What tunnels ask people for and nobody has given yet, as JSON: a table with "questions", of which each has
         "tunnel", "place", "text", "gateway", and "wanted": the tunnel waits for it. polkit: org.aovpnd1.sign-in -->
    <method name="Questions">
      <arg name="text" type="s" direction="out"/>
      <arg name="json" type="s" direction="out"/>
    </method>
    <!-- Give a tunnel all that it asks for. The answers are a JSON table by their places, in a sealed memfd
         (F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE): never in the message. JSON comes back, a table with "tried":
         whether the gateway is asked now. polkit: org.aovpnd1.sign-in -->
    <method name="SignIn">
      <arg name="tunnel" type="s" direction="in"/>
      <arg name="answers" type="h" direction="in"/>
      <arg name="text" type="s" direction="out"/>
      <arg name="json" type="s" direction="out"/>
    </method>
    <!-- The status as JSON: the document of "aovpnctl status" as JSON. Everybody may read it. -->
    <method name="Status">
      <arg name="json" type="s" direction="out"/>
    </method>
    <signal name="StatusChanged">
      <arg name="phase" type="s"/>
      <arg name="protected" type="b"/>
    </signal>
    <!-- "" while no daemon runs -->
    <property name="Phase" type="s" access="read"/>
    <property name="Protected" type="b" access="read"/>
    <!-- The chosen tunnel, or "" -->
    <property name="Tunnel" type="s" access="read"/>
    <!-- The end of temporary access on CLOCK_BOOTTIME in microseconds, or 0 -->
    <property name="TemporaryAccessUntil" type="t" access="read"/>
  </interface>
</node>
"""

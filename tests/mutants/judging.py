# SPDX-License-Identifier: GPL-3.0-or-later
"""Who judges: weakenings of the recorder itself, which would make "0 in clear" say less; and of what is let in at the
borders (files and state).
"""

from typing import Final

from tests.mutants.mutant import JUDGE, Mutant

_DISSECTOR: Final = "tests/lab/frames.py"
_COUNTER: Final = "tests/lab/counting.py"
_FILES: Final = "tests/unit/test_config_files.py"
_STATE: Final = "tests/unit/test_state.py"
_PUBLISH: Final = "tests/unit/test_publish.py"

JUDGING: Final = (
    # -- the judge ----------------------------------------------------------------------------------------------------
    Mutant(
        "judge-looks-behind-tags",
        _COUNTER,
        '        ("@ll,96,16 { 0x8100, 0x88a8 }", Kind.CLEAR),\n',
        "",
        "what a VLAN carries is taken for the tunnel's own (D10)",
        (JUDGE,),
    ),
    Mutant(
        "counter-does-not-measure",
        _COUNTER,
        '        ("ip protocol udp meta length . ip length . udp length != @whole4", Kind.CLEAR),\n',
        "",
        "bytes behind the end of a datagram leave unseen (C5)",
        (JUDGE,),
    ),
    Mutant(
        "dissector-does-not-measure",
        _DISSECTOR,
        'case "17" if row["udp.length"] == str(room):',
        'case "17":',
        "bytes behind the end of a datagram leave unseen (C5)",
        (JUDGE,),
    ),
    Mutant(
        "frame-may-be-longer",
        _DISSECTOR,
        'return whole and int(row["frame.len"]) == 14 + int(row["ip.len"])',
        "return whole",
        "bytes behind the end of a packet leave unseen (C5)",
        (JUDGE,),
    ),
    Mutant(
        "judge-takes-fragments",
        _COUNTER,
        '"@nh,0,8 0x45 ip frag-off & 0xbfff == 0"',
        '"@nh,0,8 0x45"',
        "a fragment of anything is taken for what its first bytes say (C5)",
        (JUDGE,),
    ),
    Mutant(
        "any-port-is-the-endpoints",
        _DISSECTOR,
        "case _, port if (to, int(port)) in endpoints and _is_wireguard(row):",
        "case _, port if to in {address for address, _ in endpoints} and _is_wireguard(row):",
        "what programs send to the gateway's other ports counts as the tunnel (A6)",
        (JUDGE,),
    ),
    Mutant(
        "handshake-of-any-shape",
        _DISSECTOR,
        '    if row["wg.reserved"].strip("0:"):\n        return False\n',
        "",
        "what is no WireGuard is taken for a handshake (A6)",
        (JUDGE,),
    ),
    Mutant(
        "ike-to-anybody",
        _DISSECTOR,
        'case _, "500" if to in ike and _is_ike(',
        'case _, "500" if _is_ike(',
        "IKE to a stranger counts as the tunnel's (D11)",
        (JUDGE,),
    ),
    Mutant(
        "esp-of-any-size",
        _COUNTER,
        'in_udp = f"udp length >= {8 + ESP_LEAST} udp length & 3 == 0 ',
        'in_udp = f"udp length >= {8 + ESP_LEAST} ',
        "anything to port 4500 counts as ESP (D11)",
        (JUDGE,),
    ),
    Mutant(
        "any-name-may-be-asked",
        _DISSECTOR,
        "        and name in LOOKED_UP\n",
        "",
        "a program's question counts as ours (C3)",
        (JUDGE,),
    ),
    Mutant(
        "inner-address-is-nothing",
        "tests/lab/identity.py",
        "OURS: Final = frozenset({Trace.INSIDE})",
        "OURS: Final[frozenset[Trace]] = frozenset()",
        "the tunnel's address is told to the link, and nobody notices (B6)",
        (JUDGE,),
    ),
    # -- the borders --------------------------------------------------------------------------------------------------
    Mutant(
        "keys-for-everybody",
        "aovpnd/config/files.py",
        "& 0o077:",
        "& 0o000:",
        "a key that every user can read is used (H4)",
        (_FILES,),
    ),
    Mutant(
        "settings-of-everybody",
        "aovpnd/config/files.py",
        "& 0o022:",
        "& 0o000:",
        "whoever can write a file decides what leaves (H5)",
        (_FILES,),
    ),
    Mutant(
        "strangers-files",
        "aovpnd/config/files.py",
        "if status.st_uid not in {0, os.geteuid()}:",
        "if False:",
        "a file of another user is configuration (H5)",
        (_FILES,),
    ),
    Mutant(
        "bundled-from-anywhere",
        "aovpnd/importers/bundle.py",
        "opened = regular.opened(name, follow=False, directory=keys)",
        "opened = regular.opened(name, directory=keys)",
        "a profile with a link has a secret of this machine sent to its gateway",
        ("tests/unit/test_import_ike.py",),
    ),
    Mutant(
        "hostile-budget-is-a-new-one",
        "aovpnd/adapters/state.py",
        "used=(now.boot,) * 3 if used is None else used,",
        "used=used or (),",
        "a file that is damaged on purpose opens three windows more (E9, F3)",
        (_STATE,),
    ),
    Mutant(
        "planted-links-are-followed",
        "aovpnd/adapters/publish.py",
        "os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC",
        "os.O_RDWR | os.O_CREAT | os.O_CLOEXEC",
        "root writes where a planted link points (H5)",
        (_PUBLISH,),
    ),
)

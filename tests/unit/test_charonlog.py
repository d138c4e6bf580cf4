# SPDX-License-Identifier: GPL-3.0-or-later
"""Why there is no SA, from charon's literal lines (5.9.8 and 6.0; where they differ, both)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aovpnd.backends.charonlog import read

BEGIN = "initiating IKE_SA 5f0e@203.0.113.2@4500[3] to 203.0.113.2\n"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("tried 1 shared key for 'laptop' - 'vpn.lab', but MAC mismatched", "ike-key-differs"),
        ("tried 2 shared keys for 'laptop' - 'vpn.lab', but MAC mismatched", "ike-key-differs"),
        ("constraint check failed: identity 'other.lab' required ", "ike-identity-differs"),
        ("IDir 'vpn.lab' does not match to 'other.lab'", "ike-identity-differs"),
        (
            "subject certificate invalid (valid from Feb 01 00:00:00 2026 to Feb 02 00:00:00 2026)",
            "ike-server-expired",
        ),
        ("certificate was revoked on Nov 26 03:00:00 UTC 2026, reason: key compromise", "ike-server-revoked"),
        (
            "constraint check failed: RULE_CRL_VALIDATION is SKIPPED, but requires at least GOOD",
            "ike-server-unlisted",
        ),
        ("no private key found for 'C=DE, CN=laptop'", "ike-key-missing"),
        ("received EAP_FAILURE, EAP authentication failed", "ike-user-refused"),
        ("EAP-MS-CHAPv2 failed with error ERROR_AUTHENTICATION_FAILURE: 'Authentication failed'", "ike-user-refused"),
        ("EAP method EAP_TTLS failed for peer 203.0.113.2", "ike-user-refused"),
        ("XAuth authentication of 'alice' (myself) failed", "ike-user-refused"),
        ("received NO_PROPOSAL_CHOSEN notify error", "ike-no-proposal"),
        ("received NO_PROPOSAL_CHOSEN error notify", "ike-no-proposal"),  # IKEv1
        ("received TS_UNACCEPTABLE notify, no CHILD_SA built", "ike-networks-refused"),
        ("received INTERNAL_ADDRESS_FAILURE notify, no CHILD_SA built", "ike-no-address"),
        ("received FAILED_CP_REQUIRED notify, no CHILD_SA built", "ike-no-address"),
        ("received AUTHENTICATION_FAILED notify error", "ike-refused"),
    ],
)
def test_reasons(line: str, code: str) -> None:
    """Each line of charon's has its code, a text, and something to do."""
    said = read(f"{BEGIN}generating IKE_AUTH request 1 [ IDi AUTH SA TSi TSr ]\n{line}\n")
    assert said is not None
    assert said.code == code
    assert said.text
    assert said.hint


@pytest.mark.parametrize(
    "text",
    [
        "",
        BEGIN,
        f"{BEGIN}retransmit 3 of request with message ID 0\nsending packet: to 203.0.113.2[4500]\n",
        f"{BEGIN}CHILD_SA 5f0e{{1}} established with SPIs c1_i c2_o and TS 10.67.1.2/32 === 0.0.0.0/0\n",
        f"{BEGIN}handling INTERNAL_DNS_DOMAIN attribute failed\n",
    ],
)
def test_nothing_known(text: str) -> None:
    """What is no reason that we know, is none."""
    assert read(text) is None


def test_the_first_of_an_attempt_is_the_cause() -> None:
    """What charon finds itself stands before what the gateway then says."""
    lines = ["no trusted RSA public key found for 'vpn.lab'", "received AUTHENTICATION_FAILED notify error"]
    whole, reversed_ = read(BEGIN + "\n".join(lines)), read(BEGIN + "\n".join(reversed(lines)))

    assert whole is not None
    assert reversed_ is not None
    assert (whole.code, reversed_.code) != (reversed_.code, whole.code)
    assert reversed_.code == "ike-refused"


def test_the_last_attempt_counts() -> None:
    """The reason may have changed; an attempt that says nothing leaves the one before it standing."""
    first = f"{BEGIN}received NO_PROPOSAL_CHOSEN notify error\n"
    second = f"{BEGIN}received TS_UNACCEPTABLE notify, no CHILD_SA built\n"

    assert [said.code for text in (first, first + second, second + first) if (said := read(text)) is not None] == [
        *("ike-no-proposal", "ike-networks-refused", "ike-no-proposal")
    ]
    assert read(first + BEGIN) == read(first)


def test_names_are_made_harmless() -> None:
    """A gateway chooses its name: it does not write over a terminal, nor fill it."""
    said = read(f"{BEGIN}IDir '\x1b[2Jroot\x07{'x' * 5000}' does not match to 'vpn.lab'\n")

    assert said is not None
    assert said.text.isprintable()
    assert "\x1b" not in said.text
    assert len(said.text) < 300


@given(st.text(max_size=200))
def test_anything(text: str) -> None:
    """Whatever a name is, what is said stays one printable line."""
    said = read(f"{BEGIN}IDir '{text}' does not match to 'vpn.lab'\n{text}")
    assert said is None or (said.text.isprintable() and said.hint.isprintable())

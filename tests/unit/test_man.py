# SPDX-License-Identifier: GPL-3.0-or-later
"""The manual pages as man(7) has them."""

import re

import pytest

from tests.lab.product import CHECKOUT
from tools.man import page

SOURCE = """<!-- a licence -->
# some(8)

## NAME

some – **bold**, *italic*, `a-b`
.not a request \\| [link](x.md)

**--x** *Y*
: First
  second.

  Third.

* one
* two

| a | b |
|---|---|
| 1 | `2` |

    # as it is
"""
SHOWN = """.\\" SPDX-License-Identifier: GPL-3.0-or-later
.TH some 8 "" "aovpnd 1.0"
.SH NAME
.PP
\\&some \\- \\fBbold\\fR, \\fIitalic\\fR, \\fBa\\-b\\fR .not a request | link
.TP
\\&\\fB\\-\\-x\\fR \\fIY\\fR
\\&First second.
.IP
\\&Third.
.IP "\\(bu" 2
\\&one
.IP "\\(bu" 2
\\&two
.TP
\\&1
\\&\\fB2\\fR
.PP
.nf
\\&    # as it is
.fi
"""


def test_everything_that_it_knows() -> None:
    """Headings, paragraphs, definitions, lists, tables, text as it is; no line of text begins with a request."""
    assert page(SOURCE, "1.0") == SHOWN


def test_no_title() -> None:
    """What has no name and section is no manual page."""
    with pytest.raises(ValueError, match="no title"):
        page("# some\n", "1.0")


@pytest.mark.parametrize("name", ["aovpnctl.8", "aovpnd.8", "aovpnd.conf.5", "aovpnd-ike.5"])
def test_our_pages(name: str) -> None:
    """Every heading becomes one, and nothing of Markdown is left."""
    source = (CHECKOUT / "docs" / "man" / f"{name}.md").read_text(encoding="utf-8")
    shown = page(source, "1.0")

    assert shown.count("\n.SH ") == len(re.findall(r"(?m)^## ", source)) > 3
    assert re.findall(r"\*\*|(?m:^[|#].*)|`", shown) == []

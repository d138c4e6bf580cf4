# SPDX-License-Identifier: GPL-3.0-or-later
"""The queue that keeps what wakes a tunnel: what the kernel is asked, and what is made of its answers."""

import struct
from dataclasses import dataclass, field

import pytest

from aovpnd import rtnl
from aovpnd.backends import plug
from aovpnd.errors import NetlinkError

LINK = 9


@dataclass
class Kernel:
    """One link with one queue; ``knows``: whether there is such a thing as plug."""

    knows: bool = True
    kind: str = "noqueue"
    length: int = 0
    dropped: int = 0
    fails: bool = False
    said: list[str] = field(default_factory=list)

    def dump(self, request: int, header: bytes, _answer: int, _flags: int) -> list[bytes]:
        """As `rtnl.dump`: an answer of ENOENT, as for a kind that is not there, is none."""
        if self.fails:
            raise NetlinkError("no")
        _family, link, handle, parent, _info = struct.unpack_from("=BxxxiIII", header)
        assert (link, handle, parent) == (LINK, 0, 0xFFFFFFFF)
        asked = rtnl.attributes(header, 20)
        match request:
            case 38:
                stats = struct.pack("=5I", self.length, 100 * self.length, self.dropped, 0, 0)
                nested = rtnl.attribute(7, rtnl.attribute(3, stats))
                return [header[:20] + rtnl.attribute(1, self.kind.encode() + b"\0") + nested]
            case 36 if self.knows:
                action, limit = struct.unpack("=iI", asked[2])
                assert (asked[1], limit > 1 << 16) == (b"plug\0", True)
                self.kind = "plug"
                self.length = self.length if action == 0 else 0
                self.said.append({0: "hold", 2: "release"}[action])
            case 37:
                self.kind, self.length = "noqueue", 0
                self.said.append("drop")
            case _:
                pass
        return []


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """The kernel that rtnetlink talks to."""
    made = Kernel()
    monkeypatch.setattr(rtnl, "dump", made.dump)
    monkeypatch.setattr(rtnl, "transferred", lambda _link: rtnl.Transferred(tries=70))
    return made


def test_held_counted_and_released(kernel: Kernel) -> None:
    """What waits counts among what programs tried, and so does what found no room; then it goes, and the queue too."""
    assert (plug.waiting(LINK), plug.tries(LINK)) == (None, 70)
    plug.hold(LINK)
    assert (plug.waiting(LINK), plug.tries(LINK)) == (0, 70)
    kernel.length, kernel.dropped = 3, 2
    assert (plug.waiting(LINK), plug.tries(LINK)) == (5, 75)
    plug.release(LINK)
    assert (kernel.said, plug.waiting(LINK)) == (["hold", "release", "drop"], None)


def test_kernel_without_plug(kernel: Kernel) -> None:
    """Nothing is kept, and nothing fails; nor is anybody else's queue taken away."""
    kernel.knows, kernel.kind, kernel.length = False, "fq_codel", 4
    plug.hold(LINK)
    plug.drop(LINK)
    assert (plug.waiting(LINK), plug.tries(LINK), kernel.said) == (None, 70, [])
    kernel.fails = True
    plug.hold(LINK)
    assert plug.waiting(LINK) is None

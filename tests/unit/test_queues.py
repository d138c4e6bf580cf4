# SPDX-License-Identifier: GPL-3.0-or-later
"""Which queues the guard takes, and when it takes one again; with queues of paper."""

import errno
import os
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from aovpnd.guard.holder import Holder
from aovpnd.guard.queues import Queues, Taken
from aovpnd.links import ARPHRD_LOOPBACK, ARPHRD_NONE, Link

CARD, CABLE = Link(2, "wlan0"), Link(3, "eth0")


class Paper:
    """A kernel with so many queues per link; ``others`` have some of them already."""

    def __init__(self, queues: dict[int, int], others: set[tuple[int, int]] | None = None) -> None:
        self.queues = queues
        self.others = others or set()
        self.bound: dict[tuple[int, int], Pipe] = {}
        self.error = self.tried = 0

    def __call__(self, index: int, queue: int) -> Taken:
        """bind(2)."""
        self.tried += 1
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        if queue >= self.queues.get(index, 0):
            raise OSError(errno.EINVAL, "no such queue")
        there = self.bound.get((index, queue))
        if (index, queue) in self.others or (there is not None and there.bound):
            raise OSError(errno.EBUSY, "taken")
        self.bound[index, queue] = Pipe()
        return self.bound[index, queue]

    def held(self) -> set[tuple[int, int]]:
        """What is bound now."""
        return {key for key, pipe in self.bound.items() if pipe.bound}


class Pipe:
    """A socket: writable while it is bound and its link is up."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.bound = self.up = True

    def fileno(self) -> int:
        """Of the end that can be written to, or of the one that cannot."""
        return self.writer if self.bound and self.up else self.reader

    def close(self) -> None:
        """Give it back."""
        self.bound = False
        os.close(self.reader)
        os.close(self.writer)


def test_every_queue_of_every_outside_link() -> None:
    """All of them, no more, and no longer than the link is there."""
    kernel = Paper({2: 4, 3: 1})
    queues = Queues(kernel)
    queues.follow((CARD, CABLE))
    assert kernel.held() == {(2, 0), (2, 1), (2, 2), (2, 3), (3, 0)}

    queues.follow((CABLE,))
    assert kernel.held() == {(3, 0)}


def test_the_guard_takes_those_of_outside_links() -> None:
    """Not the loopback's, the tunnel's or those of a container's network, which are nobody's way out."""
    kernel = Paper(dict.fromkeys(range(1, 12), 1))
    nft: Any = SimpleNamespace(run=lambda _text: "")
    links = (
        Link(1, "lo", arphrd=ARPHRD_LOOPBACK),
        CARD,
        Link(5, "docker0", "bridge"),
        Link(7, "veth5", "veth", master=5),
        Link(9, "aovpn0", "tun", arphrd=ARPHRD_NONE),
    )
    assert Holder(lambda: nft, Queues(kernel), lambda: links).follow()

    assert kernel.held() == {(2, 0)}


def test_more_queues() -> None:
    """A card may get more of them later."""
    kernel = Paper({2: 1})
    queues = Queues(kernel)
    queues.follow((CARD,))
    kernel.queues[2] = 3
    queues.follow((replace(CARD, carrier=False),))

    assert kernel.held() == {(2, 0), (2, 1), (2, 2)}


def test_a_storm_about_other_links() -> None:
    """A link that looks as it did is not tried again."""
    kernel = Paper({2: 2, 3: 1})
    queues = Queues(kernel)
    queues.follow((CARD, CABLE))
    tried = kernel.tried
    queues.follow((CARD, CABLE, Link(4, "veth0")))

    assert kernel.tried == tried + 1


def test_more_queues_than_files(caplog: pytest.LogCaptureFixture) -> None:
    """The guard needs descriptors for more important work; what it leaves is said once."""
    kernel = Paper({2: 9})
    queues = Queues(kernel, room=3)
    queues.follow((CARD,))
    queues.follow((CARD, CABLE))

    assert len(kernel.held()) == 3
    assert len(caplog.records) == 1


def test_a_link_that_went_away_and_came_back() -> None:
    """With the same index, and too fast to be missed: the old socket is dead, so its queue is taken again."""
    kernel = Paper({2: 1})
    queues = Queues(kernel)
    queues.follow((CARD,))
    kernel.bound[2, 0].bound = False
    queues.follow((CARD,))

    assert kernel.held() == {(2, 0)}


def test_a_link_that_is_down(caplog: pytest.LogCaptureFixture) -> None:
    """Its sockets cannot be told from dead ones; trying again does no harm, and is nobody else's doing."""
    kernel = Paper({2: 2})
    queues = Queues(kernel)
    queues.follow((CARD,))
    before = dict(kernel.bound)
    for pipe in before.values():
        pipe.up = False
    queues.follow((CARD,))

    assert kernel.bound == before
    assert not caplog.records


def test_somebody_was_quicker(caplog: pytest.LogCaptureFixture) -> None:
    """It is said once, the other queues are taken, and so is this one when it is free."""
    kernel = Paper({2: 3}, others={(2, 1)})
    queues = Queues(kernel)
    queues.follow((CARD,))
    queues.follow((CARD,))
    assert kernel.held() == {(2, 0), (2, 2)}
    assert [record.message for record in caplog.records] == [
        "another program has taken queue 1 of wlan0: by AF_XDP it sends past the block"
    ]

    kernel.others.clear()
    queues.follow((CARD,))
    assert kernel.held() == {(2, 0), (2, 1), (2, 2)}


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EPERM])
def test_a_kernel_without_it(number: int, caplog: pytest.LogCaptureFixture) -> None:
    """Then nothing is taken, it is said once, and nothing else suffers."""
    kernel = Paper({2: 1})
    kernel.error = number
    queues = Queues(kernel)
    queues.follow((CARD,))
    queues.follow((CARD,))

    assert kernel.held() == set()
    assert len(caplog.records) == 1


def test_a_link_that_has_just_gone() -> None:
    """ENODEV is no reason for anything: the list of links will say so, or that it came back."""
    kernel = Paper({2: 1})
    kernel.error = errno.ENODEV
    queues = Queues(kernel)
    queues.follow((CARD,))
    kernel.error = 0
    queues.follow(())
    queues.follow((CARD,))

    assert kernel.held() == {(2, 0)}

# SPDX-License-Identifier: GPL-3.0-or-later
"""The recorder on the far side of the laptop's links: every frame it sends, counted twice.

One count is an nft counter per class on the ingress hook of each link's far end: exact at any rate. The other is a
capture by a packet socket, dissected by tshark (`frames.py`). `Recording.check` demands that the kernel dropped nothing
and that the two agree, class by class.

In a flood, dissecting every frame is too slow. With ``prefilter`` the capture leaves out, by a BPF filter in the
kernel, what is precisely on the allow-list *and* frequent (WireGuard data and ESP in UDP to the gateway, ARP);
everything else is captured whole, so a single frame in clear among a million is in the file, and the nft counters are
exact for all classes.
"""

import json
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.lab.counters import Counters
from tests.lab.counting import NOT_CAPTURED, Rules, bpf, nft_rules, nft_sets
from tests.lab.frames import ENDPOINTS, Address, Endpoint, Frame, Kind, dissect
from tests.lab.host import Host
from tests.lab.identity import OURS, Trace
from tests.lab.process import LabError, run, stop
from tests.lab.rootdir import CACHE
from tests.lab.sender_kinds import BY_NUMBER

KEPT: Final = CACHE / "kept"
"""Where captures are kept that show something."""
_TAGGED: Final = ("48 0 0 4294963248", "21 1 0 0", "6 0 0 262144")
"""Three instructions that take whatever bore a VLAN tag: the kernel has taken the tag out of the frame before a filter
sees it (SKF_AD_VLAN_TAG_PRESENT of linux/filter.h).
"""
Counts = dict[str, Counter[Kind]]
"""Link -> class -> frames."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What a recorder has seen."""

    frames: tuple[Frame, ...]
    least: Counts
    most: Counts
    """What nft counted while the capture surely, and possibly, ran: equal when nothing was on the way at start and end.
    """
    dropped: int
    """Frames that the kernel could not hand to the capture: with one of them the recording is void."""
    not_captured: frozenset[Kind]

    def check(self) -> None:
        """Raise LabError unless the capture is complete and agrees with the nft counters."""
        if self.dropped:
            raise LabError(f"the kernel dropped {self.dropped} frames of the capture: the recording is void")
        wrong: list[str] = []
        for link, most in self.most.items():
            seen = Counter(frame.kind for frame in self.frames if frame.link == link)
            for kind in Kind:
                if kind not in self.not_captured and not self.least[link][kind] <= seen[kind] <= most[kind]:
                    counted = f"{self.least[link][kind]} to {most[kind]}"
                    wrong.append(f"{link}: the capture has {seen[kind]} frames of class {kind}, nft counted {counted}")
        if wrong:
            # A frame that one of the two has for something else is most often one that the capture has for clear.
            raise LabError(f"{'; '.join(wrong)}; clear in the capture: {self.describe(most=5)}")

    def between(self, start: float = 0.0, end: float = float("inf")) -> tuple[Frame, ...]:
        """The frames that arrived in a span of Unix time, the end excluded."""
        return tuple(frame for frame in self.frames if start <= frame.time < end)

    def clear(self, start: float = 0.0, end: float = float("inf")) -> tuple[Frame, ...]:
        """The frames that are not on the allow-list, or carry the run's token or an inner address, whatever they look
        like.
        """
        return tuple(
            frame
            for frame in self.between(start, end)
            if frame.kind is Kind.CLEAR or frame.has_token or not frame.tells.isdisjoint(OURS)
        )

    def identity(self, start: float = 0.0, end: float = float("inf")) -> Counter[Trace]:
        """What permitted frames tell about the machine: how many of them tell what."""
        permitted = (frame for frame in self.between(start, end) if frame.kind is not Kind.CLEAR)
        return Counter(trace for frame in permitted for trace in frame.tells)

    def counts(self, start: float = 0.0, end: float = float("inf")) -> Counter[Kind]:
        """Captured frames by class."""
        return Counter(frame.kind for frame in self.between(start, end))

    def by_sender(self, start: float = 0.0, end: float = float("inf")) -> Counter[int]:
        """Senders' frames that were seen, by the sender's number."""
        return Counter(frame.sender for frame in self.between(start, end) if frame.sender is not None)

    def describe(self, frames: tuple[Frame, ...] | None = None, *, most: int = 12) -> str:
        """What a few frames are and who sent them, the frequent first: for messages of failed tests."""
        counted = Counter(_whose(frame) for frame in (self.clear() if frames is None else frames))
        return "; ".join(f"{number} × {what}" for what, number in counted.most_common(most)) or "none"


@dataclass(slots=True)
class Recorder:
    """A running recorder; `stop` ends it, `recording` reads what it saw."""

    host: Host
    links: tuple[str, ...]
    path: Path
    table: str
    endpoints: tuple[Endpoint, ...]
    ike: tuple[Address, ...]
    prefilter: bool
    _counters: Counters
    _capture: subprocess.Popen[bytes]
    _before_capture: Counts
    _least: Counts = field(default_factory=dict)
    _most: Counts = field(default_factory=dict)
    _dropped: int = 0

    @classmethod
    def start(
        cls,
        host: Host,
        links: tuple[str, ...],
        *,
        prefilter: bool = False,
        endpoints: tuple[Endpoint, ...] = ENDPOINTS,
        ike: tuple[Address, ...] = (),
    ) -> Self:
        """Record on these links of ``host``, the far side; returns when nothing escapes any more.

        ``endpoints`` are where WireGuard may go, ``ike`` where IKE and ESP may.
        """
        number = sum(1 for _ in host.dir.glob("record*.pcapng")) + 1
        path = host.dir / f"record{number}.pcapng"
        table = f"record{number}"
        host.nft(_table(table, links, nft_sets(ike), nft_rules(endpoints, ike)))
        filtered = "-"
        if prefilter:
            filtered = str(path.with_suffix(".bpf"))
            count, *compiled = run(("tcpdump", "-ddd", "-y", "EN10MB", bpf(endpoints, ike))).stdout.splitlines()
            program = (str(int(count) + len(_TAGGED)), *_TAGGED, *compiled)
            Path(filtered).write_text("".join(f"{line}\n" for line in program), encoding="ascii")
        command = (sys.executable, "-m", "tests.lab.capture", str(path), filtered, *links)
        capture = host.spawn(*command, log=table, stdout=subprocess.PIPE)
        if capture.stdout is None or capture.stdout.readline() != b"ready\n":
            raise LabError(f"the capture did not start: {(host.dir / f'{table}.log').read_text()[-400:]}")
        recorder = cls(host, links, path, table, endpoints, ike, prefilter, Counters.open(host, table), capture, {})
        recorder._before_capture = recorder.counters()
        return recorder

    def counters(self) -> Counts:
        """The exact nft counters since the start, by link and class."""
        counts: Counts = {link: Counter() for link in self.links}
        for name, packets in self._counters.packets().items():
            link, _, kind = name.rpartition("_")
            counts[link][Kind(kind)] += packets
        return counts

    def count(self, *kinds: Kind) -> int:
        """The exact number of frames of some classes since the start, on all links."""
        return sum(link[kind] for link in self.counters().values() for kind in kinds)

    def stop(self) -> None:
        """End the capture when all that had arrived is written; may be called twice."""
        if self._capture.poll() is not None:
            return
        before = self.counters()
        stop(self._capture, grace_s=20)
        self._most = self.counters()
        self._least = {link: before[link] - self._before_capture[link] for link in self.links}
        self._counters.close()
        self.host.run("nft", "delete", "table", "netdev", self.table)
        output = self._capture.stdout.read() if self._capture.stdout else b""
        if not output:
            raise LabError(f"the capture broke: {(self.host.dir / f'{self.table}.log').read_text()[-400:]}")
        self._dropped = sum(link["drops"] for link in json.loads(output).values())

    def keep(self, name: str) -> Path:
        """Copy the capture to where the end of the world does not take it away, and return its path there."""
        KEPT.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copyfile(self.path, KEPT / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}.pcapng"))

    def recording(self, token: bytes) -> Recording:
        """Stop, dissect and check; ``token`` is what the run's senders put into every payload."""
        self.stop()
        frames = dissect(self.path, token=token, endpoints=self.endpoints, ike=self.ike)
        missing = NOT_CAPTURED if self.prefilter else frozenset[Kind]()
        recording = Recording(frames, self._least, self._most, self._dropped, missing)
        recording.check()
        return recording

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _table(name: str, links: tuple[str, ...], sets: str, rules: Rules) -> str:
    """The counting table: it accepts everything, and counts each frame once."""
    lines = [f"table netdev {name} {{", sets]
    lines += [f"  counter {link}_{kind} {{ }}" for link in links for kind in Kind]
    for link in links:
        lines.append(f"  chain {link} {{")
        lines.append(f'    type filter hook ingress device "{link}" priority -500; policy accept;')
        lines += [f"    {match} counter name {link}_{kind} accept" for match, kind in rules]
        lines += [f"    counter name {link}_{Kind.CLEAR}", "  }"]
    return "\n".join([*lines, "}", ""])


def _whose(frame: Frame) -> str:
    """A frame, and by which socket it was sent: a kind of tests.lab.sender_kinds, or what else it can be."""
    kind = BY_NUMBER.get(frame.sender) if frame.sender is not None else None
    if kind is not None:
        return f"{frame.what} ({frame.link}), sent by {kind.name}{' with CAP_NET_RAW' if kind.needs_net_raw else ''}"
    by = "a program of the test" if frame.has_token else "the kernel, or who bears no token"
    return f"{frame.what} ({frame.link}), sent by {by}"


def now() -> float:
    """The clock of the capture: Unix time."""
    return time.time()

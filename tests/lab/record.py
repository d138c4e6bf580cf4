# SPDX-License-Identifier: GPL-3.0-or-later
"""The recorder on the far side of the laptop's links: every frame it sends, counted twice.

One count is an nft counter per class on the ingress hook of each link's far end: exact at any rate. The other is a
capture by a packet socket, dissected by tshark (`frames.py`). `Recording.check` demands that the kernel dropped nothing
and that the two agree, class by class.

In a flood, dissecting every frame is too slow. With ``prefilter`` the capture leaves out, by a BPF filter in the
kernel, what is precisely on the allow-list *and* frequent (WireGuard data to the gateway, ARP); everything else is
captured whole, so a single frame in clear among a million is in the file, and the nft counters are exact for all
classes.
"""

import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.lab.frames import ENDPOINTS, LOOKED_UP, RESOLVERS, SITES, Endpoint, Frame, Kind, dissect
from tests.lab.host import Host
from tests.lab.process import LabError, run, stop

Counts = dict[str, Counter[Kind]]
"""Link -> class -> frames."""
_NOT_CAPTURED: Final = frozenset({Kind.ARP, Kind.TUNNEL})
"""What ``prefilter`` leaves out of the capture."""


def nft_rules(endpoints: tuple[Endpoint, ...]) -> tuple[tuple[str, Kind], ...]:
    """The allow-list as nft matches, first match wins; the dissector's rules in `frames.classify` say the same."""
    plain4 = "ip hdrlength 5 ip frag-off & 0x3fff == 0"
    near = ", ".join(("fe80::/10", *(str(site.router6) for site in SITES)))
    ndp = "ip6 nexthdr icmpv6 ip6 hoplimit 255 icmpv6 code 0 icmpv6 type"
    rules = [
        ("ether type arp", Kind.ARP),
        ("ether type 0x888e", Kind.EAPOL),
        (f"{plain4} ip daddr 255.255.255.255 udp sport 68 udp dport 67", Kind.DHCP4),
        ("ip6 nexthdr udp ip6 saddr fe80::/10 ip6 daddr ff02::1:2 udp sport 546 udp dport 547", Kind.DHCP6),
        (f"{ndp} 133 ip6 daddr ff02::2", Kind.NDP),
        (f"{ndp} 135 ip6 daddr {{ ff02::1:ff00:0/104, {near} }}", Kind.NDP),
        (f"{ndp} 136 ip6 daddr {{ ff02::1, {near} }}", Kind.NDP),
    ]
    shapes = (
        ("@th,64,32 0x01000000 udp length 156", Kind.HANDSHAKE),
        ("@th,64,32 0x02000000 udp length 100", Kind.HANDSHAKE),
        ("@th,64,32 0x03000000 udp length 72", Kind.HANDSHAKE),
        ("@th,64,32 0x04000000 udp length >= 40", Kind.TUNNEL),
    )
    rules += _look_up_rules(plain4)
    # One rule for all endpoints of a family: a flood passes every one of these.
    for version, head in ((4, f"{plain4} ip daddr"), (6, "ip6 nexthdr udp ip6 daddr")):
        pairs = ", ".join(f"{address} . {port}" for address, port in endpoints if address.version == version)
        if pairs:
            rules += [(f"{head} . udp dport {{ {pairs} }} {shape}", kind) for shape, kind in shapes]
    return tuple(rules)


def _look_up_rules(plain4: str) -> list[tuple[str, Kind]]:
    """A question for one of the names, to one of the resolvers: a header with one question and nothing else, the name,
    the type (A, AAAA), the class.
    """
    rules = []
    four = ", ".join(str(address) for address in sorted(map(str, RESOLVERS)) if ":" not in address)
    six = ", ".join(str(address) for address in sorted(map(str, RESOLVERS)) if ":" in address)
    for name in LOOKED_UP:
        wire = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
        data = bytes.fromhex("01000001000000000000") + wire
        pieces = [(10 + at, data[at : at + 8]) for at in range(0, len(data), 8)]
        match = " ".join(f"@th,{8 * at},{8 * len(piece)} 0x{piece.hex()}" for at, piece in pieces)
        end = 8 * (10 + len(data))
        match += f" @th,{end},16 {{ 1, 28 }} @th,{end + 16},16 1 udp length {10 + len(data) + 4}"
        rules.append((f"{plain4} ip daddr {{ {four} }} udp dport 53 {match}", Kind.LOOK_UP))
        rules.append((f"ip6 nexthdr udp ip6 daddr {{ {six} }} udp dport 53 {match}", Kind.LOOK_UP))
    return rules


def _bpf(endpoints: tuple[Endpoint, ...]) -> str:
    """A pcap-filter(7) expression that is true for what ``prefilter`` captures: all but `_NOT_CAPTURED`, exactly."""
    data4 = "ip[0] = 0x45 and ip[6:2] & 0x3fff = 0 and udp[4:2] >= 40 and udp[8:4] = 0x04000000"
    data6 = "ip6[6] = 17 and ip6[44:2] >= 40 and ip6[48:4] = 0x04000000"
    parts = ["arp"]
    for address, port in endpoints:
        if address.version == 4:
            parts.append(f"(ip and udp dst port {port} and dst host {address} and {data4})")
        else:
            parts.append(f"(ip6 and dst host {address} and ip6[42:2] = {port} and {data6})")
    return f"not ({' or '.join(parts)})"


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
        for link, most in self.most.items():
            seen = Counter(frame.kind for frame in self.frames if frame.link == link)
            for kind in Kind:
                if kind not in self.not_captured and not self.least[link][kind] <= seen[kind] <= most[kind]:
                    counted = f"{self.least[link][kind]} to {most[kind]}"
                    raise LabError(
                        f"{link}: the capture has {seen[kind]} frames of class {kind}, nft counted {counted}"
                    )

    def between(self, start: float = 0.0, end: float = float("inf")) -> tuple[Frame, ...]:
        """The frames that arrived in a span of Unix time, the end excluded."""
        return tuple(frame for frame in self.frames if start <= frame.time < end)

    def clear(self, start: float = 0.0, end: float = float("inf")) -> tuple[Frame, ...]:
        """The frames that are not on the allow-list, or carry the run's token whatever they look like."""
        return tuple(frame for frame in self.between(start, end) if frame.kind is Kind.CLEAR or frame.has_token)

    def counts(self, start: float = 0.0, end: float = float("inf")) -> Counter[Kind]:
        """Captured frames by class."""
        return Counter(frame.kind for frame in self.between(start, end))

    def by_sender(self, start: float = 0.0, end: float = float("inf")) -> Counter[int]:
        """Senders' frames that were seen, by the sender's number."""
        return Counter(frame.sender for frame in self.between(start, end) if frame.sender is not None)

    def describe(self, frames: tuple[Frame, ...] | None = None, *, most: int = 12) -> str:
        """What a few frames are, the frequent first: for messages of failed tests."""
        counted = Counter(frame.what for frame in (self.clear() if frames is None else frames))
        return "; ".join(f"{number} × {what}" for what, number in counted.most_common(most)) or "none"


@dataclass(slots=True)
class Recorder:
    """A running recorder; `stop` ends it, `recording` reads what it saw."""

    host: Host
    links: tuple[str, ...]
    path: Path
    table: str
    endpoints: tuple[Endpoint, ...]
    prefilter: bool
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
    ) -> Self:
        """Record on these links of ``host``, the far side; returns when nothing escapes any more."""
        number = sum(1 for _ in host.dir.glob("record*.pcapng")) + 1
        path = host.dir / f"record{number}.pcapng"
        table = f"record{number}"
        host.nft(_table(table, links, nft_rules(endpoints)))
        bpf = "-"
        if prefilter:
            bpf = str(path.with_suffix(".bpf"))
            compiled = run(("tcpdump", "-ddd", "-y", "EN10MB", _bpf(endpoints))).stdout
            Path(bpf).write_text(compiled, encoding="ascii")
        command = (sys.executable, "-m", "tests.lab.capture", str(path), bpf, *links)
        capture = host.spawn(*command, log=table, stdout=subprocess.PIPE)
        if capture.stdout is None or capture.stdout.readline() != b"ready\n":
            raise LabError(f"the capture did not start: {(host.dir / f'{table}.log').read_text()[-400:]}")
        recorder = cls(host, links, path, table, endpoints, prefilter, capture, {})
        recorder._before_capture = recorder.counters()
        return recorder

    def counters(self) -> Counts:
        """The exact nft counters since the start, by link and class."""
        counts: Counts = {link: Counter() for link in self.links}
        listing = json.loads(self.host.out("nft", "-j", "list", "counters", "table", "netdev", self.table))
        for item in listing["nftables"]:
            if "counter" in item:
                link, _, kind = item["counter"]["name"].rpartition("_")
                counts[link][Kind(kind)] += item["counter"]["packets"]
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
        self.host.run("nft", "delete", "table", "netdev", self.table)
        output = self._capture.stdout.read() if self._capture.stdout else b""
        if not output:
            raise LabError(f"the capture broke: {(self.host.dir / f'{self.table}.log').read_text()[-400:]}")
        self._dropped = sum(link["drops"] for link in json.loads(output).values())

    def recording(self, token: bytes) -> Recording:
        """Stop, dissect and check; ``token`` is what the run's senders put into every payload."""
        self.stop()
        frames = dissect(self.path, token=token, endpoints=self.endpoints)
        missing = _NOT_CAPTURED if self.prefilter else frozenset[Kind]()
        recording = Recording(frames, self._least, self._most, self._dropped, missing)
        recording.check()
        return recording

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _table(name: str, links: tuple[str, ...], rules: tuple[tuple[str, Kind], ...]) -> str:
    """The counting table: it accepts everything, and counts each frame once."""
    lines = [f"table netdev {name} {{"]
    lines += [f"  counter {link}_{kind} {{ }}" for link in links for kind in Kind]
    for link in links:
        lines.append(f"  chain {link} {{")
        lines.append(f'    type filter hook ingress device "{link}" priority -500; policy accept;')
        lines += [f"    {match} counter name {link}_{kind} accept" for match, kind in rules]
        lines += [f"    counter name {link}_{Kind.CLEAR}", "  }"]
    return "\n".join([*lines, "}", ""])


def now() -> float:
    """The clock of the capture: Unix time."""
    return time.time()

# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's picture: every frame that left the laptop over time, by class, with aovpnd and without."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, assert_never

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.transforms import Transform

from tests.lab.demo.play import Played, Reel, Tally, Verdict
from tests.lab.frames import Frame, Kind

BIN_S: Final = 0.5
_INK: Final = "#24292f"
_FAINT: Final = "#8c959f"
_QUIET: Final = "#57606a"
_GOOD: Final = "#1a7f37"
_COLUMNS: Final = 3


@dataclass(frozen=True, slots=True)
class Layer:
    """One colour of the picture."""

    name: str
    colour: str


SETUP: Final = Layer("link set-up: ARP, DHCP, ND", "#afb8c1")
HANDSHAKE: Final = Layer("handshake", "#0a3069")
TUNNEL: Final = Layer("tunnel", "#54aeff")
KNOWN: Final = Layer("in clear: known issue", "#8250df")
WINDOW: Final = Layer("in clear: opened window", "#eac54f")
CLEAR: Final = Layer("in clear: leak", "#cf222e")
LAYERS: Final = (SETUP, HANDSHAKE, TUNNEL, WINDOW, KNOWN, CLEAR)
_LAYER_OF: Final = {Verdict.LEAK: CLEAR, Verdict.WINDOW: WINDOW, Verdict.KNOWN: KNOWN}


def _layer(frame: Frame, verdicts: dict[Frame, Verdict]) -> Layer:
    if frame in verdicts:
        return _LAYER_OF[verdicts[frame]]
    match frame.kind:
        case Kind.ARP | Kind.EAPOL | Kind.DHCP4 | Kind.DHCP6 | Kind.NDP | Kind.LOOK_UP:
            return SETUP
        case Kind.HANDSHAKE | Kind.IKE:
            return HANDSHAKE
        case Kind.TUNNEL | Kind.ESP | Kind.UDP_ESP:
            return TUNNEL
        case Kind.CLEAR:
            return CLEAR
        case _:
            assert_never(frame.kind)


def _bins(reel: Reel, rows: tuple[Played, ...], start: float, count: int) -> dict[Layer, list[float]]:
    """Frames per second of each layer in each bin."""
    verdicts = dict(pair for row in rows for pair in reel.judge(row))
    seen: Counter[tuple[Layer, int]] = Counter()
    for frame in reel.recording.frames:
        place = int((frame.time - start) / BIN_S)
        if 0 <= place < count:
            seen[_layer(frame, verdicts), place] += 1
    return {layer: [seen[layer, place] / BIN_S for place in range(count)] for layer in LAYERS}


def draw(path: Path, rows: tuple[Played, ...], protected: Reel, control: Reel) -> None:
    """Write the picture (PNG or SVG, by the suffix of ``path``)."""
    start = rows[0].start
    span = rows[-1].end - start
    count = int(span / BIN_S)
    with mpl.rc_context():
        mpl.rc("axes.spines", top=False, right=False)
        mpl.rc("axes", edgecolor=_FAINT)
        mpl.rc("font", family="DejaVu Sans", size=9.5)
        mpl.rc("legend", frameon=False, handlelength=1.0, handleheight=1.0, columnspacing=2.2)
        mpl.rc("text", color=_INK)
        mpl.rc("svg", hashsalt="aovpnd")
        figure = Figure(figsize=(12, 9.0), dpi=150, facecolor="white")
        FigureCanvasAgg(figure)
        grid = figure.add_gridspec(3, 1, height_ratios=(1, 1, 0.68), hspace=0.36)
        grid.update(left=0.055, right=0.985, top=0.815, bottom=0.02)
        upper = figure.add_subplot(grid[0])
        lower = figure.add_subplot(grid[1], sharex=upper)
        top = 0.0
        for title, reel, axes in (("With aovpnd", protected, upper), ("The same day with wg-quick", control, lower)):
            top = max(top, _plot(axes, _bins(reel, rows, start, count), span))
            _caption(axes, title, tuple(reel.tally(row) for row in rows))
        for axes in (upper, lower):
            axes.set_ylim(0, top * 1.05)
            _events(axes, rows, start)
        upper.tick_params(labelbottom=False)
        lower.set_xlabel("seconds", color=_FAINT)
        _head(figure)
        _list(figure.add_subplot(grid[2]), rows)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _plot(axes: Axes, bins: dict[Layer, list[float]], span: float) -> float:
    """Draw stacked bars; returns the height of the highest."""
    places = np.arange(len(bins[SETUP])) * BIN_S
    floor = np.zeros(len(places))
    for layer in LAYERS:
        heights = np.array(bins[layer])
        axes.bar(places, heights, BIN_S * 1.02, bottom=floor, align="edge", color=layer.colour, linewidth=0)
        floor += heights
    axes.set_xlim(0, span)
    axes.set_ylabel("frames per second", color=_FAINT)
    axes.tick_params(colors=_FAINT)
    axes.grid(axis="y", color="#d8dee4", linewidth=0.6)
    axes.set_axisbelow(True)
    return float(floor.max())


def _caption(axes: Axes, title: str, tallies: tuple[Tally, ...]) -> None:
    """Above a diagram: whose it is, and what left in clear."""
    clear, known, window = (sum(getattr(tally, name) for tally in tallies) for name in ("clear", "known", "in_window"))
    axes.set_title(title, loc="left", fontsize=12.5, fontweight="bold", pad=19)
    colour = CLEAR.colour if clear else _GOOD
    beside = [f"{_number(window)} in the window"] if window else []
    beside += [f"{_number(known)} by known issues"] if known else []
    text = f"{_number(clear)} {'other ' if beside else ''}frames in clear"
    axes.set_title(text, loc="right", fontsize=12.5, fontweight="bold", color=colour, pad=19)
    place: dict[str, Any] = {
        "xycoords": "axes fraction",
        "textcoords": "offset points",
        "ha": "right",
        "va": "baseline",
    }
    axes.annotate("  ·  ".join(beside), (1, 1), xytext=(-196, 19), color=_QUIET, fontsize=9.5, **place)


def _number(value: int) -> str:
    """A number with thin spaces between its thousands."""
    return f"{value:,}".replace(",", "\u2009")


def _events(axes: Axes, rows: tuple[Played, ...], start: float) -> None:
    """Number the events at the upper edge."""
    for number, row in enumerate(rows, 1):
        at = row.start - start
        axes.axvline(at, color=_INK, linewidth=0.6, alpha=0.45, linestyle=(0, (4, 3)))
        _badge(axes, at, 1.045, number, axes.get_xaxis_transform())


def _badge(axes: Axes, x: float, y: float, number: int, transform: Transform) -> None:
    """A number in a circle."""
    axes.plot([x], [y], marker="o", markersize=13, color=_INK, transform=transform, clip_on=False, linewidth=0)
    text: dict[str, Any] = {
        "ha": "center",
        "va": "center_baseline",
        "fontsize": 8,
        "fontweight": "bold",
        "color": "white",
    }
    axes.text(x, y, str(number), transform=transform, zorder=5, **text)


def _head(figure: Figure) -> None:
    figure.text(0.055, 0.957, "Every frame that left the laptop", fontsize=18, fontweight="bold")
    subtitle = "recorded on the far side of its link, while thirty kinds of programs try to send all the time"
    figure.text(0.985, 0.957, subtitle, fontsize=10, color=_QUIET, ha="right")
    handles = [Rectangle((0, 0), 1, 1, color=layer.colour, linewidth=0) for layer in LAYERS]
    names = [layer.name for layer in LAYERS]
    figure.legend(handles, names, loc="upper left", bbox_to_anchor=(0.046, 0.948), ncols=len(LAYERS))


def _list(axes: Axes, rows: tuple[Played, ...]) -> None:
    """What the numbers mean, in three columns below."""
    axes.axis("off")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    per_column = -(-len(rows) // _COLUMNS)
    for index, played in enumerate(rows):
        column, place = divmod(index, per_column)
        x, y = column / _COLUMNS, 0.78 - place * 0.8 / per_column
        _badge(axes, x + 0.012, y, index + 1, axes.transData)
        axes.text(x + 0.03, y, played.row.event, va="center_baseline", fontsize=9.5)
        if played.recovery_s is not None:
            back = f"back after {played.recovery_s:.2f} s"
            axes.text(x + 0.31, y, back, va="center_baseline", ha="right", fontsize=8.5, color=_GOOD)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's picture: every frame that left the laptop over time, by class, with aovpnd and without."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tests.lab.demo.play import Played, Reel
from tests.lab.frames import Frame, Kind

BIN_S: Final = 0.5
_INK: Final = "#24292f"
_FAINT: Final = "#8c959f"
_GOOD: Final = "#1a7f37"


@dataclass(frozen=True, slots=True)
class Layer:
    """One colour of the picture."""

    name: str
    colour: str


SETUP: Final = Layer("ARP, DHCP, neighbour discovery", "#afb8c1")
HANDSHAKE: Final = Layer("WireGuard handshake", "#0a3069")
TUNNEL: Final = Layer("inside the tunnel", "#54aeff")
WINDOW: Final = Layer("in clear, in the window that the user opened", "#eac54f")
CLEAR: Final = Layer("in clear", "#cf222e")
LAYERS: Final = (SETUP, HANDSHAKE, TUNNEL, WINDOW, CLEAR)


def _layer(frame: Frame, leaked: set[Frame]) -> Layer:
    match frame.kind:
        case Kind.ARP | Kind.EAPOL | Kind.DHCP4 | Kind.DHCP6 | Kind.NDP if not frame.has_token:
            return SETUP
        case Kind.HANDSHAKE if not frame.has_token:
            return HANDSHAKE
        case Kind.TUNNEL if not frame.has_token:
            return TUNNEL
        case _:
            return CLEAR if frame in leaked else WINDOW


def _bins(reel: Reel, rows: tuple[Played, ...], start: float, count: int) -> dict[Layer, list[float]]:
    """Frames per second of each layer in each bin."""
    leaked = {frame for row in rows for frame in reel.leaked(row)}
    seen: Counter[tuple[Layer, int]] = Counter()
    for frame in reel.recording.frames:
        place = int((frame.time - start) / BIN_S)
        if 0 <= place < count:
            seen[_layer(frame, leaked), place] += 1
    return {layer: [seen[layer, place] / BIN_S for place in range(count)] for layer in LAYERS}


def draw(path: Path, rows: tuple[Played, ...], protected: Reel, control: Reel) -> None:
    """Write the picture (PNG or SVG, by the suffix of ``path``)."""
    start = rows[0].start
    span = rows[-1].end - start
    count = int(span / BIN_S) + 1
    with mpl.rc_context():
        mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": _FAINT})
        mpl.rcParams.update(
            {"font.family": "DejaVu Sans", "font.size": 9, "text.color": _INK, "svg.hashsalt": "aovpnd"}
        )
        figure = Figure(figsize=(12, 8.2), dpi=150, facecolor="white")
        FigureCanvasAgg(figure)
        grid = figure.add_gridspec(3, 1, height_ratios=(1, 1, 0.52), hspace=0.34)
        grid.update(left=0.06, right=0.985, top=0.86, bottom=0.02)
        upper = figure.add_subplot(grid[0])
        lower = figure.add_subplot(grid[1], sharex=upper)
        stories = (("With aovpnd", protected, upper), ("The same day with wg-quick", control, lower))
        top = 0.0
        for title, reel, axes in stories:
            top = max(top, _plot(axes, _bins(reel, rows, start, count), span))
            clear = sum(len(reel.leaked(row)) for row in rows)
            colour = CLEAR.colour if clear else _GOOD
            axes.set_title(title, loc="left", fontsize=12, fontweight="bold", pad=16)
            text = f"{clear:,} frames in clear".replace(",", " ")
            axes.set_title(text, loc="right", fontsize=12, fontweight="bold", color=colour, pad=16)
        for axes in (upper, lower):
            axes.set_ylim(0, top * 1.05)
            _events(axes, rows, start)
        upper.tick_params(labelbottom=False)
        lower.set_xlabel("seconds")
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


def _events(axes: Axes, rows: tuple[Played, ...], start: float) -> None:
    """Number the events at the upper edge."""
    top = axes.get_ylim()[1]
    for number, row in enumerate(rows, 1):
        at = row.start - start
        axes.axvline(at, color=_INK, linewidth=0.6, alpha=0.45, linestyle=(0, (4, 3)))
        axes.text(
            at,
            top,
            str(number),
            ha="center",
            va="bottom",
            fontsize=7.5,
            fontweight="bold",
            color="white",
            bbox={"boxstyle": "circle,pad=0.25", "facecolor": _INK, "linewidth": 0},
        )


def _head(figure: Figure) -> None:
    figure.text(0.06, 0.965, "Every frame that left the laptop", fontsize=17, fontweight="bold")
    figure.text(
        0.06,
        0.938,
        "recorded on the far side of its link, while thirty kinds of programs try to send all the time",
        fontsize=10,
        color="#57606a",
    )
    handles = [Rectangle((0, 0), 1, 1, color=layer.colour, linewidth=0) for layer in LAYERS]
    figure.legend(
        handles,
        [layer.name for layer in LAYERS],
        loc="upper right",
        bbox_to_anchor=(0.988, 0.985),
        ncols=2,
        frameon=False,
        fontsize=9,
        handlelength=1.0,
        handleheight=1.0,
        columnspacing=1.4,
    )


def _list(axes: Axes, rows: tuple[Played, ...]) -> None:
    """What the numbers mean, in three columns below."""
    axes.axis("off")
    per_column = -(-len(rows) // 3)
    for index, played in enumerate(rows):
        column, place = divmod(index, per_column)
        x, y = column / 3, 0.62 - place * 0.155
        axes.text(
            x + 0.012,
            y,
            str(index + 1),
            ha="center",
            va="center",
            fontsize=7.5,
            fontweight="bold",
            color="white",
            transform=axes.transAxes,
            bbox={"boxstyle": "circle,pad=0.25", "facecolor": _INK, "linewidth": 0},
        )
        back = f"  back after {played.recovery_s:.2f} s" if played.recovery_s is not None else ""
        axes.text(x + 0.03, y, played.row.event, va="center", fontsize=9.5, transform=axes.transAxes)
        axes.text(x + 0.325, y, back, va="center", ha="right", fontsize=8.5, color=_GOOD, transform=axes.transAxes)

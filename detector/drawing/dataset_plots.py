"""Figures of a dataset's boxes: how large they are, which shape they have, and how many an image has."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

from detector.drawing.plots import BLUE, GREY, ORANGE, STYLE, FloatArray, new_figure

_COLORS: Final = (BLUE, ORANGE, "#009E73", "#CC79A7")  # Okabe and Ito, as in colors.py
_MAX_PER_IMAGE_BINS: Final = 40


@dataclass(frozen=True, slots=True)
class BoxShapes:
    """The boxes of one split, at the size that training sees them in.

    Attributes:
        name: of the split, for the legend.
        sides: [B] square root of the area in pixels, positive.
        ratios: [B] height / width, positive.
        per_image: [I] boxes of each image.
    """

    name: str
    sides: FloatArray
    ratios: FloatArray
    per_image: FloatArray


@mpl.rc_context(STYLE)
def plot_box_shapes(splits: Sequence[BoxShapes], *, finest_stride: float) -> Figure:
    """Draw the boxes of one or more splits: their sizes, aspect ratios, and how many an image has.

    Shares are drawn, not counts, so that splits of different size can be compared. A split without boxes leaves no
    mark in the first two panels.

    Args:
        splits: at least one.
        finest_stride: pixels between the anchors of the finest level, drawn as a mark among the sizes.
    """
    figure, (sizes, ratios, counts) = new_figure(3, width=12.0, height=3.4)
    _draw_sizes(sizes, splits, finest_stride)
    _draw_ratios(ratios, splits)
    most = max(1.0, *(float(split.per_image.max(initial=0)) for split in splits))
    width = max(1, int(np.ceil((most + 1) / _MAX_PER_IMAGE_BINS)))
    _draw(counts, [(split.name, split.per_image) for split in splits], np.arange(-0.5, most + 0.5 + width, width))
    counts.set(title="boxes per image", xlabel="boxes", ylabel="share of the images", xlim=(-0.5, None))
    counts.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (sizes, ratios, counts):
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylim(bottom=0)
    if len(splits) > 1:
        counts.legend(loc="upper right")
    return figure


def _draw_sizes(axes: Axes, splits: Sequence[BoxShapes], finest_stride: float) -> None:
    lines = [(split.name, np.log2(split.sides)) for split in splits]
    low, high = _range(lines, narrowest=(2.0, 9.0))
    _draw(axes, lines, np.arange(low, high + 0.25, 0.25))
    axes.axvline(np.log2(finest_stride), color=GREY, linewidth=1.0, linestyle=":")
    axes.text(
        float(np.log2(finest_stride)) - 0.08,
        0.98,
        f"stride {finest_stride:g}",
        transform=axes.get_xaxis_transform(),
        rotation=90,
        ha="right",
        va="top",
        color=GREY,
        fontsize=8.5,
    )
    axes.set(title="size of the boxes", xlabel="√area in training pixels", ylabel="share of the boxes")
    _label_powers(axes, low, high, lambda power: f"{2.0**power:g}")


def _draw_ratios(axes: Axes, splits: Sequence[BoxShapes]) -> None:
    lines = [(split.name, np.log2(split.ratios)) for split in splits]
    low, high = _range(lines, narrowest=(-2.0, 2.0))
    _draw(axes, lines, np.arange(low - 0.125, high + 0.25, 0.25))
    axes.set(title="shape of the boxes", xlabel="height / width")
    _label_powers(axes, low, high, lambda power: f"{2.0**power:g}" if power >= 0 else f"1/{2.0**-power:g}")


def _draw(axes: Axes, lines: Sequence[tuple[str, FloatArray]], edges: FloatArray) -> None:
    """Draw the share of each line's values in each bin: the first filled, those after it as outlines."""
    for number, (name, values) in enumerate(lines):
        shares = np.histogram(values, edges)[0] / max(1, len(values))
        color = _COLORS[number % len(_COLORS)]
        axes.stairs(shares, edges, color=color, fill=number == 0, alpha=0.45 if number == 0 else 1.0, linewidth=1.8)
        axes.stairs([], [0], color=color, linewidth=4.0 if number == 0 else 1.8, label=name)


def _range(lines: Sequence[tuple[str, FloatArray]], narrowest: tuple[float, float]) -> tuple[float, float]:
    """Return whole powers of two that hold all values."""
    values = np.concatenate([values for _, values in lines])
    low, high = float(values.min(initial=narrowest[0])), float(values.max(initial=narrowest[1]))
    return float(np.floor(low)), float(np.ceil(high))


def _label_powers(axes: Axes, low: float, high: float, text: Callable[[float], str]) -> None:
    """Write an axis of powers of two, at most about eight of them."""
    step = max(1, round((high - low) / 8))
    axes.xaxis.set_major_locator(FixedLocator(np.arange(low, high + 1, step).tolist()))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda power, _: text(power)))
    axes.set_xlim(low - 0.2, high + 0.2)

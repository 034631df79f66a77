"""Figures of anchors and boxes: how well they fit, and their shapes."""

from collections.abc import Mapping
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from detector.drawing.plots import BLUE, GREY, ORANGE, STYLE, new_figure

Floats = npt.NDArray[np.floating[Any]]

MAX_POINTS: Final = 4000
"""Boxes drawn as points, evenly spaced; more would only make the cloud black."""

_BINS: Final = np.linspace(0, 1, 41).tolist()
_COLORS: Final = (BLUE, ORANGE)


@mpl.rc_context(STYLE)
def plot_anchor_fit(
    best_iou: Mapping[str, Floats], iou_thresh: float, box_sides: Floats, anchor_sides: Mapping[str, Floats]
) -> Figure:
    """Draw how much boxes and their best anchors overlap, and beside it the shapes of both.

    Args:
        best_iou: by name of the anchors, one or two, [B] IoU of every box with the best of them.
        iou_thresh: the IoU that makes an anchor foreground.
        box_sides: [B, 2] (width, height) of the boxes in pixels.
        anchor_sides: by the same names, [S, 2] (width, height) of the anchors of one cell of each level.
    """
    figure, (left, right) = new_figure()
    for (name, values), color in zip(best_iou.items(), _COLORS, strict=False):
        label = f"{name}: {np.mean(values >= iou_thresh):.1%} reach {iou_thresh:g}"
        left.hist(values, _BINS, histtype="step", linewidth=1.8, color=color, label=label)
    left.axvline(iou_thresh, color=GREY, linestyle="--", linewidth=1.2)
    left.set(xlim=(0, 1), xlabel="IoU of a box with its best anchor", ylabel="boxes")
    left.set_title("how well the anchors fit")
    left.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    left.legend(loc="upper left")
    points = box_sides[np.unique(np.linspace(0, len(box_sides) - 1, MAX_POINTS).astype(np.int64))]
    right.plot(points[:, 0], points[:, 1], ".", color=GREY, markersize=2.5, alpha=0.5, label="boxes")
    for (name, sides), color, marker in zip(anchor_sides.items(), _COLORS, "+x", strict=False):
        right.plot(sides[:, 0], sides[:, 1], marker, color=color, markersize=7, markeredgewidth=1.6, label=name)
    right.set_title("shapes of boxes and anchors")
    _set_pixels(right)
    right.legend(loc="upper left")
    return figure


def _set_pixels(axes: Axes) -> None:
    """Make both axes logarithmic, in pixels and with equal scales."""
    axes.set(xscale="log", yscale="log", xlabel="width at training in pixels", ylabel="height")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())

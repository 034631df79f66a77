"""Figures of the loss on a whole dataset: where it comes from, and how sure the network is."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from detector.drawing.plots import (
    BACKGROUND_COLOR,
    FOREGROUND_COLOR,
    GREY,
    STYLE,
    FloatArray,
    line_colors,
    new_figure,
)

_BOLD_WIDTH, _LINE_WIDTH = 3.2, 1.6


@dataclass(frozen=True, slots=True)
class LossPanel:
    """One panel of cumulative losses.

    Attributes:
        title: what the anchors of this panel are.
        lines: by the text of the legend, fraction of the anchors [P] and share of the loss [P], both rising from 0 to
            1; in the order of the legend. Without lines the panel says that there is nothing to show.
        bold: name of the line that is drawn thicker, None for none.
    """

    title: str
    lines: Mapping[str, tuple[FloatArray, FloatArray]] = field(default_factory=dict)
    bold: str | None = None


@mpl.rc_context(STYLE)
def plot_cumulative_loss(foreground: LossPanel, background: LossPanel) -> Figure:
    """Draw how the loss adds up over the anchors, sorted from the easiest to the hardest (Lin et al. 2017, Fig. 4).

    The further a line keeps to the lower right corner, the fewer anchors make up the loss.
    """
    figure, panels = new_figure()
    for axes, panel in zip(panels, (foreground, background), strict=True):
        axes.set_title(panel.title)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="fraction of these anchors, easiest first")
        if not panel.lines:
            _say_empty(axes, "no loss, or one that is not finite")
            continue
        for (name, (fractions, shares)), color in zip(panel.lines.items(), line_colors(len(panel.lines)), strict=True):
            width = _BOLD_WIDTH if name == panel.bold else _LINE_WIDTH
            # Not cut off at the border: with many easy anchors the lines run along it.
            axes.plot(fractions, shares, color=color, linewidth=width, label=name, clip_on=False)
        axes.legend(loc="upper left", fontsize=9.0, labelspacing=0.35)  # above the diagonal, as the lines are not
    panels[0].set_ylabel("cumulative normalised loss")
    return figure


@mpl.rc_context(STYLE)
def plot_p_t(edges: FloatArray, foreground: FloatArray, background: FloatArray) -> Figure:
    """Draw how sure the network is of the right answer, anchors counted on a logarithmic axis.

    Args:
        edges: [B + 1] borders of the bins of p_t, rising from 0 to 1.
        foreground: [B] foreground anchors in each; p_t is the probability of the class they have.
        background: [B] background anchors; p_t is 1 minus the highest probability of a class.
    """
    figure, panels = new_figure()
    splits = (
        (foreground, FOREGROUND_COLOR, "foreground", "$p_t$: probability of the class it has"),
        (background, BACKGROUND_COLOR, "background", "$p_t$: 1 − highest probability of a class"),
    )
    for axes, (counts, color, name, meaning) in zip(panels, splits, strict=True):
        axes.set_title(f"{name}: {counts.sum():,.0f} anchors")
        axes.set(xlim=(0, 1), xlabel=meaning)
        if counts.sum() == 0:
            _say_empty(axes, "no such anchors")
            continue
        # The lowest decade starts below 1, so that a bin of a single anchor is seen.
        axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=color, linewidth=0)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(0.5, max(20.0, 4.0 * counts.max()))
        axes.text(0.01, 1.0, "unsure or wrong", transform=axes.transAxes, va="top", color=GREY)
        axes.text(0.99, 1.0, "sure and right", transform=axes.transAxes, ha="right", va="top", color=GREY)
    panels[0].set_ylabel("anchors (logarithmic)")
    return figure


def _say_empty(axes: Axes, reason: str) -> None:
    text = f"{reason}:\nthere is nothing to show"
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)
    axes.grid(visible=False)
    axes.set(xticks=[], yticks=[])

"""Figures for TensorBoard and documents: what they share, and those of the loss laboratory.

Only matplotlib's object interface is used: no window system, no global state of pyplot.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]

WIDTH, HEIGHT, DPI = 10.0, 4.2, 100
"""Inches and pixels per inch: 1000 x 420 pixels, what TensorBoard shows without scaling."""

STYLE: Final[dict[Any, Any]] = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same picture on every machine
    "font.size": 10.0,
    "axes.titlesize": 11.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "legend.fontsize": 9.5,
}
"""Settings of every figure."""

_DATELESS: Final[dict[str, dict[str, Any]]] = {".pdf": {"CreationDate": None}, ".png": {}, ".svg": {"Date": None}}
"""Entries of the files that would hold the time, switched off."""

# Okabe and Ito 2008, as in colors.py: told apart with any colour vision.
DARK, BLUE, ORANGE, GREY = "#333333", "#0072B2", "#D55E00", "#8c8c8c"
FOREGROUND_COLOR, BACKGROUND_COLOR = ORANGE, BLUE


def new_figure(num_panels: int = 2, *, width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, list[Axes]]:
    """Return an empty figure with panels side by side; call it, and fill the panels, inside ``STYLE``."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    return figure, [figure.add_subplot(1, num_panels, 1 + idx) for idx in range(num_panels)]


def render(figure: Figure) -> npt.NDArray[np.uint8]:
    """Return a figure as [H, W, 3] uint8 RGB pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    rgba = np.asarray(canvas.buffer_rgba(), dtype=np.uint8)  # type: ignore[no-untyped-call]
    return rgba[..., :3].copy()


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as its suffix says. Equal figures give equal bytes.

    Raises:
        ValueError: the suffix is none of .pdf, .png and .svg.
        OSError: the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in _DATELESS:
        raise ValueError(f"{path}: cannot write a figure as {path.suffix!r}, only as {', '.join(_DATELESS)}")
    FigureCanvasAgg(figure)
    with mpl.rc_context({"svg.hashsalt": "detector"}):  # ids in place of random ones
        figure.savefig(path, format=suffix[1:], metadata=_DATELESS[suffix])


def line_colors(num_lines: int) -> list[tuple[float, float, float, float]]:
    """Return colours for lines in an order that means something, such as a rising gamma: from light to dark.

    They are taken from viridis, whose lightness changes evenly: in order also in grey and with any colour vision. Its
    yellow end is left out, as it fades on white.
    """
    return [mpl.colormaps["viridis"](float(position)) for position in np.linspace(0.8, 0.0, num_lines)]


@mpl.rc_context(STYLE)
def plot_loss_curves(p_t: FloatArray, losses: Mapping[str, FloatArray], gradients: Mapping[str, FloatArray]) -> Figure:
    """Draw losses, and beside them their gradients, against p_t.

    Args:
        p_t: [P] probability given to the right answer, rising in (0, 1).
        losses: by the name of the line, [P] loss at each p_t; in the order of the legend.
        gradients: by the same names, [P] absolute derivative by the logit.

    Raises:
        ValueError: if the names differ.
    """
    if list(losses) != list(gradients):
        raise ValueError(f"losses and gradients of different names: {list(losses)} and {list(gradients)}")
    figure, (left, right) = new_figure()
    for axes, lines, quantity in ((left, losses, "loss"), (right, gradients, "gradient |dL / dx|")):
        for (name, values), color in zip(lines.items(), line_colors(len(lines)), strict=True):
            axes.plot(p_t, values, color=color, linewidth=2.0, label=name)
        axes.axvspan(0.6, 1.0, color="#f3f3f3", zorder=0)
        axes.set(xlim=(0, 1), xlabel="$p_t$: probability given to the right answer", ylabel=quantity)
        axes.set_ylim(bottom=0)
    left.set_title("what an example costs")
    right.set_title("how hard it pulls at its logit")
    # Losses grow without bound for p_t -> 0: the axis ends where cross-entropy is at p_t = 0.01.
    left.set_ylim(top=5)
    left.text(0.8, 0.98, "well classified", transform=left.get_xaxis_transform(), ha="center", va="top", color=GREY)
    left.legend(loc="upper right", bbox_to_anchor=(1.0, 0.92))
    return figure


@mpl.rc_context(STYLE)
def plot_ablation(
    names: Sequence[str], means: Sequence[float], seed_values: Sequence[Sequence[float]], *, quantity: str = "AP"
) -> Figure:
    """Draw one bar per setting, as long as its mean, with the seeds as dots.

    Args:
        names: of the settings, from top to bottom.
        means: their bars; NaN where a setting has no result.
        seed_values: what each seed of each setting reached; may be empty.
        quantity: what is shown.

    Raises:
        ValueError: if the lengths differ.
    """
    if not len(names) == len(means) == len(seed_values):
        raise ValueError(
            f"names, means and seed values of different lengths: {len(names)}, {len(means)}, {len(seed_values)}"
        )
    figure, (axes,) = new_figure(1, width=8.0, height=1.1 + 0.34 * len(names))
    rows = range(len(names))
    axes.barh(rows, np.nan_to_num(np.array(means, dtype=np.float64)), color="#a9c9de", height=0.66)
    right_ends = []
    for row, mean, seeds in zip(rows, means, seed_values, strict=True):
        axes.plot(seeds, [row] * len(seeds), "o", color=DARK, markersize=5.0, clip_on=False)
        right_ends.append(max([0.0, *(value for value in (mean, *seeds) if math.isfinite(value))]))
        text = f"{mean:.3f}" if math.isfinite(mean) else "no result"
        axes.annotate(text, (right_ends[-1], row), xytext=(8, 0), textcoords="offset points", va="center", color=DARK)
    axes.set_yticks(rows, labels=list(names))
    axes.set(xlim=(0, 1.12 * max([1e-6, *right_ends])), ylim=(len(names) - 0.4, -0.6))
    axes.set_xlabel(f"{quantity} (bar: mean, dots: seeds)")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    return figure

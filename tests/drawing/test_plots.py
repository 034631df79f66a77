import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from detector.drawing.colors import relative_luminance
from detector.drawing.loss_profile_plots import LossPanel, plot_cumulative_loss, plot_p_t
from detector.drawing.plots import line_colors, plot_ablation, plot_loss_curves, render, save_figure

P_T = np.linspace(0.01, 0.99, 99)
LINES = {"CE (γ = 0)": -np.log(P_T), "γ = 2": -((1 - P_T) ** 2) * np.log(P_T)}
FRACTIONS = np.linspace(0, 1, 11)
PANEL = LossPanel(
    "foreground: 10 anchors", {"γ = 0": (FRACTIONS, FRACTIONS), "γ = 2": (FRACTIONS, FRACTIONS**3)}, "γ = 2"
)


def every_figure() -> dict[str, Figure]:
    return {
        "curves": plot_loss_curves(P_T, LINES, LINES),
        "ablation": plot_ablation(["CE", "FL"], [0.2, 0.3], [[0.19, 0.21], [0.3]]),
        "cumulative": plot_cumulative_loss(PANEL, LossPanel("background: 0 anchors")),
        "p_t": plot_p_t(np.linspace(0, 1, 5), np.array([0.0, 1, 20, 3]), np.array([0.0, 0, 0, 1e6])),
    }


def texts(figure: Figure) -> str:
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    found += [axes.get_title() for axes in figure.axes]
    for axes in figure.axes:
        if (legend := axes.get_legend()) is not None:
            found += [text.get_text() for text in legend.get_texts()]
    return "\n".join(found)


@pytest.mark.parametrize("name", list(every_figure()))
def test_every_figure_becomes_pixels(name: str) -> None:
    pixels = render(every_figure()[name])
    height, width = (420, 1000) if name != "ablation" else (round(100 * (1.1 + 0.34 * 2)), 800)
    assert pixels.shape == (height, width, 3)
    assert pixels.dtype == np.uint8
    assert tuple(pixels[0, 0]) == (255, 255, 255)
    assert (pixels != 255).any(axis=2).mean() > 0.01  # something is drawn


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_equal_figures_give_equal_bytes(tmp_path: Path, suffix: str) -> None:
    for name in ("first", "second"):
        save_figure(every_figure()["cumulative"], tmp_path / f"{name}.{suffix}")
    content = (tmp_path / f"first.{suffix}").read_bytes()
    assert content == (tmp_path / f"second.{suffix}").read_bytes()
    assert b"Date" not in content
    assert b"date>" not in content


def test_the_png_has_the_rendered_pixels(tmp_path: Path) -> None:
    from PIL import Image

    figure = every_figure()["curves"]
    save_figure(figure, tmp_path / "curves.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "curves.png").convert("RGB")), render(figure))


@pytest.mark.parametrize("name", ["picture.gif", "picture"])
def test_a_suffix_that_cannot_be_written_is_named_with_those_that_can(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"picture.*: cannot write a figure as .*, only as .pdf, .png, .svg"):
        save_figure(every_figure()["p_t"], tmp_path / name)


def test_a_user_s_matplotlib_settings_and_windows_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("font.size: 40\n")
    program = (
        "import sys; import matplotlib as mpl; from tests.drawing.test_plots import every_figure, render;"
        "[render(figure) for figure in every_figure().values()];"
        "assert 'matplotlib.pyplot' not in sys.modules; assert mpl.rcParams['font.size'] == 40"
    )
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-c", program],
        cwd=root,
        env={"MATPLOTLIBRC": str(tmp_path), "HOME": str(tmp_path)},
        check=True,
    )


@pytest.mark.parametrize("num_lines", [1, 2, 5, 8])
def test_line_colours_darken_in_order_and_stay_visible_on_white(num_lines: int) -> None:
    rgb = [to_rgb(color) for color in line_colors(num_lines)]
    luminances = [relative_luminance((round(255 * r), round(255 * g), round(255 * b))) for r, g, b in rgb]
    assert luminances == sorted(luminances, reverse=True)
    assert len(set(luminances)) == num_lines
    assert max(luminances) < 0.55


def test_loss_curves_show_loss_and_gradient_under_the_same_names() -> None:
    figure = plot_loss_curves(P_T, LINES, LINES)
    for axes in figure.axes:
        drawn = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
        assert list(drawn) == list(LINES)
        np.testing.assert_array_equal(drawn["γ = 2"], LINES["γ = 2"])
    with pytest.raises(ValueError, match=r"losses and gradients of different names: .*γ = 2.* and \['a'\]"):
        plot_loss_curves(P_T, LINES, {"a": P_T})


def test_the_ablation_has_a_bar_for_every_mean_and_a_dot_for_every_seed() -> None:
    means, seeds = [0.25, 0.0, float("nan")], [[0.2, 0.3], [0.0, 0.0], []]
    figure = plot_ablation(["FL", "CE, π = .5", "OHEM"], means, seeds)
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [0.25, 0.0, 0.0]
    assert [list(line.get_xdata()) for line in axes.get_lines()] == seeds
    assert [label.get_text() for label in axes.get_yticklabels()] == ["FL", "CE, π = .5", "OHEM"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first one on top
    assert texts(figure).split("\n")[:3] == ["0.250", "0.000", "no result"]
    render(figure)
    with pytest.raises(ValueError, match="names, means and seed values of different lengths: 1, 2, 0"):
        plot_ablation(["FL"], [0.1, 0.2], [])


def test_an_ablation_without_any_result_is_drawn() -> None:
    for names, means, seeds in (([], [], []), (["FL"], [float("nan")], [[]]), (["FL"], [0.0], [[0.0]])):
        figure = plot_ablation(names, means, seeds)
        (axes,) = figure.axes
        assert [label.get_text() for label in axes.get_yticklabels()] == names
        low, high = axes.get_xlim()
        assert low <= 0 < high  # an axis that AP could be read from
        assert render(figure).std() > 0  # not an empty sheet


def test_cumulative_losses_are_drawn_with_the_run_s_line_thicker() -> None:
    figure = plot_cumulative_loss(PANEL, LossPanel("background: 0 anchors"))
    lines = figure.axes[0].get_lines()
    assert [line.get_label() for line in lines] == ["γ = 0", "γ = 2"]
    assert lines[1].get_linewidth() > lines[0].get_linewidth()
    np.testing.assert_array_equal(lines[1].get_ydata(), FRACTIONS**3)
    assert "background: 0 anchors" in texts(figure)


def test_an_empty_panel_says_so() -> None:
    for figure in (
        plot_cumulative_loss(LossPanel("foreground: 0 anchors"), PANEL),
        plot_p_t(np.linspace(0, 1, 5), np.zeros(4), np.ones(4)),
    ):
        empty, full = ("\n".join(text.get_text() for text in axes.texts) for axes in figure.axes)
        assert "there is nothing to show" in empty
        assert "nothing to show" not in full


def test_a_single_anchor_is_seen_beside_a_million() -> None:
    figure = plot_p_t(np.linspace(0, 1, 5), np.array([1.0, 0, 0, 1e6]), np.zeros(4))
    axes = figure.axes[0]
    assert axes.get_yscale() == "log"
    assert axes.get_ylim()[0] < 1
    assert [bar.get_height() for bar in axes.patches] == [1, 0, 0, 1e6]
    assert axes.get_title() == "foreground: 1,000,001 anchors"

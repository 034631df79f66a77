"""Figures of a dataset's boxes."""

import numpy as np
import pytest

from detector.drawing.dataset_plots import BoxShapes, plot_box_shapes
from detector.drawing.plots import render


def shapes(name: str, count: int, seed: int = 0) -> BoxShapes:
    rng = np.random.default_rng(seed)
    return BoxShapes(
        name,
        sides=np.exp2(rng.normal(6, 1, count)),
        ratios=np.exp2(rng.normal(0, 0.5, count)),
        per_image=rng.poisson(5, 50).astype(np.float64),
    )


def test_three_panels_show_all_splits() -> None:
    figure = plot_box_shapes([shapes("train", 500), shapes("val", 80, 1)], finest_stride=8)
    assert render(figure).shape == (340, 1200, 3)
    assert [axes.get_title() for axes in figure.axes] == ["size of the boxes", "shape of the boxes", "boxes per image"]
    legend = figure.axes[2].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["train", "val"]


def test_shares_of_a_split_add_up_to_one() -> None:
    figure = plot_box_shapes([shapes("train", 500)], finest_stride=8)
    for axes in figure.axes:
        [bars, *_] = [patch for patch in axes.patches if len(patch.get_data().values)]  # type: ignore[attr-defined]
        assert bars.get_data().values.sum() == pytest.approx(1)  # type: ignore[attr-defined]


def test_a_split_without_boxes_and_one_with_a_single_box_can_be_drawn() -> None:
    empty = BoxShapes("val", np.empty(0), np.empty(0), np.zeros(3))
    single = BoxShapes("train", np.array([40.0]), np.array([1.0]), np.array([1.0]))
    for splits in ([single, empty], [empty, single], [empty]):
        assert render(plot_box_shapes(splits, finest_stride=8)).shape == (340, 1200, 3)


def test_extreme_boxes_stay_in_the_figure() -> None:
    extreme = BoxShapes("train", np.array([0.01, 9000.0]), np.array([1e-3, 1e3]), np.array([0.0, 900.0]))
    figure = plot_box_shapes([extreme], finest_stride=8)
    low, high = figure.axes[0].get_xlim()
    assert low < np.log2(0.01)
    assert high > np.log2(9000)
    assert len(figure.axes[0].get_xticks()) <= 12
    render(figure)
